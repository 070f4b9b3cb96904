"""Peer entries: what they say, what they leave to be guessed, and what contradicts itself."""

from __future__ import annotations

from typing import Any, cast

import pytest

import securesock as ss
from securesock.engine.peer_entry import PeerEntry, entry_for
from securesock.engine.routes import route_from, route_to
from securesock.errors import LocalMisuse
from securesock.identity.identity import Identity
from securesock.sad.spec import Span
from securesock.types import Address

OURS: Address = ("192.0.2.1", 7001)


def our_address(carrier: Address) -> Address:
    return OURS


def test_a_gateway_means_tunnel_mode_on_port_4500() -> None:
    entry = PeerEntry("10.92.0.0/24", gateway="192.0.2.2", inner="assigned")
    assert (entry.mode, entry.carrier, entry.assigned) == ("tunnel", "4500", True)


def test_a_host_by_itself_means_transport_mode_on_whichever_port_answers() -> None:
    entry = PeerEntry("192.0.2.2")
    assert (entry.mode, entry.carrier, entry.networks) == ("transport", "auto", ("192.0.2.2",))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"networks": ()}, "one network at least"),
        ({"networks": "a.example"}, "no address or network"),
        ({"networks": "10.0.0.1/24"}, "host bits set"),
        ({"gateway": "gateway.example"}, "no address or network"),
        ({"carrier": "500"}, "no carrier"),
        ({"mode": "beet"}, "no mode"),
        ({"mode": "tunnel", "carrier": "own"}, "for standard hosts"),
        ({"mode": "transport", "gateway": "192.0.2.2"}, "behind a gateway"),
        ({"mode": "transport", "inner": "10.0.0.1"}, "nothing is inside"),
        ({"inner": "somewhere"}, "no inner address"),
        ({"inner_port": 0}, "no port"),
        ({"carrier": "own", "inner_port": 7}, "the socket's"),
        ({"peer": "a*b"}, "peer target name"),
    ],
)
def test_what_contradicts_itself_is_said_at_once(values: dict[str, Any], words: str) -> None:
    with pytest.raises(LocalMisuse, match=words):
        PeerEntry(**({"networks": "10.92.0.0/24"} | values))


def test_a_context_takes_entries_and_nothing_else() -> None:
    identity = Identity.from_psk(name="a.example", peers={"b.example": bytes(range(32))})
    entry = ss.PeerEntry("10.92.0.1", gateway="192.0.2.2")
    assert ss.SecurityContext(identity, peers=(entry,)).peers == (entry,)
    with pytest.raises(LocalMisuse, match="PeerEntry"):
        ss.SecurityContext(identity, peers=cast(Any, ("10.92.0.1",)))


def test_the_first_entry_that_covers_an_address_counts() -> None:
    narrow, wide = PeerEntry("10.92.0.7", gateway="192.0.2.2"), PeerEntry("10.92.0.0/16", gateway="192.0.2.3")
    assert entry_for((narrow, wide), "10.92.0.7") is narrow
    assert entry_for((narrow, wide), "::ffff:10.92.1.1") is wide
    assert entry_for((narrow, wide), "10.93.0.1") is None


def test_a_route_leads_to_the_gateway_and_names_what_may_pass() -> None:
    route = route_to(
        (PeerEntry(("10.92.0.0/30", "fd92::1"), gateway="192.0.2.2", inner="assigned"),), ("10.92.0.1", 7), our_address
    )
    assert route is not None
    assert route.carrier == ("192.0.2.2", 4500)
    assert route.standard.assigned == (4, 16)
    assert route.standard.our_port == 7001
    assert route.standard.peers[0] == Span(17, bytes((10, 92, 0, 0)), bytes((10, 92, 0, 3)), 0, 65535)


def test_a_gateway_that_is_a_network_can_only_begin_itself() -> None:
    entries = (PeerEntry("10.92.0.0/24", gateway="192.0.2.0/24", inner="10.91.0.1"),)
    with pytest.raises(LocalMisuse, match="has begun"):
        route_to(entries, ("10.92.0.1", 7), our_address)
    found = route_from(entries, ("192.0.2.77", 1234), our_address)
    assert found is not None
    assert found.standard.our_hosts == (bytes((10, 91, 0, 1)),)
    assert route_from(entries, ("198.51.100.1", 4500), our_address) is None


def test_an_ipv6_socket_writes_an_ipv4_gateway_as_mapped() -> None:
    route = route_to((PeerEntry("10.92.0.0/24", gateway="192.0.2.2"),), ("::ffff:10.92.0.1", 7, 0, 0), our_address)
    assert route is not None
    assert route.carrier == ("::ffff:192.0.2.2", 4500, 0, 0)
    with pytest.raises(LocalMisuse, match="AF_INET6"):
        route_to((PeerEntry("10.92.0.0/24", gateway="2001:db8::2"),), ("10.92.0.1", 7), our_address)


def test_the_own_carrier_is_no_route() -> None:
    entries = (PeerEntry("192.0.2.2", carrier="own"),)
    assert route_to(entries, ("192.0.2.2", 7), our_address) is None
    assert route_from(entries, ("192.0.2.2", 4500), our_address) is None
