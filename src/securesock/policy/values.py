"""The typed values of the platform: FWP_DATA_TYPE, FWP_MATCH_TYPE and FWP_CONDITION_VALUE0, as Python has them.

A Value is a type and plain data, nothing more; whether it suits a field or a match is judged in conditions.py.
IPv4 addresses and ports are numbers in host byte order, IPv6 addresses 16 bytes, strings str.  Sources: fwptypes.h.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, TypeAlias

from .access import SecurityDescriptor, Token
from .errors import PolicyCode, error_for

__all__ = [
    "AddressType",
    "ConditionFlag",
    "Data",
    "DataType",
    "Direction",
    "MatchType",
    "Range",
    "V4Mask",
    "V6Mask",
    "Value",
    "address",
    "integer_bounds",
    "known_flags",
    "subnet",
]


class DataType(IntEnum):
    """FWP_DATA_TYPE."""

    EMPTY = 0
    UINT8 = 1
    UINT16 = 2
    UINT32 = 3
    UINT64 = 4
    INT8 = 5
    INT16 = 6
    INT32 = 7
    INT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BYTE_ARRAY16 = 11
    BYTE_BLOB = 12
    SID = 13
    SECURITY_DESCRIPTOR = 14
    TOKEN_INFORMATION = 15
    TOKEN_ACCESS_INFORMATION = 16
    UNICODE_STRING = 17
    BYTE_ARRAY6 = 18
    BITMAP_INDEX = 19
    BITMAP_ARRAY64 = 20
    V4_ADDR_MASK = 0x100
    V6_ADDR_MASK = 0x101
    RANGE = 0x102


class MatchType(IntEnum):
    """FWP_MATCH_TYPE.  PREFIX and NOT_PREFIX test the *end* of the value: so it is documented, against the name."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    GREATER_OR_EQUAL = 3
    LESS_OR_EQUAL = 4
    RANGE = 5
    FLAGS_ALL_SET = 6
    FLAGS_ANY_SET = 7
    FLAGS_NONE_SET = 8
    EQUAL_CASE_INSENSITIVE = 9
    NOT_EQUAL = 10
    PREFIX = 11
    NOT_PREFIX = 12


class ConditionFlag(IntFlag):
    """FWP_CONDITION_FLAG_*, the bits of the field FLAGS."""

    IS_LOOPBACK = 0x1
    IS_IPSEC_SECURED = 0x2
    IS_REAUTHORIZE = 0x4
    IS_WILDCARD_BIND = 0x8
    IS_RAW_ENDPOINT = 0x10
    IS_FRAGMENT = 0x20
    IS_FRAGMENT_GROUP = 0x40
    IS_IPSEC_NATT_RECLASSIFY = 0x80
    REQUIRES_ALE_CLASSIFY = 0x100
    IS_IMPLICIT_BIND = 0x200
    IS_REASSEMBLED = 0x400
    IS_NAME_APP_SPECIFIED = 0x4000
    IS_PROMISCUOUS = 0x8000
    IS_AUTH_FW = 0x10000
    IS_RECLASSIFY = 0x20000
    IS_OUTBOUND_PASS_THRU = 0x40000
    IS_INBOUND_PASS_THRU = 0x80000
    IS_CONNECTION_REDIRECTED = 0x100000


class AddressType(IntEnum):
    """NL_ADDRESS_TYPE of nldef.h."""

    UNSPECIFIED = 0
    UNICAST = 1
    ANYCAST = 2
    MULTICAST = 3
    BROADCAST = 4
    INVALID = 5


class Direction(IntEnum):
    """FWP_DIRECTION."""

    OUTBOUND = 0
    INBOUND = 1


class V4Mask(NamedTuple):
    """FWP_V4_ADDR_AND_MASK: two numbers in host byte order."""

    address: int
    mask: int


class V6Mask(NamedTuple):
    """FWP_V6_ADDR_AND_MASK: 16 bytes and a prefix length."""

    address: bytes
    prefix_length: int


Data: TypeAlias = "int | float | bytes | str | V4Mask | V6Mask | Range | SecurityDescriptor | Token | None"


class Value(NamedTuple):
    """FWP_CONDITION_VALUE0 (or FWP_VALUE0): what ``data`` is follows from ``type``."""

    type: DataType
    data: Data


class Range(NamedTuple):
    """FWP_RANGE0: both ends belong to it."""

    low: Value
    high: Value


# FLOAT and DOUBLE are no integers; BYTE_ARRAY16 is compared as the 128-bit number that its bytes spell.
_BITS: Final = {
    DataType.UINT8: (8, False),
    DataType.UINT16: (16, False),
    DataType.UINT32: (32, False),
    DataType.UINT64: (64, False),
    DataType.INT8: (8, True),
    DataType.INT16: (16, True),
    DataType.INT32: (32, True),
    DataType.INT64: (64, True),
}


def integer_bounds(kind: DataType) -> tuple[int, int] | None:
    """The smallest and the largest number of an integer type, None for every other type."""
    if kind not in _BITS:
        return None
    bits, signed = _BITS[kind]
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def known_flags(kind: type[IntFlag]) -> int:
    """All the bits that a set of flags defines."""
    return sum(int(flag) for flag in kind)


def address(text: str) -> Value:
    """One address from its text: UINT32 or BYTE_ARRAY16.  InvalidPolicy (INVALID_PARAMETER) when it is none."""
    try:
        parsed = ip_address(text)
    except ValueError:
        raise error_for(PolicyCode.INVALID_PARAMETER, f"{text!r} is no IP address") from None
    if parsed.version == 4:
        return Value(DataType.UINT32, int(parsed))
    return Value(DataType.BYTE_ARRAY16, parsed.packed)


def subnet(text: str) -> Value:
    """A network from its text ("192.0.2.0/24", "2001:db8::/32").  InvalidPolicy (INVALID_NET_MASK) when it is none."""
    try:
        network: IPv4Network | IPv6Network = ip_network(text, strict=False)
    except ValueError:
        raise error_for(PolicyCode.INVALID_NET_MASK, f"{text!r} is no IP network") from None
    if isinstance(network, IPv4Network):
        return Value(DataType.V4_ADDR_MASK, V4Mask(int(network.network_address), int(network.netmask)))
    return Value(DataType.V6_ADDR_MASK, V6Mask(network.network_address.packed, network.prefixlen))
