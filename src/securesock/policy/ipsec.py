"""What a provider context of an IPsec type holds: keying, main mode, quick mode and DoS-protection policies.

Names are iketypes.h's and ipsectypes.h's, snake-cased, with the newest variant's fields; counts are the length of the
tuples, tagged unions are what their one used member is.  Values only: whether a content is possible is judged in
ipsec_checks.py, and what it means for a negotiation elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from ..secret import Secret
from .ipsec_numbers import (
    AuthMethodType,
    AuthType,
    CertConfigType,
    CipherType,
    ClassifyOptionType,
    DhGroup,
    IkeCipher,
    IkeIntegrity,
    ImpersonationType,
    PfsGroup,
    TransformType,
)
from .values import V6Mask

__all__ = [
    "AuthTransform",
    "AuthenticationMethod",
    "CertificateAuthentication",
    "CertificateRoot",
    "CipherTransform",
    "ClassifyOption",
    "ClassifyOptions",
    "Content",
    "DospOptions",
    "EapAuthentication",
    "EmPolicy",
    "IkePolicy",
    "IkeProposal",
    "KerberosAuthentication",
    "KeyingPolicy",
    "NtlmAuthentication",
    "Parameters",
    "PresharedKeyAuthentication",
    "Proposal",
    "SaIdleTimeout",
    "SaLifetime",
    "SaTransform",
    "TransportPolicy",
    "TunnelEndpoints",
    "TunnelPolicy",
]

# -- quick mode ---------------------------------------------------------------------------------------------------


class AuthTransform(NamedTuple):
    """IPSEC_AUTH_TRANSFORM0: the two numbers of IPSEC_AUTH_TRANSFORM_ID0, and a crypto module or None."""

    auth_type: AuthType
    config: int
    crypto_module: UUID | None = None


class CipherTransform(NamedTuple):
    """IPSEC_CIPHER_TRANSFORM0: the two numbers of IPSEC_CIPHER_TRANSFORM_ID0, and a crypto module or None."""

    cipher_type: CipherType
    config: int
    crypto_module: UUID | None = None


@dataclass(frozen=True, slots=True)
class SaTransform:
    """IPSEC_SA_TRANSFORM0: AH, ESP_AUTH and ESP_AUTH_FW have ``auth``, ESP_CIPHER ``cipher``, the fourth both."""

    type: TransformType
    auth: AuthTransform | None = None
    cipher: CipherTransform | None = None


@dataclass(frozen=True, slots=True)
class SaLifetime:
    """IPSEC_SA_LIFETIME0.  Windows' default policy: an hour, 55 GB; its samples: 0x7FFFFFFF packets."""

    seconds: int = 3600
    kilobytes: int = 57671680
    packets: int = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Proposal:
    """IPSEC_PROPOSAL0: one transform, or two for AH and ESP together."""

    transforms: tuple[SaTransform, ...]
    lifetime: SaLifetime = SaLifetime()
    pfs_group: PfsGroup = PfsGroup.NONE


class SaIdleTimeout(NamedTuple):
    """IPSEC_SA_IDLE_TIMEOUT0, in seconds; the second holds while the peer supports fail-over."""

    idle_s: int = 300
    idle_fail_over_s: int = 60


_IDLE_TIMEOUT: Final = SaIdleTimeout()


@dataclass(frozen=True, slots=True)
class TransportPolicy:
    """IPSEC_TRANSPORT_POLICY: proposals in order of preference."""

    proposals: tuple[Proposal, ...]
    flags: int = 0
    nd_allow_clear_timeout_s: int = 10
    idle_timeout: SaIdleTimeout = _IDLE_TIMEOUT
    em_policy: EmPolicy | None = None


@dataclass(frozen=True, slots=True)
class TunnelEndpoints:
    """IPSEC_TUNNEL_ENDPOINTS: addresses as text, all of one version; a name and more remotes are Windows 8's."""

    local: str
    remote: str
    local_interface: int = 0
    remote_fqdn: str = ""
    remote_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TunnelPolicy:
    """IPSEC_TUNNEL_POLICY."""

    proposals: tuple[Proposal, ...]
    endpoints: TunnelEndpoints
    flags: int = 0
    idle_timeout: SaIdleTimeout = _IDLE_TIMEOUT
    em_policy: EmPolicy | None = None
    forward_path_sa_lifetime_s: int = 0


# -- main mode ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IkeProposal:
    """IKEEXT_PROPOSAL0.  ``key_length`` and ``rounds`` 0: the cipher's own.  ``quick_mode_limit`` 0: no limit."""

    cipher: IkeCipher
    integrity: IkeIntegrity
    dh_group: DhGroup
    max_lifetime_s: int = 7200
    quick_mode_limit: int = 0
    key_length: int = 0
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class PresharedKeyAuthentication:
    """IKEEXT_PRESHARED_KEY_AUTHENTICATION1.  ``flags``: LOCAL_AUTH_ONLY 0x1, REMOTE_AUTH_ONLY 0x2 (IKEv2)."""

    key: Secret = field(compare=False)
    flags: int = 0


@dataclass(frozen=True, slots=True)
class CertificateRoot:
    """IKEEXT_CERT_ROOT_CONFIG0: an encoded certificate or name, and CertRootFlag."""

    data: bytes = b""
    flags: int = 0


@dataclass(frozen=True, slots=True)
class CertificateAuthentication:
    """IKEEXT_CERTIFICATE_AUTHENTICATION: how the peer's chain is verified (inbound) and ours is chosen (outbound).

    Roots belong to EXPLICIT_TRUST_LIST, and to the two stores as their criteria.  No roots, as in the default policy:
    whatever this machine trusts.
    """

    inbound: CertConfigType = CertConfigType.UNSPECIFIED
    outbound: CertConfigType = CertConfigType.UNSPECIFIED
    inbound_roots: tuple[CertificateRoot, ...] = ()
    outbound_roots: tuple[CertificateRoot, ...] = ()
    flags: int = 0
    local_cert_url: str = ""


@dataclass(frozen=True, slots=True)
class KerberosAuthentication:
    """IKEEXT_KERBEROS_AUTHENTICATION1."""

    flags: int = 0
    proxy_server: str = ""


@dataclass(frozen=True, slots=True)
class NtlmAuthentication:
    """IKEEXT_NTLM_V2_AUTHENTICATION0.  ``flags``: DONT_ACCEPT_EXPLICIT_CREDENTIALS 0x1."""

    flags: int = 0


@dataclass(frozen=True, slots=True)
class EapAuthentication:
    """IKEEXT_EAP_AUTHENTICATION0.  ``flags``: LOCAL_AUTH_ONLY 0x1, REMOTE_AUTH_ONLY 0x2."""

    flags: int = 0


Parameters: TypeAlias = (
    PresharedKeyAuthentication
    | CertificateAuthentication
    | KerberosAuthentication
    | NtlmAuthentication
    | EapAuthentication
    | None
)


@dataclass(frozen=True, slots=True)
class AuthenticationMethod:
    """IKEEXT_AUTHENTICATION_METHOD: a type, and the parameters that belong to it (None for ANONYMOUS and CGA)."""

    type: AuthMethodType
    parameters: Parameters = None


@dataclass(frozen=True, slots=True)
class IkePolicy:
    """IKEEXT_POLICY: methods and proposals in order of preference.

    ``retransmit_duration_s``: IKEv2 only, 0 (its default) or at least 120.  ``soft_expiration_time`` must be 0.
    ``allow_anonymous`` is ours: without it a socket does not apply a policy whose methods let in who proves nothing.
    """

    methods: tuple[AuthenticationMethod, ...]
    proposals: tuple[IkeProposal, ...]
    impersonation: ImpersonationType = ImpersonationType.NONE
    flags: int = 0
    max_dynamic_filters: int = 0
    retransmit_duration_s: int = 0
    soft_expiration_time: int = 0
    allow_anonymous: bool = False


@dataclass(frozen=True, slots=True)
class EmPolicy:
    """IKEEXT_EM_POLICY: AuthIP's second authentication."""

    methods: tuple[AuthenticationMethod, ...]
    impersonation: ImpersonationType = ImpersonationType.NONE


# -- the others ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyingPolicy:
    """IPSEC_KEYING_POLICY1: an unordered set of keying modules by GUID."""

    modules: tuple[UUID, ...]
    flags: int = 0


class ClassifyOption(NamedTuple):
    """FWPM_CLASSIFY_OPTION0: a number, or the key of a policy."""

    type: ClassifyOptionType
    value: int | UUID


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """FWPM_CLASSIFY_OPTIONS0."""

    options: tuple[ClassifyOption, ...]


@dataclass(frozen=True, slots=True)
class DospOptions:
    """IPSEC_DOSP_OPTIONS0.  DSCP 0xFF and rates 0 switch the marking or the limit off."""

    state_idle_timeout_s: int
    per_ip_rate_limit_queue_idle_timeout_s: int
    max_state_entries: int
    max_per_ip_rate_limit_queues: int
    ipsec_unauth_dscp: int = 0xFF
    ipsec_unauth_rate: int = 0
    ipsec_unauth_per_ip_rate: int = 0
    ipsec_auth_dscp: int = 0xFF
    ipsec_auth_rate: int = 0
    icmp_dscp: int = 0xFF
    icmp_rate: int = 0
    filter_exempt_dscp: int = 0xFF
    filter_exempt_rate: int = 0
    default_block_exempt_dscp: int = 0xFF
    default_block_exempt_rate: int = 0
    flags: int = 0
    public_interfaces: tuple[int, ...] = ()
    internal_interfaces: tuple[int, ...] = ()
    public_network: V6Mask | None = None
    internal_network: V6Mask | None = None


Content: TypeAlias = KeyingPolicy | TransportPolicy | TunnelPolicy | IkePolicy | ClassifyOptions | DospOptions | bytes
