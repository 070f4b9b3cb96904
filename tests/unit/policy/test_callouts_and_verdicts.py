"""What the IPsec callouts answer, and how answers of any callout become a verdict."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from securesock.policy import identifiers as ids
from securesock.policy.arbitration import Arbitration
from securesock.policy.callouts import (
    BUILT_IN_CALLOUTS,
    BUILT_IN_FUNCTIONS,
    AleContext,
    CalloutAnswer,
    CalloutCall,
    InboundContext,
    IPsecDemand,
    OutboundContext,
)
from securesock.policy.classify import Inquiry, classify
from securesock.policy.conditions import compile_conditions
from securesock.policy.fields import Field
from securesock.policy.ipsec import ClassifyOption, ClassifyOptions, TransportPolicy
from securesock.policy.ipsec_numbers import ClassifyOptionType, ContextType
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Callout, Filter, FilterFlag, ProviderContext
from securesock.policy.rules import Rule
from securesock.policy.values import ConditionFlag
from securesock.policy.verdicts import Verdict

P, B, C = ActionType.PERMIT, ActionType.BLOCK, ActionType.CONTINUE
SECURED = ConditionFlag.IS_IPSEC_SECURED


def ask(
    key: UUID,
    *,
    raw_context: int = 0,
    flags: int | None = None,
    context: ProviderContext | None = None,
    filter_flags: int = 0,
) -> CalloutAnswer:
    [callout] = [each for each in BUILT_IN_CALLOUTS if each.key == key]
    filter_ = Filter("f", layer=callout.layer, raw_context=raw_context, flags=filter_flags, id=9)
    slots = callout.layer.info.slots_of({} if flags is None else {Field.FLAGS: flags})
    return BUILT_IN_FUNCTIONS[key](CalloutCall(callout.layer, slots, filter_, context, True))


def test_each_callout_is_there_for_both_ip_versions_under_its_windows_key() -> None:
    keys = {value for name, value in vars(ids).items() if name.startswith("CALLOUT_")}
    assert {callout.key for callout in BUILT_IN_CALLOUTS} == keys == set(BUILT_IN_FUNCTIONS)
    assert len(keys) == 22
    for callout in BUILT_IN_CALLOUTS:
        assert callout.layer.name.endswith("4" if "IPv4" in callout.name else "6")


@pytest.mark.parametrize(
    ("raw_context", "flags", "action"),
    [
        (0, SECURED, P),
        (0, 0, B),
        (0, None, B),
        (0, ConditionFlag.IS_LOOPBACK, B),
        (InboundContext.PASSTHRU, 0, P),
        (InboundContext.PERSIST_CONNECTION_SECURITY, 0, P),
    ],
)
def test_inbound_transport_checks_that_the_packet_was_protected(
    raw_context: int, flags: int | None, action: ActionType
) -> None:
    answer = ask(ids.CALLOUT_IPSEC_INBOUND_TRANSPORT_V4, raw_context=raw_context, flags=flags)
    assert answer.action is action
    assert answer.demand is not None
    assert answer.demand.transport_filter == 9
    assert answer.demand.persist is bool(raw_context & InboundContext.PERSIST_CONNECTION_SECURITY)


@pytest.mark.parametrize(
    ("raw_context", "filter_flags", "demand"),
    [
        (0, 0, IPsecDemand(transport_filter=9, require_security=True)),
        (OutboundContext.NEGOTIATE_DISCOVER, 0, IPsecDemand(transport_filter=9, discover=True)),
        (
            OutboundContext.SUPPRESS_NEGOTIATION,
            0,
            IPsecDemand(transport_filter=9, require_security=True, suppress_negotiation=True),
        ),
        (
            0,
            FilterFlag.IPSEC_NO_ACQUIRE_INITIATE,
            IPsecDemand(transport_filter=9, require_security=True, suppress_negotiation=True),
        ),
    ],
)
def test_outbound_transport_demands_an_sa(raw_context: int, filter_flags: int, demand: IPsecDemand) -> None:
    answer = ask(ids.CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6, raw_context=raw_context, filter_flags=filter_flags)
    assert answer == CalloutAnswer(P, False, demand)


@pytest.mark.parametrize(
    ("key", "unsecured"),
    [
        (ids.CALLOUT_IPSEC_INBOUND_TUNNEL_V4, B),
        (ids.CALLOUT_IPSEC_FORWARD_INBOUND_TUNNEL_V6, B),
        (ids.CALLOUT_IPSEC_OUTBOUND_TUNNEL_V4, P),
        (ids.CALLOUT_IPSEC_FORWARD_OUTBOUND_TUNNEL_V6, P),
    ],
)
def test_tunnels(key: UUID, unsecured: ActionType) -> None:
    policy = ProviderContext("t", type=ContextType.IKEV2_QM_TUNNEL, content=b"", key=UUID(int=4))
    assert ask(key, flags=SECURED, context=policy).action is P
    answer = ask(key, flags=0, context=policy)
    assert answer.action is unsecured
    assert answer.demand == IPsecDemand(tunnel_filter=9, tunnel_policy=UUID(int=4), require_security=True)
    assert ask(key).demand == IPsecDemand(tunnel_filter=9, require_security=True)


@pytest.mark.parametrize(("flags", "action"), [(SECURED, P), (0, B), (None, B)])
def test_initiate_secure_lets_only_secured_connections_in(flags: int | None, action: ActionType) -> None:
    answer = ask(
        ids.CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V4, raw_context=AleContext.REQUIRE_IPSEC_ENCRYPTION, flags=flags
    )
    assert answer.action is action
    assert answer.demand == IPsecDemand(require_security=True, require_encryption=True)


def test_connect_modifiers() -> None:
    every = AleContext.REQUIRE_IPSEC_SECURITY | AleContext.LAZY_SD_EVALUATION | AleContext.ALLOW_AUTH_FW
    answer = ask(ids.CALLOUT_IPSEC_ALE_CONNECT_V4, raw_context=every | AleContext.ALLOW_FIRST_INBOUND_PKT_UNENCRYPTED)
    assert answer == CalloutAnswer(
        P,
        False,
        IPsecDemand(
            require_security=True, lazy_sd_evaluation=True, allow_auth_fw=True, allow_first_inbound_unencrypted=True
        ),
    )


def test_tunnel_accept_and_dos_protection_let_pass() -> None:
    assert ask(ids.CALLOUT_IPSEC_INBOUND_TUNNEL_ALE_ACCEPT_V4) == CalloutAnswer(P)
    assert ask(ids.CALLOUT_IPSEC_DOSP_FORWARD_V6) == CalloutAnswer(P)


def test_set_options_raises_the_level_and_never_lowers_it() -> None:
    def options(*found: ClassifyOption) -> ProviderContext:
        return ProviderContext("o", type=ContextType.CLASSIFY_OPTIONS, content=ClassifyOptions(found))

    key = ids.CALLOUT_SET_OPTIONS_AUTH_CONNECT_LAYER_V4
    flags = ClassifyOptionType.SECURE_SOCKET_SECURITY_FLAGS
    assert ask(key) == CalloutAnswer(C, False, IPsecDemand())
    guarantee = ask(key, context=options(ClassifyOption(flags, 0x3))).demand
    assert guarantee == IPsecDemand(security_flags=1, require_encryption=True)
    assert ask(key, context=options(ClassifyOption(flags, 0x2))).demand == IPsecDemand()
    keys = ask(
        key,
        context=options(
            ClassifyOption(ClassifyOptionType.SECURE_SOCKET_AUTHIP_MM_POLICY_KEY, UUID(int=1)),
            ClassifyOption(ClassifyOptionType.SECURE_SOCKET_AUTHIP_QM_POLICY_KEY, UUID(int=2)),
        ),
    ).demand
    assert keys == IPsecDemand(main_mode_policy=UUID(int=1), quick_mode_policy=UUID(int=2))


def test_demands_add_up() -> None:
    one = IPsecDemand(transport_filter=1, discover=True, main_mode_policy=UUID(int=1), security_flags=1)
    two = IPsecDemand(transport_filter=2, require_encryption=True, quick_mode_policy=UUID(int=2), security_flags=4)
    assert one.joined(two) == IPsecDemand(
        transport_filter=1,
        discover=True,
        require_encryption=True,
        main_mode_policy=UUID(int=1),
        quick_mode_policy=UUID(int=2),
        security_flags=5,
    )


# -- verdicts ---------------------------------------------------------------------------------------------------------

LAYER = Layer.ALE_AUTH_CONNECT_V4
CALLOUT = UUID(int=50)


def rule(number: int, action: ActionType, sublayer: int = 1, weight: int = 5, **more: object) -> Rule:
    filter_ = Filter(f"f{number}", layer=LAYER, action=action, action_key=CALLOUT, id=number, effective_weight=weight)
    filter_ = replace(filter_, **more)
    return Rule(filter_, compile_conditions(LAYER.info, ()), sublayer)


def verdict(best: list[Rule], maybe: list[Rule] = (), answers: dict[UUID, CalloutAnswer] | None = None) -> Verdict:
    functions = {key: lambda call, said=said: said for key, said in (answers or {}).items()}
    inquiry = Inquiry(LAYER, LAYER.info.slots_of({}), functions, lambda key: None)
    return classify((best, list(maybe)), inquiry, lambda sublayer: (-sublayer, sublayer))


def test_no_match_and_no_decision_are_told_apart() -> None:
    assert verdict([]).action is ActionType.NONE_NO_MATCH
    undecided = verdict([], [rule(1, ActionType.CALLOUT_UNKNOWN)], {CALLOUT: CalloutAnswer(C)})
    assert (undecided.action, undecided.filter) == (ActionType.NONE, None)
    assert not undecided.is_blocked


@pytest.mark.parametrize(
    ("action", "flags", "is_hard"),
    [(P, 0, False), (P, FilterFlag.CLEAR_ACTION_RIGHT, True), (B, 0, True), (B, FilterFlag.CLEAR_ACTION_RIGHT, True)],
)
def test_plain_filters_have_the_documented_hardness(action: ActionType, flags: int, is_hard: bool) -> None:
    decided = verdict([rule(1, action, flags=flags)])
    assert (decided.action, decided.is_hard, decided.is_blocked) == (action, is_hard, action is B)
    assert decided.filter is not None
    assert decided.reason == f"{'blocked' if action is B else 'permitted'} by filter 1 'f1'"


@pytest.mark.parametrize(("action", "is_hard"), [(P, False), (B, False), (P, True), (B, True)])
def test_callouts_decide_softly_unless_they_or_the_filter_say_hard(action: ActionType, is_hard: bool) -> None:
    said = {CALLOUT: CalloutAnswer(action, is_hard)}
    for kind in (ActionType.CALLOUT_TERMINATING, ActionType.CALLOUT_UNKNOWN):
        found = rule(1, kind)
        decided = verdict([found] if found.is_terminating else [], [] if found.is_terminating else [found], said)
        assert (decided.action, decided.is_hard) == (action, is_hard)
    hardened = verdict([rule(1, ActionType.CALLOUT_TERMINATING, flags=FilterFlag.CLEAR_ACTION_RIGHT)], (), said)
    assert hardened.is_hard


def test_a_terminating_callout_that_does_not_decide_blocks_for_good() -> None:
    decided = verdict([rule(1, ActionType.CALLOUT_TERMINATING)], (), {CALLOUT: CalloutAnswer(C)})
    assert (decided.action, decided.is_hard) == (B, True)


@pytest.mark.parametrize("kind", [ActionType.CALLOUT_TERMINATING, ActionType.CALLOUT_UNKNOWN])
def test_a_filter_without_its_callout_blocks_or_permits_if_it_says_so(kind: ActionType) -> None:
    def of(flags: int) -> Verdict:
        found = rule(1, kind, flags=flags)
        return verdict([found] if found.is_terminating else [], [] if found.is_terminating else [found])

    assert (of(0).action, of(0).is_hard) == (B, True)
    permitted = of(FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED)
    assert (permitted.action, permitted.is_hard) == (P, False)
    assert of(FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED | FilterFlag.CLEAR_ACTION_RIGHT).is_hard


def test_an_inspection_never_decides_whatever_it_answers() -> None:
    found = [rule(1, ActionType.CALLOUT_INSPECTION)]
    assert verdict([], found, {CALLOUT: CalloutAnswer(B)}).action is ActionType.NONE
    assert verdict([], found).action is ActionType.NONE


def test_the_first_of_a_sublayer_that_decides_ends_it() -> None:
    said = {CALLOUT: CalloutAnswer(C), UUID(int=51): CalloutAnswer(B)}
    maybe = [
        rule(2, ActionType.CALLOUT_UNKNOWN, weight=3, action_key=UUID(int=51)),
        rule(1, ActionType.CALLOUT_UNKNOWN, weight=9),
        rule(4, ActionType.CALLOUT_UNKNOWN, weight=1),
    ]
    decided = verdict([rule(3, P, weight=2)], maybe, said)
    assert decided.filter is not None
    assert decided.filter.id == 2
    late = verdict([rule(3, P, weight=4)], maybe[:1], said)
    assert late.filter is not None
    assert late.filter.id == 3


def test_a_rule_found_twice_is_asked_once() -> None:
    asked: list[int] = []

    def count(call: CalloutCall) -> CalloutAnswer:
        asked.append(call.filter.id)
        return CalloutAnswer(C)

    found = rule(1, ActionType.CALLOUT_UNKNOWN)
    inquiry = Inquiry(LAYER, LAYER.info.slots_of({}), {CALLOUT: count}, lambda key: None)
    classify(([], [found, found]), inquiry, lambda sublayer: (0, sublayer))
    assert asked == [1]


def test_higher_sublayers_come_first_and_lower_ones_are_asked_after_a_block() -> None:
    asked: list[tuple[int, bool]] = []

    def veto(call: CalloutCall) -> CalloutAnswer:
        asked.append((call.filter.id, call.may_write))
        return CalloutAnswer(B, demand=IPsecDemand(require_security=True))

    best = [
        rule(1, ActionType.CALLOUT_TERMINATING, sublayer=1),
        rule(3, P, sublayer=3, flags=FilterFlag.CLEAR_ACTION_RIGHT),
        rule(2, B, sublayer=2),
    ]
    inquiry = Inquiry(LAYER, LAYER.info.slots_of({}), {CALLOUT: veto}, lambda key: None)
    decided = classify((best, []), inquiry, lambda sublayer: (-sublayer, sublayer))
    assert asked == [(1, False)]
    assert decided.action is B
    assert decided.vetoed is not None
    assert (decided.vetoed.id, decided.is_hard) == (3, True)
    assert "vetoed the hard permit of filter 3 'f3'" in decided.reason
    assert decided.demand == IPsecDemand(require_security=True)


def test_demands_of_several_callouts_are_joined() -> None:
    said = {
        CALLOUT: CalloutAnswer(P, demand=IPsecDemand(transport_filter=1)),
        UUID(int=51): CalloutAnswer(P, demand=IPsecDemand(require_encryption=True)),
    }
    best = [
        rule(1, ActionType.CALLOUT_TERMINATING, sublayer=2),
        rule(2, ActionType.CALLOUT_TERMINATING, sublayer=1, action_key=UUID(int=51)),
    ]
    assert verdict(best, (), said).demand == IPsecDemand(transport_filter=1, require_encryption=True)


def test_a_callout_is_shown_the_filters_context_and_the_flows_values() -> None:
    shown: list[object] = []
    context = ProviderContext("c", type=ContextType.GENERAL, content=b"x", key=UUID(int=8))

    def look(call: CalloutCall) -> CalloutAnswer:
        shown.extend((call.context, call.value(Field.IP_REMOTE_PORT), call.value(Field.REMOTE_ID)))
        return CalloutAnswer(P)

    slots = LAYER.info.slots_of({Field.IP_REMOTE_PORT: 443})
    inquiry = Inquiry(LAYER, slots, {CALLOUT: look}, {UUID(int=8): context}.get)
    classify(([rule(1, ActionType.CALLOUT_TERMINATING, provider_context=UUID(int=8))], []), inquiry, lambda _: (0, 0))
    assert shown == [context, 443, None]


def test_names_of_action_types_say_whether_a_callout_is_asked() -> None:
    assert [each.name for each in ActionType if each.is_callout] == [
        "CALLOUT_TERMINATING",
        "CALLOUT_INSPECTION",
        "CALLOUT_UNKNOWN",
    ]
    assert Callout("c", layer=LAYER).key.int == 0
    assert TransportPolicy(()).nd_allow_clear_timeout_s == 10


def test_filters_that_decide_by_themselves_need_no_arbitration_and_agree_with_it() -> None:
    soft, block, hard = FilterFlag(0), ActionType.BLOCK, FilterFlag.CLEAR_ACTION_RIGHT
    permit = ActionType.PERMIT
    for chosen in (
        [(permit, soft)],
        [(permit, soft), (permit, soft)],
        [(permit, soft), (block, soft)],
        [(permit, hard), (block, soft)],
        [(block, soft), (permit, hard)],
        [(permit, soft), (permit, hard), (block, soft)],
    ):
        rules = [
            rule(number, action, sublayer=9 - number, flags=flags) for number, (action, flags) in enumerate(chosen, 1)
        ]
        arbitration = Arbitration()
        for each in rules:
            arbitration.consider(each.filter.action, each.is_hard, False, each.filter)
        for _ in range(2):  # the second time it is worded already
            said = verdict(rules)
            assert (said.action, said.filter, said.is_hard) == (
                arbitration.action,
                arbitration.decided_by,
                not arbitration.may_write,
            )


def test_a_callout_among_the_best_is_asked_although_what_stands_is_hard() -> None:
    rules = [
        rule(1, ActionType.PERMIT, sublayer=2, flags=FilterFlag.CLEAR_ACTION_RIGHT),
        rule(2, ActionType.CALLOUT_TERMINATING, sublayer=1, action_key=UUID(int=9)),
    ]
    said = verdict(rules, answers={UUID(int=9): CalloutAnswer(ActionType.BLOCK)})
    assert said.action is ActionType.BLOCK
    assert said.vetoed is rules[0].filter
