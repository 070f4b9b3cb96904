"""100,000 idle SA pairs in one process: their memory, and what a packet costs among so many."""

from __future__ import annotations

import atexit
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Final

from benchmarks.harness import SHORT_ROUNDS, Bound, Contest, case

PAIRS: Final = 100_000
HOT: Final = 1_000
FEW: Final = 10
ALLOWED_KIB: Final = 3.0


class Holder:
    """A process of benchmarks.many_peers."""

    def __init__(self, pairs: int) -> None:
        command = [sys.executable, "-m", "benchmarks.many_peers", str(pairs)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._line() != "ready":
            raise RuntimeError("the process with many peers is not ready")

    def _line(self) -> str:
        if self._process.stdout is None or not (line := self._process.stdout.readline()):
            raise RuntimeError("the process with many peers ended without a word")
        return line.strip()

    def ask(self, what: str) -> float:
        """One measurement."""
        if self._process.stdin is None:
            raise RuntimeError("the process with many peers has no input")
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """End it; its clients end with their pipe."""
        self._process.kill()
        self._process.communicate()


@cache
def _holder() -> Holder:
    """One for all three cases: it takes minutes to make."""
    holder = Holder(PAIRS)
    atexit.register(holder.close)
    return holder


@case("memory of one of 100,000 idle SA pairs", unit="KiB", better="lower", bound=Bound("ratio", at_most=1.0))
def memory() -> Iterator[Contest]:
    """Resident memory over their number, beside what is allowed."""
    holder = _holder()
    yield Contest(lambda: holder.ask("memory"), {"allowed": lambda: ALLOWED_KIB})


@case(
    "receiving from any of 100,000 SAs",
    unit="us",
    better="lower",
    bound=Bound("ratio", at_most=1.6),
    rounds=SHORT_ROUNDS,
)
def anybody() -> Iterator[Contest]:
    """The whole way of a datagram of 64 bytes, random over all of them, beside ten."""
    holder = _holder()
    yield Contest(lambda: holder.ask(str(PAIRS)), {"any of 10": lambda: holder.ask(str(FEW))})


@case(
    "receiving from 1,000 hot SAs of 100,000",
    unit="us",
    better="lower",
    bound=Bound("ratio", at_most=1.2),
    rounds=SHORT_ROUNDS,
)
def hot() -> Iterator[Contest]:
    """The same over a thousand of them."""
    holder = _holder()
    yield Contest(lambda: holder.ask(str(HOT)), {"any of 10": lambda: holder.ask(str(FEW))})
