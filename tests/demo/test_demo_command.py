"""securesock demo as its user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from securesock.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    done = run("demo", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_both_ends_say_who_the_other_proved_to_be(report: dict[str, Any]) -> None:
    assert report["schema"] == 1
    assert report["secured"] is True
    assert report["encrypted"] is True
    assert report["client"]["peer_machine"]["name"] == "host/server.example"
    assert report["server"]["peer_machine"]["name"] == "host/client.example"
    assert report["client"]["quick_mode_suite"] == report["server"]["quick_mode_suite"] != ""


def test_no_clear_text_was_recorded_and_the_recorder_would_have_seen_it(report: dict[str, Any]) -> None:
    assert report["clear_text_bytes_on_wire"] == 0
    assert report["bytes_on_wire"] > 2 * 4096
    assert report["control"]["found"] == report["control"]["windows"] == 4096 - 7


def test_each_refusal_has_the_error_of_whom_it_is_to_blame_on(report: dict[str, Any]) -> None:
    refusals = {each["case"]: each for each in report["refusals"]}
    assert all(each["refused"] for each in refusals.values())
    assert {case: each["error"] for case, each in refusals.items()} == {
        "clear client": "PeerIncompatible",
        "wrong peer name": "AuthenticationFailed",
        "client not trusted": "AuthenticationFailed",
        "server not trusted": "AuthenticationFailed",
        "tampered byte": "ConnectionBroken",
        "truncated stream": "StreamTruncated",
    }


def test_people_get_words() -> None:
    done = run("demo")
    assert done.returncode == 0
    assert "Everything was as promised." in done.stdout
    assert "NOT" not in done.stdout
