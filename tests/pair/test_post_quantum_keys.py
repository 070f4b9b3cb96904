"""PPKs between two ends (RFC 8784): every row of its table 1, both roles, mandatory and optional."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest

from securesock.errors import AuthenticationFailed, PeerIncompatible
from securesock.identity.identity import Identity
from securesock.identity.ppk import Ppk
from securesock.keying.contract import KeyingConfig
from securesock.keying.ikev2.core import Core
from securesock.keying.ikev2.ppk import responder_action
from securesock.testing import FakeNetwork, Pair
from securesock.types import ANY_TRUSTED_PEER
from securesock.wire.ikev2.payloads import Notify, Payload
from securesock.wire.numbers import NotifyType
from tests.support.hostile import core_of

SECRET = bytes(range(32))
OTHER = bytes(32)


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    responder = Identity.ephemeral("host/responder.example")
    return Identity.ephemeral("host/initiator.example", authority=responder.authority), responder


def having(*ppks: Ppk) -> Callable[[KeyingConfig], KeyingConfig]:
    return lambda config: replace(config, ppks=ppks)


# Table 1 of RFC 8784 3, a row for each combination that a "*" stands for
TABLE = [
    *((False, any_, False, mandatory, "standard") for any_ in (False, True) for mandatory in (False, True)),
    *((False, any_, True, False, "standard") for any_ in (False, True)),
    *((False, any_, True, True, "abort") for any_ in (False, True)),
    *((True, False, False, any_, "abort") for any_ in (False, True)),
    (True, True, False, True, "abort"),
    (True, True, False, False, "standard"),
    *((True, any_, True, mandatory, "use") for any_ in (False, True) for mandatory in (False, True)),
]


@pytest.mark.parametrize(("use_ppk", "no_ppk_auth", "configured", "mandatory", "action"), TABLE)
def test_the_responder_does_what_the_table_says(
    use_ppk: bool, no_ppk_auth: bool, configured: bool, mandatory: bool, action: str
) -> None:
    assert responder_action(use_ppk, no_ppk_auth, configured, mandatory) == action


def test_the_table_is_whole() -> None:
    assert len({row[:4] for row in TABLE}) == 16


Outcome = Literal["ppk", "none", "initiator refuses", "responder refuses"]
MANDATORY, OPTIONAL = Ppk("id", SECRET), Ppk("id", SECRET, mandatory=False)
UNKNOWN, UNKNOWN_OPTIONAL = Ppk("another", SECRET), Ppk("another", SECRET, mandatory=False)

PAIRS: list[tuple[tuple[Ppk, ...], tuple[Ppk, ...], Outcome]] = [
    ((), (), "none"),
    ((OPTIONAL,), (), "none"),
    ((MANDATORY,), (), "initiator refuses"),
    ((), (OPTIONAL,), "none"),
    ((), (MANDATORY,), "responder refuses"),
    ((OPTIONAL,), (OPTIONAL,), "ppk"),
    ((MANDATORY,), (OPTIONAL,), "ppk"),
    ((OPTIONAL,), (MANDATORY,), "ppk"),
    ((MANDATORY,), (MANDATORY,), "ppk"),
    ((UNKNOWN,), (OPTIONAL,), "responder refuses"),
    ((UNKNOWN,), (MANDATORY,), "responder refuses"),
    ((UNKNOWN_OPTIONAL,), (OPTIONAL,), "none"),
    ((UNKNOWN_OPTIONAL,), (MANDATORY,), "responder refuses"),
    ((UNKNOWN_OPTIONAL, OPTIONAL), (OPTIONAL,), "none"),  # the first that is for this peer is the one that is used
    ((MANDATORY,), (UNKNOWN, MANDATORY), "ppk"),
    ((MANDATORY,), (Ppk("id", OTHER),), "responder refuses"),
    ((MANDATORY,), (Ppk("id", SECRET, peers=["host/initiator.example"]),), "ppk"),
    ((MANDATORY,), (Ppk("id", SECRET, peers=["host/another.example"]),), "responder refuses"),
    ((OPTIONAL,), (Ppk("id", SECRET, peers=["host/another.example"]),), "none"),
    ((), (Ppk("id", SECRET, peers=["host/another.example"]),), "none"),  # mandatory, but not with this one
    ((Ppk("id", SECRET, peers=["host/another.example"]),), (OPTIONAL,), "none"),
    ((Ppk("id", SECRET, peers=["host/responder.example"]),), (MANDATORY,), "ppk"),
]


@pytest.mark.parametrize(("ours", "peers", "outcome"), PAIRS)
def test_two_ends_come_to_the_outcome_that_both_can_live_with(
    identities: tuple[Identity, Identity], ours: tuple[Ppk, ...], peers: tuple[Ppk, ...], outcome: Outcome
) -> None:
    pair = Pair(*identities, initiator=having(*ours), responder=having(*peers)).establish()
    established = pair.initiator.session.established and pair.responder.session.established
    assert established == (outcome in ("ppk", "none"))
    if not established:
        assert pair.initiator.establishment is None
        assert pair.responder.establishment is None
        blamed = PeerIncompatible if outcome == "initiator refuses" else AuthenticationFailed
        assert isinstance(pair.initiator.error, blamed)
        assert (pair.responder.error is None) == (outcome == "initiator refuses")
        return
    assert pair.congruent()
    used = [core_of(each).ike.uses_ppk for each in pair.endpoints]
    assert used == [outcome == "ppk"] * 2


def test_the_keys_are_others_than_without(identities: tuple[Identity, Identity]) -> None:
    plain = Pair(*identities).establish()
    mixed = Pair(*identities, initiator=having(MANDATORY), responder=having(MANDATORY)).establish()
    assert plain.initiator.outbound is not None
    assert mixed.initiator.outbound is not None
    assert plain.initiator.outbound.keys != mixed.initiator.outbound.keys


def test_rekeys_inherit_it_and_mix_it_in_no_second_time(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities, initiator=having(MANDATORY), responder=having(MANDATORY)).establish()
    for endpoint in pair.endpoints:
        endpoint.session.rekey_ike(pair.clock.now())
        pair.settle()
        endpoint.session.rekey_child(pair.clock.now())
        pair.settle()
    assert pair.initiator.rekeys == pair.responder.rekeys == {"ike": 2, "child": 2}
    assert pair.congruent()


@pytest.mark.parametrize("kind", ["psk", "x509"])
def test_it_goes_with_every_way_to_prove_a_machine(identities: tuple[Identity, Identity], kind: str) -> None:
    ends = identities
    if kind == "psk":
        shared = "a secret of sixteen bytes"
        ends = (
            Identity.from_psk("initiator.example", {"responder.example": shared}),
            Identity.from_psk("responder.example", {"initiator.example": shared}),
        )
    pair = Pair(*ends, initiator=having(OPTIONAL), responder=having(OPTIONAL)).establish()
    assert pair.congruent()


def test_whoever_expects_nobody_in_particular_uses_what_is_for_anybody(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(
        *identities,
        expected=ANY_TRUSTED_PEER,
        initiator=having(Ppk("named", OTHER, peers=["host/responder.example"]), MANDATORY),
        responder=having(MANDATORY),
    ).establish()
    assert pair.congruent()


def leaving_out(monkeypatch: pytest.MonkeyPatch, notify_type: NotifyType) -> None:
    original = Core.reply

    def reply(core: Core, sa, opened, payloads: tuple[Payload, ...]):
        kept = tuple(each for each in payloads if not (isinstance(each, Notify) and each.notify_type == notify_type))
        return original(core, sa, opened, kept)

    monkeypatch.setattr(Core, "reply", reply)


@pytest.mark.parametrize("ppk", [MANDATORY, OPTIONAL])
def test_a_responder_that_does_not_say_that_it_used_it_is_taken_at_its_word(
    identities: tuple[Identity, Identity], ppk: Ppk, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving_out(monkeypatch, NotifyType.PPK_IDENTITY)
    pair = Pair(*identities, initiator=having(ppk), responder=having(ppk)).establish()
    assert isinstance(pair.initiator.error, AuthenticationFailed)
    assert pair.initiator.establishment is None


def test_a_peer_that_agrees_and_then_names_none_is_refused(
    identities: tuple[Identity, Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Core.request

    def request(core: Core, sa, exchange, payloads, awaiting, now):
        kept = tuple(
            each for each in payloads if not (isinstance(each, Notify) and each.notify_type == NotifyType.PPK_IDENTITY)
        )
        return original(core, sa, exchange, kept, awaiting, now)

    monkeypatch.setattr(Core, "request", request)
    pair = Pair(*identities, initiator=having(OPTIONAL), responder=having(OPTIONAL)).establish()
    assert isinstance(pair.responder.error, AuthenticationFailed)
    assert pair.responder.error.reason == "ppk"


def test_among_datagrams_a_missing_use_ppk_may_be_a_strangers_and_a_better_answer_is_waited_for(
    identities: tuple[Identity, Identity],
) -> None:
    """RFC 8784 6: whoever can write to us first does not end the negotiation."""
    pair = Pair(*identities, network=FakeNetwork(), initiator=having(MANDATORY))
    pair.initiator.session.handle_acquire(pair.clock.now())
    pair.settle(timeout_s=1.0)
    assert pair.initiator.error is None
    assert pair.initiator.traces["unauthenticated-refusal"]
    pair.settle(timeout_s=600)
    assert isinstance(pair.initiator.error, PeerIncompatible)
