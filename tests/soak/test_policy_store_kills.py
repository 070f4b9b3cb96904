"""The store of the policy under ten times as many kills as in the suite of the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.sizes import FULL
from tests.support.policy_store_kills import kill_writers


@pytest.mark.timeout(600)  # 200 processes one after the other
def test_kills_leave_no_torn_state(tmp_path: Path) -> None:
    generations = kill_writers(tmp_path / "policy.db", kills=200 if FULL else 5, seed=40)
    assert generations == sorted(generations)
    assert generations[-1] > 0
