"""The rigs of `make bench` between namespaces, run for a moment each: nothing here is a matter of speed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.bulk_contexts import write_identities
from benchmarks.cases.datagrams import way
from benchmarks.cases.strongswan_setups import rig
from benchmarks.tcp_through import transfer
from benchmarks.tunnels import CABLE, Route, Way, paced, strongswan_tunnel, wireguard_tunnel
from tests.interop.network import Namespaces, cable

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_program("ip"),
    pytest.mark.needs_program("swanctl"),
    pytest.mark.needs_program("charon-systemd"),
]


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    with cable() as pair:
        yield pair


def slowly(which: Way) -> None:
    """So few that a queue holds them all, and then at the pace that is kept."""
    delivered, lost = which.once(0.2, 200.0)
    assert lost < 1
    assert delivered > 0
    which.rate = 200.0
    assert paced(which, 0.2) > 0


def tried(namespaces: Namespaces, folder: Path, kind: str, route: Route, how: str) -> None:
    with ExitStack() as stack:
        which = way(stack, namespaces, folder, kind, route, how)
        slowly(which)
        assert which.trips(5) > 0


@pytest.mark.parametrize("kind", ["ours", "plain", "roomy"])
@pytest.mark.parametrize("how", ["batch", "single"])
def test_both_sides_of_the_cable_deliver_what_is_sent(
    namespaces: Namespaces, tmp_path: Path, kind: str, how: str
) -> None:
    write_identities(tmp_path)
    tried(namespaces, tmp_path, kind, CABLE, how)


@pytest.mark.needs_program("wireguard-go")
@pytest.mark.needs_program("wg")
def test_wireguard_carries_the_same_datagrams(namespaces: Namespaces, tmp_path: Path) -> None:
    with wireguard_tunnel(namespaces, tmp_path) as route:
        tried(namespaces, tmp_path, "plain", route, "batch")
        assert transfer(namespaces, route.hosts, 0.2)() > 0


def test_strongswan_carries_as_much_as_it_reads_of_a_packet(namespaces: Namespaces, tmp_path: Path) -> None:
    with strongswan_tunnel(namespaces, tmp_path) as route:
        tried(namespaces, tmp_path, "plain", route, "batch")
        assert transfer(namespaces, route.hosts, 0.2)() > 0


def test_negotiations_with_strongswan_are_timed_on_both_sides() -> None:
    with rig(2) as contest:
        assert contest.ours() > 0
        assert contest.peers["strongSwan"]() > 0
