"""prf+, and the derivations that nobody published values for, against the RFCs' formulas written out."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from securesock.crypto import suites
from securesock.crypto.kdf import (
    IkeKeys,
    derive_child_keys,
    derive_ike_keys,
    initial_skeyseed,
    intermediate_skeyseed,
    rekey_skeyseed,
)
from securesock.crypto.prf import prf_plus
from securesock.crypto.suites import EspSuite, IkeSuite, Prf

PRFS = list(suites.PRFS.values())
NI, NR, SHARED, SK_D = b"I" * 32, b"R" * 40, b"S" * 32, b"D" * 48
K1, K2 = b"1" * 32, b"2" * 32


def mac(prf: Prf, key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, getattr(hashlib, prf.hash_name)).digest()


@pytest.mark.parametrize("prf", PRFS, ids=lambda prf: prf.name)
def test_prf_plus_is_the_chain_of_rfc_7296(prf: Prf) -> None:
    t1 = mac(prf, b"key", b"seed\x01")
    t2 = mac(prf, b"key", t1 + b"seed\x02")
    t3 = mac(prf, b"key", t2 + b"seed\x03")
    for length in (0, 1, prf.output_length, prf.output_length + 1, 3 * prf.output_length):
        assert prf_plus(prf, b"key", b"seed", length) == (t1 + t2 + t3)[:length]


@pytest.mark.parametrize("prf", PRFS, ids=lambda prf: prf.name)
def test_prf_plus_ends_after_255_blocks(prf: Prf) -> None:
    whole = prf_plus(prf, b"key", b"seed", 255 * prf.output_length)
    before, last = whole[-2 * prf.output_length : -prf.output_length], whole[-prf.output_length :]
    assert last == mac(prf, b"key", before + b"seed\xff")
    with pytest.raises(ValueError, match="255 blocks"):
        prf_plus(prf, b"key", b"seed", 255 * prf.output_length + 1)


@pytest.mark.parametrize("prf", PRFS, ids=lambda prf: prf.name)
def test_skeyseeds_are_the_formulas_of_rfc_7296_and_rfc_9370(prf: Prf) -> None:
    assert initial_skeyseed(prf, NI, NR, SHARED) == mac(prf, NI + NR, SHARED)
    assert intermediate_skeyseed(prf, SK_D, K1, NI, NR) == mac(prf, SK_D, K1 + NI + NR)
    assert rekey_skeyseed(prf, SK_D, SHARED, NI, NR) == mac(prf, SK_D, SHARED + NI + NR)
    assert rekey_skeyseed(prf, SK_D, SHARED, NI, NR, (K1, K2)) == mac(prf, SK_D, SHARED + NI + NR + K1 + K2)


@pytest.mark.parametrize("prf", PRFS, ids=lambda prf: prf.name)
def test_ike_keys_are_cut_in_the_order_of_rfc_7296(prf: Prf) -> None:
    suite = IkeSuite(suites.AES_256_CBC, suites.HMAC_SHA2_384_192, prf, suites.X25519)
    keys = derive_ike_keys(suite, b"skeyseed", NI, NR, b"i" * 8, b"r" * 8)
    d = prf.output_length
    assert [len(key) for key in keys] == [d, 48, 48, 32, 32, d, d]
    assert b"".join(keys) == prf_plus(prf, b"skeyseed", NI + NR + b"i" * 8 + b"r" * 8, 3 * d + 96 + 64)
    assert keys._fields == ("sk_d", "sk_ai", "sk_ar", "sk_ei", "sk_er", "sk_pi", "sk_pr")


def test_an_aead_has_its_salt_behind_the_key_and_no_integrity_key() -> None:
    for encryption, length in ((suites.AES_128_GCM_16, 20), (suites.CHACHA20_POLY1305, 36)):
        suite = IkeSuite(encryption, None, suites.PRF_HMAC_SHA2_256, suites.X25519)
        keys = derive_ike_keys(suite, b"skeyseed", NI, NR, b"i" * 8, b"r" * 8)
        assert [len(key) for key in keys] == [32, 0, 0, length, length, 32, 32]


@pytest.mark.parametrize("prf", PRFS, ids=lambda prf: prf.name)
def test_child_keys_are_the_formulas_of_rfc_7296_and_rfc_9370(prf: Prf) -> None:
    suite = EspSuite(suites.AES_128_CBC, suites.HMAC_SHA2_512_256)
    for shared, additional, seed in (
        (b"", (), NI + NR),
        (SHARED, (), SHARED + NI + NR),
        (SHARED, (K1, K2), SHARED + NI + NR + K1 + K2),
    ):
        first, second = derive_child_keys(prf, SK_D, suite, NI, NR, shared, additional)
        material = prf_plus(prf, SK_D, seed, 160)
        assert first == (material[:16], material[16:80])
        assert second == (material[80:96], material[96:])


def test_child_keys_of_an_aead_have_no_integrity_key() -> None:
    first, second = derive_child_keys(suites.PRF_HMAC_SHA2_256, SK_D, EspSuite(suites.AES_256_GCM_16, None), NI, NR)
    assert len(first.encryption) == len(second.encryption) == 36
    assert first.integrity == second.integrity == b""
    assert first.encryption != second.encryption


def test_keys_are_not_shown() -> None:
    keys = IkeKeys(*(b"secret",) * 7)
    assert repr(keys) == str(keys) == f"{keys}" == "IkeKeys(***)"
