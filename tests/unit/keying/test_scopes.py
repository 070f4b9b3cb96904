"""Selectors with standard hosts: offered, narrowed, read under translation; addresses that a peer assigns."""

from __future__ import annotations

import pytest

from securesock.errors import PeerIncompatible, PeerMisbehaved
from securesock.keying.contract import StandardHost
from securesock.keying.ikev2.scopes import (
    MAX_SPANS,
    agreed_scope,
    assigned_hosts,
    configuration_request,
    flow_of,
    narrow,
    offered_selectors,
    requested_scope,
    scope_selectors,
    wider_than,
)
from securesock.sad.spec import Span
from securesock.wire.ikev2.payloads import Configuration, TrafficSelector, TrafficSelectors, UnknownTrafficSelector

A, B, C = bytes((10, 91, 0, 1)), bytes((10, 92, 0, 1)), bytes((192, 0, 2, 9))
NETWORK = Span(17, bytes((10, 92, 0, 0)), bytes((10, 92, 0, 255)), 0, 65535)
TUNNEL = StandardHost("tunnel", (A,), 7000, (NETWORK,))
TRANSPORT = StandardHost("transport", (A,), 7000, (Span(17, B, B, 0, 65535),))
ASSIGNED = StandardHost("tunnel", (), 7000, (NETWORK,), (4, 16))


def selectors(*spans: Span, kind: int = 44) -> TrafficSelectors:
    return TrafficSelectors(
        kind,
        tuple(
            TrafficSelector(7 if len(each.first) == 4 else 8, each[0], each[3], each[4], each[1], each[2])
            for each in spans
        ),
    )


EVERYTHING = Span(0, bytes(4), b"\xff" * 4, 0, 65535)


def test_a_tunnel_offers_all_ports_of_one_address_and_transport_one_port() -> None:
    tsi, tsr = offered_selectors(TUNNEL)
    assert tsi == selectors(Span(17, A, A, 0, 65535))
    assert tsr == selectors(NETWORK, kind=45)
    assert offered_selectors(TRANSPORT)[0] == selectors(Span(17, A, A, 7000, 7000))


def test_an_address_to_be_assigned_is_offered_as_any() -> None:
    tsi, _ = offered_selectors(ASSIGNED)
    assert [(each.start_address, each.end_address) for each in tsi.selectors if isinstance(each, TrafficSelector)] == [
        (bytes(4), b"\xff" * 4),
        (bytes(16), b"\xff" * 16),
    ]
    assert configuration_request(ASSIGNED) == Configuration(1, ((1, b""), (8, b"")))
    assert configuration_request(TUNNEL) is None


@pytest.mark.parametrize(
    ("offered", "left"),
    [
        (EVERYTHING, NETWORK),
        (Span(17, B, B, 7, 9), Span(17, B, B, 7, 9)),
        (Span(6, B, B, 0, 65535), None),
        (Span(17, A, A, 0, 65535), None),
        (Span(0, bytes(16), b"\xff" * 16, 0, 65535), None),
    ],
)
def test_what_is_left_of_an_offer(offered: Span, left: Span | None) -> None:
    assert narrow([offered], (NETWORK,)) == (() if left is None else (left,))


def test_many_selectors_leave_no_more_than_are_kept() -> None:
    offered = [Span(17, B, B, port, port) for port in range(1, 200)]
    assert len(narrow(offered, (NETWORK,))) == MAX_SPANS


def test_a_scope_is_what_both_have() -> None:
    scope = agreed_scope(TUNNEL, selectors(EVERYTHING), selectors(EVERYTHING), (A,), None)
    assert scope is not None
    assert (scope.ours, scope.peers) == ((Span(17, A, A, 0, 65535),), (NETWORK,))
    assert (scope.our_host(B, 7), scope.our_host(C, 7), scope.our_host(bytes(16), 7)) == (A, None, None)
    assert scope_selectors(scope, ours_first=True) == offered_selectors(TUNNEL)
    assert scope_selectors(scope, ours_first=False)[1] == selectors(Span(17, A, A, 0, 65535), kind=45)
    assert flow_of(scope, we_initiated=True) == (17, "10.91.0.1", 7000, "10.92.0.0", 0)
    assert flow_of(scope, we_initiated=False, wanted=(B, 7)) == (17, "10.92.0.1", 7, "10.91.0.1", 7000)
    assert requested_scope(TUNNEL, (A,)) == scope


@pytest.mark.parametrize(
    "peers",
    [
        selectors(Span(1, B, B, 0, 65535)),
        selectors(Span(17, B, B, 65535, 0)),  # OPAQUE
        selectors(Span(17, NETWORK.last, NETWORK.first, 0, 65535)),
        TrafficSelectors(44, (UnknownTrafficSelector(10, 0, b"label"),)),
    ],
)
def test_selectors_that_mean_no_datagram_of_ours_leave_nothing(peers: TrafficSelectors) -> None:
    assert agreed_scope(TUNNEL, selectors(EVERYTHING), peers, (A,), None) is None


def test_in_transport_mode_each_end_reads_its_own_view_of_addresses() -> None:
    """RFC 7296 2.23.1."""
    ours, peers = selectors(Span(17, C, C, 7000, 7000)), selectors(Span(17, C, C, 0, 65535))
    assert agreed_scope(TRANSPORT, ours, peers, (A,), None) is None
    scope = agreed_scope(TRANSPORT, ours, peers, (A,), (A, B))
    assert scope is not None
    assert (scope.ours[0].first, scope.peers[0].first) == (A, B)
    assert wider_than(scope, ours, peers)
    # exactly one address a side
    assert agreed_scope(TRANSPORT, selectors(EVERYTHING), peers, (A,), (A, B)) is None


def test_a_rekey_narrows_nothing() -> None:
    scope = agreed_scope(TUNNEL, selectors(EVERYTHING), selectors(EVERYTHING), (A,), None)
    assert scope is not None
    assert wider_than(scope, selectors(EVERYTHING), selectors(EVERYTHING))
    assert wider_than(scope, selectors(Span(17, A, A, 0, 65535)), selectors(NETWORK))
    assert not wider_than(scope, selectors(EVERYTHING), selectors(NETWORK._replace(last=B)))
    assert not wider_than(scope, selectors(Span(17, A, A, 7000, 7000)), selectors(NETWORK))


def test_addresses_come_one_of_each_family() -> None:
    address6 = bytes(range(16))
    reply = Configuration(2, ((1, A), (2, b"\xff" * 4), (1, B), (8, address6 + b"\x40"), (3, b"")))
    assert assigned_hosts(ASSIGNED, reply) == (A, address6)
    assert assigned_hosts(TUNNEL, reply) == ()
    assert assigned_hosts(ASSIGNED, Configuration(2, ((8, address6 + b"\x40"),))) == (address6,)


@pytest.mark.parametrize(
    "reply", [None, Configuration(2, ()), Configuration(2, ((1, b""),)), Configuration(1, ((1, A),))]
)
def test_no_address_is_a_peer_that_has_none_for_us(reply: Configuration | None) -> None:
    with pytest.raises(PeerIncompatible, match="no address"):
        assigned_hosts(ASSIGNED, reply)


@pytest.mark.parametrize("attribute", [(1, bytes(5)), (8, bytes(16))])
def test_an_address_of_another_length_is_misbehaviour(attribute: tuple[int, bytes]) -> None:
    with pytest.raises(PeerMisbehaved, match="address of"):
        assigned_hosts(ASSIGNED, Configuration(2, (attribute,)))
