"""Settings, names and answers of the native plane, against a fake of the system's extensions."""

from __future__ import annotations

import sys
from uuid import UUID

import pytest

import securesock as ss
from securesock.errors import PlaneError
from securesock.planes.windows.extensions import system_extensions
from securesock.planes.windows.translation import ask, packed_name, packed_settings, security_info
from securesock.winsock import (
    SOCKET_INFO_CONNECTION_ENCRYPTED,
    SOCKET_INFO_CONNECTION_IMPERSONATED,
    SOCKET_INFO_CONNECTION_SECURED,
    SOCKET_PEER_TARGET_NAME,
    SOCKET_SECURITY_PROTOCOL_IPSEC,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_INFO_IPSEC2,
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SECURITY_SETTINGS_IPSEC,
    SOCKET_SETTINGS,
    SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION,
    WSAECONNRESET,
    WSAEINVAL,
    WSAError,
)
from tests.support.fake_extensions import FakeExtensions

BOTH = SOCKET_INFO_CONNECTION_SECURED | SOCKET_INFO_CONNECTION_ENCRYPTED


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        (ss.SecuritySettings(), 0),
        (ss.SecuritySettings(guarantee_encryption=True), 1),
        (ss.SecuritySettings(allow_insecure=True), 2),
    ],
)
def test_plain_settings_are_the_basic_structure(settings: ss.SecuritySettings, flags: int) -> None:
    assert packed_settings(settings) == SOCKET_SECURITY_SETTINGS(SecurityFlags=SOCKET_SETTINGS(flags)).pack()


def test_ipsec_settings_are_the_larger_structure_with_the_password() -> None:
    settings = ss.IPsecSettings(True, False, True, UUID(int=1), None, "alice", "EXAMPLE", "pä")
    structure = SOCKET_SECURITY_SETTINGS_IPSEC.unpack(packed_settings(settings))
    assert structure == SOCKET_SECURITY_SETTINGS_IPSEC(
        SOCKET_SECURITY_PROTOCOL_IPSEC,
        SOCKET_SETTINGS(1),
        SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION,
        UUID(int=1),
        UserName="alice",
        DomainName="EXAMPLE",
    )
    assert structure.Password == "pä"


def test_a_name_has_no_address() -> None:
    name = SOCKET_PEER_TARGET_NAME.unpack(packed_name("host/db.example"))
    assert (name.PeerTargetName, name.PeerAddress) == ("host/db.example", None)


def test_an_answer_becomes_security_info_and_every_token_is_closed() -> None:
    flags = BOTH | SOCKET_INFO_CONNECTION_IMPERSONATED
    system = FakeExtensions(SOCKET_SECURITY_QUERY_INFO_IPSEC2(
        Flags=flags,
        PeerApplicationAccessTokenHandle=8,
        PeerMachineAccessTokenHandle=12,
        MmSaId=3,
        QmSaId=4,
    ))  # fmt: skip
    asked = ss.IPsecSettings(quick_mode_policy=UUID(int=9))
    info = security_info(system, 77, asked)
    assert (info.secured, info.encrypted, info.impersonated) == (True, True, True)
    assert (info.plane, info.keying, info.main_mode_sa_id, info.quick_mode_sa_id) == ("windows", "authip", 3, 4)
    assert (str(info.peer_user), str(info.peer_machine)) == ("EXAMPLE\\token8", "EXAMPLE\\token12")
    assert (info.asked, info.quick_mode_policy, info.main_mode_policy) == (asked, UUID(int=9), None)
    assert (info.negotiation_error, info.differences) == ("", ())
    assert sorted(system.closed) == [8, 12]


def test_tokens_are_closed_also_when_nobody_knows_whose_they_are() -> None:
    system = FakeExtensions(SOCKET_SECURITY_QUERY_INFO_IPSEC2(Flags=BOTH, PeerMachineAccessTokenHandle=12))
    system.unknown_tokens.add(12)
    with pytest.raises(WSAError):
        security_info(system, 77, ss.SecuritySettings())
    assert system.closed == [12]


@pytest.mark.parametrize(
    ("flags", "winerr", "words"),
    [
        (SOCKET_INFO_CONNECTION_SECURED, 0, "integrity without encryption"),
        (SOCKET_INFO_CONNECTION_SECURED & 0, 13801, "clear text"),
    ],
)
def test_what_is_less_than_asked_is_said(flags: int, winerr: int, words: str) -> None:
    answer = SOCKET_SECURITY_QUERY_INFO_IPSEC2(Flags=type(BOTH)(flags), NegotiationWinerr=winerr)
    info = security_info(FakeExtensions(answer), 77, ss.SecuritySettings())
    assert words in info.differences[0]
    assert (str(winerr) in info.negotiation_error) is bool(winerr)
    assert info.keying == ("authip" if flags else "")


def test_a_system_without_the_second_form_is_asked_in_the_first() -> None:
    system = FakeExtensions(SOCKET_SECURITY_QUERY_INFO(SOCKET_SECURITY_PROTOCOL_IPSEC, BOTH, 0, 12))
    system.failures = [WSAEINVAL]
    answer = ask(system, 77)
    assert (answer.Flags, answer.PeerMachineAccessTokenHandle, answer.MmSaId) == (BOTH, 12, 0)
    assert [len(each or b"") for each in system.templates] == [152, 144]


def test_any_other_failure_passes() -> None:
    system = FakeExtensions(SOCKET_SECURITY_QUERY_INFO())
    system.failures = [WSAECONNRESET]
    with pytest.raises(WSAError) as caught:
        ask(system, 77)
    assert caught.value.winerror == WSAECONNRESET
    assert len(system.templates) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="this is about other platforms")
def test_other_systems_have_none() -> None:
    with pytest.raises(PlaneError, match="for Windows"):
        system_extensions()
