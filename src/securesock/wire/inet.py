"""The inner IPv4, IPv6 and UDP headers of datagrams (RFC 791, RFC 8200, RFC 768).

They are read only out of opened ESP packets, whose ICV has covered them; checksums
are written because a standard host looks at them.  Only what a host sends for one
unfragmented datagram is understood: IPv4 options are skipped, IPv4 fragments and
IPv6 extension headers are refused.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ..errors import WireError

__all__ = [
    "UDP_HEADER_LENGTH",
    "IpHeader",
    "internet_checksum",
    "read_ip_header",
    "read_udp_header",
    "write_ip_header",
    "write_udp_datagram",
]

UDP_HEADER_LENGTH: Final = 8
MAX_PACKET: Final = 65535

_IPV4: Final = struct.Struct(">BBHHHBBH4s4s")
_IPV6: Final = struct.Struct(">IHBB16s16s")
_UDP: Final = struct.Struct(">HHHH")
_UDP_PROTOCOL: Final = 17
_HOP_LIMIT: Final = 64  # IANA's default; the packet crosses no router of its own
_DONT_FRAGMENT: Final = 0x4000
_FRAGMENT_BITS: Final = 0x3FFF  # RFC 791 3.1: more fragments, and the offset
# RFC 8200 4.1: hop-by-hop, routing, fragment, destination options, mobility
_EXTENSION_HEADERS: Final = frozenset((0, 43, 44, 60, 135))


class IpHeader(NamedTuple):
    """Addresses are 4 or 16 bytes; the payload is packet[payload_offset:end]."""

    protocol: int
    source: bytes
    destination: bytes
    payload_offset: int
    end: int


def internet_checksum(data: bytes) -> int:
    """The complement of the one's complement sum of 16-bit words (RFC 1071), an odd last byte padded with zero."""
    # 2**16 is 1 modulo 65535, so the sum of the words is the number itself modulo 65535; a sum that is not zero never
    # folds to zero (RFC 1071 1), which modulo cannot tell.
    number = int.from_bytes(data + b"\0" * (len(data) % 2), "big")
    return 0xFFFF - (number % 0xFFFF or (0xFFFF if number else 0))


def read_ip_header(packet: bytes | memoryview) -> IpHeader:
    """The IPv4 or IPv6 header of an opened tunnel-mode packet.

    The packet may be longer than it says (padding for traffic flow confidentiality, RFC 4303 2.7), never shorter.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4:
        return _read_ipv4_header(packet)
    if version == 6:
        return _read_ipv6_header(packet)
    raise WireError(f"IP: version {version} in {len(packet)} bytes")


def _read_ipv4_header(packet: bytes | memoryview) -> IpHeader:
    if len(packet) < _IPV4.size:
        raise WireError("IPv4: truncated")
    first, _, length, _, fragment, _, protocol, _, source, destination = _IPV4.unpack_from(packet)
    payload_offset = 4 * (first & 0x0F)
    if not _IPV4.size <= payload_offset <= length <= len(packet):
        raise WireError("IPv4: length of header or packet is wrong")
    if fragment & _FRAGMENT_BITS:
        raise WireError("IPv4: a fragment")
    if internet_checksum(bytes(packet[:payload_offset])):
        raise WireError("IPv4: header checksum is wrong")
    return IpHeader(protocol, source, destination, payload_offset, length)


def _read_ipv6_header(packet: bytes | memoryview) -> IpHeader:
    if len(packet) < _IPV6.size:
        raise WireError("IPv6: truncated")
    _, length, protocol, _, source, destination = _IPV6.unpack_from(packet)
    if _IPV6.size + length > len(packet):
        raise WireError("IPv6: length of packet is wrong")
    if protocol in _EXTENSION_HEADERS:
        raise WireError(f"IPv6: extension header {protocol}")
    return IpHeader(protocol, source, destination, _IPV6.size, _IPV6.size + length)


def write_ip_header(source: bytes, destination: bytes, protocol: int, payload_length: int) -> bytes:
    """20 bytes for 4-byte addresses, 40 for 16-byte ones.  WireError if the packet would exceed 65535 bytes."""
    if len(source) != len(destination) or len(source) not in (4, 16):
        raise WireError("IP: addresses are both 4 or both 16 bytes")
    if len(source) == 16:
        if payload_length > MAX_PACKET:
            raise WireError(f"IPv6: {payload_length} bytes of payload")
        return _IPV6.pack(6 << 28, payload_length, protocol, _HOP_LIMIT, source, destination)
    length = _IPV4.size + payload_length
    if length > MAX_PACKET:
        raise WireError(f"IPv4: {payload_length} bytes of payload")
    fields = (4 << 4 | _IPV4.size // 4, 0, length, 0, _DONT_FRAGMENT, _HOP_LIMIT, protocol)
    checksum = internet_checksum(_IPV4.pack(*fields, 0, source, destination))
    return _IPV4.pack(*fields, checksum, source, destination)


def read_udp_header(payload: bytes | memoryview) -> tuple[int, int, int]:
    """(source port, destination port, end of the data in ``payload``); the data begins at 8.

    The checksum is not looked at: the ICV covered the datagram, and a NAT may have spoiled it (RFC 3948 3.1.2).
    """
    if len(payload) < UDP_HEADER_LENGTH:
        raise WireError("UDP: truncated")
    source_port, destination_port, length, _ = _UDP.unpack_from(payload)
    if not UDP_HEADER_LENGTH <= length <= len(payload):
        raise WireError(f"UDP: length {length} in {len(payload)} bytes")
    return source_port, destination_port, length


def write_udp_datagram(
    source: bytes, destination: bytes, source_port: int, destination_port: int, data: bytes
) -> bytes:
    """Header and data, the checksum over them and the pseudo header of these addresses (RFC 768, RFC 8200 8.1)."""
    length = UDP_HEADER_LENGTH + len(data)
    if length > MAX_PACKET:
        raise WireError(f"UDP: {len(data)} bytes of data")
    # the same sum for both: IPv6's pseudo header has wider fields with the same values in them
    pseudo = source + destination + struct.pack(">HH", _UDP_PROTOCOL, length)
    checksum = internet_checksum(pseudo + _UDP.pack(source_port, destination_port, length, 0) + data)
    # RFC 768: a computed zero is sent as all ones, because zero says that there is none
    return _UDP.pack(source_port, destination_port, length, checksum or 0xFFFF) + data
