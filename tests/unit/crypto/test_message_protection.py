"""Sealing and opening the Encrypted payload."""

from __future__ import annotations

import hmac
import itertools
import os

import pytest
from cryptography.exceptions import InvalidTag

from securesock.crypto import suites
from securesock.crypto.message_protection import MessageProtection
from securesock.crypto.suites import IkeSuite
from securesock.entropy import SystemEntropy
from securesock.errors import WireError

SUITES = [
    *(
        IkeSuite(each, None, suites.PRF_HMAC_SHA2_256, suites.X25519)
        for each in (suites.AES_128_GCM_16, suites.AES_256_GCM_16, suites.CHACHA20_POLY1305)
    ),
    *(
        IkeSuite(encryption, integrity, suites.PRF_HMAC_SHA2_256, suites.X25519)
        for encryption, integrity in itertools.product(
            (suites.AES_128_CBC, suites.AES_256_CBC), suites.INTEGRITIES.values()
        )
    ),
]
CBC_SUITE = IkeSuite(suites.AES_128_CBC, suites.HMAC_SHA2_256_128, suites.PRF_HMAC_SHA2_256, suites.X25519)
AAD = b"header and generic header"


def keys_for(suite: IkeSuite) -> tuple[bytes, bytes]:
    encryption = suite.encryption.key_length + suite.encryption.salt_length
    integrity = 0 if suite.integrity is None else suite.integrity.key_length
    return bytes(range(1, encryption + 1)), bytes(range(1, integrity + 1))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@pytest.mark.parametrize("length", [0, 1, 14, 15, 16, 17, 255, 256, 3000])
def test_what_is_sealed_opens_to_the_same_plaintext(suite: IkeSuite, length: int) -> None:
    sealing, opening = MessageProtection(suite, *keys_for(suite)), MessageProtection(suite, *keys_for(suite))
    plaintext = os.urandom(length)
    padded = sealing.pad(plaintext)
    iv = sealing.make_iv(SystemEntropy())
    body = sealing.seal(padded, AAD, iv)
    assert len(body) == len(padded) + sealing.overhead
    assert body[: sealing.iv_length] == iv
    assert sealing.overhead == sealing.iv_length + sealing.icv_length
    assert opening.unpad(opening.open(body, AAD)) == plaintext


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@pytest.mark.parametrize("length", range(100, 133))
def test_room_is_the_longest_plaintext_that_fits(suite: IkeSuite, length: int) -> None:
    protection = MessageProtection(suite, *keys_for(suite))

    def sealed_length(plaintext_length: int) -> int:
        return len(protection.pad(bytes(plaintext_length))) + protection.overhead

    room = protection.room(length)
    assert sealed_length(room) <= length < sealed_length(room + 1)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_nothing_fits_where_not_even_the_pad_length_does(suite: IkeSuite) -> None:
    protection = MessageProtection(suite, *keys_for(suite))
    smallest = len(protection.pad(b"")) + protection.overhead
    assert protection.room(smallest - 1) < 0 <= protection.room(smallest)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_flipped_bit_anywhere_is_refused(suite: IkeSuite) -> None:
    protection = MessageProtection(suite, *keys_for(suite))
    body = protection.seal(protection.pad(b"payloads"), AAD, protection.make_iv(SystemEntropy()))
    for bit in range(8 * len(body)):
        damaged = bytearray(body)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidTag):
            protection.open(bytes(damaged), AAD)
    for bit in range(8 * len(AAD)):
        damaged = bytearray(AAD)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidTag):
            protection.open(body, bytes(damaged))
    assert protection.unpad(protection.open(body, AAD)) == b"payloads"


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_truncation_and_trailing_junk_is_refused(suite: IkeSuite) -> None:
    protection = MessageProtection(suite, *keys_for(suite))
    body = protection.seal(protection.pad(b"payloads"), AAD, protection.make_iv(SystemEntropy()))
    for length in range(len(body)):
        with pytest.raises(InvalidTag):
            protection.open(body[:length], AAD)
    with pytest.raises(InvalidTag):
        protection.open(body + b"\x00", AAD)


def test_ivs_of_an_aead_count_and_those_of_cbc_are_drawn() -> None:
    aead = MessageProtection(SUITES[0], *keys_for(SUITES[0]))
    assert [aead.make_iv(SystemEntropy()) for _ in range(3)] == [n.to_bytes(8, "big") for n in (1, 2, 3)]
    cbc = MessageProtection(CBC_SUITE, *keys_for(CBC_SUITE))
    ivs = {cbc.make_iv(SystemEntropy()) for _ in range(100)}
    assert len(ivs) == 100
    assert {len(iv) for iv in ivs} == {16}


def test_an_aead_pads_nothing_and_cbc_to_whole_blocks() -> None:
    aead = MessageProtection(SUITES[0], *keys_for(SUITES[0]))
    cbc = MessageProtection(CBC_SUITE, *keys_for(CBC_SUITE))
    for length in range(50):
        assert len(aead.pad(bytes(length))) == length + 1
        padded = cbc.pad(bytes(length))
        assert len(padded) % 16 == 0
        assert len(padded) - length <= 16


def test_any_padding_bytes_are_accepted() -> None:
    assert MessageProtection.unpad(b"abc\xff\x00\x17\x03") == b"abc"
    assert MessageProtection.unpad(bytes(255) + b"\xff") == b""
    assert MessageProtection.unpad(b"\x00") == b""


@pytest.mark.parametrize("padded", [b"", b"\x01", b"abc\x04", bytes(254) + b"\xff"])
def test_a_pad_length_beyond_the_content_is_refused(padded: bytes) -> None:
    with pytest.raises(WireError):
        MessageProtection.unpad(padded)


def test_a_proven_cbc_content_of_part_of_a_block_is_a_wire_error() -> None:
    protection = MessageProtection(CBC_SUITE, *keys_for(CBC_SUITE))
    sealed = os.urandom(16 + 20)
    icv = hmac.digest(keys_for(CBC_SUITE)[1], AAD + sealed, "sha256")[:16]
    with pytest.raises(WireError):
        protection.open(sealed + icv, AAD)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_keys_of_another_length_are_refused(suite: IkeSuite) -> None:
    encryption, integrity = keys_for(suite)
    with pytest.raises(ValueError, match="bytes of key"):
        MessageProtection(suite, encryption[1:], integrity)
    if integrity:
        with pytest.raises(ValueError, match="bytes of key"):
            MessageProtection(suite, encryption, integrity[1:])
