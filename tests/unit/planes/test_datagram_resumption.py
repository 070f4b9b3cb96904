"""A peer that was out of reach for a while is begun with again by a ticket (RFC 5723), where the context says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from securesock.engine.context import SecurityContext
from securesock.testing import FakeNetwork
from securesock.wire.isakmp import read_header_untrusted
from securesock.wire.numbers import ExchangeType
from tests.support.datagram_net import A, B, C, Host, Identities, Net, Route


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


def resuming(context: SecurityContext) -> SecurityContext:
    return replace(context, resumption=True)


class Seen:
    """The types of the IKE messages on the wire."""

    def __init__(self) -> None:
        self.types: list[int] = []

    def __call__(self, route: Route, datagram: bytes) -> list[bytes]:
        if datagram[:4] == bytes(4):
            self.types.append(read_header_untrusted(datagram[4:]).exchange_type)
        return [datagram]


def lost_and_found(net: Net, a: Host, b: Host, *, silence_s: float = 60) -> Seen:
    """They talk, then nothing passes for a while, then they talk again; what was on the wire since."""
    a.send(b"before", B)
    net.run(2)
    assert b.received == [b"before"]
    net.network.loss = 1.0
    for _ in range(int(silence_s)):
        a.send(b"into the void", B)
        net.run(1)
    assert a.machine.report(B).state != "established"
    net.run(12)
    net.network.loss = 0.0
    seen = Seen()
    net.network.tamper = seen
    a.send(b"after", B)
    net.run(3)
    assert b.received[-1] == b"after"
    net.network.tamper = None
    return seen


def test_a_peer_that_was_out_of_reach_is_resumed_with(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A, adapt=resuming), net.host(B, adapt=resuming)
    seen = lost_and_found(net, a, b)
    assert ExchangeType.IKE_SESSION_RESUME in seen.types
    assert ExchangeType.IKE_SA_INIT not in seen.types
    for host, peer in ((a, B), (b, A)):
        establishment = host.machine.report(peer).establishment
        assert establishment is not None
        assert establishment.resumed is not None
        live = [each for each in host.machine._peers[peer].associations if each.state == "live"]
        assert len(live) == 1
    b.send(b"and back", A)
    net.run(1)
    assert a.received == [b"and back"]
    assert {each.principal for each in b.arrivals} == {b.arrivals[0].principal}


def test_without_the_contexts_leave_nothing_is_resumed(identities: Identities) -> None:
    net = Net(identities)
    seen = lost_and_found(net, net.host(A), net.host(B))
    assert ExchangeType.IKE_SESSION_RESUME not in seen.types
    assert ExchangeType.IKE_SA_INIT in seen.types


def test_a_peer_that_was_started_again_is_begun_with_as_usual(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A, adapt=resuming), net.host(B, adapt=resuming)
    a.send(b"before", B)
    net.run(2)
    net.network.loss = 1.0
    for _ in range(60):
        a.send(b"into the void", B)
        net.run(1)
    net.run(12)
    net.network.loss = 0.0
    b = net.host(B, adapt=resuming, seed="again")
    a.send(b"after", B)
    net.run(3)
    assert b.received == [b"after"]
    assert b.machine.counters["ticket-of-unknown-key"] == 1
    net.run(15)
    assert len(b.table) == 0


@pytest.mark.parametrize("seed", range(8))
def test_on_a_bad_line_it_comes_to_the_same(identities: Identities, seed: int) -> None:
    net = Net(identities, FakeNetwork(latency_s=0.02, jitter_s=0.1, seed=seed))
    a, b = net.host(A, adapt=resuming), net.host(B, adapt=resuming)
    a.send(b"before", B)
    net.run(2)
    net.network.loss = 1.0
    for _ in range(60):
        a.send(b"into the void", B)
        net.run(1)
    net.run(12)
    net.network.loss = 0.3
    a.send(b"after", B)
    net.run(11)
    net.network.loss = 0.0
    a.send(b"last", B)
    net.run(9)
    assert b.received[-1] == b"last"


def test_a_peer_that_was_left_is_not_resumed_with(identities: Identities) -> None:
    """RFC 5723 6.2: a session that was ended is not one that was lost."""
    net = Net(identities)
    a, b = net.host(A, adapt=resuming), net.host(B, adapt=resuming)
    a.send(b"before", B)
    net.run(2)
    a.machine.forget(B, net.clock.now())
    a.flush()
    net.run(1)
    seen = Seen()
    net.network.tamper = seen
    a.send(b"after", B)
    net.run(2)
    assert b.received == [b"before", b"after"]
    assert ExchangeType.IKE_SESSION_RESUME not in seen.types


def test_a_ticket_shown_by_another_host_is_worth_nothing(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A, adapt=resuming), net.host(B, adapt=resuming)
    shown: list[bytes] = []
    seen = lost_and_found(net, a, b)
    assert ExchangeType.IKE_SESSION_RESUME in seen.types

    def keep(route: Route, datagram: bytes) -> list[bytes]:
        header = datagram[4:] if datagram[:4] == bytes(4) else b""
        if header and read_header_untrusted(header).exchange_type == ExchangeType.IKE_SESSION_RESUME:
            shown.append(datagram)
            return []
        return [datagram]

    net.network.loss = 1.0
    for _ in range(60):
        a.send(b"into the void", B)
        net.run(1)
    net.run(12)
    net.network.loss = 0.0
    net.network.tamper = keep
    a.send(b"again", B)
    net.run(5)
    assert shown
    b.receive(shown[0], C)
    net.run(12)
    assert b.machine.report(C).state == "none"
    assert not any(each.address == C for each in b.arrivals)
