"""Runs: packets sealed one behind the other, and what opens them again."""

from __future__ import annotations

import pytest

from securesock.crypto import suites
from securesock.crypto.kdf import DirectionKeys
from securesock.crypto.suites import EspSuite
from securesock.planes.userspace.packet import Dropped, PacketOpener, PacketSealer
from securesock.sad.entries import InboundSa, OutboundSa
from securesock.sad.spec import InnerFlow, SaSpec
from securesock.types import Lifetimes
from securesock.wire.esp import ESP_HEADER

FLOW = InnerFlow(17, "192.0.2.1", 7001, "192.0.2.2", 7002)
SUITES = (
    EspSuite(suites.AES_256_GCM_16, None, esn=True),
    EspSuite(suites.CHACHA20_POLY1305, None, esn=False),
    EspSuite(suites.AES_128_CBC, suites.HMAC_SHA2_256_128, esn=True),
)


def ends(suite: EspSuite, **limits: int) -> tuple[PacketSealer, PacketOpener]:
    encryption = suite.encryption.key_length + suite.encryption.salt_length
    keys = DirectionKeys(bytes(range(encryption)), b"i" * (suite.integrity.key_length if suite.integrity else 0))
    lifetimes = Lifetimes(**({"seconds": 1000.0, "max_bytes": 1 << 30, "max_packets": 1 << 20} | limits))
    spec = SaSpec(0xABCD1234, suite, keys, lifetimes, 7, FLOW, True)
    peers = SaSpec(0xABCD1234, suite, keys, lifetimes, 7, FLOW, False)
    return PacketSealer(OutboundSa(spec, 0.0)), PacketOpener(InboundSa(peers, 0.0))


def cut(run: bytes, size: int) -> list[bytes]:
    return [run[at : at + size] for at in range(0, len(run), size)]


def opened(opener: PacketOpener, packet: bytes) -> bytes | None:
    return opener.open_untrusted(packet, ESP_HEADER.unpack_from(packet)[1])


@pytest.mark.parametrize("suite", SUITES, ids=lambda each: each.encryption.name)
@pytest.mark.parametrize("length", [0, 1, 63, 1400])
def test_a_run_is_the_packets_that_would_have_been_sealed_one_by_one(suite: EspSuite, length: int) -> None:
    sealer, opener = ends(suite)
    batch = [bytes([number]) * length for number in range(5)]
    size = sealer.packet_length(length)
    assert len(sealer.seal(batch[0])) == size
    run = sealer.seal_run([memoryview(each) for each in batch])
    packets = cut(run, size)
    assert len(run) == 5 * size
    assert [opened(opener, each) for each in packets] == batch
    assert (sealer.sa.packets, sealer.sa.byte_count) == (6, 6 * length)
    if suite.integrity is None:
        again, _ = ends(suite)
        assert [again.seal(each) for each in [batch[0], *batch]][1:] == packets


def test_a_packet_of_a_run_is_let_through_once_and_late_ones_too() -> None:
    sealer, opener = ends(SUITES[0])
    packets = cut(sealer.seal_run([b"%4d" % each for each in range(9)]), sealer.packet_length(4))
    for number in (0, 1, 4, 2, 8):
        assert opened(opener, packets[number]) == b"%4d" % number
    for number in (0, 1, 2, 4, 8):
        with pytest.raises(Dropped, match="replayed"):
            opened(opener, packets[number])
    assert opened(opener, packets[3]) == b"   3"


def test_there_is_room_until_the_limit_that_is_looked_at_next() -> None:
    sealer, _ = ends(SUITES[0], max_packets=20, max_bytes=1000)
    assert sealer.room(0) == 10
    assert sealer.room(10) == 10
    assert sealer.room(100) == 5
    assert sealer.room(101) == 5
    sealer.seal_run([bytes(100)] * 5)
    assert sealer.room(100) == 0
