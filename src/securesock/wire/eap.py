"""EAP packets, and what EAP-MSCHAPv2 and EAP-TLS put into them (RFC 3748 4, draft-kamath-pppext-eap-mschapv2 2,
RFC 5216 3).

Readers return frozen values or raise WireError; what the standards say MUST be ignored (reserved bits) is not kept.
A packet may hold what a password was proven with: none is shown.  Nothing here knows in which order packets come.
"""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from typing import Final, NamedTuple

from ..errors import WireError

__all__ = [
    "EapCode",
    "EapPacket",
    "EapTlsData",
    "EapType",
    "MAX_NAME",
    "MsChapChallenge",
    "MsChapFailure",
    "MsChapOpCode",
    "MsChapResponse",
    "MsChapSuccess",
    "parse_eap_untrusted",
    "parse_mschap_untrusted",
    "parse_tls_data_untrusted",
    "write_eap",
    "write_mschap",
    "write_tls_data",
]


class EapCode(IntEnum):
    """RFC 3748 4."""

    REQUEST = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


class EapType(IntEnum):
    """RFC 3748 5, and IANA's registry of methods."""

    IDENTITY = 1
    NOTIFICATION = 2
    NAK = 3
    MD5_CHALLENGE = 4
    TLS = 13
    MSCHAPV2 = 26
    EXPANDED = 254


class MsChapOpCode(IntEnum):
    """The draft's section 2."""

    CHALLENGE = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4
    CHANGE_PASSWORD = 7


MAX_NAME: Final = 256
"""RFC 2759 3 and 4: a user's name has at most 256 characters."""

MAX_MESSAGE: Final = 1024
"""The texts that MSCHAPv2's Success and Failure show to people."""

_HEADER: Final = struct.Struct(">BBH")
_MSCHAP: Final = struct.Struct(">BBH")
_ANSWERED: Final = frozenset({EapCode.REQUEST, EapCode.RESPONSE})
_SUCCESS: Final = re.compile(rb"S=([0-9A-Fa-f]{40})(?: M=(.*))?\Z", re.DOTALL)
_FAILURE: Final = re.compile(
    rb"E=([0-9]{1,10}) R=([01])(?: C=([0-9A-Fa-f]{32}))?(?: V=([0-9]{1,10}))?(?: M=(.*))?\Z", re.DOTALL
)

_LENGTH_INCLUDED: Final = 0x80
_MORE: Final = 0x40
_START: Final = 0x20


class EapPacket(NamedTuple):
    """RFC 3748 4.  ``eap_type`` is None in Success and Failure; ``data`` is what follows the type."""

    code: int
    identifier: int
    eap_type: int | None = None
    data: bytes = b""

    def __repr__(self) -> str:
        return f"EapPacket(code={self.code}, identifier={self.identifier}, eap_type={self.eap_type})"


def parse_eap_untrusted(packet: bytes) -> EapPacket:
    """One whole EAP packet; WireError for what is none."""
    if len(packet) < 4:
        raise WireError("EAP: truncated")
    code, identifier, length = _HEADER.unpack_from(packet)
    if length != len(packet):
        raise WireError("EAP: its length is not the packet's")
    if code in _ANSWERED:
        if length < 5:
            raise WireError("EAP: a request or response without a type")
        return EapPacket(code, identifier, packet[4], packet[5:])
    if code not in (EapCode.SUCCESS, EapCode.FAILURE):
        raise WireError(f"EAP: code {code}")  # RFC 3748 4: silently discarded, which inside IKE has no place
    if length != 4:
        raise WireError("EAP: a success or failure with data")
    return EapPacket(code, identifier)


def write_eap(packet: EapPacket) -> bytes:
    """WireError for a value that has no form on the wire."""
    body = b"" if packet.eap_type is None else bytes((packet.eap_type,)) + packet.data
    fits = (packet.eap_type is not None) == (packet.code in _ANSWERED) and len(body) <= 0xFFFF - 4
    if not fits or (packet.eap_type is None and packet.data):
        raise WireError("EAP: a packet of this code does not look so")
    return _HEADER.pack(packet.code, packet.identifier, 4 + len(body)) + body


class MsChapChallenge(NamedTuple):
    """2.1: 16 bytes, and the name of who asks."""

    challenge: bytes
    name: bytes


class MsChapResponse(NamedTuple):
    """2.2.  Not shown: a password can be searched for with it."""

    peer_challenge: bytes
    nt_response: bytes
    name: bytes

    def __repr__(self) -> str:
        return "MsChapResponse(***)"


class MsChapSuccess(NamedTuple):
    """2.3 and 2.4.  ``authenticator_response`` is 20 bytes, or empty in the answer, which has no body."""

    authenticator_response: bytes = b""
    message: bytes = b""


class MsChapFailure(NamedTuple):
    """2.5 and 2.6.  ``error`` as in RFC 2759 6, 0 in the answer, which has no body."""

    error: int = 0
    may_retry: bool = False
    challenge: bytes = b""


MsChap = MsChapChallenge | MsChapResponse | MsChapSuccess | MsChapFailure


def parse_mschap_untrusted(data: bytes, *, is_request: bool) -> tuple[int, MsChap]:
    """What an EAP packet of type 26 says, and its MS-CHAPv2-ID; a success' or failure's answer is one byte (ID 0)."""
    if not data:
        raise WireError("MSCHAPv2: empty")
    op_code = data[0]
    if not is_request and len(data) == 1:
        if op_code == MsChapOpCode.SUCCESS:
            return 0, MsChapSuccess()
        if op_code == MsChapOpCode.FAILURE:
            return 0, MsChapFailure()
    if len(data) < 4:
        raise WireError("MSCHAPv2: truncated")
    _, chap_id, length = _MSCHAP.unpack_from(data)
    if length != len(data):
        raise WireError("MSCHAPv2: its length is not the packet's")
    body = data[4:]
    match (op_code, is_request):
        case (MsChapOpCode.CHALLENGE, True):
            return chap_id, _parse_challenge(body)
        case (MsChapOpCode.RESPONSE, False):
            return chap_id, _parse_response(body)
        case (MsChapOpCode.SUCCESS, True):
            return chap_id, _parse_success(body)
        case (MsChapOpCode.FAILURE, True):
            return chap_id, _parse_failure(body)
    raise WireError(f"MSCHAPv2: op code {op_code}")


def _parse_challenge(body: bytes) -> MsChapChallenge:
    if len(body) < 17 or body[0] != 16 or len(body) > 17 + MAX_NAME:
        raise WireError("MSCHAPv2: a challenge is 16 bytes and a name")
    return MsChapChallenge(body[1:17], body[17:])


def _parse_response(body: bytes) -> MsChapResponse:
    # 16 bytes of challenge, 8 reserved, 24 of the response, 1 of flags
    if len(body) < 50 or body[0] != 49 or len(body) > 50 + MAX_NAME:
        raise WireError("MSCHAPv2: a response is 49 bytes and a name")
    return MsChapResponse(body[1:17], body[25:49], body[50:])


def _parse_success(body: bytes) -> MsChapSuccess:
    found = _SUCCESS.match(body) if len(body) <= MAX_MESSAGE else None
    if found is None:
        raise WireError("MSCHAPv2: a success is 'S=' and 40 hex digits")
    return MsChapSuccess(bytes.fromhex(found[1].decode()), found[2] or b"")


def _parse_failure(body: bytes) -> MsChapFailure:
    found = _FAILURE.match(body) if len(body) <= MAX_MESSAGE else None
    if found is None:
        raise WireError("MSCHAPv2: a failure is 'E=' and a number, 'R=', 'C=', 'V='")
    return MsChapFailure(int(found[1]), found[2] == b"1", bytes.fromhex((found[3] or b"").decode()))


def write_mschap(chap_id: int, value: MsChap, *, is_request: bool) -> bytes:
    """The data of an EAP packet of type 26."""
    match value:
        case MsChapChallenge(challenge, name):
            op_code, body = MsChapOpCode.CHALLENGE, b"\x10" + challenge + name
        case MsChapResponse(peer_challenge, nt_response, name):
            op_code, body = MsChapOpCode.RESPONSE, b"\x31" + peer_challenge + bytes(8) + nt_response + b"\0" + name
        case MsChapSuccess(authenticator_response, message):
            op_code = MsChapOpCode.SUCCESS
            body = b"S=" + authenticator_response.hex().upper().encode() + b" M=" + message
        case MsChapFailure(error, may_retry, challenge):
            op_code = MsChapOpCode.FAILURE
            body = f"E={error} R={may_retry:d} C={challenge.hex().upper()} V=3 M=Authentication failed".encode()
    if not is_request and op_code in (MsChapOpCode.SUCCESS, MsChapOpCode.FAILURE):
        return bytes((op_code,))
    return _MSCHAP.pack(op_code, chap_id, 4 + len(body)) + body


class EapTlsData(NamedTuple):
    """RFC 5216 3.1 and 3.2.  ``total`` is the TLS message's length where it is told, else None."""

    data: bytes = b""
    total: int | None = None
    more: bool = False
    start: bool = False


def parse_tls_data_untrusted(data: bytes) -> EapTlsData:
    """What an EAP packet of type 13 holds."""
    if not data:
        raise WireError("EAP-TLS: without flags")
    flags, offset, total = data[0], 1, None
    if flags & _LENGTH_INCLUDED:
        if len(data) < 5:
            raise WireError("EAP-TLS: truncated length")
        offset, total = 5, int.from_bytes(data[1:5], "big")
    if total is not None and len(data) - offset > total:
        raise WireError("EAP-TLS: more data than the length that it tells")
    return EapTlsData(data[offset:], total, bool(flags & _MORE), bool(flags & _START))


def write_tls_data(value: EapTlsData) -> bytes:
    """The data of an EAP packet of type 13."""
    data, total, more, start = value
    flags = (_LENGTH_INCLUDED if total is not None else 0) | (_MORE if more else 0) | (_START if start else 0)
    return bytes((flags,)) + (b"" if total is None else total.to_bytes(4, "big")) + data
