"""The Encrypted payload of IKEv2: what stands behind its generic header (RFC 7296 3.14, RFC 5282).

One object protects one direction of one IKE SA.  It turns padded plaintext into
IV | ciphertext | ICV and back; the associated data is the message up to and
including the generic header of the SK or SKF payload, which the caller has.

AEAD (RFC 5282): nonce = salt | IV, the salt being the tail of SK_e; the ICV covers
the associated data and the plaintext.  CBC with HMAC (RFC 7296 3.14): the ICV covers
the whole message from the first byte of its header, and is compared in constant
time before anything is decrypted.
"""

from __future__ import annotations

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ..entropy import Entropy
from ..errors import WireError
from .suites import CHACHA20_POLY1305, Encryption, IkeSuite

__all__ = ["MessageProtection", "aead_class", "make_aead"]


class MessageProtection:
    """Seals or opens the messages of one direction.  Its keys are shown by nothing.

    ``iv_length`` and ``icv_length`` in bytes; ``overhead`` is what ``seal`` adds to a padded plaintext.
    """

    __slots__ = ("_integrity_key", "_ivs_made", "_key", "_made", "_suite")

    def __init__(self, suite: IkeSuite, encryption_key: bytes, integrity_key: bytes) -> None:
        encryption = suite.encryption
        if len(encryption_key) != encryption.key_length + encryption.salt_length:
            raise ValueError(f"{encryption.name} takes {encryption.key_length + encryption.salt_length} bytes of key")
        if suite.integrity is not None and len(integrity_key) != suite.integrity.key_length:
            raise ValueError(f"{suite.integrity.name} takes {suite.integrity.key_length} bytes of key")
        self._suite = suite
        self._key = encryption_key
        self._integrity_key = integrity_key
        self._made: AESGCM | ChaCha20Poly1305 | _CbcWithHmac | None = None
        self._ivs_made = 0

    def __getstate__(self) -> tuple[IkeSuite, bytes, bytes, int]:
        """For an idle peer's rest, in this process alone: without the library's object, which has none."""
        return self._suite, self._key, self._integrity_key, self._ivs_made

    def __setstate__(self, state: tuple[IkeSuite, bytes, bytes, int]) -> None:
        self._suite, self._key, self._integrity_key, self._ivs_made = state
        self._made = None

    @property
    def _cipher(self) -> AESGCM | ChaCha20Poly1305 | _CbcWithHmac:
        """Made with the first message."""
        if self._made is None:
            suite = self._suite
            if suite.integrity is None:
                self._made = make_aead(suite.encryption, self._key[: suite.encryption.key_length])
            else:
                hash_name, icv_length = suite.integrity.hash_name, suite.integrity.icv_length
                self._made = _CbcWithHmac(self._key, self._integrity_key, hash_name, icv_length)
        return self._made

    @property
    def _salt(self) -> bytes:
        return self._key[self._suite.encryption.key_length :]

    @property
    def iv_length(self) -> int:
        """Of this suite."""
        return self._suite.encryption.iv_length

    @property
    def icv_length(self) -> int:
        """Of this suite."""
        integrity = self._suite.integrity
        return self._suite.encryption.icv_length if integrity is None else integrity.icv_length

    @property
    def block_length(self) -> int:
        """RFC 5282 3: an AEAD needs no padding, only the Pad Length field."""
        return 1 if self._suite.integrity is None else self._suite.encryption.alignment

    @property
    def overhead(self) -> int:
        """What ``seal`` adds."""
        return self.iv_length + self.icv_length

    def make_iv(self, entropy: Entropy) -> bytes:
        """The next IV of this direction: a counter with an AEAD, unpredictable bytes with CBC.

        An AEAD's IV must never repeat under one key (RFC 5282 3.1); a counter that this object keeps cannot.
        """
        if isinstance(self._cipher, _CbcWithHmac):
            return entropy.token(self.iv_length)  # RFC 3602 3
        self._ivs_made += 1
        return self._ivs_made.to_bytes(self.iv_length, "big")

    def pad(self, plaintext: bytes) -> bytes:
        """The plaintext with Padding and Pad Length behind it, as short as the cipher allows (RFC 7296 3.14)."""
        count = -(len(plaintext) + 1) % self.block_length
        return b"%b%b%c" % (plaintext, bytes(count), count)

    def room(self, length: int) -> int:
        """How many bytes of plaintext, once padded and sealed, are at most ``length`` bytes; negative if not even none.

        IV, ICV, the Pad Length field and the padding up to whole blocks take the rest.
        """
        return (length - self.overhead) // self.block_length * self.block_length - 1

    @staticmethod
    def unpad(padded: bytes) -> bytes:
        """What stands before Padding and Pad Length; any padding bytes do (RFC 7296 3.14).  WireError if too short."""
        if not padded or padded[-1] >= len(padded):
            raise WireError("Encrypted payload: the pad length exceeds the content")
        return padded[: -1 - padded[-1]]

    def seal(self, plaintext_padded: bytes, aad: bytes, iv: bytes) -> bytes:
        """IV | ciphertext | ICV: ``overhead`` bytes more than the padded plaintext.

        ``iv`` is one of make_iv, used for one message only.
        """
        if isinstance(self._cipher, _CbcWithHmac):
            return self._cipher.seal(plaintext_padded, aad, iv)
        return iv + self._cipher.encrypt(self._salt + iv, plaintext_padded, aad)

    def open(self, body: bytes, aad: bytes) -> bytes:
        """The padded plaintext of IV | ciphertext | ICV.

        InvalidTag: not sealed with these keys, over these associated data; nothing of it is handed out.
        WireError: the ICV is right and yet the length is not one that the cipher makes.
        """
        if len(body) <= self.overhead:
            raise InvalidTag
        if isinstance(self._cipher, _CbcWithHmac):
            return self._cipher.open(body, aad)
        split = self.iv_length
        return self._cipher.decrypt(self._salt + body[:split], body[split:], aad)


def make_aead(encryption: Encryption, key: bytes) -> AESGCM | ChaCha20Poly1305:
    """The library's AEAD for a suite's encryption; ``key`` without the salt."""
    return aead_class(encryption)(key)


def aead_class(encryption: Encryption) -> type[AESGCM] | type[ChaCha20Poly1305]:
    """What makes it."""
    # by number: comparing all fields of two suites costs as much as sealing a small packet
    return ChaCha20Poly1305 if encryption.transform_id == CHACHA20_POLY1305.transform_id else AESGCM


class _CbcWithHmac:
    """Encrypt, then MAC over everything before the ICV (RFC 7296 3.14)."""

    __slots__ = ("_aes", "_hash_name", "_icv_length", "_integrity_key")

    def __init__(self, key: bytes, integrity_key: bytes, hash_name: str, icv_length: int) -> None:
        self._aes = algorithms.AES(key)
        self._integrity_key = integrity_key
        self._hash_name = hash_name
        self._icv_length = icv_length

    def _icv(self, message: bytes) -> bytes:
        return hmac.digest(self._integrity_key, message, self._hash_name)[: self._icv_length]

    def seal(self, plaintext_padded: bytes, aad: bytes, iv: bytes) -> bytes:
        encryptor = Cipher(self._aes, modes.CBC(iv)).encryptor()
        body = iv + encryptor.update(plaintext_padded) + encryptor.finalize()
        return body + self._icv(aad + body)

    def open(self, body: bytes, aad: bytes) -> bytes:
        sealed = body[: -self._icv_length]
        if not hmac.compare_digest(self._icv(aad + sealed), body[-self._icv_length :]):
            raise InvalidTag
        if len(sealed) % 16 != 0:
            raise WireError("Encrypted payload: the content is no whole number of AES blocks")
        decryptor = Cipher(self._aes, modes.CBC(sealed[:16])).decryptor()
        return decryptor.update(sealed[16:]) + decryptor.finalize()
