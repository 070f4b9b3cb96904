"""Why a flow is judged as it is: which filters were considered, what each of them did, and which one decided.

It asks the same rules in the same order as a classification does, with the same arbitration, but looks at every filter
of the layer itself instead of trusting the index, and writes down what happens.  As data and in words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import groupby

from ..types import Json
from .access import SecurityDescriptor, Token
from .arbitration import Arbitration
from .classify import Inquiry, verdict_of
from .conditions import Condition
from .fields import Field, Kind
from .layers import Layer, LayerInfo, Slots
from .model import ActionType, Filter, Sublayer
from .rules import Rule
from .values import DataType, MatchType, Range, V4Mask, V6Mask, Value
from .verdicts import NO_MATCH, Verdict

__all__ = ["Considered", "Explanation", "SublayerAccount", "describe_condition", "explain"]

# A filter that was not for the flow is listed only when it is asked for, and not more of them than anybody reads.
MISS_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Considered:
    """One filter that matched, or (``why_not``) one that did not.  ``did``: what it did to the outcome, in words."""

    filter: Filter
    did: str
    why_not: str = ""

    def to_dict(self) -> dict[str, Json]:
        """Plain values for JSON."""
        return {
            "filter_id": self.filter.id,
            "filter_key": str(self.filter.key),
            "name": self.filter.name,
            "action": self.filter.action.name,
            "weight": self.filter.effective_weight,
            "did": self.did,
            "why_not": self.why_not,
        }


@dataclass(frozen=True, slots=True)
class SublayerAccount:
    """What happened in one sublayer, highest weight first; ``outcome`` is what was decided so far after it."""

    sublayer: Sublayer
    considered: tuple[Considered, ...]
    outcome: str

    def to_dict(self) -> dict[str, Json]:
        """Plain values for JSON."""
        return {
            "sublayer": self.sublayer.name,
            "sublayer_key": str(self.sublayer.key),
            "weight": self.sublayer.weight,
            "considered": [each.to_dict() for each in self.considered],
            "outcome": self.outcome,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The account of one classification.  ``filters``: how many the layer has; ``misses``: some that are not for it."""

    layer: Layer
    flow: tuple[tuple[str, str], ...]
    verdict: Verdict
    sublayers: tuple[SublayerAccount, ...]
    filters: int
    misses: tuple[Considered, ...] = ()

    @property
    def text(self) -> str:
        """In words, a line for each filter that matched."""
        lines = [
            f"{self.layer.name}: " + (", ".join(f"{name} {value}" for name, value in self.flow) or "nothing known")
        ]
        matched = sum(len(account.considered) for account in self.sublayers)
        lines.append(f"{matched} of {self.filters} filters match")
        for account in self.sublayers:
            lines.append(f"  sublayer {account.sublayer.name!r} (weight {account.sublayer.weight}): {account.outcome}")
            lines += [f"    filter {each.filter.id} {each.filter.name!r}: {each.did}" for each in account.considered]
        lines += [
            f"  filter {each.filter.id} {each.filter.name!r} does not match: {each.why_not}" for each in self.misses
        ]
        lines.append(f"verdict: {self.verdict.reason}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Json]:
        """Plain values for JSON."""
        decided_by = self.verdict.filter
        flow: dict[str, Json] = dict(self.flow)
        return {
            "layer": self.layer.name,
            "flow": flow,
            "action": self.verdict.action.name,
            "filter_id": None if decided_by is None else decided_by.id,
            "reason": self.verdict.reason,
            "is_hard": self.verdict.is_hard,
            "vetoed_filter_id": None if self.verdict.vetoed is None else self.verdict.vetoed.id,
            "filters": self.filters,
            "sublayers": [each.to_dict() for each in self.sublayers],
            "misses": [each.to_dict() for each in self.misses],
        }


def explain(rules: Iterable[Rule], sublayers: dict[int, Sublayer], inquiry: Inquiry, with_misses: bool) -> Explanation:
    """The account over the rules of a layer; ``sublayers`` by id."""
    info = inquiry.layer.info
    matching: list[Rule] = []
    misses: list[Considered] = []
    count = 0
    for rule in rules:
        count += 1
        if rule.holds(inquiry.slots):
            matching.append(rule)
        elif with_misses and len(misses) < MISS_LIMIT:
            misses.append(Considered(rule.filter, "was not asked", _why_not(info, rule, inquiry.slots)))
    arbitration = Arbitration()
    accounts: list[SublayerAccount] = []
    matching.sort(key=lambda rule: (-sublayers[rule.sublayer].weight, rule.sublayer, -rule.rank))
    for sublayer, group in groupby(matching, key=lambda rule: rule.sublayer):
        considered = _account(list(group), inquiry, arbitration)
        accounts.append(SublayerAccount(sublayers[sublayer], considered, _outcome(arbitration)))
    verdict = verdict_of(arbitration, inquiry) if matching else NO_MATCH
    return Explanation(
        inquiry.layer, _describe_flow(info, inquiry.slots), verdict, tuple(accounts), count, tuple(misses)
    )


def _account(rules: list[Rule], inquiry: Inquiry, arbitration: Arbitration) -> tuple[Considered, ...]:
    considered: list[Considered] = []
    decided_by: Filter | None = None
    for rule in rules:
        if decided_by is not None:
            considered.append(Considered(rule.filter, f"is hidden by filter {decided_by.id}, which weighs more"))
            continue
        before, was_open = arbitration.action, arbitration.may_write
        if not inquiry.ask(rule, arbitration):
            considered.append(Considered(rule.filter, "looked, and left it to the next"))
            continue
        decided_by = rule.filter
        considered.append(Considered(rule.filter, _effect(rule.filter, before, was_open, arbitration)))
    return tuple(considered)


def _effect(filter_: Filter, before: ActionType | None, was_open: bool, arbitration: Arbitration) -> str:
    if arbitration.decided_by is filter_:
        if not was_open:
            return "blocks by a veto, against a hard permit"
        hardness = "softly" if arbitration.may_write else "for good"
        word = "permits" if arbitration.action is ActionType.PERMIT else "blocks"
        return f"{word} {hardness}" + ("" if before in (None, arbitration.action) else ", against a higher sublayer")
    return "decides its sublayer, and changes nothing" + ("" if was_open else ": a higher sublayer decided for good")


def _outcome(arbitration: Arbitration) -> str:
    if arbitration.action is None:
        return "undecided"
    return f"{'soft' if arbitration.may_write else 'hard'} {arbitration.action.name.lower()}"


def _why_not(info: LayerInfo, rule: Rule, slots: Slots) -> str:
    for test in rule.tests:
        value = slots[test.place]
        if value is None or not test.predicate(value):
            field = info.fields[test.place]
            wanted = " or ".join(describe_condition(each) for each in rule.filter.conditions if each.field is field)
            found = "absent" if value is None else describe_value(info.kinds[test.place], value)
            return f"{wanted}; it is {found}"
    return ""


def _describe_flow(info: LayerInfo, slots: Slots) -> tuple[tuple[str, str], ...]:
    return tuple(
        (field.name, describe_value(kind, value))
        for field, kind, value in zip(info.fields, info.kinds, slots, strict=True)
        if value is not None
    )


def describe_value(kind: Kind, value: int | str | bytes | Token) -> str:
    """A flow's value as people write it."""
    if isinstance(value, Token):
        return " or ".join([*value.names, *(f"group:{group}" for group in value.groups)]) or "nobody"
    if isinstance(value, bytes):
        return _describe_bytes(value)
    if isinstance(value, int) and kind in (Kind.ADDRESS4, Kind.ADDRESS6):
        return _address(value, kind is Kind.ADDRESS6)
    return str(value)


def _describe_bytes(value: bytes) -> str:
    """A program is named by its path, in UTF-16 with a NUL behind it (FWPM_CONDITION_ALE_APP_ID); all else is hex."""
    if value.endswith(bytes(2)):
        try:
            text = value[:-2].decode("utf-16-le")
        except UnicodeDecodeError:
            text = ""
        if text.isprintable() and ("/" in text or "\\" in text):
            return text
    return value.hex() or "empty"


def _address(number: int, is_wide: bool) -> str:
    return str(IPv6Address(number) if is_wide else IPv4Address(number))


_WORDS = {
    MatchType.EQUAL: "is",
    MatchType.GREATER: "is greater than",
    MatchType.LESS: "is less than",
    MatchType.GREATER_OR_EQUAL: "is at least",
    MatchType.LESS_OR_EQUAL: "is at most",
    MatchType.RANGE: "is",
    MatchType.FLAGS_ALL_SET: "has all of",
    MatchType.FLAGS_ANY_SET: "has one of",
    MatchType.FLAGS_NONE_SET: "has none of",
    MatchType.EQUAL_CASE_INSENSITIVE: "is, in whatever case,",
    MatchType.NOT_EQUAL: "is not",
    MatchType.PREFIX: "ends with",
    MatchType.NOT_PREFIX: "does not end with",
}


def describe_condition(condition: Condition) -> str:
    """A condition in words: "IP_REMOTE_PORT is 443"."""
    return f"{condition.field.name} {_WORDS[condition.match]} {_describe_data(condition.field, condition.value)}"


def _describe_data(field: Field, value: Value) -> str:
    data = value.data
    match data:
        case Range():
            return f"{_describe_data(field, data.low)} to {_describe_data(field, data.high)}"
        case V4Mask():
            return f"in {_address(data.address, False)}/{data.mask.bit_count()}"
        case V6Mask():
            return f"in {_address(int.from_bytes(data.address), True)}/{data.prefix_length}"
        case SecurityDescriptor():
            entries = [f"{'' if entry.allow else 'not '}{entry.trustee}" for entry in data.entries]
            return ", ".join(entries) or "nobody"
        case bytes():
            if value.type is DataType.BYTE_ARRAY16 and field.kind(6) is Kind.ADDRESS6:
                return _address(int.from_bytes(data), True)
            if field.kind(4) is Kind.NAME:
                return data.decode("utf-16-le", errors="replace")
            return _describe_bytes(data)
        case int() if field.kind(4) is Kind.ADDRESS4:
            return _address(data, False)
        case int() if field is Field.FLAGS:
            return f"{data:#x}"
    return str(data)
