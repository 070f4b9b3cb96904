"""Sockets that the system protects, over a fake of the system: order, refusals, impersonation.  On any platform."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import securesock as ss
from securesock import winsock as ws
from securesock.errors import PlaneError
from securesock.policy import FilterEngine
from securesock.sockets import native as native_sockets
from securesock.sockets.native import NativeSocket
from securesock.winsock import native
from tests.support.fake_extensions import FakeExtensions

BOTH = ws.SOCKET_INFO_CONNECTION_SECURED | ws.SOCKET_INFO_CONNECTION_ENCRYPTED
PATIENCE_S = 20.0


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> FakeExtensions:
    fake = FakeExtensions(ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2(Flags=BOTH, MmSaId=1, QmSaId=2))
    monkeypatch.setattr(native_sockets, "system_extensions", lambda: fake)
    monkeypatch.setattr(native, "system_extensions", lambda: fake)
    return fake


@pytest.fixture(scope="module")
def context() -> ss.SecurityContext:
    return ss.SecurityContext(ss.Identity.ephemeral("host/app.example"), plane="windows")


@contextmanager
def pair(context: ss.SecurityContext) -> Iterator[list[ss.SecureSocket]]:
    with ss.create_server(("127.0.0.1", 0), context=context) as listener:
        listener.settimeout(PATIENCE_S)
        address = listener.getsockname()
        with ss.create_connection(address, PATIENCE_S, peer="host/db.example", context=context) as client:
            accepted, _ = listener.accept()
            with accepted:
                yield [client, accepted]


def test_without_settings_the_default_holds_and_the_name_follows(
    system: FakeExtensions, context: ss.SecurityContext
) -> None:
    with pair(context) as (client, accepted):
        client.sendall(b"hello")
        assert accepted.recv(10) == b"hello"
        name = ws.SOCKET_PEER_TARGET_NAME(ws.SOCKET_SECURITY_PROTOCOL_IPSEC, None, "host/db.example").pack()
        told = [each for each in system.told if each[0] != "query_security"]
        assert told == [("set_security", None), ("set_security", None), ("set_peer_target_name", name)]
        assert client.query_security().plane == "windows"


def test_settings_come_once_and_first(system: FakeExtensions, context: ss.SecurityContext) -> None:
    with ss.SecureSocket(context=context) as sock:
        with pytest.raises(ss.LocalMisuse):
            sock.set_security("encrypt")
        sock.set_security(ss.SecuritySettings())
        with pytest.raises(ss.LocalMisuse, match="once"):
            sock.set_security(ss.SecuritySettings())
    with ss.SecureSocket(context=context) as sock:
        sock.listen()
        sock._settings_given = False
        with pytest.raises(ss.LocalMisuse, match="before"):
            sock.set_security(ss.SecuritySettings())


def test_what_the_system_refuses_changes_nothing(system: FakeExtensions, context: ss.SecurityContext) -> None:
    with ss.SecureSocket(context=context) as sock:
        system.failures = [ws.WSAEINVAL]
        with pytest.raises(ws.WSAError):
            sock.set_security(ss.SecuritySettings())
        sock.set_security(ss.SecuritySettings(guarantee_encryption=True))


def test_a_listener_neither_names_nor_connects_and_a_connected_socket_does_not_listen(
    system: FakeExtensions, context: ss.SecurityContext
) -> None:
    with ss.SecureSocket(context=context) as sock:
        with pytest.raises(OSError, match="does not listen"):
            sock.accept()
        sock.set_peer_target_name("host/db.example")
        with pytest.raises(ss.LocalMisuse, match="no peer to name"):
            sock.listen()
    with pair(context) as (client, _), pytest.raises(ss.LocalMisuse, match="does not listen"):
        client.listen()


def test_what_cannot_be_made(system: FakeExtensions, context: ss.SecurityContext) -> None:
    with FilterEngine.open() as engine, pytest.raises(ss.LocalMisuse, match="filters of its own"):
        ss.SecureSocket(context=ss.SecurityContext(context.identity, plane="windows", policy=engine))
    with pytest.raises(ss.LocalMisuse):
        ss.SecureSocket(fileno=7, context=context)
    with pytest.raises(ss.LocalMisuse):
        ss.SecureSocket(socket.AF_UNIX if hasattr(socket, "AF_UNIX") else 1, context=context)


def test_a_connection_in_clear_is_closed_unless_that_is_allowed(
    system: FakeExtensions, context: ss.SecurityContext
) -> None:
    system.answer = ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2()
    with ss.create_server(("127.0.0.1", 0), context=context) as listener:
        listener.settimeout(0.2)
        with pytest.raises(PlaneError, match="does not call it secured"):
            ss.create_connection(listener.getsockname(), PATIENCE_S, peer="host/db.example", context=context)
        with pytest.raises(TimeoutError):
            listener.accept()
        assert listener.refusals == {"in clear": 1}


def test_a_client_that_the_system_knows_nothing_of_is_refused(
    system: FakeExtensions, context: ss.SecurityContext
) -> None:
    with ss.create_server(("127.0.0.1", 0), context=context) as listener, socket.socket() as plain:
        listener.settimeout(0.2)
        plain.connect(listener.getsockname())
        system.failures = [ws.WSAECONNRESET]
        with pytest.raises(TimeoutError):
            listener.accept()
        assert listener.refusals == {"unknown": 1}
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_broken_connection_is_reported_as_such(system: FakeExtensions, context: ss.SecurityContext) -> None:
    with pair(context) as (client, _):
        system.failures = [ws.WSAECONNRESET]
        assert client.query_security().latch == "broken"
        system.failures = [ws.WSAEFAULT]
        with pytest.raises(ws.WSAError):
            client.query_security()
    with ss.SecureSocket(context=context) as sock, pytest.raises(ss.LocalMisuse):
        sock.query_security()


def test_impersonation_is_the_systems_of_this_thread_and_once(
    system: FakeExtensions, context: ss.SecurityContext
) -> None:
    with pair(context) as (_, accepted):
        with accepted.impersonate_peer() as account:
            assert account.uid == -1
        begun = accepted.impersonate_peer()
        with begun, pytest.raises(ss.LocalMisuse, match="once"):
            begun.__enter__()
        assert ws.WSAImpersonateSocketPeer(accepted) == 0
        assert ws.WSARevertImpersonation() == 0
        told = [name for name, _ in system.told if "imperson" in name]
        assert told == ["impersonate_peer", "revert_impersonation"] * 3
        accepted.setblocking(False)
        with pytest.raises(ss.LocalMisuse, match="blocking"):
            accepted.impersonate_peer()


def test_an_impersonation_that_cannot_be_ended_ends_the_process(
    system: FakeExtensions, context: ss.SecurityContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(native_sockets.os, "_exit", ended.append)
    with pair(context) as (_, accepted):
        impersonation = accepted.impersonate_peer()
        impersonation.__enter__()
        system.failures = [ws.WSASYSCALLFAILURE]
        impersonation.__exit__(None, None, None)
    assert ended == [71]


def test_an_impersonation_that_failed_left_nothing_to_end(system: FakeExtensions, context: ss.SecurityContext) -> None:
    with pair(context) as (_, accepted):
        impersonation = accepted.impersonate_peer()
        system.failures = [ws.WSAEACCES]
        with pytest.raises(ws.WSAError):
            impersonation.__enter__()
        impersonation.__exit__(None, None, None)
        assert ("revert_impersonation", None) not in system.told


def test_a_closed_listener_wakes_who_accepts(system: FakeExtensions, context: ss.SecurityContext) -> None:
    outcome: list[str] = []
    with ss.create_server(("127.0.0.1", 0), context=context) as listener:
        listener.settimeout(0.3)

        def accept() -> None:
            try:
                listener.accept()
            except OSError as error:
                outcome.append(type(error).__name__)

        thread = threading.Thread(target=accept)
        thread.start()
        thread.join(PATIENCE_S)
    assert outcome == ["TimeoutError"]


def test_the_winsock_names_hand_structures_over_as_they_are(
    system: FakeExtensions, context: ss.SecurityContext
) -> None:
    with ss.SecureSocket(context=context) as sock:
        assert isinstance(sock, NativeSocket)
        settings = ws.SOCKET_SECURITY_SETTINGS_IPSEC(
            IpsecFlags=ws.SOCKET_SETTINGS_IPSEC_OPTIONAL_PEER_NAME_VERIFICATION
        )
        ws.WSASetSocketSecurity(sock, settings)
        ws.WSASetSocketPeerTargetName(sock, ws.SOCKET_PEER_TARGET_NAME(PeerTargetName="HTTP/db:80"))
        ws.WSADeleteSocketPeerTargetName(sock, ("192.0.2.1", 1))
        (_, given), (_, name), (_, address) = system.told
        assert given == settings.pack()
        assert name is not None
        assert "HTTP/db:80".encode("utf-16-le") in name
        assert address is not None
        assert len(address) == 128


def test_any_socket_takes_the_functions_as_they_are(system: FakeExtensions) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        assert native.WSASetSocketSecurity(sock) == 0
        assert native.WSASetSocketSecurity(sock, b"\0" * 8) == 0
        assert native.WSASetSocketPeerTargetName(sock.fileno(), ws.SOCKET_PEER_TARGET_NAME()) == 0
        assert native.WSADeleteSocketPeerTargetName(sock, ("192.0.2.1", 1)) == 0
        assert native.WSADeleteSocketPeerTargetName(sock, b"\2\0") == 0
        assert native.WSAImpersonateSocketPeer(sock) == native.WSARevertImpersonation() == 0
        assert native.WSAQuerySocketSecurity(sock).Flags == BOTH
        system.answer = ws.SOCKET_SECURITY_QUERY_INFO(Flags=BOTH)
        assert native.WSAQuerySocketSecurity(sock, ws.SOCKET_SECURITY_QUERY_TEMPLATE()).Flags == BOTH
        assert native.CloseHandle(12) == 1
        assert system.closed == [12]
    with native.new_socket() as made:
        assert made.fileno() >= 0
