"""Key exchange: one end begins, the other answers, and both have the same secret.

For the Diffie-Hellman groups both do the same; for ML-KEM the one who begins sends an
encapsulation key and the one who answers a ciphertext.  The bytes are the data of
KE payloads without group number (RFC 7296 3.4, 5903 7, 8031 2, draft-ietf-ipsecme-ikev2-mlkem).

Private keys are drawn from Entropy; ML-KEM encapsulation draws inside the library.
Every value of the peer's is checked before it is used (RFC 6989, RFC 7748 6.1, FIPS 203 7.2, 7.3), and every
private key serves one exchange.  Which group is right, and what a wrong one means, is keying's.
"""

from __future__ import annotations

from functools import cache
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ..entropy import Entropy, SystemEntropy
from ..errors import WireError
from .suites import ML_KEM_768, MODP_2048, P_256, P_384, P_521, X25519, KeyExchangeMethod

__all__ = ["PendingKeyExchange", "answer_key_exchange", "begin_key_exchange", "is_available"]

_SEED_LENGTH = 64  # FIPS 203 7.1: d | z
_ECDH = ec.ECDH()


class PendingKeyExchange(Protocol):
    """Our half, waiting for the peer's."""

    @property
    def public(self) -> bytes:
        """What goes into our KE payload."""
        ...

    def finish(self, peer_public: bytes) -> bytes:
        """The shared secret: g^ir, or ML-KEM's 32 bytes.  WireError if the peer's value is not acceptable."""
        ...


@cache
def is_available(method: KeyExchangeMethod) -> bool:
    """Whether this machine's cryptography can do it; what cannot be done is not to be offered.

    ML-KEM needs OpenSSL 3.5 or later below the library, which its wheels have since 48 and a distribution's
    build may lack; the library will drop MODP one day.  Asked by doing it once.
    """
    try:
        begin_key_exchange(method, SystemEntropy())
    except (UnsupportedAlgorithm, ImportError):
        return False
    return True


def begin_key_exchange(method: KeyExchangeMethod, entropy: Entropy) -> PendingKeyExchange:
    """Our half as the one who speaks first."""
    if method == X25519:
        return _PendingX25519(entropy)
    if method == ML_KEM_768:
        return _PendingMlKem(entropy)
    if method == MODP_2048:
        return _PendingModp(entropy)
    return _PendingEllipticCurve(method, entropy)


def answer_key_exchange(method: KeyExchangeMethod, peer_public: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
    """(what goes into our KE payload, the shared secret).  WireError if the peer's value is not acceptable."""
    if method == ML_KEM_768:
        return _encapsulate(peer_public)
    pending = begin_key_exchange(method, entropy)
    return pending.public, pending.finish(peer_public)


def _refused(method: KeyExchangeMethod, error: ValueError) -> WireError:
    return WireError(f"{method.name}: the peer's value is not acceptable: {error}")


def _check_length(method: KeyExchangeMethod, peer_public: bytes, length: int) -> None:
    if len(peer_public) != length:
        raise WireError(f"{method.name}: the peer's value has {len(peer_public)} bytes, not {length}")


class _PendingX25519:
    __slots__ = ("_private", "public")

    def __init__(self, entropy: Entropy) -> None:
        self._private = X25519PrivateKey.from_private_bytes(entropy.token(32))
        self.public: bytes = self._private.public_key().public_bytes_raw()

    def finish(self, peer_public: bytes) -> bytes:
        _check_length(X25519, peer_public, 32)
        try:
            # the library refuses an all-zero result (RFC 7748 6.1)
            return self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except ValueError as error:
            raise _refused(X25519, error) from error


_CURVES: dict[KeyExchangeMethod, ec.EllipticCurve] = {
    P_256: ec.SECP256R1(),
    P_384: ec.SECP384R1(),
    P_521: ec.SECP521R1(),
}


class _PendingEllipticCurve:
    __slots__ = ("_method", "_private", "public")

    def __init__(self, method: KeyExchangeMethod, entropy: Entropy) -> None:
        # here, since policies ask this module what there is, long before anybody exchanges a key
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        curve = _CURVES[method]
        self._method = method
        self._private = ec.derive_private_key(_draw_scalar(curve, entropy), curve)
        # RFC 5903 7: x | y, without the leading 04 of X9.62
        self.public: bytes = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]

    def finish(self, peer_public: bytes) -> bytes:
        _check_length(self._method, peer_public, self._method.initiator_length)
        try:
            # the library checks that the point is on the curve; infinity has no such form (RFC 6989 2.3)
            point = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[self._method], b"\x04" + peer_public)
            return self._private.exchange(_ECDH, point)  # the x coordinate (RFC 5903 7)
        except ValueError as error:
            raise _refused(self._method, error) from error


def _draw_scalar(curve: ec.EllipticCurve, entropy: Entropy) -> int:
    """A private key, uniform in [1, n - 1]: drawn again while it is not (FIPS 186-5 A.2.2)."""
    bits = curve.group_order.bit_length()
    while True:
        scalar = int.from_bytes(entropy.token((bits + 7) // 8), "big") >> (-bits % 8)
        if 0 < scalar < curve.group_order:
            return scalar


class _PendingModp:
    __slots__ = ("_private", "public")

    def __init__(self, entropy: Entropy) -> None:
        from .modp import PRIVATE_LENGTH, ModpPrivateKey  # here, so that its end in the library ends nothing else

        self._private = ModpPrivateKey(entropy.token(PRIVATE_LENGTH))
        self.public: bytes = self._private.public

    def finish(self, peer_public: bytes) -> bytes:
        return self._private.exchange(peer_public)


class _PendingMlKem:
    __slots__ = ("_private", "public")

    def __init__(self, entropy: Entropy) -> None:
        self._private = MLKEM768PrivateKey.from_seed_bytes(entropy.token(_SEED_LENGTH))
        self.public: bytes = self._private.public_key().public_bytes_raw()

    def finish(self, peer_public: bytes) -> bytes:
        # FIPS 203 7.3: a ciphertext is checked by its length; a wrong one of that length gives another secret
        _check_length(ML_KEM_768, peer_public, ML_KEM_768.responder_length)
        try:
            return self._private.decapsulate(peer_public)
        except ValueError as error:
            raise _refused(ML_KEM_768, error) from error


def _encapsulate(peer_public: bytes) -> tuple[bytes, bytes]:
    _check_length(ML_KEM_768, peer_public, ML_KEM_768.initiator_length)
    try:
        # the library makes the modulus check of FIPS 203 7.2
        shared, ciphertext = MLKEM768PublicKey.from_public_bytes(peer_public).encapsulate()
    except ValueError as error:
        raise _refused(ML_KEM_768, error) from error
    return ciphertext, shared
