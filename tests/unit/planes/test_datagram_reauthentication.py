"""Both ends prove themselves anew while the old SA still carries (RFC 7296 2.8.3, RFC 4478); and INITIAL_CONTACT."""

from __future__ import annotations

from dataclasses import replace

import pytest

from securesock.engine.context import SecurityContext
from securesock.errors import AuthenticationFailed
from securesock.keying.ikev2 import auth_lifetime, first_child
from securesock.keying.ikev2.core import Core
from securesock.testing import FakeNetwork
from securesock.wire.ikev2.message import write_message
from securesock.wire.ikev2.payloads import Notify, Payload
from securesock.wire.isakmp import read_header_untrusted
from securesock.wire.numbers import ExchangeType, HeaderFlag, NotifyType
from tests.support.datagram_net import A, Address, B, C, Host, Identities, Net, Route


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


def proving(context: SecurityContext) -> SecurityContext:
    return replace(context, main_mode=replace(context.main_mode, reauthentication_s=100.0))


def established(net: Net, a: Host, b: Host) -> None:
    a.send(b"first", B)
    net.run(1)
    assert b.received == [b"first"]


def talk(net: Net, a: Host, seconds: int) -> int:
    """A numbered datagram a second from a to B; how many were sent."""
    for number in range(seconds):
        a.send(b"%d" % number, B)
        net.run(1)
    return seconds


def live(host: Host, peer: Address) -> int:
    return len([each for each in host.machine._peers[peer].associations if each.state == "live"])


@pytest.mark.parametrize("who", ["initiator", "responder", "both"])
def test_a_proof_is_renewed_under_traffic_and_nothing_is_lost(identities: Identities, who: str) -> None:
    """The responder's policy reaches the initiator as AUTH_LIFETIME."""
    net = Net(identities)
    a = net.host(A, adapt=proving) if who != "responder" else net.host(A)
    b = net.host(B, adapt=proving) if who != "initiator" else net.host(B)
    established(net, a, b)
    first = b.machine.report(A).main_mode_sa_id
    sent = talk(net, a, 350)
    assert len(b.received) == sent + 1
    assert a.machine.counters["proving-again"] == 3
    assert b.machine.report(A).main_mode_sa_id != first
    net.run(3)
    assert live(a, B) == live(b, A) == 1
    assert all(each.more.renews is None for each in a.machine._peers[B].associations if each.state != "over")
    b.send(b"back", A)
    net.run(1)
    assert a.received == [b"back"]


@pytest.mark.parametrize("seed", range(4))
def test_on_a_bad_line_the_old_one_carries_until_the_new_one_does(identities: Identities, seed: int) -> None:
    network = FakeNetwork(latency_s=0.02, jitter_s=0.1, loss=0.0, duplication=0.1, seed=seed)
    net = Net(identities, network)
    a, b = net.host(A, adapt=proving), net.host(B)
    established(net, a, b)
    network.loss = 0.2
    talk(net, a, 300)
    network.loss = 0.0
    talk(net, a, 10)
    assert b.received[-1] == b"9"
    assert len(b.received) > 200
    assert a.machine.counters["proving-again"] >= 3


def test_a_peer_that_is_another_principal_now_breaks_the_latch(identities: Identities) -> None:
    """Semantics "The latch": the old SA goes with the proof that failed, and the application is told."""
    net = Net(identities)
    a, b = net.host(A, adapt=proving), net.host(B)
    established(net, a, b)
    old = b.machine
    # the same SAs and another identity: what a host is that was renamed
    stranger = net.host(B, identity=identities.by_address[C], seed="stranger")
    new_keying = stranger.machine._keying
    net.hosts[B] = b
    old._keying = new_keying
    talk(net, a, 89)
    assert a.machine.report(B).state == "established"
    for _ in range(10):
        net.run(1)
    report = a.machine.report(B)
    assert report.state == "failed"
    assert isinstance(report.error, AuthenticationFailed)
    assert a.machine.counters["latch-broken"] == 1
    assert a.machine.seal(memoryview(b"not a byte more"), B, net.clock.now()) is None


def test_a_refusal_that_anybody_can_have_forged_breaks_nothing(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A, adapt=proving), net.host(B)
    established(net, a, b)

    def forge(route: Route, datagram: bytes) -> list[bytes]:
        header = read_header_untrusted(datagram[4:]) if datagram[:4] == bytes(4) else None
        if header is None or header.exchange_type != ExchangeType.IKE_SA_INIT or route[0] != B:
            return [datagram]
        refusal = (Notify(NotifyType.AUTHENTICATION_FAILED),)
        spi, flags = header.initiator_spi, HeaderFlag.RESPONSE
        forged = write_message(spi, bytes(8), ExchangeType.IKE_SA_INIT, flags, 0, refusal)
        a.receive(bytes(4) + forged, B)
        return []

    net.network.tamper = forge
    talk(net, a, 99)
    assert a.machine.counters["unauthenticated-refusal"] > 0
    assert a.machine.counters["latch-broken"] == 0
    assert b.received[-1] == b"98"


def test_a_responder_ends_what_was_not_proven_again(identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 4478 4: of an initiator that does not know of it."""
    net = Net(identities)
    a, b = net.host(A), net.host(B, adapt=proving)
    monkeypatch.setattr(auth_lifetime, "hear_lifetime", lambda core, payloads: None)
    monkeypatch.setattr(first_child, "hear_lifetime", lambda core, payloads: None)
    established(net, a, b)
    for _ in range(105):
        b.send(b"tick", A)
        net.run(1)
    assert live(b, A) == 1
    net.run(10)
    assert live(b, A) == 0
    assert b.machine.report(A).state == "none"


def test_a_peer_that_cannot_be_reached_to_prove_itself_is_tried_again_until_the_proof_has_run_out(
    identities: Identities,
) -> None:
    net = Net(identities)
    a, b = net.host(A, adapt=proving), net.host(B)
    established(net, a, b)
    talk(net, a, 88)
    del net.hosts[B]
    net.run(25)
    assert a.machine.counters["proving-again"] >= 1
    assert live(a, B) == 0
    net.hosts[B] = b
    a.send(b"anew", B)
    net.run(3)
    assert b.received[-1] == b"anew"


def test_a_resumed_session_is_no_new_proof(identities: Identities) -> None:
    """RFC 5723 5: a ticket is bounded by the time until re-authentication."""

    def both(context: SecurityContext) -> SecurityContext:
        return replace(proving(context), resumption=True)

    net = Net(identities)
    a, b = net.host(A, adapt=both), net.host(B, adapt=both)
    established(net, a, b)
    net.network.loss = 1.0
    for _ in range(60):
        a.send(b"lost", B)
        net.run(1)
    net.run(12)
    net.network.loss = 0.0
    a.send(b"resumed", B)
    net.run(2)
    establishment = a.machine.report(B).establishment
    assert establishment is not None
    assert establishment.resumed is not None
    association = a.machine._peers[B].active
    assert association is not None
    assert association.more.prove_by - net.clock.now() < 30
    talk(net, a, 40)
    establishment = a.machine.report(B).establishment
    assert establishment is not None
    assert establishment.resumed is None


# INITIAL_CONTACT (semantics "Datagrams")


@pytest.fixture
def contact(monkeypatch: pytest.MonkeyPatch) -> list[Core]:
    """The sessions in this list say INITIAL_CONTACT, which ours never do."""
    sayers: list[Core] = []
    original = first_child.FirstChildWish.payloads

    def payloads(self: first_child.FirstChildWish) -> tuple[Payload, ...]:
        said = original(self)
        assert not any(isinstance(each, Notify) and each.notify_type == NotifyType.INITIAL_CONTACT for each in said)
        return (*said, Notify(NotifyType.INITIAL_CONTACT)) if sayers else said

    monkeypatch.setattr(first_child.FirstChildWish, "payloads", payloads)
    return sayers


def test_a_host_that_was_started_again_and_says_so_replaces_its_former_self_at_once(
    identities: Identities, contact: list[Core]
) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    established(net, a, b)
    contact.append(a.machine._peers[B].associations[0].session._core)
    again = net.host(A, seed="again")
    again.send(b"after", B)
    net.run(0.5)
    assert b.received[-1] == b"after"
    assert live(b, A) == 1


def test_without_it_the_former_self_has_to_show_that_it_lives(identities: Identities, contact: list[Core]) -> None:
    assert contact == []
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    established(net, a, b)
    again = net.host(A, seed="again")
    again.send(b"after", B)
    net.run(0.5)
    assert live(b, A) == 2
    net.run(40)
    assert live(b, A) == 1


def test_it_touches_nobody_at_another_address(identities: Identities, contact: list[Core]) -> None:
    """The same identity from another port: its other SA lives on."""
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    established(net, a, b)
    contact.append(a.machine._peers[B].associations[0].session._core)
    elsewhere: Address = (A[0], A[1] + 1)
    other = net.host(elsewhere, identity=identities.by_address[A], seed="other")
    other.send(b"from another port", B)
    net.run(1)
    assert b.received[-1] == b"from another port"
    assert live(b, A) == 1
    assert live(b, elsewhere) == 1
    b.send(b"still", A)
    net.run(1)
    assert a.received == [b"still"]


def test_another_identity_cannot_use_it_to_end_what_is_at_an_address(
    identities: Identities, contact: list[Core]
) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    established(net, a, b)
    contact.append(a.machine._peers[B].associations[0].session._core)
    intruder = net.host(A, identity=identities.by_address[C], seed="intruder")
    intruder.send(b"mine now", B)
    net.run(1)
    assert b.received == [b"first"]
    assert live(b, A) == 1
