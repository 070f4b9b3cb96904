"""What is behind a standard host under a filtering platform: each address is judged, not only the way to the host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from securesock.engine.context import SecurityContext
from securesock.engine.datagram_policy import MAX_BEHIND, DatagramPolicy
from securesock.engine.peer_entry import PeerEntry
from securesock.engine.socket_policy import SocketPolicy
from securesock.errors import PolicyRefused
from securesock.keying.contract import StandardHost
from securesock.policy import ActionType, Condition, Field, Filter, FilterEngine, Layer, allow, match
from securesock.sockets.datagram_keying import SocketKeying
from securesock.types import Address, SecuritySettings
from securesock.wire.inet import packed_host
from tests.support.datagram_net import NAMES, A, Adapt, B, Host, Identities, Net

GATEWAY: Address = ("192.0.2.2", 4500)
SERVICE: Address = ("10.92.0.1", 7)
INNER: Address = ("10.91.0.1", 7001)
TO_B = PeerEntry("10.92.0.0/24", gateway=GATEWAY[0], inner=INNER[0], peer=NAMES[B])
FROM_A = PeerEntry("10.91.0.0/24", gateway=A[0], inner=SERVICE[0], inner_port=SERVICE[1], peer=NAMES[A])
STANDARD = StandardHost("tunnel", (packed_host(INNER[0]),), INNER[1], ())


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


@pytest.fixture
def engine() -> Iterator[FilterEngine]:
    with FilterEngine.open() as opened:
        yield opened


def through(entry: PeerEntry) -> Adapt:
    def adapted(context: SecurityContext) -> SecurityContext:
        return replace(context, peers=(entry,))

    return adapted


def govern(host: Host, engine: FilterEngine) -> DatagramPolicy:
    """As a socket under policy=engine has it."""
    keying = host.machine._keying
    assert isinstance(keying, SocketKeying)
    context = keying._context = replace(keying._context, policy=engine)
    policy = SocketPolicy(context, SecuritySettings(), 17, 4)
    policy.bound([host.address[:2]])
    judges = keying._policy = DatagramPolicy(policy, lambda peer: host.address)
    return judges


def both(identities: Identities) -> tuple[Net, Host, Host]:
    net = Net(identities)
    a = net.host(A, adapt=through(TO_B))
    return net, a, net.host(GATEWAY, identity=identities.by_address[B], adapt=through(FROM_A))


def first(net: Net, a: Host, b: Host) -> None:
    a.send(b"first", SERVICE)
    net.run(2)
    assert b.received == [b"first"]


def block(layer: Layer, *conditions: Condition) -> Filter:
    return Filter("closed", layer=layer, action=ActionType.BLOCK, conditions=conditions)


def test_an_address_behind_a_host_is_judged_before_anything_begins(
    identities: Identities, engine: FilterEngine
) -> None:
    _, a, _ = both(identities)
    govern(a, engine)
    closed = engine.filters.add(block(Layer.ALE_AUTH_CONNECT_V4, match(Field.IP_REMOTE_PORT, SERVICE[1])))
    with pytest.raises(PolicyRefused) as caught:
        a.send(b"question", SERVICE)
    assert caught.value.filter_id == closed.id
    assert a.machine.poll_transmit() is None


def test_an_address_behind_a_host_is_judged_again_when_policy_changes(
    identities: Identities, engine: FilterEngine
) -> None:
    net, a, b = both(identities)
    judges = govern(a, engine)
    first(net, a, b)
    closed = engine.filters.add(block(Layer.ALE_AUTH_CONNECT_V4, match(Field.IP_REMOTE_ADDRESS, SERVICE[0])))
    judges.look()
    for _ in range(2):  # the second time it is known
        with pytest.raises(PolicyRefused):
            a.send(b"second", SERVICE)
    b.send(b"answer", INNER)
    net.run(1)
    assert a.received == [b"answer"]  # whoever is there may still begin: that is judged by itself
    a.send(b"third", SERVICE)
    net.run(1)
    assert b.received == [b"first", b"third"]
    engine.filters.delete(closed)
    judges.look()
    a.send(b"fourth", SERVICE)
    net.run(1)
    assert b.received[-1] == b"fourth"


def test_what_comes_from_behind_a_host_is_judged_too(identities: Identities, engine: FilterEngine) -> None:
    net, a, b = both(identities)
    judges = govern(b, engine)
    first(net, a, b)
    b.send(b"answer", INNER)
    engine.filters.add(block(Layer.ALE_AUTH_RECV_ACCEPT_V4, match(Field.IP_REMOTE_ADDRESS, INNER[0])))
    judges.look()
    a.send(b"second", SERVICE)
    net.run(1)
    assert (b.received, b.machine.counters["policy"]) == ([b"first"], 1)


def test_who_the_host_is_counts_for_what_is_behind_it(identities: Identities, engine: FilterEngine) -> None:
    net, a, b = both(identities)
    judges = govern(b, engine)
    first(net, a, b)
    engine.filters.add(
        Filter(
            "others alone",
            layer=Layer.ALE_AUTH_RECV_ACCEPT_V4,
            action=ActionType.PERMIT,
            conditions=(match(Field.ALE_REMOTE_MACHINE_ID, allow("host/another.example")),),
        )
    )
    judges.look()
    a.send(b"second", SERVICE)
    net.run(1)
    assert b.received == [b"first"]


def test_an_address_behind_a_host_is_explained_as_the_flow_inside(identities: Identities, engine: FilterEngine) -> None:
    net, a, b = both(identities)
    judges = govern(a, engine)
    first(net, a, b)
    a.send(b"second", SERVICE)
    flows = [dict(each.flow) for each in judges.explain(SERVICE)]
    assert {each["IP_REMOTE_ADDRESS"] for each in flows} == {SERVICE[0]}
    assert {each["IP_LOCAL_ADDRESS"] for each in flows} == {INNER[0]}
    applied = judges.applied(SERVICE)
    assert applied is not None
    assert applied == judges.applied(GATEWAY)  # there is one SA for all of them


def test_what_is_remembered_is_bounded(identities: Identities, engine: FilterEngine) -> None:
    _, a, _ = both(identities)
    judges = govern(a, engine)
    engine.filters.add(block(Layer.ALE_AUTH_CONNECT_V4))
    for number in range(MAX_BEHIND + 1):
        judges.why_not_behind((f"10.92.{number >> 8}.{number & 255}", 9), GATEWAY, STANDARD, None, "outbound")
    assert isinstance(judges.why_not_behind(SERVICE, GATEWAY, STANDARD, None, "outbound"), PolicyRefused)
    assert len(judges._behind) == 2


def test_what_is_of_another_version_than_the_way_to_its_host_is_judged_by_its_own(
    identities: Identities, engine: FilterEngine
) -> None:
    _, a, _ = both(identities)
    judges = govern(a, engine)
    engine.filters.add(block(Layer.ALE_AUTH_CONNECT_V6, match(Field.IP_REMOTE_PORT, 9)))
    assert isinstance(judges.why_not_behind(("2001:db8::1", 9), GATEWAY, STANDARD, None, "outbound"), PolicyRefused)
    assert judges.why_not_behind(("2001:db8::1", 10), GATEWAY, STANDARD, None, "outbound") is None


@pytest.mark.parametrize(
    ("standard", "peer", "ours"),
    [
        (STANDARD, SERVICE, INNER),
        (StandardHost("tunnel", (), 9, (), assigned=(4,)), SERVICE, ("0.0.0.0", 9)),
        (StandardHost("tunnel", (), 9, (), assigned=(16,)), ("2001:db8::1", 9), ("::", 9)),
        (StandardHost("transport", (packed_host(A[0]),), A[1], ()), GATEWAY, A),
    ],
)
def test_our_end_of_what_is_inside_is_what_the_entry_says(
    identities: Identities, engine: FilterEngine, standard: StandardHost, peer: Address, ours: Address
) -> None:
    _, a, _ = both(identities)
    flow = govern(a, engine)._flow_behind(peer, GATEWAY, standard)
    assert (flow.our_host, flow.our_port, flow.peer_host, flow.peer_port) == (*ours, *peer)
