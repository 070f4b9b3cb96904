"""The AlgorithmIdentifier in front of an RFC 7427 signature: strict DER, both ways.

    AlgorithmIdentifier ::= SEQUENCE { algorithm OBJECT IDENTIFIER, parameters ANY OPTIONAL }  (RFC 5280 4.1.1.2)

The 1-byte length before it bounds it to 255 bytes, so lengths have one or two bytes.  Known
object identifiers become a SignatureAlgorithm; any other is kept as its dotted
form, for the caller to refuse.  Whether an algorithm is good enough is the caller's judgement: SHA-1
parses here.  RSASSA-PSS parameters are read field by field (RFC 7427 A.4, RFC 4055 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ..errors import WireError

__all__ = ["SignatureAlgorithm", "parse_algorithm_identifier_untrusted", "write_algorithm_identifier"]

_DEFAULT_SALT = 20  # of RSASSA-PSS-params (RFC 4055 3.1)
_INTEGER, _NULL, _OID, _SEQUENCE, _CONTEXT = 0x02, 0x05, 0x06, 0x30, 0xA0


class SignatureAlgorithm(NamedTuple):
    """``scheme``: "ecdsa", "rsa-pkcs1", "rsa-pss", "ed25519", or the dotted form of an unknown identifier.

    ``hash_name`` is hashlib's, empty where the scheme has none; ``mask_hash_name`` (MGF1's) and
    ``salt_length`` (bytes) are RSASSA-PSS's.
    """

    scheme: str
    hash_name: str = ""
    mask_hash_name: str = ""
    salt_length: int = 0


def _tlv(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content  # nothing that is written here reaches 128 bytes


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        content += bytes(reversed(groups))
    return bytes(content)


_RSASSA_PSS = _oid("1.2.840.113549.1.1.10")
_MGF1 = _oid("1.2.840.113549.1.1.8")
_HASHES: Mapping[bytes, str] = MappingProxyType(
    {
        _oid("1.3.14.3.2.26"): "sha1",
        _oid("2.16.840.1.101.3.4.2.1"): "sha256",
        _oid("2.16.840.1.101.3.4.2.2"): "sha384",
        _oid("2.16.840.1.101.3.4.2.3"): "sha512",
    }
)
_HASH_OIDS = {name: oid for oid, name in _HASHES.items()}
# (object identifier, algorithm, whether the preferred form has NULL parameters); RFC 7427 A.1, A.3, RFC 8420 A
_SIMPLE = (
    (_oid("1.2.840.113549.1.1.5"), SignatureAlgorithm("rsa-pkcs1", "sha1"), True),
    (_oid("1.2.840.113549.1.1.11"), SignatureAlgorithm("rsa-pkcs1", "sha256"), True),
    (_oid("1.2.840.113549.1.1.12"), SignatureAlgorithm("rsa-pkcs1", "sha384"), True),
    (_oid("1.2.840.113549.1.1.13"), SignatureAlgorithm("rsa-pkcs1", "sha512"), True),
    (_oid("1.2.840.10045.4.1"), SignatureAlgorithm("ecdsa", "sha1"), False),
    (_oid("1.2.840.10045.4.3.2"), SignatureAlgorithm("ecdsa", "sha256"), False),
    (_oid("1.2.840.10045.4.3.3"), SignatureAlgorithm("ecdsa", "sha384"), False),
    (_oid("1.2.840.10045.4.3.4"), SignatureAlgorithm("ecdsa", "sha512"), False),
    (_oid("1.3.101.112"), SignatureAlgorithm("ed25519"), False),
)
_SIMPLE_BY_OID = {oid: algorithm for oid, algorithm, _ in _SIMPLE}
_SIMPLE_DER = {
    algorithm: _tlv(_SEQUENCE, _tlv(_OID, oid) + (b"\x05\x00" if has_null else b""))
    for oid, algorithm, has_null in _SIMPLE
}


def parse_algorithm_identifier_untrusted(der: bytes) -> SignatureAlgorithm:
    """The algorithm of one DER AlgorithmIdentifier, which must fill ``der``.  WireError otherwise."""
    outer = _Der(der)
    body = outer.read(_SEQUENCE, "AlgorithmIdentifier")
    outer.expect_end("AlgorithmIdentifier")
    oid = body.read(_OID, "algorithm").rest()
    if oid == _RSASSA_PSS:
        parameters = body.read(_SEQUENCE, "RSASSA-PSS-params")
        body.expect_end("AlgorithmIdentifier")
        return _parse_pss(parameters)
    known = _SIMPLE_BY_OID.get(oid)
    if known is None:
        return SignatureAlgorithm(_dotted(oid))
    # RFC 7427 3: for all of these the parameters are NULL or missing, and receivers take both
    _expect_null_or_nothing(body)
    return known


def write_algorithm_identifier(algorithm: SignatureAlgorithm) -> bytes:
    """The DER form that the algorithm's specification prefers.  ValueError for one that has none here."""
    if algorithm.scheme == "rsa-pss":
        # RFC 4055 3.1: fields at their default MUST be left out.  RFC 7427 A.4.3 prints the trailer field,
        # but peers that compare bytes (its section 3 allows that) know the form without it.
        parameters = b"" if algorithm.hash_name == "sha1" else _tlv(_CONTEXT, _write_hash(algorithm.hash_name))
        if algorithm.mask_hash_name != "sha1":
            mask = _tlv(_SEQUENCE, _tlv(_OID, _MGF1) + _write_hash(algorithm.mask_hash_name))
            parameters += _tlv(_CONTEXT + 1, mask)
        if algorithm.salt_length != _DEFAULT_SALT:
            salt = algorithm.salt_length.to_bytes(algorithm.salt_length.bit_length() // 8 + 1, "big")
            parameters += _tlv(_CONTEXT + 2, _tlv(_INTEGER, salt))
        return _tlv(_SEQUENCE, _tlv(_OID, _RSASSA_PSS) + _tlv(_SEQUENCE, parameters))
    known = _SIMPLE_DER.get(algorithm)
    if known is None:
        raise ValueError(f"no AlgorithmIdentifier for {algorithm.scheme} with {algorithm.hash_name or 'no hash'}")
    return known


class _Der:
    """A cursor over DER values.  Every overrun and every long form that could be shorter is a WireError."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def peek(self) -> int:
        """The next tag, or -1 at the end."""
        return self._data[self._offset] if self._offset < len(self._data) else -1

    def read(self, tag: int, what: str) -> _Der:
        """The contents of the next value, which must have ``tag``."""
        data, start = self._data, self._offset + 2
        if len(data) < start:
            raise WireError(f"{what}: ends too early")
        if data[start - 2] != tag:
            raise WireError(f"{what}: DER tag {data[start - 2]:#04x} where {tag:#04x} belongs")
        length = data[start - 1]
        if length == 0x81 and len(data) > start and data[start] >= 0x80:
            length = data[start]
            start += 1
        elif length >= 0x80:
            # indefinite, not minimal, or beyond the 255 bytes that the field before us allows
            raise WireError(f"{what}: DER length is not minimal or too large")
        if len(data) < start + length:
            raise WireError(f"{what}: DER length exceeds what is there")
        self._offset = start + length
        return _Der(data[start : self._offset])

    def rest(self) -> bytes:
        """Everything that is left."""
        return self._data[self._offset :]

    def expect_end(self, what: str) -> None:
        if self._offset != len(self._data):
            raise WireError(f"{what}: bytes behind its end")


def _expect_null_or_nothing(body: _Der) -> None:
    if body.peek() == _NULL:
        body.read(_NULL, "parameters").expect_end("NULL")
    body.expect_end("AlgorithmIdentifier")


def _parse_pss(parameters: _Der) -> SignatureAlgorithm:
    """RSASSA-PSS-params (RFC 4055 3.1).

    A field written out although it has its default is no DER, but RFC 4055 3.1 wants it accepted and
    RFC 7427 A.4 prints it so.
    """
    hash_name, mask_hash_name, salt_length = "sha1", "sha1", _DEFAULT_SALT
    if parameters.peek() == _CONTEXT:
        field = parameters.read(_CONTEXT, "hashAlgorithm")
        hash_name = _parse_hash(field.read(_SEQUENCE, "hashAlgorithm"))
        field.expect_end("hashAlgorithm")
    if parameters.peek() == _CONTEXT + 1:
        field = parameters.read(_CONTEXT + 1, "maskGenAlgorithm")
        mask = field.read(_SEQUENCE, "maskGenAlgorithm")
        field.expect_end("maskGenAlgorithm")
        if mask.read(_OID, "maskGenAlgorithm").rest() != _MGF1:
            raise WireError("RSASSA-PSS: the mask generation function is not MGF1")
        mask_hash_name = _parse_hash(mask.read(_SEQUENCE, "MGF1 hash"))
        mask.expect_end("maskGenAlgorithm")
    if parameters.peek() == _CONTEXT + 2:
        field = parameters.read(_CONTEXT + 2, "saltLength")
        salt_length = _parse_small_integer(field.read(_INTEGER, "saltLength").rest())
        field.expect_end("saltLength")
    if parameters.peek() == _CONTEXT + 3:
        field = parameters.read(_CONTEXT + 3, "trailerField")
        if _parse_small_integer(field.read(_INTEGER, "trailerField").rest()) != 1:
            raise WireError("RSASSA-PSS: the trailer field is not 1 (RFC 4055 3.1)")
        field.expect_end("trailerField")
    parameters.expect_end("RSASSA-PSS-params")
    return SignatureAlgorithm("rsa-pss", hash_name, mask_hash_name, salt_length)


def _parse_hash(body: _Der) -> str:
    oid = body.read(_OID, "hash algorithm").rest()
    _expect_null_or_nothing(body)  # RFC 4055 2.1: both forms are to be accepted
    known = _HASHES.get(oid)
    return _dotted(oid) if known is None else known


def _parse_small_integer(content: bytes) -> int:
    """A non-negative INTEGER of at most two bytes: no RSA key has room for a longer salt than that counts."""
    if not 1 <= len(content) <= 2 or content[0] & 0x80 or (len(content) == 2 and content[0] == 0 and content[1] < 0x80):
        raise WireError("RSASSA-PSS: an integer is negative, too large or not minimal")
    return int.from_bytes(content, "big")


def _dotted(oid: bytes) -> str:
    if not oid or oid[-1] & 0x80:
        raise WireError("object identifier: ends too early")
    arcs = []
    value = 0
    for byte in oid:
        if value == 0 and byte == 0x80:
            raise WireError("object identifier: an arc is not minimal")
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))


def _write_hash(name: str) -> bytes:
    return _tlv(_SEQUENCE, _tlv(_OID, _HASH_OIDS[name]) + b"\x05\x00")
