"""From settings, names and addresses to one negotiation."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from securesock.crypto.suites import AES_256_GCM_16, HMAC_SHA2_256_128, NULL
from securesock.engine.asking import (
    check_offers,
    check_settings,
    expected_peer,
    name_of_host,
    numeric_address,
    read_admission,
    read_public_addresses,
)
from securesock.engine.connect import accepting, connecting
from securesock.engine.context import SecurityContext
from securesock.errors import LocalMisuse
from securesock.identity.identity import Identity
from securesock.keying.admission import AdmitAnyTrusted
from securesock.keying.contract import Role
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE, ChildOffer
from securesock.types import ANY_TRUSTED_PEER, IPsecSettings, Lifetimes, SecuritySettings

_OUR, _PEER = ("192.0.2.1", 40000), ("198.51.100.7", 443)


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.from_psk("a.example", {"b.example": bytes(range(16))})


def test_the_initiator_expects_the_name_and_carries_its_addresses(identity: Identity) -> None:
    config = connecting(
        SecurityContext(identity), SecuritySettings(), expected_peer("host/b.example"), _OUR, _PEER, 5.0
    )
    assert config.role is Role.INITIATOR
    assert str(config.expected_peer) == "host/b.example"
    assert (config.our_address, config.peer_address, config.wall_offset_s) == (_OUR, _PEER, 5.0)


def test_an_initiator_that_expects_nobody_is_misuse(identity: Identity) -> None:
    with pytest.raises(LocalMisuse):
        connecting(SecurityContext(identity), SecuritySettings(), None, _OUR, _PEER, 0.0)


def test_the_responder_expects_nobody_in_particular(identity: Identity) -> None:
    config = accepting(
        SecurityContext(identity), SecuritySettings(), _OUR, _PEER, 0.0, AdmitAnyTrusted(), (("203.0.113.1", 443),)
    )
    assert config.role is Role.RESPONDER
    assert config.expected_peer is None
    assert config.public_addresses == (("203.0.113.1", 443),)


def test_any_trusted_peer_is_said_aloud() -> None:
    assert expected_peer(ANY_TRUSTED_PEER) is ANY_TRUSTED_PEER


@pytest.mark.parametrize(
    ("host", "form"), [("db.example.", "fqdn"), ("192.0.2.1", "address"), ("fe80::1%lo", "address")]
)
def test_without_a_name_the_host_is_what_must_be_proven(host: str, form: str) -> None:
    assert name_of_host(host).form == form


def test_without_a_host_there_is_nothing_to_prove() -> None:
    with pytest.raises(LocalMisuse):
        name_of_host("")


def test_guarantee_encryption_leaves_suites_with_a_cipher_only(identity: Identity) -> None:
    integrity_only = ChildOffer((NULL,), (HMAC_SHA2_256_128,))
    policy = replace(DEFAULT_QUICK_MODE, offers=(integrity_only, ChildOffer((AES_256_GCM_16,))))
    context = SecurityContext(identity, quick_mode=policy)
    asked = connecting(context, SecuritySettings(guarantee_encryption=True), ANY_TRUSTED_PEER, _OUR, _PEER, 0.0)
    assert asked.quick_mode.offers == (ChildOffer((AES_256_GCM_16,)),)
    unasked = connecting(context, SecuritySettings(), ANY_TRUSTED_PEER, _OUR, _PEER, 0.0)
    assert unasked.quick_mode is policy


def test_guarantee_encryption_with_nothing_to_offer_is_misuse(identity: Identity) -> None:
    policy = replace(DEFAULT_QUICK_MODE, offers=(ChildOffer((NULL,), (HMAC_SHA2_256_128,)),))
    context = SecurityContext(identity, quick_mode=policy)
    check_offers(context, SecuritySettings())
    with pytest.raises(LocalMisuse, match="cipher"):
        check_offers(context, SecuritySettings(guarantee_encryption=True))


@pytest.mark.parametrize(
    "settings",
    [
        IPsecSettings(main_mode_policy=uuid4()),
        IPsecSettings(quick_mode_policy=uuid4()),
        IPsecSettings(domain_name="EXAMPLE"),
        IPsecSettings(password="secret"),
    ],
)
def test_a_setting_that_would_be_ignored_is_misuse_and_shows_no_password(settings: IPsecSettings) -> None:
    with pytest.raises(LocalMisuse) as caught:
        check_settings(settings)
    assert "secret" not in str(caught.value)


def test_settings_without_such_wishes_pass() -> None:
    check_settings(SecuritySettings(allow_insecure=True))
    check_settings(IPsecSettings(guarantee_encryption=True, skip_filter_instantiation=True))


@pytest.mark.parametrize(
    ("address", "numeric"),
    [
        (("::ffff:192.0.2.1", 80, 0, 0), ("192.0.2.1", 80)),
        (("fe80::1%eth0", 80, 0, 3), ("fe80::1", 80)),
        (("2001:DB8::1", 80, 0, 0), ("2001:db8::1", 80)),
    ],
)
def test_addresses_are_what_both_ends_can_see(address: tuple[str, int, int, int], numeric: tuple[str, int]) -> None:
    assert numeric_address(address) == numeric


@pytest.mark.parametrize(
    "address", [("db.example", 80), ("192.0.2.1", 0), ("192.0.2.1", 65536), ("192.0.2.1",), "192.0.2.1", ("", 80), 5]
)
def test_a_public_address_that_is_none_is_misuse(address: object) -> None:
    with pytest.raises(LocalMisuse):
        read_public_addresses([address])


def test_public_addresses_are_kept_in_numeric_form() -> None:
    assert read_public_addresses([("2001:DB8::1", 443)]) == (("2001:db8::1", 443),)


def test_without_a_list_any_trusted_principal_is_admitted() -> None:
    assert isinstance(read_admission(None), AdmitAnyTrusted)


@pytest.mark.parametrize("wrong", [{"plane": "carrier pigeon"}, {"key_exchange": "none"}])
def test_a_context_refuses_what_it_does_not_know(identity: Identity, wrong: dict[str, str]) -> None:
    with pytest.raises(LocalMisuse):
        SecurityContext(identity, **wrong)


def test_a_main_mode_policy_of_ones_own_names_its_key_exchanges_itself(identity: Identity) -> None:
    own = replace(DEFAULT_MAIN_MODE, lifetimes=Lifetimes(60.0, 1 << 30, 1 << 20))
    assert SecurityContext(identity, main_mode=own).main_mode is own
    with pytest.raises(LocalMisuse):
        SecurityContext(identity, main_mode=own, key_exchange="classical")


def test_hybrid_required_offers_nothing_without_ml_kem(identity: Identity) -> None:
    offers = SecurityContext(identity, key_exchange="hybrid-required").main_mode.offers
    assert offers
    assert all(offer.additional for offer in offers)


def test_classical_offers_no_ml_kem(identity: Identity) -> None:
    offers = SecurityContext(identity, key_exchange="classical").main_mode.offers
    assert offers
    assert not any(offer.additional for offer in offers)


def test_a_context_is_frozen(identity: Identity) -> None:
    with pytest.raises(AttributeError):
        SecurityContext(identity).plane = "kernel"
