"""The list of system packages, when nothing is installed, and that nothing is started meanwhile."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import system_packages
from tools.system_packages import LIST, SystemPackage, install, install_missing, install_or_explain, read_list


class FakeApt:
    """Stands for subprocess.run: remembers commands and what policy-rc.d said while they ran."""

    def __init__(self, policy: Path, status: int = 0, interrupt: bool = False) -> None:
        self.policy, self.status, self.interrupt = policy, status, interrupt
        self.commands: list[list[str]] = []
        self.policies: list[str] = []
        self.environments: list[dict[str, str]] = []

    def run(self, command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        self.policies.append(self.policy.read_text())
        self.environments.append(env)
        if self.interrupt:
            raise KeyboardInterrupt
        return subprocess.CompletedProcess(command, self.status, stdout=f"apt says {command[-1]}\n")


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy-rc.d that is not this machine's."""
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(system_packages, "POLICY", path)
    monkeypatch.setattr(system_packages, "POLICY_ASIDE", tmp_path / "aside")
    return path


def use(fake: FakeApt, monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    monkeypatch.setattr(system_packages.subprocess, "run", fake.run)
    return fake


def test_the_committed_list_gives_every_package_a_program_and_a_reason() -> None:
    packages = read_list(LIST.read_text())

    assert packages
    assert all(package.program and len(package.reason) > 20 for package in packages)


def test_a_line_without_a_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2"):
        read_list("# packages\nopenssl openssl\n")


def test_nothing_is_started_while_packages_are_installed(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt = use(FakeApt(policy), monkeypatch)

    assert install(["openssl"]) is True

    assert ["update" in command for command in apt.commands] == [True, False]
    assert apt.commands[1][-1] == "openssl"
    assert "--no-install-recommends" in apt.commands[1]
    assert apt.environments[1]["DEBIAN_FRONTEND"] == "noninteractive"
    assert all(text.endswith("exit 101\n") for text in apt.policies)
    assert not policy.exists()


def test_an_administrators_policy_steps_aside_and_comes_back(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy.write_text("#!/bin/sh\nexit 0\n")
    apt = use(FakeApt(policy), monkeypatch)

    install(["openssl"])

    assert all(text.endswith("exit 101\n") for text in apt.policies)
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_an_interrupted_installation_leaves_no_policy(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy.write_text("#!/bin/sh\nexit 0\n")
    use(FakeApt(policy, interrupt=True), monkeypatch)

    with pytest.raises(KeyboardInterrupt):
        install(["openssl"])

    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_what_a_killed_installation_left_is_put_right_by_the_next(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy.write_text(system_packages._POLICY_TEXT)
    (tmp_path / "aside").write_text("#!/bin/sh\nexit 0\n")
    use(FakeApt(policy), monkeypatch)

    install(["openssl"])

    assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert not (tmp_path / "aside").exists()


def test_a_failed_installation_says_so_in_apts_words(
    policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(FakeApt(policy, status=100), monkeypatch)

    assert install(["openssl"]) is False
    assert "apt says openssl" in capsys.readouterr().out
    assert not policy.exists()


def test_declining_installs_nothing_and_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list").write_text("ghost no-such-program system: a program that nobody has\n")
    monkeypatch.setattr(system_packages, "LIST", tmp_path / "list")
    monkeypatch.setenv("SECURESOCK_NO_APT", "1")

    missing = install_missing()

    assert missing == [SystemPackage("ghost", "no-such-program", "system: a program that nobody has")]
    assert "not installed (SECURESOCK_NO_APT is set): ghost" in capsys.readouterr().out


def test_a_user_is_told_the_package_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_packages.os, "geteuid", lambda: 1000)
    monkeypatch.delenv("SECURESOCK_NO_APT", raising=False)

    with pytest.raises(SystemExit) as ended:
        install_or_explain(["python3-venv"], why="python3 here cannot make virtual environments")

    assert "\n" not in str(ended.value)
    assert "apt-get install python3-venv" in str(ended.value)
