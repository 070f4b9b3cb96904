"""What ends an IKE_SA and what is only news: RFC 7296 2.5, 2.21.2 and 2.21.3."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from securesock.crypto import suites
from securesock.errors import AuthenticationFailed, PeerIncompatible, PeerMisbehaved, PolicyRefused, SecureSocketError
from securesock.identity.authority import Authority
from securesock.identity.identity import Identity
from securesock.keying.contract import KeyingConfig, SendDatagram
from securesock.keying.ikev2 import init
from securesock.policy.negotiation import ChildOffer
from securesock.testing import Pair
from securesock.wire.ikev2.message import parse_message_untrusted, parse_payloads
from securesock.wire.ikev2.payloads import Delete, Notify, Payload, UnknownPayload
from securesock.wire.numbers import ExchangeType, NotifyType, ProtocolId
from tests.support.hostile import Hostile, core_of


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


def last_words(pair: Pair) -> tuple[Payload, ...]:
    """The payloads of the initiator's last message, opened with the responder's keys."""
    datagram = [each.data for each in pair.initiator.actions if isinstance(each, SendDatagram)][-1]
    encrypted = parse_message_untrusted(datagram).encrypted
    sa = core_of(pair.responder).ike
    assert encrypted is not None
    assert sa is not None
    return parse_payloads(encrypted.first_payload, sa.open(encrypted, datagram))


@pytest.mark.parametrize(
    "notify_type", [NotifyType.INVALID_SPI, NotifyType.INVALID_SELECTORS, NotifyType.TEMPORARY_FAILURE, 3333]
)
def test_a_report_of_a_problem_is_counted_and_ends_nothing(
    identities: tuple[Identity, Identity], notify_type: int
) -> None:
    """RFC 7296 2.21.4: the recipient MUST NOT change the state of any SAs as a result."""
    pair = Pair(*identities).establish()
    assert Hostile(pair).ask(ExchangeType.INFORMATIONAL, (Notify(notify_type, b"\0\0\1\0"),)) == ()
    assert pair.responder.error is None
    assert pair.responder.traces["peer-reports-error"] == 1
    pair.initiator.session.rekey_child(pair.clock.now())
    pair.settle()
    assert pair.congruent()


@pytest.mark.parametrize(
    ("notify_type", "error"),
    [
        (NotifyType.AUTHENTICATION_FAILED, AuthenticationFailed),
        (NotifyType.INVALID_SYNTAX, PeerMisbehaved),
        (NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, PeerIncompatible),
    ],
)
def test_a_refusal_of_what_we_proved_ends_the_connection(
    identities: tuple[Identity, Identity], notify_type: NotifyType, error: type[SecureSocketError]
) -> None:
    pair = Pair(*identities).establish()
    assert Hostile(pair).ask(ExchangeType.INFORMATIONAL, (Notify(notify_type),)) == ()
    assert type(pair.responder.error) is error


@pytest.mark.parametrize(
    ("notify_type", "error"),
    [(NotifyType.NO_PROPOSAL_CHOSEN, PeerIncompatible), (NotifyType.AUTHORIZATION_FAILED, PolicyRefused)],
)
def test_a_delete_with_its_reason_ends_the_connection_for_that_reason(
    identities: tuple[Identity, Identity], notify_type: NotifyType, error: type[SecureSocketError]
) -> None:
    pair = Pair(*identities).establish()
    hostile = Hostile(pair)
    assert hostile.ask(ExchangeType.INFORMATIONAL, (Notify(notify_type), Delete(ProtocolId.IKE))) == ()
    assert type(pair.responder.error) is error


def test_an_initiator_whose_child_sa_was_refused_deletes_the_ike_sa(identities: tuple[Identity, Identity]) -> None:
    """RFC 7296 2.21.2: a refused CHILD_SA leaves the IKE_SA standing, so that it takes a DELETE to end it."""

    def only_chacha(config: KeyingConfig) -> KeyingConfig:
        offers = (ChildOffer((suites.CHACHA20_POLY1305,)),)
        return replace(config, quick_mode=replace(config.quick_mode, offers=offers))

    def only_gcm(config: KeyingConfig) -> KeyingConfig:
        offers = (ChildOffer((suites.AES_256_GCM_16,)),)
        return replace(config, quick_mode=replace(config.quick_mode, offers=offers))

    pair = Pair(*identities, initiator=only_gcm, responder=only_chacha).establish()
    assert isinstance(pair.initiator.error, PeerIncompatible)
    assert last_words(pair) == (Notify(NotifyType.NO_PROPOSAL_CHOSEN), Delete(ProtocolId.IKE))


def test_an_initiator_that_is_not_convinced_says_so_and_no_more(identities: tuple[Identity, Identity]) -> None:
    """RFC 7296 2.21.2: AUTHENTICATION_FAILED ends the IKE_SA without a DELETE."""
    initiator = Identity.from_psk(
        name="initiator.example", peers={"responder.example": b"s" * 32, "other.example": b"s" * 32}
    )
    other = Identity.from_psk(name="other.example", peers={"initiator.example": b"s" * 32})
    pair = Pair(initiator, other).establish()
    assert isinstance(pair.initiator.error, AuthenticationFailed)
    assert last_words(pair) == (Notify(NotifyType.AUTHENTICATION_FAILED),)


def test_a_critical_payload_that_we_do_not_know_refuses_that_request_alone(
    identities: tuple[Identity, Identity],
) -> None:
    pair = Pair(*identities).establish()
    reply = Hostile(pair).ask(ExchangeType.INFORMATIONAL, (UnknownPayload(222, True, b"?"),))
    assert reply == (Notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xde"),)
    assert pair.responder.error is None
    assert Hostile(pair).ask(ExchangeType.INFORMATIONAL, (UnknownPayload(222, False, b"?"),)) == ()
    pair.initiator.session.rekey_child(pair.clock.now())
    pair.settle()
    assert pair.congruent()


def test_an_unknown_exchange_is_refused(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities).establish()
    hostile = Hostile(pair)
    assert hostile.ask(ExchangeType.IKE_SESSION_RESUME, ()) == (Notify(NotifyType.INVALID_SYNTAX),)
    assert pair.responder.traces["refused-request"] == 1


def test_a_responder_that_cannot_sign_for_this_initiator_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Ed25519 key, and an initiator that did not announce the Identity hash (RFC 8420 2)."""
    authority = Authority.create("authority")
    key = Ed25519PrivateKey.generate()
    issued = authority.issue(["host/responder.example"], public_key=key.public_key())
    responder = Identity.from_pem(
        issued.certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        trust=authority.pem,
    )
    initiator = Identity.ephemeral("host/initiator.example", authority=authority)
    pair = Pair(initiator, responder)
    with monkeypatch.context() as patched:
        sha2_256_alone = Notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, b"\0\2")
        patched.setattr(init, "SIGNATURE_HASHES", sha2_256_alone)
        pair.initiator.session.handle_acquire(pair.clock.now())
    pair.settle()
    assert isinstance(pair.responder.error, PeerIncompatible)
    assert isinstance(pair.initiator.error, AuthenticationFailed)
