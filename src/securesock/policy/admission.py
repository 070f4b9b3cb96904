"""May this object be added, may that one be deleted?  Every refusal of FwpmXAdd and FwpmXDelete, by its code.

``admit`` turns what a caller handed in into the record that the engine will keep: key, id and effective weight filled
in, the rule compiled.  It looks at a view (the transaction's draft) and changes nothing.  Access rights are the
session's business; whether a context's content is possible is ipsec_checks.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final
from uuid import UUID

from . import identifiers as ids
from .access import SecurityDescriptor
from .catalog import Record, View, kind_of, references_of
from .conditions import FieldTest, compile_conditions
from .errors import PolicyCode, PolicyError, error_for
from .ipsec_checks import check_content
from .ipsec_numbers import ContextType
from .layers import Layer
from .model import (
    ActionType,
    Callout,
    CalloutFlag,
    ContextFlag,
    Filter,
    FilterFlag,
    Lifetime,
    ObjectKind,
    PolicyObject,
    Provider,
    ProviderContext,
    ProviderFlag,
    Sublayer,
    SublayerFlag,
)
from .rules import Rule
from .values import known_flags
from .weights import effective_weight

__all__ = ["MAX_CALLOUTS", "MAX_SUBLAYERS", "admit", "check_delete", "lifetime_of", "not_found", "with_rule"]

_CODE: Final = PolicyCode
# The limits of the documentation; that of sublayers is garbled there ("2 6") and evidently 2^16.
MAX_CALLOUTS: Final = 100_000
MAX_SUBLAYERS: Final = 1 << 16

_NOT_FOUND: Final = {
    ObjectKind.PROVIDER: _CODE.PROVIDER_NOT_FOUND,
    ObjectKind.PROVIDER_CONTEXT: _CODE.PROVIDER_CONTEXT_NOT_FOUND,
    ObjectKind.SUBLAYER: _CODE.SUBLAYER_NOT_FOUND,
    ObjectKind.CALLOUT: _CODE.CALLOUT_NOT_FOUND,
    ObjectKind.FILTER: _CODE.FILTER_NOT_FOUND,
}
# What a caller may set; the rest is output, reserved, or another system's.
_FLAGS: Final[dict[type[PolicyObject], int]] = {
    Provider: int(ProviderFlag.PERSISTENT),
    ProviderContext: known_flags(ContextFlag),
    Sublayer: known_flags(SublayerFlag),
    Callout: int(CalloutFlag.PERSISTENT | CalloutFlag.USES_PROVIDER_CONTEXT),
    Filter: known_flags(FilterFlag) & ~int(FilterFlag.DISABLED | FilterFlag.HAS_SECURITY_REALM_PROVIDER_CONTEXT),
}
# Plain numbers, here and below: an enum's arithmetic costs more than all the rest of a check, and the complement of one
# of its members has its known bits only.
_RESERVED_FILTER_FLAGS: Final = int(FilterFlag.RESERVED0 | FilterFlag.RESERVED1 | FilterFlag.RESERVED2)
_BOOTTIME: Final = int(FilterFlag.BOOTTIME)
_PERSISTENT: Final = int(FilterFlag.PERSISTENT)
_PERMIT_IF_UNREGISTERED: Final = int(FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED)
_HAS_CONTEXT: Final = int(FilterFlag.HAS_PROVIDER_CONTEXT)
_LASTING_FILTER: Final = _BOOTTIME | _PERSISTENT
_LASTING_CALLOUT: Final = int(CalloutFlag.PERSISTENT)
_LASTING: Final = int(ProviderFlag.PERSISTENT)
_ON_FILTERS: Final = (
    ActionType.BLOCK,
    ActionType.PERMIT,
    ActionType.CALLOUT_TERMINATING,
    ActionType.CALLOUT_INSPECTION,
    ActionType.CALLOUT_UNKNOWN,
)

_MAIN_MODE: Final = (ContextType.IKE_MM, ContextType.AUTHIP_MM, ContextType.IKEV2_MM)
_TUNNELS: Final = (ContextType.IKE_QM_TUNNEL, ContextType.AUTHIP_QM_TUNNEL, ContextType.IKEV2_QM_TUNNEL)
_TRANSPORTS: Final = (
    ContextType.IKE_QM_TRANSPORT,
    ContextType.AUTHIP_QM_TRANSPORT,
    ContextType.IKEV2_QM_TRANSPORT,
)
# The layers at which keying modules look their policy up: what a filter there may point to.  Its action is PERMIT.
_POLICY_LAYERS: Final = {
    Layer.IKEEXT_V4: _MAIN_MODE,
    Layer.IKEEXT_V6: _MAIN_MODE,
    Layer.IPSEC_V4: (*_TRANSPORTS, *_TUNNELS),
    Layer.IPSEC_V6: (*_TRANSPORTS, *_TUNNELS),
    Layer.IPSEC_KM_DEMUX_V4: (ContextType.KEYING,),
    Layer.IPSEC_KM_DEMUX_V6: (ContextType.KEYING,),
}
_CALLOUT_CONTEXTS: Final[dict[UUID, tuple[ContextType, ...]]] = {
    **dict.fromkeys(
        (
            ids.CALLOUT_IPSEC_INBOUND_TUNNEL_V4,
            ids.CALLOUT_IPSEC_INBOUND_TUNNEL_V6,
            ids.CALLOUT_IPSEC_OUTBOUND_TUNNEL_V4,
            ids.CALLOUT_IPSEC_OUTBOUND_TUNNEL_V6,
            ids.CALLOUT_IPSEC_FORWARD_INBOUND_TUNNEL_V4,
            ids.CALLOUT_IPSEC_FORWARD_INBOUND_TUNNEL_V6,
            ids.CALLOUT_IPSEC_FORWARD_OUTBOUND_TUNNEL_V4,
            ids.CALLOUT_IPSEC_FORWARD_OUTBOUND_TUNNEL_V6,
            ids.CALLOUT_IPSEC_INBOUND_TUNNEL_ALE_ACCEPT_V4,
            ids.CALLOUT_IPSEC_INBOUND_TUNNEL_ALE_ACCEPT_V6,
        ),
        _TUNNELS,
    ),
    **dict.fromkeys(
        (
            ids.CALLOUT_IPSEC_INBOUND_TRANSPORT_V4,
            ids.CALLOUT_IPSEC_INBOUND_TRANSPORT_V6,
            ids.CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4,
            ids.CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6,
            ids.CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V4,
            ids.CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V6,
            ids.CALLOUT_IPSEC_ALE_CONNECT_V4,
            ids.CALLOUT_IPSEC_ALE_CONNECT_V6,
        ),
        (),
    ),
    ids.CALLOUT_IPSEC_DOSP_FORWARD_V4: (ContextType.DOSP,),
    ids.CALLOUT_IPSEC_DOSP_FORWARD_V6: (ContextType.DOSP,),
    ids.CALLOUT_SET_OPTIONS_AUTH_CONNECT_LAYER_V4: (ContextType.CLASSIFY_OPTIONS,),
    ids.CALLOUT_SET_OPTIONS_AUTH_CONNECT_LAYER_V6: (ContextType.CLASSIFY_OPTIONS,),
}


def not_found(kind: ObjectKind, key: object) -> PolicyError:
    """The error for a key or an id that no object of this kind has."""
    return error_for(_NOT_FOUND[kind], f"no {kind.label} has the key or id {key}")


def lifetime_of(item: PolicyObject, is_dynamic: bool) -> Lifetime:
    """How long an object lives that is added like this; DYNAMIC_SESSION_IN_PROGRESS where it may not last."""
    lasting = int(item.flags) & _lasting_flags(item)
    if is_dynamic:
        if lasting:
            message = "a dynamic session adds dynamic objects only; open another one for what is to last"
            raise error_for(_CODE.DYNAMIC_SESSION_IN_PROGRESS, message)
        return Lifetime.DYNAMIC
    return Lifetime.PERSISTENT if lasting else Lifetime.STATIC


def _lasting_flags(item: PolicyObject) -> int:
    if isinstance(item, Filter):
        return _LASTING_FILTER
    return _LASTING_CALLOUT if isinstance(item, Callout) else _LASTING


def admit(
    view: View,
    item: PolicyObject,
    lifetime: Lifetime,
    session: int,
    new_key: Callable[[], UUID],
    new_id: Callable[[], int],
    security: SecurityDescriptor | None = None,
    is_system: bool = False,
) -> Record:
    """The record for ``item``, if it may be added to what ``view`` holds; InvalidPolicy or PolicyConflict if not."""
    kind = kind_of(item)
    _check_texts(item)
    _check_flags(item)
    if item.key != ids.ZERO_GUID and view.find(kind, item.key) is not None:
        raise error_for(_CODE.ALREADY_EXISTS, f"a {kind.label} with the key {item.key} exists")
    tests: tuple[FieldTest, ...] = ()
    match item:
        case ProviderContext():
            check_content(item.type, item.content)
        case Sublayer():
            _check_sublayer(view, item)
        case Callout():
            _check_callout(view, item)
        case Filter():
            item, tests = _completed_filter(view, item)
    _check_references(view, item, lifetime, session)
    key = new_key() if item.key == ids.ZERO_GUID else item.key
    complete = replace(item, key=key, id=new_id())
    rule = _rule_of(view, complete, tests) if isinstance(complete, Filter) else None
    return Record(complete, lifetime, session, security, is_system, rule=rule)


def with_rule(record: Record, view: View) -> Record:
    """The record with the rule of its filter; any other record as it is."""
    item = record.item
    if not isinstance(item, Filter):
        return record
    return replace(record, rule=_rule_of(view, item, compile_conditions(item.layer.info, item.conditions)))


def _rule_of(view: View, item: Filter, tests: tuple[FieldTest, ...]) -> Rule:
    sublayer = view.find(ObjectKind.SUBLAYER, item.sublayer)
    if sublayer is None:
        raise not_found(ObjectKind.SUBLAYER, item.sublayer)
    return Rule(item, tests, sublayer.item.id)


def check_delete(view: View, record: Record) -> None:
    """BUILTIN_OBJECT, or IN_USE while other objects refer to it."""
    kind = record.kind
    if record.lifetime is Lifetime.BUILT_IN or record.is_system:
        raise error_for(_CODE.BUILTIN_OBJECT, f"the {kind.label} {record.item.name!r} is built in")
    uses = view.uses(kind, record.item.key)
    if uses:
        raise error_for(_CODE.IN_USE, f"the {kind.label} {record.item.name!r} is in use by {uses} other objects")


def _check_texts(item: PolicyObject) -> None:
    if not item.name:
        raise error_for(_CODE.NULL_DISPLAY_NAME, "every object has a name to be shown")
    texts = [item.name, item.description]
    if isinstance(item, Provider):
        texts.append(item.service_name)
    for text in texts:
        if "\0" in text or any("\ud800" <= each <= "\udfff" for each in text):
            raise error_for(_CODE.INVALID_PARAMETER, f"{text!r} is no valid Unicode string")


def _check_flags(item: PolicyObject) -> None:
    flags = int(item.flags)
    if isinstance(item, Filter) and flags & _RESERVED_FILTER_FLAGS:
        raise error_for(_CODE.RESERVED, "a reserved filter flag is set")
    if flags & ~_FLAGS[type(item)]:
        raise error_for(_CODE.INVALID_FLAGS, f"flags {item.flags:#x} cannot be set on a {kind_of(item).label}")


def _check_sublayer(view: View, item: Sublayer) -> None:
    if not 0 <= item.weight <= 0xFFFF:
        raise error_for(_CODE.OUT_OF_BOUNDS, f"the weight of a sublayer is 0 to 65535, not {item.weight}")
    if view.count(ObjectKind.SUBLAYER) >= MAX_SUBLAYERS:
        raise error_for(_CODE.TOO_MANY_SUBLAYERS, f"there are {MAX_SUBLAYERS} sublayers already")


def _check_callout(view: View, item: Callout) -> None:
    if not isinstance(item.layer, Layer):
        raise error_for(_CODE.LAYER_NOT_FOUND, f"{item.layer!r} is no layer")
    if view.count(ObjectKind.CALLOUT) >= MAX_CALLOUTS:
        raise error_for(_CODE.TOO_MANY_CALLOUTS, f"there are {MAX_CALLOUTS} callouts already")


def _completed_filter(view: View, item: Filter) -> tuple[Filter, tuple[FieldTest, ...]]:
    """The filter with what the engine derives, and its tests."""
    if not isinstance(item.layer, Layer):
        raise error_for(_CODE.LAYER_NOT_FOUND, f"{item.layer!r} is no layer")
    sublayer = ids.SUBLAYER_UNIVERSAL if item.sublayer == ids.ZERO_GUID else item.sublayer
    _check_filter_flags(item)
    _check_action(view, item, sublayer)
    flags = int(item.flags)
    if item.provider_context is not None:
        _check_context(view, item, item.provider_context)
        flags |= _HAS_CONTEXT
    tests = compile_conditions(item.layer.info, item.conditions)
    weight = effective_weight(item.weight, tests)
    return replace(item, sublayer=sublayer, flags=flags, effective_weight=weight), tests


def _check_filter_flags(item: Filter) -> None:
    flags = int(item.flags)
    if flags & _BOOTTIME:
        if flags & _PERSISTENT:
            raise error_for(_CODE.INVALID_FLAGS, "a filter is persistent or boot-time, not both")
        if not item.layer.info.is_kernel:
            raise error_for(_CODE.INCOMPATIBLE_LAYER, f"{item.layer.name} is judged too late for a boot-time filter")
    may_be_missing = item.action in (ActionType.CALLOUT_TERMINATING, ActionType.CALLOUT_UNKNOWN)
    if flags & _PERMIT_IF_UNREGISTERED and not may_be_missing:
        raise error_for(_CODE.INVALID_FLAGS, "PERMIT_IF_CALLOUT_UNREGISTERED goes with a callout that may decide")
    if flags & _HAS_CONTEXT and item.provider_context is None:
        raise error_for(_CODE.NULL_POINTER, "HAS_PROVIDER_CONTEXT without a provider context")
    if item.provider_context is not None and item.raw_context:
        raise error_for(_CODE.INVALID_PARAMETER, "a filter has a provider context or a raw context, not both")
    if not 0 <= item.raw_context < 1 << 64:
        raise error_for(_CODE.OUT_OF_BOUNDS, f"a raw context has 64 bits; {item.raw_context} has not")


def _check_action(view: View, item: Filter, sublayer: UUID) -> None:
    action, layer = item.action, item.layer
    if action not in _ON_FILTERS:
        raise error_for(_CODE.INVALID_ACTION_TYPE, f"{action!r} is no action of a filter")
    if action.is_callout:
        if item.action_key == ids.ZERO_GUID:
            raise error_for(_CODE.NULL_POINTER, "a callout action names its callout")
        callout = view.find(ObjectKind.CALLOUT, item.action_key)
        if callout is None:
            raise not_found(ObjectKind.CALLOUT, item.action_key)
        if isinstance(callout.item, Callout) and callout.item.layer is not layer:
            raise error_for(_CODE.INCOMPATIBLE_LAYER, f"{callout.item.name!r} is for layer {callout.item.layer.name}")
    allowed: tuple[ActionType, ...] = _ON_FILTERS
    if layer in _POLICY_LAYERS:
        allowed = (ActionType.PERMIT,)
    elif layer is Layer.KM_AUTHORIZATION:
        allowed = (ActionType.PERMIT, ActionType.BLOCK)
    if action not in allowed:
        raise error_for(_CODE.ACTION_INCOMPATIBLE_WITH_LAYER, f"no filter at {layer.name} has the action {action.name}")
    if sublayer == ids.SUBLAYER_INSPECTION and action is not ActionType.CALLOUT_INSPECTION:
        raise error_for(
            _CODE.ACTION_INCOMPATIBLE_WITH_SUBLAYER, "the inspection sublayer holds inspection filters only"
        )


def _check_context(view: View, item: Filter, key: UUID) -> None:
    record = view.find(ObjectKind.PROVIDER_CONTEXT, key)
    if record is None or not isinstance(record.item, ProviderContext):
        raise not_found(ObjectKind.PROVIDER_CONTEXT, key)
    kind = record.item.type
    if item.layer in _POLICY_LAYERS:
        if kind not in _POLICY_LAYERS[item.layer]:
            raise error_for(_CODE.CONTEXT_INCOMPATIBLE_WITH_LAYER, f"no {kind.name} context at {item.layer.name}")
    elif item.action.is_callout:
        if kind not in _CALLOUT_CONTEXTS.get(item.action_key, tuple(ContextType)):
            message = f"this callout does not take a {kind.name} context"
            raise error_for(_CODE.CONTEXT_INCOMPATIBLE_WITH_CALLOUT, message)
    elif kind is not ContextType.GENERAL:
        raise error_for(_CODE.CONTEXT_INCOMPATIBLE_WITH_LAYER, f"no {kind.name} context at {item.layer.name}")


def _check_references(view: View, item: PolicyObject, lifetime: Lifetime, session: int) -> None:
    """Whom an object refers to must exist, and must not be gone before it."""
    owner = item.key if isinstance(item, Provider) else item.provider
    for kind, key in references_of(item):
        target = view.find(kind, key)
        if target is None:
            raise not_found(kind, key)
        if not _outlives(target, lifetime, session, owner):
            message = f"the {kind.label} {target.item.name!r} may be gone before what refers to it"
            raise error_for(_CODE.LIFETIME_MISMATCH, message)


def _outlives(target: Record, lifetime: Lifetime, session: int, owner: UUID | None) -> bool:
    if target.lifetime is Lifetime.BUILT_IN:
        return True
    if target.lifetime is Lifetime.DYNAMIC:
        return lifetime is Lifetime.DYNAMIC and target.session == session
    if lifetime is not Lifetime.PERSISTENT:
        return True
    # Another provider's objects sleep when its service is disabled.
    theirs = target.item.key if isinstance(target.item, Provider) else target.item.provider
    return target.lifetime is Lifetime.PERSISTENT and theirs in (None, owner)
