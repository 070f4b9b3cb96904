"""Which key exchanges the policies come down to on a machine whose cryptography lacks some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from securesock.crypto import suites
from securesock.crypto.suites import KeyExchangeMethod
from securesock.errors import LocalMisuse
from securesock.policy import negotiation
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, IkeOffer, available_offers, main_mode_offers

Lack = Callable[..., None]
AEADS, PRFS = (suites.AES_256_GCM_16,), (suites.PRF_HMAC_SHA2_256,)


@pytest.fixture
def lack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lack]:
    """Make this machine's cryptography lack some methods; what is remembered of it ends with the test."""

    def without(*methods: KeyExchangeMethod) -> None:
        monkeypatch.setattr(negotiation, "is_available", lambda method: method not in methods)

    available_offers.cache_clear()
    yield without
    available_offers.cache_clear()


def methods_of(offers: tuple[IkeOffer, ...]) -> set[KeyExchangeMethod]:
    return {method for offer in offers for method in (*offer.key_exchanges, *offer.additional)}


def test_everything_is_offered_where_everything_can_be_done(lack: Lack) -> None:
    lack()
    assert methods_of(main_mode_offers("hybrid")) == set(suites.KEY_EXCHANGES.values())
    assert main_mode_offers("hybrid") == DEFAULT_MAIN_MODE.offers


def test_hybrid_comes_first_and_then_the_same_without(lack: Lack) -> None:
    lack()
    hybrid, *classical = main_mode_offers("hybrid")
    assert hybrid.additional == (suites.ML_KEM_768,)
    assert tuple(classical) == main_mode_offers("classical")
    assert not any(each.additional for each in classical)
    assert main_mode_offers("hybrid-required") == (hybrid,)


def test_without_ml_kem_hybrid_becomes_classical(lack: Lack) -> None:
    lack(suites.ML_KEM_768)
    assert main_mode_offers("hybrid") == main_mode_offers("classical")
    assert suites.ML_KEM_768 not in methods_of(main_mode_offers("hybrid"))


def test_without_ml_kem_hybrid_required_says_what_to_upgrade(lack: Lack) -> None:
    lack(suites.ML_KEM_768)
    with pytest.raises(LocalMisuse, match=r"ML-KEM-768.*upgrade the package 'cryptography'"):
        main_mode_offers("hybrid-required")


def test_a_classical_method_that_is_lacking_is_left_out_of_every_offer(lack: Lack) -> None:
    lack(suites.MODP_2048, suites.X25519)
    offers = main_mode_offers("hybrid")
    assert len(offers) == len(DEFAULT_MAIN_MODE.offers)
    assert methods_of(offers) == {suites.P_256, suites.P_384, suites.P_521, suites.ML_KEM_768}
    assert [each.key_exchanges[0] for each in offers] == [suites.P_256] * 3


def test_an_offer_left_without_any_method_is_left_out(lack: Lack) -> None:
    only_modp = IkeOffer(AEADS, (), PRFS, (suites.MODP_2048,))
    other = IkeOffer(AEADS, (), PRFS, (suites.P_256,))
    lack(suites.MODP_2048)
    assert available_offers((only_modp, other)) == (other,)
    with pytest.raises(LocalMisuse, match="MODP-2048"):
        available_offers((only_modp,))
