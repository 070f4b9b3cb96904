"""kill -9 during commits leaves the old policy or the new one, never a part of either."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.policy_store_kills import kill_writers
from tests.support.warm_python import warm_python


@pytest.fixture(scope="module", autouse=True)
def _started_once() -> None:
    warm_python()


def test_twenty_kills_leave_no_torn_state(tmp_path: Path) -> None:
    generations = kill_writers(tmp_path / "policy.db", kills=20, seed=4)
    assert generations == sorted(generations)
    assert generations[-1] > 20, "the writers did not live long enough to commit anything"
