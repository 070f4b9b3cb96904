"""Who wins: the decisions of the sublayers of one layer, from the highest weight to the lowest, become one.

A decision is a permit or a block that is soft (its right FWPS_RIGHT_ACTION_WRITE is left: a lower sublayer may change
it) or hard (the right is taken away).  The rules, from "Filter arbitration" of the platform's documentation:
- the first decision stands until another changes it;
- soft permit: a block overrides it;  soft block: a permit overrides it;
- hard block: nothing overrides it;  hard permit: only a veto does, a block that a *callout* returns although the right
  was taken away before it was asked; a veto is an event of its own;
- a right that was taken away never comes back.
Every sublayer is evaluated, also after a block, because callouts see all traffic.  Knows neither matching nor layers.
"""

from __future__ import annotations

from typing import Final

from .model import ActionType, Filter

__all__ = ["Arbitration"]

_PERMIT: Final = ActionType.PERMIT
_BLOCK: Final = ActionType.BLOCK


class Arbitration:
    """The state of one evaluation.

    ``action`` and ``decided_by`` (the filter that gave the action, or that made it hard) are None before the first
    decision; ``may_write`` is the right that the next callout is shown; ``vetoed`` is the filter whose hard permit a
    callout overrode.
    """

    __slots__ = ("action", "decided_by", "may_write", "vetoed")

    def __init__(self) -> None:
        self.action: ActionType | None = None
        self.decided_by: Filter | None = None
        self.may_write = True
        self.vetoed: Filter | None = None

    def consider(self, action: ActionType, is_hard: bool, from_callout: bool, decided_by: Filter) -> None:
        """Take the decision (PERMIT or BLOCK) of the next lower sublayer into account."""
        if self.may_write:
            # Between two soft decisions the later one counts, unless it is the same: a permit over a block, a block
            # over a permit.  A hard one that agrees takes the right away, and is then what has to be overridden.
            if action is not self.action or is_hard:
                self.action = action
                self.decided_by = decided_by
            self.may_write = not is_hard
        elif self.action is _PERMIT and action is _BLOCK and from_callout:
            self.vetoed = self.decided_by
            self.action = _BLOCK
            self.decided_by = decided_by
