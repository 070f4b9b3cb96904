"""Users' names in every spelling, and the store of whom a server accepts: frozen, and silent about passwords."""

from __future__ import annotations

import copy
import pickle

import pytest

from securesock.crypto import mschap
from securesock.errors import LocalMisuse, WireError
from securesock.identity.ppk import MIN_PPK_BYTES, Ppk
from securesock.identity.users import (
    MAX_USER_NAME,
    NtHash,
    UserName,
    Users,
    hash_password,
    parse_user_name,
    read_user_name_untrusted,
)
from securesock.secret import Secret

HASH = bytes.fromhex("44ebba8d5312b8d611474411f56989ae")  # of "clientPass" (RFC 2759 9.2)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("alice", UserName("alice")),
        ("alice@example.org", UserName("alice", "example.org")),
        ("Alice@EXAMPLE.org", UserName("Alice", "example.org")),
        ("EXAMPLE\\alice", UserName("alice", "example")),
        ("jürgen müller@example.org", UserName("jürgen müller", "example.org")),
    ],
)
def test_a_name_is_one_in_each_spelling(text: str, name: UserName) -> None:
    assert read_user_name_untrusted(text.encode()) == name
    assert parse_user_name(text) == name
    assert read_user_name_untrusted(name.principal.encode()) == name


def test_a_domain_may_stand_apart() -> None:
    assert parse_user_name("alice", "Example.ORG").principal == "alice@example.org"
    with pytest.raises(LocalMisuse, match="has a domain already"):
        parse_user_name("alice@example.org", "example.org")
    for user, domain in (("alice", "not a domain"), ("a" * 100, ".".join(["b" * 60] * 3))):
        with pytest.raises(LocalMisuse, match="no user"):
            parse_user_name(user, domain)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"@example.org",
        b"alice@",
        b"\\alice",
        b"EXAMPLE\\",
        b"host/alice",
        b"sha256:00",
        b"a@b@example.org",
        b"alice@-",
        b"\xff",
        b"ali\0ce",
        b" alice",
        b"alice ",
        b"192.0.2.1",
        b"12345",
        b"a" * (MAX_USER_NAME + 1),
        b"a" * 100 + b"@" + b".".join([b"b" * 60] * 3),
    ],
)
def test_what_names_no_user_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        read_user_name_untrusted(data)
    with pytest.raises((LocalMisuse, UnicodeDecodeError)):
        parse_user_name(data.decode())


def test_passwords_are_kept_as_their_hashes_however_they_are_given() -> None:
    for password in ("clientPass", b"clientPass", bytearray(b"clientPass"), Secret("clientPass"), NtHash(HASH)):
        users = Users({"User@example.org": password})
        found = users.password_hash(UserName("User", "example.org"))
        assert found is not None
        assert found.matches(HASH)
    assert users.names == ("User@example.org",)
    assert users.by_password
    assert not users.certificates
    assert users.password_hash(UserName("user", "example.org")) is None


@pytest.mark.parametrize(
    ("passwords", "said"),
    [
        ({}, "accepts nobody"),
        ({"alice": ""}, "empty password"),
        ({"alice": b"\xff"}, "not UTF-8"),
        ({"alice@EXAMPLE.org": "a", "example.org\\alice": "b"}, "there twice"),
        ({"host/alice": "a"}, "no user"),
    ],
)
def test_what_cannot_be_is_misuse(passwords: dict[str, str], said: str) -> None:
    with pytest.raises(LocalMisuse, match=said):
        Users(passwords)


def test_a_secret_of_the_callers_is_left_alone() -> None:
    password = Secret("clientPass")
    hash_password(UserName("alice"), password)
    assert password


def test_users_are_frozen_and_silent() -> None:
    users = Users({"alice": "clientPass"}, certificates=True)
    assert repr(users) == "<Users 1 with a password, and whoever has a user's certificate>"
    for each in (users, NtHash(HASH)):
        with pytest.raises(TypeError):
            pickle.dumps(each)
        with pytest.raises(TypeError):
            copy.copy(each)
    with pytest.raises(AttributeError):
        users.certificates = False
    with pytest.raises(AttributeError):
        del users.certificates
    assert repr(NtHash(HASH)) == "NtHash(***)"
    with pytest.raises(LocalMisuse, match="16 bytes"):
        NtHash(b"short")


def test_without_the_extra_passwords_are_misuse_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(mschap, "import_module", missing)
    with pytest.raises(LocalMisuse, match=r"securesock\[eap\]"):
        Users({"alice": "a password"})
    assert Users(certificates=True).certificates


def test_a_ppk_is_frozen_and_shows_its_id_alone() -> None:
    secret = bytes(range(MIN_PPK_BYTES))
    ppk = Ppk("an id", secret, peers=["host/B.example"])
    assert repr(ppk) == "<Ppk an id mandatory>"
    assert repr(Ppk(b"\xff", secret, mandatory=False)) == "<Ppk \ufffd optional>"
    assert ppk.secret.matches(secret)
    assert ppk.is_for("host/b.example")
    assert not ppk.is_for("host/c.example")
    assert not ppk.is_for(None)
    assert Ppk("id", secret).is_for(None)
    with pytest.raises(AttributeError):
        ppk.mandatory = False
    with pytest.raises(AttributeError):
        del ppk.mandatory
    with pytest.raises(TypeError):
        pickle.dumps(ppk)


@pytest.mark.parametrize(
    ("name", "secret", "peers", "said"),
    [
        ("", bytes(32), (), "1 to 255"),
        ("x" * 256, bytes(32), (), "1 to 255"),
        ("id", bytes(31), (), "31 bytes"),
        ("id", bytes(32), "host/b.example", "list"),
        ("id", bytes(32), ["not a name"], "name"),
    ],
)
def test_what_is_no_ppk_is_misuse(name: str, secret: bytes, peers: list[str], said: str) -> None:
    with pytest.raises(LocalMisuse, match=said):
        Ppk(name, secret, peers=peers)
