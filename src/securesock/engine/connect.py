"""From settings, a name, a context and addresses to one negotiation: the KeyingConfig that a plane is started with.

The rules of who is expected at the other end, and of what an application's settings forbid, are kept here, once for
blocking and asyncio sockets.  It must not know sockets, planes, nor how anything is negotiated.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Literal, TypeAlias

from ..errors import LocalMisuse
from ..identity.names import PeerTargetName, expected_name_for_host, parse_peer_target_name
from ..keying.contract import UNMARKED, Admission, AdmitAnyTrusted, KeyingConfig, Role, StandardHost
from ..policy.negotiation import DEFAULT_QUICK_MODE, STANDARD_QUICK_MODE, QuickModePolicy
from ..types import ANY_TRUSTED_PEER, Address, AnyTrustedPeer, IPsecSettings, Principal, SecuritySettings
from .admission import AllowList
from .applied import ANY_USER, Applied, encrypted_only
from .context import SecurityContext
from .user import check_user, names_a_user, user_proof

__all__ = [
    "ExpectedPeer",
    "accepting",
    "check_offers",
    "check_settings",
    "connecting",
    "expected_peer",
    "is_governed",
    "is_governed_by_keys",
    "name_of_host",
    "numeric_address",
    "read_admission",
    "read_public_addresses",
]

ExpectedPeer: TypeAlias = PeerTargetName | AnyTrustedPeer


def expected_peer(peer: str | AnyTrustedPeer) -> ExpectedPeer:
    """A peer target name as an application writes it; LocalMisuse when it is none."""
    return ANY_TRUSTED_PEER if peer is ANY_TRUSTED_PEER else parse_peer_target_name(peer)


def name_of_host(host: str) -> PeerTargetName:
    """Who is expected where no name was given: the host of the address itself."""
    if not host:
        raise LocalMisuse("an empty host says nothing about who should answer: name the peer, or name the host")
    return expected_name_for_host(host)


def check_settings(settings: SecuritySettings, context: SecurityContext | None = None) -> None:
    """LocalMisuse for what would be ignored otherwise: a setting that is not obeyed is refused, never dropped.

    A policy named by its key has to be there, of the right type, and such that it can be applied.  ``context``: the
    socket's, None where it has none of its own yet.
    """
    if not isinstance(settings, IPsecSettings):
        return
    if settings.main_mode_policy is not None or settings.quick_mode_policy is not None:
        from .policy_keys import check_named  # of the filtering platform, which most programs do without

        check_named(settings, context)
    if not settings.user_name and (settings.domain_name or settings.password):
        raise LocalMisuse("domain_name or password without user_name: name the user")


def is_governed(context: SecurityContext, settings: SecuritySettings) -> bool:
    """Whether anything but the context's own policies has a say: a filtering platform, or policies named by key."""
    return context.policy is not None or is_governed_by_keys(settings)


def is_governed_by_keys(settings: SecuritySettings) -> bool:
    """Whether the settings rely on policies or filters that are stored somewhere."""
    return isinstance(settings, IPsecSettings) and (
        settings.skip_filter_instantiation or bool(settings.main_mode_policy or settings.quick_mode_policy)
    )


def check_offers(context: SecurityContext, settings: SecuritySettings) -> None:
    """LocalMisuse where settings and policy leave nothing to offer: said at connect() and listen(), not to a peer.

    Where a filtering platform or a key has a say, nothing is known before there is a flow.
    """
    if not is_governed(context, settings):
        _quick_mode(context.quick_mode, settings)


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


def numeric_address(address: Address) -> Address:
    """(host, port) as both ends of an IPv4 connection see it, even through a dual-stack socket; no scope."""
    host = ipaddress.ip_address(address[0].partition("%")[0])
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return str(mapped or host), address[1]


def read_admission(allow: Iterable[str] | None) -> Admission:
    """create_server(allow=...): not given admits any principal of the trust anchors."""
    return AdmitAnyTrusted() if allow is None else AllowList(allow)


def read_public_addresses(addresses: Iterable[Address]) -> tuple[Address, ...]:
    """create_server(public_addresses=...): numeric (host, port) pairs; LocalMisuse for anything else."""
    checked: list[Address] = []
    for address in addresses:
        try:
            host, port = numeric_address(address)[:2]
        except (ValueError, TypeError, AttributeError, IndexError):
            raise LocalMisuse(
                f"{address!r} is no public address: give (numeric host, port), such as ('198.51.100.7', 443)"
            ) from None
        if not isinstance(port, int) or not 0 < port < 65536:
            raise LocalMisuse(f"{address!r} has no port between 1 and 65535")
        checked.append((host, port))
    return tuple(checked)


def _quick_mode_of(
    context: SecurityContext, settings: SecuritySettings, standard: StandardHost | None, applied: Applied | None
) -> QuickModePolicy:
    if applied is None:
        return _quick_mode(context.quick_mode, settings, standard)
    stored = applied.mark.quick_mode_policy is not None
    return _quick_mode(applied.quick_mode, settings, standard, stored=stored)


def _quick_mode(
    policy: QuickModePolicy,
    settings: SecuritySettings,
    standard: StandardHost | None = None,
    *,
    stored: bool = False,
) -> QuickModePolicy:
    """guarantee_encryption: only cipher suites, whatever policy prefers.  A standard host gets its own default.

    ``stored``: the policy is a provider context's, which cannot say how packets are numbered.
    """
    if standard is not None and policy is DEFAULT_QUICK_MODE:
        policy = STANDARD_QUICK_MODE
    elif standard is not None and stored:
        policy = replace(policy, offers=tuple(replace(each, esn=(True, False)) for each in policy.offers))
    return encrypted_only(policy) if settings.guarantee_encryption else policy
