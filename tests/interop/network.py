"""Network namespaces and the cables between them: where our end and a stranger's daemon meet."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Final, NamedTuple

from tools import leftovers

OUR_HOST: Final = "10.90.0.1"
PEER_HOST: Final = "10.90.0.2"
HIDDEN_HOST: Final = "10.89.0.2"
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


@contextlib.contextmanager
def translated_cable(inside: str) -> Iterator[tuple[Namespaces, Translator]]:
    """The same with a translator of addresses between: ``inside`` ("ours" or "peers") is at 10.89.0.2 behind it."""
    with (
        leftovers.namespace("ours") as ours,
        leftovers.namespace("swan") as peers,
        leftovers.namespace("nat") as middle,
    ):
        hidden, other = (ours, peers) if inside == "ours" else (peers, ours)
        outer = PEER_HOST if inside == "ours" else OUR_HOST
        for name, device, host, end in ((hidden, "in0", HIDDEN_HOST, "end0"), (other, "out0", outer, "end1")):
            ip("link", "add", end, "netns", name, "type", "veth", "peer", "name", device, "netns", middle)
            ip("-n", name, "addr", "add", f"{host}/24", "dev", end)
            ip("-n", middle, "addr", "add", f"{host.rpartition('.')[0]}.254/24", "dev", device)
            for where, each in ((name, end), (name, "lo"), (middle, device)):
                ip("-n", where, "link", "set", each, "up")
        ip("-n", hidden, "route", "add", "default", "via", "10.89.0.254")
        translator = Translator(middle)
        translator.masquerade("40000-40999")
        translator.remember_for(1)
        yield Namespaces(ours, peers), translator


class Translator:
    """A masquerading router in a namespace of its own, which can be made to forget what it knew."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def _inside(self, *command: str) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self._namespace, *command],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        return done.stdout

    def masquerade(self, ports: str) -> None:
        """Give what comes from inside one of these ports outside, from now on."""
        self._inside(
            "nft",
            f"""flush ruleset
table ip nat {{
  chain behind {{
    type nat hook postrouting priority srcnat
    oifname "out0" ip protocol udp masquerade to :{ports}
  }}
}}
""",
        )

    def narrow(self, mtu: int) -> None:
        """Let packets of ``mtu`` bytes at most through to the outside, and say so (ICMP) of larger ones."""
        ip("-n", self._namespace, "route", "change", "10.90.0.0/24", "dev", "out0", "mtu", "lock", str(mtu))

    def knows_nothing(self) -> bool:
        """Whether every conversation is forgotten."""
        return "udp" not in self._inside("cat", "/proc/net/nf_conntrack")

    def remember_for(self, seconds: int) -> None:
        """How long a conversation is kept after its last packet."""
        for which in ("udp_timeout", "udp_timeout_stream"):
            self._inside("sh", "-c", f"echo {seconds} > /proc/sys/net/netfilter/nf_conntrack_{which}")
