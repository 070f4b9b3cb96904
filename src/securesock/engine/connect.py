"""From settings, a name, a context and addresses to one negotiation: the KeyingConfig that a plane is started with.

Once for blocking and asyncio sockets.  It must not know sockets, planes, nor how anything is negotiated.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from ..errors import LocalMisuse
from ..keying.admission import Admission, AdmitAnyTrusted
from ..keying.contract import KeyingConfig, Role, StandardHost
from ..policy.negotiation import UNMARKED, QuickModePolicy
from .applied import ANY_USER, Applied
from .asking import ExpectedPeer, numeric_address, quick_mode_for
from .user import check_user, names_a_user, user_proof

if TYPE_CHECKING:
    from ..types import Address, Principal, SecuritySettings
    from .context import SecurityContext

__all__ = ["accepting", "connecting"]


def connecting(
    context: SecurityContext,
    settings: SecuritySettings,
    expected: ExpectedPeer | None,
    our: Address,
    peer: Address,
    wall_offset_s: float,
    *,
    carrier: Literal["stream", "datagram"] = "stream",
    admission: Admission | None = None,
    standard: StandardHost | None = None,
    applied: Applied | None = None,
) -> KeyingConfig:
    """What an initiator negotiates; addresses as getsockname and getpeername of the carrier tell them.

    ``applied``: what policy made of context and settings, where there is policy.
    """
    if expected is None:
        raise LocalMisuse("whoever connects says whom it expects: a name, or ANY_TRUSTED_PEER")
    check_user(context, settings, expected)
    user = user_proof(context, settings)
    rule = ANY_USER if applied is None else applied.users
    if user is not None and not rule.prove:
        raise LocalMisuse(
            f"{user.principal.name} cannot be proven under the main mode policy in force, which names no method for it"
        )
    if user is None and (rule.impersonates or not rule.machines):
        raise LocalMisuse("the main mode policy in force wants a user proven: give user_name and password")
    return KeyingConfig(
        role=Role.INITIATOR,
        policy=UNMARKED if applied is None else applied.mark,
        carrier=carrier,
        identity=context.identity if applied is None else applied.identity,
        main_mode=context.main_mode if applied is None else applied.main_mode,
        quick_mode=_quick_mode_of(context, settings, standard, applied),
        our_address=numeric_address(our),
        peer_address=numeric_address(peer),
        wall_offset_s=wall_offset_s,
        expected_peer=expected,
        admission=admission or AdmitAnyTrusted(),
        user=user,
        eap_only=context.eap_only,
        ppks=tuple(context.ppks),
        standard=standard,
        further_children=standard is not None,
        # RFC 4555 1.1: for tunnel mode; a standard host's selectors in transport mode name the addresses themselves
        # RFC 5723 6.2: a ticket ends with its IKE_SA, and a stream ends every one of its own
        tickets=context.tickets if carrier == "datagram" else None,
        mobike=carrier == "datagram" and (standard is None or standard.mode != "transport"),
    )


def accepting(
    context: SecurityContext,
    settings: SecuritySettings,
    our: Address,
    peer: Address,
    wall_offset_s: float,
    admission: Admission,
    public_addresses: tuple[Address, ...] = (),
    *,
    carrier: Literal["stream", "datagram"] = "stream",
    expected: ExpectedPeer | None = None,
    standard: StandardHost | None = None,
    applied: Applied | None = None,
) -> KeyingConfig:
    """What a responder negotiates on one accepted carrier, or with one address of a datagram socket.

    ``expected``: who has to be at that address, where the application named somebody.  ``applied``: as for
    ``connecting``.
    """
    if names_a_user(settings):
        # it would prove a machine, which is not what was asked for
        admission = _BeginsItself()
    rule = ANY_USER if applied is None else applied.users
    if not rule.machines:
        admission = _UsersAlone(admission)
    return KeyingConfig(
        role=Role.RESPONDER,
        policy=UNMARKED if applied is None else applied.mark,
        carrier=carrier,
        expected_peer=expected,
        identity=context.identity if applied is None else applied.identity,
        main_mode=context.main_mode if applied is None else applied.main_mode,
        quick_mode=_quick_mode_of(context, settings, standard, applied),
        our_address=numeric_address(our),
        peer_address=numeric_address(peer),
        wall_offset_s=wall_offset_s,
        standard=standard,
        further_children=standard is not None,
        admission=admission,
        public_addresses=public_addresses,
        users=context.users if rule.accept else None,
        user_tries=context.user_tries,
        eap_only=context.eap_only,
        ppks=tuple(context.ppks),
        # RFC 4555 1.1: for tunnel mode; a standard host's selectors in transport mode name the addresses themselves
        # RFC 5723 6.2: a ticket ends with its IKE_SA, and a stream ends every one of its own
        tickets=context.tickets if carrier == "datagram" else None,
        mobike=carrier == "datagram" and (standard is None or standard.mode != "transport"),
    )


class _BeginsItself(AdmitAnyTrusted):
    """keying.contract.Admission of a socket that proves a user: the peer has to wait until it does."""

    def refusal(self, principal: Principal) -> str | None:
        """Nobody; the user is proven by whoever begins (RFC 7296 2.16)."""
        return "this socket proves a user, and only who begins a negotiation can"


class _UsersAlone:
    """keying.contract.Admission under a main mode policy whose one method is EAP."""

    def __init__(self, otherwise: Admission) -> None:
        self._otherwise = otherwise

    @property
    def pins(self) -> Collection[str]:
        """Keys stand for machines, and none comes in by itself."""
        return ()

    def refusal(self, principal: Principal) -> str | None:
        """Whoever came without a user; then what is asked otherwise."""
        if principal.method != "eap":
            return "the main mode policy in force lets in users alone"
        return self._otherwise.refusal(principal)


def _quick_mode_of(
    context: SecurityContext, settings: SecuritySettings, standard: StandardHost | None, applied: Applied | None
) -> QuickModePolicy:
    if applied is None:
        return quick_mode_for(context.quick_mode, settings, standard)
    stored = applied.mark.quick_mode_policy is not None
    return quick_mode_for(applied.quick_mode, settings, standard, stored=stored)
