"""The fields that Winsock structures are made of: integers in range, sockaddr, counted UTF-16, checked both ways.

What cannot be packed and what cannot be read are WSAErrors alike; nothing else is raised.  It must not know which
structure a field belongs to.  Windows is little-endian; ports, addresses and flow information are in network order as
everywhere.  Sources: ws2def.h (SOCKADDR_STORAGE, SOCKADDR_IN), ws2ipdef.h (SOCKADDR_IN6_LH).
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

from ..types import Address
from .winsock_errors import WSAError, WSAErrorCode

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "NO_GUID",
    "SOCKADDR_STORAGE_LENGTH",
    "GivenAddress",
    "bytes_of",
    "checked_address",
    "checked_guid",
    "checked_number",
    "decode_text",
    "encode_text",
    "invalid",
    "leading",
    "pack_sockaddr_storage",
    "read_sockaddr_untrusted",
]

GivenAddress: TypeAlias = Address | tuple[str, int, int]
"""What a caller may write: for AF_INET6 flowinfo and scope id may be left out, as for the socket module."""

NO_GUID: Final = UUID(int=0)

SOCKADDR_STORAGE_LENGTH: Final = 128
_FAMILY: Final = struct.Struct("<H")
_PORT_AND_IPV4: Final = struct.Struct(">H4s")  # at 2
_PORT_FLOW_AND_IPV6: Final = struct.Struct(">HI16s")  # at 2
_SCOPE: Final = struct.Struct("<I")  # at 24
_SCOPE_OFFSET: Final = 24
_SOCKADDR_IN_LENGTH: Final = 16
_SOCKADDR_IN6_LENGTH: Final = 28
# Windows' numbers, which AF_INET6 of the system at hand need not be.
_AF_UNSPEC: Final = 0
_AF_INET: Final = 2
_AF_INET6: Final = 23


def invalid(message: str) -> WSAError:
    """WSAEINVAL, to be raised."""
    return WSAError(WSAErrorCode.WSAEINVAL, message)


def bytes_of(buffer: ReadableBuffer, what: str) -> bytes:
    """A copy of what a caller points at; WSAEFAULT if it is no readable buffer."""
    try:
        return memoryview(buffer).tobytes()
    except (TypeError, ValueError):  # no buffer at all, or one that was released
        raise WSAError(WSAErrorCode.WSAEFAULT, f"{what} is given as its bytes, not {type(buffer).__name__}") from None


def leading(data: bytes, length: int, name: str) -> bytes:
    """The first ``length`` bytes; WSAEMSGSIZE if there are fewer."""
    if len(data) < length:
        raise WSAError(WSAErrorCode.WSAEMSGSIZE, f"{name} takes {length} bytes, {len(data)} are given")
    return data[:length]


def checked_number(value: int, bits: int, name: str) -> int:
    """``value`` if it fits an unsigned field of so many bits; WSAEINVAL otherwise."""
    if not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise invalid(f"{name} is an unsigned number of {bits} bits")
    return int(value)


def checked_guid(value: UUID, name: str) -> UUID:
    """``value`` if it is a UUID; WSAEINVAL otherwise."""
    if not isinstance(value, UUID):
        raise invalid(f"{name} is a uuid.UUID")
    return value


def encode_text(text: str, name: str) -> bytes:
    """UTF-16LE without a terminator; WSAEINVAL for what has no such form (half a surrogate pair)."""
    try:
        return text.encode("utf-16-le")
    except (AttributeError, UnicodeEncodeError):
        # Without the exception that holds the text: it may be a password.
        raise invalid(f"{name} is a text of whole characters") from None


def decode_text(data: bytes, name: str) -> str:
    """The mirror image; ``data`` may have an odd length."""
    try:
        return data.decode("utf-16-le")
    except UnicodeDecodeError:
        raise invalid(f"{name} is no UTF-16: an odd length, or half a surrogate pair") from None


def checked_address(address: GivenAddress | None, name: str) -> Address | None:
    """In one form, so that equal addresses are equal: two values for AF_INET, four for AF_INET6; WSAEINVAL."""
    if address is None:
        return None
    if not isinstance(address, tuple) or not 2 <= len(address) <= 4 or not isinstance(address[0], str):
        raise invalid(f"{name} is (host, port) or (host, port, flowinfo, scope id)")
    try:
        host = ipaddress.ip_address(address[0])
    except ValueError:
        raise invalid(f"{name} has a numeric host") from None
    port = checked_number(address[1], 16, f"the port of {name}")
    if isinstance(host, ipaddress.IPv4Address):
        if len(address) != 2:
            raise invalid(f"{name} is (host, port) for AF_INET")
        return str(host), port
    if host.scope_id is not None:
        raise invalid(f"{name} has its scope id as the fourth value")
    rest = (*address[2:], 0, 0)
    flowinfo = checked_number(rest[0], 32, f"the flowinfo of {name}")
    return str(host), port, flowinfo, checked_number(rest[1], 32, f"the scope id of {name}")


def pack_sockaddr_storage(address: Address | None) -> bytes:
    """A SOCKADDR_STORAGE, 128 bytes; None is all zero.  ``address`` is as ``checked_address`` left it."""
    storage = bytearray(SOCKADDR_STORAGE_LENGTH)
    if address is None:
        return bytes(storage)
    host = ipaddress.ip_address(address[0])
    if len(address) == 2:
        _FAMILY.pack_into(storage, 0, _AF_INET)
        _PORT_AND_IPV4.pack_into(storage, 2, address[1], host.packed)
    else:
        _FAMILY.pack_into(storage, 0, _AF_INET6)
        _PORT_FLOW_AND_IPV6.pack_into(storage, 2, address[1], address[2], host.packed)
        _SCOPE.pack_into(storage, _SCOPE_OFFSET, address[3])
    return bytes(storage)


def read_sockaddr_untrusted(data: bytes, name: str) -> Address | None:
    """A SOCKADDR_IN, SOCKADDR_IN6 or SOCKADDR_STORAGE; None for family 0, whatever follows it.

    WSAEMSGSIZE when it ends early, WSAEAFNOSUPPORT for any other family.
    """
    (family,) = _FAMILY.unpack(leading(data, _FAMILY.size, name))
    if family == _AF_UNSPEC:
        return None
    if family == _AF_INET:
        port, host = _PORT_AND_IPV4.unpack_from(leading(data, _SOCKADDR_IN_LENGTH, name), 2)
        return str(ipaddress.IPv4Address(host)), port
    if family == _AF_INET6:
        whole = leading(data, _SOCKADDR_IN6_LENGTH, name)
        port, flowinfo, host = _PORT_FLOW_AND_IPV6.unpack_from(whole, 2)
        return str(ipaddress.IPv6Address(host)), port, flowinfo, _SCOPE.unpack_from(whole, _SCOPE_OFFSET)[0]
    raise WSAError(WSAErrorCode.WSAEAFNOSUPPORT, f"{name} has the address family {family}; there are 2 and 23")
