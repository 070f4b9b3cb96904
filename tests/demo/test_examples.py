"""Every example runs as its first lines say."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools import leftovers

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SECURESOCK = [sys.executable, "-W", "error", "-c", "import sys; from securesock.cli import main; sys.exit(main())"]


def environment(**added: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error"} | added


def run_example(name: str, *arguments: str, text: str = "", **added: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        input=text,
        env=environment(**added),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_example_is_in_the_list_and_is_run_here() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    tested = Path(__file__).read_text()

    for path in EXAMPLES.glob("*.py"):
        assert f"({path.name})" in listed
        assert f'"{path.name}"' in tested


@pytest.mark.parametrize(
    ("name", "answer"), [("both_ends.py", "HELLO"), ("asyncio_echo.py", "hello"), ("datagrams.py", "HELLO")]
)
def test_both_ends_in_one_program(name: str, answer: str) -> None:
    done = run_example(name)

    assert done.returncode == 0, done.stderr
    server, client = done.stdout.splitlines()
    assert server == "the server sees host/app.example"
    assert client.startswith("the client sees host/db.example under ")
    assert client.endswith(f" and reads {answer}")
    assert done.stderr == ""


def test_a_shared_secret_and_another() -> None:
    done = run_example("shared_secret.py")

    assert done.returncode == 0, done.stderr
    refused, greeted = done.stdout.splitlines()
    assert refused.startswith("with another key: ")
    assert greeted == "with the key: hello host/b.example"


def test_a_user_and_one_who_guesses() -> None:
    done = run_example("users.py")

    assert done.returncode == 0, done.stderr
    refused, *greeted = done.stdout.splitlines()
    assert refused.startswith("refused: the responder did not accept the user alice@example.org")
    assert sorted(greeted) == ["the client reads HELLO", "the server sees alice@example.org"]


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Configurations of two machines, made with the commands that examples/README.md gives; no example changes them."""
    folder = tmp_path_factory.mktemp("identities")
    configured = environment(SECURESOCK_CONFIG=str(folder / "server"))
    for arguments in (["init", "server.example"], ["issue", "client.example", "--out", str(folder / "client")]):
        done = subprocess.run(
            [*SECURESOCK, "identity", *arguments],
            env=configured,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return {name: str(folder / name) for name in ("server", "client")}


@pytest.fixture(scope="module", params=["echo_server.py", "aio_echo_server.py"])
def server_port(identities: dict[str, str], request: pytest.FixtureRequest) -> Iterator[str]:
    """An echo server under the first machine's identity, which serves one client after another."""
    command = [sys.executable, str(EXAMPLES / request.param), "0"]
    started = subprocess.Popen(
        command, env=environment(SECURESOCK_CONFIG=identities["server"]), stdout=subprocess.PIPE, text=True
    )
    with leftovers.process(started) as process:
        if process.stdout is None:
            raise AssertionError("the server was started without a pipe")
        yield process.stdout.readline().split()[-1]


@pytest.mark.parametrize("client", ["echo_client.py", "aio_echo_client.py"])
def test_two_machines_with_configured_identities(identities: dict[str, str], server_port: str, client: str) -> None:
    arguments = ["127.0.0.1", server_port, "server.example"]
    done = run_example(client, *arguments, text="one\ntwo\n", SECURESOCK_CONFIG=identities["client"])

    assert done.returncode == 0, done.stderr
    assert done.stdout == "one\ntwo\n"


@pytest.fixture
def winsock_server(identities: dict[str, str]) -> Iterator[Callable[..., tuple[str, subprocess.Popen[str]]]]:
    """Starts the server of winsock_secure_echo.py; its port and the process."""
    with contextlib.ExitStack() as running:

        def start(*options: str) -> tuple[str, subprocess.Popen[str]]:
            command = [sys.executable, str(EXAMPLES / "winsock_secure_echo.py"), "server", "-port", "0", *options]
            added = environment(SECURESOCK_CONFIG=identities["server"], SECURE_ECHO_PASSWORD="correct horse")
            process = running.enter_context(
                leftovers.process(subprocess.Popen(command, env=added, stdout=subprocess.PIPE, text=True))
            )
            if process.stdout is None:
                raise AssertionError("the server was started without a pipe")
            return process.stdout.readline().split()[3].strip(","), process

        yield start


@pytest.mark.parametrize("options", [[], ["-v6"], ["-adv"]], ids=["basic", "v6", "adv"])
def test_microsofts_sample_at_both_ends(
    identities: dict[str, str], winsock_server: Callable[..., tuple[str, subprocess.Popen[str]]], options: list[str]
) -> None:
    port, server = winsock_server(*options)
    host = "::1" if "-v6" in options else "127.0.0.1"
    done = run_example(
        "winsock_secure_echo.py",
        *("client", *options, "-port", port, "-name", "server.example", host),
        SECURESOCK_CONFIG=identities["client"],
        SECURE_ECHO_PASSWORD="correct horse",
    )

    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "secured: yes, encrypted: yes"
    assert said[1] == "peer machine: host/server.example"
    assert said[-1] == "received 91011121314"
    assert "the peer proved itself by CERTIFICATE" in said
    if options == ["-adv"]:
        assert "main mode: AES_GCM_128_16ICV, CURVE25519" in said
        assert "quick mode: ESP_AUTH_AND_CIPHER, AES_128" in said
    assert server.stdout is not None
    heard = [server.stdout.readline().rstrip() for _ in range(7)]
    assert heard[0] == "secured: yes, encrypted: yes"
    who = "peer user: alice@example.org" if options == ["-adv"] else "peer machine: host/client.example"
    assert heard[1] == who
    assert f"the peer proved itself by {'EAP' if options == ['-adv'] else 'CERTIFICATE'}" in heard
    assert "received 12345678" in heard


def test_microsofts_sample_with_another_name_is_not_connected(
    identities: dict[str, str], winsock_server: Callable[..., tuple[str, subprocess.Popen[str]]]
) -> None:
    port, _ = winsock_server()
    arguments = ["client", "-port", port, "-name", "other.example", "127.0.0.1"]
    done = run_example("winsock_secure_echo.py", *arguments, SECURESOCK_CONFIG=identities["client"])

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("not connected: ")


def test_microsofts_sample_with_another_password_is_not_connected(
    identities: dict[str, str], winsock_server: Callable[..., tuple[str, subprocess.Popen[str]]]
) -> None:
    port, _ = winsock_server("-adv")
    done = run_example(
        "winsock_secure_echo.py",
        *("client", "-adv", "-port", port, "-name", "server.example", "127.0.0.1"),
        SECURESOCK_CONFIG=identities["client"],
        SECURE_ECHO_PASSWORD="wrong",
    )

    assert done.returncode == 1
    assert done.stderr.startswith("not connected: ")


@pytest.mark.parametrize("client", ["echo_client.py", "aio_echo_client.py"])
def test_a_client_that_expects_another_name_is_told(identities: dict[str, str], server_port: str, client: str) -> None:
    arguments = ["127.0.0.1", server_port, "other.example"]
    done = run_example(client, *arguments, text="one\n", SECURESOCK_CONFIG=identities["client"])

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("not connected: ")
