"""Published signatures and AlgorithmIdentifiers, by our own AUTH payloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from securesock.crypto.algorithm_identifier import (
    SignatureAlgorithm,
    parse_algorithm_identifier_untrusted,
    write_algorithm_identifier,
)
from securesock.crypto.signatures import sign_auth, verify_auth

DATA = Path(__file__).parent / "data"
CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
HASH_NUMBERS = {"sha256": 2, "sha384": 3, "sha512": 4}


def cases_of(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((DATA / name).read_text())["cases"]
    return cases


RFC_7427 = {case["name"]: bytes.fromhex(case["der"]) for case in cases_of("algorithm_identifiers_rfc7427.json")}
MEANINGS = {
    "sha1WithRSA": SignatureAlgorithm("rsa-pkcs1", "sha1"),
    "sha256WithRSA": SignatureAlgorithm("rsa-pkcs1", "sha256"),
    "sha384WithRSA": SignatureAlgorithm("rsa-pkcs1", "sha384"),
    "sha512WithRSA": SignatureAlgorithm("rsa-pkcs1", "sha512"),
    "ecdsa-sha1": SignatureAlgorithm("ecdsa", "sha1"),
    "ecdsa-sha256": SignatureAlgorithm("ecdsa", "sha256"),
    "ecdsa-sha384": SignatureAlgorithm("ecdsa", "sha384"),
    "ecdsa-sha512": SignatureAlgorithm("ecdsa", "sha512"),
    "dsa-sha256": SignatureAlgorithm("2.16.840.1.101.3.4.3.2"),
    "RSASSA-PSS default(SHA-1)": SignatureAlgorithm("rsa-pss", "sha1", "sha1", 20),
    "RSASSA-PSS empty": SignatureAlgorithm("rsa-pss", "sha1", "sha1", 20),
    "RSASSA-PSS SHA-256": SignatureAlgorithm("rsa-pss", "sha256", "sha256", 32),
    "Ed25519": SignatureAlgorithm("ed25519"),
    "Ed448": SignatureAlgorithm("1.3.101.113"),
}
# two that are not known by name, and two that the RFC prints with fields at their default, which are parsed only
NOT_WRITTEN = {"dsa-sha256", "Ed448", "RSASSA-PSS default(SHA-1)", "RSASSA-PSS SHA-256"}


def test_every_published_identifier_has_its_meaning_here() -> None:
    assert RFC_7427.keys() == MEANINGS.keys()


@pytest.mark.parametrize("name", MEANINGS)
def test_algorithm_identifiers_of_rfc_7427_and_rfc_8420(name: str) -> None:
    assert parse_algorithm_identifier_untrusted(RFC_7427[name]) == MEANINGS[name]
    if name not in NOT_WRITTEN:
        assert write_algorithm_identifier(MEANINGS[name]) == RFC_7427[name]


def test_rsassa_pss_is_written_as_printed_but_for_the_trailer_field() -> None:
    printed = RFC_7427["RSASSA-PSS SHA-256"]
    trailer = bytes.fromhex("a303020101")
    assert printed.endswith(trailer)
    written = bytearray(printed[: -len(trailer)])
    written[1] -= len(trailer)
    written[14] -= len(trailer)
    assert write_algorithm_identifier(MEANINGS["RSASSA-PSS SHA-256"]) == written


@pytest.mark.parametrize(
    "case", cases_of("ecdsa_rfc6979.json"), ids=lambda case: f"{case['curve']} {case['hash_name']} {case['message']}"
)
def test_deterministic_ecdsa_of_rfc_6979(case: dict[str, Any]) -> None:
    key = ec.derive_private_key(int(case["private"], 16), CURVES[case["curve"]])
    message = case["message"].encode()
    auth = sign_auth(key, message, (HASH_NUMBERS[case["hash_name"]],), deterministic=True)
    identifier = RFC_7427[f"ecdsa-{case['hash_name']}"]
    expected = encode_dss_signature(int(case["r"], 16), int(case["s"], 16))
    assert auth == bytes((len(identifier),)) + identifier + expected
    shown = case["hash_name"].replace("sha", "SHA2-")
    assert verify_auth(key.public_key(), auth, message) == f"ECDSA-{case['curve']}/{shown}"


@pytest.mark.parametrize("case", cases_of("ed25519_rfc8032.json"), ids=lambda case: case["case"])
def test_ed25519_of_rfc_8032(case: dict[str, Any]) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(case["private"]))
    message = bytes.fromhex(case["message"])
    auth = sign_auth(key, message, (5,))
    assert auth == bytes((len(RFC_7427["Ed25519"]),)) + RFC_7427["Ed25519"] + bytes.fromhex(case["signature"])
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(case["public"]))
    assert verify_auth(public, auth, message) == "Ed25519"
