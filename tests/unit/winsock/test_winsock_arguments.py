"""What the functions are handed: settings, names, templates, addresses, buffers, each error with its code."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from struct import pack
from uuid import UUID

import pytest

import securesock as ss
from securesock.secret import Secret
from securesock.winsock import (
    SIO,
    SIO_DELETE_PEER_TARGET_NAME,
    SIO_QUERY_SECURITY,
    SIO_SET_PEER_TARGET_NAME,
    SIO_SET_SECURITY,
    SOCKET_INFO_CONNECTION_ENCRYPTED,
    SOCKET_INFO_CONNECTION_SECURED,
    SOCKET_PEER_TARGET_NAME,
    SOCKET_QUERY_IPSEC2_ABORT_CONNECTION_ON_FIELD_CHANGE,
    SOCKET_QUERY_IPSEC2_FIELD_MASK,
    SOCKET_SECURITY_PROTOCOL,
    SOCKET_SECURITY_PROTOCOL_DEFAULT,
    SOCKET_SECURITY_PROTOCOL_INVALID,
    SOCKET_SECURITY_PROTOCOL_IPSEC,
    SOCKET_SECURITY_PROTOCOL_IPSEC2,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_INFO_IPSEC2,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SECURITY_SETTINGS_IPSEC,
    SOCKET_SETTINGS_ALLOW_INSECURE,
    SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
    SOCKET_SETTINGS_IPSEC_ALLOW_FIRST_INBOUND_PKT_UNENCRYPTED,
    SOCKET_SETTINGS_IPSEC_OPTIONAL_PEER_NAME_VERIFICATION,
    SOCKET_SETTINGS_IPSEC_PEER_NAME_IS_RAW_FORMAT,
    SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION,
    TOKEN_QUERY,
    WSAEAFNOSUPPORT,
    WSAEFAULT,
    WSAEINVAL,
    WSAEMSGSIZE,
    WSAENOTCONN,
    WSAEOPNOTSUPP,
    CloseHandle,
    WSADeleteSocketPeerTargetName,
    WSAError,
    WSAIoctl,
    WSAQuerySocketSecurity,
    WSASetSocketPeerTargetName,
    WSASetSocketSecurity,
)
from securesock.winsock.arguments import check_settings, read_settings
from tests.support.loopback import client_context, connected

KEY = UUID("{b25ea800-0d02-46ed-92bd-7fa84bb73e9d}")
BOTH = SOCKET_SETTINGS_GUARANTEE_ENCRYPTION | SOCKET_SETTINGS_ALLOW_INSECURE
SOCKADDR_IN = bytes.fromhex("0200 1b58 7f000001").ljust(16, b"\0")


@pytest.fixture
def sock() -> Iterator[ss.SecureSocket]:
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=client_context()) as fresh:
        yield fresh


def refused(call: Callable[[], object]) -> int:
    with pytest.raises(WSAError) as caught:
        call()
    return caught.value.winerror


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (None, ss.SecuritySettings()),
        (b"", ss.SecuritySettings()),
        (SOCKET_SECURITY_SETTINGS(), ss.SecuritySettings()),
        (pack("<II", 0, 1), ss.SecuritySettings(guarantee_encryption=True)),
        (bytearray(pack("<II", 1, 2)), ss.SecuritySettings(allow_insecure=True)),
        (memoryview(pack("<II", 2, 0)), ss.SecuritySettings()),
        (SOCKET_SECURITY_SETTINGS_IPSEC(), ss.IPsecSettings()),
        (
            SOCKET_SECURITY_SETTINGS_IPSEC(
                SOCKET_SECURITY_PROTOCOL_IPSEC2,
                SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
                SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION,
                KEY,
                UUID(int=1),
                "alice",
                "EXAMPLE",
                "secret",
            ).pack(),
            ss.IPsecSettings(True, False, True, KEY, UUID(int=1), "alice", "EXAMPLE", "secret"),
        ),
        (
            SOCKET_SECURITY_SETTINGS_IPSEC(
                IpsecFlags=SOCKET_SETTINGS_IPSEC_OPTIONAL_PEER_NAME_VERIFICATION
                | SOCKET_SETTINGS_IPSEC_ALLOW_FIRST_INBOUND_PKT_UNENCRYPTED
                | SOCKET_SETTINGS_IPSEC_PEER_NAME_IS_RAW_FORMAT
            ),
            ss.IPsecSettings(),
        ),
    ],
)
def test_settings_mean_the_same_as_a_structure_and_as_bytes(given: bytes, meant: ss.SecuritySettings) -> None:
    asked = check_settings(read_settings(given))
    assert asked == meant
    if isinstance(meant, ss.IPsecSettings):
        assert isinstance(asked, ss.IPsecSettings)
        assert asked.password.matches(meant.password)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (b"\0", WSAEMSGSIZE),
        (bytes(7), WSAEMSGSIZE),
        (pack("<II", 1, 0) + bytes(75), WSAEMSGSIZE),
        (bytes(88), WSAEINVAL),
        (pack("<II", 3, 0), WSAEINVAL),
        (pack("<II", 0, 4), WSAEINVAL),
        (SOCKET_SECURITY_SETTINGS(SOCKET_SECURITY_PROTOCOL_INVALID), WSAEINVAL),
        (SOCKET_SECURITY_SETTINGS(SecurityFlags=BOTH), WSAEINVAL),
        (SOCKET_SECURITY_SETTINGS_IPSEC(SecurityFlags=BOTH), WSAEINVAL),
        (SOCKET_SECURITY_SETTINGS_IPSEC(SOCKET_SECURITY_PROTOCOL_DEFAULT), WSAEINVAL),
        (SOCKET_SECURITY_SETTINGS_IPSEC(SOCKET_SECURITY_PROTOCOL_DEFAULT).pack(), WSAEINVAL),
        (SOCKET_SECURITY_SETTINGS_IPSEC(IpsecFlags=0x10), WSAEINVAL),
        (SOCKET_SECURITY_SETTINGS_IPSEC(AuthipMMPolicyKey=KEY), WSAEINVAL),
        (SOCKET_SECURITY_SETTINGS_IPSEC(AuthipQMPolicyKey=KEY).pack(), WSAEINVAL),
        (SOCKET_SECURITY_SETTINGS_IPSEC(DomainName="EXAMPLE", Password="secret").pack(), WSAEINVAL),
        (7, WSAEFAULT),
        ("text", WSAEFAULT),
        (ss.SecuritySettings(), WSAEFAULT),
        (SOCKET_PEER_TARGET_NAME(), WSAEFAULT),
    ],
)
def test_wrong_settings_have_their_code_and_set_nothing(sock: ss.SecureSocket, settings: bytes, code: int) -> None:
    assert refused(lambda: WSASetSocketSecurity(sock, settings)) == code
    assert refused(lambda: WSAIoctl(sock, SIO_SET_SECURITY, settings)) == code
    assert WSASetSocketSecurity(sock) == 0


@pytest.mark.parametrize("packed", [False, True])
def test_the_zero_key_and_reserved_fields_are_ignored(sock: ss.SecureSocket, packed: bool) -> None:
    settings = SOCKET_SECURITY_SETTINGS_IPSEC(SecurityFlags=SOCKET_SETTINGS_GUARANTEE_ENCRYPTION)
    data = bytearray(settings.pack())
    data[44:72] = b"\xff" * 28
    assert WSASetSocketSecurity(sock, bytes(data) if packed else settings) == 0
    assert sock._settings == ss.IPsecSettings(guarantee_encryption=True)


def test_passwords_that_are_refused_are_overwritten_but_not_the_callers(
    sock: ss.SecureSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiped: list[bytes] = []
    wipe = Secret.wipe

    def remember(secret: Secret) -> None:
        wiped.append(secret.reveal())
        wipe(secret)

    monkeypatch.setattr(Secret, "wipe", remember)
    settings = SOCKET_SECURITY_SETTINGS_IPSEC(Password="secret")
    assert refused(lambda: WSASetSocketSecurity(sock, settings)) == WSAEINVAL
    assert wiped == [b"secret"]
    assert settings.Password == "secret"
    assert refused(lambda: WSASetSocketSecurity(sock, settings.pack())) == WSAEINVAL
    assert wiped == [b"secret"] * 3


# -- the port is the socket's own --------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="ports cannot be shared here")
def test_a_secured_port_is_shared_with_nobody(sock: ss.SecureSocket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    WSASetSocketSecurity(sock)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(sock.getsockname())


def test_where_there_is_so_exclusiveaddruse_it_is_set(sock: ss.SecureSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    # SO_OOBINLINE stands for it: an option of this system that is off at first and can be read back.
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_OOBINLINE, raising=False)
    WSASetSocketSecurity(sock)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE) == 1


def test_where_ports_are_never_shared_nothing_is_set(sock: ss.SecureSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT", raising=False)
    monkeypatch.delattr(socket, "SO_EXCLUSIVEADDRUSE", raising=False)
    assert WSASetSocketSecurity(sock) == 0
    assert sock._options == {}


# -- names and addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (None, WSAEFAULT),
        ("host/a.example", WSAEFAULT),
        (b"", WSAEMSGSIZE),
        (bytes(139), WSAEMSGSIZE),
        (bytes(144), WSAEINVAL),  # an empty name
        (SOCKET_PEER_TARGET_NAME(), WSAEINVAL),
        (SOCKET_PEER_TARGET_NAME(PeerTargetName="*.example"), WSAEINVAL),
        (SOCKET_PEER_TARGET_NAME(PeerTargetName="host/a.example\0"), WSAEINVAL),
        (SOCKET_PEER_TARGET_NAME(SOCKET_SECURITY_PROTOCOL_INVALID, None, "host/a.example"), WSAEINVAL),
        (bytes(8) + pack("<H", 10) + bytes(134), WSAEAFNOSUPPORT),
        (pack("<I", 1) + bytes(132) + pack("<I", 99) + bytes(20), WSAEINVAL),
    ],
)
def test_wrong_names_have_their_code_and_name_nobody(sock: ss.SecureSocket, name: bytes, code: int) -> None:
    assert refused(lambda: WSASetSocketPeerTargetName(sock, name)) == code
    assert refused(lambda: WSAIoctl(sock, SIO_SET_PEER_TARGET_NAME, name)) == code
    assert sock._expected is None


@pytest.mark.parametrize("protocol", [0, 1, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_a_name_means_the_same_as_a_structure_and_as_bytes(sock: ss.SecureSocket, protocol: int, packed: bool) -> None:
    name = SOCKET_PEER_TARGET_NAME(SOCKET_SECURITY_PROTOCOL(protocol), ("127.0.0.1", 7000), "host/a.example")
    assert WSASetSocketPeerTargetName(sock, name.pack() if packed else name) == 0
    assert str(sock._expected) == "host/a.example"


def test_the_last_name_holds(sock: ss.SecureSocket) -> None:
    for name in ("host/a.example", "host/b.example"):
        WSASetSocketPeerTargetName(sock, SOCKET_PEER_TARGET_NAME(PeerTargetName=name))
    assert str(sock._expected) == "host/b.example"


@pytest.mark.parametrize(
    ("peer", "code"),
    [
        (None, WSAEFAULT),
        (7, WSAEFAULT),
        ("127.0.0.1", WSAEFAULT),
        (b"", WSAEMSGSIZE),
        (SOCKADDR_IN[:15], WSAEMSGSIZE),
        (bytes.fromhex("1700") + bytes(25), WSAEMSGSIZE),
        (bytes.fromhex("0100") + bytes(126), WSAEAFNOSUPPORT),
        (("db.example", 1), WSAEINVAL),
        (("127.0.0.1",), WSAEINVAL),
    ],
)
def test_wrong_addresses_have_their_code_and_delete_nothing(sock: ss.SecureSocket, peer: bytes, code: int) -> None:
    WSASetSocketPeerTargetName(sock, SOCKET_PEER_TARGET_NAME(PeerTargetName="host/a.example"))
    assert refused(lambda: WSADeleteSocketPeerTargetName(sock, peer)) == code
    assert refused(lambda: WSAIoctl(sock, SIO_DELETE_PEER_TARGET_NAME, peer)) == code
    assert str(sock._expected) == "host/a.example"


@pytest.mark.parametrize(
    ("named", "deleted", "gone"),
    [
        (None, SOCKADDR_IN, True),
        (None, bytes(128), True),
        (("127.0.0.1", 7000), SOCKADDR_IN, True),
        (("127.0.0.1", 9), ("127.0.0.1", 7000), True),  # an IP address, not a port
        (("127.0.0.2", 7000), SOCKADDR_IN, False),
        (("127.0.0.1", 7000), bytes(16), False),
        (("::1", 7000), ("127.0.0.1", 7000), False),
    ],
)
def test_a_deleted_name_is_gone_unless_it_was_given_for_another_host(
    sock: ss.SecureSocket, named: ss.Address | None, deleted: bytes, gone: bool
) -> None:
    WSASetSocketPeerTargetName(sock, SOCKET_PEER_TARGET_NAME(PeerAddress=named, PeerTargetName="host/a.example"))
    for _ in range(2):
        assert WSADeleteSocketPeerTargetName(sock, deleted) == 0
        assert (sock._expected is None) is gone


def test_a_name_given_without_an_address_forgets_the_one_before(sock: ss.SecureSocket) -> None:
    for address in (("127.0.0.2", 7000), None):
        WSASetSocketPeerTargetName(sock, SOCKET_PEER_TARGET_NAME(PeerAddress=address, PeerTargetName="host/a.example"))
    WSADeleteSocketPeerTargetName(sock, ("127.0.0.1", 7000))
    assert sock._expected is None


# -- templates and sizes -----------------------------------------------------------------------------------------------


def test_the_template_decides_the_form_of_the_answer() -> None:
    with connected() as (ours, _):
        applied = ours.query_security()
        both = SOCKET_INFO_CONNECTION_SECURED | SOCKET_INFO_CONNECTION_ENCRYPTED
        for nothing in (None, b"", bytes(144), SOCKET_SECURITY_QUERY_TEMPLATE()):
            assert WSAQuerySocketSecurity(ours, nothing) == SOCKET_SECURITY_QUERY_INFO(Flags=both)
        first = SOCKET_SECURITY_QUERY_TEMPLATE(SOCKET_SECURITY_PROTOCOL_IPSEC, PeerTokenAccessMask=TOKEN_QUERY)
        for template in (first, first.pack(), first.pack() + bytes(8)):
            answer = WSAQuerySocketSecurity(ours, template)
            assert answer == SOCKET_SECURITY_QUERY_INFO(
                SOCKET_SECURITY_PROTOCOL_IPSEC, both, 0, answer.PeerMachineAccessTokenHandle
            )
            CloseHandle(answer.PeerMachineAccessTokenHandle)
        for mask, main_mode, quick_mode in (
            (0, 0, 0),
            (1, applied.main_mode_sa_id, 0),
            (2, 0, applied.quick_mode_sa_id),
            (3, applied.main_mode_sa_id, applied.quick_mode_sa_id),
        ):
            second = SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(FieldMask=SOCKET_QUERY_IPSEC2_FIELD_MASK(mask))
            for template in (second, second.pack()):
                assert WSAQuerySocketSecurity(ours, template) == SOCKET_SECURITY_QUERY_INFO_IPSEC2(
                    Flags=both,
                    MmSaId=main_mode,
                    QmSaId=quick_mode,
                    SaLookupContext=UUID(int=applied.main_mode_sa_id << 64 | applied.quick_mode_sa_id),
                )
        assert applied.main_mode_sa_id
        assert applied.quick_mode_sa_id


def test_a_streams_template_may_have_any_address() -> None:
    with connected() as (ours, _):
        nonsense = pack("<I", 1) + b"\xff" * 132 + pack("<II", 8, 0)
        assert WSAQuerySocketSecurity(ours, nonsense).Flags == 3
        only_an_address = bytes(8) + b"\xff" * 128 + bytes(8)
        assert WSAQuerySocketSecurity(ours, only_an_address) == SOCKET_SECURITY_QUERY_INFO(
            Flags=SOCKET_INFO_CONNECTION_SECURED | SOCKET_INFO_CONNECTION_ENCRYPTED
        )


@pytest.mark.parametrize(
    ("template", "code"),
    [
        (b"\0", WSAEMSGSIZE),
        (bytes(143), WSAEMSGSIZE),
        (pack("<I", 2) + bytes(147), WSAEMSGSIZE),
        (pack("<I", 3) + bytes(148), WSAEINVAL),
        (SOCKET_SECURITY_QUERY_TEMPLATE(SOCKET_SECURITY_PROTOCOL_IPSEC2), WSAEMSGSIZE),
        (SOCKET_SECURITY_QUERY_TEMPLATE(SOCKET_SECURITY_PROTOCOL_INVALID), WSAEINVAL),
        (SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(Flags=2), WSAEINVAL),
        (SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(FieldMask=4), WSAEINVAL),
        (
            SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(Flags=SOCKET_QUERY_IPSEC2_ABORT_CONNECTION_ON_FIELD_CHANGE),
            WSAEOPNOTSUPP,
        ),
        ("text", WSAEFAULT),
    ],
)
def test_wrong_templates_have_their_code(template: bytes, code: int) -> None:
    with connected() as (ours, _):
        assert refused(lambda: WSAQuerySocketSecurity(ours, template)) == code
        assert refused(lambda: WSAIoctl(ours, SIO_QUERY_SECURITY, template)) == code


@pytest.mark.parametrize(
    ("template", "room", "code", "needed"),
    [
        (None, 0, WSAEFAULT, 24),
        (b"", 0, WSAEFAULT, 24),
        (None, 23, WSAEMSGSIZE, 24),
        (SOCKET_SECURITY_QUERY_TEMPLATE(), 0, WSAEMSGSIZE, 24),
        (SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(), 0, WSAEMSGSIZE, 64),
        (SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2().pack(), 63, WSAEMSGSIZE, 64),
    ],
)
def test_too_little_room_says_how_much_is_needed_in_both_known_ways(
    template: bytes, room: int, code: int, needed: int
) -> None:
    with connected() as (ours, _):
        for call in (
            lambda: WSAQuerySocketSecurity(ours, template, info_length=room),
            lambda: WSAIoctl(ours, SIO_QUERY_SECURITY, template, bytearray(room)),
        ):
            with pytest.raises(WSAError) as caught:
                call()
            assert (caught.value.winerror, caught.value.needed_length) == (code, needed)
        assert len(WSAQuerySocketSecurity(ours, template, info_length=needed).pack()) == needed


def test_the_ioctl_writes_the_answer_and_no_more() -> None:
    with connected() as (ours, _):
        room = bytearray(b"\xee" * 30)
        info = WSAIoctl(ours, SIO_QUERY_SECURITY, None, room)
        assert room == info.pack() + b"\xee" * 6
        assert SOCKET_SECURITY_QUERY_INFO.unpack(room) == info
        for wrong in (bytes(64), "text", 64):
            assert refused(lambda wrong=wrong: WSAIoctl(ours, SIO_QUERY_SECURITY, None, wrong)) == WSAEFAULT


@pytest.mark.parametrize("code", SIO)
def test_only_the_four_control_codes_are_served(sock: ss.SecureSocket, code: int) -> None:
    ours = {SIO_SET_SECURITY, SIO_QUERY_SECURITY, SIO_SET_PEER_TARGET_NAME, SIO_DELETE_PEER_TARGET_NAME}
    if code in ours:
        assert code == SIO_SET_SECURITY or refused(lambda: WSAIoctl(sock, code)) in (WSAEFAULT, WSAENOTCONN)
        return
    assert refused(lambda: WSAIoctl(sock, code)) == WSAEOPNOTSUPP


@pytest.mark.parametrize("code", [0, 200, -1, 0x98000001, None, "SIO_SET_SECURITY"])
def test_any_other_code_is_invalid(sock: ss.SecureSocket, code: int) -> None:
    assert refused(lambda: WSAIoctl(sock, code)) == WSAEINVAL


# -- the module --------------------------------------------------------------------------------------------------------


def test_every_public_name_of_the_module_is_there() -> None:
    assert all(hasattr(ss.winsock, name) for name in ss.winsock.__all__)
    assert set(ss.winsock.__all__) <= set(dir(ss.winsock))


def test_an_unknown_name_of_the_module_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="WSANoSuchFunction"):
        _ = getattr(ss.winsock, "WSANoSuch" + "Function")
    # what is in its rooms and no name of it
    with pytest.raises(AttributeError, match="invalid"):
        _ = getattr(ss.winsock, "inva" + "lid")


def test_the_module_is_loaded_when_it_is_used() -> None:
    script = "import sys, securesock as ss; assert 'securesock.winsock' not in sys.modules; ss.winsock.WSAError"
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0


def test_a_user_is_taken_and_needs_a_peer_target_name_by_the_time_of_connecting(sock: ss.SecureSocket) -> None:
    assert WSASetSocketSecurity(sock, SOCKET_SECURITY_SETTINGS_IPSEC(UserName="alice", Password="secret")) == 0
    with pytest.raises(ss.LocalMisuse, match="machine that is named"):
        sock.connect(("127.0.0.1", 9))
