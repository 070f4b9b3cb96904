"""How sides are measured in turn, and what a row says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import harness
from benchmarks.harness import Bound, Case, Contest, Row, is_bounded, load_cases, measure, rows_of, run_case


def side(log: list[str], name: str, values: list[float]) -> harness.Measure:
    """Measures by handing out values, and writes down when."""
    remaining = iter(values)

    def measured() -> float:
        log.append(name)
        return next(remaining)

    return measured


def a_case(bound: Bound | None = None) -> Case:
    def nothing() -> Iterator[Contest]:
        yield Contest(lambda: 1.0, {"peer": lambda: 1.0})

    return Case("a case", "MiB/s", "higher", 9, bound, None, harness.contextmanager(nothing))


def test_sides_take_turns_and_the_first_round_does_not_count() -> None:
    log: list[str] = []
    contest = Contest(side(log, "ours", [99, 1, 2, 3]), {"ssl": side(log, "ssl", [99, 4, 5, 6])})

    samples = measure(contest, 3)

    assert log == ["ours", "ssl", "ssl", "ours", "ours", "ssl", "ssl", "ours"]
    assert samples == {"": [1, 2, 3], "ssl": [4, 5, 6]}


def test_a_row_has_medians_and_of_the_rounds_ratios_the_median_and_the_spread() -> None:
    samples = {"": [2.0, 4.0, 6.0, 8.0, 10.0], "ssl": [2.0, 2.0, 2.0, 2.0, 2.0]}

    (row,) = rows_of(a_case(), samples)

    # ratios of the rounds 1 2 3 4 5: quartiles 2 and 4
    assert row == Row("a case", 6.0, 2.0, "ssl", "MiB/s", "higher", 3.0, 2.0)


def test_a_slow_moment_of_the_machine_that_hits_both_sides_does_not_show_in_the_spread() -> None:
    samples = {"": [4.0, 4.0, 1.0, 4.0], "ssl": [2.0, 2.0, 0.5, 2.0]}

    (row,) = rows_of(a_case(), samples)

    assert row.spread == 0.0


def test_a_slow_half_of_the_rounds_does_not_show_in_the_ratio() -> None:
    samples = {"": [4.0, 4.0, 4.0, 8.0, 8.0], "ssl": [2.0, 2.0, 4.0, 4.0, 4.0]}

    (row,) = rows_of(a_case(), samples)

    assert row.ratio == 2.0  # that of the medians is 1


def test_every_peer_has_its_row() -> None:
    samples = {"": [4.0] * 9, "ssl": [2.0] * 9, "plain TCP": [8.0] * 9}

    rows = rows_of(a_case(), samples)

    assert [(row.peer_name, row.ratio) for row in rows] == [("ssl", 2.0), ("plain TCP", 0.5)]


@pytest.mark.parametrize(
    ("bound", "kept"),
    [
        (Bound("ratio", at_least=2.0), True),
        (Bound("ratio", at_least=2.1), False),
        (Bound("ratio", at_most=2.0), True),
        (Bound("ratio", at_most=1.9), False),
        (Bound("difference", at_most=3.0), True),
        (Bound("difference", at_most=2.9), False),
    ],
)
def test_a_bound_is_of_the_ratio_or_of_the_difference(bound: Bound, kept: bool) -> None:
    row = Row("x", 6.0, 3.0, "ssl", "ms", "lower", 2.0, 0.0)

    assert bound.is_kept(row) is kept


def test_a_bound_is_held_against_the_first_peer_or_the_one_it_names() -> None:
    rows = rows_of(a_case(), {"": [1.0] * 9, "ssl": [1.0] * 9, "plain TCP": [1.0] * 9})
    first, named = a_case(bound=Bound("ratio", at_least=1)), a_case(bound=Bound("ratio", peer_name="plain TCP"))

    assert [is_bounded(first, row, rows) for row in rows] == [True, False]
    assert [is_bounded(named, row, rows) for row in rows] == [False, True]
    assert [is_bounded(a_case(), row, rows) for row in rows] == [False, False]


def test_a_case_is_made_ready_measured_and_taken_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "_cases", {})
    log: list[str] = []

    @harness.case("a case", unit="s", better="lower")
    def ready() -> Iterator[Contest]:
        log.append("ready")
        yield Contest(lambda: 1.0, {"peer": lambda: 2.0})
        log.append("down")

    (only,) = harness._cases.values()
    (row,) = run_case(only)

    assert row.ratio == 0.5
    assert log == ["ready", "down"]


def test_fewer_than_nine_rounds_and_a_second_case_of_a_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "_cases", {"taken": a_case()})

    with pytest.raises(ValueError, match="8 rounds"):
        harness.case("x", unit="s", better="lower", rounds=8)
    with pytest.raises(ValueError, match="taken"):
        harness.case("taken", unit="s", better="lower")


def test_every_committed_case_loads() -> None:
    names = [case.name for case in load_cases()]

    assert "import securesock" in names
    assert len(names) == len(set(names))


def test_five_rounds_do_where_each_takes_five_seconds() -> None:
    def nothing() -> Iterator[Contest]:
        yield Contest(lambda: 1.0)

    with pytest.raises(ValueError, match="4 rounds; 5 are the least"):
        harness.case("a short case", unit="s", better="lower", rounds=4, each_s=5.0)(nothing)
    with pytest.raises(ValueError, match="5 rounds; 9 are the least"):
        harness.case("another", unit="s", better="lower", rounds=5, each_s=4.9)(nothing)
