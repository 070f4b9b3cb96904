"""ESP's cleartext parts: the header before the IV and the trailer inside the plaintext (RFC 4303 2).

    SPI (4) | sequence, low 32 bits (4) | IV | payload | padding 1, 2, 3 ... | pad length (1) | next header (1) | ICV

Sealing and opening are the crypto package's; sequence and replay the SA's.
"""

from __future__ import annotations

import struct
from typing import Final

from ..errors import WireError

__all__ = [
    "ESP_HEADER",
    "ESP_HEADER_LENGTH",
    "ESP_TRAILER_LENGTH",
    "FIRST_SPI",
    "MAX_SEQUENCE_32",
    "MAX_SEQUENCE_64",
    "NEXT_HEADER_DUMMY",
    "NEXT_HEADER_IPV4",
    "NEXT_HEADER_IPV6",
    "NEXT_HEADER_TCP",
    "NEXT_HEADER_UDP",
    "PADDING",
    "TCP_TRAILERS",
    "pad_length_for",
    "read_esp_header_untrusted",
    "read_trailer",
    "write_trailer",
]

ESP_HEADER: Final = struct.Struct(">II")
"""SPI and the low 32 bits of the sequence number."""

ESP_HEADER_LENGTH: Final = 8
ESP_TRAILER_LENGTH: Final = 2
"""Pad length and next header; the padding comes on top."""

FIRST_SPI: Final = 256
"""0 marks IKE on a shared port, 1 to 255 are reserved (RFC 4303 2.1)."""

MAX_SEQUENCE_32: Final = 2**32 - 1
MAX_SEQUENCE_64: Final = 2**64 - 1
"""The last number that may be sent: counters never cycle (RFC 4303 3.3.3)."""

NEXT_HEADER_IPV4: Final = 4
NEXT_HEADER_TCP: Final = 6
NEXT_HEADER_UDP: Final = 17
NEXT_HEADER_IPV6: Final = 41
NEXT_HEADER_DUMMY: Final = 59
"""A dummy packet: dropped after it was verified, without further look (RFC 4303 2.6)."""

PADDING: Final = tuple(bytes(range(1, length + 1)) for length in range(256))
"""By length: 1, 2, 3 ... (RFC 4303 2.4)."""

TCP_TRAILERS: Final = tuple(padding + bytes((len(padding), NEXT_HEADER_TCP)) for padding in PADDING)
"""By pad length: padding, pad length, next header TCP, in one piece for the stream plane's loop."""


def pad_length_for(payload_length: int, alignment: int) -> int:
    """The least padding that makes payload and trailer a multiple of ``alignment`` (4, or the cipher's block)."""
    return -(payload_length + ESP_TRAILER_LENGTH) % alignment


def write_trailer(pad_length: int, next_header: int) -> bytes:
    """Padding, pad length and next header.  ``pad_length`` is 0 to 255."""
    return PADDING[pad_length] + bytes((pad_length, next_header))


def read_esp_header_untrusted(packet: bytes | bytearray | memoryview) -> tuple[int, int]:
    """(SPI, low 32 bits of the sequence number).  WireError if the packet is shorter or the SPI is 0."""
    if len(packet) < ESP_HEADER_LENGTH:
        raise WireError(f"ESP: {len(packet)} bytes")
    spi, sequence_low = ESP_HEADER.unpack_from(packet)
    if not spi:
        raise WireError("ESP: SPI 0")
    return spi, sequence_low


def read_trailer(plaintext: bytes | bytearray | memoryview) -> tuple[int, int]:
    """(payload length, next header) of an opened packet, whose payload is plaintext[:payload length].

    WireError if the pad length exceeds the packet or the padding is not 1, 2, 3 ... (RFC 4303 2.4).
    """
    end = len(plaintext) - ESP_TRAILER_LENGTH
    if end < 0:
        raise WireError(f"ESP trailer: {len(plaintext)} bytes")
    pad_length = plaintext[end]
    payload_length = end - pad_length
    if payload_length < 0:
        raise WireError(f"ESP trailer: pad length {pad_length} in {end} bytes")
    if pad_length and plaintext[payload_length:end] != PADDING[pad_length]:
        raise WireError("ESP trailer: the padding is not 1, 2, 3 ...")
    return payload_length, plaintext[end + 1]
