"""securesock identity and version: what they print, and with which status they end."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from securesock.cli import main
from securesock.identity.identity import Identity
from tests.unit.identity.mill import make_authority


class Result(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        """The one object on standard output."""
        (line,) = self.out.splitlines()
        found = json.loads(line)
        assert isinstance(found, dict)
        assert found["schema"] == 1
        return found


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("SECURESOCK_CONFIG", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str) -> Result:
        capsys.readouterr()
        status = main(arguments)
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run_command


def test_init_issue_show_trust_revoke_one_after_the_other(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run("identity", "init", "host/a.example")
    assert made.status == 0
    assert "This machine is host/a.example" in made.out
    assert "securesock identity issue NAME" in made.out
    issued = run("identity", "issue", "b.example")
    assert issued.status == 0
    assert "scp -pr b.example b.example:.config/securesock" in issued.out
    assert "securesock identity show" in issued.out
    assert stat.S_IMODE((tmp_path / "b.example" / "machine.key").stat().st_mode) == 0o600

    monkeypatch.setenv("SECURESOCK_CONFIG", str(tmp_path / "b.example"))
    shown = run("identity", "show")
    assert shown.status == 0
    assert "host/b.example" in shown.out
    assert "CN=securesock of a.example" in shown.out
    assert Identity.load().names[0] == "host/b.example"

    monkeypatch.setenv("SECURESOCK_CONFIG", str(tmp_path / "home"))
    revoked = run("identity", "revoke", "b.example")
    assert revoked.status == 0
    assert "revoked: host/b.example" in revoked.out
    assert "securesock identity trust authority.crl" in revoked.out
    monkeypatch.setenv("SECURESOCK_CONFIG", str(tmp_path / "b.example"))
    taken = run("identity", "trust", str(tmp_path / "home" / "authority.crl"))
    assert "with 1 revoked" in taken.out
    assert "1 revoked by its list" in run("identity", "show").out


def test_no_command_ever_prints_a_key(run: Run, tmp_path: Path) -> None:
    printed = [run("identity", "init", "a.example"), run("identity", "issue", "b.example"), run("identity", "show")]
    for folder in ("home", "b.example"):
        for line in (tmp_path / folder / "machine.key").read_text().splitlines()[1:-1]:
            assert all(line not in result.out + result.err for result in printed)


def test_json_of_every_command(run: Run, tmp_path: Path) -> None:
    made = run("identity", "init", "a.example", "192.0.2.1", "--json").json
    assert made["names"] == ["host/a.example", "192.0.2.1"]
    assert made["folder"] == str(tmp_path / "home")
    assert made["next"] == ["securesock identity issue NAME"]
    issued = run("identity", "issue", "b.example", "--out", "elsewhere", "--days", "3", "--json").json
    assert issued["folder"] == "elsewhere"
    assert str(issued["pin"]).startswith("sha256:")
    shown = run("identity", "show", "--json").json
    assert (shown["method"], shown["names"][:2], shown["pin"]) == ("x509", ["host/a.example", "192.0.2.1"], made["pin"])
    assert [each["revoked"] for each in shown["trust"]] == [0]
    (tmp_path / "ca.pem").write_bytes(make_authority("another").pem)
    trusted = run("identity", "trust", "ca.pem", "--json").json
    assert [(each["subject"], each["new"]) for each in trusted["authorities"]] == [("CN=another", True)]
    revoked = run("identity", "revoke", "b.example", "--json").json
    assert revoked["revoked"] == [{"serial": issued["serial"], "names": ["host/b.example"]}]
    assert "securesock" in run("version", "--json").json


def test_show_of_an_identity_with_shared_secrets(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "b.psk").write_bytes(b"0123456789abcdef")
    (home / "b.psk").chmod(0o600)
    (home / "config.toml").write_text('[identity]\nname = "a.example"\npeers = { "b.example" = "b.psk" }\n')
    assert run("identity", "show", "--json").json["peers"] == ["host/b.example"]
    shown = run("identity", "show").out
    assert "host/b.example" in shown
    assert "0123456789abcdef" not in shown


def test_show_says_aloud_that_a_certificate_has_expired(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("identity", "init", "a.example", "--days", "30").status == 0
    assert "EXPIRED" not in run("identity", "show").out
    monkeypatch.setattr("securesock.cli.identity._now", lambda: datetime.now(UTC) + timedelta(days=31))
    assert "EXPIRED" in run("identity", "show").out


@pytest.mark.parametrize(
    ("arguments", "status", "kind"),
    [
        (["identity", "show"], 2, "LocalMisuse"),
        (["identity", "init", "*.example"], 2, "LocalMisuse"),
        (["identity", "issue", "b.example"], 2, "LocalMisuse"),
        (["identity", "revoke", "b.example"], 2, "LocalMisuse"),
        (["identity", "issue"], 2, None),
        (["identity", "init", "--days", "0"], 2, None),
        (["identity", "show", "--unknown"], 2, None),
        (["identity", "unknown"], 2, None),
        (["unknown"], 2, None),
    ],
)
def test_misuse_ends_with_2_and_says_why_on_standard_error(
    run: Run, arguments: list[str], status: int, kind: str | None
) -> None:
    plain = run(*arguments)
    assert (plain.status, plain.out) == (status, "")
    assert plain.err.startswith("securesock: ")
    as_json = run(*arguments, "--json")
    assert as_json.status == status
    error = as_json.json["error"]
    assert isinstance(error, dict)
    assert error["message"]
    assert kind is None or error["kind"] == kind


def test_what_fails_ends_with_1(run: Run) -> None:
    assert run("identity", "init", "a.example").status == 0
    absent = run("identity", "trust", "absent.pem", "--json")
    assert absent.status == 1
    error = absent.json["error"]
    assert isinstance(error, dict)
    assert error["kind"] == "FileNotFoundError"


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    for arguments in ([], ["--help"], ["identity"], ["identity", "--help"]):
        shown = run(*arguments)
        assert "Usage" in shown.out
        assert shown.err == ""
        assert shown.status == (0 if "--help" in arguments else 2)


def test_version_names_the_libraries_that_security_rests_on(run: Run) -> None:
    shown = run("version")
    assert shown.status == 0
    for name in ("securesock", "cryptography", "pyopenssl", "openssl"):
        assert f"{name} " in shown.out


def _imported_by(code: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "src"})
    return set(done.stdout.split())


def test_importing_identity_imports_no_library_that_is_only_sometimes_needed() -> None:
    modules = _imported_by("import securesock.identity.identity")
    assert "securesock.identity.trust" in modules
    assert not modules & {"OpenSSL", "typer", "rich", "platformdirs", "tomllib", "asyncio", "ssl"}
    assert "securesock.identity.authority" not in modules


def test_the_console_script_imports_nothing_before_it_runs() -> None:
    modules = _imported_by("import securesock.cli")
    assert not modules & {"typer", "rich", "OpenSSL", "platformdirs", "securesock.cli.identity"}


def test_a_command_imports_only_its_own_group() -> None:
    modules = _imported_by("from securesock.cli import main; main(['version'])")
    assert "securesock.cli.version" in modules
    assert "securesock.cli.identity" not in modules
