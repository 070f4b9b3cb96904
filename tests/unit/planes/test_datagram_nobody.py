"""NULL authentication among datagrams (RFC 7619): nobody may come where policy says so, and takes nobody's place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from securesock.engine.context import SecurityContext
from securesock.errors import AuthenticationFailed
from securesock.identity.identity import Identity
from securesock.identity.names import parse_peer_target_name
from securesock.keying.ikev2 import first_child
from securesock.wire.ikev2.payloads import Notify, Payload
from securesock.wire.numbers import NotifyType
from tests.support.datagram_net import A, B, Host, Identities, Net


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


@pytest.fixture
def net(identities: Identities) -> Net:
    return Net(identities)


def nobody(net: Net) -> Identity:
    authority = net.identities.by_address[A].authority
    assert authority is not None
    return Identity.anonymous(trust=authority.pem)


def letting_in(context: SecurityContext) -> SecurityContext:
    return replace(context, main_mode=replace(context.main_mode, allow_anonymous=True))


def principal(host: Host) -> str:
    establishment = host.machine.report(A).establishment
    return "" if establishment is None else establishment.peer.name


def test_nobody_comes_in_only_where_policy_says_so(net: Net) -> None:
    for adapt, received in ((lambda context: context, []), (letting_in, [b"hello"])):
        peer = net.host(B, adapt=adapt)
        ours = net.host(A, identity=nobody(net))
        ours.send(b"hello", B)
        net.run(5)
        assert peer.received == received
        assert (principal(peer) == "anonymous") == bool(received)
        assert isinstance(ours.machine.report(B).error, AuthenticationFailed) != bool(received)


def test_nobody_takes_no_address_of_somebody_who_was_proven(net: Net) -> None:
    peer = net.host(B, adapt=letting_in)
    somebody = net.host(A)
    somebody.send(b"from somebody", B)
    net.run(5)
    assert principal(peer) == "host/a.example"
    intruder = net.host(A, identity=nobody(net), seed="intruder")  # at the same address and port
    intruder.send(b"from nobody", B)
    net.run(5)
    assert peer.received == [b"from somebody"]
    assert isinstance(intruder.machine.report(B).error, AuthenticationFailed)
    # nothing of somebody's was ended by it
    assert principal(peer) == "host/a.example"
    net.hosts[A] = somebody
    somebody.send(b"still here", B)
    net.run(5)
    assert peer.received == [b"from somebody", b"still here"]
    peer.send(b"and back", A)
    net.run(5)
    assert somebody.received == [b"and back"]


def test_nobody_takes_no_address_that_a_name_was_given_for(net: Net) -> None:
    peer = net.host(B, adapt=letting_in)
    peer.machine.expect(A, parse_peer_target_name("host/a.example"))
    intruder = net.host(A, identity=nobody(net))
    intruder.send(b"from nobody", B)
    net.run(5)
    assert peer.received == []
    assert isinstance(intruder.machine.report(B).error, AuthenticationFailed)


def test_an_anonymous_machine_is_nobody_to_whoever_begins(net: Net) -> None:
    peer = net.host(B, identity=nobody(net))
    ours = net.host(A, adapt=letting_in)
    ours.send(b"hello", B)
    net.run(5)
    assert peer.received == []
    assert isinstance(ours.machine.report(B).error, AuthenticationFailed)


def test_nobody_who_says_initial_contact_ends_nothing(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7619 2.2 and 4: two of nobody may be two; which of them has gone is not the other's to say."""
    original = first_child.FirstChildWish.payloads

    def payloads(self: first_child.FirstChildWish) -> tuple[Payload, ...]:
        return (*original(self), Notify(NotifyType.INITIAL_CONTACT))

    monkeypatch.setattr(first_child.FirstChildWish, "payloads", payloads)
    peer = net.host(B, adapt=letting_in)
    for seed, live in (("one", 1), ("another", 2)):
        net.host(A, identity=nobody(net), seed=seed).send(seed.encode(), B)
        net.run(0.5)
        assert len([each for each in peer.machine._peers[A].associations if each.state == "live"]) == live
    assert peer.received == [b"one", b"another"]
