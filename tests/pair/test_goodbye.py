"""How a session ends from this side: the window of one holds for the last words too (RFC 7296 2.3)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from securesock.identity.identity import Identity
from securesock.keying.contract import Role, SendDatagram
from securesock.testing import FakeNetwork, Pair
from securesock.wire.ikev2.message import write_sk_prefix
from securesock.wire.isakmp import read_header_untrusted
from securesock.wire.numbers import ExchangeType, HeaderFlag


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


def assert_over(pair: Pair) -> None:
    for each in pair.endpoints:
        assert each.closed is not None
        assert each.error is None
        assert not each.inbound
        assert each.outbound is None


@pytest.mark.parametrize("what", ["rekey_child", "rekey_ike", "check_liveness"])
@pytest.mark.parametrize("loss", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_a_goodbye_waits_for_the_reply_to_what_we_asked_before(
    identities: tuple[Identity, Identity], what: str, loss: float, seed: int
) -> None:
    """Under the same message ID the peer would take it for a repeat, and keep a dead SA."""
    network: FakeNetwork[Role] = FakeNetwork(loss=loss, jitter_s=0.1, seed=seed)
    pair = Pair(*identities, network=network, seed=seed).establish(timeout_s=300)
    getattr(pair.initiator.session, what)(pair.clock.now())
    pair.collect()
    pair.initiator.session.delete(pair.clock.now())
    pair.collect()
    assert pair.initiator.closed is not None
    pair.settle(timeout_s=400)
    assert_over(pair)
    requests = [
        (header.initiator_spi, header.message_id, each.data)
        for each in pair.initiator.actions
        if isinstance(each, SendDatagram)
        and not (header := read_header_untrusted(each.data)).flags & HeaderFlag.RESPONSE
        and header.exchange_type not in (ExchangeType.IKE_SA_INIT, ExchangeType.IKE_INTERMEDIATE)
    ]
    # one request under one message ID, however often it was sent (fragments aside)
    whole = {each for each in requests if len(each[2]) < 1000}
    assert len({each[:2] for each in whole}) == len(whole)


def test_a_goodbye_on_a_stream_is_never_a_breach_of_the_window(identities: tuple[Identity, Identity]) -> None:
    """The carrier's end says what the DELETE would have said."""
    pair = Pair(*identities).establish()
    pair.initiator.session.rekey_child(pair.clock.now())
    pair.collect()
    pair.initiator.session.delete(pair.clock.now())
    pair.settle()
    assert pair.initiator.closed is not None
    assert pair.responder.error is None


def test_nobody_but_the_peer_ends_the_wait_for_its_reply(identities: tuple[Identity, Identity]) -> None:
    held: list[bytes] = []

    def hold(to: Role, datagram: bytes) -> Iterable[bytes]:
        if to is Role.INITIATOR:
            held.append(datagram)
            return ()
        return (datagram,)

    network: FakeNetwork[Role] = FakeNetwork()
    pair = Pair(*identities, network=network).establish()
    network.tamper = hold
    pair.initiator.session.rekey_child(pair.clock.now())
    pair.settle(timers=False)
    (reply,) = held
    pair.initiator.session.delete(pair.clock.now())
    pair.collect()
    before = len(pair.initiator.actions)
    for junk in (reply[:-1] + bytes((reply[-1] ^ 1,)), reply[:-1], reply[:40], b""):
        pair.initiator.session.handle_datagram(junk, pair.clock.now())
    pair.collect()
    assert not any(isinstance(each, SendDatagram) for each in pair.initiator.actions[before:])
    network.tamper = None
    pair.initiator.session.handle_datagram(reply, pair.clock.now())
    pair.settle(timers=False)
    assert_over(pair)


def test_a_session_that_ended_before_it_had_keys_is_not_troubled_by_a_protected_message(
    identities: tuple[Identity, Identity],
) -> None:
    pair = Pair(*identities, network=FakeNetwork())
    pair.initiator.session.handle_acquire(pair.clock.now())
    request = pair.initiator.session.poll_action()
    assert isinstance(request, SendDatagram)
    pair.initiator.session.delete(pair.clock.now())
    pair.collect()
    before = len(pair.initiator.actions)
    for is_reply in (0, HeaderFlag.RESPONSE):
        early = write_sk_prefix(request.data[:8], bytes(8), ExchangeType.IKE_AUTH, is_reply, 0, 0, 64) + bytes(64)
        pair.initiator.session.handle_datagram(early, pair.clock.now())
    pair.collect()
    assert pair.initiator.actions[before:] == []
