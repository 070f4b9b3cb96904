"""The filtering platform: which flow must be protected how, who decides, and why.

FilterEngine holds the policy of a process or of a file and is asked; everything else here is what it is told and what
it answers.  docs/policy.md is the guide.  Names are imported when they are first used: keying needs one module of this
package, and not a database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .access import EVERYONE, AccessEntry, Right, SecurityDescriptor, Token, allow
    from .changes import Change, ChangeType, FlowWatch, Subscription
    from .conditions import Condition, match
    from .enumeration import ContextTemplate, EnumFlag, EnumType, FilterTemplate, ObjectTemplate
    from .errors import PolicyCode, PolicyError
    from .explain import Explanation
    from .fields import Field
    from .filter_engine import FilterEngine
    from .layers import Layer
    from .model import ActionType, Callout, Filter, FilterFlag, Provider, ProviderContext, Sublayer
    from .session import Container, Session
    from .users import current_user, local_user
    from .values import MatchType, Value
    from .verdicts import Verdict
    from .weights import AUTOMATIC, exact_weight, ranged_weight

__all__ = [
    "AUTOMATIC",
    "AccessEntry",
    "ActionType",
    "Callout",
    "Change",
    "ChangeType",
    "Condition",
    "Container",
    "ContextTemplate",
    "EVERYONE",
    "EnumFlag",
    "EnumType",
    "Explanation",
    "Field",
    "Filter",
    "FilterEngine",
    "FilterFlag",
    "FilterTemplate",
    "FlowWatch",
    "Layer",
    "MatchType",
    "ObjectTemplate",
    "PolicyCode",
    "PolicyError",
    "Provider",
    "ProviderContext",
    "Right",
    "SecurityDescriptor",
    "Session",
    "Sublayer",
    "Subscription",
    "Token",
    "Value",
    "Verdict",
    "allow",
    "current_user",
    "exact_weight",
    "local_user",
    "match",
    "ranged_weight",
]

_HOMES: Final = {
    **dict.fromkeys(
        (
            "EVERYONE",
            "AccessEntry",
            "Right",
            "SecurityDescriptor",
            "Token",
            "allow",
        ),
        "access",
    ),
    **dict.fromkeys(
        (
            "Change",
            "ChangeType",
            "FlowWatch",
            "Subscription",
        ),
        "changes",
    ),
    **dict.fromkeys(("Verdict",), "verdicts"),
    **dict.fromkeys(
        (
            "Condition",
            "match",
        ),
        "conditions",
    ),
    **dict.fromkeys(
        (
            "ContextTemplate",
            "EnumFlag",
            "EnumType",
            "FilterTemplate",
            "ObjectTemplate",
        ),
        "enumeration",
    ),
    **dict.fromkeys(
        (
            "PolicyCode",
            "PolicyError",
        ),
        "errors",
    ),
    **dict.fromkeys(("Explanation",), "explain"),
    **dict.fromkeys(("Field",), "fields"),
    **dict.fromkeys(("FilterEngine",), "filter_engine"),
    **dict.fromkeys(("Layer",), "layers"),
    **dict.fromkeys(
        (
            "ActionType",
            "Callout",
            "Filter",
            "FilterFlag",
            "Provider",
            "ProviderContext",
            "Sublayer",
        ),
        "model",
    ),
    **dict.fromkeys(
        (
            "Container",
            "Session",
        ),
        "session",
    ),
    **dict.fromkeys(
        (
            "current_user",
            "local_user",
        ),
        "users",
    ),
    **dict.fromkeys(
        (
            "MatchType",
            "Value",
        ),
        "values",
    ),
    **dict.fromkeys(
        (
            "AUTOMATIC",
            "exact_weight",
            "ranged_weight",
        ),
        "weights",
    ),
}


if not TYPE_CHECKING:  # a checker that saw it would take every misspelt name for an object

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
