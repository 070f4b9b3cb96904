"""The store of the policy under ten times as many kills as in the suite of the system."""

from __future__ import annotations

from pathlib import Path

from tests.soak.sizes import FULL
from tests.support.policy_store_kills import kill_writers


def test_kills_leave_no_torn_state(tmp_path: Path) -> None:
    generations = kill_writers(tmp_path / "policy.db", kills=200 if FULL else 5, seed=40)
    assert generations == sorted(generations)
    assert generations[-1] > 0
