"""Microsoft's samples in our words: client, server, query, and what a peer without a name or with a wrong one gets."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

import securesock as ss
from securesock.winsock import (
    ERROR_IPSEC_IKE_AUTH_FAIL,
    ERROR_IPSEC_IKE_DROP_NO_RESPONSE,
    ERROR_IPSEC_IKE_GENERAL_PROCESSING_ERROR,
    ERROR_IPSEC_IKE_TIMED_OUT,
    SOCKET_INFO_CONNECTION_ENCRYPTED,
    SOCKET_INFO_CONNECTION_SECURED,
    SOCKET_PEER_TARGET_NAME,
    SOCKET_SECURITY_PROTOCOL_DEFAULT,
    SOCKET_SECURITY_PROTOCOL_IPSEC,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SECURITY_SETTINGS_IPSEC,
    SOCKET_SETTINGS_ALLOW_INSECURE,
    SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
    TOKEN_QUERY,
    WSAEACCES,
    WSAEFAULT,
    WSADeleteSocketPeerTargetName,
    WSAError,
    WSAImpersonateSocketPeer,
    WSAQuerySocketSecurity,
    WSARevertImpersonation,
    WSASetSocketPeerTargetName,
    WSASetSocketSecurity,
)
from tests.support.loopback import PATIENCE_S, Relay, client_context, server_context, stranger_context

ENCRYPTED = SOCKET_SECURITY_SETTINGS(SOCKET_SECURITY_PROTOCOL_DEFAULT, SOCKET_SETTINGS_GUARANTEE_ENCRYPTION)
SPN = "host/server.example"


def client(settings: object = ENCRYPTED, context: ss.SecurityContext | None = None) -> ss.SecureSocket:
    sock = ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=context or client_context())
    sock.settimeout(PATIENCE_S)
    WSASetSocketSecurity(sock, settings)
    return sock


def name(sock: ss.SecureSocket, text: str) -> None:
    WSASetSocketPeerTargetName(sock, SOCKET_PEER_TARGET_NAME(ENCRYPTED.SecurityProtocol, PeerTargetName=text))


@contextmanager
def server(
    handle: Callable[[ss.SecureSocket], None],
    settings: object = ENCRYPTED,
    context: ss.SecurityContext | None = None,
) -> Iterator[ss.SecureSocket]:
    """The sample's: settings before bind, then accept, in a thread."""
    errors: list[BaseException] = []

    def run() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            with accepted:
                accepted.settimeout(PATIENCE_S)
                try:
                    handle(accepted)
                except (OSError, AssertionError) as error:
                    errors.append(error)

    with ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=context or server_context()) as listener:
        WSASetSocketSecurity(listener, settings)
        listener.bind(("127.0.0.1", 0))
        listener.listen(10)
        thread = Thread(target=run)
        thread.start()
        try:
            yield listener
        finally:
            listener.close()
            thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert errors == []


def sample(accepted: ss.SecureSocket) -> None:
    info = WSAQuerySocketSecurity(accepted, SOCKET_SECURITY_QUERY_TEMPLATE(PeerTokenAccessMask=TOKEN_QUERY))
    assert info.Flags == SOCKET_INFO_CONNECTION_SECURED | SOCKET_INFO_CONNECTION_ENCRYPTED
    assert accepted.recv(256) == b"12345678"
    with pytest.raises(WSAError, match=r"host/client\.example") as caught:
        WSAImpersonateSocketPeer(accepted)
    assert caught.value.winerror == WSAEACCES
    assert WSARevertImpersonation() == 0
    accepted.sendall(b"91011121314")


def test_the_sample_client_and_server_talk_under_encryption() -> None:
    with server(sample) as listener, client() as sock:
        name(sock, SPN)
        sock.connect(listener.getsockname())
        with pytest.raises(WSAError) as probe:
            WSAQuerySocketSecurity(sock, info_length=0)
        assert probe.value.winerror == WSAEFAULT
        length = probe.value.needed_length
        assert WSAQuerySocketSecurity(sock, info_length=length).Flags == 3
        sock.sendall(b"12345678")
        assert sock.recv(256) == b"91011121314"
        assert sock.recv(256) == b""
        assert sock.query_security().differences == ()
        assert sock.query_security().asked == ss.SecuritySettings(guarantee_encryption=True)


def test_packed_settings_secure_both_ends() -> None:
    packed = SOCKET_SECURITY_SETTINGS_IPSEC(SecurityFlags=SOCKET_SETTINGS_GUARANTEE_ENCRYPTION).pack()
    with server(sample, packed) as listener, client(packed) as sock:
        name(sock, SPN)
        sock.connect(listener.getsockname())
        sock.sendall(b"12345678")
        assert sock.recv(256) == b"91011121314"
        assert isinstance(sock.query_security().asked, ss.IPsecSettings)


def test_without_a_name_any_machine_of_the_anchors_will_do_and_that_is_said() -> None:
    # A server whose certificate does not have the address that is connected to.
    context = client_context()
    with server(lambda accepted: accepted.sendall(b"x"), context=context) as listener:
        with (
            pytest.raises(ss.AuthenticationFailed),
            ss.SecureSocket(context=context) as plain_rule,
        ):
            plain_rule.connect(listener.getsockname())
        with client() as sock:
            sock.connect(listener.getsockname())
            assert sock.recv(1) == b"x"
            (difference,) = sock.query_security().differences
            assert difference.startswith("asked for no peer target name, applied host/client.example")


def test_a_name_that_was_deleted_is_no_name() -> None:
    with server(lambda accepted: accepted.sendall(b"x")) as listener, client() as sock:
        name(sock, "host/other.example")
        assert WSADeleteSocketPeerTargetName(sock, listener.getsockname()) == 0
        sock.connect(listener.getsockname())
        assert sock.recv(1) == b"x"
        assert sock.query_security().differences


@pytest.mark.parametrize(("spn", "context"), [("host/other.example", None), (SPN, stranger_context)])
def test_a_wrong_name_or_no_credential_fails_and_nothing_is_sent_in_clear(
    spn: str, context: Callable[[], ss.SecurityContext] | None
) -> None:
    with server(sample) as listener, Relay(listener.getsockname()) as relay:
        with client(context=context() if context else None) as sock:
            name(sock, spn)
            with pytest.raises(ss.AuthenticationFailed):
                sock.connect(relay.address)
            with pytest.raises(OSError):
                sock.sendall(b"12345678")
            info = WSAQuerySocketSecurity(sock, SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2())
            assert (info.Flags, info.NegotiationWinerr) == (0, ERROR_IPSEC_IKE_AUTH_FAIL)
        assert b"12345678" not in relay.recorded["to_server"]


def answers_in_clear(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(PATIENCE_S)
            if connection.recv(6) != b"IKETCP":
                connection.sendall(b"clear")


def test_allowed_insecure_a_peer_in_clear_is_reached_and_reported() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    thread = Thread(target=answers_in_clear, args=(listener,))
    thread.start()
    try:
        with client(SOCKET_SECURITY_SETTINGS(SecurityFlags=SOCKET_SETTINGS_ALLOW_INSECURE)) as sock:
            sock.connect(listener.getsockname())
            sock.sendall(b"hello.")
            assert sock.recv(5) == b"clear"
            template = SOCKET_SECURITY_QUERY_TEMPLATE(SOCKET_SECURITY_PROTOCOL_IPSEC)
            assert WSAQuerySocketSecurity(sock, template) == SOCKET_SECURITY_QUERY_INFO()
            info = WSAQuerySocketSecurity(sock, SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2())
            assert info.NegotiationWinerr == ERROR_IPSEC_IKE_DROP_NO_RESPONSE
            with pytest.raises(WSAError, match="nobody") as caught:
                WSAImpersonateSocketPeer(sock)
            assert caught.value.winerror == WSAEACCES
    finally:
        with suppress(OSError):  # Windows ends the accept() under way when the socket is closed
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_S)


def test_what_ends_a_negotiation_has_its_code() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, client() as sock:
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.connect(silent.getsockname())
        info = WSAQuerySocketSecurity(sock, SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2())
        assert info.NegotiationWinerr == ERROR_IPSEC_IKE_TIMED_OUT
    with client() as sock:
        with pytest.raises(ConnectionRefusedError):
            sock.connect(("127.0.0.1", 1))
        info = WSAQuerySocketSecurity(sock, SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2())
        assert info.NegotiationWinerr == ERROR_IPSEC_IKE_GENERAL_PROCESSING_ERROR
