"""Both SAs are replaced, from either end, at once, and with messages lost: RFC 7296 2.8 and 2.25."""

from __future__ import annotations

from dataclasses import replace

import pytest

from securesock.identity.identity import Identity
from securesock.keying.contract import InstallSa, KeyingConfig, RemoveSa, SendDatagram
from securesock.policy.negotiation import main_mode_offers
from securesock.testing import Endpoint, FakeNetwork, Pair
from securesock.types import Lifetimes


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


def classical(config: KeyingConfig) -> KeyingConfig:
    return replace(config, main_mode=replace(config.main_mode, offers=main_mode_offers("classical")))


def without_pfs(config: KeyingConfig) -> KeyingConfig:
    return replace(classical(config), quick_mode=replace(config.quick_mode, pfs=False))


def hybrid(config: KeyingConfig) -> KeyingConfig:
    return config


MODES = {"hybrid": hybrid, "classical": classical, "no-pfs": without_pfs}


@pytest.fixture(params=MODES)
def pair(request: pytest.FixtureRequest, identities: tuple[Identity, Identity]) -> Pair:
    configure = MODES[request.param]
    return Pair(*identities, initiator=configure, responder=configure).establish()


def spis(pair: Pair) -> list[int]:
    return [each.outbound.spi for each in pair.endpoints if each.outbound is not None]


def assert_one_child(pair: Pair) -> None:
    assert pair.congruent()
    assert [len(each.inbound) for each in pair.endpoints] == [1, 1]
    assert [each.error for each in pair.endpoints] == [None, None]


@pytest.mark.parametrize("who", ["initiator", "responder"])
def test_either_end_replaces_the_child_sa(pair: Pair, who: str) -> None:
    before = spis(pair)
    keys = [each.outbound.keys for each in pair.endpoints if each.outbound is not None]
    getattr(pair, who).session.rekey_child(pair.clock.now())
    pair.settle()
    assert_one_child(pair)
    assert not set(before) & set(spis(pair))
    assert keys != [each.outbound.keys for each in pair.endpoints if each.outbound is not None]
    assert [each.rekeys["child"] for each in pair.endpoints] == [1, 1]


@pytest.mark.parametrize("who", ["initiator", "responder"])
def test_either_end_replaces_the_ike_sa_and_the_child_lives_on(pair: Pair, who: str) -> None:
    before = spis(pair)
    getattr(pair, who).session.rekey_ike(pair.clock.now())
    pair.settle()
    assert spis(pair) == before
    assert [each.rekeys["ike"] for each in pair.endpoints] == [1, 1]
    other = pair.other(getattr(pair, who))
    other.session.rekey_child(pair.clock.now())
    pair.settle()
    assert_one_child(pair)
    assert not set(before) & set(spis(pair))


@pytest.mark.parametrize("seed", range(6))
def test_both_ends_replace_the_child_sa_at_once_and_one_replacement_stays(
    identities: tuple[Identity, Identity], seed: int
) -> None:
    pair = Pair(*identities, seed=seed).establish()
    for each in pair.endpoints:
        each.session.rekey_child(pair.clock.now())
    pair.settle()
    assert_one_child(pair)
    # one switch at establishing, one for the rekey: nobody sealed under the replacement that went
    assert [each.outbound_switches for each in pair.endpoints] == [2, 2]


@pytest.mark.parametrize("seed", range(6))
def test_both_ends_replace_the_ike_sa_at_once_and_go_on(identities: tuple[Identity, Identity], seed: int) -> None:
    pair = Pair(*identities, seed=seed).establish()
    for each in pair.endpoints:
        each.session.rekey_ike(pair.clock.now())
    pair.settle()
    assert [each.rekeys["ike"] for each in pair.endpoints] == [1, 1]
    for each in pair.endpoints:
        each.session.rekey_child(pair.clock.now())
    pair.settle()
    assert_one_child(pair)


@pytest.mark.parametrize("ordered", [True, False])
def test_one_replaces_the_child_while_the_other_replaces_the_ike_sa(
    identities: tuple[Identity, Identity], ordered: bool
) -> None:
    pair = Pair(*identities, network=FakeNetwork(ordered=ordered)).establish()
    pair.initiator.session.rekey_child(pair.clock.now())
    pair.responder.session.rekey_ike(pair.clock.now())
    pair.settle(timeout_s=60)
    assert_one_child(pair)
    assert [each.rekeys["child"] for each in pair.endpoints] == [1, 1]
    assert [each.rekeys["ike"] for each in pair.endpoints] == [1, 1]


def test_old_packets_stay_readable_until_the_peer_said_that_none_follow(pair: Pair) -> None:
    """The order in which a stream carries things: the DELETE is the last message on an old SA."""
    initiator, responder = pair.endpoints
    old = next(iter(responder.inbound))
    initiator.session.rekey_child(pair.clock.now())
    pair.settle()
    switch = max(
        at for at, each in enumerate(initiator.actions) if isinstance(each, InstallSa) and each.direction == "outbound"
    )
    assert any(isinstance(each, SendDatagram) for each in initiator.actions[switch:])
    assert RemoveSa(old, "inbound") in responder.actions


def test_time_alone_begins_the_rekeys(identities: tuple[Identity, Identity]) -> None:
    def short(config: KeyingConfig) -> KeyingConfig:
        lifetimes = Lifetimes(100.0, 1 << 60, 1 << 60)
        return replace(
            config,
            main_mode=replace(config.main_mode, lifetimes=lifetimes._replace(seconds=1000.0)),
            quick_mode=replace(config.quick_mode, lifetimes=lifetimes),
        )

    pair = Pair(*identities, initiator=short, responder=short).establish(timeout_s=5)
    for _ in range(200):
        pair.settle(timeout_s=5)
        pair.clock.advance(5)
    assert_one_child(pair)
    assert pair.initiator.rekeys["child"] >= 15
    assert pair.initiator.rekeys["ike"] >= 1


def test_a_rekey_with_other_algorithms_is_refused_and_the_connection_lives(
    identities: tuple[Identity, Identity],
) -> None:
    """The latch: the initiator asks without PFS, the responder latched PFS."""
    pair = Pair(*identities, initiator=without_pfs, responder=classical).establish()
    before = spis(pair)
    pair.initiator.session.rekey_child(pair.clock.now())
    pair.settle()
    assert spis(pair) == before
    assert pair.initiator.traces["rekey-refused"] == 1
    assert pair.responder.traces["refused-request"] == 1
    assert pair.initiator.session.next_deadline() is None or pair.initiator.session.established
    assert_one_child(pair)
    assert not pair.initiator.session.child_rekey_pending


def test_the_same_rekey_asked_for_twice_runs_once(pair: Pair) -> None:
    for _ in range(3):
        pair.initiator.session.rekey_child(pair.clock.now())
    pair.settle()
    assert pair.initiator.rekeys["child"] == 1


@pytest.mark.parametrize("seed", range(60))
def test_rekeys_survive_loss_duplicates_and_reorder(identities: tuple[Identity, Identity], seed: int) -> None:
    network = FakeNetwork(jitter_s=0.4, loss=0.2, duplication=0.2, seed=seed)
    pair = Pair(*identities, network=network, seed=seed).establish(timeout_s=300)
    wishes = [
        (pair.initiator, "rekey_child"),
        (pair.responder, "rekey_child"),
        (pair.initiator, "rekey_ike"),
        (pair.responder, "rekey_ike"),
    ]
    for round_ in range(3):
        for endpoint, wish in wishes[round_ % 2 :: 2] if seed % 2 else wishes:
            getattr(endpoint.session, wish)(pair.clock.now())
        pair.settle(timeout_s=400)
    assert [each.error for each in pair.endpoints] == [None, None]
    assert pair.congruent()


def test_saying_goodbye_closes_both_ends(pair: Pair) -> None:
    def gone(endpoint: Endpoint) -> bool:
        return endpoint.closed is not None and not endpoint.inbound and endpoint.outbound is None

    pair.initiator.session.delete(pair.clock.now())
    pair.settle()
    assert gone(pair.initiator)
    assert gone(pair.responder)
    assert not pair.responder.session.established
