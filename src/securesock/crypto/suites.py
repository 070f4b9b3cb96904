"""Which algorithms exist here, their IANA numbers and sizes, and the suites made of them.

An algorithm is a frozen value; a suite names one of each kind.  This module knows
sizes and names, not how anything is computed and not which suite is preferred
(policy decides that).  What is left out, and why, stands in docs/crypto.md.

Numbers: IANA "IKEv2 Parameters", transform types 1 (ENCR), 2 (PRF), 3 (INTEG), 4 (KE).
Requirement levels: RFC 8247 (IKE), RFC 8221 (ESP).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from ..errors import LocalMisuse

__all__ = [
    "AES_128_CBC",
    "AES_128_GCM_16",
    "AES_128_GMAC",
    "AES_192_GMAC",
    "AES_256_CBC",
    "AES_256_GCM_16",
    "AES_256_GMAC",
    "CHACHA20_POLY1305",
    "ENCRYPTIONS",
    "HMAC_SHA2_256_128",
    "HMAC_SHA2_384_192",
    "HMAC_SHA2_512_256",
    "INTEGRITIES",
    "KEY_EXCHANGES",
    "ML_KEM_768",
    "MODP_2048",
    "NULL",
    "PRFS",
    "PRF_HMAC_SHA2_256",
    "PRF_HMAC_SHA2_384",
    "PRF_HMAC_SHA2_512",
    "P_256",
    "P_384",
    "P_521",
    "X25519",
    "Encryption",
    "EspSuite",
    "IkeSuite",
    "Integrity",
    "KeyExchangeMethod",
    "Prf",
]


class Encryption(NamedTuple):
    """A cipher, or an AEAD.  All lengths in bytes.

    ``key_bits`` is the Key Length attribute of the transform, None where it must not be sent (RFC 7296 3.3.5).
    ``key_length`` is the cipher's key without the salt; the salt follows the key in the keying material
    (RFC 4106 8.1, RFC 7634 2).  ``alignment`` is what an ESP plaintext with its trailer must be a multiple
    of (RFC 4303 2.4: at least 4, and the cipher's block).
    """

    name: str
    transform_id: int
    key_bits: int | None
    key_length: int
    salt_length: int
    iv_length: int
    icv_length: int
    alignment: int
    is_aead: bool

    @property
    def encrypts(self) -> bool:
        """Whether nobody on the path can read what it protects."""
        return self.transform_id not in _NO_CIPHER


_NO_CIPHER = frozenset({11, 21})  # ENCR_NULL (RFC 2410), ENCR_NULL_AUTH_AES_GMAC (RFC 4543)


class Integrity(NamedTuple):
    """An HMAC with a truncated result.  Lengths in bytes; ``hash_name`` is hashlib's."""

    name: str
    transform_id: int
    key_length: int
    icv_length: int
    hash_name: str


class Prf(NamedTuple):
    """A pseudorandom function whose preferred key length is its output length (RFC 7296 2.13)."""

    name: str
    transform_id: int
    output_length: int
    hash_name: str


class KeyExchangeMethod(NamedTuple):
    """A key exchange, with the bytes that each end puts into its KE payload's data."""

    name: str
    transform_id: int
    initiator_length: int
    responder_length: int


# RFC 4106: key | salt(4), IV(8), ICV 16.  The ESP alignment of an AEAD is 4 (RFC 4303 2.4, RFC 7634 2).
AES_128_GCM_16 = Encryption("AES-128-GCM-16", 20, 128, 16, 4, 8, 16, 4, True)
AES_256_GCM_16 = Encryption("AES-256-GCM-16", 20, 256, 32, 4, 8, 16, 4, True)
# RFC 7634: 36 bytes of keying material, no Key Length attribute.
CHACHA20_POLY1305 = Encryption("CHACHA20-POLY1305", 28, None, 32, 4, 8, 16, 4, True)
# RFC 3602: the IV is one block.
AES_128_CBC = Encryption("AES-128-CBC", 12, 128, 16, 0, 16, 0, 16, False)
AES_256_CBC = Encryption("AES-256-CBC", 12, 256, 32, 0, 16, 0, 16, False)
# RFC 2410: ESP only; RFC 8247 2.1 forbids it for IKE.
NULL = Encryption("NULL", 11, None, 0, 0, 0, 0, 4, False)
# RFC 4543: integrity alone, with the keys, IV and ICV of AES-GCM (5.1 to 5.4); ESP only.
AES_128_GMAC = Encryption("AES-128-GMAC", 21, 128, 16, 4, 8, 16, 4, True)
AES_192_GMAC = Encryption("AES-192-GMAC", 21, 192, 24, 4, 8, 16, 4, True)
AES_256_GMAC = Encryption("AES-256-GMAC", 21, 256, 32, 4, 8, 16, 4, True)

# RFC 4868: the key is as long as the hash's output, the ICV is its first half.
HMAC_SHA2_256_128 = Integrity("HMAC-SHA2-256-128", 12, 32, 16, "sha256")
HMAC_SHA2_384_192 = Integrity("HMAC-SHA2-384-192", 13, 48, 24, "sha384")
HMAC_SHA2_512_256 = Integrity("HMAC-SHA2-512-256", 14, 64, 32, "sha512")

PRF_HMAC_SHA2_256 = Prf("PRF-HMAC-SHA2-256", 5, 32, "sha256")
PRF_HMAC_SHA2_384 = Prf("PRF-HMAC-SHA2-384", 6, 48, "sha384")
PRF_HMAC_SHA2_512 = Prf("PRF-HMAC-SHA2-512", 7, 64, "sha512")

MODP_2048 = KeyExchangeMethod("MODP-2048", 14, 256, 256)  # RFC 3526 3
P_256 = KeyExchangeMethod("P-256", 19, 64, 64)  # RFC 5903: x | y, without a point format byte
P_384 = KeyExchangeMethod("P-384", 20, 96, 96)
P_521 = KeyExchangeMethod("P-521", 21, 132, 132)
X25519 = KeyExchangeMethod("X25519", 31, 32, 32)  # RFC 8031
ML_KEM_768 = KeyExchangeMethod("ML-KEM-768", 36, 1184, 1088)  # FIPS 203: encapsulation key, ciphertext

ENCRYPTIONS: Mapping[tuple[int, int | None], Encryption] = MappingProxyType(
    {
        (each.transform_id, each.key_bits): each
        for each in (
            AES_256_GCM_16,
            AES_128_GCM_16,
            CHACHA20_POLY1305,
            AES_256_CBC,
            AES_128_CBC,
            NULL,
            AES_128_GMAC,
            AES_192_GMAC,
            AES_256_GMAC,
        )
    }
)
"""By transform id and Key Length attribute (None: the transform has none)."""

INTEGRITIES: Mapping[int, Integrity] = MappingProxyType(
    {each.transform_id: each for each in (HMAC_SHA2_256_128, HMAC_SHA2_384_192, HMAC_SHA2_512_256)}
)
PRFS: Mapping[int, Prf] = MappingProxyType(
    {each.transform_id: each for each in (PRF_HMAC_SHA2_256, PRF_HMAC_SHA2_384, PRF_HMAC_SHA2_512)}
)
KEY_EXCHANGES: Mapping[int, KeyExchangeMethod] = MappingProxyType(
    {each.transform_id: each for each in (X25519, P_256, P_384, P_521, MODP_2048, ML_KEM_768)}
)


@dataclass(frozen=True, slots=True)
class IkeSuite:
    """What protects an IKE SA.  A combination that the RFCs forbid is LocalMisuse when it is made.

    ``additional_key_exchanges`` are ADDKE1.. in order (RFC 9370), none of them twice.
    """

    encryption: Encryption
    integrity: Integrity | None
    prf: Prf
    key_exchange: KeyExchangeMethod
    additional_key_exchanges: tuple[KeyExchangeMethod, ...] = ()

    def __post_init__(self) -> None:
        _check_integrity(self.encryption, self.integrity)
        _check_key_exchanges(self.key_exchange, self.additional_key_exchanges)
        if not self.encryption.encrypts:
            raise LocalMisuse(f"an IKE SA is always encrypted: {self.encryption.name} is for ESP only (RFC 8247 2.1)")

    @property
    def name(self) -> str:
        """For example ``AES-256-GCM-16/PRF-HMAC-SHA2-384/X25519+ML-KEM-768``."""
        parts = [self.encryption.name]
        if self.integrity is not None:
            parts.append(self.integrity.name)
        parts.append(self.prf.name)
        parts.extend(_key_exchange_names(self.key_exchange, self.additional_key_exchanges))
        return "/".join(parts)

    @property
    def encrypted(self) -> bool:
        """Always True; there for symmetry with EspSuite."""
        return True


@dataclass(frozen=True, slots=True)
class EspSuite:
    """What protects a Child SA.  ``key_exchange`` None: keys come from SK_d and the nonces alone.

    The Child SA of IKE_AUTH never has one (RFC 7296 1.2); those of CREATE_CHILD_SA may.
    """

    encryption: Encryption
    integrity: Integrity | None
    key_exchange: KeyExchangeMethod | None = None
    additional_key_exchanges: tuple[KeyExchangeMethod, ...] = ()
    esn: bool = True

    def __post_init__(self) -> None:
        _check_integrity(self.encryption, self.integrity)
        _check_key_exchanges(self.key_exchange, self.additional_key_exchanges)

    @property
    def name(self) -> str:
        """For example ``AES-256-GCM-16/X25519/ESN`` or ``AES-128-CBC/HMAC-SHA2-256-128``."""
        parts = [self.encryption.name]
        if self.integrity is not None:
            parts.append(self.integrity.name)
        parts.extend(_key_exchange_names(self.key_exchange, self.additional_key_exchanges))
        if self.esn:
            parts.append("ESN")
        return "/".join(parts)

    @property
    def encrypted(self) -> bool:
        """False with NULL encryption and with GMAC: integrity only."""
        return self.encryption.encrypts


def _check_integrity(encryption: Encryption, integrity: Integrity | None) -> None:
    if encryption.is_aead and integrity is not None:
        raise LocalMisuse(f"{encryption.name} protects integrity itself: no {integrity.name} beside it (RFC 5282 8)")
    if not encryption.is_aead and integrity is None:
        raise LocalMisuse(f"{encryption.name} needs an integrity algorithm beside it (RFC 8221 4)")


def _check_key_exchanges(first: KeyExchangeMethod | None, additional: tuple[KeyExchangeMethod, ...]) -> None:
    if first is None:
        if additional:
            raise LocalMisuse("an additional key exchange follows a first one (RFC 9370 2.2.4)")
        return
    if first == ML_KEM_768:
        raise LocalMisuse(
            "ML-KEM-768 is offered as an additional key exchange only, so that a classical one stays beside it"
        )
    if len({first, *additional}) != 1 + len(additional):
        raise LocalMisuse("the same key exchange twice in one suite (RFC 9370 2.2.1)")


def _key_exchange_names(first: KeyExchangeMethod | None, additional: tuple[KeyExchangeMethod, ...]) -> Iterator[str]:
    if first is not None:
        yield "+".join(each.name for each in (first, *additional))
