"""Network namespaces and the cables between them: where our end and a stranger's daemon meet."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Final, NamedTuple

from tools import leftovers

OUR_HOST: Final = "10.90.0.1"
PEER_HOST: Final = "10.90.0.2"
PATIENCE_S: Final = 20.0


class Namespaces(NamedTuple):
    """Names of the two namespaces."""

    ours: str
    peers: str


@contextlib.contextmanager
def cable() -> Iterator[Namespaces]:
    """Two namespaces, 10.90.0.1 and 10.90.0.2, joined by a veth pair."""
    with leftovers.namespace("ours") as ours, leftovers.namespace("swan") as peers:
        ip("link", "add", "end0", "netns", ours, "type", "veth", "peer", "name", "end1", "netns", peers)
        for name, device, host in ((ours, "end0", OUR_HOST), (peers, "end1", PEER_HOST)):
            ip("-n", name, "addr", "add", f"{host}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield Namespaces(ours, peers)


def ip(*arguments: str) -> None:
    """One command of ip(8)."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=PATIENCE_S)
