"""What securesock.crypto does with a peer's bytes: identifiers, signatures, public values, sealed content.

The keys are fixed, so that a seed that verifies or opens keeps doing so.
"""

from __future__ import annotations

from functools import cache

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fuzz.registry import fuzz_target
from securesock.crypto import suites
from securesock.crypto.algorithm_identifier import parse_algorithm_identifier_untrusted, write_algorithm_identifier
from securesock.crypto.esp_cipher import make_esp_cipher
from securesock.crypto.kdf import DirectionKeys
from securesock.crypto.key_exchange import answer_key_exchange
from securesock.crypto.message_protection import MessageProtection
from securesock.crypto.signatures import verify_auth
from securesock.crypto.suites import EspSuite, IkeSuite
from securesock.entropy import SystemEntropy
from securesock.errors import WireError

SIGNED = b"octets"
RSA_PUBLIC = b"""-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAkSCcvP1Rem7Re85cujEm
Vv1xQA56kHih+Ws6RWRR3V4Wx2zxy/zxO8R6ASxbZJG17TJi89tZIh48VDRBdWuc
LJpWpftXq01uf1hcO6C0ax/mvYlHPLN1fxu0qvtynCioSt6tKTXwsT9l+Ck/KuMd
eqRyduoM5DMI+PPUF6wGlBxlG2GOBfyhZsCguJb2sZWjWeAxepknYyx0hTIttU1d
Y+PlG2j9Iyzj/TUsg5IqvFhAwHIGM+hMgBmBdBRpd+X15FkdZkVBrspupOHKv3SI
A1+DNfpmMnlDefktEXxrRsUSlJgArkxhkWOfQwu8jCv9g5xJBpo6KFzsotY+b9h8
cQIDAQAB
-----END PUBLIC KEY-----
"""
CBC = IkeSuite(suites.AES_128_CBC, suites.HMAC_SHA2_256_128, suites.PRF_HMAC_SHA2_256, suites.X25519)
GCM = IkeSuite(suites.AES_128_GCM_16, None, suites.PRF_HMAC_SHA2_256, suites.X25519)
METHODS = (suites.X25519, suites.P_256, suites.MODP_2048, suites.ML_KEM_768)


@cache
def public_keys() -> tuple[PublicKeyTypes, ...]:
    curve_key = ec.derive_private_key(1 << 200, ec.SECP256R1())
    edwards_key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    return curve_key.public_key(), edwards_key.public_key(), load_pem_public_key(RSA_PUBLIC)


@fuzz_target()
def algorithm_identifier(data: bytes) -> None:
    """What parses to a known algorithm is written in one form, which parses to the same."""
    parsed = parse_algorithm_identifier_untrusted(data)
    names = (parsed.scheme, parsed.hash_name, parsed.mask_hash_name)
    if not any(name[:1].isdigit() for name in names):
        written = write_algorithm_identifier(parsed)
        if parse_algorithm_identifier_untrusted(written) != parsed:
            raise ArithmeticError(parsed)


@fuzz_target(allowed=(WireError, InvalidSignature))
def signature_auth(data: bytes) -> None:
    """The first byte chooses the public key."""
    keys = public_keys()
    verify_auth(keys[data[0] % len(keys) if data else 0], data[1:], SIGNED)


@fuzz_target()
def key_exchange_value(data: bytes) -> None:
    """The first byte chooses the method."""
    answer_key_exchange(METHODS[data[0] % len(METHODS) if data else 0], data[1:], SystemEntropy())


@fuzz_target(allowed=(WireError, InvalidTag))
def encrypted_payload(data: bytes) -> None:
    """The first byte chooses the suite; all keys are zeros and there are no associated data."""
    suite, lengths = ((CBC, (16, 32)), (GCM, (20, 0)))[data[0] % 2 if data else 0]
    protection = MessageProtection(suite, bytes(lengths[0]), bytes(lengths[1]))
    protection.unpad(protection.open(data[1:], b""))


@fuzz_target(allowed=(InvalidTag,))
def esp_packet(data: bytes) -> None:
    """The first byte chooses the suite; all keys are zeros and the sequence number is the header's."""
    suite, keys = (
        (EspSuite(suites.AES_128_GCM_16, None), DirectionKeys(bytes(20), b"")),
        (EspSuite(suites.AES_128_CBC, suites.HMAC_SHA2_256_128), DirectionKeys(bytes(16), bytes(32))),
        (EspSuite(suites.NULL, suites.HMAC_SHA2_256_128), DirectionKeys(b"", bytes(32))),
    )[data[0] % 3 if data else 0]
    packet = bytearray(data[1:])
    make_esp_cipher(suite, keys).open_packet(memoryview(packet), int.from_bytes(packet[4:8], "big"))
