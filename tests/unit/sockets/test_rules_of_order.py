"""Settings, then the peer's name, then bind, listen or connect; and what a SecureSocket is not made for."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from uuid import uuid4

import pytest

import securesock as ss
from tests.support.loopback import client_context, server_context


@pytest.fixture
def sock() -> Iterator[ss.SecureSocket]:
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=client_context()) as fresh:
        yield fresh


def test_settings_are_set_once(sock: ss.SecureSocket) -> None:
    sock.set_security(ss.SecuritySettings(guarantee_encryption=True))
    with pytest.raises(ss.LocalMisuse, match="once"):
        sock.set_security(ss.SecuritySettings())


def test_settings_after_bind_are_misuse(sock: ss.SecureSocket) -> None:
    sock.bind(("127.0.0.1", 0))
    with pytest.raises(ss.LocalMisuse, match="before"):
        sock.set_security(ss.SecuritySettings())


def test_settings_after_listen_are_misuse(sock: ss.SecureSocket) -> None:
    sock.listen()
    with pytest.raises(ss.LocalMisuse, match="before"):
        sock.set_security(ss.SecuritySettings())


def test_settings_and_a_name_after_connect_are_misuse(sock: ss.SecureSocket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.connect(silent.getsockname())
        with pytest.raises(ss.LocalMisuse, match="before"):
            sock.set_security(ss.SecuritySettings())
        with pytest.raises(ss.LocalMisuse, match="before"):
            sock.set_peer_target_name("host/other.example")


def test_a_name_may_be_set_after_bind_and_changed_before_connect(sock: ss.SecureSocket) -> None:
    sock.bind(("127.0.0.1", 0))
    sock.set_peer_target_name("host/a.example")
    sock.set_peer_target_name("host/b.example")
    assert str(sock._expected) == "host/b.example"


def test_a_listener_takes_no_peers_name(sock: ss.SecureSocket) -> None:
    sock.listen()
    with pytest.raises(ss.LocalMisuse):
        sock.set_peer_target_name("host/a.example")


def test_a_socket_with_a_peers_name_does_not_listen(sock: ss.SecureSocket) -> None:
    sock.set_peer_target_name("host/a.example")
    with pytest.raises(ss.LocalMisuse, match="allow"):
        sock.listen()


def test_settings_that_would_be_ignored_are_misuse(sock: ss.SecureSocket) -> None:
    with pytest.raises(ss.LocalMisuse):
        sock.set_security(ss.IPsecSettings(main_mode_policy=uuid4()))
    sock.set_security(ss.IPsecSettings(guarantee_encryption=True))


def test_guarantee_encryption_with_allow_insecure_is_misuse_and_a_value_error() -> None:
    with pytest.raises(ss.LocalMisuse) as caught:
        ss.SecuritySettings(guarantee_encryption=True, allow_insecure=True)
    assert isinstance(caught.value, ValueError)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("name", ["", "host/", "sha256:abc", "*.example", "a b"])
def test_a_name_that_is_none_is_misuse(sock: ss.SecureSocket, name: str) -> None:
    with pytest.raises(ss.LocalMisuse):
        sock.set_peer_target_name(name)


def test_an_address_without_a_host_needs_a_name(sock: ss.SecureSocket) -> None:
    with pytest.raises(ss.LocalMisuse, match="host"):
        sock.connect(("", 9))


@pytest.mark.parametrize("address", [("127.0.0.1",), "127.0.0.1", (b"127.0.0.1", 9), None])
def test_an_address_that_is_none_of_tcps_is_misuse(sock: ss.SecureSocket, address: object) -> None:
    with pytest.raises(ss.LocalMisuse, match="address"):
        sock.connect(address)


def test_a_listener_does_not_connect(sock: ss.SecureSocket) -> None:
    sock.listen()
    with pytest.raises(ss.LocalMisuse):
        sock.connect(("127.0.0.1", 9))


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (getattr(socket, "AF_UNIX", 1), socket.SOCK_STREAM),
        (socket.AF_INET, socket.SOCK_RAW),
        (getattr(socket, "AF_UNIX", 1), socket.SOCK_DGRAM),
        (socket.AF_INET, socket.SOCK_SEQPACKET),
    ],
)
def test_what_is_neither_tcp_nor_udp_is_misuse(family: int, kind: int) -> None:
    with pytest.raises(ss.LocalMisuse):
        ss.SecureSocket(family, kind)


def test_a_descriptor_comes_without_keys() -> None:
    with socket.socket() as plain, pytest.raises(ss.LocalMisuse):
        ss.SecureSocket(fileno=plain.fileno())


def test_nothing_was_negotiated_on_a_fresh_socket_or_a_listener(sock: ss.SecureSocket) -> None:
    for _ in range(2):
        with pytest.raises(ss.LocalMisuse) as caught:
            sock.query_security()
        assert caught.value.errno == errno.ENOTCONN
        sock.listen()


def test_calls_that_need_a_connection_say_that_there_is_none(sock: ss.SecureSocket) -> None:
    calls = (
        lambda: sock.recv(1),
        lambda: sock.send(b"x"),
        lambda: sock.sendall(b"x"),
        lambda: sock.shutdown(socket.SHUT_WR),
        sock.do_handshake,
    )
    for call in calls:
        with pytest.raises(OSError, match="not connected") as caught:
            call()
        assert caught.value.errno == errno.ENOTCONN


def test_a_closed_socket_says_that_it_is_closed() -> None:
    sock = ss.SecureSocket(context=client_context())
    sock.close()
    sock.close()
    assert sock.fileno() == -1
    for call in (lambda: sock.recv(1), lambda: sock.send(b"x"), lambda: sock.connect(("127.0.0.1", 9))):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_accept_without_listening_is_an_error(sock: ss.SecureSocket) -> None:
    with pytest.raises(OSError) as caught:
        sock.accept()
    assert caught.value.errno == errno.EINVAL


DONT_WAIT = int(getattr(socket, "MSG_DONTWAIT", 0x40))  # Linux's number, where the platform has no such flag


@pytest.mark.parametrize("flags", [DONT_WAIT, socket.MSG_OOB, socket.MSG_WAITALL, socket.MSG_OOB | socket.MSG_PEEK])
def test_flags_other_than_peek_are_misuse(flags: int) -> None:
    from securesock.sockets.refused import check_no_flags, check_peek

    assert check_peek(socket.MSG_PEEK)
    for check in (check_peek, check_no_flags):
        with pytest.raises(ss.LocalMisuse):
            check(flags)


def test_timeouts_are_as_for_any_socket(sock: ss.SecureSocket) -> None:
    assert sock.gettimeout() is None
    assert sock.getblocking()
    sock.settimeout(2)
    assert sock.gettimeout() == sock.timeout == 2.0
    sock.setblocking(False)
    assert sock.gettimeout() == 0.0
    assert not sock.getblocking()
    sock.setblocking(True)
    assert sock.timeout is None
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="range"):
            sock.settimeout(wrong)


def test_the_default_timeout_is_taken_from_the_socket_module() -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(7)
    try:
        with ss.SecureSocket(context=client_context()) as sock:
            assert sock.gettimeout() == 7
    finally:
        socket.setdefaulttimeout(before)


def test_a_nonblocking_type_makes_a_nonblocking_socket() -> None:
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, context=client_context()) as sock:
        assert sock.gettimeout() == 0.0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"dualstack_ipv6": True}, ValueError),
        ({"allow": "host/a.example"}, ss.LocalMisuse),
        ({"allow": ["not a name"]}, ss.LocalMisuse),
        ({"public_addresses": [("db.example", 1)]}, ss.LocalMisuse),
    ],
)
def test_a_server_with_wrong_arguments_is_refused_and_leaves_no_socket(
    arguments: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        ss.create_server(("127.0.0.1", 0), context=server_context(), **arguments)


def test_a_plane_that_is_not_there_is_said_at_connect() -> None:
    context = ss.SecurityContext(client_context().identity, plane="kernel")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ss.PlaneError, match="kernel"):
        ss.create_connection(silent.getsockname(), 5, peer="host/a.example", context=context)
