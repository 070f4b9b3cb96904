"""Our end of a conversation: a process of its own in a network namespace, told its script, asked how it went."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

OUR_END: Final = Path(__file__).with_name("our_end.py")


class OurEnd:
    def __init__(self, namespace: str, script: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, str(OUR_END)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(script) + "\n")
        self._process.stdin.flush()
        assert self._line() == {"event": "ready"}

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def wait_for_event(self, name: str) -> None:
        """What it has to say next; its outcome instead is a failure."""
        assert (found := self._line()) == {"event": name}, found

    def outcome(self) -> dict[str, Any]:
        """How it ended, past the events that nobody waited for."""
        while "event" in (found := self._line()):
            continue
        return found

    def __enter__(self) -> OurEnd:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def played(namespace: str, script: dict[str, Any]) -> dict[str, Any]:
    with OurEnd(namespace, script) as ours:
        return ours.outcome()
