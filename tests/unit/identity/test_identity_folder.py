"""A private authority in a folder: what it makes, what it refuses, and what is left when something fails."""

from __future__ import annotations

import os
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from securesock.errors import AuthenticationFailed, LocalMisuse
from securesock.identity import folder as folder_module
from securesock.identity.folder import IdentityFolder, TrustedAuthority, TrustedList, folder_name
from securesock.identity.identity import Identity
from tests.unit.identity.mill import DAY, NOW, Order, crl_pem, dns, make, make_authority, make_crl


@pytest.fixture
def home(tmp_path: Path) -> IdentityFolder:
    folder = IdentityFolder(tmp_path / "home")
    folder.init(["host/a.example", "192.0.2.1"], "the authority", NOW)
    return folder


def judge(ours: Identity, peer: Identity, at: datetime = NOW) -> str:
    try:
        return ours.validate_certificate(peer.our_id(), peer.certificate_chain, at, None).principal.name
    except AuthenticationFailed as error:
        return error.reason


def modes(path: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.iterdir()}


def test_init_makes_an_identity_that_loads_and_keys_that_nobody_else_reads(home: IdentityFolder) -> None:
    identity = home.load()
    assert identity.names[:2] == ("host/a.example", "192.0.2.1")
    expected = "authority.crl authority.key authority.pem config.toml issued machine.key machine.pem trusted"
    assert sorted(modes(home.path)) == expected.split()
    assert modes(home.path)["machine.key"] == modes(home.path)["authority.key"] == 0o600
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert judge(identity, identity) == "host/a.example"


def test_keys_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        IdentityFolder(tmp_path / "home").init(["a.example"], "the authority", NOW)
    finally:
        os.umask(before)
    assert modes(tmp_path / "home")["machine.key"] == 0o600


def test_validity_is_ten_years_for_the_authority_and_days_for_a_machine(home: IdentityFolder) -> None:
    identity = home.load()
    authority, own = identity.trust.certificates[0], identity.certificate
    assert own is not None
    assert authority.not_valid_after_utc == NOW + 3650 * DAY
    assert own.not_valid_after_utc == NOW + 730 * DAY
    assert own.not_valid_before_utc == NOW - timedelta(hours=1)


def test_init_never_replaces_keys(home: IdentityFolder) -> None:
    before = {path: path.read_bytes() for path in home.path.iterdir() if path.is_file()}
    with pytest.raises(LocalMisuse, match=r"already holds.*never replaced"):
        home.init(["b.example"], "another", NOW)
    assert {path: path.read_bytes() for path in home.path.iterdir() if path.is_file()} == before


def test_a_name_that_is_none_leaves_nothing_behind(tmp_path: Path) -> None:
    for names in (["*.example"], [], ["sha256:" + "0" * 64]):
        with pytest.raises(LocalMisuse):
            IdentityFolder(tmp_path / "home").init(names, "the authority", NOW)
    with pytest.raises(LocalMisuse, match="authority's name"):
        IdentityFolder(tmp_path / "home").init(["a.example"], "x" * 65, NOW)
    assert not (tmp_path / "home").exists()


def test_an_interrupted_init_leaves_no_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    home = IdentityFolder(tmp_path / "home")
    with pytest.raises(OSError, match="No space"):
        home.init(["a.example"], "the authority", NOW)
    assert not (home.path / "config.toml").exists()
    assert not [path for path in home.path.iterdir() if path.name.startswith(".")]


def test_an_issued_folder_is_another_machines_identity(home: IdentityFolder, tmp_path: Path) -> None:
    bundle = home.issue(["host/b.example"], tmp_path / "b", NOW, days=30)
    assert bundle.names == ("host/b.example",)
    assert bundle.not_after == NOW + 30 * DAY
    assert modes(tmp_path / "b")["machine.key"] == 0o600
    assert "authority.key" not in modes(tmp_path / "b")
    ours, theirs = home.load(), IdentityFolder(tmp_path / "b").load()
    assert (theirs.pin, theirs.fingerprint) == (bundle.pin, bundle.fingerprint)
    assert judge(ours, theirs) == "host/b.example"
    assert judge(theirs, ours) == "host/a.example"
    assert [each.serial_number for each in home.issued()].count(bundle.serial) == 1


def test_issue_never_writes_into_a_folder_that_exists(home: IdentityFolder, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(LocalMisuse, match="--out"):
        home.issue(["b.example"], tmp_path / "b", NOW)
    assert list((tmp_path / "b").iterdir()) == []


def test_only_where_the_authority_lives_can_it_issue_and_revoke(home: IdentityFolder, tmp_path: Path) -> None:
    home.issue(["b.example"], tmp_path / "b", NOW)
    other = IdentityFolder(tmp_path / "b")
    with pytest.raises(LocalMisuse, match="no authority lives"):
        other.issue(["c.example"], tmp_path / "c", NOW)
    with pytest.raises(LocalMisuse, match="no authority lives"):
        other.revoke("b.example", NOW)


@pytest.mark.parametrize(
    ("permitted", "good", "bad"),
    [
        (["example"], ["a.example", "example", "spiffe://td.example/x", "alice@b.example"], ["a.other", "192.0.2.1"]),
        (
            ["192.0.2.0/24"],
            ["192.0.2.1"],
            ["198.51.100.1", "2001:db8::1", "a.example", "alice@example", "spiffe://a/b"],
        ),
        (["2001:db8::/32", "example"], ["2001:db8::1", "a.example"], ["192.0.2.1", "2001:db9::1", "spiffe://other/b"]),
    ],
)
def test_a_limited_authority_issues_only_what_others_will_take(
    tmp_path: Path, permitted: list[str], good: list[str], bad: list[str]
) -> None:
    home = IdentityFolder(tmp_path / "home")
    home.init(good, "the authority", NOW, permitted=permitted)
    assert judge(home.load(), home.load())
    for name in bad:
        with pytest.raises(LocalMisuse, match="may not vouch for"):
            home.issue([name], tmp_path / "bad", NOW)
        with pytest.raises(LocalMisuse, match="may not vouch for"):
            home.issue([good[0], name], tmp_path / "bad", NOW)
        assert not (tmp_path / "bad").exists()


def test_an_expired_authority_issues_nothing(home: IdentityFolder, tmp_path: Path) -> None:
    with pytest.raises(LocalMisuse, match="expired"):
        home.issue(["b.example"], tmp_path / "b", NOW + 3651 * DAY)


def test_a_revoked_name_is_refused_here_at_once_and_elsewhere_once_the_list_is_there(
    home: IdentityFolder, tmp_path: Path
) -> None:
    for name in ("b", "c"):
        home.issue([f"{name}.example"], tmp_path / name, NOW)
    b, c = (IdentityFolder(tmp_path / name) for name in ("b", "c"))
    revoked = home.revoke("b.example", NOW + DAY)
    assert [folder_module.names_of(each) for each in revoked] == [("host/b.example",)]
    assert judge(home.load(), b.load()) == "revoked"
    assert judge(c.load(), b.load()) == "host/b.example"
    (taken,) = c.trust(home.path / "authority.crl")
    assert isinstance(taken, TrustedList)
    assert (taken.issuer, taken.revoked) == ("CN=the authority", 1)
    assert judge(c.load(), b.load()) == "revoked"
    assert judge(c.load(), home.load()) == "host/a.example"


def test_revocations_add_up_and_the_list_counts_on(home: IdentityFolder, tmp_path: Path) -> None:
    bundles = [home.issue([f"{name}.example"], tmp_path / name, NOW) for name in "bcd"]
    home.revoke("host/b.example", NOW + DAY)
    home.revoke(f"{bundles[1].serial:X}", NOW + 2 * DAY)
    home.revoke(None, NOW + 3 * DAY, days=7)
    crl = x509.load_pem_x509_crl((home.path / "authority.crl").read_bytes())
    assert {each.serial_number: each.revocation_date_utc for each in crl} == {
        bundles[0].serial: NOW + DAY,
        bundles[1].serial: NOW + 2 * DAY,
    }
    assert crl.next_update_utc == NOW + 10 * DAY
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 4


def test_every_certificate_of_a_name_is_revoked(home: IdentityFolder, tmp_path: Path) -> None:
    serials = {home.issue(["b.example"], tmp_path / each, NOW).serial for each in ("one", "two")}
    assert {each.serial_number for each in home.revoke("B.example", NOW)} == serials


@pytest.mark.parametrize("wanted", ["c.example", "0", "ff", "", "../authority", "*"])
def test_what_was_not_issued_here_is_not_revoked(home: IdentityFolder, wanted: str) -> None:
    before = (home.path / "authority.crl").read_bytes()
    with pytest.raises(LocalMisuse, match=r"nothing was issued here for.*host/a\.example"):
        home.revoke(wanted, NOW)
    assert (home.path / "authority.crl").read_bytes() == before


def test_a_list_in_der_is_taken_too(home: IdentityFolder, tmp_path: Path) -> None:
    crl = x509.load_pem_x509_crl((home.path / "authority.crl").read_bytes())
    (tmp_path / "list.der").write_bytes(crl.public_bytes(Encoding.DER))
    (taken,) = home.trust(tmp_path / "list.der")
    assert isinstance(taken, TrustedList)


def test_the_list_of_a_renewed_authority_of_the_same_name_finds_its_own(home: IdentityFolder, tmp_path: Path) -> None:
    old, new = make_authority("the same"), make_authority("the same")
    for number, each in enumerate((old, new)):
        (tmp_path / f"{number}.pem").write_bytes(each.pem)
        home.trust(tmp_path / f"{number}.pem")
    (tmp_path / "list.crl").write_bytes(crl_pem(make_crl(new, 7)))
    home.trust(tmp_path / "list.crl")
    trust = home.load().trust
    assert [len(trust.lists_of(each.certificate)) for each in (old, new)] == [0, 1]


def test_a_configuration_of_another_name_is_left_to_its_maker(home: IdentityFolder) -> None:
    assert IdentityFolder.of(home.path / "config.toml") == home
    with pytest.raises(LocalMisuse, match="left to you"):
        IdentityFolder.of(home.path / "other.toml")


def test_an_older_list_does_not_replace_a_newer_one(home: IdentityFolder, tmp_path: Path) -> None:
    home.issue(["b.example"], tmp_path / "b", NOW)
    b = IdentityFolder(tmp_path / "b")
    old = tmp_path / "old.crl"
    old.write_bytes((home.path / "authority.crl").read_bytes())
    home.revoke("b.example", NOW + DAY)
    b.trust(home.path / "authority.crl")
    with pytest.raises(LocalMisuse, match="older"):
        b.trust(old)
    assert len(x509.load_pem_x509_crl((b.path / "authority.crl").read_bytes())) == 1


def test_another_authority_becomes_trusted_and_its_list_is_obeyed(home: IdentityFolder, tmp_path: Path) -> None:
    root = make_authority("another")
    leaf = make(Order(names=dns("x.example")), root)
    peer = Identity.from_pem(leaf.pem, leaf.key_pem, trust=[root.pem])
    (tmp_path / "another.pem").write_bytes(root.pem)
    (tmp_path / "another.crl").write_bytes(crl_pem(make_crl(root, leaf.certificate.serial_number)))
    assert judge(home.load(), peer) == "other-authority"
    with pytest.raises(LocalMisuse, match="trust its authority first"):
        home.trust(tmp_path / "another.crl")
    (added,) = home.trust(tmp_path / "another.pem")
    assert isinstance(added, TrustedAuthority)
    assert (added.subject, added.is_new, added.file.parent) == ("CN=another", True, home.path / "trusted")
    assert judge(home.load(), peer) == "host/x.example"
    (again,) = home.trust(tmp_path / "another.pem")
    assert isinstance(again, TrustedAuthority)
    assert (again.is_new, again.file) == (False, added.file)
    home.trust(tmp_path / "another.crl")
    assert judge(home.load(), peer) == "revoked"


def test_a_file_with_authorities_and_lists_is_taken_whole(home: IdentityFolder, tmp_path: Path) -> None:
    one, two = make_authority("one"), make_authority("two")
    (tmp_path / "all.pem").write_bytes(one.pem + two.pem + crl_pem(make_crl(two, 7)))
    taken = home.trust(tmp_path / "all.pem")
    assert [type(each) for each in taken] == [TrustedAuthority, TrustedAuthority, TrustedList]
    assert len(home.load().trust.certificates) == 3


def test_lists_of_authorities_in_one_file_do_not_replace_each_other(home: IdentityFolder, tmp_path: Path) -> None:
    authorities = [make_authority("one"), make_authority("two")]
    (home.path / "trusted" / "both.pem").write_bytes(b"".join(each.pem for each in authorities))
    for serial, each in enumerate(authorities, 7):
        (tmp_path / "list.crl").write_bytes(crl_pem(make_crl(each, serial)))
        home.trust(tmp_path / "list.crl")
    trust = home.load().trust
    assert [trust.lists_of(each.certificate)[0].serials for each in authorities] == [{7}, {8}]


def test_what_is_no_authority_is_not_trusted_as_one(home: IdentityFolder, tmp_path: Path) -> None:
    (tmp_path / "machine.pem").write_bytes(make(Order(names=dns("x.example"))).pem)
    with pytest.raises(LocalMisuse, match="not fit to be trusted"):
        home.trust(tmp_path / "machine.pem")
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(LocalMisuse, match="junk holds no certificate"):
        home.trust(tmp_path / "junk")
    assert len(home.load().trust.certificates) == 1


def test_trust_is_misuse_where_the_configuration_would_not_see_it(home: IdentityFolder, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(make_authority().pem)
    with pytest.raises(LocalMisuse, match="identity init"):
        IdentityFolder(tmp_path / "empty").trust(tmp_path / "ca.pem")
    config = home.path / "config.toml"
    config.write_text(config.read_text().replace(', "trusted"', ""))
    with pytest.raises(LocalMisuse, match='add "trusted"'):
        home.trust(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("host/b.example", "b.example"),
        ("2001:db8::1", "2001_db8_1"),
        ("spiffe://td.example/db", "spiffe_td.example_db"),
        ("alice@REALM", "alice_REALM"),
        ("../../etc", "etc"),
        ("..", "machine"),
    ],
)
def test_a_folders_name_is_harmless(name: str, file: str) -> None:
    assert folder_name(name) == file
