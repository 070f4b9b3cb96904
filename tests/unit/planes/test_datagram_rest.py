"""Idle peers at rest: what comes in is opened, and all else is there again the moment that it is asked for."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from securesock.identity.identity import Identity
from securesock.planes.userspace.association import QUIET_S
from securesock.planes.userspace.peers import Peer
from securesock.planes.userspace.resting import Resting
from securesock.planes.userspace.resting_openers import RestingOpeners
from securesock.sad.ciphers import CIPHERS
from securesock.types import Address
from tests.support.datagram_net import A, B, C, Host, Identities, Net


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


PUT = RestingOpeners.put


@pytest.fixture(params=["whose ciphers are kept", "without ciphers", "that no row can hold"], autouse=True)
def idle_peers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "that no row can hold":
        monkeypatch.setattr(RestingOpeners, "put", lambda self, opener: False)
    if request.param == "without ciphers":
        monkeypatch.setattr(CIPHERS, "_most", 0)  # there is room for nobody's cipher
        monkeypatch.setattr(CIPHERS, "soon_s", -1.0)


def is_held_as_it_should(host: Host) -> bool:
    if RestingOpeners.put is not PUT:
        return bool(host.machine._openers)
    return host.machine._resting._taken > 0 and not host.machine._openers


def peer_of(host: Host, address: Address) -> Peer:
    return host.machine._peers[address]


def host(net: Net, address: Address, seed: str = "", identity: Identity | None = None) -> Host:
    """One that keeps nobody awake who is idle."""
    made = net.host(address, seed=seed, identity=identity)
    made.machine.rest.max_awake = 0
    return made


def at_rest(net: Net) -> tuple[Host, Host]:
    """Two ends that have exchanged a datagram each way and were idle for a while."""
    a, b = host(net, A), host(net, B)
    a.send(b"first", B)
    net.run(1)
    b.send(b"answer", A)
    net.run(3 * QUIET_S)
    assert peer_of(a, B).resting is not None
    assert peer_of(b, A).resting is not None
    assert is_held_as_it_should(a)
    assert is_held_as_it_should(b)
    a.arrivals.clear()
    b.arrivals.clear()
    return a, b


def test_what_comes_in_is_opened_and_wakes_nobody(identities: Identities) -> None:
    net = Net(identities)
    a, b = at_rest(net)
    for number in range(3):
        a.send(b"%d" % number, B)
    net.run(0.5)
    assert b.received == [b"0", b"1", b"2"]
    assert str(b.arrivals[0].principal) == "host/a.example"
    assert peer_of(a, B).resting is None
    assert peer_of(b, A).resting is not None


def test_what_is_sent_wakes_the_peer_which_rests_again_later(identities: Identities) -> None:
    net = Net(identities)
    a, b = at_rest(net)
    before = a.machine.report(B)
    sealer = peer_of(a, B).associations[0].sealers[-1]
    counted = sealer.sa.packets
    a.send(b"again", B)
    net.run(0.5)
    b.send(b"and back", A)
    net.run(0.5)
    assert (b.received, a.received) == ([b"again"], [b"and back"])
    assert peer_of(a, B).sealer is sealer
    assert sealer.sa.packets == counted + 1  # no number is used twice
    assert a.machine.report(B) == before
    net.run(4 * QUIET_S)
    assert peer_of(a, B).resting is not None


def test_a_repeat_is_still_refused(identities: Identities) -> None:
    net = Net(identities)
    a, b = host(net, A), host(net, B)
    a.send(b"first", B)
    net.run(1)
    packet = a.machine.seal(b"twice", B, net.clock.now())
    assert packet is not None
    b.receive(bytes(packet), A)
    net.run(3 * QUIET_S)
    assert peer_of(b, A).resting is not None
    b.receive(bytes(packet), A)
    assert b.machine.counters["replayed"] == 1
    assert b.received == [b"first", b"twice"]


def test_the_report_is_the_same_at_rest(identities: Identities) -> None:
    net = Net(identities)
    a, b = host(net, A), host(net, B)
    a.send(b"first", B)
    net.run(1)
    awake = b.machine.report(A)
    net.run(3 * QUIET_S)
    assert peer_of(b, A).resting is not None
    assert b.machine.report(A) == awake
    assert a.machine.report(B).state == "established"


def test_a_rekey_of_the_peers_finds_it(identities: Identities) -> None:
    net = Net(identities)
    a, b = at_rest(net)
    association = peer_of(a, B).associations[0]
    now = net.clock.now()
    for rekey in (association.session.rekey_child, association.session.rekey_ike):
        rekey(now)
        a.machine._drive(association, B, now)
        a.flush()
        net.run(1)
        now = net.clock.now()
    assert a.machine.report(B).rekeys == b.machine.report(A).rekeys == 2
    a.send(b"new keys", B)
    net.run(1)
    assert b.received == [b"new keys"]


def test_a_goodbye_of_the_peers_finds_it(identities: Identities) -> None:
    net = Net(identities)
    a, b = at_rest(net)
    a.machine.forget(B, net.clock.now())
    a.flush()
    net.run(15)
    assert b.machine.report(A).state == "none"
    assert not b.machine._openers


def test_a_host_that_was_started_again_takes_its_place(identities: Identities) -> None:
    net = Net(identities)
    _, b = at_rest(net)
    again = host(net, A, seed="again")
    again.send(b"new", B)
    net.run(1)
    b.send(b"to the new one", A)
    net.run(1)
    assert b.received == [b"new"]
    assert again.received == [b"to the new one"]


def test_it_says_goodbye_when_it_was_idle_for_too_long(identities: Identities) -> None:
    net = Net(identities)
    a, b = at_rest(net)
    net.run(320)
    for host, address in ((a, B), (b, A)):
        assert host.machine.report(address).state == "none"
        assert not host.machine._openers
        assert not host.machine._by_ike_spi


def test_several_at_rest_are_packed_and_come_back_each_as_it_was(identities: Identities) -> None:
    net = Net(identities)
    server = host(net, B)
    clients = [host(net, (f"192.0.2.{number}", 7001), identity=identities.by_address[A]) for number in range(10, 16)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number, B)
        net.run(0.5)
    net.run(3 * QUIET_S)
    assert is_held_as_it_should(server)
    if RestingOpeners.put is PUT:
        assert sys.getsizeof(server.machine._openers) == sys.getsizeof({})  # it was larger
    frozen = [peer_of(server, each.address).resting for each in clients]
    sizes = [len(each) for each in frozen if each is not None]
    assert len(sizes) == len(clients)
    assert max(sizes) + sys.getsizeof(b"") <= 512  # some 1,700 without the dictionary of what they have in common
    assert len(server.machine.resting_sessions()) == len(clients)
    for client in clients:
        server.send(b"to %s" % client.address[0].encode(), client.address)
    net.run(0.5)
    assert [each.received for each in clients] == [[b"to %s" % each.address[0].encode()] for each in clients]
    assert server.machine.resting_sessions() == []


def test_it_has_no_cipher_of_its_own_to_seal_with(identities: Identities) -> None:
    net = Net(identities)
    a, _ = host(net, A), host(net, B)
    a.send(b"first", B)
    net.run(1)
    sealer = peer_of(a, B).sealer
    assert sealer is not None
    if CIPHERS._most == 0:
        assert sealer.sa.ready is None
        return
    assert sealer.sa.ready is not None
    before = len(CIPHERS)
    net.run(3 * QUIET_S)
    assert peer_of(a, B).resting is not None
    assert sealer.sa.ready is None
    assert len(CIPHERS) < before


def test_who_is_asked_for_a_sign_of_life_stays_awake(identities: Identities) -> None:
    net = Net(identities)
    a, b = host(net, A), host(net, B)
    a.send(b"first", B)
    net.run(1)
    del net.hosts[B]
    a.send(b"into the dark", B)
    net.run(3 * QUIET_S)
    assert peer_of(a, B).resting is not None
    net.run(9)
    assert peer_of(a, B).associations[0].probing
    assert peer_of(a, B).resting is None
    b.machine.close(net.clock.now())


def test_as_many_stay_awake_as_there_is_room_for(identities: Identities) -> None:
    net = Net(identities)
    server = net.host(B)
    server.machine.rest.max_awake = 2
    clients = [net.host((f"192.0.2.{number}", 7001), identity=identities.by_address[A]) for number in range(10, 15)]
    for client in clients:
        client.send(b"hello", B)
        net.run(2 * QUIET_S)
    assert [peer_of(server, each.address).resting is None for each in clients] == [False] * 3 + [True] * 2
    server.send(b"wake up", clients[0].address)
    net.run(2 * QUIET_S)
    assert [peer_of(server, each.address).resting is None for each in clients] == [True, False, False, False, True]


def test_at_rest_a_translator_is_reminded_and_the_path_is_looked_at(identities: Identities) -> None:
    net = Net(identities)
    outside = ("198.51.100.1", 61000)
    net.translate = lambda route: (A if route[0] == outside else route[0], outside if route[1] == A else route[1])
    a, b = host(net, A), host(net, B)
    a.send(b"first", B)
    net.run(3 * QUIET_S)
    assert peer_of(a, B).resting is not None
    assert peer_of(b, outside).resting is not None
    before = [peer.associations[0].kept_at for peer in (peer_of(a, B), peer_of(b, outside))]
    looked_at = peer_of(a, B).associations[0].path_looked_at
    net.run(50)
    after = [peer.associations[0].kept_at for peer in (peer_of(a, B), peer_of(b, outside))]
    assert all(late >= early + 40 for early, late in zip(before, after, strict=True))
    assert peer_of(a, B).associations[0].path_looked_at >= looked_at + 40
    assert peer_of(a, B).resting is not None
    assert peer_of(b, outside).resting is not None
    a.move(C)
    net.run(25)
    assert a.machine.moves == b.machine.moves == 1
    b.send(b"to the new address", outside)
    net.run(1)
    assert a.received == [b"to the new address"]


def test_at_rest_it_is_ended_when_its_time_is_over(identities: Identities) -> None:
    net = Net(identities)
    _, b = at_rest(net)
    association = peer_of(b, A).associations[0]
    more = association.more
    more.retire_at = net.clock.now() + 30
    net.run(3 * QUIET_S)
    assert association.at_rest
    assert association.wake_at == more.retire_at
    net.run(31)
    assert association.state == "over"
    assert b.machine.report(A).state == "none"


def test_what_cannot_be_pickled_is_not_frozen() -> None:
    table = Resting()
    assert table.freeze(lambda: None, ()) is None
    frozen = table.freeze(([1, 2], "word", C), ())
    assert frozen is not None
    assert table.thaw(frozen, ()) == ([1, 2], "word", C)


def test_things_that_live_on_are_the_same_things_afterwards() -> None:
    table, own = Resting(), [1]
    for number in range(4):
        frozen = table.freeze({"number": number, "own": own}, (own,))
        assert frozen is not None
        thawed = table.thaw(frozen, (own,))
        assert thawed == {"number": number, "own": own}
        assert isinstance(thawed, dict)
        assert thawed["own"] is own


def test_names_that_live_on_are_not_written_out_again() -> None:
    table, host = Resting(), "192.0.2.200"
    for number in range(2):  # the first is what the others are compressed by
        equal = str(host.encode(), "ascii")
        assert equal is not host
        frozen = table.freeze([number, equal], (host,))
        assert frozen is not None
        thawed = table.thaw(frozen, (host,))
        assert isinstance(thawed, list)
        assert thawed[1] is host


def test_no_key_stands_in_what_all_have_in_common() -> None:
    table, keys = Resting(), [bytes(range(at, at + 32)) for at in (1, 40, 90)]
    for _ in range(2):
        things = [*keys[:2], bytearray(keys[2]), keys[0][:4], b""]
        frozen = table.freeze(things, ())
        assert frozen is not None
        assert table.thaw(frozen, ()) == things
    assert not any(key[at : at + 4] in table._common for key in keys for at in range(29))


def test_messages_of_key_exchanges_that_the_kernel_joined_are_no_packets_of_an_sa(identities: Identities) -> None:
    net = Net(identities)
    _, b = at_rest(net)
    message = bytes(4) + bytes(60)
    assert b.machine.handle_run_untrusted(message * 3, len(message), A, net.clock.now()) == []
    assert b.machine.counters["malformed-message"] == 3


def test_two_that_were_to_have_one_place_live_both(identities: Identities) -> None:
    """Their SPIs were chosen when neither was installed."""
    net = Net(identities)
    a, b = at_rest(net)
    association = peer_of(a, B).associations[0]
    assert association.more.session.established  # awake
    opener, places = association.opener, a.machine._resting._places
    assert opener is not None
    assert places or RestingOpeners.put is not PUT
    second = replace(opener.spec, spi=(opener.spi + max(places, 1)) % (1 << 32))
    a.machine._install(association, second, net.clock.now())
    assert a.machine.counters["spi-collision"] == 0
    assert association.state == "live"
    a.machine._install(association, second, net.clock.now())
    assert a.machine.counters["spi-collision"] == 1
    b.machine.close(net.clock.now())
