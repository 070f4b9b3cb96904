"""Where traffic is judged: the layers, what a filter may look at in each, and how a flow's values are handed to one.

A layer is a table of fields.  Inside the engine the values of a flow are a list with one place per field of the layer,
numbers for everything that is a number (addresses too), so that matching never looks a field up by name.  An absent
value is None and matches no condition, not even a negative one: what was not proven is never matched.

The set of layers is the one of IPsec, ALE and the packet layers around them.  Sources: FWPM_LAYER_* of fwpmu.h and
"Filtering conditions available at each filtering layer".  Knows no filters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias
from uuid import UUID

from .access import Token
from .errors import PolicyCode, error_for
from .fields import Field, Kind

__all__ = ["FlowValue", "Layer", "LayerInfo", "Slots", "layer_by_key", "layer_named", "table_of"]

FlowValue: TypeAlias = int | str | bytes | UUID | IPv4Address | IPv6Address | Token | None
SlotValue: TypeAlias = int | str | bytes | Token | None


class Layer(IntEnum):
    """FWPM_LAYER_*.  The numbers (LUIDs) are ours; ``key`` is the GUID."""

    INBOUND_IPPACKET_V4 = 1
    INBOUND_IPPACKET_V6 = 2
    OUTBOUND_IPPACKET_V4 = 3
    OUTBOUND_IPPACKET_V6 = 4
    IPFORWARD_V4 = 5
    IPFORWARD_V6 = 6
    INBOUND_TRANSPORT_V4 = 7
    INBOUND_TRANSPORT_V6 = 8
    OUTBOUND_TRANSPORT_V4 = 9
    OUTBOUND_TRANSPORT_V6 = 10
    STREAM_V4 = 11
    STREAM_V6 = 12
    DATAGRAM_DATA_V4 = 13
    DATAGRAM_DATA_V6 = 14
    ALE_RESOURCE_ASSIGNMENT_V4 = 15
    ALE_RESOURCE_ASSIGNMENT_V6 = 16
    ALE_AUTH_LISTEN_V4 = 17
    ALE_AUTH_LISTEN_V6 = 18
    ALE_AUTH_RECV_ACCEPT_V4 = 19
    ALE_AUTH_RECV_ACCEPT_V6 = 20
    ALE_AUTH_CONNECT_V4 = 21
    ALE_AUTH_CONNECT_V6 = 22
    ALE_FLOW_ESTABLISHED_V4 = 23
    ALE_FLOW_ESTABLISHED_V6 = 24
    ALE_RESOURCE_RELEASE_V4 = 25
    ALE_RESOURCE_RELEASE_V6 = 26
    ALE_ENDPOINT_CLOSURE_V4 = 27
    ALE_ENDPOINT_CLOSURE_V6 = 28
    IPSEC_KM_DEMUX_V4 = 29
    IPSEC_KM_DEMUX_V6 = 30
    IPSEC_V4 = 31
    IPSEC_V6 = 32
    IKEEXT_V4 = 33
    IKEEXT_V6 = 34
    KM_AUTHORIZATION = 35

    @property
    def key(self) -> UUID:
        """The layer's GUID."""
        return _INFOS[self].key

    @property
    def info(self) -> LayerInfo:
        """The layer's fields."""
        return _INFOS[self]


class Slots(list[SlotValue]):
    """The values of one flow at one layer, in the order of LayerInfo.fields.

    ``numbers`` has those that are numbers again, and ABSENT in every other place, which is outside every interval: what
    compares numbers need not ask first whether there is one.
    """

    __slots__ = ("numbers",)
    numbers: list[int]


ABSENT: Final = -1


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One layer: its fields in order, their kinds, and ``is_kernel``, which boot-time filters need.

    ``limits``: the largest number of each field, -1 where values are none; ``blank``: the numbers of an unknown flow.
    """

    name: str
    key: UUID
    ip_version: int
    is_kernel: bool
    fields: tuple[Field, ...]
    kinds: tuple[Kind, ...]
    limits: tuple[int, ...]
    places: dict[object, int]
    blank: list[int]

    def place_of(self, field: object) -> int:
        """The place of a field given as Field, GUID or name.  CONDITION_NOT_FOUND if the layer has no such field."""
        place = self.places.get(field)
        if place is None:
            name = field.name if isinstance(field, Field) else str(field)
            raise error_for(PolicyCode.CONDITION_NOT_FOUND, f"layer {self.name} has no field {name}")
        return place

    def slots_of(self, fields: Mapping[Field, FlowValue] | Mapping[str, FlowValue] | Mapping[UUID, FlowValue]) -> Slots:
        """A flow's values in the layer's order.

        Keys are Fields, their GUIDs or their names.  Numbers are int; addresses also text, ip_address objects or
        (IPv6) 16 bytes; IPSEC_POLICY_KEY a UUID; PEER_NAME str; ALE_APP_ID bytes; identities a Token, or the name of
        one.  InvalidPolicy for a field that the layer has not, and for a value that its field cannot have.
        """
        places = self.places
        limits = self.limits
        slots = Slots([None] * len(limits))
        slots.numbers = numbers = self.blank.copy()
        for field, value in fields.items():
            place = places.get(field)
            if place is None:
                place = self.place_of(field)
            if type(value) is int and 0 <= value <= limits[place]:
                slots[place] = numbers[place] = value
            elif value is not None:
                converted = self._converted(place, value)
                slots[place] = converted
                if isinstance(converted, int):
                    numbers[place] = converted
        return slots

    def _converted(self, place: int, value: FlowValue) -> int | str | bytes | Token:
        kind = self.kinds[place]
        name = self.fields[place].name
        if isinstance(value, int):
            if not 0 <= value <= self.limits[place]:
                raise error_for(PolicyCode.OUT_OF_BOUNDS, f"{name}: {value} is out of bounds")
            return int(value)
        converter = _CONVERTERS.get(kind)
        converted = None if converter is None else converter(value)
        if converted is None:
            raise error_for(PolicyCode.TYPE_MISMATCH, f"{name}: {type(value).__name__} is no value of this field")
        return converted


def layer_by_key(key: UUID) -> Layer:
    """The layer with this GUID; LAYER_NOT_FOUND."""
    layer = _BY_KEY.get(key)
    if layer is None:
        raise error_for(PolicyCode.LAYER_NOT_FOUND, f"no layer has the key {key}")
    return layer


def layer_named(layer: Layer | UUID | str) -> Layer:
    """The layer that a caller means by member, GUID or name ("IPSEC_V4", "FWPM_LAYER_IPSEC_V4"); LAYER_NOT_FOUND."""
    if isinstance(layer, Layer):
        return layer
    if isinstance(layer, UUID):
        return layer_by_key(layer)
    found = Layer.__members__.get(layer.removeprefix("FWPM_LAYER_")) if isinstance(layer, str) else None
    if found is None:
        raise error_for(PolicyCode.LAYER_NOT_FOUND, f"no layer is called {layer!r}")
    return found


def _address_number(version: int) -> Callable[[FlowValue], int | None]:
    size = 4 if version == 4 else 16

    def convert(value: FlowValue) -> int | None:
        if isinstance(value, bytes):
            return int.from_bytes(value) if len(value) == size else None
        if isinstance(value, str):
            try:
                value = ip_address(value)
            except ValueError:
                return None
        if isinstance(value, IPv4Address | IPv6Address):
            return int(value) if value.version == version else None
        return None

    return convert


def _guid_number(value: FlowValue) -> int | None:
    if isinstance(value, UUID):
        return int.from_bytes(value.bytes_le)
    return int.from_bytes(value) if isinstance(value, bytes) and len(value) == 16 else None


def _blob(value: FlowValue) -> bytes | None:
    return value if isinstance(value, bytes) else None


def _name(value: FlowValue) -> str | None:
    return value if isinstance(value, str) else None


def _token(value: FlowValue) -> Token | None:
    if isinstance(value, str):
        return Token((value,))
    return value if isinstance(value, Token) else None


_CONVERTERS: Final[dict[Kind, Callable[[FlowValue], int | str | bytes | Token | None]]] = {
    Kind.ADDRESS4: _address_number(4),
    Kind.ADDRESS6: _address_number(6),
    Kind.GUID: _guid_number,
    Kind.BLOB: _blob,
    Kind.NAME: _name,
    Kind.TOKEN: _token,
}

_F: Final = Field
_LOCAL: Final = (_F.IP_LOCAL_ADDRESS, _F.IP_LOCAL_ADDRESS_TYPE)
_TUPLE: Final = (_F.IP_REMOTE_ADDRESS, _F.IP_LOCAL_ADDRESS, _F.IP_LOCAL_PORT, _F.IP_REMOTE_PORT, _F.IP_PROTOCOL)
_INTERFACE: Final = (
    _F.IP_LOCAL_INTERFACE,
    _F.INTERFACE_INDEX,
    _F.INTERFACE_TYPE,
    _F.SUB_INTERFACE_INDEX,
    _F.TUNNEL_TYPE,
)
_ARRIVAL: Final = (
    _F.IP_ARRIVAL_INTERFACE,
    _F.ARRIVAL_INTERFACE_INDEX,
    _F.ARRIVAL_INTERFACE_TYPE,
    _F.ARRIVAL_TUNNEL_TYPE,
)
_PROFILES: Final = (_F.ORIGINAL_PROFILE_ID, _F.CURRENT_PROFILE_ID, _F.REAUTHORIZE_REASON, _F.ORIGINAL_ICMP_TYPE)
_APPLICATION: Final = (_F.ALE_APP_ID, _F.ALE_USER_ID)
_PEER: Final = (_F.ALE_REMOTE_MACHINE_ID, _F.ALE_REMOTE_USER_ID)

_IPPACKET: Final = (_F.IP_REMOTE_ADDRESS, *_LOCAL, _F.FLAGS, *_INTERFACE)
_IPFORWARD: Final = (
    _F.IP_SOURCE_ADDRESS,
    _F.IP_DESTINATION_ADDRESS,
    _F.IP_DESTINATION_ADDRESS_TYPE,
    _F.FLAGS,
    _F.IP_LOCAL_INTERFACE,
    _F.IP_FORWARD_INTERFACE,
    _F.SOURCE_INTERFACE_INDEX,
    _F.SOURCE_SUB_INTERFACE_INDEX,
    _F.DESTINATION_INTERFACE_INDEX,
    _F.DESTINATION_SUB_INTERFACE_INDEX,
)
_INBOUND_TRANSPORT: Final = (*_TUPLE, _F.IP_LOCAL_ADDRESS_TYPE, _F.FLAGS, *_INTERFACE, _F.CURRENT_PROFILE_ID)
_ASSIGNMENT: Final = (
    *_LOCAL,
    _F.IP_LOCAL_PORT,
    _F.IP_PROTOCOL,
    *_APPLICATION,
    _F.FLAGS,
    _F.IP_LOCAL_INTERFACE,
    _F.INTERFACE_TYPE,
    _F.TUNNEL_TYPE,
    _F.ALE_PROMISCUOUS_MODE,
    _F.LOCAL_INTERFACE_PROFILE_ID,
)
_LISTEN: Final = tuple(each for each in _ASSIGNMENT if each not in (_F.IP_PROTOCOL, _F.ALE_PROMISCUOUS_MODE))
_ACCEPT: Final = (
    *_TUPLE,
    _F.IP_LOCAL_ADDRESS_TYPE,
    *_APPLICATION,
    *_PEER,
    _F.FLAGS,
    *_INTERFACE,
    *_ARRIVAL,
    *_PROFILES,
    _F.ALE_NAP_CONTEXT,
)
_CONNECT: Final = (
    *_TUPLE,
    _F.IP_LOCAL_ADDRESS_TYPE,
    _F.IP_DESTINATION_ADDRESS_TYPE,
    *_APPLICATION,
    *_PEER,
    _F.PEER_NAME,
    _F.FLAGS,
    *_INTERFACE,
    *_ARRIVAL,
    *_PROFILES,
)
_ESTABLISHED: Final = (
    *_TUPLE,
    _F.IP_LOCAL_ADDRESS_TYPE,
    _F.IP_DESTINATION_ADDRESS_TYPE,
    *_APPLICATION,
    *_PEER,
    _F.DIRECTION,
    _F.FLAGS,
    _F.IP_LOCAL_INTERFACE,
    _F.INTERFACE_TYPE,
    _F.TUNNEL_TYPE,
)
_RELEASE: Final = (*_LOCAL, _F.IP_LOCAL_PORT, _F.IP_PROTOCOL, *_APPLICATION, _F.FLAGS, _F.IP_LOCAL_INTERFACE)
_POLICY: Final = (_F.IP_LOCAL_INTERFACE, _F.CURRENT_PROFILE_ID)

# By the name without its version; _USER_MODE ones are judged by keying modules, the others per packet or flow.
_FIELDS: Final = {
    "INBOUND_IPPACKET": _IPPACKET,
    "OUTBOUND_IPPACKET": _IPPACKET,
    "IPFORWARD": _IPFORWARD,
    "INBOUND_TRANSPORT": _INBOUND_TRANSPORT,
    "OUTBOUND_TRANSPORT": (*_INBOUND_TRANSPORT, _F.IP_DESTINATION_ADDRESS_TYPE),
    "STREAM": (*_TUPLE[:4], _F.IP_LOCAL_ADDRESS_TYPE, _F.DIRECTION, _F.FLAGS),
    "DATAGRAM_DATA": (*_TUPLE, _F.IP_LOCAL_ADDRESS_TYPE, _F.DIRECTION, _F.FLAGS, *_INTERFACE),
    "ALE_RESOURCE_ASSIGNMENT": _ASSIGNMENT,
    "ALE_AUTH_LISTEN": _LISTEN,
    "ALE_AUTH_RECV_ACCEPT": _ACCEPT,
    "ALE_AUTH_CONNECT": _CONNECT,
    "ALE_FLOW_ESTABLISHED": _ESTABLISHED,
    "ALE_RESOURCE_RELEASE": _RELEASE,
    "ALE_ENDPOINT_CLOSURE": (*_RELEASE, _F.IP_REMOTE_ADDRESS, _F.IP_REMOTE_PORT),
    "IPSEC_KM_DEMUX": _TUPLE[:2],
    "IPSEC": (*_TUPLE, *_POLICY),
    "IKEEXT": (*_TUPLE[:2], *_POLICY),
}
_USER_MODE: Final = ("IPSEC_KM_DEMUX", "IPSEC", "IKEEXT")
_KEYS: Final = {
    "INBOUND_IPPACKET": ("c86fd1bf-21cd-497e-a0bb-17425c885c58", "f52032cb-991c-46e7-971d-2601459a91ca"),
    "OUTBOUND_IPPACKET": ("1e5c9fae-8a84-4135-a331-950b54229ecd", "a3b3ab6b-3564-488c-9117-f34e82142763"),
    "IPFORWARD": ("a82acc24-4ee1-4ee1-b465-fd1d25cb10a4", "7b964818-19c7-493a-b71f-832c3684d28c"),
    "INBOUND_TRANSPORT": ("5926dfc8-e3cf-4426-a283-dc393f5d0f9d", "634a869f-fc23-4b90-b0c1-bf620a36ae6f"),
    "OUTBOUND_TRANSPORT": ("09e61aea-d214-46e2-9b21-b26b0b2f28c8", "e1735bde-013f-4655-b351-a49e15762df0"),
    "STREAM": ("3b89653c-c170-49e4-b1cd-e0eeeee19a3e", "47c9137a-7ec4-46b3-b6e4-48e926b1eda4"),
    "DATAGRAM_DATA": ("3d08bf4e-45f6-4930-a922-417098e20027", "fa45fe2f-3cba-4427-87fc-57b9a4b10d00"),
    "ALE_RESOURCE_ASSIGNMENT": ("1247d66d-0b60-4a15-8d44-7155d0f53a0c", "55a650e1-5f0a-4eca-a653-88f53b26aa8c"),
    "ALE_AUTH_LISTEN": ("88bb5dad-76d7-4227-9c71-df0a3ed7be7e", "7ac9de24-17dd-4814-b4bd-a9fbc95a321b"),
    "ALE_AUTH_RECV_ACCEPT": ("e1cd9fe7-f4b5-4273-96c0-592e487b8650", "a3b42c97-9f04-4672-b87e-cee9c483257f"),
    "ALE_AUTH_CONNECT": ("c38d57d1-05a7-4c33-904f-7fbceee60e82", "4a72393b-319f-44bc-84c3-ba54dcb3b6b4"),
    "ALE_FLOW_ESTABLISHED": ("af80470a-5596-4c13-9992-539e6fe57967", "7021d2b3-dfa4-406e-afeb-6afaf7e70efd"),
    "ALE_RESOURCE_RELEASE": ("74365cce-ccb0-401a-bfc1-b89934ad7e15", "f4e5ce80-edcc-4e13-8a2f-b91454bb057b"),
    "ALE_ENDPOINT_CLOSURE": ("b4766427-e2a2-467a-bd7e-dbcd1bd85a09", "bb536ccd-4755-4ba9-9ff7-f9edf8699c7b"),
    "IPSEC_KM_DEMUX": ("f02b1526-a459-4a51-b9e3-759de52b9d2c", "2f755cf6-2fd4-4e88-b3e4-a91bca495235"),
    "IPSEC": ("eda65c74-610d-4bc5-948f-3c4f89556867", "13c48442-8d87-4261-9a29-59d2abc348b4"),
    "IKEEXT": ("b14b7bdb-dbbd-473e-bed4-8b4708d4f270", "b64786b3-f687-4eb9-89d2-8ef32acdabe2"),
}
_KM_AUTHORIZATION: Final = (
    _F.REMOTE_ID,
    _F.AUTHENTICATION_TYPE,
    _F.KM_TYPE,
    _F.KM_MODE,
    _F.DIRECTION,
    _F.IPSEC_POLICY_KEY,
    _F.KM_AUTH_NAP_CONTEXT,
)


def table_of(name: str, key: UUID, version: int, is_kernel: bool, fields: tuple[Field, ...]) -> LayerInfo:
    """The table of a layer, or of something else that has fields and is filtered by conditions (net events)."""
    kinds = tuple(field.kind(version) for field in fields)
    # -1 sends every value of a field that is no number through its converter.
    limits = tuple((1 << kind.bits) - 1 if kind.bits else -1 for kind in kinds)
    places: dict[object, int] = {}
    for place, field in enumerate(fields):
        for each in (field, field.key, field.name, f"FWPM_CONDITION_{field.name}"):
            places[each] = place
    for alias in ("ICMP_TYPE", "ICMP_CODE"):
        if Field[alias] in fields:
            places[alias] = places[f"FWPM_CONDITION_{alias}"] = fields.index(Field[alias])
    return LayerInfo(name, key, version, is_kernel, fields, kinds, limits, places, [ABSENT] * len(fields))


def _all_infos() -> dict[Layer, LayerInfo]:
    infos = {}
    for name, fields in _FIELDS.items():
        for version, key in zip((4, 6), _KEYS[name], strict=True):
            layer = Layer[f"{name}_V{version}"]
            infos[layer] = table_of(layer.name, UUID(key), version, name not in _USER_MODE, fields)
    layer = Layer.KM_AUTHORIZATION
    key = "4aa226e9-9020-45fb-956a-c0249d841195"
    infos[layer] = table_of(layer.name, UUID(key), 0, False, _KM_AUTHORIZATION)
    return infos


_INFOS: Final = _all_infos()
_BY_KEY: Final = {info.key: layer for layer, info in _INFOS.items()}
