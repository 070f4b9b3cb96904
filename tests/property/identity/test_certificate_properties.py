"""Whatever a peer puts into its certificates or its ID: it is judged, or refused with AuthenticationFailed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from securesock.errors import AuthenticationFailed, WireError
from securesock.identity.certificates import read_certificate_untrusted, read_leaf_untrusted
from securesock.identity.identity import Identity
from securesock.identity.names import (
    IkeId,
    canonical_id,
    describe_id,
    expected_name_for_host,
    parse_peer_target_name,
    principal_name,
)
from securesock.wire.id_types import IdType
from tests.unit.identity.mill import (
    CA,
    DAY,
    IPSEC_IKE,
    NOW,
    UNKNOWN_CRITICAL,
    Extension,
    Holder,
    Order,
    dns,
    ec_key,
    key_usage,
    make,
    make_authority,
    rsa_key,
    subject,
)

ROOT = make_authority("root", key=ec_key())
ED_ROOT = make_authority("ed root", key=ed25519.Ed25519PrivateKey.generate())
LOWER = make_authority("lower", issuer=ROOT)
RICH = make(
    Order(
        names=[
            *dns("b.example", "*.example"),
            x509.IPAddress(ip_address("192.0.2.1")),
            x509.IPAddress(ip_address("2001:db8::1")),
            x509.RFC822Name("alice@example.org"),
            x509.UniformResourceIdentifier("spiffe://td.example/db"),
            x509.DirectoryName(subject(cn="b")),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
            x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"),
        ],
        name=subject(cn="b", o="Example", email="b@example.org"),
        extensions=[
            (x509.BasicConstraints(False, None), True),
            (x509.ExtendedKeyUsage([IPSEC_IKE, ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (key_usage("digital_signature"), True),
        ],
    ),
    LOWER,
)
PLAIN = make(Order(names=dns("b.example")), ROOT)
ED = make(Order(names=dns("b.example"), key=ed25519.Ed25519PrivateKey.generate()), ED_ROOT)
RSA = make(Order(names=dns("b.example"), key=rsa_key()), ROOT)
OURS = Identity.from_pem(PLAIN.pem, PLAIN.key_pem, trust=[ROOT.pem, ED_ROOT.pem])
B = IkeId(IdType.ID_FQDN, b"b.example")


def judge(certificates: list[bytes], peer_id: IkeId = B) -> str:
    """The principal or the reason; any other exception fails the test."""
    try:
        return OURS.validate_certificate(peer_id, certificates, NOW, None).principal.name
    except AuthenticationFailed as error:
        assert error.reason
        assert str(error).isprintable()
        return error.reason


def test_unchanged_certificates_are_believed() -> None:
    for shown in ([PLAIN], [ED], [RSA], [RICH, LOWER]):
        assert judge([each.der for each in shown]) == "host/b.example"


@pytest.mark.parametrize("holder", [PLAIN, ED, RICH], ids=["plain", "ed25519", "rich"])
def test_no_flipped_bit_of_a_certificate_is_believed(holder: Holder) -> None:
    others = [LOWER.der] if holder is RICH else []
    flipped = bytearray(holder.der)
    for position in range(len(flipped)):
        for bit in (1, 0x80) if position % 3 else (1 << position % 8,):
            flipped[position] ^= bit
            assert "/" not in judge([bytes(flipped), *others]), (position, bit)
            flipped[position] ^= bit


def test_no_truncation_of_a_certificate_is_believed_nor_trailing_bytes() -> None:
    for length in range(0, len(PLAIN.der), 1):
        assert "/" not in judge([PLAIN.der[:length]])
    for junk in (b"\0", b"\x30\x00", PLAIN.der):
        assert "/" not in judge([PLAIN.der + junk])


@settings(max_examples=300)
@given(st.data())
def test_a_changed_certificate_or_intermediate_is_judged_or_refused(data: st.DataObject) -> None:
    certificates = [bytearray(RICH.der), bytearray(LOWER.der)]
    for _ in range(data.draw(st.integers(1, 4))):
        target = certificates[data.draw(st.integers(0, 1))]
        position = data.draw(st.integers(0, len(target) - 1))
        target[position] = data.draw(st.integers(0, 255))
    judge([bytes(each) for each in certificates])


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=200), max_size=11))
def test_junk_in_place_of_certificates_is_refused(certificates: list[bytes]) -> None:
    assert judge(certificates) in {"no-certificate", "too-many-certificates", "malformed-certificate"}


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_reading_a_certificate_parses_or_raises_wire_error(junk: bytes) -> None:
    for read in (read_certificate_untrusted, read_leaf_untrusted):
        with pytest.raises(WireError):
            read(junk)


def test_every_bit_flip_of_a_certificate_parses_or_raises_wire_error() -> None:
    flipped = bytearray(RICH.der)
    for position in range(len(flipped)):
        for bit in range(8):
            flipped[position] ^= 1 << bit
            try:
                leaf = read_leaf_untrusted(bytes(flipped))
            except WireError:
                pass
            else:
                assert leaf.der == flipped
            flipped[position] ^= 1 << bit


@given(st.integers(0, 255), st.binary(max_size=80))
@example(int(IdType.ID_FQDN), b"B.Example")
@example(int(IdType.ID_DER_ASN1_DN), subject(cn="b").public_bytes())
def test_any_id_is_named_or_refused_and_its_name_is_stable(id_type: int, data: bytes) -> None:
    peer_id = IkeId(id_type, data)
    assert describe_id(peer_id).isprintable()
    try:
        name = principal_name(peer_id)
    except WireError:
        return
    assert principal_name(canonical_id(peer_id)) == name
    assert canonical_id(canonical_id(peer_id)) == canonical_id(peer_id)


@given(st.sampled_from(list(IdType)), st.text(max_size=40), st.sampled_from(list(IdType)), st.text(max_size=40))
def test_ids_of_different_types_never_have_the_same_name(one: int, text: str, two: int, other: str) -> None:
    names = []
    for id_type, data in ((one, text), (two, other), (two, text)):
        try:
            names.append((int(id_type), principal_name(IkeId(id_type, data.encode()))))
        except WireError:
            continue
    for id_type, name in names:
        assert all(other_type == id_type for other_type, other_name in names if other_name == name)


NAME_LIKE = st.from_regex(r"(host/|sha256:|spiffe://|[a-z]+@)?[a-zA-Z0-9._:/@%-]{0,40}", fullmatch=True)


@given(st.text(max_size=80) | NAME_LIKE)
def test_a_peer_target_name_is_read_or_is_misuse(text: str) -> None:
    for read in (parse_peer_target_name, expected_name_for_host):
        try:
            target = read(text)
        except ValueError as error:
            assert str(error).isprintable()
            continue
        assert parse_peer_target_name(target.principal).ike_id == target.ike_id


# --- the two validators

EXTRAS: list[Extension] = [
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), True),
    (x509.ExtendedKeyUsage([IPSEC_IKE]), False),
    (x509.PolicyConstraints(0, None), True),
    (x509.InhibitAnyPolicy(0), True),
    (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)]), True),
    (x509.NameConstraints([x509.DNSName("other")], None), True),
    (x509.TLSFeature([x509.TLSFeatureType.status_request]), False),
    (x509.OCSPNoCheck(), False),
    UNKNOWN_CRITICAL,
]
BASIC: list[list[Extension]] = [
    [],
    [(x509.BasicConstraints(True, None), False)],
    [(x509.BasicConstraints(True, None), True)],
    [(x509.BasicConstraints(True, 0), True)],
    [(x509.BasicConstraints(False, None), True)],
]
USAGE: list[list[Extension]] = [
    [],
    [(key_usage("digital_signature"), True)],
    [(key_usage("crl_sign"), False)],
    [(key_usage("key_cert_sign"), True)],
]
KEYS = [ec_key(), rsa_key(), rsa_key(1024), ed25519.Ed25519PrivateKey.generate()]


@st.composite
def orders(draw: st.DrawFn, name: str) -> Order:
    """Ordinary certificates with at most two oddities."""
    odd = draw(st.sets(st.sampled_from(["basic", "usage", "extra", "early", "late", "key", "names"]), max_size=2))
    is_anchor = name == "anchor"
    basic = draw(st.sampled_from(BASIC)) if "basic" in odd else [CA[0]] if is_anchor else []
    usage = draw(st.sampled_from(USAGE)) if "usage" in odd else [CA[1]] if is_anchor else []
    extra = [draw(st.sampled_from(EXTRAS))] if "extra" in odd else []
    return Order(
        names=[] if is_anchor or "names" in odd else dns("b.example"),
        name=subject(cn=name),
        key=draw(st.sampled_from(KEYS)) if "key" in odd else KEYS[0] if is_anchor else ec_key(),
        extensions=[*basic, *usage, *extra],
        not_before=NOW + (1 if "late" in odd else -10) * DAY,
        not_after=NOW + (2 if "early" in odd and "late" in odd else -1 if "early" in odd else 10) * DAY,
    )


def test_what_the_fast_validator_accepts_the_full_one_accepts_too() -> None:
    answers: list[bool] = []

    @settings(max_examples=600)
    @given(orders("leaf"), orders("anchor"), st.booleans(), st.sampled_from([0, 0, -10, 10]))
    def compare(leaf_order: Order, anchor_order: Order, is_issuer: bool, days: int) -> None:
        anchor = make(anchor_order)
        issuer = anchor if is_issuer else make(replace(anchor_order, key=ec_key()))
        leaf = make(leaf_order, issuer)
        try:
            trust = Identity.from_pem(PLAIN.pem, PLAIN.key_pem, trust=[anchor.pem]).trust
            read = read_leaf_untrusted(leaf.der)
        except ValueError:
            return  # a key that is too short: no validator is asked
        fast = trust._find_plain_path(read, NOW + days * DAY)
        answers.append(fast is not None)
        if fast is not None:
            assert is_issuer
            assert trust._find_path(read, [], NOW + days * DAY) == fast
        assert trust._find_plain_path(read, NOW + 10 * DAY + timedelta(seconds=1)) is None
        assert trust._find_plain_path(read, NOW - 10 * DAY - timedelta(seconds=1)) is None

    compare()
    assert answers.count(True) >= 20
    assert answers.count(False) >= 20
