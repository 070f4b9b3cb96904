"""Kills the writer at random moments, and looks at what it has left behind."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
from contextlib import suppress
from pathlib import Path

from securesock.policy import FilterEngine
from tests.support.policy_store_writer import NAME, filters_of
from tests.support.warm_python import warm_python

WRITER = "from tests.support.policy_store_writer import main; main()"
# A commit takes some milliseconds; the longest wait lets several pass, the shortest none.
LONGEST_LIFE_S = 0.08


def kill_writers(path: Path, kills: int, seed: int) -> list[int]:
    """The generations that stood in the store after each kill; AssertionError for anything but a whole one."""
    chance = random.Random(seed)
    found: list[int] = []
    for number in range(kills):
        acknowledged = _run_and_kill(path, number, chance.random() * LONGEST_LIFE_S)
        last = found[-1] if found else 0
        found.append(_check_store(path, acknowledged or last))
    return found


def _run_and_kill(path: Path, seed: int, life_s: float) -> int:
    """The last generation that the writer said was committed, 0 if none."""
    command = [*warm_python(), WRITER, str(path), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said_first, pid = writer.stdout.readline().split()
        assert said_first == "open", "the writer did not start"
        with suppress(subprocess.TimeoutExpired):
            writer.wait(life_s)
        os.kill(int(pid), signal.SIGKILL)
        # A line that was cut off belongs to a commit that the pipe did not tell of.
        said = [line for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    return int(said[-1]) if said else 0


def _check_store(path: Path, at_least: int) -> int:
    """The one generation that the store holds: the last that was acknowledged, or the one after it, and all of it."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    with FilterEngine.open(path) as engine:
        filters = [each.provider_data for each in engine.filters.enumerate()]
        others = [
            each.provider_data
            for each in (*engine.providers.enumerate(), *engine.sublayers.enumerate())
            if each.name == NAME
        ]
        tags = {*filters, *others}
        if not tags and at_least == 0:
            return 0
        assert len(tags) == 1, f"generations {sorted(tags)} in one store"
        generation = int(tags.pop())
        assert generation in (at_least, at_least + 1)
        assert len(others) == 2
        assert len(filters) == filters_of(generation)
    return generation
