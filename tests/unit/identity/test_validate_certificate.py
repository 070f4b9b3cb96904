"""What a peer's certificates prove, and every reason for which they prove nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from securesock.errors import AuthenticationFailed
from securesock.identity.identity import Identity, ProvenCertificate
from securesock.identity.names import IkeId, PeerTargetName, parse_peer_target_name
from securesock.types import ANY_TRUSTED_PEER, AnyTrustedPeer
from securesock.wire.id_types import IdType
from tests.unit.identity.mill import (
    CA,
    DAY,
    IPSEC_IKE,
    NOW,
    UNKNOWN_CRITICAL,
    Extension,
    Holder,
    Key,
    Order,
    dns,
    ec_key,
    key_usage,
    make,
    make_authority,
    rsa_key,
    subject,
)

END_ENTITY: Extension = (x509.BasicConstraints(False, None), True)
B = "b.example"


def judge(
    trust: Sequence[Holder],
    shown: Sequence[Holder],
    *,
    as_: str | IkeId = B,
    at: datetime = NOW,
    expected: PeerTargetName | AnyTrustedPeer | None = None,
    pins: Collection[str] = (),
) -> ProvenCertificate:
    ours = make(Order(names=dns("a.example")), make_authority("our own"))
    identity = Identity.from_pem(ours.pem, ours.key_pem, trust=[each.pem for each in trust])
    peer_id = parse_peer_target_name(as_).ike_id if isinstance(as_, str) else as_
    assert peer_id is not None
    return identity.validate_certificate(peer_id, [each.der for each in shown], at, expected, pins)


def refused(trust: Sequence[Holder], shown: Sequence[Holder], **how: object) -> str:
    """The reason of a refusal."""
    with pytest.raises(AuthenticationFailed) as caught:
        judge(trust, shown, **how)  # type-checked by judge itself
    assert str(caught.value)
    return caught.value.reason


def machine(
    issuer: Holder, *names: x509.GeneralName, extra: Sequence[Extension] = (), key: Key | None = None
) -> Holder:
    return make(Order(names=names or dns(B), extensions=(END_ENTITY, *extra), key=key), issuer)


# --- who is believed


@pytest.mark.parametrize(
    "make_key",
    [
        ec_key,
        lambda: ec_key(ec.SECP384R1()),
        lambda: ec_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate,
        rsa_key,
    ],
    ids=["p256", "p384", "p521", "ed25519", "rsa2048"],
)
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_a_path_of_any_kind_of_key_and_length_is_believed(make_key: object, levels: int) -> None:
    assert callable(make_key)
    issuers = [make_authority("root", key=make_key())]
    for level in range(levels):
        issuers.append(make_authority(f"level {level}", issuer=issuers[-1], key=make_key()))
    leaf = machine(issuers[-1], key=make_key())
    proven = judge([issuers[0]], [leaf, *reversed(issuers[1:])], expected=parse_peer_target_name(B))
    assert proven.principal.name == "host/b.example"
    assert proven.public_key == leaf.key.public_key()
    assert proven.anchor.startswith("CN=root (sha256:")


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_rsa_pss_signatures_are_believed(algorithm: hashes.HashAlgorithm) -> None:
    root = make_authority(key=rsa_key())
    leaf = make(Order(names=dns(B), algorithm=algorithm, pss=True), root)
    assert judge([root], [leaf]).principal.name == "host/b.example"


def test_intermediates_come_in_any_order_and_may_repeat_the_anchor() -> None:
    root = make_authority("root")
    upper = make_authority("upper", issuer=root)
    lower = make_authority("lower", issuer=upper)
    leaf = machine(lower)
    for others in ([lower, upper], [upper, lower], [root, upper, lower], [upper, root, lower, lower]):
        assert judge([root], [leaf, *others]).anchor.startswith("CN=root ")


def test_a_missing_intermediate_is_another_authority() -> None:
    root = make_authority("root")
    leaf = machine(make_authority("lower", issuer=root))
    assert refused([root], [leaf]) == "other-authority"


def test_an_intermediate_that_is_named_as_trusted_needs_nothing_above_it() -> None:
    lower = make_authority("lower", issuer=make_authority("root"))
    assert judge([lower], [machine(lower)]).anchor.startswith("CN=lower ")


def test_a_self_signed_machine_is_believed_where_its_own_certificate_is_trusted() -> None:
    leaf = make(Order(names=dns(B)))
    assert judge([leaf], [leaf]).principal.name == "host/b.example"
    assert refused([make_authority()], [leaf]) == "other-authority"


def test_an_authority_of_the_same_name_with_another_key_is_not_believed() -> None:
    trusted, impostor = make_authority("the same"), make_authority("the same")
    assert refused([trusted], [machine(impostor)]) == "other-authority"
    assert refused([trusted], [machine(impostor), impostor]) == "other-authority"


def test_of_several_anchors_the_one_that_signed_is_named() -> None:
    anchors = [
        make_authority("one"),
        make_authority("two", key=ed25519.Ed25519PrivateKey.generate()),
        make_authority("three"),
    ]
    for anchor in anchors:
        assert judge(anchors, [machine(anchor)]).anchor.startswith(anchor.certificate.subject.rfc4514_string() + " ")


def test_a_broken_signature_is_not_believed() -> None:
    root = make_authority()
    leaf = machine(root)
    broken = bytearray(leaf.der)
    broken[-1] ^= 1
    ours = Identity.from_pem(leaf.pem, leaf.key_pem, trust=[root.pem])
    with pytest.raises(AuthenticationFailed):
        ours.validate_certificate(ours.our_id(), [bytes(broken)], NOW, None)


def test_without_trust_anchors_nothing_but_pins_is_believed() -> None:
    leaf = make(Order(names=dns(B)))
    assert refused([], [leaf]) == "other-authority"


def test_no_certificate_and_too_many_are_refused() -> None:
    root = make_authority()
    assert refused([root], []) == "no-certificate"
    assert refused([root], [machine(root)] * 11) == "too-many-certificates"


# --- when


def test_validity_is_judged_at_the_time_that_the_caller_gives() -> None:
    root = make_authority()
    leaf = machine(root)
    first, last = leaf.certificate.not_valid_before_utc, leaf.certificate.not_valid_after_utc
    assert judge([root], [leaf], at=first)
    assert judge([root], [leaf], at=last)
    assert refused([root], [leaf], at=first - timedelta(seconds=1)) == "not-yet-valid"
    assert refused([root], [leaf], at=last + timedelta(seconds=1)) == "expired"
    assert judge([root], [leaf], at=last.astimezone(timezone(timedelta(hours=-9))))
    assert (
        refused([root], [leaf], at=(last + timedelta(seconds=1)).astimezone(timezone(timedelta(hours=-9)))) == "expired"
    )


def test_an_expired_intermediate_and_an_expired_anchor_end_the_path() -> None:
    root = make_authority("root")
    old = make_authority("old", issuer=root, days=1)
    assert refused([root], [machine(old), old], at=NOW + 2 * DAY) == "expired"
    short = make_authority("short", days=1)
    assert refused([short], [machine(short)], at=NOW + 2 * DAY) == "expired"


def test_certificates_for_all_time_are_valid_far_from_today() -> None:
    ours = Identity.ephemeral("host/a.example")
    peer = Identity.ephemeral("host/b.example", authority=ours.authority)
    for at in (datetime(1970, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC), datetime(2551, 1, 1, tzinfo=UTC)):
        assert ours.validate_certificate(peer.our_id(), peer.certificate_chain, at, None)


# --- as whom


@pytest.mark.parametrize(
    ("san", "claimed", "shown"),
    [
        (x509.DNSName("b.example"), "host/b.example", "host/b.example"),
        (x509.DNSName("B.Example"), "b.EXAMPLE", "host/b.example"),
        (x509.DNSName("xn--bcher-kva.example"), "host/xn--bcher-kva.example", "host/xn--bcher-kva.example"),
        (x509.IPAddress(ip_address("192.0.2.1")), "192.0.2.1", "192.0.2.1"),
        (x509.IPAddress(ip_address("2001:db8::1")), "2001:DB8:0::1", "2001:db8::1"),
        (
            x509.UniformResourceIdentifier("spiffe://td.example/db/1"),
            "spiffe://td.example/db/1",
            "spiffe://td.example/db/1",
        ),
        (x509.RFC822Name("alice@example.org"), "alice@EXAMPLE.org", "alice@example.org"),
    ],
)
def test_the_id_is_a_subject_alternative_name_of_its_own_type(san: x509.GeneralName, claimed: str, shown: str) -> None:
    root = make_authority()
    expected = parse_peer_target_name(claimed)
    proven = judge([root], [machine(root, san)], as_=claimed, expected=expected)
    assert proven.principal.name == shown == expected.principal
    assert proven.principal.kind == ("user" if "@" in shown else "machine")


@pytest.mark.parametrize(
    ("sans", "claimed"),
    [
        (dns("*.example"), "b.example"),
        (dns("b.example."), "b.example"),
        (dns("b.example"), "c.b.example"),
        (dns("c.b.example"), "b.example"),
        (dns("xb.example"), "b.example"),
        (dns("192.0.2.1"), "192.0.2.1"),
        ([x509.IPAddress(ip_address("192.0.2.1"))], "192.0.2.2"),
        ([x509.IPAddress(ip_address("::ffff:192.0.2.1"))], "192.0.2.1"),
        ([x509.RFC822Name("alice@example.org")], "Alice@example.org"),
        ([x509.RFC822Name("alice@example.org")], "example.org"),
        ([x509.UniformResourceIdentifier("spiffe://td.example/db")], "spiffe://td.example/DB"),
        ([x509.UniformResourceIdentifier("spiffe://td.example/db")], "td.example"),
        (dns("bücher.example"), "xn--bcher-kva.example"),
        (dns("b.example\0.evil"), "b.example"),
    ],
)
def test_a_name_that_is_only_like_it_is_another_name(sans: list[x509.GeneralName], claimed: str) -> None:
    root = make_authority()
    assert refused([root], [machine(root, *sans)], as_=claimed) == "other-name"


def test_the_common_name_is_never_a_name() -> None:
    root = make_authority()
    leaf = make(Order(name=subject(cn="b.example"), names=dns("c.example")), root)
    assert refused([root], [leaf], as_="b.example") == "other-name"
    bare = make(Order(name=subject(cn="b.example")), root)
    assert refused([root], [bare], as_="b.example") == "other-name"


def test_a_wildcard_is_no_principal_even_when_the_peer_claims_it() -> None:
    root = make_authority()
    assert refused([root], [machine(root, *dns("*.example"))], as_=IkeId(IdType.ID_FQDN, b"*.example")) == "no-name"


def test_the_whole_subject_is_a_name() -> None:
    root = make_authority()
    leaf = make(Order(name=subject(cn="b", o="Example")), root)
    claimed = IkeId(IdType.ID_DER_ASN1_DN, subject(cn="b", o="Example").public_bytes())
    proven = judge([root], [leaf], as_=claimed, expected=ANY_TRUSTED_PEER)
    assert (proven.principal.name, proven.principal.kind) == ("CN=b,O=Example", "machine")
    for other in (subject(cn="b"), subject(o="Example"), subject(cn="B", o="Example"), x509.Name([])):
        assert refused([root], [leaf], as_=IkeId(IdType.ID_DER_ASN1_DN, other.public_bytes())) in {
            "other-name",
            "no-name",
        }


@pytest.mark.parametrize("how", ["mailbox in the subject", "mailbox beside the subject"])
def test_a_subject_with_a_mailbox_is_a_users_and_no_trusted_machine(how: str) -> None:
    root = make_authority()
    name = subject(cn="Alice", email="alice@example.org" if how == "mailbox in the subject" else None)
    names = [] if how == "mailbox in the subject" else [x509.RFC822Name("alice@example.org")]
    leaf = make(Order(name=name, names=names), root)
    claimed = IkeId(IdType.ID_DER_ASN1_DN, name.public_bytes())
    assert judge([root], [leaf], as_=claimed).principal.kind == "user"
    assert refused([root], [leaf], as_=claimed, expected=ANY_TRUSTED_PEER) == "user"


@pytest.mark.parametrize(
    "claimed",
    [
        IkeId(IdType.ID_KEY_ID, b"b.example"),
        IkeId(IdType.ID_NULL, b""),
        IkeId(IdType.ID_FQDN, b""),
        IkeId(IdType.ID_FQDN, b"b.example\0"),
        IkeId(IdType.ID_FQDN, b"b.ex\xffmple"),
        IkeId(IdType.ID_IPV4_ADDR, b"\xc0\0\x02"),
        IkeId(IdType.ID_IPV6_ADDR, b"\xc0\0\x02\x01"),
        IkeId(IdType.ID_DER_ASN1_GN, b"\x82\x09b.example"),
        IkeId(IdType.ID_DER_ASN1_DN, b"b.example"),
        IkeId(200, b"b.example"),
    ],
    ids=lambda claimed: f"{claimed.id_type}-{claimed.data!r}",
)
def test_an_id_that_names_nobody_is_refused(claimed: IkeId) -> None:
    root = make_authority()
    names = [*dns(B), x509.IPAddress(ip_address("192.0.2.1"))]
    assert refused([root], [machine(root, *names)], as_=claimed) == "no-name"
    assert refused([root], [machine(root, *names)], as_=claimed, expected=ANY_TRUSTED_PEER) == "no-name"


def test_each_name_of_a_certificate_can_be_claimed_and_only_the_claimed_one_is_the_principal() -> None:
    root = make_authority()
    leaf = machine(root, *dns("b.example", "c.example"), x509.IPAddress(ip_address("192.0.2.1")))
    for name in ("host/b.example", "host/c.example", "192.0.2.1"):
        assert judge([root], [leaf], as_=name).principal.name == name
    with pytest.raises(AuthenticationFailed, match=r"is host/b\.example, and c\.example was expected"):
        judge([root], [leaf], as_="b.example", expected=parse_peer_target_name("c.example"))


def test_a_spiffe_identity_has_one_uri_only() -> None:
    root = make_authority()
    uris = [x509.UniformResourceIdentifier(f"spiffe://td.example/{each}") for each in ("one", "two")]
    assert judge([root], [machine(root, uris[0], *dns(B))], as_="spiffe://td.example/one")
    assert refused([root], [machine(root, *uris)], as_="spiffe://td.example/one") == "no-name"


@pytest.mark.parametrize(
    "uri", ["host/db.example", "sha256:" + 64 * "0", "alice@example.org", "//db.example", "192.0.2.1"]
)
def test_a_uri_cannot_be_made_to_look_like_another_kind_of_name(uri: str) -> None:
    root = make_authority()
    claimed = IkeId(IdType.ID_DER_ASN1_GN, b"\x86" + bytes((len(uri),)) + uri.encode())
    leaf = machine(root, x509.UniformResourceIdentifier._init_without_validation(uri))
    assert refused([root], [leaf], as_=claimed) == "no-name"


def test_any_trusted_peer_is_any_machine_and_never_a_user() -> None:
    root = make_authority()
    leaf = machine(root, *dns(B), x509.RFC822Name("alice@example.org"))
    assert judge([root], [leaf], as_=B, expected=ANY_TRUSTED_PEER).principal.name == "host/b.example"
    assert refused([root], [leaf], as_="alice@example.org", expected=ANY_TRUSTED_PEER) == "user"
    assert judge([root], [leaf], as_="alice@example.org", expected=None).principal.kind == "user"


# --- for what


@pytest.mark.parametrize(
    ("usages", "critical"),
    [
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], False),
        ([IPSEC_IKE], False),
        ([IPSEC_IKE], True),
        ([ExtendedKeyUsageOID.SERVER_AUTH], False),
        ([ExtendedKeyUsageOID.CLIENT_AUTH], True),
        ([ExtendedKeyUsageOID.CODE_SIGNING, IPSEC_IKE], False),
    ],
)
@pytest.mark.parametrize("levels", [0, 1])
def test_extended_key_usages_that_allow_ike(usages: list[x509.ObjectIdentifier], critical: bool, levels: int) -> None:
    root = make_authority("root")
    usage: Extension = (x509.ExtendedKeyUsage(usages), critical)
    issuers = [make_authority("lower", issuer=root, extra=[usage])] if levels else []
    leaf = machine((*issuers, root)[0], extra=[usage])
    assert judge([root], [leaf, *issuers])


@pytest.mark.parametrize("critical", [False, True])
def test_extended_key_usages_for_something_else_are_refused(critical: bool) -> None:
    root = make_authority("root")
    usage: Extension = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical)
    assert refused([root], [machine(root, extra=[usage])]) == "usage"
    lower = make_authority("lower", issuer=root, extra=[usage])
    assert refused([root], [machine(lower), lower]) == "path"


@pytest.mark.parametrize(
    ("allowed", "taken"), [("digital_signature", True), ("content_commitment", True), ("key_agreement", False)]
)
def test_a_key_usage_that_is_there_allows_signatures(allowed: str, taken: bool) -> None:
    root = make_authority()
    leaf = machine(root, extra=[(key_usage(allowed), True)])
    if taken:
        assert judge([root], [leaf])
    else:
        assert refused([root], [leaf]) == "usage"


# --- how strong


def test_a_short_rsa_key_is_refused_wherever_it_stands() -> None:
    root = make_authority("root")
    assert refused([root], [machine(root, key=rsa_key(1024))]) == "weak-algorithm"
    lower = make_authority("lower", issuer=root, key=rsa_key(1024))
    assert refused([root], [machine(lower), lower]) == "path"
    pin = parse_peer_target_name(_pin(rsa_key(1024)))
    assert refused([root], [machine(root, key=rsa_key(1024))], expected=pin) == "weak-algorithm"


def test_a_curve_that_is_not_offered_is_refused() -> None:
    root = make_authority()
    for curve in (ec.SECP256K1(), ec.BrainpoolP256R1()):
        assert refused([root], [machine(root, key=ec_key(curve))]) == "weak-algorithm"


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_old_digests_are_refused_wherever_they_sign_but_on_an_anchor_itself(kind: str) -> None:
    data = Path(__file__).with_name("data") / f"old_digests_{kind}.pem"
    root, root_sha1, leaf, middle_sha1, leaf_below, *weak_leaves = (
        Holder(certificate, ec_key()) for certificate in x509.load_pem_x509_certificates(data.read_bytes())
    )
    assert len(weak_leaves) == (2 if kind == "rsa" else 1)
    for anchor in (root, root_sha1):
        assert judge([anchor], [leaf]).principal.name == "host/b.example"
        assert [refused([anchor], [weak]) for weak in weak_leaves] == ["weak-algorithm"] * len(weak_leaves)
        assert refused([anchor], [leaf_below, middle_sha1]) == "weak-algorithm"
    assert judge([middle_sha1], [leaf_below]).principal.name == "host/b.example"


# --- below whom


def test_a_path_length_is_kept() -> None:
    root = make_authority("root", extensions=[(x509.BasicConstraints(True, 0), True), CA[1]])
    assert judge([root], [machine(root)])
    lower = make_authority("lower", issuer=root)
    assert refused([root], [machine(lower), lower]) == "path"


@pytest.mark.parametrize(
    "extensions",
    [
        [END_ENTITY],
        [],
        [(key_usage("key_cert_sign"), True)],
        [(x509.BasicConstraints(True, None), True), (key_usage("digital_signature"), True)],
    ],
    ids=["cA false", "no basicConstraints", "keyCertSign alone", "no keyCertSign"],
)
def test_only_an_authority_issues_certificates(extensions: list[Extension]) -> None:
    root = make_authority("root")
    lower = make_authority("lower", issuer=root, extensions=extensions)
    assert refused([root], [machine(lower), lower]) == "path"


@pytest.mark.parametrize("where", ["leaf", "intermediate", "anchor"])
def test_a_critical_extension_that_nobody_knows_is_refused(where: str) -> None:
    root = make_authority("root", extra=[UNKNOWN_CRITICAL] if where == "anchor" else [])
    lower = make_authority("lower", issuer=root, extra=[UNKNOWN_CRITICAL] if where == "intermediate" else [])
    leaf = machine(lower, extra=[UNKNOWN_CRITICAL] if where == "leaf" else [])
    assert refused([root], [leaf, lower]) == "path"
    if where != "intermediate":
        direct = machine(root, extra=[UNKNOWN_CRITICAL] if where == "leaf" else [])
        assert refused([root], [direct]) == "path"


def test_an_extension_that_nobody_knows_and_is_not_critical_is_passed_over() -> None:
    root = make_authority("root")
    assert judge([root], [machine(root, extra=[(UNKNOWN_CRITICAL[0], False)])])


PERMITTED_EXAMPLE = x509.NameConstraints([x509.DNSName("example")], None)
EXCLUDED_EXAMPLE = x509.NameConstraints(None, [x509.DNSName("example")])
PERMITTED_NETWORK = x509.NameConstraints([x509.IPAddress(ip_network("192.0.2.0/24"))], None)
PERMITTED_HOST = x509.NameConstraints([x509.UniformResourceIdentifier("td.example")], None)
PERMITTED_MAIL = x509.NameConstraints([x509.RFC822Name("example.org")], None)
PERMITTED_SUBJECT = x509.NameConstraints([x509.DirectoryName(subject(o="Example"))], None)


@pytest.mark.parametrize("where", ["anchor", "intermediate"])
@pytest.mark.parametrize(
    ("constraints", "good", "bad"),
    [
        (PERMITTED_EXAMPLE, "b.example", "b.other"),
        (EXCLUDED_EXAMPLE, "b.other", "b.example"),
        (PERMITTED_NETWORK, "192.0.2.1", "198.51.100.1"),
        (PERMITTED_HOST, "spiffe://td.example/db", "spiffe://other.example/db"),
        (PERMITTED_MAIL, "alice@example.org", "alice@example.com"),
    ],
)
def test_name_constraints_are_kept(where: str, constraints: x509.NameConstraints, good: str, bad: str) -> None:
    extra: list[Extension] = [(constraints, True)]
    root = make_authority("root", extra=extra if where == "anchor" else [])
    issuers = [make_authority("lower", issuer=root, extra=extra)] if where == "intermediate" else []
    for name, is_good in ((good, True), (bad, False)):
        leaf = machine((*issuers, root)[0], _general_name(name))
        if is_good:
            assert judge([root], [leaf, *issuers], as_=name).principal
        else:
            assert refused([root], [leaf, *issuers], as_=name) == "name-constraints"


def test_constraints_on_subjects_are_kept() -> None:
    root = make_authority("root", extra=[(PERMITTED_SUBJECT, True)])
    for name, is_good in ((subject(o="Example", cn="b"), True), (subject(o="Other", cn="b"), False)):
        leaf = make(Order(name=name), root)
        claimed = IkeId(IdType.ID_DER_ASN1_DN, name.public_bytes())
        if is_good:
            assert judge([root], [leaf], as_=claimed)
        else:
            assert refused([root], [leaf], as_=claimed) == "name-constraints"


# --- pinned keys


def _pin(key: Key) -> str:
    """Spelled out, not taken from the code under test."""
    info = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(info).hexdigest()


def test_a_pin_replaces_the_chain_and_the_names() -> None:
    leaf = make(Order(names=dns("bank.example"), not_after=NOW - DAY))
    pin = _pin(leaf.key)
    proven = judge([], [leaf], as_="bank.example", expected=parse_peer_target_name(pin))
    assert proven.principal.name == proven.anchor == pin
    assert "bank" not in repr(proven.principal)
    assert proven.public_key == leaf.key.public_key()


def test_another_key_does_not_satisfy_a_pin_even_when_it_is_trusted() -> None:
    root = make_authority()
    assert refused([root], [machine(root)], expected=parse_peer_target_name(_pin(ec_key()))) == "other-key"


def test_a_responder_takes_whoever_holds_a_key_that_it_was_told_of() -> None:
    root, leaf = make_authority(), make(Order(names=dns(B)))
    pins = {_pin(leaf.key), _pin(ec_key())}
    assert judge([root], [leaf], pins=pins).principal.name == _pin(leaf.key)
    assert judge([root], [machine(root, key=leaf.key)], pins=pins).principal.name == _pin(leaf.key)
    assert judge([root], [machine(root)], pins=pins).principal.name == "host/b.example"
    assert refused([root], [make(Order(names=dns(B)))], pins=pins) == "other-authority"


def test_pins_are_a_responders_and_do_not_stand_in_for_the_expected_name() -> None:
    root, leaf = make_authority(), make(Order(names=dns(B)))
    for expected in (parse_peer_target_name(B), ANY_TRUSTED_PEER):
        assert refused([root], [leaf], pins={_pin(leaf.key)}, expected=expected) == "other-authority"


# --- what is said


def test_messages_say_who_and_what_to_do_and_carry_no_control_characters() -> None:
    root, other = make_authority(), make_authority("evil\x1b[31m\nline")
    leaf = make(Order(names=dns(B), name=subject(cn="b\x1b[2J\r\n")), other)
    with pytest.raises(AuthenticationFailed) as caught:
        judge([root], [leaf])
    message = str(caught.value)
    assert message.isprintable()
    assert "no trust anchor" in message
    assert "add that authority to trust" in message


def _general_name(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
