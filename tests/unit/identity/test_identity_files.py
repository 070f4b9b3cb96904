"""An identity made from files and bytes: what is taken, and what is said of what is not."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ed448, ed25519, x25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from securesock.errors import AuthenticationFailed, LocalMisuse
from securesock.identity.identity import Identity
from securesock.identity.names import IkeId, parse_peer_target_name
from securesock.secret import Secret
from securesock.types import ANY_TRUSTED_PEER, Principal
from securesock.wire.id_types import IdType
from tests.unit.identity.mill import NOW, Holder, Order, dns, ec_key, make, make_authority, rsa_key, subject

PASSWORD = "correct horse"


def identity_of(holder: Holder, *trust: Holder, chain: bytes = b"") -> Identity:
    return Identity.from_pem(holder.pem + chain, holder.key_pem, trust=[each.pem for each in trust])


def test_paths_bytes_text_and_der_are_all_taken(tmp_path: Path) -> None:
    root = make_authority()
    holder = make(Order(names=dns("a.example")), root)
    (tmp_path / "host.pem").write_bytes(holder.pem)
    (tmp_path / "host.key").write_bytes(holder.key_pem)
    (tmp_path / "ca.pem").write_bytes(root.pem)
    key_der = holder.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    made = [
        Identity.from_pem(
            certificate=tmp_path / "host.pem", private_key=tmp_path / "host.key", trust=[tmp_path / "ca.pem"]
        ),
        Identity.from_pem(str(tmp_path / "host.pem"), str(tmp_path / "host.key"), trust=str(tmp_path / "ca.pem")),
        Identity.from_pem(holder.pem, holder.key_pem, trust=root.pem),
        Identity.from_pem(holder.pem.decode(), holder.key_pem.decode(), trust=[root.pem.decode()]),
        Identity.from_pem(holder.der, key_der, trust=[root.der]),
    ]
    for identity in made:
        assert identity.method == "x509"
        assert identity.certificate_chain == (holder.der,)
        assert identity.trust.certificates == (root.certificate,)
        assert identity.private_key.public_key() == holder.key.public_key()
        assert identity.authority is None


def test_intermediates_are_shown_after_the_leaf() -> None:
    root = make_authority("root")
    lower = make_authority("lower", issuer=root)
    ours = identity_of(make(Order(names=dns("a.example")), lower), root, chain=lower.pem)
    assert ours.certificate_chain[1:] == (lower.der,)
    assert ours.validate_certificate(ours.our_id(), ours.certificate_chain, NOW, None)


def test_a_folder_of_authorities_is_trusted(tmp_path: Path) -> None:
    authorities = [make_authority(f"number {each}") for each in range(3)]
    for name, each in zip(("a.pem", "b.crt", "c.cer"), authorities, strict=True):
        (tmp_path / name).write_bytes(each.pem)
    (tmp_path / "notes.txt").write_text("not a certificate")
    holder = make(Order(names=dns("a.example")))
    identity = Identity.from_pem(holder.pem, holder.key_pem, trust=[tmp_path, authorities[0].pem])
    assert identity.trust.certificates == tuple(each.certificate for each in authorities)


def test_a_request_for_certificates_names_every_anchor_by_the_sha1_of_its_key() -> None:
    anchors = [make_authority("one"), make_authority("two")]
    spki = [
        each.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for each in anchors
    ]
    identity = identity_of(make(Order(names=dns("a.example"))), *anchors)
    assert identity.certificate_authorities == b"".join(hashlib.sha1(each).digest() for each in spki)


@pytest.mark.parametrize("password", [PASSWORD, PASSWORD.encode(), bytearray(PASSWORD.encode()), Secret(PASSWORD)])
def test_an_encrypted_key_opens_with_its_password(password: str | bytes | bytearray | Secret) -> None:
    holder = make(Order(names=dns("a.example")))
    encrypted = _encrypted(holder)
    assert Identity.from_pem(holder.pem, encrypted, trust=[], password=password).names[0] == "host/a.example"


def _encrypted(holder: Holder) -> bytes:
    return holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode()))


@pytest.mark.parametrize(
    ("password", "said"), [("wrong", "the password is not its own"), (None, "is encrypted: give its password")]
)
def test_a_wrong_or_missing_password_is_misuse_without_showing_it(password: str | None, said: str) -> None:
    holder = make(Order(names=dns("a.example")))
    with pytest.raises(LocalMisuse, match=said) as caught:
        Identity.from_pem(holder.pem, _encrypted(holder), trust=[], password=password)
    assert "wrong" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_password_for_a_key_that_has_none_is_misuse() -> None:
    holder = make(Order(names=dns("a.example")))
    with pytest.raises(LocalMisuse, match="leave the password out"):
        Identity.from_pem(holder.pem, holder.key_pem, trust=[], password=PASSWORD)


def test_a_key_of_another_certificate_is_misuse() -> None:
    root = make_authority()
    holder, other = (make(Order(names=dns("a.example")), root) for _ in range(2))
    with pytest.raises(LocalMisuse, match="not the certificate's"):
        Identity.from_pem(holder.pem, other.key_pem, trust=[root.pem])
    with pytest.raises(LocalMisuse, match="the leaf certificate comes first"):
        Identity.from_pem(root.pem + holder.pem, holder.key_pem, trust=[root.pem])


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\njunk\n-----END CERTIFICATE-----\n"])
def test_a_file_without_a_certificate_or_key_is_misuse_that_names_it(tmp_path: Path, content: bytes) -> None:
    holder = make(Order(names=dns("a.example")))
    path = tmp_path / "some.pem"
    path.write_bytes(content)
    for certificate, key, trust in (
        (path, holder.key_pem, [holder.pem]),
        (holder.pem, path, [holder.pem]),
        (holder.pem, holder.key_pem, [path]),
    ):
        with pytest.raises(LocalMisuse, match=r"some\.pem holds no"):
            Identity.from_pem(certificate, key, trust=trust)


def test_what_is_neither_a_path_nor_bytes_is_misuse() -> None:
    holder = make(Order(names=dns("a.example")))
    for certificate, key, trust in (
        (None, holder.key_pem, []),
        (holder.pem, holder.key, []),
        (holder.pem, holder.key_pem, [holder.certificate]),
    ):
        with pytest.raises(LocalMisuse, match="as paths or as bytes"):
            Identity.from_pem(certificate, key, trust=trust)


def test_a_message_never_holds_what_was_given() -> None:
    holder, other = make(Order(names=dns("a.example"))), make(Order(names=dns("a.example")))
    bundle = (holder.key_pem + other.pem).decode()
    with pytest.raises(LocalMisuse) as caught:
        Identity.from_pem(bundle, holder.key_pem, trust=[])
    assert "BEGIN" not in str(caught.value)


def test_a_missing_file_is_the_systems_own_error(tmp_path: Path) -> None:
    holder = make(Order(names=dns("a.example")))
    with pytest.raises(FileNotFoundError, match=r"absent\.pem"):
        Identity.from_pem(holder.pem, holder.key_pem, trust=[tmp_path / "absent.pem"])


@pytest.mark.parametrize(
    "key",
    [x25519.X25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate(), dsa.generate_private_key(1024)],
    ids=str,
)
def test_a_key_that_cannot_sign_for_ike_is_misuse(key: PrivateKeyTypes) -> None:
    holder = make(Order(names=dns("a.example")))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(LocalMisuse, match="cannot sign for IKE"):
        Identity.from_pem(holder.pem, pem, trust=[])


def test_a_certificate_that_no_peer_would_take_is_misuse_here() -> None:
    weak = make(Order(names=dns("a.example"), key=rsa_key(1024)))
    with pytest.raises(LocalMisuse, match="1024 bits"):
        identity_of(weak)
    usage = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
    other_use = make(Order(names=dns("a.example"), extensions=[usage]))
    with pytest.raises(LocalMisuse, match="extended key usage"):
        identity_of(other_use)
    nameless = make(Order(name=x509.Name([])), make_authority())
    with pytest.raises(LocalMisuse, match="names nobody"):
        identity_of(nameless)
    with pytest.raises(LocalMisuse, match="1024 bits"):
        identity_of(make(Order(names=dns("a.example"))), make_authority(key=rsa_key(1024)))


def test_our_id_is_the_one_asked_for_if_it_is_ours_and_else_the_first() -> None:
    name = subject(cn="a", o="Example")
    ours = identity_of(make(Order(name=name, names=dns("a.example", "B.example"))))
    first = IkeId(IdType.ID_FQDN, b"a.example")
    assert ours.our_id() == first
    assert ours.our_id(IkeId(IdType.ID_FQDN, b"b.EXAMPLE")) == (IdType.ID_FQDN, b"b.example")
    assert ours.our_id(IkeId(IdType.ID_DER_ASN1_DN, name.public_bytes())).id_type == IdType.ID_DER_ASN1_DN
    for other in (IkeId(IdType.ID_FQDN, b"c.example"), IkeId(IdType.ID_NULL, b""), IkeId(IdType.ID_FQDN, b"\xff")):
        assert ours.our_id(other) == first
    assert ours.names == ("host/a.example", "host/b.example", "CN=a,O=Example")
    assert ours.our_principal.name == "host/a.example"
    assert ours.our_principal.evidence == ours.fingerprint


def test_an_identity_is_frozen_not_pickled_and_its_copy_is_itself() -> None:
    ours = Identity.ephemeral("a.example")
    for name in ("authority", "_trust", "anything"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(ours, name, None)
    for each in (ours, ours.authority):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(each)
    assert copy.copy(ours) is ours
    assert copy.deepcopy([ours])[0] is ours


def test_nothing_that_is_shown_of_an_identity_is_secret() -> None:
    secret = b"a secret of enough bytes"
    shared = Identity.from_psk("a.example", {"b.example": secret})
    certified = Identity.ephemeral("a.example")
    key = certified.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for each in (shared, shared._credential, certified, certified._credential, certified.authority, certified.trust):
        for shown in (repr(each), str(each), f"{each}"):
            assert "secret of enough" not in shown
            assert key.decode().splitlines()[1] not in shown
    assert "host/a.example" in repr(shared)
    assert "host/b.example" in repr(shared._credential)
    assert str(certified.fingerprint) in repr(certified)


def test_threads_share_an_identity() -> None:
    root = make_authority(key=ed25519.Ed25519PrivateKey.generate())  # the slower of the two ways to validate
    good, bad = make(Order(names=dns("b.example")), root), make(Order(names=dns("b.example")))
    ours = identity_of(make(Order(names=dns("a.example"))), root, make_authority("another"))
    b = parse_peer_target_name("b.example")
    assert b.ike_id is not None
    peer_id = b.ike_id
    results: list[str] = []

    def judge(shown: Holder, late: bool) -> None:
        at = shown.certificate.not_valid_after_utc if late else NOW
        for _ in range(50):
            try:
                results.append(ours.validate_certificate(peer_id, [shown.der], at, b).principal.name)
            except AuthenticationFailed as error:
                results.append(error.reason)

    threads = [threading.Thread(target=judge, args=(each, late)) for each in (good, bad) for late in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("host/b.example") == 100
    assert results.count("other-authority") == 100


# --- pre-shared keys


def test_a_shared_secret_belongs_to_one_peer_under_every_spelling_of_its_name() -> None:
    ours = Identity.from_psk(
        name="host/A.example",
        peers={"B.example": b"b" * 16, "192.0.2.1": "c" * 16, "alice@REALM": bytearray(b"d" * 16)},
    )
    assert ours.method == "psk"
    assert ours.our_id() == (IdType.ID_FQDN, b"a.example")
    assert ours.our_id(IkeId(IdType.ID_FQDN, b"other")) == ours.our_id()
    assert ours.certificate_chain == ()
    assert ours.certificate_authorities == b""
    found = {
        IkeId(IdType.ID_FQDN, b"b.EXAMPLE"): b"b" * 16,
        IkeId(IdType.ID_IPV4_ADDR, b"\xc0\0\x02\x01"): b"c" * 16,
        IkeId(IdType.ID_RFC822_ADDR, b"alice@realm"): b"d" * 16,
    }
    for peer_id, secret in found.items():
        held = ours.secret_for(peer_id)
        assert held is not None
        assert held.matches(secret)
    for nobody in (
        IkeId(IdType.ID_FQDN, b"a.example"),
        IkeId(IdType.ID_FQDN, b"x.b.example"),
        IkeId(IdType.ID_FQDN, b""),
        IkeId(IdType.ID_KEY_ID, b"b.example"),
        IkeId(IdType.ID_RFC822_ADDR, b"Alice@realm"),
        IkeId(IdType.ID_NULL, b""),
    ):
        assert ours.secret_for(nobody) is None
    with pytest.raises(LocalMisuse, match="no private key"):
        _ = ours.private_key


def test_the_principal_of_a_shared_secret_is_held_against_the_expected_name() -> None:
    ours = Identity.from_psk("a.example", {"b.example": b"b" * 16, "alice@realm": b"c" * 16})
    b, alice = IkeId(IdType.ID_FQDN, b"B.example"), IkeId(IdType.ID_RFC822_ADDR, b"alice@realm")
    principal = ours.shared_key_principal(b, parse_peer_target_name("b.example"))
    assert (principal.name, principal.kind, principal.method, principal.evidence) == (
        "host/b.example",
        "machine",
        "psk",
        "",
    )
    assert ours.shared_key_principal(b, ANY_TRUSTED_PEER) == ours.shared_key_principal(b, None) == principal
    assert ours.shared_key_principal(alice, None).kind == "user"
    for peer_id, expected in ((b, parse_peer_target_name("c.example")), (alice, ANY_TRUSTED_PEER)):
        with pytest.raises(AuthenticationFailed):
            ours.shared_key_principal(peer_id, expected)


@pytest.mark.parametrize(
    ("name", "peers", "said"),
    [
        ("a.example", {"b.example": b"x" * 15}, "15 bytes"),
        ("a.example", {"b.example": b""}, "0 bytes"),
        ("a.example", {"b.example": 32}, "bytes or text, not int"),
        ("a.example", {"b.example": None}, "bytes or text, not NoneType"),
        ("a.example", {"A.example": b"x" * 16}, "our own name"),
        ("a.example", {"": b"x" * 16}, "not empty"),
        ("", {"b.example": b"x" * 16}, "not empty"),
        ("a.example", {"*": b"x" * 16}, "no peer target name"),
        ("a.example", {"b.example": b"x" * 16, "host/b.example": b"y" * 16}, "two spellings"),
        ("a.example", {"sha256:" + "0" * 64: b"x" * 16}, "pinned key"),
    ],
)
def test_wrong_use_of_shared_secrets_is_misuse(name: str, peers: dict[str, object], said: str) -> None:
    with pytest.raises(LocalMisuse, match=said) as caught:
        Identity.from_psk(name=name, peers=peers)
    assert "xxx" not in str(caught.value)


# --- ephemeral


def test_an_ephemeral_identity_can_have_several_names_and_further_authorities() -> None:
    other = Identity.ephemeral("host/b.example")
    assert other.authority is not None
    ours = Identity.ephemeral(["host/a.example", "192.0.2.1", "spiffe://td.example/a"], trust=[other.authority])
    assert ours.names[:3] == ("host/a.example", "192.0.2.1", "spiffe://td.example/a")
    assert ours.validate_certificate(other.our_id(), other.certificate_chain, NOW, ANY_TRUSTED_PEER)
    with pytest.raises(AuthenticationFailed):
        other.validate_certificate(ours.our_id(), ours.certificate_chain, NOW, ANY_TRUSTED_PEER)


def test_an_ephemeral_authority_can_be_handed_on_as_pem(tmp_path: Path) -> None:
    ours = Identity.ephemeral("host/a.example")
    assert ours.authority is not None
    (tmp_path / "ca.pem").write_bytes(ours.authority.pem)
    other = Identity.ephemeral("host/b.example", trust=[os.fspath(tmp_path / "ca.pem")])
    assert other.validate_certificate(ours.our_id(), ours.certificate_chain, NOW, None)


@pytest.mark.parametrize("name", ["", "host/", "sha256:" + "0" * 64, "*.example", []])
def test_an_ephemeral_identity_needs_a_name(name: str | list[str]) -> None:
    with pytest.raises(LocalMisuse):
        Identity.ephemeral(name)


def test_keys_differ_between_identities() -> None:
    pins = {Identity.ephemeral("a.example").pin for _ in range(3)}
    assert len(pins) == 3
    assert ec_key().public_key() != ec_key().public_key()


# --- anonymous


def test_an_anonymous_identity_has_nothing_to_show_and_still_judges_others() -> None:
    peer = Identity.ephemeral("host/b.example")
    assert peer.authority is not None
    nobody = Identity.anonymous(trust=[peer.authority])
    assert (nobody.method, nobody.names, nobody.our_id()) == ("anonymous", ("anonymous",), IkeId(IdType.ID_NULL, b""))
    assert nobody.our_id(IkeId(IdType.ID_FQDN, b"b.example")) == nobody.our_id()
    assert nobody.our_principal == Principal("anonymous", "machine", "anonymous")
    assert (nobody.certificate_chain, nobody.pin, nobody.fingerprint, nobody.certificate) == ((), None, None, None)
    assert "anonymous" in repr(nobody)
    assert nobody.validate_certificate(peer.our_id(), peer.certificate_chain, NOW, ANY_TRUSTED_PEER)
    with pytest.raises(LocalMisuse, match="no private key"):
        _ = nobody.private_key
