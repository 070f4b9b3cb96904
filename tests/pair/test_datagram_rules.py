"""What only datagram carriers need: repeats, cookies, fragments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from securesock.crypto import suites
from securesock.errors import WireError
from securesock.identity.identity import Identity
from securesock.keying.contract import KeyingConfig, Role, SendDatagram
from securesock.keying.cookies import CookieJar
from securesock.keying.ikev2.cookie_gate import ask_for_cookie_untrusted
from securesock.policy.negotiation import IkeOffer
from securesock.testing import FakeNetwork, Pair, SeededEntropy
from securesock.wire.isakmp import read_header_untrusted
from securesock.wire.numbers import ExchangeType, PayloadType

LARGEST_MESSAGE = 1280 - 40 - 8 - 4
"""RFC 7383 2.5.1: IPv6's minimum MTU, less IPv6, UDP and the non-ESP marker."""


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    responder = Identity.ephemeral("host/responder.example")
    return Identity.ephemeral("host/initiator.example", authority=responder.authority), responder


def sent(pair: Pair, role: Role) -> list[bytes]:
    endpoint = pair.initiator if role is Role.INITIATOR else pair.responder
    return [each.data for each in endpoint.actions if isinstance(each, SendDatagram)]


def test_a_repeated_request_gets_the_stored_reply_byte_for_byte(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities, network=FakeNetwork()).establish()
    requests, replies = sent(pair, Role.INITIATOR), sent(pair, Role.RESPONDER)
    last_reply_id = read_header_untrusted(replies[-1]).message_id
    expected = [each for each in replies if read_header_untrusted(each).message_id == last_reply_id]
    repeat = next(each for each in requests if read_header_untrusted(each).message_id == last_reply_id)
    before = len(sent(pair, Role.RESPONDER))
    pair.responder.session.handle_datagram(repeat, pair.clock.now())
    pair.collect()
    assert sent(pair, Role.RESPONDER)[before:] == expected


def test_an_older_request_is_dropped_and_counted(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities, network=FakeNetwork()).establish()
    pair.initiator.session.rekey_child(pair.clock.now())
    pair.settle()
    before = len(sent(pair, Role.RESPONDER))
    first_protected = next(each for each in sent(pair, Role.INITIATOR) if read_header_untrusted(each).message_id == 1)
    pair.responder.session.handle_datagram(first_protected, pair.clock.now())
    pair.collect()
    assert len(sent(pair, Role.RESPONDER)) == before
    assert pair.responder.traces["unexpected-request"] == 1
    assert pair.responder.error is None


def test_a_silent_peer_is_given_up_after_a_dozen_tries(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities, network=FakeNetwork(loss=1.0))
    pair.establish(timeout_s=1000)
    assert len(sent(pair, Role.INITIATOR)) == 12
    assert type(pair.initiator.error).__name__ == "KeyingTimeout"


def test_garbage_among_datagrams_is_counted_and_harms_nothing(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities, network=FakeNetwork()).establish()
    last = sent(pair, Role.INITIATOR)[-1]
    for junk in (b"", b"\0" * 28, last[:-1], bytes(len(last)), last[:40] + bytes(8) + last[48:]):
        for endpoint in pair.endpoints:
            endpoint.session.handle_datagram(junk, pair.clock.now())
    pair.collect()
    assert [each.error for each in pair.endpoints] == [None, None]
    assert sum(pair.responder.traces.values()) == 5
    pair.initiator.session.rekey_child(pair.clock.now())
    pair.settle()
    assert pair.congruent()


# cookies


def test_an_initiator_shows_that_it_receives_at_its_address(identities: tuple[Identity, Identity]) -> None:
    network: FakeNetwork[Role] = FakeNetwork()
    pair = Pair(*identities, network=network)
    jar = CookieJar(SeededEntropy("jar"), pair.clock.now())
    asked: list[bytes] = []

    def gate(to: Role, datagram: bytes) -> Iterable[bytes]:
        if to is Role.RESPONDER and read_header_untrusted(datagram).exchange_type == ExchangeType.IKE_SA_INIT:
            reply = ask_for_cookie_untrusted(datagram, jar, ("192.0.2.1", 40000), pair.clock.now())
            if reply is not None:
                asked.append(reply)
                network.send(Role.INITIATOR, reply, pair.clock.now())
                return ()
        return (datagram,)

    network.tamper = gate
    pair.establish()
    assert len(asked) == 1
    assert pair.congruent()
    first, second = sent(pair, Role.INITIATOR)[:2]
    assert read_header_untrusted(second).next_payload == PayloadType.NOTIFY
    # RFC 7296 2.6: everything else unchanged, the proposals and the nonce among it
    assert second.endswith(first[28:])


def test_a_cookie_is_good_for_its_request_alone() -> None:
    jar = CookieJar(SeededEntropy(1), 0.0)
    nonce, spi, address = b"n" * 32, b"s" * 8, ("192.0.2.1", 500)
    cookie = jar.bake(nonce, spi, address, 0.0)
    assert jar.accepts(cookie, nonce, spi, address, 1.0)
    assert not jar.accepts(cookie, b"m" * 32, spi, address, 1.0)
    assert not jar.accepts(cookie, nonce, b"t" * 8, address, 1.0)
    assert not jar.accepts(cookie, nonce, spi, ("192.0.2.9", 500), 1.0)
    assert not jar.accepts(cookie, nonce, spi, ("192.0.2.1", 501), 1.0)
    assert not jar.accepts(b"", nonce, spi, address, 1.0)


def test_a_cookie_lives_through_one_change_of_the_secret_and_not_two() -> None:
    jar = CookieJar(SeededEntropy(1), 0.0)
    arguments = (b"n" * 32, b"s" * 8, ("192.0.2.1", 500))
    cookie = jar.bake(*arguments, 0.0)
    assert jar.accepts(cookie, *arguments, 61.0)
    assert not jar.accepts(cookie, *arguments, 122.0)


def test_the_gate_answers_nothing_but_requests(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities, network=FakeNetwork()).establish()
    jar = CookieJar(SeededEntropy(1), 0.0)
    for datagram in (sent(pair, Role.RESPONDER)[0], sent(pair, Role.INITIATOR)[-1], b"x"):
        with pytest.raises(WireError):
            ask_for_cookie_untrusted(datagram, jar, ("192.0.2.1", 500), 0.0)


# fragments


AEAD = IkeOffer((suites.AES_256_GCM_16,), (), (suites.PRF_HMAC_SHA2_256,), (suites.X25519,), (suites.ML_KEM_768,))
CBC = IkeOffer(
    (suites.AES_256_CBC,),
    (suites.HMAC_SHA2_512_256,),
    (suites.PRF_HMAC_SHA2_256,),
    (suites.X25519,),
    (suites.ML_KEM_768,),
)


@pytest.mark.parametrize("offer", [AEAD, CBC], ids=["AEAD", "CBC"])
def test_a_message_larger_than_an_mtu_goes_in_fragments(identities: tuple[Identity, Identity], offer: IkeOffer) -> None:
    def configure(config: KeyingConfig) -> KeyingConfig:
        return replace(config, main_mode=replace(config.main_mode, offers=(offer,)))

    pair = Pair(*identities, network=FakeNetwork(), initiator=configure, responder=configure).establish()
    protected = [each for role in Role for each in sent(pair, role)]
    fragments = [each for each in protected if read_header_untrusted(each).next_payload == PayloadType.SKF]
    assert fragments
    assert max(map(len, protected)) <= LARGEST_MESSAGE
    assert pair.congruent()


def test_nothing_is_fragmented_on_a_stream(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities).establish()
    protected = [each for role in Role for each in sent(pair, role)]
    assert all(read_header_untrusted(each).next_payload != PayloadType.SKF for each in protected)
    assert pair.congruent()
