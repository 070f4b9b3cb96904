"""Bytes through a secured connection: all of them, once, in order, whatever the pieces."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securesock.crypto.suites import (
    AES_128_GCM_16,
    AES_256_CBC,
    AES_256_GCM_16,
    CHACHA20_POLY1305,
    HMAC_SHA2_256_128,
    HMAC_SHA2_512_256,
    EspSuite,
)
from securesock.keying.contract import Role
from securesock.types import Lifetimes
from tests.support.pre_keyed import LONG, PreKeyedSession
from tests.support.stream_pair import INITIATOR, RESPONDER, StreamPair, frames, other

SUITES = [
    EspSuite(AES_128_GCM_16, None),
    EspSuite(AES_256_GCM_16, None, esn=False),
    EspSuite(CHACHA20_POLY1305, None),
    EspSuite(AES_256_CBC, HMAC_SHA2_256_128),
    EspSuite(AES_256_CBC, HMAC_SHA2_512_256),
]


def some_bytes(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def pair_with(suite: EspSuite = SUITES[0], lifetimes: Lifetimes = LONG, main: Lifetimes = LONG) -> StreamPair:
    return StreamPair(
        PreKeyedSession(INITIATOR, suite, lifetimes, main), PreKeyedSession(RESPONDER, suite, lifetimes, main)
    ).establish()


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@pytest.mark.parametrize("role", [INITIATOR, RESPONDER])
def test_every_size_arrives_whole_under_every_suite(suite: EspSuite, role: Role) -> None:
    pair = pair_with(suite)
    for size in (1, 2, 3, 15, 16, 17, 1400, 65449, 65450, 65451, 65478, 65479, 200_000):
        data = some_bytes(size, size)
        pair.send(role, data)
        assert pair.receive(other(role)) == data


@pytest.mark.parametrize(
    ("suite", "largest", "frame"),
    [(EspSuite(AES_256_GCM_16, None), 65478, 65534), (EspSuite(AES_256_CBC, HMAC_SHA2_512_256), 65450, 65530)],
    ids=["AEAD", "CBC and SHA2-512"],
)
def test_a_frame_carries_as_much_as_fits_and_larger_writes_are_cut_into_equal_parts(
    suite: EspSuite, largest: int, frame: int
) -> None:
    pair = pair_with(suite)
    pair.send(INITIATOR, bytes(largest))
    assert [len(each) for each in frames(pair.wires[INITIATOR])] == [frame]
    pair.receive(RESPONDER)
    for size in (largest + 1, 1 << 17, 1 << 20, 10 * largest, 10 * largest + 1):
        pair.send(INITIATOR, bytes(size))
        lengths = [len(each) for each in frames(pair.wires[INITIATOR])]
        assert len(lengths) == -(-size // largest)
        assert max(lengths) - min(lengths) <= 16 * len(lengths)
        assert pair.receive(RESPONDER) == bytes(size)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 5000)), max_size=30),
    st.integers(1, 700),
    st.sampled_from(SUITES),
)
def test_any_writes_in_any_pieces_on_both_ways_arrive_in_order(
    writes: list[tuple[bool, int]], piece: int, suite: EspSuite
) -> None:
    pair = pair_with(suite)
    sent = {INITIATOR: bytearray(), RESPONDER: bytearray()}
    got = {INITIATOR: bytearray(), RESPONDER: bytearray()}
    for forward, size in writes:
        role = INITIATOR if forward else RESPONDER
        data = some_bytes(size, size)
        pair.send(role, data)
        sent[role] += data
        pair.step(piece)
        got[RESPONDER] += pair.responder.read(size // 2)
    while pair.step(piece):
        pass
    got[RESPONDER] += pair.receive(RESPONDER)
    got[INITIATOR] += pair.receive(INITIATOR)
    assert got[RESPONDER] == sent[INITIATOR]
    assert got[INITIATOR] == sent[RESPONDER]


def test_the_carrier_may_take_and_give_one_byte_at_a_time() -> None:
    pair = pair_with()
    data = some_bytes(3000)
    assert pair.initiator.seal(memoryview(data), 0.0) == 3000
    got = bytearray()
    while (out := pair.initiator.outbound()) is not None:
        pair.wires[INITIATOR] += out[:1]
        pair.initiator.outbound_sent(1)
        pair.deliver(INITIATOR)
        got += pair.responder.read(10)
    got += pair.responder.read(5000)
    assert got == data


def test_peeking_takes_nothing() -> None:
    pair = pair_with()
    for part in (b"one ", b"two ", b"three"):
        pair.send(INITIATOR, part)
    pair.deliver(INITIATOR)
    target = memoryview(bytearray(100))
    assert pair.responder.read(6, peek=True) == b"one tw"
    assert pair.responder.read_into(target, peek=True) == 13
    assert target[:13] == b"one two three"
    assert pair.responder.read_into(target[:5]) == 5
    assert pair.responder.readable() == 8
    assert pair.responder.read(0) == b""
    assert pair.responder.read(100) == b"wo three"
    assert pair.responder.readable() == 0


@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
def test_rekeys_in_the_middle_of_bulk_lose_and_reorder_nothing(both: bool) -> None:
    pair = pair_with(lifetimes=Lifetimes(1e6, 1 << 20, 1 << 20), main=Lifetimes(1e6, 5 << 20, 1 << 20))
    total = 12 << 20
    chunk = some_bytes(1 << 18)
    hashes = {role: (hashlib.sha256(), hashlib.sha256()) for role in (INITIATOR, RESPONDER)}
    for _ in range(total // len(chunk)):
        for role in (INITIATOR, RESPONDER) if both else (INITIATOR,):
            pair.send(role, chunk)
            hashes[role][0].update(chunk)
        for role in (INITIATOR, RESPONDER):
            hashes[role][1].update(pair.receive(other(role)))
    pair.settle()
    for role in (INITIATOR, RESPONDER):
        hashes[role][1].update(pair.receive(other(role)))
        sent, got = hashes[role]
        assert got.digest() == sent.digest()
    assert pair.initiator.child_rekeys >= 12
    assert pair.responder.child_rekeys == pair.initiator.child_rekeys
    assert pair.initiator.ike_rekeys >= 2
    assert pair.initiator.quick_mode_sa_id == 100 + pair.initiator.child_rekeys
    assert pair.initiator.main_mode_sa_id == 2


def test_an_answer_goes_out_before_the_switch_and_the_switch_before_the_next_packet() -> None:
    pair = pair_with()
    pair.initiator.rekey_child(0.0)
    pair.flush(INITIATOR)
    pair.deliver(INITIATOR)
    pair.send(RESPONDER, b"under the new SA")
    kinds = [each[2:6] for each in frames(pair.wires[RESPONDER])]
    new = pair.sessions[RESPONDER].spi("outbound", 1).to_bytes(4, "big")
    assert kinds == [bytes(4), new]
    pair.deliver(RESPONDER)
    pair.send(INITIATOR, b"too")
    old_deleted, packet = frames(pair.wires[INITIATOR])
    assert old_deleted[6:] == b"DELETE 0"
    assert packet[2:6] == pair.sessions[INITIATOR].spi("outbound", 1).to_bytes(4, "big")
    assert pair.receive(RESPONDER) == b"too"
    assert pair.receive(INITIATOR) == b"under the new SA"


def test_what_was_sealed_before_the_switch_arrives_before_it() -> None:
    pair = pair_with()
    pair.initiator.rekey_child(0.0)
    pair.flush(INITIATOR)
    assert pair.responder.seal(memoryview(b"old "), 0.0) == 4
    pair.deliver(INITIATOR)
    assert pair.responder.seal(memoryview(b"new"), 0.0) == 3
    pair.flush(RESPONDER)
    assert [each[2:6] == bytes(4) for each in frames(pair.wires[RESPONDER])] == [False, True, False]
    assert pair.receive(INITIATOR) == b"old new"


def test_both_ends_may_start_a_rekey_at_once() -> None:
    pair = pair_with()
    pair.initiator.rekey_child(0.0)
    pair.responder.rekey_child(0.0)
    pair.send(INITIATOR, b"there")
    pair.send(RESPONDER, b"back")
    assert pair.receive(RESPONDER) == b"there"
    assert pair.receive(INITIATOR) == b"back"
    pair.settle()
    assert pair.initiator.child_rekeys == pair.responder.child_rekeys == 1
    assert pair.initiator.error is pair.responder.error is None


def test_the_stream_offset_wraps_where_32_bits_end() -> None:
    pair = pair_with()
    start = 2**32 - 100_000
    for role in (INITIATOR, RESPONDER):
        pair.ends[role]._sealer.offset = pair.ends[role]._opener.offset = start
    data = some_bytes(300_000)
    for role in (INITIATOR, RESPONDER):
        pair.send(role, data)
        assert pair.receive(other(role)) == data
        assert pair.ends[role]._sealer.offset == start + 300_000


def test_the_esp_sequence_number_goes_on_past_32_bits() -> None:
    pair = pair_with(EspSuite(AES_256_GCM_16, None, esn=True))
    sealing, opening = pair.initiator._sealer.sa, pair.responder._opener.sa
    assert sealing is not None
    assert opening is not None
    sealing.packets = opening.packets = 2**32 - 3
    for number in range(6):
        pair.send(INITIATOR, b"%d" % number)
    sequences = [each[6:10].hex() for each in frames(pair.wires[INITIATOR])]
    assert sequences == ["fffffffe", "ffffffff", "00000000", "00000001", "00000002", "00000003"]
    assert pair.receive(RESPONDER) == b"012345"
