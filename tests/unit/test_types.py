"""Settings and what is shown of them: validated, frozen, and free of passwords wherever they go."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from datetime import UTC, datetime
from uuid import UUID

import pytest

from securesock.errors import LocalMisuse
from securesock.secret import Secret
from securesock.types import ANY_TRUSTED_PEER, IPsecSettings, Principal, SecurityInfo, SecuritySettings

PASSWORD = "correct horse battery"
POLICY = UUID("12345678-1234-5678-1234-567812345678")


def with_password() -> IPsecSettings:
    return IPsecSettings(guarantee_encryption=True, main_mode_policy=POLICY, user_name="alice", password=PASSWORD)


def test_contradicting_settings_are_misuse() -> None:
    for kind in (SecuritySettings, IPsecSettings):
        with pytest.raises(LocalMisuse, match="contradict"):
            kind(guarantee_encryption=True, allow_insecure=True)


@pytest.mark.parametrize("name", ["guarantee_encryption", "password", "anything"])
def test_settings_are_frozen(name: str) -> None:
    for settings in (SecuritySettings(), with_password()):
        # CPython 3.11 answers with a TypeError for what is no field of a frozen class with slots
        with pytest.raises((AttributeError, TypeError)):
            setattr(settings, name, Secret(b"x"))


def test_the_constructor_takes_the_fields_in_the_order_of_the_header_and_the_password_last() -> None:
    assert list(inspect.signature(IPsecSettings).parameters) == [
        "guarantee_encryption",
        "allow_insecure",
        "skip_filter_instantiation",
        "main_mode_policy",
        "quick_mode_policy",
        "user_name",
        "domain_name",
        "password",
    ]


@pytest.mark.parametrize("given", [PASSWORD, PASSWORD.encode(), bytearray(PASSWORD.encode()), Secret(PASSWORD)])
def test_a_password_is_kept_as_a_secret(given: str | bytes | bytearray | Secret) -> None:
    assert IPsecSettings(password=given).password.reveal() == PASSWORD.encode()
    assert not IPsecSettings().password


def test_wiping_the_password_empties_it_in_the_settings() -> None:
    settings = with_password()
    settings.password.wipe()
    assert not settings.password


def test_a_password_is_not_shown() -> None:
    settings = with_password()
    info = SecurityInfo(asked=settings)
    for shown in (
        repr(settings),
        str(settings),
        f"{settings}",
        str(settings.to_dict()),
        repr(info),
        str(info.to_dict()),
    ):
        assert "horse" not in shown
        assert "alice" in shown
    assert "password" not in settings.to_dict()


def test_a_password_is_not_compared() -> None:
    other = IPsecSettings(guarantee_encryption=True, main_mode_policy=POLICY, user_name="alice", password="another")
    assert with_password() == other
    assert hash(with_password()) == hash(other)


def test_asdict_and_fields_have_no_password() -> None:
    assert "password" not in dataclasses.asdict(with_password())
    assert dataclasses.asdict(with_password())["user_name"] == "alice"
    assert not any("password" in each.name for each in dataclasses.fields(IPsecSettings))
    nested = dataclasses.asdict(SecurityInfo(asked=with_password()))
    assert "horse" not in repr(nested)


def test_copies_come_without_the_password() -> None:
    settings = with_password()
    copies = [
        dataclasses.replace(settings),
        copy.copy(settings),
        copy.deepcopy(settings),
        *(pickle.loads(pickle.dumps(settings, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)),
    ]
    for each in copies:
        assert each == settings
        assert isinstance(each, IPsecSettings)
        assert not each.password
    assert settings.password.matches(PASSWORD.encode())


def test_a_pickle_holds_no_byte_of_the_password() -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert b"horse" not in pickle.dumps(with_password(), protocol)


def test_replace_changes_what_it_is_told_to_and_can_set_a_password() -> None:
    changed = dataclasses.replace(with_password(), user_name="bob", password="new one")
    assert (changed.user_name, changed.guarantee_encryption) == ("bob", True)
    assert changed.password.matches(b"new one")


def test_replace_validates_again() -> None:
    with pytest.raises(LocalMisuse):
        dataclasses.replace(with_password(), allow_insecure=True)


def test_a_principal_is_shown_by_its_name() -> None:
    assert str(Principal("host/db.example")) == "host/db.example"
    assert Principal("alice@EXAMPLE.ORG", "user", "kerberos").to_dict() == {
        "name": "alice@EXAMPLE.ORG",
        "kind": "user",
        "method": "kerberos",
        "evidence": "",
    }


def test_security_info_becomes_plain_values() -> None:
    info = SecurityInfo(
        secured=True,
        peer_machine=Principal("host/db.example"),
        main_mode_policy=POLICY,
        differences=("asked X, applied Y, because Z",),
        requested_address=("192.0.2.1", 7000),
        established_at=datetime(2026, 11, 23, tzinfo=UTC),
    )
    plain = info.to_dict()
    assert plain["main_mode_policy"] == str(POLICY)
    assert plain["established_at"] == "2026-11-23T00:00:00+00:00"
    assert plain["differences"] == ["asked X, applied Y, because Z"]
    assert plain["requested_address"] == ["192.0.2.1", 7000]
    assert plain["asked"] == {"guarantee_encryption": False, "allow_insecure": False}
    assert isinstance(plain["peer_machine"], dict)


def test_any_trusted_peer_says_its_name_and_is_one_value() -> None:
    assert repr(ANY_TRUSTED_PEER) == "securesock.ANY_TRUSTED_PEER"
    assert pickle.loads(pickle.dumps(ANY_TRUSTED_PEER)) is ANY_TRUSTED_PEER
