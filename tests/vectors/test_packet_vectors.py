"""Published ESP packets and IKE messages, by our own ciphers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from securesock.crypto import suites
from securesock.crypto.esp_cipher import make_esp_cipher
from securesock.crypto.kdf import DirectionKeys
from securesock.crypto.message_protection import MessageProtection, make_aead
from securesock.crypto.suites import EspSuite, IkeSuite

DATA = Path(__file__).parent / "data"


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DATA / name).read_text())
    return loaded


GCM_BY_KEY_BITS = {128: suites.AES_128_GCM_16, 256: suites.AES_256_GCM_16}
MCGREW = [case for case in load("esp_aes_gcm_mcgrew.json")["cases"] if len(case["key"]) * 4 in GCM_BY_KEY_BITS]
RFC_3602 = load("esp_aes_cbc_rfc3602.json")["cases"]
RFC_7634 = load("chacha20_poly1305_rfc7634.json")


def test_only_the_192_bit_case_is_left_out() -> None:
    assert len(MCGREW) == 13


@pytest.mark.parametrize("case", MCGREW, ids=lambda case: case["case"])
def test_aes_gcm_esp_packets(case: dict[str, Any]) -> None:
    key, salt, iv, aad = (bytes.fromhex(case[name]) for name in ("key", "salt", "iv", "aad"))
    encryption = GCM_BY_KEY_BITS[len(key) * 8]
    sealed = make_aead(encryption, key).encrypt(salt + iv, bytes.fromhex(case["plaintext"]), aad)
    assert sealed.hex() == case["ciphertext"] + case["icv"]
    esn = len(aad) == 12
    cipher = make_esp_cipher(EspSuite(encryption, None, esn=esn), DirectionKeys(key + salt, b""))
    packet = bytearray(aad[:4] + aad[-4:] + iv + sealed)
    cipher.open_packet(memoryview(packet), int.from_bytes(aad[4:], "big"))
    assert packet[16:-16].hex() == case["plaintext"]
    wrong = make_esp_cipher(EspSuite(encryption, None, esn=not esn), DirectionKeys(key + salt, b""))
    with pytest.raises(InvalidTag):
        wrong.open_packet(memoryview(bytearray(aad[:4] + aad[-4:] + iv + sealed)), int.from_bytes(aad[4:], "big"))


@pytest.mark.parametrize("case", RFC_3602, ids=lambda case: case["case"])
def test_aes_cbc_esp_packets(case: dict[str, Any]) -> None:
    """The packets have no integrity; ours have an ICV behind them, which changes nothing before it."""
    key, iv, plaintext = (bytes.fromhex(case[name]) for name in ("key", "iv", "plaintext"))
    header, sequence = bytes.fromhex(case["spi"] + case["sequence"]), int(case["sequence"], 16)
    suite = EspSuite(suites.AES_128_CBC, suites.HMAC_SHA2_256_128, esn=False)
    keys = DirectionKeys(key, bytes(32))

    # the IV is what the drawn bytes become in the chain, whose first mask is zeros: draw those that become this IV
    drawn = make_ecb_decryptor(key)(iv)
    packet = bytearray(header + bytes(16) + plaintext + bytes(16))
    make_esp_cipher(suite, keys, draw=lambda length: drawn).seal_packet(memoryview(packet), sequence)
    assert packet[:8] == header
    assert packet[8:24] == iv
    assert packet[24:-16].hex() == case["ciphertext"]
    make_esp_cipher(suite, keys).open_packet(memoryview(packet), sequence)
    assert packet[24:-16] == plaintext


def make_ecb_decryptor(key: bytes) -> Callable[[bytes], bytes]:
    return Cipher(algorithms.AES(key), modes.ECB()).decryptor().update


def test_chacha20_poly1305_esp_packet() -> None:
    key = bytes.fromhex(RFC_7634["key_and_salt"])
    packet = bytearray.fromhex(RFC_7634["esp"]["packet"])
    cipher = make_esp_cipher(EspSuite(suites.CHACHA20_POLY1305, None, esn=False), DirectionKeys(key, b""))
    cipher.open_packet(memoryview(packet), RFC_7634["esp"]["sequence"])
    assert packet[16:-16].hex() == RFC_7634["esp"]["plaintext"]


def test_chacha20_poly1305_ike_message() -> None:
    key = bytes.fromhex(RFC_7634["key_and_salt"])
    case = RFC_7634["ike"]
    message, plaintext = bytes.fromhex(case["message"]), bytes.fromhex(case["plaintext_padded"])
    aad, body = message[: case["aad_length"]], message[case["aad_length"] :]
    suite = IkeSuite(suites.CHACHA20_POLY1305, None, suites.PRF_HMAC_SHA2_256, suites.X25519)
    protection = MessageProtection(suite, key, b"")
    assert protection.open(body, aad) == plaintext
    assert protection.seal(plaintext, aad, body[:8]) == body
    assert protection.pad(protection.unpad(plaintext)) == plaintext
