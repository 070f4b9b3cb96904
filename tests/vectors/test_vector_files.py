"""Every data file says where it comes from, and is read by a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
FILES = sorted((HERE / "data").glob("*.json"))


def sources_of(loaded: dict[str, Any]) -> list[str]:
    return [loaded["source"]] if "source" in loaded else [case["source"] for case in loaded["cases"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_names_its_source_and_is_read(path: Path) -> None:
    assert all(len(source) > 8 for source in sources_of(json.loads(path.read_text())))
    tests = "".join(each.read_text() for each in HERE.glob("test_*_vectors.py"))
    assert f'"{path.name}"' in tests


def test_there_are_files() -> None:
    assert len(FILES) >= 14
