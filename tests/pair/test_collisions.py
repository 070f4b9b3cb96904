"""RFC 7296 2.25, row by row: what is answered to a request that meets one of ours, and what stands in the end.

Both ends begin at the same moment, so that each one's request arrives while its own is outstanding; then the same with
either request, or the replies, lost at first, and on lines that lose, repeat and reorder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import pytest

from securesock.identity.identity import Identity
from securesock.keying.contract import KeyingConfig, Role, Trace
from securesock.keying.ikev2 import create_child
from securesock.keying.ikev2.attempts import Attempt, begin_for_peer
from securesock.keying.ikev2.child_sa import ChildSa
from securesock.keying.ikev2.ike_sa import IkeSa
from securesock.policy.negotiation import main_mode_offers
from securesock.sad.spec import InnerFlow
from securesock.testing import Endpoint, FakeNetwork, Pair
from securesock.wire.ikev2.message import parse_message_untrusted, parse_payloads
from securesock.wire.ikev2.payloads import Delete, Notify, Payload, SecurityAssociation
from securesock.wire.numbers import ExchangeType, HeaderFlag, NotifyType, name_of

FIRST = InnerFlow(17, "192.0.2.1", 40000, "192.0.2.2", 7000)
SECOND = FIRST._replace(initiator_port=40001)
THIRD = FIRST._replace(initiator_port=40002)


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


def with_further(config: KeyingConfig) -> KeyingConfig:
    return replace(config, further_children=True)


def classical(config: KeyingConfig) -> KeyingConfig:
    return replace(
        config, further_children=True, main_mode=replace(config.main_mode, offers=main_mode_offers("classical"))
    )


@dataclass
class Said:
    """One message as its receiver could read it when it was sent."""

    by: Role
    exchange: int
    is_reply: bool
    payloads: tuple[Payload, ...]

    @property
    def gist(self) -> str:
        """The error, or "delete", "agreed", "empty"."""
        for each in self.payloads:
            if isinstance(each, Notify) and each.notify_type < 16384:
                return name_of(NotifyType, each.notify_type)
        if any(isinstance(each, Delete) for each in self.payloads):
            return "delete"
        return "agreed" if any(isinstance(each, SecurityAssociation) for each in self.payloads) else "empty"


class Line:
    """Two established ends with two CHILD_SAs; hears all that is said, and loses what ``lose`` says."""

    def __init__(self, identities: tuple[Identity, Identity], *, hybrid: bool = False, seed: int = 0) -> None:
        configure = with_further if hybrid else classical
        self.network: FakeNetwork[Role] = FakeNetwork(seed=seed)
        self.pair = Pair(*identities, network=self.network, initiator=configure, responder=configure, seed=seed)
        self.pair.establish()
        self.pair.initiator.session.create_child(SECOND, self.pair.clock.now())
        self.pair.settle()
        self.heard: list[Said] = []
        self.lose: Callable[[Said], bool] = lambda said: False
        self.network.tamper = self._hear

    def end(self, role: Role) -> Endpoint:
        return self.pair.initiator if role is Role.INITIATOR else self.pair.responder

    def _hear(self, to: Role, datagram: bytes) -> Iterable[bytes]:
        message = parse_message_untrusted(datagram)
        header, encrypted = message.header, message.encrypted
        receiver = self.end(to)
        spi = header.responder_spi if header.flags & HeaderFlag.INITIATOR else header.initiator_spi
        sa = receiver.session._core.ikes.get(spi)
        if sa is None or encrypted is None or encrypted.total_fragments:
            return (datagram,)
        payloads = parse_payloads(encrypted.first_payload, sa.open(encrypted, datagram))
        sender = self.pair.other(receiver).role
        said = Said(sender, header.exchange_type, bool(header.flags & HeaderFlag.RESPONSE), payloads)
        self.heard.append(said)
        return () if self.lose(said) else (datagram,)

    def replies(self, role: Role) -> list[Said]:
        return [each for each in self.heard if each.by is role and each.is_reply]

    def child(self, role: Role, flow: InnerFlow = SECOND) -> ChildSa:
        core = self.end(role).session._core
        return next(each for each in core.children if each.flow == flow and not each.replaced)

    def wish(self, role: Role, what: str) -> None:
        session, now = self.end(role).session, self.pair.clock.now()
        match what:
            case "rekey child":
                self.child(role).rekey_at = now
                session._go_on(now)
            case "delete child":
                session._core.tasks.append(partial(create_child._delete, session._core, self.child(role)))
                session._go_on(now)
            case "create child":
                session.create_child(THIRD, now)
            case "rekey ike":
                session.rekey_ike(now)
            case "delete ike":
                session.delete(now)
            case "ask for life":
                session.check_liveness(now)

    def cross(self, ours: str, theirs: str) -> None:
        """Both at once, and then what follows from it for a while."""
        self.wish(Role.INITIATOR, ours)
        self.wish(Role.RESPONDER, theirs)
        self.pair.settle(timeout_s=60)

    def assert_idle(self) -> None:
        for each in self.pair.endpoints:
            core = each.session._core
            assert each.error is None
            assert not core.tasks
            assert not core.creating
            assert not any(sa.window.awaiting_reply for sa in core.ikes.values())
            assert not any(child.attempts or child.deleting for child in core.children)

    def assert_alive(self, *flows: InnerFlow) -> None:
        """One IKE_SA and one pair for each flow, the same at both ends."""
        self.assert_idle()
        first, second = (each.session._core for each in self.pair.endpoints)
        assert first.ike is not None
        assert second.ike is not None
        assert first.ike.our_spi == second.ike.peer_spi
        ours = {each.flow: (each.inbound_spi, each.outbound_spi, each.inbound.keys) for each in first.children}
        theirs = {each.flow: (each.outbound_spi, each.inbound_spi, each.outbound.keys) for each in second.children}
        assert ours == theirs
        assert set(ours) == set(flows)
        assert len(first.children) == len(second.children) == len(flows)
        assert all(child.outbound_in_use for core in (first, second) for child in core.children)

    def assert_over(self) -> None:
        self.assert_idle()
        for each in self.pair.endpoints:
            assert each.closed is not None
            assert not each.inbound
            assert each.session.next_deadline() is None


BOTH = (FIRST, SECOND)

# what A does and B does at the same time; what A first answers to B, and B to A; which flows there are in the end
# (None: no IKE_SA any more), after those who were put off have tried again
TABLE = {
    # 2.25.1
    "both rekey the child": ("rekey child", "rekey child", "agreed", "agreed", BOTH),
    "rekey of a child that is being closed": ("delete child", "rekey child", "TEMPORARY_FAILURE", "delete", (FIRST,)),
    "both close the child": ("delete child", "delete child", "empty", "empty", (FIRST,)),
    "ike rekey meets a child rekey": ("rekey child", "rekey ike", "TEMPORARY_FAILURE", "TEMPORARY_FAILURE", BOTH),
    "ike rekey meets a child's creation": (
        "create child",
        "rekey ike",
        "TEMPORARY_FAILURE",
        "TEMPORARY_FAILURE",
        (*BOTH, THIRD),
    ),
    "ike rekey meets a child's end": ("delete child", "rekey ike", "TEMPORARY_FAILURE", "delete", (FIRST,)),
    # 2.25.2
    "both rekey the ike sa": ("rekey ike", "rekey ike", "agreed", "agreed", BOTH),
    "rekey of an ike sa that is being closed": ("delete ike", "rekey ike", "TEMPORARY_FAILURE", "empty", None),
    "both close the ike sa": ("delete ike", "delete ike", "empty", "empty", None),
    "child rekey meets the ike sa's end": ("delete ike", "rekey child", "TEMPORARY_FAILURE", "empty", None),
    "child creation meets the ike sa's end": ("delete ike", "create child", "TEMPORARY_FAILURE", "empty", None),
    # and what collides with nothing
    "a question meets a child rekey": ("ask for life", "rekey child", "agreed", "empty", BOTH),
    "a question meets an ike rekey": ("ask for life", "rekey ike", "agreed", "empty", BOTH),
    "a question meets the ike sa's end": ("ask for life", "delete ike", "empty", "empty", None),
    "both create a child": ("create child", "create child", "agreed", "agreed", None),
}
ALIVE_ANYHOW = {"both create a child": (*BOTH, THIRD, THIRD)}


def _outcome(name: str, line: Line) -> None:
    flows = ALIVE_ANYHOW.get(name, TABLE[name][4])
    if flows is None:
        line.assert_over()
    elif len(set(flows)) == len(flows):
        line.assert_alive(*flows)
    else:
        line.assert_idle()
        assert [len(each.session._core.children) for each in line.pair.endpoints] == [len(flows)] * 2


@pytest.mark.parametrize("mirrored", [False, True], ids=["", "mirrored"])
@pytest.mark.parametrize("hybrid", [False, True], ids=["classical", "hybrid"])
@pytest.mark.parametrize("name", TABLE)
def test_requests_that_cross_are_answered_as_the_standard_says(
    identities: tuple[Identity, Identity], name: str, hybrid: bool, mirrored: bool
) -> None:
    ours, theirs, our_answer, their_answer, _ = TABLE[name]
    line = Line(identities, hybrid=hybrid)
    a, b = (Role.RESPONDER, Role.INITIATOR) if mirrored else (Role.INITIATOR, Role.RESPONDER)
    line.wish(a, ours)
    line.wish(b, theirs)
    line.pair.settle(timeout_s=60)
    assert line.replies(a)[0].gist == our_answer
    assert line.replies(b)[0].gist == their_answer
    _outcome(name, line)


@pytest.mark.parametrize("lost", ["a's request", "b's request", "a's reply", "b's reply", "all once"])
@pytest.mark.parametrize("name", TABLE)
def test_what_is_lost_at_first_changes_nothing_in_the_end(
    identities: tuple[Identity, Identity], name: str, lost: str
) -> None:
    """2.8.1 and 2.8.2: one end may have finished before it hears that the other had begun."""
    line = Line(identities)
    count = 0

    def lose(said: Said) -> bool:
        nonlocal count
        fits = {
            "a's request": said.by is Role.INITIATOR and not said.is_reply,
            "b's request": said.by is Role.RESPONDER and not said.is_reply,
            "a's reply": said.by is Role.INITIATOR and said.is_reply,
            "b's reply": said.by is Role.RESPONDER and said.is_reply,
            "all once": True,
        }
        if count < (4 if lost == "all once" else 1) and fits[lost]:
            count += 1
            return True
        return False

    line.lose = lose
    line.cross(TABLE[name][0], TABLE[name][1])
    line.pair.settle(timeout_s=100)
    assert count
    if name in ALIVE_ANYHOW:
        line.assert_idle()  # whether they met at all depends on what was lost
        return
    _outcome(name, line)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", [name for name in TABLE if name not in ALIVE_ANYHOW])
def test_the_table_holds_on_a_bad_line(identities: tuple[Identity, Identity], name: str, seed: int) -> None:
    line = Line(identities, hybrid=bool(seed % 2), seed=seed)
    line.network.tamper = None
    line.network.loss, line.network.jitter_s, line.network.duplication = 0.2, 0.3, 0.2
    line.cross(TABLE[name][0], TABLE[name][1])
    line.network.loss = 0.0
    line.pair.settle(timeout_s=400)
    _outcome(name, line)


def test_a_rekey_of_a_child_that_is_not_there_names_it(identities: tuple[Identity, Identity]) -> None:
    line = Line(identities)
    lost = line.child(Role.INITIATOR)
    core = line.end(Role.RESPONDER).session._core
    create_child.drop_child(core, line.child(Role.RESPONDER))
    line.wish(Role.INITIATOR, "rekey child")
    line.pair.settle(timeout_s=20)
    first = line.replies(Role.RESPONDER)[0]
    assert first.gist == "CHILD_SA_NOT_FOUND"
    (notify,) = [each for each in first.payloads if isinstance(each, Notify)]
    assert (notify.spi, notify.protocol) == (lost.inbound_spi.to_bytes(4, "big"), 3)
    # RFC 7296 2.25: silently deleted, and made anew from scratch
    assert not any(isinstance(each, Delete) for said in line.heard for each in said.payloads)
    assert line.child(Role.INITIATOR).inbound_spi != lost.inbound_spi
    line.assert_alive(*BOTH)


def test_a_child_that_the_peer_lost_and_will_not_make_again_ends_an_ike_sa_without_others(
    identities: tuple[Identity, Identity],
) -> None:
    pair = Pair(*identities, network=FakeNetwork(), initiator=with_further, responder=lambda config: config).establish()
    core = pair.responder.session._core
    create_child.drop_child(core, core.children[0])
    pair.initiator.session.rekey_child(pair.clock.now())
    pair.settle()
    assert pair.initiator.closed == "the peer has lost the CHILD_SA and makes no other"
    assert pair.responder.closed is not None


def test_the_end_of_a_child_that_is_not_there_is_answered_without_a_delete(
    identities: tuple[Identity, Identity],
) -> None:
    line = Line(identities)
    create_child.drop_child(line.end(Role.RESPONDER).session._core, line.child(Role.RESPONDER))
    line.wish(Role.INITIATOR, "delete child")
    line.pair.settle(timeout_s=20)
    assert line.replies(Role.RESPONDER)[0].gist == "empty"
    line.assert_alive(FIRST)


def test_the_end_of_a_child_that_is_being_rekeyed_is_answered_with_a_delete(
    identities: tuple[Identity, Identity],
) -> None:
    line = Line(identities)
    line.cross("rekey child", "delete child")
    assert line.replies(Role.INITIATOR)[0].gist == "delete"
    assert line.replies(Role.RESPONDER)[0].gist == "TEMPORARY_FAILURE"
    line.assert_alive(FIRST)


def test_a_rekey_that_finished_before_the_other_was_heard_is_put_off_and_forgotten(
    identities: tuple[Identity, Identity],
) -> None:
    """2.8.2: A never hears B's request before it deletes the old IKE_SA."""
    line = Line(identities)
    line.lose = lambda said: (
        said.by is Role.RESPONDER and not said.is_reply and said.exchange == ExchangeType.CREATE_CHILD_SA
    )
    line.wish(Role.INITIATOR, "rekey ike")
    line.wish(Role.RESPONDER, "rekey ike")
    line.pair.settle(timeout_s=0.4)
    assert line.end(Role.INITIATOR).rekeys["ike"] == line.end(Role.RESPONDER).rekeys["ike"] == 1
    asked = len([each for each in line.heard if each.by is Role.RESPONDER and not each.is_reply])
    line.pair.settle(timeout_s=100)
    # nor is it sent again
    assert len([each for each in line.heard if each.by is Role.RESPONDER and not each.is_reply]) == asked
    line.lose = lambda said: False
    line.assert_alive(*BOTH)


def test_a_request_that_comes_again_after_the_goodbyes_crossed_gets_the_same_reply(
    identities: tuple[Identity, Identity],
) -> None:
    line = Line(identities)
    line.cross("delete ike", "delete ike")
    assert [each.gist for each in line.replies(Role.INITIATOR)] == ["empty"]
    assert [each.gist for each in line.replies(Role.RESPONDER)] == ["empty"]
    assert len(line.heard) == 4  # nobody goes on asking
    line.assert_over()


def test_put_off_for_minutes_the_ike_sa_is_closed(identities: tuple[Identity, Identity]) -> None:
    """2.25: the ends do not agree on what there is."""
    line = Line(identities)
    core = line.end(Role.RESPONDER).session._core
    core.creating.append(line.child(Role.RESPONDER))  # a peer that is never done with it
    line.wish(Role.INITIATOR, "rekey ike")
    line.pair.settle(timeout_s=170)
    assert line.end(Role.INITIATOR).session.established
    refused = [each for each in line.end(Role.INITIATOR).actions if isinstance(each, Trace)]
    assert 20 <= len([each for each in refused if each.detail == "TEMPORARY_FAILURE"]) <= 100  # never at once again
    line.pair.settle(timeout_s=30)
    assert not line.end(Role.INITIATOR).session.established
    assert line.end(Role.RESPONDER).closed == "the peer deleted the IKE_SA"


def put_off(line: Line) -> list[Trace]:
    """What the initiator was told to ask for again."""
    traces = [each for each in line.end(Role.INITIATOR).actions if isinstance(each, Trace)]
    return [each for each in traces if each.detail == "TEMPORARY_FAILURE"]


def busy(line: Line) -> list[Attempt[IkeSa]]:
    """A responder that replaces its IKE_SA and is never done with it; empty the list to have it done."""
    ike = line.end(Role.RESPONDER).session._core.ike
    assert ike is not None
    begin_for_peer(ike.attempts, b"nonce")
    return ike.attempts


def test_a_creation_that_was_put_off_is_asked_for_again_after_a_while(identities: tuple[Identity, Identity]) -> None:
    line = Line(identities)
    undone = busy(line)
    line.wish(Role.INITIATOR, "create child")
    line.pair.settle(timeout_s=1.9)
    assert len(put_off(line)) == 1  # 2.25: never at once
    line.pair.settle(timeout_s=20)
    assert 3 <= len(put_off(line)) <= 11
    undone.clear()
    line.pair.settle(timeout_s=10)
    line.assert_alive(*BOTH, THIRD)


def test_several_creations_that_were_put_off_are_all_made_in_the_end(identities: tuple[Identity, Identity]) -> None:
    line = Line(identities)
    undone = busy(line)
    others = [THIRD._replace(initiator_port=port) for port in range(50000, 50004)]
    for flow in others:
        line.end(Role.INITIATOR).session.create_child(flow, line.pair.clock.now())
    line.pair.settle(timeout_s=10)
    undone.clear()
    line.pair.settle(timeout_s=10)
    line.assert_alive(*BOTH, *others)


def test_a_creation_that_was_put_off_is_not_made_twice_where_the_peer_makes_it(
    identities: tuple[Identity, Identity],
) -> None:
    line = Line(identities)
    undone = busy(line)
    line.wish(Role.INITIATOR, "create child")
    line.pair.settle(timeout_s=1)
    undone.clear()
    line.wish(Role.RESPONDER, "create child")
    line.pair.settle(timeout_s=10)
    line.assert_alive(*BOTH, THIRD)


def test_a_creation_put_off_for_minutes_closes_the_ike_sa(identities: tuple[Identity, Identity]) -> None:
    line = Line(identities)
    busy(line)
    line.wish(Role.INITIATOR, "create child")
    line.pair.settle(timeout_s=170)
    assert line.end(Role.INITIATOR).session.established
    assert 20 <= len(put_off(line)) <= 100
    line.pair.settle(timeout_s=30)
    assert not line.end(Role.INITIATOR).session.established
    assert line.end(Role.RESPONDER).closed == "the peer deleted the IKE_SA"
    line.assert_over()


def test_what_the_peer_began_and_left_undone_blocks_nothing(identities: tuple[Identity, Identity]) -> None:
    """An additional key exchange that never came, and then something else (RFC 9370 2.2.4)."""
    line = Line(identities)
    begin_for_peer(line.child(Role.INITIATOR).attempts, b"nonce")
    line.wish(Role.RESPONDER, "rekey ike")
    line.pair.settle(timeout_s=1)
    assert line.replies(Role.INITIATOR)[0].gist == "agreed"
