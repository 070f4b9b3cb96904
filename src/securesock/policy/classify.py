"""One classification: the rules that match, asked sublayer by sublayer, arbitrated into a verdict.

The index says which rules match; this module knows what their actions mean and in which order they are asked.  The
verdict carries what the callouts demanded of IPsec, because that is decided here and nowhere else.  A layer where
nothing decides gives the verdict NONE: at the packet and ALE layers such traffic passes, at the policy layers it has no
policy; which of the two is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final
from uuid import UUID

from .arbitration import Arbitration
from .callouts import CalloutAnswer, CalloutCall, CalloutFunction, IPsecDemand
from .layers import Layer, Slots
from .model import ActionType, FilterFlag, ProviderContext
from .rules import Rule
from .verdicts import NO_MATCH, Verdict, decided

__all__ = ["Inquiry", "classify", "verdict_of"]

_PERMIT: Final = ActionType.PERMIT
_BLOCK: Final = ActionType.BLOCK


class Inquiry:
    """What asking rules needs beside the rules: the flow, callouts and contexts.  It collects the demands."""

    __slots__ = ("contexts", "demand", "functions", "layer", "slots")

    def __init__(
        self,
        layer: Layer,
        slots: Slots,
        functions: Mapping[UUID, CalloutFunction],
        contexts: Callable[[UUID], ProviderContext | None],
    ) -> None:
        self.layer: Final = layer
        self.slots: Final = slots
        self.functions: Final = functions
        self.contexts: Final = contexts
        self.demand: IPsecDemand | None = None

    def ask(self, rule: Rule, arbitration: Arbitration) -> bool:
        """Ask a matching rule and give its decision to ``arbitration``; whether it decided."""
        filter_ = rule.filter
        if rule.is_plain:
            arbitration.consider(filter_.action, rule.is_hard, False, filter_)
            return True
        function = self.functions.get(filter_.action_key)
        if function is None:
            return _consider_unregistered(rule, arbitration)
        key = filter_.provider_context
        context = None if key is None else self.contexts(key)
        answer = function(CalloutCall(self.layer, self.slots, filter_, context, arbitration.may_write))
        if answer.demand is not None:
            self.demand = answer.demand if self.demand is None else self.demand.joined(answer.demand)
        return _consider_answer(answer, rule, arbitration)


def _consider_unregistered(rule: Rule, arbitration: Arbitration) -> bool:
    """A filter whose callout is not registered blocks, or permits if it says so; an inspection never decides."""
    if rule.filter.action is ActionType.CALLOUT_INSPECTION:
        return False
    if rule.filter.flags & FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED:
        arbitration.consider(_PERMIT, rule.is_hard, False, rule.filter)
    else:
        arbitration.consider(_BLOCK, True, False, rule.filter)
    return True


def _consider_answer(answer: CalloutAnswer, rule: Rule, arbitration: Arbitration) -> bool:
    if rule.filter.action is ActionType.CALLOUT_INSPECTION:
        return False
    if answer.action is _PERMIT or answer.action is _BLOCK:
        arbitration.consider(answer.action, rule.is_hard or answer.is_hard, True, rule.filter)
        return True
    if rule.filter.action is ActionType.CALLOUT_TERMINATING:
        # It promised to decide and did not: a broken callout must not open anything.
        arbitration.consider(_BLOCK, True, True, rule.filter)
        return True
    return False


def classify(
    found: tuple[list[Rule], list[Rule]], inquiry: Inquiry, order_of: Callable[[int], tuple[int, int]]
) -> Verdict:
    """The verdict over what LayerIndex.find found.  ``order_of`` sorts sublayers, by id, into their order."""
    best, maybe = found
    if not maybe:
        if not best:
            return NO_MATCH
        settled = _settled(best, order_of)
        if settled is not None:
            return settled.verdict
    arbitration = Arbitration()
    by: Rule | None = None
    for candidates in _by_sublayer(best, maybe, order_of):
        for rule in candidates:
            if inquiry.ask(rule, arbitration):
                by = rule if arbitration.decided_by is rule.filter else by
                break
    if by is not None and by.is_plain and inquiry.demand is None:
        # A plain rule is never a veto, and hard exactly if it says so: what it decided was worded before.
        return by.verdict
    return verdict_of(arbitration, inquiry)


def _settled(best: list[Rule], order_of: Callable[[int], tuple[int, int]]) -> Rule | None:
    """The rule that wins where no callout is asked, None where one is.

    What Arbitration makes of them without its state: the last that changed the action, up to the first that is hard.
    """
    if len(best) > 1:
        best = sorted(best, key=lambda each: order_of(each.sublayer))
    by = best[0]
    for rule in best:
        if not rule.is_plain:
            return None
        if by.is_hard:
            continue  # it stands; only whether a callout comes is still to be known
        if rule.is_hard or rule.filter.action is not by.filter.action:
            by = rule
    return by


def verdict_of(arbitration: Arbitration, inquiry: Inquiry) -> Verdict:
    """The verdict when every sublayer has been asked."""
    by, action = arbitration.decided_by, arbitration.action
    if action is None or by is None:
        reason = "filters matched, and none of them decided"
        return Verdict(ActionType.NONE, None, reason, False, None, inquiry.demand)
    verdict = decided(action, by, not arbitration.may_write)._replace(demand=inquiry.demand)
    vetoed = arbitration.vetoed
    if vetoed is None:
        return verdict
    reason = f"{verdict.reason}, whose callout vetoed the hard permit of filter {vetoed.id} {vetoed.name!r}"
    return verdict._replace(reason=reason, vetoed=vetoed)


def _by_sublayer(
    best: list[Rule], maybe: list[Rule], order_of: Callable[[int], tuple[int, int]]
) -> Iterator[list[Rule]]:
    """For each sublayer in order: its undecided rules that come before the best decisive one, then that one."""
    if not maybe:
        for rule in sorted(best, key=lambda each: order_of(each.sublayer)):
            yield [rule]
        return
    last = {rule.sublayer: rule for rule in best}
    asked: dict[int, dict[Rule, None]] = {rule.sublayer: {rule: None} for rule in best}
    for rule in maybe:
        limit = last.get(rule.sublayer)
        if limit is None or rule.rank > limit.rank:
            asked.setdefault(rule.sublayer, {})[rule] = None
    for sublayer in sorted(asked, key=order_of):
        yield sorted(asked[sublayer], key=lambda each: -each.rank)
