"""On a stream whatever does not fit ends that connection, with the right error and never silently."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from securesock.errors import (
    AuthenticationFailed,
    ConnectionBroken,
    PeerIncompatible,
    PeerMisbehaved,
    SecureSocketError,
)
from securesock.identity.identity import Identity
from securesock.keying.contract import KeyingConfig, Role, SendDatagram
from securesock.keying.ikev2.session import IkeSession
from securesock.testing import FakeNetwork, Pair, SeededEntropy
from securesock.wire.ikev2.message import parse_message_untrusted, write_message
from securesock.wire.ikev2.payloads import KeyExchange, Nonce, Notify, SecurityAssociation, UnknownPayload
from securesock.wire.isakmp import read_header_untrusted
from securesock.wire.numbers import ExchangeType, NotifyType


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    responder = Identity.ephemeral("host/responder.example")
    return Identity.ephemeral("host/initiator.example", authority=responder.authority), responder


def tampered(identities: tuple[Identity, Identity], tamper) -> Pair:
    return Pair(*identities, network=FakeNetwork(ordered=True, tamper=tamper)).establish()


def change(message: bytes, payloads) -> bytes:
    header = read_header_untrusted(message)
    return write_message(
        header.initiator_spi,
        header.responder_spi,
        header.exchange_type,
        header.flags,
        header.message_id,
        payloads(parse_message_untrusted(message).payloads),
    )


def on_init_request(payloads):
    def tamper(to: Role, datagram: bytes) -> Iterable[bytes]:
        is_init = read_header_untrusted(datagram).exchange_type == ExchangeType.IKE_SA_INIT
        return (change(datagram, payloads) if is_init and to is Role.RESPONDER else datagram,)

    return tamper


def on_init_reply(payloads):
    def tamper(to: Role, datagram: bytes) -> Iterable[bytes]:
        is_init = read_header_untrusted(datagram).exchange_type == ExchangeType.IKE_SA_INIT
        return (change(datagram, payloads) if is_init and to is Role.INITIATOR else datagram,)

    return tamper


def test_an_altered_negotiation_is_noticed_by_both(identities: tuple[Identity, Identity]) -> None:
    """Whoever strips the strong proposals on the way is found out by AUTH (RFC 7296 2.15)."""

    def strip(payloads):
        first = payloads[0]
        assert isinstance(first, SecurityAssociation)
        return (SecurityAssociation(first.proposals[-1:]), *payloads[1:])

    pair = tampered(identities, on_init_request(strip))
    assert all(isinstance(each.error, SecureSocketError) for each in pair.endpoints)
    assert isinstance(pair.responder.error, AuthenticationFailed)
    assert not pair.responder.inbound


@pytest.mark.parametrize("kind", [KeyExchange, Nonce, SecurityAssociation])
def test_a_request_without_an_indispensable_payload_is_refused(identities: tuple[Identity, Identity], kind) -> None:
    pair = tampered(
        identities, on_init_request(lambda payloads: tuple(each for each in payloads if not isinstance(each, kind)))
    )
    assert isinstance(pair.responder.error, PeerMisbehaved)
    assert isinstance(pair.initiator.error, PeerMisbehaved)


@pytest.mark.parametrize("kind", [KeyExchange, Nonce, SecurityAssociation])
def test_a_reply_without_an_indispensable_payload_is_refused(identities: tuple[Identity, Identity], kind) -> None:
    pair = tampered(
        identities, on_init_reply(lambda payloads: tuple(each for each in payloads if not isinstance(each, kind)))
    )
    assert isinstance(pair.initiator.error, PeerMisbehaved)


def test_an_unknown_payload_is_skipped_unless_it_is_critical(identities: tuple[Identity, Identity]) -> None:
    def add(critical: bool):
        return on_init_request(lambda payloads: (*payloads, UnknownPayload(201, critical, b"?")))

    critical = tampered(identities, add(True))
    assert isinstance(critical.responder.error, PeerIncompatible)
    assert critical.responder.traces["refused-request"] == 0
    harmless = tampered(identities, add(False))
    # it was skipped, and AUTH noticed that somebody had put it there
    assert isinstance(harmless.responder.error, AuthenticationFailed)


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), b"", b"x" * 31, b"x" * 33])
def test_an_invalid_public_value_is_refused(identities: tuple[Identity, Identity], public: bytes) -> None:
    def spoil(payloads):
        return tuple(KeyExchange(each.group, public) if isinstance(each, KeyExchange) else each for each in payloads)

    assert isinstance(tampered(identities, on_init_request(spoil)).responder.error, PeerMisbehaved)
    assert isinstance(tampered(identities, on_init_reply(spoil)).initiator.error, PeerMisbehaved)


@pytest.mark.parametrize("group", [b"", b"\0", b"\0\x22", b"\0\x1f", b"\0\x13\0"])
def test_a_group_that_was_not_offered_is_not_tried(identities: tuple[Identity, Identity], group: bytes) -> None:
    def demand(payloads):
        return (Notify(NotifyType.INVALID_KE_PAYLOAD, group),)

    pair = tampered(identities, on_init_reply(demand))
    assert isinstance(pair.initiator.error, PeerIncompatible)


def test_a_responder_that_keeps_asking_for_cookies_is_left(identities: tuple[Identity, Identity]) -> None:
    config = Pair(*identities).initiator
    session = config.session
    session.handle_acquire(1.0)
    for _ in range(8):
        request = None
        while (action := session.poll_action()) is not None:
            request = action.data if isinstance(action, SendDatagram) else request
        if request is None:
            break
        reply = write_message(request[:8], bytes(8), 34, 0x20, 0, (Notify(NotifyType.COOKIE, b"c" * 20),))
        session.handle_datagram(reply, 1.0)
    assert not session.established
    assert request is None or read_header_untrusted(request).exchange_type == 34


def test_every_flipped_bit_of_a_protected_message_ends_the_stream(identities: tuple[Identity, Identity]) -> None:
    recorded = Pair(*identities, seed=3).establish()
    protected = [each.data for each in recorded.initiator.actions if isinstance(each, SendDatagram)][-1]
    for at in range(0, len(protected) * 8, 97):
        flipped = bytearray(protected)
        flipped[at // 8] ^= 1 << at % 8
        sent_auth = []

        def tamper(to: Role, datagram: bytes, at: int = at, sent_auth: list[int] = sent_auth) -> Iterable[bytes]:
            if to is Role.RESPONDER and read_header_untrusted(datagram).exchange_type == ExchangeType.IKE_AUTH:
                sent_auth.append(1)
                spoiled = bytearray(datagram)
                spoiled[at // 8 % len(spoiled)] ^= 1 << at % 8
                return (bytes(spoiled),)
            return (datagram,)

        pair = tampered(identities, tamper)
        assert sent_auth
        assert isinstance(pair.responder.error, PeerMisbehaved | PeerIncompatible), at
        assert not pair.responder.inbound
        assert not pair.initiator.session.established


def test_a_second_beginning_on_one_connection_is_refused(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities).establish()
    init = next(each.data for each in pair.initiator.actions if isinstance(each, SendDatagram))
    pair.responder.session.handle_datagram(init, pair.clock.now())
    pair.collect()
    assert isinstance(pair.responder.error, PeerMisbehaved)


def test_a_replayed_protected_message_ends_the_stream(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities).establish()
    last = [each.data for each in pair.initiator.actions if isinstance(each, SendDatagram)][-1]
    pair.responder.session.handle_datagram(last, pair.clock.now())
    pair.collect()
    assert isinstance(pair.responder.error, PeerMisbehaved)


def test_a_message_of_another_version_is_answered_with_ours(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities)
    pair.initiator.session.handle_acquire(pair.clock.now())
    action = pair.initiator.session.poll_action()
    assert isinstance(action, SendDatagram)
    other = bytearray(action.data)
    other[17] = 0x30
    pair.responder.session.handle_datagram(bytes(other), pair.clock.now())
    reply = pair.responder.session.poll_action()
    assert isinstance(reply, SendDatagram)
    notify = parse_message_untrusted(reply.data).payloads[0]
    assert isinstance(notify, Notify)
    assert notify.notify_type == NotifyType.INVALID_MAJOR_VERSION
    pair.collect()
    assert isinstance(pair.responder.error, PeerIncompatible)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("junk", [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", bytes(28), bytes(300)])
def test_garbage_ends_the_stream_as_the_peers_fault(
    identities: tuple[Identity, Identity], role: Role, junk: bytes
) -> None:
    pair = Pair(*identities)
    endpoint = pair.initiator if role is Role.INITIATOR else pair.responder
    if role is Role.INITIATOR:
        endpoint.session.handle_acquire(pair.clock.now())
    endpoint.session.handle_datagram(junk, pair.clock.now())
    pair.collect()
    assert isinstance(endpoint.error, PeerMisbehaved | PeerIncompatible)
    assert not endpoint.session.peer_speaks_ike


def test_an_altered_message_after_establishing_breaks_the_connection(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities).establish()
    pair.initiator.session.rekey_child(pair.clock.now())
    request = pair.initiator.session.poll_action()
    assert isinstance(request, SendDatagram)
    pair.responder.session.handle_datagram(request.data[:-1] + bytes((request.data[-1] ^ 1,)), pair.clock.now())
    pair.collect()
    assert isinstance(pair.responder.error, ConnectionBroken)


def test_a_machine_that_is_over_ignores_what_still_comes(identities: tuple[Identity, Identity]) -> None:
    config: KeyingConfig | None = None

    def keep(each: KeyingConfig) -> KeyingConfig:
        nonlocal config
        config = each
        return each

    Pair(*identities, responder=keep)
    assert config is not None
    session = IkeSession(config, SeededEntropy(1))
    session.handle_datagram(b"junk", 0.0)
    while session.poll_action() is not None:
        pass
    session.handle_datagram(b"junk", 0.0)
    session.rekey_child(0.0)
    session.handle_timeout(0.0)
    assert session.poll_action() is None
    assert session.next_deadline() is None
