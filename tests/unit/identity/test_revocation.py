"""Revocation lists: obeyed when they are there, demanded when told so, and never fetched."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from securesock.errors import AuthenticationFailed, LocalMisuse
from securesock.identity.files import CrlSources
from securesock.identity.identity import Identity
from securesock.identity.names import parse_peer_target_name
from tests.unit.identity.mill import (
    DAY,
    NOW,
    Extension,
    Holder,
    Order,
    crl_pem,
    dns,
    ec_key,
    key_usage,
    make,
    make_authority,
    make_crl,
)

B = parse_peer_target_name("b.example")


def judge(root: Holder | Path, shown: list[Holder], crl: CrlSources = (), *, at: datetime = NOW) -> str:
    """The principal's name, or the reason of the refusal."""
    ours = make(Order(names=dns("a.example")))
    trust = root if isinstance(root, Path) else root.pem
    identity = Identity.from_pem(ours.pem, ours.key_pem, trust=[trust], crl=crl)
    assert B.ike_id is not None
    try:
        return identity.validate_certificate(B.ike_id, [each.der for each in shown], at, B).principal.name
    except AuthenticationFailed as error:
        return error.reason


def leaf_of(issuer: Holder) -> Holder:
    return make(Order(names=dns("b.example")), issuer)


def test_a_revoked_certificate_is_refused_and_others_are_not() -> None:
    root = make_authority()
    good, bad = leaf_of(root), leaf_of(root)
    crl = crl_pem(make_crl(root, bad.certificate.serial_number))
    assert judge(root, [good], [crl]) == "host/b.example"
    assert judge(root, [bad], [crl]) == "revoked"
    assert judge(root, [bad]) == "host/b.example"


def test_the_message_names_the_certificate_and_the_list(tmp_path: Path) -> None:
    root = make_authority()
    leaf = leaf_of(root)
    path = tmp_path / "list.crl"
    path.write_bytes(crl_pem(make_crl(root, leaf.certificate.serial_number)))
    identity = Identity.from_pem(leaf.pem, leaf.key_pem, trust=[root.pem], crl=[path])
    with pytest.raises(AuthenticationFailed, match=r"CN=machine.*revoked.*list\.crl"):
        identity.validate_certificate(identity.our_id(), [leaf.der], NOW, None)


def test_a_revoked_intermediate_ends_every_path_through_it() -> None:
    root = make_authority("root")
    lower = make_authority("lower", issuer=root)
    crl = crl_pem(make_crl(root, lower.certificate.serial_number))
    assert judge(root, [leaf_of(lower), lower], [crl]) == "revoked"
    assert judge(root, [leaf_of(root)], [crl]) == "host/b.example"


def test_the_list_of_an_intermediate_is_obeyed_once_its_path_is_known() -> None:
    root = make_authority("root")
    lower = make_authority("lower", issuer=root)
    good, bad = leaf_of(lower), leaf_of(lower)
    crl = crl_pem(make_crl(lower, bad.certificate.serial_number))
    assert judge(root, [good, lower], [crl]) == "host/b.example"
    assert judge(root, [bad, lower], [crl]) == "revoked"


def test_a_list_that_an_impostor_signed_for_an_intermediate_is_not_believed() -> None:
    root = make_authority("root")
    lower = make_authority("lower", issuer=root)
    leaf = leaf_of(lower)
    crl = crl_pem(make_crl(lower, leaf.certificate.serial_number, key=ec_key()))
    assert judge(root, [leaf, lower], [crl]) == "host/b.example"
    assert judge(root, [leaf, lower], ["require", crl]) == "revocation-unknown"


def test_a_list_in_the_name_of_an_anchor_that_it_did_not_sign_is_misuse() -> None:
    root = make_authority()
    crl = crl_pem(make_crl(root, 7, key=ec_key()))
    with pytest.raises(LocalMisuse, match="no trusted key of that name signed it"):
        judge(root, [leaf_of(root)], [crl])


def test_an_old_list_still_revokes() -> None:
    root = make_authority()
    leaf = leaf_of(root)
    crl = crl_pem(make_crl(root, leaf.certificate.serial_number, at=NOW - 9 * DAY, until=NOW - 8 * DAY))
    assert judge(root, [leaf], [crl]) == "revoked"
    assert judge(root, [leaf_of(root)], [crl]) == "host/b.example"


def test_require_refuses_without_a_current_list() -> None:
    root = make_authority()
    leaf = leaf_of(root)
    current = crl_pem(make_crl(root, 7))
    stale = crl_pem(make_crl(root, 7, at=NOW - 9 * DAY, until=NOW - 8 * DAY))
    future = crl_pem(make_crl(root, 7, at=NOW + DAY, until=NOW + 2 * DAY))
    others = crl_pem(make_crl(make_authority("somebody else"), 7))
    assert judge(root, [leaf], "require") == "revocation-unknown"
    for crl in (stale, future, others):
        assert judge(root, [leaf], ["require", crl]) == "revocation-unknown"
    assert judge(root, [leaf], ["require", current]) == "host/b.example"
    assert judge(root, [leaf], [stale, current, "require"]) == "host/b.example"
    assert judge(root, [leaf], ["require", current], at=NOW + DAY) == "host/b.example"
    assert judge(root, [leaf], ["require", current], at=NOW + DAY + timedelta(seconds=1)) == "revocation-unknown"


def test_require_asks_for_a_list_of_every_issuer_on_the_path() -> None:
    root = make_authority("root")
    lower = make_authority("lower", issuer=root)
    shown = [leaf_of(lower), lower]
    of_root, of_lower = crl_pem(make_crl(root, 7)), crl_pem(make_crl(lower, 7))
    assert judge(root, shown, ["require", of_root]) == "revocation-unknown"
    assert judge(root, shown, ["require", of_lower]) == "revocation-unknown"
    assert judge(root, shown, ["require", of_root, of_lower]) == "host/b.example"


def test_a_list_for_authorities_alone_does_not_speak_of_machines() -> None:
    root = make_authority()
    leaf = leaf_of(root)
    scope = _scope(only_contains_ca_certs=True)
    crl = crl_pem(make_crl(root, leaf.certificate.serial_number, extra=[scope]))
    assert judge(root, [leaf], [crl]) == "host/b.example"
    assert judge(root, [leaf], [crl, "require"]) == "revocation-unknown"
    machines = crl_pem(make_crl(root, leaf.certificate.serial_number, extra=[_scope(only_contains_user_certs=True)]))
    assert judge(root, [leaf], [machines]) == "revoked"


@pytest.mark.parametrize(
    "extension",
    [
        (x509.DeltaCRLIndicator(1), True),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True),
    ],
    ids=["delta", "unknown"],
)
def test_a_partial_list_is_misuse(extension: Extension) -> None:
    root = make_authority()
    with pytest.raises(LocalMisuse, match="only complete revocation lists"):
        judge(root, [leaf_of(root)], [crl_pem(make_crl(root, 7, extra=[extension]))])


@pytest.mark.parametrize("how", ["indirect_crl", "only_contains_attribute_certs", "only_some_reasons"])
def test_a_list_with_a_partial_scope_is_misuse(how: str) -> None:
    root = make_authority()
    value = frozenset([x509.ReasonFlags.key_compromise]) if how == "only_some_reasons" else True
    with pytest.raises(LocalMisuse, match="only complete revocation lists"):
        judge(root, [leaf_of(root)], [crl_pem(make_crl(root, 7, extra=[_scope(**{how: value})]))])


def test_a_key_that_may_not_sign_lists_signs_none() -> None:
    root = make_authority(extensions=[(x509.BasicConstraints(True, None), True), (key_usage("key_cert_sign"), True)])
    leaf = leaf_of(root)
    with pytest.raises(LocalMisuse, match="no trusted key of that name signed it"):
        judge(root, [leaf], [crl_pem(make_crl(root, leaf.certificate.serial_number))])


def test_lists_of_ed25519_authorities_are_obeyed() -> None:
    root = make_authority(key=ed25519.Ed25519PrivateKey.generate())
    leaf = leaf_of(root)
    assert judge(root, [leaf], [crl_pem(make_crl(root, leaf.certificate.serial_number))]) == "revoked"


@pytest.mark.parametrize("name", ["ca.crl", "ca.pem.crl", "another name.crl"])
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_the_list_beside_a_trust_file_is_obeyed(tmp_path: Path, name: str, encoding: Encoding) -> None:
    root = make_authority()
    leaf = leaf_of(root)
    (tmp_path / "ca.pem").write_bytes(root.pem)
    assert judge(tmp_path / "ca.pem", [leaf]) == "host/b.example"
    (tmp_path / name).write_bytes(make_crl(root, leaf.certificate.serial_number).public_bytes(encoding))
    assert judge(tmp_path / "ca.pem", [leaf]) == "revoked"
    assert judge(tmp_path, [leaf]) == "revoked"


def test_every_list_in_one_file_is_obeyed(tmp_path: Path) -> None:
    one, two = make_authority("one"), make_authority("two")
    leaf = leaf_of(two)
    (tmp_path / "both.pem").write_bytes(one.pem + two.pem)
    lists = (
        crl_pem(make_crl(one, 7)) + b"a comment between them\n" + crl_pem(make_crl(two, leaf.certificate.serial_number))
    )
    (tmp_path / "both.crl").write_bytes(lists)
    assert judge(tmp_path / "both.pem", [leaf]) == "revoked"


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN X509 CRL-----\njunk\n-----END X509 CRL-----\n"])
def test_a_list_that_cannot_be_read_is_misuse_and_not_passed_over(tmp_path: Path, content: bytes) -> None:
    root = make_authority()
    (tmp_path / "ca.pem").write_bytes(root.pem)
    (tmp_path / "ca.crl").write_bytes(content)
    with pytest.raises(LocalMisuse, match=r"ca\.crl holds no revocation list"):
        judge(tmp_path / "ca.pem", [leaf_of(root)])


def test_nothing_is_fetched_because_a_peer_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_arguments: object, **_keywords: object) -> None:
        raise AssertionError("something was fetched")

    for name in ("connect", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    url = x509.UniformResourceIdentifier("http://192.0.2.1/list.crl")
    points = x509.CRLDistributionPoints([x509.DistributionPoint([url], None, None, None)])
    access = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(x509.AuthorityInformationAccessOID.OCSP, url),
            x509.AccessDescription(x509.AuthorityInformationAccessOID.CA_ISSUERS, url),
        ]
    )
    root = make_authority("root")
    lower = make_authority("lower", issuer=root)
    for issuer in (root, lower):
        asking = make(Order(names=dns("b.example"), extensions=[(points, False), (access, False)]), issuer)
        expected = "host/b.example" if issuer is root else "other-authority"
        assert judge(root, [asking]) == expected


def _scope(**how: object) -> Extension:
    fields: dict[str, object] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return (x509.IssuingDistributionPoint(**{**fields, **how}), True)
