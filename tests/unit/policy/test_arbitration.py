"""Arbitration, by the tables of "Filter arbitration": what is soft, what is hard, what a veto is."""

from __future__ import annotations

import pytest

from securesock.policy.arbitration import Arbitration
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Filter

P, B = ActionType.PERMIT, ActionType.BLOCK
SOFT, HARD = False, True


def named(name: str) -> Filter:
    return Filter(name, layer=Layer.ALE_AUTH_CONNECT_V4)


def arbitrate(*decisions: tuple[ActionType, bool, bool]) -> Arbitration:
    arbitration = Arbitration()
    for number, (action, is_hard, from_callout) in enumerate(decisions):
        arbitration.consider(action, is_hard, from_callout, named(str(number)))
    return arbitration


def test_nothing_is_decided_at_first() -> None:
    arbitration = Arbitration()
    assert (arbitration.action, arbitration.decided_by, arbitration.may_write) == (None, None, True)


@pytest.mark.parametrize("first", [P, B])
@pytest.mark.parametrize("is_hard", [SOFT, HARD])
@pytest.mark.parametrize("from_callout", [True, False])
def test_the_first_decision_stands(first: ActionType, is_hard: bool, from_callout: bool) -> None:
    arbitration = arbitrate((first, is_hard, from_callout))
    assert arbitration.action is first
    assert arbitration.may_write is not is_hard
    assert arbitration.vetoed is None


# (the higher sublayer's, the lower one's, from a callout?) -> (the outcome, who decided, is it hard, is it a veto?)
@pytest.mark.parametrize(
    ("higher", "lower", "from_callout", "outcome"),
    [
        # soft permit: "can be blocked at another sub-layer"
        ((P, SOFT), (P, SOFT), False, (P, "0", SOFT, False)),
        ((P, SOFT), (P, HARD), False, (P, "1", HARD, False)),
        ((P, SOFT), (B, SOFT), True, (B, "1", SOFT, False)),
        ((P, SOFT), (B, HARD), False, (B, "1", HARD, False)),
        # hard permit: "can be blocked at another sub-layer only by a callout veto"
        ((P, HARD), (P, SOFT), False, (P, "0", HARD, False)),
        ((P, HARD), (P, HARD), True, (P, "0", HARD, False)),
        ((P, HARD), (B, HARD), False, (P, "0", HARD, False)),
        ((P, HARD), (B, SOFT), True, (B, "1", HARD, True)),
        ((P, HARD), (B, HARD), True, (B, "1", HARD, True)),
        # soft block: "can be permitted at another sub-layer"
        ((B, SOFT), (P, SOFT), False, (P, "1", SOFT, False)),
        ((B, SOFT), (P, HARD), False, (P, "1", HARD, False)),
        ((B, SOFT), (B, SOFT), True, (B, "0", SOFT, False)),
        ((B, SOFT), (B, HARD), False, (B, "1", HARD, False)),
        # hard block: "cannot be permitted at another sub-layer"
        ((B, HARD), (P, SOFT), False, (B, "0", HARD, False)),
        ((B, HARD), (P, HARD), True, (B, "0", HARD, False)),
        ((B, HARD), (B, SOFT), True, (B, "0", HARD, False)),
        ((B, HARD), (B, HARD), False, (B, "0", HARD, False)),
    ],
)
def test_two_sublayers(
    higher: tuple[ActionType, bool],
    lower: tuple[ActionType, bool],
    from_callout: bool,
    outcome: tuple[ActionType, str, bool, bool],
) -> None:
    arbitration = arbitrate((*higher, False), (*lower, from_callout))
    decided_by = arbitration.decided_by
    assert decided_by is not None
    assert (
        arbitration.action,
        decided_by.name,
        not arbitration.may_write,
        arbitration.vetoed is not None,
    ) == outcome


def test_a_veto_is_final_and_names_whom_it_overrode() -> None:
    arbitration = arbitrate((P, HARD, False), (B, SOFT, True), (P, HARD, True), (B, HARD, True))
    assert arbitration.action is B
    assert arbitration.decided_by is not None
    assert arbitration.decided_by.name == "1"
    assert arbitration.vetoed is not None
    assert arbitration.vetoed.name == "0"


def test_soft_decisions_change_each_other_until_one_is_hard() -> None:
    arbitration = arbitrate((P, SOFT, False), (B, SOFT, True), (P, SOFT, False), (P, HARD, False), (B, HARD, False))
    assert arbitration.action is P
    assert arbitration.decided_by is not None
    assert arbitration.decided_by.name == "3"
