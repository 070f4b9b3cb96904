"""Policy objects as JSON text and back, for the store.

What a field holds follows from its declared type, so that the text has no type names but where a field may hold one of
several classes ("$").  Bytes are hexadecimal, GUIDs their usual text, enums and flags numbers.  Text that is not what
``encode`` wrote is a ValueError, never a half-built object.  A pre-shared key is written as it is: the store's file is
readable by its owner only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import IntEnum
from types import NoneType, UnionType
from typing import Final, TypeAlias, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from ..secret import Secret
from ..types import Json
from . import ipsec
from .access import AccessEntry, Right, SecurityDescriptor
from .conditions import Condition
from .errors import PolicyError
from .fields import Field
from .model import Callout, Filter, PolicyObject, Provider, ProviderContext, Sublayer
from .values import DataType, MatchType, Range, V4Mask, V6Mask, Value

__all__ = [
    "UNION_CLASSES",
    "decode",
    "decode_security",
    "decode_value",
    "encode",
    "encode_security",
    "encode_value",
    "names_of",
]

_Encoder: TypeAlias = Callable[[object], Json]
_Decoder: TypeAlias = Callable[[Json], object]

# Classes whose annotations are resolved in their own modules; a union of them is told apart by name.
UNION_CLASSES: Final[dict[str, type]] = {
    each.__name__: each
    for each in (
        ipsec.KeyingPolicy,
        ipsec.TransportPolicy,
        ipsec.TunnelPolicy,
        ipsec.IkePolicy,
        ipsec.ClassifyOptions,
        ipsec.DospOptions,
        ipsec.PresharedKeyAuthentication,
        ipsec.CertificateAuthentication,
        ipsec.KerberosAuthentication,
        ipsec.NtlmAuthentication,
        ipsec.EapAuthentication,
    )
}
_OBJECTS: Final[dict[str, type[PolicyObject]]] = {
    "provider": Provider,
    "provider context": ProviderContext,
    "sublayer": Sublayer,
    "callout": Callout,
    "filter": Filter,
}


_codecs: dict[type, tuple[_Encoder, _Decoder]] = {}


def encode(item: PolicyObject) -> str:
    """The text of an object."""
    return json.dumps(_codec_of(type(item))[0](item), separators=(",", ":"))


def decode(kind: str, text: str) -> PolicyObject:
    """The object of a kind ("filter", "provider context" ...) that ``encode`` wrote.  ValueError for any other text."""
    wanted = _OBJECTS[kind]
    try:
        item = _codec_of(wanted)[1](json.loads(text))
    except (KeyError, TypeError, AttributeError, RecursionError, PolicyError) as error:
        raise ValueError(f"no {kind}: {error}") from None
    if not isinstance(item, wanted):
        raise ValueError(f"no {kind}")
    return item


def encode_security(descriptor: SecurityDescriptor) -> str:
    """The text of a security descriptor."""
    return json.dumps(_security_out(descriptor), separators=(",", ":"))


def encode_value(value: Value) -> Json:
    """A typed value as JSON: its type's number, and what it holds."""
    return _value_out(value)


def decode_value(data: Json) -> Value:
    """The value that ``encode_value`` made.  ValueError for anything else."""
    try:
        return _value_in(data)
    except (KeyError, TypeError, AttributeError, RecursionError, PolicyError) as error:
        raise ValueError(f"no value: {error}") from None


def decode_security(text: str) -> SecurityDescriptor:
    """The descriptor that ``encode_security`` wrote.  ValueError for any other text."""
    try:
        return _security_in(json.loads(text))
    except (KeyError, TypeError, AttributeError, RecursionError, PolicyError) as error:
        raise ValueError(f"no security descriptor: {error}") from None


def names_of(kind: type) -> list[str]:
    """The fields of a class that declares them, in their order."""
    if is_dataclass(kind):
        return [each.name for each in fields(kind)]
    return list(getattr(kind, "_fields", ()))


def _codec_of(kind: type) -> tuple[_Encoder, _Decoder]:
    """How a class with declared fields is written and read: a JSON array in the order of the fields."""
    codec = _codecs.get(kind)
    if codec is None:
        codec = _codecs[kind] = _make_codec(kind)
    return codec


def _make_codec(kind: type) -> tuple[_Encoder, _Decoder]:
    hints, names = get_type_hints(kind), names_of(kind)
    encoders = [(name, _encoder(hints[name])) for name in names]
    decoders = [(name, _decoder(hints[name])) for name in names]

    def write(item: object) -> Json:
        return [encoder(getattr(item, name)) for name, encoder in encoders]

    def read(data: Json) -> object:
        if not isinstance(data, list) or len(data) != len(decoders):
            raise ValueError(f"{kind.__name__} has {len(decoders)} fields")
        return kind(**{name: decoder(each) for (name, decoder), each in zip(decoders, data, strict=True)})

    return write, read


def _encoder(hint: object) -> _Encoder:
    if hint is Value:
        return _value_out
    if hint is Condition:
        return _condition_out
    if hint is UUID:
        return str
    if hint is bytes:
        return _hex_out
    if hint is Secret:
        return _secret_out
    if get_origin(hint) is tuple:
        element = _encoder(get_args(hint)[0])
        return lambda items: [element(each) for each in items] if isinstance(items, tuple) else None
    if get_origin(hint) in (Union, UnionType):
        return _union_encoder(get_args(hint))
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _number_out
    if isinstance(hint, type) and (is_dataclass(hint) or hasattr(hint, "_fields")):
        return _codec_of(hint)[0]
    return _plain_out


def _decoder(hint: object) -> _Decoder:
    if hint is Value:
        return _value_in
    if hint is Condition:
        return _condition_in
    if hint is UUID:
        return lambda data: UUID(_text(data))
    if hint is bytes:
        return lambda data: bytes.fromhex(_text(data))
    if hint is Secret:
        return lambda data: Secret(bytes.fromhex(_text(data)))
    if get_origin(hint) is tuple:
        element = _decoder(get_args(hint)[0])
        return lambda data: tuple(element(each) for each in _items(data))
    if get_origin(hint) in (Union, UnionType):
        return _union_decoder(get_args(hint))
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        kind = hint
        return lambda data: kind(_number(data))
    if isinstance(hint, type) and (is_dataclass(hint) or hasattr(hint, "_fields")):
        return _codec_of(hint)[1]
    if hint is bool:
        return _truth
    return _number if hint is int else _text


def _union_encoder(members: tuple[object, ...]) -> _Encoder:
    def write(item: object) -> Json:
        if item is None:
            return None
        name = type(item).__name__
        if name in UNION_CLASSES:
            return {"$": name, "=": _codec_of(type(item))[0](item)}
        for member in members:
            if isinstance(member, type) and isinstance(item, member):
                return _encoder(member)(item)
        raise TypeError(f"{name} is not stored here")

    return write


def _union_decoder(members: tuple[object, ...]) -> _Decoder:
    plain = [member for member in members if member is not NoneType and member not in UNION_CLASSES.values()]
    others = [member for member in plain if member is not int]

    def read(data: Json) -> object:
        if data is None:
            if NoneType in members:
                return None
            raise ValueError("something is missing")
        if isinstance(data, dict):
            kind = UNION_CLASSES[_text(data["$"])]
            if kind not in members:
                raise ValueError(f"{kind.__name__} does not belong here")
            return _codec_of(kind)[1](data["="])
        if isinstance(data, int) and int in plain:
            return data
        if not others:
            raise ValueError(f"{type(data).__name__} does not belong here")
        return _decoder(others[0])(data)

    return read


def _plain_out(item: object) -> Json:
    if isinstance(item, int):
        return int(item)
    return _text(item)


def _number_out(item: object) -> Json:
    return _number(item)


def _hex_out(item: object) -> Json:
    return item.hex() if isinstance(item, bytes) else None


def _secret_out(item: object) -> Json:
    return item.reveal().hex() if isinstance(item, Secret) else None


def _text(data: object) -> str:
    if not isinstance(data, str):
        raise ValueError(f"a text is {type(data).__name__}")
    return data


def _truth(data: object) -> bool:
    number = _number(data)
    if number not in (0, 1):
        raise ValueError("a truth is 0 or 1")
    return number == 1


def _number(data: object) -> int:
    if not isinstance(data, int) or isinstance(data, bool):
        raise ValueError(f"a number is {type(data).__name__}")
    return int(data)


def _items(data: Json) -> list[Json]:
    if not isinstance(data, list):
        raise ValueError(f"a list is {type(data).__name__}")
    return data


def _pair(data: Json) -> tuple[Json, Json]:
    first, second = _items(data)
    return first, second


# -- what needs more than its fields' types -----------------------------------------------------------------------


def _condition_out(item: object) -> Json:
    if not isinstance(item, Condition):
        raise TypeError("no condition")
    return [int(item.field), int(item.match), _value_out(item.value)]


def _condition_in(data: Json) -> Condition:
    field, how, value = _items(data)
    return Condition(Field(_number(field)), MatchType(_number(how)), _value_in(value))


def _value_out(item: object) -> Json:
    if not isinstance(item, Value):
        raise TypeError("no value")
    data = item.data
    written: Json
    match data:
        case Range():
            written = [_value_out(data.low), _value_out(data.high)]
        case V4Mask():
            written = [data.address, data.mask]
        case V6Mask():
            written = [data.address.hex(), data.prefix_length]
        case SecurityDescriptor():
            written = _security_out(data)
        case bytes():
            written = data.hex()
        case None | int() | str() | float():
            written = int(data) if isinstance(data, int) else data
        case _:
            raise TypeError(f"{type(data).__name__} is not stored")
    return [int(item.type), written]


def _value_in(data: Json) -> Value:
    number, written = _pair(data)
    kind = DataType(_number(number))
    match kind:
        case DataType.RANGE:
            low, high = _pair(written)
            return Value(kind, Range(_value_in(low), _value_in(high)))
        case DataType.V4_ADDR_MASK:
            address, mask = _pair(written)
            return Value(kind, V4Mask(_number(address), _number(mask)))
        case DataType.V6_ADDR_MASK:
            address, length = _pair(written)
            return Value(kind, V6Mask(bytes.fromhex(_text(address)), _number(length)))
        case DataType.SECURITY_DESCRIPTOR:
            return Value(kind, _security_in(written))
        case DataType.BYTE_ARRAY16 | DataType.BYTE_BLOB:
            return Value(kind, bytes.fromhex(_text(written)))
        case DataType.UNICODE_STRING:
            return Value(kind, _text(written))
        case DataType.EMPTY:
            return Value(kind, None)
    return Value(kind, _number(written))


def _security_out(descriptor: SecurityDescriptor) -> Json:
    entries: list[Json] = [[entry.allow, entry.trustee, int(entry.rights)] for entry in descriptor.entries]
    return [descriptor.owner, entries]


def _security_in(data: Json) -> SecurityDescriptor:
    owner, entries = _pair(data)
    found = []
    for entry in _items(entries):
        allow, trustee, rights = _items(entry)
        found.append(AccessEntry(bool(allow), _text(trustee), Right(_number(rights))))
    return SecurityDescriptor(tuple(found), _text(owner))
