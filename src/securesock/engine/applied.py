"""What policy made of what was asked: the half of "asked and applied, side by side" that is known before a negotiation.

A value: how it was come by is the business of ``verdicts``.  Without a filtering platform there is none, and the
context's own policies are what is negotiated.  It must not know filters, layers nor sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ..policy.negotiation import UNMARKED, MainModePolicy, PolicyMark, QuickModePolicy

if TYPE_CHECKING:
    from ..identity.identity import Identity
    from ..types import Flow, SecuritySettings

__all__ = ["ANY_USER", "Applied", "UserRule"]


class UserRule(NamedTuple):
    """What the main mode policy in force says of users: whether ours may be proven, whether the peer's may, whether a
    machine may come without one, and whether ours has to be wherever this end begins (impersonation)."""

    prove: bool = True
    accept: bool = True
    machines: bool = True
    impersonates: bool = False


ANY_USER: Final = UserRule()


@dataclass(frozen=True, slots=True)
class Applied:
    """For one flow: the settings, the credential and the policies in force.

    ``settings``: what was asked, raised by what filters demand.  ``mark``: the keys of the provider contexts that are
    applied (None where the context's own policy is), the filter that decided, by weight or because it asks for the
    protection, and the filter that asks for the SA.
    ``users``: as the main mode policy has them.  ``flow``: which was judged.
    ``differences``: each "asked X, applied Y, because Z".
    """

    settings: SecuritySettings
    identity: Identity
    main_mode: MainModePolicy
    quick_mode: QuickModePolicy
    mark: PolicyMark = UNMARKED
    differences: tuple[str, ...] = ()
    flow: Flow | None = None
    users: UserRule = ANY_USER
