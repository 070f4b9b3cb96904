"""The native plane under Windows' own interpreter, against a stand-in for Fwpuclnt.dll that judges what it is handed.

The stand-in (tests/windows/fwpuclnt.c) lies in the system's folder, where the plane looks for the real one.  It
protects nothing, so that two ends of these tests are ordinary sockets; what is shown is what the system is told, and
what becomes of its answers and of each of its errors.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

import securesock as ss
from securesock import winsock as ws
from securesock.sockets.native import NativeSocket
from securesock.winsock import native

if sys.platform != "win32":
    pytest.skip("Windows alone", allow_module_level=True)

STAND_IN = ctypes.WinDLL("fwpuclnt.dll", winmode=0x800)
KERNEL = ctypes.WinDLL("kernel32.dll")
SECURED = ws.SOCKET_INFO_CONNECTION_SECURED | ws.SOCKET_INFO_CONNECTION_ENCRYPTED
INFO = ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2(Flags=SECURED, MmSaId=0x1122334455667788, QmSaId=0x99)
PEER = ("203.0.113.7", 27015)
TEMPLATE = ws.SOCKET_SECURITY_QUERY_TEMPLATE(ws.SOCKET_SECURITY_PROTOCOL_IPSEC)
NAME = ws.SOCKET_PEER_TARGET_NAME(ws.SOCKET_SECURITY_PROTOCOL_IPSEC, None, "host/db.example")
PATIENCE_S = 20
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "winsock_secure_echo.py"


def told() -> bytes:
    """The structure that the last call was handed."""
    room = ctypes.create_string_buffer(4096)
    length = STAND_IN.StandInTold(room, len(room))
    return room.raw[:length]


def answer(info: ws.SOCKET_SECURITY_QUERY_INFO | ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2) -> None:
    packed = info.pack()
    STAND_IN.StandInAnswer(packed, len(packed))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    STAND_IN.StandInReset()
    answer(INFO)
    yield
    assert STAND_IN.StandInCalls() < 1000, "an OVERLAPPED or a routine was handed to the system"
    assert not STAND_IN.StandInImpersonating()


@pytest.fixture(scope="module")
def context() -> ss.SecurityContext:
    return ss.SecurityContext(ss.Identity.ephemeral("host/app.example"), plane="windows")


def handles() -> int:
    """How many handles this process has open."""
    count = ctypes.c_ulong()
    assert KERNEL.GetProcessHandleCount(ctypes.c_void_p(-1), ctypes.byref(count))
    return count.value


@contextmanager
def pair(context: ss.SecurityContext, settings: ss.SecuritySettings | None = None) -> Iterator[list[ss.SecureSocket]]:
    """Both ends of a connection of the native plane."""
    with ss.create_server(("127.0.0.1", 0), context=context, settings=settings) as listener:
        listener.settimeout(PATIENCE_S)
        with ss.create_connection(
            listener.getsockname(), PATIENCE_S, peer="host/db.example", settings=settings, context=context
        ) as client:
            accepted, _ = listener.accept()
            with accepted:
                yield [client, accepted]


# -- what the system is told -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "bytes_told"),
    [
        (ss.SecuritySettings(), ws.SOCKET_SECURITY_SETTINGS().pack()),
        (
            ss.SecuritySettings(guarantee_encryption=True),
            ws.SOCKET_SECURITY_SETTINGS(SecurityFlags=ws.SOCKET_SETTINGS_GUARANTEE_ENCRYPTION).pack(),
        ),
        (
            ss.SecuritySettings(allow_insecure=True),
            ws.SOCKET_SECURITY_SETTINGS(SecurityFlags=ws.SOCKET_SETTINGS_ALLOW_INSECURE).pack(),
        ),
        (
            ss.IPsecSettings(True, False, True, UUID(int=1), UUID(int=2), "alice", "EXAMPLE", "secret"),
            ws.SOCKET_SECURITY_SETTINGS_IPSEC(
                ws.SOCKET_SECURITY_PROTOCOL_IPSEC,
                ws.SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
                ws.SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION,
                UUID(int=1),
                UUID(int=2),
                "alice",
                "EXAMPLE",
                "secret",
            ).pack(),
        ),
    ],
)
def test_settings_reach_the_system_byte_for_byte(
    context: ss.SecurityContext, settings: ss.SecuritySettings, bytes_told: bytes
) -> None:
    with ss.SecureSocket(context=context) as sock:
        assert isinstance(sock, NativeSocket)
        sock.set_security(settings)
        assert told() == bytes_told
        with pytest.raises(ss.LocalMisuse, match="set once"):
            sock.set_security(settings)


def test_no_settings_are_the_systems_default_before_the_socket_is_bound(context: ss.SecurityContext) -> None:
    with ss.SecureSocket(context=context) as sock:
        sock.bind(("127.0.0.1", 0))
        assert told() == b""
        assert STAND_IN.StandInCalls() == 1


def test_the_peers_name_goes_before_the_connection(context: ss.SecurityContext) -> None:
    with ss.SecureSocket(context=context) as sock:
        sock.set_security(ss.SecuritySettings())
        sock.set_peer_target_name("host/db.example")
        assert told() == NAME.pack()


@pytest.mark.parametrize("name", ["192.0.2.1", "sha256:" + "0" * 64, "spiffe://example/db", "alice@example.org"])
def test_names_that_windows_does_not_know_are_misuse(context: ss.SecurityContext, name: str) -> None:
    with ss.SecureSocket(context=context) as sock, pytest.raises(ss.LocalMisuse, match="host/NAME"):
        sock.set_peer_target_name(name)


def test_a_socket_of_the_plane_is_not_overlapped_and_exclusive_when_winsock_secured_it(
    context: ss.SecurityContext,
) -> None:
    with ss.SecureSocket(context=context) as sock:
        settings = ws.SOCKET_SECURITY_SETTINGS(SecurityFlags=ws.SOCKET_SETTINGS_GUARANTEE_ENCRYPTION)
        assert ws.WSASetSocketSecurity(sock, settings) == 0
        assert told() == settings.pack()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE) != 0
        assert sock.get_inheritable() is False


# -- connections -------------------------------------------------------------------------------------------------------


def test_both_ends_talk_and_report_what_the_system_says(context: ss.SecurityContext) -> None:
    with pair(context, ss.SecuritySettings(guarantee_encryption=True)) as ends:
        for sock in ends:
            info = sock.query_security()
            assert (info.secured, info.encrypted, info.plane, info.keying) == (True, True, "windows", "authip")
            assert (info.main_mode_sa_id, info.quick_mode_sa_id) == (0x1122334455667788, 0x99)
            assert info.asked == ss.SecuritySettings(guarantee_encryption=True)
            assert info.peer_machine is not None
            assert info.peer_machine.name
            assert info.peer_user is None
            assert info.differences == ()
        client, accepted = ends
        client.sendall(b"hello")
        assert accepted.recv(100) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert accepted.recv(1) == b""


def test_integrity_without_encryption_is_said(context: ss.SecurityContext) -> None:
    answer(ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2(Flags=ws.SOCKET_INFO_CONNECTION_SECURED))
    with pair(context) as (client, _):
        info = client.query_security()
        assert info.secured
        assert not info.encrypted
        assert "integrity without encryption" in info.differences[0]


def test_a_connection_that_the_system_does_not_call_secured_is_none(context: ss.SecurityContext) -> None:
    answer(ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2())
    with ss.create_server(("127.0.0.1", 0), context=context) as listener:
        listener.settimeout(0.3)
        with pytest.raises(ss.PlaneError, match="does not call it secured"):
            ss.create_connection(listener.getsockname(), PATIENCE_S, peer="host/db.example", context=context)
        with pytest.raises(TimeoutError):
            listener.accept()
        assert listener.refusals == {"in clear": 1}


def test_it_is_reported_where_clear_text_is_allowed(context: ss.SecurityContext) -> None:
    answer(ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2(NegotiationWinerr=13801))
    with pair(context, ss.SecuritySettings(allow_insecure=True)) as (client, _):
        info = client.query_security()
        assert not info.secured
        assert "13801" in info.negotiation_error
        assert "clear text" in info.differences[0]


def test_a_windows_without_the_second_form_is_asked_in_the_first(context: ss.SecurityContext) -> None:
    answer(ws.SOCKET_SECURITY_QUERY_INFO(ws.SOCKET_SECURITY_PROTOCOL_IPSEC, SECURED))
    with pair(context) as (client, _):
        info = client.query_security()
        assert info.secured
        assert info.main_mode_sa_id == 0


def test_a_connection_that_the_peer_reset_is_broken(context: ss.SecurityContext) -> None:
    with pair(context) as (client, _):
        STAND_IN.StandInFail(ws.WSAECONNRESET)
        info = client.query_security()
        assert info.latch == "broken"
        assert "WSAECONNRESET" in info.negotiation_error


def test_every_token_is_closed(context: ss.SecurityContext) -> None:
    with pair(context) as (client, _):
        client.query_security()
        before = handles()
        for _ in range(50):
            client.query_security()
        assert handles() <= before + 2  # the interpreter's own come and go; fifty would be ours


def test_a_nonblocking_socket_connects_in_steps(context: ss.SecurityContext) -> None:
    with ss.create_server(("127.0.0.1", 0), context=context) as listener:
        with ss.SecureSocket(context=context) as sock:
            sock.setblocking(False)
            sock.set_peer_target_name("host/db.example")
            with pytest.raises(BlockingIOError):
                sock.connect(listener.getsockname())
            sock.settimeout(PATIENCE_S)
            sock.do_handshake()
            assert sock.query_security().secured
        listener.setblocking(False)
        listener.settimeout(PATIENCE_S)
        listener.accept()[0].close()
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_an_impersonation_is_the_systems_and_ends_with_its_block(context: ss.SecurityContext) -> None:
    with pair(context) as (_, accepted):
        with accepted.impersonate_peer() as account:
            assert STAND_IN.StandInImpersonating()
            assert account.name
        assert not STAND_IN.StandInImpersonating()
        assert ws.WSAImpersonateSocketPeer(accepted) == 0
        assert STAND_IN.StandInImpersonating()
        assert ws.WSARevertImpersonation() == 0
        assert not STAND_IN.StandInImpersonating()
        assert ws.WSARevertImpersonation() == 0


def test_an_impersonation_is_of_one_thread(context: ss.SecurityContext) -> None:
    seen: list[int] = []
    with pair(context) as (_, accepted), accepted.impersonate_peer():
        other = threading.Thread(target=lambda: seen.append(STAND_IN.StandInImpersonating()))
        other.start()
        other.join()
    assert seen == [0]


def test_datagram_sockets_have_the_functions_alone(context: ss.SecurityContext) -> None:
    with ss.SecureSocket(type=socket.SOCK_DGRAM, context=context) as sock, pytest.raises(ss.PlaneError):
        sock.bind(("127.0.0.1", 0))


def test_the_script_for_two_machines_runs(tmp_path: Path) -> None:
    """docs/windows.md, "For whoever has two machines": both ends here, and the system's part is the stand-in's."""
    environment = os.environ | {"SECURESOCK_CONFIG": str(tmp_path / "configured")}
    cli = [sys.executable, "-c", "import sys; from securesock.cli import main; sys.exit(main())"]
    example = [sys.executable, str(EXAMPLE)]
    subprocess.run([*cli, "identity", "init", "srv.example.com"], env=environment, check=True, timeout=60)
    server = subprocess.Popen(
        [*example, "server", "-native", "-port", "0"], env=environment, stdout=subprocess.PIPE, text=True
    )
    with server:
        try:
            assert server.stdout is not None
            listening = server.stdout.readline()
            assert listening.endswith("protected by windows\n")
            port = listening.split()[3].strip(",")
            arguments = ["client", "-native", "-port", port, "-name", "srv.example.com", "127.0.0.1"]
            done = subprocess.run(
                [*example, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stderr
            said = done.stdout.splitlines()
            assert said[0] == "secured: yes, encrypted: yes"
            assert said[1].startswith("peer machine: ")
            assert said[2:] == ["main mode SA 0x11, quick mode SA 0x22", "received 91011121314"]
            heard = [server.stdout.readline().rstrip() for _ in range(5)]
            assert heard[3:] == ["received 12345678", "impersonated, and reverted"]
        finally:
            server.kill()


# -- the Winsock names on a socket of the plane ----------------------------------------------------------------------


def test_a_query_has_the_form_of_its_template_and_hands_tokens_out(context: ss.SecurityContext) -> None:
    with pair(context) as (client, _):
        assert ws.WSAQuerySocketSecurity(client).Flags == SECURED
        template = ws.SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(PeerTokenAccessMask=int(ws.TOKEN_QUERY))
        info = ws.WSAQuerySocketSecurity(client, template)
        assert isinstance(info, ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2)
        assert info.MmSaId == INFO.MmSaId
        assert info.PeerMachineAccessTokenHandle
        assert native.CloseHandle(info.PeerMachineAccessTokenHandle) == 1


def test_a_size_probe_opens_no_token(context: ss.SecurityContext) -> None:
    with pair(context) as (client, _):
        template = ws.SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(PeerTokenAccessMask=int(ws.TOKEN_QUERY))
        before = handles()
        for _ in range(20):
            with pytest.raises(ws.WSAError) as caught:
                ws.WSAQuerySocketSecurity(client, template, info_length=0)
            assert caught.value.needed_length == 64
        assert handles() <= before + 2


def test_a_completion_is_delivered_although_the_system_is_handed_none(context: ss.SecurityContext) -> None:
    with ss.SecureSocket(context=context) as sock:
        future: Future[int] = Future()
        called: list[int] = []
        ws.WSASetSocketSecurity(sock, None, future, lambda error, count, overlapped, flags: called.append(error))
        assert future.result(0) == 0
        assert called == [0]


def test_names_are_the_systems_to_judge_and_may_be_deleted(context: ss.SecurityContext) -> None:
    with ss.SecureSocket(context=context) as sock:
        name = ws.SOCKET_PEER_TARGET_NAME(ws.SOCKET_SECURITY_PROTOCOL_IPSEC, None, "HTTP/db.example:80")
        assert ws.WSASetSocketPeerTargetName(sock, name) == 0
        assert told() == name.pack()
        assert ws.WSADeleteSocketPeerTargetName(sock, PEER) == 0
        assert len(told()) == 128


# -- the functions as they are -----------------------------------------------------------------------------------------


def test_any_socket_takes_them_udp_too() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        assert native.WSASetSocketSecurity(sock) == 0
        assert native.WSASetSocketPeerTargetName(sock.fileno(), ws.SOCKET_PEER_TARGET_NAME(1, PEER, "host/db")) == 0
        info = native.WSAQuerySocketSecurity(sock, ws.SOCKET_SECURITY_QUERY_TEMPLATE(1, PEER))
        assert isinstance(info, ws.SOCKET_SECURITY_QUERY_INFO)
        assert native.WSAImpersonateSocketPeer(sock, PEER) == 0
        assert native.WSARevertImpersonation() == 0
        assert native.WSADeleteSocketPeerTargetName(sock, PEER) == 0


CALLS: dict[str, Callable[[socket.socket], object]] = {
    "WSASetSocketSecurity": lambda sock: native.WSASetSocketSecurity(sock, ws.SOCKET_SECURITY_SETTINGS()),
    "WSAQuerySocketSecurity": lambda sock: native.WSAQuerySocketSecurity(sock, TEMPLATE),
    "WSASetSocketPeerTargetName": lambda sock: native.WSASetSocketPeerTargetName(sock, NAME),
    "WSADeleteSocketPeerTargetName": lambda sock: native.WSADeleteSocketPeerTargetName(sock, PEER),
    "WSAImpersonateSocketPeer": lambda sock: native.WSAImpersonateSocketPeer(sock),
    "WSARevertImpersonation": lambda sock: native.WSARevertImpersonation(),
}
DOCUMENTED = (
    ws.WSAEAFNOSUPPORT,
    ws.WSAECONNRESET,
    ws.WSAEFAULT,
    ws.WSAEINVAL,
    ws.WSAEISCONN,
    ws.WSAEMSGSIZE,
    ws.WSAENOTSOCK,
    ws.WSASYSCALLFAILURE,
)


@pytest.mark.parametrize("code", [*DOCUMENTED, 5, 13825])
@pytest.mark.parametrize("name", CALLS)
def test_each_error_of_each_function_comes_back_with_its_code(name: str, code: int) -> None:
    with socket.socket() as sock:
        STAND_IN.StandInFail(code)
        with pytest.raises(ws.WSAError, match=name) as caught:
            CALLS[name](sock)
        assert caught.value.winerror == code


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda sock: native.WSASetSocketSecurity(sock, b"\0\0\0\0"), ws.WSAEMSGSIZE),
        (lambda sock: native.WSASetSocketSecurity(sock, b"\3" + bytes(7)), ws.WSAEINVAL),
        (lambda sock: native.WSASetSocketSecurity(sock, bytes(88)), ws.WSAEINVAL),
        (lambda sock: native.WSASetSocketSecurity(0x7FFFFFF0), ws.WSAENOTSOCK),
        (lambda sock: native.WSASetSocketPeerTargetName(sock, bytes(100)), ws.WSAEMSGSIZE),
        (lambda sock: native.WSADeleteSocketPeerTargetName(sock, b"\2\0"), ws.WSAEMSGSIZE),
        (lambda sock: native.WSADeleteSocketPeerTargetName(sock, b"\7" + bytes(15)), ws.WSAEAFNOSUPPORT),
        (lambda sock: native.WSAQuerySocketSecurity(sock, bytes(8)), ws.WSAEMSGSIZE),
        (lambda sock: native.CloseHandle(0x7FFFFFF0), ws.WSA_INVALID_HANDLE),
    ],
)
def test_the_system_judges_what_it_is_handed(call: Callable[[socket.socket], object], code: int) -> None:
    with socket.socket() as sock:
        with pytest.raises(ws.WSAError) as caught:
            call(sock)
        assert caught.value.winerror == code


def test_a_second_call_and_a_call_too_late_are_refused_by_the_system() -> None:
    with socket.socket() as once, socket.socket() as bound:
        native.WSASetSocketSecurity(once)
        bound.bind(("127.0.0.1", 0))
        for sock in (once, bound):
            with pytest.raises(ws.WSAError) as caught:
                native.WSASetSocketSecurity(sock)
            assert caught.value.winerror == ws.WSAEINVAL


def test_a_socket_that_is_not_overlapped_works_as_any() -> None:
    with native.new_socket() as listener, native.new_socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            client.sendall(b"x")
            assert accepted.recv(1) == b"x"


def test_what_the_system_cannot_make_is_its_error() -> None:
    with pytest.raises(ws.WSAError):
        native.new_socket(99, 99, 99)
