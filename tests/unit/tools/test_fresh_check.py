"""What a fresh system is made from: this machine's package sources and pip's settings, read from what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.fresh_check import (
    AptSource,
    apt_sources,
    codename_of,
    mirror_for,
    read_deb822_sources,
    read_one_line_sources,
    read_pip_settings,
)

DEB822 = """\
Types: deb
# where it was frozen
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: http://mirror.example/sources
Suites: bookworm

Types: deb
Enabled: no
URIs: http://mirror.example/off
Suites: bookworm

Types: deb
URIs: http://mirror.example/security
Suites:
 bookworm-security
"""


def test_deb822_sources_are_read() -> None:
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"

    assert list(read_deb822_sources(DEB822)) == [
        AptSource("http://mirror.example/debian", ("bookworm", "bookworm-updates"), key),
        AptSource("http://mirror.example/security", ("bookworm-security",), ""),
    ]


def test_one_line_sources_are_read() -> None:
    text = (
        "# comment\n"
        "deb http://mirror.example/debian bookworm main contrib\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://other.example/x bookworm-updates main\n"
        "deb-src http://mirror.example/debian bookworm main\n"
    )

    assert list(read_one_line_sources(text)) == [
        AptSource("http://mirror.example/debian", ("bookworm",), ""),
        AptSource("http://other.example/x", ("bookworm-updates",), "/k.gpg"),
    ]


def test_sources_come_from_both_kinds_of_files_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
    (tmp_path / "sources.list.d" / "b.sources").write_text("Types: deb\nURIs: http://b.example\nSuites: trixie\n")
    (tmp_path / "sources.list.d" / "c.list.disabled").write_text("deb http://c.example/debian bookworm main\n")

    sources = apt_sources(tmp_path)

    assert [source.uri for source in sources] == ["http://a.example/debian", "http://b.example"]
    assert mirror_for("trixie", sources).uri == "http://b.example"
    with pytest.raises(SystemExit, match="forky"):
        mirror_for("forky", sources)


def test_the_release_is_read_from_os_release() -> None:
    assert codename_of('ID=debian\nVERSION_CODENAME=bookworm\nVERSION_ID="12"\n') == "bookworm"
    with pytest.raises(SystemExit):
        codename_of("ID=other\n")


def test_pips_settings_become_one_file_and_what_they_name_is_found(tmp_path: Path) -> None:
    index, wheels, certificate = tmp_path / "index" / "simple", tmp_path / "wheels", tmp_path / "ca.crt"
    index.mkdir(parents=True)
    wheels.mkdir()
    certificate.write_text("x")
    listed = (
        f":env:.cert='{certificate}'\n"
        f"global.extra-index-url='file://{index} https://index.example/simple'\n"
        f"global.cert='{certificate}'\n"
        "install.prefer-binary='true'\n"
    )
    environment = {"PIP_FIND_LINKS": str(wheels), "HOME": "/x", "https_proxy": "http://proxy.example:1", "TOKEN": "x"}

    pip = read_pip_settings(listed, environment)

    assert pip.as_file() == (
        f"[global]\nextra-index-url = file://{index} https://index.example/simple\ncert = {certificate}\n"
        "[install]\nprefer-binary = true\n"
    )
    assert pip.environment == {"PIP_FIND_LINKS": str(wheels), "https_proxy": "http://proxy.example:1"}
    assert pip.folders() == sorted([index.parent, wheels])
    assert pip.files() == [certificate]


def test_no_settings_are_an_empty_file() -> None:
    pip = read_pip_settings("", {})

    assert (pip.as_file(), pip.folders(), pip.files()) == ("", [], [])
