"""RFC 5723 between two sessions: a ticket is given, used once after the IKE_SA was lost, and refused for every reason.

What ``resume`` begins is a second pair of sessions with the books of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from securesock.crypto import suites
from securesock.entropy import Entropy
from securesock.errors import AuthenticationFailed, KeyingTimeout
from securesock.identity.identity import Identity
from securesock.keying import tickets
from securesock.keying.contract import KeyingConfig, Role, SendDatagram
from securesock.keying.cookies import CookieJar
from securesock.keying.ikev2.cookie_gate import ask_for_cookie_untrusted
from securesock.keying.tickets import TicketBook
from securesock.policy.negotiation import IkeOffer, main_mode_offers
from securesock.testing import Endpoint, FakeClock, FakeNetwork, Pair, SeededEntropy
from securesock.types import Principal
from securesock.wire.ikev2.message import parse_message_untrusted
from securesock.wire.ikev2.payloads import Notify
from securesock.wire.isakmp import read_header_untrusted
from securesock.wire.numbers import ExchangeType, HeaderFlag, NotifyType

RESUME = ExchangeType.IKE_SESSION_RESUME


@pytest.fixture(scope="module")
def certificates() -> tuple[Identity, Identity]:
    responder = Identity.ephemeral("host/responder.example")
    return Identity.ephemeral("host/initiator.example", authority=responder.authority), responder


@pytest.fixture(scope="module")
def secrets() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


Adapt = Callable[[KeyingConfig], KeyingConfig]


@dataclass
class Ends:
    """Both ends' identities and books, which outlive their sessions."""

    identities: tuple[Identity, Identity]
    ordered: bool = False
    clock: FakeClock | None = None

    def __post_init__(self) -> None:
        self.books = {role: TicketBook(SeededEntropy(f"{role}")) for role in Role}
        self.clock = FakeClock()
        self.count = 0

    def pair(
        self,
        adapt: Adapt = lambda config: config,
        *,
        network: FakeNetwork[Role] | None = None,
        entropy: tuple[Entropy, Entropy] | None = None,
        **more: Any,
    ) -> Pair:
        def configure(config: KeyingConfig) -> KeyingConfig:
            return adapt(replace(config, tickets=self.books[config.role]))

        self.count += 1
        return Pair(
            *self.identities,
            network=network or FakeNetwork(ordered=self.ordered),
            clock=self.clock,
            seed=self.count,
            initiator=configure,
            responder=configure,
            **more,
        )


@pytest.fixture(params=["certificates", "secrets"])
def ends(request: pytest.FixtureRequest) -> Ends:
    return Ends(request.getfixturevalue(request.param))


def exchanges(endpoint: Endpoint) -> list[int]:
    """The types of what it sent, repeats and fragments as one."""
    found = [
        read_header_untrusted(each.data).exchange_type for each in endpoint.actions if isinstance(each, SendDatagram)
    ]
    return [each for at, each in enumerate(found) if at == 0 or found[at - 1] != each]


def lost(ends: Ends, adapt: Adapt = lambda config: config, **more: Any) -> Pair:
    """A pair that was established, whose ends then heard nothing of each other any more."""
    pair = ends.pair(adapt, **more).establish(timeout_s=5)
    assert [each.error for each in pair.endpoints] == [None, None]
    return pair


def assert_resumed(pair: Pair, before: Pair) -> None:
    assert [each.error for each in pair.endpoints] == [None, None]
    assert exchanges(pair.initiator) == [RESUME, ExchangeType.IKE_AUTH]
    assert pair.congruent()
    for now, then in zip(pair.endpoints, before.endpoints, strict=True):
        assert now.establishment is not None
        assert then.establishment is not None
        assert now.establishment.resumed == then.establishment.main_mode_sa_id
        for name in ("our", "peer", "anchor", "main_mode_suite", "flow"):
            assert getattr(now.establishment, name) == getattr(then.establishment, name)
        assert now.outbound is not None
        assert then.outbound is not None
        assert now.outbound.keys != then.outbound.keys


def assert_begun_as_usual(pair: Pair, reason: str = "") -> None:
    assert [each.error for each in pair.endpoints] == [None, None]
    assert ExchangeType.IKE_SA_INIT in exchanges(pair.initiator)
    assert pair.congruent()
    assert all(each.establishment is not None and each.establishment.resumed is None for each in pair.endpoints)
    if reason:
        assert pair.responder.traces[reason] == 1
        assert pair.initiator.traces["ticket-not-taken"] == 1


@pytest.mark.parametrize("ordered", [False, True], ids=["datagrams", "stream"])
def test_a_lost_session_is_resumed_without_certificates_or_a_key_exchange(ends: Ends, ordered: bool) -> None:
    ends.ordered = ordered
    before = lost(ends)
    assert len(ends.books[Role.INITIATOR]) == 1
    again = ends.pair().establish()
    assert_resumed(again, before)
    sent = sum(len(each.data) for each in again.initiator.actions if isinstance(each, SendDatagram))
    full = sum(len(each.data) for each in before.initiator.actions if isinstance(each, SendDatagram))
    assert sent < full * 0.75


def test_a_resumed_session_brings_the_next_ticket(ends: Ends) -> None:
    pair = lost(ends)
    for _ in range(3):
        before, pair = pair, ends.pair().establish()
        assert_resumed(pair, before)
    assert len(ends.books[Role.INITIATOR]) == 1


def test_a_resumed_session_rekeys_with_the_suite_that_was_latched(ends: Ends) -> None:
    before = lost(ends)
    pair = ends.pair().establish()
    for each in pair.endpoints:
        each.session.rekey_ike(pair.clock.now())
        each.session.rekey_child(pair.clock.now())
    pair.collect()
    pair.settle()
    assert pair.initiator.rekeys["ike"] >= 1
    assert pair.congruent()
    assert before.initiator.establishment is not None
    ike = pair.initiator.session._core.ike
    assert ike is not None
    assert ike.suite == before.initiator.establishment.main_mode_suite


# the life of a ticket


def test_a_ticket_is_used_once(ends: Ends) -> None:
    before = lost(ends)
    kept = ends.books[Role.INITIATOR]._kept.copy()
    copies = {
        key: [tickets.KeptTicket(t.ticket, tickets.Secret(t.state), t.expires_at) for t in each]
        for key, each in kept.items()
    }
    assert_resumed(ends.pair().establish(), before)
    ends.books[Role.INITIATOR]._kept.clear()
    ends.books[Role.INITIATOR]._kept.update(copies)
    assert_begun_as_usual(ends.pair().establish(), "ticket-used")


def test_a_ticket_ends_with_its_ike_sa(ends: Ends) -> None:
    """RFC 5723 6.2: when the IKE_SA is deleted by either end."""
    for who in ("initiator", "responder"):
        pair = lost(ends)
        kept = next(iter(ends.books[Role.INITIATOR]._kept.values()))[0]
        ticket = kept.ticket
        getattr(pair, who).session.delete(pair.clock.now())
        pair.collect()
        pair.settle()
        assert len(ends.books[Role.INITIATOR]) == 0
        assert not kept.state
        with pytest.raises(tickets.TicketRefused, match="ticket-used"):
            ends.books[Role.RESPONDER].open_untrusted(ticket, pair.clock.now())
        assert_begun_as_usual(ends.pair().establish())
        ends.books[Role.INITIATOR].renew()


def test_a_ticket_outlives_a_peer_that_stopped_answering(ends: Ends) -> None:
    network: FakeNetwork[Role] = FakeNetwork()
    pair = lost(ends, network=network)
    network.loss = 1.0
    pair.initiator.session.check_liveness(pair.clock.now())
    pair.collect()
    pair.settle(timeout_s=300)
    assert isinstance(pair.initiator.error, KeyingTimeout)
    assert_resumed(ends.pair().establish(), pair)


def test_a_rekey_of_the_ike_sa_voids_the_ticket_and_brings_another(ends: Ends) -> None:
    for who in ("initiator", "responder"):
        pair = lost(ends)
        (kept,) = next(iter(ends.books[Role.INITIATOR]._kept.values()))
        getattr(pair, who).session.rekey_ike(pair.clock.now())
        pair.settle()
        (fresh,) = next(iter(ends.books[Role.INITIATOR]._kept.values()))
        assert fresh.ticket != kept.ticket
        with pytest.raises(tickets.TicketRefused, match="ticket-used"):
            ends.books[Role.RESPONDER].open_untrusted(kept.ticket, pair.clock.now())
        again = ends.pair().establish()
        assert exchanges(again.initiator)[0] == RESUME
        assert again.congruent()
        ends.books[Role.INITIATOR].renew()


def test_a_ticket_runs_out_at_both_ends(ends: Ends) -> None:
    assert ends.clock is not None
    lost(ends)
    ends.clock.advance(tickets.LIFETIME_S - 10)
    (kept,) = next(iter(ends.books[Role.INITIATOR]._kept.values()))
    ticket = kept.ticket
    ends.clock.advance(11)
    with pytest.raises(tickets.TicketRefused, match="ticket-expired"):
        ends.books[Role.RESPONDER].open_untrusted(ticket, ends.clock.now())
    pair = ends.pair().establish()
    assert exchanges(pair.initiator)[0] == ExchangeType.IKE_SA_INIT


def test_a_ticket_lives_no_longer_than_its_ike_sa(ends: Ends) -> None:
    def short(config: KeyingConfig) -> KeyingConfig:
        lifetimes = config.main_mode.lifetimes._replace(seconds=100.0)
        return replace(config, main_mode=replace(config.main_mode, lifetimes=lifetimes))

    assert ends.clock is not None
    begun = ends.clock.now()
    lost(ends, short)
    (kept,) = next(iter(ends.books[Role.INITIATOR]._kept.values()))
    assert kept.expires_at <= begun + 101


def test_whoever_has_no_book_neither_asks_nor_gives(ends: Ends) -> None:
    lost(ends, lambda config: replace(config, tickets=None) if config.role is Role.INITIATOR else config)
    assert len(ends.books[Role.INITIATOR]) == 0
    lost(ends, lambda config: replace(config, tickets=None) if config.role is Role.RESPONDER else config)
    assert len(ends.books[Role.INITIATOR]) == 0
    lost(ends)
    pair = ends.pair(
        lambda config: replace(config, tickets=None) if config.role is Role.RESPONDER else config
    ).establish()
    assert_begun_as_usual(pair, "ticket-unwanted")


def test_an_anonymous_peer_is_given_none(certificates: tuple[Identity, Identity]) -> None:
    """It has proven nothing that could be resumed."""
    anonymous = Identity.anonymous()
    ends = Ends((anonymous, anonymous))
    pair = lost(
        ends,
        lambda config: replace(config, main_mode=replace(config.main_mode, allow_anonymous=True)),
        expected=None,
    )
    assert pair.responder.establishment is not None
    assert len(ends.books[Role.INITIATOR]) == 0


# refusals: each leads to a whole negotiation, which says why


class Refusing:
    pins: tuple[str, ...] = ()

    def refusal(self, principal: Principal) -> str | None:
        return "not today"


def test_a_responder_that_does_not_admit_the_peer_any_more_refuses_it(ends: Ends) -> None:
    lost(ends)
    pair = ends.pair(
        lambda config: replace(config, admission=Refusing()) if config.role is Role.RESPONDER else config
    ).establish()
    assert pair.responder.traces["ticket-of-another"] == 1
    assert isinstance(pair.initiator.error, AuthenticationFailed)


def test_an_initiator_does_not_resume_with_whom_it_does_not_expect(ends: Ends) -> None:
    """The ticket is kept under the name expected; another name is another peer."""
    lost(ends)
    pair = ends.pair(expected="host/another.example").establish()
    assert exchanges(pair.initiator)[0] == ExchangeType.IKE_SA_INIT
    assert isinstance(pair.initiator.error, AuthenticationFailed)


def test_a_policy_that_has_changed_refuses_the_suite_of_before(ends: Ends) -> None:
    lost(ends)
    other = IkeOffer((suites.CHACHA20_POLY1305,), (), (suites.PRF_HMAC_SHA2_512,), (suites.P_256,))

    def changed(config: KeyingConfig) -> KeyingConfig:
        offers = main_mode_offers("hybrid") if config.role is Role.INITIATOR else (other,)
        wide = (*offers, other)
        return replace(config, main_mode=replace(config.main_mode, offers=wide if len(offers) > 1 else offers))

    assert_begun_as_usual(ends.pair(changed).establish(), "ticket-of-other-policy")


def test_a_responder_that_was_started_again_knows_no_ticket(ends: Ends) -> None:
    lost(ends)
    ends.books[Role.RESPONDER].renew()
    assert_begun_as_usual(ends.pair().establish(), "ticket-of-unknown-key")


def test_a_responder_without_rfc_5723_is_begun_with_as_usual(ends: Ends) -> None:
    """It was another implementation yesterday: silence, and then the usual beginning."""
    lost(ends)

    def deaf(to: Role, datagram: bytes) -> Iterable[bytes]:
        return () if read_header_untrusted(datagram).exchange_type == RESUME else (datagram,)

    pair = ends.pair(network=FakeNetwork(tamper=deaf)).establish()
    assert_begun_as_usual(pair)
    assert pair.clock.now() < 1010


@pytest.mark.parametrize("notify", [NotifyType.TICKET_NACK, NotifyType.INVALID_SYNTAX, NotifyType.NO_PROPOSAL_CHOSEN])
def test_who_forges_a_refusal_gains_a_whole_negotiation(ends: Ends, notify: NotifyType) -> None:
    from securesock.wire.ikev2.message import write_message

    lost(ends)
    network: FakeNetwork[Role] = FakeNetwork()

    def forge(to: Role, datagram: bytes) -> Iterable[bytes]:
        header = read_header_untrusted(datagram)
        if to is Role.RESPONDER and header.exchange_type == RESUME:
            forged = write_message(header.initiator_spi, bytes(8), RESUME, HeaderFlag.RESPONSE, 0, (Notify(notify),))
            network.send(Role.INITIATOR, forged, 0.0)
            return ()
        return (datagram,)

    network.tamper = forge
    assert_begun_as_usual(ends.pair(network=network).establish())


def test_cookies_are_asked_for_here_too(ends: Ends) -> None:
    before = lost(ends)
    network: FakeNetwork[Role] = FakeNetwork()
    jar = CookieJar(SeededEntropy("jar"), 0.0)
    asked: list[bytes] = []

    def gate(to: Role, datagram: bytes) -> Iterable[bytes]:
        if to is Role.RESPONDER and read_header_untrusted(datagram).exchange_type == RESUME:
            reply = ask_for_cookie_untrusted(datagram, jar, ("192.0.2.1", 40000), 0.0)
            if reply is not None:
                asked.append(reply)
                network.send(Role.INITIATOR, reply, before.clock.now())
                return ()
        return (datagram,)

    network.tamper = gate
    pair = ends.pair(network=network).establish()
    assert len(asked) == 1
    assert read_header_untrusted(asked[0]).exchange_type == RESUME
    assert_resumed(pair, before)


# whoever has a ticket and not its keys


def _stolen(ends: Ends) -> bytes:
    (kept,) = next(iter(ends.books[Role.INITIATOR]._kept.values()))
    return kept.ticket


def test_a_stolen_ticket_is_worth_nothing_and_does_not_use_up_the_owners(ends: Ends) -> None:
    """RFC 5723 9.1: seen on the wire, shown by somebody else first."""
    before = lost(ends)
    book = ends.books[Role.INITIATOR]
    (key,) = book._kept
    state = bytearray(book._kept[key][0].state.reveal())
    thief = TicketBook(SeededEntropy("thief"))
    state[60] ^= 1  # of SK_d, somewhere behind the proposal
    wrong = next(at for at in range(len(state)) if bytes(state)[at : at + 2] == b"\x00\x20")
    state[wrong + 5] ^= 0xFF
    thief.keep(key, tickets.KeptTicket(_stolen(ends), tickets.Secret(bytes(state)), 1e9))
    pair = ends.pair(lambda config: replace(config, tickets=thief) if config.role is Role.INITIATOR else config)
    pair.establish(timeout_s=20)
    assert pair.responder.establishment is None
    assert_resumed(ends.pair().establish(), before)


def test_no_certificate_goes_with_a_resumption(certificates: tuple[Identity, Identity]) -> None:
    ends = Ends(certificates)
    before = lost(ends)
    pair = ends.pair().establish()
    assert_resumed(pair, before)
    assert max(len(each.data) for each in pair.initiator.actions if isinstance(each, SendDatagram)) < 1229
    first = next(each.data for each in pair.initiator.actions if isinstance(each, SendDatagram))
    message = parse_message_untrusted(first)
    assert {type(each).__name__ for each in message.payloads} == {"Nonce", "Notify"}


def test_the_keys_are_as_the_standard_derives_them(secrets: tuple[Identity, Identity]) -> None:
    """RFC 5723 5.1, reckoned here with hmac alone."""
    import hmac

    ends = Ends(secrets)
    before = lost(ends)
    old = before.initiator.session._core.ike
    assert old is not None
    old_sk_d = old.keys.sk_d
    pair = ends.pair().establish()
    ike = pair.initiator.session._core.ike
    assert ike is not None
    digest = {32: "sha256", 48: "sha384", 64: "sha512"}[ike.suite.prf.output_length]
    nonces = []
    for endpoint in pair.endpoints:
        first = parse_message_untrusted(next(e.data for e in endpoint.actions if isinstance(e, SendDatagram)))
        nonces.append(next(each.data for each in first.payloads if type(each).__name__ == "Nonce"))
    skeyseed = hmac.digest(old_sk_d, b"Resumption" + nonces[0] + nonces[1], digest)
    seed = nonces[0] + nonces[1] + ike.initiator_spi + ike.responder_spi
    assert ike.keys.sk_d == hmac.digest(skeyseed, seed + b"\x01", digest)
