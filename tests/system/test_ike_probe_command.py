"""securesock ike-probe against a datagram socket of ours, and against nobody."""

from __future__ import annotations

import json
import socket
import subprocess

import pytest

import securesock as ss
from tests.support.warm_python import warm_python

PROGRAM = "import sys; from securesock.cli import main; sys.exit(main())"


@pytest.fixture(scope="module", autouse=True)
def _started_once() -> None:
    warm_python()


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*warm_python(), PROGRAM, "ike-probe", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_datagram_socket_of_ours_tells_what_it_agrees_to() -> None:
    context = ss.SecurityContext(ss.Identity.ephemeral("host/b.example"), key_exchange="classical")
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=context) as sock:
        sock.bind(("127.0.0.1", 0))
        port = str(sock.getsockname()[1])
        done = probe("127.0.0.1", "--port", port, "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        found = {each["name"]: each for each in said["findings"]}
        assert (said["schema"], said["answers"], said["port"]) == (1, True, int(port))
        assert found["X25519"]["verdict"] == "accepted"
        assert found["hybrid with ML-KEM-768"]["verdict"] == "refused"
        assert found["all that we know"]["authorities"] == 1
        for_people = probe("127.0.0.1", "--port", port)
        assert "it chooses AES-256-GCM-16" in for_people.stdout
        # what was asked left nothing that an application could see
        sock.setblocking(False)
        try:
            sock.recvfrom(100)
        except BlockingIOError:
            return
        raise AssertionError("a question was delivered as data")


def test_where_nobody_answers_it_says_so_with_status_1() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        done = probe("127.0.0.1", "--port", str(silent.getsockname()[1]), "--wait", "0.3")
    assert done.returncode == 1
    assert "nothing answers IKEv2" in done.stdout


def test_a_port_without_anybody_is_noticed_at_once() -> None:
    done = probe("127.0.0.1", "--port", "1", "--json", "--wait", "30")
    assert done.returncode == 1
    assert json.loads(done.stdout)["answers"] is False
