"""Conditions of a filter: are they possible at their layer, which values do they hold for, how narrow are they.

Conditions on different fields must all hold; consecutive conditions on one field are alternatives (Windows 7 on).
Each such group becomes one FieldTest, which says the same thing in up to three ways: as a predicate, which is the
meaning; as intervals of numbers, when the field is a number; as keys, of which a matching value has at least one.
Intervals and keys are what an index is built on, and what regions are compared by.  No conversion of types takes place
except the documented ones: an address against a mask, an identity against a security descriptor.  Knows no filters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias, cast
from uuid import UUID

from .access import EVERYONE, SecurityDescriptor, Token, allow
from .errors import PolicyCode, error_for
from .fields import Field, Kind
from .layers import LayerInfo
from .values import Data, DataType, MatchType, Range, V4Mask, V6Mask, Value, address, integer_bounds, subnet

__all__ = ["Condition", "FieldTest", "Interval", "compile_conditions", "keys_of_value", "match"]

Interval: TypeAlias = tuple[int, int]
"""The lowest and the highest number of an unbroken run, both included."""
Key: TypeAlias = str | bytes

_CODE: Final = PolicyCode
_ORDERED: Final = (MatchType.GREATER, MatchType.LESS, MatchType.GREATER_OR_EQUAL, MatchType.LESS_OR_EQUAL)
_FLAG_MATCHES: Final = (MatchType.FLAGS_ALL_SET, MatchType.FLAGS_ANY_SET, MatchType.FLAGS_NONE_SET)
_ENDINGS: Final = (MatchType.PREFIX, MatchType.NOT_PREFIX)
_SORTABLE: Final = (*_ORDERED, MatchType.NOT_EQUAL, MatchType.RANGE)
# What a test on something that is no number counts for in an automatic weight: an exact name as much as a long number.
_EXACT_BITS: Final = 64
_LOOSE_BITS: Final = 16


class Condition(NamedTuple):
    """FWPM_FILTER_CONDITION0: what must be true of one field."""

    field: Field
    match: MatchType
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class FieldTest:
    """All alternatives for one field.  ``weight_bits``: how many of the field's bits they fix, in 1/256 of a bit.

    ``intervals`` are sorted and do not touch; None: the test is not about an order.  ``keys``: a value that passes has
    one of them (keys_of_value); None: nothing is known beforehand.
    """

    place: int
    predicate: Callable[[int | str | bytes | Token], bool]
    intervals: tuple[Interval, ...] | None
    keys: tuple[Key, ...] | None
    weight_bits: int


def match(field: Field, value: object, how: MatchType = MatchType.EQUAL) -> Condition:
    """A condition from plain Python values.

    Numbers are int, a pair of them for RANGE; addresses are text, with "/" for a network; identities a
    SecurityDescriptor or the name of the only one allowed; names str; blobs bytes; a policy's key a UUID.  A typed
    Value passes as it is.  Raises InvalidPolicy (TYPE_MISMATCH, INVALID_NET_MASK, INVALID_PARAMETER).
    """
    if isinstance(value, tuple) and not isinstance(value, Value) and len(value) == 2:
        typed = Value(DataType.RANGE, Range(_typed(field, value[0]), _typed(field, value[1])))
    else:
        typed = _typed(field, value)
    return Condition(field, how, typed)


def _typed(field: Field, value: object) -> Value:
    kind = field.kind(4)
    if isinstance(value, Value):
        return value
    if isinstance(value, int) and kind.bits:
        return Value(kind.data_type, int(value))
    if isinstance(value, str) and kind is Kind.ADDRESS4:
        return subnet(value) if "/" in value else address(value)
    if isinstance(value, str) and kind is Kind.NAME:
        return Value(DataType.UNICODE_STRING, value)
    if kind is Kind.TOKEN and isinstance(value, str | SecurityDescriptor):
        return Value(DataType.SECURITY_DESCRIPTOR, allow(value) if isinstance(value, str) else value)
    if isinstance(value, bytes) and kind in (Kind.BLOB, Kind.NAME):
        return Value(DataType.BYTE_BLOB, value)
    if isinstance(value, UUID) and kind is Kind.GUID:
        return Value(DataType.BYTE_ARRAY16, value.bytes_le)
    raise error_for(_CODE.TYPE_MISMATCH, f"{field.name}: {type(value).__name__} is no value of this field")


_field_of: Final = attrgetter("field")


def compile_conditions(info: LayerInfo, conditions: Iterable[Condition]) -> tuple[FieldTest, ...]:
    """The tests that ``conditions`` mean at this layer, one per field.

    Raises InvalidPolicy: CONDITION_NOT_FOUND, DUPLICATE_CONDITION (a field that comes back after another one),
    INVALID_ENUMERATOR, TYPE_MISMATCH, MATCH_TYPE_MISMATCH, OUT_OF_BOUNDS, INVALID_NET_MASK, INVALID_RANGE,
    INVALID_PARAMETER.
    """
    tests: list[FieldTest] = []
    seen: set[int] = set()
    for field, group in groupby(conditions, key=_field_of):
        place = info.place_of(field)
        if place in seen:
            raise error_for(_CODE.DUPLICATE_CONDITION, f"{field.name} comes back after another field")
        seen.add(place)
        tests.append(_compile_group(info, place, list(group)))
    return tuple(tests)


def keys_of_value(kind: Kind, value: int | str | bytes | Token) -> tuple[Key, ...]:
    """Every key under which a test that this value passes may be indexed."""
    if isinstance(value, Token):
        return value.keys
    if kind is Kind.NAME and isinstance(value, str):
        return (value, _folded(value))
    return (value,) if isinstance(value, bytes) else ()


def _compile_group(info: LayerInfo, place: int, group: list[Condition]) -> FieldTest:
    kind = info.kinds[place]
    first = group[0]
    value = first.value
    if len(group) == 1 and first.match is MatchType.EQUAL and value.type is kind.data_type:
        number = value.data
        if type(number) is int and 0 <= number <= info.limits[place]:
            # one number, as almost every condition of a large policy is: nothing is left to check or to merge
            return FieldTest(place, _Within(number, number), ((number, number),), None, kind.bits << 8)
    for condition in group:
        _check(kind, condition)
    if kind.bits and len(group) == 1 and group[0].match not in _FLAG_MATCHES:
        # what most conditions are: the same as below, without doing anything twice
        single = _merged(_intervals(kind, group[0]))
        return FieldTest(place, _intervals_predicate(single), single, None, _number_bits(kind, single, group))
    predicates = [_predicate(kind, condition) for condition in group]
    predicate = predicates[0] if len(predicates) == 1 else _any_of(predicates)
    intervals: tuple[Interval, ...] | None = None
    keys: tuple[Key, ...] | None = None
    if kind.bits:
        if not any(condition.match in _FLAG_MATCHES for condition in group):
            intervals = _merged(each for condition in group for each in _intervals(kind, condition))
        bits = _number_bits(kind, intervals, group)
    else:
        found = [_keys(kind, condition) for condition in group]
        if all(each is not None for each in found):
            keys = tuple(dict.fromkeys(key for each in found for key in each or ()))
        bits = _name_bits(keys)
    return FieldTest(place, predicate, intervals, keys, bits)


def _any_of(
    predicates: list[Callable[[int | str | bytes | Token], bool]],
) -> Callable[[int | str | bytes | Token], bool]:
    return lambda value: any(predicate(value) for predicate in predicates)


# -- is it possible? ---------------------------------------------------------------------------------------------


def _check(kind: Kind, condition: Condition) -> None:
    how, value = condition.match, condition.value
    name = condition.field.name
    if not isinstance(how, MatchType):
        raise error_for(_CODE.INVALID_ENUMERATOR, f"{name}: {how!r} is no match type")
    if (value.type is DataType.RANGE) != (how is MatchType.RANGE):
        raise error_for(_CODE.MATCH_TYPE_MISMATCH, f"{name}: match RANGE and a value of type RANGE belong together")
    if value.type is DataType.RANGE:
        _check_range(kind, name, value.data)
        return
    if value.type not in kind.condition_types:
        wanted = " or ".join(each.name for each in kind.condition_types)
        raise error_for(_CODE.TYPE_MISMATCH, f"{name} is {wanted}, not {_type_name(value)}")
    if not _match_suits(how, value.type):
        raise error_for(_CODE.MATCH_TYPE_MISMATCH, f"{name}: {how.name} does not apply to {value.type.name}")
    _check_data(kind, name, value)


def _type_name(value: Value) -> str:
    return value.type.name if isinstance(value.type, DataType) else repr(value.type)


def _match_suits(how: MatchType, kind: DataType) -> bool:
    if how is MatchType.EQUAL:
        return True
    if kind in (DataType.V4_ADDR_MASK, DataType.V6_ADDR_MASK):
        return how is MatchType.NOT_EQUAL
    if kind is DataType.SECURITY_DESCRIPTOR:
        return False
    if how in _SORTABLE:
        return True
    if how in _FLAG_MATCHES:
        return integer_bounds(kind) is not None
    if how is MatchType.EQUAL_CASE_INSENSITIVE:
        return kind is DataType.UNICODE_STRING
    return kind in (DataType.UNICODE_STRING, DataType.BYTE_BLOB)


def _check_range(kind: Kind, name: str, data: Data) -> None:
    if not isinstance(data, Range):
        raise error_for(_CODE.TYPE_MISMATCH, f"{name}: the data of a RANGE is a pair of values")
    low, high = data
    allowed = [each for each in kind.condition_types if each not in (DataType.V4_ADDR_MASK, DataType.V6_ADDR_MASK)]
    if low.type is not high.type or low.type not in allowed or low.type is DataType.SECURITY_DESCRIPTOR:
        raise error_for(_CODE.TYPE_MISMATCH, f"{name}: both ends of a range have the field's own type")
    _check_data(kind, name, low)
    _check_data(kind, name, high)
    if _order(_comparable(low)) > _order(_comparable(high)):
        raise error_for(_CODE.INVALID_RANGE, f"{name}: the range begins after its end")


def _check_data(kind: Kind, name: str, value: Value) -> None:
    data = value.data
    bounds = integer_bounds(value.type)
    if bounds is not None:
        if not isinstance(data, int):
            raise error_for(_CODE.TYPE_MISMATCH, f"{name}: {value.type.name} holds a number")
        if not bounds[0] <= data <= bounds[1]:
            raise error_for(_CODE.OUT_OF_BOUNDS, f"{name}: {data} is no {value.type.name}")
    elif not isinstance(data, _DATA_CLASSES[value.type]):
        raise error_for(_CODE.TYPE_MISMATCH, f"{name}: {type(data).__name__} is no {value.type.name}")
    elif isinstance(data, V4Mask):
        _check_v4_mask(name, data)
    elif isinstance(data, V6Mask):
        if len(data.address) != 16 or not 0 <= data.prefix_length <= 128:
            raise error_for(_CODE.INVALID_NET_MASK, f"{name}: an IPv6 network has 16 bytes and a prefix of 0 to 128")
    elif isinstance(data, bytes):
        if value.type is DataType.BYTE_ARRAY16 and len(data) != 16:
            raise error_for(_CODE.TYPE_MISMATCH, f"{name}: BYTE_ARRAY16 holds 16 bytes, not {len(data)}")
        if kind is Kind.NAME:
            _check_text(name, data.decode("utf-16-le", errors="surrogatepass") if len(data) % 2 == 0 else "\0")
    elif isinstance(data, str):
        _check_text(name, data)


_DATA_CLASSES: Final[dict[DataType, type | tuple[type, ...]]] = {
    DataType.V4_ADDR_MASK: V4Mask,
    DataType.V6_ADDR_MASK: V6Mask,
    DataType.BYTE_ARRAY16: bytes,
    DataType.BYTE_BLOB: bytes,
    DataType.UNICODE_STRING: str,
    DataType.SECURITY_DESCRIPTOR: SecurityDescriptor,
}


def _check_v4_mask(name: str, data: V4Mask) -> None:
    wild = data.mask ^ 0xFFFFFFFF
    if not 0 <= data.mask <= 0xFFFFFFFF or wild & (wild + 1):
        raise error_for(_CODE.INVALID_NET_MASK, f"{name}: {data.mask:#x} is no mask of leading ones")
    if not 0 <= data.address <= 0xFFFFFFFF:
        raise error_for(_CODE.OUT_OF_BOUNDS, f"{name}: {data.address} is no IPv4 address")


def _check_text(name: str, text: str) -> None:
    # winnls.h: bad Unicode is a lone surrogate; a NUL would end the string for everybody who reads it on Windows.
    if "\0" in text or any("\ud800" <= each <= "\udfff" for each in text):
        raise error_for(_CODE.INVALID_PARAMETER, f"{name}: the text is no valid Unicode string")


# -- what does it mean? ------------------------------------------------------------------------------------------


def _comparable(value: Value) -> int | str | bytes:
    data = value.data
    if value.type is DataType.BYTE_ARRAY16 and isinstance(data, bytes):
        return int.from_bytes(data)
    return cast("int | str | bytes", data)  # _check has refused what has no order


def _predicate(kind: Kind, condition: Condition) -> Callable[[int | str | bytes | Token], bool]:
    value = condition.value
    data = value.data
    if isinstance(data, SecurityDescriptor):
        descriptor = data
        return lambda token: isinstance(token, Token) and descriptor.admits(token)
    if kind.bits:
        if condition.match in _FLAG_MATCHES:
            return _flags_predicate(condition.match, int(_comparable(value)))
        return _intervals_predicate(_merged(_intervals(kind, condition)))
    test = _text_predicate(condition)
    if kind is Kind.NAME and _is_blob(value):
        return lambda name: isinstance(name, str) and test(name.encode("utf-16-le", errors="surrogatepass"))
    return lambda name: isinstance(name, str | bytes) and test(name)


def _is_blob(value: Value) -> bool:
    return (value.data.low.type if isinstance(value.data, Range) else value.type) is DataType.BYTE_BLOB


def _flags_predicate(how: MatchType, mask: int) -> Callable[[int | str | bytes | Token], bool]:
    if how is MatchType.FLAGS_ALL_SET:
        return lambda flags: isinstance(flags, int) and flags & mask == mask
    if how is MatchType.FLAGS_ANY_SET:
        return lambda flags: isinstance(flags, int) and flags & mask != 0
    return lambda flags: isinstance(flags, int) and flags & mask == 0


def _intervals_predicate(intervals: tuple[Interval, ...]) -> Callable[[int | str | bytes | Token], bool]:
    if len(intervals) == 1:
        return _Within(*intervals[0])
    return lambda number: isinstance(number, int) and any(low <= number <= high for low, high in intervals)


class _Within:
    """A predicate as one object: a function that remembers two numbers is four, and the collector visits each."""

    __slots__ = ("high", "low")

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def __call__(self, number: int | str | bytes | Token) -> bool:
        return isinstance(number, int) and self.low <= number <= self.high


def _text_predicate(condition: Condition) -> Callable[[str | bytes], bool]:
    how, value = condition.match, condition.value
    if isinstance(value.data, Range):
        low, high = _order(_comparable(value.data.low)), _order(_comparable(value.data.high))
        return lambda text: low <= _order(text) <= high
    wanted = value.data
    if how is MatchType.EQUAL:
        return lambda text: text == wanted
    if how is MatchType.NOT_EQUAL:
        return lambda text: text != wanted
    if isinstance(wanted, str):
        string = wanted
        if how is MatchType.EQUAL_CASE_INSENSITIVE:
            return lambda text: isinstance(text, str) and text.casefold() == string.casefold()
        if how in _ENDINGS:
            return lambda text: isinstance(text, str) and text.endswith(string) == (how is MatchType.PREFIX)
    elif how in _ENDINGS and isinstance(wanted, bytes):
        blob = wanted
        return lambda text: isinstance(text, bytes) and text.endswith(blob) == (how is MatchType.PREFIX)
    return _ordering(how, _order(_comparable(value)))


def _order(text: int | str | bytes) -> bytes:
    # Strings are compared by UTF-16 code units, as Windows does; in big-endian bytes that is the order of bytes.
    if isinstance(text, str):
        return text.encode("utf-16-be", errors="surrogatepass")
    return text if isinstance(text, bytes) else text.to_bytes(16)


def _ordering(how: MatchType, bound: bytes) -> Callable[[str | bytes], bool]:
    if how is MatchType.GREATER:
        return lambda text: _order(text) > bound
    if how is MatchType.LESS:
        return lambda text: _order(text) < bound
    if how is MatchType.GREATER_OR_EQUAL:
        return lambda text: _order(text) >= bound
    return lambda text: _order(text) <= bound


def _intervals(kind: Kind, condition: Condition) -> list[Interval]:
    """The numbers for which a condition that is no test of flags holds, in order; possibly none at all."""
    how, data = condition.match, condition.value.data
    top = (1 << kind.bits) - 1
    if isinstance(data, Range):
        low, high = int(_comparable(data.low)), int(_comparable(data.high))
    elif isinstance(data, V4Mask):
        low, high = data.address & data.mask, data.address | (data.mask ^ 0xFFFFFFFF)
    elif isinstance(data, V6Mask):
        wild = (1 << 128 - data.prefix_length) - 1
        low = int.from_bytes(data.address) & ~wild
        high = low | wild
    else:
        low = high = int(_comparable(condition.value))
    if how is MatchType.NOT_EQUAL:
        outside = [(0, low - 1), (high + 1, top)]
    elif how is MatchType.GREATER:
        outside = [(low + 1, top)]
    elif how is MatchType.LESS:
        outside = [(0, low - 1)]
    elif how is MatchType.GREATER_OR_EQUAL:
        outside = [(low, top)]
    elif how is MatchType.LESS_OR_EQUAL:
        outside = [(0, low)]
    else:
        outside = [(low, high)]
    return [(first, last) for first, last in outside if first <= last]


def _merged(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    found = sorted(intervals)
    if len(found) <= 1:
        return tuple(found)
    merged: list[Interval] = []
    for low, high in found:
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


# -- what can be looked up, and how narrow is it? ----------------------------------------------------------------


def _folded(name: str) -> str:
    # A name holds no NUL (_check_text), so a folded key is never taken for a name.
    return "\0" + name.casefold()


def _keys(kind: Kind, condition: Condition) -> tuple[Key, ...] | None:
    data = condition.value.data
    if isinstance(data, SecurityDescriptor):
        return data.keys()
    if condition.match is MatchType.EQUAL_CASE_INSENSITIVE and isinstance(data, str):
        return (_folded(data),)
    if condition.match is not MatchType.EQUAL or not isinstance(data, str | bytes):
        return None
    if kind is Kind.NAME and isinstance(data, bytes):
        return (data.decode("utf-16-le", errors="surrogatepass"),)
    return (data,)


def _log2_of(number: int) -> int:
    """log2 in 1/256, by straight lines between powers of two: whole-number arithmetic, the same on every machine."""
    whole = number.bit_length() - 1
    return (whole << 8) + ((number << 8 >> whole) - 256)


def _number_bits(kind: Kind, intervals: tuple[Interval, ...] | None, group: list[Condition]) -> int:
    if intervals is not None:
        count = sum(high - low + 1 for low, high in intervals)
        return (kind.bits << 8) - _log2_of(count) if count else kind.bits << 8
    # Among alternatives with a test of flags, what the loosest one fixes.
    loosest = kind.bits << 8
    for condition in group:
        if condition.match not in _FLAG_MATCHES:
            bits = _number_bits(kind, _merged(_intervals(kind, condition)), [])
        elif condition.match is MatchType.FLAGS_ANY_SET:
            bits = 1 << 8
        else:
            bits = int(_comparable(condition.value)).bit_count() << 8
        loosest = min(loosest, bits)
    return loosest


def _name_bits(keys: tuple[Key, ...] | None) -> int:
    if keys is None or EVERYONE in keys:
        return _LOOSE_BITS << 8
    loose = any(isinstance(key, str) and key.startswith(("*/", "group:")) for key in keys)
    return ((_LOOSE_BITS * 2 if loose else _EXACT_BITS) << 8) - (_log2_of(len(keys)) if keys else 0)
