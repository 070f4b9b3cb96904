"""Peer target names, IDs and principals' names: one principal, one spelling."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from securesock.errors import AuthenticationFailed, LocalMisuse, WireError
from securesock.identity.names import (
    IkeId,
    canonical_id,
    check_expected,
    describe_id,
    expected_name_for_host,
    parse_peer_target_name,
    principal_kind,
    principal_name,
    printable,
    uri_id,
)
from securesock.types import ANY_TRUSTED_PEER
from securesock.wire.id_types import IdType

PIN = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "form", "id_type", "data", "principal"),
    [
        ("host/db.example", "fqdn", IdType.ID_FQDN, b"db.example", "host/db.example"),
        ("db.example", "fqdn", IdType.ID_FQDN, b"db.example", "host/db.example"),
        ("DB.Example", "fqdn", IdType.ID_FQDN, b"db.example", "host/db.example"),
        ("host/HOST", "fqdn", IdType.ID_FQDN, b"host", "host/host"),
        ("localhost", "fqdn", IdType.ID_FQDN, b"localhost", "host/localhost"),
        ("my_service-1", "fqdn", IdType.ID_FQDN, b"my_service-1", "host/my_service-1"),
        ("xn--bcher-kva.example", "fqdn", IdType.ID_FQDN, b"xn--bcher-kva.example", "host/xn--bcher-kva.example"),
        ("192.0.2.1", "address", IdType.ID_IPV4_ADDR, b"\xc0\0\x02\x01", "192.0.2.1"),
        ("2001:DB8::1", "address", IdType.ID_IPV6_ADDR, b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01", "2001:db8::1"),
        ("::ffff:192.0.2.1", "address", IdType.ID_IPV4_ADDR, b"\xc0\0\x02\x01", "192.0.2.1"),
        (
            "spiffe://td.example/db",
            "uri",
            IdType.ID_DER_ASN1_GN,
            b"\x86\x16spiffe://td.example/db",
            "spiffe://td.example/db",
        ),
        ("https://db.example/x", "uri", IdType.ID_DER_ASN1_GN, b"\x86\x14https://db.example/x", "https://db.example/x"),
        ("alice@EXAMPLE.ORG", "user", IdType.ID_RFC822_ADDR, b"alice@example.org", "alice@example.org"),
        ("a+b.c@REALM", "user", IdType.ID_RFC822_ADDR, b"a+b.c@realm", "a+b.c@realm"),
    ],
)
def test_a_name_is_read_into_its_id_and_shown_as_its_principal(
    text: str, form: str, id_type: int, data: bytes, principal: str
) -> None:
    target = parse_peer_target_name(text)
    assert (target.form, target.ike_id, target.principal) == (form, (id_type, data), principal)
    assert (target.text, str(target)) == (text, text)
    assert parse_peer_target_name(principal).ike_id == target.ike_id


def test_a_pin_has_no_id() -> None:
    target = parse_peer_target_name(PIN)
    assert (target.form, target.ike_id, target.principal) == ("pin", None, PIN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        "host/",
        "host/db.example/x",
        "db example",
        "db.example.",
        "*.example",
        "host/*",
        "-db.example",
        "db-.example",
        "db..example",
        ".example",
        "bücher.example",
        "db.example\n",
        "db.example\0",
        "a" * 64 + ".example",
        ".".join(["a" * 63] * 4),
        "host/192.0.2.1",
        "1.2.3",
        "256.0.0.1",
        "192.0.2.1:7000",
        "[2001:db8::1]",
        "fe80::1%eth0",
        "::1::",
        "Host/db.example",
        "spiffe://",
        "spiffe://TD.example/db",
        "spiffe://td.example/",
        "spiffe://td.example//db",
        "spiffe://td.example/../db",
        "spiffe://td.example/.",
        "spiffe://td.example:1/db",
        "spiffe://td.example/db?x",
        "spiffe://td.example/db#x",
        "spiffe://td.example/" + "a" * 2048,
        "SPIFFE://td.example/db",
        "://db",
        "https://db.example/a b",
        "https://db.example/\x7f",
        "@REALM",
        "alice@",
        "alice@a@b",
        "alice bob@realm",
        "CN=alice@realm",
        "host/alice@realm",
        "sha256:",
        PIN[:-1],
        PIN + "0",
        PIN.upper(),
        PIN.replace("f", "F"),
        PIN.replace("0", "g"),
    ],
)
def test_what_is_no_name_is_misuse_and_is_shown_safely(text: str) -> None:
    with pytest.raises(LocalMisuse) as caught:
        parse_peer_target_name(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("host", "principal"),
    [
        ("db.example", "host/db.example"),
        ("DB.example.", "host/db.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_host_of_an_address_is_the_name_expected(host: str, principal: str) -> None:
    assert expected_name_for_host(host).principal == principal


@pytest.mark.parametrize("host", ["", ".", "db..", "a@b", "*.example", "host/db.example", "https://db.example", PIN])
def test_a_host_that_is_no_name_is_misuse(host: str) -> None:
    with pytest.raises(LocalMisuse):
        expected_name_for_host(host)


@pytest.mark.parametrize("length", [10, 127, 128, 255, 256, 2048])
def test_a_uri_of_any_length_has_one_der_form(length: int) -> None:
    text = "https://" + "a" * (length - 8)
    ike_id = uri_id(text)
    assert principal_name(ike_id) == text
    certificate_name = x509.UniformResourceIdentifier(text)
    encoded = x509.SubjectAlternativeName([certificate_name]).public_bytes()
    assert encoded.endswith(ike_id.data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x86",
        b"\x86\x00",
        b"\x86\x0bhttps://a.",
        b"\x86\x0chttps://a.b",
        b"\x86\x81\x0bhttps://a.b",
        b"\x86\x82\x00\x0bhttps://a.b",
        b"\x86\x80https://a.b\0\0",
        b"\x82\x0bhttps://a.b",
        b"\xa6\x0bhttps://a.b",
        b"\x86\x0bhttps://a.\xff",
    ],
)
def test_a_general_name_that_is_no_uri_in_der_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        canonical_id(IkeId(IdType.ID_DER_ASN1_GN, data))


def test_equal_principals_have_equal_canonical_ids() -> None:
    assert canonical_id(IkeId(IdType.ID_FQDN, b"DB.Example")) == canonical_id(IkeId(IdType.ID_FQDN, b"db.example"))
    assert canonical_id(IkeId(IdType.ID_RFC822_ADDR, b"a@B")) == canonical_id(IkeId(IdType.ID_RFC822_ADDR, b"a@b"))
    assert canonical_id(IkeId(IdType.ID_RFC822_ADDR, b"A@b")) != canonical_id(IkeId(IdType.ID_RFC822_ADDR, b"a@b"))


def test_a_name_of_another_type_is_another_principal() -> None:
    fqdn = parse_peer_target_name("db.example")
    for other in (IkeId(IdType.ID_KEY_ID, b"db.example"), IkeId(IdType.ID_RFC822_ADDR, b"x@db.example")):
        with pytest.raises(AuthenticationFailed):
            check_expected(fqdn, other)


def test_a_distinguished_name_is_shown_as_rfc_4514_text_and_never_with_control_characters() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "db")])
    assert principal_name(IkeId(IdType.ID_DER_ASN1_DN, name.public_bytes())) == "CN=db"
    hostile = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "db\nroot logged in")])
    hostile_id = IkeId(IdType.ID_DER_ASN1_DN, hostile.public_bytes())
    with pytest.raises(WireError):
        principal_name(hostile_id)
    assert describe_id(hostile_id).isprintable()


def test_a_distinguished_name_without_end_is_refused() -> None:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 64)] * 20
    with pytest.raises(WireError, match="longer than any in use"):
        principal_name(IkeId(IdType.ID_DER_ASN1_DN, x509.Name(attributes).public_bytes()))


def test_an_id_is_described_whatever_it_holds() -> None:
    assert describe_id(IkeId(IdType.ID_FQDN, b"db.example")) == "host/db.example"
    for id_type in (*IdType, 0, 255):
        assert describe_id(IkeId(int(id_type), b"\xff\0")).isprintable()


def test_mailboxes_are_users_and_everything_else_is_a_machine() -> None:
    for text in ("db.example", "192.0.2.1", "spiffe://td.example/db"):
        ike_id = parse_peer_target_name(text).ike_id
        assert ike_id is not None
        assert principal_kind(ike_id) == "machine"
    assert principal_kind(IkeId(IdType.ID_RFC822_ADDR, b"alice@example.org")) == "user"


def test_nobody_satisfies_a_name_without_having_one() -> None:
    anonymous = IkeId(IdType.ID_NULL, b"")
    for expected in (ANY_TRUSTED_PEER, parse_peer_target_name("db.example"), parse_peer_target_name(PIN)):
        with pytest.raises(AuthenticationFailed):
            check_expected(expected, anonymous)


def test_an_id_never_satisfies_a_pin() -> None:
    with pytest.raises(AuthenticationFailed):
        check_expected(parse_peer_target_name(PIN), IkeId(IdType.ID_FQDN, b"db.example"))


def test_text_of_unknown_origin_is_made_printable_and_short() -> None:
    assert printable("db\x1b[2J\n\u202e") == "db\\x1b[2J\\n\\u202e"
    assert printable("a" * 300) == "a" * 200 + "..."
