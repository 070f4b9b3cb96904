"""A datagram machine against whatever may arrive: nothing raises, nothing is delivered, and the peer is served on."""

from __future__ import annotations

import functools

from hypothesis import given, settings
from hypothesis import strategies as st

from securesock.testing import FakeNetwork
from securesock.types import Address
from tests.support.datagram_net import A, B, C, Identities, Net, Route


class Served:
    """A and B with an SA, everything that they have ever sent, and a C that has nothing to do with either."""

    def __init__(self) -> None:
        self.recorded: list[bytes] = []

        def record(to: Route, datagram: bytes) -> list[bytes]:
            self.recorded.append(datagram)
            return [datagram]

        self.net = Net(Identities(), FakeNetwork(tamper=record))
        self.a, self.b = self.net.host(A), self.net.host(B)
        for number in range(3):
            self.a.send(b"%d" % number, B)
            self.b.send(b"%d" % number, A)
            self.net.run(1)
        self.seen = tuple(self.recorded)
        self.count = 0

    def check_service(self) -> None:
        """One more datagram goes through, and it is the only one."""
        self.count += 1
        self.b.arrivals.clear()
        self.a.send(b"service %d" % self.count, B)
        self.net.run(0.1)
        assert self.b.received == [b"service %d" % self.count]
        del self.recorded[:]


@functools.cache
def served() -> Served:
    return Served()


@st.composite
def bad_datagrams(draw: st.DrawFn) -> bytes:
    """Junk, or something real that was repeated, cut, lengthened or changed."""
    seen = served().seen
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


@settings(max_examples=400)
@given(st.lists(st.tuples(bad_datagrams(), st.sampled_from((A, C))), min_size=1, max_size=5))
def test_what_is_not_the_peers_next_datagram_is_dropped_and_the_peer_served_on(
    bad: list[tuple[bytes, Address]],
) -> None:
    host = served()
    host.b.arrivals.clear()
    for datagram, source in bad:
        host.b.receive(datagram, source)
    assert host.b.received == []
    host.check_service()
    assert host.b.machine.report(A).state == "established"


def test_strangers_leave_nothing_behind() -> None:
    host = served()
    host.net.run(30)
    host.check_service()
    assert C not in host.b.machine._peers
    assert len(host.b.table) == 0
