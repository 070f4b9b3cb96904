"""Tunnels that the filtering platform names: nothing stands in the context, and a flow goes through a gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from securesock.engine.peer_entry import PeerEntry
from securesock.engine.policy_keys import tunnel_ends
from securesock.engine.tunnels import tunnels_from
from securesock.errors import PolicyRefused
from securesock.policy import FilterEngine
from securesock.policy.ipsec import AuthTransform, SaTransform, TunnelEndpoints
from securesock.policy.ipsec_numbers import AuthType, TransformType
from tests.pair.test_governed_hosts import GATEWAY, SERVICE, govern, through
from tests.support.datagram_net import NAMES, A, B, Host, Identities, Net
from tests.support.governed import add_tunnel

FROM_A = PeerEntry(A[0], gateway=A[0], inner=SERVICE[0], inner_port=SERVICE[1], peer=NAMES[A])
TO_B = TunnelEndpoints(A[0], GATEWAY[0], remote_fqdn=NAMES[B].removeprefix("host/"))
TO_A = TunnelEndpoints(GATEWAY[0], A[0], remote_fqdn=NAMES[A].removeprefix("host/"))


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities()


@pytest.fixture
def engine() -> Iterator[FilterEngine]:
    with FilterEngine.open() as opened:
        yield opened


def both(identities: Identities) -> tuple[Net, Host, Host]:
    net = Net(identities)
    return net, net.host(A), net.host(GATEWAY, identity=identities.by_address[B], adapt=through(FROM_A))


@pytest.mark.parametrize("network", ["10.92.0.0/24", "0.0.0.0/0"])
def test_a_flow_goes_through_the_gateway_that_a_filter_names(
    identities: Identities, engine: FilterEngine, network: str
) -> None:
    net, a, b = both(identities)
    judges = govern(a, engine)
    context, _ = add_tunnel(engine, TO_B, network)
    a.send(b"question", SERVICE)
    net.run(2)
    assert [(each.data, each.address) for each in b.arrivals] == [(b"question", A)]
    b.send(b"answer", A)
    net.run(1)
    assert [(each.data, each.address) for each in a.arrivals] == [(b"answer", SERVICE)]
    report = a.machine.report(SERVICE)
    assert report.establishment is not None
    assert (report.establishment.peer.name, report.establishment.quick_mode_suite.encryption.key_length) == (
        NAMES[B],
        16,
    )
    applied = judges.applied(SERVICE)
    assert applied is not None
    assert applied.mark.quick_mode_policy == context.key
    judges.look_after(a.machine.live, lambda who, why: a.machine.break_off(who, why, net.clock.now()), run_now, run_now)
    judges.look()
    assert a.machine.report(SERVICE).state == "established"  # today's policy would have made it, too


def test_who_is_no_end_of_a_tunnel_is_spoken_to_itself(identities: Identities, engine: FilterEngine) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    govern(a, engine)
    add_tunnel(engine, TO_B, "10.92.0.0/24", "10.93.0.7")
    a.send(b"itself", B)
    net.run(1)
    assert b.received == [b"itself"]


def test_a_gateway_that_policy_names_may_begin(identities: Identities, engine: FilterEngine) -> None:
    net = Net(identities)
    entry = PeerEntry("192.0.2.2", gateway=GATEWAY[0], inner="10.91.0.1", peer=NAMES[B])
    a = net.host(A, adapt=through(entry))
    b = net.host(GATEWAY, identity=identities.by_address[B])
    judges = govern(b, engine)
    context, _ = add_tunnel(engine, TO_A, "10.91.0.0/24")
    a.send(b"from the branch", ("192.0.2.2", GATEWAY[1]))
    net.run(2)
    assert [each.data for each in b.arrivals] == [b"from the branch"]
    assert b.arrivals[0].address == ("10.91.0.1", A[1])
    b.send(b"answer", ("10.91.0.1", A[1]))
    net.run(1)
    assert a.received == [b"answer"]
    applied = judges.applied(A)
    assert applied is not None
    assert applied.mark.quick_mode_policy == context.key


def test_a_tunnel_ends_with_the_policy_that_named_it(identities: Identities, engine: FilterEngine) -> None:
    net, a, b = both(identities)
    judges = govern(a, engine)
    judges.look_after(a.machine.live, lambda who, why: a.machine.break_off(who, why, net.clock.now()), run_now, run_now)
    _, filters = add_tunnel(engine, TO_B, "10.92.0.0/24")
    a.send(b"first", SERVICE)
    net.run(2)
    assert b.received == [b"first"]
    for each in filters:
        engine.filters.delete(each)
    net.run(2)
    assert a.machine.report(SERVICE).state == "none"
    assert a.machine.seal(b"second", SERVICE, net.clock.now()) is None
    assert a.machine._keying.route(SERVICE) is None  # from now on it is spoken to itself


def test_what_should_go_through_another_gateway_is_refused(identities: Identities, engine: FilterEngine) -> None:
    net = Net(identities)
    a = net.host(A, adapt=through(PeerEntry("10.92.0.0/24", gateway=GATEWAY[0], inner="10.91.0.1", peer=NAMES[B])))
    net.host(GATEWAY, identity=identities.by_address[B], adapt=through(FROM_A))
    govern(a, engine)
    add_tunnel(engine, TunnelEndpoints(A[0], "192.0.2.77"), "10.92.0.0/24")
    with pytest.raises(PolicyRefused, match=r"demands tunnel mode, and this flow is carried through 192\.0\.2\.2"):
        a.send(b"question", SERVICE)
    assert a.machine.poll_transmit() is None


def test_a_tunnel_whose_quick_mode_cannot_be_is_refused(identities: Identities, engine: FilterEngine) -> None:
    _, a, _ = both(identities)
    govern(a, engine)
    header = SaTransform(TransformType.AH, AuthTransform(AuthType.SHA_256, 2))
    add_tunnel(engine, TO_B, "10.92.0.0/24", transform=header)
    with pytest.raises(PolicyRefused, match="AH is not implemented"):
        a.send(b"question", SERVICE)
    assert a.machine.poll_transmit() is None


def test_a_tunnel_whose_end_has_no_name_that_could_be_proven_is_none(
    identities: Identities, engine: FilterEngine
) -> None:
    net = Net(identities)
    a, b = net.host(A), net.host(B)
    govern(a, engine)
    add_tunnel(engine, TunnelEndpoints(A[0], GATEWAY[0], remote_fqdn="no name"), "10.92.0.0/24")
    with pytest.raises(PolicyRefused, match="demands tunnel mode, and this flow is carried in transport mode"):
        a.send(b"question", SERVICE)
    b.send(b"another peer's", A)  # nobody who begins is held up by that policy
    net.run(1)
    assert a.received == [b"another peer's"]


def test_an_end_is_the_same_however_its_address_is_written(engine: FilterEngine) -> None:
    context, _ = add_tunnel(engine, TunnelEndpoints("2001:DB8::1", "2001:0DB8:0::2"), "10.92.0.0/24")
    assert tunnel_ends(engine, context.key) == ("2001:db8::2",)
    assert [each.entry.gateway for each in tunnels_from(engine)] == ["2001:db8::2"]


def run_now(what: object) -> None:
    assert callable(what)
    what()
