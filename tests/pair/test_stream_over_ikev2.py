"""Two stream connections with real IKEv2 sessions: application data through every rekey that the two can do."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest

from securesock.errors import AuthenticationFailed, ConnectionBroken, PeerMisbehaved, StreamTruncated
from securesock.identity.identity import Identity
from securesock.keying.contract import KeyingConfig, Role
from securesock.keying.ikev2.session import IkeSession
from securesock.policy.negotiation import main_mode_offers
from securesock.testing import Pair
from securesock.testing.pair import Configure
from securesock.types import Lifetimes
from tests.support.stream_pair import INITIATOR, RESPONDER, StreamPairOf, feed_all, frames, other

DAY = 86400.0
NEVER = Lifetimes(DAY, 1 << 50, 1 << 50)


def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


def limits(child: Lifetimes = NEVER, ike: Lifetimes = NEVER, *, hybrid: bool = False, pfs: bool = True) -> Configure:
    """What a test says about both ends' lifetimes and key exchange."""

    def configure(config: KeyingConfig) -> KeyingConfig:
        offers = main_mode_offers("hybrid" if hybrid else "classical")
        return replace(
            config,
            main_mode=replace(config.main_mode, offers=offers, lifetimes=ike),
            quick_mode=replace(config.quick_mode, lifetimes=child, pfs=pfs),
        )

    return configure


def unestablished(ours: Configure, theirs: Configure | None = None, seed: int = 0) -> StreamPairOf[IkeSession]:
    pair = Pair(*identities(), initiator=ours, responder=theirs or ours, seed=seed)
    return StreamPairOf(pair.initiator.session, pair.responder.session, now=pair.clock.now())


def established(ours: Configure, theirs: Configure | None = None, seed: int = 0) -> StreamPairOf[IkeSession]:
    return unestablished(ours, theirs, seed).establish()


class Transfer:
    """Random data both ways, hashed as it goes in and as it comes out."""

    def __init__(self, pair: StreamPairOf[IkeSession], seed: int) -> None:
        self.pair = pair
        self.random = random.Random(seed)
        self.sent = {role: hashlib.sha256() for role in Role}
        self.got = {role: hashlib.sha256() for role in Role}

    def send(self, role: Role, size: int) -> None:
        """Seal it; reads on both ends as far as sealing has to wait for keys."""
        data = self.random.randbytes(size)
        self.sent[role].update(data)
        view = memoryview(data)
        stuck = 0
        while view:
            count = self.pair.ends[role].seal(view, self.pair.now)
            view = view[count:]
            self.pair.flush(role)
            if not count:
                self.pair.step()
                self.read()
                deadline = self.pair.ends[role].next_deadline()
                if deadline is not None:
                    self.pair.now = max(self.pair.now, min(deadline, self.pair.now + 1.0))
                stuck += 1
                assert stuck < 100, "no new keys come"

    def read(self) -> None:
        for role in Role:
            end = self.pair.ends[role]
            assert end.error is None, end.error
            while end.readable():
                self.got[role].update(end.read(1 << 16))
            end.inbound_release()

    def is_whole(self) -> bool:
        for _ in range(100):
            self.pair.settle()
            self.read()
        return all(self.sent[role].digest() == self.got[other(role)].digest() for role in Role)


@pytest.mark.parametrize(
    ("hybrid", "pfs"), [(True, True), (False, True), (False, False)], ids=["hybrid", "classical", "no PFS"]
)
@pytest.mark.parametrize("both_ways", [False, True], ids=["one way", "both ways"])
def test_not_a_byte_is_lost_or_moved_by_rekeys_of_both_sas(hybrid: bool, pfs: bool, both_ways: bool) -> None:
    child, ike = Lifetimes(DAY, 1 << 19, 1 << 50), Lifetimes(DAY, 1 << 21, 1 << 50)
    pair = established(limits(child, ike, hybrid=hybrid, pfs=pfs))
    transfer = Transfer(pair, 7)
    for _ in range(200):
        for role in Role if both_ways else (INITIATOR,):
            transfer.send(role, transfer.random.randrange(1, 50_000))
        pair.step(transfer.random.choice((100, 5_000, None)))
        transfer.read()
    assert transfer.is_whole()
    assert pair.initiator.child_rekeys == pair.responder.child_rekeys >= 10
    assert pair.initiator.ike_rekeys == pair.responder.ike_rekeys >= 2
    assert pair.initiator.quick_mode_sa_id != 0


@pytest.mark.parametrize("seed", range(6))
def test_rekeys_started_by_both_ends_at_any_moment_in_any_interleaving(seed: int) -> None:
    pair = established(limits(), seed=seed)
    transfer = Transfer(pair, seed)
    chance = transfer.random
    for _ in range(600):
        role = chance.choice((INITIATOR, RESPONDER))
        match chance.randrange(20):
            case 0:
                pair.ends[role].rekey_child(pair.now)
            case 1:
                pair.ends[role].rekey_ike(pair.now)
            case 2:
                for each in Role:
                    pair.ends[each].rekey_child(pair.now)
            case 3 | 4 | 5 | 6 | 7:
                transfer.send(role, chance.randrange(1, 3_000))
            case 8 | 9 | 10 | 11:
                pair.flush(role)
            case _:
                pair.deliver(role, chance.choice((1, 50, 3_000, 10_000, None)))
                transfer.read()
        pair.now += 0.1  # what was put off is asked for again after a quarter of a second at most
        for each in Role:
            deadline = pair.ends[each].next_deadline()
            if deadline is not None and deadline <= pair.now:
                pair.ends[each].handle_timeout(pair.now)
    for role in Role:
        transfer.send(role, 1000)
    assert transfer.is_whole()
    assert pair.initiator.child_rekeys + pair.initiator.ike_rekeys >= 5


def test_a_sender_alone_lives_through_rekeys_by_time() -> None:
    hour = Lifetimes(3600.0, 1 << 50, 1 << 50)
    pair = established(limits(hour, Lifetimes(3 * 3600.0, 1 << 50, 1 << 50)))
    transfer = Transfer(pair, 3)
    for _ in range(60):
        pair.now += 600.0
        transfer.send(INITIATOR, 10_000)
        pair.settle()
        transfer.read()
    assert transfer.is_whole()
    # ten hours: one in half an hour at least, and the other in one and a half
    assert 19 <= pair.initiator.child_rekeys == pair.responder.child_rekeys <= 20
    assert pair.initiator.ike_rekeys == 6


@pytest.mark.parametrize("first", [INITIATOR, RESPONDER])
def test_ends_asleep_past_every_lifetime_go_on_in_both_directions(first: Role) -> None:
    hour = Lifetimes(3600.0, 1 << 50, 1 << 50)
    pair = established(limits(hour, hour))
    pair.now += 100 * 3600.0
    assert pair.ends[first].seal(memoryview(b"x"), pair.now) == 0
    transfer = Transfer(pair, 1)
    for role in (first, other(first)):
        transfer.send(role, 100_000)
    assert transfer.is_whole()
    assert pair.initiator.child_rekeys >= 1


def test_a_refusal_reaches_the_initiator_and_the_responder_never_had_a_connection() -> None:
    def refuse(config: KeyingConfig) -> KeyingConfig:
        wrong = Identity.from_psk(name="responder.example", peers={"initiator.example": b"t" * 32})
        return replace(limits()(config), identity=wrong)

    pair = unestablished(limits(), refuse)
    pair.settle()
    assert isinstance(pair.initiator.error, AuthenticationFailed)
    assert pair.initiator.state == pair.responder.state == "failed"
    assert pair.responder.peer_speaks_ike


def test_giving_up_after_the_proof_and_before_the_first_segment_is_a_refusal() -> None:
    pair = unestablished(limits())
    while pair.initiator.state == "negotiating":
        pair.flush(INITIATOR)
        pair.deliver(INITIATOR)
        pair.flush(RESPONDER)
        pair.deliver(RESPONDER)
    pair.initiator.abort(pair.now)
    pair.settle()
    assert pair.responder.state == "failed"
    assert isinstance(pair.responder.error, PeerMisbehaved)


def test_close_meets_a_rekey_that_the_peer_has_just_started() -> None:
    pair = established(limits())
    transfer = Transfer(pair, 2)
    transfer.send(INITIATOR, 300_000)
    pair.responder.rekey_child(pair.now)
    pair.flush(RESPONDER)
    assert pair.initiator.finish(pair.now)
    pair.flush(INITIATOR)
    # the initiator reads no more; the responder gets what was sent and then the carrier's end
    pair.wires[RESPONDER].clear()
    while pair.deliver(INITIATOR):
        transfer.read()
    pair.responder.inbound_received(0, pair.now)
    assert transfer.got[RESPONDER].digest() == transfer.sent[INITIATOR].digest()
    assert pair.responder.read(1) == b""
    assert pair.responder.error is None


@pytest.mark.parametrize("first", [INITIATOR, RESPONDER])
def test_the_end_of_stream_one_way_leaves_the_other_and_rekeys(first: Role) -> None:
    pair = established(limits())
    assert pair.ends[first].finish(pair.now)
    pair.settle()
    transfer = Transfer(pair, 5)
    for _ in range(3):
        for ask in (pair.ends[first].rekey_child, pair.ends[other(first)].rekey_ike):
            ask(pair.now)
            transfer.send(other(first), 5000)
            pair.settle()
    assert transfer.is_whole()
    assert pair.initiator.child_rekeys >= 3
    assert pair.ends[other(first)].finish(pair.now)
    pair.settle()
    assert pair.initiator.state == pair.responder.state == "closed"


def test_a_changed_ike_message_ends_the_connection_after_what_was_proven() -> None:
    pair = established(limits())
    transfer = Transfer(pair, 4)
    transfer.send(INITIATOR, 1000)
    pair.initiator.rekey_child(pair.now)
    pair.flush(INITIATOR)
    pair.wires[INITIATOR][-1] ^= 1
    pair.deliver(INITIATOR)
    transfer.got[RESPONDER].update(pair.responder.read(1 << 16))
    assert transfer.got[RESPONDER].digest() == transfer.sent[INITIATOR].digest()
    with pytest.raises((PeerMisbehaved, ConnectionBroken)):
        pair.responder.read(1)


def test_every_byte_of_a_handshake_cut_off_is_a_refusal_on_both_ends() -> None:
    whole = unestablished(limits())
    whole.flush(INITIATOR)
    request = bytes(whole.wires[INITIATOR])
    for cut in range(0, len(request), 7):
        pair = unestablished(limits())
        feed_all(pair.responder, request[:cut], pair.now)
        pair.responder.inbound_received(0, pair.now)
        assert pair.responder.state == "failed"
        assert not isinstance(pair.responder.error, StreamTruncated)


def test_no_sequence_number_is_used_twice_under_one_spi() -> None:
    child = Lifetimes(DAY, 1 << 17, 1 << 50)
    pair = established(limits(child, NEVER, pfs=False))
    seen: dict[Role, set[bytes]] = {role: set() for role in Role}
    transfer = Transfer(pair, 6)
    for _ in range(60):
        for role in Role:
            transfer.send(role, 8000)
            pair.flush(role)
            for frame in frames(pair.wires[role]):
                if frame[2:6] != bytes(4):
                    assert frame[2:10] not in seen[role]
                    seen[role].add(frame[2:10])
            pair.deliver(role)
            transfer.read()
    assert transfer.is_whole()
    assert pair.initiator.child_rekeys >= 3
