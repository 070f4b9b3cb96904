"""The package as it is for every platform, under the official Windows build of CPython: demo, sockets, policy, winsock.

The tests are those of the other suites, run by pytest inside that interpreter.  What cannot be run there is listed here
with its reason; everything else has to pass.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.windows_python import WindowsPython, windows_path
from tools.run_suites import read_report

# What tests say of a platform like this one.
MISSING_HERE = {
    "nothing forks on this platform",
    "files have no modes on this platform",
    "users have no numbers on this platform",
    "ports cannot be shared here",
    "descriptors are not limited on this platform",
}
# wine tells a reset TCP connection as the peer's end of stream, of plain sockets too, where Windows raises.
RESETS = (
    "tests/system/test_in_clear_or_not.py::test_ike_that_fails_is_a_refusal_and_never_clear",
    "tests/system/test_in_clear_or_not.py::test_without_allow_insecure_a_clear_client_is_refused_and_counted",
    "tests/system/test_listener.py::test_a_silent_client_delays_nobody_and_is_refused_after_two_seconds",
    "tests/system/test_listener.py::test_half_a_message_and_silence_is_refused_in_two_seconds",
)
# A thousand connections: the system suite makes them, and here they would take all the time there is.
LONG = (
    "tests/system/test_closing.py::test_close_after_sendall_loses_no_byte_even_when_the_peer_rekeys_at_that_moment",
)

# Bulk through wine's completion ports takes minutes; a reset again is told as an end.
SLOW_LOOPS = tuple(
    f"tests/system/test_aio_streams.py::{name}"
    for name in (
        "test_much_data_in_both_directions_at_once_arrives_whole",
        "test_rekeys_in_the_middle_of_a_transfer_lose_nothing",
        "test_an_end_that_only_sends_goes_on_through_rekeys",
        "test_nothing_of_what_was_written_is_lost_when_it_is_closed_at_once",
        "test_small_messages_go_to_and_fro",
        "test_a_reset_carrier_is_a_truncated_stream_too",
        "test_a_forgotten_writer_is_an_abort",
    )
)
# Under wine the interpreter sometimes does not come to its end when all is done; the tests that are about a process's
# end have processes of their own.
PYTEST = "import os, sys, pytest; code = pytest.main(sys.argv[1:]); sys.stdout.flush(); os._exit(code)"


class Group(NamedTuple):
    """Tests that run in one process, and how many at least have to pass; ``only``: those with this word in their id."""

    paths: tuple[str, ...]
    at_least: int
    left_out: tuple[str, ...] = ()
    only: str = ""


GROUPS = {
    "streams": Group(
        (
            "tests/system/test_secured_connection.py",
            "tests/system/test_closing.py",
            "tests/system/test_listener.py",
            "tests/system/test_in_clear_or_not.py",
            "tests/system/test_nonblocking_and_timeouts.py",
            "tests/system/test_live_sas.py",
        ),
        140,
        (*RESETS, *LONG),
    ),
    "datagrams, threads": Group(
        (
            "tests/system/test_datagrams.py",
            "tests/system/test_fork_and_threads.py",
            "tests/windows/on_windows/test_many_descriptors.py",
        ),
        50,
    ),
    "asyncio": Group(("tests/system/test_aio_streams.py",), 25, SLOW_LOOPS),
    # Under wine a proactor's endpoint that sends and closes at once is never told connection_lost, plain ones neither.
    "asyncio datagrams": Group(("tests/system/test_aio_datagrams.py",), 10, only="selector"),
    "winsock and policy": Group(
        (
            "tests/unit/winsock/test_winsock_arguments.py",
            "tests/unit/winsock/test_winsock_datagrams.py",
            "tests/unit/winsock/test_winsock_order.py",
            "tests/unit/winsock/test_winsock_overlapped.py",
            "tests/unit/policy/test_arbitration.py",
            "tests/unit/policy/test_conditions.py",
            "tests/unit/policy/test_engine_objects.py",
            "tests/unit/policy/test_policy_enumeration.py",
            "tests/unit/policy/test_policy_store.py",
            "tests/unit/policy/test_policy_transactions.py",
            "tests/unit/wire/test_winsock_structures.py",
            "tests/unit/test_errors.py",
            "tests/system/test_winsock_scenarios.py",
        ),
        600,
    ),
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_the_tests_of_other_suites_pass(group: Group, windows_python: WindowsPython, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    left_out = [f"--deselect={each}" for each in group.left_out]
    chosen = ["-k", group.only] if group.only else []
    options = ["-q", "-p", "no:cacheprovider", "--timeout=60", f"--junitxml={windows_path(report)}", *left_out, *chosen]
    done = windows_python.run("-c", PYTEST, *options, *group.paths, timeout_s=380)
    outcomes = read_report(report)
    failed = [each for each in outcomes if each.verdict == "failed"]
    assert not failed, done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    assert {each.reason for each in outcomes if each.verdict == "skipped"} <= MISSING_HERE
    assert sum(each.verdict == "passed" for each in outcomes) >= group.at_least


@pytest.mark.timeout(200)
def test_the_demo_shows_what_it_promises(windows_python: WindowsPython) -> None:
    program = "import sys; from securesock.cli import main; sys.exit(main(['demo', '--json']))"
    done = windows_python.run("-c", program, timeout_s=180)
    assert done.returncode == 0, done.stdout + done.stderr
    story = json.loads(done.stdout)
    assert story["secured"] is True
    assert story["clear_text_bytes_on_wire"] == 0
    assert story["control"]["found"] == story["control"]["windows"] > 0
    assert all(each["refused"] for each in story["refusals"])
