"""The user whom a connecting socket proves: from its settings and its context to what keying is to prove.

A user is proven instead of the machine, to a machine that was named: never to any trusted one, and never to the host of
an address by default.  This module must not know how a user is proven.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import LocalMisuse
from ..identity.names import IkeId, PeerTargetName, principal_kind, principal_name
from ..secret import Secret
from ..types import AnyTrustedPeer, IPsecSettings, Principal, SecuritySettings
from ..wire.id_types import IdType

if TYPE_CHECKING:
    from ..identity.identity import Identity
    from ..identity.users import UserName
    from ..keying.contract import UserProof
    from .context import SecurityContext

__all__ = ["check_listening", "check_user", "names_a_user", "proves_a_user", "user_proof", "wipe_password"]


def names_a_user(settings: SecuritySettings) -> bool:
    """Whether these are the settings of a socket that begins, and proves a user then."""
    return isinstance(settings, IPsecSettings) and bool(settings.user_name or settings.domain_name or settings.password)


def proves_a_user(context: SecurityContext, settings: SecuritySettings) -> bool:
    """Whether a socket with these proves a user where it begins."""
    return context.user is not None or names_a_user(settings)


def check_listening(settings: SecuritySettings) -> None:
    """LocalMisuse: a listener proves a machine (RFC 7296 2.16: the user is proven by whoever begins)."""
    if names_a_user(settings):
        raise LocalMisuse(
            "user_name and password prove the user of a socket that connects: a listener proves a machine, and is told "
            "whom it accepts by SecurityContext(users=...)"
        )


def check_user(
    context: SecurityContext, settings: SecuritySettings, named: PeerTargetName | AnyTrustedPeer | None
) -> None:
    """LocalMisuse where a user cannot be proven; ``named``: whom the application itself has named, None for nobody."""
    proof = user_proof(context, settings)
    if proof is None:
        return
    proof.password.wipe()
    if not isinstance(named, PeerTargetName):
        raise LocalMisuse(
            f"{proof.principal.name} is proven to nobody but a machine that is named: give the peer's target name "
            "(peer='host/...'), as the host of an address or any trusted peer is not enough for a user"
        )


def user_proof(context: SecurityContext, settings: SecuritySettings) -> UserProof | None:
    """What is proven, None where it is the machine alone.  Its password is a copy.  LocalMisuse for half a user."""
    name, domain, password = "", "", Secret()
    if isinstance(settings, IPsecSettings):
        name, domain, password = settings.user_name, settings.domain_name, settings.password
    if not name and (domain or password):
        raise LocalMisuse("domain_name or password without user_name: name the user")
    if not name and context.user is None:
        return None
    # most sockets prove their machine, and do without these
    from ..identity.users import hash_password, parse_user_name
    from ..keying.contract import UserProof

    if password:
        user = parse_user_name(name, domain)
        hash_password(user, password).wipe()
        principal = Principal(user.principal, "user", "eap")
        return UserProof(user, IkeId(IdType.ID_RFC822_ADDR, user.principal.encode()), principal, Secret(password))
    if context.user is not None:
        return _by_certificate(context.user, parse_user_name(name, domain) if name else None)
    if name:
        raise LocalMisuse(
            f"{name} has no password: a password is overwritten once a negotiation has used it, and no copy of "
            "settings has it (nor dataclasses.replace): each negotiation needs settings that were given one; a user's "
            "certificate is SecurityContext(user=...)"
        )
    return None


def _by_certificate(identity: Identity, wanted: UserName | None) -> UserProof:
    from ..identity.users import parse_user_name
    from ..keying.contract import UserProof

    for ike_id in identity.ids:
        if principal_kind(ike_id) == "user" and ike_id.id_type == IdType.ID_RFC822_ADDR:
            user = parse_user_name(principal_name(ike_id))
            if wanted in (None, user):
                principal = Principal(user.principal, "user", "eap", identity.fingerprint or "")
                return UserProof(user, ike_id, principal, certificate=identity)
    name = "a user" if wanted is None else wanted.principal
    raise LocalMisuse(f"the certificate of SecurityContext(user=...) does not name {name}: it is {identity!r}")


def wipe_password(settings: SecuritySettings) -> None:
    """The negotiation is over: the settings' copy of the password is overwritten."""
    if isinstance(settings, IPsecSettings):
        settings.password.wipe()
