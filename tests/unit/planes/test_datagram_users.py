"""A user at an address of a datagram socket: latched as a machine is, proven anew, and never begun with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from securesock.engine.context import SecurityContext
from securesock.errors import AuthenticationFailed, LocalMisuse
from securesock.identity.users import Users
from securesock.types import IPsecSettings
from tests.support.datagram_net import A, B, Host, Identities, Net

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


def accepting(context: SecurityContext) -> SecurityContext:
    return replace(context, users=Users({"alice": PASSWORD, "bob": PASSWORD}))


def proving(context: SecurityContext) -> SecurityContext:
    return replace(context, main_mode=replace(context.main_mode, reauthentication_s=100.0))


def user(net: Net, name: str = "alice", seed: str = "") -> Host:
    return net.host(A, settings=IPsecSettings(user_name=name, password=PASSWORD), seed=seed)


def principal(host: Host) -> str:
    establishment = host.machine.report(A).establishment
    return "" if establishment is None else establishment.peer.name


def test_an_address_stays_its_users(identities: Identities) -> None:
    net = Net(identities)
    server = net.host(B, adapt=accepting)
    alice = user(net)
    alice.send(b"from alice", B)
    net.run(5)
    assert principal(server) == "alice"
    for begin in (lambda: user(net, "bob", seed="bob"), lambda: net.host(A, seed="a machine")):
        intruder = begin()
        intruder.send(b"from another", B)
        net.run(5)
        assert isinstance(intruder.machine.report(B).error, AuthenticationFailed)
    assert server.received == [b"from alice"]
    net.hosts[A] = alice
    server.send(b"and back", A)
    net.run(5)
    assert alice.received == [b"and back"]


def test_a_user_is_proven_anew_without_a_datagram_lost(identities: Identities) -> None:
    net = Net(identities)
    server = net.host(B, adapt=lambda context: proving(accepting(context)))
    alice = user(net)
    for number in range(250):
        alice.send(b"%d" % number, B)
        net.run(1)
    assert len(server.received) == 250
    assert alice.machine.counters["proving-again"] == 2
    assert principal(server) == "alice"
    assert not server.machine.counters["proving-again"]  # whoever answers cannot


def test_a_user_who_is_gone_is_not_begun_with(identities: Identities) -> None:
    net = Net(identities)
    server = net.host(B, adapt=accepting)
    alice = user(net)
    alice.send(b"hello", B)
    net.run(5)
    alice.machine.forget(B, net.clock.now())
    alice.flush()
    net.run(5)
    with pytest.raises(LocalMisuse, match="has to begin"):
        server.send(b"are you there?", A)
    alice.send(b"here again", B)
    net.run(5)
    assert server.received == [b"hello", b"here again"]
