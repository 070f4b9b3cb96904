"""Whatever both ends begin, in whatever order and on however bad a line: in the end they agree on what there is."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securesock.identity.identity import Identity
from securesock.keying.contract import KeyingConfig, Role
from securesock.keying.ikev2 import create_child
from securesock.keying.tickets import TicketBook
from securesock.policy.negotiation import main_mode_offers
from securesock.sad.spec import InnerFlow
from securesock.testing import Endpoint, FakeNetwork, Pair, SeededEntropy
from securesock.wire.ikev2.payloads import Notify
from securesock.wire.numbers import ExchangeType, NotifyType
from tests.support.hostile import Hostile

FIRST = InnerFlow(17, "192.0.2.1", 40000, "192.0.2.2", 7000)
WISHES = ("rekey child", "rekey ike", "create child", "delete child", "ask for life", "move", "delete ike")
_RARELY = WISHES[:-1]


@cache
def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


def configured(hybrid: bool) -> tuple[Pair, FakeNetwork[Role]]:
    books = {role: TicketBook(SeededEntropy(f"{role}")) for role in Role}

    def configure(config: KeyingConfig) -> KeyingConfig:
        config = replace(config, further_children=True, mobike=True, tickets=books[config.role])
        offers = main_mode_offers("hybrid" if hybrid else "classical")
        return replace(config, main_mode=replace(config.main_mode, offers=offers))

    network: FakeNetwork[Role] = FakeNetwork()
    pair = Pair(*identities(), network=network, initiator=configure, responder=configure).establish()
    return pair, network


def do(pair: Pair, endpoint: Endpoint, what: str, number: int) -> None:
    session, now = endpoint.session, pair.clock.now()
    core = session._core
    if core.over:
        return
    match what:
        case "rekey child":
            session.rekey_child(now)
        case "rekey ike":
            session.rekey_ike(now)
        case "create child":
            session.create_child(FIRST._replace(initiator_port=41000 + number), now)
        case "delete child":
            spare = [each for each in core.children[1:] if not each.deleting and not each.replaced]
            if spare:
                core.tasks.append(partial(create_child._delete, core, spare[0]))
                session._go_on(now)
        case "ask for life":
            session.check_liveness(now)
        case "move":
            session.move((f"198.51.100.{number % 250 + 1}", 40000), now)
        case "delete ike":
            session.delete(now)
    pair.collect()


def assert_agreed(pair: Pair) -> None:
    cores = [each.session._core for each in pair.endpoints]
    assert [each.error for each in pair.endpoints] == [None, None]
    if any(core.over for core in cores):
        assert all(core.over for core in cores)
        assert not any(each.inbound for each in pair.endpoints)
        return
    first, second = cores
    assert first.ike is not None
    assert second.ike is not None
    assert first.ike.our_spi == second.ike.peer_spi
    assert first.ike.keys == second.ike.keys
    for core in cores:
        assert not core.tasks
        assert not core.creating
        assert not any(sa.window.awaiting_reply for sa in core.ikes.values() if not sa.closing)
        assert not any(child.attempts or child.deleting for child in core.children)
    ours = sorted((each.inbound_spi, each.outbound_spi, each.flow, each.inbound.keys) for each in first.children)
    theirs = sorted((each.outbound_spi, each.inbound_spi, each.flow, each.outbound.keys) for each in second.children)
    assert ours == theirs
    for endpoint, core in zip(pair.endpoints, cores, strict=True):
        assert set(endpoint.inbound) == {each.inbound_spi for each in core.children}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_in_the_end_both_ends_agree_on_what_there_is(data: st.DataObject) -> None:
    pair, network = configured(data.draw(st.booleans(), "hybrid"))
    network.loss = data.draw(st.sampled_from((0.0, 0.1, 0.3)), "loss")
    network.jitter_s = data.draw(st.sampled_from((0.0, 0.3)), "jitter")
    network.duplication = data.draw(st.sampled_from((0.0, 0.2)), "duplication")
    network._random.seed(data.draw(st.integers(0, 1000), "seed"))
    steps = data.draw(
        st.lists(
            st.tuples(
                st.booleans(), st.sampled_from(_RARELY * 4 + WISHES[-1:]), st.sampled_from((0.0, 0.005, 0.02, 0.5, 3.0))
            ),
            min_size=1,
            max_size=12,
        ),
        "steps",
    )
    for number, (at_initiator, what, pause_s) in enumerate(steps):
        do(pair, pair.initiator if at_initiator else pair.responder, what, number)
        pair.settle(timeout_s=pause_s)
    network.loss = 0.0
    pair.settle(timeout_s=400)
    assert_agreed(pair)


_LIFECYCLE = (
    NotifyType.UPDATE_SA_ADDRESSES,
    NotifyType.ADDITIONAL_IP4_ADDRESS,
    NotifyType.ADDITIONAL_IP6_ADDRESS,
    NotifyType.NO_ADDITIONAL_ADDRESSES,
    NotifyType.COOKIE2,
    NotifyType.NO_NATS_ALLOWED,
    NotifyType.NAT_DETECTION_SOURCE_IP,
    NotifyType.NAT_DETECTION_DESTINATION_IP,
    NotifyType.MOBIKE_SUPPORTED,
    NotifyType.TICKET_REQUEST,
    NotifyType.TICKET_LT_OPAQUE,
    NotifyType.TICKET_OPAQUE,
    NotifyType.TICKET_NACK,
    NotifyType.AUTH_LIFETIME,
    NotifyType.INITIAL_CONTACT,
)


@settings(max_examples=200, deadline=None)
@given(
    said=st.lists(
        st.tuples(
            st.sampled_from(_LIFECYCLE), st.one_of(st.binary(max_size=80), st.sampled_from((b"", bytes(4), bytes(16))))
        ),
        max_size=8,
    )
)
def test_whatever_a_proven_peer_says_of_addresses_tickets_and_time_is_answered_and_ends_nothing(
    said: list[tuple[NotifyType, bytes]],
) -> None:
    pair, _ = configured(hybrid=False)
    hostile = Hostile(pair)
    hostile.ask(ExchangeType.INFORMATIONAL, [Notify(kind, content) for kind, content in said])
    assert pair.responder.error is None
    assert pair.responder.session.established
    assert len(pair.responder.session._core.mobility.peer_hosts) <= 16
    hostile.ask(ExchangeType.INFORMATIONAL, [])
    assert pair.responder.session.established
