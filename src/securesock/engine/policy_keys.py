"""What a policy that a socket's settings, or a filter, name by key means for a negotiation.

A provider context is written in the words of iketypes.h and ipsectypes.h; what IKEv2 negotiates are the offers of
``policy.negotiation``.  Here one becomes the other, exactly or not at all: a context that asks for anything which this
library does not do is refused with the reason when it is named, and never applied in part.  Contexts of AuthIP's types
are taken too, because Winsock's settings name those; their content is applied through IKEv2, as far as IKEv2 has it.

It must not know filters, flows, sockets, nor messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from ipaddress import ip_address
from typing import Final, Literal
from uuid import UUID

from ..crypto.suites import (
    AES_128_CBC,
    AES_128_GCM_16,
    AES_128_GMAC,
    AES_192_GMAC,
    AES_256_CBC,
    AES_256_GCM_16,
    AES_256_GMAC,
    CHACHA20_POLY1305,
    HMAC_SHA2_256_128,
    HMAC_SHA2_384_192,
    HMAC_SHA2_512_256,
    ML_KEM_768,
    MODP_2048,
    NULL,
    P_256,
    P_384,
    PRF_HMAC_SHA2_256,
    PRF_HMAC_SHA2_384,
    PRF_HMAC_SHA2_512,
    X25519,
    Encryption,
    Integrity,
    KeyExchangeMethod,
    Prf,
)
from ..errors import LocalMisuse
from ..identity.credentials import MIN_PSK_BYTES
from ..identity.identity import Identity
from ..policy import identifiers as ids
from ..policy.builtin import BUILT_IN_OBJECTS
from ..policy.errors import PolicyObjectNotFound
from ..policy.filter_engine import FilterEngine
from ..policy.ipsec import (
    AuthenticationMethod,
    CertificateAuthentication,
    EapAuthentication,
    IkePolicy,
    IkeProposal,
    PresharedKeyAuthentication,
    Proposal,
    SaTransform,
    TransportPolicy,
    TunnelPolicy,
)
from ..policy.ipsec_numbers import (
    AuthMethodType,
    AuthType,
    CertAuthFlag,
    CipherType,
    ContextType,
    DhGroup,
    IkeCipher,
    IkeIntegrity,
    ImpersonationType,
    PfsGroup,
    TransformType,
)
from ..policy.model import ProviderContext
from ..policy.negotiation import IDLE_S, ChildOffer, IkeOffer, MainModePolicy, QuickModePolicy
from ..types import IPsecSettings, Lifetimes
from .applied import UserRule
from .context import SecurityContext
from .user import proves_a_user

__all__ = [
    "MAIN_MODE_TYPES",
    "QUICK_MODE_TYPES",
    "TUNNEL_TYPES",
    "check_named",
    "find_context",
    "identity_for",
    "main_mode_of",
    "named",
    "pfs_groups",
    "quick_mode_of",
    "tunnel_ends",
    "users_of",
]

MAIN_MODE_TYPES: Final = (ContextType.AUTHIP_MM, ContextType.IKEV2_MM)
"""What AuthipMMPolicyKey may name: Winsock's type, and that of the module which negotiates here."""
QUICK_MODE_TYPES: Final = (ContextType.AUTHIP_QM_TRANSPORT, ContextType.IKEV2_QM_TRANSPORT)
"""What AuthipQMPolicyKey may name."""
TUNNEL_TYPES: Final = (ContextType.AUTHIP_QM_TUNNEL, ContextType.IKEV2_QM_TUNNEL)
"""What a filter with a tunnel callout may name, of the modules whose policies are applied here."""

_AUTHIP_ALONE: Final = (
    AuthMethodType.KERBEROS,
    AuthMethodType.SSL,
    AuthMethodType.NTLM_V2,
    AuthMethodType.SSL_ECDSA_P256,
    AuthMethodType.SSL_ECDSA_P384,
)
_CERTIFICATES: Final = (
    AuthMethodType.CERTIFICATE,
    AuthMethodType.CERTIFICATE_ECDSA_P256,
    AuthMethodType.CERTIFICATE_ECDSA_P384,
)
_BESIDE_EAP: Final = frozenset((AuthMethodType.EAP, *_CERTIFICATES))
# IKEEXT_EAP_FLAG_LOCAL_AUTH_ONLY and _REMOTE_AUTH_ONLY (iketypes.h): our user alone, the peer's alone
_LOCAL_AUTH_ONLY: Final = 0x1
_REMOTE_AUTH_ONLY: Final = 0x2
_CURVES: Final = {
    AuthMethodType.CERTIFICATE_ECDSA_P256: "secp256r1",
    AuthMethodType.CERTIFICATE_ECDSA_P384: "secp384r1",
}

# RFC 8247 2.1 to 2.4 and RFC 8221 4 to 6: SHA-1, 3DES and the small groups are no longer sound.
# By class too: these enums number their members from 0 alike.
_UNSOUND: Final[dict[tuple[type[IntEnum], IntEnum], str]] = {
    (type(part), part): name
    for name, parts in (
        ("DES", (IkeCipher.DES, CipherType.DES)),
        ("3DES", (IkeCipher.TRIPLE_DES, CipherType.TRIPLE_DES)),
        ("MD5", (IkeIntegrity.MD5, AuthType.MD5)),
        ("SHA-1", (IkeIntegrity.SHA1, AuthType.SHA_1)),
        ("MODP-768", (DhGroup.MODP_768, PfsGroup.MODP_768)),
        ("MODP-1024", (DhGroup.MODP_1024, PfsGroup.MODP_1024)),
        ("MODP-2048-256", (DhGroup.MODP_2048_256, PfsGroup.MODP_2048_256)),
    )
    for part in parts
}
_IKE_CIPHERS: Final[dict[IkeCipher, Encryption]] = {
    IkeCipher.AES_128: AES_128_CBC,
    IkeCipher.AES_256: AES_256_CBC,
    IkeCipher.AES_GCM_128_16ICV: AES_128_GCM_16,
    IkeCipher.AES_GCM_256_16ICV: AES_256_GCM_16,
    IkeCipher.CHACHA20_POLY1305: CHACHA20_POLY1305,
}
_IKE_HASHES: Final[dict[IkeIntegrity, tuple[Integrity, Prf]]] = {
    IkeIntegrity.SHA_256: (HMAC_SHA2_256_128, PRF_HMAC_SHA2_256),
    IkeIntegrity.SHA_384: (HMAC_SHA2_384_192, PRF_HMAC_SHA2_384),
    IkeIntegrity.SHA_512: (HMAC_SHA2_512_256, PRF_HMAC_SHA2_512),
}
_GROUPS: Final[dict[DhGroup, tuple[KeyExchangeMethod, ...]]] = {
    DhGroup.MODP_2048: (MODP_2048,),
    DhGroup.ECP_256: (P_256,),
    DhGroup.ECP_384: (P_384,),
    DhGroup.CURVE25519: (X25519,),
    DhGroup.CURVE25519_ML_KEM_768: (X25519, ML_KEM_768),
}
_PFS_GROUPS: Final[dict[PfsGroup, tuple[KeyExchangeMethod, ...]]] = {
    PfsGroup.MODP_2048: (MODP_2048,),
    PfsGroup.ECP_256: (P_256,),
    PfsGroup.ECP_384: (P_384,),
    PfsGroup.CURVE25519: (X25519,),
    PfsGroup.CURVE25519_ML_KEM_768: (X25519, ML_KEM_768),
}
_MACS: Final[dict[AuthType, Integrity]] = {
    AuthType.SHA_256: HMAC_SHA2_256_128,
    AuthType.SHA_384: HMAC_SHA2_384_192,
    AuthType.SHA_512: HMAC_SHA2_512_256,
}
_GMACS: Final[dict[AuthType, Encryption]] = {
    AuthType.AES_128: AES_128_GMAC,
    AuthType.AES_192: AES_192_GMAC,
    AuthType.AES_256: AES_256_GMAC,
}
# By type and configuration (IPSEC_CIPHER_TRANSFORM_ID0); AEADs stand for their integrity too.
_ESP_CIPHERS: Final[dict[tuple[CipherType, int], Encryption]] = {
    (CipherType.AES_128, 3): AES_128_CBC,
    (CipherType.AES_256, 5): AES_256_CBC,
    (CipherType.AES_128, 6): AES_128_GCM_16,
    (CipherType.AES_256, 8): AES_256_GCM_16,
    (CipherType.CHACHA20, 0): CHACHA20_POLY1305,
}

_NO_LIMIT: Final = 1 << 60
_BYTES_PER_KILOBYTE: Final = 1024
_LONGEST_S: Final = 24 * 3600
"""Where a quick mode policy sets no time: a day, as long as the key exchange above it may live by default."""


def named(key: UUID | None) -> UUID | None:
    """A key as settings hold it: the zero GUID is ignored (SOCKET_SECURITY_SETTINGS_IPSEC, mstcpip.h)."""
    return None if key == ids.ZERO_GUID else key


def find_context(engine: FilterEngine | None, key: UUID, types: tuple[ContextType, ...]) -> ProviderContext:
    """The provider context with a key; LocalMisuse where there is none, or one of another type.

    Without an engine the built-in ones are known all the same.
    """
    context: ProviderContext | None
    if engine is None:
        context = _BUILT_IN.get(key)
    else:
        try:
            context = engine.provider_contexts.find(key)
        except PolicyObjectNotFound:
            context = None
    if context is None:
        hint = "" if engine is not None else ": SecurityContext(policy=...) says where policies are stored"
        raise LocalMisuse(f"no policy is stored under the key {key}{hint}")
    if context.type not in types:
        wanted = " or ".join(each.name for each in types)
        raise LocalMisuse(f"the policy {key} ({context.name!r}) is of type {context.type.name}, and {wanted} is meant")
    return context


def tunnel_ends(engine: FilterEngine, key: UUID | None) -> tuple[str, ...]:
    """The addresses at which the tunnel of the policy with this key may end, as ip_address writes them; none where it
    is no tunnel policy."""
    try:
        context = None if key is None else find_context(engine, key, TUNNEL_TYPES)
    except LocalMisuse:
        return ()
    if context is None or not isinstance(context.content, TunnelPolicy):
        return ()
    endpoints = context.content.endpoints
    # a policy may write an IPv6 address in many ways
    ends = (str(ip_address(each)) for each in (endpoints.remote, *endpoints.remote_addresses))
    return tuple(dict.fromkeys(ends))


def check_named(settings: IPsecSettings, context: SecurityContext | None) -> None:
    """LocalMisuse unless every policy that the settings name is there, of the right type, and can be applied."""
    engine = None if context is None else context.policy
    key = named(settings.main_mode_policy)
    if key is not None:
        main_mode = find_context(engine, key, MAIN_MODE_TYPES)
        main_mode_of(main_mode)
        if context is not None:
            identity_for(main_mode, context.identity)
            _check_users(main_mode, context, settings)
    key = named(settings.quick_mode_policy)
    if key is not None:
        quick_mode_of(find_context(engine, key, QUICK_MODE_TYPES))


# -- main mode --------------------------------------------------------------------------------------------------------


def main_mode_of(context: ProviderContext) -> MainModePolicy:
    """What a main mode context allows.  LocalMisuse says what of it cannot be applied.

    The lifetime is the shortest of its proposals: an IKE_SA has one, whatever was chosen.
    """
    content = context.content
    if context.type not in MAIN_MODE_TYPES or not isinstance(content, IkePolicy):
        raise _cannot(context, f"it is of type {context.type.name}, which no module here negotiates")
    anonymous = _check_methods(context, content)
    offers = tuple(_ike_offer(context, proposal) for proposal in content.proposals)
    lifetimes = Lifetimes(
        seconds=float(min(each.max_lifetime_s for each in content.proposals)), max_bytes=_NO_LIMIT, max_packets=1 << 31
    )
    return MainModePolicy(offers, lifetimes, allow_anonymous=anonymous)


def _check_methods(context: ProviderContext, content: IkePolicy) -> bool:
    """Whether the peer may stay anonymous.  Methods that nobody here can use refuse the whole context."""
    kinds = [method.type for method in content.methods]
    alone = [kind.name for kind in kinds if kind in _AUTHIP_ALONE]
    if alone:
        raise _cannot(context, f"its method {', '.join(alone)} belongs to AuthIP alone, which is not there yet")
    if AuthMethodType.EAP in kinds and not _BESIDE_EAP.issuperset(kinds):
        # RFC 7296 2.16: whom a user is proven to shows a certificate, and who shows none is no such machine
        raise _cannot(context, "beside EAP it has another method than certificates")
    anonymous = AuthMethodType.ANONYMOUS in kinds
    if anonymous and not content.allow_anonymous:
        raise _cannot(context, "it lets anonymous peers in, which only a policy with allow_anonymous=True may")
    for method in content.methods:
        _check_parameters(context, method)
    if content.impersonation is not ImpersonationType.NONE and not users_of(context).prove:
        raise _cannot(context, "it wants the user proven who made the socket, and none of its methods proves one")
    return anonymous


def _check_parameters(context: ProviderContext, method: AuthenticationMethod) -> None:
    """What the parameters of a method ask for and would not get."""
    match method.parameters:
        case PresharedKeyAuthentication() as shared:
            if shared.flags:
                raise _cannot(context, "a pre-shared key for one direction alone is not implemented here")
            if len(shared.key) < MIN_PSK_BYTES:
                raise _cannot(context, f"its pre-shared key has {len(shared.key)} bytes and needs {MIN_PSK_BYTES}")
        case CertificateAuthentication() as shown:
            if shown.flags & ~int(CertAuthFlag.ENABLE_CRL_CHECK_STRONG):
                raise _cannot(context, f"certificate flags {shown.flags:#x} would have no effect here")
            if shown.outbound_roots or shown.local_cert_url:
                raise _cannot(context, "the certificate that this end shows is the identity's, not the policy's choice")
            if any(root.flags for root in shown.inbound_roots):
                raise _cannot(context, "flags of a certificate root would have no effect here")


def _ike_offer(context: ProviderContext, proposal: IkeProposal) -> IkeOffer:
    for part in (proposal.cipher, proposal.integrity, proposal.dh_group):
        _check_sound(context, part)
    cipher, group = _IKE_CIPHERS.get(proposal.cipher), _GROUPS.get(proposal.dh_group)
    if cipher is None or group is None:
        lacking = proposal.cipher.name if cipher is None else f"DH group {proposal.dh_group.name}"
        raise _cannot(context, f"{lacking} is not implemented here")
    if proposal.rounds or proposal.key_length not in (0, cipher.key_bits):
        raise _cannot(context, f"{proposal.cipher.name} has no key length or rounds of its own to choose")
    if proposal.quick_mode_limit:
        raise _cannot(context, "it limits the quick modes of one main mode, which is not counted here: 0 is no limit")
    mac, prf = _IKE_HASHES[proposal.integrity]
    return IkeOffer((cipher,), () if cipher.is_aead else (mac,), (prf,), group[:1], group[1:])


def identity_for(context: ProviderContext, identity: Identity) -> Identity:
    """Who proves itself, and by what the peer is judged, under the methods of a main mode context.

    The first method that this end has a credential for is the one it uses; the peer may use any of them.
    LocalMisuse when this end has none for any.
    """
    content = context.content
    methods = content.methods if isinstance(content, IkePolicy) else ()
    ours = next((method for method in methods if _can_use(method, identity)), None)
    if ours is None:
        wanted = ", ".join(method.type.name for method in methods)
        raise _cannot(context, f"its methods are {wanted}, and this identity proves itself by {identity.method}")
    by_eap = any(method.type is AuthMethodType.EAP for method in methods)
    keys = [each.parameters.key for each in methods if isinstance(each.parameters, PresharedKeyAuthentication)]
    shown = [each.parameters for each in methods if isinstance(each.parameters, CertificateAuthentication)]
    return identity.under_methods(
        by=_CREDENTIALS.get(ours.type, identity.method),
        certificates=bool(shown) or by_eap,
        roots=None if not shown or any(not each.inbound_roots for each in shown) else _roots(shown),
        crl_required=any(each.flags & CertAuthFlag.ENABLE_CRL_CHECK_STRONG for each in shown),
        shared_key=keys[0] if keys else None,
    )


def users_of(context: ProviderContext) -> UserRule:
    """What its method EAP says of users (IKEEXT_EAP_AUTHENTICATION0); without it nobody is proven but machines."""
    content = context.content
    methods = content.methods if isinstance(content, IkePolicy) else ()
    flags = [each.parameters.flags for each in methods if isinstance(each.parameters, EapAuthentication)]
    told = isinstance(content, IkePolicy) and content.impersonation is not ImpersonationType.NONE
    return UserRule(
        prove=any(not each & _REMOTE_AUTH_ONLY for each in flags),
        accept=any(not each & _LOCAL_AUTH_ONLY for each in flags),
        machines=len(flags) < len(methods),
        impersonates=told,
    )


def _check_users(policy: ProviderContext, context: SecurityContext, settings: IPsecSettings) -> None:
    """LocalMisuse where a user that is to be proven has no method, or there is no user where there has to be one."""
    rule, user = users_of(policy), proves_a_user(context, settings)
    if user and not rule.prove:
        raise _cannot(policy, "a user is to be proven, and none of its methods is EAP for this end")
    if not user and context.users is None and (rule.impersonates or not rule.machines):
        raise _cannot(policy, "it wants a user proven: give user_name and password, or accept users")


def _roots(shown: Iterable[CertificateAuthentication]) -> tuple[bytes, ...]:
    return tuple(root.data for each in shown for root in each.inbound_roots)


_CREDENTIALS: Final[dict[AuthMethodType, Literal["x509", "psk", "anonymous"]]] = {
    AuthMethodType.CERTIFICATE: "x509",
    AuthMethodType.CERTIFICATE_ECDSA_P256: "x509",
    AuthMethodType.CERTIFICATE_ECDSA_P384: "x509",
    AuthMethodType.PRESHARED_KEY: "psk",
    AuthMethodType.ANONYMOUS: "anonymous",
}


def _can_use(method: AuthenticationMethod, identity: Identity) -> bool:
    if method.type is AuthMethodType.EAP:
        return identity.method != "psk"  # a user's machine needs no credential of its own, whom it is proven to does
    if method.type is AuthMethodType.PRESHARED_KEY:
        return identity.method != "anonymous"  # the key comes with the policy, the name with the identity
    if method.type is AuthMethodType.ANONYMOUS:
        return True  # anybody can be nobody
    if identity.method != "x509":
        return False
    curve = _CURVES.get(method.type)
    return curve is None or getattr(getattr(identity.private_key, "curve", None), "name", "") == curve


# -- quick mode -------------------------------------------------------------------------------------------------------


def quick_mode_of(context: ProviderContext) -> QuickModePolicy:
    """What a quick mode context allows.  LocalMisuse says what of it cannot be applied.

    Lifetimes are the shortest of its proposals, and there is PFS as soon as one of them wants it.
    """
    content = context.content
    known = (*QUICK_MODE_TYPES, *TUNNEL_TYPES)
    if context.type not in known or not isinstance(content, (TransportPolicy, TunnelPolicy)):
        raise _cannot(context, f"it is of type {context.type.name}, which no module here negotiates for a socket")
    if content.em_policy is not None:
        raise _cannot(context, "it has extended-mode methods, which only AuthIP has and which is not there yet")
    offers = tuple(_child_offer(context, proposal) for proposal in content.proposals)
    for proposal in content.proposals:
        _check_sound(context, proposal.pfs_group)
        if proposal.pfs_group is PfsGroup.MAIN_MODE:
            raise _cannot(context, "a main mode for each quick mode is not there in IKEv2")
    lives = [each.lifetime for each in content.proposals]
    lifetimes = Lifetimes(
        seconds=float(_shortest((each.seconds for each in lives), _LONGEST_S)),
        max_bytes=_shortest((each.kilobytes * _BYTES_PER_KILOBYTE for each in lives), _NO_LIMIT),
        max_packets=_shortest((each.packets for each in lives), 1 << 32),
    )
    pfs = any(each.pfs_group is not PfsGroup.NONE for each in content.proposals)
    return QuickModePolicy(offers, lifetimes, pfs, idle_s=float(content.idle_timeout.idle_s or IDLE_S))


def _shortest(limits: Iterable[int], otherwise: int) -> int:
    """The smallest limit that is one: zero is none."""
    return min((each for each in limits if each), default=otherwise)


def pfs_groups(context: ProviderContext) -> set[tuple[KeyExchangeMethod, ...]]:
    """The key exchanges that a quick mode context names for PFS; a rekey runs the IKE_SA's own (RFC 5660)."""
    content = context.content
    proposals = content.proposals if isinstance(content, TransportPolicy) else ()
    return {_PFS_GROUPS[each.pfs_group] for each in proposals if each.pfs_group in _PFS_GROUPS}


def _child_offer(context: ProviderContext, proposal: Proposal) -> ChildOffer:
    if len(proposal.transforms) != 1 or proposal.transforms[0].type is TransformType.AH:
        raise _cannot(context, "AH is not implemented here: ESP protects integrity too")
    transform = proposal.transforms[0]
    for part in (transform.auth, transform.cipher):
        if part is not None:
            _check_sound(context, part[0])
    match transform.type:
        case TransformType.ESP_AUTH:
            return _integrity_only(context, transform)
        case TransformType.ESP_AUTH_AND_CIPHER:
            return _with_cipher(context, transform)
        case TransformType.ESP_CIPHER:
            raise _cannot(context, "a cipher without integrity protects nothing (RFC 8221 4)")
    raise _cannot(context, f"transforms of type {transform.type.name} are not implemented here")


def _integrity_only(context: ProviderContext, transform: SaTransform) -> ChildOffer:
    kind = None if transform.auth is None else transform.auth.auth_type
    mac, gmac = (None, None) if kind is None else (_MACS.get(kind), _GMACS.get(kind))
    if mac is None and gmac is None:
        raise _cannot(context, f"{'nothing' if kind is None else kind.name} alone is no integrity algorithm here")
    return ChildOffer((NULL,), (mac,)) if gmac is None and mac is not None else ChildOffer((gmac or NULL,))


def _with_cipher(context: ProviderContext, transform: SaTransform) -> ChildOffer:
    auth, cipher = transform.auth, transform.cipher
    encryption = None if cipher is None else _ESP_CIPHERS.get((cipher.cipher_type, cipher.config))
    if auth is None or cipher is None or encryption is None:
        raise _cannot(context, f"{'its cipher' if cipher is None else cipher.cipher_type.name} is not implemented here")
    return ChildOffer((encryption,), () if encryption.is_aead else (_MACS[auth.auth_type],))


def _check_sound(context: ProviderContext, part: IntEnum) -> None:
    name = _UNSOUND.get((type(part), part))
    if name is not None:
        raise _cannot(context, f"{name} is no longer sound and is not implemented here")


def _cannot(context: ProviderContext, why: str) -> LocalMisuse:
    return LocalMisuse(f"the policy {context.key} ({context.name!r}) cannot be applied: {why}")


_BUILT_IN: Final = {each.key: each for each in BUILT_IN_OBJECTS if isinstance(each, ProviderContext)}
