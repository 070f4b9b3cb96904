"""The layout of a frame with a segment in it, as the two fast loops read and write it.

    length(2) | SPI(4) sequence(4) IV | TCP header(20) data padding pad-length next-header | ICV

RFC 9329 3, RFC 4303 2.  The same formats are taken apart field by field in wire/; here a
header is a few large words, so that one comparison covers many fields.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from ...crypto.esp_cipher import EspCipher
from ...sad.spec import SaSpec
from ...wire.esp import ESP_HEADER_LENGTH, ESP_TRAILER_LENGTH
from ...wire.segment import FIN_ACK, PSH_ACK, RST, SEGMENT_HEADER, SEGMENT_HEADER_LENGTH
from ...wire.tcp_encapsulation import FRAME_LENGTH_SIZE, MAX_FRAME

__all__ = [
    "DATA_FIELDS",
    "FIELDS",
    "FRAME_HEADER",
    "FRAME_HEADER_LENGTH",
    "LEAST_PLAINTEXT",
    "LOW_32",
    "SEGMENT_WORDS",
    "PacketShape",
    "opening_shape",
    "sealing_shape",
]

FRAME_HEADER: Final = struct.Struct(">HII")
"""The frame's length, SPI, the low half of the sequence number."""
FRAME_HEADER_LENGTH: Final = FRAME_LENGTH_SIZE + ESP_HEADER_LENGTH

SEGMENT_WORDS: Final = struct.Struct(">IIQI")
"""The TCP header of a segment as words: both ports; the stream offset; acknowledgement to window; the rest, 0."""

LEAST_PLAINTEXT: Final = SEGMENT_HEADER_LENGTH + ESP_TRAILER_LENGTH
LOW_32: Final = 0xFFFFFFFF


def _fields(flags: int) -> int:
    header = SEGMENT_HEADER.pack(0, 0, 0, 0, 0x50, flags, 0, 0, 0)
    fields: int = SEGMENT_WORDS.unpack(header)[2]
    return fields


FIELDS: Final = {flags: _fields(flags) for flags in (PSH_ACK, FIN_ACK, RST)}
"""The third word by flags."""
DATA_FIELDS: Final = FIELDS[PSH_ACK]


class PacketShape(NamedTuple):
    """What a loop needs of an SA for every packet.

    ``write_head`` writes everything before the data into a buffer at an offset: the three numbers of FRAME_HEADER, the
    whole sequence number where the IV stands, and the four words of the segment, of which ``ports`` is the first.
    ``spi`` as on the wire.  Of a frame, in bytes: ``head`` before the plaintext, ``before_data``, ``overhead`` with
    everything that is no data but the padding, and ``largest`` of data.
    """

    cipher: EspCipher
    write_head: Callable[..., None]
    ports: int
    spi: bytes
    alignment: int
    icv_length: int
    head: int
    before_data: int
    overhead: int
    largest: int


def sealing_shape(spec: SaSpec, cipher: EspCipher) -> PacketShape:
    """Of an outbound SA: our port is the source."""
    return _shape(spec, cipher, spec.our_port << 16 | spec.peer_port)


def opening_shape(spec: SaSpec, cipher: EspCipher) -> PacketShape:
    """Of an inbound SA: the peer's port is the source."""
    return _shape(spec, cipher, spec.peer_port << 16 | spec.our_port)


_HEADS: Final = {8: struct.Struct(">HIIQIIQI"), 16: struct.Struct(">HII8xQIIQI")}
_HEAD_WITHOUT_IV: Final = struct.Struct(">HIIIIQI")


def _write_head_without_iv(
    buffer: memoryview, at: int, length: int, spi: int, low: int, sequence: int, *segment: int
) -> None:
    _HEAD_WITHOUT_IV.pack_into(buffer, at, length, spi, low, *segment)


def _shape(spec: SaSpec, cipher: EspCipher, ports: int) -> PacketShape:
    with_iv = _HEADS.get(cipher.iv_length)
    head, icv, alignment = FRAME_HEADER_LENGTH + cipher.iv_length, cipher.icv_length, cipher.alignment
    return PacketShape(
        cipher,
        _write_head_without_iv if with_iv is None else with_iv.pack_into,
        ports,
        spec.spi.to_bytes(4, "big"),
        alignment,
        icv,
        head,
        head + SEGMENT_HEADER_LENGTH,
        head + LEAST_PLAINTEXT + icv,
        (MAX_FRAME - head - icv) // alignment * alignment - LEAST_PLAINTEXT,
    )
