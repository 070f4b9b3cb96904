"""A host whose own address changes under traffic: the machine notices by itself, and the application sees nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from securesock.engine.context import SecurityContext
from securesock.keying.contract import KeyingSession
from securesock.keying.ikev2.session import IkeSession
from securesock.testing import SeededEntropy
from securesock.types import Address
from tests.support.datagram_net import A, B, C, Host, Identities, Net

A2: Final[Address] = ("198.51.100.1", A[1])
B2: Final[Address] = ("198.51.100.2", B[1])


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


def established(net: Net) -> tuple[Host, Host]:
    a, b = net.host(A), net.host(B)
    a.send(b"first", B)
    net.run(1)
    b.send(b"first", A)
    net.run(1)
    assert a.received == b.received == [b"first"]
    return a, b


def talk(net: Net, a: Host, b: Host, seconds: int) -> None:
    """A numbered datagram each way, ten times a second."""
    for number in range(seconds * 10):
        a.send(b"a%d" % number, B)
        b.send(b"b%d" % number, A)
        net.run(0.1)


def test_who_began_moves_and_both_hear_each_other_again_within_two_seconds(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    sa_id = b.machine.report(A).quick_mode_sa_id
    a.move(A2)
    talk(net, a, b, 3)
    assert b.received[-1] == b"a29"
    assert a.received[-1] == b"b28" or a.received[-1] == b"b29"
    assert len(a.received) > 10
    # nothing that it sent was lost; the application sees the address of establishment, and the same SA
    assert len(b.received) == 31
    assert {each.address for each in b.arrivals} == {A}
    assert b.machine.report(A).quick_mode_sa_id == sa_id
    assert b.machine._peers[A].carrier == A2
    assert (a.machine.counters["path-changed"], b.machine.counters["moved"]) == (1, 1)


def test_who_answered_moves_and_is_found_again(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    b.move(B2)
    talk(net, a, b, 3)
    assert a.received[-1] == b"b29" or a.received[-1] == b"b28"
    assert b.received[-1] == b"a29" or b.received[-1] == b"a28"
    assert {each.address for each in a.arrivals} == {B}
    assert a.machine._peers[B].carrier == B2


def test_a_path_is_looked_at_at_once_when_something_was_not_taken(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    a.move(A2)
    a.machine.look_at_path(B, net.clock.now())
    a.flush()
    net.run(0.2)
    b.send(b"found", A)
    net.run(0.1)
    assert a.received[-1] == b"found"


def test_an_address_that_goes_and_comes_back_changes_nothing(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    for to in (A2, A, A2, A):
        a.move(to)
        talk(net, a, b, 3)
    assert b.received[-1] == b"a29"
    assert a.received[-1] in (b"b29", b"b28")
    assert b.machine._peers[A].carrier == A
    live = [each for each in b.machine._peers[A].associations if each.state == "live"]
    assert len(live) == 1


def test_a_move_during_rekeys_loses_neither(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    now = net.clock.now()
    for host, peer in ((a, B), (b, A)):
        association = host.machine._peers[peer].active
        assert association is not None
        association.session.rekey_ike(now)
        association.session.rekey_child(now)
        host.machine._drive(association, host.machine._peers[peer].carrier, now)
    a.move(A2)
    a.flush()
    talk(net, a, b, 10)
    assert b.received[-1] == b"a99"
    assert a.received[-1] in (b"b99", b"b98")


class _WithoutMobike:
    """A host's keying whose sessions do not speak MOBIKE."""

    def __init__(self, host: Host) -> None:
        self._kept = host.machine._keying

    def make_session(self, *arguments: Any, **more: Any) -> KeyingSession:
        made = self._kept.make_session(*arguments, **more)
        assert isinstance(made, IkeSession)
        return IkeSession(replace(made._core.config, mobike=False), SeededEntropy("without"))

    def __getattr__(self, name: str) -> object:
        return getattr(self._kept, name)


def test_a_peer_that_cannot_follow_is_begun_with_anew(identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    monkeypatch.setattr(b.machine, "_keying", _WithoutMobike(b))
    a.send(b"first", B)
    net.run(1)
    a.move(A2)
    for _ in range(40):
        a.send(b"again", B)
        net.run(0.1)
    assert a.machine.counters["cannot-follow"] == 1
    assert b.arrivals[-1].address == A2
    assert b.received[-1] == b"again"


def test_an_intruder_cannot_move_a_peer(identities: Identities) -> None:
    """Packets and messages of a peer, copied by somebody who sends them from elsewhere."""
    net = Net(identities)
    a, b = established(net)
    seen: list[bytes] = []
    net.network.tamper = lambda route, datagram: (seen.append(datagram), [datagram])[1]
    a.move(A2)
    talk(net, a, b, 3)
    net.network.tamper = None
    for datagram in seen:
        b.receive(datagram, ("203.0.113.66", 4500))
    net.run(2)
    assert b.machine._peers[A].carrier == A2


def proving(context: SecurityContext) -> SecurityContext:
    return replace(context, main_mode=replace(context.main_mode, reauthentication_s=100.0))


def test_whoever_moved_proves_itself_anew_from_there_and_stays_who_it_is(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A, adapt=proving), net.host(B)
    a.send(b"first", B)
    net.run(1)
    a.move(A2)
    talk(net, a, b, 120)
    assert a.machine.counters["proving-again"] == 1
    assert {each.address for each in b.arrivals} == {A}
    assert set(b.machine._peers) == {A}
    assert b.machine._peers[A].carrier == A2
    assert a.received[-1] in (b"b1199", b"b1198")


def test_somebody_else_at_an_address_where_a_lost_peer_was_is_itself(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    a.send(b"first", B)
    net.run(1)
    a.move(A2)
    talk(net, a, b, 3)
    del net.hosts[A2]
    for _ in range(50):
        b.send(b"gone?", A)
        net.run(1)
    c = net.host(A2, identity=identities.by_address[C])
    c.send(b"I live here now", B)
    net.run(1)
    assert b.arrivals[-1].address == A2
    assert b.received[-1] == b"I live here now"


def test_whoever_comes_home_after_it_was_started_again_is_answered_there(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    a.send(b"first", B)
    net.run(1)
    a.move(A2)
    talk(net, a, b, 3)
    del net.hosts[A2]
    again = net.host(A, seed="again")
    again.send(b"home", B)
    net.run(1)
    b.send(b"welcome", A)
    net.run(3)
    assert again.received == [b"welcome"]
