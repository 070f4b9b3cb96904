"""What an application asks of a socket, read and checked before anything is sent: whom it expects, whom it admits, and
that its settings leave something to offer.  Once for blocking and asyncio sockets.

What a negotiation is made of them is connect's.  It must not know sockets, planes, nor how anything is negotiated.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from ..errors import LocalMisuse
from ..identity.names import PeerTargetName, expected_name_for_host, parse_peer_target_name
from ..keying.admission import Admission, AdmitAnyTrusted
from ..policy.negotiation import DEFAULT_QUICK_MODE, STANDARD_QUICK_MODE, ChildOffer, QuickModePolicy
from ..types import ANY_TRUSTED_PEER, Address, AnyTrustedPeer, IPsecSettings, SecuritySettings
from .admission import AllowList

if TYPE_CHECKING:
    from ..keying.contract import StandardHost
    from .context import SecurityContext

__all__ = [
    "ExpectedPeer",
    "check_offers",
    "check_settings",
    "encrypted_only",
    "expected_peer",
    "is_governed",
    "is_governed_by_keys",
    "name_of_host",
    "numeric_address",
    "quick_mode_for",
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
        quick_mode_for(context.quick_mode, settings)


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


def quick_mode_for(
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


def encrypted_only(policy: QuickModePolicy) -> QuickModePolicy:
    """guarantee_encryption: only suites with a cipher, whatever policy prefers.  LocalMisuse when there is none."""
    offers: list[ChildOffer] = []
    for offer in policy.offers:
        ciphers = tuple(each for each in offer.encryptions if each.encrypts)
        if ciphers:
            offers.append(replace(offer, encryptions=ciphers))
    if not offers:
        raise LocalMisuse("guarantee_encryption is set, and the quick mode policy has no suite with a cipher")
    return policy if tuple(offers) == policy.offers else replace(policy, offers=tuple(offers))
