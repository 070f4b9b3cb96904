"""Two UDP sockets that move, are cut off, started again, rekeyed and proven anew in any order: they find each other."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securesock.engine.context import SecurityContext
from securesock.testing import FakeNetwork
from securesock.types import Address
from tests.support.datagram_net import A, B, Host, Identities, Net, Route

HAPPENINGS = (
    "a sends",
    "b sends",
    "a moves",
    "b moves",
    "a is started again",
    "both rekey",
    "the line is cut",
    "the line is bad",
    "the line is good",
    "a minute passes",
)


@cache
def identities() -> Identities:
    return Identities()


def say(host: Host, data: bytes, to: Address) -> None:
    """A datagram, unless enough of them wait already."""
    if host.machine.queued < 60:
        host.send(data, to)


def rekey(host: Host, to: Address) -> None:
    peer = host.machine._peers.get(to)
    association = None if peer is None else peer.active
    if association is not None:
        now = host.net.clock.now()
        association.session.rekey_ike(now)
        association.session.rekey_child(now)
        host.machine._drive(association, association.peer.carrier, now)
        host.flush()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1000),
    resumption=st.booleans(),
    proof_s=st.sampled_from((None, 70.0)),
    happenings=st.lists(
        st.tuples(st.sampled_from(HAPPENINGS), st.sampled_from((0.0, 0.05, 0.5, 2.0, 15.0))), min_size=1, max_size=20
    ),
)
def test_in_the_end_each_hears_the_other_and_nothing_came_twice(
    seed: int, resumption: bool, proof_s: float | None, happenings: list[tuple[str, float]]
) -> None:
    def adapt(context: SecurityContext) -> SecurityContext:
        main_mode = replace(context.main_mode, reauthentication_s=proof_s)
        return replace(context, main_mode=main_mode, resumption=resumption)

    network: FakeNetwork[Route] = FakeNetwork(latency_s=0.02, jitter_s=0.1, duplication=0.2, seed=seed)
    net = Net(identities(), network)
    a, b = net.host(A, adapt=adapt), net.host(B, adapt=adapt)
    for number, (what, pause_s) in enumerate(happenings):
        match what:
            case "a sends":
                say(a, b"a%d" % number, B)
            case "b sends":
                say(b, b"b%d" % number, A)
            case "a moves":
                a.move((f"198.51.100.{number + 1}", A[1]))
            case "b moves":
                b.move((f"203.0.113.{number + 1}", B[1]))
            case "a is started again":
                del net.hosts[a.address]
                a = net.host(A, adapt=adapt, seed=f"again {number}")
            case "both rekey":
                rekey(a, B)
                rekey(b, A)
            case "the line is cut":
                network.loss = 1.0
            case "the line is bad":
                network.loss = 0.2
            case "the line is good":
                network.loss = 0.0
            case "a minute passes":
                net.run(60)
        net.run(pause_s)
    network.loss = 0.0
    for host, home in ((a, A), (b, B)):
        if host.address != home:
            host.move(home)
    net.run(60)
    for number in range(20):
        say(a, b"last of a %d" % number, B)
        say(b, b"last of b %d" % number, A)
        net.run(3)
    assert b.received[-1] == b"last of a 19"
    assert a.received[-1] == b"last of b 19"
    assert len(set(b.received)) == len(b.received)
    assert len(set(a.received)) == len(a.received)
