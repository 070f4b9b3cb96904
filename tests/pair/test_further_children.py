"""CREATE_CHILD_SA for another flow beside the first one: RFC 7296 1.3.1, with and without PFS, from either end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from securesock.identity.identity import Identity
from securesock.keying.contract import InstallSa, KeyingConfig
from securesock.policy.negotiation import main_mode_offers
from securesock.sad.spec import InnerFlow, SaSpec
from securesock.testing import Endpoint, FakeNetwork, Pair


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


def willing(config: KeyingConfig) -> KeyingConfig:
    return replace(config, further_children=True)


def without_pfs(config: KeyingConfig) -> KeyingConfig:
    classical = replace(config.main_mode, offers=main_mode_offers("classical"))
    return replace(willing(config), main_mode=classical, quick_mode=replace(config.quick_mode, pfs=False))


def another_flow(pair: Pair, host: str = "") -> InnerFlow:
    assert pair.initiator.establishment is not None
    flow = pair.initiator.establishment.flow
    return flow._replace(initiator_port=40001, responder_port=7001, initiator_host=host or flow.initiator_host)


def installed(endpoint: Endpoint, direction: str, flow: InnerFlow) -> list[SaSpec]:
    found = [each.spec for each in endpoint.actions if isinstance(each, InstallSa) and each.direction == direction]
    return [each for each in found if each.flow == flow]


@pytest.mark.parametrize("configure", [willing, without_pfs], ids=["pfs", "no-pfs"])
@pytest.mark.parametrize("who", ["initiator", "responder"])
@pytest.mark.parametrize("ordered", [True, False])
def test_either_end_makes_a_child_sa_for_another_flow(
    identities: tuple[Identity, Identity], configure, who: str, ordered: bool
) -> None:
    network = FakeNetwork(ordered=ordered)
    pair = Pair(*identities, network=network, initiator=configure, responder=configure).establish()
    first = pair.initiator.establishment
    assert first is not None
    flow = another_flow(pair)
    getattr(pair, who).session.create_child(flow, pair.clock.now())
    pair.settle()
    for ours, peers in ((pair.initiator, pair.responder), (pair.responder, pair.initiator)):
        (sealing,), (opening,) = installed(ours, "outbound", flow), installed(peers, "inbound", flow)
        assert (sealing.spi, sealing.keys, sealing.suite) == (opening.spi, opening.keys, opening.suite)
        assert len(ours.inbound) == 2
        (before,) = installed(ours, "outbound", first.flow)
        assert before.keys != sealing.keys
    assert [each.error for each in pair.endpoints] == [None, None]


def test_both_child_sas_are_replaced_apart(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities, initiator=willing, responder=willing).establish()
    pair.initiator.session.create_child(another_flow(pair), pair.clock.now())
    pair.settle()
    before = set(pair.responder.inbound)
    pair.responder.session.rekey_child(pair.clock.now())
    pair.settle()
    assert len(pair.responder.inbound) == len(pair.initiator.inbound) == 2
    assert not before & set(pair.responder.inbound)
    assert {each.flow for each in pair.responder.inbound.values()} == {
        another_flow(pair),
        pair.initiator.establishment.flow if pair.initiator.establishment else None,
    }


def test_a_plane_of_one_flow_refuses_a_second_and_lives_on(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities).establish()
    pair.initiator.session.create_child(another_flow(pair), pair.clock.now())
    pair.settle()
    assert len(pair.responder.inbound) == 1
    assert pair.responder.traces["refused-request"] == 1
    assert [each.error for each in pair.endpoints] == [None, None]
    pair.responder.session.rekey_child(pair.clock.now())
    pair.settle()
    assert pair.congruent()


def test_a_flow_of_other_hosts_is_refused(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities, initiator=willing, responder=willing).establish()
    pair.initiator.session.create_child(another_flow(pair, "198.51.100.9"), pair.clock.now())
    pair.settle()
    assert len(pair.responder.inbound) == len(pair.initiator.inbound) == 1
    assert [each.error for each in pair.endpoints] == [None, None]
