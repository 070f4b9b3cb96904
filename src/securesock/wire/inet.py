"""The inner IPv4, IPv6 and UDP headers of datagrams (RFC 791, RFC 8200, RFC 768).

They are read only out of opened ESP packets, whose ICV has covered them; checksums
are written because a standard host looks at them.  Only what a host sends for one
datagram is understood: IPv4 options are skipped, a fragment says which piece it is,
and IPv6 extension headers other than the fragment's are refused.
"""

from __future__ import annotations

import ipaddress
import struct
from functools import lru_cache
from typing import Final, NamedTuple

from ..errors import WireError

__all__ = [
    "UDP_HEADER_LENGTH",
    "Fragment",
    "IpHeader",
    "internet_checksum",
    "ip_header_length",
    "packed_host",
    "read_ip_header",
    "read_ip_packet",
    "read_udp_header",
    "udp_checksum",
    "write_ip_fragments",
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
_MORE_FRAGMENTS: Final = 0x2000
_OFFSET_BITS: Final = 0x1FFF  # RFC 791 3.1: in units of 8 bytes
_IPV6_FRAGMENT: Final = struct.Struct(">BxHI")
_IPV6_FRAGMENT_HEADER: Final = 44
# RFC 8200 4.1: hop-by-hop, routing, destination options, mobility
_EXTENSION_HEADERS: Final = frozenset((0, 43, 60, 135))


class Fragment(NamedTuple):
    """Which piece of a packet's payload: ``offset`` in bytes, ``more`` unless it is the last (RFC 791 3.1, RFC 8200
    4.5)."""

    identification: int
    offset: int
    more: bool


class IpHeader(NamedTuple):
    """Addresses are 4 or 16 bytes; the payload is packet[payload_offset:end], a piece of it where ``fragment`` says
    so."""

    protocol: int
    source: bytes
    destination: bytes
    payload_offset: int
    end: int
    fragment: Fragment | None = None


@lru_cache(maxsize=4096)  # a sender asks for the same few again and again
def packed_host(host: str) -> bytes:
    """A numeric host as headers and selectors have it: 4 or 16 bytes, an IPv4-mapped address as IPv4, no scope.

    ValueError: it is none.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return address.packed


def internet_checksum(data: bytes) -> int:
    """The complement of the one's complement sum of 16-bit words (RFC 1071), an odd last byte padded with zero."""
    # 2**16 is 1 modulo 65535, so the sum of the words is the number itself modulo 65535; a sum that is not zero never
    # folds to zero (RFC 1071 1), which modulo cannot tell.
    number = int.from_bytes(data + b"\0" * (len(data) % 2), "big")
    return 0xFFFF - (number % 0xFFFF or (0xFFFF if number else 0))


def read_ip_header(packet: bytes | memoryview) -> IpHeader:
    """As read_ip_packet, of a whole packet: WireError for a fragment."""
    header = read_ip_packet(packet)
    if header.fragment is not None:
        raise WireError("IP: a fragment")
    return header


def read_ip_packet(packet: bytes | memoryview) -> IpHeader:
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
    first, _, length, identification, place, _, protocol, _, source, destination = _IPV4.unpack_from(packet)
    payload_offset = 4 * (first & 0x0F)
    if not _IPV4.size <= payload_offset <= length <= len(packet):
        raise WireError("IPv4: length of header or packet is wrong")
    if internet_checksum(bytes(packet[:payload_offset])):
        raise WireError("IPv4: header checksum is wrong")
    offset, more = 8 * (place & _OFFSET_BITS), bool(place & _MORE_FRAGMENTS)
    fragment = Fragment(identification, offset, more) if offset or more else None
    return IpHeader(protocol, source, destination, payload_offset, length, fragment)


def _read_ipv6_header(packet: bytes | memoryview) -> IpHeader:
    if len(packet) < _IPV6.size:
        raise WireError("IPv6: truncated")
    _, length, protocol, _, source, destination = _IPV6.unpack_from(packet)
    offset, end = _IPV6.size, _IPV6.size + length
    if end > len(packet):
        raise WireError("IPv6: length of packet is wrong")
    fragment = None
    if protocol == _IPV6_FRAGMENT_HEADER:
        if end - offset < _IPV6_FRAGMENT.size:
            raise WireError("IPv6: truncated extension header 44")
        protocol, place, identification = _IPV6_FRAGMENT.unpack_from(packet, offset)
        offset += _IPV6_FRAGMENT.size
        # RFC 8200 4.5: the offset is the upper 13 bits, in units of 8 bytes
        if place & 0xFFF9:  # RFC 6946: a fragment that is the whole packet is a packet
            fragment = Fragment(identification, place & 0xFFF8, bool(place & 1))
    if protocol in _EXTENSION_HEADERS or protocol == _IPV6_FRAGMENT_HEADER:
        raise WireError(f"IPv6: extension header {protocol}")
    return IpHeader(protocol, source, destination, offset, end, fragment)


def ip_header_length(address: bytes) -> int:
    """Of the header that is written for packets between such addresses: 20 for 4 bytes, 40 for 16."""
    return _IPV4.size if len(address) == 4 else _IPV6.size


def write_ip_header(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload_length: int,
    *,
    identification: int = 0,
    place: int = _DONT_FRAGMENT,
) -> bytes:
    """20 bytes for 4-byte addresses, 40 for 16-byte ones.  WireError if the packet would exceed 65535 bytes.

    ``identification`` and ``place`` (flags and offset) are IPv4's; as they stand the packet is never cut (RFC 6864 4).
    """
    if len(source) != len(destination) or len(source) not in (4, 16):
        raise WireError("IP: addresses are both 4 or both 16 bytes")
    if len(source) == 16:
        if payload_length > MAX_PACKET:
            raise WireError(f"IPv6: {payload_length} bytes of payload")
        return _IPV6.pack(6 << 28, payload_length, protocol, _HOP_LIMIT, source, destination)
    length = _IPV4.size + payload_length
    if length > MAX_PACKET:
        raise WireError(f"IPv4: {payload_length} bytes of payload")
    fields = (4 << 4 | _IPV4.size // 4, 0, length, identification, place, _HOP_LIMIT, protocol)
    checksum = internet_checksum(_IPV4.pack(*fields, 0, source, destination))
    return _IPV4.pack(*fields, checksum, source, destination)


def write_ip_fragments(
    source: bytes, destination: bytes, protocol: int, payload: bytes, room: int, identification: int
) -> list[bytes]:
    """The packets of at most ``room`` bytes each that carry ``payload`` in pieces (RFC 791 2.3, RFC 8200 4.5).

    ``identification`` is told apart from others between these addresses; IPv4 has room for its low 16 bits.
    """
    is_ipv6 = len(source) == 16
    head = ip_header_length(source) + (_IPV6_FRAGMENT.size if is_ipv6 else 0)
    size = (room - head) // 8 * 8
    if size <= 0:
        raise WireError(f"IP: no piece of a packet fits into {room} bytes")
    if not is_ipv6 and _IPV4.size + len(payload) > MAX_PACKET:
        raise WireError(f"IPv4: {len(payload)} bytes of payload")
    packets = []
    for offset in range(0, len(payload), size):
        piece = payload[offset : offset + size]
        more = offset + size < len(payload)
        if is_ipv6:
            header = write_ip_header(source, destination, _IPV6_FRAGMENT_HEADER, _IPV6_FRAGMENT.size + len(piece))
            header += _IPV6_FRAGMENT.pack(protocol, offset | more, identification & 0xFFFFFFFF)
        else:
            place = offset // 8 | (_MORE_FRAGMENTS if more else 0)
            header = write_ip_header(
                source, destination, protocol, len(piece), identification=identification & 0xFFFF, place=place
            )
        packets.append(header + piece)
    return packets


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


def udp_checksum(source: bytes, destination: bytes, datagram: bytes) -> int:
    """Over the pseudo header of these addresses and all of ``datagram`` (RFC 768, RFC 8200 8.1): zero where the
    datagram holds its right checksum, and what belongs in that field where it holds zero there."""
    # the same sum for both: IPv6's pseudo header has wider fields with the same values in them
    pseudo = source + destination + struct.pack(">HH", _UDP_PROTOCOL, len(datagram))
    return internet_checksum(pseudo + datagram)


def write_udp_datagram(
    source: bytes, destination: bytes, source_port: int, destination_port: int, data: bytes
) -> bytes:
    """Header and data, the checksum over them and the pseudo header of these addresses."""
    length = UDP_HEADER_LENGTH + len(data)
    if length > MAX_PACKET:
        raise WireError(f"UDP: {len(data)} bytes of data")
    checksum = udp_checksum(source, destination, _UDP.pack(source_port, destination_port, length, 0) + data)
    # RFC 768: a computed zero is sent as all ones, because zero says that there is none
    return _UDP.pack(source_port, destination_port, length, checksum or 0xFFFF) + data
