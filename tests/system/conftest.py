"""After every test of this suite: no thread and no descriptor more than before it.

A process makes two things once and keeps them: the daemon thread that listeners share, with what wakes it, and the pair
of sockets by which a thread that waits is woken, for as long as that thread lives.  Both are made here for the main
thread before the first test, so that nothing has to be excused.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import securesock as ss

_DESCRIPTORS = Path("/proc/self/fd")
# A connection closed by a non-blocking caller is drained for up to 2 s by the daemon thread before it is closed.
_PATIENCE_S = float(os.environ.get("SECURESOCK_LEAK_PATIENCE_S", "4"))


def _open_descriptors() -> dict[int, str]:
    """Each open descriptor and what it leads to; empty where /proc does not say (wine shows the host's)."""
    found: dict[int, str] = {}
    for entry in _DESCRIPTORS.iterdir() if os.name == "posix" and _DESCRIPTORS.is_dir() else ():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except FileNotFoundError:
            continue  # the listing's own
    return found


def _leaks(threads: set[threading.Thread], descriptors: dict[int, str]) -> list[str]:
    """What is there now and was not before."""
    leaks = [f"thread {thread.name}" for thread in threading.enumerate() if thread not in threads]
    opened = [(number, to) for number, to in _open_descriptors().items() if descriptors.get(number) != to]
    return leaks + [f"descriptor {number} -> {to}" for number, to in opened]


@pytest.fixture(scope="session", autouse=True)
def _made_once() -> None:
    """A first connection: starts the daemon thread, and lets the main thread wait once."""
    identity = ss.Identity.ephemeral("host/first.example")
    peer = ss.Identity.ephemeral("host/second.example", authority=identity.authority)
    context = ss.SecurityContext(peer)
    with ss.create_server(("127.0.0.1", 0), context=ss.SecurityContext(identity)) as listener:
        client = ss.create_connection(listener.getsockname(), 20, peer="host/first.example", context=context)
        connection, _ = listener.accept()
        # each end waits until the other has closed
        closing = threading.Thread(target=client.close)
        closing.start()
        connection.close()
        closing.join()


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
