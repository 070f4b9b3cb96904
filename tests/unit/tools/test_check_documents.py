"""What the checker of documents finds, and what it lets stand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.check_documents import (
    anchors,
    check_dependencies,
    check_examples,
    check_links,
    check_names,
    makefile_targets,
    read_document,
)
from tools.house_rules import Breach

README = Path("README.md")


def messages(found: Iterator[Breach]) -> list[str]:
    return [breach.message for breach in found]


def test_prose_and_blocks_are_told_apart() -> None:
    document = read_document(README, "one\n```python run\nx = 1\n```\ntwo\n")

    assert document.prose == [(1, "one"), (5, "two")]
    assert [(block.line, block.info, block.text) for block in document.blocks] == [(2, "python run", "x = 1\n")]


def test_anchors_are_made_as_code_hosts_make_them() -> None:
    assert anchors(read_document(README, "# What is `x`, and why?\n## Two\n")) == {"what-is-x-and-why", "two"}


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# Here\n")
    document = read_document(
        README, "[a](there.md) [b](gone.md) [c](there.md#here) [d](there.md#gone) [e](https://example.org/x)\n"
    )

    assert messages(check_links(document, tmp_path)) == [
        "the link to gone.md leads nowhere",
        "there.md has no heading #gone",
    ]


def test_a_target_a_command_and_a_path_must_exist(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    document = read_document(
        README,
        "`make test` `make tea` `docs/` `docs/gone.md`\n```sh\nmake demo # make sense\nsecuresock dance\n```\n",
    )

    found = check_names(document, tmp_path, {"test", "demo"}, lambda command: command != "dance")

    assert messages(found) == [
        "there is no make tea",
        "docs/gone.md does not exist",
        "there is no command securesock dance",
    ]


def test_targets_are_read_from_a_makefile() -> None:
    assert makefile_targets("PYTHON ?= python3\n.PHONY: x\ntest: ## all\n\t@run\nfresh-check:\n") == {
        "test",
        "fresh-check",
    }


def test_examples_run_in_order_in_one_process() -> None:
    document = read_document(README, "```python run\nx = 1\n```\ntext\n```python run\nassert x == 1\n```\n")

    assert messages(check_examples(document)) == []


def test_a_failing_example_is_found_with_its_line() -> None:
    document = read_document(README, "text\n\n```python run\nx = 1\nraise ValueError(x)\n```\n")

    (message,) = messages(check_examples(document))

    assert "line 5" in message
    assert "ValueError: 1" in message


def test_an_example_that_is_not_marked_is_not_run() -> None:
    assert messages(check_examples(read_document(README, "```python\nraise ValueError\n```\n"))) == []


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("| `rich` | why |\n", []),
        ("", ["the dependency rich is not explained"]),
        ("| `rich` | why |\n| `gone` | why |\n", ["the dependency gone is explained and not declared"]),
        ("| `rich` | why |\n\n## Development\n| `ruff` | why |\n", []),
    ],
)
def test_dependencies_and_their_reasons_agree(table: str, expected: list[str]) -> None:
    pyproject = '[project]\ndependencies = ["rich>=13"]\n'

    assert messages(check_dependencies(pyproject, f"# Dependencies\n{table}")) == expected
