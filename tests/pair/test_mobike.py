"""RFC 4555 between two sessions whose addresses change: who moves when, what is checked first, and what is refused."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace

import pytest

from securesock.identity.identity import Identity
from securesock.keying.contract import AddressPair, KeyingConfig, Moved, Role, SendDatagram, Trace
from securesock.keying.ikev2.core import Opened
from securesock.keying.ikev2.ike_sa import IkeSa
from securesock.keying.ikev2.selectors import nat_detection
from securesock.policy.negotiation import main_mode_offers
from securesock.testing import Endpoint, FakeNetwork, Pair
from securesock.types import Address
from securesock.wire.ikev2.message import parse_message_untrusted, parse_payloads
from securesock.wire.ikev2.payloads import Notify, Payload
from securesock.wire.numbers import ExchangeType, HeaderFlag, NotifyType

I1, R = ("192.0.2.1", 40000), ("192.0.2.2", 7000)
I2, R2 = ("198.51.100.1", 40000), ("198.51.100.2", 7000)
ELSEWHERE = ("203.0.113.9", 999)


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


class Roaming(Pair):
    """A pair whose ends have addresses; ``translate`` is a box in between, ``heard`` all notifies in order."""

    def __init__(
        self,
        identities: tuple[Identity, Identity],
        *,
        network: FakeNetwork[Role] | None = None,
        adapt: Callable[[KeyingConfig], KeyingConfig] = lambda config: config,
    ) -> None:
        def configure(config: KeyingConfig) -> KeyingConfig:
            main_mode = replace(config.main_mode, offers=main_mode_offers("classical"))
            return adapt(replace(config, main_mode=main_mode, mobike=True))

        network = network if network is not None else FakeNetwork()
        super().__init__(*identities, network=network, initiator=configure, responder=configure)
        self.at: dict[Role, Address] = {Role.INITIATOR: I1, Role.RESPONDER: R}
        self.carrier: dict[Role, Address] = {Role.INITIATOR: R, Role.RESPONDER: I1}
        self.routes: dict[bytes, AddressPair] = {}
        self.translate: Callable[[AddressPair], AddressPair] = lambda route: route
        self.heard: list[tuple[Role, bool, tuple[Payload, ...]]] = []
        self.gone: set[Address] = set()
        self._replying: tuple[Endpoint, Address] | None = None

    def collect(self) -> None:
        for endpoint in self.endpoints:
            while (action := endpoint.session.poll_action()) is not None:
                endpoint.carry_out(action)
                if isinstance(action, Moved):
                    self.carrier[endpoint.role] = action.path.peer
                if isinstance(action, SendDatagram):
                    self._put(endpoint, action)

    def _put(self, endpoint: Endpoint, action: SendDatagram) -> None:
        to = action.to or self.carrier[endpoint.role]
        if action.to is None and self._replying is not None and self._replying[0] is endpoint:
            to = self._replying[1]
        route = self.translate(AddressPair(self.at[endpoint.role], to))
        self._listen(endpoint, action.data)
        if route.peer == self.at[self.other(endpoint).role] and route.peer not in self.gone:
            tagged = repr((route.our, route.peer)).encode().ljust(80) + action.data
            self.network.send(self.other(endpoint).role, tagged, self.clock.now())

    def _listen(self, sender: Endpoint, datagram: bytes) -> None:
        message = parse_message_untrusted(datagram)
        header, encrypted = message.header, message.encrypted
        spi = header.responder_spi if header.flags & HeaderFlag.INITIATOR else header.initiator_spi
        sa = self.other(sender).session._core.ikes.get(spi)
        if sa is not None and encrypted is not None and sa.has_keys and header.exchange_type != ExchangeType.IKE_AUTH:
            payloads = parse_payloads(encrypted.first_payload, sa.open(encrypted, datagram))
            self.heard.append((sender.role, bool(header.flags & HeaderFlag.RESPONSE), payloads))

    def _step(self, timers: bool) -> None:
        now = self.clock.now()
        for role, tagged in self.network.arrived(now):
            source, to = ast.literal_eval(tagged[:80].decode().strip())
            endpoint = self.initiator if role is Role.INITIATOR else self.responder
            self._replying = endpoint, source
            path = AddressPair(to, source) if endpoint.establishment is not None else None
            endpoint.session.handle_datagram(tagged[80:], now, path)
            self.collect()
            self._replying = None
        for endpoint in self.endpoints if timers else ():
            deadline = endpoint.session.next_deadline()
            if deadline is not None and deadline <= now:
                endpoint.session.handle_timeout(now)
        self.collect()

    def move(self, role: Role, to: Address) -> bool:
        """The end has another address from now on, and is told."""
        self.at[role] = to
        endpoint = self.initiator if role is Role.INITIATOR else self.responder
        can = endpoint.session.move(to, self.clock.now())
        self.collect()
        return can

    def said(self, role: Role, *, reply: bool) -> list[list[int]]:
        """The notify types of each INFORMATIONAL message of one end."""
        return [
            [each.notify_type for each in payloads if isinstance(each, Notify)]
            for by, is_reply, payloads in self.heard
            if by is role and is_reply == reply
        ]


UPDATE = [
    NotifyType.UPDATE_SA_ADDRESSES,
    NotifyType.NAT_DETECTION_SOURCE_IP,
    NotifyType.NAT_DETECTION_DESTINATION_IP,
    NotifyType.COOKIE2,
]


def assert_alive(pair: Roaming) -> None:
    assert [each.error for each in pair.endpoints] == [None, None]
    assert [each.closed for each in pair.endpoints] == [None, None]
    assert pair.congruent()
    for each in pair.endpoints:
        assert not any(sa.window.awaiting_reply for sa in each.session._core.ikes.values())


def test_an_initiator_moves_and_the_responder_follows_when_it_has_checked(
    identities: tuple[Identity, Identity],
) -> None:
    pair = Roaming(identities)
    pair.establish()
    assert all(each.session._core.mobility.enabled for each in pair.endpoints)
    spis = [each.outbound.spi for each in pair.endpoints if each.outbound is not None]
    assert pair.move(Role.INITIATOR, I2)
    assert pair.carrier[Role.RESPONDER] == I1
    pair.settle(timeout_s=5)
    assert pair.carrier == {Role.INITIATOR: R, Role.RESPONDER: I2}
    assert pair.said(Role.INITIATOR, reply=False) == [UPDATE]
    assert pair.said(Role.RESPONDER, reply=True)[0] == UPDATE[1:]
    # RFC 4555 3.7: the responder asks at the new address before anything else goes there
    assert pair.said(Role.RESPONDER, reply=False) == [[NotifyType.COOKIE2]]
    assert pair.said(Role.INITIATOR, reply=True) == [[NotifyType.COOKIE2]]
    assert spis == [each.outbound.spi for each in pair.endpoints if each.outbound is not None]
    assert_alive(pair)
    # and everything goes on there: rekeys from either end
    for each in pair.endpoints:
        each.session.rekey_child(pair.clock.now())
        each.session.rekey_ike(pair.clock.now())
    pair.collect()
    pair.settle(timeout_s=30)
    assert_alive(pair)


def test_nothing_is_sent_where_the_peer_has_not_shown_that_it_receives(identities: tuple[Identity, Identity]) -> None:
    """An authenticated peer that says to be somewhere else: COOKIE2 goes there, ESP does not."""
    pair = Roaming(identities)
    pair.establish()
    pair.translate = lambda route: AddressPair(ELSEWHERE, route.peer) if route.our == I1 else route
    assert pair.initiator.session.move(ELSEWHERE, pair.clock.now())
    pair.collect()
    pair.settle(timeout_s=20)
    assert pair.carrier[Role.RESPONDER] == I1
    assert any(each.to == ELSEWHERE for each in pair.responder.actions if isinstance(each, SendDatagram))
    assert not any(isinstance(each, Moved) for each in pair.responder.actions)


def test_a_responder_moves_by_saying_so(identities: tuple[Identity, Identity]) -> None:
    """RFC 4555 3.6: it announces; the initiator decides, and moves ESP when the new address has answered."""
    pair = Roaming(identities)
    pair.establish()
    assert pair.move(Role.RESPONDER, R2)
    pair.settle(timeout_s=5)
    assert pair.said(Role.RESPONDER, reply=False)[0] == [NotifyType.NO_ADDITIONAL_ADDRESSES, NotifyType.COOKIE2]
    assert UPDATE in pair.said(Role.INITIATOR, reply=False)
    assert pair.carrier[Role.INITIATOR] == R2
    assert_alive(pair)


def test_both_ends_move_at_once(identities: tuple[Identity, Identity]) -> None:
    """With further addresses known, each finds the other again."""

    def adapt(config: KeyingConfig) -> KeyingConfig:
        return replace(config, additional_hosts=(R2[0],) if config.role is Role.RESPONDER else ())

    pair = Roaming(identities, adapt=adapt)
    pair.establish()
    pair.move(Role.INITIATOR, I2)
    pair.move(Role.RESPONDER, R2)
    pair.settle(timeout_s=60)
    assert pair.carrier == {Role.INITIATOR: R2, Role.RESPONDER: I2}
    assert_alive(pair)


def test_a_path_that_died_is_left_for_another_address_of_the_responder(identities: tuple[Identity, Identity]) -> None:
    def adapt(config: KeyingConfig) -> KeyingConfig:
        return replace(config, additional_hosts=(R2[0],) if config.role is Role.RESPONDER else ())

    pair = Roaming(identities, adapt=adapt)
    pair.establish()
    assert pair.initiator.session._core.mobility.peer_hosts == (R2[0],)
    pair.at[Role.RESPONDER] = R2
    pair.initiator.session.check_liveness(pair.clock.now())
    pair.collect()
    pair.settle(timeout_s=20)
    assert pair.carrier[Role.INITIATOR] == R2
    assert_alive(pair)


@pytest.mark.parametrize("seed", range(20))
def test_moves_back_and_forth_on_a_bad_line_end_where_the_ends_are(
    identities: tuple[Identity, Identity], seed: int
) -> None:
    network: FakeNetwork[Role] = FakeNetwork(loss=0.2, jitter_s=0.2, duplication=0.2, seed=seed)
    pair = Roaming(identities, network=network)
    pair.establish(timeout_s=300)
    for to in (I2, ELSEWHERE, I1, I2):
        pair.move(Role.INITIATOR, to)
        pair.settle(timeout_s=0.3 * (seed % 5))
        if seed % 3 == 0:
            pair.initiator.session.rekey_ike(pair.clock.now())
            pair.responder.session.rekey_child(pair.clock.now())
            pair.collect()
    network.loss = 0.0
    pair.settle(timeout_s=150)
    assert pair.carrier == {Role.INITIATOR: R, Role.RESPONDER: I2}
    assert_alive(pair)


def test_another_change_while_one_is_being_told_starts_again(identities: tuple[Identity, Identity]) -> None:
    pair = Roaming(identities)
    pair.establish()
    pair.move(Role.INITIATOR, ELSEWHERE)
    pair.move(Role.INITIATOR, I2)
    pair.settle(timeout_s=5)
    assert pair.said(Role.INITIATOR, reply=False).count(UPDATE) >= 2
    assert pair.carrier[Role.RESPONDER] == I2
    assert_alive(pair)


def test_an_address_outside_the_peers_networks_is_refused_and_the_session_ends_where_there_is_no_other(
    identities: tuple[Identity, Identity],
) -> None:
    pair = Roaming(identities, adapt=lambda config: replace(config, peer_networks=("192.0.2.0/24",)))
    pair.establish()
    pair.move(Role.INITIATOR, I2)
    pair.settle(timeout_s=10)
    assert [NotifyType.UNACCEPTABLE_ADDRESSES, NotifyType.COOKIE2] in pair.said(Role.RESPONDER, reply=True)
    assert pair.responder.traces["unacceptable-addresses"] == 1
    assert pair.carrier[Role.RESPONDER] == I1
    assert pair.initiator.closed == "the peer will not have our new address"


def test_without_mobike_nobody_follows(identities: tuple[Identity, Identity]) -> None:
    pair = Roaming(identities, adapt=lambda config: replace(config, mobike=config.role is Role.INITIATOR))
    pair.establish()
    assert not pair.move(Role.INITIATOR, I2)
    assert pair.said(Role.INITIATOR, reply=False) == []


# NATs


def nats_forbidden(config: KeyingConfig) -> KeyingConfig:
    return replace(config, nats_allowed=False)


def rewriting(route: AddressPair) -> AddressPair:
    """A translator on the way out, and back."""
    if route.our in (I1, I2):
        return AddressPair(ELSEWHERE, route.peer)
    return AddressPair(route.our, I2) if route.peer == ELSEWHERE else route


def test_where_nats_are_forbidden_a_move_says_the_addresses_and_goes(identities: tuple[Identity, Identity]) -> None:
    pair = Roaming(identities, adapt=nats_forbidden)
    pair.establish()
    pair.move(Role.INITIATOR, I2)
    pair.settle(timeout_s=5)
    assert NotifyType.NO_NATS_ALLOWED in pair.said(Role.INITIATOR, reply=False)[0]
    assert pair.carrier[Role.RESPONDER] == I2
    assert_alive(pair)


def test_a_move_through_a_forbidden_nat_is_tried_some_times_and_then_the_end(
    identities: tuple[Identity, Identity],
) -> None:
    pair = Roaming(identities, adapt=nats_forbidden)
    pair.establish()
    pair.translate = rewriting
    pair.move(Role.INITIATOR, I2)
    pair.settle(timeout_s=30)
    replies = pair.said(Role.RESPONDER, reply=True)
    assert replies.count([NotifyType.UNEXPECTED_NAT_DETECTED, NotifyType.COOKIE2]) == 12
    assert pair.carrier[Role.RESPONDER] == I1
    assert "forbids NATs" in str(pair.initiator.error)


def test_who_alters_one_packet_does_not_stop_a_move(identities: tuple[Identity, Identity]) -> None:
    """RFC 4555 3.9: hence the repeats."""
    pair = Roaming(identities, adapt=nats_forbidden)
    pair.establish()
    count = 0

    def once(route: AddressPair) -> AddressPair:
        nonlocal count
        count += 1
        return rewriting(route) if count <= 2 else route

    pair.translate = once
    pair.move(Role.INITIATOR, I2)
    pair.settle(timeout_s=30)
    assert pair.initiator.traces["unexpected-nat"] == 1
    assert pair.carrier[Role.RESPONDER] == I2
    assert_alive(pair)


def test_a_forbidden_nat_is_found_when_the_session_begins(identities: tuple[Identity, Identity]) -> None:
    pair = Roaming(identities, adapt=nats_forbidden)
    pair.translate = lambda route: (
        AddressPair(ELSEWHERE, route.peer)
        if route.our == I1
        else AddressPair(route.our, I1)
        if route.peer == ELSEWHERE
        else route
    )
    pair.responder.session._core.mobility.path = AddressPair(R, ELSEWHERE)
    pair.establish(timeout_s=20)
    assert "UNEXPECTED_NAT_DETECTED" in str(pair.initiator.error)
    assert "forbids NATs" in str(pair.responder.error)


def test_a_move_behind_a_nat_is_seen_to_be_one(identities: tuple[Identity, Identity]) -> None:
    pair = Roaming(identities)
    pair.establish()
    pair.translate = rewriting
    pair.move(Role.INITIATOR, I2)
    pair.settle(timeout_s=5)
    for each in pair.endpoints:
        assert [action.translated for action in each.actions if isinstance(action, Moved)][-1] is True
    assert pair.carrier[Role.RESPONDER] == ELSEWHERE
    assert_alive(pair)


def test_a_translator_that_forgets_is_noticed_by_a_question_for_life(identities: tuple[Identity, Identity]) -> None:
    """RFC 4555 3.8."""
    pair = Roaming(identities)
    pair.establish()
    pair.translate = rewriting
    pair.move(Role.INITIATOR, I2)
    pair.settle(timeout_s=5)
    other = ("203.0.113.9", 1000)

    def renewed(route: AddressPair) -> AddressPair:
        if route.our == I2:
            return AddressPair(other, route.peer)
        return AddressPair(route.our, I2) if route.peer == other else route

    pair.translate = renewed
    for _ in range(2):
        pair.initiator.session.check_liveness(pair.clock.now())
        pair.collect()
        pair.settle(timeout_s=5)
    assert pair.initiator.traces["seen-elsewhere"] == 1
    assert pair.carrier[Role.RESPONDER] == other
    assert_alive(pair)


# what a peer may do to us


def _ask(pair: Roaming, *payloads: Payload, source: Address = I1) -> list[int]:
    """An INFORMATIONAL request of the initiator's making; the notifies of the reply."""
    core = pair.initiator.session._core
    assert core.ike is not None
    before = len(pair.heard)
    core.request(core.ike, ExchangeType.INFORMATIONAL, payloads, _Anything(core.ike), pair.clock.now())
    pair.at[Role.INITIATOR] = source
    pair.collect()
    pair.settle(timeout_s=1)
    reply = next(each for each in pair.heard[before:] if each[0] is Role.RESPONDER and each[1])
    return [each.notify_type for each in reply[2] if isinstance(each, Notify)]


class _Anything:
    def __init__(self, sa: IkeSa) -> None:
        self._sa = sa

    def handle_reply(self, opened: Opened, now: float) -> None:
        self._sa.window.reply_received()


def test_a_cookie_is_copied_and_one_of_a_wrong_length_is_not(identities: tuple[Identity, Identity]) -> None:
    pair = Roaming(identities)
    pair.establish()
    assert _ask(pair, Notify(NotifyType.COOKIE2, bytes(8))) == [NotifyType.COOKIE2]
    assert _ask(pair, Notify(NotifyType.COOKIE2, bytes(64))) == [NotifyType.COOKIE2]
    assert _ask(pair, Notify(NotifyType.COOKIE2, bytes(7))) == []
    assert _ask(pair, Notify(NotifyType.COOKIE2, bytes(65))) == []
    assert_alive(pair)


def test_a_request_without_an_update_moves_nobody(identities: tuple[Identity, Identity]) -> None:
    """RFC 4555 3.8: such a request may test whether a path works."""
    pair = Roaming(identities)
    pair.establish()
    assert _ask(pair, *nat_detection(bytes(8), bytes(8), I2, R), source=I2) == [
        NotifyType.NAT_DETECTION_SOURCE_IP,
        NotifyType.NAT_DETECTION_DESTINATION_IP,
    ]
    assert pair.carrier[Role.RESPONDER] == I1


def test_an_update_of_the_responder_is_no_update(identities: tuple[Identity, Identity]) -> None:
    """RFC 4555 3.5: the initiator decides."""
    pair = Roaming(identities)
    pair.establish()
    core = pair.responder.session._core
    assert core.ike is not None
    update = Notify(NotifyType.UPDATE_SA_ADDRESSES)
    core.request(core.ike, ExchangeType.INFORMATIONAL, (update,), _Anything(core.ike), pair.clock.now())
    pair.at[Role.RESPONDER] = R2
    pair.collect()
    pair.settle(timeout_s=1)
    assert pair.carrier[Role.INITIATOR] == R


def test_a_wrong_cookie_closes_the_ike_sa(
    identities: tuple[Identity, Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Roaming(identities)
    pair.establish()
    mangled = pair.initiator.session._core
    original = mangled.reply

    def reply(sa: IkeSa, opened: Opened, payloads: tuple[Payload, ...]) -> tuple[bytes, ...]:
        changed = tuple(
            Notify(NotifyType.COOKIE2, bytes(32)) if isinstance(each, Notify) and each.notify_type == 16401 else each
            for each in payloads
        )
        return original(sa, opened, changed)

    monkeypatch.setattr(mangled, "reply", reply)
    pair.move(Role.INITIATOR, I2)
    pair.settle(timeout_s=5)
    assert "cookie" in str(pair.responder.error)
    assert pair.carrier[Role.RESPONDER] == I1


def test_a_list_of_addresses_is_bounded(identities: tuple[Identity, Identity]) -> None:
    pair = Roaming(identities)
    pair.establish()
    many = [Notify(NotifyType.ADDITIONAL_IP4_ADDRESS, bytes((10, 0, 0, number))) for number in range(50)]
    bad = [Notify(NotifyType.ADDITIONAL_IP6_ADDRESS, bytes(4)), Notify(NotifyType.ADDITIONAL_IP4_ADDRESS, b"")]
    _ask(pair, *bad, *many)
    assert len(pair.responder.session._core.mobility.peer_hosts) == 16
    _ask(pair, Notify(NotifyType.NO_ADDITIONAL_ADDRESSES))
    assert pair.responder.session._core.mobility.peer_hosts == ()
    assert_alive(pair)


@pytest.mark.parametrize("to", [("0.0.0.0", 5), ("224.0.0.1", 5), ("192.0.2.9", 0)])
def test_no_host_is_at_such_an_address(identities: tuple[Identity, Identity], to: Address) -> None:
    pair = Roaming(identities)
    pair.establish()
    pair.move(Role.INITIATOR, to)
    pair.settle(timeout_s=5)
    assert any(isinstance(each, Trace) and each.reason == "unacceptable-addresses" for each in pair.responder.actions)
    assert pair.carrier[Role.RESPONDER] == I1
