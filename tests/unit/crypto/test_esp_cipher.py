"""Sealing and opening ESP packets in place."""

from __future__ import annotations

import itertools
import os

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securesock.crypto import suites
from securesock.crypto.esp_cipher import EspCipher, esp_cipher_maker, make_esp_cipher
from securesock.crypto.kdf import DirectionKeys
from securesock.crypto.suites import Encryption, EspSuite, Integrity

AEADS = [suites.AES_128_GCM_16, suites.AES_256_GCM_16, suites.CHACHA20_POLY1305]
GMACS = [suites.AES_128_GMAC, suites.AES_192_GMAC, suites.AES_256_GMAC]
CBCS = [suites.AES_128_CBC, suites.AES_256_CBC]
INTEGRITIES = list(suites.INTEGRITIES.values())
COMBINATIONS: list[tuple[Encryption, Integrity | None]] = [
    *((each, None) for each in (*AEADS, *GMACS)),
    *itertools.product([*CBCS, suites.NULL], INTEGRITIES),
]
SUITES = [EspSuite(encryption, integrity, esn=esn) for encryption, integrity in COMBINATIONS for esn in (True, False)]


def keys_for(suite: EspSuite) -> DirectionKeys:
    encryption = suite.encryption.key_length + suite.encryption.salt_length
    integrity = 0 if suite.integrity is None else suite.integrity.key_length
    return DirectionKeys(bytes(range(1, encryption + 1)), bytes(range(1, integrity + 1)))


def packet_with(cipher: EspCipher, plaintext: bytes, sequence: int) -> bytearray:
    header = b"\x12\x34\x56\x78" + (sequence & 0xFFFFFFFF).to_bytes(4, "big")
    return bytearray(header + bytes(cipher.iv_length) + plaintext + bytes(cipher.icv_length))


def text_of(cipher: EspCipher, packet: bytearray) -> bytes:
    return bytes(packet[8 + cipher.iv_length : -cipher.icv_length])


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@pytest.mark.parametrize("sequence", [1, 0xFFFFFFFF, 0x1_0000_0000, 0xFFFF_FFFF_FFFF_FFFF])
@pytest.mark.parametrize("length", [16, 48, 1440, 65392])
def test_what_is_sealed_opens_to_the_same_plaintext(suite: EspSuite, sequence: int, length: int) -> None:
    sealing, opening = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    plaintext = os.urandom(length)
    packet = packet_with(sealing, plaintext, sequence)
    header = bytes(packet[:8])
    sealing.seal_packet(memoryview(packet), sequence)
    assert packet[:8] == header
    assert (text_of(sealing, packet) != plaintext) == suite.encrypted
    opening.open_packet(memoryview(packet), sequence)
    assert text_of(opening, packet) == plaintext


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: f"{suite.name} esn={suite.esn}")
@pytest.mark.parametrize("sequence", [1, 0x1_0000_0000])
def test_out_of_place_is_the_same_as_in_place_in_both_directions(suite: EspSuite, sequence: int) -> None:
    sealing, opening = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    plaintext = os.urandom(48)
    packet = packet_with(sealing, plaintext, sequence)
    apart = sealing.seal_bytes(bytes(packet[:4]), plaintext, sequence)
    sealing.seal_packet(memoryview(packet), sequence)
    if suite.encryption.is_aead or suite.encryption is suites.NULL:
        assert apart == packet
    for each in (apart, bytes(packet)):
        assert len(each) == len(packet)
        assert opening.open_bytes(each, sequence) == plaintext
        in_place = bytearray(each)
        opening.open_packet(memoryview(in_place), sequence)
        assert text_of(opening, in_place) == plaintext


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: f"{suite.name} esn={suite.esn}")
def test_out_of_place_refuses_flipped_bits_truncations_and_other_numbers(suite: EspSuite) -> None:
    sealing, opening = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    packet = sealing.seal_bytes(b"\x12\x34\x56\x78", os.urandom(16), 7)
    for position in range(len(packet)):
        changed = bytearray(packet)
        changed[position] ^= 0x10
        if 4 <= position < 8 and suite.esn and suite.integrity is None:
            continue  # with ESN an AEAD authenticates the number itself, not its half in the header
        with pytest.raises(InvalidTag):
            opening.open_bytes(bytes(changed), 7)
    for length in range(len(packet)):
        with pytest.raises(InvalidTag):
            opening.open_bytes(packet[:length], 7)
    if suite.esn:
        with pytest.raises(InvalidTag):
            opening.open_bytes(packet, 7 + (1 << 32))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: f"{suite.name} esn={suite.esn}")
@pytest.mark.parametrize("sequence", [1, 0x1_0000_0000])
def test_within_a_buffer_is_the_same_as_of_a_packet_alone(suite: EspSuite, sequence: int) -> None:
    one, other = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    opening = make_esp_cipher(suite, keys_for(suite))
    plaintext = os.urandom(48)
    packet = packet_with(one, plaintext, sequence)
    spi = bytes(packet[:4])
    if one.iv_length == 8:
        packet[8:16] = sequence.to_bytes(8, "big")
    buffer = memoryview(bytearray(b"before" + packet + b"behind"))
    end = 6 + len(packet)
    other.seal_within(buffer, 6, end, spi, sequence)
    assert (buffer[:6], buffer[end:]) == (b"before", b"behind")
    sealed = bytearray(buffer[6:end])
    one.seal_packet(memoryview(packet), sequence)
    if suite.encryption.is_aead or suite.encryption is suites.NULL:
        assert sealed == packet
    opening.open_packet(memoryview(sealed), sequence)
    assert text_of(opening, sealed) == plaintext
    opening.open_within(buffer, 6, end, spi, sequence)
    assert buffer[6 + 8 + one.iv_length : end - one.icv_length] == plaintext
    assert (buffer[:6], buffer[end:]) == (b"before", b"behind")


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: f"{suite.name} esn={suite.esn}")
def test_within_a_buffer_a_flipped_bit_behind_the_header_and_another_number_are_refused(suite: EspSuite) -> None:
    sealing, opening = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    packet = packet_with(sealing, os.urandom(48), 7)
    spi = bytes(packet[:4])
    sealing.seal_packet(memoryview(packet), 7)
    for bit in range(64, len(packet) * 8):
        damaged = bytearray(b"--" + packet + b"--")
        damaged[2 + bit // 8] ^= 1 << bit % 8
        came = bytes(damaged)
        with pytest.raises(InvalidTag):
            opening.open_within(memoryview(damaged), 2, 2 + len(packet), spi, 7)
        at, stop = 2 + 8 + opening.iv_length, 2 + len(packet) - opening.icv_length
        decrypted = suite.encryption.is_aead and suite.encrypted
        assert damaged[at:stop] == (bytes(stop - at) if decrypted else came[at:stop])
        assert (damaged[:2], damaged[-2:]) == (b"--", b"--")
    if suite.esn:
        with pytest.raises(InvalidTag):
            opening.open_within(memoryview(bytearray(packet)), 0, len(packet), spi, 7 + (1 << 32))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_flipped_bit_anywhere_is_refused(suite: EspSuite) -> None:
    sealing, opening = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    packet = packet_with(sealing, os.urandom(48), 7)
    sealing.seal_packet(memoryview(packet), 7)
    for bit in range(len(packet) * 8):
        damaged = bytearray(packet)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidTag):
            opening.open_packet(memoryview(damaged), 7)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_truncation_is_refused(suite: EspSuite) -> None:
    sealing, opening = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    packet = packet_with(sealing, os.urandom(48), 7)
    sealing.seal_packet(memoryview(packet), 7)
    for length in range(len(packet)):
        with pytest.raises(InvalidTag):
            opening.open_packet(memoryview(bytearray(packet[:length])), 7)
    opening.open_packet(memoryview(packet), 7)


@pytest.mark.parametrize("suite", [each for each in SUITES if each.esn], ids=lambda suite: suite.name)
def test_the_high_half_of_the_sequence_number_is_authenticated_with_esn(suite: EspSuite) -> None:
    sealing, opening = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    packet = packet_with(sealing, os.urandom(48), 0x1_0000_0007)
    sealing.seal_packet(memoryview(packet), 0x1_0000_0007)
    with pytest.raises(InvalidTag):
        opening.open_packet(memoryview(bytearray(packet)), 0x2_0000_0007)
    opening.open_packet(memoryview(packet), 0x1_0000_0007)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_packet_does_not_open_under_another_sequence_number_than_its_header_has(suite: EspSuite) -> None:
    sealing, opening = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    packet = packet_with(sealing, os.urandom(48), 7)
    sealing.seal_packet(memoryview(packet), 7)
    with pytest.raises(InvalidTag):
        opening.open_packet(memoryview(bytearray(packet)), 8)
    opening.open_packet(memoryview(packet), 7)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_refused_packet_leaves_no_plaintext_in_the_buffer(suite: EspSuite) -> None:
    sealing, opening = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    plaintext = os.urandom(1440)
    packet = packet_with(sealing, plaintext, 7)
    sealing.seal_packet(memoryview(packet), 7)
    packet[-1] ^= 1
    sealed = bytes(packet)
    with pytest.raises(InvalidTag):
        opening.open_packet(memoryview(packet), 7)
    # An AEAD has decrypted by then; the others have not, and what was never secret stands there as it came.
    decrypted = suite.encryption.is_aead and suite.encrypted
    expected = bytes(len(plaintext)) if decrypted else sealed[8 + opening.iv_length : -opening.icv_length]
    assert text_of(opening, packet) == expected


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_refused_packet_does_not_disturb_the_next(suite: EspSuite) -> None:
    sealing, opening = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    for sequence in range(1, 20):
        plaintext = os.urandom(16 * sequence)
        packet = packet_with(sealing, plaintext, sequence)
        sealing.seal_packet(memoryview(packet), sequence)
        damaged = bytearray(packet)
        damaged[-20] ^= 1
        for junk in (damaged, damaged[:-3], packet + b"xxxxx", os.urandom(61)):
            with pytest.raises(InvalidTag):
                opening.open_packet(memoryview(bytearray(junk)), sequence)
        opening.open_packet(memoryview(packet), sequence)
        assert text_of(opening, packet) == plaintext


@pytest.mark.parametrize("suite", [each for each in SUITES if each.encryption in CBCS], ids=lambda suite: suite.name)
def test_a_lost_cbc_packet_does_not_disturb_the_next(suite: EspSuite) -> None:
    sealing, opening = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    for sequence in range(1, 20):
        plaintext = os.urandom(32)
        packet = packet_with(sealing, plaintext, sequence)
        sealing.seal_packet(memoryview(packet), sequence)
        if sequence % 3:
            continue
        opening.open_packet(memoryview(packet), sequence)
        assert text_of(opening, packet) == plaintext


@pytest.mark.parametrize("encryption", AEADS, ids=lambda each: each.name)
def test_the_iv_of_an_aead_is_the_sequence_number(encryption: Encryption) -> None:
    suite = EspSuite(encryption, None)
    cipher = make_esp_cipher(suite, keys_for(suite))
    packet = packet_with(cipher, bytes(16), 0x0102030405060708)
    cipher.seal_packet(memoryview(packet), 0x0102030405060708)
    assert packet[8:16] == bytes.fromhex("0102030405060708")


def test_equal_cbc_plaintexts_get_different_ivs_and_ciphertexts() -> None:
    suite = EspSuite(suites.AES_128_CBC, suites.HMAC_SHA2_256_128)
    seen = set()
    for _ in range(200):
        cipher = make_esp_cipher(suite, keys_for(suite))
        for sequence in (1, 2):
            packet = packet_with(cipher, bytes(32), sequence)
            cipher.seal_packet(memoryview(packet), sequence)
            seen |= {bytes(packet[start : start + 16]) for start in (8, 24, 40)}
    assert len(seen) == 200 * 2 * 3


def test_a_cbc_plaintext_of_part_of_a_block_is_refused_before_it_is_sealed() -> None:
    suite = EspSuite(suites.AES_128_CBC, suites.HMAC_SHA2_256_128)
    sealing, opening = make_esp_cipher(suite, keys_for(suite)), make_esp_cipher(suite, keys_for(suite))
    with pytest.raises(ValueError, match="whole number"):
        sealing.seal_packet(memoryview(packet_with(sealing, bytes(17), 1)), 1)
    packet = packet_with(sealing, bytes(32), 1)
    sealing.seal_packet(memoryview(packet), 1)
    opening.open_packet(memoryview(packet), 1)
    assert text_of(opening, packet) == bytes(32)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_keys_of_another_length_are_refused(suite: EspSuite) -> None:
    keys = keys_for(suite)
    with pytest.raises(ValueError, match="bytes of key"):
        make_esp_cipher(suite, DirectionKeys(keys.encryption + b"x", keys.integrity))
    if suite.integrity is not None:
        with pytest.raises(ValueError, match="bytes of key"):
            make_esp_cipher(suite, DirectionKeys(keys.encryption, keys.integrity[1:]))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: f"{suite.name} esn={suite.esn}")
def test_a_maker_of_many_makes_what_is_made_one_by_one(suite: EspSuite) -> None:
    keys = keys_for(suite)
    made = esp_cipher_maker(suite)(keys.encryption + keys.integrity)
    text = os.urandom(48)
    assert make_esp_cipher(suite, keys).open_bytes(made.seal_bytes(b"\x12\x34\x56\x78", text, 7), 7) == text
    with pytest.raises(ValueError, match="bytes of key"):
        esp_cipher_maker(suite)((keys.encryption + keys.integrity)[1:])


def test_keys_are_not_shown() -> None:
    assert repr(DirectionKeys(b"secret", b"secret")) == "DirectionKeys(***)"


@pytest.mark.parametrize("encryption", GMACS, ids=lambda each: each.name)
@pytest.mark.parametrize("esn", [True, False])
def test_gmac_is_gcm_over_nothing_with_all_of_the_packet_as_associated_data(encryption: Encryption, esn: bool) -> None:
    """RFC 4543 3.3 and 3.5, figure 4: SPI, sequence number, IV and payload, in the order in which they travel."""
    suite = EspSuite(encryption, None, esn=esn)
    keys = keys_for(suite)
    sequence, text = 0x1_0000_0007 if esn else 7, os.urandom(64)
    packet = make_esp_cipher(suite, keys).seal_bytes(b"\x12\x34\x56\x78", text, sequence)
    assert packet[16:-16] == text
    number = sequence.to_bytes(8, "big")
    nonce = keys.encryption[encryption.key_length :] + packet[8:16]
    authenticated = packet[:4] + (number if esn else number[4:]) + packet[8:16] + text
    tag = AESGCM(keys.encryption[: encryption.key_length]).encrypt(nonce, b"", authenticated)
    assert packet[-16:] == tag
    assert not suite.encrypted
