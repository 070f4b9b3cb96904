"""Traffic selectors of one exact flow, and who sees which addresses: RFC 7296 2.9, 2.23 and 3.13."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from securesock.keying.ikev2.selectors import (
    canonical_host,
    exact_flow,
    flow_selectors,
    nat_detection,
    translated,
)
from securesock.sad.spec import InnerFlow
from securesock.types import Address
from securesock.wire.ikev2.payloads import Notify, TrafficSelector, TrafficSelectors, UnknownTrafficSelector
from securesock.wire.numbers import NotifyType, PayloadType

IPV4, IPV6 = 7, 8
TCP, UDP = 6, 17
FLOW = InnerFlow(TCP, "192.0.2.1", 40000, "192.0.2.2", 7000)
FLOW_6 = InnerFlow(TCP, "2001:db8::1", 40000, "2001:db8::2", 7000)
Change = Callable[[TrafficSelector], TrafficSelector | UnknownTrafficSelector]


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%2", "fe80::1"),
    ],
)
def test_a_host_has_one_form(host: str, canonical: str) -> None:
    """A dual-stack listener sees IPv4 clients as mapped addresses, and a scope says which way, not who."""
    assert canonical_host(host) == canonical


@pytest.mark.parametrize("flow", [FLOW, FLOW_6, FLOW._replace(protocol=UDP)], ids=["IPv4", "IPv6", "UDP"])
def test_a_flow_survives_its_selectors(flow: InnerFlow) -> None:
    tsi, tsr = flow_selectors(flow, initiator_first=True)
    assert (tsi.payload_type, tsr.payload_type) == (PayloadType.TSi, PayloadType.TSr)
    assert exact_flow(tsi, tsr, flow.protocol) == flow


def test_selectors_are_ranges_of_one() -> None:
    (selector,) = flow_selectors(FLOW, initiator_first=True)[0].selectors
    address = ip_address("192.0.2.1").packed
    assert selector == TrafficSelector(IPV4, TCP, 40000, 40000, address, address)
    (selector,) = flow_selectors(FLOW_6, initiator_first=True)[1].selectors
    address = ip_address("2001:db8::2").packed
    assert selector == TrafficSelector(IPV6, TCP, 7000, 7000, address, address)


def test_a_request_of_the_responder_s_names_its_own_side_first() -> None:
    """RFC 7296 2.9.2: TSi is whoever began this exchange, not whoever began the IKE_SA."""
    tsi, tsr = flow_selectors(FLOW, initiator_first=False)
    assert exact_flow(tsi, tsr, TCP) == InnerFlow(TCP, "192.0.2.2", 7000, "192.0.2.1", 40000)


def test_mapped_addresses_go_out_as_ipv4() -> None:
    mapped = FLOW._replace(initiator_host="::ffff:192.0.2.1", responder_host="::ffff:192.0.2.2")
    assert flow_selectors(mapped, initiator_first=True) == flow_selectors(FLOW, initiator_first=True)


def test_a_mapped_address_from_a_peer_is_no_flow() -> None:
    """An IPv4 flow has one form on the wire; with two of them its rekeys would not be the same flow."""
    mapped = ip_address("::ffff:192.0.2.1").packed
    tsi = TrafficSelectors(PayloadType.TSi, (TrafficSelector(IPV6, TCP, 40000, 40000, mapped, mapped),))
    assert exact_flow(tsi, flow_selectors(FLOW, initiator_first=True)[1], TCP) is None


def with_start_address(selector: TrafficSelector) -> TrafficSelector:
    return selector._replace(start_address=bytes(4))


def with_end_address(selector: TrafficSelector) -> TrafficSelector:
    return selector._replace(end_address=b"\xff" * 4)


INEXACT: dict[str, Change] = {
    "another protocol": lambda selector: selector._replace(protocol=UDP),
    "any protocol": lambda selector: selector._replace(protocol=0),
    "a range of addresses from below": with_start_address,
    "a range of addresses to above": with_end_address,
    "a range of ports": lambda selector: selector._replace(end_port=selector.end_port + 1),
    "any port": lambda selector: selector._replace(start_port=0, end_port=65535),
    "opaque ports": lambda selector: selector._replace(start_port=65535, end_port=0),
    "an unknown type": lambda selector: UnknownTrafficSelector(10, TCP, b"label"),
}


@pytest.mark.parametrize("side", [0, 1], ids=["TSi", "TSr"])
@pytest.mark.parametrize("name", INEXACT)
def test_anything_wider_than_one_flow_is_none(name: str, side: int) -> None:
    payloads = list(flow_selectors(FLOW, initiator_first=True))
    (selector,) = payloads[side].selectors
    assert isinstance(selector, TrafficSelector)
    payloads[side] = payloads[side]._replace(selectors=(INEXACT[name](selector),))
    assert exact_flow(payloads[0], payloads[1], TCP) is None


@pytest.mark.parametrize("side", [0, 1], ids=["TSi", "TSr"])
def test_a_second_selector_makes_it_no_single_flow(side: int) -> None:
    payloads = list(flow_selectors(FLOW, initiator_first=True))
    payloads[side] = payloads[side]._replace(selectors=payloads[side].selectors * 2)
    assert exact_flow(payloads[0], payloads[1], TCP) is None


# NAT detection

INITIATOR_SPI, RESPONDER_SPI = b"initiate", b"responds"
OURS: Address = ("192.0.2.1", 40000)
PEERS: Address = ("192.0.2.2", 7000)


def hashes(our_address: Address, peer_address: Address) -> tuple[Notify, ...]:
    """What an end says that has these two addresses."""
    return nat_detection(INITIATOR_SPI, RESPONDER_SPI, our_address, peer_address)


def is_translated(notifies: tuple[Notify, ...], our_address: Address, peer_address: Address) -> bool:
    return translated(notifies, INITIATOR_SPI, RESPONDER_SPI, our_address, peer_address)


def test_the_hash_is_over_spis_address_and_port() -> None:
    """RFC 7296 2.23: SHA-1 of the SPIs as in the header, the address and the port in network order."""
    source, destination = hashes(OURS, PEERS)
    assert source.notify_type == NotifyType.NAT_DETECTION_SOURCE_IP
    assert source.data == hashlib.sha1(b"initiateresponds" + bytes((192, 0, 2, 1)) + b"\x9c\x40").digest()
    assert destination.notify_type == NotifyType.NAT_DETECTION_DESTINATION_IP
    assert destination.data == hashlib.sha1(b"initiateresponds" + bytes((192, 0, 2, 2)) + b"\x1b\x58").digest()


def test_the_same_addresses_on_both_ends_are_no_translation() -> None:
    assert not is_translated(hashes(OURS, PEERS), PEERS, OURS)


def test_an_ipv4_client_of_a_dual_stack_listener_is_not_translated() -> None:
    as_listener_sees: tuple[Address, Address] = (("::ffff:192.0.2.2", 7000, 0, 0), ("::ffff:192.0.2.1", 40000, 0, 0))
    assert not is_translated(hashes(OURS, PEERS), *as_listener_sees)


def test_a_scope_is_no_translation() -> None:
    """Each end has a name of its own for the link."""
    ours, peers = ("fe80::1%eth0", 1, 0, 2), ("fe80::2%eth0", 2, 0, 2)
    seen = (("fe80::2%en5", 2, 0, 7), ("fe80::1%en5", 1, 0, 7))
    assert not is_translated(hashes(ours, peers), *seen)


@pytest.mark.parametrize(
    "seen",
    [
        (PEERS, ("203.0.113.9", 40000)),
        (PEERS, ("192.0.2.1", 40001)),
        (("10.0.0.2", 7000), OURS),
        (("192.0.2.2", 7001), OURS),
        (("10.0.0.2", 7000), ("203.0.113.9", 40000)),
    ],
    ids=["source address", "source port", "destination address", "destination port", "both"],
)
def test_another_address_or_port_on_one_side_is_translation(seen: tuple[Address, Address]) -> None:
    assert is_translated(hashes(OURS, PEERS), *seen)


def test_hashes_under_other_spis_are_translation() -> None:
    """So a host that wants UDP encapsulation can make them not match."""
    assert translated(hashes(OURS, PEERS), INITIATOR_SPI, bytes(8), PEERS, OURS)


def test_one_of_several_source_hashes_is_enough() -> None:
    """RFC 7296 2.23: a sender that does not know which of its addresses will be used sends them all."""
    elsewhere = hashes(("198.51.100.1", 1), PEERS)
    assert not is_translated((elsewhere[0], *hashes(OURS, PEERS)), PEERS, OURS)
    assert is_translated(elsewhere, PEERS, OURS)


def test_a_host_that_sends_no_hashes_is_taken_as_it_is_seen() -> None:
    assert not is_translated((), PEERS, OURS)
    assert not is_translated((Notify(NotifyType.COOKIE, b"c"),), PEERS, OURS)


@pytest.mark.parametrize("data", [b"", b"\0" * 19, b"\0" * 20, b"\0" * 21])
def test_a_hash_that_is_none_does_not_match(data: bytes) -> None:
    assert is_translated((Notify(NotifyType.NAT_DETECTION_SOURCE_IP, data),), PEERS, OURS)
    assert is_translated((Notify(NotifyType.NAT_DETECTION_DESTINATION_IP, data),), PEERS, OURS)
