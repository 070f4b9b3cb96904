"""Templates: which objects an enumeration returns, and which changes a subscription tells of.

A filter's conditions describe a region of flows, and so do a template's.  "Fully contained" means that the filter's
region holds all of the template's ("return only filters that fully contain the enum conditions"), so that a template of
exact values finds the filters that are for one flow; "overlapping" means that some flow is in both.  Where regions
cannot be compared (endings of names, flags), a filter is not called containing unless its test is true of the
template's one value, and is called overlapping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, Protocol
from uuid import UUID

from . import identifiers as ids
from .access import Token
from .catalog import Record, View
from .conditions import Condition, FieldTest, Interval, compile_conditions
from .errors import PolicyCode, error_for
from .fields import Kind
from .ipsec_numbers import ContextType
from .layers import Layer
from .model import ActionType, Callout, Filter, FilterFlag, ObjectKind, Provider, ProviderContext
from .values import DataType, MatchType, known_flags

__all__ = [
    "ContextTemplate",
    "EnumFlag",
    "EnumType",
    "FilterTemplate",
    "ObjectTemplate",
    "Template",
]

_CODE: Final = PolicyCode
_ANY_ACTION: Final = 0xFFFFFFFF
_CALLOUT_BIT: Final = 0x4000
_TERMINATING_BIT: Final = 0x1000

_ON_FILTERS: Final = (
    ActionType.BLOCK,
    ActionType.PERMIT,
    ActionType.CALLOUT_TERMINATING,
    ActionType.CALLOUT_INSPECTION,
    ActionType.CALLOUT_UNKNOWN,
)

OrderOf = Callable[[int], tuple[int, int]]


class EnumType(IntEnum):
    """FWP_FILTER_ENUM_TYPE."""

    FULLY_CONTAINED = 0
    OVERLAPPING = 1


class EnumFlag(IntFlag):
    """FWP_FILTER_ENUM_FLAG_*."""

    BEST_TERMINATING_MATCH = 0x1
    SORTED = 0x2
    BOOTTIME_ONLY = 0x4
    INCLUDE_BOOTTIME = 0x8
    INCLUDE_DISABLED = 0x10


class Template(Protocol):
    """What a container is asked for."""

    def check(self) -> None:
        """Raises InvalidPolicy for a template that cannot be, NEVER_MATCH for one that nothing can match."""
        ...

    def matcher(self, view: View) -> Callable[[Record], bool]:
        """Whether an object is meant; contexts that filters name are looked up in ``view``."""
        ...

    def chosen(self, records: list[Record], order_of: OrderOf) -> list[Record]:
        """The order in which the objects that match are returned, and how many of them."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectTemplate:
    """For providers, sublayers and callouts: whose they are, and (callouts) for which layer.  None: any."""

    provider: UUID | None = None
    layer: Layer | None = None

    def check(self) -> None:
        """Anything goes."""

    def matcher(self, view: View) -> Callable[[Record], bool]:
        """Whether an object is meant."""
        return self._matches

    def _matches(self, record: Record) -> bool:
        item = record.item
        owner = item.key if isinstance(item, Provider) else item.provider
        if self.provider is not None and owner != self.provider:
            return False
        return self.layer is None or (isinstance(item, Callout | Filter) and item.layer is self.layer)

    def chosen(self, records: list[Record], order_of: OrderOf) -> list[Record]:
        """As they were added."""
        return records


@dataclass(frozen=True, slots=True)
class ContextTemplate:
    """FWPM_PROVIDER_CONTEXT_ENUM_TEMPLATE.  None: any."""

    provider: UUID | None = None
    type: ContextType | None = None

    def check(self) -> None:
        """INVALID_ENUMERATOR for a type that is none."""
        if self.type is not None and not isinstance(self.type, ContextType):
            raise error_for(_CODE.INVALID_ENUMERATOR, f"{self.type!r} is no provider context type")

    def matcher(self, view: View) -> Callable[[Record], bool]:
        """Whether a context is meant."""
        return self.matches

    def matches(self, record: Record) -> bool:
        """Whether a context is meant."""
        item = record.item
        if not isinstance(item, ProviderContext):
            return False
        return (self.provider is None or item.provider == self.provider) and (
            self.type is None or item.type is self.type
        )

    def chosen(self, records: list[Record], order_of: OrderOf) -> list[Record]:
        """As they were added."""
        return records


@dataclass(frozen=True, slots=True)
class FilterTemplate:
    """FWPM_FILTER_ENUM_TEMPLATE0.  None: any; no conditions: all filters."""

    provider: UUID | None = None
    layer: Layer | None = None
    enum_type: EnumType = EnumType.OVERLAPPING
    flags: int = 0
    context: ContextTemplate | None = None
    conditions: tuple[Condition, ...] = ()
    action_mask: int = _ANY_ACTION
    callout: UUID | None = None

    def check(self) -> None:
        """Refuse what cannot be; conditions by the codes of compile_conditions."""
        if not isinstance(self.enum_type, EnumType):
            raise error_for(_CODE.INVALID_ENUMERATOR, f"{self.enum_type!r} is no enumeration type")
        if self.flags & ~known_flags(EnumFlag):
            raise error_for(_CODE.INVALID_FLAGS, f"a filter template has no flags {self.flags:#x}")
        if self.context is not None:
            self.context.check()
        if self.conditions and self.layer is None:
            raise error_for(_CODE.NULL_POINTER, "conditions of a template are those of a layer; name it")
        self._tests()
        self._check_possible()

    def _check_possible(self) -> None:
        if not any(action & self.action_mask for action in _ON_FILTERS):
            raise error_for(_CODE.NEVER_MATCH, f"no filter's action has a bit of {self.action_mask:#x}")
        if self.callout is not None and not self.action_mask & _CALLOUT_BIT:
            raise error_for(_CODE.NEVER_MATCH, "only callout filters name a callout, and the action mask excludes them")
        only_boottime = self.flags & EnumFlag.BOOTTIME_ONLY
        if only_boottime and self.layer is not None and not self.layer.info.is_kernel:
            raise error_for(_CODE.NEVER_MATCH, f"there are no boot-time filters at {self.layer.name}")
        if any(test.intervals == () for test in self._tests()):
            raise error_for(_CODE.NEVER_MATCH, "a condition of the template holds for no value")

    def _tests(self) -> tuple[FieldTest, ...]:
        if self.layer is None:
            return ()
        info = self.layer.info
        for each in self.conditions:
            kind = info.kinds[info.place_of(each.field)]
            if each.value.type in _IDENTITIES and _exact_value(kind, each) is None:
                raise error_for(_CODE.TYPE_MISMATCH, f"{each.field.name} is not compared with an identity like this")
        if len({each.field for each in self.conditions}) != len(self.conditions):
            # fwpmtypes.h: "distinct filter conditions (duplicated filter conditions will generate an error)"
            raise error_for(_CODE.DUPLICATE_CONDITION, "a template has one condition on a field")
        return compile_conditions(info, [each for each in self.conditions if each.value.type not in _IDENTITIES])

    def matcher(self, view: View) -> Callable[[Record], bool]:
        """Whether a filter is meant."""
        regions = {test.place: test.intervals for test in self._tests()}
        exact = self._exact_values()

        def matches(record: Record) -> bool:
            item = record.item
            if not isinstance(item, Filter) or record.rule is None or not self._suits(item, view):
                return False
            return not self.conditions or self._relates(record.rule.tests, regions, exact)

        return matches

    def _suits(self, item: Filter, view: View) -> bool:
        """Whether everything but the conditions is as the template says."""
        if self.provider is not None and item.provider != self.provider:
            return False
        if self.layer is not None and item.layer is not self.layer:
            return False
        if not item.action & self.action_mask:
            return False
        if self.callout is not None and (not item.action.is_callout or item.action_key != self.callout):
            return False
        if not self._includes(item.flags):
            return False
        if self.context is None:
            return True
        key = ids.ZERO_GUID if item.provider_context is None else item.provider_context
        record = view.find(ObjectKind.PROVIDER_CONTEXT, key)
        return record is not None and self.context.matches(record)

    def _includes(self, flags: int) -> bool:
        if self.flags & EnumFlag.BOOTTIME_ONLY:
            return bool(flags & FilterFlag.BOOTTIME)
        if flags & FilterFlag.BOOTTIME and not self.flags & EnumFlag.INCLUDE_BOOTTIME:
            return False
        return not flags & FilterFlag.DISABLED or bool(self.flags & EnumFlag.INCLUDE_DISABLED)

    def _relates(
        self,
        tests: tuple[FieldTest, ...],
        regions: dict[int, tuple[Interval, ...] | None],
        exact: dict[int, int | str | bytes | Token],
    ) -> bool:
        """Whether the filter's region holds, or meets, the template's."""
        contains = self.enum_type is EnumType.FULLY_CONTAINED
        for test in tests:
            region = regions.get(test.place)
            if test.place in exact:
                related = test.predicate(exact[test.place])
            elif region is None or test.intervals is None:
                # The template leaves the field open, or the two cannot be compared.
                related = not contains
            else:
                related = _covers(test.intervals, region) if contains else _meet(test.intervals, region)
            if not related:
                return False
        return True

    def _exact_values(self) -> dict[int, int | str | bytes | Token]:
        """By place: the one value that an EQUAL condition of the template stands for."""
        found: dict[int, int | str | bytes | Token] = {}
        if self.layer is not None:
            info = self.layer.info
            for condition in self.conditions:
                place = info.place_of(condition.field)
                value = _exact_value(info.kinds[place], condition)
                if value is not None:
                    found[place] = value
        return found

    def chosen(self, records: list[Record], order_of: OrderOf) -> list[Record]:
        """Sorted by sublayer and weight where that is asked for; the best terminating one alone likewise."""

        def position(record: Record) -> tuple[tuple[int, int], int]:
            return (order_of(record.rule.sublayer), -record.rule.rank) if record.rule is not None else ((0, 0), 0)

        if not self.flags & (EnumFlag.SORTED | EnumFlag.BEST_TERMINATING_MATCH):
            return records
        ordered = sorted(records, key=position)
        if self.flags & EnumFlag.BEST_TERMINATING_MATCH:
            ordered = [
                each for each in ordered if isinstance(each.item, Filter) and each.item.action & _TERMINATING_BIT
            ][:1]
        return ordered


# Fwptypes.h: an identity is compared with a SID when enumerating; here a SID is the name of a principal or user.
_IDENTITIES: Final = (DataType.SID, DataType.TOKEN_INFORMATION, DataType.TOKEN_ACCESS_INFORMATION)


def _exact_value(kind: Kind, condition: Condition) -> int | str | bytes | Token | None:
    value, data = condition.value, condition.value.data
    if condition.match is not MatchType.EQUAL:
        return None
    if kind is Kind.TOKEN:
        if value.type is DataType.SID and isinstance(data, str):
            return Token((data,))
        return data if isinstance(data, Token) else None
    if isinstance(data, bytes):
        if kind.bits:
            return int.from_bytes(data)
        return data.decode("utf-16-le", errors="surrogatepass") if kind is Kind.NAME else data
    return data if isinstance(data, int | str) and value.type not in _IDENTITIES else None


def _covers(outer: Iterable[Interval], inner: Iterable[Interval]) -> bool:
    spans = list(outer)
    return all(any(low <= first and last <= high for low, high in spans) for first, last in inner)


def _meet(some: Iterable[Interval], others: Iterable[Interval]) -> bool:
    spans = list(some)
    return any(low <= last and first <= high for low, high in spans for first, last in others)
