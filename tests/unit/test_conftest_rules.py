"""The rules that tests/conftest.py lays on every test."""

from __future__ import annotations

import pytest


def test_a_test_has_the_mark_and_the_time_limit_of_its_suite(request: pytest.FixtureRequest) -> None:
    limit = request.node.get_closest_marker("timeout")

    assert request.node.get_closest_marker("unit") is not None
    assert limit is not None
    assert limit.args == (20,)
