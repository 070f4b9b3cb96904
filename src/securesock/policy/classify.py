"""One classification: the rules that match, asked sublayer by sublayer, arbitrated into a verdict.

The index says which rules match; this module knows what their actions mean and in which order they are asked.  The
verdict carries what the callouts demanded of IPsec, because that is decided here and nowhere else.  A layer where
nothing decides gives the verdict NONE: at the packet and ALE layers such traffic passes, at the policy layers it has no
policy; which of the two is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple
from uuid import UUID

from .arbitration import Arbitration
from .callouts import CalloutAnswer, CalloutCall, CalloutFunction, IPsecDemand
from .layers import Layer, Slots
from .model import ActionType, Filter, FilterFlag, ProviderContext
from .rules import Rule

__all__ = ["Inquiry", "Verdict", "classify"]

_PERMIT: Final = ActionType.PERMIT
_BLOCK: Final = ActionType.BLOCK


class Verdict(NamedTuple):
    """What the layer decided: ``action`` is PERMIT, BLOCK, NONE (filters matched, none decided) or NONE_NO_MATCH.

    ``filter`` decided it; ``is_hard``: no lower sublayer could have changed it; ``vetoed``: the filter whose hard
    permit a callout overrode; ``demand``: what matching IPsec callouts ask for, also when the traffic is blocked.
    """

    action: ActionType
    filter: Filter | None
    reason: str
    is_hard: bool = False
    vetoed: Filter | None = None
    demand: IPsecDemand | None = None

    @property
    def is_blocked(self) -> bool:
        """Whether the traffic must not pass."""
        return self.action is _BLOCK


class Inquiry:
    """What asking rules needs beside the rules: callouts and contexts.  It collects the demands."""

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
        action = filter_.action
        clears_right = bool(filter_.flags & FilterFlag.CLEAR_ACTION_RIGHT)
        if action is _PERMIT or action is _BLOCK:
            arbitration.consider(action, clears_right or action is _BLOCK, False, filter_)
            return True
        function = self.functions.get(filter_.action_key)
        if function is None:
            return _consider_unregistered(filter_, clears_right, arbitration)
        key = filter_.provider_context
        context = None if key is None else self.contexts(key)
        answer = function(CalloutCall(self.layer, self.slots, filter_, context, arbitration.may_write))
        if answer.demand is not None:
            self.demand = answer.demand if self.demand is None else self.demand.joined(answer.demand)
        return _consider_answer(answer, filter_, clears_right, arbitration)


def _consider_unregistered(filter_: Filter, clears_right: bool, arbitration: Arbitration) -> bool:
    """A filter whose callout is not registered blocks, or permits if it says so; an inspection never decides."""
    if filter_.action is ActionType.CALLOUT_INSPECTION:
        return False
    permits = bool(filter_.flags & FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED)
    arbitration.consider(_PERMIT if permits else _BLOCK, clears_right or not permits, False, filter_)
    return True


def _consider_answer(answer: CalloutAnswer, filter_: Filter, clears_right: bool, arbitration: Arbitration) -> bool:
    if filter_.action is ActionType.CALLOUT_INSPECTION:
        return False
    if answer.action is _PERMIT or answer.action is _BLOCK:
        arbitration.consider(answer.action, clears_right or answer.is_hard, True, filter_)
        return True
    if filter_.action is ActionType.CALLOUT_TERMINATING:
        # It promised to decide and did not: a broken callout must not open anything.
        arbitration.consider(_BLOCK, True, True, filter_)
        return True
    return False


def classify(
    found: tuple[list[Rule], list[Rule]], inquiry: Inquiry, order_of: Callable[[int], tuple[int, int]]
) -> Verdict:
    """The verdict over what LayerIndex.find found.  ``order_of`` sorts sublayers, by id, into their order."""
    best, maybe = found
    if not best and not maybe:
        return _NO_MATCH
    arbitration = Arbitration()
    if maybe or len(best) > 1:
        for candidates in _by_sublayer(best, maybe, order_of):
            for rule in candidates:
                if inquiry.ask(rule, arbitration):
                    break
    else:
        inquiry.ask(best[0], arbitration)
    return verdict_of(arbitration, inquiry)


def verdict_of(arbitration: Arbitration, inquiry: Inquiry) -> Verdict:
    """The verdict when every sublayer has been asked."""
    decided_by = arbitration.decided_by
    action = arbitration.action
    if action is None or decided_by is None:
        reason = "filters matched, and none of them decided"
        return Verdict(ActionType.NONE, None, reason, False, None, inquiry.demand)
    vetoed = arbitration.vetoed
    word = "permitted" if action is _PERMIT else "blocked"
    reason = f"{word} by filter {decided_by.id} {decided_by.name!r}"
    if vetoed is not None:
        reason += f", whose callout vetoed the hard permit of filter {vetoed.id} {vetoed.name!r}"
    return Verdict(action, decided_by, reason, not arbitration.may_write, vetoed, inquiry.demand)


_NO_MATCH: Final = Verdict(ActionType.NONE_NO_MATCH, None, "no filter matched")


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
