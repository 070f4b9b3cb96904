"""Two IKEv2 machines come to an agreement, or each says why not: no sockets, no real time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from securesock.crypto import suites
from securesock.crypto.suites import Encryption, Integrity, KeyExchangeMethod, Prf
from securesock.errors import AuthenticationFailed, LocalMisuse, PeerIncompatible, PolicyRefused, SecureSocketError
from securesock.identity.identity import Identity
from securesock.keying.contract import KeyingConfig, SendDatagram
from securesock.policy import negotiation
from securesock.policy.negotiation import ChildOffer, IkeOffer, available_offers, main_mode_offers
from securesock.testing import FakeNetwork, Pair
from securesock.types import ANY_TRUSTED_PEER, Principal
from securesock.wire.isakmp import read_header_untrusted
from securesock.wire.numbers import ExchangeType

AEADS = (suites.AES_256_GCM_16, suites.AES_128_GCM_16, suites.CHACHA20_POLY1305)
CBCS = (suites.AES_256_CBC, suites.AES_128_CBC)
INTEGRITIES = (suites.HMAC_SHA2_256_128, suites.HMAC_SHA2_384_192, suites.HMAC_SHA2_512_256)
PRFS = (suites.PRF_HMAC_SHA2_256, suites.PRF_HMAC_SHA2_384, suites.PRF_HMAC_SHA2_512)
METHODS = (suites.X25519, suites.P_256, suites.P_384, suites.P_521, suites.MODP_2048)
COMBINATIONS = [
    *((each, None, PRFS[0], METHODS[0]) for each in AEADS),
    *((CBCS[n % 2], each, PRFS[n], METHODS[0]) for n, each in enumerate(INTEGRITIES)),
    *((AEADS[0], None, each, METHODS[1]) for each in PRFS),
    *((AEADS[1], None, PRFS[1], each) for each in METHODS),
]


def certificates() -> tuple[Identity, Identity]:
    responder = Identity.ephemeral("host/responder.example")
    return Identity.ephemeral("host/initiator.example", authority=responder.authority), responder


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    return certificates()


def only(*offers: IkeOffer):
    return lambda config: replace(config, main_mode=replace(config.main_mode, offers=offers))


def exchanges(pair: Pair) -> list[int]:
    sent = [each.data for each in pair.initiator.actions if isinstance(each, SendDatagram)]
    return [read_header_untrusted(each).exchange_type for each in sent]


@pytest.mark.parametrize(
    ("encryption", "integrity", "prf", "method"), COMBINATIONS, ids=lambda each: getattr(each, "name", "-")
)
def test_every_suite_is_agreed_on_and_protects_both_directions(
    identities: tuple[Identity, Identity],
    encryption: Encryption,
    integrity: Integrity | None,
    prf: Prf,
    method: KeyExchangeMethod,
) -> None:
    integrities = () if integrity is None else (integrity,)
    offer = IkeOffer((encryption,), integrities, (prf,), (method,))

    def configure(config: KeyingConfig) -> KeyingConfig:
        quick = replace(config.quick_mode, offers=(ChildOffer((encryption,), integrities),))
        return replace(only(offer)(config), quick_mode=quick)

    pair = Pair(*identities, initiator=configure, responder=configure).establish()
    assert pair.initiator.session.established
    assert pair.responder.session.established
    assert pair.congruent()
    establishment = pair.responder.establishment
    assert establishment is not None
    suite = establishment.main_mode_suite
    assert (suite.encryption, suite.integrity, suite.prf, suite.key_exchange) == (encryption, integrity, prf, method)
    assert establishment.quick_mode_suite.encryption == encryption
    assert establishment.quick_mode_suite.esn


def test_each_end_knows_whom_the_other_proved_to_be(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities).establish()
    ours, peers = pair.initiator.establishment, pair.responder.establishment
    assert ours is not None
    assert peers is not None
    assert (ours.peer.name, ours.our.name) == ("host/responder.example", "host/initiator.example")
    assert (peers.peer.name, peers.our.name) == ("host/initiator.example", "host/responder.example")
    assert ours.peer.method == peers.peer.method == "x509"
    assert ours.flow == peers.flow
    assert not ours.translated
    assert not peers.translated


def test_ml_kem_is_used_when_both_ends_have_it(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities).establish()
    assert exchanges(pair) == [ExchangeType.IKE_SA_INIT, ExchangeType.IKE_INTERMEDIATE, ExchangeType.IKE_AUTH]
    assert pair.initiator.establishment is not None
    assert pair.initiator.establishment.main_mode_suite.additional_key_exchanges == (suites.ML_KEM_768,)


def test_the_fallback_from_ml_kem_is_the_responders_choice_in_the_same_exchange(
    identities: tuple[Identity, Identity],
) -> None:
    pair = Pair(*identities, responder=only(*main_mode_offers("classical"))).establish()
    assert exchanges(pair) == [ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH]
    assert pair.initiator.establishment is not None
    assert pair.initiator.establishment.main_mode_suite.additional_key_exchanges == ()


@pytest.mark.parametrize("who", ["initiator", "responder"])
def test_ends_with_different_libraries_agree_on_what_both_can_do(
    identities: tuple[Identity, Identity], who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default policy names ML-KEM; on a machine that cannot do it, nothing of the sort is offered or accepted."""
    available_offers.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(negotiation, "is_available", lambda method: method not in (suites.ML_KEM_768, suites.X25519))
        older = Pair(*identities)
    available_offers.cache_clear()
    pair = Pair(*identities)
    setattr(pair, who, getattr(older, who))
    pair.establish()
    assert pair.congruent()
    assert pair.initiator.establishment is not None
    suite = pair.initiator.establishment.main_mode_suite
    assert (suite.key_exchange, suite.additional_key_exchanges) == (suites.P_256, ())


def test_a_policy_of_which_this_machine_can_do_nothing_is_refused_before_anything_is_sent(
    identities: tuple[Identity, Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(negotiation, "is_available", lambda method: method != suites.ML_KEM_768)
    available_offers.cache_clear()
    required = only(IkeOffer(AEADS, (), PRFS, (suites.X25519,), (suites.ML_KEM_768,)))
    with pytest.raises(LocalMisuse, match="ML-KEM-768"):
        Pair(*identities, initiator=required)


@pytest.mark.parametrize("who", ["initiator", "responder"])
def test_required_ml_kem_refuses_a_peer_without(identities: tuple[Identity, Identity], who: str) -> None:
    other = "responder" if who == "initiator" else "initiator"
    pair = Pair(
        *identities,
        **{who: only(*main_mode_offers("hybrid-required")), other: only(*main_mode_offers("classical"))},
    ).establish()
    assert isinstance(pair.initiator.error, PeerIncompatible)
    assert isinstance(pair.responder.error, PeerIncompatible)
    assert pair.initiator.outbound is None


def test_another_group_is_asked_for_and_given(identities: tuple[Identity, Identity]) -> None:
    p384 = IkeOffer(AEADS, (), PRFS, (suites.P_384,))
    pair = Pair(*identities, initiator=only(*main_mode_offers("classical")), responder=only(p384)).establish()
    assert exchanges(pair) == [ExchangeType.IKE_SA_INIT, ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH]
    assert pair.congruent()
    assert pair.initiator.establishment is not None
    assert pair.initiator.establishment.main_mode_suite.key_exchange == suites.P_384


def test_nothing_in_common_ends_both_as_incompatible(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(
        *identities,
        initiator=only(IkeOffer((suites.AES_256_GCM_16,), (), PRFS, (suites.X25519,))),
        responder=only(IkeOffer((suites.AES_128_GCM_16,), (), PRFS, (suites.X25519,))),
    ).establish()
    assert isinstance(pair.initiator.error, PeerIncompatible)
    assert isinstance(pair.responder.error, PeerIncompatible)


def test_nothing_in_common_for_esp_leaves_no_sa(identities: tuple[Identity, Identity]) -> None:
    def esp(encryption: Encryption):
        return lambda config: replace(
            config, quick_mode=replace(config.quick_mode, offers=(ChildOffer((encryption,)),))
        )

    pair = Pair(*identities, initiator=esp(suites.AES_256_GCM_16), responder=esp(suites.CHACHA20_POLY1305)).establish()
    assert isinstance(pair.initiator.error, PeerIncompatible)
    assert isinstance(pair.responder.error, PeerIncompatible)
    assert not pair.responder.inbound


# who is who


@pytest.mark.parametrize(
    "expected", ["host/responder.example", "responder.example", "RESPONDER.example", ANY_TRUSTED_PEER]
)
def test_the_expected_name_is_proven(identities: tuple[Identity, Identity], expected: str) -> None:
    pair = Pair(*identities, expected=expected).establish()
    assert pair.initiator.session.established


def test_another_name_than_expected_fails_on_both_ends(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities, expected="host/other.example").establish()
    assert isinstance(pair.initiator.error, AuthenticationFailed)
    assert isinstance(pair.responder.error, AuthenticationFailed)
    assert pair.initiator.outbound is None


def test_an_initiator_of_another_authority_is_refused_before_any_child(identities: tuple[Identity, Identity]) -> None:
    responder = identities[1]
    stranger = Identity.ephemeral("host/initiator.example", trust=[responder.authority])
    pair = Pair(stranger, responder).establish()
    assert isinstance(pair.responder.error, AuthenticationFailed)
    assert isinstance(pair.initiator.error, AuthenticationFailed)
    assert not pair.responder.inbound


def test_a_responder_of_another_authority_is_refused_and_told(identities: tuple[Identity, Identity]) -> None:
    initiator = identities[0]
    stranger = Identity.ephemeral("host/responder.example", trust=[initiator.authority or identities[1].authority])
    pair = Pair(initiator, stranger).establish()
    assert isinstance(pair.initiator.error, AuthenticationFailed)
    assert isinstance(pair.responder.error, AuthenticationFailed)
    assert pair.initiator.outbound is None


def test_who_is_not_admitted_is_refused_inside_the_encrypted_reply(identities: tuple[Identity, Identity]) -> None:
    class Nobody:
        pins = ()

        def refusal(self, principal: Principal) -> str | None:
            return f"{principal.name} is not on the list"

    pair = Pair(*identities, responder=lambda config: replace(config, admission=Nobody())).establish()
    assert isinstance(pair.initiator.error, AuthenticationFailed)
    assert isinstance(pair.responder.error, PolicyRefused)
    assert not pair.responder.inbound


def psk(secret: bytes = b"s" * 32) -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": secret}),
    )


def test_a_pre_shared_key_proves_both_ends() -> None:
    pair = Pair(*psk()).establish()
    assert pair.congruent()
    assert pair.responder.establishment is not None
    assert pair.responder.establishment.peer == Principal("host/initiator.example", "machine", "psk")


def test_pre_shared_keys_that_differ_fail_on_both_ends() -> None:
    pair = Pair(*psk(b"t" * 32)).establish()
    assert isinstance(pair.initiator.error, AuthenticationFailed)
    assert isinstance(pair.responder.error, AuthenticationFailed)


def test_a_pre_shared_key_for_nobody_we_know_fails() -> None:
    initiator, _ = psk()
    responder = Identity.from_psk(name="responder.example", peers={"somebody.example": b"s" * 32})
    pair = Pair(initiator, responder).establish()
    assert isinstance(pair.responder.error, AuthenticationFailed)
    assert isinstance(pair.initiator.error, AuthenticationFailed)


# where who is


def test_an_initiator_that_sees_other_addresses_without_saying_so_is_refused(
    identities: tuple[Identity, Identity],
) -> None:
    """NAT_DETECTION that fits and selectors that do not are a lie."""
    pair = Pair(*identities)

    def forge(config: KeyingConfig) -> KeyingConfig:
        return replace(config, peer_address=("192.0.2.2", 7001))

    other = Pair(*identities, initiator=forge)
    other.establish()
    assert other.responder.establishment is not None
    assert other.responder.establishment.translated
    assert other.responder.establishment.flow.responder_port == 7001
    assert pair.establish().responder.establishment.translated is False


def test_public_addresses_refuse_a_flow_meant_for_elsewhere(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(
        *identities,
        initiator=lambda config: replace(config, peer_address=("198.51.100.7", 443)),
        responder=lambda config: replace(config, public_addresses=(("198.51.100.7", 7000),)),
    ).establish()
    assert isinstance(pair.initiator.error, PeerIncompatible)
    assert isinstance(pair.responder.error, PeerIncompatible)


def test_public_addresses_admit_the_flow_meant_for_them(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(
        *identities,
        initiator=lambda config: replace(config, peer_address=("198.51.100.7", 443)),
        responder=lambda config: replace(config, public_addresses=(("198.51.100.7", 443),)),
    ).establish()
    assert pair.congruent()
    assert pair.responder.establishment is not None
    assert pair.responder.establishment.flow.responder_host == "198.51.100.7"


def test_a_dual_stack_listener_meets_an_ipv4_client(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(
        *identities,
        responder=lambda config: replace(
            config, our_address=("::ffff:192.0.2.2", 7000, 0, 0), peer_address=("::ffff:192.0.2.1", 40000, 0, 0)
        ),
    ).establish()
    assert pair.congruent()
    assert pair.responder.establishment is not None
    assert not pair.responder.establishment.translated


# machines without I/O


def test_the_same_inputs_time_and_entropy_give_the_same_bytes() -> None:
    """Pre-shared keys and X25519: nothing here is drawn inside the crypto library."""

    def sent() -> list[bytes]:
        pair = Pair(*psk(), seed=7, initiator=only(*main_mode_offers("classical"))).establish()
        pair.initiator.session.rekey_child(pair.clock.now())
        pair.settle()
        pair.responder.session.rekey_ike(pair.clock.now())
        pair.settle()
        return [each.data for end in pair.endpoints for each in end.actions if isinstance(each, SendDatagram)]

    first = sent()
    assert len(first) > 8
    assert first == sent()


@pytest.mark.parametrize("seed", range(40))
def test_a_lossy_reordering_network_is_survived(identities: tuple[Identity, Identity], seed: int) -> None:
    network = FakeNetwork(jitter_s=0.3, loss=0.25, duplication=0.2, seed=seed)
    pair = Pair(*identities, network=network, seed=seed).establish(timeout_s=300)
    errors: list[SecureSocketError | None] = [each.error for each in pair.endpoints]
    assert errors == [None, None]
    assert pair.congruent()


# NULL authentication (RFC 7619)


def allow_anonymous(config: KeyingConfig) -> KeyingConfig:
    return replace(config, main_mode=replace(config.main_mode, allow_anonymous=True))


def test_an_anonymous_initiator_needs_a_policy_that_allows_it(identities: tuple[Identity, Identity]) -> None:
    responder = identities[1]
    anonymous = Identity.anonymous(trust=[responder.authority])
    refused = Pair(anonymous, responder).establish()
    assert isinstance(refused.responder.error, AuthenticationFailed)
    assert isinstance(refused.initiator.error, AuthenticationFailed)
    allowed = Pair(anonymous, responder, responder=allow_anonymous).establish()
    assert allowed.congruent()
    assert allowed.responder.establishment is not None
    assert allowed.responder.establishment.peer == Principal("anonymous", "machine", "anonymous")
    assert allowed.initiator.establishment is not None
    assert allowed.initiator.establishment.peer.name == "host/responder.example"


@pytest.mark.parametrize("expected", ["host/responder.example", ANY_TRUSTED_PEER])
def test_an_anonymous_responder_satisfies_no_expectation(identities: tuple[Identity, Identity], expected: str) -> None:
    anonymous = Identity.anonymous(trust=[identities[1].authority])
    pair = Pair(identities[0], anonymous, expected=expected, initiator=allow_anonymous).establish()
    assert isinstance(pair.initiator.error, AuthenticationFailed)
    assert pair.initiator.outbound is None
