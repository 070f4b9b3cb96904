"""Whose account a peer is: exact names, one account each, the user before the machine, and nobody by accident root."""

from __future__ import annotations

from pathlib import Path

import pytest

import securesock as ss
from securesock.engine.context import default_context
from securesock.identity.accounts import NO_ACCOUNTS, AccountMap
from securesock.identity.configured import load_accounts, own_config_file
from securesock.types import Principal

ALICE = Principal("alice@example.org", "user", "eap")
BOB = Principal("bob@example.org", "user", "eap")
APP = Principal("host/app.example")
NULL = Principal("anonymous", "machine", "anonymous")
ACCOUNTS = AccountMap({"alice@Example.ORG": "alice", "App.Example": "app", "192.0.2.1": 1001})


def test_names_are_canonical_and_the_mapping_is_a_value() -> None:
    assert dict(ACCOUNTS) == {"alice@example.org": "alice", "host/app.example": "app", "192.0.2.1": 1001}
    same = AccountMap(dict(ACCOUNTS))
    assert same == ACCOUNTS
    assert hash(same) == hash(ACCOUNTS)
    assert len(NO_ACCOUNTS) == 0
    assert repr(AccountMap({"a.example": "a"})) == "AccountMap({'host/a.example': 'a'})"


@pytest.mark.parametrize(
    ("user", "machine", "account"),
    [
        (ALICE, None, (ALICE, "alice")),
        (ALICE, APP, (ALICE, "alice")),
        (None, APP, (APP, "app")),
        (None, Principal("192.0.2.1"), (Principal("192.0.2.1"), 1001)),
    ],
)
def test_the_user_comes_before_the_machine(
    user: Principal | None, machine: Principal | None, account: tuple[Principal, str | int]
) -> None:
    assert ACCOUNTS.account_of(user, machine) == account


@pytest.mark.parametrize(
    ("user", "machine", "why"),
    [
        (None, None, "nobody to act as"),
        (None, NULL, "nobody to act as"),
        (None, Principal("host/other.example"), "maps to no account"),
        (BOB, APP, "bob@example.org maps to no account"),  # never the machine that he sits at
        (None, Principal("host/app.example.org"), "maps to no account"),
        (Principal("app", "user", "eap"), None, "maps to no account"),  # an account's name is nobody's principal
    ],
)
def test_who_has_no_account_is_refused(user: Principal | None, machine: Principal | None, why: str) -> None:
    with pytest.raises(ss.PolicyRefused, match=why) as caught:
        ACCOUNTS.account_of(user, machine)
    assert caught.value.errno == 13


@pytest.mark.parametrize(
    ("accounts", "why"),
    [
        ({"a.example": 0}, "user id 0"),
        ({"a.example": -1}, "no user id"),
        ({"a.example": 0xFFFF_FFFF}, "no user id"),
        ({"a.example": True}, "name of an account"),
        ({"a.example": 1.0}, "name of an account"),
        ({"a.example": None}, "name of an account"),
        ({"a.example": ""}, "without a name"),
        ({"a.example": "a\0b"}, "without a name"),
        ({"*.example": "a"}, "no peer target name"),
        ({"": "a"}, "not empty"),
        ({"a.example": "a", "host/A.example": "b"}, "twice"),
    ],
)
def test_what_is_no_mapping_is_refused_when_it_is_made(accounts: dict[str, str | int], why: str) -> None:
    with pytest.raises(ss.LocalMisuse, match=why):
        AccountMap(accounts)


def test_a_context_keeps_a_mapping_of_its_own() -> None:
    identity = ss.Identity.ephemeral("host/a.example")
    written = {"app.example": "app"}
    context = ss.SecurityContext(identity, accounts=written)
    written["other.example"] = "root"
    assert context.accounts == {"host/app.example": "app"}
    assert ss.SecurityContext(identity).accounts == {}
    assert hash(context) == hash(ss.SecurityContext(identity, accounts={"app.example": "app"}))
    with pytest.raises(ss.LocalMisuse, match="user id 0"):
        ss.SecurityContext(identity, accounts={"app.example": 0})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECURESOCK_CONFIG", str(tmp_path))
    return tmp_path


def test_the_configuration_file_says_whose_account_a_peer_is(folder: Path) -> None:
    (folder / "b.psk").write_bytes(b"0123456789abcdef0123456789abcdef")
    (folder / "b.psk").chmod(0o600)
    own_config_file().write_text(
        '[identity]\nname = "a.example"\npeers = { "b.example" = "b.psk" }\n'
        '[accounts]\n"B.example" = "b"\n"alice@example.org" = 1001\n'
    )
    assert default_context().accounts == {"host/b.example": "b", "alice@example.org": 1001}


def test_no_file_and_no_table_are_no_accounts(folder: Path) -> None:
    assert load_accounts() is NO_ACCOUNTS
    own_config_file().write_text("[identity]\n")
    assert load_accounts() is NO_ACCOUNTS


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("accounts = 7\n", "is a table"),
        ('[accounts]\n"b.example" = 0\n', r"config\.toml: \[accounts\]: .*user id 0"),
        ('[accounts]\n"b.example" = ["b"]\n', "name of an account"),
        ("[account]\n", "line 1: unknown key account"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(folder: Path, text: str, why: str) -> None:
    own_config_file().write_text(text)
    with pytest.raises(ss.LocalMisuse, match=why):
        load_accounts()
