"""After every test of this suite: no thread and no descriptor more than before it.

The one daemon thread that listeners and datagram sockets share may start in a test and stays; it brings the
descriptors by which it is woken, and no others are excused.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_DESCRIPTORS = Path("/proc/self/fd")
# A connection closed by a non-blocking caller is drained for up to 2 s by the daemon thread before it is closed.
_PATIENCE_S = float(os.environ.get("SECURESOCK_LEAK_PATIENCE_S", "4"))
# The daemon thread's own: a selector, and a pair or an eventfd to wake it.
_DAEMON_DESCRIPTORS = 3


def _open_descriptors() -> dict[int, str]:
    """Each open descriptor and what it leads to; empty where /proc does not say."""
    found: dict[int, str] = {}
    for entry in _DESCRIPTORS.iterdir() if _DESCRIPTORS.is_dir() else ():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except FileNotFoundError:
            continue  # the listing's own
    return found


def _is_shared_daemon(thread: threading.Thread) -> bool:
    return thread.daemon and thread.name.startswith("securesock")


def _leaks(threads: set[threading.Thread], descriptors: dict[int, str]) -> list[str]:
    """What is there now and was not before."""
    new_threads = [thread for thread in threading.enumerate() if thread not in threads]
    excused = _DAEMON_DESCRIPTORS * any(_is_shared_daemon(thread) for thread in new_threads)
    leaks = [f"thread {thread.name}" for thread in new_threads if not _is_shared_daemon(thread)]
    opened = [(number, to) for number, to in _open_descriptors().items() if descriptors.get(number) != to]
    if len(opened) > excused:
        leaks += [f"descriptor {number} -> {to}" for number, to in opened]
    return leaks


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread or a descriptor."""
    threads, descriptors = set(threading.enumerate()), _open_descriptors()
    yield
    deadline = time.monotonic() + _PATIENCE_S
    never = threading.Event()
    while (leaks := _leaks(threads, descriptors)) and time.monotonic() < deadline:
        never.wait(0.02)
    if leaks:
        pytest.fail("left behind: " + "; ".join(leaks), pytrace=False)
