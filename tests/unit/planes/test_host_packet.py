"""UDP datagrams in ESP packets of standard hosts: what is written, what is delivered, and what is dropped by which
reason."""

from __future__ import annotations

import errno
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securesock.crypto import suites
from securesock.crypto.kdf import DirectionKeys
from securesock.crypto.suites import EspSuite
from securesock.planes.userspace.host_packet import HostOpener, HostSealer, Received
from securesock.planes.userspace.packet import Dropped
from securesock.planes.userspace.reassembly import Reassembly
from securesock.sad.entries import InboundSa, OutboundSa
from securesock.sad.spec import InnerFlow, Mode, SaSpec, Scope, Span
from securesock.types import Lifetimes
from securesock.wire.esp import NEXT_HEADER_DUMMY, NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, NEXT_HEADER_UDP
from securesock.wire.inet import write_ip_fragments, write_ip_header, write_udp_datagram

A4, B4, C4 = bytes((10, 91, 0, 1)), bytes((10, 92, 0, 1)), bytes((10, 93, 0, 1))
A6, B6 = bytes.fromhex("fd91" + "00" * 13 + "01"), bytes.fromhex("fd92" + "00" * 13 + "01")
GCM = EspSuite(suites.AES_256_GCM_16, None, esn=True)
CBC = EspSuite(suites.AES_256_CBC, suites.HMAC_SHA2_256_128, esn=False)
A_PORT, B_PORT = 7000, 7


def scope(mode: Mode, ours: tuple[bytes, ...], port: int, peers: tuple[bytes, ...]) -> Scope:
    return Scope(
        mode,
        ours,
        port,
        tuple(Span(17, each, each, 0, 65535) for each in ours),
        tuple(Span(17, each, each, 0, 65535) for each in peers),
    )


def spec(suite: EspSuite, found: Scope) -> SaSpec:
    keys = DirectionKeys(bytes(range(suite.encryption.key_length + suite.encryption.salt_length)), bytes(32))
    if suite.integrity is None:
        keys = keys._replace(integrity=b"")
    flow = InnerFlow(17, "10.91.0.1", A_PORT, "10.92.0.1", B_PORT)
    return SaSpec(0x1234, suite, keys, Lifetimes(3600.0, 1 << 40, 1 << 32), 1, flow, True, found)


class Pair:
    """What A seals and B opens."""

    def __init__(self, mode: Mode = "tunnel", suite: EspSuite = GCM) -> None:
        ours, theirs = scope(mode, (A4, A6), A_PORT, (B4, B6)), scope(mode, (B4, B6), B_PORT, (A4, A6))
        self.counters: Counter[str] = Counter()
        self.sealer = HostSealer(OutboundSa(spec(suite, ours), 0.0), ours)
        self.opener = HostOpener(InboundSa(spec(suite, theirs), 0.0), theirs, Reassembly(self.counters))

    def inner(self, data: bytes, host: bytes = B4, **options: Any) -> list[bytes]:
        values = {"path_mtu": 1500, "outer_header": 20, "whole": False, "checked": True} | options
        return self.sealer.inner(data, host, B_PORT, **values)

    def open(self, packet: bytes | bytearray) -> Received | None:
        view = memoryview(bytearray(packet))
        return self.opener.open_untrusted(view, int.from_bytes(packet[4:8], "big"), A4, 0.0)

    def sent(self, payload: bytes, next_header: int = NEXT_HEADER_IPV4) -> Received | None:
        """A payload of a hostile but authentic peer's, opened."""
        cipher = self.sealer.sa.cipher
        pad = -(len(payload) + 2) % cipher.alignment
        plain = payload + bytes(range(1, pad + 1)) + bytes((pad, next_header))
        head = 8 + cipher.iv_length
        packet = bytearray(head + len(plain) + cipher.icv_length)
        self.sealer.sa.packets += 1
        packet[:8] = self.sealer.sa.spi.to_bytes(4, "big") + self.sealer.sa.packets.to_bytes(4, "big")
        packet[head : head + len(plain)] = plain
        cipher.seal_packet(memoryview(packet), self.sealer.sa.packets)
        return self.open(packet)


def shown(received: Received | None) -> tuple[bytes, bytes, int]:
    assert received is not None
    return received.data, received.host, received.port


@pytest.mark.parametrize("suite", [GCM, CBC])
@pytest.mark.parametrize(("mine", "host"), [(A4, B4), (A6, B6)])
def test_a_datagram_passes_with_its_addresses(suite: EspSuite, mine: bytes, host: bytes) -> None:
    pair = Pair(suite=suite)
    for data in (b"", b"x", bytes(1000)):
        (payload,) = pair.inner(data, host)
        assert shown(pair.open(pair.sealer.seal(payload, len(host), len(data)))) == (data, mine, A_PORT)
    assert (pair.sealer.sa.packets, pair.opener.sa.packets) == (3, 3)
    assert pair.sealer.sa.byte_count == pair.opener.sa.byte_count == 1001


def test_in_transport_mode_the_host_is_the_carriers() -> None:
    pair = Pair("transport")
    (payload,) = pair.inner(b"data")
    assert shown(pair.open(pair.sealer.seal(payload, 4, 4))) == (b"data", b"", A_PORT)
    assert payload[6:8] != b"\0\0"


def test_where_addresses_are_translated_ipv4_sends_no_checksum_and_ipv6_has_to() -> None:
    pair = Pair("transport")
    assert pair.inner(b"data", checked=False)[0][6:8] == b"\0\0"  # RFC 3948 3.1.2
    assert pair.inner(b"data", B6, checked=False)[0][6:8] != b"\0\0"  # RFC 8200 8.1


@pytest.mark.parametrize("suite", [GCM, CBC])
@pytest.mark.parametrize("host", [B4, B6])
@pytest.mark.parametrize("mtu", [576, 1280, 1500])
def test_no_packet_outgrows_the_path_and_none_is_cut_without_need(suite: EspSuite, host: bytes, mtu: int) -> None:
    pair = Pair(suite=suite)
    last_whole = 0
    for size in range(mtu - 200, mtu):
        pieces = pair.inner(bytes(size), host, path_mtu=mtu)
        packets = [pair.sealer.seal(each, len(host), size) for each in pieces]
        assert all(20 + 8 + len(each) <= mtu for each in packets)
        found = [pair.open(each) for each in packets]
        assert shown(found[-1])[0] == bytes(size)
        if len(pieces) == 1:
            last_whole = size
    longer = pair.sealer.seal(pair.inner(bytes(last_whole + 1), host, path_mtu=9000)[0], len(host), 0)
    assert 20 + 8 + len(longer) > mtu


def test_what_may_not_be_cut_and_does_not_fit_is_refused() -> None:
    for mode in ("tunnel", "transport"):
        with pytest.raises(OSError, match="long") as caught:
            Pair(mode).inner(bytes(1473), whole=True)
        assert caught.value.errno == errno.EMSGSIZE
    (payload,) = Pair().inner(b"fits", whole=True)
    assert payload[6] & 0x40  # and is not to be cut behind the peer either


@pytest.mark.parametrize(("host", "longest"), [(B4, 65507), (B6, 65527)])
def test_more_than_udp_holds_is_refused(host: bytes, longest: int) -> None:
    assert len(Pair().inner(bytes(longest), host)) > 40
    with pytest.raises(OSError, match="long"):
        Pair().inner(bytes(longest + 1), host)


def test_an_address_outside_of_the_selectors_is_unreachable() -> None:
    with pytest.raises(OSError, match="does not cover") as caught:
        Pair().inner(b"data", C4)
    assert caught.value.errno == errno.ENETUNREACH


def udp(source: bytes = A4, destination: bytes = B4, source_port: int = A_PORT, port: int = B_PORT) -> bytes:
    return write_udp_datagram(source, destination, source_port, port, b"data")


def ip(payload: bytes, source: bytes = A4, destination: bytes = B4, protocol: int = NEXT_HEADER_UDP) -> bytes:
    return write_ip_header(source, destination, protocol, len(payload)) + payload


NO_CHECKSUM_6 = udp(A6, B6)[:6] + b"\0\0" + udp(A6, B6)[8:]


@pytest.mark.parametrize(
    ("payload", "next_header", "reason"),
    [
        (ip(udp(C4), C4), NEXT_HEADER_IPV4, "wrong-selectors"),
        (ip(udp(A4, C4), A4, C4), NEXT_HEADER_IPV4, "wrong-selectors"),
        (ip(udp(port=8)), NEXT_HEADER_IPV4, "wrong-selectors"),
        (ip(udp(), protocol=6), NEXT_HEADER_IPV4, "wrong-selectors"),
        (ip(udp()), NEXT_HEADER_IPV6, "malformed-packet"),
        (ip(udp(A6, B6), A6, B6), NEXT_HEADER_IPV4, "malformed-packet"),
        (ip(udp())[:-1], NEXT_HEADER_IPV4, "malformed-packet"),
        (ip(udp()[:7]), NEXT_HEADER_IPV4, "malformed-packet"),
        (b"", NEXT_HEADER_IPV4, "malformed-packet"),
        (ip(udp()[:-1] + b"A"), NEXT_HEADER_IPV4, "wrong-checksum"),
        (ip(NO_CHECKSUM_6, A6, B6), NEXT_HEADER_IPV6, "wrong-checksum"),
        (write_ip_fragments(C4, B4, 17, bytes(100), 60, 1)[0], NEXT_HEADER_IPV4, "wrong-selectors"),
        (write_ip_fragments(A4, C4, 17, bytes(100), 60, 1)[0], NEXT_HEADER_IPV4, "wrong-selectors"),
    ],
)
def test_what_is_not_of_the_tunnel_is_dropped_by_its_reason(payload: bytes, next_header: int, reason: str) -> None:
    pair = Pair()
    with pytest.raises(Dropped) as dropped:
        pair.sent(payload, next_header)
    assert dropped.value.reason == reason
    assert shown(pair.sent(ip(udp())))[0] == b"data"  # and the SA works on


def test_ipv4_without_a_checksum_is_taken() -> None:
    assert shown(Pair().sent(ip(udp()[:6] + b"\0\0" + udp()[8:])))[0] == b"data"  # RFC 768


@pytest.mark.parametrize(
    ("payload", "next_header", "reason"),
    [
        (udp(port=8), NEXT_HEADER_UDP, "wrong-selectors"),
        (udp(), NEXT_HEADER_IPV4, "wrong-selectors"),
        (udp()[:7], NEXT_HEADER_UDP, "malformed-packet"),
    ],
)
def test_what_is_not_of_the_transport_is_dropped(payload: bytes, next_header: int, reason: str) -> None:
    with pytest.raises(Dropped) as dropped:
        Pair("transport").sent(payload, next_header)
    assert dropped.value.reason == reason


def test_dummies_and_padding_behind_the_packet_are_left_out() -> None:
    pair = Pair()
    assert pair.sent(bytes(50), NEXT_HEADER_DUMMY) is None
    assert shown(pair.sent(ip(udp()) + bytes(50)))[0] == b"data"  # RFC 4303 2.7


def test_repeats_forgeries_and_scraps_are_dropped() -> None:
    pair = Pair()
    packet = pair.sealer.seal(pair.inner(b"data")[0], 4, 4)
    forged = bytearray(packet)
    forged[-1] ^= 1
    for broken, reason in (
        (forged, "not-authentic"),
        (packet[:20], "malformed-packet"),
        (packet[:-1], "malformed-packet"),
    ):
        with pytest.raises(Dropped) as dropped:
            pair.open(broken)
        assert dropped.value.reason == reason
    assert shown(pair.open(packet))[0] == b"data"
    with pytest.raises(Dropped) as dropped:
        pair.open(packet)
    assert dropped.value.reason == "replayed"


def test_past_its_limits_nothing_is_opened() -> None:
    pair = Pair()
    pair.opener.sa.hard_packets = 1
    pair.sent(ip(udp()))
    with pytest.raises(Dropped) as dropped:
        pair.sent(ip(udp()))
    assert dropped.value.reason == "past-its-limits"


@given(
    payload=st.binary(max_size=200),
    next_header=st.sampled_from((4, 41, 17, 59, 6)),
    mode=st.sampled_from(("tunnel", "transport")),
)
def test_whatever_an_authentic_peer_sends_is_delivered_dropped_or_kept(
    payload: bytes, next_header: int, mode: Mode
) -> None:
    pair = Pair(mode)
    try:
        pair.sent(payload, next_header)
    except Dropped as dropped:
        assert dropped.reason in {"wrong-selectors", "malformed-packet", "wrong-checksum"}
        assert dropped.authentic


@given(at=st.integers(0, 59), bit=st.integers(0, 7), version=st.sampled_from((4, 6)))
def test_a_header_with_a_flipped_bit_never_names_another_sender(at: int, bit: int, version: int) -> None:
    pair = Pair()
    packet = bytearray(ip(udp()) if version == 4 else ip(udp(A6, B6), A6, B6))
    packet[at % len(packet)] ^= 1 << bit
    try:
        received = pair.sent(bytes(packet), NEXT_HEADER_IPV4 if version == 4 else NEXT_HEADER_IPV6)
    except Dropped:
        return
    assert received is None or received.host in (A4, A6)
