"""Integrity-only ESP with AES-GMAC (RFC 4543, ENCR_NULL_AUTH_AES_GMAC): sealed and opened in place.

GMAC is GCM over no plaintext.  Nonce and IV are those of AES-GCM in ESP (RFC 4543 3.2): salt | IV, and the IV is the
64-bit sequence number, which never repeats under one key.  What is authenticated stands in the associated data (3.3,
figure 4): SPI, sequence number, IV, and everything up to the ICV; with ESN all 64 bits of the number, of which the
packet carries the lower half.  The text travels as it is.

See esp_cipher for what every such object promises, and for whose the SAs and sequence numbers are.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .esp_runs import OneByOne
from .suites import Encryption

__all__ = ["Gmac"]

_HEADER: Final = 8  # SPI and the lower half of the sequence number
_IV: Final = 8
_ICV: Final = 16  # RFC 4543 3.4: never truncated


class Gmac(OneByOne):
    """One direction of an SA; see esp_cipher.EspCipher."""

    __slots__ = ("_aead", "_esn", "_salt", "alignment", "icv_length", "iv_length", "overhead")

    def __init__(self, encryption: Encryption, key: bytes, esn: bool) -> None:
        self._aead = AESGCM(key[: encryption.key_length])
        self._salt = key[encryption.key_length :]
        self._esn = esn
        self.iv_length: Final = _IV
        self.icv_length: Final = _ICV
        self.alignment: Final = encryption.alignment
        self.overhead: Final = _HEADER + _IV + _ICV

    def _authenticated(self, packet: memoryview, sequence: int) -> bytes | memoryview:
        if not self._esn:
            return packet[:-_ICV]
        return b"".join((packet[:4], sequence.to_bytes(8, "big"), packet[_HEADER:-_ICV]))

    def seal_packet(self, packet: memoryview, sequence: int) -> None:
        """See EspCipher."""
        packet[_HEADER : _HEADER + _IV] = iv = sequence.to_bytes(_IV, "big")
        packet[-_ICV:] = self._aead.encrypt(self._salt + iv, b"", self._authenticated(packet, sequence))

    def open_packet(self, packet: memoryview, sequence: int) -> None:
        """See EspCipher; what does not verify is not looked at, and stands there as it came."""
        if len(packet) < _HEADER + _IV + _ICV or packet[4:_HEADER] != sequence.to_bytes(8, "big")[4:]:
            raise InvalidTag
        nonce = self._salt + packet[_HEADER : _HEADER + _IV].tobytes()
        self._aead.decrypt(nonce, packet[-_ICV:], self._authenticated(packet, sequence))

    def seal_bytes(self, spi: bytes, plaintext: bytes, sequence: int) -> bytes:
        """See EspCipher."""
        header = spi + (sequence & 0xFFFFFFFF).to_bytes(4, "big")
        packet = bytearray(header + bytes(_IV) + plaintext + bytes(_ICV))
        self.seal_packet(memoryview(packet), sequence)
        return bytes(packet)

    def open_bytes(self, packet: bytes, sequence: int) -> bytes:
        """See EspCipher."""
        self.open_packet(memoryview(packet), sequence)
        return packet[_HEADER + _IV : -_ICV]
