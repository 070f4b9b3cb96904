"""What an established peer's datagrams live through: rekeys, replays, wrong flows, silence, translation, clear text."""

from __future__ import annotations

import struct
from dataclasses import replace
from math import inf

import pytest

from securesock.engine.context import SecurityContext
from securesock.planes.userspace.packet import PacketSealer
from securesock.policy.negotiation import DEFAULT_QUICK_MODE
from securesock.testing import FakeNetwork
from securesock.types import Address, Lifetimes, SecuritySettings
from securesock.wire.udp_encapsulation import NAT_KEEPALIVE
from tests.support.datagram_net import A, Adapt, B, C, Host, Identities, Net, Route

INSECURE = SecuritySettings(allow_insecure=True)


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


def established(net: Net, **options: SecuritySettings) -> tuple[Host, Host]:
    a, b = net.host(A, **options), net.host(B, **options)
    a.send(b"first", B)
    net.run(1)
    assert b.received == [b"first"]
    b.arrivals.clear()
    return a, b


def sealer_of(host: Host, peer: Address) -> PacketSealer:
    sealer = host.machine._peers[peer].sealer
    assert sealer is not None
    return sealer


def test_the_machine_wants_a_turn_at_once_while_it_has_something_to_send(identities: Identities) -> None:
    net = Net(identities)
    a, _ = established(net)
    assert net.clock.now() < a.machine.due < inf
    a.machine.look_at_path(B, net.clock.now())  # asks no question, because nothing has moved
    assert net.clock.now() < a.machine.due < inf
    a.machine.forget(B, net.clock.now())
    assert a.machine.due == -inf
    assert a.machine.poll_transmit() is not None  # the goodbye
    assert a.machine.due == -inf
    assert a.machine.poll_transmit() is None
    assert net.clock.now() < a.machine.due < inf


# rekeys


def short_lived(**limits: float) -> Adapt:
    def adapt(context: SecurityContext) -> SecurityContext:
        lifetimes = Lifetimes(**(DEFAULT_QUICK_MODE.lifetimes._asdict() | limits))
        return replace(context, quick_mode=replace(DEFAULT_QUICK_MODE, lifetimes=lifetimes))

    return adapt


@pytest.mark.parametrize("limits", [{"max_packets": 60}, {"max_bytes": 3000}, {"seconds": 20.0}])
def test_rekeys_under_traffic_lose_nothing(identities: Identities, limits: dict[str, float]) -> None:
    network: FakeNetwork[Route] = FakeNetwork(latency_s=0.02, jitter_s=0.05, seed=3)
    net = Net(identities, network)
    a, b = net.host(A, adapt=short_lived(**limits)), net.host(B, adapt=short_lived(**limits))
    sent = []
    for number in range(400):
        data = b"%d " % number * 10
        sent.append(data)
        a.send(data, B)
        b.send(data, A)
        net.run(0.1)
    net.run(5)
    assert sorted(b.received) == sorted(a.received) == sorted(sent)
    assert a.machine.report(B).rekeys + b.machine.report(A).rekeys >= 4
    assert len(a.machine._openers) == len(b.machine._openers) == 1


def test_a_key_exchange_sa_is_replaced_too(identities: Identities) -> None:
    def adapt(context: SecurityContext) -> SecurityContext:
        lifetimes = context.main_mode.lifetimes._replace(seconds=20.0)
        return replace(context, main_mode=replace(context.main_mode, lifetimes=lifetimes))

    net = Net(identities)
    a, b = net.host(A, adapt=adapt), net.host(B, adapt=adapt)
    for number in range(60):
        a.send(b"%d" % number, B)
        net.run(1)
    assert b.received == [b"%d" % number for number in range(60)]
    assert a.machine.report(B).rekeys >= 4
    assert len(a.machine._by_ike_spi) < 20


@pytest.mark.parametrize("limits", [{"max_packets": 60}, {"max_bytes": 3000}])
def test_a_key_exchange_sas_data_is_counted_over_all_sas_under_it(
    identities: Identities, limits: dict[str, int]
) -> None:
    def adapt(context: SecurityContext) -> SecurityContext:
        lifetimes = context.main_mode.lifetimes._replace(**limits)
        return replace(context, main_mode=replace(context.main_mode, lifetimes=lifetimes))

    net = Net(identities)
    a, b = net.host(A, adapt=adapt), net.host(B, adapt=adapt)
    sa_ids = set()
    for number in range(200):
        a.send(b"%030d" % number, B)
        net.run(0.2)
        sa_ids.add(a.machine.report(B).main_mode_sa_id)
    assert b.received == [b"%030d" % number for number in range(200)]
    assert len(sa_ids) >= 4
    assert a.machine.counters["past-its-limits"] == 0


# what is not delivered


def test_a_repeated_packet_is_dropped_and_counted(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    packet = sealer_of(a, B).seal(b"once")
    b.receive(bytes(packet), A)
    b.receive(bytes(packet), A)
    assert b.received == [b"once"]
    assert b.machine.counters["replayed"] == 1


def test_packets_may_overtake_each_other_by_a_thousand_and_no_more(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    packets = [bytes(sealer_of(a, B).seal(b"%d" % number)) for number in range(1100)]
    for packet in reversed(packets):
        b.receive(packet, A)
    assert len(b.received) == 1024
    # what lies left of the window is taken for a number after it, whose packet this is not (RFC 4303 A2.2)
    assert b.machine.counters["not-authentic"] == 76


def test_a_changed_packet_is_dropped_and_the_right_one_still_counts(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    packet = bytes(sealer_of(a, B).seal(b"whole"))
    for position in (4, 8, 20, len(packet) - 1):
        changed = bytearray(packet)
        changed[position] ^= 1
        b.receive(bytes(changed), A)
    assert b.received == []
    assert b.machine.counters["not-authentic"] == 4
    b.receive(packet, A)
    assert b.received == [b"whole"]


@pytest.mark.parametrize(
    "inner",
    [
        struct.pack(">HHHH", 9999, B[1], 9, 0) + b"x",
        struct.pack(">HHHH", A[1], 9999, 9, 0) + b"x",
        struct.pack(">HHHH", A[1], B[1], 7, 0) + b"x",
        struct.pack(">HHHH", A[1], B[1], 10, 0) + b"x",
        b"\0\1\2\3",
    ],
    ids=["source port", "destination port", "too short", "too long", "no header"],
)
@pytest.mark.parametrize("next_header", [17, 6])
def test_what_the_selectors_do_not_name_is_dropped_and_counted(
    identities: Identities, inner: bytes, next_header: int
) -> None:
    net = Net(identities)
    a, b = established(net)
    b.receive(crafted(a, inner, next_header), A)
    assert b.received == []
    assert b.machine.counters["wrong-selectors"] + b.machine.counters["malformed-packet"] == 1
    a.send(b"and it works on", B)
    net.run(1)
    assert b.received == [b"and it works on"]


def test_a_datagram_of_another_protocol_is_dropped(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    b.receive(crafted(a, struct.pack(">HHHH", A[1], B[1], 9, 0) + b"x", 6), A)
    assert b.machine.counters["wrong-selectors"] == 1


def test_who_sends_what_the_selectors_do_not_name_has_the_keys_nevertheless(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    net.run(30)
    came = b.machine._peers[A].associations[0].opener
    assert came is not None
    before = came.last_in
    b.receive(crafted(a, struct.pack(">HHHH", 9999, B[1], 9, 0) + b"x", 17), A)
    assert b.machine.counters["wrong-selectors"] == 1
    assert came.last_in == net.clock.now() > before
    forged = bytearray(crafted(a, struct.pack(">HHHH", 9999, B[1], 9, 0) + b"x", 17))
    forged[-1] ^= 1
    net.run(1)
    b.receive(bytes(forged), A)
    assert b.machine.counters["not-authentic"] == 1
    assert came.last_in == net.clock.now() - 1


def test_a_dummy_is_dropped_without_a_word(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    before = dict(b.machine.counters)
    b.receive(crafted(a, b"anything", 59), A)
    assert b.received == []
    assert dict(b.machine.counters) == before


def test_padding_behind_a_datagram_is_not_delivered(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    b.receive(crafted(a, struct.pack(">HHHH", A[1], B[1], 9, 0) + b"x" + bytes(100), 17), A)
    assert b.received == [b"x"]


def crafted(host: Host, inner: bytes, next_header: int) -> bytes:
    """An authentic packet of ``host`` for B with this in it."""
    sa = sealer_of(host, B).sa
    cipher = sa.cipher
    pad = -(len(inner) + 2) % cipher.alignment
    sa.packets += 1
    head = struct.pack(">II", sa.spi, sa.packets) + bytes(cipher.iv_length)
    trailer = bytes(range(1, pad + 1)) + bytes((pad, next_header))
    packet = bytearray(head + inner + trailer + bytes(cipher.icv_length))
    cipher.seal_packet(memoryview(packet), sa.packets)
    return bytes(packet)


def test_what_is_no_packet_is_counted_and_harms_nothing(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    for junk in (b"", b"x", b"1234567", bytes(7), bytes(12), bytes(40), b"\xff" * 8, b"clear text of somebody"):
        b.receive(junk, A)
        b.receive(junk, C)
    b.receive(NAT_KEEPALIVE, A)
    assert b.received == []
    assert b.machine.counters["unknown-spi"] == 4
    assert b.machine.counters["malformed-message"] == 4
    assert b.machine.counters["no-packet"] == 8
    assert C not in b.machine._peers
    a.send(b"still here", B)
    net.run(1)
    assert b.received == [b"still here"]


# time


def test_a_policy_says_after_how_long_an_idle_sa_goes(identities: Identities) -> None:
    def hasty(context: SecurityContext) -> SecurityContext:
        return replace(context, quick_mode=replace(DEFAULT_QUICK_MODE, idle_s=20.0))

    net = Net(identities)
    a, b = net.host(A, adapt=hasty), net.host(B)
    a.send(b"first", B)
    net.run(1)
    assert b.received == [b"first"]
    net.run(18)
    assert [peer for peer, _ in a.machine.live()] == [B]
    net.run(3)
    assert not a.machine.live()
    assert not b.machine.live()  # it was told


def test_an_idle_peers_sas_go_at_both_ends_and_come_again(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    net.run(299)
    assert a.machine.report(B).state == "established"
    net.run(20)
    assert a.machine.report(B).state == b.machine.report(A).state == "none"
    assert not a.machine._openers
    assert not b.machine._openers
    b.send(b"and back", A)
    net.run(1)
    assert a.received == [b"and back"]


def test_a_peer_that_gives_no_sign_of_life_is_given_up_and_tried_anew(identities: Identities) -> None:
    net = Net(identities)
    a, _ = established(net)
    del net.hosts[B]
    a.send(b"into the void", B)
    net.run(60)
    assert a.machine.report(B).state == "none"
    assert a.machine.counters["KeyingTimeout"] == 1
    again = net.host(B, seed="again")
    a.send(b"anew", B)
    net.run(1)
    assert again.received == [b"anew"]


def test_a_peer_that_only_listens_is_alive(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    sa_id = a.machine.report(B).quick_mode_sa_id
    for number in range(100):
        a.send(b"%d" % number, B)
        net.run(1)
    assert len(b.received) == 100
    assert a.machine.report(B).quick_mode_sa_id == sa_id


def test_a_beginning_that_cannot_be_answered_is_counted_and_nothing_more(
    identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_route(*_: object) -> None:
        raise OSError("no route to whoever says to be there")

    net = Net(identities)
    a, b = net.host(A), net.host(B)
    with monkeypatch.context() as patch:
        patch.setattr(b.machine._keying, "make_session", no_route)
        a.send(b"first", B)
        net.run(0.4)
        assert b.machine.counters["cannot-answer"] == 1
        assert not b.machine._peers
        assert len(b.table) == 0
    net.run(2)
    assert b.received == [b"first"]


# translation of addresses


OUTSIDE: Address = ("198.51.100.7", 61001)
MOVED: Address = ("198.51.100.7", 61002)


class Translator:
    """A's address as everybody else sees it."""

    def __init__(self) -> None:
        self.current = OUTSIDE

    def __call__(self, route: Route) -> Route:
        to, source = route
        if source == A:
            return to, self.current
        return (A if to == self.current else to), source


def test_a_run_tells_where_a_translated_peer_has_moved_to(identities: Identities) -> None:
    net = Net(identities)
    net.translate = Translator()
    a, b = net.host(A), net.host(B)
    a.send(b"from behind", B)
    net.run(1)
    sealer = sealer_of(a, B)
    run, size = sealer.seal_run([b"one", b"two"]), sealer.packet_length(3)
    arrivals = b.machine.handle_run_untrusted(run, size, MOVED, net.clock.now())
    assert [(each.data, each.address) for each in arrivals] == [(b"one", OUTSIDE), (b"two", OUTSIDE)]
    assert b.machine.seal(b"back", OUTSIDE, net.clock.now())
    assert b.machine.sealed_for == MOVED
    b.machine.handle_run_untrusted(run, size, OUTSIDE, net.clock.now())
    assert b.machine.seal(b"back", OUTSIDE, net.clock.now())
    assert b.machine.sealed_for == MOVED, "repeated packets move nobody"


def test_a_translated_peer_is_followed_when_it_moves_and_reminded_of(identities: Identities) -> None:
    net = Net(identities)
    net.translate = translator = Translator()
    a, b = net.host(A), net.host(B)
    a.send(b"from behind", B)
    net.run(1)
    assert [(each.data, each.address) for each in b.arrivals] == [(b"from behind", OUTSIDE)]
    b.send(b"back", OUTSIDE)
    net.run(1)
    assert a.received == [b"back"]
    translator.current = MOVED
    a.send(b"moved", B)
    net.run(1)
    assert [(each.data, each.address) for each in b.arrivals][1:] == [(b"moved", OUTSIDE)]
    b.send(b"back again", OUTSIDE)
    net.run(1)
    assert a.received == [b"back", b"back again"]
    carried = net.network.carried
    net.run(100)
    assert net.network.carried > carried + 5
    assert a.machine.report(B).state == "established"


# in clear


def test_a_peer_that_does_not_speak_ike_is_spoken_to_in_clear_only_where_that_is_allowed(
    identities: Identities,
) -> None:
    net = Net(identities)
    a = net.host(A, settings=INSECURE)
    a.send(b"hello", B)
    net.run(1.9)
    assert a.machine.report(B).state == "negotiating"
    net.run(0.2)
    report = a.machine.report(B)
    assert report.state == "clear"
    assert "did not answer IKE" in report.why_clear
    a.send(b"more", B)
    a.receive(b"an answer", B)
    assert a.received == [b"an answer"]
    assert a.arrivals[0].principal is None
    assert a.machine.seal(memoryview(b"clear"), B, net.clock.now()) == b"clear"


def test_a_peer_that_had_an_sa_is_never_spoken_to_or_heard_in_clear(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net, settings=INSECURE)
    b.receive(b"an old acquaintance, in clear", A)
    net.run(400)
    assert b.machine.report(A).state == "none"
    b.receive(b"an old acquaintance, in clear", A)
    assert b.received == []
    assert b.machine.counters["unknown-spi"] == 2
    del net.hosts[A]
    b.send(b"never in clear", A)
    net.run(60)
    assert b.machine.report(A).state == "failed"
    assert a.received == []


def test_who_answered_ike_once_is_not_spoken_to_in_clear(identities: Identities) -> None:
    def only_the_first(to: Route, datagram: bytes) -> list[bytes]:
        return [datagram] if to[0] == B or (not seen and not seen.append(datagram)) else []

    seen: list[bytes] = []
    net = Net(identities, FakeNetwork(tamper=only_the_first))
    a, b = net.host(A, settings=INSECURE), net.host(B)
    a.send(b"hello", B)
    net.run(9)
    assert a.machine.report(B).state == "negotiating"
    net.run(3)
    assert a.machine.report(B).state == "failed"
    assert b.received == []


def test_without_leave_nothing_in_clear_comes_in_or_goes_out(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A)
    a.receive(b"good evening", B)
    a.send(b"hello", B)
    net.run(30)
    assert a.received == []
    assert a.machine.report(B).state == "failed"
