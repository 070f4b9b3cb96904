"""The same calls on datagram sockets, whose peers are told apart by address."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from struct import pack

import pytest

import securesock as ss
from securesock.winsock import (
    ERROR_IPSEC_IKE_AUTH_FAIL,
    SOCKET_PEER_TARGET_NAME,
    SOCKET_QUERY_IPSEC2_FIELD_MASK,
    SOCKET_SECURITY_PROTOCOL_IPSEC,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
    WSAEACCES,
    WSAEAFNOSUPPORT,
    WSAEFAULT,
    WSAEINVAL,
    WSAEISCONN,
    WSAEMSGSIZE,
    WSAENOTCONN,
    WSAENOTSOCK,
    WSADeleteSocketPeerTargetName,
    WSAError,
    WSAImpersonateSocketPeer,
    WSAQuerySocketSecurity,
    WSASetSocketPeerTargetName,
    WSASetSocketSecurity,
)
from tests.support.loopback import PATIENCE_S, client_context, server_context, stranger_context

SETTINGS = SOCKET_SECURITY_SETTINGS(SecurityFlags=SOCKET_SETTINGS_GUARANTEE_ENCRYPTION)
ELSEWHERE = ("127.0.0.1", 9)
NO_PEER = [None, ("127.0.0.1", 0), ("0.0.0.0", 7000), ("::", 7000), ("0.0.0.0", 0)]


def named(text: str, address: ss.Address | None) -> SOCKET_PEER_TARGET_NAME:
    return SOCKET_PEER_TARGET_NAME(PeerAddress=address, PeerTargetName=text)


@contextlib.contextmanager
def datagrams(context: ss.SecurityContext | None = None) -> Iterator[ss.SecureSocket]:
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=context or client_context()) as sock:
        sock.settimeout(PATIENCE_S)
        yield sock


@pytest.fixture
def sock() -> Iterator[ss.SecureSocket]:
    with datagrams() as fresh:
        yield fresh


@contextlib.contextmanager
def exchanged() -> Iterator[tuple[ss.SecureSocket, ss.SecureSocket]]:
    """Both ends after a datagram: the client's, the server's."""
    with datagrams(server_context()) as server, datagrams() as client:
        WSASetSocketSecurity(server, SETTINGS)
        server.bind(("127.0.0.1", 0))
        WSASetSocketSecurity(client, SETTINGS)
        client.bind(("127.0.0.1", 0))
        WSASetSocketPeerTargetName(client, named("host/server.example", server.getsockname()))
        client.sendto(b"first", server.getsockname())
        assert server.recvfrom(10)[0] == b"first"
        yield client, server


def refused(call: Callable[[], object]) -> int:
    with pytest.raises(WSAError) as caught:
        call()
    return caught.value.winerror


def every_call(sock: ss.SecureSocket, peer: ss.Address | None) -> dict[str, Callable[[], object]]:
    template = SOCKET_SECURITY_QUERY_TEMPLATE(SOCKET_SECURITY_PROTOCOL_IPSEC, peer)
    return {
        "set": lambda: WSASetSocketSecurity(sock, SETTINGS),
        "name": lambda: WSASetSocketPeerTargetName(sock, named("host/server.example", peer)),
        "delete": lambda: WSADeleteSocketPeerTargetName(sock, peer),
        "query": lambda: WSAQuerySocketSecurity(sock, template),
        "impersonate": lambda: WSAImpersonateSocketPeer(sock, peer),
    }


def created(sock: ss.SecureSocket) -> None:
    assert sock.type == socket.SOCK_DGRAM


def secured(sock: ss.SecureSocket) -> None:
    WSASetSocketSecurity(sock, SETTINGS)


def bound(sock: ss.SecureSocket) -> None:
    sock.bind(("127.0.0.1", 0))


def with_a_name(sock: ss.SecureSocket) -> None:
    WSASetSocketPeerTargetName(sock, named("host/server.example", ELSEWHERE))


def connected(sock: ss.SecureSocket) -> None:
    sock.connect(ELSEWHERE)


def closed(sock: ss.SecureSocket) -> None:
    sock.close()


OK = None


@pytest.mark.parametrize(
    ("bring", "codes"),
    [
        #            set, name, delete, query, impersonate
        (created, (OK, OK, OK, WSAENOTCONN, WSAENOTCONN)),
        (secured, (WSAEINVAL, OK, OK, WSAENOTCONN, WSAENOTCONN)),
        (bound, (WSAEINVAL, OK, OK, WSAENOTCONN, WSAENOTCONN)),
        (with_a_name, (WSAEINVAL, OK, OK, WSAENOTCONN, WSAENOTCONN)),
        (connected, (WSAEISCONN, WSAEISCONN, OK, WSAENOTCONN, WSAENOTCONN)),
        (closed, (WSAENOTSOCK,) * 5),
    ],
)
def test_each_call_in_each_state_ends_as_the_table_says(
    bring: Callable[[ss.SecureSocket], None], codes: tuple[int | None, ...]
) -> None:
    for position, code in enumerate(codes):
        with datagrams() as sock:
            bring(sock)
            name, call = list(every_call(sock, ELSEWHERE).items())[position]
            if code is OK:
                assert call() == 0
            else:
                assert (name, refused(call)) == (name, code)


def test_after_traffic_with_a_peer() -> None:
    with exchanged() as (client, server):
        for sock, peer in ((client, server.getsockname()), (server, client.getsockname())):
            calls = every_call(sock, peer)
            assert refused(calls["set"]) == WSAEINVAL
            assert calls["query"]().Flags == 3
            assert refused(calls["impersonate"]) == WSAEACCES
        assert refused(every_call(client, server.getsockname())["name"]) == WSAEINVAL  # before the first datagram
        assert every_call(client, ELSEWHERE)["name"]() == 0  # but for new peers at any time
        assert refused(every_call(client, ELSEWHERE)["query"]) == WSAENOTCONN


@pytest.mark.parametrize("peer", NO_PEER)
def test_a_peer_is_a_host_and_a_port(sock: ss.SecureSocket, peer: ss.Address | None) -> None:
    calls = every_call(sock, peer)
    missing = WSAEFAULT if peer is None else WSAEINVAL
    assert refused(calls["name"]) == WSAEINVAL
    assert refused(calls["delete"]) == missing
    assert refused(calls["query"]) == WSAEINVAL
    assert refused(calls["impersonate"]) == missing


def test_a_peer_of_another_family_is_not_supported(sock: ss.SecureSocket) -> None:
    calls = every_call(sock, ("2001:db8::1", 7000, 0, 0))
    for name in ("name", "delete", "query", "impersonate"):
        assert (name, refused(calls[name])) == (name, WSAEAFNOSUPPORT)


def test_a_text_that_is_no_name_is_invalid(sock: ss.SecureSocket) -> None:
    assert refused(lambda: WSASetSocketPeerTargetName(sock, named("*.example", ELSEWHERE))) == WSAEINVAL


@pytest.mark.parametrize("template", [None, b"", bytes(143), pack("<I", 2) + bytes(147)])
def test_a_template_is_required_in_full(sock: ss.SecureSocket, template: bytes) -> None:
    assert refused(lambda: WSAQuerySocketSecurity(sock, template)) == WSAEMSGSIZE


@pytest.mark.parametrize(("family", "code"), [(0, WSAEINVAL), (10, WSAEAFNOSUPPORT)])
def test_a_templates_address_is_looked_at(sock: ss.SecureSocket, family: int, code: int) -> None:
    template = pack("<I4xH", 1, family) + b"\x1b\x58\x7f\0\0\1" + bytes(128)
    assert refused(lambda: WSAQuerySocketSecurity(sock, template)) == code


def test_the_answer_is_that_of_the_peer_and_its_size_is_told() -> None:
    with exchanged() as (client, server):
        peer = server.getsockname()
        applied = client.query_security(peer)
        template = SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(PeerAddress=peer, FieldMask=SOCKET_QUERY_IPSEC2_FIELD_MASK(3))
        for each in (template, template.pack()):
            info = WSAQuerySocketSecurity(client, each)
            assert (info.MmSaId, info.QmSaId) == (applied.main_mode_sa_id, applied.quick_mode_sa_id)
            assert info.NegotiationWinerr == 0
        with pytest.raises(WSAError) as caught:
            WSAQuerySocketSecurity(client, template, info_length=0)
        assert (caught.value.winerror, caught.value.needed_length) == (WSAEMSGSIZE, 64)


def test_a_failed_negotiation_says_why_and_gives_nobody_to_act_as() -> None:
    with datagrams(stranger_context()) as client, datagrams(server_context()) as server:
        server.bind(("127.0.0.1", 0))
        peer = server.getsockname()
        WSASetSocketPeerTargetName(client, named("host/server.example", peer))
        with pytest.raises(ss.AuthenticationFailed):
            client.sendto(b"x", peer)
        template = SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(PeerAddress=peer)
        info = WSAQuerySocketSecurity(client, template)
        assert (info.Flags, info.NegotiationWinerr) == (0, ERROR_IPSEC_IKE_AUTH_FAIL)
        first = SOCKET_SECURITY_QUERY_TEMPLATE(SOCKET_SECURITY_PROTOCOL_IPSEC, peer)
        assert WSAQuerySocketSecurity(client, first) == SOCKET_SECURITY_QUERY_INFO()
        assert refused(lambda: WSAImpersonateSocketPeer(client, peer)) == WSAENOTCONN


def test_without_a_name_any_machine_of_the_anchors_will_do_and_that_is_said() -> None:
    with datagrams() as server:  # whose certificate does not have its address
        server.bind(("127.0.0.1", 0))
        peer = server.getsockname()
        with datagrams(server_context()) as ordinary, pytest.raises(ss.AuthenticationFailed):
            ordinary.sendto(b"x", peer)
        with datagrams(server_context()) as client:
            WSASetSocketSecurity(client, SETTINGS)
            client.sendto(b"x", peer)
            (difference,) = client.query_security(peer).differences
            assert difference.startswith("asked for no peer target name, applied host/client.example")


def test_any_trusted_peer_said_aloud_is_said_too_and_a_name_is_not() -> None:
    with datagrams(server_context()) as server, datagrams() as client:
        server.bind(("127.0.0.1", 0))
        peer = server.getsockname()
        client.set_peer_target_name(ss.ANY_TRUSTED_PEER, peer)
        client.sendto(b"x", peer)
        assert client.query_security(peer).differences[0].startswith("asked for no peer target name")
        WSADeleteSocketPeerTargetName(client, peer)
        WSASetSocketPeerTargetName(client, named("host/server.example", peer))
        client.sendto(b"x", peer)
        assert client.query_security(peer).differences == ()


def test_a_deleted_name_is_not_used_again() -> None:
    with datagrams(server_context()) as server, datagrams() as client:
        server.bind(("127.0.0.1", 0))
        peer = server.getsockname()
        WSASetSocketPeerTargetName(client, named("host/other.example", peer))
        with pytest.raises(ss.AuthenticationFailed):
            client.sendto(b"x", peer)
        assert WSADeleteSocketPeerTargetName(client, peer) == 0
        client.sendto(b"x", peer)
        assert server.recvfrom(10)[0] == b"x"
