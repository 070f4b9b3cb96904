"""What an authenticated peer may do with rekeys: begin again, and never make this end keep more and more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from securesock.identity.identity import Identity
from securesock.keying.contract import KeyingConfig, Role
from securesock.keying.ikev2.ike_sa import IkeSa
from securesock.policy.negotiation import main_mode_offers
from securesock.testing import Endpoint, FakeNetwork, Pair
from securesock.wire.ikev2.message import parse_message_untrusted
from securesock.wire.ikev2.payloads import Notify, Payload
from securesock.wire.numbers import ExchangeType, NotifyType
from tests.support.hostile import Hostile, core_of

MANY = 60


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


def classical(config: KeyingConfig) -> KeyingConfig:
    return replace(config, main_mode=replace(config.main_mode, offers=main_mode_offers("classical")))


def live_ikes(endpoint: Endpoint) -> list[IkeSa]:
    return [each for each in core_of(endpoint).ikes.values() if not each.closing]


def refusals(replies: Iterable[tuple[Payload, ...]]) -> list[NotifyType]:
    return [
        NotifyType(each.notify_type)
        for reply in replies
        for each in reply
        if isinstance(each, Notify) and each.is_error
    ]


def test_a_child_rekey_that_was_given_up_half_way_is_begun_again_and_done(
    identities: tuple[Identity, Identity],
) -> None:
    """RFC 9370 2.2.4: whoever began may start from scratch; the first try must not be waited for."""
    pair = Pair(*identities).establish()
    hostile = Hostile(pair)
    for _ in range(MANY):
        hostile.ask(ExchangeType.CREATE_CHILD_SA, hostile.child_rekey(hostile.core.children[0]))
    assert not refusals(hostile.replies)
    pair.initiator.session.rekey_child(pair.clock.now())
    pair.settle()
    assert [each.rekeys["child"] for each in pair.endpoints] == [1, 1]
    assert pair.congruent()


def test_an_ike_rekey_that_was_given_up_half_way_is_begun_again_and_done(
    identities: tuple[Identity, Identity],
) -> None:
    pair = Pair(*identities).establish()
    hostile = Hostile(pair)
    for _ in range(MANY):
        hostile.ask(ExchangeType.CREATE_CHILD_SA, hostile.ike_rekey())
    assert not refusals(hostile.replies)
    pair.initiator.session.rekey_ike(pair.clock.now())
    pair.settle()
    assert [each.rekeys["ike"] for each in pair.endpoints] == [1, 1]
    assert [len(live_ikes(each)) for each in pair.endpoints] == [1, 1]


def test_rekeys_of_one_child_do_not_pile_up_while_ours_goes_unanswered(
    identities: tuple[Identity, Identity],
) -> None:
    pair = Pair(*identities, initiator=classical, responder=classical).establish()
    hostile = Hostile(pair)
    pair.responder.session.rekey_child(pair.clock.now())
    for _ in range(MANY):
        hostile.ask(ExchangeType.CREATE_CHILD_SA, hostile.child_rekey(hostile.core.children[0]))
    assert len(pair.responder.inbound) == 2
    assert refusals(hostile.replies) == [NotifyType.TEMPORARY_FAILURE] * (MANY - 1)
    assert pair.responder.error is None


def test_rekeys_of_the_ike_sa_do_not_pile_up_while_ours_goes_unanswered(
    identities: tuple[Identity, Identity],
) -> None:
    pair = Pair(*identities, initiator=classical, responder=classical).establish()
    hostile = Hostile(pair)
    pair.responder.session.rekey_ike(pair.clock.now())
    for _ in range(MANY):
        hostile.ask(ExchangeType.CREATE_CHILD_SA, hostile.ike_rekey())
    assert len(live_ikes(pair.responder)) == 2
    assert refusals(hostile.replies) == [NotifyType.TEMPORARY_FAILURE] * (MANY - 1)


@pytest.mark.parametrize("what", ["child", "ike"])
def test_a_peer_that_never_deletes_what_it_replaced_may_not_go_on_replacing(
    identities: tuple[Identity, Identity], what: str
) -> None:
    def no_deletes(to: Role, datagram: bytes) -> Iterable[bytes]:
        header = parse_message_untrusted(datagram).header
        return () if to is Role.RESPONDER and header.exchange_type == ExchangeType.INFORMATIONAL else (datagram,)

    pair = Pair(*identities, network=FakeNetwork(tamper=no_deletes), initiator=classical).establish()
    core = core_of(pair.initiator)
    for _ in range(MANY):
        getattr(pair.initiator.session, f"rekey_{what}")(pair.clock.now())
        pair.settle(timers=False)
        # the DELETE is forgotten as if it had been answered
        for sa in core.ikes.values():
            sa.window.give_up()
        for child in core.children[:-1]:
            child.replaced = True
        pair.clock.advance(1)
    kept = len(core_of(pair.responder).children if what == "child" else core_of(pair.responder).ikes)
    assert 2 <= kept <= 16
    assert pair.responder.traces["refused-request"] >= 1
    assert pair.responder.error is None


@pytest.mark.parametrize("seed", range(8))
def test_the_replaced_ike_sa_is_deleted_even_when_its_window_was_busy(
    identities: tuple[Identity, Identity], seed: int
) -> None:
    """Both ends replace the IKE_SA; the last word of the other's exchange comes while we ask something else."""
    late: list[bytes] = []

    def delay(to: Role, datagram: bytes) -> Iterable[bytes]:
        header = parse_message_untrusted(datagram).header
        is_question = header.exchange_type == ExchangeType.IKE_FOLLOWUP_KE and not header.flags & 0x20
        if to is Role.INITIATOR and is_question:
            late.append(datagram)
            return ()
        return (datagram,)

    network: FakeNetwork[Role] = FakeNetwork()
    pair = Pair(*identities, network=network, seed=seed).establish()
    network.tamper = delay
    for each in pair.endpoints:
        each.session.rekey_ike(pair.clock.now())
    pair.settle(timers=False)
    assert late
    pair.initiator.session.check_liveness(pair.clock.now())
    pair.collect()
    for datagram in late:  # overtakes the answer to the question
        pair.initiator.session.handle_datagram(datagram, pair.clock.now())
    network.tamper = None
    pair.settle(timeout_s=20)
    assert [each.rekeys["ike"] for each in pair.endpoints] == [1, 1]
    assert [len(live_ikes(each)) for each in pair.endpoints] == [1, 1]


def test_a_child_rekey_waits_while_the_peer_replaces_the_ike_sa(identities: tuple[Identity, Identity]) -> None:
    """RFC 7296 2.25.2: it would be refused; and a wish that has to wait wakes nobody in the meantime."""
    pair = Pair(*identities).establish()
    hostile = Hostile(pair)
    hostile.ask(ExchangeType.CREATE_CHILD_SA, hostile.ike_rekey())
    pair.responder.session.rekey_child(pair.clock.now())
    deadline = pair.responder.session.next_deadline()
    assert deadline is None or deadline > pair.clock.now()
    assert not pair.responder.rekeys
    pair.initiator.session.rekey_ike(pair.clock.now())
    pair.settle()
    assert [each.rekeys["ike"] for each in pair.endpoints] == [1, 1]
    assert [each.rekeys["child"] for each in pair.endpoints] == [1, 1]


def test_a_creation_that_the_peer_lost_is_tried_again_later(identities: tuple[Identity, Identity]) -> None:
    """RFC 9370 2.2.4: STATE_NOT_FOUND ends this creation, not the wish for it."""
    pair = Pair(*identities).establish()
    lost = []

    def lose(to: Role, datagram: bytes) -> Iterable[bytes]:
        header = parse_message_untrusted(datagram).header
        if to is Role.RESPONDER and header.exchange_type == ExchangeType.IKE_FOLLOWUP_KE and not lost:
            for sa in core_of(pair.responder).ikes.values():
                lost.append(sa.followups.popitem())
        return (datagram,)

    pair.network.tamper = lose
    pair.initiator.session.rekey_child(pair.clock.now())
    pair.settle()
    assert lost
    assert pair.initiator.traces["rekey-refused"] == 1
    assert [each.rekeys["child"] for each in pair.endpoints] == [1, 1]
    assert pair.congruent()
