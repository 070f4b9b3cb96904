"""What a classification answers."""

from __future__ import annotations

from typing import Final, NamedTuple

from .callouts import IPsecDemand
from .model import ActionType, Filter

__all__ = ["NO_MATCH", "Verdict", "decided"]


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
        return self.action is ActionType.BLOCK


NO_MATCH: Final = Verdict(ActionType.NONE_NO_MATCH, None, "no filter matched")
"""The verdict of a layer in which nothing is for the flow."""


def decided(action: ActionType, by: Filter, is_hard: bool) -> Verdict:
    """The verdict that a filter decided, where nobody demanded or vetoed anything."""
    word = "permitted" if action is ActionType.PERMIT else "blocked"
    return Verdict(action, by, f"{word} by filter {by.id} {by.name!r}", is_hard)
