"""Programs in a network namespace, none of them root: an application with a secured UDP socket, and plain ones."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
NOBODY: Final = 65534
AS_NOBODY: Final = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all")


MAY_BIND_500: Final = (
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--inh-caps=+net_bind_service",
    "--ambient-caps=+net_bind_service",
)


def _inside(namespace: str, program: str, *arguments: str, prefix: tuple[str, ...] = AS_NOBODY) -> list[str]:
    return ["ip", "netns", "exec", namespace, *prefix, sys.executable, str(HERE / program), *arguments]


def may_nobody_read(*paths: str | Path) -> bool:
    """Whether what is at these paths, and every folder on the way there, is open to user nobody."""
    return all(subprocess.run([*AS_NOBODY, "test", "-r", path], check=False).returncode == 0 for path in paths)


def _why_it_is_gone(program: Path) -> str:
    if may_nobody_read(program, sys.executable):
        return "our end is gone"
    return (
        f"user nobody, who our end runs as, may not read {program} or {sys.executable}: a folder on the way is closed "
        "to others (root's home mostly is); clone to one that is not, or open it with chmod o+x"
    )


class Refused(Exception):
    """What our end raised: the class and the words."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class SecuredUser:
    """An application of ours as user nobody: see our_socket.py."""

    def __init__(self, namespace: str, script: dict[str, Any], prefix: tuple[str, ...] = AS_NOBODY) -> None:
        self.process = subprocess.Popen(
            _inside(namespace, "our_socket.py", prefix=prefix), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._write(script)
        self.take()

    def _write(self, value: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()

    def begin(self, wish: str, *arguments: object) -> None:
        """Have it begin with something; ``take`` is the answer."""
        self._write([wish, *arguments])

    def take(self) -> Any:
        """What it answered; Refused for what it raised."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, _why_it_is_gone(HERE / "our_socket.py")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"], answer["text"])
        return answer["ok"]

    def ask(self, wish: str, *arguments: object) -> Any:
        """Both."""
        self.begin(wish, *arguments)
        return self.take()


@contextlib.contextmanager
def secured_user(namespace: str, script: dict[str, Any], prefix: tuple[str, ...] = AS_NOBODY) -> Iterator[SecuredUser]:
    user = SecuredUser(namespace, script, prefix)
    try:
        yield user
    finally:
        user.process.kill()
        user.process.communicate()


@contextlib.contextmanager
def echo_program(namespace: str, host: str, port: int) -> Iterator[None]:
    """A plain UDP echo; as root, because echo's port is 7."""
    program = subprocess.Popen(
        _inside(namespace, "udp_echo.py", host, str(port), prefix=()), stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        yield
    finally:
        program.kill()
        program.communicate()


def asked_plainly(namespace: str, ours: str, host: str, port: int, sizes: list[int]) -> list[int]:
    """What came back of datagrams that a plain program sent."""
    done = subprocess.run(
        _inside(namespace, "udp_ask.py", ours, host, str(port), *map(str, sizes)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    came: list[int] = json.loads(done.stdout)
    return came
