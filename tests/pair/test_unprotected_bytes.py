"""Bytes that prove nothing: on datagrams they are dropped and counted whatever they say, and no state changes.

RFC 7296 2.21.1 and 2.21.4.  On a stream they end that connection, with the peer to blame and without a crash.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from securesock.errors import KeyingTimeout, PeerIncompatible, PeerMisbehaved
from securesock.identity.identity import Identity
from securesock.keying.contract import Role, SendDatagram
from securesock.testing import Endpoint, FakeNetwork, Pair
from securesock.wire.ikev2.message import parse_message_untrusted, write_message, write_sk_prefix, write_skf_prefix
from securesock.wire.ikev2.payloads import KeyExchange, Nonce, Notify, Payload, SecurityAssociation
from securesock.wire.isakmp import IkeHeader, read_header_untrusted
from securesock.wire.numbers import ExchangeType, HeaderFlag, NotifyType

FROM_INITIATOR, REPLY = int(HeaderFlag.INITIATOR), int(HeaderFlag.RESPONSE)
ERRORS = (NotifyType.INVALID_IKE_SPI, NotifyType.AUTHENTICATION_FAILED, NotifyType.INVALID_SYNTAX)


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


def datagrams(identities: tuple[Identity, Identity]) -> Pair:
    return Pair(*identities, network=FakeNetwork())


def stream(identities: tuple[Identity, Identity]) -> Pair:
    return Pair(*identities)


def sent(endpoint: Endpoint) -> list[bytes]:
    return [each.data for each in endpoint.actions if isinstance(each, SendDatagram)]


def next_datagram(pair: Pair, endpoint: Endpoint) -> bytes:
    """What an endpoint sends next; nothing else reaches the other."""
    while (action := endpoint.session.poll_action()) is not None:
        datagram = endpoint.carry_out(action)
        if datagram is not None:
            return datagram
    raise AssertionError("nothing was sent")


def spis(pair: Pair) -> tuple[bytes, bytes]:
    header = read_header_untrusted(sent(pair.responder)[-1])
    return header.initiator_spi, header.responder_spi


@pytest.mark.parametrize("notify_type", ERRORS, ids=lambda each: each.name)
@pytest.mark.parametrize("exchange", [ExchangeType.INFORMATIONAL, ExchangeType.CREATE_CHILD_SA])
def test_a_message_in_clear_changes_nothing_between_established_ends(
    identities: tuple[Identity, Identity], exchange: ExchangeType, notify_type: NotifyType
) -> None:
    pair = datagrams(identities).establish()
    pair.initiator.session.rekey_child(pair.clock.now())  # so that a reply is awaited
    next_datagram(pair, pair.initiator)
    replies = len(sent(pair.responder))
    for endpoint, flags in ((pair.initiator, 0), (pair.responder, FROM_INITIATOR)):
        for message_id in range(5):
            for is_reply in (0, REPLY):
                forged = write_message(*spis(pair), exchange, flags | is_reply, message_id, (Notify(notify_type),))
                endpoint.session.handle_datagram(forged, pair.clock.now())
    pair.collect()
    assert [each.error for each in pair.endpoints] == [None, None]
    assert len(sent(pair.responder)) == replies
    pair.settle()
    assert pair.congruent()
    assert pair.initiator.rekeys["child"] == 1


@pytest.mark.parametrize("is_reply", [0, REPLY])
@pytest.mark.parametrize("make", [datagrams, stream])
def test_a_protected_message_before_there_are_keys_is_no_surprise(
    identities: tuple[Identity, Identity], make: Callable[[tuple[Identity, Identity]], Pair], is_reply: int
) -> None:
    pair = make(identities)
    pair.initiator.session.handle_acquire(pair.clock.now())
    request = read_header_untrusted(next_datagram(pair, pair.initiator))
    body = bytes(64)
    early = write_sk_prefix(request.initiator_spi, bytes(8), ExchangeType.IKE_AUTH, is_reply, 0, 0, len(body)) + body
    pair.initiator.session.handle_datagram(early, pair.clock.now())
    pair.collect()
    if pair.network.ordered:
        assert isinstance(pair.initiator.error, PeerMisbehaved)
    else:
        pair.settle()
        assert pair.congruent()


@pytest.mark.parametrize("make", [datagrams, stream])
def test_a_fragment_where_fragments_were_not_agreed_on_is_refused(
    identities: tuple[Identity, Identity], make: Callable[[tuple[Identity, Identity]], Pair]
) -> None:
    """RFC 7383 2.4: MUST NOT be used unless both announced it."""
    pair = make(identities)
    pair.initiator.session.handle_acquire(pair.clock.now())
    request = parse_message_untrusted(next_datagram(pair, pair.initiator))
    silent = [
        each
        for each in request.payloads
        if not isinstance(each, Notify) or each.notify_type != NotifyType.IKEV2_FRAGMENTATION_SUPPORTED
    ]
    pair.responder.session.handle_datagram(rewritten(request.header, silent), pair.clock.now())
    reply = parse_message_untrusted(next_datagram(pair, pair.responder))
    assert Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) not in reply.payloads
    body = bytes(64)
    fragment = write_skf_prefix(
        reply.header.initiator_spi,
        reply.header.responder_spi,
        ExchangeType.IKE_INTERMEDIATE,
        FROM_INITIATOR,
        1,
        0,
        len(body),
        1,
        2,
    )
    pair.responder.session.handle_datagram(fragment + body, pair.clock.now())
    pair.collect()
    assert pair.responder.traces["unexpected-fragment"] == 1
    assert isinstance(pair.responder.error, PeerMisbehaved) == pair.network.ordered


def rewritten(header: IkeHeader, payloads: list[Payload]) -> bytes:
    return write_message(
        header.initiator_spi, header.responder_spi, header.exchange_type, header.flags, header.message_id, payloads
    )


# IKE_SA_INIT is all in clear: on datagrams the first answer is not the only one that may come


def answer_first(pair: Pair, forge: Callable[[IkeHeader], bytes]) -> None:
    """Somebody on the path answers the initiator before the responder can."""
    pair.initiator.session.handle_acquire(pair.clock.now())
    request = next_datagram(pair, pair.initiator)
    pair.initiator.session.handle_datagram(forge(read_header_untrusted(request)), pair.clock.now())
    pair.network.send(Role.RESPONDER, request, pair.clock.now())
    pair.settle()


def forged(*payloads: Payload, responder_spi: bytes = b"forger's") -> Callable[[IkeHeader], bytes]:
    def forge(header: IkeHeader) -> bytes:
        return write_message(header.initiator_spi, responder_spi, ExchangeType.IKE_SA_INIT, REPLY, 0, payloads)

    return forge


FORGERIES = {
    "error": forged(Notify(NotifyType.NO_PROPOSAL_CHOSEN), responder_spi=bytes(8)),
    "nothing": forged(),
    "group not offered": forged(Notify(NotifyType.INVALID_KE_PAYLOAD, b"\0\x02"), responder_spi=bytes(8)),
    "cookie too long": forged(Notify(NotifyType.COOKIE, bytes(65)), responder_spi=bytes(8)),
    "incomplete": forged(Nonce(bytes(32)), KeyExchange(31, bytes(32))),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_first_answer_does_not_end_a_negotiation_on_datagrams(
    identities: tuple[Identity, Identity], name: str
) -> None:
    pair = datagrams(identities)
    answer_first(pair, FORGERIES[name])
    assert pair.initiator.error is None
    assert pair.congruent()
    assert sum(pair.initiator.traces.values()) >= 1


def test_a_public_value_of_somebody_elses_does_not_end_a_negotiation_on_datagrams(
    identities: tuple[Identity, Identity],
) -> None:
    pair = datagrams(identities)

    def spoil(header: IkeHeader) -> bytes:
        """A whole answer of the responder's with an invalid public value."""
        other = datagrams(identities)
        other.initiator.session.handle_acquire(0.0)
        request = next_datagram(other, other.initiator)
        other.responder.session.handle_datagram(request, 0.0)
        message = parse_message_untrusted(next_datagram(other, other.responder))
        payloads = [
            KeyExchange(each.group, bytes(32)) if isinstance(each, KeyExchange) else each for each in message.payloads
        ]
        assert isinstance(payloads[0], SecurityAssociation)
        return rewritten(message.header._replace(initiator_spi=header.initiator_spi), payloads)

    answer_first(pair, spoil)
    assert pair.initiator.error is None
    assert pair.congruent()


def test_a_refusal_that_nobody_contradicts_is_the_error_in_the_end(identities: tuple[Identity, Identity]) -> None:
    pair = datagrams(identities)
    pair.network.tamper = lambda to, datagram: () if to is Role.RESPONDER else (datagram,)
    pair.initiator.session.handle_acquire(pair.clock.now())
    request = next_datagram(pair, pair.initiator)
    refusal = FORGERIES["error"](read_header_untrusted(request))
    pair.initiator.session.handle_datagram(refusal, pair.clock.now())
    pair.collect()
    assert pair.initiator.error is None
    pair.settle(timeout_s=1000)
    assert isinstance(pair.initiator.error, PeerIncompatible)
    assert "NO_PROPOSAL_CHOSEN" in str(pair.initiator.error)


def test_silence_is_a_timeout_in_the_end(identities: tuple[Identity, Identity]) -> None:
    pair = datagrams(identities)
    pair.network.tamper = lambda to, datagram: ()
    pair.establish(timeout_s=1000)
    assert isinstance(pair.initiator.error, KeyingTimeout)


@pytest.mark.parametrize("name", FORGERIES)
def test_on_a_stream_the_first_answer_is_the_only_one(identities: tuple[Identity, Identity], name: str) -> None:
    pair = stream(identities)
    pair.initiator.session.handle_acquire(pair.clock.now())
    request = next_datagram(pair, pair.initiator)
    pair.initiator.session.handle_datagram(FORGERIES[name](read_header_untrusted(request)), pair.clock.now())
    pair.collect()
    assert isinstance(pair.initiator.error, PeerMisbehaved | PeerIncompatible)


def change_header(**changes: object) -> Callable[[bytes], bytes]:
    def change(request: bytes) -> bytes:
        message = parse_message_untrusted(request)
        return rewritten(message.header._replace(**changes), list(message.payloads))

    return change


MALFORMED_FIRST_REQUESTS = {
    "no initiator SPI": change_header(initiator_spi=bytes(8)),  # RFC 7296 3.1: MUST NOT be zero
    "a responder SPI": change_header(responder_spi=b"x" * 8),  # RFC 7296 3.1: MUST be zero
    "not the initiator": change_header(flags=0),  # RFC 7296 3.1: set by the original initiator
    "another message ID": change_header(message_id=1),  # RFC 7296 2.2: zero
}


@pytest.mark.parametrize("name", MALFORMED_FIRST_REQUESTS)
def test_a_first_request_with_an_impossible_header_is_not_answered(
    identities: tuple[Identity, Identity], name: str
) -> None:
    pair = datagrams(identities)
    pair.initiator.session.handle_acquire(pair.clock.now())
    request = next_datagram(pair, pair.initiator)
    pair.responder.session.handle_datagram(MALFORMED_FIRST_REQUESTS[name](request), pair.clock.now())
    pair.collect()
    assert not sent(pair.responder)
    assert pair.responder.traces["malformed-message"] == 1
    assert not pair.responder.session.peer_speaks_ike


def other_version(version: int) -> Callable[[bytes], bytes]:
    return lambda request: request[:17] + bytes((version,)) + request[18:]


def test_a_higher_version_is_told_ours_with_the_request_s_numbers(identities: tuple[Identity, Identity]) -> None:
    """RFC 7296 1.5 and 2.5: SPIs, message ID and exchange type are copied from the request."""
    pair = datagrams(identities)
    pair.initiator.session.handle_acquire(pair.clock.now())
    request = bytearray(other_version(0x30)(next_datagram(pair, pair.initiator)))
    request[18] = 77  # an exchange of version 3
    request[20:24] = (5).to_bytes(4, "big")
    pair.responder.session.handle_datagram(bytes(request), pair.clock.now())
    pair.collect()
    (reply,) = sent(pair.responder)
    header = read_header_untrusted(reply)
    assert (header.initiator_spi, header.responder_spi) == (bytes(request[:8]), bytes(request[8:16]))
    assert (header.version, header.exchange_type, header.message_id, header.flags) == (0x20, 77, 5, REPLY)
    assert parse_message_untrusted(reply).payloads == (Notify(NotifyType.INVALID_MAJOR_VERSION),)
    assert pair.responder.error is None


def test_version_one_is_not_answered(identities: tuple[Identity, Identity]) -> None:
    """RFC 7296 2.5 wants the notify for higher versions; version 1 could not read it."""
    pair = datagrams(identities)
    pair.initiator.session.handle_acquire(pair.clock.now())
    request = other_version(0x10)(next_datagram(pair, pair.initiator))
    pair.responder.session.handle_datagram(request, pair.clock.now())
    pair.collect()
    assert not sent(pair.responder)
    assert pair.responder.traces["other-version"] == 1
