"""What is there before anybody adds anything: built-in providers, sublayers, callouts, and the default policies.

The default policies of the Secure Socket Extensions stand under their Windows keys with their content, so that a
program which reads them finds what it expects; they are what Windows would use, and AuthIP's.  The modern default
beside them is what an unconfigured socket uses here.  The weights of the built-in sublayers are not published; ours are
in docs/policy.md, with the reason of the one that matters: SECURE_SOCKET lies below UNIVERSAL, so that an
administrator's filters are judged before those that sockets ask for.
"""

from __future__ import annotations

from typing import Final

from . import identifiers as ids
from .access import Token, allow
from .callouts import BUILT_IN_CALLOUTS
from .conditions import Condition, match
from .fields import Field
from .ipsec import (
    AuthenticationMethod,
    AuthTransform,
    CertificateAuthentication,
    CipherTransform,
    EmPolicy,
    IkePolicy,
    IkeProposal,
    KerberosAuthentication,
    Proposal,
    SaIdleTimeout,
    SaLifetime,
    SaTransform,
    TransportPolicy,
)
from .ipsec_numbers import (
    AuthMethodType,
    AuthType,
    CipherType,
    ContextType,
    DhGroup,
    IkeCipher,
    IkeIntegrity,
    IkePolicyFlag,
    PfsGroup,
    PolicyFlag,
    TransformType,
)
from .layers import Layer
from .model import Filter, PolicyObject, Provider, ProviderContext, Sublayer
from .weights import RANGE_IKE_EXEMPTIONS, ranged_weight

__all__ = [
    "BUILT_IN_OBJECTS",
    "MODERN_MAIN_MODE",
    "MODERN_QUICK_MODE",
    "SSE_MAIN_MODE",
    "SSE_QUICK_MODE",
    "ike_exemptions",
]

_UDP: Final = 17

_PROVIDERS: Final = (
    Provider("IKE and AuthIP", key=ids.PROVIDER_IKEEXT, description="the keying modules"),
    Provider("TCP chimney offload", key=ids.PROVIDER_TCP_CHIMNEY_OFFLOAD),
    Provider("IPsec DoS protection", key=ids.PROVIDER_IPSEC_DOSP_CONFIG),
    Provider("securesock", key=ids.PROVIDER_SECURESOCK, description="the defaults of this package"),
)

_SUBLAYERS: Final = (
    Sublayer("IPsec DoS protection", key=ids.SUBLAYER_IPSEC_DOSP, weight=0xF000),
    Sublayer("IPsec forward outbound tunnel", key=ids.SUBLAYER_IPSEC_FORWARD_OUTBOUND_TUNNEL, weight=0xE000),
    Sublayer("IPsec tunnel", key=ids.SUBLAYER_IPSEC_TUNNEL, weight=0xD000),
    Sublayer("Legacy IPsec", key=ids.SUBLAYER_LIPS, weight=0xC000),
    Sublayer("Edge traversal", key=ids.SUBLAYER_EDGE_TRAVERSAL, weight=0xB000),
    Sublayer("TCP chimney offload", key=ids.SUBLAYER_TCP_CHIMNEY_OFFLOAD, weight=0xA000),
    Sublayer("RPC audit", key=ids.SUBLAYER_RPC_AUDIT, weight=0x9000),
    Sublayer("Universal", key=ids.SUBLAYER_UNIVERSAL, weight=0x8000, description="filters that name no sublayer"),
    Sublayer("Secure socket", key=ids.SUBLAYER_SECURE_SOCKET, weight=0x4000, description="filters of sockets"),
    Sublayer("Inspection", key=ids.SUBLAYER_INSPECTION, weight=0, description="inspection filters only"),
)

# -- the default policies of the Secure Socket Extensions: "Secure Socket Extensions default policy" ----------------

_SHA1: Final = AuthTransform(AuthType.SHA_1, 1)
# 1 h, 55 GB; the documentation names no packets, so the number is that of Microsoft's samples.
_SSE_LIFETIME: Final = SaLifetime(seconds=3600, kilobytes=57671680, packets=0x7FFFFFFF)
# "SSL with null root config": a certificate method that names no roots.
_SSL: Final = AuthenticationMethod(AuthMethodType.SSL, CertificateAuthentication())
_KERBEROS: Final = AuthenticationMethod(AuthMethodType.KERBEROS, KerberosAuthentication())

SSE_MAIN_MODE: Final = ProviderContext(
    "Secure socket main mode",
    key=ids.PROVIDER_CONTEXT_SECURE_SOCKET_AUTHIP,
    type=ContextType.AUTHIP_MM,
    content=IkePolicy(
        methods=(AuthenticationMethod(AuthMethodType.ANONYMOUS),),
        proposals=(
            IkeProposal(IkeCipher.AES_128, IkeIntegrity.SHA1, DhGroup.ECP_256, max_lifetime_s=7200),
            IkeProposal(IkeCipher.TRIPLE_DES, IkeIntegrity.SHA1, DhGroup.MODP_1024, max_lifetime_s=7200),
        ),
    ),
    description="the default of the Secure Socket Extensions on Windows (AuthIP)",
)
SSE_QUICK_MODE: Final = ProviderContext(
    "Secure socket quick mode",
    key=ids.PROVIDER_CONTEXT_SECURE_SOCKET_IPSEC,
    type=ContextType.AUTHIP_QM_TRANSPORT,
    content=TransportPolicy(
        proposals=tuple(
            Proposal((transform,), _SSE_LIFETIME)
            for transform in (
                SaTransform(TransformType.ESP_AUTH, _SHA1),
                SaTransform(TransformType.ESP_AUTH_AND_CIPHER, _SHA1, CipherTransform(CipherType.AES_128, 3)),
                SaTransform(TransformType.ESP_AUTH_AND_CIPHER, _SHA1, CipherTransform(CipherType.TRIPLE_DES, 2)),
                SaTransform(TransformType.AH, _SHA1),
            )
        ),
        flags=int(PolicyFlag.ND_BOUNDARY),
        nd_allow_clear_timeout_s=10,
        idle_timeout=SaIdleTimeout(300, 60),
        # The page prints the SSL line twice; so do we.
        em_policy=EmPolicy((_SSL, _KERBEROS, _SSL)),
    ),
    description="the default of the Secure Socket Extensions on Windows (AuthIP)",
)

# -- the modern default: the suites of policy/negotiation.py in the words of provider contexts -----------------------

_AEADS: Final = (
    (IkeCipher.AES_GCM_256_16ICV, IkeIntegrity.SHA_384),
    (IkeCipher.CHACHA20_POLY1305, IkeIntegrity.SHA_256),
    (IkeCipher.AES_GCM_128_16ICV, IkeIntegrity.SHA_256),
)
_DAY_S: Final = 24 * 3600
# 8 h, 1 TiB, and as many packets as the field can say.
_MODERN_LIFETIME: Final = SaLifetime(seconds=8 * 3600, kilobytes=1 << 30, packets=0xFFFFFFFF)

MODERN_MAIN_MODE: Final = ProviderContext(
    "securesock main mode",
    key=ids.PROVIDER_CONTEXT_MODERN_MAIN_MODE,
    provider=ids.PROVIDER_SECURESOCK,
    type=ContextType.IKEV2_MM,
    content=IkePolicy(
        methods=(AuthenticationMethod(AuthMethodType.CERTIFICATE, CertificateAuthentication()),),
        proposals=tuple(
            IkeProposal(cipher, integrity, group, max_lifetime_s=_DAY_S)
            for group in (DhGroup.CURVE25519_ML_KEM_768, DhGroup.CURVE25519, DhGroup.ECP_256, DhGroup.ECP_384)
            for cipher, integrity in _AEADS
        ),
        flags=int(IkePolicyFlag.ENABLE_IKEV2_FRAGMENTATION),
    ),
    description="what a socket uses that names no policy",
)
MODERN_QUICK_MODE: Final = ProviderContext(
    "securesock quick mode",
    key=ids.PROVIDER_CONTEXT_MODERN_QUICK_MODE,
    provider=ids.PROVIDER_SECURESOCK,
    type=ContextType.IKEV2_QM_TRANSPORT,
    content=TransportPolicy(
        proposals=tuple(
            Proposal((SaTransform(TransformType.ESP_AUTH_AND_CIPHER, auth, cipher),), _MODERN_LIFETIME, group)
            for group in (PfsGroup.CURVE25519_ML_KEM_768, PfsGroup.CURVE25519)
            for auth, cipher in (
                (AuthTransform(AuthType.AES_256, 5), CipherTransform(CipherType.AES_256, 8)),
                (AuthTransform(AuthType.POLY1305, 2), CipherTransform(CipherType.CHACHA20, 0)),
                (AuthTransform(AuthType.AES_128, 3), CipherTransform(CipherType.AES_128, 6)),
            )
        ),
        nd_allow_clear_timeout_s=0,
    ),
    description="what a socket uses that names no policy",
)

BUILT_IN_OBJECTS: Final[tuple[PolicyObject, ...]] = (
    *_PROVIDERS,
    SSE_MAIN_MODE,
    SSE_QUICK_MODE,
    MODERN_MAIN_MODE,
    MODERN_QUICK_MODE,
    *_SUBLAYERS,
    *BUILT_IN_CALLOUTS,
)


def ike_exemptions(owner: Token) -> tuple[Filter, ...]:
    """The filters that let key exchange itself pass, once there is main mode policy ("IKE exemptions").

    Permits at both transport layers for everybody, and at connect and accept for the user whose engine it is: IPv4
    UDP 500 and 4500, IPv6 UDP 500, in the weight range that Windows gives them.
    """
    who = match(Field.ALE_USER_ID, allow(*owner.names))
    filters: list[Filter] = []
    for version, ports in ((4, (500, 4500)), (6, (500,))):
        traffic: tuple[Condition, ...] = (
            match(Field.IP_PROTOCOL, _UDP),
            *(match(Field.IP_LOCAL_PORT, port) for port in ports),
        )
        for name, conditions in (
            ("INBOUND_TRANSPORT", traffic),
            ("OUTBOUND_TRANSPORT", traffic),
            ("ALE_AUTH_CONNECT", (*traffic, who)),
            ("ALE_AUTH_RECV_ACCEPT", (*traffic, who)),
        ):
            filters.append(
                Filter(
                    f"IKE exemption, {name.lower().replace('_', ' ')}, IPv{version}",
                    layer=Layer[f"{name}_V{version}"],
                    conditions=conditions,
                    provider=ids.PROVIDER_IKEEXT,
                    weight=ranged_weight(RANGE_IKE_EXEMPTIONS),
                )
            )
    return tuple(filters)
