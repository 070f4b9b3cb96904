"""From whom clear text is delivered where allow_insecure permits it: nobody who speaks IKE, or did (semantics 10)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from securesock.errors import AuthenticationFailed
from securesock.identity.identity import Identity
from securesock.identity.names import parse_peer_target_name
from securesock.types import Address, SecuritySettings
from securesock.wire.ikev2.message import write_message
from securesock.wire.ikev2.payloads import Notify
from securesock.wire.isakmp import read_header_untrusted
from securesock.wire.numbers import ExchangeType, HeaderFlag, NotifyType
from securesock.wire.tcp_encapsulation import NON_ESP_MARKER
from tests.support.datagram_net import NAMES, A, B, C, Identities, Net, Route

INSECURE = SecuritySettings(allow_insecure=True)
# neither ESP nor IKE, and what begins as IKE does
CLEAR = (b"in clear", b"no", NON_ESP_MARKER + b"in clear, behind a marker")


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


@pytest.mark.parametrize("who", ["somebody else", "of another authority"])
def test_who_answered_ike_and_was_refused_is_not_heard_in_clear(identities: Identities, who: str) -> None:
    net = Net(identities)
    a = net.host(A, settings=INSECURE)
    identity = identities.by_address[C] if who == "somebody else" else Identity.ephemeral(NAMES[B])
    net.host(B, identity=identity)
    a.send(b"hello", B)
    for _ in range(2):
        net.run(6)
        assert isinstance(a.machine.report(B).error, AuthenticationFailed)
        for data in CLEAR:
            a.receive(data, B)
    assert a.received == []
    counted = [a.machine.counters[each] for each in ("unknown-spi", "no-packet", "malformed-message")]
    assert counted == [2, 2, 2]


def test_where_a_translator_has_moved_a_peer_to_nothing_comes_in_clear(identities: Identities) -> None:
    outside: list[Address] = [("198.51.100.7", 61001), ("198.51.100.7", 61002)]
    current = [outside[0]]
    net = Net(identities)
    net.translate = lambda route: (
        (route[0], current[0]) if route[1] == A else (A if route[0] == current[0] else route[0], route[1])
    )
    a, b = net.host(A), net.host(B, settings=INSECURE)
    a.send(b"from behind", B)
    net.run(1)
    current[0] = outside[1]
    a.send(b"moved", B)
    net.run(1)
    for idle_s in (1, 400):  # while the SA lives, and when it has gone
        net.run(idle_s)
        for address in outside:
            b.receive(b"a clear word", address)
    assert b.received == [b"from behind", b"moved"]
    assert b.machine.counters["unknown-spi"] == 4


def test_who_was_named_and_gives_no_sign_of_ike_is_spoken_to_and_heard_in_clear(identities: Identities) -> None:
    net = Net(identities)
    a = net.host(A, settings=INSECURE)
    a.machine.expect(B, parse_peer_target_name(NAMES[B]))
    a.receive(b"too early", B)
    a.send(b"hello", B)
    net.run(1.9)
    a.receive(b"still too early", B)
    net.run(0.2)
    assert a.machine.report(B).state == "clear"
    for data in CLEAR:
        a.receive(data, B)
    assert a.received == list(CLEAR)
    assert {(each.principal, each.sa_id) for each in a.arrivals} == {(None, 0)}


@pytest.mark.parametrize(
    "notify", [NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.AUTHENTICATION_FAILED, NotifyType.INVALID_SYNTAX]
)
def test_refusals_that_nothing_proves_make_clear_text_come_no_sooner(
    identities: Identities, notify: NotifyType
) -> None:
    net = Net(identities)
    a = net.host(A, settings=INSECURE)
    travelled: list[bytes] = []

    def forge(_: Route, datagram: bytes) -> list[bytes]:
        travelled.append(datagram)
        header = read_header_untrusted(datagram[4:])
        refusal = (Notify(notify),)
        forged = write_message(
            header.initiator_spi, bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.RESPONSE, 0, refusal
        )
        a.receive(NON_ESP_MARKER + forged, B)
        return []

    net.network.tamper = forge
    a.send(b"hello", B)
    net.run(9.9)
    assert a.machine.report(B).state == "negotiating"
    assert a.machine.counters["unauthenticated-refusal"] > 1
    net.run(1)
    assert a.machine.report(B).state == "failed"
    assert b"hello" not in travelled


@pytest.mark.parametrize("who", ["somebody else", "of another authority", "falls silent"])
def test_who_answered_ike_once_is_never_spoken_to_in_clear_until_its_name_is_deleted(
    identities: Identities, who: str
) -> None:
    """Semantics "In clear, or not": after one well-formed response never; a later silence makes it no other peer."""
    net = Net(identities)
    a = net.host(A, settings=INSECURE)
    identity = {"somebody else": identities.by_address[C], "falls silent": identities.by_address[B]}.get(who)
    net.host(B, identity=identity or Identity.ephemeral(NAMES[B]))
    if who == "falls silent":
        net.network.tamper = _only_the_first_answer()
    a.send(b"hello", B)
    net.run(12)
    assert a.machine.report(B).state == "failed"
    travelled: list[bytes] = []
    net.network.tamper = lambda route, datagram: (travelled.append(datagram), [])[1]
    for _ in range(2):
        a.send(b"hello again", B)
        net.run(12)
        assert a.machine.report(B).state == "failed"
    assert len(travelled) > 4
    assert b"hello again" not in travelled
    a.machine.forget(B, net.clock.now())
    a.send(b"to whoever is there now", B)
    net.run(3)
    assert travelled[-1] == b"to whoever is there now"


def _only_the_first_answer() -> Callable[[Route, bytes], list[bytes]]:
    answered: list[bytes] = []

    def tamper(route: Route, datagram: bytes) -> list[bytes]:
        if route[0] == A:
            answered.append(datagram)
        return [datagram] if route[0] == B or len(answered) == 1 else []

    return tamper
