"""The AUTH payload of method 14, "Digital Signature" (RFC 7427; Ed25519: RFC 8420).

    AUTH data = length(1) | AlgorithmIdentifier | signature

The octets that are signed are keying's (RFC 7296 2.15).  The signer picks a hash that the peer
listed in SIGNATURE_HASH_ALGORITHMS; ECDSA prefers the one of its curve's strength, RSA signs with
RSASSA-PSS always and SHA2-256 first (RFC 8247 3.2).  The verifier takes PKCS#1 v1.5 too.  SHA-1, and RSA keys
under 2048 bits, are refused in both directions.  The older methods 1, 9, 10 and 11 are not offered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from ..errors import LocalMisuse, PeerIncompatible, WireError
from .algorithm_identifier import (
    SignatureAlgorithm,
    parse_algorithm_identifier_untrusted,
    write_algorithm_identifier,
)
from .prf import HASHES

__all__ = [
    "MIN_RSA_BITS",
    "SUPPORTED_HASHES",
    "sign_auth",
    "verify_auth",
]

MIN_RSA_BITS: Final = 2048
"""RFC 8247 3.1.1: shorter keys SHOULD NOT be used; here they are not."""

SHA2_256, SHA2_384, SHA2_512, IDENTITY = 2, 3, 4, 5
SUPPORTED_HASHES: tuple[int, ...] = (SHA2_256, SHA2_384, SHA2_512, IDENTITY)
"""What we announce in SIGNATURE_HASH_ALGORITHMS (IANA "IKEv2 Hash Algorithms")."""

_HASH_NAMES: Mapping[int, str] = MappingProxyType({SHA2_256: "sha256", SHA2_384: "sha384", SHA2_512: "sha512"})
_SHOWN_HASHES = {"sha256": "SHA2-256", "sha384": "SHA2-384", "sha512": "SHA2-512"}
# the hash of the curve's strength first (RFC 4754 3), then the stronger ones
_ECDSA_PREFERENCE: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "secp256r1": (SHA2_256, SHA2_384, SHA2_512),
        "secp384r1": (SHA2_384, SHA2_512, SHA2_256),
        "secp521r1": (SHA2_512, SHA2_384, SHA2_256),
    }
)
_SHOWN_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_ECDSA = {name: ec.ECDSA(algorithm) for name, algorithm in HASHES.items()}
_PKCS1 = padding.PKCS1v15()


def sign_auth(
    private_key: PrivateKeyTypes, octets: bytes, peer_hashes: Collection[int], *, deterministic: bool = False
) -> bytes:
    """AUTH data over ``octets``.  ``peer_hashes`` are the numbers that the peer announced, unknown ones included.

    ``deterministic`` makes ECDSA's nonce by RFC 6979, for tests that compare bytes; RSASSA-PSS salts remain random.
    PeerIncompatible if the peer listed no hash that this key can use; LocalMisuse for a key that is not offered.
    """
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        preference = _ECDSA_PREFERENCE.get(private_key.curve.name)
        if preference is None:
            raise LocalMisuse(f"ECDSA keys are on P-256, P-384 or P-521, not on {private_key.curve.name}")
        hash_name = _choose_hash(preference, peer_hashes)
        scheme = ec.ECDSA(HASHES[hash_name], deterministic_signing=True) if deterministic else _ECDSA[hash_name]
        return _write_auth(SignatureAlgorithm("ecdsa", hash_name), private_key.sign(octets, scheme))
    if isinstance(private_key, Ed25519PrivateKey):
        if IDENTITY not in peer_hashes:  # RFC 8420 2
            raise PeerIncompatible("the peer does not announce the Identity hash, which an Ed25519 key needs")
        return _write_auth(SignatureAlgorithm("ed25519"), private_key.sign(octets))
    if isinstance(private_key, rsa.RSAPrivateKey):
        if private_key.key_size < MIN_RSA_BITS:
            raise LocalMisuse(f"an RSA key of {private_key.key_size} bits is too short: {MIN_RSA_BITS} at least")
        hash_name = _choose_hash((SHA2_256, SHA2_384, SHA2_512), peer_hashes)
        algorithm = HASHES[hash_name]
        pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)  # salt as long as the hash (RFC 4055 3.1)
        signature = private_key.sign(octets, pss, algorithm)
        return _write_auth(SignatureAlgorithm("rsa-pss", hash_name, hash_name, algorithm.digest_size), signature)
    raise LocalMisuse(f"a {type(private_key).__name__} cannot sign: ECDSA, RSA and Ed25519 keys can")


def verify_auth(public_key: PublicKeyTypes, auth_data: bytes, octets: bytes) -> str:
    """The algorithm's name, for example ``ECDSA-P-256/SHA2-256``, if the signature over ``octets`` holds.

    InvalidSignature (its text says why): not this key's, or made in a way that is not accepted here.
    WireError: the data are not length, AlgorithmIdentifier and signature.
    """
    algorithm, signature = _split_auth_untrusted(auth_data)
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return _verify_ecdsa(public_key, algorithm, signature, octets)
    if isinstance(public_key, Ed25519PublicKey):
        _expect_scheme(algorithm, "ed25519")
        public_key.verify(signature, octets)
        return "Ed25519"
    if isinstance(public_key, rsa.RSAPublicKey):
        return _verify_rsa(public_key, algorithm, signature, octets)
    raise InvalidSignature(f"a {type(public_key).__name__} is not accepted: ECDSA, RSA and Ed25519 keys are")


def _choose_hash(preference: tuple[int, ...], peer_hashes: Collection[int]) -> str:
    for number in preference:
        if number in peer_hashes:
            return _HASH_NAMES[number]
    raise PeerIncompatible("the peer announces no signature hash that our key can use: SHA2-256, SHA2-384, SHA2-512")


def _write_auth(algorithm: SignatureAlgorithm, signature: bytes) -> bytes:
    identifier = write_algorithm_identifier(algorithm)
    return b"%c%b%b" % (len(identifier), identifier, signature)


def _split_auth_untrusted(auth_data: bytes) -> tuple[SignatureAlgorithm, bytes]:
    if not auth_data or len(auth_data) <= 1 + auth_data[0]:
        raise WireError("AUTH: no AlgorithmIdentifier with a signature behind it")
    start = 1 + auth_data[0]
    return parse_algorithm_identifier_untrusted(auth_data[1:start]), auth_data[start:]


def _expect_scheme(algorithm: SignatureAlgorithm, *schemes: str) -> None:
    if algorithm.scheme not in schemes:
        raise InvalidSignature(f"the AUTH payload was signed with {algorithm.scheme}, which this key cannot have done")


def _expect_hash(name: str) -> None:
    if name not in HASHES:
        raise InvalidSignature(f"signatures with {name} are not accepted")


def _verify_ecdsa(
    public_key: ec.EllipticCurvePublicKey, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes
) -> str:
    _expect_scheme(algorithm, "ecdsa")
    _expect_hash(algorithm.hash_name)
    curve = _SHOWN_CURVES.get(public_key.curve.name)
    if curve is None:
        raise InvalidSignature(f"keys on the curve {public_key.curve.name} are not accepted")
    public_key.verify(signature, octets, _ECDSA[algorithm.hash_name])
    return f"ECDSA-{curve}/{_SHOWN_HASHES[algorithm.hash_name]}"


def _verify_rsa(public_key: rsa.RSAPublicKey, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes) -> str:
    _expect_scheme(algorithm, "rsa-pss", "rsa-pkcs1")
    _expect_hash(algorithm.hash_name)
    if public_key.key_size < MIN_RSA_BITS:
        raise InvalidSignature(f"an RSA key of {public_key.key_size} bits is too short: {MIN_RSA_BITS} at least")
    shown = f"RSA-{public_key.key_size}/{_SHOWN_HASHES[algorithm.hash_name]}"
    if algorithm.scheme == "rsa-pkcs1":
        public_key.verify(signature, octets, _PKCS1, HASHES[algorithm.hash_name])
        return f"{shown}/PKCS1"
    _expect_hash(algorithm.mask_hash_name)
    pss = padding.PSS(padding.MGF1(HASHES[algorithm.mask_hash_name]), algorithm.salt_length)
    public_key.verify(signature, octets, pss, HASHES[algorithm.hash_name])
    return f"{shown}/PSS"
