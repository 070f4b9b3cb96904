"""One IKEv2 message: header, clear payloads, and where the Encrypted payload's body lies.

Decrypting is the caller's: for SK (RFC 7296 3.14) and SKF (RFC 7383 2.5) this module
says what the datagram holds before the initialization vector, which is what the
integrity check covers, and writes the same prefix for messages going out:

    datagram[:encrypted.offset]   header, clear payloads, generic header (and fragment numbers): associated data
    datagram[encrypted.offset:]   IV | ciphertext | ICV
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from ...errors import WireError
from ..isakmp import HEADER, HEADER_LENGTH, IKEV2_VERSION, IkeHeader, read_header_untrusted
from ..numbers import PayloadType
from .bodies import BODY_PARSERS, BODY_WRITERS
from .payloads import Payload, UnknownPayload

__all__ = [
    "MAX_PAYLOADS",
    "MAX_TOTAL_FRAGMENTS",
    "Encrypted",
    "Message",
    "parse_message_untrusted",
    "parse_payloads",
    "write_message",
    "write_payloads",
    "write_sk_prefix",
    "write_skf_prefix",
]

MAX_PAYLOADS: Final = 64
"""In one message.  A full IKE_AUTH has about twenty; a message of 64 KiB could hold 16,000 empty ones."""

MAX_TOTAL_FRAGMENTS: Final = 64
"""Of one message: 30 KiB (four post-quantum certificates and a signature) cut for 576-byte datagrams, the smallest that
RFC 7383 2.5.1 knows.  A peer makes us keep up to that many datagrams before its message is whole."""

_SK: Final = int(PayloadType.SK)
_SKF: Final = int(PayloadType.SKF)
_CRITICAL: Final = 0x80  # RFC 7296 3.2, the only bit of its octet
_GENERIC_HEADER: Final = struct.Struct(">BBH")
_FRAGMENT: Final = struct.Struct(">HH")
_HEADER_AND_GENERIC: Final = struct.Struct(">8s8sBBBBIIBxH")
_HEADER_AND_FRAGMENT: Final = struct.Struct(">8s8sBBBBIIBxHHH")


class Encrypted(NamedTuple):
    """An SK payload, or an SKF payload if ``total_fragments`` is not 0.

    ``offset`` is where the IV starts in the datagram.  ``first_payload`` is the type of the first payload inside;
    of a message in fragments only the first one's counts (RFC 7383 2.5).
    """

    first_payload: int
    offset: int
    fragment_number: int = 0
    total_fragments: int = 0


class Message(NamedTuple):
    """``payloads`` are those in clear; nothing about them is authenticated yet."""

    header: IkeHeader
    payloads: tuple[Payload, ...]
    encrypted: Encrypted | None


def parse_message_untrusted(datagram: bytes) -> Message:
    """One IKEv2 message, without non-ESP marker or framing.

    WireError unless it is whole, of major version 2, and fills the datagram to its end.  The minor version and
    reserved bits are ignored (RFC 7296 3.1).
    """
    header = read_header_untrusted(datagram)
    if header.version >> 4 != 2:
        raise WireError(f"IKE header: major version {header.version >> 4}")
    payloads, encrypted_type, first_payload, offset = _walk_payloads(header.next_payload, datagram, HEADER_LENGTH)
    if not encrypted_type:
        return Message(header, payloads, None)
    if encrypted_type == _SK:
        return Message(header, payloads, Encrypted(first_payload, offset))
    if len(datagram) - offset < 4:
        raise WireError("SKF: truncated")
    number, total = _FRAGMENT.unpack_from(datagram, offset)
    if not 1 <= number <= total:  # RFC 7383 2.5: neither is zero
        raise WireError(f"SKF: fragment {number} of {total}")
    if total > MAX_TOTAL_FRAGMENTS:
        raise WireError(f"SKF: more than {MAX_TOTAL_FRAGMENTS} fragments")
    return Message(header, payloads, Encrypted(first_payload, offset + 4, number, total))


def parse_payloads(first_payload: int, data: bytes) -> tuple[Payload, ...]:
    """The payloads of ``data``, which they fill to its end: an SK payload's content, without padding.

    ``first_payload`` comes from the header before.  WireError for a chain that is cut, too long (MAX_PAYLOADS), or
    holds another Encrypted payload (RFC 7296 3.1: it MUST NOT), and for a malformed payload.
    """
    payloads, encrypted_type, _, _ = _walk_payloads(first_payload, data, 0)
    if encrypted_type:
        raise WireError("an Encrypted payload inside of another")
    return payloads


def _walk_payloads(next_type: int, data: bytes, offset: int) -> tuple[tuple[Payload, ...], int, int, int]:
    """Payloads from ``offset`` on, up to the end or an Encrypted payload, which must be the last.

    Returns the payloads, then 0 or the Encrypted payload's type, its Next Payload field and where its body starts.
    """
    payloads: list[Payload] = []
    end = len(data)
    while next_type:
        if end - offset < 4:
            raise WireError("payload chain: truncated generic header")
        payload_type = next_type
        next_type, flags, length = _GENERIC_HEADER.unpack_from(data, offset)
        following = offset + length
        if length < 4 or following > end:
            raise WireError(f"payload chain: length of payload type {payload_type} is wrong")
        parse = BODY_PARSERS.get(payload_type)
        if parse is not None:
            payloads.append(parse(data[offset + 4 : following]))
        elif payload_type in (_SK, _SKF):
            if following != end:
                raise WireError("an Encrypted payload is not the last one")  # RFC 7296 3.14
            return tuple(payloads), payload_type, next_type, offset + 4
        else:
            payloads.append(UnknownPayload(payload_type, flags >= _CRITICAL, data[offset + 4 : following]))
        offset = following
        if len(payloads) > MAX_PAYLOADS:
            raise WireError(f"payload chain: more than {MAX_PAYLOADS} payloads")
    if offset != end:
        raise WireError(f"payload chain: {end - offset} bytes after the last payload")
    return tuple(payloads), 0, 0, 0


def write_payloads(payloads: Iterable[Payload]) -> tuple[int, bytes]:
    """The chain of ``payloads`` and the type of its first one (0 and nothing for an empty chain).

    WireError if a value does not fit its field: a payload is at most 65535 bytes with its header.
    """
    items = tuple(payloads)
    types = [payload.payload_type for payload in items]
    types.append(0)
    parts: list[bytes] = []
    try:
        for index, payload in enumerate(items):
            body = BODY_WRITERS[type(payload)](payload)
            flags = _CRITICAL if isinstance(payload, UnknownPayload) and payload.critical else 0
            parts.append(_GENERIC_HEADER.pack(types[index + 1], flags, 4 + len(body)))
            parts.append(body)
    except (struct.error, OverflowError) as error:
        raise WireError(f"a value does not fit its field: {error}") from None
    return int(types[0]), b"".join(parts)


def write_message(
    initiator_spi: bytes,
    responder_spi: bytes,
    exchange_type: int,
    flags: int,
    message_id: int,
    payloads: Iterable[Payload],
) -> bytes:
    """A message in clear.  SPIs are 8 bytes each."""
    first_payload, body = write_payloads(payloads)
    header = (first_payload, IKEV2_VERSION, exchange_type, flags, message_id, HEADER_LENGTH + len(body))
    return _pack(HEADER, initiator_spi, responder_spi, *header) + body


def write_sk_prefix(
    initiator_spi: bytes,
    responder_spi: bytes,
    exchange_type: int,
    flags: int,
    message_id: int,
    first_payload: int,
    body_length: int,
) -> bytes:
    """What stands before the IV of a message whose only payload is SK: 32 bytes, lengths filled in.

    ``body_length`` counts IV, ciphertext and ICV; ``first_payload`` is the type of the first payload inside.  With the
    length of the inner payloads alone it is what RFC 9242 3.3.2 authenticates.
    """
    return _pack(
        _HEADER_AND_GENERIC,
        initiator_spi,
        responder_spi,
        _SK,
        IKEV2_VERSION,
        exchange_type,
        flags,
        message_id,
        HEADER_LENGTH + 4 + body_length,
        first_payload,
        4 + body_length,
    )


def write_skf_prefix(
    initiator_spi: bytes,
    responder_spi: bytes,
    exchange_type: int,
    flags: int,
    message_id: int,
    first_payload: int,
    body_length: int,
    fragment_number: int,
    total_fragments: int,
) -> bytes:
    """As write_sk_prefix for one fragment (RFC 7383 2.5): 36 bytes.

    ``first_payload`` is written in fragment 1 only; the others carry zero, whatever is given.
    """
    if not 1 <= fragment_number <= total_fragments:
        raise WireError(f"SKF: fragment {fragment_number} of {total_fragments}")
    return _pack(
        _HEADER_AND_FRAGMENT,
        initiator_spi,
        responder_spi,
        _SKF,
        IKEV2_VERSION,
        exchange_type,
        flags,
        message_id,
        HEADER_LENGTH + 8 + body_length,
        first_payload if fragment_number == 1 else 0,
        8 + body_length,
        fragment_number,
        total_fragments,
    )


def _pack(layout: struct.Struct, initiator_spi: bytes, responder_spi: bytes, *fields: int) -> bytes:
    if len(initiator_spi) != 8 or len(responder_spi) != 8:  # struct would pad or cut them in silence
        raise WireError("IKE header: an SPI is 8 bytes")
    try:
        packed: bytes = layout.pack(initiator_spi, responder_spi, *fields)
    except struct.error as error:
        raise WireError(f"IKE header: {error}") from None
    return packed
