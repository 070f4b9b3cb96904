"""Two datagram machines that treat each other as any IPsec host: tunnel and transport mode on port 4500, in virtual
time."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from securesock.engine.context import SecurityContext
from securesock.engine.peer_entry import PeerEntry
from securesock.errors import AuthenticationFailed, KeyingTimeout, LocalMisuse, PeerIncompatible
from securesock.identity.identity import Identity
from securesock.keying.ikev2.attempts import begin_for_peer
from securesock.planes.userspace.host_packet import HostSealer
from securesock.policy.negotiation import STANDARD_QUICK_MODE
from securesock.types import ANY_TRUSTED_PEER, Address, Lifetimes, SecuritySettings
from securesock.wire.tcp_encapsulation import NON_ESP_MARKER
from tests.support.datagram_net import NAMES, A, B, C, Host, Identities, Net, Route

GATEWAY: Address = ("192.0.2.2", 4500)
SERVICE: Address = ("10.92.0.1", 7)
OUR_INNER: Address = ("10.91.0.1", 7001)
TO_B = PeerEntry("10.92.0.0/24", gateway=GATEWAY[0], inner="10.91.0.1", peer=NAMES[B])
FROM_A = PeerEntry("10.91.0.0/24", gateway=A[0], inner=SERVICE[0], inner_port=SERVICE[1], peer=NAMES[A])

Adapt = Callable[[SecurityContext], SecurityContext]


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


def knowing(*entries: PeerEntry, pfs: str = "preferred", packets: int = 1 << 32) -> Adapt:
    quick_mode = replace(
        STANDARD_QUICK_MODE,
        pfs=pfs != "none",
        pfs_required=pfs == "required",
        lifetimes=Lifetimes(3600.0, 1 << 40, packets),
    )
    return lambda context: replace(context, peers=entries, quick_mode=quick_mode)


def tunnel(
    identities: Identities,
    ours: PeerEntry = TO_B,
    theirs: PeerEntry = FROM_A,
    *,
    pfs: tuple[str, str] = ("preferred", "preferred"),
    packets: tuple[int, int] = (1 << 32, 1 << 32),
) -> tuple[Net, Host, Host]:
    net = Net(identities)
    a = net.host(A, adapt=knowing(ours, pfs=pfs[0], packets=packets[0]))
    b = net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(theirs, pfs=pfs[1], packets=packets[1]))
    return net, a, b


def seen(net: Net) -> list[tuple[Route, bytes]]:
    """Everything that travels from now on."""
    found: list[tuple[Route, bytes]] = []
    network: Any = net.network
    send = network.send

    def watching(route: Route, data: bytes, now: float) -> None:
        found.append((route, data))
        send(route, data, now)

    network.send = watching
    return found


def test_a_datagram_passes_a_tunnel_and_its_answer_finds_back(identities: Identities) -> None:
    net, a, b = tunnel(identities)
    a.send(b"question", SERVICE)
    net.run(2)
    assert [(each.data, each.address) for each in b.arrivals] == [(b"question", OUR_INNER)]
    b.send(b"answer", OUR_INNER)
    net.run(1)
    assert [(each.data, each.address) for each in a.arrivals] == [(b"answer", SERVICE)]
    assert a.machine.report(SERVICE).state == b.machine.report(OUR_INNER).state == "established"
    establishment = a.machine.report(SERVICE).establishment
    assert establishment is not None
    assert establishment.flow[1:] == (*OUR_INNER, *SERVICE)
    assert establishment.quick_mode_suite.esn  # preferred where both have it


def test_every_address_behind_a_gateway_goes_through_one_sa(identities: Identities) -> None:
    net, a, b = tunnel(identities, theirs=replace(FROM_A, inner="10.92.0.0"))
    a.send(b"first", ("10.92.0.0", 7))
    net.run(2)
    a.send(b"second", ("10.92.0.0", 7))
    net.run(1)
    assert b.received == [b"first", b"second"]
    assert a.machine.report(("10.92.0.77", 9)).state == "none"  # the other end narrowed to its own address


def test_everything_to_a_standard_host_goes_to_port_4500_and_nothing_says_that_no_translator_is_there(
    identities: Identities,
) -> None:
    net, a, _ = tunnel(identities)
    travelled = seen(net)
    a.send(b"question", SERVICE)
    net.run(2)
    assert {to for (to, source), _ in travelled if source == A} == {GATEWAY}
    assert all(data.startswith(NON_ESP_MARKER) for (_, source), data in travelled[:2])


@pytest.mark.parametrize("pfs", list(itertools.product(("required", "preferred", "none"), repeat=2)))
def test_a_child_is_replaced_with_a_key_exchange_or_without_as_both_ends_like_it(
    identities: Identities, pfs: tuple[str, str]
) -> None:
    net, a, b = tunnel(identities, pfs=pfs, packets=(60, 1 << 32))
    a.send(b"first", SERVICE)
    net.run(2)
    for number in range(40):
        a.send(b"%d" % number, SERVICE)
        net.run(0.1)
    agreed = pfs != ("none", "required")  # whoever does not ask for one does not mind one
    assert len(b.received) == 41
    assert a.machine.report(SERVICE).rekeys == int(agreed)
    assert (a.machine.counters["rekey-refused"] > 0) != agreed


def test_a_child_is_replaced_under_traffic_in_both_directions(identities: Identities) -> None:
    net, a, b = tunnel(identities, packets=(60, 60))
    a.send(b"first", SERVICE)
    net.run(2)
    for number in range(200):
        a.send(b"%d" % number, SERVICE)
        net.run(0.1)
        b.send(b"%d" % number, OUR_INNER)
        net.run(0.1)
    assert b.received[1:] == a.received == [b"%d" % number for number in range(200)]
    assert a.machine.report(SERVICE).rekeys >= 3


def test_a_large_datagram_is_cut_inside_the_tunnel_and_no_packet_outgrows_the_path(identities: Identities) -> None:
    net, a, b = tunnel(identities)
    a.send(b"first", SERVICE)
    net.run(2)
    travelled = seen(net)
    large = bytes(range(256)) * 100
    a.send(large, SERVICE)
    net.run(1)
    assert b.received[-1] == large
    sizes = [len(data) for _, data in travelled]
    assert len(sizes) > 15
    assert 1400 < max(sizes) <= 1500 - 28


class Forbidding:
    """A path whose user forbids fragments."""

    def mtu(self, carrier: Address, now: float) -> int:
        return 1400

    def is_cutting_forbidden(self) -> bool:
        return True


def test_what_may_not_be_cut_and_does_not_fit_is_refused_to_the_sender(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A, adapt=knowing(TO_B), path=Forbidding())
    b = net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(FROM_A))
    a.send(b"first", SERVICE)
    net.run(2)
    with pytest.raises(OSError, match="Message too long") as caught:
        a.send(bytes(1400), SERVICE)
    assert caught.value.errno == errno.EMSGSIZE
    a.send(bytes(1200), SERVICE)
    net.run(1)
    assert [len(each) for each in b.received] == [5, 1200]


def test_a_first_datagram_that_may_not_be_cut_is_counted_when_its_negotiation_is_over(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A, adapt=knowing(TO_B), path=Forbidding())
    net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(FROM_A))
    a.send(bytes(1400), SERVICE)
    net.run(2)
    assert a.machine.counters["EMSGSIZE"] == 1
    assert a.machine.queued == 0


def test_transport_mode_with_a_standard_host_serves_every_port_of_it(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A, adapt=knowing(PeerEntry(GATEWAY[0], carrier="4500", peer=NAMES[B])))
    b = net.host(
        GATEWAY, identity=identities.by_address[B], adapt=knowing(PeerEntry(A[0], carrier="4500", peer=NAMES[A]))
    )
    to = (GATEWAY[0], 4500)
    a.send(b"question", to)
    net.run(2)
    assert [(each.data, each.address) for each in b.arrivals] == [(b"question", A)]
    b.send(b"answer", A)
    net.run(1)
    assert [(each.data, each.address) for each in a.arrivals] == [(b"answer", to)]


def test_transport_mode_passes_translators_on_both_sides(identities: Identities) -> None:
    """RFC 7296 2.23.1: either end writes the addresses that it sees, and reads its own in place of the other's."""
    net = Net(identities)
    outside: Address = ("198.51.100.1", 40000)
    public: Address = ("198.51.100.2", 4500)
    net.translate = lambda route: {(public, A): (GATEWAY, outside), (outside, GATEWAY): (A, public)}.get(route, route)
    a = net.host(A, adapt=knowing(PeerEntry(public[0], carrier="4500", peer=NAMES[B])))
    b = net.host(
        GATEWAY, identity=identities.by_address[B], adapt=knowing(PeerEntry(outside[0], carrier="4500", peer=NAMES[A]))
    )
    a.send(b"question", (public[0], 4500))
    net.run(2)
    # the port inside is A's own: only addresses and the carrier's port were translated
    assert [(each.data, each.address) for each in b.arrivals] == [(b"question", (outside[0], A[1]))]
    b.send(b"answer", (outside[0], A[1]))
    net.run(1)
    assert [(each.data, each.address) for each in a.arrivals] == [(b"answer", (public[0], 4500))]


def test_another_mode_than_the_entrys_is_refused_at_either_end(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A, adapt=knowing(PeerEntry(GATEWAY[0], carrier="4500", peer=NAMES[B])))
    b = net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(FROM_A))
    a.send(b"question", (GATEWAY[0], 4500))
    net.run(2)
    assert a.machine.report((GATEWAY[0], 4500)).state == "failed"
    assert b.received == []


def test_wrong_selectors_inside_a_valid_sa_are_dropped_and_counted(identities: Identities) -> None:
    net, a, b = tunnel(identities)
    a.send(b"first", SERVICE)
    net.run(2)
    machine: Any = a.machine
    active = machine._hosts[GATEWAY].active
    (sealer,) = active.more.host_sealers
    peers = tuple(each._replace(first=bytes(4), last=b"\xff" * 4) for each in sealer.scope.peers)
    active.more.host_sealers = (HostSealer(sealer.sa, sealer.scope._replace(peers=peers)),)
    a.send(b"to nobody", ("10.93.0.1", 7))
    a.send(b"to another port", (SERVICE[0], 8))
    net.run(1)
    assert b.received == [b"first"]
    assert b.machine.counters["wrong-selectors"] == 2


def test_a_packet_of_wrong_selectors_shows_nevertheless_that_the_peer_has_the_keys(identities: Identities) -> None:
    net, a, b = tunnel(identities)
    a.send(b"to another port", (SERVICE[0], 8))
    net.run(0.5)
    assert b.machine.counters["wrong-selectors"] == 1
    b.send(b"at once", OUR_INNER)  # which waits up to a second for that
    net.run(0.2)
    assert a.received == [b"at once"]


def test_an_idle_tunnel_goes_and_the_next_datagram_makes_another(identities: Identities) -> None:
    net, a, b = tunnel(identities)
    a.send(b"first", SERVICE)
    net.run(302)
    assert a.machine.report(SERVICE).state == b.machine.report(OUR_INNER).state == "none"
    a.send(b"second", SERVICE)
    net.run(2)
    assert b.received == [b"first", b"second"]


OWN_B: Address = (GATEWAY[0], 7)
EITHER = PeerEntry(GATEWAY[0], peer=NAMES[B])
EITHER_A = PeerEntry(A[0], inner_port=7, peer=NAMES[A])


def travelled_to(travelled: list[tuple[Route, bytes]]) -> set[Address]:
    return {to for (to, source), _ in travelled if source == A}


def test_auto_finds_a_standard_host_after_a_second_and_remembers_it(identities: Identities) -> None:
    net = Net(identities)
    travelled = seen(net)
    a = net.host(A, adapt=knowing(EITHER))
    b = net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(EITHER_A))
    a.send(b"question", OWN_B)
    net.run(0.9)
    assert travelled_to(travelled) == {OWN_B}
    assert a.machine.report(OWN_B).state == "negotiating"
    net.run(1)
    assert [(each.data, each.address) for each in b.arrivals] == [(b"question", A)]
    b.send(b"answer", A)
    net.run(1)
    assert [(each.data, each.address) for each in a.arrivals] == [(b"answer", OWN_B)]
    travelled.clear()
    a.machine.forget(OWN_B, net.clock.now())
    a.flush()
    net.run(1)
    a.send(b"another", OWN_B)
    net.run(0.5)
    assert travelled_to(travelled) == {GATEWAY}
    assert b.received[-1] == b"another"


def test_auto_stays_with_an_own_port_that_answers(identities: Identities) -> None:
    net = Net(identities)
    travelled = seen(net)
    a = net.host(A, adapt=knowing(EITHER))
    b = net.host(OWN_B, identity=identities.by_address[B])
    net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(EITHER_A))
    a.send(b"question", OWN_B)
    net.run(5)
    assert b.received == [b"question"]
    assert travelled_to(travelled) == {OWN_B}


def test_an_own_port_that_answers_too_late_gets_no_second_sa(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A, adapt=knowing(EITHER))
    late = net.host(OWN_B, identity=identities.by_address[B])
    b = net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(EITHER_A))
    held: list[bytes] = []
    deliver, withheld = late.receive, cast(Any, late)
    withheld.receive = lambda datagram, source: held.append(datagram)
    a.send(b"question", OWN_B)
    net.run(1.5)
    for each in held:
        deliver(each, A)
    net.run(5)
    assert b.received == [b"question"]
    assert late.received == []
    assert late.machine.report(A).state != "established"


def test_auto_that_finds_nobody_says_so_and_tries_the_own_port_first_again(identities: Identities) -> None:
    net = Net(identities)
    travelled = seen(net)
    a = net.host(A, adapt=knowing(EITHER))
    a.send(b"question", OWN_B)
    net.run(12)
    assert travelled_to(travelled) == {OWN_B, GATEWAY}
    failure = a.machine.take_failure(OWN_B)
    assert isinstance(failure, KeyingTimeout)
    travelled.clear()
    b = net.host(OWN_B, identity=identities.by_address[B])
    a.send(b"again", OWN_B)
    net.run(2)
    assert travelled_to(travelled) == {OWN_B}
    assert b.received == [b"again"]


def test_a_socket_at_port_4500_looks_for_no_own_port(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A, adapt=knowing(EITHER))
    b = net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(EITHER_A))
    b.send(b"question", (A[0], A[1]))
    net.run(1)
    assert b.machine.report(A).state == "negotiating"  # a securesock socket has no port 4500 of its own
    assert a.received == []


@pytest.mark.parametrize("mode", ["transport", "tunnel"])
def test_clear_text_never_stands_in_for_a_tunnel(identities: Identities, mode: str) -> None:
    net = Net(identities)
    travelled = seen(net)
    entry = PeerEntry(GATEWAY[0], carrier="4500", peer=NAMES[B]) if mode == "transport" else TO_B
    to = OWN_B if mode == "transport" else SERVICE
    a = net.host(A, adapt=knowing(entry), settings=SecuritySettings(allow_insecure=True))
    a.send(b"question", to)
    net.run(12)
    clear = [(route[0], data) for route, data in travelled if data == b"question"]
    assert clear == ([(OWN_B, b"question")] if mode == "transport" else [])
    assert a.machine.report(to).state == ("clear" if mode == "transport" else "failed")


OTHER: Address = ("10.93.0.1", 7)
BOTH_NETWORKS = replace(TO_B, networks=("10.92.0.0/24", "10.93.0.0/24"))


def test_an_address_that_the_first_sa_leaves_out_gets_one_of_its_own(identities: Identities) -> None:
    net, a, b = tunnel(identities, ours=BOTH_NETWORKS)
    a.send(b"first", SERVICE)
    net.run(2)
    assert a.machine.report(OTHER).state == "none"
    also_at(b, bytes((10, 93, 0, 1)))
    a.send(b"second", OTHER)
    net.run(2)
    assert b.received == [b"first", b"second"]
    assert a.machine.report(OTHER).state == "established"
    assert a.machine.counters == b.machine.counters == {}


def also_at(host: Host, other: bytes) -> Any:
    """Have the one peer of ``host`` reach ``other`` there, too, from now on; the core of the session with it."""
    machine: Any = host.machine
    (association,) = machine._hosts[A].associations
    core: Any = association.session._core
    spans, first = core.config.standard, core.children[0]
    hosts = (*spans.our_hosts, other)
    core.config = replace(core.config, standard=spans._replace(our_hosts=hosts))
    first.inbound = replace(first.inbound, scope=first.inbound.scope._replace(our_hosts=hosts))
    return core


def test_an_address_that_was_put_off_is_reached_a_little_later_and_nobody_is_told(identities: Identities) -> None:
    """RFC 7296 2.25: the gateway is just replacing its IKE_SA."""
    net, a, b = tunnel(identities, ours=BOTH_NETWORKS)
    a.send(b"first", SERVICE)
    net.run(2)
    core = also_at(b, bytes((10, 93, 0, 1)))
    begin_for_peer(core.ike.attempts, b"nonce")
    a.send(b"second", OTHER)
    net.run(1)
    assert a.machine.report(OTHER).state == "negotiating"
    assert a.machine.counters == {"rekey-refused": 1}
    core.ike.attempts.clear()
    net.run(7)
    assert b.received == [b"first", b"second"]
    assert a.machine.report(OTHER).state == "established"
    assert a.machine.take_failure(OTHER) is None
    assert a.machine.counters == {"rekey-refused": 1}


def test_an_address_that_no_sa_will_cover_is_told_to_its_sender_and_harms_no_other(identities: Identities) -> None:
    net, a, b = tunnel(identities, ours=BOTH_NETWORKS)
    a.send(b"first", SERVICE)
    net.run(2)
    a.send(b"second", OTHER)
    assert a.machine.report(OTHER).state == "negotiating"
    net.run(2)
    assert a.machine.report(OTHER).state == "failed"
    assert isinstance(a.machine.take_failure(OTHER), PeerIncompatible)
    assert a.machine.take_failure(OTHER) is None
    assert (a.machine.queued, a.machine.counters["first-datagrams-lost"]) == (0, 1)
    a.send(b"third", SERVICE)
    net.run(1)
    assert b.received == [b"first", b"third"]


def test_another_principal_at_a_gateway_is_refused(identities: Identities) -> None:
    entry = replace(TO_B, peer=ANY_TRUSTED_PEER)
    net, a, b = tunnel(identities, ours=entry)
    a.send(b"first", SERVICE)
    net.run(2)
    b.machine.close(net.clock.now())
    b.flush()
    net.run(1)
    other = net.host(GATEWAY, identity=identities.by_address[C], seed="other", adapt=knowing(FROM_A))
    a.send(b"second", SERVICE)
    net.run(3)
    assert isinstance(a.machine.take_failure(SERVICE), AuthenticationFailed)
    assert other.received == []
    a.machine.forget(SERVICE, net.clock.now())
    a.send(b"third", SERVICE)
    net.run(3)
    assert other.received == [b"third"]


def test_a_translator_that_moves_the_peer_is_followed_when_a_packet_proves_it(identities: Identities) -> None:
    net = Net(identities)
    outside: list[Address] = [("198.51.100.1", 40000)]
    net.translate = lambda route: (
        (route[0], outside[0]) if route[1] == A else (A, route[1]) if route[0] == outside[0] else route
    )
    a = net.host(A, adapt=knowing(TO_B))
    b = net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(replace(FROM_A, gateway="198.51.100.0/24")))
    a.send(b"first", SERVICE)
    net.run(2)
    outside[0] = ("198.51.100.1", 41000)
    travelled = seen(net)
    # what anybody can send from there proves nothing
    b.receive(bytes(40), outside[0])
    b.receive(b"\0\0\0\0" + bytes(60), outside[0])
    b.send(b"lost", OUR_INNER)
    assert travelled[-1][0][0] == ("198.51.100.1", 40000)
    a.send(b"second", SERVICE)
    net.run(1)
    b.send(b"answer", OUR_INNER)
    net.run(1)
    assert a.received == [b"answer"]
    assert b.machine.counters["moved"] == 1
    assert [each.address for each in b.arrivals] == [OUR_INNER, OUR_INNER]


def test_a_translator_between_is_reminded_of_us(identities: Identities) -> None:
    net = Net(identities)
    outside: Address = ("198.51.100.1", 40000)
    net.translate = lambda route: (
        (route[0], outside) if route[1] == A else (A, route[1]) if route[0] == outside else route
    )
    a = net.host(A, adapt=knowing(TO_B))
    net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(replace(FROM_A, gateway=outside[0])))
    a.send(b"first", SERVICE)
    net.run(2)
    travelled = seen(net)
    net.run(45)
    assert [data for (_, source), data in travelled if source == A].count(b"\xff") == 2


def test_an_inner_address_stays_with_the_principal_that_spoke_for_it_first(identities: Identities) -> None:
    net = Net(identities)
    anybody = PeerEntry("10.91.0.0/24", gateway="192.0.2.0/24", inner=SERVICE[0], inner_port=7, peer=ANY_TRUSTED_PEER)
    b = net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(anybody))
    a = net.host(A, adapt=knowing(TO_B))
    thief = net.host(C, adapt=knowing(TO_B))  # says that the same inner address is its own
    a.send(b"first", SERVICE)
    net.run(2)
    thief.send(b"stolen", SERVICE)
    net.run(2)
    assert b.received == [b"first"]
    assert b.machine.counters["other-principal"] == 1
    inner = (OUR_INNER[0], A[1])
    b.send(b"answer", inner)
    net.run(1)
    assert (a.received, thief.received) == ([b"answer"], [])
    b.machine.forget(inner, net.clock.now())
    b.flush()
    net.run(12)
    thief.send(b"now mine", SERVICE)
    net.run(2)
    assert b.received == [b"first", b"now mine"]


def test_a_host_that_comes_back_from_another_address_is_answered_there(identities: Identities) -> None:
    net = Net(identities)
    anybody = replace(FROM_A, gateway="192.0.2.0/24")
    b = net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(anybody))
    a = net.host(A, adapt=knowing(TO_B))
    a.send(b"first", SERVICE)
    net.run(2)
    del net.hosts[A]
    elsewhere: Address = ("192.0.2.77", A[1])
    back = net.host(elsewhere, identity=identities.by_address[A], adapt=knowing(TO_B))
    back.send(b"second", SERVICE)
    net.run(60)
    assert b.received == [b"first", b"second"]
    b.send(b"answer", OUR_INNER)
    net.run(20)
    assert back.received == [b"answer"]


@pytest.mark.parametrize("answered", [True, False])
def test_who_has_begun_from_a_network_can_be_begun_with_again_when_it_was_answered(
    identities: Identities, answered: bool
) -> None:
    net = Net(identities)
    anybody = replace(FROM_A, gateway="192.0.2.0/24")
    b = net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(anybody))
    a = net.host(A, adapt=knowing(TO_B))
    a.send(b"first", SERVICE)
    net.run(2)
    if answered:
        b.send(b"answer", OUR_INNER)
    net.run(320)
    assert b.machine.report(OUR_INNER).state == "none"
    if answered:
        b.send(b"anew", OUR_INNER)
        net.run(3)
        assert a.received == [b"answer", b"anew"]
    else:
        with pytest.raises(LocalMisuse, match="has begun"):
            b.send(b"anew", OUR_INNER)


def test_who_begins_at_port_500_is_answered_where_it_proves_itself(identities: Identities) -> None:
    """RFC 7296 2.23: the initiator goes on at 4500, whatever a translator makes of either port."""
    net = Net(identities)
    first, then = ("198.51.100.1", 500), ("198.51.100.1", 4500)
    begun: list[bool] = []

    def translate(route: Route) -> Route:
        if route[1] == A:
            begun.append(True)
            return route[0], first if len(begun) == 1 else then
        return (A, route[1]) if route[0] in (first, then) else route

    net.translate = translate
    a = net.host(A, adapt=knowing(TO_B))
    b = net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(replace(FROM_A, gateway=first[0])))
    travelled = seen(net)
    a.send(b"question", SERVICE)
    net.run(2)
    b.send(b"answer", OUR_INNER)
    net.run(1)
    assert (b.received, a.received) == ([b"question"], [b"answer"])
    assert [to for (to, source), _ in travelled if source == GATEWAY] == [first, then, then]


@pytest.mark.parametrize("who", ["a", "b"])
def test_transport_mode_behind_translators_is_replaced_by_either_end(identities: Identities, who: str) -> None:
    net = Net(identities)
    outside: Address = ("198.51.100.1", 40000)
    public: Address = ("198.51.100.2", 4500)
    net.translate = lambda route: {(public, A): (GATEWAY, outside), (outside, GATEWAY): (A, public)}.get(route, route)
    few = {"packets": 60}
    a = net.host(A, adapt=knowing(PeerEntry(public[0], carrier="4500", peer=NAMES[B]), **(few if who == "a" else {})))
    b = net.host(
        GATEWAY,
        identity=identities.by_address[B],
        adapt=knowing(
            PeerEntry(outside[0], carrier="4500", inner_port=7, peer=NAMES[A]), **(few if who == "b" else {})
        ),
    )
    seen_by_b: Address = (outside[0], A[1])
    a.send(b"first", (public[0], 7))
    net.run(2)
    for number in range(100):
        a.send(b"%d" % number, (public[0], 7))
        b.send(b"%d" % number, seen_by_b)
        net.run(0.1)
    everything = [b"%d" % number for number in range(100)]
    assert (b.received, a.received) == ([b"first", *everything], everything)
    assert a.machine.report((public[0], 7)).rekeys >= 2
    assert {each.address for each in b.arrivals} == {seen_by_b}


def test_a_datagram_whose_last_piece_is_lost_is_forgotten_and_counted(identities: Identities) -> None:
    net, a, b = tunnel(identities)
    a.send(b"first", SERVICE)
    net.run(2)
    network: Any = net.network
    send, lost = network.send, []

    def losing(route: Route, data: bytes, now: float) -> None:
        if len(data) < 1400 and not lost:
            lost.append(data)
        else:
            send(route, data, now)

    network.send = losing
    a.send(bytes(4000), SERVICE)
    net.run(29)
    assert b.machine.counters["fragments-incomplete"] == 0
    net.run(2)
    assert b.machine.counters["fragments-incomplete"] == 1
    a.send(bytes(4000), SERVICE)
    net.run(1)
    assert [len(each) for each in b.received] == [5, 4000]


def test_one_socket_speaks_to_its_own_kind_and_through_a_gateway(identities: Identities) -> None:
    net, a, b = tunnel(identities)
    c = net.host(C)
    a.send(b"to b", SERVICE)
    a.send(b"to c", C)
    net.run(2)
    b.send(b"from b", OUR_INNER)
    c.send(b"from c", A)
    net.run(1)
    assert (b.received, c.received) == ([b"to b"], [b"to c"])
    assert sorted((each.data, each.address) for each in a.arrivals) == [(b"from b", SERVICE), (b"from c", C)]
    proven = [a.machine.report(each).establishment for each in (SERVICE, C)]
    assert [each.peer.name for each in proven if each is not None] == [NAMES[B], NAMES[C]]
    a.machine.forget(SERVICE, net.clock.now())
    assert a.machine.report(C).state == "established"


def echoing(net: Net, at: Address, identity: Identity) -> list[bytes]:
    """An ordinary echo program at an address; what came there."""
    came: list[bytes] = []
    program: Any = net.host(at, identity=identity)

    def receive(datagram: bytes, source: Address) -> None:
        came.append(datagram)
        net.network.send((source, at), datagram, net.clock.now())

    program.receive = receive
    return came


def test_an_echo_program_at_the_own_port_is_taken_for_no_peer(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A, adapt=knowing(EITHER))
    came = echoing(net, OWN_B, identities.by_address[B])
    b = net.host(GATEWAY, identity=identities.by_address[B], adapt=knowing(EITHER_A))
    a.send(b"question", OWN_B)
    net.run(3)
    assert b.received == [b"question"]
    assert a.machine.counters["our-own-message"] == len(came) > 0
    assert a.machine.report(OWN_B).state == "established"


def test_an_echo_program_without_ike_is_spoken_to_in_clear_where_that_is_allowed(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A, settings=SecuritySettings(allow_insecure=True))
    came = echoing(net, OWN_B, identities.by_address[B])
    a.send(b"question", OWN_B)
    net.run(1.9)
    assert b"question" not in came
    net.run(1)
    assert came[-1] == b"question"
    assert a.received == [b"question"]
    assert a.machine.report(OWN_B).state == "clear"
