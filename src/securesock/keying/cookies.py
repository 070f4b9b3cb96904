"""Stateless cookies: a responder under load makes initiators prove that they receive at their address.

RFC 7296 2.6: the cookie is computed from the request and a secret that only we know, so that nothing is stored until
it comes back.
Used on datagram carriers; on a stream the connection itself is that proof.  Knows bytes and time; no sessions.
"""

from __future__ import annotations

import hmac
from typing import Final

from ..entropy import Entropy

__all__ = ["CookieJar"]

SECRET_LIFETIME_S: Final = 60.0
"""RFC 7296 2.6 wants the secret changed often under attack; the one before it is still accepted, so a cookie lives
60 to 120 s."""

_SECRET_LENGTH: Final = 32


class CookieJar:
    """Makes and checks cookies; 1 byte of secret version and 32 bytes of HMAC-SHA-256."""

    __slots__ = ("_entropy", "_previous", "_secret", "_since", "_version")

    def __init__(self, entropy: Entropy, now: float) -> None:
        self._entropy = entropy
        self._version = 0
        self._secret = entropy.token(_SECRET_LENGTH)
        self._previous = b""
        self._since = now

    def _rotate(self, now: float) -> None:
        age_s = now - self._since
        if age_s < SECRET_LIFETIME_S:
            return
        # after two lifetimes of silence not even the last secret is fresh enough to be the previous one
        self._previous = self._secret if age_s < 2 * SECRET_LIFETIME_S else b""
        self._secret = self._entropy.token(_SECRET_LENGTH)
        self._version = (self._version + 1) & 0xFF
        self._since = now

    def bake(self, nonce: bytes, initiator_spi: bytes, address: tuple[str, int], now: float) -> bytes:
        """The 33-byte cookie for this request from this address."""
        self._rotate(now)
        return bytes((self._version,)) + _mac(self._secret, nonce, initiator_spi, address)

    def accepts(self, cookie: bytes, nonce: bytes, initiator_spi: bytes, address: tuple[str, int], now: float) -> bool:
        """Whether we baked ``cookie`` for this request in the last two minutes.  Constant time over the MAC."""
        self._rotate(now)
        version = cookie[:1]
        if version == bytes((self._version,)):
            secret = self._secret
        elif version == bytes(((self._version - 1) & 0xFF,)) and self._previous:
            secret = self._previous
        else:
            return False
        return hmac.compare_digest(cookie[1:], _mac(secret, nonce, initiator_spi, address))


def _mac(secret: bytes, nonce: bytes, initiator_spi: bytes, address: tuple[str, int]) -> bytes:
    # RFC 7296 2.6: over Ni, IPi and SPIi; lengths make the parts unambiguous
    host, port = address[0].encode(), address[1].to_bytes(2, "big")
    parts = (nonce, initiator_spi, host, port)
    return hmac.digest(secret, b"".join(len(part).to_bytes(2, "big") + part for part in parts), "sha256")
