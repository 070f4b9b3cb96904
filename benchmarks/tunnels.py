"""Where datagrams are compared: two namespaces and a cable of MTU 1500, and two rivals' tunnels over it.

Root only; needs iproute2, and the packages wireguard-go and wireguard-tools, charon-systemd, strongswan-swanctl and
libcharon-extra-plugins.  1400 bytes of an application fit into one packet of the cable: ours is then 1472 bytes long,
and WireGuard's 1488, whose tunnel gets an MTU of 1440 for that.  charon's user-space ESP reads no more than 1400 bytes
of an inner packet, whatever the MTU of its device, and drops the others: it is loaded with the 1372 bytes that fit, and
would have to cut 1400 in two.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.interop import strongswan
from tests.interop.network import OUR_HOST, PEER_HOST, Namespaces, ip
from tools import leftovers

SIZE: Final = 1400
STRONGSWAN_SIZE: Final = 1372
WIREGUARD_MTU: Final = 1440
PATIENCE_S: Final = 20.0
SECRET: Final = "a secret of more than sixteen bytes"
SECRETS: Final = f'  ike-1 {{\n    id-1 = a.test\n    id-2 = b.test\n    secret = "{SECRET}"\n  }}'
_CONNECTION: Final = """  version = 2
  local_addrs = {local}
  remote_addrs = {remote}
  {ports}
  proposals = aes256gcm16-prfsha256-x25519
  mobike = no
  local {{
    auth = psk
    id = {local_id}
  }}
  remote {{
    auth = psk
    id = {remote_id}
  }}
  children {{
    net {{
      local_ts = {local_ts}
      remote_ts = {remote_ts}
      mode = tunnel
      esp_proposals = aes256gcm16
    }}
  }}"""


def connection(end: int, *, remote_ts: str = "", ports: str = "") -> str:
    """charon's connection of end 1 or 2 with the other."""
    other = 3 - end
    return _CONNECTION.format(
        local=f"10.90.0.{end}",
        remote=f"10.90.0.{other}",
        ports=ports,
        local_id="ab"[end - 1] + ".test",
        remote_id="ab"[other - 1] + ".test",
        local_ts=f"10.9{end}.0.1/32",
        remote_ts=remote_ts or f"10.9{other}.0.1/32",
    )


class Route(NamedTuple):
    """The addresses of both ends, and how many bytes of an application are sent in a datagram."""

    hosts: tuple[str, str]
    size: int


CABLE: Final = Route((OUR_HOST, PEER_HOST), SIZE)


@contextlib.contextmanager
def strongswan_tunnel(both: Namespaces, folder: Path) -> Iterator[Route]:
    """charon with kernel-libipsec at both ends."""
    with contextlib.ExitStack() as stack:
        ends = []
        for end, namespace in enumerate(both, 1):
            ip("-n", namespace, "addr", "add", f"10.9{end}.0.1/32", "dev", "lo")
            own = folder / f"charon{end}"
            own.mkdir()
            options = "plugins {\n kernel-libipsec {\n allow_peer_ts = yes\n }\n }"
            ends.append(
                stack.enter_context(strongswan.charon(namespace, own, connection(end), SECRETS, options=options))
            )
        ends[0].initiate()
        ends[0].wait_for("CHILD_SA net{")
        yield Route(("10.91.0.1", "10.92.0.1"), STRONGSWAN_SIZE)


@contextlib.contextmanager
def wireguard_tunnel(both: Namespaces, folder: Path) -> Iterator[Route]:
    """wireguard-go at both ends."""
    hosts = "10.93.0.1", "10.93.0.2"
    keys = [_output("wg", "genkey") for _ in hosts]
    public = [_output("wg", "pubkey", given=key) for key in keys]
    with contextlib.ExitStack() as stack:
        for number, namespace in enumerate(both):
            device = f"bench{leftovers.random_name('')[-6:]}"
            inside = ["ip", "netns", "exec", namespace]
            child = subprocess.Popen(
                [*inside, "wireguard-go", "--foreground", device],
                env={**os.environ, "LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.enter_context(leftovers.process(child))
            strongswan.wait_until(Path(f"/var/run/wireguard/{device}.sock").exists, "wireguard-go did not start")
            key = folder / f"wireguard{number}.key"
            key.write_text(keys[number])
            command = ["wg", "set", device, "listen-port", "51820", "private-key", str(key)]
            other = 1 - number
            peer = [
                "peer",
                public[other],
                "allowed-ips",
                f"{hosts[other]}/32",
                "endpoint",
                f"10.90.0.{other + 1}:51820",
            ]
            subprocess.run([*inside, *command, *peer], check=True, timeout=PATIENCE_S)
            ip("-n", namespace, "addr", "add", f"{hosts[number]}/24", "dev", device)
            ip("-n", namespace, "link", "set", device, "mtu", str(WIREGUARD_MTU), "up")
        yield Route(hosts, SIZE)


def _output(*command: str, given: str = "") -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, input=given, timeout=PATIENCE_S)
    return done.stdout.strip()


class End:
    """A process of benchmarks.datagram_ends in a namespace; a context manager.  ``core``: the only one it runs on."""

    def __init__(self, namespace: str, folder: Path, kind: str, host: str, core: int | None = None) -> None:
        command = [sys.executable, "-m", "benchmarks.datagram_ends", str(folder), kind, host, "0"]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if core is not None:
            os.sched_setaffinity(self._process.pid, {core})
        self._recorded = leftovers.process(self._process)
        self._host = host

    def __enter__(self) -> End:
        self._recorded.__enter__()
        self.address = [self._host, self.take()["port"]]
        return self

    def __exit__(self, *how: Any) -> None:
        self._process.kill()
        self._recorded.__exit__(*how)

    def begin(self, **wish: Any) -> None:
        """Ask for something, and do not wait for it."""
        if self._process.stdin is None:
            raise RuntimeError("the end has no input")
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()

    def take(self) -> dict[str, Any]:
        """The answer to what was asked first."""
        if self._process.stdout is None or not (line := self._process.stdout.readline()):
            raise RuntimeError("an end of the comparison ended without a word")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Way:
    """Two ends of one kind, and the datagrams that go from the first to the second."""

    def __init__(self, sender: End, receiver: End, how: str, size: int = SIZE) -> None:
        self.size = size
        self._sender = sender
        self._receiver = receiver
        self._how = how
        self.rate = 0.0  # datagrams a second; 0: as fast as it goes

    def once(self, seconds: float, rate: float) -> tuple[float, float]:
        """Bytes delivered a second, and the share that was lost."""
        self._receiver.begin(receive=self._how, seconds=seconds)
        to = self._receiver.address
        self._sender.begin(send=self._how, to=to, size=self.size, seconds=seconds, rate=rate)
        sent, came = self._sender.take()["datagrams"], self._receiver.take()
        return came["bytes"] / seconds, 1 - came["datagrams"] / sent

    def trips(self, count: int) -> float:
        """The median of so many trips of 64 bytes, in microseconds."""
        self._receiver.begin(echo=count)
        self._sender.begin(trips=count, to=self._receiver.address)
        p50: float = self._sender.take()["p50_us"]
        self._receiver.take()
        return p50


LOST_AT_MOST: Final = 0.01
PROBE_S: Final = 1.0
CLOSE: Final = 1.05
"""How near the pace comes to the one at which more is lost, and how much faster the next round is that lost next to
nothing."""


def paced(way: Way, seconds: float) -> float:
    """MB/s delivered at no more than LOST_AT_MOST: the pace is sought once, and follows what the rounds lose."""
    if not way.rate:
        delivered, lost = way.once(PROBE_S, 0.0)
        if lost <= LOST_AT_MOST:
            way.rate = -1.0  # the sender is what takes its time
        else:
            kept, broken = delivered / way.size / 4, delivered / way.size * 1.2
            while broken > kept * CLOSE:
                middle = (kept + broken) / 2
                if way.once(PROBE_S, middle)[1] <= LOST_AT_MOST:
                    kept = middle
                else:
                    broken = middle
            way.rate = kept
    while True:
        delivered, lost = way.once(seconds, max(way.rate, 0.0))
        if lost <= LOST_AT_MOST:
            if lost < LOST_AT_MOST / 4 and way.rate > 0:
                way.rate *= CLOSE  # it may have been sought at a bad moment
            return delivered / 1e6
        way.rate = (delivered / way.size if way.rate < 0 else way.rate) * 0.95
