"""Runs of ESP packets, and packets within a buffer, for ciphers that gain nothing by them: one packet after the other.

See esp_cipher.EspCipher for what is promised; it must not know which cipher it is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

__all__ = ["OneByOne"]


class OneByOne:
    """What such a cipher has of both."""

    __slots__ = ()

    @abstractmethod
    def seal_packet(self, packet: memoryview, sequence: int) -> None:
        """See EspCipher."""

    @abstractmethod
    def open_packet(self, packet: memoryview, sequence: int) -> None:
        """See EspCipher."""

    def seal_within(self, buffer: memoryview, start: int, end: int, spi: bytes, sequence: int) -> None:
        """See EspCipher."""
        self.seal_packet(buffer[start:end], sequence)

    def open_within(self, buffer: memoryview, start: int, end: int, spi: bytes, sequence: int) -> None:
        """See EspCipher."""
        self.open_packet(buffer[start:end], sequence)

    @abstractmethod
    def seal_bytes(self, spi: bytes, plaintext: bytes, sequence: int) -> bytes:
        """See EspCipher."""

    def seal_run(
        self, spi: bytes, head: bytes, batch: Sequence[bytes | memoryview], trailer: bytes, sequence: int
    ) -> bytes:
        """See EspCipher."""
        numbered = enumerate(batch, sequence)
        return b"".join(self.seal_bytes(spi, head + data + trailer, number) for number, data in numbered)

    def open_run(self, spi: bytes, run: bytes, size: int, sequence: int) -> list[bytes]:
        """See EspCipher: who has the run opens its packets one by one."""
        return []
