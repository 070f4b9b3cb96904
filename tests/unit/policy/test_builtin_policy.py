"""What is built in: Windows' GUIDs, the contents of the default policies, and that the modern one is what it says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from securesock.crypto.suites import AES_128_GCM_16, AES_256_GCM_16, CHACHA20_POLY1305, ML_KEM_768, X25519
from securesock.policy import identifiers as ids
from securesock.policy.builtin import BUILT_IN_OBJECTS, SSE_MAIN_MODE, SSE_QUICK_MODE
from securesock.policy.filter_engine import FilterEngine
from securesock.policy.ipsec import (
    AuthTransform,
    CertificateAuthentication,
    CipherTransform,
    IkePolicy,
    SaIdleTimeout,
    SaLifetime,
    TransportPolicy,
)
from securesock.policy.ipsec_checks import check_content
from securesock.policy.ipsec_numbers import (
    AuthMethodType,
    AuthType,
    CipherType,
    ContextType,
    DhGroup,
    IkeCipher,
    IkeIntegrity,
    ImpersonationType,
    PfsGroup,
    PolicyFlag,
    TransformType,
)
from securesock.policy.model import ProviderContext
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE


@pytest.fixture
def engine() -> Iterator[FilterEngine]:
    with FilterEngine.open(":memory:") as opened:
        yield opened


def test_everything_built_in_is_there_under_its_key(engine: FilterEngine) -> None:
    for prefix, container in (
        ("PROVIDER_CONTEXT_", engine.provider_contexts),
        ("SUBLAYER_", engine.sublayers),
        ("CALLOUT_", engine.callouts),
    ):
        keys = {value for name, value in vars(ids).items() if name.startswith(prefix)}
        assert {each.key for each in container.enumerate()} == keys
    providers = {each.key for each in engine.providers.enumerate()}
    assert providers == {
        ids.PROVIDER_IKEEXT,
        ids.PROVIDER_IPSEC_DOSP_CONFIG,
        ids.PROVIDER_TCP_CHIMNEY_OFFLOAD,
        ids.PROVIDER_SECURESOCK,
    }
    assert all(each.name for each in BUILT_IN_OBJECTS)


def test_sockets_come_after_administrators_and_inspection_last(engine: FilterEngine) -> None:
    weight = {each.key: each.weight for each in engine.sublayers.enumerate()}
    assert len(set(weight.values())) == len(weight)
    assert weight[ids.SUBLAYER_SECURE_SOCKET] < weight[ids.SUBLAYER_UNIVERSAL]
    assert weight[ids.SUBLAYER_INSPECTION] == min(weight.values()) == 0


def test_contents_are_possible() -> None:
    for each in BUILT_IN_OBJECTS:
        if isinstance(each, ProviderContext):
            check_content(each.type, each.content)


def test_the_main_mode_of_the_secure_socket_extensions() -> None:
    """ "Default policy": anonymous; AES-128, SHA-1, ECP-256, then 3DES, SHA-1, group 2; 2 h; no quick mode limit."""
    content = SSE_MAIN_MODE.content
    assert isinstance(content, IkePolicy)
    assert SSE_MAIN_MODE.type is ContextType.AUTHIP_MM
    assert [each.type for each in content.methods] == [AuthMethodType.ANONYMOUS]
    assert content.impersonation is ImpersonationType.NONE
    assert [
        (each.cipher, each.integrity, each.dh_group, each.max_lifetime_s, each.quick_mode_limit)
        for each in content.proposals
    ] == [
        (IkeCipher.AES_128, IkeIntegrity.SHA1, DhGroup.ECP_256, 7200, 0),
        (IkeCipher.TRIPLE_DES, IkeIntegrity.SHA1, DhGroup.MODP_1024, 7200, 0),
    ]


def test_the_quick_mode_of_the_secure_socket_extensions() -> None:
    """Integrity only, AES-128, 3DES, AH, each SHA-1, 1 h, 55 GB, no PFS; second authentication SSL, Kerberos, SSL."""
    content = SSE_QUICK_MODE.content
    assert isinstance(content, TransportPolicy)
    assert SSE_QUICK_MODE.type is ContextType.AUTHIP_QM_TRANSPORT
    sha1 = AuthTransform(AuthType.SHA_1, 1)
    transforms = [each.transforms for each in content.proposals]
    assert [(each.type, each.auth, each.cipher) for [each] in transforms] == [
        (TransformType.ESP_AUTH, sha1, None),
        (TransformType.ESP_AUTH_AND_CIPHER, sha1, CipherTransform(CipherType.AES_128, 3)),
        (TransformType.ESP_AUTH_AND_CIPHER, sha1, CipherTransform(CipherType.TRIPLE_DES, 2)),
        (TransformType.AH, sha1, None),
    ]
    assert {each.lifetime for each in content.proposals} == {SaLifetime(3600, 57671680, 0x7FFFFFFF)}
    assert {each.pfs_group for each in content.proposals} == {PfsGroup.NONE}
    assert content.flags == PolicyFlag.ND_BOUNDARY
    assert content.nd_allow_clear_timeout_s == 10
    assert content.idle_timeout == SaIdleTimeout(300, 60)
    second = content.em_policy
    assert second is not None
    assert [each.type for each in second.methods] == [
        AuthMethodType.SSL,
        AuthMethodType.KERBEROS,
        AuthMethodType.SSL,
    ]
    assert second.methods[0].parameters == CertificateAuthentication()
    assert second.impersonation is ImpersonationType.NONE


def test_the_modern_default_says_what_is_negotiated_by_default(engine: FilterEngine) -> None:
    """Its AEADs in order, hybrid key exchange first; nothing that the default of the negotiation would not offer."""
    ciphers = {
        IkeCipher.AES_GCM_256_16ICV: AES_256_GCM_16,
        IkeCipher.CHACHA20_POLY1305: CHACHA20_POLY1305,
        IkeCipher.AES_GCM_128_16ICV: AES_128_GCM_16,
    }
    main = engine.provider_contexts.find(ids.PROVIDER_CONTEXT_MODERN_MAIN_MODE).content
    assert isinstance(main, IkePolicy)
    first = DEFAULT_MAIN_MODE.offers[0]
    assert [ciphers[each.cipher] for each in main.proposals[:3]] == list(first.encryptions)
    assert first.additional == (ML_KEM_768,)
    assert first.key_exchanges[0] is X25519
    assert [each.dh_group for each in main.proposals[::3]] == [
        DhGroup.CURVE25519_ML_KEM_768,
        DhGroup.CURVE25519,
        DhGroup.ECP_256,
        DhGroup.ECP_384,
    ]
    assert {each.max_lifetime_s for each in main.proposals} == {int(DEFAULT_MAIN_MODE.lifetimes.seconds)}
    assert {each.integrity for each in main.proposals} == {IkeIntegrity.SHA_256, IkeIntegrity.SHA_384}
    quick = engine.provider_contexts.find(ids.PROVIDER_CONTEXT_MODERN_QUICK_MODE).content
    assert isinstance(quick, TransportPolicy)
    esp = {
        CipherTransform(CipherType.AES_256, 8): AES_256_GCM_16,
        CipherTransform(CipherType.CHACHA20, 0): CHACHA20_POLY1305,
        CipherTransform(CipherType.AES_128, 6): AES_128_GCM_16,
    }
    offered = [esp[each.transforms[0].cipher] for each in quick.proposals[:3]]
    assert offered == list(DEFAULT_QUICK_MODE.offers[0].encryptions)
    assert quick.nd_allow_clear_timeout_s == 0
    assert {each.lifetime.seconds for each in quick.proposals} == {int(DEFAULT_QUICK_MODE.lifetimes.seconds)}
    assert {each.lifetime.kilobytes * 1024 for each in quick.proposals} == {DEFAULT_QUICK_MODE.lifetimes.max_bytes}


def test_no_built_in_transform_of_the_modern_default_is_integrity_only(engine: FilterEngine) -> None:
    quick = engine.provider_contexts.find(ids.PROVIDER_CONTEXT_MODERN_QUICK_MODE).content
    kinds = {transform.type for each in quick.proposals for transform in each.transforms}
    assert kinds == {TransformType.ESP_AUTH_AND_CIPHER}
