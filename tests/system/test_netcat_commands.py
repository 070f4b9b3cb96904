"""securesock listen and connect, with identities that securesock identity made: what a shell user gets."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.loopback import until
from tests.support.warm_python import warm_python

PROGRAM = "import sys; from securesock.cli import main; sys.exit(main())"


def command() -> list[str]:
    return [*warm_python(), PROGRAM]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One machine that made an authority, and one that it issued an identity for."""
    folder = tmp_path_factory.mktemp("identities")
    run(folder / "server", "identity", "init", "host/server.example", "127.0.0.1")
    run(folder / "server", "identity", "issue", "host/client.example", "--out", str(folder / "client"))
    return {"server": folder / "server", "client": folder / "client"}


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "SECURESOCK_CONFIG": str(folder), "PYTHONUNBUFFERED": "1"}


def run(folder: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(), *arguments],
        input=text,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


class Started:
    """A command that goes on while the test does."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*command(), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(folder),
            text=True,
        )

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def say_no_more(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def finish(self, text: str = "") -> tuple[str, str]:
        out, err = self.process.communicate(text, timeout=40)
        return out, err

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Listening(Started):
    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__(folder, "listen", "127.0.0.1:0", *arguments)
        assert self.process.stderr is not None
        said = self.process.stderr.readline().split()
        assert said[:2] == ["listening", "on"], said + self.process.stderr.readlines()
        self.address = f"{said[2]}:{said[3]}"


@pytest.fixture
def listen(folders: dict[str, Path]) -> Iterator[Any]:
    started: list[Listening] = []

    def start(*arguments: str) -> Listening:
        started.append(Listening(folders["server"], *arguments))
        return started[-1]

    yield start
    for each in started:
        each.end()


def test_what_is_typed_on_one_side_is_printed_on_the_other(folders: dict[str, Path], listen: Any) -> None:
    server = listen("--once")
    server.say("hello from the server\n")
    server.say_no_more()
    done = run(folders["client"], "connect", server.address, text="hello from the client\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "hello from the server\n"
    assert "connected with 127.0.0.1" in done.stderr
    out, err = server.finish()
    assert out == "hello from the client\n"
    assert "connected with host/client.example" in err
    assert server.process.returncode == 0


def test_a_program_answers_each_connection(folders: dict[str, Path], listen: Any) -> None:
    server = listen("--exec", f"{sys.executable} -c 'import sys; print(sys.stdin.read().upper(), end=\"\")'")
    for text in ("one\n", "two\n"):
        done = run(folders["client"], "connect", server.address, "--peer", "host/server.example", text=text)
        assert done.returncode == 0, done.stderr
        assert done.stdout == text.upper()


def test_json_says_who_and_what_in_one_object(folders: dict[str, Path], listen: Any) -> None:
    server = listen("--once", "--json", "--guarantee-encryption")
    server.say_no_more()
    done = run(folders["client"], "connect", server.address, "--json", text="\x00\x01 bytes")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["schema"] == 1
    assert said["security"]["encrypted"] is True
    assert said["security"]["peer_machine"]["name"] == "127.0.0.1"
    assert (said["sent"], said["received"]) == (8, 0)
    heard = json.loads(server.finish()[0])
    assert base64.b64decode(heard["data"]) == b"\x00\x01 bytes"
    assert heard["security"]["asked"]["guarantee_encryption"] is True


def test_another_peer_than_named_is_refused_with_status_1(folders: dict[str, Path], listen: Any) -> None:
    server = listen()
    done = run(folders["client"], "connect", server.address, "--peer", "host/other.example", "--json", text="secret")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["kind"] == "AuthenticationFailed"


def test_who_is_not_admitted_is_refused(folders: dict[str, Path], listen: Any) -> None:
    server = listen("--peer", "host/*.elsewhere.example")
    done = run(folders["client"], "connect", server.address, "--peer", "host/server.example", text="secret")
    assert done.returncode == 1
    assert "refused" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("connect", "no-port"),
        ("connect", "host:notanumber"),
        ("connect", "127.0.0.1:1", "--guarantee-encryption", "--allow-insecure"),
        ("listen", "0", "--json"),
        ("listen", "0", "--udp", "--peer", "host/client.example"),
        ("connect",),
        ("connect", "a..b:7"),
        ("connect", "a..b:7", "--udp"),
        ("ike-probe", "a..b"),
    ],
)
def test_wrong_use_has_status_2_and_says_what_was_wrong(folders: dict[str, Path], arguments: tuple[str, ...]) -> None:
    done = run(folders["client"], *arguments)
    assert done.returncode == 2
    assert (done.stdout + done.stderr).strip()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("connect", "127.0.0.1:1"), "127.0.0.1:1: connection refused"),
        (("connect", "nobody.invalid:7"), "nobody.invalid:7: "),
        (("connect", "nobody.invalid:7", "--udp"), "nobody.invalid port 7: "),
        (("ike-probe", "nobody.invalid"), "nobody.invalid port 4500: "),
    ],
)
def test_nobody_there_is_status_1_and_says_whom_it_is_about(
    folders: dict[str, Path], arguments: tuple[str, ...], said: str
) -> None:
    done = run(folders["client"], *arguments)
    assert done.returncode == 1
    assert said in done.stderr.lower()
    done = run(folders["client"], *arguments, "--json")
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert said in error["message"].lower()
    assert error["kind"] in ("ConnectionRefusedError", "gaierror")


def test_datagrams_go_both_ways_until_both_are_silent(folders: dict[str, Path], listen: Any) -> None:
    server = listen("--udp", "--once", "--wait", "0.5")
    server.say("hello from the server\n")
    server.say_no_more()
    done = run(folders["client"], "connect", server.address, "--udp", text="hello from the client\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "hello from the server\n"
    assert "connected with 127.0.0.1" in done.stderr
    out, err = server.finish()
    assert out == "hello from the client\n"
    assert "connected with host/client.example" in err
    assert server.process.returncode == 0


def test_a_program_answers_each_datagram_of_any_peer(folders: dict[str, Path], listen: Any, tmp_path: Path) -> None:
    answered = tmp_path / "answered"
    answer = "import sys; text = sys.stdin.read(); print(text.upper(), end=str(), flush=True)"
    server = listen("--udp", "--exec", f'{sys.executable} -c \'{answer}; open("{answered}" + text, "x")\'')
    asking = [
        Started(folders["client"], "connect", server.address, "--udp", "--wait", "1.5", "--json") for _ in range(2)
    ]
    try:
        for each, text in zip(asking, ("one", "two"), strict=True):
            each.say(text)
        # how long a program takes to start is not waited for: silence counts from the end of the input
        until(lambda: all(Path(f"{answered}{text}").exists() for text in ("one", "two")))
        for each in asking:
            each.say_no_more()
        for each, text in zip(asking, ("one", "two"), strict=True):
            out, err = each.finish()
            assert each.process.returncode == 0, err
            said = json.loads(out)
            assert base64.b64decode(said["data"]).decode() == text.upper()
            assert said["security"]["peer_machine"]["name"] == "127.0.0.1"
    finally:
        for each in asking:
            each.end()


def test_datagrams_to_another_peer_than_named_are_refused(folders: dict[str, Path], listen: Any) -> None:
    server = listen("--udp")
    done = run(folders["client"], "connect", server.address, "--udp", "--peer", "host/other.example", text="secret")
    assert done.returncode == 1
    assert "host/other.example" in done.stderr
    server.process.terminate()
    assert "secret" not in server.finish()[0]
