"""A datagram machine against whatever may arrive: nothing raises, nothing is delivered, and the peer is served on."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securesock.engine.peer_entry import PeerEntry
from securesock.testing import FakeNetwork
from securesock.types import Address
from tests.support.datagram_net import NAMES, A, Adapt, B, C, Identities, Net, Route

GATEWAY: Address = (B[0], 4500)
SERVICE: Address = ("10.92.0.1", 7)
INNER: Address = ("10.91.0.1", A[1])


def through(*entries: PeerEntry) -> Adapt:
    return lambda context: replace(context, peers=entries)


class Served:
    """A and B with an SA, everything that they have ever sent, and a C that has nothing to do with either.

    ``kind``: "own" between two of our kind, "tunnel" as two standard hosts with fragments inside.
    """

    def __init__(self, kind: str) -> None:
        self.recorded: list[bytes] = []

        def record(to: Route, datagram: bytes) -> list[bytes]:
            self.recorded.append(datagram)
            return [datagram]

        self.net = Net(Identities(), FakeNetwork(tamper=record))
        if kind == "own":
            self.to, self.back = B, A
            self.a, self.b = self.net.host(A), self.net.host(B)
        else:
            self.to, self.back = SERVICE, INNER
            here = PeerEntry("10.92.0.0/24", gateway=B[0], inner=INNER[0], peer=NAMES[B])
            there = PeerEntry("10.91.0.0/24", gateway=A[0], inner=SERVICE[0], inner_port=SERVICE[1], peer=NAMES[A])
            identity = self.net.identities.by_address[B]
            self.a = self.net.host(A, adapt=through(here))
            self.b = self.net.host(GATEWAY, identity=identity, adapt=through(there))
        for number in range(3):
            self.a.send(b"%d" % number, self.to)
            self.net.run(1)
            self.b.send(b"%d" % number * (1 if kind == "own" else 3000), self.back)
            self.net.run(1)
        self.seen = tuple(self.recorded)
        self.count = 0

    def check_service(self) -> None:
        """One more datagram goes through, and it is the only one."""
        self.count += 1
        self.b.arrivals.clear()
        self.a.send(b"service %d" % self.count, self.to)
        self.net.run(0.1)
        assert self.b.received == [b"service %d" % self.count]
        del self.recorded[:]


@functools.cache
def served(kind: str) -> Served:
    return Served(kind)


@st.composite
def bad_datagrams(draw: st.DrawFn, kind: str) -> bytes:
    """Junk, or something real that was repeated, cut, lengthened or changed."""
    seen = served(kind).seen
    original = draw(st.sampled_from(seen))
    match draw(st.sampled_from(("junk", "repeat", "cut", "longer", "flip", "marker"))):
        case "junk":
            return draw(st.binary(max_size=200))
        case "cut":
            return original[: draw(st.integers(0, len(original) - 1))]
        case "longer":
            return original + draw(st.binary(min_size=1, max_size=40))
        case "flip":
            changed = bytearray(original)
            changed[draw(st.integers(0, len(original) - 1))] ^= 1 << draw(st.integers(0, 7))
            return bytes(changed)
        case "marker":
            return bytes(4) + draw(st.binary(max_size=200))
    return original


@pytest.mark.parametrize("kind", ["own", "tunnel"])
@settings(max_examples=300)
@given(data=st.data())
def test_what_is_not_the_peers_next_datagram_is_dropped_and_the_peer_served_on(kind: str, data: st.DataObject) -> None:
    bad = data.draw(st.lists(st.tuples(bad_datagrams(kind), st.sampled_from((A, C))), min_size=1, max_size=5))
    host = served(kind)
    host.b.arrivals.clear()
    for datagram, source in bad:
        host.b.receive(datagram, source)
    assert host.b.received == []
    host.check_service()
    assert host.b.machine.report(host.back).state == "established"


@pytest.mark.parametrize("kind", ["own", "tunnel"])
def test_strangers_leave_nothing_behind(kind: str) -> None:
    host = served(kind)
    host.net.run(30)
    host.check_service()
    assert C not in host.b.machine._peers
    assert len(host.b.table) == 0
