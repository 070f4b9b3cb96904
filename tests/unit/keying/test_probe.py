"""What an IKEv2 responder agrees to, asked of the responder that we are ourselves and of hostile ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from securesock.crypto.suites import AES_128_CBC, HMAC_SHA2_256_128, MODP_2048, P_256, PRF_HMAC_SHA2_256
from securesock.identity.identity import Identity
from securesock.keying.contract import KeyingConfig, Role, SendDatagram
from securesock.keying.cookies import CookieJar
from securesock.keying.ikev2.cookie_gate import ask_for_cookie_untrusted
from securesock.keying.ikev2.probe import Finding, IkeProbe
from securesock.keying.ikev2.session import IkeSession
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE, IkeOffer
from securesock.testing import SeededEntropy
from securesock.wire.ikev2.message import write_message
from securesock.wire.ikev2.payloads import Notify
from securesock.wire.numbers import ExchangeType, HeaderFlag, NotifyType

OUR, PEER = ("192.0.2.1", 40000), ("192.0.2.2", 4500)
CBC_ONLY = (IkeOffer((AES_128_CBC,), (HMAC_SHA2_256_128,), (PRF_HMAC_SHA2_256,), (P_256, MODP_2048)),)


def responder(question: bytes, offers: tuple[IkeOffer, ...], session: list[IkeSession]) -> bytes:
    """The answer of a responder of our own; ``session`` is kept over a repeated question."""
    if not session:
        config = KeyingConfig(
            role=Role.RESPONDER,
            carrier="datagram",
            identity=Identity.from_psk(name="b.test", peers={"a.test": bytes(range(32))}),
            main_mode=replace(DEFAULT_MAIN_MODE, offers=offers),
            quick_mode=DEFAULT_QUICK_MODE,
            our_address=PEER,
            peer_address=OUR,
            wall_offset_s=0.0,
        )
        session.append(IkeSession(config, SeededEntropy(7)))
    session[0].handle_datagram(question, 0.0)
    while (action := session[0].poll_action()) is not None:
        if isinstance(action, SendDatagram):
            return action.data
    raise AssertionError("no answer")


def probe_all(offers: tuple[IkeOffer, ...], jar: CookieJar | None = None) -> dict[str, Finding]:
    probe = IkeProbe(SeededEntropy(1), OUR, PEER)
    question = probe.next_question()
    while question is not None:
        session: list[IkeSession] = []
        while question is not None and not probe.settled:
            reply = None if jar is None else ask_for_cookie_untrusted(question, jar, OUR, 0.0)
            question = probe.handle_reply_untrusted(reply or responder(question, offers, session))
        question = probe.next_question()
    return {each.name: each for each in probe.findings}


def test_an_open_responder_is_found_to_agree_to_all_of_it() -> None:
    found = probe_all(DEFAULT_MAIN_MODE.offers)
    assert {each.verdict for each in found.values()} == {"accepted"}
    everything = found["all that we know"]
    assert everything.suite.startswith("AES-256-GCM-16/")
    assert everything.suite.endswith("X25519+ML-KEM-768")
    assert "IKEV2_FRAGMENTATION_SUPPORTED" in everything.notifies
    assert "NAT_DETECTION_SOURCE_IP" not in everything.notifies


def test_what_a_strict_responder_refuses_is_told_by_name() -> None:
    found = probe_all(CBC_ONLY)
    assert found["all that we know"].suite.startswith("AES-128-CBC/")
    accepted = {name for name, each in found.items() if each.verdict == "accepted"}
    assert accepted == {"all that we know", "P-256", "MODP-2048", "AES-128-CBC"}
    assert found["X25519"].detail == "NO_PROPOSAL_CHOSEN"
    assert found["hybrid with ML-KEM-768"].verdict == "refused"


def test_cookies_are_given_back() -> None:
    found = probe_all(CBC_ONLY, CookieJar(SeededEntropy(3), 0.0))
    assert found["P-256"].verdict == "accepted"


def test_a_responder_that_never_has_enough_is_left() -> None:
    probe = IkeProbe(SeededEntropy(1), OUR, PEER)
    question = probe.next_question()
    repeats = 0
    while question is not None:
        cookie = (Notify(NotifyType.COOKIE, repeats.to_bytes(8, "big")),)
        reply = write_message(question[:8], bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.RESPONSE, 0, cookie)
        question = probe.handle_reply_untrusted(reply)
        repeats += 1
        assert repeats < 10
    assert probe.settled
    assert probe.findings[0].verdict == "refused"


@pytest.mark.parametrize("junk", [b"", b"junk", bytes(28), bytes(range(200))])
def test_what_is_no_answer_is_passed_over(junk: bytes) -> None:
    probe = IkeProbe(SeededEntropy(1), OUR, PEER)
    question = probe.next_question()
    assert question is not None
    assert probe.handle_reply_untrusted(junk) is None
    assert not probe.settled
    probe.handle_silence()
    assert [each.verdict for each in probe.findings] == ["silent"]
