"""Is the content of a provider context possible?  The refusals of FwpmProviderContextAdd, by their codes.

Each check is a small function over one structure; nothing is changed, nothing is looked up.  Where the documentation
names a code without saying when, the choice is written in docs/policy.md and tested.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from ipaddress import ip_address
from typing import Final
from uuid import UUID

from .errors import PolicyCode, error_for
from .ipsec import (
    AuthenticationMethod,
    AuthTransform,
    CertificateAuthentication,
    CipherTransform,
    ClassifyOption,
    ClassifyOptions,
    Content,
    DospOptions,
    EapAuthentication,
    EmPolicy,
    IkePolicy,
    IkeProposal,
    KerberosAuthentication,
    KeyingPolicy,
    NtlmAuthentication,
    PresharedKeyAuthentication,
    Proposal,
    SaTransform,
    TransportPolicy,
    TunnelEndpoints,
    TunnelPolicy,
)
from .ipsec_numbers import (
    AuthMethodType,
    AuthType,
    CertAuthFlag,
    CertConfigType,
    CertRootFlag,
    CipherType,
    ClassifyOptionType,
    ContextType,
    DhGroup,
    DospFlag,
    IkeCipher,
    IkeIntegrity,
    IkePolicyFlag,
    ImpersonationType,
    KerberosFlag,
    KeyModuleType,
    PfsGroup,
    PolicyFlag,
    TransformType,
)
from .values import known_flags

__all__ = ["check_content", "module_of"]

_CODE: Final = PolicyCode
_OURS: Final = 0x10000
_U32: Final = 0xFFFFFFFF
# iketypes.h: IKEv2 keeps sending for at least this long; 0 leaves the time to the module.
_MIN_RETRANSMIT_DURATION_S: Final = 120

_CONTENTS: Final[dict[ContextType, type]] = {
    ContextType.KEYING: KeyingPolicy,
    ContextType.IKE_QM_TRANSPORT: TransportPolicy,
    ContextType.IKE_QM_TUNNEL: TunnelPolicy,
    ContextType.AUTHIP_QM_TRANSPORT: TransportPolicy,
    ContextType.AUTHIP_QM_TUNNEL: TunnelPolicy,
    ContextType.IKE_MM: IkePolicy,
    ContextType.AUTHIP_MM: IkePolicy,
    ContextType.CLASSIFY_OPTIONS: ClassifyOptions,
    ContextType.GENERAL: bytes,
    ContextType.IKEV2_QM_TUNNEL: TunnelPolicy,
    ContextType.IKEV2_MM: IkePolicy,
    ContextType.DOSP: DospOptions,
    ContextType.IKEV2_QM_TRANSPORT: TransportPolicy,
}
_MODULES: Final = {
    ContextType.IKE_QM_TRANSPORT: KeyModuleType.IKE,
    ContextType.IKE_QM_TUNNEL: KeyModuleType.IKE,
    ContextType.IKE_MM: KeyModuleType.IKE,
    ContextType.AUTHIP_QM_TRANSPORT: KeyModuleType.AUTHIP,
    ContextType.AUTHIP_QM_TUNNEL: KeyModuleType.AUTHIP,
    ContextType.AUTHIP_MM: KeyModuleType.AUTHIP,
    ContextType.IKEV2_QM_TUNNEL: KeyModuleType.IKEV2,
    ContextType.IKEV2_MM: KeyModuleType.IKEV2,
    ContextType.IKEV2_QM_TRANSPORT: KeyModuleType.IKEV2,
}
# The (type, config) pairs that ipsectypes.h predefines; any other pair is no transform.  Ours: config = type - 0x10000.
_AUTH_IDS: Final = {
    (AuthType.MD5, 0),
    (AuthType.SHA_1, 1),
    (AuthType.SHA_256, 2),
    (AuthType.AES_128, 3),
    (AuthType.AES_192, 4),
    (AuthType.AES_256, 5),
    (AuthType.SHA_384, 0),
    (AuthType.SHA_512, 1),
    (AuthType.POLY1305, 2),
}
_GCM: Final = {
    (CipherType.AES_128, 6): AuthType.AES_128,
    (CipherType.AES_192, 7): AuthType.AES_192,
    (CipherType.AES_256, 8): AuthType.AES_256,
    (CipherType.CHACHA20, 0): AuthType.POLY1305,
}
_CIPHER_IDS: Final = {
    (CipherType.DES, 1),
    (CipherType.TRIPLE_DES, 2),
    (CipherType.AES_128, 3),
    (CipherType.AES_192, 4),
    (CipherType.AES_256, 5),
    *_GCM,
}
_GMAC: Final = (AuthType.AES_128, AuthType.AES_192, AuthType.AES_256, AuthType.POLY1305)

_A: Final = AuthMethodType
_METHODS: Final = {
    KeyModuleType.IKE: (
        _A.PRESHARED_KEY,
        _A.CERTIFICATE,
        _A.KERBEROS,
        _A.IPV6_CGA,
        _A.CERTIFICATE_ECDSA_P256,
        _A.CERTIFICATE_ECDSA_P384,
    ),
    KeyModuleType.AUTHIP: (_A.KERBEROS, _A.ANONYMOUS, _A.SSL, _A.NTLM_V2, _A.SSL_ECDSA_P256, _A.SSL_ECDSA_P384),
    KeyModuleType.IKEV2: (
        _A.PRESHARED_KEY,
        _A.CERTIFICATE,
        _A.KERBEROS,
        _A.CERTIFICATE_ECDSA_P256,
        _A.CERTIFICATE_ECDSA_P384,
        _A.EAP,
    ),
}
_PARAMETERS: Final[dict[AuthMethodType, type]] = {
    _A.PRESHARED_KEY: PresharedKeyAuthentication,
    _A.CERTIFICATE: CertificateAuthentication,
    _A.KERBEROS: KerberosAuthentication,
    _A.ANONYMOUS: type(None),
    _A.SSL: CertificateAuthentication,
    _A.NTLM_V2: NtlmAuthentication,
    _A.IPV6_CGA: type(None),
    _A.CERTIFICATE_ECDSA_P256: CertificateAuthentication,
    _A.CERTIFICATE_ECDSA_P384: CertificateAuthentication,
    _A.SSL_ECDSA_P256: CertificateAuthentication,
    _A.SSL_ECDSA_P384: CertificateAuthentication,
    _A.EAP: EapAuthentication,
}


def module_of(kind: ContextType) -> KeyModuleType | None:
    """The keying module that a context of this type is for, None for the types that no module reads."""
    return _MODULES.get(kind)


def check_content(kind: ContextType, content: Content) -> None:
    """Raises InvalidPolicy when a context of this type cannot hold this content."""
    if not isinstance(kind, ContextType):
        raise error_for(_CODE.INVALID_ENUMERATOR, f"{kind!r} is no provider context type")
    wanted = _CONTENTS.get(kind)
    if wanted is None:
        raise error_for(_CODE.ERROR_NOT_SUPPORTED, f"provider contexts of type {kind.name} are not supported")
    if not isinstance(content, wanted):
        found = "nothing" if content is None else type(content).__name__
        code = _CODE.NULL_POINTER if content is None else _CODE.PROVIDER_CONTEXT_MISMATCH
        raise error_for(code, f"a provider context of type {kind.name} holds a {wanted.__name__}, not {found}")
    module = _MODULES.get(kind)
    match content:
        case KeyingPolicy():
            _check_keying(content)
        case TransportPolicy() | TunnelPolicy() if module is not None:
            _check_quick_mode(module, content)
        case IkePolicy() if module is not None:
            _check_main_mode(module, content)
        case ClassifyOptions():
            for option in content.options:
                _check_option(option)
        case DospOptions():
            _check_dosp(content)


def _check_enum(what: str, value: object, kind: type[IntEnum], module: KeyModuleType | None = None) -> None:
    if not isinstance(value, kind) or (value >= _OURS and module is not KeyModuleType.IKEV2):
        raise error_for(_CODE.INVALID_ENUMERATOR, f"{value!r} is no {what} here")


def _check_flags(what: str, flags: int, allowed: int) -> None:
    if not 0 <= flags <= _U32 or flags & ~allowed:
        raise error_for(_CODE.INVALID_FLAGS, f"{what} has no flags {flags:#x}")


def _check_numbers(what: str, numbers: Iterable[int], highest: int = _U32) -> None:
    for number in numbers:
        if not 0 <= number <= highest:
            raise error_for(_CODE.OUT_OF_BOUNDS, f"{what}: {number} is not within 0 to {highest}")


def _check_keying(content: KeyingPolicy) -> None:
    if len(set(content.modules)) != len(content.modules):
        raise error_for(_CODE.DUPLICATE_KEYMOD, "a keying policy names a module twice")
    _check_flags("a keying policy", content.flags, 0x1)


# -- quick mode ---------------------------------------------------------------------------------------------------


def _check_quick_mode(module: KeyModuleType, content: TransportPolicy | TunnelPolicy) -> None:
    if not content.proposals:
        raise error_for(_CODE.ZERO_LENGTH_ARRAY, "a quick mode policy has at least one proposal")
    if content.flags & PolicyFlag.RESERVED1:
        raise error_for(_CODE.RESERVED, "IPSEC_POLICY_FLAG_RESERVED1 is reserved")
    _check_flags("a quick mode policy", content.flags, known_flags(PolicyFlag))
    _check_numbers("idle time", content.idle_timeout)
    for proposal in content.proposals:
        _check_proposal(module, proposal)
    if content.em_policy is not None:
        if module is not KeyModuleType.AUTHIP:
            raise error_for(_CODE.EM_NOT_SUPPORTED, "only AuthIP has an extended mode")
        _check_em_policy(content.em_policy)
    if isinstance(content, TransportPolicy):
        _check_numbers("clear text time", (content.nd_allow_clear_timeout_s,))
    else:
        _check_numbers("forward path SA lifetime", (content.forward_path_sa_lifetime_s,))
        _check_endpoints(content.endpoints)


def _check_em_policy(policy: EmPolicy) -> None:
    _check_enum("impersonation type", policy.impersonation, ImpersonationType)
    _check_methods(KeyModuleType.AUTHIP, policy.methods)


def _check_proposal(module: KeyModuleType, proposal: Proposal) -> None:
    if not proposal.transforms:
        raise error_for(_CODE.ZERO_LENGTH_ARRAY, "a quick mode proposal has at least one transform")
    kinds = [transform.type for transform in proposal.transforms]
    if len(kinds) > 2 or (len(kinds) == 2 and kinds.count(TransformType.AH) != 1):
        raise error_for(_CODE.INVALID_PARAMETER, "a quick mode proposal has one transform, or AH and ESP")
    lifetime = proposal.lifetime
    _check_numbers("SA lifetime", (lifetime.seconds, lifetime.kilobytes, lifetime.packets))
    if not (lifetime.seconds or lifetime.kilobytes or lifetime.packets):
        raise error_for(_CODE.OUT_OF_BOUNDS, "the lifetime of an SA cannot be zero")
    _check_enum("PFS group", proposal.pfs_group, PfsGroup, module)
    if proposal.pfs_group is PfsGroup.MAIN_MODE and module is KeyModuleType.IKEV2:
        raise error_for(_CODE.INCOMPATIBLE_DH_GROUP, "IKEv2 has no main mode per quick mode; name a group")
    for transform in proposal.transforms:
        _check_transform(module, transform)


def _check_transform(module: KeyModuleType, transform: SaTransform) -> None:
    kind, auth, cipher = transform.type, transform.auth, transform.cipher
    _check_enum("transform type", kind, TransformType)
    with_auth = kind is not TransformType.ESP_CIPHER
    with_cipher = kind in (TransformType.ESP_CIPHER, TransformType.ESP_AUTH_AND_CIPHER)
    if (auth is None) == with_auth or (cipher is None) == with_cipher:
        raise error_for(_CODE.NULL_POINTER, f"a transform of type {kind.name} lacks a part, or has one too many")
    if auth is not None:
        _check_auth(module, auth)
    if cipher is not None:
        _check_cipher(module, cipher, auth)


def _check_auth(module: KeyModuleType, auth: AuthTransform) -> None:
    _check_enum("integrity algorithm", auth.auth_type, AuthType, module)
    if (auth.auth_type, auth.config) not in _AUTH_IDS:
        raise error_for(_CODE.INVALID_AUTH_TRANSFORM, f"{auth.auth_type.name} with config {auth.config} is unknown")


def _check_cipher(module: KeyModuleType, cipher: CipherTransform, auth: AuthTransform | None) -> None:
    _check_enum("cipher", cipher.cipher_type, CipherType, module)
    if (cipher.cipher_type, cipher.config) not in _CIPHER_IDS:
        raise error_for(
            _CODE.INVALID_CIPHER_TRANSFORM, f"{cipher.cipher_type.name} with config {cipher.config} is unknown"
        )
    partner = _GCM.get((cipher.cipher_type, cipher.config))
    if partner is not None and (auth is None or auth.auth_type is not partner):
        raise error_for(_CODE.INVALID_AUTH_TRANSFORM, f"a combined-mode cipher goes with {partner.name} as integrity")
    if partner is None and auth is not None and auth.auth_type in _GMAC:
        raise error_for(_CODE.INVALID_CIPHER_TRANSFORM, f"{auth.auth_type.name} as integrity needs its own cipher")


def _check_endpoints(endpoints: TunnelEndpoints) -> None:
    versions = set()
    for text in (endpoints.local, endpoints.remote, *endpoints.remote_addresses):
        try:
            versions.add(ip_address(text).version)
        except ValueError:
            raise error_for(_CODE.INVALID_PARAMETER, f"tunnel endpoint {text!r} is no address") from None
    if len(versions) != 1:
        raise error_for(_CODE.INVALID_PARAMETER, "both ends of a tunnel have one IP version")
    _check_numbers("interface", (endpoints.local_interface,), (1 << 64) - 1)


# -- main mode ----------------------------------------------------------------------------------------------------


def _check_main_mode(module: KeyModuleType, content: IkePolicy) -> None:
    if content.soft_expiration_time:
        raise error_for(_CODE.RESERVED, "softExpirationTime is reserved and must be 0")
    if not content.proposals:
        raise error_for(_CODE.ZERO_LENGTH_ARRAY, "a main mode policy has at least one proposal")
    _check_flags("a main mode policy", content.flags, known_flags(IkePolicyFlag))
    _check_enum("impersonation type", content.impersonation, ImpersonationType)
    _check_numbers("dynamic filters", (content.max_dynamic_filters,))
    _check_numbers("retransmission time", (content.retransmit_duration_s,))
    if 0 < content.retransmit_duration_s < _MIN_RETRANSMIT_DURATION_S:
        raise error_for(_CODE.OUT_OF_BOUNDS, "IKEv2 retransmits for at least 120 s")
    _check_methods(module, content.methods)
    for proposal in content.proposals:
        _check_ike_proposal(module, proposal)


def _check_methods(module: KeyModuleType, methods: tuple[AuthenticationMethod, ...]) -> None:
    if not methods:
        raise error_for(_CODE.ZERO_LENGTH_ARRAY, "a policy has at least one authentication method")
    for method in methods:
        _check_enum("authentication method", method.type, AuthMethodType)
        if method.type not in _METHODS[module]:
            raise error_for(_CODE.INCOMPATIBLE_AUTH_METHOD, f"{module.name} has no method {method.type.name}")
        if method.type is AuthMethodType.IPV6_CGA:
            raise error_for(_CODE.ERROR_NOT_SUPPORTED, "IPv6 CGA is not enabled")
        _check_parameters(module, method)


def _check_parameters(module: KeyModuleType, method: AuthenticationMethod) -> None:
    wanted = _PARAMETERS[method.type]
    parameters = method.parameters
    if not isinstance(parameters, wanted):
        code = _CODE.NULL_POINTER if parameters is None else _CODE.TYPE_MISMATCH
        raise error_for(code, f"method {method.type.name} has parameters of type {wanted.__name__}")
    match parameters:
        case PresharedKeyAuthentication():
            if not parameters.key:
                raise error_for(_CODE.ZERO_LENGTH_ARRAY, "a pre-shared key is not empty")
            _check_flags("a pre-shared key", parameters.flags, 0x3 if module is KeyModuleType.IKEV2 else 0)
        case CertificateAuthentication():
            _check_certificate(parameters)
        case KerberosAuthentication():
            _check_flags("Kerberos", parameters.flags, known_flags(KerberosFlag))
        case NtlmAuthentication():
            _check_flags("NTLMv2", parameters.flags, 0x1)
        case EapAuthentication():
            _check_flags("EAP", parameters.flags, 0x3)


def _check_certificate(parameters: CertificateAuthentication) -> None:
    _check_flags("certificate authentication", parameters.flags, known_flags(CertAuthFlag))
    for config, roots in (
        (parameters.inbound, parameters.inbound_roots),
        (parameters.outbound, parameters.outbound_roots),
    ):
        _check_enum("certificate configuration", config, CertConfigType)
        if config is CertConfigType.EXPLICIT_TRUST_LIST and not roots:
            raise error_for(_CODE.ZERO_LENGTH_ARRAY, "an explicit trust list names at least one root")
        for root in roots:
            _check_flags("a certificate root", root.flags, known_flags(CertRootFlag))


def _check_ike_proposal(module: KeyModuleType, proposal: IkeProposal) -> None:
    _check_enum("cipher", proposal.cipher, IkeCipher, module)
    _check_enum("integrity algorithm", proposal.integrity, IkeIntegrity, module)
    if not isinstance(proposal.dh_group, DhGroup):
        raise error_for(_CODE.INVALID_ENUMERATOR, f"{proposal.dh_group!r} is no DH group")
    # RFC 2409 5 and RFC 7296 1.2 always run an exchange; AuthIP may leave it to the authentication.
    if proposal.dh_group is DhGroup.NONE and module is not KeyModuleType.AUTHIP:
        raise error_for(_CODE.INCOMPATIBLE_DH_GROUP, f"{module.name} cannot do without a DH group")
    if proposal.dh_group >= _OURS and module is not KeyModuleType.IKEV2:
        raise error_for(_CODE.INCOMPATIBLE_DH_GROUP, f"{module.name} has no {proposal.dh_group.name}")
    _check_numbers(
        "main mode proposal",
        (proposal.max_lifetime_s, proposal.quick_mode_limit, proposal.key_length, proposal.rounds),
    )
    if not proposal.max_lifetime_s:
        raise error_for(_CODE.OUT_OF_BOUNDS, "the lifetime of a main mode SA cannot be zero")


# -- the others ---------------------------------------------------------------------------------------------------


def _check_option(option: ClassifyOption) -> None:
    _check_enum("classify option", option.type, ClassifyOptionType)
    is_key = option.type in (
        ClassifyOptionType.SECURE_SOCKET_AUTHIP_MM_POLICY_KEY,
        ClassifyOptionType.SECURE_SOCKET_AUTHIP_QM_POLICY_KEY,
    )
    if isinstance(option.value, UUID) != is_key:
        raise error_for(_CODE.TYPE_MISMATCH, f"classify option {option.type.name} has another type")
    if not isinstance(option.value, UUID):
        _check_numbers("classify option", (option.value,))


def _check_dosp(content: DospOptions) -> None:
    positive = (
        content.state_idle_timeout_s,
        content.per_ip_rate_limit_queue_idle_timeout_s,
        content.max_state_entries,
        content.max_per_ip_rate_limit_queues,
    )
    if not all(0 < number <= _U32 for number in positive):
        raise error_for(_CODE.OUT_OF_BOUNDS, "times and limits of DoS protection are greater than 0")
    marks = (
        content.ipsec_unauth_dscp,
        content.ipsec_auth_dscp,
        content.icmp_dscp,
        content.filter_exempt_dscp,
        content.default_block_exempt_dscp,
    )
    # 0xFF is IPSEC_DOSP_DSCP_DISABLE_VALUE.
    _check_numbers("DSCP", (mark for mark in marks if mark != 0xFF), 63)
    rates = (
        content.ipsec_unauth_rate,
        content.ipsec_unauth_per_ip_rate,
        content.ipsec_auth_rate,
        content.icmp_rate,
        content.filter_exempt_rate,
        content.default_block_exempt_rate,
    )
    _check_numbers("rate limit", rates)
    _check_flags("DoS protection", content.flags, known_flags(DospFlag))
    for network in (content.public_network, content.internal_network):
        if network is not None and not (len(network.address) == 16 and 0 <= network.prefix_length <= 128):
            raise error_for(_CODE.INVALID_NET_MASK, "a network of DoS protection has 16 bytes and a prefix of 0 to 128")
