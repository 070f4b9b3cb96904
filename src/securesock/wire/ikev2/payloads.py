"""IKEv2 payloads as frozen values (RFC 7296 3.2 to 3.16).

What the standard says MUST be ignored is not kept (reserved fields, the critical bit
of a payload we know); what it leaves open is kept as plain ints and bytes.  Values
are told apart by class (isinstance), never by ==: they are tuples, and a Nonce
equals a VendorId of the same bytes.

Nothing here reads or writes bytes (bodies.py) or decides which payloads a message
must have (the machine that awaits it).
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from ..numbers import PayloadType
from .proposals import Proposal, SecurityAssociation, Transform

__all__ = [
    "Authentication",
    "Certificate",
    "CertificateRequest",
    "Configuration",
    "Delete",
    "Eap",
    "Identification",
    "KeyExchange",
    "Nonce",
    "Notify",
    "Payload",
    "Proposal",
    "SecurityAssociation",
    "TrafficSelector",
    "TrafficSelectors",
    "Transform",
    "UnknownPayload",
    "UnknownTrafficSelector",
    "VendorId",
]
# plain ints: an enum's attribute costs a look-up for each payload of each message
_KE: Final = int(PayloadType.KE)
_CERTREQ: Final = int(PayloadType.CERTREQ)
_CERT: Final = int(PayloadType.CERT)
_AUTH: Final = int(PayloadType.AUTH)
_NONCE: Final = int(PayloadType.NONCE)
_NOTIFY: Final = int(PayloadType.NOTIFY)
_DELETE: Final = int(PayloadType.DELETE)
_VENDOR_ID: Final = int(PayloadType.VENDOR_ID)
_EAP: Final = int(PayloadType.EAP)
_CP: Final = int(PayloadType.CP)


class KeyExchange(NamedTuple):
    """RFC 7296 3.4.  ``data`` is the public value or KEM ciphertext, its length unchecked."""

    group: int
    data: bytes

    @property
    def payload_type(self) -> int:
        """34."""
        return _KE


class Identification(NamedTuple):
    """RFC 7296 3.5.  ``payload_type`` is IDi or IDr; ``data`` is unchecked."""

    payload_type: int
    id_type: int
    data: bytes

    @property
    def body(self) -> bytes:
        """The payload without generic header: what AUTH covers (RFC 7296 2.15)."""
        return self.id_type.to_bytes(1, "big") + b"\0\0\0" + self.data


class Certificate(NamedTuple):
    """RFC 7296 3.6.  The first one of a message holds the key of AUTH."""

    encoding: int
    data: bytes

    @property
    def payload_type(self) -> int:
        """37."""
        return _CERT


class CertificateRequest(NamedTuple):
    """RFC 7296 3.7.  For X.509 ``data`` is SHA-1 hashes of SubjectPublicKeyInfo, one after the other."""

    encoding: int
    data: bytes

    @property
    def payload_type(self) -> int:
        """38."""
        return _CERTREQ


class Authentication(NamedTuple):
    """RFC 7296 3.8."""

    method: int
    data: bytes

    @property
    def payload_type(self) -> int:
        """39."""
        return _AUTH


class Nonce(NamedTuple):
    """RFC 7296 3.9: 16 to 256 bytes."""

    data: bytes

    @property
    def payload_type(self) -> int:
        """40."""
        return _NONCE


class Notify(NamedTuple):
    """RFC 7296 3.10.  ``protocol`` is 0 where ``spi`` is empty: it means nothing then."""

    notify_type: int
    data: bytes = b""
    protocol: int = 0
    spi: bytes = b""

    @property
    def payload_type(self) -> int:
        """41."""
        return _NOTIFY

    @property
    def is_error(self) -> bool:
        """Types below 16384 report errors, known or not (RFC 7296 3.10.1)."""
        return self.notify_type < 16384


class Delete(NamedTuple):
    """RFC 7296 3.11.  No SPIs for the IKE SA, 4 bytes each for ESP and AH."""

    protocol: int
    spis: tuple[bytes, ...] = ()

    @property
    def payload_type(self) -> int:
        """42."""
        return _DELETE


class VendorId(NamedTuple):
    """RFC 7296 3.12."""

    data: bytes

    @property
    def payload_type(self) -> int:
        """43."""
        return _VENDOR_ID


class TrafficSelector(NamedTuple):
    """RFC 7296 3.13.1, an address range: 4 bytes an address for type 7, 16 for type 8."""

    ts_type: int
    protocol: int
    start_port: int
    end_port: int
    start_address: bytes
    end_address: bytes


class UnknownTrafficSelector(NamedTuple):
    """A selector of another type (RFC 9478 has one): everything after its length, unread."""

    ts_type: int
    octet: int
    body: bytes


class TrafficSelectors(NamedTuple):
    """RFC 7296 3.13.  ``payload_type`` is TSi or TSr; at least one selector."""

    payload_type: int
    selectors: tuple[TrafficSelector | UnknownTrafficSelector, ...]


class Eap(NamedTuple):
    """RFC 7296 3.16: one EAP message, whose own length was checked.  It may hold a password: never shown."""

    data: bytes

    @property
    def payload_type(self) -> int:
        """48."""
        return _EAP

    def __repr__(self) -> str:
        return f"Eap({len(self.data)} bytes)"


class Configuration(NamedTuple):
    """RFC 7296 3.15.  ``attributes`` are (type without the reserved bit, value)."""

    config_type: int
    attributes: tuple[tuple[int, bytes], ...] = ()

    @property
    def payload_type(self) -> int:
        """47."""
        return _CP


class UnknownPayload(NamedTuple):
    """A payload of a type not known here.

    ``critical``: the request that holds it is rejected with UNSUPPORTED_CRITICAL_PAYLOAD; else it is skipped
    (RFC 7296 2.5).
    """

    payload_type: int
    critical: bool
    body: bytes


Payload: TypeAlias = (
    SecurityAssociation
    | KeyExchange
    | Identification
    | Certificate
    | CertificateRequest
    | Authentication
    | Nonce
    | Notify
    | Delete
    | VendorId
    | TrafficSelectors
    | Eap
    | Configuration
    | UnknownPayload
)
