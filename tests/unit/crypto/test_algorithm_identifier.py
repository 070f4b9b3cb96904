"""The DER reader in front of RFC 7427 signatures: strict, and never anything but WireError."""

from __future__ import annotations

import pytest

from securesock.crypto.algorithm_identifier import (
    SignatureAlgorithm,
    parse_algorithm_identifier_untrusted,
    write_algorithm_identifier,
)
from securesock.errors import WireError

HASH_NAMES = ["sha1", "sha256", "sha384", "sha512"]
WRITABLE = [
    *(SignatureAlgorithm("rsa-pkcs1", name) for name in HASH_NAMES),
    *(SignatureAlgorithm("ecdsa", name) for name in HASH_NAMES),
    SignatureAlgorithm("ed25519"),
    *(
        SignatureAlgorithm("rsa-pss", name, mask, salt)
        for name in HASH_NAMES
        for mask in HASH_NAMES
        for salt in (0, 20, 64)
    ),
]
SHA256_IDENTIFIER = "300d06096086480165030402010500"


def pss(parameters: str) -> bytes:
    """An AlgorithmIdentifier of RSASSA-PSS with these parameters, in hex."""
    content = bytes.fromhex(parameters)
    sequence = tlv(0x30, content)
    return tlv(0x30, bytes.fromhex("06092a864886f70d01010a") + sequence)


def tlv(tag: int, content: bytes) -> bytes:
    length = bytes((len(content),)) if len(content) < 128 else bytes((0x81, len(content)))
    return bytes((tag,)) + length + content


@pytest.mark.parametrize("algorithm", WRITABLE, ids=str)
def test_what_is_written_parses_to_the_same(algorithm: SignatureAlgorithm) -> None:
    assert parse_algorithm_identifier_untrusted(write_algorithm_identifier(algorithm)) == algorithm


@pytest.mark.parametrize("algorithm", WRITABLE, ids=str)
def test_every_truncation_and_trailing_junk_is_a_wire_error(algorithm: SignatureAlgorithm) -> None:
    der = write_algorithm_identifier(algorithm)
    for length in range(len(der)):
        with pytest.raises(WireError):
            parse_algorithm_identifier_untrusted(der[:length])
    with pytest.raises(WireError):
        parse_algorithm_identifier_untrusted(der + b"\x00")


@pytest.mark.parametrize("algorithm", WRITABLE, ids=str)
def test_every_bit_flip_parses_to_something_else_or_is_a_wire_error(algorithm: SignatureAlgorithm) -> None:
    der = write_algorithm_identifier(algorithm)
    for bit in range(8 * len(der)):
        damaged = bytearray(der)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            parsed = parse_algorithm_identifier_untrusted(bytes(damaged))
        except WireError:
            continue
        assert parsed != algorithm


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", SignatureAlgorithm("rsa-pss", "sha1", "sha1", 20)),
        (f"a00f{SHA256_IDENTIFIER}", SignatureAlgorithm("rsa-pss", "sha256", "sha1", 20)),
        ("a00d300b0609608648016503040201", SignatureAlgorithm("rsa-pss", "sha256", "sha1", 20)),
        ("a203020120", SignatureAlgorithm("rsa-pss", "sha1", "sha1", 32)),
        ("a20402020080", SignatureAlgorithm("rsa-pss", "sha1", "sha1", 128)),
        ("a2040202 7fff", SignatureAlgorithm("rsa-pss", "sha1", "sha1", 32767)),
        ("a203020114a303020101", SignatureAlgorithm("rsa-pss", "sha1", "sha1", 20)),
        ("a01230100609 608648016503040201 0503", None),
    ],
)
def test_pss_parameters_are_read_field_by_field(parameters: str, expected: SignatureAlgorithm | None) -> None:
    if expected is None:
        with pytest.raises(WireError):
            parse_algorithm_identifier_untrusted(pss(parameters))
    else:
        assert parse_algorithm_identifier_untrusted(pss(parameters)) == expected


def test_an_unknown_pss_hash_survives_as_its_dotted_form() -> None:
    parsed = parse_algorithm_identifier_untrusted(pss("a00d300b0609608648016503040208"))
    assert parsed == SignatureAlgorithm("rsa-pss", "2.16.840.1.101.3.4.2.8", "sha1", 20)


@pytest.mark.parametrize(
    "der",
    [
        pss("a2030201ff"),  # a negative salt length
        pss("a20402020014"),  # not minimal
        pss("a2050203010000"),  # larger than any key has room for
        pss("a2020200"),  # an INTEGER without content
        pss("a303020102"),  # a trailer field that nobody defined
        pss("a303020101a203020120"),  # in the wrong order
        pss("a203020120a203020120"),  # twice
        pss("a20302012000"),  # junk behind a field
        pss("a11830160608 2a864886f70d0109 " + SHA256_IDENTIFIER[:20]),  # not MGF1
        bytes.fromhex("300b06092a864886f70d01010a"),  # RSASSA-PSS without parameters
        bytes.fromhex("300d06092a864886f70d01010b0501"),  # NULL with a length
        bytes.fromhex("300e06092a864886f70d01010b050000"),  # NULL with a byte behind it
        bytes.fromhex("30810d06092a864886f70d01010b0500"),  # a long length that could be short
        bytes.fromhex("3082000d06092a864886f70d01010b0500"),
        bytes.fromhex("308006092a864886f70d01010b05000000"),  # indefinite
        bytes.fromhex("310d06092a864886f70d01010b0500"),  # SET
        bytes.fromhex("3000"),
        bytes.fromhex("30020600"),  # an object identifier without content
        bytes.fromhex("300406028001"),  # an arc that is not minimal
        bytes.fromhex("300406022a86"),  # an arc without its end
    ],
    ids=lambda der: der.hex()[:40],
)
def test_what_is_no_strict_der_is_a_wire_error(der: bytes) -> None:
    with pytest.raises(WireError):
        parse_algorithm_identifier_untrusted(der)


def test_what_has_no_identifier_here_is_not_written() -> None:
    for algorithm in (SignatureAlgorithm("1.3.101.113"), SignatureAlgorithm("ecdsa", "sha3-256")):
        with pytest.raises(ValueError, match="no AlgorithmIdentifier"):
            write_algorithm_identifier(algorithm)
