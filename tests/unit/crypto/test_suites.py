"""Numbers and sizes against the RFCs' own tables, and the combinations that are refused."""

from __future__ import annotations

import dataclasses

import pytest

from securesock.crypto import suites
from securesock.crypto.suites import EspSuite, IkeSuite
from securesock.errors import LocalMisuse


def test_encryptions_have_the_numbers_and_sizes_of_their_rfcs() -> None:
    sizes = {
        each.name: (each.transform_id, each.key_bits, each.key_length + each.salt_length, each.iv_length)
        for each in suites.ENCRYPTIONS.values()
    }
    assert sizes == {
        "AES-128-GCM-16": (20, 128, 20, 8),  # RFC 4106 8.1: 20 and 36 octets of keying material
        "AES-256-GCM-16": (20, 256, 36, 8),
        "CHACHA20-POLY1305": (28, None, 36, 8),  # RFC 7634 2
        "AES-128-CBC": (12, 128, 16, 16),  # RFC 3602
        "AES-256-CBC": (12, 256, 32, 16),
        "NULL": (11, None, 0, 0),  # RFC 2410
        "AES-128-GMAC": (21, 128, 20, 8),  # RFC 4543 5.1 and 5.3: 20, 28 and 36 octets of keying material
        "AES-192-GMAC": (21, 192, 28, 8),
        "AES-256-GMAC": (21, 256, 36, 8),
    }


def test_what_does_not_encrypt_says_so_and_protects_no_ike_sa() -> None:
    silent = [each for each in suites.ENCRYPTIONS.values() if not each.encrypts]
    assert {each.name for each in silent} == {"NULL", "AES-128-GMAC", "AES-192-GMAC", "AES-256-GMAC"}
    for each in silent:
        integrity = None if each.is_aead else suites.HMAC_SHA2_256_128
        assert not EspSuite(each, integrity).encrypted
        with pytest.raises(LocalMisuse, match="always encrypted"):
            IkeSuite(each, integrity, suites.PRF_HMAC_SHA2_256, suites.X25519)


def test_every_key_is_as_long_as_its_key_length_attribute_says() -> None:
    for each in suites.ENCRYPTIONS.values():
        assert each.key_bits is None or each.key_bits == 8 * each.key_length
        assert each.alignment % 4 == 0
        assert each.is_aead == (each.icv_length > 0) == (each.salt_length > 0)


def test_integrities_have_the_sizes_of_rfc_4868() -> None:
    assert {
        each.name: (each.transform_id, each.key_length, each.icv_length) for each in suites.INTEGRITIES.values()
    } == {
        "HMAC-SHA2-256-128": (12, 32, 16),
        "HMAC-SHA2-384-192": (13, 48, 24),
        "HMAC-SHA2-512-256": (14, 64, 32),
    }


def test_registries_are_keyed_by_what_stands_on_the_wire() -> None:
    assert suites.ENCRYPTIONS[20, 256] == suites.AES_256_GCM_16
    assert suites.ENCRYPTIONS[28, None] == suites.CHACHA20_POLY1305
    assert (20, None) not in suites.ENCRYPTIONS
    assert (20, 192) not in suites.ENCRYPTIONS
    assert {number: prf.output_length for number, prf in suites.PRFS.items()} == {5: 32, 6: 48, 7: 64}
    assert sorted(suites.KEY_EXCHANGES) == [14, 19, 20, 21, 31, 36]


def test_names_tell_everything_that_was_negotiated() -> None:
    ike = IkeSuite(suites.AES_256_GCM_16, None, suites.PRF_HMAC_SHA2_384, suites.X25519, (suites.ML_KEM_768,))
    assert ike.name == "AES-256-GCM-16/PRF-HMAC-SHA2-384/X25519+ML-KEM-768"
    cbc = IkeSuite(suites.AES_128_CBC, suites.HMAC_SHA2_256_128, suites.PRF_HMAC_SHA2_256, suites.MODP_2048)
    assert cbc.name == "AES-128-CBC/HMAC-SHA2-256-128/PRF-HMAC-SHA2-256/MODP-2048"
    assert EspSuite(suites.AES_256_GCM_16, None).name == "AES-256-GCM-16/ESN"
    assert EspSuite(suites.AES_256_GCM_16, None, suites.P_256, esn=False).name == "AES-256-GCM-16/P-256"
    hybrid = EspSuite(suites.CHACHA20_POLY1305, None, suites.X25519, (suites.ML_KEM_768,))
    assert hybrid.name == "CHACHA20-POLY1305/X25519+ML-KEM-768/ESN"


def test_null_encryption_is_not_called_encrypted() -> None:
    assert not EspSuite(suites.NULL, suites.HMAC_SHA2_256_128).encrypted
    assert EspSuite(suites.AES_128_GCM_16, None).encrypted


def test_an_aead_with_an_integrity_algorithm_is_refused() -> None:
    with pytest.raises(LocalMisuse):
        EspSuite(suites.AES_128_GCM_16, suites.HMAC_SHA2_256_128)
    with pytest.raises(LocalMisuse):
        IkeSuite(suites.CHACHA20_POLY1305, suites.HMAC_SHA2_256_128, suites.PRF_HMAC_SHA2_256, suites.X25519)


@pytest.mark.parametrize("encryption", [suites.AES_128_CBC, suites.AES_256_CBC, suites.NULL])
def test_anything_else_without_one_is_refused(encryption: suites.Encryption) -> None:
    with pytest.raises(LocalMisuse):
        EspSuite(encryption, None)
    with pytest.raises(LocalMisuse):
        IkeSuite(encryption, None, suites.PRF_HMAC_SHA2_256, suites.X25519)


def test_an_ike_sa_without_encryption_is_refused() -> None:
    with pytest.raises(LocalMisuse, match="always encrypted"):
        IkeSuite(suites.NULL, suites.HMAC_SHA2_256_128, suites.PRF_HMAC_SHA2_256, suites.X25519)


def test_key_exchanges_that_make_no_sense_are_refused() -> None:
    def ike(*methods: suites.KeyExchangeMethod) -> IkeSuite:
        return IkeSuite(suites.AES_128_GCM_16, None, suites.PRF_HMAC_SHA2_256, methods[0], methods[1:])

    with pytest.raises(LocalMisuse, match="twice"):
        ike(suites.X25519, suites.X25519)
    with pytest.raises(LocalMisuse, match="twice"):
        ike(suites.X25519, suites.ML_KEM_768, suites.ML_KEM_768)
    with pytest.raises(LocalMisuse, match="classical"):
        ike(suites.ML_KEM_768)
    with pytest.raises(LocalMisuse, match="follows"):
        EspSuite(suites.AES_128_GCM_16, None, None, (suites.ML_KEM_768,))
    assert ike(suites.X25519, suites.P_256, suites.ML_KEM_768).additional_key_exchanges == (
        suites.P_256,
        suites.ML_KEM_768,
    )


def test_suites_are_values() -> None:
    first, second = (EspSuite(suites.AES_128_GCM_16, None) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != dataclasses.replace(first, esn=False)
