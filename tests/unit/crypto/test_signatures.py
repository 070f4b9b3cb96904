"""The AUTH payload of RFC 7427: what is signed verifies, what is not good enough is refused."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securesock.crypto.algorithm_identifier import SignatureAlgorithm, write_algorithm_identifier
from securesock.crypto.signatures import SUPPORTED_HASHES, sign_auth, verify_auth
from securesock.errors import LocalMisuse, PeerIncompatible, WireError

OCTETS = b"RealMessage1 | NonceRData | MACedIDForI"
CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


@cache
def key_of(kind: str) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey:
    if kind in CURVES:
        return ec.generate_private_key(CURVES[kind])
    if kind == "Ed25519":
        return Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("RSA-")))


def blob(hex_identifier: str, signature: bytes) -> bytes:
    identifier = bytes.fromhex(hex_identifier)
    return bytes((len(identifier),)) + identifier + signature


@pytest.mark.parametrize(
    ("kind", "hashes_of_peer", "name"),
    [
        ("P-256", SUPPORTED_HASHES, "ECDSA-P-256/SHA2-256"),
        ("P-384", SUPPORTED_HASHES, "ECDSA-P-384/SHA2-384"),
        ("P-521", SUPPORTED_HASHES, "ECDSA-P-521/SHA2-512"),
        ("P-256", (1, 4, 5), "ECDSA-P-256/SHA2-512"),
        ("P-384", (2,), "ECDSA-P-384/SHA2-256"),
        ("P-521", (2, 3), "ECDSA-P-521/SHA2-384"),
        ("Ed25519", SUPPORTED_HASHES, "Ed25519"),
        ("Ed25519", (5,), "Ed25519"),
        ("RSA-2048", SUPPORTED_HASHES, "RSA-2048/SHA2-256/PSS"),
        ("RSA-2048", (3, 4), "RSA-2048/SHA2-384/PSS"),
        ("RSA-2048", (4, 7, 60000), "RSA-2048/SHA2-512/PSS"),
    ],
)
def test_the_hash_is_the_key_s_best_among_those_the_peer_lists(
    kind: str, hashes_of_peer: tuple[int, ...], name: str
) -> None:
    key = key_of(kind)
    assert verify_auth(key.public_key(), sign_auth(key, OCTETS, hashes_of_peer), OCTETS) == name


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "RSA-2048"])
@pytest.mark.parametrize("hashes_of_peer", [(), (1,), (1, 5), (6, 7)])
def test_a_peer_without_a_usable_hash_is_incompatible(kind: str, hashes_of_peer: tuple[int, ...]) -> None:
    with pytest.raises(PeerIncompatible):
        sign_auth(key_of(kind), OCTETS, hashes_of_peer)


def test_ed25519_is_not_sent_to_a_peer_without_the_identity_hash() -> None:
    with pytest.raises(PeerIncompatible):
        sign_auth(key_of("Ed25519"), OCTETS, (2, 3, 4))


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "Ed25519", "RSA-2048"])
def test_other_octets_another_key_and_a_changed_signature_are_refused(kind: str) -> None:
    key = key_of(kind)
    auth = sign_auth(key, OCTETS, SUPPORTED_HASHES)
    with pytest.raises(InvalidSignature):
        verify_auth(key.public_key(), auth, OCTETS + b"x")
    for position in range(len(auth) - 1, len(auth) - 9, -1):
        damaged = bytearray(auth)
        damaged[position] ^= 1
        with pytest.raises(InvalidSignature):
            verify_auth(key.public_key(), bytes(damaged), OCTETS)
    with pytest.raises(InvalidSignature):
        verify_auth(key.public_key(), auth[:-1], OCTETS)
    with pytest.raises(InvalidSignature):
        verify_auth(key.public_key(), auth + b"\x00", OCTETS)


def test_every_pair_of_key_and_foreign_signature_is_refused() -> None:
    kinds = ("P-256", "P-384", "P-521", "Ed25519", "RSA-2048")
    for ours, theirs in itertools.permutations(kinds, 2):
        auth = sign_auth(key_of(theirs), OCTETS, SUPPORTED_HASHES)
        with pytest.raises(InvalidSignature):
            verify_auth(key_of(ours).public_key(), auth, OCTETS)


@pytest.mark.parametrize("kind", ["P-256", "RSA-2048", "Ed25519"])
def test_flipped_bits_in_the_algorithm_identifier_never_verify(kind: str) -> None:
    key = key_of(kind)
    auth = sign_auth(key, OCTETS, SUPPORTED_HASHES)
    for bit in range(8 * (1 + auth[0])):
        damaged = bytearray(auth)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((InvalidSignature, WireError)):
            verify_auth(key.public_key(), bytes(damaged), OCTETS)


@pytest.mark.parametrize("auth", [b"", b"\x00", b"\x0a", b"\x05\x30\x03\x06\x01\x00", b"\x00signature"])
def test_data_without_identifier_and_signature_are_a_wire_error(auth: bytes) -> None:
    with pytest.raises(WireError):
        verify_auth(key_of("P-256").public_key(), auth, OCTETS)


@pytest.mark.parametrize(
    ("identifier", "algorithm"),
    [
        ("300d06092a864886f70d01010b0500", hashes.SHA256()),
        ("300b06092a864886f70d01010b", hashes.SHA256()),
        ("300d06092a864886f70d01010c0500", hashes.SHA384()),
        ("300d06092a864886f70d01010d0500", hashes.SHA512()),
    ],
)
def test_pkcs1_signatures_of_a_peer_are_accepted(identifier: str, algorithm: hashes.HashAlgorithm) -> None:
    key = key_of("RSA-2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = key.sign(OCTETS, padding.PKCS1v15(), algorithm)
    shown = algorithm.name.upper().replace("SHA", "SHA2-")
    assert verify_auth(key.public_key(), blob(identifier, signature), OCTETS) == f"RSA-2048/{shown}/PKCS1"


@pytest.mark.parametrize("salt_length", [0, 1, 20, 32, 48, 64, 222])
def test_pss_salts_of_any_length_are_accepted_when_they_are_announced(salt_length: int) -> None:
    key = key_of("RSA-2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = key.sign(OCTETS, padding.PSS(padding.MGF1(hashes.SHA256()), salt_length), hashes.SHA256())
    for announced in (0, 1, 20, 32, 48, 64, 222, 223, 1000, 32767):
        identifier = write_algorithm_identifier(
            SignatureAlgorithm("rsa-pss", "sha256", "sha256", min(announced, 32767))
        )
        auth = bytes((len(identifier),)) + identifier + signature
        if announced == salt_length:
            assert verify_auth(key.public_key(), auth, OCTETS) == "RSA-2048/SHA2-256/PSS"
        else:
            with pytest.raises(InvalidSignature):
                verify_auth(key.public_key(), auth, OCTETS)


def test_sha1_is_refused_although_the_signature_holds() -> None:
    key = key_of("RSA-2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    pkcs1 = blob("300d06092a864886f70d0101050500", key.sign(OCTETS, padding.PKCS1v15(), hashes.SHA1()))
    pss = key.sign(OCTETS, padding.PSS(padding.MGF1(hashes.SHA1()), 20), hashes.SHA1())
    mixed = key.sign(OCTETS, padding.PSS(padding.MGF1(hashes.SHA1()), 32), hashes.SHA256())
    identifier = write_algorithm_identifier(SignatureAlgorithm("rsa-pss", "sha256", "sha1", 32))
    for auth in (
        pkcs1,
        blob("300d06092a864886f70d01010a3000", pss),
        bytes((len(identifier),)) + identifier + mixed,
    ):
        with pytest.raises(InvalidSignature, match="sha1"):
            verify_auth(key.public_key(), auth, OCTETS)
    curve_key = key_of("P-256")
    assert isinstance(curve_key, ec.EllipticCurvePrivateKey)
    signature = curve_key.sign(OCTETS, ec.ECDSA(hashes.SHA1()))
    with pytest.raises(InvalidSignature, match="sha1"):
        verify_auth(curve_key.public_key(), blob("300906072a8648ce3d0401", signature), OCTETS)


def test_short_rsa_keys_are_refused_in_both_directions() -> None:
    key = rsa.generate_private_key(65537, 1024)
    with pytest.raises(LocalMisuse, match="1024"):
        sign_auth(key, OCTETS, SUPPORTED_HASHES)
    signature = key.sign(OCTETS, padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature, match="1024"):
        verify_auth(key.public_key(), blob("300d06092a864886f70d01010b0500", signature), OCTETS)


def test_other_curves_and_other_kinds_of_key_are_refused() -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    with pytest.raises(LocalMisuse, match="secp256k1"):
        sign_auth(key, OCTETS, SUPPORTED_HASHES)
    signature = key.sign(OCTETS, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature, match="secp256k1"):
        verify_auth(key.public_key(), blob("300a06082a8648ce3d040302", signature), OCTETS)
    other = ed448.Ed448PrivateKey.generate()
    with pytest.raises(LocalMisuse, match="cannot sign"):
        sign_auth(other, OCTETS, SUPPORTED_HASHES)
    with pytest.raises(InvalidSignature, match="not accepted"):
        verify_auth(other.public_key(), blob("300506032b6571", other.sign(OCTETS)), OCTETS)


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "Ed25519"])
def test_deterministic_signatures_are_equal_and_verify(kind: str) -> None:
    key = key_of(kind)
    first, second = (sign_auth(key, OCTETS, SUPPORTED_HASHES, deterministic=True) for _ in range(2))
    assert first == second
    verify_auth(key.public_key(), first, OCTETS)
