"""Inner IP and UDP headers against packets that others made."""

from __future__ import annotations

import pytest

from securesock.errors import WireError
from securesock.wire.inet import (
    Fragment,
    IpHeader,
    internet_checksum,
    read_ip_header,
    read_ip_packet,
    read_udp_header,
    udp_checksum,
    write_ip_fragments,
    write_ip_header,
    write_udp_datagram,
)

# draft-mcgrew-gcm-test-01, case 2, without the ESP trailer: a DNS query in UDP in IPv4
DNS_QUERY = bytes.fromhex(
    "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d001000001000000000000037369700963796265726369747902646b"
    "0000010001"
)
SOURCE, DESTINATION = bytes((192, 168, 1, 2)), bytes((192, 168, 1, 1))
# RFC 7634 appendix A: an ICMP echo in IPv4
ECHO = bytes.fromhex(
    "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f1011121314151617"
    "18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637"
)
V6_A, V6_B = bytes.fromhex("20010db8" + "00" * 11 + "01"), bytes.fromhex("20010db8" + "00" * 11 + "02")


def test_checksum_of_the_example_in_rfc1071() -> None:
    # RFC 1071 3: the words 0001 f203 f4f5 f6f7 sum to ddf2
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@pytest.mark.parametrize(
    ("data", "checksum"),
    [(b"", 0xFFFF), (bytes(8), 0xFFFF), (b"\xff\xff", 0), (b"\xff\xff\xff\xff", 0), (b"\x01", 0xFEFF)],
)
def test_checksum_of_nothing_of_all_ones_and_of_an_odd_byte(data: bytes, checksum: int) -> None:
    assert internet_checksum(data) == checksum


def test_ipv4_header_is_read() -> None:
    assert read_ip_header(DNS_QUERY) == IpHeader(17, SOURCE, DESTINATION, 20, 62)
    assert read_ip_header(memoryview(ECHO)) == IpHeader(1, ECHO[12:16], ECHO[16:20], 20, 84)


def test_ipv4_header_with_options_is_read_up_to_its_data() -> None:
    raw = bytearray.fromhex("46000018 00000000 40110000 c0000201 c0000202 01010101")
    raw[10:12] = internet_checksum(bytes(raw)).to_bytes(2, "big")
    assert read_ip_header(bytes(raw)).payload_offset == 24


def test_padding_behind_the_packet_is_left_out() -> None:
    # RFC 4303 2.7: a sender may hide a packet's length so
    assert read_ip_header(DNS_QUERY + bytes(100)).end == len(DNS_QUERY)


@pytest.mark.parametrize(("source", "destination"), [(SOURCE, DESTINATION), (V6_A, V6_B)])
def test_header_is_read_as_written(source: bytes, destination: bytes) -> None:
    header = write_ip_header(source, destination, 17, 9)
    assert read_ip_header(header + bytes(9)) == IpHeader(17, source, destination, len(header), len(header) + 9)
    with pytest.raises(WireError):
        read_ip_header(header + bytes(8))
    with pytest.raises(WireError):
        read_ip_header(header[:-1])
    assert read_ip_header(write_ip_header(source, destination, 17, 0)).end == len(header)


def test_udp_header_and_checksum_of_a_packet_that_others_made() -> None:
    udp = DNS_QUERY[20:]
    assert read_udp_header(udp) == (2712, 53, 42)
    assert read_udp_header(bytes.fromhex("d431138800080000")) == (54321, 5000, 8)
    assert write_udp_datagram(SOURCE, DESTINATION, 2712, 53, udp[8:]) == udp


def test_udp_checksum_over_ipv6() -> None:
    udp = write_udp_datagram(V6_A, V6_B, 54321, 5000, b"x")
    # RFC 8200 8.1: over the pseudo header and the datagram the sum is all ones
    assert internet_checksum(V6_A + V6_B + bytes.fromhex("00000009 00000011") + udp) == 0
    assert udp.hex() == "d4311388000944ad78"


def test_udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones() -> None:
    for port in range(65536):
        if write_udp_datagram(SOURCE, DESTINATION, port, 0, b"")[6:] == b"\xff\xff":
            return
    pytest.fail("one of all source ports must give that sum")


def test_header_is_written_as_hosts_do() -> None:
    # no fragmentation, hop limit 64; the checksum was computed by hand: 4500 + 001d + 4000 + 4011 + the addresses
    assert write_ip_header(SOURCE, DESTINATION, 17, 9).hex() == "4500001d000040004011b77cc0a80102c0a80101"
    assert write_ip_header(V6_A, V6_B, 17, 9).hex() == "6000000000091140" + V6_A.hex() + V6_B.hex()


@pytest.mark.parametrize("fragment", [0x2000, 0x0001, 0x1FFF, 0x2001])
def test_ipv4_fragments_are_refused(fragment: int) -> None:
    raw = bytearray(DNS_QUERY)
    raw[6:8] = fragment.to_bytes(2, "big")
    raw[10:12] = b"\0\0"
    raw[10:12] = internet_checksum(bytes(raw[:20])).to_bytes(2, "big")
    with pytest.raises(WireError, match="fragment"):
        read_ip_header(bytes(raw))


@pytest.mark.parametrize(
    ("offset", "value"), [(0, 0x35), (0, 0x44), (0, 0x4F), (2, 0xFF), (6, 0x20), (7, 0x01), (10, 0x00), (12, 0x00)]
)
def test_damaged_ipv4_headers_are_refused(offset: int, value: int) -> None:
    raw = bytearray(DNS_QUERY)
    raw[offset] = value
    with pytest.raises(WireError):
        read_ip_header(bytes(raw))


@pytest.mark.parametrize("protocol", [0, 43, 44, 60, 135])
def test_ipv6_extension_headers_are_refused(protocol: int) -> None:
    with pytest.raises(WireError, match="extension"):
        read_ip_header(write_ip_header(V6_A, V6_B, protocol, 0))


@pytest.mark.parametrize("text", ["", "d4311388000800", "d431138800070000", "d431138800090000"])
def test_udp_lengths_that_do_not_fit_are_refused(text: str) -> None:
    with pytest.raises(WireError):
        read_udp_header(bytes.fromhex(text))


def test_what_exceeds_a_packet_is_not_written() -> None:
    assert write_ip_header(SOURCE, DESTINATION, 17, 65515)[2:4] == b"\xff\xff"
    with pytest.raises(WireError):
        write_ip_header(SOURCE, DESTINATION, 17, 65516)
    assert write_ip_header(V6_A, V6_B, 17, 65535)[4:6] == b"\xff\xff"
    with pytest.raises(WireError):
        write_ip_header(V6_A, V6_B, 17, 65536)
    with pytest.raises(WireError):
        write_ip_header(SOURCE, V6_B, 17, 0)
    assert len(write_udp_datagram(SOURCE, DESTINATION, 1, 2, bytes(65527))) == 65535
    with pytest.raises(WireError):
        write_udp_datagram(SOURCE, DESTINATION, 1, 2, bytes(65528))


@pytest.mark.parametrize(("source", "destination", "room"), [(SOURCE, DESTINATION, 92), (V6_A, V6_B, 120)])
def test_fragments_hold_the_payload_in_pieces_of_eights(source: bytes, destination: bytes, room: int) -> None:
    payload = bytes(range(256)) + b"end"
    packets = write_ip_fragments(source, destination, 17, payload, room, 0x12345)
    headers = [read_ip_packet(each) for each in packets]
    assert all(len(each) <= room for each in packets)
    assert b"".join(packet[head.payload_offset : head.end] for packet, head in zip(packets, headers, strict=True)) == (
        payload
    )
    assert [head.fragment.offset for head in headers if head.fragment] == list(range(0, len(payload), 72))
    assert [head.fragment.more for head in headers if head.fragment] == [True, True, True, False]
    assert {head.fragment.identification for head in headers if head.fragment} == {
        0x2345 if len(source) == 4 else 0x12345
    }
    assert {(head.protocol, head.source, head.destination) for head in headers} == {(17, source, destination)}
    with pytest.raises(WireError, match="fragment"):
        read_ip_header(packets[0])


def test_no_piece_fits_into_too_little_room() -> None:
    with pytest.raises(WireError, match="no piece"):
        write_ip_fragments(V6_A, V6_B, 17, bytes(100), 55, 1)


def test_an_ipv6_fragment_that_is_the_whole_packet_is_no_fragment() -> None:
    (packet,) = write_ip_fragments(V6_A, V6_B, 17, b"12345678", 1280, 7)
    assert read_ip_packet(packet).fragment is None  # RFC 6946
    first, _ = write_ip_fragments(V6_A, V6_B, 17, b"123456789", 56, 7)
    assert read_ip_packet(first).fragment == Fragment(7, 0, True)


def test_a_checksum_is_zero_over_what_holds_it() -> None:
    datagram = write_udp_datagram(SOURCE, DESTINATION, 1, 2, b"data")
    assert udp_checksum(SOURCE, DESTINATION, datagram) == 0
    assert udp_checksum(SOURCE, DESTINATION, datagram[:-1] + b"b") != 0
