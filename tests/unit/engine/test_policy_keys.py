"""Provider contexts as negotiations: exactly, or refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from securesock.crypto import suites
from securesock.engine.applied import UserRule
from securesock.engine.asking import check_settings
from securesock.engine.context import SecurityContext
from securesock.engine.policy_keys import identity_for, main_mode_of, quick_mode_of, users_of
from securesock.errors import LocalMisuse
from securesock.identity.identity import Identity
from securesock.identity.names import parse_peer_target_name
from securesock.identity.users import Users
from securesock.policy import FilterEngine, ProviderContext
from securesock.policy import identifiers as ids
from securesock.policy.builtin import MODERN_MAIN_MODE, MODERN_QUICK_MODE, SSE_MAIN_MODE, SSE_QUICK_MODE
from securesock.policy.ipsec import (
    AuthenticationMethod,
    AuthTransform,
    CertificateAuthentication,
    CertificateRoot,
    CipherTransform,
    EapAuthentication,
    EmPolicy,
    IkePolicy,
    KerberosAuthentication,
    KeyingPolicy,
    NtlmAuthentication,
    PresharedKeyAuthentication,
    Proposal,
    SaLifetime,
    SaTransform,
    TransportPolicy,
)
from securesock.policy.ipsec_numbers import (
    AuthMethodType,
    AuthType,
    CertAuthFlag,
    CertConfigType,
    CipherType,
    ContextType,
    DhGroup,
    IkeCipher,
    IkeIntegrity,
    ImpersonationType,
    PfsGroup,
    TransformType,
)
from securesock.policy.negotiation import ChildOffer, IkeOffer
from securesock.secret import Secret
from securesock.types import IPsecSettings
from tests.support.governed import AES_128_GCM, AES_256_CBC, CERTIFICATE, INTEGRITY_ONLY, main_mode, quick_mode

SHARED = AuthenticationMethod(AuthMethodType.PRESHARED_KEY, PresharedKeyAuthentication(Secret(bytes(range(32)))))
ANONYMOUS = AuthenticationMethod(AuthMethodType.ANONYMOUS)


def _ike(context: ProviderContext, **changes: object) -> ProviderContext:
    content = context.content
    assert isinstance(content, IkePolicy)
    return replace(context, content=replace(content, **changes))


def _transport(context: ProviderContext, **changes: object) -> ProviderContext:
    content = context.content
    assert isinstance(content, TransportPolicy)
    return replace(context, content=replace(content, **changes))


def _with_method(kind: AuthMethodType, parameters: object, type_: ContextType = ContextType.AUTHIP_MM) -> object:
    return main_mode(AuthenticationMethod(kind, parameters), kind=type_)


# -- what they mean ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cipher", "group", "expected"),
    [
        (
            IkeCipher.AES_256,
            DhGroup.ECP_256,
            IkeOffer((suites.AES_256_CBC,), (suites.HMAC_SHA2_256_128,), (suites.PRF_HMAC_SHA2_256,), (suites.P_256,)),
        ),
        (
            IkeCipher.AES_GCM_128_16ICV,
            DhGroup.MODP_2048,
            IkeOffer((suites.AES_128_GCM_16,), (), (suites.PRF_HMAC_SHA2_256,), (suites.MODP_2048,)),
        ),
        (
            IkeCipher.CHACHA20_POLY1305,
            DhGroup.CURVE25519_ML_KEM_768,
            IkeOffer(
                (suites.CHACHA20_POLY1305,), (), (suites.PRF_HMAC_SHA2_256,), (suites.X25519,), (suites.ML_KEM_768,)
            ),
        ),
    ],
)
def test_a_main_mode_proposal_is_one_offer(cipher: IkeCipher, group: DhGroup, expected: IkeOffer) -> None:
    policy = main_mode_of(main_mode(cipher=cipher, group=group, lifetime_s=600))
    assert policy.offers == (expected,)
    assert policy.lifetimes.seconds == 600
    assert not policy.allow_anonymous


def test_the_shortest_lifetime_of_the_proposals_holds() -> None:
    context = main_mode()
    content = context.content
    assert isinstance(content, IkePolicy)
    two = (replace(content.proposals[0], max_lifetime_s=900), content.proposals[0])
    assert main_mode_of(_ike(context, proposals=two)).lifetimes.seconds == 900


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (AES_128_GCM, ChildOffer((suites.AES_128_GCM_16,))),
        (AES_256_CBC, ChildOffer((suites.AES_256_CBC,), (suites.HMAC_SHA2_256_128,))),
        (INTEGRITY_ONLY, ChildOffer((suites.NULL,), (suites.HMAC_SHA2_256_128,))),
        (SaTransform(TransformType.ESP_AUTH, AuthTransform(AuthType.AES_128, 3)), ChildOffer((suites.AES_128_GMAC,))),
        (SaTransform(TransformType.ESP_AUTH, AuthTransform(AuthType.AES_192, 4)), ChildOffer((suites.AES_192_GMAC,))),
        (SaTransform(TransformType.ESP_AUTH, AuthTransform(AuthType.AES_256, 5)), ChildOffer((suites.AES_256_GMAC,))),
        (
            SaTransform(TransformType.ESP_AUTH, AuthTransform(AuthType.SHA_512, 1)),
            ChildOffer((suites.NULL,), (suites.HMAC_SHA2_512_256,)),
        ),
        (
            SaTransform(
                TransformType.ESP_AUTH_AND_CIPHER,
                AuthTransform(AuthType.POLY1305, 2),
                CipherTransform(CipherType.CHACHA20, 0),
            ),
            ChildOffer((suites.CHACHA20_POLY1305,)),
        ),
    ],
)
def test_a_quick_mode_transform_is_one_offer(transform: SaTransform, expected: ChildOffer) -> None:
    assert quick_mode_of(quick_mode(transform)).offers == (expected,)


def test_proposals_keep_their_order() -> None:
    offers = quick_mode_of(quick_mode(INTEGRITY_ONLY, AES_256_CBC)).offers
    assert [each.encryptions[0] for each in offers] == [suites.NULL, suites.AES_256_CBC]


@pytest.mark.parametrize(
    ("lifetime", "seconds", "max_bytes", "max_packets"),
    [
        (SaLifetime(60, 0, 0), 60, 1 << 60, 1 << 32),
        (SaLifetime(0, 10, 0), 24 * 3600, 10 * 1024, 1 << 32),
        (SaLifetime(3600, 1, 77), 3600, 1024, 77),
    ],
)
def test_a_zero_in_a_lifetime_is_no_limit(lifetime: SaLifetime, seconds: int, max_bytes: int, max_packets: int) -> None:
    found = quick_mode_of(quick_mode(lifetime=lifetime)).lifetimes
    assert tuple(found) == (seconds, max_bytes, max_packets)


@pytest.mark.parametrize(("group", "pfs"), [(PfsGroup.NONE, False), (PfsGroup.ECP_256, True)])
def test_a_pfs_group_wants_pfs(group: PfsGroup, pfs: bool) -> None:
    assert quick_mode_of(quick_mode(pfs=group)).pfs is pfs


def test_the_modern_defaults_can_be_named() -> None:
    assert main_mode_of(MODERN_MAIN_MODE).offers[0].additional == (suites.ML_KEM_768,)
    assert all(each.encryptions[0].is_aead for each in quick_mode_of(MODERN_QUICK_MODE).offers)
    check_settings(IPsecSettings(main_mode_policy=MODERN_MAIN_MODE.key, quick_mode_policy=MODERN_QUICK_MODE.key))


# -- what is refused ---------------------------------------------------------------------------------------------------

_MAIN_REFUSALS = [
    (SSE_MAIN_MODE, "anonymous"),
    (_with_method(AuthMethodType.KERBEROS, KerberosAuthentication()), "KERBEROS.*AuthIP"),
    (_with_method(AuthMethodType.NTLM_V2, NtlmAuthentication()), "NTLM_V2.*AuthIP"),
    (_with_method(AuthMethodType.SSL, CertificateAuthentication()), "SSL.*AuthIP"),
    (_with_method(AuthMethodType.SSL_ECDSA_P256, CertificateAuthentication()), "AuthIP"),
    (_with_method(AuthMethodType.SSL_ECDSA_P384, CertificateAuthentication()), "AuthIP"),
    (main_mode(ANONYMOUS, kind=ContextType.AUTHIP_MM), "allow_anonymous"),
    (main_mode(kind=ContextType.IKE_MM), "IKE_MM"),
    (_ike(main_mode(), impersonation=ImpersonationType.SOCKET_PRINCIPAL), "user"),
    (main_mode(cipher=IkeCipher.TRIPLE_DES), "3DES"),
    (main_mode(cipher=IkeCipher.DES), "DES"),
    (main_mode(cipher=IkeCipher.AES_192), "AES_192"),
    (main_mode(group=DhGroup.MODP_768), "MODP-768"),
    (main_mode(group=DhGroup.MODP_1024), "MODP-1024"),
    (main_mode(group=DhGroup.MODP_2048_256), "MODP-2048-256"),
    (main_mode(group=DhGroup.NONE, kind=ContextType.AUTHIP_MM), "NONE"),
    (
        main_mode(
            AuthenticationMethod(AuthMethodType.PRESHARED_KEY, PresharedKeyAuthentication(Secret(b"short"))),
        ),
        "16",
    ),
    (
        main_mode(
            AuthenticationMethod(AuthMethodType.PRESHARED_KEY, PresharedKeyAuthentication(Secret(bytes(32)), flags=1))
        ),
        "one direction",
    ),
    (
        main_mode(
            AuthenticationMethod(
                AuthMethodType.CERTIFICATE, CertificateAuthentication(flags=int(CertAuthFlag.DISABLE_CRL_CHECK))
            )
        ),
        "flags",
    ),
    (
        main_mode(
            AuthenticationMethod(
                AuthMethodType.CERTIFICATE,
                CertificateAuthentication(
                    outbound=CertConfigType.EXPLICIT_TRUST_LIST, outbound_roots=(CertificateRoot(b"x"),)
                ),
            )
        ),
        "identity's",
    ),
    (
        main_mode(
            AuthenticationMethod(
                AuthMethodType.CERTIFICATE,
                CertificateAuthentication(
                    inbound=CertConfigType.EXPLICIT_TRUST_LIST, inbound_roots=(CertificateRoot(b"x", 8),)
                ),
            )
        ),
        "root",
    ),
]


@pytest.mark.parametrize(("context", "why"), _MAIN_REFUSALS)
def test_a_main_mode_that_cannot_be_applied_is_refused_with_the_reason(context: ProviderContext, why: str) -> None:
    with pytest.raises(LocalMisuse, match=why):
        main_mode_of(context)


@pytest.mark.parametrize(
    ("integrity", "why"), [(IkeIntegrity.SHA1, "SHA-1"), (IkeIntegrity.MD5, "MD5")], ids=["sha1", "md5"]
)
def test_an_unsound_hash_refuses_the_context(integrity: IkeIntegrity, why: str) -> None:
    context = main_mode()
    content = context.content
    assert isinstance(content, IkePolicy)
    proposals = (content.proposals[0], replace(content.proposals[0], integrity=integrity))
    with pytest.raises(LocalMisuse, match=why):
        main_mode_of(_ike(context, proposals=proposals))


@pytest.mark.parametrize("changes", [{"rounds": 10}, {"key_length": 192}, {"quick_mode_limit": 3}])
def test_numbers_that_would_be_ignored_refuse_the_context(changes: dict[str, int]) -> None:
    context = main_mode()
    content = context.content
    assert isinstance(content, IkePolicy)
    with pytest.raises(LocalMisuse):
        main_mode_of(_ike(context, proposals=(replace(content.proposals[0], **changes),)))


_SHA1 = AuthTransform(AuthType.SHA_1, 1)
_QUICK_REFUSALS = [
    (SSE_QUICK_MODE, "extended-mode"),
    (
        _transport(quick_mode(kind=ContextType.AUTHIP_QM_TRANSPORT), em_policy=EmPolicy((CERTIFICATE,))),
        "extended-mode",
    ),
    (quick_mode(SaTransform(TransformType.ESP_AUTH, _SHA1)), "SHA-1"),
    (quick_mode(SaTransform(TransformType.ESP_AUTH, AuthTransform(AuthType.MD5, 0))), "MD5"),
    (
        quick_mode(SaTransform(TransformType.ESP_AUTH_AND_CIPHER, _SHA1, CipherTransform(CipherType.AES_128, 3))),
        "SHA-1",
    ),
    (
        quick_mode(
            SaTransform(
                TransformType.ESP_AUTH_AND_CIPHER,
                AuthTransform(AuthType.SHA_256, 2),
                CipherTransform(CipherType.TRIPLE_DES, 2),
            )
        ),
        "3DES",
    ),
    (
        quick_mode(
            SaTransform(
                TransformType.ESP_AUTH_AND_CIPHER,
                AuthTransform(AuthType.SHA_256, 2),
                CipherTransform(CipherType.DES, 1),
            )
        ),
        "DES",
    ),
    (
        quick_mode(
            SaTransform(
                TransformType.ESP_AUTH_AND_CIPHER,
                AuthTransform(AuthType.SHA_256, 2),
                CipherTransform(CipherType.AES_192, 4),
            )
        ),
        "AES_192",
    ),
    (quick_mode(SaTransform(TransformType.AH, AuthTransform(AuthType.SHA_256, 2))), "AH"),
    (quick_mode(SaTransform(TransformType.ESP_AUTH_FW, AuthTransform(AuthType.SHA_256, 2))), "ESP_AUTH_FW"),
    (quick_mode(SaTransform(TransformType.ESP_CIPHER, None, CipherTransform(CipherType.AES_128, 3))), "integrity"),
    (quick_mode(pfs=PfsGroup.MODP_1024), "MODP-1024"),
    (quick_mode(pfs=PfsGroup.MODP_768), "MODP-768"),
    (quick_mode(pfs=PfsGroup.MODP_2048_256), "MODP-2048-256"),
    (quick_mode(pfs=PfsGroup.MAIN_MODE, kind=ContextType.AUTHIP_QM_TRANSPORT), "main mode"),
    (quick_mode(kind=ContextType.IKE_QM_TRANSPORT), "IKE_QM_TRANSPORT"),
    (
        _transport(
            quick_mode(),
            proposals=(
                Proposal(
                    (SaTransform(TransformType.AH, AuthTransform(AuthType.SHA_256, 2)), INTEGRITY_ONLY), SaLifetime()
                ),
            ),
        ),
        "AH",
    ),
]


@pytest.mark.parametrize(("context", "why"), _QUICK_REFUSALS)
def test_a_quick_mode_that_cannot_be_applied_is_refused_with_the_reason(context: ProviderContext, why: str) -> None:
    with pytest.raises(LocalMisuse, match=why):
        quick_mode_of(context)


# -- at set time -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.ephemeral("host/a.example")


@pytest.mark.parametrize("field", ["main_mode_policy", "quick_mode_policy"])
def test_an_unknown_key_is_an_error_when_it_is_set(identity: Identity, field: str) -> None:
    with FilterEngine.open() as engine:
        for context in (None, SecurityContext(identity), SecurityContext(identity, policy=engine)):
            with pytest.raises(LocalMisuse, match="no policy is stored"):
                check_settings(IPsecSettings(**{field: uuid4()}), context)


@pytest.mark.parametrize("field", ["main_mode_policy", "quick_mode_policy"])
def test_a_key_of_the_wrong_type_is_an_error_when_it_is_set(identity: Identity, field: str) -> None:
    with FilterEngine.open() as engine:
        context = SecurityContext(identity, policy=engine)
        wrong = [
            quick_mode() if field == "main_mode_policy" else main_mode(),
            ProviderContext("modules", type=ContextType.KEYING, content=KeyingPolicy((ids.KEYING_MODULE_IKEV2,))),
            ProviderContext("bytes", type=ContextType.GENERAL, content=b"x"),
        ]
        for each in wrong:
            key = engine.provider_contexts.add(each).key
            with pytest.raises(LocalMisuse, match="type"):
                check_settings(IPsecSettings(**{field: key}), context)


@pytest.mark.parametrize(
    ("field", "key", "why"),
    [
        ("main_mode_policy", ids.PROVIDER_CONTEXT_SECURE_SOCKET_AUTHIP, "anonymous"),
        ("quick_mode_policy", ids.PROVIDER_CONTEXT_SECURE_SOCKET_IPSEC, "extended-mode"),
    ],
)
@pytest.mark.parametrize("with_engine", [True, False])
def test_windows_own_policies_can_be_read_and_not_set(
    identity: Identity, field: str, key: UUID, why: str, with_engine: bool
) -> None:
    with FilterEngine.open() as engine:
        assert engine.provider_contexts.find(key).content
        context = SecurityContext(identity, policy=engine if with_engine else None)
        with pytest.raises(LocalMisuse, match=why):
            check_settings(IPsecSettings(**{field: key}), context)


def test_the_zero_guid_is_ignored(identity: Identity) -> None:
    zero = UUID(int=0)
    check_settings(IPsecSettings(main_mode_policy=zero, quick_mode_policy=zero), SecurityContext(identity))


def test_a_policy_whose_methods_this_identity_lacks_is_an_error_when_it_is_set() -> None:
    shared = Identity.from_psk("a.example", {"b.example": bytes(range(16))})
    with FilterEngine.open() as engine:
        key = engine.provider_contexts.add(main_mode(CERTIFICATE)).key
        with pytest.raises(LocalMisuse, match=r"CERTIFICATE.*psk"):
            check_settings(IPsecSettings(main_mode_policy=key), SecurityContext(shared, policy=engine))


# -- methods and identities --------------------------------------------------------------------------------------------


def test_a_policys_shared_key_is_proven_under_any_name_but_ours(identity: Identity) -> None:
    ours = identity_for(main_mode(SHARED), identity)
    assert ours.method == "psk"
    assert ours.names == ("host/a.example",)
    assert not ours.trust.certificates
    other, own = (parse_peer_target_name(each).ike_id for each in ("host/b.example", "host/a.example"))
    assert other is not None
    assert own is not None
    secret = ours.secret_for(other)
    assert secret is not None
    assert secret.reveal() == bytes(range(32))
    assert ours.secret_for(None) is not None
    assert ours.secret_for(own) is None


def test_the_first_method_that_this_end_can_use_is_used_and_the_peer_may_use_any(identity: Identity) -> None:
    assert identity_for(main_mode(CERTIFICATE, SHARED), identity).method == "x509"
    both = identity_for(main_mode(SHARED, CERTIFICATE), identity)
    assert both.method == "psk"
    assert both.trust.certificates == identity.trust.certificates
    nobody = Identity.anonymous()
    with pytest.raises(LocalMisuse, match="anonymous"):
        identity_for(main_mode(SHARED), nobody)


def test_anonymous_is_nobody_and_still_judges_whoever_shows_a_certificate(identity: Identity) -> None:
    context = main_mode(ANONYMOUS, kind=ContextType.AUTHIP_MM, allow_anonymous=True)
    assert main_mode_of(context).allow_anonymous
    ours = identity_for(context, identity)
    assert ours.method == "anonymous"
    assert not ours.trust.certificates


@pytest.mark.parametrize(
    ("kind", "usable"),
    [(AuthMethodType.CERTIFICATE_ECDSA_P256, True), (AuthMethodType.CERTIFICATE_ECDSA_P384, False)],
)
def test_a_method_of_one_curve_needs_a_key_on_that_curve(
    identity: Identity, kind: AuthMethodType, usable: bool
) -> None:
    context = main_mode(AuthenticationMethod(kind, CertificateAuthentication()))
    if usable:
        assert identity_for(context, identity).method == "x509"
    else:
        with pytest.raises(LocalMisuse, match="P384"):
            identity_for(context, identity)


def test_explicit_roots_are_the_only_anchors(identity: Identity) -> None:
    other = Identity.ephemeral("host/b.example")
    assert other.authority is not None
    certificate = other.trust.certificates[0]
    shown = CertificateAuthentication(
        inbound=CertConfigType.EXPLICIT_TRUST_LIST,
        inbound_roots=(CertificateRoot(certificate.public_bytes(Encoding.DER)),),
        flags=int(CertAuthFlag.ENABLE_CRL_CHECK_STRONG),
    )
    context = main_mode(AuthenticationMethod(AuthMethodType.CERTIFICATE, shown))
    ours = identity_for(context, identity)
    assert ours.trust.certificates == (certificate,)
    assert ours.trust.crl_required


def test_a_root_may_be_the_name_of_an_anchor(identity: Identity) -> None:
    anchor = identity.trust.certificates[0]

    def context(root: bytes) -> ProviderContext:
        shown = CertificateAuthentication(
            inbound=CertConfigType.EXPLICIT_TRUST_LIST, inbound_roots=(CertificateRoot(root),)
        )
        return main_mode(AuthenticationMethod(AuthMethodType.CERTIFICATE, shown))

    assert identity_for(context(anchor.subject.public_bytes()), identity).trust.certificates == (anchor,)
    with pytest.raises(LocalMisuse, match="root"):
        identity_for(context(b"neither"), identity)


def eap(flags: int = 0) -> AuthenticationMethod:
    return AuthenticationMethod(AuthMethodType.EAP, EapAuthentication(flags))


@pytest.mark.parametrize(
    ("methods", "rule"),
    [
        ((eap(),), UserRule(True, True, False)),
        ((eap(1),), UserRule(True, False, False)),  # LOCAL_AUTH_ONLY
        ((eap(2),), UserRule(False, True, False)),  # REMOTE_AUTH_ONLY
        ((eap(), CERTIFICATE), UserRule(True, True, True)),
        ((CERTIFICATE,), UserRule(False, False, True)),
    ],
)
def test_the_method_eap_says_what_may_be_done_about_users(
    methods: tuple[AuthenticationMethod, ...], rule: UserRule
) -> None:
    identity = Identity.ephemeral("host/a.example")
    context = main_mode(*methods)
    main_mode_of(context)
    assert users_of(context) == rule
    # whom a user is proven to is judged by its certificate, and shows one itself
    under = identity_for(context, identity)
    assert (under.method, under.trust.certificates) == ("x509", identity.trust.certificates)


def test_a_users_machine_needs_no_credential_of_its_own() -> None:
    authority = Identity.ephemeral("host/a.example").authority
    assert authority is not None
    nobody = Identity.anonymous(trust=authority.pem)
    assert identity_for(main_mode(eap()), nobody).method == "anonymous"
    with pytest.raises(LocalMisuse, match="proves itself by psk"):
        identity_for(main_mode(eap()), Identity.from_psk("a.example", {"b.example": bytes(16)}))


def test_eap_stands_beside_certificates_alone() -> None:
    shared = AuthenticationMethod(AuthMethodType.PRESHARED_KEY, PresharedKeyAuthentication(Secret(bytes(16))))
    with pytest.raises(LocalMisuse, match="beside EAP"):
        main_mode_of(main_mode(eap(), shared))


# -- users at set time -------------------------------------------------------------------------------------------------


def _impersonating(*methods: AuthenticationMethod) -> ProviderContext:
    return _ike(main_mode(*methods), impersonation=ImpersonationType.SOCKET_PRINCIPAL)


def test_impersonation_is_the_user_of_the_socket_proven_by_eap() -> None:
    for methods, there in (
        ((CERTIFICATE, eap()), True),
        ((CERTIFICATE, eap(1)), True),
        ((CERTIFICATE, eap(2)), False),
    ):
        context = _impersonating(*methods)
        assert users_of(context).impersonates
        if there:
            main_mode_of(context)
        else:
            with pytest.raises(LocalMisuse, match="none of its methods proves one"):
                main_mode_of(context)


@pytest.mark.parametrize(
    ("policy", "user", "users", "why"),
    [
        (main_mode(eap()), False, False, "wants a user proven"),
        (main_mode(eap()), True, False, ""),
        (main_mode(eap()), False, True, ""),
        (main_mode(eap(1)), True, False, ""),
        (main_mode(eap(2)), True, False, "none of its methods is EAP for this end"),
        (main_mode(CERTIFICATE), True, False, "none of its methods is EAP for this end"),
        (main_mode(CERTIFICATE), False, True, ""),
        (main_mode(CERTIFICATE, eap()), True, False, ""),
        (main_mode(CERTIFICATE, eap()), False, False, ""),
        (_impersonating(CERTIFICATE, eap()), False, False, "wants a user proven"),
        (_impersonating(CERTIFICATE, eap()), True, False, ""),
    ],
)
def test_settings_and_a_policys_methods_for_users_have_to_fit_when_they_are_set(
    identity: Identity, policy: ProviderContext, user: bool, users: bool, why: str
) -> None:
    with FilterEngine.open() as engine:
        stored = engine.provider_contexts.add(policy)
        context = SecurityContext(identity, policy=engine, users=Users(certificates=True) if users else None)
        settings = IPsecSettings(
            main_mode_policy=stored.key, user_name="alice@example.org" if user else "", password="x" if user else ""
        )
        if why:
            with pytest.raises(LocalMisuse, match=why):
                check_settings(settings, context)
        else:
            check_settings(settings, context)
