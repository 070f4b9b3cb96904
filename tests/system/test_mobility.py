"""A host's address goes and another comes, under traffic, in network namespaces: its sockets go on (RFC 4555)."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.warm_python import warm_python
from tools import leftovers

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("ip")]

# The namespace is entered first of all: no thread, socket or address is there yet.
END: Final = """
import sys
from tests.support.recorder import enter
enter(sys.argv[1])
from tests.support.roaming_end import main
main(sys.argv[2])
"""
PATIENCE_S: Final = 30.0


@pytest.fixture(scope="module", autouse=True)
def _started_once() -> None:
    warm_python()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=PATIENCE_S)


class End:
    """A process in a namespace that speaks in lines of JSON."""

    def __init__(self, namespace: str, what: str) -> None:
        self.process = subprocess.Popen(
            [*warm_python(), END, namespace, what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("moved\n")
        self.process.stdin.flush()

    def __enter__(self) -> End:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def cable() -> Iterator[tuple[str, str]]:
    with leftovers.namespace("roamer") as ours, leftovers.namespace("server") as peers:
        ip("link", "add", "end0", "netns", ours, "type", "veth", "peer", "name", "end1", "netns", peers)
        for name, device, host in ((ours, "end0", "10.90.0.1"), (peers, "end1", "10.90.0.2")):
            ip("-n", name, "addr", "add", f"{host}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield ours, peers


@pytest.mark.timeout(90)
@pytest.mark.parametrize("how", ["unconnected", "connected", "asyncio"])
def test_a_client_whose_address_is_removed_goes_on_from_another_one(how: str) -> None:
    with cable() as (ours, peers), End(peers, "server") as server:
        assert server.line() == {"event": "ready"}
        with End(ours, how) as client:
            assert client.line() == {"event": "ready"}
            ip("-n", ours, "addr", "del", "10.90.0.1/24", "dev", "end0")
            ip("-n", ours, "addr", "add", "10.90.0.33/24", "dev", "end0")
            client.tell()
            outcome = client.line()
        assert outcome["found_again"]
        assert outcome["same_sa"]
        assert outcome["peer"] == "host/b.test"
        # the server's application keeps seeing the address of establishment
        assert [each[0] for each in outcome["addresses"]] == ["10.90.0.1"]


@pytest.mark.timeout(90)
def test_a_server_whose_address_is_removed_is_found_at_another_one() -> None:
    with cable() as (ours, peers), End(peers, "server") as server:
        assert server.line() == {"event": "ready"}
        ip("-n", ours, "route", "add", "10.91.0.0/24", "dev", "end0")
        ip("-n", peers, "addr", "add", "10.91.0.2/24", "dev", "end1")
        ip("-n", peers, "route", "replace", "10.90.0.0/24", "dev", "end1", "src", "10.90.0.2")
        with End(ours, "unconnected") as client:
            assert client.line() == {"event": "ready"}
            ip("-n", peers, "addr", "del", "10.90.0.2/24", "dev", "end1")
            ip("-n", peers, "route", "replace", "10.90.0.0/24", "dev", "end1", "src", "10.91.0.2")
            client.tell()
            outcome = client.line()
        assert outcome["found_again"]
        assert outcome["same_sa"]
        assert [each[0] for each in outcome["addresses"]] == ["10.90.0.1"]
