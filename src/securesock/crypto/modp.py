"""MODP Diffie-Hellman (RFC 3526), kept behind one module because the library deprecates its home.

cryptography 50 warns when the DH names are touched and will remove them one day; then importing
this module fails, key_exchange.is_available says so, and nothing else is lost.  MODP-2048 is here
at all because RFC 8247 2.4 says MUST: some standard hosts have no other group in common with us.

The library draws its own private values.  Ours come from Entropy, so that a run can be
replayed: the public value g^x is computed as the exchange of x with the "peer" value g,
which is the same constant-time exponentiation.
"""

from __future__ import annotations

import warnings

from cryptography.utils import CryptographyDeprecationWarning

with warnings.catch_warnings():
    # the deprecation is known and answered above
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    from cryptography.hazmat.primitives.asymmetric.dh import (
        DHParameterNumbers,
        DHPrivateKey,
        DHPrivateNumbers,
        DHPublicNumbers,
    )

from ..errors import WireError

__all__ = ["PRIVATE_LENGTH", "ModpPrivateKey"]

# RFC 3526 3: 2^2048 - 2^1984 - 1 + 2^64 * ( [2^1918 pi] + 124476 ); a safe prime, generator 2.
_PRIME_2048 = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74"
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437"
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05"
    "98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB"
    "9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718"
    "3995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
_GENERATOR = 2
_LENGTH = 256

PRIVATE_LENGTH = 32
"""Bytes of a private exponent: 256 bits, over twice the group's strength of 112 (SP 800-56A Rev. 3, 5.6.1.1)."""


class ModpPrivateKey:
    """A private exponent in the 2048-bit group, and its public value.  The exponent is shown by nothing."""

    __slots__ = ("_key", "public")

    def __init__(self, exponent: bytes) -> None:
        numbers = DHParameterNumbers(_PRIME_2048, _GENERATOR)
        generator = DHPublicNumbers(_GENERATOR, numbers)
        # the lowest exponent that the range check allows; zero has a chance of 2^-256
        private = max(int.from_bytes(exponent, "big"), 2)
        # the library does not compare x with y; our y is found in the next line
        self._key: DHPrivateKey = DHPrivateNumbers(private, generator).private_key()
        self.public: bytes = self._key.exchange(generator.public_key())

    def exchange(self, peer_public: bytes) -> bytes:
        """g^ir, 256 bytes, zeros in front where it is shorter (RFC 7296 2.14).

        WireError unless ``peer_public`` is 256 bytes and 1 < y < p - 1 (RFC 6989 2.1; the prime is safe,
        so nothing else is to be checked).
        """
        if len(peer_public) != _LENGTH:
            raise WireError(f"MODP-2048: a public value has {_LENGTH} bytes, not {len(peer_public)}")
        y = int.from_bytes(peer_public, "big")
        if not 1 < y < _PRIME_2048 - 1:
            raise WireError("MODP-2048: the public value is not between 1 and p - 1")
        return self._key.exchange(DHPublicNumbers(y, DHParameterNumbers(_PRIME_2048, _GENERATOR)).public_key())
