"""The negotiated pseudorandom function and prf+ (RFC 7296 2.13).

All PRFs here are HMACs and take keys of any length.  Nothing is kept between calls.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from types import MappingProxyType

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from .suites import Prf

__all__ = ["HASHES", "compute_prf", "prf_plus"]

HASHES: Mapping[str, hashes.HashAlgorithm] = MappingProxyType(
    {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
)
"""By hashlib's name.  SHA-1 is not among them, and nothing here may use it."""

MAX_BLOCKS = 255
"""prf+ counts its blocks in one octet, from 1 (RFC 7296 2.13)."""


def compute_prf(prf: Prf, key: bytes, data: bytes) -> bytes:
    """prf(key, data): ``prf.output_length`` bytes."""
    return hmac.digest(key, data, prf.hash_name)


def prf_plus(prf: Prf, key: bytes, seed: bytes, length: int) -> bytes:
    """The first ``length`` bytes of prf+(key, seed).

    ValueError beyond 255 blocks of the prf's output, where prf+ is not defined (RFC 7296 2.13).
    """
    blocks = -(-length // prf.output_length)
    if blocks > MAX_BLOCKS:
        raise ValueError(f"prf+ ends after {MAX_BLOCKS} blocks: {length} bytes of {prf.name} are too many")
    keyed = HMAC(key, HASHES[prf.hash_name])  # a copy of a keyed one costs a third of a new one
    block = b""
    output = []
    for number in range(1, blocks + 1):
        mac = keyed.copy()
        mac.update(b"%b%b%c" % (block, seed, number))
        block = mac.finalize()
        output.append(block)
    return b"".join(output)[:length]
