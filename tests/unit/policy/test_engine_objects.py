"""Objects in an engine: every refusal of adding and deleting by its code, lifetimes, references, built-ins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from securesock.policy import identifiers as ids
from securesock.policy.access import allow
from securesock.policy.admission import MAX_CALLOUTS, MAX_SUBLAYERS
from securesock.policy.conditions import match
from securesock.policy.enumeration import EnumFlag, FilterTemplate
from securesock.policy.errors import PolicyCode, PolicyError
from securesock.policy.fields import Field
from securesock.policy.filter_engine import FilterEngine
from securesock.policy.ipsec import ClassifyOptions, DospOptions, KeyingPolicy, TunnelEndpoints, TunnelPolicy
from securesock.policy.ipsec_numbers import ContextType
from securesock.policy.layers import Layer
from securesock.policy.model import (
    ActionType,
    Callout,
    CalloutFlag,
    Filter,
    FilterFlag,
    PolicyObject,
    Provider,
    ProviderContext,
    ProviderFlag,
    Sublayer,
    SublayerFlag,
)
from securesock.policy.session import Session
from securesock.policy.values import DataType, MatchType, Value
from securesock.policy.weights import exact_weight

CONNECT = Layer.ALE_AUTH_CONNECT_V4
E = PolicyCode
FREE = UUID(int=0x5EED)


@pytest.fixture
def engine() -> Iterator[FilterEngine]:
    with FilterEngine.open(":memory:") as opened:
        yield opened


def container_of(session: FilterEngine | Session, item: PolicyObject) -> object:
    return {
        Provider: session.providers,
        ProviderContext: session.provider_contexts,
        Sublayer: session.sublayers,
        Callout: session.callouts,
        Filter: session.filters,
    }[type(item)]


def add(session: FilterEngine | Session, item: PolicyObject) -> PolicyObject:
    return container_of(session, item).add(item)


def refusal(call: object, *args: object, **more: object) -> PolicyCode:
    with pytest.raises(PolicyError) as refused:
        call(*args, **more)
    return refused.value.code


def a_filter(**more: object) -> Filter:
    return Filter("f", **{"layer": CONNECT, **more})


def general(name: str = "c", **more: object) -> ProviderContext:
    return ProviderContext(name, type=ContextType.GENERAL, content=b"x", **more)


CALLOUT = {"action": ActionType.CALLOUT_TERMINATING, "action_key": ids.CALLOUT_IPSEC_ALE_CONNECT_V4}

REFUSED = [
    (Provider(""), E.NULL_DISPLAY_NAME),
    (Provider("a\0b"), E.INVALID_PARAMETER),
    (Provider("a", service_name="\ud800"), E.INVALID_PARAMETER),
    (Provider("a", description="\0"), E.INVALID_PARAMETER),
    (Provider("a", flags=ProviderFlag.DISABLED), E.INVALID_FLAGS),
    (Provider("a", flags=0x100), E.INVALID_FLAGS),
    (Provider("a", key=ids.PROVIDER_IKEEXT), E.ALREADY_EXISTS),
    (general(provider=FREE), E.PROVIDER_NOT_FOUND),
    (general(flags=0x10), E.INVALID_FLAGS),
    (general(key=ids.PROVIDER_CONTEXT_SECURE_SOCKET_IPSEC), E.ALREADY_EXISTS),
    (ProviderContext("c", type=ContextType.KEYING, content=b""), E.PROVIDER_CONTEXT_MISMATCH),
    (Sublayer("", weight=1), E.NULL_DISPLAY_NAME),
    (Sublayer("s", weight=65536), E.OUT_OF_BOUNDS),
    (Sublayer("s", weight=-1), E.OUT_OF_BOUNDS),
    (Sublayer("s", flags=2), E.INVALID_FLAGS),
    (Sublayer("s", provider=FREE), E.PROVIDER_NOT_FOUND),
    (Sublayer("s", key=ids.SUBLAYER_UNIVERSAL), E.ALREADY_EXISTS),
    (Callout("c", layer=CONNECT, flags=CalloutFlag.REGISTERED), E.INVALID_FLAGS),
    (Callout("c", layer=UUID(int=4)), E.LAYER_NOT_FOUND),
    (Callout("c", layer=CONNECT, key=ids.CALLOUT_IPSEC_ALE_CONNECT_V4), E.ALREADY_EXISTS),
    (Callout("c", layer=CONNECT, provider=FREE), E.PROVIDER_NOT_FOUND),
    # filters
    (a_filter(layer=UUID(int=4)), E.LAYER_NOT_FOUND),
    (a_filter(sublayer=FREE), E.SUBLAYER_NOT_FOUND),
    (a_filter(provider=FREE), E.PROVIDER_NOT_FOUND),
    (a_filter(provider_context=FREE), E.PROVIDER_CONTEXT_NOT_FOUND),
    (a_filter(action=ActionType.CALLOUT_UNKNOWN, action_key=FREE), E.CALLOUT_NOT_FOUND),
    (a_filter(action=ActionType.CALLOUT_UNKNOWN), E.NULL_POINTER),
    (a_filter(**{**CALLOUT, "action_key": ids.CALLOUT_IPSEC_ALE_CONNECT_V6}), E.INCOMPATIBLE_LAYER),
    (a_filter(action=ActionType.CONTINUE), E.INVALID_ACTION_TYPE),
    (a_filter(action=ActionType.NONE_NO_MATCH), E.INVALID_ACTION_TYPE),
    (a_filter(action=0x1003), E.INVALID_ACTION_TYPE),
    (a_filter(flags=FilterFlag.DISABLED), E.INVALID_FLAGS),
    (a_filter(flags=0x8000), E.INVALID_FLAGS),
    (a_filter(flags=FilterFlag.RESERVED1), E.RESERVED),
    (a_filter(flags=FilterFlag.BOOTTIME | FilterFlag.PERSISTENT), E.INVALID_FLAGS),
    (a_filter(layer=Layer.IPSEC_V4, flags=FilterFlag.BOOTTIME), E.INCOMPATIBLE_LAYER),
    (a_filter(flags=FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED), E.INVALID_FLAGS),
    (
        a_filter(
            flags=FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED, **{**CALLOUT, "action": ActionType.CALLOUT_INSPECTION}
        ),
        E.INVALID_FLAGS,
    ),
    (a_filter(flags=FilterFlag.HAS_PROVIDER_CONTEXT), E.NULL_POINTER),
    (a_filter(flags=FilterFlag.HAS_SECURITY_REALM_PROVIDER_CONTEXT), E.INVALID_FLAGS),
    (a_filter(raw_context=1 << 64), E.OUT_OF_BOUNDS),
    (a_filter(raw_context=1, provider_context=FREE), E.INVALID_PARAMETER),
    (a_filter(weight=Value(DataType.UINT8, 16)), E.INVALID_WEIGHT),
    (a_filter(conditions=(match(Field.REMOTE_ID, "a@X"),)), E.CONDITION_NOT_FOUND),
    (a_filter(conditions=(match(Field.IP_REMOTE_ADDRESS, "::1"),)), E.TYPE_MISMATCH),
    (
        a_filter(conditions=tuple(match(field, 1) for field in (Field.FLAGS, Field.IP_PROTOCOL, Field.FLAGS))),
        E.DUPLICATE_CONDITION,
    ),
    (a_filter(conditions=(match(Field.IP_REMOTE_PORT, (9, 1), MatchType.RANGE),)), E.INVALID_RANGE),
    (a_filter(layer=Layer.IKEEXT_V4, action=ActionType.BLOCK), E.ACTION_INCOMPATIBLE_WITH_LAYER),
    (a_filter(layer=Layer.IPSEC_V6, action=ActionType.BLOCK), E.ACTION_INCOMPATIBLE_WITH_LAYER),
    (a_filter(layer=Layer.IPSEC_KM_DEMUX_V4, action=ActionType.BLOCK), E.ACTION_INCOMPATIBLE_WITH_LAYER),
    (a_filter(sublayer=ids.SUBLAYER_INSPECTION), E.ACTION_INCOMPATIBLE_WITH_SUBLAYER),
    (a_filter(sublayer=ids.SUBLAYER_INSPECTION, **CALLOUT), E.ACTION_INCOMPATIBLE_WITH_SUBLAYER),
    (a_filter(provider_context=ids.PROVIDER_CONTEXT_SECURE_SOCKET_AUTHIP), E.CONTEXT_INCOMPATIBLE_WITH_LAYER),
    (
        a_filter(layer=Layer.IPSEC_V4, provider_context=ids.PROVIDER_CONTEXT_SECURE_SOCKET_AUTHIP),
        E.CONTEXT_INCOMPATIBLE_WITH_LAYER,
    ),
    (
        a_filter(layer=Layer.IKEEXT_V4, provider_context=ids.PROVIDER_CONTEXT_SECURE_SOCKET_IPSEC),
        E.CONTEXT_INCOMPATIBLE_WITH_LAYER,
    ),
    (
        a_filter(provider_context=ids.PROVIDER_CONTEXT_SECURE_SOCKET_IPSEC, **CALLOUT),
        E.CONTEXT_INCOMPATIBLE_WITH_CALLOUT,
    ),
    (
        a_filter(
            layer=Layer.OUTBOUND_TRANSPORT_V4,
            action=ActionType.CALLOUT_TERMINATING,
            action_key=ids.CALLOUT_IPSEC_OUTBOUND_TUNNEL_V4,
            provider_context=ids.PROVIDER_CONTEXT_SECURE_SOCKET_IPSEC,
        ),
        E.CONTEXT_INCOMPATIBLE_WITH_CALLOUT,
    ),
]


@pytest.mark.parametrize(("item", "code"), REFUSED)
def test_what_cannot_be_is_refused_and_nothing_remains(
    engine: FilterEngine, item: PolicyObject, code: PolicyCode
) -> None:
    container = container_of(engine, item)
    before = container.enumerate()
    assert refusal(container.add, item) is code
    assert container.enumerate() == before


def test_km_authorization_takes_permits_and_blocks_but_no_callouts(engine: FilterEngine) -> None:
    layer = Layer.KM_AUTHORIZATION
    asked = engine.callouts.add(Callout("c", layer=layer))
    for action in (ActionType.PERMIT, ActionType.BLOCK):
        assert engine.filters.add(a_filter(layer=layer, action=action)).action is action
    callout = a_filter(layer=layer, action=ActionType.CALLOUT_TERMINATING, action_key=asked.key)
    assert refusal(engine.filters.add, callout) is E.ACTION_INCOMPATIBLE_WITH_LAYER


def test_contexts_that_suit_their_filters(engine: FilterEngine) -> None:
    tunnel = TunnelPolicy(
        engine.provider_contexts.find(ids.PROVIDER_CONTEXT_MODERN_QUICK_MODE).content.proposals,
        TunnelEndpoints("192.0.2.1", "192.0.2.2"),
    )
    contexts = {
        kind: engine.provider_contexts.add(ProviderContext("c", type=kind, content=content)).key
        for kind, content in (
            (ContextType.GENERAL, b"x"),
            (ContextType.KEYING, KeyingPolicy((ids.KEYING_MODULE_IKEV2,))),
            (ContextType.IKEV2_QM_TUNNEL, tunnel),
            (ContextType.DOSP, DospOptions(1, 1, 1, 1)),
            (ContextType.CLASSIFY_OPTIONS, ClassifyOptions(())),
        )
    }
    terminating = ActionType.CALLOUT_TERMINATING
    suiting = [
        (Layer.IKEEXT_V4, ActionType.PERMIT, ids.ZERO_GUID, ids.PROVIDER_CONTEXT_MODERN_MAIN_MODE),
        (Layer.IPSEC_V6, ActionType.PERMIT, ids.ZERO_GUID, ids.PROVIDER_CONTEXT_MODERN_QUICK_MODE),
        (Layer.IPSEC_V6, ActionType.PERMIT, ids.ZERO_GUID, contexts[ContextType.IKEV2_QM_TUNNEL]),
        (Layer.IPSEC_KM_DEMUX_V4, ActionType.PERMIT, ids.ZERO_GUID, contexts[ContextType.KEYING]),
        (CONNECT, ActionType.BLOCK, ids.ZERO_GUID, contexts[ContextType.GENERAL]),
        (
            Layer.OUTBOUND_TRANSPORT_V4,
            terminating,
            ids.CALLOUT_IPSEC_OUTBOUND_TUNNEL_V4,
            contexts[ContextType.IKEV2_QM_TUNNEL],
        ),
        (Layer.IPFORWARD_V6, terminating, ids.CALLOUT_IPSEC_DOSP_FORWARD_V6, contexts[ContextType.DOSP]),
        (
            CONNECT,
            ActionType.CALLOUT_UNKNOWN,
            ids.CALLOUT_SET_OPTIONS_AUTH_CONNECT_LAYER_V4,
            contexts[ContextType.CLASSIFY_OPTIONS],
        ),
    ]
    for layer, action, action_key, context in suiting:
        added = engine.filters.add(
            Filter("f", layer=layer, action=action, action_key=action_key, provider_context=context)
        )
        assert added.flags & FilterFlag.HAS_PROVIDER_CONTEXT
    own = engine.callouts.add(Callout("mine", layer=CONNECT)).key
    anything = Filter("f", layer=CONNECT, action=ActionType.CALLOUT_UNKNOWN, action_key=own)
    assert engine.filters.add(replace(anything, provider_context=contexts[ContextType.KEYING])).id


def test_the_engine_fills_in_key_id_sublayer_and_weight(engine: FilterEngine) -> None:
    added = engine.filters.add(a_filter(conditions=(match(Field.IP_REMOTE_PORT, 443),)))
    assert added.key.version == 4
    assert added.id > 0
    assert added.sublayer == ids.SUBLAYER_UNIVERSAL
    assert 0 < added.effective_weight < 1 << 60
    assert engine.filters.find(added.key) == engine.filters.find(added.id) == added
    chosen = engine.filters.add(a_filter(key=FREE, weight=exact_weight(7)))
    assert (chosen.key, chosen.effective_weight) == (FREE, 7)


def test_keys_are_unique_within_a_kind_only(engine: FilterEngine) -> None:
    for item in (Provider("p", key=FREE), general(key=FREE), Sublayer("s", key=FREE), a_filter(key=FREE)):
        assert add(engine, item).key == FREE
        assert refusal(add, engine, item) is E.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("providers", E.PROVIDER_NOT_FOUND),
        ("provider_contexts", E.PROVIDER_CONTEXT_NOT_FOUND),
        ("sublayers", E.SUBLAYER_NOT_FOUND),
        ("callouts", E.CALLOUT_NOT_FOUND),
        ("filters", E.FILTER_NOT_FOUND),
    ],
)
def test_what_is_not_there_is_not_found(engine: FilterEngine, kind: str, code: PolicyCode) -> None:
    container = getattr(engine, kind)
    for key in (FREE, 12345678901234):
        assert refusal(container.find, key) is code
        assert refusal(container.delete, key) is code


def test_a_deleted_object_is_gone_and_its_key_free(engine: FilterEngine) -> None:
    added = engine.filters.add(a_filter(key=FREE, action=ActionType.BLOCK))
    assert engine.classify(CONNECT, {}).is_blocked
    engine.filters.delete(added)
    assert refusal(engine.filters.find, FREE) is E.FILTER_NOT_FOUND
    assert engine.classify(CONNECT, {}).action is ActionType.NONE_NO_MATCH
    again = engine.filters.add(a_filter(key=FREE))
    assert again.id != added.id
    engine.filters.delete(again.id)


def test_limits_of_sublayers_and_callouts(engine: FilterEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (MAX_SUBLAYERS, MAX_CALLOUTS) == (65536, 100000)
    monkeypatch.setattr("securesock.policy.admission.MAX_SUBLAYERS", len(engine.sublayers.enumerate()) + 1)
    monkeypatch.setattr("securesock.policy.admission.MAX_CALLOUTS", len(engine.callouts.enumerate()) + 1)
    engine.sublayers.add(Sublayer("s"))
    engine.callouts.add(Callout("c", layer=CONNECT))
    assert refusal(engine.sublayers.add, Sublayer("s")) is E.TOO_MANY_SUBLAYERS
    assert refusal(engine.callouts.add, Callout("c", layer=CONNECT)) is E.TOO_MANY_CALLOUTS


def test_what_is_in_use_cannot_be_deleted(engine: FilterEngine) -> None:
    provider = engine.providers.add(Provider("p"))
    context = engine.provider_contexts.add(general(provider=provider.key))
    sublayer = engine.sublayers.add(Sublayer("s", provider=provider.key))
    callout = engine.callouts.add(Callout("c", layer=CONNECT, provider=provider.key))
    user = engine.filters.add(
        a_filter(
            sublayer=sublayer.key,
            provider=provider.key,
            action=ActionType.CALLOUT_UNKNOWN,
            action_key=callout.key,
            provider_context=context.key,
        )
    )
    targets = (context, sublayer, callout)
    for target in (provider, *targets):
        assert refusal(container_of(engine, target).delete, target) is E.IN_USE
    engine.filters.delete(user)
    assert refusal(engine.providers.delete, provider) is E.IN_USE
    for target in targets:
        container_of(engine, target).delete(target)
    engine.providers.delete(provider)


def test_built_in_objects_cannot_be_deleted(engine: FilterEngine) -> None:
    for container in (engine.providers, engine.provider_contexts, engine.sublayers, engine.callouts):
        built_in = container.enumerate()
        assert built_in
        for each in built_in:
            assert refusal(container.delete, each) is E.BUILTIN_OBJECT
    assert engine.filters.enumerate() == []


# -- lifetimes ----------------------------------------------------------------------------------------------------


def test_a_dynamic_session_takes_its_objects_along(engine: FilterEngine) -> None:
    session = engine.open_session(dynamic=True)
    sublayer = session.sublayers.add(Sublayer("s"))
    with session.transaction():
        session.filters.add(a_filter(sublayer=sublayer.key, action=ActionType.BLOCK))
        gone = session.filters.add(a_filter(sublayer=sublayer.key))
    session.filters.delete(gone)
    assert engine.classify(CONNECT, {}).is_blocked
    session.close()
    session.close()
    assert engine.filters.enumerate() == []
    assert refusal(engine.sublayers.find, sublayer.key) is E.SUBLAYER_NOT_FOUND
    assert engine.classify(CONNECT, {}).action is ActionType.NONE_NO_MATCH


def test_an_object_of_a_dynamic_session_whose_descriptor_was_changed_goes_too(engine: FilterEngine) -> None:
    session = engine.open_session(dynamic=True)
    added = session.filters.add(a_filter(action=ActionType.BLOCK))
    session.filters.set_security(added.key, engine.filters.security())
    session.close()
    assert engine.filters.enumerate() == []
    assert not engine.classify(CONNECT, {}).is_blocked


@pytest.mark.parametrize(
    "item",
    [
        Provider("p", flags=ProviderFlag.PERSISTENT),
        general(flags=ProviderFlag.PERSISTENT),
        Sublayer("s", flags=SublayerFlag.PERSISTENT),
        Callout("c", layer=CONNECT, flags=CalloutFlag.PERSISTENT),
        a_filter(flags=FilterFlag.PERSISTENT),
        a_filter(flags=FilterFlag.BOOTTIME),
    ],
)
def test_a_dynamic_session_adds_nothing_that_lasts(engine: FilterEngine, item: PolicyObject) -> None:
    assert refusal(add, engine.open_session(dynamic=True), item) is E.DYNAMIC_SESSION_IN_PROGRESS


def test_nothing_refers_to_what_may_be_gone_before_it(engine: FilterEngine) -> None:
    """Dynamic, static and persistent sublayers, and filters of each lifetime in them."""
    ours, other = engine.open_session(dynamic=True), engine.open_session(dynamic=True)
    dynamic = ours.sublayers.add(Sublayer("dynamic")).key
    static = engine.sublayers.add(Sublayer("static")).key
    persistent = engine.sublayers.add(Sublayer("persistent", flags=SublayerFlag.PERSISTENT)).key
    lasting = FilterFlag.PERSISTENT
    for session, flags, target, is_allowed in [
        (ours, 0, dynamic, True),
        (other, 0, dynamic, False),
        (engine, 0, dynamic, False),
        (engine, lasting, dynamic, False),
        (ours, 0, static, True),
        (engine, 0, static, True),
        (engine, lasting, static, False),
        (ours, 0, persistent, True),
        (engine, 0, persistent, True),
        (engine, lasting, persistent, True),
        (engine, FilterFlag.BOOTTIME, static, False),
        (engine, lasting, ids.SUBLAYER_UNIVERSAL, True),
    ]:
        item = a_filter(sublayer=target, flags=flags)
        if is_allowed:
            session.filters.add(item)
        else:
            assert refusal(session.filters.add, item) is E.LIFETIME_MISMATCH


def test_a_persistent_object_does_not_lean_on_another_providers(engine: FilterEngine) -> None:
    lasting = FilterFlag.PERSISTENT
    mine, theirs = (engine.providers.add(Provider(name, flags=1)).key for name in ("mine", "theirs"))
    lane = engine.sublayers.add(Sublayer("theirs", flags=1, provider=theirs)).key
    nobodys = engine.sublayers.add(Sublayer("nobody's", flags=1)).key
    static = engine.providers.add(Provider("static")).key
    assert refusal(engine.filters.add, a_filter(flags=lasting, provider=mine, sublayer=lane)) is E.LIFETIME_MISMATCH
    assert refusal(engine.filters.add, a_filter(flags=lasting, sublayer=lane)) is E.LIFETIME_MISMATCH
    assert refusal(engine.filters.add, a_filter(flags=lasting, provider=static)) is E.LIFETIME_MISMATCH
    assert engine.filters.add(a_filter(flags=lasting, provider=theirs, sublayer=lane)).id
    assert engine.filters.add(a_filter(flags=lasting, provider=mine, sublayer=nobodys)).id
    assert engine.filters.add(a_filter(provider=mine, sublayer=lane)).id


def test_static_objects_end_with_the_engine_and_persistent_ones_do_not(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as engine:
        provider = engine.providers.add(Provider("p", flags=1, service_name="shop"))
        kept = engine.filters.add(
            a_filter(flags=1, provider=provider.key, action=ActionType.BLOCK, conditions=(match(Field.FLAGS, 1),))
        )
        engine.filters.add(a_filter())
        boot = engine.filters.add(a_filter(flags=FilterFlag.BOOTTIME, action=ActionType.BLOCK))
        assert engine.classify(CONNECT, {}).action is ActionType.PERMIT
    with FilterEngine.open(path) as engine:
        assert engine.filters.enumerate() == [kept]
        assert engine.filters.enumerate(FilterTemplate(flags=EnumFlag.INCLUDE_BOOTTIME)) == [kept, boot]
        assert engine.filters.enumerate(FilterTemplate(flags=EnumFlag.BOOTTIME_ONLY)) == [boot]
        assert engine.classify(CONNECT, {Field.FLAGS: 1}).is_blocked
        assert engine.classify(CONNECT, {}).action is ActionType.NONE_NO_MATCH
        newer = engine.filters.add(a_filter(flags=1))
        assert newer.id > boot.id
    with FilterEngine.open(path, disabled_services=["shop"]) as engine:
        assert engine.providers.find(provider.key).flags & ProviderFlag.DISABLED
        assert kept not in engine.filters.enumerate()
        [sleeping] = [
            each
            for each in engine.filters.enumerate(FilterTemplate(flags=EnumFlag.INCLUDE_DISABLED))
            if each.key == kept.key
        ]
        assert sleeping.flags & FilterFlag.DISABLED
        assert not engine.classify(CONNECT, {Field.FLAGS: 1}).is_blocked
        engine.filters.set_security(sleeping.key, engine.filters.security())
    with FilterEngine.open(path) as engine:
        assert engine.classify(CONNECT, {Field.FLAGS: 1}).is_blocked
        assert not engine.providers.find(provider.key).flags & ProviderFlag.DISABLED
        engine.filters.delete(kept.key)
    with FilterEngine.open(path) as engine:
        assert [each.key for each in engine.filters.enumerate()] == [newer.key]


# -- callouts of one's own, and the engine's own filters ----------------------------------------------------------


def test_a_filter_obeys_its_callout_as_soon_as_somebody_does_it(engine: FilterEngine) -> None:
    from securesock.policy.callouts import CalloutAnswer

    callout = engine.callouts.add(Callout("mine", layer=CONNECT))
    engine.filters.add(a_filter(action=ActionType.CALLOUT_TERMINATING, action_key=callout.key))
    watch = engine.watch(CONNECT, {})
    assert watch.verdict.is_blocked
    engine.register_callout(callout.key, lambda call: CalloutAnswer(ActionType.PERMIT))
    assert engine.classify(CONNECT, {}).action is ActionType.PERMIT
    assert watch.poll() is not None
    assert engine.callouts.find(callout.key).flags & CalloutFlag.REGISTERED
    engine.register_callout(callout.key, None)
    assert not engine.callouts.find(callout.key).flags & CalloutFlag.REGISTERED
    assert engine.classify(CONNECT, {}).is_blocked
    assert refusal(engine.register_callout, FREE, None) is E.CALLOUT_NOT_FOUND
    assert refusal(engine.register_callout, ids.CALLOUT_IPSEC_ALE_CONNECT_V4, None) is E.BUILTIN_OBJECT


def test_key_exchange_is_exempted_while_there_is_main_mode_policy(engine: FilterEngine) -> None:
    assert engine.filters.enumerate() == []
    modern = ids.PROVIDER_CONTEXT_MODERN_MAIN_MODE
    engine.filters.add(a_filter(layer=Layer.IPSEC_V4))
    engine.filters.add(a_filter(layer=Layer.IKEEXT_V4))
    assert len(engine.filters.enumerate()) == 2
    first = engine.filters.add(a_filter(layer=Layer.IKEEXT_V4, provider_context=modern))
    exempt = [each for each in engine.filters.enumerate() if each.provider == ids.PROVIDER_IKEEXT]
    assert len(exempt) == 8
    assert all(each.effective_weight >> 60 == 0xC and each.action is ActionType.PERMIT for each in exempt)
    second = engine.filters.add(a_filter(layer=Layer.IKEEXT_V6, provider_context=modern))
    assert len(engine.filters.enumerate()) == 12
    assert refusal(engine.filters.delete, exempt[0]) is E.BUILTIN_OBJECT
    engine.filters.delete(first)
    assert len(engine.filters.enumerate()) == 11
    with engine.transaction():
        engine.filters.delete(second)
        assert len(engine.filters.enumerate()) == 10
    assert len(engine.filters.enumerate()) == 2


@pytest.mark.parametrize(
    ("layer", "fields", "is_exempt"),
    [
        (Layer.INBOUND_TRANSPORT_V4, {Field.IP_PROTOCOL: 17, Field.IP_LOCAL_PORT: 500}, True),
        (Layer.OUTBOUND_TRANSPORT_V4, {Field.IP_PROTOCOL: 17, Field.IP_LOCAL_PORT: 4500}, True),
        (Layer.OUTBOUND_TRANSPORT_V6, {Field.IP_PROTOCOL: 17, Field.IP_LOCAL_PORT: 500}, True),
        (Layer.OUTBOUND_TRANSPORT_V6, {Field.IP_PROTOCOL: 17, Field.IP_LOCAL_PORT: 4500}, False),
        (Layer.INBOUND_TRANSPORT_V4, {Field.IP_PROTOCOL: 6, Field.IP_LOCAL_PORT: 500}, False),
        (CONNECT, {Field.IP_PROTOCOL: 17, Field.IP_LOCAL_PORT: 500, Field.ALE_USER_ID: "uid:7"}, False),
        (CONNECT, {Field.IP_PROTOCOL: 17, Field.IP_LOCAL_PORT: 500, Field.ALE_USER_ID: "uid:42"}, True),
        (CONNECT, {Field.IP_PROTOCOL: 17, Field.IP_LOCAL_PORT: 500}, False),
    ],
)
def test_what_the_exemptions_let_pass(layer: Layer, fields: dict[Field, object], is_exempt: bool) -> None:
    from securesock.policy.users import local_user

    with FilterEngine.open(owner=local_user(42)) as engine:
        engine.filters.add(a_filter(layer=Layer.IKEEXT_V4, provider_context=ids.PROVIDER_CONTEXT_MODERN_MAIN_MODE))
        engine.filters.add(a_filter(layer=layer, action=ActionType.BLOCK))
        assert engine.classify(layer, fields).is_blocked is not is_exempt


def test_a_closed_engine_is_closed(engine: FilterEngine) -> None:
    session = engine.open_session()
    engine.close()
    for call in (
        lambda: session.classify(CONNECT, {}),
        lambda: engine.filters.enumerate(),
        lambda: engine.filters.add(a_filter()),
        lambda: session.begin(),
        lambda: session.commit(),
        lambda: session.filters.subscribe(),
    ):
        assert refusal(call) is E.SESSION_ABORTED
    engine.close()


def test_sessions_have_keys_of_which_each_is_open_once(engine: FilterEngine) -> None:
    session = engine.open_session(key=FREE)
    assert refusal(engine.open_session, key=FREE) is E.ALREADY_EXISTS
    assert session in engine.sessions
    session.close()
    assert session not in engine.sessions
    assert engine.open_session(key=FREE).key == FREE
    assert len(engine.sessions) == 2


def test_a_layer_may_be_named_and_an_unknown_one_is_refused(engine: FilterEngine) -> None:
    engine.filters.add(a_filter(action=ActionType.BLOCK, conditions=(match(Field.ALE_USER_ID, allow("uid:0")),)))
    assert engine.classify("FWPM_LAYER_ALE_AUTH_CONNECT_V4", {"ALE_USER_ID": "uid:0"}).is_blocked
    assert engine.classify(CONNECT.key, {Field.ALE_USER_ID.key: "uid:0"}).is_blocked
    assert refusal(engine.classify, "NOWHERE", {}) is E.LAYER_NOT_FOUND
    assert refusal(engine.classify, CONNECT, {"NOTHING": 1}) is E.CONDITION_NOT_FOUND
