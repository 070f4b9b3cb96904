"""Engines, contexts and filters for tests of sockets under a filtering platform."""

from __future__ import annotations

from dataclasses import replace

import securesock as ss
from securesock.policy import ActionType, Condition, Field, Filter, FilterEngine, Layer, ProviderContext, match
from securesock.policy import identifiers as ids
from securesock.policy.ipsec import (
    AuthenticationMethod,
    AuthTransform,
    CertificateAuthentication,
    CipherTransform,
    IkePolicy,
    IkeProposal,
    Proposal,
    SaLifetime,
    SaTransform,
    TransportPolicy,
    TunnelEndpoints,
    TunnelPolicy,
)
from securesock.policy.ipsec_numbers import (
    AuthMethodType,
    AuthType,
    CipherType,
    ContextType,
    DhGroup,
    IkeCipher,
    IkeIntegrity,
    PfsGroup,
    TransformType,
)

CERTIFICATE = AuthenticationMethod(AuthMethodType.CERTIFICATE, CertificateAuthentication())
AES_128_GCM = SaTransform(
    TransformType.ESP_AUTH_AND_CIPHER, AuthTransform(AuthType.AES_128, 3), CipherTransform(CipherType.AES_128, 6)
)
AES_256_CBC = SaTransform(
    TransformType.ESP_AUTH_AND_CIPHER, AuthTransform(AuthType.SHA_256, 2), CipherTransform(CipherType.AES_256, 5)
)
INTEGRITY_ONLY = SaTransform(TransformType.ESP_AUTH, AuthTransform(AuthType.SHA_256, 2))


AN_HOUR = SaLifetime()
TUNNEL_CALLOUTS = {
    Layer.OUTBOUND_TRANSPORT_V4: ids.CALLOUT_IPSEC_OUTBOUND_TUNNEL_V4,
    Layer.INBOUND_TRANSPORT_V4: ids.CALLOUT_IPSEC_INBOUND_TUNNEL_V4,
}


def under(context: ss.SecurityContext, engine: FilterEngine) -> ss.SecurityContext:
    """The same context, governed by an engine."""
    return replace(context, policy=engine)


def socket_filters(engine: FilterEngine) -> list[Filter]:
    """What sockets have put there."""
    return [each for each in engine.filters.enumerate() if each.sublayer == ids.SUBLAYER_SECURE_SOCKET]


def main_mode(
    *methods: AuthenticationMethod,
    kind: ContextType = ContextType.IKEV2_MM,
    cipher: IkeCipher = IkeCipher.AES_256,
    group: DhGroup = DhGroup.ECP_256,
    lifetime_s: int = 7200,
    allow_anonymous: bool = False,
) -> ProviderContext:
    """A main mode policy that nobody would get by default: CBC with HMAC, a NIST curve."""
    proposal = IkeProposal(cipher, IkeIntegrity.SHA_256, group, max_lifetime_s=lifetime_s)
    content = IkePolicy(methods or (CERTIFICATE,), (proposal,), allow_anonymous=allow_anonymous)
    return ProviderContext("a main mode of our own", type=kind, content=content)


def quick_mode(
    *transforms: SaTransform,
    kind: ContextType = ContextType.IKEV2_QM_TRANSPORT,
    lifetime: SaLifetime = AN_HOUR,
    pfs: PfsGroup = PfsGroup.NONE,
) -> ProviderContext:
    """A quick mode policy with one proposal for each transform."""
    proposals = tuple(Proposal((each,), lifetime, pfs) for each in transforms or (AES_128_GCM,))
    return ProviderContext("a quick mode of our own", type=kind, content=TransportPolicy(proposals))


def policy_filter(
    layer: Layer, context: ProviderContext, *conditions: Condition, name: str = "another's policy"
) -> Filter:
    """A filter of an administrator's that names a policy."""
    return Filter(name, layer=layer, conditions=conditions, provider_context=context.key)


def add_tunnel(
    engine: FilterEngine, endpoints: TunnelEndpoints, *networks: str, transform: SaTransform = AES_128_GCM
) -> tuple[ProviderContext, list[Filter]]:
    """IPv4 to and from ``networks`` goes through a tunnel: its policy, and the filters that name it."""
    content = TunnelPolicy((Proposal((transform,)),), endpoints)
    context = engine.provider_contexts.add(
        ProviderContext("to the branch", type=ContextType.IKEV2_QM_TUNNEL, content=content)
    )
    filters = [
        Filter(
            "to the branch",
            layer=layer,
            action=ActionType.CALLOUT_TERMINATING,
            action_key=callout,
            provider_context=context.key,
            conditions=tuple(match(Field.IP_REMOTE_ADDRESS, each) for each in networks),
        )
        for layer, callout in TUNNEL_CALLOUTS.items()
    ]
    return context, [engine.filters.add(each) for each in filters]
