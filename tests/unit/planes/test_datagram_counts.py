"""What a datagram machine counts by its reason and by nothing else, while all that it has goes on."""

from __future__ import annotations

import errno
import struct
from dataclasses import replace
from typing import Any

import pytest

from securesock.engine.half_open import HalfOpenTable
from securesock.errors import PolicyRefused
from securesock.keying.contract import InstallSa
from securesock.planes.userspace.datagram import MAX_QUEUED, MAX_QUEUED_BYTES
from securesock.sockets import datagram_keying
from securesock.types import Address
from securesock.wire.isakmp import read_header_untrusted
from securesock.wire.numbers import ExchangeType
from securesock.wire.tcp_encapsulation import NON_ESP_MARKER
from tests.support.datagram_net import NAMES, A, B, C, Host, Identities, Net, Route, parse_peer_target_name


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


def established(net: Net) -> tuple[Host, Host]:
    a, b = net.host(A), net.host(B)
    a.send(b"first", B)
    net.run(1)
    assert b.received == [b"first"]
    assert {reason for host in (a, b) for reason, count in host.machine.counters.items() if count} == set()
    return a, b


def goes_on(net: Net, a: Host, b: Host) -> None:
    a.send(b"and on", B)
    b.send(b"and back", A)
    net.run(1)
    assert (b.received[-1], a.received[-1]) == (b"and on", b"and back")


def test_a_message_of_no_key_exchange_is_counted(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    for spi, flags in ((b"i" * 8, 0x08), (b"\1" * 8, 0x20), (b"r" * 8, 0x28)):
        message = spi + spi[::-1] + struct.pack(">BBBBII", 46, 0x20, 37, flags, 5, 28 + 36) + bytes(36)
        b.receive(NON_ESP_MARKER + message, A)
        b.receive(NON_ESP_MARKER + message, C)
    assert b.machine.counters == {"unknown-ike-spi": 6}
    assert C not in b.machine._peers
    goes_on(net, a, b)


def test_a_beginning_that_is_none_is_counted(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    for exchange in (ExchangeType.IKE_AUTH, ExchangeType.INFORMATIONAL, ExchangeType.CREATE_CHILD_SA, 99):
        message = b"s" * 8 + bytes(8) + struct.pack(">BBBBII", 0, 0x20, int(exchange), 0x08, 0, 28)
        b.receive(NON_ESP_MARKER + message, C)
    assert b.machine.counters == {"unexpected-request": 4}
    assert C not in b.machine._peers
    assert len(b.table) == 0
    goes_on(net, a, b)


@pytest.mark.parametrize(
    "datagrams", [[b"x"] * MAX_QUEUED, [bytes(60000), bytes(MAX_QUEUED_BYTES - 60000)], [bytes(1024)] * 64]
)
def test_what_is_more_than_is_kept_is_counted_and_the_rest_arrives(
    identities: Identities, datagrams: list[bytes]
) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    a.machine.begin(B, parse_peer_target_name(NAMES[B]), net.clock.now())
    assert all(a.machine.enqueue(each, B) for each in datagrams)
    assert not a.machine.enqueue(b"y", B)
    assert a.machine.counters == {"first-datagrams-too-many": 1}
    # another peer has a room of its own
    a.machine.begin(C, parse_peer_target_name(NAMES[C]), net.clock.now())
    assert a.machine.enqueue(b"for c", C)
    c = net.host(C)
    a.flush()
    net.run(1)
    assert b.received == datagrams
    assert c.received == [b"for c"]


def test_what_no_datagram_holds_is_refused_at_once_and_what_waits_goes_nevertheless(identities: Identities) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    a.send(b"first", B)
    for longest in (65528, 65536, 1 << 20):
        with pytest.raises(OSError, match="Message too long") as caught:
            a.machine.enqueue(bytes(longest), B)
        assert caught.value.errno == errno.EMSGSIZE
    net.run(1)
    for longest in (65528, 65536, 1 << 20):
        with pytest.raises(OSError, match="Message too long"):
            a.machine.seal(bytes(longest), B, net.clock.now())
        with pytest.raises(OSError, match="Message too long"):
            a.machine.seal_run([bytes(longest)] * 2, 0, 64, 1 << 24, B, net.clock.now())
    a.send(bytes(65527), B)
    net.run(1)
    assert b.received == [b"first", bytes(65527)]
    goes_on(net, a, b)


@pytest.mark.parametrize("cookies", [False, True])
def test_one_source_has_its_share_of_half_open_negotiations_and_makes_room_at_nobody_elses_expense(
    identities: Identities, monkeypatch: pytest.MonkeyPatch, cookies: bool
) -> None:
    """With cookies all of them have shown where they are: then the newcomer is refused, not the oldest."""
    if cookies:
        monkeypatch.setattr(datagram_keying, "CROWDED_AT", 0)
    net = Net(identities)
    b = net.host(B, table=HalfOpenTable(max_per_source=3))
    silenced: list[Address] = []

    def silent_after_the_first_answer(route: Route, datagram: bytes) -> list[bytes]:
        if route[1] not in silenced:
            return [datagram]
        begins = read_header_untrusted(datagram[4:]).exchange_type == ExchangeType.IKE_SA_INIT
        return [datagram] if begins else []

    net.network.tamper = silent_after_the_first_answer
    for number in range(5):
        where: Address = ("198.51.100.1", 40000 + number)
        silenced.append(where)
        net.host(where, identity=identities.by_address[A]).send(b"x", B)
        net.run(0.1)
    assert len(b.table) == 3
    c = net.host(C)
    c.send(b"of somebody else", B)
    net.run(0.3)
    assert b.received == [b"of somebody else"]
    assert b.machine.counters == ({"too-many-half-open": 2, "asked-for-cookie": 6} if cookies else {"evicted": 2})
    net.network.tamper = None
    for where in silenced:
        del net.hosts[where]
    net.run(30)
    assert len(b.table) == 0
    assert set(b.machine._peers) == {C}


def test_two_sas_that_chose_one_spi_are_told_apart_by_ending_the_later_one(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    (spi,) = b.machine._openers
    machine: Any = b.machine
    drive = machine._drive

    def same_spi(association: Any, to: Address, now: float) -> None:
        session = association.session
        poll = session.poll_action

        def poll_action() -> object:
            action = poll()
            if isinstance(action, InstallSa) and action.direction == "inbound":
                return action._replace(spec=replace(action.spec, spi=spi))
            return action

        if association.peer.address == C:
            session.poll_action = poll_action
        drive(association, to, now)

    machine._drive = same_spi
    c = net.host(C)
    c.send(b"lost", B)
    net.run(1)
    assert b.machine.counters["spi-collision"] == 1
    assert b.received == [b"first"]
    assert b.machine.report(C).state == "none"
    del machine._drive
    goes_on(net, a, b)
    c.send(b"anew", B)
    net.run(1)
    assert b.received[-1] == b"anew"


def test_what_policy_ends_is_counted_and_told_to_the_sender_and_the_other_end(identities: Identities) -> None:
    net = Net(identities)
    a, b = established(net)
    a.machine.break_off(C, PolicyRefused("nobody is there"), net.clock.now())
    assert a.machine.counters == {}
    a.machine.break_off(B, PolicyRefused("no more"), net.clock.now())
    a.flush()
    assert a.machine.counters == {"policy-changed": 1}
    assert a.machine.report(B).state == "failed"
    assert isinstance(a.machine.take_failure(B), PolicyRefused)
    net.run(1)
    assert b.machine.report(A).state == "none"


def test_a_proof_that_may_not_be_renewed_any_more_is_counted_and_runs_out(
    identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Net(identities)
    a = net.host(
        A, adapt=lambda context: replace(context, main_mode=replace(context.main_mode, reauthentication_s=100.0))
    )
    b = net.host(B)
    a.send(b"first", B)
    net.run(1)

    def refuse(*_: object, **__: object) -> None:
        raise PolicyRefused("not to there any more")

    with monkeypatch.context() as patch:
        patch.setattr(a.machine._keying, "make_session", refuse)
        for _ in range(97):  # asked from 90 s on, every 10 s; until 100 s the old one carries
            a.send(b"x", B)
            net.run(1)
        assert len(b.received) == 98
        assert a.machine.counters["cannot-prove-again"] == a.machine.counters["proving-again"] == 1
        net.run(5)
        assert a.machine.report(B).state == "none"
        with pytest.raises(PolicyRefused):
            a.send(b"not in clear, and not under what ran out", B)
    net.run(20)
    a.send(b"allowed again", B)
    net.run(1)
    assert b.received[-2:] == [b"x", b"allowed again"]
