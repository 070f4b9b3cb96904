"""Fuzzes every parser with atheris: a parser parses or raises WireError, whatever it is given.

    python -m fuzz.run --seconds 60                 all targets, sixty seconds in all
    python -m fuzz.run --seconds 60 ikev2_message   those named
    python -m fuzz.run --list
    python -m fuzz.run --reproduce ikev2_message build/fuzz/ikev2_message/crash-...

To add a parser, write three lines into a module of fuzz/targets/ (a new module is found by itself):

    @fuzz_target()
    def subject_alt_names(data: bytes) -> None:
        parse_subject_alt_names(data)

The function's name is the target's.  Where other exceptions than WireError are right, say so:
``@fuzz_target(allowed=(WireError, LocalMisuse))``.  More than "it raises nothing else" may be demanded inside, such as
that what was parsed can be written again; any exception not allowed is a crash.

Seeds are hex in fuzz/seeds/<target>.txt with a comment on where each comes from; tests/property puts all of them
through every truncation and bit flip too.  A crash ends with status 1; its input is saved under build/fuzz/<target>/
and printed in hex: once mended, append it to the seeds, where it is tried in every later run.  Inputs that reach new
code are kept in build/fuzz/<target>/found/ for the next run on the same machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from fuzz.registry import Target, load_targets

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "fuzz"

MAX_INPUT = 16384  # the largest frame of a stranger
SLOWEST_INPUT_S = 2  # what parses 16 KiB in two seconds under instrumentation is quadratic
MEMORY_LIMIT_MB = 1024
SHORTEST_RUN_S = 0.5  # some ten thousand inputs
GRACE_S = 60  # for a target to end after its time


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when no target crashed."""
    options = _read_options(arguments)
    targets = load_targets(options.module)
    if unknown := [name for name in options.targets if name not in targets]:
        sys.exit(f"no fuzz target is called {', '.join(unknown)}; --list shows them")
    chosen = [targets[name] for name in options.targets] or [targets[name] for name in sorted(targets)]
    if options.list:
        print("\n".join(f"{target.name}  ({len(target.seeds())} seeds)" for target in chosen))
        return 0
    if options.reproduce:
        print("parsed" if chosen[0].run(options.reproduce.read_bytes()) else "refused, as it may be")
        return 0
    with Fuzzer(options.module) as fuzzer:
        failed = [target.name for target in chosen if not fuzzer.fuzz(target, options.seconds / len(chosen))]
    print(f"fuzz: {len(chosen)} targets, {len(failed)} crashed{': ' if failed else ''}{', '.join(failed)}")
    return 1 if failed else 0


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description="Fuzz every parser of securesock.")
    parser.add_argument("targets", nargs="*", help="names of targets; all without")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="for all targets together; at least half a second each"
    )
    parser.add_argument("--list", action="store_true", help="list targets and end")
    parser.add_argument("--reproduce", type=Path, metavar="FILE", help="run one target on one saved input")
    parser.add_argument("--module", default="", help="the module with the targets, instead of fuzz/targets/")
    options = parser.parse_args(arguments)
    if options.reproduce and len(options.targets) != 1:
        parser.error("--reproduce takes exactly one target")
    return options


class Fuzzer:
    """A process of fuzz.child for the targets of ``module``, which fuzzes one after the other."""

    def __init__(self, module: str = "") -> None:
        WORK.mkdir(parents=True, exist_ok=True)
        self._log = WORK / "instrumenting.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fuzz.child", module],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # which closes its standard input, and so ends it
            pass

    def fuzz(self, target: Target, seconds: float) -> bool:
        """Fuzz one target in a process of its own; True when nothing crashed."""
        folder = WORK / target.name
        found, seeds = folder / "found", folder / "seeds"
        for each in (found, seeds):
            each.mkdir(parents=True, exist_ok=True)
        for old in (*seeds.iterdir(), *(path for path in folder.iterdir() if path.is_file())):
            old.unlink()
        for number, seed in enumerate(target.seeds()):
            (seeds / f"{number:03}").write_bytes(seed)
        seconds = max(seconds, SHORTEST_RUN_S)
        flags = [
            f"-max_total_time={round(seconds) + 2}",
            f"-max_len={MAX_INPUT}",
            f"-timeout={SLOWEST_INPUT_S}",
            f"-rss_limit_mb={MEMORY_LIMIT_MB}",
            f"-artifact_prefix={folder}{os.sep}",
            str(found),
            str(seeds),
        ]
        started = time.monotonic()
        status = self._ask(
            target=target.name, log=str(folder / "log.txt"), seconds=seconds, limit=seconds + GRACE_S, flags=flags
        )
        took_s = time.monotonic() - started
        if status == 0:
            print(f"fuzz: {target.name}: {took_s:.1f} s, nothing found", flush=True)
            return True
        print(f"fuzz: {target.name}: ended with status {status}", flush=True)
        _print_failure(target, folder)
        return False

    def _ask(self, **what: object) -> int:
        """The status of the target's process; OSError when there is nobody who could fork it."""
        to_child, from_child = self._process.stdin, self._process.stdout
        if to_child is None or from_child is None:
            raise OSError("the fuzzing process has no pipes")
        answer = ""
        with contextlib.suppress(BrokenPipeError):
            to_child.write(json.dumps(what) + "\n")
            to_child.flush()
            answer = from_child.readline()
        if not answer:
            raise OSError(f"the fuzzing process ended:\n{self._log.read_text(errors='replace')[-4000:]}")
        return int(answer)


def _print_failure(target: Target, folder: Path) -> None:
    log = (folder / "log.txt").read_text(errors="replace").splitlines()
    print("\n".join(log[-40:]))
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != "log.txt":
            print(f"input of {target.name}, saved as {path.relative_to(ROOT)}:\n{path.read_bytes().hex()}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
