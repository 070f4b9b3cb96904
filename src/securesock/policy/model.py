"""The objects of the platform: providers, provider contexts, sublayers, filters, callouts.  Values, without behaviour.

All are frozen.  What the engine fills in when it adds one (``key`` if none was given, ``id``, ``effective_weight``)
is in the object that ``add`` returns.  Names are those of fwpmtypes.h, snake-cased; displayData is ``name`` and
``description``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import TypeAlias
from uuid import UUID

from .conditions import Condition
from .identifiers import ZERO_GUID
from .ipsec import Content
from .ipsec_numbers import ContextType
from .layers import Layer
from .values import Value
from .weights import AUTOMATIC

__all__ = [
    "ActionType",
    "Callout",
    "CalloutFlag",
    "ContextFlag",
    "Filter",
    "FilterFlag",
    "Lifetime",
    "ObjectKind",
    "PolicyObject",
    "Provider",
    "ProviderContext",
    "ProviderFlag",
    "Sublayer",
    "SublayerFlag",
]


class ObjectKind(IntEnum):
    """The five containers.  The order is that in which objects may refer to each other: only to earlier ones."""

    PROVIDER = 1
    PROVIDER_CONTEXT = 2
    SUBLAYER = 3
    CALLOUT = 4
    FILTER = 5

    @property
    def label(self) -> str:
        """As it is called in messages."""
        return self.name.lower().replace("_", " ")


class Lifetime(IntEnum):
    """How long an object lives, shortest first."""

    DYNAMIC = 0
    STATIC = 1
    PERSISTENT = 2
    BUILT_IN = 3


class ActionType(IntEnum):
    """FWP_ACTION_TYPE.  Only the first five may be on a filter; the last two say that nothing decided."""

    BLOCK = 0x1001
    PERMIT = 0x1002
    CALLOUT_TERMINATING = 0x5003
    CALLOUT_INSPECTION = 0x6004
    CALLOUT_UNKNOWN = 0x4005
    CONTINUE = 0x2006
    NONE = 0x7
    NONE_NO_MATCH = 0x8

    @property
    def is_callout(self) -> bool:
        """Whether a callout is asked (FWP_ACTION_FLAG_CALLOUT)."""
        return bool(self & 0x4000)


class ProviderFlag(IntFlag):
    """FWPM_PROVIDER_FLAG_*."""

    PERSISTENT = 0x1
    DISABLED = 0x10


class ContextFlag(IntFlag):
    """FWPM_PROVIDER_CONTEXT_FLAG_*."""

    PERSISTENT = 0x1
    DOWNLEVEL = 0x2


class SublayerFlag(IntFlag):
    """FWPM_SUBLAYER_FLAG_*."""

    PERSISTENT = 0x1


class CalloutFlag(IntFlag):
    """FWPM_CALLOUT_FLAG_*.  REGISTERED is output only."""

    PERSISTENT = 0x10000
    USES_PROVIDER_CONTEXT = 0x20000
    REGISTERED = 0x40000


class FilterFlag(IntFlag):
    """FWPM_FILTER_FLAG_*.  DISABLED is output only; INDEXED is accepted and means nothing: every filter is indexed."""

    PERSISTENT = 0x1
    BOOTTIME = 0x2
    HAS_PROVIDER_CONTEXT = 0x4
    CLEAR_ACTION_RIGHT = 0x8
    PERMIT_IF_CALLOUT_UNREGISTERED = 0x10
    DISABLED = 0x20
    INDEXED = 0x40
    HAS_SECURITY_REALM_PROVIDER_CONTEXT = 0x80
    SYSTEMOS_ONLY = 0x100
    GAMEOS_ONLY = 0x200
    SILENT_MODE = 0x400
    IPSEC_NO_ACQUIRE_INITIATE = 0x800
    RESERVED0 = 0x1000
    RESERVED1 = 0x2000
    RESERVED2 = 0x4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """FWPM_PROVIDER: whose policy it is.  ``service_name``: the service without which persistent objects sleep."""

    name: str = field(kw_only=False)
    description: str = ""
    key: UUID = ZERO_GUID
    flags: int = 0
    provider_data: bytes = b""
    service_name: str = ""
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderContext:
    """FWPM_PROVIDER_CONTEXT: a policy that filters, or a socket's settings, name by its key."""

    name: str = field(kw_only=False)
    type: ContextType
    content: Content
    description: str = ""
    key: UUID = ZERO_GUID
    flags: int = 0
    provider: UUID | None = None
    provider_data: bytes = b""
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sublayer:
    """FWPM_SUBLAYER: filters that are judged among themselves first.  ``weight`` 0 to 65535, the highest goes first."""

    name: str = field(kw_only=False)
    weight: int = 0
    description: str = ""
    key: UUID = ZERO_GUID
    flags: int = 0
    provider: UUID | None = None
    provider_data: bytes = b""
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Callout:
    """FWPM_CALLOUT: a name for a function that filters of one layer may ask (see FilterEngine.register_callout)."""

    name: str = field(kw_only=False)
    layer: Layer
    description: str = ""
    key: UUID = ZERO_GUID
    flags: int = 0
    provider: UUID | None = None
    provider_data: bytes = b""
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """FWPM_FILTER: what happens to traffic for which all conditions hold.

    ``sublayer`` zero: UNIVERSAL.  ``action_key``: the callout of a callout action, else a free GUID (filterType).
    ``provider_context`` and ``raw_context`` exclude each other, as their union does on Windows.
    """

    name: str = field(kw_only=False)
    layer: Layer
    action: ActionType = ActionType.PERMIT
    action_key: UUID = ZERO_GUID
    conditions: tuple[Condition, ...] = ()
    sublayer: UUID = ZERO_GUID
    weight: Value = AUTOMATIC
    description: str = ""
    key: UUID = ZERO_GUID
    flags: int = 0
    provider: UUID | None = None
    provider_data: bytes = b""
    provider_context: UUID | None = None
    raw_context: int = 0
    id: int = 0
    effective_weight: int = 0


PolicyObject: TypeAlias = Provider | ProviderContext | Sublayer | Callout | Filter
