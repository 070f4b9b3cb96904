"""How a suite is judged: failures, skips, budgets, and what the closing lines say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tools import closing_lines, run_suites
from tools.closing_lines import Result
from tools.run_suites import Outcome, Suite, judge, read_allowed_skips, read_report, read_suites, run_suite

SUITE = Suite("unit", 10.0, "each module alone")
PASSED = Outcome("tests/unit/test_a::test_one", "passed", "")
FAILED = Outcome("tests/unit/test_a::test_two", "failed", "assert False")
SKIPPED = Outcome("tests/unit/test_a::test_three", "skipped", "needs root")


def test_a_suite_that_passed_in_time_passes() -> None:
    result = judge(SUITE, [PASSED], 0, 19.9, {}, strict=True)

    assert (result.passed, result.failed, result.skipped, result.problems) == (1, 0, 0, ())


def test_a_suite_over_twice_its_share_fails() -> None:
    result = judge(SUITE, [PASSED], 0, 20.1, {}, strict=False)

    assert result.failed == 1
    assert "more than twice its share of 10 s" in result.problems[0]


def test_a_failed_test_fails_the_suite() -> None:
    result = judge(SUITE, [PASSED, FAILED], 1, 1.0, {}, strict=False)

    assert (result.passed, result.failed) == (1, 1)


def test_a_suite_without_tests_fails() -> None:
    assert judge(SUITE, [], 5, 1.0, {}, strict=False).failed == 1


def test_a_crash_of_pytest_fails_the_suite_even_if_every_test_passed() -> None:
    result = judge(SUITE, [PASSED], 3, 1.0, {}, strict=False)

    assert result.failed == 1
    assert "status 3" in result.problems[0]


def test_a_skip_is_counted_with_its_reason() -> None:
    result = judge(SUITE, [PASSED, SKIPPED], 0, 1.0, {}, strict=False)

    assert (result.passed, result.failed, result.skipped) == (1, 0, 1)
    assert result.skip_reasons == ("needs root",)


def test_a_skip_fails_where_everything_has_to_be_there() -> None:
    result = judge(SUITE, [PASSED, SKIPPED], 0, 1.0, {}, strict=True)

    assert (result.passed, result.failed, result.skipped) == (1, 1, 0)
    assert "test_three skipped: needs root" in result.problems[0]


def test_a_listed_skip_stays_a_skip() -> None:
    result = judge(SUITE, [PASSED, SKIPPED], 0, 1.0, {"tests/unit/*::test_three": "why"}, strict=True)

    assert (result.passed, result.failed, result.skipped) == (1, 0, 1)


def test_a_listed_skip_needs_a_reason() -> None:
    with pytest.raises(KeyError):
        read_allowed_skips('[[skip]]\ntest = "x"\n')
    assert read_allowed_skips('[[skip]]\ntest = "x"\nreason = " "\n') == {}


def test_the_committed_lists_can_be_read_and_cover_every_folder_of_tests() -> None:
    suites = read_suites((run_suites.TESTS / "suites.toml").read_text())
    folders = {path.relative_to(run_suites.TESTS).parts[0] for path in run_suites.TESTS.rglob("test_*.py")}

    read_allowed_skips((run_suites.TESTS / "allowed_skips.toml").read_text())
    assert folders <= {suite.name for suite in suites}


def test_the_shares_are_what_the_budget_gives() -> None:
    share = {suite.name: suite.seconds for suite in read_suites((run_suites.TESTS / "suites.toml").read_text())}

    assert sum(share[name] for name in ("unit", "vectors", "pair", "property")) <= 360
    assert share["fuzz"] <= 60
    assert share["system"] + share["demo"] + share["soak"] <= 180


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with one suite folder and no conftest."""
    monkeypatch.setattr(run_suites, "ROOT", tmp_path)
    monkeypatch.setattr(run_suites, "TESTS", tmp_path / "tests")
    monkeypatch.setattr(run_suites, "REPORTS", tmp_path / "reports")
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    return tmp_path


def test_a_real_run_counts_what_pytest_reports(place: Path) -> None:
    (place / "tests" / "unit" / "test_a.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert False\n"
        "def test_away(): pytest.skip('not here')\n"
        "@pytest.fixture\ndef broken(): raise RuntimeError('x')\n"
        "def test_error(broken): pass\n"
    )

    result = run_suite(SUITE, {}, strict=False)

    assert (result.passed, result.failed, result.skipped) == (1, 2, 1)
    assert {outcome.test for outcome in read_report(place / "reports" / "unit.xml")} == {
        f"tests/unit/test_a::test_{name}" for name in ("good", "bad", "away", "error")
    }


def test_a_suite_that_hangs_is_ended_at_twice_its_share(place: Path) -> None:
    (place / "tests" / "unit" / "test_a.py").write_text(
        "import threading\ndef test_good(): pass\ndef test_hangs(): threading.Event().wait()\n"
    )

    result = run_suite(SUITE._replace(seconds=1.5), {}, strict=False)

    assert (result.passed, result.failed) == (1, 1)
    assert any("more than twice its share" in problem for problem in result.problems)


def test_a_suite_whose_folder_is_missing_fails(place: Path) -> None:
    result = run_suite(SUITE._replace(name="pair"), {}, strict=False)

    assert result.failed == 1
    assert "no folder tests/pair" in result.problems[0]


def test_the_last_line_has_the_totals_in_their_exact_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(closing_lines, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["closing_lines", "check", "test"])
    closing_lines.write_result("check", Result("ruff", 1, 0, 0, 0.5, 0.0, (), ()))
    closing_lines.write_result("suite", Result("unit", 10, 2, 1, 3.0, 120.0, ("slow",), ("needs root",)))

    status = closing_lines.main()

    lines = capsys.readouterr().out.splitlines()
    assert status == 1
    assert lines[-1] == "11 passed, 2 failed, 1 skipped"
    assert any("unit" in line and "FAILED" in line and "3.0 s of 120 s" in line for line in lines)
    assert "      slow" in lines
    assert "      skipped: needs root" in lines


def test_a_target_that_failed_without_a_result_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(closing_lines, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["closing_lines", "check"])
    closing_lines.write_result("suite", Result("unit", 10, 0, 0, 3.0, 120.0, (), ()))

    assert closing_lines.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "10 passed, 1 failed, 0 skipped"


def test_nothing_run_is_not_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["closing_lines"])
    monkeypatch.setattr(closing_lines, "RESULTS", tmp_path)

    assert closing_lines.main() == 1


def test_results_of_an_earlier_run_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing_lines, "RESULTS", tmp_path)
    closing_lines.write_result("suite", Result("unit", 1, 0, 0, 1.0, 1.0, (), ()))
    closing_lines.forget_results("suite")
    closing_lines.write_result("suite", Result("pair", 2, 0, 0, 1.0, 1.0, (), ()))

    assert [result.name for result in closing_lines.read_results()] == ["pair"]
    assert json.loads(next(tmp_path.iterdir()).read_text())["passed"] == 2


def test_an_unknown_suite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run_suites", "unti"])

    with pytest.raises(SystemExit, match="no suite is called unti"):
        run_suites.main()
