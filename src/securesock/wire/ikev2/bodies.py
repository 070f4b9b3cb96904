"""Reads and writes the body of one payload: what follows the generic header (RFC 7296 3.4 to 3.16).

A reader is handed exactly the body and returns a value or raises WireError; a writer
raises WireError for a value that has no legal form, and struct.error for a number
that does not fit its field, which the writer of the chain turns into WireError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from ...errors import WireError
from ..numbers import PayloadType, TrafficSelectorType
from .payloads import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    Eap,
    Identification,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TrafficSelector,
    TrafficSelectors,
    UnknownPayload,
    UnknownTrafficSelector,
    VendorId,
)
from .proposals import parse_security_association, write_security_association

__all__ = [
    "BODY_PARSERS",
    "BODY_WRITERS",
    "MAX_CONFIG_ATTRIBUTES",
    "MAX_DELETED_SPIS",
    "MAX_NONCE_LENGTH",
    "MIN_NONCE_LENGTH",
]

MAX_DELETED_SPIS: Final = 1024
"""In one Delete payload: more Child SAs than any peer has under one IKE SA."""

MAX_CONFIG_ATTRIBUTES: Final = 256
"""In one Configuration payload: a reply with many subnets has some dozens."""

MIN_NONCE_LENGTH: Final = 16  # RFC 7296 3.9
MAX_NONCE_LENGTH: Final = 256

_IDI: Final = int(PayloadType.IDi)
_IDR: Final = int(PayloadType.IDr)
_TSI: Final = int(PayloadType.TSi)
_TSR: Final = int(PayloadType.TSr)
_ADDRESS_LENGTHS: Final = {
    int(TrafficSelectorType.TS_IPV4_ADDR_RANGE): 4,
    int(TrafficSelectorType.TS_IPV6_ADDR_RANGE): 16,
}
_SPI_LENGTHS: Final = {1: 0, 2: 4, 3: 4}  # RFC 7296 3.11

_KEY_EXCHANGE: Final = struct.Struct(">Hxx")
_NUMBER_RESERVED: Final = struct.Struct(">Bxxx")
_NOTIFY: Final = struct.Struct(">BBH")
_DELETE: Final = struct.Struct(">BBH")
_SELECTOR_HEADER: Final = struct.Struct(">BBH")
_PORTS: Final = struct.Struct(">HH")
_SELECTOR: Final = struct.Struct(">BBHHH")
_ATTRIBUTE: Final = struct.Struct(">HH")
_EAP: Final = struct.Struct(">BBH")


def _parse_key_exchange(body: bytes) -> KeyExchange:
    if len(body) < 4:
        raise WireError("KE: truncated")
    return KeyExchange(body[0] << 8 | body[1], body[4:])


def _parse_identification_i(body: bytes) -> Identification:
    if len(body) < 4:
        raise WireError("IDi: truncated")
    return Identification(_IDI, body[0], body[4:])


def _parse_identification_r(body: bytes) -> Identification:
    if len(body) < 4:
        raise WireError("IDr: truncated")
    return Identification(_IDR, body[0], body[4:])


def _parse_certificate(body: bytes) -> Certificate:
    if not body:
        raise WireError("CERT: truncated")
    return Certificate(body[0], body[1:])


def _parse_certificate_request(body: bytes) -> CertificateRequest:
    if not body:
        raise WireError("CERTREQ: truncated")
    return CertificateRequest(body[0], body[1:])


def _parse_authentication(body: bytes) -> Authentication:
    if len(body) < 4:
        raise WireError("AUTH: truncated")
    return Authentication(body[0], body[4:])


def _parse_nonce(body: bytes) -> Nonce:
    if not MIN_NONCE_LENGTH <= len(body) <= MAX_NONCE_LENGTH:
        raise WireError(f"Nonce: {len(body)} bytes")
    return Nonce(body)


def _parse_notify(body: bytes) -> Notify:
    if len(body) < 4:
        raise WireError("Notify: truncated")
    protocol, spi_length, notify_type = _NOTIFY.unpack_from(body)
    if not spi_length:
        return Notify(notify_type, body[4:])  # RFC 7296 3.10: without an SPI the protocol is ignored
    data_at = 4 + spi_length
    if data_at > len(body):
        raise WireError("Notify: truncated SPI")
    return Notify(notify_type, body[data_at:], protocol, body[4:data_at])


def _parse_delete(body: bytes) -> Delete:
    if len(body) < 4:
        raise WireError("Delete: truncated")
    protocol, spi_length, count = _DELETE.unpack_from(body)
    if len(body) != 4 + spi_length * count or (count and not spi_length):
        raise WireError("Delete: number or size of SPIs is wrong")
    if count > MAX_DELETED_SPIS:
        raise WireError(f"Delete: more than {MAX_DELETED_SPIS} SPIs")
    if count and _SPI_LENGTHS.get(protocol, spi_length) != spi_length:
        raise WireError(f"Delete: SPI of {spi_length} bytes for protocol {protocol}")
    return Delete(protocol, tuple([body[at : at + spi_length] for at in range(4, len(body), spi_length or 1)]))


def _parse_traffic_selectors_i(body: bytes) -> TrafficSelectors:
    return TrafficSelectors(_TSI, _parse_selectors(body))


def _parse_traffic_selectors_r(body: bytes) -> TrafficSelectors:
    return TrafficSelectors(_TSR, _parse_selectors(body))


def _parse_selectors(body: bytes) -> tuple[TrafficSelector | UnknownTrafficSelector, ...]:
    if len(body) < 4:
        raise WireError("TS: truncated")
    selectors: list[TrafficSelector | UnknownTrafficSelector] = []
    offset, end = 4, len(body)
    for _ in range(body[0]):
        if end - offset < 4:
            raise WireError("TS: truncated selector")
        ts_type, protocol, length = _SELECTOR_HEADER.unpack_from(body, offset)
        following = offset + length
        if length < 4 or following > end:
            raise WireError("TS: selector's length is wrong")
        address_length = _ADDRESS_LENGTHS.get(ts_type)
        if address_length is None:
            selectors.append(UnknownTrafficSelector(ts_type, protocol, body[offset + 4 : following]))
        else:
            if length != 8 + 2 * address_length:
                raise WireError(f"TS: {length} bytes for selector type {ts_type}")
            first_port, last_port = _PORTS.unpack_from(body, offset + 4)
            middle = offset + 8 + address_length
            first, last = body[offset + 8 : middle], body[middle:following]
            selectors.append(TrafficSelector(ts_type, protocol, first_port, last_port, first, last))
        offset = following
    if offset != end or not selectors:
        raise WireError("TS: number of selectors is wrong")
    return tuple(selectors)


def _parse_eap(body: bytes) -> Eap:
    if len(body) < 4 or _EAP.unpack_from(body)[2] != len(body):
        raise WireError("EAP: its length is not the payload's")  # RFC 7296 3.16
    return Eap(body)


def _parse_configuration(body: bytes) -> Configuration:
    if len(body) < 4:
        raise WireError("CP: truncated")
    attributes: list[tuple[int, bytes]] = []
    offset, end = 4, len(body)
    while offset < end:
        if end - offset < 4:
            raise WireError("CP: truncated attribute")
        if len(attributes) == MAX_CONFIG_ATTRIBUTES:
            raise WireError(f"CP: more than {MAX_CONFIG_ATTRIBUTES} attributes")
        attribute_type, length = _ATTRIBUTE.unpack_from(body, offset)
        offset += 4 + length
        if offset > end:
            raise WireError("CP: truncated attribute")
        attributes.append((attribute_type & 0x7FFF, body[offset - length : offset]))
    return Configuration(body[0], tuple(attributes))


_PARSERS: Final[dict[PayloadType, Callable[[bytes], Payload]]] = {
    PayloadType.SA: parse_security_association,
    PayloadType.KE: _parse_key_exchange,
    PayloadType.IDi: _parse_identification_i,
    PayloadType.IDr: _parse_identification_r,
    PayloadType.CERT: _parse_certificate,
    PayloadType.CERTREQ: _parse_certificate_request,
    PayloadType.AUTH: _parse_authentication,
    PayloadType.NONCE: _parse_nonce,
    PayloadType.NOTIFY: _parse_notify,
    PayloadType.DELETE: _parse_delete,
    PayloadType.VENDOR_ID: VendorId,
    PayloadType.TSi: _parse_traffic_selectors_i,
    PayloadType.TSr: _parse_traffic_selectors_r,
    PayloadType.CP: _parse_configuration,
    PayloadType.EAP: _parse_eap,
}

# plain ints, which the numbers of a message are: equal keys of another class cost a comparison
BODY_PARSERS: Final[dict[int, Callable[[bytes], Payload]]] = {int(key): parse for key, parse in _PARSERS.items()}
"""By payload type.  A type that is not here is an UnknownPayload."""


def _write_key_exchange(payload: KeyExchange) -> bytes:
    return _KEY_EXCHANGE.pack(payload.group) + payload.data


def _write_number_and_data(payload: Certificate | CertificateRequest) -> bytes:
    return payload.encoding.to_bytes(1, "big") + payload.data


def _write_authentication(payload: Authentication) -> bytes:
    return _NUMBER_RESERVED.pack(payload.method) + payload.data


def _write_nonce(payload: Nonce) -> bytes:
    if not MIN_NONCE_LENGTH <= len(payload.data) <= MAX_NONCE_LENGTH:
        raise WireError(f"Nonce: {len(payload.data)} bytes")
    return payload.data


def _write_notify(payload: Notify) -> bytes:
    notify_type, data, protocol, spi = payload
    if not spi:
        return _NOTIFY.pack(0, 0, notify_type) + data  # RFC 7296 3.10: without an SPI the protocol is sent as zero
    return _NOTIFY.pack(protocol, len(spi), notify_type) + spi + data


def _write_delete(payload: Delete) -> bytes:
    protocol, spis = payload
    spi_length = len(spis[0]) if spis else _SPI_LENGTHS.get(protocol, 0)
    if spis and (not spi_length or any(len(spi) != spi_length for spi in spis)):
        raise WireError("Delete: SPIs of different sizes")
    return _DELETE.pack(protocol, spi_length, len(spis)) + b"".join(spis)


def _write_traffic_selectors(payload: TrafficSelectors) -> bytes:
    parts = [_NUMBER_RESERVED.pack(len(payload.selectors))]
    for selector in payload.selectors:
        if isinstance(selector, TrafficSelector):
            ts_type, protocol, start_port, end_port, start, end = selector
            if len(start) != _ADDRESS_LENGTHS.get(ts_type) or len(start) != len(end):
                raise WireError(f"TS: addresses do not fit selector type {ts_type}")
            parts.append(_SELECTOR.pack(ts_type, protocol, 8 + 2 * len(start), start_port, end_port) + start + end)
        else:
            ts_type, octet, body = selector
            parts.append(_SELECTOR_HEADER.pack(ts_type, octet, 4 + len(body)) + body)
    return b"".join(parts)


def _write_configuration(payload: Configuration) -> bytes:
    parts = [_NUMBER_RESERVED.pack(payload.config_type)]
    parts += [_ATTRIBUTE.pack(number & 0x7FFF, len(value)) + value for number, value in payload.attributes]
    return b"".join(parts)


def _write_data(payload: VendorId | Eap) -> bytes:
    return payload.data


def _write_body(payload: Identification | UnknownPayload) -> bytes:
    return payload.body


# Any: each writer takes its own class, which the type of the key guarantees
BODY_WRITERS: Final[dict[type, Callable[[Any], bytes]]] = {
    SecurityAssociation: write_security_association,
    KeyExchange: _write_key_exchange,
    Identification: _write_body,
    Certificate: _write_number_and_data,
    CertificateRequest: _write_number_and_data,
    Authentication: _write_authentication,
    Nonce: _write_nonce,
    Notify: _write_notify,
    Delete: _write_delete,
    VendorId: _write_data,
    TrafficSelectors: _write_traffic_selectors,
    Configuration: _write_configuration,
    Eap: _write_data,
    UnknownPayload: _write_body,
}
