"""Policy objects as documents that people read and write: JSON with names instead of numbers.

    {"filters": [{"name": "no telnet", "layer": "ALE_AUTH_CONNECT_V4", "action": "BLOCK",
                  "conditions": [{"field": "IP_REMOTE_PORT", "value": 23}]}]}

A field that has its default is left out.  Enums and flags are their names, GUIDs their text, bytes hexadecimal.  A
condition's value is written as ``match()`` takes it (a port, "192.0.2.0/24", a list of who is meant); where that would
not give the same condition again it is written with its type.  What differs from the store's form (codec.py) is who
reads it: there a program, in full; here a person, and what is wrong is named with its place.

A pre-shared key is left out unless it is asked for; a document without one cannot be read back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address
from types import NoneType, UnionType
from typing import Final, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from ..errors import LocalMisuse
from ..secret import Secret
from ..types import Json
from .access import AccessEntry, Right, SecurityDescriptor
from .codec import UNION_CLASSES, decode_value, encode_value, names_of
from .conditions import Condition, match
from .errors import PolicyError
from .fields import Field, Kind
from .model import (
    Callout,
    CalloutFlag,
    ContextFlag,
    Filter,
    FilterFlag,
    ObjectKind,
    PolicyObject,
    Provider,
    ProviderContext,
    ProviderFlag,
    Sublayer,
    SublayerFlag,
)
from .values import DataType, MatchType, Range, V4Mask, V6Mask, Value
from .weights import AUTOMATIC, exact_weight, ranged_weight

__all__ = ["SECTIONS", "describe", "read_condition", "read_document", "read_object", "write_document"]

SECTIONS: Final[Mapping[str, type[PolicyObject]]] = {
    "providers": Provider,
    "provider_contexts": ProviderContext,
    "sublayers": Sublayer,
    "callouts": Callout,
    "filters": Filter,
}
"""The sections of a document, in the order in which their objects may refer to each other."""

_FLAGS: Final[dict[type, type[IntFlag]]] = {
    Provider: ProviderFlag,
    ProviderContext: ContextFlag,
    Sublayer: SublayerFlag,
    Callout: CalloutFlag,
    Filter: FilterFlag,
}
# What the engine fills in; an object that is added has none of it.
_OUTPUT: Final = frozenset({"id", "effective_weight"})
# Where a field may hold one of several classes (codec.UNION_CLASSES) it says which.
_KIND: Final = "kind"

_Reader: TypeAlias = Callable[[Json], object]
Found = TypeVar("Found")


# -- writing --------------------------------------------------------------------------------------------------------


def write_document(items: Mapping[str, list[PolicyObject]], *, with_secrets: bool = False) -> dict[str, Json]:
    """The sections that have objects; ``items`` by section."""
    return {
        section: [describe(each, with_secrets=with_secrets) for each in items[section]]
        for section in SECTIONS
        if items.get(section)
    }


def describe(item: PolicyObject, *, with_secrets: bool = False) -> dict[str, Json]:
    """One object, without what has its default and without what the engine fills in."""
    written = _write_fields(item, with_secrets, skipped=_OUTPUT)
    if item.flags:
        written["flags"] = _flag_names(_FLAGS[type(item)], item.flags)
    if isinstance(item, Filter):
        written.pop("weight", None)
        if item.weight != AUTOMATIC:
            written["weight"] = _write_weight(item.weight)
    return written


def _write_fields(item: object, with_secrets: bool, skipped: frozenset[str] = frozenset()) -> dict[str, Json]:
    defaults = _defaults_of(type(item))
    return {
        name: _write(getattr(item, name), with_secrets)
        for name in names_of(type(item))
        if name not in skipped and (name not in defaults or defaults[name] != getattr(item, name))
    }


def _write(value: object, with_secrets: bool) -> Json:
    match value:
        case None | bool() | str():
            return value
        case IntEnum():
            return value.name
        case int():
            return int(value)
        case UUID():
            return str(value)
        case bytes():
            return value.hex()
        case Secret():
            return value.reveal().hex() if with_secrets else None
        case Condition():
            return _write_condition(value)
        case Value():
            return encode_value(value)
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return [_write(each, with_secrets) for each in value]
    written = _write_fields(value, with_secrets)
    tag = type(value).__name__
    return {_KIND: tag, **written} if tag in UNION_CLASSES else written


def _flag_names(kind: type[IntFlag], flags: int) -> list[Json]:
    names: list[Json] = [each.name for each in kind if each & flags]
    left = flags & ~sum(int(each) for each in kind)
    return [*names, left] if left else names


def _write_weight(weight: Value) -> Json:
    for name, make in (("exact", exact_weight), ("range", ranged_weight)):
        if isinstance(weight.data, int) and make(weight.data) == weight:
            return {name: weight.data}
    return {"typed": encode_value(weight)}


def _write_condition(condition: Condition) -> Json:
    written: dict[str, Json] = {"field": condition.field.name}
    if condition.match not in (MatchType.EQUAL, MatchType.RANGE):
        written["match"] = condition.match.name
    try:
        written["value"] = _plain_value(condition.field, condition.value)
        if written["value"] is not None and read_condition(written) == condition:
            return written
    except ValueError:
        pass  # a value that has no such form, or that match() does not take in it: LocalMisuse is one, too
    return {"field": condition.field.name, "match": condition.match.name, "typed": encode_value(condition.value)}


def _plain_value(field: Field, value: Value) -> Json:
    """What stands for a value; None where nothing does."""
    data = value.data
    is_address = field.kind(4) is Kind.ADDRESS4
    match data:
        case Range():
            return [_plain_value(field, data.low), _plain_value(field, data.high)]
        case V4Mask():
            return f"{IPv4Address(data.address)}/{data.mask.bit_count()}"
        case V6Mask():
            return f"{IPv6Address(data.address)}/{data.prefix_length}"
        case SecurityDescriptor():
            return [_write_entry(entry) for entry in data.entries] if not data.owner else None
        case bytes() if value.type is DataType.BYTE_ARRAY16 and is_address:
            return str(IPv6Address(data))
        case bytes() if value.type is DataType.BYTE_ARRAY16:
            return str(UUID(bytes_le=data))
        case bytes():
            return {"hex": data.hex()}
        case int():
            return str(IPv4Address(data)) if is_address else int(data)
        case str():
            return data
    return None


def _write_entry(entry: AccessEntry) -> Json:
    if entry.allow and entry.rights == Right.MATCH_FILTER:
        return entry.trustee
    return {"allow": entry.allow, "trustee": entry.trustee, "rights": int(entry.rights)}


# -- reading --------------------------------------------------------------------------------------------------------


def read_document(data: Json) -> dict[str, list[PolicyObject]]:
    """The objects of a document by section.  LocalMisuse names the place of what is wrong."""
    if not isinstance(data, dict):
        raise LocalMisuse(f"a policy document is an object with the sections {', '.join(SECTIONS)}")
    for name in data:
        if name not in SECTIONS and name != "schema":
            raise LocalMisuse(f"unknown section {name!r}; known are {', '.join(SECTIONS)}")
    found: dict[str, list[PolicyObject]] = {}
    for section, kind in SECTIONS.items():
        listed = data.get(section, [])
        if not isinstance(listed, list):
            raise LocalMisuse(f"{section} is a list")
        found[section] = [_at(f"{section}[{number}]", read_object, kind, each) for number, each in enumerate(listed)]
    return found


def read_object(kind: type[PolicyObject], data: Json) -> PolicyObject:
    """The object that ``describe`` wrote, or somebody by hand.  LocalMisuse names what is wrong."""
    if not isinstance(data, dict):
        raise LocalMisuse(f"a {ObjectKind[_kind_name(kind)].label} is an object with its fields")
    given = dict(data)
    extra: dict[str, object] = {}
    if "flags" in given:
        extra["flags"] = _at("flags", _read_flags, _FLAGS[kind], given.pop("flags"))
    if "weight" in given and kind is Filter:
        extra["weight"] = _at("weight", _read_weight, given.pop("weight"))
    item = _read_fields(kind, given, extra, skipped=_OUTPUT)
    if not isinstance(item, Provider | ProviderContext | Sublayer | Callout | Filter):
        raise LocalMisuse(f"{kind.__name__} is no policy object")
    return item


def _kind_name(kind: type[PolicyObject]) -> str:
    return "PROVIDER_CONTEXT" if kind is ProviderContext else kind.__name__.upper()


def _at(place: str, read: Callable[..., Found], *arguments: object) -> Found:
    """Call a reader; what it finds wrong is said with the place."""
    try:
        return read(*arguments)
    except (PolicyError, LocalMisuse) as error:
        raise LocalMisuse(f"{place}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise LocalMisuse(f"{place}: {error or type(error).__name__}") from None


def _read_fields(
    kind: type, data: Mapping[str, Json], extra: Mapping[str, object], skipped: frozenset[str] = frozenset()
) -> object:
    hints = get_type_hints(kind)
    names = [name for name in names_of(kind) if name not in skipped]
    for name in data:
        if name not in names:
            raise LocalMisuse(f"unknown field {name!r}; {kind.__name__} has {', '.join(names)}")
    values = dict(extra)
    for name in names:
        if name in data:
            values[name] = _at(name, _reader(hints[name]), data[name])
        elif name not in values and name not in _defaults_of(kind):
            raise LocalMisuse(f"{kind.__name__} needs {name}")
    return kind(**values)


def _reader(hint: object) -> _Reader:
    """How a field of a declared type is read."""
    simple: dict[object, _Reader] = {
        Condition: read_condition,
        UUID: lambda data: UUID(_text(data)),
        bytes: lambda data: bytes.fromhex(_text(data)),
        Secret: _read_secret,
        bool: _truth,
        int: _number,
        str: _text,
        Value: decode_value,
    }
    if hint in simple:
        return simple[hint]
    if get_origin(hint) is tuple:
        element = _reader(get_args(hint)[0])
        return lambda data: tuple(_at(f"[{number}]", element, each) for number, each in enumerate(_list(data)))
    if get_origin(hint) in (Union, UnionType):
        return _union_reader(get_args(hint))
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _enum_reader(hint)
    if isinstance(hint, type):
        return lambda data: _read_fields(hint, _untagged(data), {})
    raise LocalMisuse(f"{hint!r} is not read from documents")


def _enum_reader(kind: type[IntEnum]) -> _Reader:
    def read(data: Json) -> IntEnum:
        if isinstance(data, str) and data in kind.__members__:
            return kind[data]
        if isinstance(data, int) and not isinstance(data, bool):
            return kind(data)
        raise LocalMisuse(f"{data!r} is none of {', '.join(kind.__members__)}")

    return read


def _union_reader(members: tuple[object, ...]) -> _Reader:
    plain = [each for each in members if each is not NoneType and each not in UNION_CLASSES.values()]

    def read(data: Json) -> object:
        if data is None:
            if NoneType in members:
                return None
            raise LocalMisuse("something is missing")
        if isinstance(data, dict) and _KIND in data:
            kind = UNION_CLASSES.get(_text(data[_KIND]))
            if kind is None or kind not in members:
                raise LocalMisuse(f"{data[_KIND]!r} does not belong here")
            return _read_fields(kind, _untagged(data), {})
        if isinstance(data, int) and int in plain:
            return _number(data)
        others = [each for each in plain if each is not int]
        if not others:
            raise LocalMisuse(f"{type(data).__name__} does not belong here; an object says its {_KIND}")
        return _reader(others[0])(data)

    return read


def _untagged(data: Json) -> dict[str, Json]:
    if not isinstance(data, dict):
        raise LocalMisuse(f"an object with fields is wanted, not {type(data).__name__}")
    return {name: value for name, value in data.items() if name != _KIND}


def _read_flags(kind: type[IntFlag], data: Json) -> int:
    flags = 0
    for each in _list(data):
        if isinstance(each, str) and each in kind.__members__:
            flags |= int(kind[each])
        elif isinstance(each, int) and not isinstance(each, bool) and each >= 0:
            flags |= each
        else:
            raise LocalMisuse(f"{each!r} is none of {', '.join(kind.__members__)}")
    return flags


def _read_weight(data: Json) -> Value:
    if isinstance(data, dict) and len(data) == 1:
        (form, given), *_ = data.items()
        if form == "exact":
            return exact_weight(_number(given))
        if form == "range":
            return ranged_weight(_number(given))
        if form == "typed":
            return decode_value(given)
    raise LocalMisuse('a weight is {"exact": NUMBER}, {"range": 0 to 15}, or left out')


def read_condition(data: Json) -> Condition:
    """A condition: {"field": NAME, "value": ...}, with "match" unless it is EQUAL or (a pair of values) RANGE.

    LocalMisuse says what is wrong.
    """
    if not isinstance(data, dict) or not set(data) <= {"field", "match", "value", "typed"}:
        raise LocalMisuse('a condition is {"field": ..., "match": ..., "value": ...}')
    name = _text(data.get("field"))
    if name not in Field.__members__:
        raise LocalMisuse(f"there is no field {name!r}")
    field = Field[name]
    how_name = data.get("match")
    if how_name is not None and how_name not in MatchType.__members__:
        raise LocalMisuse(f"{how_name!r} is none of {', '.join(MatchType.__members__)}")
    if "typed" in data:
        how = MatchType[_text(how_name)] if how_name is not None else MatchType.EQUAL
        return Condition(field, how, decode_value(data["typed"]))
    value = _given_value(field, data.get("value"))
    natural = MatchType.RANGE if isinstance(value, tuple) else MatchType.EQUAL
    return match(field, value, natural if how_name is None else MatchType[_text(how_name)])


def _given_value(field: Field, data: Json) -> object:
    kind = field.kind(4)
    if kind is Kind.TOKEN:
        return SecurityDescriptor(tuple(_read_entry(each) for each in (data if isinstance(data, list) else [data])))
    if isinstance(data, list) and len(data) == 2:
        return tuple(_given_value(field, each) for each in data)
    if isinstance(data, dict) and set(data) == {"hex"}:
        return bytes.fromhex(_text(data["hex"]))
    if kind is Kind.GUID:
        return UUID(_text(data))
    if isinstance(data, str) or (isinstance(data, int) and not isinstance(data, bool)):
        return data
    raise LocalMisuse(f"{field.name} has no value {data!r}")


def _read_entry(data: Json) -> AccessEntry:
    if isinstance(data, str):
        return AccessEntry(True, data)
    if isinstance(data, dict) and set(data) <= {"allow", "trustee", "rights"}:
        rights = Right(_number(data.get("rights", int(Right.MATCH_FILTER))))
        return AccessEntry(_truth(data.get("allow", True)), _text(data.get("trustee")), rights)
    raise LocalMisuse('who is meant is a name, or {"allow": ..., "trustee": NAME, "rights": NUMBER}')


def _read_secret(data: Json) -> Secret:
    if data is None:
        raise LocalMisuse("the secret was left out when this was written; write it with its secrets, or fill it in")
    return Secret(bytes.fromhex(_text(data)))


def _text(data: object) -> str:
    if not isinstance(data, str):
        raise LocalMisuse(f"a text is wanted, not {data!r}")
    return data


def _number(data: object) -> int:
    if not isinstance(data, int) or isinstance(data, bool):
        raise LocalMisuse(f"a number is wanted, not {data!r}")
    return data


def _truth(data: object) -> bool:
    if not isinstance(data, bool):
        raise LocalMisuse(f"true or false is wanted, not {data!r}")
    return data


def _list(data: Json) -> list[Json]:
    if not isinstance(data, list):
        raise LocalMisuse(f"a list is wanted, not {data!r}")
    return data


# -- declared fields ------------------------------------------------------------------------------------------------


def _defaults_of(kind: type) -> dict[str, object]:
    if is_dataclass(kind):
        return {each.name: each.default for each in fields(kind) if each.default is not MISSING}
    return dict(getattr(kind, "_field_defaults", {}))
