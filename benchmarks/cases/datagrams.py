"""Datagrams between two namespaces over one cable: ours beside plain UDP, wireguard-go and strongSwan.

One way: 1400 bytes, application bytes delivered per second at no more than 1 % loss; the same Python program at both
ends of every side.  Echo: 64 bytes there and back, the median.  Root only; benchmarks.tunnels says what is needed.

A trip takes 16 us where the scheduler happens to keep both ends on one core, and 60 where each wakes the other's: an
echo's ends are told which core to run on, the same for every side, so that sides are compared and not placements.
And another pair of processes of the same side may be a tenth faster or slower for as long as it lives, presumably by
where its memory happens to lie: every side has several, which take turns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Final

from benchmarks.bulk_contexts import write_identities
from benchmarks.harness import SHORT_ROUNDS, Bound, Contest, Measure, case
from benchmarks.tcp_through import transfer
from benchmarks.tunnels import CABLE, End, Route, Way, paced, strongswan_tunnel, wireguard_tunnel
from tests.interop.network import Namespaces, cable
from tools import leftovers

SECONDS: Final = 5.0
ROUNDS: Final = 5
TRIPS: Final = 2000
PAIRS: Final = 5
TUNNELS: Final = ("ip", "wireguard-go", "wg", "charon-systemd", "swanctl")
WIREGUARD: Final = "wireguard-go"
STRONGSWAN: Final = "strongSwan kernel-libipsec"
SAME_BUFFER: Final = "plain UDP with our buffer"


def way(
    stack: ExitStack,
    both: Namespaces,
    folder: Path,
    kind: str,
    route: Route,
    how: str,
    cores: tuple[int | None, int | None] = (None, None),
) -> Way:
    """Two ends of ``kind`` at a route's addresses, each on its core where one is said."""
    places = zip(both, route.hosts, cores, strict=True)
    sender, receiver = (stack.enter_context(End(space, folder, kind, host, core)) for space, host, core in places)
    return Way(sender, receiver, how, route.size)


def _paced(which: Way) -> Measure:
    return lambda: paced(which, SECONDS)


def _trips(pairs: Sequence[Way]) -> Measure:
    turns = cycle(pairs)
    return lambda: next(turns).trips(TRIPS)


def _rig(stack: ExitStack) -> tuple[Namespaces, Path]:
    both = stack.enter_context(cable())
    folder = stack.enter_context(leftovers.folder("bench"))
    write_identities(folder)
    return both, folder


@case(
    "datagrams of 1400 bytes one way, in batches",
    unit="MB/s",
    better="higher",
    bound=Bound("ratio", at_least=5.0),
    rounds=ROUNDS,
    each_s=SECONDS,
    needs=TUNNELS,
)
def batches() -> Iterator[Contest]:
    """Both tunnels loaded by the same sender with UDP_SEGMENT on plain UDP; their TCP figure beside that."""
    with ExitStack() as stack:
        both, folder = _rig(stack)
        wireguard = stack.enter_context(wireguard_tunnel(both, folder))
        swan = stack.enter_context(strongswan_tunnel(both, folder))
        ours = way(stack, both, folder, "ours", CABLE, "batch")
        rivals = {WIREGUARD: wireguard, STRONGSWAN: swan}
        peers = {name: _paced(way(stack, both, folder, "plain", each, "batch")) for name, each in rivals.items()}
        peers |= {f"{name}, TCP": transfer(both, each.hosts, SECONDS) for name, each in rivals.items()}
        yield Contest(_paced(ours), peers)


@case(
    "datagrams of 1400 bytes one way, one a call",
    unit="MB/s",
    better="higher",
    bound=Bound("ratio", at_least=0.6, peer_name=SAME_BUFFER),
    rounds=ROUNDS,
    each_s=SECONDS,
    needs=("ip",),
)
def singles() -> Iterator[Contest]:
    """sendto and recvfrom beside those of plain UDP, as Python opens it, and with a receive buffer as large as ours."""
    with ExitStack() as stack:
        both, folder = _rig(stack)
        ours = way(stack, both, folder, "ours", CABLE, "single")
        peers = {"plain UDP": "plain", SAME_BUFFER: "roomy"}
        others = {name: way(stack, both, folder, kind, CABLE, "single") for name, kind in peers.items()}
        yield Contest(_paced(ours), {name: _paced(each) for name, each in others.items()})


@case(
    "64-byte echo of datagrams, p50",
    unit="us",
    better="lower",
    bound=Bound("ratio", at_most=1.6),
    rounds=SHORT_ROUNDS,
    needs=TUNNELS,
)
def echo() -> Iterator[Contest]:
    """Beside plain UDP, and plain UDP through both tunnels; each end on a core of its own, as two hosts are."""
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        both, folder = _rig(stack)
        wireguard = stack.enter_context(wireguard_tunnel(both, folder))
        swan = stack.enter_context(strongswan_tunnel(both, folder))
        yield _echoes(stack, both, folder, {WIREGUARD: wireguard, STRONGSWAN: swan}, (cores[0], cores[-1]))


@case(
    "64-byte echo of datagrams, both ends on one core, p50",
    unit="us",
    better="lower",
    rounds=SHORT_ROUNDS,
    needs=("ip",),
)
def echo_on_one_core() -> Iterator[Contest]:
    """Nothing is awaited there but the work of both ends."""
    core = min(os.sched_getaffinity(0))
    with ExitStack() as stack:
        both, folder = _rig(stack)
        yield _echoes(stack, both, folder, {}, (core, core))


def _echoes(
    stack: ExitStack, both: Namespaces, folder: Path, tunnels: dict[str, Route], cores: tuple[int, int]
) -> Contest:
    def trips(kind: str, route: Route) -> Measure:
        return _trips([way(stack, both, folder, kind, route, "single", cores) for _ in range(PAIRS)])

    others = {"plain UDP": CABLE, **tunnels}
    return Contest(trips("ours", CABLE), {name: trips("plain", each) for name, each in others.items()})
