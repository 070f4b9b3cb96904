"""What a Winsock call is handed, read and judged: a socket, settings, a template, a peer's address.

A structure and its packed bytes mean the same.  Everything wrong is a WSAError before anything is changed.  It must not
know what the calls do with it.
"""

from __future__ import annotations

import socket
import struct
from enum import IntFlag
from typing import TYPE_CHECKING, Final, TypeAlias

from ..sockets.stream_socket import SecureSocket
from ..types import Address, IPsecSettings, SecuritySettings
from ..wire.winsock_errors import WSAError, WSAErrorCode
from ..wire.winsock_fields import (
    NO_GUID,
    GivenAddress,
    bytes_of,
    checked_address,
    invalid,
    leading,
    read_sockaddr_untrusted,
)
from ..wire.winsock_numbers import (
    SOCKET_QUERY_IPSEC2,
    SOCKET_QUERY_IPSEC2_ABORT_CONNECTION_ON_FIELD_CHANGE,
    SOCKET_QUERY_IPSEC2_FIELD_MASK,
    SOCKET_SECURITY_PROTOCOL_DEFAULT,
    SOCKET_SECURITY_PROTOCOL_INVALID,
    SOCKET_SECURITY_PROTOCOL_IPSEC2,
    SOCKET_SETTINGS,
    SOCKET_SETTINGS_ALLOW_INSECURE,
    SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
    SOCKET_SETTINGS_IPSEC,
    SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION,
)
from ..wire.winsock_structures import (
    SOCKET_PEER_TARGET_NAME,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SECURITY_SETTINGS_IPSEC,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    GivenSettings: TypeAlias = SOCKET_SECURITY_SETTINGS | SOCKET_SECURITY_SETTINGS_IPSEC | ReadableBuffer | None
    GivenName: TypeAlias = SOCKET_PEER_TARGET_NAME | ReadableBuffer | None
    GivenPeer: TypeAlias = GivenAddress | ReadableBuffer | None
    Template: TypeAlias = SOCKET_SECURITY_QUERY_TEMPLATE | SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2
    GivenTemplate: TypeAlias = Template | ReadableBuffer | None

__all__ = [
    "check_settings",
    "one_of_many",
    "read_name",
    "read_peer",
    "read_settings",
    "read_template",
    "secure_socket",
]

_PROTOCOL: Final = struct.Struct("<I")
_BASIC_LENGTH: Final = len(SOCKET_SECURITY_SETTINGS().pack())
_PEER_ADDRESS: Final = slice(8, 136)  # of a query template


def secure_socket(sock: object) -> SecureSocket:
    """``sock`` if it is a SecureSocket that is not closed; WSAENOTSOCK for anything else, plain sockets too."""
    if not isinstance(sock, SecureSocket) or socket.socket.fileno(sock) < 0:
        raise WSAError(WSAErrorCode.WSAENOTSOCK, "this is no SecureSocket, or a closed one")
    return sock


def read_settings(given: GivenSettings) -> SOCKET_SECURITY_SETTINGS | SOCKET_SECURITY_SETTINGS_IPSEC:
    """The settings structure; None and no bytes are the default settings.

    Of bytes, SecurityProtocol tells how to read the rest: with DEFAULT there are 8, with IPSEC and IPSEC2 there are 8
    or at least the fixed part of SOCKET_SECURITY_SETTINGS_IPSEC.
    """
    if isinstance(given, SOCKET_SECURITY_SETTINGS | SOCKET_SECURITY_SETTINGS_IPSEC):
        return given
    data = b"" if given is None else bytes_of(given, "SecuritySettings")
    if not data:
        return SOCKET_SECURITY_SETTINGS()
    if len(data) <= _BASIC_LENGTH:
        return SOCKET_SECURITY_SETTINGS.unpack(data)
    return SOCKET_SECURITY_SETTINGS_IPSEC.unpack(data)


def check_settings(structure: SOCKET_SECURITY_SETTINGS | SOCKET_SECURITY_SETTINGS_IPSEC) -> SecuritySettings:
    """What the structure asks for; WSAEINVAL for a bit that is none, and for a contradiction.

    OPTIONAL_PEER_NAME_VERIFICATION and ALLOW_FIRST_INBOUND_PKT_UNENCRYPTED are permissions that are never made use of,
    PEER_NAME_IS_RAW_FORMAT changes nothing, as names are read in the same way with and without it.
    """
    flags = structure.SecurityFlags
    _check_bits("SecurityFlags", flags, SOCKET_SETTINGS)
    if structure.SecurityProtocol == SOCKET_SECURITY_PROTOCOL_INVALID:
        raise invalid("SecurityProtocol is SOCKET_SECURITY_PROTOCOL_INVALID")
    guarantee = SOCKET_SETTINGS_GUARANTEE_ENCRYPTION in flags
    insecure = SOCKET_SETTINGS_ALLOW_INSECURE in flags
    if guarantee and insecure:
        raise invalid("SOCKET_SETTINGS_GUARANTEE_ENCRYPTION and _ALLOW_INSECURE contradict each other")
    if isinstance(structure, SOCKET_SECURITY_SETTINGS):
        return SecuritySettings(guarantee, insecure)
    if structure.SecurityProtocol == SOCKET_SECURITY_PROTOCOL_DEFAULT:
        raise invalid("SOCKET_SECURITY_SETTINGS_IPSEC takes SOCKET_SECURITY_PROTOCOL_IPSEC or _IPSEC2, not _DEFAULT")
    _check_bits("IpsecFlags", structure.IpsecFlags, SOCKET_SETTINGS_IPSEC)
    keys = (structure.AuthipMMPolicyKey, structure.AuthipQMPolicyKey)
    main_mode, quick_mode = (None if key == NO_GUID else key for key in keys)
    return IPsecSettings(
        guarantee_encryption=guarantee,
        allow_insecure=insecure,
        skip_filter_instantiation=SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION in structure.IpsecFlags,
        main_mode_policy=main_mode,
        quick_mode_policy=quick_mode,
        user_name=structure.UserName,
        domain_name=structure.DomainName,
        password=structure.Password,
    )


def read_name(given: GivenName) -> SOCKET_PEER_TARGET_NAME:
    """The peer target name; WSAEFAULT for None."""
    if given is None:
        raise WSAError(WSAErrorCode.WSAEFAULT, "PeerTargetName is required")
    if not isinstance(given, SOCKET_PEER_TARGET_NAME):
        return SOCKET_PEER_TARGET_NAME.unpack(given)
    if given.SecurityProtocol == SOCKET_SECURITY_PROTOCOL_INVALID:
        raise invalid("SecurityProtocol is SOCKET_SECURITY_PROTOCOL_INVALID")
    return given


def read_template(given: GivenTemplate, *, stream: bool) -> Template | None:
    """A query template; None for none, or no bytes, which is WSAEMSGSIZE unless the socket is a stream.

    A stream's PeerAddress is not looked at; any other socket's is an address and a port.
    """
    if isinstance(given, SOCKET_SECURITY_QUERY_TEMPLATE | SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2):
        given = given.pack()
    data = b"" if given is None else bytes_of(given, "SecurityQueryTemplate")
    if not data and stream:
        return None
    if stream:
        data = data[: _PEER_ADDRESS.start] + bytes(len(data[_PEER_ADDRESS])) + data[_PEER_ADDRESS.stop :]
    (protocol,) = _PROTOCOL.unpack(leading(data, _PROTOCOL.size, "SecurityQueryTemplate"))
    if protocol != SOCKET_SECURITY_PROTOCOL_IPSEC2:
        return SOCKET_SECURITY_QUERY_TEMPLATE.unpack(data)
    return _checked_ipsec2(data)


def _checked_ipsec2(data: bytes) -> SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2:
    template = SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2.unpack(data)
    _check_bits("Flags", template.Flags, SOCKET_QUERY_IPSEC2)
    _check_bits("FieldMask", template.FieldMask, SOCKET_QUERY_IPSEC2_FIELD_MASK)
    if SOCKET_QUERY_IPSEC2_ABORT_CONNECTION_ON_FIELD_CHANGE in template.Flags:
        raise WSAError(
            WSAErrorCode.WSAEOPNOTSUPP,
            "a connection is not aborted when it is rekeyed: leave ABORT_CONNECTION_ON_FIELD_CHANGE out",
        )
    return template


def read_peer(given: GivenPeer, name: str) -> Address | None:
    """A peer's address as a tuple or as a sockaddr; WSAEFAULT for None."""
    if given is None:
        raise WSAError(WSAErrorCode.WSAEFAULT, f"{name} is required")
    if isinstance(given, tuple):
        return checked_address(given, name)
    return read_sockaddr_untrusted(bytes_of(given, name), name)


def one_of_many(address: Address | None, name: str) -> Address:
    """The address that tells a datagram socket's peers apart; WSAEINVAL unless it has both a host and a port."""
    if address is None or not address[1] or address[0] in ("0.0.0.0", "::"):
        raise invalid(f"{name} is the host and the port of a datagram socket's peer")
    return address


def _check_bits(name: str, value: int, kind: type[IntFlag]) -> None:
    known = 0
    for member in kind:
        known |= int(member)
    # In plain numbers: the complement of a flag has only bits that are known.
    if int(value) & ~known:
        raise invalid(f"{name} {value:#x} has bits that mean nothing here")
