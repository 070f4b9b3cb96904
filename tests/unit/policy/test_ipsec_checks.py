"""Contents of provider contexts: what Windows' own policies look like passes, and every refusal by its code."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from securesock.policy import identifiers as ids
from securesock.policy.errors import PolicyCode, PolicyError
from securesock.policy.ipsec import (
    AuthenticationMethod,
    AuthTransform,
    CertificateAuthentication,
    CertificateRoot,
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
    SaIdleTimeout,
    SaLifetime,
    SaTransform,
    TransportPolicy,
    TunnelEndpoints,
    TunnelPolicy,
)
from securesock.policy.ipsec_checks import check_content, module_of
from securesock.policy.ipsec_numbers import (
    AuthMethodType,
    AuthType,
    CertConfigType,
    CipherType,
    ClassifyOptionType,
    ContextType,
    DhGroup,
    IkeCipher,
    IkeIntegrity,
    KeyModuleType,
    PfsGroup,
    PolicyFlag,
    TransformType,
)
from securesock.policy.values import V6Mask
from securesock.secret import Secret

SHA1 = AuthTransform(AuthType.SHA_1, 1)
AES = CipherTransform(CipherType.AES_128, 3)
GCM = CipherTransform(CipherType.AES_128, 6)
GMAC = AuthTransform(AuthType.AES_128, 3)
ESP = SaTransform(TransformType.ESP_AUTH_AND_CIPHER, SHA1, AES)
ESP_AUTH = SaTransform(TransformType.ESP_AUTH, SHA1)
AH = SaTransform(TransformType.AH, SHA1)
TRANSPORT = TransportPolicy((Proposal((ESP,)),))
TUNNEL = TunnelPolicy((Proposal((ESP,)),), TunnelEndpoints("192.0.2.1", "192.0.2.2"))
KERBEROS = AuthenticationMethod(AuthMethodType.KERBEROS, KerberosAuthentication())
CERTIFICATE = AuthenticationMethod(AuthMethodType.CERTIFICATE, CertificateAuthentication())
PSK = AuthenticationMethod(AuthMethodType.PRESHARED_KEY, PresharedKeyAuthentication(Secret(b"x" * 16)))
ANONYMOUS = AuthenticationMethod(AuthMethodType.ANONYMOUS)
IKE = IkeProposal(IkeCipher.AES_128, IkeIntegrity.SHA1, DhGroup.ECP_256)
MAIN = IkePolicy((CERTIFICATE,), (IKE,))
DOSP = DospOptions(1, 1, 1, 1)
C = ContextType
E = PolicyCode


def esp(transform: SaTransform) -> TransportPolicy:
    return TransportPolicy((Proposal((transform,)),))


def proposal(**more: object) -> TransportPolicy:
    return TransportPolicy((replace(Proposal((ESP,)), **more),))


def methods(*found: AuthenticationMethod) -> IkePolicy:
    return IkePolicy(found, (IKE,))


def certificate(**more: object) -> IkePolicy:
    return methods(AuthenticationMethod(AuthMethodType.CERTIFICATE, CertificateAuthentication(**more)))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (C.KEYING, KeyingPolicy((ids.KEYING_MODULE_IKEV2, ids.KEYING_MODULE_AUTHIP))),
        (C.KEYING, KeyingPolicy((), flags=1)),
        (C.IKE_QM_TRANSPORT, TRANSPORT),
        (C.AUTHIP_QM_TRANSPORT, replace(TRANSPORT, em_policy=EmPolicy((KERBEROS,)), flags=PolicyFlag.ND_SECURE)),
        (C.AUTHIP_QM_TRANSPORT, proposal(pfs_group=PfsGroup.MAIN_MODE)),
        (C.IKEV2_QM_TRANSPORT, proposal(pfs_group=PfsGroup.CURVE25519)),
        (C.IKEV2_QM_TRANSPORT, esp(SaTransform(TransformType.ESP_AUTH_AND_CIPHER, GMAC, GCM))),
        (C.IKEV2_QM_TRANSPORT, esp(SaTransform(TransformType.ESP_AUTH, GMAC))),
        (C.IKEV2_QM_TRANSPORT, esp(SaTransform(TransformType.ESP_CIPHER, None, AES))),
        (C.IKE_QM_TRANSPORT, TransportPolicy((Proposal((AH, ESP)), Proposal((ESP_AUTH,)), Proposal((AH,))))),
        (C.IKE_QM_TUNNEL, TUNNEL),
        (C.IKEV2_QM_TUNNEL, replace(TUNNEL, endpoints=TunnelEndpoints("::1", "::2", remote_addresses=("::3",)))),
        (C.AUTHIP_QM_TUNNEL, replace(TUNNEL, em_policy=EmPolicy((ANONYMOUS,)))),
        (C.IKE_MM, methods(PSK, CERTIFICATE, KERBEROS)),
        (C.AUTHIP_MM, IkePolicy((ANONYMOUS,), (replace(IKE, dh_group=DhGroup.NONE),))),
        (C.IKEV2_MM, replace(MAIN, retransmit_duration_s=120)),
        (C.IKEV2_MM, methods(AuthenticationMethod(AuthMethodType.EAP, EapAuthentication(1)))),
        (C.AUTHIP_MM, methods(AuthenticationMethod(AuthMethodType.NTLM_V2, NtlmAuthentication(1)))),
        (C.IKEV2_MM, certificate(inbound=CertConfigType.EXPLICIT_TRUST_LIST, inbound_roots=(CertificateRoot(b"x"),))),
        (C.GENERAL, b"anything"),
        (C.CLASSIFY_OPTIONS, ClassifyOptions((ClassifyOption(ClassifyOptionType.UNICAST_LIFETIME, 60),))),
        (
            C.CLASSIFY_OPTIONS,
            ClassifyOptions((ClassifyOption(ClassifyOptionType.SECURE_SOCKET_AUTHIP_MM_POLICY_KEY, UUID(int=1)),)),
        ),
        (C.DOSP, replace(DOSP, icmp_dscp=63, public_network=V6Mask(bytes(16), 64))),
    ],
)
def test_possible_contents(kind: ContextType, content: Content) -> None:
    check_content(kind, content)
    assert module_of(kind) is (None if kind in (C.KEYING, C.GENERAL, C.CLASSIFY_OPTIONS, C.DOSP) else module_of(kind))


REFUSED = [
    (99, b"", E.INVALID_ENUMERATOR),
    (C.NETWORK_CONNECTION_POLICY, b"", E.ERROR_NOT_SUPPORTED),
    (C.GENERAL, None, E.NULL_POINTER),
    (C.GENERAL, TRANSPORT, E.PROVIDER_CONTEXT_MISMATCH),
    (C.IKE_MM, TRANSPORT, E.PROVIDER_CONTEXT_MISMATCH),
    (C.IKE_QM_TUNNEL, TRANSPORT, E.PROVIDER_CONTEXT_MISMATCH),
    (C.KEYING, KeyingPolicy((ids.KEYING_MODULE_IKE, ids.KEYING_MODULE_IKE)), E.DUPLICATE_KEYMOD),
    (C.KEYING, KeyingPolicy((), flags=2), E.INVALID_FLAGS),
    # quick mode
    (C.IKE_QM_TRANSPORT, TransportPolicy(()), E.ZERO_LENGTH_ARRAY),
    (C.IKE_QM_TRANSPORT, replace(TRANSPORT, flags=PolicyFlag.RESERVED1), E.RESERVED),
    (C.IKE_QM_TRANSPORT, replace(TRANSPORT, flags=0x1), E.INVALID_FLAGS),
    (C.IKE_QM_TRANSPORT, replace(TRANSPORT, flags=-1 & 0xFFFF7FFF), E.INVALID_FLAGS),
    (C.IKE_QM_TRANSPORT, replace(TRANSPORT, nd_allow_clear_timeout_s=-1), E.OUT_OF_BOUNDS),
    (C.IKE_QM_TRANSPORT, replace(TRANSPORT, idle_timeout=SaIdleTimeout(1 << 32)), E.OUT_OF_BOUNDS),
    (C.IKE_QM_TRANSPORT, replace(TRANSPORT, em_policy=EmPolicy((KERBEROS,))), E.EM_NOT_SUPPORTED),
    (C.IKEV2_QM_TUNNEL, replace(TUNNEL, em_policy=EmPolicy((KERBEROS,))), E.EM_NOT_SUPPORTED),
    (C.AUTHIP_QM_TRANSPORT, replace(TRANSPORT, em_policy=EmPolicy(())), E.ZERO_LENGTH_ARRAY),
    (C.AUTHIP_QM_TRANSPORT, replace(TRANSPORT, em_policy=EmPolicy((PSK,))), E.INCOMPATIBLE_AUTH_METHOD),
    (C.AUTHIP_QM_TRANSPORT, replace(TRANSPORT, em_policy=EmPolicy((KERBEROS,), 5)), E.INVALID_ENUMERATOR),
    (C.IKE_QM_TRANSPORT, proposal(transforms=()), E.ZERO_LENGTH_ARRAY),
    (C.IKE_QM_TRANSPORT, proposal(transforms=(ESP, ESP)), E.INVALID_PARAMETER),
    (C.IKE_QM_TRANSPORT, proposal(transforms=(AH, AH)), E.INVALID_PARAMETER),
    (C.IKE_QM_TRANSPORT, proposal(transforms=(AH, ESP, ESP)), E.INVALID_PARAMETER),
    (C.IKE_QM_TRANSPORT, proposal(lifetime=SaLifetime(0, 0, 0)), E.OUT_OF_BOUNDS),
    (C.IKE_QM_TRANSPORT, proposal(lifetime=SaLifetime(1 << 32)), E.OUT_OF_BOUNDS),
    (C.IKE_QM_TRANSPORT, proposal(pfs_group=9), E.INVALID_ENUMERATOR),
    (C.IKE_QM_TRANSPORT, proposal(pfs_group=PfsGroup.CURVE25519), E.INVALID_ENUMERATOR),
    (C.IKEV2_QM_TRANSPORT, proposal(pfs_group=PfsGroup.MAIN_MODE), E.INCOMPATIBLE_DH_GROUP),
    (C.IKE_QM_TRANSPORT, esp(replace(ESP, type=9)), E.INVALID_ENUMERATOR),
    (C.IKE_QM_TRANSPORT, esp(replace(ESP, auth=None)), E.NULL_POINTER),
    (C.IKE_QM_TRANSPORT, esp(replace(ESP, cipher=None)), E.NULL_POINTER),
    (C.IKE_QM_TRANSPORT, esp(replace(AH, cipher=AES)), E.NULL_POINTER),
    (C.IKE_QM_TRANSPORT, esp(SaTransform(TransformType.ESP_CIPHER, SHA1, AES)), E.NULL_POINTER),
    (C.IKE_QM_TRANSPORT, esp(replace(ESP, auth=AuthTransform(9, 1))), E.INVALID_ENUMERATOR),
    (C.IKE_QM_TRANSPORT, esp(replace(ESP, auth=AuthTransform(AuthType.SHA_512, 1))), E.INVALID_ENUMERATOR),
    (C.IKE_QM_TRANSPORT, esp(replace(ESP, auth=AuthTransform(AuthType.SHA_1, 2))), E.INVALID_AUTH_TRANSFORM),
    (C.IKE_QM_TRANSPORT, esp(replace(ESP, cipher=CipherTransform(9, 3))), E.INVALID_ENUMERATOR),
    (
        C.IKE_QM_TRANSPORT,
        esp(replace(ESP, cipher=CipherTransform(CipherType.AES_128, 4))),
        E.INVALID_CIPHER_TRANSFORM,
    ),
    (C.IKE_QM_TRANSPORT, esp(replace(ESP, cipher=GCM)), E.INVALID_AUTH_TRANSFORM),
    (C.IKE_QM_TRANSPORT, esp(SaTransform(TransformType.ESP_CIPHER, None, GCM)), E.INVALID_AUTH_TRANSFORM),
    (C.IKE_QM_TRANSPORT, esp(replace(ESP, auth=GMAC)), E.INVALID_CIPHER_TRANSFORM),
    # tunnels
    (C.IKE_QM_TUNNEL, replace(TUNNEL, endpoints=TunnelEndpoints("192.0.2.1", "::1")), E.INVALID_PARAMETER),
    (C.IKE_QM_TUNNEL, replace(TUNNEL, endpoints=TunnelEndpoints("192.0.2.1", "nowhere")), E.INVALID_PARAMETER),
    (C.IKE_QM_TUNNEL, replace(TUNNEL, endpoints=TunnelEndpoints("::1", "::2", 1 << 64)), E.OUT_OF_BOUNDS),
    (C.IKE_QM_TUNNEL, replace(TUNNEL, forward_path_sa_lifetime_s=-1), E.OUT_OF_BOUNDS),
    # main mode
    (C.IKE_MM, replace(MAIN, soft_expiration_time=1), E.RESERVED),
    (C.IKE_MM, replace(MAIN, proposals=()), E.ZERO_LENGTH_ARRAY),
    (C.IKE_MM, replace(MAIN, methods=()), E.ZERO_LENGTH_ARRAY),
    (C.IKE_MM, replace(MAIN, flags=0x400), E.INVALID_FLAGS),
    (C.IKE_MM, replace(MAIN, impersonation=2), E.INVALID_ENUMERATOR),
    (C.IKE_MM, replace(MAIN, max_dynamic_filters=-1), E.OUT_OF_BOUNDS),
    (C.IKEV2_MM, replace(MAIN, retransmit_duration_s=119), E.OUT_OF_BOUNDS),
    (C.IKEV2_MM, replace(MAIN, retransmit_duration_s=-1), E.OUT_OF_BOUNDS),
    (C.IKE_MM, methods(AuthenticationMethod(99)), E.INVALID_ENUMERATOR),
    (C.IKE_MM, methods(ANONYMOUS), E.INCOMPATIBLE_AUTH_METHOD),
    (C.IKE_MM, methods(AuthenticationMethod(AuthMethodType.EAP, EapAuthentication())), E.INCOMPATIBLE_AUTH_METHOD),
    (C.AUTHIP_MM, methods(PSK), E.INCOMPATIBLE_AUTH_METHOD),
    (C.IKEV2_MM, methods(AuthenticationMethod(AuthMethodType.RESERVED)), E.INCOMPATIBLE_AUTH_METHOD),
    (C.IKE_MM, methods(AuthenticationMethod(AuthMethodType.IPV6_CGA)), E.ERROR_NOT_SUPPORTED),
    (C.IKE_MM, methods(AuthenticationMethod(AuthMethodType.KERBEROS)), E.NULL_POINTER),
    (C.IKE_MM, methods(AuthenticationMethod(AuthMethodType.KERBEROS, EapAuthentication())), E.TYPE_MISMATCH),
    (
        C.IKE_MM,
        methods(AuthenticationMethod(AuthMethodType.PRESHARED_KEY, PresharedKeyAuthentication(Secret()))),
        E.ZERO_LENGTH_ARRAY,
    ),
    (
        C.IKE_MM,
        methods(AuthenticationMethod(AuthMethodType.PRESHARED_KEY, PresharedKeyAuthentication(Secret(b"k"), 1))),
        E.INVALID_FLAGS,
    ),
    (
        C.IKE_MM,
        methods(AuthenticationMethod(AuthMethodType.KERBEROS, KerberosAuthentication(8))),
        E.INVALID_FLAGS,
    ),
    (C.AUTHIP_MM, methods(AuthenticationMethod(AuthMethodType.NTLM_V2, NtlmAuthentication(2))), E.INVALID_FLAGS),
    (C.IKEV2_MM, methods(AuthenticationMethod(AuthMethodType.EAP, EapAuthentication(4))), E.INVALID_FLAGS),
    (C.IKEV2_MM, certificate(flags=0x40), E.INVALID_FLAGS),
    (C.IKEV2_MM, certificate(inbound=7), E.INVALID_ENUMERATOR),
    (C.IKEV2_MM, certificate(outbound=CertConfigType.EXPLICIT_TRUST_LIST), E.ZERO_LENGTH_ARRAY),
    (C.IKEV2_MM, certificate(inbound_roots=(CertificateRoot(b"x", 0x200),)), E.INVALID_FLAGS),
    (C.IKE_MM, replace(MAIN, proposals=(replace(IKE, cipher=50),)), E.INVALID_ENUMERATOR),
    (C.IKE_MM, replace(MAIN, proposals=(replace(IKE, cipher=IkeCipher.CHACHA20_POLY1305),)), E.INVALID_ENUMERATOR),
    (C.IKE_MM, replace(MAIN, proposals=(replace(IKE, integrity=50),)), E.INVALID_ENUMERATOR),
    (C.IKE_MM, replace(MAIN, proposals=(replace(IKE, dh_group=50),)), E.INVALID_ENUMERATOR),
    (C.IKE_MM, replace(MAIN, proposals=(replace(IKE, dh_group=DhGroup.NONE),)), E.INCOMPATIBLE_DH_GROUP),
    (C.IKEV2_MM, replace(MAIN, proposals=(replace(IKE, dh_group=DhGroup.NONE),)), E.INCOMPATIBLE_DH_GROUP),
    (C.IKE_MM, replace(MAIN, proposals=(replace(IKE, dh_group=DhGroup.CURVE25519),)), E.INCOMPATIBLE_DH_GROUP),
    (C.IKE_MM, replace(MAIN, proposals=(replace(IKE, max_lifetime_s=0),)), E.OUT_OF_BOUNDS),
    (C.IKE_MM, replace(MAIN, proposals=(replace(IKE, quick_mode_limit=-1),)), E.OUT_OF_BOUNDS),
    # the others
    (C.CLASSIFY_OPTIONS, ClassifyOptions((ClassifyOption(50, 1),)), E.INVALID_ENUMERATOR),
    (
        C.CLASSIFY_OPTIONS,
        ClassifyOptions((ClassifyOption(ClassifyOptionType.UNICAST_LIFETIME, UUID(int=1)),)),
        E.TYPE_MISMATCH,
    ),
    (
        C.CLASSIFY_OPTIONS,
        ClassifyOptions((ClassifyOption(ClassifyOptionType.SECURE_SOCKET_AUTHIP_QM_POLICY_KEY, 1),)),
        E.TYPE_MISMATCH,
    ),
    (
        C.CLASSIFY_OPTIONS,
        ClassifyOptions((ClassifyOption(ClassifyOptionType.UNICAST_LIFETIME, -1),)),
        E.OUT_OF_BOUNDS,
    ),
    (C.DOSP, replace(DOSP, max_state_entries=0), E.OUT_OF_BOUNDS),
    (C.DOSP, replace(DOSP, icmp_dscp=64), E.OUT_OF_BOUNDS),
    (C.DOSP, replace(DOSP, icmp_rate=-1), E.OUT_OF_BOUNDS),
    (C.DOSP, replace(DOSP, flags=0x40), E.INVALID_FLAGS),
    (C.DOSP, replace(DOSP, internal_network=V6Mask(bytes(4), 8)), E.INVALID_NET_MASK),
]


@pytest.mark.parametrize(("kind", "content", "code"), REFUSED)
def test_impossible_contents_are_refused(kind: ContextType, content: Content, code: PolicyCode) -> None:
    with pytest.raises(PolicyError) as refused:
        check_content(kind, content)
    assert refused.value.code is code


def test_which_module_reads_a_context() -> None:
    assert module_of(C.IKE_MM) is KeyModuleType.IKE
    assert module_of(C.AUTHIP_QM_TUNNEL) is KeyModuleType.AUTHIP
    assert module_of(C.IKEV2_QM_TRANSPORT) is KeyModuleType.IKEV2
    assert module_of(C.KEYING) is None


def test_no_content_shows_its_secret() -> None:
    assert "x" * 16 not in repr(methods(PSK))
