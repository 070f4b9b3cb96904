"""Conditions: every refusal by its code, what each match means, and what an index is told."""

from __future__ import annotations

from uuid import UUID

import pytest

from securesock.policy.access import Token, allow
from securesock.policy.conditions import Condition, compile_conditions, keys_of_value, match
from securesock.policy.errors import PolicyCode, PolicyError
from securesock.policy.fields import Field, Kind
from securesock.policy.layers import Layer
from securesock.policy.values import DataType, MatchType, Range, V4Mask, V6Mask, Value

V4 = Layer.ALE_AUTH_CONNECT_V4
V6 = Layer.ALE_AUTH_CONNECT_V6
M = MatchType
T = DataType
PORT, ADDRESS, NAME, APP, USER, FLAGS = (
    Field.IP_REMOTE_PORT,
    Field.IP_REMOTE_ADDRESS,
    Field.PEER_NAME,
    Field.ALE_APP_ID,
    Field.ALE_REMOTE_USER_ID,
    Field.FLAGS,
)


def ranged(kind: DataType, low: object, high: object) -> Value:
    return Value(T.RANGE, Range(Value(kind, low), Value(kind, high)))


@pytest.mark.parametrize(
    ("layer", "condition", "code"),
    [
        (V4, Condition(Field.REMOTE_ID, M.EQUAL, Value(T.UINT32, 1)), PolicyCode.CONDITION_NOT_FOUND),
        (V4, Condition(PORT, 99, Value(T.UINT16, 1)), PolicyCode.INVALID_ENUMERATOR),
        # FWP_MATCH_TYPE: "an FWP_UINT32 value cannot be compared with an FWP_UINT16 value"
        (V4, Condition(PORT, M.EQUAL, Value(T.UINT32, 1)), PolicyCode.TYPE_MISMATCH),
        (V4, Condition(PORT, M.EQUAL, Value(T.EMPTY, None)), PolicyCode.TYPE_MISMATCH),
        (V4, Condition(PORT, M.EQUAL, Value(99, 1)), PolicyCode.TYPE_MISMATCH),
        (V4, Condition(PORT, M.EQUAL, Value(T.UINT16, "1")), PolicyCode.TYPE_MISMATCH),
        (V4, Condition(PORT, M.EQUAL, Value(T.UINT16, 65536)), PolicyCode.OUT_OF_BOUNDS),
        (V4, Condition(PORT, M.EQUAL, Value(T.UINT16, -1)), PolicyCode.OUT_OF_BOUNDS),
        (V4, Condition(PORT, M.EQUAL, Value(T.V4_ADDR_MASK, V4Mask(0, 0))), PolicyCode.TYPE_MISMATCH),
        (V4, Condition(PORT, M.EQUAL_CASE_INSENSITIVE, Value(T.UINT16, 1)), PolicyCode.MATCH_TYPE_MISMATCH),
        (V4, Condition(PORT, M.PREFIX, Value(T.UINT16, 1)), PolicyCode.MATCH_TYPE_MISMATCH),
        (V4, Condition(PORT, M.RANGE, Value(T.UINT16, 1)), PolicyCode.MATCH_TYPE_MISMATCH),
        (V4, Condition(PORT, M.EQUAL, ranged(T.UINT16, 1, 2)), PolicyCode.MATCH_TYPE_MISMATCH),
        (V4, Condition(PORT, M.RANGE, ranged(T.UINT16, 2, 1)), PolicyCode.INVALID_RANGE),
        (V4, Condition(PORT, M.RANGE, ranged(T.UINT32, 1, 2)), PolicyCode.TYPE_MISMATCH),
        (V4, Condition(PORT, M.RANGE, ranged(T.UINT16, 1, 70000)), PolicyCode.OUT_OF_BOUNDS),
        (V4, Condition(PORT, M.RANGE, Value(T.RANGE, 5)), PolicyCode.TYPE_MISMATCH),
        (
            V4,
            Condition(PORT, M.RANGE, Value(T.RANGE, Range(Value(T.UINT16, 1), Value(T.UINT8, 2)))),
            PolicyCode.TYPE_MISMATCH,
        ),
        (V4, Condition(ADDRESS, M.RANGE, ranged(T.V4_ADDR_MASK, V4Mask(0, 0), V4Mask(0, 0))), PolicyCode.TYPE_MISMATCH),
        (V4, Condition(ADDRESS, M.EQUAL, Value(T.V4_ADDR_MASK, V4Mask(0, 0xFF00FF00))), PolicyCode.INVALID_NET_MASK),
        (V4, Condition(ADDRESS, M.EQUAL, Value(T.V4_ADDR_MASK, V4Mask(0, 1 << 33))), PolicyCode.INVALID_NET_MASK),
        (V4, Condition(ADDRESS, M.EQUAL, Value(T.V4_ADDR_MASK, V4Mask(1 << 33, 0))), PolicyCode.OUT_OF_BOUNDS),
        (V4, Condition(ADDRESS, M.EQUAL, Value(T.V4_ADDR_MASK, 7)), PolicyCode.TYPE_MISMATCH),
        (V4, Condition(ADDRESS, M.GREATER, Value(T.V4_ADDR_MASK, V4Mask(0, 0))), PolicyCode.MATCH_TYPE_MISMATCH),
        (V4, Condition(ADDRESS, M.EQUAL, Value(T.V6_ADDR_MASK, V6Mask(bytes(16), 0))), PolicyCode.TYPE_MISMATCH),
        (V6, Condition(ADDRESS, M.EQUAL, Value(T.UINT32, 1)), PolicyCode.TYPE_MISMATCH),
        (V6, Condition(ADDRESS, M.EQUAL, Value(T.V6_ADDR_MASK, V6Mask(bytes(16), 129))), PolicyCode.INVALID_NET_MASK),
        (V6, Condition(ADDRESS, M.EQUAL, Value(T.V6_ADDR_MASK, V6Mask(bytes(16), -1))), PolicyCode.INVALID_NET_MASK),
        (V6, Condition(ADDRESS, M.EQUAL, Value(T.V6_ADDR_MASK, V6Mask(bytes(4), 8))), PolicyCode.INVALID_NET_MASK),
        (V6, Condition(ADDRESS, M.EQUAL, Value(T.BYTE_ARRAY16, bytes(4))), PolicyCode.TYPE_MISMATCH),
        (V6, Condition(ADDRESS, M.FLAGS_ALL_SET, Value(T.BYTE_ARRAY16, bytes(16))), PolicyCode.MATCH_TYPE_MISMATCH),
        (V4, Condition(NAME, M.EQUAL, Value(T.UNICODE_STRING, "a\0b")), PolicyCode.INVALID_PARAMETER),
        (V4, Condition(NAME, M.EQUAL, Value(T.UNICODE_STRING, "\ud800")), PolicyCode.INVALID_PARAMETER),
        (V4, Condition(NAME, M.EQUAL, Value(T.BYTE_BLOB, b"abc")), PolicyCode.INVALID_PARAMETER),
        (V4, Condition(NAME, M.EQUAL, Value(T.BYTE_BLOB, b"\0\xd8")), PolicyCode.INVALID_PARAMETER),
        (V4, Condition(NAME, M.FLAGS_ANY_SET, Value(T.UNICODE_STRING, "a")), PolicyCode.MATCH_TYPE_MISMATCH),
        (V4, Condition(NAME, M.EQUAL_CASE_INSENSITIVE, Value(T.BYTE_BLOB, b"a\0")), PolicyCode.MATCH_TYPE_MISMATCH),
        (V4, Condition(NAME, M.RANGE, ranged(T.UNICODE_STRING, "b", "a")), PolicyCode.INVALID_RANGE),
        (V4, Condition(APP, M.EQUAL, Value(T.UNICODE_STRING, "a")), PolicyCode.TYPE_MISMATCH),
        (V4, Condition(APP, M.EQUAL, Value(T.BYTE_BLOB, "a")), PolicyCode.TYPE_MISMATCH),
        (V4, Condition(USER, M.NOT_EQUAL, Value(T.SECURITY_DESCRIPTOR, allow("a@b"))), PolicyCode.MATCH_TYPE_MISMATCH),
        (V4, Condition(USER, M.EQUAL, Value(T.SECURITY_DESCRIPTOR, "a@b")), PolicyCode.TYPE_MISMATCH),
        (V4, Condition(USER, M.EQUAL, Value(T.SID, "a@b")), PolicyCode.TYPE_MISMATCH),
        (
            V4,
            Condition(USER, M.RANGE, ranged(T.SECURITY_DESCRIPTOR, allow("a@b"), allow("a@b"))),
            PolicyCode.TYPE_MISMATCH,
        ),
    ],
)
def test_impossible_conditions_are_refused(layer: Layer, condition: Condition, code: PolicyCode) -> None:
    with pytest.raises(PolicyError) as refused:
        compile_conditions(layer.info, [condition])
    assert refused.value.code is code


def test_a_field_that_comes_back_after_another_is_a_duplicate() -> None:
    with pytest.raises(PolicyError) as refused:
        compile_conditions(V4.info, [match(PORT, 1), match(FLAGS, 1), match(PORT, 2)])
    assert refused.value.code is PolicyCode.DUPLICATE_CONDITION


def holds(layer: Layer, conditions: list[Condition], value: object) -> bool:
    [test] = compile_conditions(layer.info, conditions)
    slots = layer.info.slots_of({conditions[0].field: value})
    passed = test.predicate(slots[test.place])
    # What the test says of itself must be true of the value that passed.
    if passed and test.intervals is not None:
        assert any(low <= slots[test.place] <= high for low, high in test.intervals)
    if passed and test.keys is not None:
        assert set(keys_of_value(layer.info.kinds[test.place], slots[test.place])) & set(test.keys)
    return passed


@pytest.mark.parametrize(
    ("how", "passing", "failing"),
    [
        (M.EQUAL, [443], [442, 444]),
        (M.NOT_EQUAL, [0, 442, 444, 65535], [443]),
        (M.GREATER, [444, 65535], [0, 443]),
        (M.LESS, [0, 442], [443, 65535]),
        (M.GREATER_OR_EQUAL, [443, 65535], [0, 442]),
        (M.LESS_OR_EQUAL, [0, 443], [444]),
        (M.FLAGS_ALL_SET, [443, 443 | 0x8000], [0, 442, 3]),
        (M.FLAGS_ANY_SET, [1, 0x8001, 443], [0, 0x8000, 4]),
        (M.FLAGS_NONE_SET, [0, 4, 0x8000], [1, 443]),
    ],
)
def test_matches_of_numbers(how: MatchType, passing: list[int], failing: list[int]) -> None:
    condition = match(PORT, 443, how)
    assert [port for port in passing + failing if holds(V4, [condition], port)] == passing


def test_ranges_hold_their_ends() -> None:
    condition = match(PORT, (1000, 2000), M.RANGE)
    assert [port for port in (999, 1000, 1500, 2000, 2001) if holds(V4, [condition], port)] == [1000, 1500, 2000]


@pytest.mark.parametrize(
    ("layer", "network", "inside", "outside"),
    [
        (V4, "192.0.2.0/24", ["192.0.2.0", "192.0.2.255"], ["192.0.1.255", "192.0.3.0"]),
        (V4, "0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], []),
        (V4, "192.0.2.1/32", ["192.0.2.1"], ["192.0.2.0", "192.0.2.2"]),
        (V6, "2001:db8::/32", ["2001:db8::", "2001:db8:ffff::1"], ["2001:db7::", "::"]),
        (V6, "::/0", ["::", "ffff::"], []),
        (V6, "::1/128", ["::1"], ["::", "::2"]),
    ],
)
def test_networks(layer: Layer, network: str, inside: list[str], outside: list[str]) -> None:
    condition = match(ADDRESS, network)
    opposite = match(ADDRESS, network, M.NOT_EQUAL)
    assert all(holds(layer, [condition], each) and not holds(layer, [opposite], each) for each in inside)
    assert all(holds(layer, [opposite], each) and not holds(layer, [condition], each) for each in outside)


@pytest.mark.parametrize(
    ("how", "passing", "failing"),
    [
        (M.EQUAL, ["db.example"], ["DB.example", "db.example."]),
        (M.NOT_EQUAL, ["DB.example"], ["db.example"]),
        (M.EQUAL_CASE_INSENSITIVE, ["db.example", "DB.EXAMPLE"], ["db.example.org"]),
        # FWP_MATCH_TYPE: "tests whether the value ends with the condition value"
        (M.PREFIX, ["db.example", "my-db.example"], ["db.example.org"]),
        (M.NOT_PREFIX, ["db.example.org"], ["db.example"]),
        (M.GREATER, ["db.examplf", "db.example0"], ["db.example", "DB.example"]),
        (M.LESS, ["DB.example"], ["db.example", "z"]),
        (M.GREATER_OR_EQUAL, ["db.example", "z"], ["a"]),
        (M.LESS_OR_EQUAL, ["db.example", "a"], ["z"]),
    ],
)
@pytest.mark.parametrize("kind", [T.UNICODE_STRING, T.BYTE_BLOB])
def test_matches_of_names(kind: DataType, how: MatchType, passing: list[str], failing: list[str]) -> None:
    if kind is T.BYTE_BLOB and how is M.EQUAL_CASE_INSENSITIVE:
        with pytest.raises(PolicyError):
            compile_conditions(V4.info, [Condition(NAME, how, Value(kind, b""))])
        return
    data = "db.example" if kind is T.UNICODE_STRING else "db.example".encode("utf-16-le")
    condition = Condition(NAME, how, Value(kind, data))
    assert [name for name in passing + failing if holds(V4, [condition], name)] == passing


def test_ranges_of_names_and_blobs() -> None:
    names = Condition(NAME, M.RANGE, ranged(T.UNICODE_STRING, "b", "d"))
    assert [name for name in ("a", "b", "cz", "d", "da") if holds(V4, [names], name)] == ["b", "cz", "d"]
    wide = Condition(NAME, M.RANGE, ranged(T.BYTE_BLOB, "b".encode("utf-16-le"), "d".encode("utf-16-le")))
    assert holds(V4, [wide], "c")
    blobs = Condition(APP, M.RANGE, ranged(T.BYTE_BLOB, b"b", b"d"))
    assert [blob for blob in (b"a", b"b", b"cz", b"d", b"da") if holds(V4, [blobs], blob)] == [b"b", b"cz", b"d"]


def test_strings_are_ordered_by_utf16_code_units() -> None:
    """U+10000 is a surrogate pair, which sorts before U+FFFF in UTF-16 and after it by code point."""
    assert holds(V4, [match(NAME, "\uffff", M.LESS)], "\U00010000")


def test_identities() -> None:
    condition = match(USER, allow("alice@X", "group:ops", "host/*.example"))
    for name in (Token(("alice@X",)), Token(("bob@X",), ("ops",)), Token(("host/a.example",))):
        assert holds(V4, [condition], name)
    assert not holds(V4, [condition], Token(("bob@X",)))
    assert not holds(V4, [condition], Token(()))


def test_consecutive_conditions_on_one_field_are_alternatives() -> None:
    either = [match(PORT, 80), match(PORT, 443), match(PORT, (8000, 8010), M.RANGE)]
    assert [port for port in (79, 80, 443, 8000, 8011) if holds(V4, either, port)] == [80, 443, 8000]
    mixed = [match(FLAGS, 8), match(FLAGS, 3, M.FLAGS_ALL_SET)]
    assert [flags for flags in (0, 3, 7, 8, 9) if holds(V4, mixed, flags)] == [3, 7, 8]
    names = [match(NAME, "a"), match(NAME, "B", M.EQUAL_CASE_INSENSITIVE)]
    assert [name for name in ("a", "A", "b", "c") if holds(V4, names, name)] == ["a", "b"]


def test_intervals_are_sorted_and_do_not_touch() -> None:
    [test] = compile_conditions(V4.info, [match(PORT, 5), match(PORT, (1, 4), M.RANGE), match(PORT, 9)])
    assert test.intervals == ((1, 5), (9, 9))
    [nothing] = compile_conditions(V4.info, [match(PORT, 0, M.LESS)])
    assert nothing.intervals == ()
    [network] = compile_conditions(V6.info, [match(ADDRESS, "::/0")])
    assert network.intervals == ((0, (1 << 128) - 1),)


def test_some_tests_cannot_be_looked_up() -> None:
    [flags] = compile_conditions(V4.info, [match(FLAGS, 1, M.FLAGS_ALL_SET)])
    assert (flags.intervals, flags.keys) == (None, None)
    [name] = compile_conditions(V4.info, [match(NAME, "a"), match(NAME, "b", M.PREFIX)])
    assert (name.intervals, name.keys) == (None, None)


def test_a_blob_of_utf16_and_a_string_find_the_same_name() -> None:
    [blob] = compile_conditions(V4.info, [match(NAME, "db".encode("utf-16-le"))])
    [text] = compile_conditions(V4.info, [match(NAME, "db")])
    assert blob.keys == text.keys == ("db",)


def test_numbers_have_no_keys() -> None:
    assert keys_of_value(Kind.NUMBER16, 5) == ()


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ([match(ADDRESS, "192.0.2.1")], [match(ADDRESS, "192.0.2.0/24")]),
        ([match(ADDRESS, "192.0.2.0/24")], [match(ADDRESS, "0.0.0.0/0")]),
        ([match(PORT, 443)], [match(PORT, (443, 444), M.RANGE)]),
        ([match(PORT, (443, 444), M.RANGE)], [match(PORT, 0, M.NOT_EQUAL)]),
        ([match(PORT, 443)], [match(PORT, 443), match(PORT, 80)]),
        ([match(USER, "alice@X")], [match(USER, allow("alice@X", "bob@X"))]),
        ([match(USER, allow("alice@X", "bob@X"))], [match(USER, "group:ops")]),
        ([match(USER, "host/*.example")], [match(USER, "*")]),
        ([match(FLAGS, 3, M.FLAGS_ALL_SET)], [match(FLAGS, 3, M.FLAGS_ANY_SET)]),
        ([match(FLAGS, 8)], [match(FLAGS, 8), match(FLAGS, 3, M.FLAGS_ALL_SET)]),
        ([match(NAME, "a")], [match(NAME, "a", M.PREFIX)]),
    ],
)
def test_narrower_tests_weigh_more(narrow: list[Condition], wide: list[Condition]) -> None:
    [more] = compile_conditions(V4.info, narrow)
    [less] = compile_conditions(V4.info, wide)
    assert more.weight_bits > less.weight_bits >= 0


def test_plain_values_get_the_types_of_their_fields() -> None:
    assert match(PORT, 443).value == Value(T.UINT16, 443)
    assert match(ADDRESS, "192.0.2.1").value == Value(T.UINT32, 0xC0000201)
    assert match(ADDRESS, 0xC0000201).value == Value(T.UINT32, 0xC0000201)
    assert match(ADDRESS, "::1").value == Value(T.BYTE_ARRAY16, bytes(15) + b"\1")
    assert match(USER, "alice@X").value == Value(T.SECURITY_DESCRIPTOR, allow("alice@X"))
    assert match(APP, b"x").value == Value(T.BYTE_BLOB, b"x")
    assert match(Field.IPSEC_POLICY_KEY, UUID(int=1)).value == Value(T.BYTE_ARRAY16, UUID(int=1).bytes_le)
    assert match(PORT, Value(T.UINT32, 1)).value == Value(T.UINT32, 1)
    for field, value in ((PORT, "443"), (NAME, 3), (APP, "x"), (USER, b"x")):
        with pytest.raises(PolicyError) as refused:
            match(field, value)
        assert refused.value.code is PolicyCode.TYPE_MISMATCH
