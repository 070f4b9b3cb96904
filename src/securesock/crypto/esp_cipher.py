"""Sealing and opening ESP packets in place: the hot path of every plane (RFC 4303).

A packet is one writable contiguous buffer, SPI(4) | sequence low(4) | IV | plaintext
with trailer | ICV.  The caller writes the header, the plaintext and the trailer, whose
lengths are right when the whole is; ``seal_packet`` writes the IV and the ICV and
encrypts where it stands.  SA look-up, sequence numbers, replay, padding and lifetimes
are the caller's.

- AEAD (RFC 4106, RFC 7634): nonce = salt | IV, and the IV is the 64-bit sequence number,
  which never repeats under one key.  Associated data: SPI | sequence number, 32 bits of it
  without ESN and 64 with (RFC 4106 5, RFC 7634 2.1).
- CBC with HMAC (RFC 3602, RFC 4868): the ICV covers SPI to ciphertext, then, with ESN, the
  high half of the sequence number, which is not sent (RFC 4303 2.2.1).  It is compared
  before anything is decrypted.
- NULL with HMAC (RFC 2410): the same, without encryption.  AES-GMAC (RFC 4543): esp_gmac.

CBC: an AES context of the library costs more to make than a small packet to encrypt, so one
runs through all packets of an SA.  Sealing: 16 fresh random bytes go into the IV field and
through the chain, and come out as an IV that nobody could foretell (RFC 3602 3; the
construction is RFC 4346 6.2.3.2, (2)(b)).  Opening: CBC decryption of a block needs only the
ciphertext block before it, so the plaintext is right and what the IV field decrypts to is waste.

One thread at a time uses an object; the two directions of an SA pair are two objects.  After
fork the child must not use a copy: an AEAD's IV is the caller's sequence number, and both
would count on.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hmac import HMAC

from .esp_gmac import Gmac
from .esp_runs import OneByOne
from .kdf import DirectionKeys
from .message_protection import aead_class
from .prf import HASHES
from .suites import Encryption, EspSuite, Integrity

__all__ = ["EspCipher", "esp_cipher_maker", "make_esp_cipher", "opens_with"]


class EspCipher(Protocol):
    """One direction of one Child SA.  Lengths in bytes; ``alignment`` of the plaintext with its trailer."""

    @property
    def iv_length(self) -> int:
        """0, 8 or 16."""
        ...

    @property
    def icv_length(self) -> int:
        """16, 24 or 32."""
        ...

    @property
    def alignment(self) -> int:
        """4 or 16."""
        ...

    @property
    def overhead(self) -> int:
        """What a packet has beside the plaintext: header, IV and ICV."""
        ...

    def seal_packet(self, packet: memoryview, sequence: int) -> None:
        """Write IV and ICV and encrypt, in place.  ``sequence`` is the whole number, 64 bits with ESN.

        The caller hands every sequence number in once, and a plaintext of whole ``alignment`` units.
        """
        ...

    def seal_within(self, buffer: memoryview, start: int, end: int, spi: bytes, sequence: int) -> None:
        """seal_packet(buffer[start:end]), whose header the caller has written with this ``spi`` and number; behind it,
        where the IV has 8 bytes, the number in 8 bytes.  For loops over a large buffer: there a view costs a step."""
        ...

    def open_within(self, buffer: memoryview, start: int, end: int, spi: bytes, sequence: int) -> None:
        """open_packet(buffer[start:end]) likewise: the caller has compared SPI and number, and that it is not
        shorter than the overhead."""
        ...

    def open_packet(self, packet: memoryview, sequence: int) -> None:
        """Verify and decrypt in place: the plaintext stands at ``packet[8 + iv_length : -icv_length]``.

        InvalidTag: not sealed with this key under this sequence number, whose low half the header must hold, or
        too short.  Then nothing unverified stands in the buffer as plaintext: an AEAD's is overwritten with zeros,
        the others verify before they decrypt.
        """
        ...

    def seal_bytes(self, spi: bytes, plaintext: bytes, sequence: int) -> bytes:
        """The same out of place, for messages so small that a buffer costs more than a copy: the whole packet."""
        ...

    def seal_run(
        self, spi: bytes, head: bytes, batch: Sequence[bytes | memoryview], trailer: bytes, sequence: int
    ) -> bytes:
        """As seal_bytes, of ``head``, data and ``trailer`` for each of the equally long data of ``batch``: the packets
        one behind the other, the first under ``sequence`` and each other under the next number."""
        ...

    def open_bytes(self, packet: bytes, sequence: int) -> bytes:
        """The plaintext with its trailer, out of place.  Raises as open_packet does; ``packet`` stays as it is.

        The caller has compared SPI and the header's half of the sequence number.
        """
        ...

    def open_run(self, spi: bytes, run: bytes, size: int, sequence: int) -> list[bytes]:
        """What open_bytes would return for the packets of ``size`` bytes that stand one behind the other in ``run``,
        the first under ``sequence`` and each other under the next number: up to the first that is another one, is
        shorter, or does not verify.  An empty list is always a right answer: then one opens them one by one."""
        ...


def make_esp_cipher(suite: EspSuite, keys: DirectionKeys, draw: Callable[[int], bytes] = os.urandom) -> EspCipher:
    """The cipher of one direction of a Child SA.  ValueError if the keys are not as long as the suite says.

    ``draw`` gives fresh random bytes for CBC; a replayed run gives its own.
    """
    encryption = suite.encryption
    if len(keys.encryption) != encryption.key_length + encryption.salt_length:
        raise ValueError(f"{encryption.name} takes {encryption.key_length + encryption.salt_length} bytes of key")
    if suite.integrity is None:
        if not encryption.encrypts:
            return Gmac(encryption, keys.encryption, suite.esn)
        return esp_cipher_maker(suite)(keys.encryption)
    if len(keys.integrity) != suite.integrity.key_length:
        raise ValueError(f"{suite.integrity.name} takes {suite.integrity.key_length} bytes of key")
    if encryption.key_length == 0:
        return _NullWithHmac(encryption, suite.integrity, keys.integrity, suite.esn)
    return _CbcWithHmac(encryption, suite.integrity, keys, suite.esn, draw)


@lru_cache(maxsize=64)
def esp_cipher_maker(suite: EspSuite) -> Callable[[bytes], EspCipher]:
    """What makes the ciphers of many SAs of one suite, each of the keys of one direction in one: encryption's, and
    behind them integrity's.  ValueError, when it is called, if there are not as many bytes as the suite says."""
    encryption, esn = suite.encryption, suite.esn
    length = encryption.key_length + encryption.salt_length
    if suite.integrity is None and encryption.encrypts:
        key_length, library, kind = encryption.key_length, aead_class(encryption), _AeadWithEsn if esn else _Aead

        def make_aead_cipher(key: bytes) -> EspCipher:
            if len(key) != length:
                raise ValueError(f"{encryption.name} takes {length} bytes of key")
            return kind(library(key[:key_length]), key[key_length:])

        return make_aead_cipher
    return lambda key: make_esp_cipher(suite, DirectionKeys(key[:length], key[length:]))


def opens_with(suite: EspSuite) -> Callable[[AESGCM | ChaCha20Poly1305, bytes, bytes, int], bytes] | None:
    """What opens packets of many SAs of a suite, for whoever keeps their parts itself: with the library's AEAD of the
    key (message_protection.aead_class), the salt, the packet of at least 16 bytes and its whole sequence number, as
    ``open_bytes`` would.  None for a suite without an AEAD of the library's."""
    if suite.integrity is not None or not suite.encryption.encrypts:
        return None

    def open_long(aead: AESGCM | ChaCha20Poly1305, salt: bytes, packet: bytes, sequence: int) -> bytes:
        return aead.decrypt(salt + packet[8:16], packet[16:], packet[:4] + sequence.to_bytes(8, "big"))

    def open_short(aead: AESGCM | ChaCha20Poly1305, salt: bytes, packet: bytes, sequence: int) -> bytes:
        return aead.decrypt(salt + packet[8:16], packet[16:], packet[:8])

    return open_long if suite.esn else open_short


class _Aead:
    """AES-GCM and ChaCha20-Poly1305: IV 8, ICV 16, so packet[16:-16] is the text; literals, for speed."""

    __slots__ = ("_aead", "_salt")

    _esn = False

    iv_length: Final = 8
    icv_length: Final = 16
    alignment: Final = 4
    overhead: Final = 32

    def __init__(self, aead: AESGCM | ChaCha20Poly1305, salt: bytes) -> None:
        self._aead = aead
        self._salt = salt

    def seal_packet(self, packet: memoryview, sequence: int) -> None:
        iv = sequence.to_bytes(8, "big")
        packet[8:16] = iv
        aad = packet[:4].tobytes() + iv if self._esn else packet[:8]
        self._aead.encrypt_into(self._salt + iv, packet[16:-16], aad, packet[16:])

    def seal_within(self, buffer: memoryview, start: int, end: int, spi: bytes, sequence: int) -> None:
        iv = sequence.to_bytes(8, "big")
        text = buffer[start + 16 : end]
        self._aead.encrypt_into(self._salt + iv, text[:-16], spi + (iv if self._esn else iv[4:]), text)

    def open_within(self, buffer: memoryview, start: int, end: int, spi: bytes, sequence: int) -> None:
        number = sequence.to_bytes(8, "big")
        text = buffer[start + 16 : end]
        plaintext = text[:-16]
        iv = buffer[start + 8 : start + 16].tobytes()
        try:
            self._aead.decrypt_into(self._salt + iv, text, spi + (number if self._esn else number[4:]), plaintext)
        except InvalidTag:
            plaintext[:] = bytes(len(plaintext))  # the library decrypts while it verifies
            raise

    def open_packet(self, packet: memoryview, sequence: int) -> None:
        if len(packet) < 32:
            raise InvalidTag
        number = sequence.to_bytes(8, "big")
        if packet[4:8] != number[4:]:
            raise InvalidTag
        aad = packet[:4].tobytes() + number if self._esn else packet[:8]
        plaintext = packet[16:-16]
        try:
            self._aead.decrypt_into(self._salt + packet[8:16].tobytes(), packet[16:], aad, plaintext)
        except InvalidTag:
            plaintext[:] = bytes(len(plaintext))  # the library decrypts while it verifies
            raise

    def seal_bytes(self, spi: bytes, plaintext: bytes, sequence: int) -> bytes:
        iv = sequence.to_bytes(8, "big")
        header = spi + iv[4:]
        return header + iv + self._aead.encrypt(self._salt + iv, plaintext, header)

    def seal_run(
        self, spi: bytes, head: bytes, batch: Sequence[bytes | memoryview], trailer: bytes, sequence: int
    ) -> bytes:
        encrypt, salt, esn = self._aead.encrypt, self._salt, self._esn
        pieces: list[bytes] = []
        for number, data in enumerate(batch, sequence):
            iv = number.to_bytes(8, "big")
            header = spi + iv[4:]
            pieces.append(header + iv)
            pieces.append(encrypt(salt + iv, head + data + trailer, spi + iv if esn else header))
        return b"".join(pieces)

    def open_bytes(self, packet: bytes, sequence: int) -> bytes:
        try:
            return self._aead.decrypt(self._salt + packet[8:16], packet[16:], packet[:8])
        except ValueError:  # no nonce is as short: the packet ends within its IV
            raise InvalidTag from None

    def open_run(self, spi: bytes, run: bytes, size: int, sequence: int) -> list[bytes]:
        opened: list[bytes] = []
        if size < 32:
            return opened
        decrypt, salt, esn = self._aead.decrypt, self._salt, self._esn
        whole = run if len(run) % size == 0 else run[: -(len(run) % size)]
        # one step in C for all three slices of a packet
        for header, iv, text in struct.iter_unpack(f"8s8s{size - 16}s", whole):
            number = sequence.to_bytes(8, "big")
            if header != spi + number[4:]:
                break
            try:
                opened.append(decrypt(salt + iv, text, spi + number if esn else header))
            except InvalidTag:
                break
            sequence += 1
        return opened


class _AeadWithEsn(_Aead):
    """The same with extended sequence numbers, whose whole is authenticated; told apart once, not for each packet."""

    __slots__ = ()

    _esn = True

    def seal_bytes(self, spi: bytes, plaintext: bytes, sequence: int) -> bytes:
        iv = sequence.to_bytes(8, "big")
        return spi + iv[4:] + iv + self._aead.encrypt(self._salt + iv, plaintext, spi + iv)

    def open_bytes(self, packet: bytes, sequence: int) -> bytes:
        aad = packet[:4] + sequence.to_bytes(8, "big")
        try:
            return self._aead.decrypt(self._salt + packet[8:16], packet[16:], aad)
        except ValueError:
            raise InvalidTag from None


class _NullWithHmac(OneByOne):
    """Integrity only: IV 0."""

    __slots__ = ("_esn", "_keyed", "alignment", "icv_length", "iv_length", "overhead")

    def __init__(self, encryption: Encryption, integrity: Integrity, key: bytes, esn: bool) -> None:
        self._keyed = HMAC(key, HASHES[integrity.hash_name])
        self._esn = esn
        self.iv_length: Final = encryption.iv_length
        self.icv_length: Final = integrity.icv_length
        self.alignment: Final = encryption.alignment
        self.overhead: Final = 8 + encryption.iv_length + integrity.icv_length

    def _icv(self, packet: memoryview, sequence: int) -> bytes:
        mac = self._keyed.copy()
        mac.update(packet[: -self.icv_length])
        if self._esn:
            mac.update((sequence >> 32).to_bytes(4, "big"))
        return mac.finalize()[: self.icv_length]

    def _verify(self, packet: memoryview, sequence: int) -> None:
        if packet[4:8] != (sequence & 0xFFFFFFFF).to_bytes(4, "big"):
            raise InvalidTag
        if not hmac.compare_digest(self._icv(packet, sequence), packet[-self.icv_length :]):
            raise InvalidTag

    def seal_packet(self, packet: memoryview, sequence: int) -> None:
        packet[-self.icv_length :] = self._icv(packet, sequence)

    def open_packet(self, packet: memoryview, sequence: int) -> None:
        if len(packet) < 8 + self.icv_length:
            raise InvalidTag
        self._verify(packet, sequence)

    def seal_bytes(self, spi: bytes, plaintext: bytes, sequence: int) -> bytes:
        header = spi + (sequence & 0xFFFFFFFF).to_bytes(4, "big")
        packet = bytearray(header + bytes(self.iv_length) + plaintext + bytes(self.icv_length))
        self.seal_packet(memoryview(packet), sequence)
        return bytes(packet)

    def open_bytes(self, packet: bytes, sequence: int) -> bytes:
        opened = bytearray(packet)
        self.open_packet(memoryview(opened), sequence)
        return bytes(opened[8 + self.iv_length : -self.icv_length])


class _CbcWithHmac(_NullWithHmac):
    """AES-CBC: IV 16.  The library wants 15 bytes of room behind the text; the ICV gives them and is not written."""

    __slots__ = ("_decrypt_into", "_draw", "_encrypt_into")

    def __init__(
        self,
        encryption: Encryption,
        integrity: Integrity,
        keys: DirectionKeys,
        esn: bool,
        draw: Callable[[int], bytes],
    ) -> None:
        super().__init__(encryption, integrity, keys.integrity, esn)
        self._draw = draw
        chain = Cipher(algorithms.AES(keys.encryption), modes.CBC(bytes(16)))  # a mask of zeros: RFC 4346, (2)(a)
        self._encrypt_into = chain.encryptor().update_into
        self._decrypt_into = chain.decryptor().update_into

    def seal_packet(self, packet: memoryview, sequence: int) -> None:
        text = packet[8 : -self.icv_length]
        if len(text) % 16 != 0:
            raise ValueError("the plaintext with its trailer is no whole number of AES blocks")
        packet[8:24] = self._draw(16)
        self._encrypt_into(text, packet[8:])
        packet[-self.icv_length :] = self._icv(packet, sequence)

    def open_packet(self, packet: memoryview, sequence: int) -> None:
        text = packet[8 : -self.icv_length]
        # before the chain sees it: a part of a block would stay in the context and shift all later packets
        if len(text) < 32 or len(text) % 16 != 0:
            raise InvalidTag
        self._verify(packet, sequence)
        self._decrypt_into(text, packet[8:])
