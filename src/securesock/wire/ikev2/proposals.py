"""The body of the Security Association payload (RFC 7296 3.3): proposals, transforms, attributes.

An SA is a list of proposals (an OR), a proposal is a list of transforms (an AND of
ORs by type), and a transform may have attributes, of which Key Length is the only
one defined.  Which of it is acceptable is negotiation's business; here it is only
checked that lengths, counts and "last" marks agree, as 3.3 demands.

What every handshake repeats is the list of transforms: peers of one configuration
send the same bytes again and again (SPIs stand outside of it).  So both directions
remember short lists in a bounded cache; values are frozen and hold no secret.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, NamedTuple

from ...errors import WireError
from ..numbers import PayloadType

__all__ = [
    "KEY_LENGTH_ATTRIBUTE",
    "MAX_ATTRIBUTES",
    "MAX_PROPOSALS",
    "MAX_TRANSFORMS",
    "Proposal",
    "SecurityAssociation",
    "Transform",
    "parse_security_association",
    "write_security_association",
]

MAX_PROPOSALS: Final = 64
"""In one SA.  Hosts that send one proposal per combination reach twenty or thirty; each one costs a comparison."""

MAX_TRANSFORMS: Final = 512
"""In one SA, all proposals together.  A list of everything has about fifty a proposal; 16 KiB could hold 2,000."""

MAX_ATTRIBUTES: Final = 8
"""In one transform.  One is defined, and no attribute may occur twice (3.3)."""

KEY_LENGTH_ATTRIBUTE: Final = 0x800E
"""Attribute 14 in its only legal form, type and value (3.3.5); bits, not bytes."""

_SA: Final = int(PayloadType.SA)
_SHORT_FORM: Final = 0x8000  # the AF bit: a two-byte value in the place of the length
_MORE_PROPOSALS: Final = 2  # 3.3.1: IKEv1's payload type of a proposal
_MORE_TRANSFORMS: Final = 3  # 3.3.2
_SPI_LENGTHS: Final = {1: (0, 8), 2: (4,), 3: (4,)}  # 3.3.1: none in IKE_SA_INIT, 8 in an IKE rekey
_CACHED_LENGTH: Final = 512  # bytes of transforms worth remembering: beyond that nobody honest repeats itself
_CACHED_LISTS: Final = 128  # at most 64 KiB of keys

_PROPOSAL: Final = struct.Struct(">BxHBBBB")
_TRANSFORM: Final = struct.Struct(">BxHBxH")
_ATTRIBUTE: Final = struct.Struct(">HH")
_TRANSFORM_WITH_ONE: Final = struct.Struct(">BxHBxHHH")


class Transform(NamedTuple):
    """RFC 7296 3.3.2.  ``key_bits`` is the Key Length attribute.

    ``attributes`` are all others, so that a transform with attributes unknown to us
    compares unequal to every transform we know (3.3.6: it is unacceptable).  Each is
    the 16-bit type as on the wire, AF bit included, and its value (2 bytes if AF is set).
    """

    transform_type: int
    transform_id: int
    key_bits: int | None = None
    attributes: tuple[tuple[int, bytes], ...] = ()


class Proposal(NamedTuple):
    """RFC 7296 3.3.1.  ``spi`` is empty in IKE_SA_INIT, 8 bytes for IKE, 4 for ESP and AH."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[Transform, ...]


class SecurityAssociation(NamedTuple):
    """RFC 7296 3.3: at least one proposal, most preferred first."""

    proposals: tuple[Proposal, ...]

    @property
    def payload_type(self) -> int:
        """33."""
        return _SA


def parse_security_association(body: bytes) -> SecurityAssociation:
    """The SA payload without its generic header; WireError where lengths, counts and marks disagree."""
    proposals: list[Proposal] = []
    offset, end = 0, len(body)
    transforms_left = MAX_TRANSFORMS
    more = _MORE_PROPOSALS
    while more:
        if end - offset < 8:
            raise WireError("SA: truncated proposal")
        if len(proposals) == MAX_PROPOSALS:
            raise WireError(f"SA: more than {MAX_PROPOSALS} proposals")
        more, length, number, protocol, spi_length, count = _PROPOSAL.unpack_from(body, offset)
        following = offset + length
        transforms_at = offset + 8 + spi_length
        if transforms_at > following or following > end or more not in (0, _MORE_PROPOSALS):
            raise WireError("SA: proposal's length or mark is wrong")
        if protocol in _SPI_LENGTHS and spi_length not in _SPI_LENGTHS[protocol]:
            raise WireError(f"SA: SPI of {spi_length} bytes for protocol {protocol}")
        if proposals and number != proposals[-1].number + 1:
            raise WireError("SA: proposals are not numbered one after the other")  # 3.3.1
        transforms_left -= count
        if transforms_left < 0:
            raise WireError(f"SA: more than {MAX_TRANSFORMS} transforms")
        raw = body[transforms_at:following]
        parse = _parse_transforms_cached if len(raw) <= _CACHED_LENGTH else _parse_transforms
        proposals.append(Proposal(number, protocol, body[offset + 8 : transforms_at], parse(raw, count)))
        offset = following
    if offset != end:
        raise WireError("SA: bytes after the last proposal")
    return SecurityAssociation(tuple(proposals))


def _parse_transforms(raw: bytes, count: int) -> tuple[Transform, ...]:
    transforms: list[Transform] = []
    offset, end = 0, len(raw)
    more = _MORE_TRANSFORMS
    while more:
        if end - offset < 8:
            raise WireError("SA: truncated transform")
        more, length, transform_type, transform_id = _TRANSFORM.unpack_from(raw, offset)
        following = offset + length
        if length < 8 or following > end or more not in (0, _MORE_TRANSFORMS):
            raise WireError("SA: transform's length or mark is wrong")
        if length == 8:
            transforms.append(Transform(transform_type, transform_id))
        else:
            key_bits, attributes = _parse_attributes(raw, offset + 8, following)
            transforms.append(Transform(transform_type, transform_id, key_bits, attributes))
        offset = following
    if offset != end or len(transforms) != count:
        raise WireError("SA: number of transforms is wrong")
    return tuple(transforms)


_parse_transforms_cached = lru_cache(_CACHED_LISTS)(_parse_transforms)


def _parse_attributes(raw: bytes, offset: int, end: int) -> tuple[int | None, tuple[tuple[int, bytes], ...]]:
    key_bits: int | None = None
    others: list[tuple[int, bytes]] = []
    while offset < end:
        if end - offset < 4:
            raise WireError("SA: truncated attribute")
        if len(others) == MAX_ATTRIBUTES:
            raise WireError(f"SA: more than {MAX_ATTRIBUTES} attributes in a transform")
        number, value = _ATTRIBUTE.unpack_from(raw, offset)
        offset += 4
        if number == KEY_LENGTH_ATTRIBUTE and key_bits is None:
            key_bits = value
        elif number & _SHORT_FORM:
            others.append((number, raw[offset - 2 : offset]))
        else:
            if value > end - offset:
                raise WireError("SA: truncated attribute")
            others.append((number, raw[offset : offset + value]))
            offset += value
    return key_bits, tuple(others)


def write_security_association(sa: SecurityAssociation) -> bytes:
    """The SA payload without its generic header."""
    if not sa.proposals:
        raise WireError("SA: an SA without proposals cannot be written")
    parts: list[bytes] = []
    last = len(sa.proposals) - 1
    for index, (number, protocol, spi, transforms) in enumerate(sa.proposals):
        raw = _write_transforms(transforms)
        more = 0 if index == last else _MORE_PROPOSALS
        parts.append(
            _PROPOSAL.pack(more, 8 + len(spi) + len(raw), number, protocol, len(spi), len(transforms)) + spi + raw
        )
    return b"".join(parts)


@lru_cache(_CACHED_LISTS)
def _write_transforms(transforms: tuple[Transform, ...]) -> bytes:
    if not transforms:
        raise WireError("SA: a proposal without transforms cannot be written")
    parts: list[bytes] = []
    last = len(transforms) - 1
    for index, (transform_type, transform_id, key_bits, attributes) in enumerate(transforms):
        more = 0 if index == last else _MORE_TRANSFORMS
        if key_bits is None and not attributes:
            parts.append(_TRANSFORM.pack(more, 8, transform_type, transform_id))
        elif key_bits is not None and not attributes:
            parts.append(
                _TRANSFORM_WITH_ONE.pack(more, 12, transform_type, transform_id, KEY_LENGTH_ATTRIBUTE, key_bits)
            )
        else:
            raw = _write_attributes(key_bits, attributes)
            parts.append(_TRANSFORM.pack(more, 8 + len(raw), transform_type, transform_id) + raw)
    return b"".join(parts)


def _write_attributes(key_bits: int | None, attributes: tuple[tuple[int, bytes], ...]) -> bytes:
    raw = b"" if key_bits is None else _ATTRIBUTE.pack(KEY_LENGTH_ATTRIBUTE, key_bits)
    for number, value in attributes:
        if number & _SHORT_FORM:
            if len(value) != 2:
                raise WireError("SA: an attribute with the AF bit has two bytes of value")
            raw += _ATTRIBUTE.pack(number, int.from_bytes(value, "big"))
        else:
            raw += _ATTRIBUTE.pack(number, len(value)) + value
    return raw
