"""What an authenticated peer may do with rekeys: begin again, and never make this end keep more and more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from securesock.crypto.key_exchange import begin_key_exchange
from securesock.crypto.suites import X25519
from securesock.identity.identity import Identity
from securesock.keying.contract import KeyingConfig, Role
from securesock.keying.ikev2.child_sa import ChildSa
from securesock.keying.ikev2.core import Core, Opened
from securesock.keying.ikev2.ike_sa import IkeSa
from securesock.keying.ikev2.proposals import latched_child_proposal, latched_ike_proposal
from securesock.keying.ikev2.selectors import flow_selectors
from securesock.policy.negotiation import main_mode_offers
from securesock.testing import Endpoint, FakeNetwork, Pair, SeededEntropy
from securesock.wire.ikev2.message import parse_message_untrusted
from securesock.wire.ikev2.payloads import KeyExchange, Nonce, Notify, Payload, SecurityAssociation
from securesock.wire.numbers import ExchangeType, NotifyType, ProtocolId

MANY = 60


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


def classical(config: KeyingConfig) -> KeyingConfig:
    return replace(config, main_mode=replace(config.main_mode, offers=main_mode_offers("classical")))


def core_of(endpoint: Endpoint) -> Core:
    return endpoint.session._core


def live_ikes(endpoint: Endpoint) -> list[IkeSa]:
    return [each for each in core_of(endpoint).ikes.values() if not each.closing]


class Hostile:
    """The initiator's end with a mind of its own: asks what it likes under the keys of its session."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.core = core_of(pair.initiator)
        self.replies: list[tuple[Payload, ...]] = []
        self._entropy = SeededEntropy("hostile")

    def ask(self, exchange: ExchangeType, payloads: Iterable[Payload]) -> tuple[Payload, ...]:
        """The responder's reply; whatever it asks of its own is not answered."""
        sa = self.core.ike
        assert sa is not None
        now = self.pair.clock.now()
        count = len(self.replies)
        self.core.request(sa, exchange, tuple(payloads), self, now)
        while (action := self.pair.initiator.session.poll_action()) is not None:
            datagram = self.pair.initiator.carry_out(action)
            if datagram is not None:
                self.pair.responder.session.handle_datagram(datagram, now)
        while (action := self.pair.responder.session.poll_action()) is not None:
            datagram = self.pair.responder.carry_out(action)
            if datagram is not None and parse_message_untrusted(datagram).header.flags & 0x20:
                self.pair.initiator.session.handle_datagram(datagram, now)
        assert len(self.replies) == count + 1
        return self.replies[-1]

    def handle_reply(self, opened: Opened, now: float) -> None:
        assert self.core.ike is not None
        self.core.ike.window.reply_received()
        self.replies.append(opened.payloads)

    def child_rekey(self, old: ChildSa) -> list[Payload]:
        """A rekey of ``old`` as any peer would ask for it; its key exchange is never finished."""
        sa = self.core.ike
        assert sa is not None
        suite = replace(old.suite, key_exchange=X25519, additional_key_exchanges=sa.suite.additional_key_exchanges)
        return [
            Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, old.inbound_spi.to_bytes(4, "big")),
            Notify(NotifyType.USE_TRANSPORT_MODE),
            SecurityAssociation((latched_child_proposal(suite, self._entropy.token(4)),)),
            Nonce(self._entropy.token(32)),
            KeyExchange(X25519.transform_id, begin_key_exchange(X25519, self._entropy).public),
            *flow_selectors(old.flow, initiator_first=True),
        ]

    def ike_rekey(self) -> list[Payload]:
        """A rekey of the IKE_SA as any peer would ask for it."""
        sa = self.core.ike
        assert sa is not None
        return [
            SecurityAssociation((latched_ike_proposal(sa.suite, self._entropy.token(8)),)),
            Nonce(self._entropy.token(32)),
            KeyExchange(X25519.transform_id, begin_key_exchange(X25519, self._entropy).public),
        ]


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
