"""SecureSocket of SOCK_DGRAM on the loopback: the calls of socket.socket as a program makes them."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import selectors
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

import securesock as ss
from tests.support.loopback import PATIENCE_S, client_context, needs_fork, server_context, stranger_context, until

INSECURE = ss.SecuritySettings(allow_insecure=True)


@contextlib.contextmanager
def bound(
    context: ss.SecurityContext | None = None,
    *,
    host: str = "127.0.0.1",
    family: int = socket.AF_INET,
    settings: ss.SecuritySettings | None = None,
    timeout: float | None = PATIENCE_S,
) -> Iterator[ss.SecureSocket]:
    """A bound datagram socket; the server's unless another context is given."""
    with ss.SecureSocket(family, socket.SOCK_DGRAM, context=context or server_context()) as sock:
        if settings is not None:
            sock.set_security(settings)
        sock.bind((host, 0))
        sock.settimeout(timeout)
        yield sock


@contextlib.contextmanager
def pair() -> Iterator[tuple[ss.SecureSocket, ss.SecureSocket, ss.Address]]:
    """A client and a server that have exchanged a datagram, and the client's address as the server sees it."""
    with bound() as server, bound(client_context()) as client:
        client.sendto(b"first", server.getsockname())
        data, address = server.recvfrom(100)
        assert data == b"first"
        assert address == client.getsockname()
        yield client, server, client.getsockname()


@contextlib.contextmanager
def echoing(server: ss.SecureSocket) -> Iterator[None]:
    """Answer every datagram of up to 65,000 bytes until b"end" comes."""

    def run() -> None:
        while True:
            data, address = server.recvfrom(65000)
            if data == b"end":
                return
            server.sendto(data, address)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


# calls


def test_datagrams_go_both_ways_and_each_end_knows_the_other() -> None:
    with pair() as (client, server, address):
        server.sendto(b"answer", address)
        assert client.recvfrom(100) == (b"answer", server.getsockname())
        info = client.query_security(server.getsockname())
        assert info.secured
        assert info.encrypted
        assert info.peer_machine is not None
        assert info.peer_machine.name == "127.0.0.1"
        assert info.plane == "userspace"
        assert info.differences == ()
        assert str(server.query_security(address).peer_machine) == "host/client.example"


def test_nothing_of_it_is_on_the_wire_in_clear() -> None:
    recorded: list[bytes] = []
    with bound() as server, bound(client_context()) as client, socket.socket(type=socket.SOCK_DGRAM) as relay:
        relay.bind(("127.0.0.1", 0))
        relay.settimeout(PATIENCE_S)
        done = threading.Event()

        def run() -> None:
            while not done.is_set():
                if not select.select([relay], [], [], 0.05)[0]:
                    continue
                data, source = relay.recvfrom(65536)
                recorded.append(data)
                relay.sendto(data, client.getsockname() if source == server.getsockname() else server.getsockname())

        thread = threading.Thread(target=run)
        thread.start()
        secret = b"sixteen bytes or more that nobody may see"
        client.sendto(secret, relay.getsockname())
        data, seen_from = server.recvfrom(100)
        assert data == secret
        assert seen_from == relay.getsockname()
        server.sendto(secret[::-1], seen_from)
        assert client.recv(100) == secret[::-1]
        info = server.query_security(seen_from)
        done.set()
        thread.join(PATIENCE_S)
    assert any("addresses are translated" in each for each in info.differences)
    stream = b"|".join(recorded)
    assert len(stream) > 2000
    assert not any(secret[at : at + 8] in stream for at in range(len(secret) - 8))
    assert not any(secret[::-1][at : at + 8] in stream for at in range(len(secret) - 8))


@pytest.mark.parametrize("length", [0, 1, 1400, 1500, 9000, 65000])
def test_a_datagram_arrives_whole_whatever_its_length(length: int) -> None:
    payload = os.urandom(length)
    with pair() as (client, server, _):
        assert client.sendto(payload, server.getsockname()) == length
        assert server.recv(65536) == payload


def test_a_datagram_that_no_packet_can_hold_is_the_systems_error() -> None:
    with pair() as (client, server, _):
        with pytest.raises(OSError) as caught:
            client.sendto(bytes(65500), server.getsockname())
        assert caught.value.errno == errno.EMSGSIZE
        assert not isinstance(caught.value, ss.SecureSocketError)
        client.sendto(b"still", server.getsockname())
        assert server.recv(100) == b"still"


def test_a_connected_socket_sends_and_receives_without_addresses() -> None:
    with bound() as server, bound(client_context()) as client:
        client.connect(server.getsockname())
        assert client.getpeername() == server.getsockname()
        with echoing(server):
            assert client.send(b"hello") == 5
            assert client.recv(100) == b"hello"
            client.sendall(b"again")
            buffer = bytearray(10)
            assert client.recv_into(buffer) == 5
            assert client.sendmsg([b"in ", b"pieces"]) == 9
            assert client.recvfrom(100) == (b"in pieces", server.getsockname())
            assert client.query_security().secured
            client.send(b"end")


def test_what_is_too_long_for_the_callers_buffer_is_cut_and_said_to_be() -> None:
    with pair() as (client, server, _):
        client.sendto(b"0123456789", server.getsockname())
        client.sendto(b"0123456789", server.getsockname())
        assert server.recv(4) == b"0123"
        data, _, flags, _ = server.recvmsg(4)
        assert (data, flags) == (b"0123", socket.MSG_TRUNC)


def test_a_peek_leaves_the_datagram_there() -> None:
    with pair() as (client, server, address):
        client.sendto(b"look", server.getsockname())
        assert server.recvfrom(100, socket.MSG_PEEK) == (b"look", address)
        assert server.recv(100) == b"look"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(100)


def test_ancillary_data_says_who_sent_it_and_under_which_sa() -> None:
    with pair() as (client, server, address):
        client.sendto(b"from whom?", server.getsockname())
        data, ancillary, flags, source = server.recvmsg(100, 256)
        assert (data, flags, source) == (b"from whom?", 0, address)
        sa_id = server.query_security(address).quick_mode_sa_id
        assert ancillary == [
            (ss.SOL_SECURESOCK, ss.SCM_PRINCIPAL, b"host/client.example"),
            (ss.SOL_SECURESOCK, ss.SCM_SA_ID, struct.pack(">Q", sa_id)),
        ]
        first, second = bytearray(3), bytearray(10)
        client.sendto(b"in parts", server.getsockname())
        assert server.recvmsg_into([first, second])[0] == 8
        assert bytes(first + second[:5]) == b"in parts"


def test_batches_go_and_come_in_order() -> None:
    with pair() as (client, server, address):
        batch = [b"%04d" % number * 300 for number in range(40)] + [b"", b"short", bytes(20000), b"end"]
        assert client.send_batch(batch, server.getsockname()) == len(batch)
        received: list[tuple[bytes, ss.Address]] = []
        while len(received) < len(batch):
            some = server.recv_batch(16)
            assert 1 <= len(some) <= 16
            received += some
        assert received == [(each, address) for each in batch]
        client.sendto(b"alone", server.getsockname())
        assert server.recv(100) == b"alone"


def test_what_the_kernel_joined_comes_in_order_where_nobody_receives_meanwhile() -> None:
    with pair() as (client, server, address):
        client.sendto(b"first", server.getsockname())
        assert server.recv_batch(16) == [(b"first", address)]  # from now on the kernel joins
        with selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            batch = [b"%04d" % number for number in range(30)]
            assert client.send_batch(batch, server.getsockname()) == len(batch)
            assert selector.select(10), "it was read for whoever waits for the descriptor"
            received = [server.recvfrom(100)[0] for _ in batch]
            assert received == batch
            assert not selector.select(0)


def test_ipv6_has_four_part_addresses() -> None:
    six = {"host": "::1", "family": socket.AF_INET6}
    with bound(**six) as server, bound(client_context(), **six) as client, echoing(server):
        client.sendto(b"six", ("::1", server.getsockname()[1]))
        assert client.recvfrom(100) == (b"six", server.getsockname())
        client.sendto(b"end", server.getsockname())


def test_a_socket_bound_to_any_address_is_reached_at_one() -> None:
    with bound(host="0.0.0.0") as server, bound(client_context(), host="0.0.0.0") as client, echoing(server):
        port = server.getsockname()[1]
        client.sendto(b"any", ("127.0.0.1", port))
        assert client.recvfrom(100) == (b"any", ("127.0.0.1", port))
        assert client.query_security(("127.0.0.1", port)).differences == ()
        client.sendto(b"end", ("127.0.0.1", port))


def test_one_socket_has_many_peers() -> None:
    with bound() as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(bound(client_context())) for _ in range(8)]
        for number, client in enumerate(clients):
            client.sendto(b"%d" % number, server.getsockname())
        seen = dict(server.recvfrom(10) for _ in clients)
        assert seen == {b"%d" % number: client.getsockname() for number, client in enumerate(clients)}
        infos = [server.query_security(client.getsockname()) for client in clients]
        assert len({each.quick_mode_sa_id for each in infos}) == len(clients)


# names and refusals


def test_a_peer_with_another_name_is_refused_and_nothing_is_sent_to_it() -> None:
    with bound(timeout=0.2) as server, bound(client_context()) as client:
        client.set_peer_target_name("host/other.example", server.getsockname())
        with pytest.raises(ss.AuthenticationFailed):
            client.sendto(b"not for you", server.getsockname())
        with pytest.raises(TimeoutError):
            server.recv(100)
        info = client.query_security(server.getsockname())
        assert not info.secured
        assert info.negotiation_error
        client.delete_peer_target_name(server.getsockname())
        client.set_peer_target_name("host/server.example", server.getsockname())
        client.sendto(b"for you", server.getsockname())
        assert server.recv(100) == b"for you"


def test_a_stranger_is_refused_and_the_server_works_on() -> None:
    with bound() as server, bound(stranger_context()) as stranger, bound(client_context()) as client:
        with pytest.raises(ss.AuthenticationFailed):
            stranger.sendto(b"let me in", server.getsockname())
        client.sendto(b"hello", server.getsockname())
        assert server.recv(100) == b"hello"
        assert sum(server.refusals.values()) >= 1
        with pytest.raises(ss.LocalMisuse) as caught:
            server.query_security(stranger.getsockname())
        assert caught.value.errno == errno.ENOTCONN


def test_settings_and_names_come_in_their_order() -> None:
    with pair() as (client, server, _):
        with pytest.raises(ss.LocalMisuse, match="settings come before"):
            client.set_security(ss.SecuritySettings())
        with pytest.raises(ss.LocalMisuse, match="before its first datagram"):
            client.set_peer_target_name("host/server.example", server.getsockname())
        with pytest.raises(ss.LocalMisuse, match="give the address"):
            client.set_peer_target_name("host/server.example")
        with pytest.raises(ss.LocalMisuse, match="give the address"):
            client.query_security()


@pytest.mark.parametrize("address", ["127.0.0.1", ("127.0.0.1",), (7, 7), ("", 7), ("a..b", 7), ("a" * 64, 7)])
def test_what_is_no_address_is_misuse(address: object) -> None:
    with bound(client_context()) as client, pytest.raises(ss.LocalMisuse):
        client.sendto(b"x", address)


def test_what_datagrams_do_not_have_is_refused() -> None:
    with bound() as sock:
        for call in (sock.listen, sock.accept, lambda: sock.shutdown(socket.SHUT_WR)):
            with pytest.raises(OSError, match="not"):
                call()
        with pytest.raises(ss.LocalMisuse):
            sock.do_handshake()
        with pytest.raises(ss.LocalMisuse):
            sock.sendto(b"x", socket.MSG_OOB, ("127.0.0.1", 9))
        with pytest.raises(ss.LocalMisuse):
            sock.recv(10, socket.MSG_OOB)
        with pytest.raises(OSError, match="Destination"):
            sock.send(b"x")
        with pytest.raises(TypeError):
            sock.sendto(b"x")


def test_a_secured_datagram_socket_is_a_socket() -> None:
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=client_context()) as sock:
        assert isinstance(sock, socket.socket)
        assert isinstance(sock, ss.SecureSocket)
        assert sock.type == socket.SOCK_DGRAM
        assert "SecureDatagramSocket" in repr(sock)


# time


def test_silence_is_a_timeout_within_the_sockets_own() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as silent, bound(client_context(), timeout=0.2) as client:
        silent.bind(("127.0.0.1", 0))
        started = monotonic()
        with pytest.raises(TimeoutError):
            client.sendto(b"anybody?", silent.getsockname())
        assert 0.15 < monotonic() - started < 2
        with pytest.raises(TimeoutError):
            client.recv(10)


def test_a_nonblocking_socket_keeps_first_datagrams_until_the_negotiation_is_over() -> None:
    with bound() as server, bound(client_context()) as client:
        client.setblocking(False)
        for number in range(64):
            assert client.sendto(b"%d" % number, server.getsockname()) in (1, 2)
        assert sorted(int(server.recv(10)) for _ in range(64)) == list(range(64))


def test_a_nonblocking_socket_learns_of_the_failure_at_its_next_call() -> None:
    with bound() as server, bound(client_context()) as client:
        client.setblocking(False)
        client.set_peer_target_name("host/other.example", server.getsockname())
        client.sendto(b"not for you", server.getsockname())
        until(lambda: _is_refused(client, server.getsockname()))
        with pytest.raises(ss.AuthenticationFailed):
            client.sendto(b"not for you", server.getsockname())


def _is_refused(sock: ss.SecureSocket, address: ss.Address) -> bool:
    try:
        return bool(sock.query_security(address).negotiation_error)
    except ss.LocalMisuse:
        return False


def test_so_many_first_datagrams_and_no_more() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as silent, bound(client_context()) as client:
        silent.bind(("127.0.0.1", 0))
        client.setblocking(False)
        for _ in range(64):
            client.sendto(b"x", silent.getsockname())
        with pytest.raises(BlockingIOError):
            client.sendto(b"x", silent.getsockname())
        client.delete_peer_target_name(silent.getsockname())


def test_a_selector_sees_datagrams_and_no_key_exchange() -> None:
    with bound() as server, bound(client_context()) as client, selectors.DefaultSelector() as selector:
        server.setblocking(False)
        selector.register(server, selectors.EVENT_READ)
        client.sendto(b"one", server.getsockname())
        client.sendto(b"two", server.getsockname())
        received = []
        while len(received) < 2:
            assert selector.select(PATIENCE_S)
            received.append(server.recv(10))
        assert received == [b"one", b"two"]
        assert not selector.select(0)


def test_a_socket_may_be_looked_at_before_it_is_bound() -> None:
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=server_context()) as server:
        number = server.fileno()
        server.bind(("127.0.0.1", 0))
        assert server.fileno() == number
        with bound(client_context()) as client:
            assert not select.select([server], [], [], 0)[0]
            client.sendto(b"seen", server.getsockname())
            assert select.select([server], [], [], PATIENCE_S)[0]
            server.setblocking(False)
            assert server.recv(10) == b"seen"


def test_socketserver_serves_datagrams() -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, sock = self.request
            sock.sendto(data.upper(), self.client_address)

    class Server(socketserver.UDPServer):
        def __init__(self) -> None:
            socketserver.BaseServer.__init__(self, ("127.0.0.1", 0), Handler)
            self.socket = ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=server_context())
            self.server_bind()

    with Server() as server, bound(client_context()) as client:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        for number in range(3):
            client.sendto(b"hello %d" % number, server.server_address)
            assert client.recv(100) == b"HELLO %d" % number
        server.shutdown()
        thread.join(PATIENCE_S)


def test_one_thread_sends_while_another_receives() -> None:
    with pair() as (client, server, _):
        count = 3000
        received: list[bytes] = []
        window = threading.Semaphore(50)

        def receive() -> None:
            client.settimeout(1.0)
            with contextlib.suppress(TimeoutError):
                while len(received) < count:
                    received.append(client.recv(2000))
                    window.release()

        with echoing(server):
            thread = threading.Thread(target=receive)
            thread.start()
            for number in range(count):
                client.sendto(b"%d" % number, server.getsockname())
                window.acquire(timeout=1)
            thread.join(PATIENCE_S)
            client.sendto(b"end", server.getsockname())
        assert len(received) == len(set(received)) > count * 0.99


def test_close_from_another_thread_wakes_who_receives() -> None:
    with bound(timeout=None) as server:
        raised: list[str] = []

        def receive() -> None:
            try:
                server.recv(10)
            except OSError as error:
                raised.append(str(error))

        thread = threading.Thread(target=receive)
        thread.start()
        server.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert raised == ["[Errno 9] the socket is closed"]


def _receive_all(sock: ss.SecureSocket, received: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        while True:
            received.append(sock.recv(10))


def test_close_while_a_thread_waits_in_the_kernel_frees_the_port_before_it_returns() -> None:
    for _ in range(5):
        with pair() as (client, server, _):
            server.settimeout(None)
            server_address = server.getsockname()
            received: list[bytes] = []
            thread = threading.Thread(target=_receive_all, args=(server, received))
            thread.start()
            client.sendto(b"awake", server_address)
            until(received.copy)
            server.close()
            with socket.socket(type=socket.SOCK_DGRAM) as plain:
                plain.bind(server_address)
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def test_a_timeout_is_kept_whatever_strangers_send() -> None:
    with bound(timeout=0.3) as server, socket.socket(type=socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"no packet of anybody's", server.getsockname())
        started = monotonic()
        with pytest.raises(TimeoutError):
            server.recv(10)
        assert monotonic() - started >= 0.29


# the end


def test_close_frees_the_port_and_the_peer_learns_of_it() -> None:
    with bound() as server:
        with bound(client_context()) as client:
            address = client.getsockname()
            client.sendto(b"hello", server.getsockname())
            server.recv(10)
            assert server.query_security(address).secured
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            plain.bind(address)
        until(lambda: not _is_secured(server, address))


def _is_secured(sock: ss.SecureSocket, address: ss.Address) -> bool:
    try:
        return sock.query_security(address).secured
    except ss.LocalMisuse:
        return False


def test_close_waits_for_a_first_datagram_whose_negotiation_is_under_way() -> None:
    with bound() as server:
        with bound(client_context()) as client:
            client.setblocking(False)
            client.sendto(b"kept", server.getsockname())
            client.settimeout(PATIENCE_S)
        assert server.recv(10) == b"kept"


def test_a_nonblocking_close_returns_at_once_and_the_datagram_goes_nevertheless() -> None:
    with bound() as server:
        with bound(client_context()) as client:
            client.setblocking(False)
            client.sendto(b"kept", server.getsockname())
        assert server.recv(10) == b"kept"


def test_a_closed_socket_says_so() -> None:
    with pair() as (client, server, _):
        address = server.getsockname()
        client.close()
        for call in (
            lambda: client.sendto(b"x", address),
            lambda: client.recv(1),
            lambda: client.send_batch([b"x"], address),
        ):
            with pytest.raises(OSError, match="closed"):
                call()
        assert client.fileno() == -1


@needs_fork
def test_in_a_forked_child_the_socket_is_dead_and_the_parents_lives() -> None:
    with pair() as (client, server, address):
        child = os.fork()
        if not child:
            verdict = 1
            try:
                server.sendto(b"a copied counter", address)
            except ss.LocalMisuse:
                with contextlib.suppress(ss.LocalMisuse):
                    server.recv(1)
                    verdict = 2
                server.close()
                verdict = 0 if verdict == 1 else verdict
            os._exit(verdict)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        server.sendto(b"still here", address)
        assert client.recv(100) == b"still here"


# resumption


def test_a_ticket_is_kept_while_its_session_lives_and_not_longer() -> None:
    """RFC 5723 6.2; how it is used is shown in virtual time, where a peer can be out of reach for a minute."""
    serving = ss.SecurityContext(server_context().identity, resumption=True)
    asking = ss.SecurityContext(client_context().identity, resumption=True)
    assert asking.tickets is not None
    with bound(serving) as server, bound(asking) as client:
        client.sendto(b"first", server.getsockname())
        assert server.recv(100) == b"first"
        assert len(asking.tickets) == 1
    assert len(asking.tickets) == 0


# in clear


def test_a_peer_without_ipsec_is_reached_in_clear_only_where_that_is_allowed() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as plain, bound(client_context(), settings=INSECURE) as client:
        plain.bind(("127.0.0.1", 0))
        plain.settimeout(PATIENCE_S)
        started = monotonic()
        client.sendto(b"hello", plain.getsockname())
        assert 1.9 < monotonic() - started < 4
        while (received := plain.recvfrom(2000))[0] != b"hello":
            assert received[0][:4] == bytes(4)
        plain.sendto(b"answer", received[1])
        data, ancillary, _, source = client.recvmsg(100, 100)
        assert (data, ancillary, source) == (b"answer", [], plain.getsockname())
        info = client.query_security(plain.getsockname())
        assert not info.secured
        assert "did not answer IKE" in info.negotiation_error


def test_clear_datagrams_are_dropped_and_counted_where_they_are_not_allowed() -> None:
    with pair() as (client, server, _), socket.socket(type=socket.SOCK_DGRAM) as plain:
        plain.sendto(b"a clear word", server.getsockname())
        client.sendto(b"a sealed one", server.getsockname())
        assert server.recv(100) == b"a sealed one"
        assert server.refusals["unknown-spi"] == 1
