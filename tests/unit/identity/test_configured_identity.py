"""The configured identity: found where it should be, read strictly, and refused when others can read its key."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest

from securesock.errors import LocalMisuse
from securesock.identity import configured
from securesock.identity.identity import Identity
from tests.unit.identity.mill import Order, crl_pem, dns, make, make_authority, make_crl

CONFIG = """
# a comment
[identity]
certificate = "machine.pem"
private_key = "machine.key"
trust = [
    "ca.pem",   # another
]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a whole identity, named by SECURESOCK_CONFIG."""
    root = make_authority()
    holder = make(Order(names=dns("a.example")), root)
    for name, data in (("machine.pem", holder.pem), ("machine.key", holder.key_pem), ("ca.pem", root.pem)):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "ca.crl").write_bytes(crl_pem(make_crl(root, 7)))
    (tmp_path / "machine.key").chmod(0o600)
    (tmp_path / "config.toml").write_text(CONFIG)
    monkeypatch.setenv("SECURESOCK_CONFIG", str(tmp_path))
    return tmp_path


def misuse() -> str:
    with pytest.raises(LocalMisuse) as caught:
        Identity.load()
    return str(caught.value)


def test_the_variable_names_the_folder_or_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Identity.load().names[0] == "host/a.example"
    (folder / "config.toml").rename(folder / "other.toml")
    monkeypatch.setenv("SECURESOCK_CONFIG", str(folder / "other.toml"))
    identity = Identity.load()
    assert identity.names[0] == "host/a.example"
    assert len(identity.trust.lists_of(identity.trust.certificates[0])) == 1
    assert configured.own_config_file() == folder / "other.toml"


def test_without_the_variable_it_is_the_users_folder_and_then_the_systems(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = tmp_path / "user"
    user.mkdir()
    monkeypatch.delenv("SECURESOCK_CONFIG")
    monkeypatch.setattr(platformdirs, "user_config_path", lambda name: user if name == "securesock" else None)
    monkeypatch.setattr(platformdirs, "site_config_path", lambda name: folder if name == "securesock" else None)
    assert configured.config_file() == folder / "config.toml"
    assert Identity.load().names[0] == "host/a.example"
    (user / "config.toml").write_text("")
    assert configured.config_file() == user / "config.toml"
    assert configured.own_config_file() == user / "config.toml"


def test_no_identity_says_what_to_run_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECURESOCK_CONFIG", str(tmp_path))
    assert "securesock identity init" in misuse()
    (tmp_path / "config.toml").write_text("")
    assert "securesock identity init" in misuse()


@pytest.mark.parametrize(
    ("added", "line", "key"),
    [
        ("crll = []\n", 9, "identity.crll"),
        ("\n\n'crll' = []\n", 11, "identity.crll"),
        ("crll = [\n  'a',\n  'b',\n]\n", 9, "identity.crll"),
        ("[polcy]\nx = 1\n", 9, "polcy"),
        ("[identity.extra]\nx = 1\n", 9, "identity.extra"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_line(folder: Path, added: str, line: int, key: str) -> None:
    (folder / "config.toml").write_text(CONFIG + added)
    message = misuse()
    assert f"config.toml, line {line}: unknown key {key}" in message


def test_a_syntax_error_names_the_line(folder: Path) -> None:
    (folder / "config.toml").write_text(CONFIG + "crl = = 1\n")
    assert "config.toml" in misuse()
    assert "line 9" in misuse()
    (folder / "config.toml").write_bytes(b"\xff\xfe")
    assert "config.toml" in misuse()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('certificate = "machine.pem"', ""),
        ('certificate = "machine.pem"', 'certificate = ""'),
        ('private_key = "machine.key"', "private_key = 1"),
        ('"ca.pem",', "1,"),
        ("trust =", "crl ="),
        ("[identity]", "identity = 1\n[other]"),
    ],
)
def test_a_key_that_is_missing_or_of_another_type_is_misuse(folder: Path, old: str, new: str) -> None:
    (folder / "config.toml").write_text(CONFIG.replace(old, new))
    assert "config.toml" in misuse()


def test_revocation_lists_and_their_being_required_are_configured(folder: Path) -> None:
    (folder / "more.crl").write_bytes((folder / "ca.crl").read_bytes())
    (folder / "config.toml").write_text(CONFIG + 'crl = ["require", "more.crl"]\n')
    trust = Identity.load().trust
    assert trust.crl_required
    assert len(trust.lists_of(trust.certificates[0])) == 2
    (folder / "config.toml").write_text(CONFIG + 'crl = "require"\n')
    assert Identity.load().trust.crl_required


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_can_read_is_refused(folder: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "machine.key").chmod(mode)
    if os.geteuid() == 0 and mode == 0o640:
        assert Identity.load()  # root's own may be given to a service's group
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert Identity.load()
        return
    message = misuse()
    assert f"{mode:04o}" in message
    assert f"chmod 600 {folder / 'machine.key'}" in message


def test_from_pem_takes_what_it_is_given(folder: Path) -> None:
    (folder / "machine.key").chmod(0o644)
    assert Identity.from_pem(folder / "machine.pem", folder / "machine.key", trust=[folder / "ca.pem"])


def test_shared_secrets_are_configured_by_files_of_their_own(folder: Path) -> None:
    (folder / "b.psk").write_bytes(b"0123456789abcdef\n")
    (folder / "b.psk").chmod(0o600)
    (folder / "config.toml").write_text('[identity]\nname = "a.example"\npeers = { "b.example" = "b.psk" }\n')
    identity = Identity.load()
    assert (identity.method, identity.names) == ("psk", ("host/a.example",))
    secret = identity.secret_for(Identity.from_psk("b.example", {}).our_id())
    assert secret is not None
    assert secret.matches(b"0123456789abcdef")
    (folder / "b.psk").chmod(0o644)
    assert "can be read by others" in misuse()
    (folder / "config.toml").write_text('[identity]\nname = "a.example"\npeers = { "b.example" = 1 }\n')
    assert "files of their secrets" in misuse()
    (folder / "config.toml").write_text('[identity]\nname = "a.example"\npeers = {}\ntrust = []\n')
    assert "line 4: unknown key identity.trust" in misuse()
