"""The state table: each call in each state of a socket, and the code that it ends with."""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import securesock as ss
from securesock.winsock import (
    SIO_DELETE_PEER_TARGET_NAME,
    SIO_QUERY_SECURITY,
    SIO_SET_PEER_TARGET_NAME,
    SIO_SET_SECURITY,
    SOCKET_PEER_TARGET_NAME,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
    WSAEACCES,
    WSAECONNRESET,
    WSAEINVAL,
    WSAEISCONN,
    WSAENOTCONN,
    WSAENOTSOCK,
    WSADeleteSocketPeerTargetName,
    WSAError,
    WSAImpersonateSocketPeer,
    WSAIoctl,
    WSAQuerySocketSecurity,
    WSARevertImpersonation,
    WSASetSocketPeerTargetName,
    WSASetSocketSecurity,
)
from tests.support.loopback import PATIENCE_S, client_context, connected, server_context, stranger_context

NAME = SOCKET_PEER_TARGET_NAME(PeerTargetName="host/server.example")
SETTINGS = SOCKET_SECURITY_SETTINGS(SecurityFlags=SOCKET_SETTINGS_GUARANTEE_ENCRYPTION)
PEER = ("127.0.0.1", 7000)


class States:
    """A socket in each state; what it takes is released at the end."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def created(self, context: ss.SecurityContext | None = None) -> ss.SecureSocket:
        sock = ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=context or client_context())
        return self._stack.enter_context(sock)

    def named(self) -> ss.SecureSocket:
        sock = self.created()
        assert WSASetSocketPeerTargetName(sock, NAME) == 0
        return sock

    def secured(self) -> ss.SecureSocket:
        sock = self.created()
        assert WSASetSocketSecurity(sock, SETTINGS) == 0
        return sock

    def bound(self) -> ss.SecureSocket:
        sock = self.created()
        sock.bind(("127.0.0.1", 0))
        return sock

    def listening(self) -> ss.SecureSocket:
        sock = self.secured()
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        return sock

    def connecting(self) -> ss.SecureSocket:
        silent = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        sock = self.created()
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.connect(silent.getsockname())
        return sock

    def connected(self) -> ss.SecureSocket:
        return self._stack.enter_context(connected())[0]

    def accepted(self) -> ss.SecureSocket:
        return self._stack.enter_context(connected())[1]

    def failed(self) -> ss.SecureSocket:
        listener = self._stack.enter_context(ss.create_server(("127.0.0.1", 0), context=server_context()))
        sock = self.created(stranger_context())
        sock.settimeout(PATIENCE_S)
        with pytest.raises(ss.AuthenticationFailed):
            sock.connect(listener.getsockname())
        return sock

    def broken(self) -> ss.SecureSocket:
        ours, theirs = self._stack.enter_context(connected())
        ours.settimeout(PATIENCE_S)
        _socket.socket.send(theirs, b"\0\3?")  # a frame of a length that no frame has
        with pytest.raises(ss.PeerMisbehaved):
            ours.recv(1)
        return ours

    def closed(self) -> ss.SecureSocket:
        sock = self.created()
        sock.close()
        return sock


@pytest.fixture
def states() -> Iterator[States]:
    with ExitStack() as stack:
        yield States(stack)


OK = None
CALLS: dict[str, Callable[[ss.SecureSocket], object]] = {
    "set": lambda sock: WSASetSocketSecurity(sock, SETTINGS),
    "name": lambda sock: WSASetSocketPeerTargetName(sock, NAME),
    "delete": lambda sock: WSADeleteSocketPeerTargetName(sock, PEER),
    "query": WSAQuerySocketSecurity,
    "impersonate": WSAImpersonateSocketPeer,
}
CONTROLS: dict[str, Callable[[ss.SecureSocket], object]] = {
    "set": lambda sock: WSAIoctl(sock, SIO_SET_SECURITY, SETTINGS),
    "name": lambda sock: WSAIoctl(sock, SIO_SET_PEER_TARGET_NAME, NAME),
    "delete": lambda sock: WSAIoctl(sock, SIO_DELETE_PEER_TARGET_NAME, PEER),
    "query": lambda sock: WSAIoctl(sock, SIO_QUERY_SECURITY),
}
TABLE = {
    #             set          name         delete       query          impersonate
    "created": (OK, OK, OK, WSAENOTCONN, WSAENOTCONN),
    "named": (OK, OK, OK, WSAENOTCONN, WSAENOTCONN),
    "secured": (WSAEINVAL, OK, OK, WSAENOTCONN, WSAENOTCONN),
    "bound": (WSAEINVAL, OK, OK, WSAENOTCONN, WSAENOTCONN),
    "listening": (WSAEINVAL, WSAEINVAL, OK, WSAENOTCONN, WSAENOTCONN),
    "connecting": (WSAEINVAL, WSAEINVAL, OK, WSAENOTCONN, WSAEINVAL),
    "connected": (WSAEISCONN, WSAEISCONN, OK, OK, WSAEACCES),
    "accepted": (WSAEISCONN, WSAEISCONN, OK, OK, WSAEACCES),
    "failed": (WSAEINVAL, WSAEINVAL, OK, OK, WSAENOTCONN),
    "broken": (WSAEISCONN, WSAEISCONN, OK, WSAECONNRESET, WSAECONNRESET),
    "closed": (WSAENOTSOCK, WSAENOTSOCK, WSAENOTSOCK, WSAENOTSOCK, WSAENOTSOCK),
}


@pytest.mark.parametrize("state", TABLE)
def test_each_call_in_each_state_ends_as_the_table_says(states: States, state: str) -> None:
    for (name, call), code in zip(CALLS.items(), TABLE[state], strict=True):
        for each in (call, CONTROLS.get(name)):
            if each is None:
                continue
            sock = getattr(states, state)()
            if code is OK:
                assert each(sock) == 0 or name == "query"
                continue
            with pytest.raises(WSAError) as caught:
                each(sock)
            assert (name, caught.value.winerror) == (name, code)


@pytest.mark.parametrize("thing", [None, 7, "socket", object(), SETTINGS])
@pytest.mark.parametrize("call", [*CALLS.values(), *CONTROLS.values()])
def test_what_is_no_secure_socket_is_no_socket(thing: object, call: Callable[[object], object]) -> None:
    with pytest.raises(WSAError) as caught:
        call(thing)
    assert caught.value.winerror == WSAENOTSOCK


@pytest.mark.parametrize("call", CALLS.values())
def test_a_plain_socket_is_no_secure_socket(call: Callable[[object], object]) -> None:
    with socket.socket() as plain, pytest.raises(WSAError) as caught:
        call(plain)
    assert caught.value.winerror == WSAENOTSOCK


def test_a_call_that_fails_changes_nothing(states: States) -> None:
    sock = states.created()
    for wrong in (b"\0", SOCKET_SECURITY_SETTINGS(SecurityFlags=4), SOCKET_SECURITY_SETTINGS(SecurityFlags=3)):
        with pytest.raises(WSAError):
            WSASetSocketSecurity(sock, wrong)
    assert WSASetSocketSecurity(sock, SETTINGS) == 0


def test_a_second_call_is_refused_also_after_set_security(states: States) -> None:
    sock = states.created()
    sock.set_security(ss.SecuritySettings())
    with pytest.raises(WSAError, match="once") as caught:
        WSASetSocketSecurity(sock)
    assert caught.value.winerror == WSAEINVAL


def test_a_failed_negotiation_says_why_in_the_second_form(states: States) -> None:
    sock = states.failed()
    assert WSAQuerySocketSecurity(sock) == SOCKET_SECURITY_QUERY_INFO()
    info = WSAQuerySocketSecurity(sock, SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2())
    assert info.Flags == 0
    assert info.NegotiationWinerr == 13801  # ERROR_IPSEC_IKE_AUTH_FAIL


def test_reverting_is_always_possible() -> None:
    for _ in range(2):
        assert WSARevertImpersonation() == 0


def test_only_a_blocking_socket_has_a_peer_to_act_as(states: States) -> None:
    sock = states.connected()
    sock.settimeout(0)
    with pytest.raises(WSAError) as caught:
        WSAImpersonateSocketPeer(sock)
    assert caught.value.winerror == WSAEINVAL
    sock.settimeout(5)
    for address in (None, b"", ("nonsense",)):  # not looked at on a stream
        with pytest.raises(WSAError, match=r"host/server\.example") as caught:
            WSAImpersonateSocketPeer(sock, address)
        assert caught.value.winerror == WSAEACCES
