"""Runs: packets sealed one behind the other, and what opens them again."""

from __future__ import annotations

import random
import struct
from collections import Counter
from dataclasses import replace

import pytest

from securesock.crypto import suites
from securesock.crypto.kdf import DirectionKeys
from securesock.crypto.suites import EspSuite
from securesock.planes.userspace.packet import Dropped, PacketOpener, PacketSealer
from securesock.sad.entries import OutboundSa
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
    return PacketSealer(OutboundSa(spec, 0.0)), PacketOpener(peers, 0.0)


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


@pytest.mark.parametrize("seed", range(20))
def test_a_limit_is_looked_at_exactly_when_it_is_reached_whatever_the_lengths(seed: int) -> None:
    chance = random.Random(seed)
    sealer, _ = ends(SUITES[0], max_packets=chance.choice([50, 1 << 20]), max_bytes=chance.choice([4000, 1 << 30]))
    sa, looked = sealer.sa, 0
    assert sealer.look_at == 0  # before the first one nobody knows how long they are
    while sa.packets < 45 and sa.byte_count < 3900:
        is_due = sa.packets >= sa.check_packets or sa.byte_count >= sa.check_bytes
        if sa.packets:
            assert (sa.packets >= sealer.look_at) == is_due
        if is_due and sa.ask_once():
            looked += 1
            sealer.note_limits()
        length = chance.choice([0, 7, 7, 7, 200])
        if chance.random() < 0.2 and length and (room := sealer.room(length)) > 0:
            sealer.seal_run([bytes(length)] * min(room, 5))
        else:
            sealer.seal(bytes(length))
    assert looked == (sa.hard_packets == 50 or sa.hard_bytes == 4000)


def test_there_is_room_until_the_limit_that_is_looked_at_next() -> None:
    sealer, _ = ends(SUITES[0], max_packets=20, max_bytes=1000)
    assert sealer.room(0) == 10
    assert sealer.room(10) == 10
    assert sealer.room(100) == 5
    assert sealer.room(101) == 5
    sealer.seal_run([bytes(100)] * 5)
    assert sealer.room(100) == 0


def take(opener: PacketOpener, run: bytes, size: int, *, at_once: bool) -> tuple[list[bytes], Counter[str]]:
    """The data of a run, opened at once as far as that goes, or one by one."""
    dropped: Counter[str] = Counter()
    count, data = opener.open_run_untrusted(run, size, dropped) if at_once else (0, [])
    for packet in cut(run[count * size :], size):
        try:
            one = opened(opener, packet)
        except Dropped as wrong:
            dropped[wrong.reason] += 1
        else:
            data += [] if one is None else [one]
    return data, dropped


def crafted(sealer: PacketSealer, inner: bytes, next_header: int) -> bytes:
    """An authentic packet with this in it."""
    sa = sealer.sa
    pad = -(len(inner) + 2) % sa.cipher.alignment
    sa.packets += 1
    trailer = bytes(range(1, pad + 1)) + bytes((pad, next_header))
    return sa.cipher.seal_bytes(sa.spi.to_bytes(4, "big"), inner + trailer, sa.packets)


def flipped(packet: bytes, position: int) -> bytes:
    return packet[:position] + bytes([packet[position] ^ 1]) + packet[position + 1 :]


def udp(source: int, data: bytes) -> bytes:
    return struct.pack(">HHHH", source, FLOW.responder_port, 8 + len(data), 0) + data


@pytest.mark.parametrize("suite", SUITES, ids=lambda each: each.encryption.name)
@pytest.mark.parametrize("seed", range(40))
def test_whatever_stands_in_a_run_is_judged_as_it_would_be_alone(suite: EspSuite, seed: int) -> None:
    dice = random.Random(seed)
    sealer, together = ends(suite)
    _, alone = ends(suite)
    size = sealer.packet_length(40)
    earlier: list[bytes] = []
    for _ in range(6):
        packets: list[bytes] = []
        for _ in range(dice.randrange(1, 12)):
            what = dice.randrange(12)
            if what == 0 and earlier:
                packet = dice.choice(earlier)
            elif what == 1:
                packet = flipped(sealer.seal(bytes(40)), dice.randrange(size))
            elif what == 2:
                packet = crafted(sealer, udp(9999, bytes(40)), 17)
            elif what == 3:
                packet = crafted(sealer, udp(FLOW.initiator_port, bytes(40)), 59)
            elif what == 4:
                packet = crafted(sealer, udp(FLOW.initiator_port, b"short") + bytes(35), 17)  # RFC 4303 2.7
            elif what == 5:
                packet = sealer.seal(dice.randbytes(39))
            else:
                packet = sealer.seal(dice.randbytes(40))
            packets.append(packet)
        if dice.randrange(3) == 0:
            dice.shuffle(packets)
        earlier += packets
        run = b"".join(each for each in packets if len(each) == size)
        if dice.randrange(3) == 0:
            run += sealer.seal(b"the last one is shorter"[: dice.randrange(20)])
        assert take(together, run, size, at_once=True) == take(alone, run, size, at_once=False)
        one, other = together, alone
        assert (one.packets, one.byte_count) == (other.packets, other.byte_count)
        assert together.top == alone.top


def test_a_run_in_turn_is_opened_at_once_by_an_aead() -> None:
    sealer, opener = ends(SUITES[0])
    batch = [b"%4d" % number for number in range(9)]
    run, dropped = sealer.seal_run(batch), Counter[str]()
    assert opener.open_run_untrusted(run, sealer.packet_length(4), dropped) == (9, batch)
    assert opener.open_run_untrusted(run, sealer.packet_length(4), dropped) == (0, [])
    assert take(opener, run, sealer.packet_length(4), at_once=True) == ([], {"replayed": 9})


def test_near_a_limit_packets_are_opened_one_by_one() -> None:
    sealer, opener = ends(SUITES[0], max_packets=20)
    size = sealer.packet_length(4)
    assert opener.open_run_untrusted(sealer.seal_run([b"four"] * 8), size, Counter())[0] == 8
    assert opener.open_run_untrusted(sealer.seal_run([b"four"] * 8), size, Counter())[0] == 0


@pytest.mark.parametrize("esn", [True, False])
def test_where_the_low_half_begins_anew_packets_are_opened_one_by_one(esn: bool) -> None:
    suite = replace(SUITES[0], esn=esn)
    sealer, opener = ends(suite, max_packets=1 << 40)
    sealer.sa.packets = opener.top = (1 << 32) - 3
    run, size = sealer.seal_run([b"four"] * 5), sealer.packet_length(4)
    assert opener.open_run_untrusted(run, size, Counter()) == (0, [])
    data, dropped = take(opener, run, size, at_once=True)
    # RFC 4303 3.3.3: without ESN no number comes after the last
    assert (len(data), dropped) == ((5, {}) if esn else (2, {"replayed": 3}))


def test_what_is_shared_by_many_is_held_against_each_ones_own_flow() -> None:
    """Two SAs that differ in their ports alone: what one has shown of its packets lets nothing through the other."""
    sealer, opener = ends(SUITES[0])
    assert opened(opener, sealer.seal(b"four")) == b"four"
    spec = opener.spec
    other = PacketOpener(replace(spec, flow=FLOW._replace(initiator_port=7003)), 0.0)
    with pytest.raises(Dropped, match="wrong-selectors"):
        opened(other, sealer.seal(b"four"))
    alike = PacketOpener(spec, 0.0)
    assert [opened(alike, sealer.seal(data)) for data in (b"four", b"more", b"longer", b"four")] == [
        b"four",
        b"more",
        b"longer",
        b"four",
    ]


def test_many_lengths_and_ports_are_opened_beyond_what_is_remembered() -> None:
    sealer, opener = ends(SUITES[0])
    for length in (*range(300), *range(300)):
        assert opened(opener, sealer.seal(bytes(length))) == bytes(length)


def test_an_opener_at_rest_makes_its_cipher_of_the_keys_that_it_kept() -> None:
    for suite in SUITES:
        sealer, opener = ends(suite)
        keys = opener.spec.keys
        opener.spec = replace(opener.spec, spi=0, keys=DirectionKeys(b"", b""))
        opener.forget_shape()
        assert opened(opener, sealer.seal(b"at rest")) == b"at rest"
        assert opener.keys == keys
        assert "key" not in repr(opener)
