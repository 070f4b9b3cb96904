"""The structures of the Winsock Secure Socket Extensions: frozen values, and the bytes that Windows makes of them.

Field names are Windows'.  Counted strings are str, sockaddrs are address tuples (None: all zero), GUIDs are uuid.UUID;
lengths follow from the values, and reserved fields are zero when written and not looked at when read.  The layout is
that of Windows on every platform, 32 and 64 bits alike: little-endian, 64-bit members on multiples of eight, no
pointers.  A value may say anything that its bytes can; ``unpack`` returns only what Windows would take as input, and
the functions of ``securesock.winsock`` judge the rest.  This module must not know sockets.

``unpack`` takes any buffer, at least as long as the fixed part, and does not look behind what the lengths cover, as
callers on Windows hand in a few bytes of slack.  WSAError, nothing else, for what it refuses: WSAEMSGSIZE (shorter than
the fixed part), WSAEAFNOSUPPORT (address family), WSAEFAULT (no buffer), WSAEINVAL (any other value).

Sources: mstcpip.h; Microsoft's pages on each structure; for what they leave open see docs/winsock.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final
from uuid import UUID

from ..secret import Secret
from ..types import Address
from .winsock_fields import (
    NO_GUID,
    bytes_of,
    checked_address,
    checked_guid,
    checked_number,
    decode_text,
    encode_text,
    invalid,
    leading,
    pack_sockaddr_storage,
    read_sockaddr_untrusted,
)
from .winsock_numbers import (
    SOCKET_INFO_CONNECTION,
    SOCKET_QUERY_IPSEC2,
    SOCKET_QUERY_IPSEC2_FIELD_MASK,
    SOCKET_SECURITY_PROTOCOL,
    SOCKET_SECURITY_PROTOCOL_DEFAULT,
    SOCKET_SECURITY_PROTOCOL_INVALID,
    SOCKET_SECURITY_PROTOCOL_IPSEC,
    SOCKET_SECURITY_PROTOCOL_IPSEC2,
    SOCKET_SETTINGS,
    SOCKET_SETTINGS_IPSEC,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "SOCKET_PEER_TARGET_NAME",
    "SOCKET_SECURITY_QUERY_INFO",
    "SOCKET_SECURITY_QUERY_INFO_IPSEC2",
    "SOCKET_SECURITY_QUERY_TEMPLATE",
    "SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2",
    "SOCKET_SECURITY_SETTINGS",
    "SOCKET_SECURITY_SETTINGS_IPSEC",
]

_NO_SETTINGS: Final = SOCKET_SETTINGS(0)
_NO_IPSEC_SETTINGS: Final = SOCKET_SETTINGS_IPSEC(0)
_NO_INFO: Final = SOCKET_INFO_CONNECTION(0)
_NO_QUERY_FLAGS: Final = SOCKET_QUERY_IPSEC2(0)
_NO_FIELDS: Final = SOCKET_QUERY_IPSEC2_FIELD_MASK(0)

_SETTINGS: Final = struct.Struct("<II")
_SETTINGS_IPSEC: Final = struct.Struct("<III16s16s16x4x8xIII")  # up to AllStrings
_PEER_TARGET_NAME: Final = struct.Struct("<I4x128sI")  # up to AllStrings
_QUERY_TEMPLATE: Final = struct.Struct("<I4x128sI4x")
_QUERY_TEMPLATE_IPSEC2: Final = struct.Struct("<I4x128sIII4x")
_QUERY_INFO: Final = struct.Struct("<IIQQ")
_QUERY_INFO_IPSEC2: Final = struct.Struct("<IIQQQQI16s4x")
# sizeof of each, which is what a caller allocates before any string.
SETTINGS_LENGTH: Final = _SETTINGS.size
QUERY_TEMPLATE_LENGTH: Final = _QUERY_TEMPLATE.size
QUERY_TEMPLATE_IPSEC2_LENGTH: Final = _QUERY_TEMPLATE_IPSEC2.size
QUERY_INFO_IPSEC2_LENGTH: Final = _QUERY_INFO_IPSEC2.size
# The least that can be read: the offset of AllStrings.
SETTINGS_IPSEC_LEAST: Final = _SETTINGS_IPSEC.size
PEER_TARGET_NAME_LEAST: Final = _PEER_TARGET_NAME.size
# AllStrings begins four bytes before the end of sizeof (88 and 144); callers allocate sizeof and the strings behind it.
_SLACK: Final = bytes(4)


def _protocol(value: int) -> SOCKET_SECURITY_PROTOCOL:
    try:
        return SOCKET_SECURITY_PROTOCOL(value)
    except ValueError:
        raise invalid(f"there is no SecurityProtocol {value!r}") from None


def _read_protocol(value: int) -> SOCKET_SECURITY_PROTOCOL:
    if value == SOCKET_SECURITY_PROTOCOL_INVALID:
        raise invalid("SecurityProtocol is SOCKET_SECURITY_PROTOCOL_INVALID")
    return _protocol(value)


def _place(structure: object, **values: object) -> None:
    # frozen: the generated __init__ sets fields in this way too
    for name, value in values.items():
        object.__setattr__(structure, name, value)


@dataclass(frozen=True, slots=True)
class SOCKET_SECURITY_SETTINGS:
    """What an application asks of one socket; 8 bytes."""

    SecurityProtocol: SOCKET_SECURITY_PROTOCOL = SOCKET_SECURITY_PROTOCOL_DEFAULT
    SecurityFlags: SOCKET_SETTINGS = _NO_SETTINGS

    def __post_init__(self) -> None:
        _place(
            self,
            SecurityProtocol=_protocol(self.SecurityProtocol),
            SecurityFlags=SOCKET_SETTINGS(checked_number(self.SecurityFlags, 32, "SecurityFlags")),
        )

    def pack(self) -> bytes:
        """8 bytes."""
        return _SETTINGS.pack(self.SecurityProtocol, self.SecurityFlags)

    @classmethod
    def unpack(cls, buffer: ReadableBuffer) -> SOCKET_SECURITY_SETTINGS:
        """The first 8 bytes of ``buffer``, which may be those of a SOCKET_SECURITY_SETTINGS_IPSEC."""
        data = bytes_of(buffer, cls.__name__)
        protocol, flags = _SETTINGS.unpack(leading(data, _SETTINGS.size, cls.__name__))
        return cls(_read_protocol(protocol), SOCKET_SETTINGS(flags))


class _PasswordSlot:
    """Room for a password that is no field, so that nothing which walks over fields carries it along."""

    __slots__ = ("_password",)
    _password: Secret


@dataclass(frozen=True, slots=True, init=False)
class SOCKET_SECURITY_SETTINGS_IPSEC(_PasswordSlot):
    """The same with policies by key and a user's credentials; 88 bytes and the three strings.

    The zero GUID names no policy.  ``Password`` is accepted as str, bytes or bytearray (UTF-8) and is no field: it is
    not shown, not compared, not in asdict, and copies, ``replace`` and pickles come without it; ``pack`` does hold it.
    """

    SecurityProtocol: SOCKET_SECURITY_PROTOCOL
    SecurityFlags: SOCKET_SETTINGS
    IpsecFlags: SOCKET_SETTINGS_IPSEC
    AuthipMMPolicyKey: UUID
    AuthipQMPolicyKey: UUID
    UserName: str
    DomainName: str

    def __init__(
        self,
        SecurityProtocol: SOCKET_SECURITY_PROTOCOL = SOCKET_SECURITY_PROTOCOL_IPSEC,
        SecurityFlags: SOCKET_SETTINGS = _NO_SETTINGS,
        IpsecFlags: SOCKET_SETTINGS_IPSEC = _NO_IPSEC_SETTINGS,
        AuthipMMPolicyKey: UUID = NO_GUID,
        AuthipQMPolicyKey: UUID = NO_GUID,
        UserName: str = "",
        DomainName: str = "",
        Password: str | bytes | bytearray | Secret = "",
    ) -> None:
        encode_text(UserName, "UserName")
        encode_text(DomainName, "DomainName")
        _place(
            self,
            SecurityProtocol=_protocol(SecurityProtocol),
            SecurityFlags=SOCKET_SETTINGS(checked_number(SecurityFlags, 32, "SecurityFlags")),
            IpsecFlags=SOCKET_SETTINGS_IPSEC(checked_number(IpsecFlags, 32, "IpsecFlags")),
            AuthipMMPolicyKey=checked_guid(AuthipMMPolicyKey, "AuthipMMPolicyKey"),
            AuthipQMPolicyKey=checked_guid(AuthipQMPolicyKey, "AuthipQMPolicyKey"),
            UserName=UserName,
            DomainName=DomainName,
            _password=_checked_password(Password),
        )

    @property
    def Password(self) -> str:
        """The user's password; empty in a copy and after ``wipe``."""
        return self._secret().reveal().decode()

    def wipe(self) -> None:
        """Overwrite the password held here with zeros."""
        self._secret().wipe()

    def _secret(self) -> Secret:
        return getattr(self, "_password", Secret())

    def pack(self) -> bytes:
        """88 bytes and the strings, in clear: the caller keeps it away from logs and errors."""
        user, domain = encode_text(self.UserName, "UserName"), encode_text(self.DomainName, "DomainName")
        password = encode_text(self.Password, "Password")
        head = _SETTINGS_IPSEC.pack(
            self.SecurityProtocol,
            self.SecurityFlags,
            self.IpsecFlags,
            self.AuthipMMPolicyKey.bytes_le,
            self.AuthipQMPolicyKey.bytes_le,
            len(user),
            len(domain),
            len(password),
        )
        return head + user + domain + password + _SLACK

    @classmethod
    def unpack(cls, buffer: ReadableBuffer) -> SOCKET_SECURITY_SETTINGS_IPSEC:
        """At least 84 bytes and the strings.  WSAEINVAL also for SOCKET_SECURITY_PROTOCOL_DEFAULT."""
        data = bytes_of(buffer, cls.__name__)
        protocol, flags, ipsec_flags, main_mode, quick_mode, *lengths = _SETTINGS_IPSEC.unpack(
            leading(data, _SETTINGS_IPSEC.size, cls.__name__)
        )
        if _read_protocol(protocol) == SOCKET_SECURITY_PROTOCOL_DEFAULT:
            raise invalid(f"{cls.__name__} takes SOCKET_SECURITY_PROTOCOL_IPSEC or _IPSEC2, not _DEFAULT")
        strings, start = [], _SETTINGS_IPSEC.size
        for length, name in zip(lengths, ("UserName", "DomainName", "Password"), strict=True):
            if length > len(data) - start:
                raise invalid(f"{name} has {length} bytes, {len(data) - start} are left")
            strings.append(decode_text(data[start : start + length], name))
            start += length
        return cls(
            SOCKET_SECURITY_PROTOCOL(protocol),
            SOCKET_SETTINGS(flags),
            SOCKET_SETTINGS_IPSEC(ipsec_flags),
            UUID(bytes_le=main_mode),
            UUID(bytes_le=quick_mode),
            *strings,
        )


def _checked_password(password: str | bytes | bytearray | Secret) -> Secret:
    try:
        kept = Secret(password)
        kept.reveal().decode()
    except (TypeError, UnicodeError):
        # Without the exception that holds it.
        raise invalid("Password is a text of whole characters, or its UTF-8") from None
    return kept


@dataclass(frozen=True, slots=True)
class SOCKET_PEER_TARGET_NAME:
    """Whom a socket must reach; 144 bytes and the name.

    The trap: Microsoft's page says that PeerTargetNameStringLen counts bytes, Microsoft's samples and other callers
    count characters unless SecurityProtocol is SOCKET_SECURITY_PROTOCOL_IPSEC2.  Here it counts UTF-16 units for
    DEFAULT and IPSEC and bytes for IPSEC2, both ways.
    """

    SecurityProtocol: SOCKET_SECURITY_PROTOCOL = SOCKET_SECURITY_PROTOCOL_DEFAULT
    PeerAddress: Address | None = None
    PeerTargetName: str = ""

    def __post_init__(self) -> None:
        encode_text(self.PeerTargetName, "PeerTargetName")
        _place(
            self,
            SecurityProtocol=_protocol(self.SecurityProtocol),
            PeerAddress=checked_address(self.PeerAddress, "PeerAddress"),
        )

    def pack(self) -> bytes:
        """144 bytes and the name."""
        name = encode_text(self.PeerTargetName, "PeerTargetName")
        length = len(name) // _unit(self.SecurityProtocol)
        address = pack_sockaddr_storage(self.PeerAddress)
        return _PEER_TARGET_NAME.pack(self.SecurityProtocol, address, length) + name + _SLACK

    @classmethod
    def unpack(cls, buffer: ReadableBuffer) -> SOCKET_PEER_TARGET_NAME:
        """At least 140 bytes and the name."""
        data = bytes_of(buffer, cls.__name__)
        protocol, storage, count = _PEER_TARGET_NAME.unpack(leading(data, _PEER_TARGET_NAME.size, cls.__name__))
        checked = _read_protocol(protocol)
        length = count * _unit(checked)
        if length > len(data) - _PEER_TARGET_NAME.size:
            raise invalid(
                f"PeerTargetNameStringLen {count} stands for {length} bytes, {len(data) - _PEER_TARGET_NAME.size} are "
                "left (it counts characters, and bytes with SOCKET_SECURITY_PROTOCOL_IPSEC2)"
            )
        name = decode_text(data[_PEER_TARGET_NAME.size : _PEER_TARGET_NAME.size + length], "PeerTargetName")
        return cls(checked, read_sockaddr_untrusted(storage, "PeerAddress"), name)


def _unit(protocol: SOCKET_SECURITY_PROTOCOL) -> int:
    """Bytes that one in PeerTargetNameStringLen stands for."""
    return 1 if protocol == SOCKET_SECURITY_PROTOCOL_IPSEC2 else 2


@dataclass(frozen=True, slots=True)
class SOCKET_SECURITY_QUERY_TEMPLATE:
    """What is asked of a connection; 144 bytes.  All zero asks for the flags alone."""

    SecurityProtocol: SOCKET_SECURITY_PROTOCOL = SOCKET_SECURITY_PROTOCOL_DEFAULT
    PeerAddress: Address | None = None
    PeerTokenAccessMask: int = 0

    def __post_init__(self) -> None:
        _place(
            self,
            SecurityProtocol=_protocol(self.SecurityProtocol),
            PeerAddress=checked_address(self.PeerAddress, "PeerAddress"),
            PeerTokenAccessMask=checked_number(self.PeerTokenAccessMask, 32, "PeerTokenAccessMask"),
        )

    def pack(self) -> bytes:
        """144 bytes."""
        address = pack_sockaddr_storage(self.PeerAddress)
        return _QUERY_TEMPLATE.pack(self.SecurityProtocol, address, self.PeerTokenAccessMask)

    @classmethod
    def unpack(cls, buffer: ReadableBuffer) -> SOCKET_SECURITY_QUERY_TEMPLATE:
        """The first 144 bytes of ``buffer``, which may be those of the IPSEC2 form."""
        data = bytes_of(buffer, cls.__name__)
        protocol, storage, mask = _QUERY_TEMPLATE.unpack(leading(data, _QUERY_TEMPLATE.size, cls.__name__))
        return cls(_read_protocol(protocol), read_sockaddr_untrusted(storage, "PeerAddress"), mask)


@dataclass(frozen=True, slots=True)
class SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2:
    """The same from Windows 7 on, which also asks for SA ids; 152 bytes."""

    SecurityProtocol: SOCKET_SECURITY_PROTOCOL = SOCKET_SECURITY_PROTOCOL_IPSEC2
    PeerAddress: Address | None = None
    PeerTokenAccessMask: int = 0
    Flags: SOCKET_QUERY_IPSEC2 = _NO_QUERY_FLAGS
    FieldMask: SOCKET_QUERY_IPSEC2_FIELD_MASK = _NO_FIELDS

    def __post_init__(self) -> None:
        _place(
            self,
            SecurityProtocol=_protocol(self.SecurityProtocol),
            PeerAddress=checked_address(self.PeerAddress, "PeerAddress"),
            PeerTokenAccessMask=checked_number(self.PeerTokenAccessMask, 32, "PeerTokenAccessMask"),
            Flags=SOCKET_QUERY_IPSEC2(checked_number(self.Flags, 32, "Flags")),
            FieldMask=SOCKET_QUERY_IPSEC2_FIELD_MASK(checked_number(self.FieldMask, 32, "FieldMask")),
        )

    def pack(self) -> bytes:
        """152 bytes."""
        address = pack_sockaddr_storage(self.PeerAddress)
        return _QUERY_TEMPLATE_IPSEC2.pack(
            self.SecurityProtocol, address, self.PeerTokenAccessMask, self.Flags, self.FieldMask
        )

    @classmethod
    def unpack(cls, buffer: ReadableBuffer) -> SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2:
        """152 bytes; WSAEINVAL unless SecurityProtocol is SOCKET_SECURITY_PROTOCOL_IPSEC2."""
        data = bytes_of(buffer, cls.__name__)
        protocol, storage, mask, flags, field_mask = _QUERY_TEMPLATE_IPSEC2.unpack(
            leading(data, _QUERY_TEMPLATE_IPSEC2.size, cls.__name__)
        )
        if protocol != SOCKET_SECURITY_PROTOCOL_IPSEC2:
            raise invalid(f"{cls.__name__} takes SOCKET_SECURITY_PROTOCOL_IPSEC2")
        return cls(
            SOCKET_SECURITY_PROTOCOL_IPSEC2,
            read_sockaddr_untrusted(storage, "PeerAddress"),
            mask,
            SOCKET_QUERY_IPSEC2(flags),
            SOCKET_QUERY_IPSEC2_FIELD_MASK(field_mask),
        )


@dataclass(frozen=True, slots=True)
class SOCKET_SECURITY_QUERY_INFO:
    """What protects a connection; 24 bytes.  A token handle of zero is none."""

    SecurityProtocol: SOCKET_SECURITY_PROTOCOL = SOCKET_SECURITY_PROTOCOL_DEFAULT
    Flags: SOCKET_INFO_CONNECTION = _NO_INFO
    PeerApplicationAccessTokenHandle: int = 0
    PeerMachineAccessTokenHandle: int = 0

    def __post_init__(self) -> None:
        _check_info(self)

    def pack(self) -> bytes:
        """24 bytes."""
        return _QUERY_INFO.pack(
            self.SecurityProtocol, self.Flags, self.PeerApplicationAccessTokenHandle, self.PeerMachineAccessTokenHandle
        )

    @classmethod
    def unpack(cls, buffer: ReadableBuffer) -> SOCKET_SECURITY_QUERY_INFO:
        """The first 24 bytes of ``buffer``, which may be those of the IPSEC2 form."""
        data = bytes_of(buffer, cls.__name__)
        protocol, flags, *handles = _QUERY_INFO.unpack(leading(data, _QUERY_INFO.size, cls.__name__))
        return cls(_read_protocol(protocol), SOCKET_INFO_CONNECTION(flags), *handles)


@dataclass(frozen=True, slots=True)
class SOCKET_SECURITY_QUERY_INFO_IPSEC2:
    """The same from Windows 7 on, with the ids of both SAs and what the negotiation came to; 64 bytes."""

    SecurityProtocol: SOCKET_SECURITY_PROTOCOL = SOCKET_SECURITY_PROTOCOL_IPSEC2
    Flags: SOCKET_INFO_CONNECTION = _NO_INFO
    PeerApplicationAccessTokenHandle: int = 0
    PeerMachineAccessTokenHandle: int = 0
    MmSaId: int = 0
    QmSaId: int = 0
    NegotiationWinerr: int = 0
    SaLookupContext: UUID = NO_GUID

    def __post_init__(self) -> None:
        _check_info(self)
        checked_number(self.MmSaId, 64, "MmSaId")
        checked_number(self.QmSaId, 64, "QmSaId")
        checked_number(self.NegotiationWinerr, 32, "NegotiationWinerr")
        checked_guid(self.SaLookupContext, "SaLookupContext")

    def pack(self) -> bytes:
        """64 bytes."""
        numbers = [getattr(self, each.name) for each in fields(self)[:-1]]
        return _QUERY_INFO_IPSEC2.pack(*numbers, self.SaLookupContext.bytes_le)

    @classmethod
    def unpack(cls, buffer: ReadableBuffer) -> SOCKET_SECURITY_QUERY_INFO_IPSEC2:
        """64 bytes."""
        data = bytes_of(buffer, cls.__name__)
        protocol, flags, application, machine, main_mode, quick_mode, winerr, context = _QUERY_INFO_IPSEC2.unpack(
            leading(data, _QUERY_INFO_IPSEC2.size, cls.__name__)
        )
        return cls(
            _read_protocol(protocol),
            SOCKET_INFO_CONNECTION(flags),
            application,
            machine,
            main_mode,
            quick_mode,
            winerr,
            UUID(bytes_le=context),
        )


def _check_info(info: SOCKET_SECURITY_QUERY_INFO | SOCKET_SECURITY_QUERY_INFO_IPSEC2) -> None:
    _place(
        info,
        SecurityProtocol=_protocol(info.SecurityProtocol),
        Flags=SOCKET_INFO_CONNECTION(checked_number(info.Flags, 32, "Flags")),
    )
    checked_number(info.PeerApplicationAccessTokenHandle, 64, "PeerApplicationAccessTokenHandle")
    checked_number(info.PeerMachineAccessTokenHandle, 64, "PeerMachineAccessTokenHandle")
