"""Keys of an IKE SA and of its Child SAs (RFC 7296 2.14, 2.17, 2.18; RFC 9370 2.2.2, 2.2.4).

Pure functions over bytes.  ``shared`` is g^ir as the key exchange gives it: a MODP
value padded to the length of the prime, the x coordinate of a curve point, the 32
bytes of X25519 or of ML-KEM.  Nonces are their payloads' contents, initiator first.
"""

from __future__ import annotations

from typing import NamedTuple

from .prf import compute_prf, prf_plus
from .suites import EspSuite, IkeSuite, Prf

__all__ = [
    "DirectionKeys",
    "IkeKeys",
    "derive_child_keys",
    "derive_ike_keys",
    "mix_ppk",
    "initial_skeyseed",
    "intermediate_skeyseed",
    "rekey_skeyseed",
    "resumption_skeyseed",
]


class IkeKeys(NamedTuple):
    """The seven secrets of an IKE SA (RFC 7296 2.14).  Not shown by repr.

    ``sk_ai`` and ``sk_ar`` are empty with an AEAD; ``sk_ei`` and ``sk_er`` end in the salt (RFC 5282 7.1).
    """

    sk_d: bytes
    sk_ai: bytes
    sk_ar: bytes
    sk_ei: bytes
    sk_er: bytes
    sk_pi: bytes
    sk_pr: bytes

    def __repr__(self) -> str:
        return "IkeKeys(***)"


class DirectionKeys(NamedTuple):
    """What one direction of a Child SA is keyed with.  Not shown by repr.

    ``encryption`` is the cipher's key with its salt behind it; ``integrity`` is empty with an AEAD.
    """

    encryption: bytes
    integrity: bytes

    def __repr__(self) -> str:
        return "DirectionKeys(***)"


def initial_skeyseed(prf: Prf, nonce_i: bytes, nonce_r: bytes, shared: bytes) -> bytes:
    """SKEYSEED of IKE_SA_INIT: prf(Ni | Nr, g^ir) (RFC 7296 2.14)."""
    return compute_prf(prf, nonce_i + nonce_r, shared)


def intermediate_skeyseed(prf: Prf, sk_d: bytes, shared: bytes, nonce_i: bytes, nonce_r: bytes) -> bytes:
    """SKEYSEED(n) after an additional key exchange: prf(SK_d(n-1), SK(n) | Ni | Nr) (RFC 9370 2.2.2)."""
    return compute_prf(prf, sk_d, shared + nonce_i + nonce_r)


def rekey_skeyseed(
    old_prf: Prf,
    old_sk_d: bytes,
    shared: bytes,
    nonce_i: bytes,
    nonce_r: bytes,
    additional: tuple[bytes, ...] = (),
) -> bytes:
    """SKEYSEED of a rekeyed IKE SA, by the prf of the old one (RFC 7296 2.18).

    prf(SK_d old, SK(0) | Ni | Nr | SK(1) | ...) with additional key exchanges (RFC 9370 2.2.4).
    """
    return compute_prf(old_prf, old_sk_d, b"".join((shared, nonce_i, nonce_r, *additional)))


def resumption_skeyseed(prf: Prf, old_sk_d: bytes, nonce_i: bytes, nonce_r: bytes) -> bytes:
    """SKEYSEED of a resumed IKE SA: prf(SK_d old, "Resumption" | Ni | Nr) (RFC 5723 5.1)."""
    return compute_prf(prf, old_sk_d, b"Resumption" + nonce_i + nonce_r)


def derive_ike_keys(
    suite: IkeSuite, skeyseed: bytes, nonce_i: bytes, nonce_r: bytes, spi_i: bytes, spi_r: bytes
) -> IkeKeys:
    """{SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr)."""
    d = suite.prf.output_length  # the preferred key length of the prf, for SK_d, SK_pi and SK_pr (RFC 7296 2.14)
    a = 0 if suite.integrity is None else suite.integrity.key_length
    e = suite.encryption.key_length + suite.encryption.salt_length
    material = prf_plus(suite.prf, skeyseed, nonce_i + nonce_r + spi_i + spi_r, 3 * d + 2 * a + 2 * e)
    pieces = []
    start = 0
    for length in (d, a, a, e, e, d, d):
        pieces.append(material[start : start + length])
        start += length
    return IkeKeys(*pieces)


def mix_ppk(prf: Prf, keys: IkeKeys, ppk: bytes) -> IkeKeys:
    """SK_d, SK_pi and SK_pr = prf+(PPK, SK_x'); the others stay (RFC 8784 3)."""
    length = prf.output_length
    sk_d, sk_pi, sk_pr = (prf_plus(prf, ppk, each, length) for each in (keys.sk_d, keys.sk_pi, keys.sk_pr))
    return keys._replace(sk_d=sk_d, sk_pi=sk_pi, sk_pr=sk_pr)


def derive_child_keys(
    prf: Prf,
    sk_d: bytes,
    suite: EspSuite,
    nonce_i: bytes,
    nonce_r: bytes,
    shared: bytes = b"",
    additional: tuple[bytes, ...] = (),
) -> tuple[DirectionKeys, DirectionKeys]:
    """Keys of a Child SA: (initiator to responder, responder to initiator) of the exchange that made it.

    KEYMAT = prf+(SK_d, [SK(0) |] Ni | Nr [| SK(1) | ...]): in each direction the encryption key with its
    salt, then the integrity key (RFC 7296 2.17, RFC 9370 2.2.4).
    """
    e = suite.encryption.key_length + suite.encryption.salt_length
    each = e + (0 if suite.integrity is None else suite.integrity.key_length)
    material = prf_plus(prf, sk_d, b"".join((shared, nonce_i, nonce_r, *additional)), 2 * each)
    return (
        DirectionKeys(material[:e], material[e:each]),
        DirectionKeys(material[each : each + e], material[each + e :]),
    )
