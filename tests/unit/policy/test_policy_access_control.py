"""Access control by local user: which call needs which right on what, and how rights are inherited."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securesock.policy import identifiers as ids
from securesock.policy.access import EVERYONE, AccessEntry, Right, SecurityDescriptor, Token
from securesock.policy.errors import PolicyAccessDenied, PolicyCode, PolicyError
from securesock.policy.filter_engine import FilterEngine
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Callout, Filter, Provider, ProviderFlag, Sublayer
from securesock.policy.session import Session
from securesock.policy.users import current_user, local_user

CONNECT = Layer.ALE_AUTH_CONNECT_V4
OWNER, ROOT, GUEST = local_user(42), local_user(0), local_user(1000, (100,))


@pytest.fixture
def engine() -> Iterator[FilterEngine]:
    with FilterEngine.open(":memory:", owner=OWNER) as opened:
        yield opened


def descriptor(*entries: tuple[str, Right]) -> SecurityDescriptor:
    return SecurityDescriptor(tuple(AccessEntry(True, trustee, rights) for trustee, rights in entries))


def guest_with(engine: FilterEngine, rights: Right, container: str = "engine") -> Session:
    """A session of the guest, who has only these rights, on this container, beside opening the engine."""
    basic = descriptor(("uid:1000", Right.OPEN), ("uid:42", Right.GENERIC_ALL))
    engine.set_security(basic)
    if container == "engine":
        engine.set_security(descriptor(("uid:1000", rights | Right.OPEN), ("uid:42", Right.GENERIC_ALL)))
    else:
        wanted = descriptor(("uid:1000", rights), ("uid:42", Right.GENERIC_ALL))
        getattr(engine, container).set_security(None, wanted)
    return engine.open_session(user=GUEST)


def denied(call: Callable[..., object], *args: object, **more: object) -> bool:
    """Whether exactly the lack of a right stops a call."""
    try:
        call(*args, **more)
    except PolicyAccessDenied as error:
        assert error.code is PolicyCode.ERROR_ACCESS_DENIED
        assert error.winerror == 5
        return True
    return False


def a_filter(**more: object) -> Filter:
    return Filter("f", **{"layer": CONNECT, "action": ActionType.BLOCK, **more})


def test_by_default_owner_and_administrator_may_everything_and_others_ask_only(engine: FilterEngine) -> None:
    for user in (OWNER, ROOT):
        session = engine.open_session(user=user)
        session.filters.delete(session.filters.add(a_filter()))
    guest = engine.open_session(user=GUEST)
    assert guest.classify(CONNECT, {}).action is ActionType.NONE_NO_MATCH
    assert guest.explain(CONNECT, {}).filters == 0
    for call in (
        lambda: guest.filters.add(a_filter()),
        lambda: guest.filters.enumerate(),
        lambda: guest.providers.find(ids.PROVIDER_IKEEXT),
        lambda: guest.filters.subscribe(),
        lambda: guest.begin(),
        lambda: guest.begin(read_only=True),
        lambda: guest.net_events.enumerate(),
        lambda: guest.net_events.subscribe(),
        lambda: guest.net_events.is_collecting,
        lambda: guest.filters.security(),
        lambda: guest.filters.set_security(None, SecurityDescriptor()),
        lambda: guest.security(),
        lambda: guest.set_security(SecurityDescriptor()),
    ):
        assert denied(call)


def test_who_may_not_open_cannot_but_an_administrator_always_can(engine: FilterEngine) -> None:
    engine.set_security(SecurityDescriptor())
    assert denied(engine.open_session, user=GUEST)
    for user in (OWNER, ROOT):
        session = engine.open_session(user=user)
        assert denied(session.filters.enumerate)
        session.set_security(descriptor(("uid:42", Right.GENERIC_ALL)))
        engine.set_security(SecurityDescriptor())
    engine.set_security(descriptor(("uid:42", Right.GENERIC_ALL)))
    assert engine.filters.enumerate() == []


@pytest.mark.parametrize(
    ("right", "container", "call"),
    [
        (Right.ADD, "filters", lambda guest: guest.filters.add(a_filter())),
        (Right.ENUM, "filters", lambda guest: guest.filters.enumerate()),
        (Right.SUBSCRIBE, "filters", lambda guest: guest.filters.subscribe().cancel()),
        (Right.READ_CONTROL, "filters", lambda guest: guest.filters.security()),
        (Right.WRITE_DAC, "filters", lambda guest: guest.filters.set_security(None, SecurityDescriptor())),
        (Right.READ, "providers", lambda guest: guest.providers.find(ids.PROVIDER_IKEEXT)),
        (Right.ADD, "providers", lambda guest: guest.providers.add(Provider("p"))),
        (Right.ADD, "sublayers", lambda guest: guest.sublayers.add(Sublayer("s"))),
        (Right.ADD, "callouts", lambda guest: guest.callouts.add(Callout("c", layer=CONNECT))),
        (Right.CLASSIFY, "engine", lambda guest: guest.classify(CONNECT, {})),
        (Right.CLASSIFY, "engine", lambda guest: guest.authorize(CONNECT, {})),
        (Right.CLASSIFY, "engine", lambda guest: guest.watch(CONNECT, {})),
        (Right.CLASSIFY, "engine", lambda guest: guest.explain(CONNECT, {})),
        (Right.BEGIN_READ_TXN, "engine", lambda guest: guest.begin(read_only=True)),
        (Right.BEGIN_WRITE_TXN, "engine", lambda guest: guest.begin()),
        (Right.READ_CONTROL, "engine", lambda guest: guest.security()),
        (Right.READ, "engine", lambda guest: guest.net_events.is_collecting),
        (Right.WRITE, "engine", lambda guest: setattr(guest.net_events, "is_collecting", False)),
    ],
)
def test_each_call_needs_its_right(
    engine: FilterEngine, right: Right, container: str, call: Callable[[Session], object]
) -> None:
    everything_else = Right.GENERIC_ALL & ~right & ~Right.ADD_LINK
    if container == "engine":
        assert denied(call, guest_with(engine, everything_else & ~Right.OPEN))
    else:
        assert denied(call, guest_with(engine, everything_else, container))
    session = guest_with(engine, right, container)
    if container != "engine" and right is Right.ADD and container == "filters":
        engine.sublayers.set_security(None, descriptor((EVERYONE, Right.ADD_LINK), ("uid:42", Right.GENERIC_ALL)))
    assert not denied(call, session)


@pytest.mark.parametrize("missing", ["providers", "sublayers", "callouts", "provider_contexts"])
def test_a_filter_needs_add_link_on_everything_that_it_refers_to(engine: FilterEngine, missing: str) -> None:
    from securesock.policy.ipsec_numbers import ContextType
    from securesock.policy.model import ProviderContext

    provider = engine.providers.add(Provider("p"))
    lane = engine.sublayers.add(Sublayer("s"))
    callout = engine.callouts.add(Callout("c", layer=CONNECT))
    context = engine.provider_contexts.add(ProviderContext("c", type=ContextType.GENERAL, content=b""))
    wanted = a_filter(
        provider=provider.key,
        sublayer=lane.key,
        action=ActionType.CALLOUT_UNKNOWN,
        action_key=callout.key,
        provider_context=context.key,
    )
    guest = engine.open_session(user=GUEST)
    engine.filters.set_security(None, descriptor((EVERYONE, Right.ADD), ("uid:42", Right.GENERIC_ALL)))
    link = descriptor((EVERYONE, Right.ADD_LINK), ("uid:42", Right.GENERIC_ALL))
    for container in {"providers", "sublayers", "callouts", "provider_contexts"} - {missing}:
        getattr(engine, container).set_security(None, link)
    assert denied(guest.filters.add, wanted)
    assert engine.filters.enumerate() == []
    getattr(engine, missing).set_security(None, link)
    assert guest.filters.add(wanted).id


def test_an_object_of_its_own_descriptor_hides_from_enumeration_and_resists_deletion(engine: FilterEngine) -> None:
    secret = engine.filters.add(a_filter(), security=descriptor(("uid:42", Right.GENERIC_ALL)))
    shared = engine.filters.add(a_filter())
    engine.filters.set_security(None, descriptor((EVERYONE, Right.GENERIC_ALL)))
    guest = engine.open_session(user=GUEST)
    heard = guest.filters.subscribe()
    assert guest.filters.enumerate() == [shared]
    assert denied(guest.filters.find, secret.key)
    assert denied(guest.filters.delete, secret.key)
    guest.filters.delete(shared)
    engine.filters.delete(secret)
    assert heard.poll() is None
    assert engine.filters.enumerate() == []


def test_an_objects_descriptor_can_be_asked_and_changed_by_its_owner(engine: FilterEngine) -> None:
    owned = SecurityDescriptor((), owner="uid:1000")
    added = engine.filters.add(a_filter(), security=owned)
    guest = engine.open_session(user=GUEST)
    assert guest.filters.security(added.key) == owned
    readable = descriptor(("uid:1000", Right.READ))
    guest.filters.set_security(added.key, readable)
    assert guest.filters.find(added.key) == added
    assert denied(guest.filters.set_security, added.key, owned)
    assert engine.classify(CONNECT, {}).is_blocked


def test_rights_of_groups_count(engine: FilterEngine) -> None:
    engine.filters.set_security(None, descriptor(("group:gid:100", Right.ENUM)))
    assert engine.open_session(user=GUEST).filters.enumerate() == []
    assert denied(engine.open_session(user=local_user(1000)).filters.enumerate)


def test_a_dynamic_session_secures_its_own_objects_only(engine: FilterEngine) -> None:
    session = engine.open_session(dynamic=True)
    mine, others = session.filters.add(a_filter()), engine.filters.add(a_filter())
    session.filters.set_security(mine.key, SecurityDescriptor(owner="uid:42"))
    for call in (
        lambda: session.filters.set_security(others.key, SecurityDescriptor()),
        lambda: session.filters.set_security(None, SecurityDescriptor()),
        lambda: session.set_security(SecurityDescriptor()),
    ):
        with pytest.raises(PolicyError) as refused:
            call()
        assert refused.value.code is PolicyCode.DYNAMIC_SESSION_IN_PROGRESS


def test_registering_a_callout_needs_write_on_it(engine: FilterEngine) -> None:
    callout = engine.callouts.add(Callout("c", layer=CONNECT))
    guest = engine.open_session(user=GUEST)
    assert denied(guest.register_callout, callout.key, None)


def test_descriptors_of_persistent_objects_and_containers_last(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    mine = descriptor(("uid:42", Right.GENERIC_ALL), (EVERYONE, Right.READ))
    with FilterEngine.open(path, owner=OWNER) as engine:
        added = engine.providers.add(Provider("p", flags=ProviderFlag.PERSISTENT), security=mine)
        later = engine.providers.add(Provider("later", flags=ProviderFlag.PERSISTENT))
        engine.providers.set_security(later.key, mine)
        engine.sublayers.set_security(None, mine)
        engine.set_security(descriptor(("uid:42", Right.GENERIC_ALL), (EVERYONE, Right.OPEN | Right.ENUM)))
    with FilterEngine.open(path, owner=OWNER) as engine:
        assert engine.providers.security(added.key) == mine
        assert engine.providers.security(later.key) == mine
        assert engine.sublayers.security() == mine
        guest = engine.open_session(user=GUEST)
        assert guest.providers.enumerate() == [added, later]
        assert guest.sublayers.find(ids.SUBLAYER_UNIVERSAL).name == "Universal"
        assert denied(guest.filters.add, a_filter())


@pytest.mark.skipif(os.name != "posix", reason="users have no numbers on this platform")
def test_the_current_user_is_known_by_number() -> None:
    token = current_user()
    assert token.names == (f"uid:{os.geteuid()}",)
    assert f"gid:{os.getegid()}" in token.groups
    assert Token(("uid:0",)).keys[0] == EVERYONE
