"""How a datagram socket's first datagram becomes an SA, from either end, on a network that loses and reorders."""

from __future__ import annotations

import pytest

from securesock.engine.half_open import HalfOpenTable
from securesock.errors import AuthenticationFailed, KeyingTimeout, LocalMisuse
from securesock.identity.identity import Identity
from securesock.identity.names import parse_peer_target_name
from securesock.testing import FakeNetwork
from tests.support.datagram_net import NAMES, A, Address, B, C, Identities, Net, Route


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


def test_the_first_datagram_negotiates_and_then_arrives(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    a.send(b"first", B)
    net.run(1)
    assert b.received == [b"first"]
    arrival = b.arrivals[0]
    assert arrival.address == A
    assert arrival.principal is not None
    assert arrival.principal.name == NAMES[A]
    assert arrival.sa_id == b.machine.report(A).quick_mode_sa_id
    b.send(b"answer", A)
    net.run(1)
    assert a.received == [b"answer"]
    assert a.machine.report(B).state == b.machine.report(A).state == "established"


def test_no_byte_of_a_datagram_is_on_the_wire_in_clear(identities: Identities) -> None:
    seen: list[bytes] = []

    def record(to: Route, datagram: bytes) -> list[bytes]:
        seen.append(datagram)
        return [datagram]

    net = Net(identities, FakeNetwork(tamper=record))
    a, b = net.host(A), net.host(B)
    a.send(b"a secret of sixteen bytes or more", B)
    net.run(1)
    assert b.received == [b"a secret of sixteen bytes or more"]
    assert len(seen) >= 5
    assert not any(b"secret" in each or b"sixteen" in each for each in seen)


def test_datagrams_of_every_length_arrive_as_they_were(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    sent = [bytes(index % 251 for index in range(length)) for length in (0, 1, 2, 3, 4, 5, 1400, 9000, 65000)]
    for each in sent:
        a.send(each, B)
        net.run(1)
    assert b.received == sent


def test_both_ends_begin_at_once_and_nothing_is_lost(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    for number in range(5):
        a.send(b"a%d" % number, B)
        b.send(b"b%d" % number, A)
    for number in range(5, 50):
        net.run(0.1)
        a.send(b"a%d" % number, B)
        b.send(b"b%d" % number, A)
    net.run(20)
    assert sorted(b.received) == sorted(b"a%d" % number for number in range(50))
    assert sorted(a.received) == sorted(b"b%d" % number for number in range(50))
    for host, peer in ((a, B), (b, A)):
        live = [each for each in host.machine._peers[peer].associations if each.state == "live"]
        assert len(live) == 1
    assert a.machine.report(B).quick_mode_sa_id >> 32 == b.machine.report(A).quick_mode_sa_id & 0xFFFFFFFF


@pytest.mark.parametrize("seed", range(6))
def test_both_ends_begin_at_once_on_a_bad_line_and_agree_in_the_end(identities: Identities, seed: int) -> None:
    net = Net(identities, FakeNetwork(latency_s=0.02, jitter_s=0.1, loss=0.15, duplication=0.1, seed=seed))
    a, b = net.host(A), net.host(B)
    a.send(b"from a", B)
    b.send(b"from b", A)
    net.run(9)
    net.network.loss = 0.0
    net.run(15)
    a.send(b"last of a", B)
    b.send(b"last of b", A)
    net.run(5)
    assert b.received[-1] == b"last of a"
    assert a.received[-1] == b"last of b"
    for host, peer in ((a, B), (b, A)):
        live = [each for each in host.machine._peers[peer].associations if each.state == "live"]
        assert len(live) == 1
        assert len(host.received) == len(set(host.received))


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_line_delivers_each_datagram_at_most_once(identities: Identities, seed: int) -> None:
    network: FakeNetwork[Route] = FakeNetwork(latency_s=0.02, jitter_s=0.2, loss=0.1, duplication=0.3, seed=seed)
    net = Net(identities, network)
    a, b = net.host(A), net.host(B)
    a.send(b"first", B)
    net.run(9)
    assert a.machine.report(B).state == "established"
    sent = {b"%d" % number for number in range(300)}
    for each in sorted(sent):
        a.send(each, B)
    net.run(2)
    assert set(b.received) <= sent | {b"first"}
    assert len(b.received) == len(set(b.received)) > 200
    assert b.machine.counters["replayed"] > 20


def test_a_peer_that_was_started_again_replaces_its_former_self(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    a.send(b"before", B)
    net.run(1)
    again = net.host(A, seed="again")
    again.send(b"after", B)
    net.run(1)
    assert b.received == [b"before", b"after"]
    b.send(b"to the new one", A)
    net.run(3)
    assert again.received == [b"to the new one"]
    net.run(40)
    assert len([each for each in b.machine._peers[A].associations if each.state == "live"]) == 1


def test_another_principal_at_a_latched_address_is_refused(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    a.send(b"before", B)
    net.run(1)
    intruder = net.host(A, identity=identities.by_address[C], seed="c")
    intruder.send(b"intruding", B)
    net.run(1)
    assert b.received == [b"before"]
    assert isinstance(intruder.machine.take_failure(B), AuthenticationFailed)
    assert b.machine.report(A).state == "established"


def test_the_latch_goes_with_the_peers_name(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    a.send(b"before", B)
    net.run(1)
    b.machine.forget(A, net.clock.now())
    b.flush()
    newcomer = net.host(A, identity=identities.by_address[C], seed="c")
    newcomer.send(b"allowed now", B)
    net.run(1)
    assert b.received == [b"before", b"allowed now"]


def test_a_peer_with_another_name_is_refused_and_learns_it(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    a.machine.expect(B, parse_peer_target_name("host/other.example"))
    a.send(b"for somebody else", B)
    net.run(1)
    failure = a.machine.take_failure(B)
    assert isinstance(failure, AuthenticationFailed)
    assert a.machine.take_failure(B) is None
    assert b.received == []
    assert a.machine.counters["first-datagrams-lost"] == 1
    assert a.machine.queued == 0


def test_whoever_begins_must_be_whom_the_socket_expects_there(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    b.machine.expect(A, parse_peer_target_name("host/other.example"))
    a.send(b"first", B)
    net.run(1)
    assert b.received == []
    assert isinstance(a.machine.take_failure(B), AuthenticationFailed)


def test_nothing_goes_to_who_began_there_without_proving_the_host_that_was_asked_for(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A)
    someone_else = net.host(B, identity=identities.by_address[C])
    a.send(b"for b.example", B)
    someone_else.send(b"I was faster", A)
    net.run(5)
    assert a.received == [b"I was faster"]
    a.send(b"for b.example, again", B)
    net.run(15)
    assert someone_else.received == []
    assert isinstance(a.machine.take_failure(B), AuthenticationFailed)
    assert a.machine.report(B).state == "failed"
    assert a.machine.queued == 0


def test_a_host_with_several_names_in_one_certificate_is_one_principal(identities: Identities) -> None:
    first = identities.by_address[A]
    many = Identity.ephemeral(["host/first.example", NAMES[B]], authority=first.authority)
    net = Net(identities)
    a, b = net.host(A), net.host(B, identity=many)
    for number in range(20):
        a.send(b"to %d" % number, B)
        b.send(b"from %d" % number, A)
        net.run(0.005)
    net.run(10)
    assert sorted(b.received) == sorted(b"to %d" % number for number in range(20))
    assert sorted(a.received) == sorted(b"from %d" % number for number in range(20))


def test_a_name_comes_before_the_first_datagram(identities: Identities) -> None:
    net = Net(identities)
    a, _ = net.host(A), net.host(B)
    a.send(b"first", B)
    with pytest.raises(LocalMisuse, match="before its first datagram"):
        a.machine.expect(B, parse_peer_target_name("host/b.example"))


def test_a_stranger_is_not_let_in(identities: Identities) -> None:
    net = Net(identities)
    b = net.host(B)
    stranger = net.host(A, identity=Identity.ephemeral(NAMES[A]))
    stranger.send(b"let me in", B)
    net.run(30)
    assert b.received == []
    assert b.machine.report(A).state == "none"
    assert A not in b.machine._peers
    assert len(b.table) == 0
    assert isinstance(stranger.machine.take_failure(B), AuthenticationFailed)


def test_silence_ends_in_a_timeout_and_the_next_datagram_tries_again(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A)
    a.send(b"lost", B)
    net.run(11)
    assert isinstance(a.machine.take_failure(B), KeyingTimeout)
    b = net.host(B)
    a.send(b"found", B)
    net.run(1)
    assert b.received == [b"found"]


def test_many_peers_have_an_sa_each(identities: Identities) -> None:
    net = Net(identities)
    a, b, c = net.host(A), net.host(B), net.host(C)
    b.send(b"of b", A)
    c.send(b"of c", A)
    net.run(1)
    assert {(each.address, each.data) for each in a.arrivals} == {(B, b"of b"), (C, b"of c")}
    assert a.machine.report(B).quick_mode_sa_id != a.machine.report(C).quick_mode_sa_id
    a.send(b"to b", B)
    a.send(b"to c", C)
    net.run(1)
    assert (b.received, c.received) == ([b"to b"], [b"to c"])


def test_only_so_many_first_datagrams_are_kept(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A)
    a.machine.begin(B, parse_peer_target_name(NAMES[B]), net.clock.now())
    kept = [a.machine.enqueue(b"x", B) for _ in range(65)]
    assert kept == [True] * 64 + [False]
    other = net.host(C)
    other.machine.begin(B, parse_peer_target_name(NAMES[B]), net.clock.now())
    assert other.machine.enqueue(bytes(65000), B)
    assert not other.machine.enqueue(bytes(1000), B)


def test_a_flood_of_beginnings_is_asked_for_cookies_and_an_honest_client_gets_in(identities: Identities) -> None:
    net = Net(identities)
    table = HalfOpenTable()
    b = net.host(B, table=table)
    recorder = net.host(A)
    recorder.machine.begin(B, parse_peer_target_name(NAMES[B]), net.clock.now())
    out = recorder.machine.poll_transmit()
    assert out is not None
    beginning = bytearray(out[0])
    del net.hosts[A]
    for number in range(2000):
        beginning[4:12] = number.to_bytes(8, "big") if number else b"\1" * 8
        source: Address = (f"198.51.{100 + number // 250}.{number % 250 + 1}", 500)
        arrival = b.machine.handle_untrusted(bytes(beginning), source, net.clock.now())
        assert arrival is None
    assert len(table) == 50
    assert b.machine.counters["asked-for-cookie"] == 1950
    while b.machine.poll_transmit() is not None:
        pass
    honest = net.host(C)
    honest.send(b"honest", B)
    net.run(1)
    assert b.received == [b"honest"]
    net.run(30)
    assert len(table) == 0
    assert set(b.machine._peers) == {C}
