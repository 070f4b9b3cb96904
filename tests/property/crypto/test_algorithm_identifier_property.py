"""Whatever the bytes are, an AlgorithmIdentifier parses or is a WireError, and what parses means one thing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from securesock.crypto.algorithm_identifier import (
    SignatureAlgorithm,
    parse_algorithm_identifier_untrusted,
    write_algorithm_identifier,
)
from securesock.errors import WireError

HASH_NAMES = st.sampled_from(["sha1", "sha256", "sha384", "sha512"])
WRITABLE = st.one_of(
    st.tuples(st.sampled_from(["rsa-pkcs1", "ecdsa"]), HASH_NAMES).map(lambda fields: SignatureAlgorithm(*fields)),
    st.just(SignatureAlgorithm("ed25519")),
    st.tuples(st.just("rsa-pss"), HASH_NAMES, HASH_NAMES, st.integers(0, 32767)).map(
        lambda fields: SignatureAlgorithm(*fields)
    ),
)


def tlv(tag: int, content: bytes) -> bytes:
    if len(content) > 255:
        return bytes((tag, 0x82)) + len(content).to_bytes(2, "big") + content
    length = bytes((len(content),)) if len(content) < 128 else bytes((0x81, len(content)))
    return bytes((tag,)) + length + content


def check(der: bytes) -> None:
    try:
        parsed = parse_algorithm_identifier_untrusted(der)
    except WireError as error:
        assert str(error)
        return
    if parsed.scheme[0].isdigit() or parsed.hash_name[:1].isdigit() or parsed.mask_hash_name[:1].isdigit():
        assert parsed.scheme
        return
    assert parse_algorithm_identifier_untrusted(write_algorithm_identifier(parsed)) == parsed


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_raise_wire_error(der: bytes) -> None:
    check(der)


@given(WRITABLE, st.data())
def test_a_changed_identifier_parses_or_raises_wire_error(algorithm: SignatureAlgorithm, data: st.DataObject) -> None:
    der = bytearray(write_algorithm_identifier(algorithm))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(der)))
        der[position : position + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    check(bytes(der))


@given(WRITABLE)
def test_what_is_written_parses_to_the_same(algorithm: SignatureAlgorithm) -> None:
    assert parse_algorithm_identifier_untrusted(write_algorithm_identifier(algorithm)) == algorithm


@given(st.binary(max_size=200))
def test_parameters_of_unknown_algorithms_do_not_matter(parameters: bytes) -> None:
    oid = bytes.fromhex("06032b6571")
    assert parse_algorithm_identifier_untrusted(tlv(0x30, oid + parameters)) == SignatureAlgorithm("1.3.101.113")


@given(st.recursive(st.binary(max_size=12), lambda inner: st.lists(inner, max_size=4), max_leaves=12), st.data())
def test_any_well_formed_tree_parses_or_raises_wire_error(tree: object, data: st.DataObject) -> None:
    """Nested values with the tags that occur: deeper into the parser than random bytes come."""
    tags = st.sampled_from([0x02, 0x05, 0x06, 0x30, 0xA0, 0xA1, 0xA2, 0xA3])

    def write(node: object) -> bytes:
        content = b"".join(write(each) for each in node) if isinstance(node, list) else node
        assert isinstance(content, bytes)
        return tlv(data.draw(tags), content)

    pss = bytes.fromhex("06092a864886f70d01010a")
    check(tlv(0x30, pss + tlv(0x30, write(tree))))
