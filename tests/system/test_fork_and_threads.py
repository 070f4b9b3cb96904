"""Processes and threads: keys never survive a fork, and directions do not wait for each other."""

from __future__ import annotations

import errno
import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from time import monotonic

import pytest

import securesock as ss
from tests.support.loopback import (
    LINGER,
    PATIENCE_S,
    Relay,
    client_context,
    connect,
    connected,
    echo,
    needs_fork,
    server_context,
    serving,
    until,
    with_limits,
)


def _in_child(work: Callable[[], bytes]) -> bytes:
    """Run ``work`` in a forked child and return what it says; the child ends without Python's farewell."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(int(PATIENCE_S))
        try:
            os.write(writing, work())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        assert select.select([reading], [], [], PATIENCE_S)[0], "the child said nothing"
        return os.read(reading, 1 << 16)
    finally:
        os.close(reading)
        os.waitpid(child, 0)


def _name_of_error(call: Callable[[], object]) -> bytes:
    try:
        call()
    except OSError as error:
        return type(error).__name__.encode()
    return b"nothing was raised"


@needs_fork
def test_in_a_child_every_call_on_an_inherited_connection_is_misuse() -> None:
    with connected() as (ours, theirs):
        calls: list[Callable[[], object]] = [
            lambda: ours.recv(1),
            lambda: ours.recv_into(bytearray(1)),
            lambda: ours.send(b"x"),
            lambda: ours.sendall(b"x"),
            lambda: ours.shutdown(socket.SHUT_WR),
            ours.pending,
            ours.query_security,
            ours.do_handshake,
            lambda: ours.want_write,
            lambda: theirs.recv(1),
        ]
        said = _in_child(lambda: b" ".join(_name_of_error(call) for call in calls))
        assert said.split() == [b"LocalMisuse"] * len(calls)
        ours.sendall(b"still the parent's")
        assert theirs.recv(100) == b"still the parent's"


@needs_fork
def test_close_in_a_child_writes_nothing_and_harms_nothing() -> None:
    with serving(echo) as server, Relay(server.address) as relay, connect(relay.address) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        before = {name: bytes(data) for name, data in relay.recorded.items()}

        def close_and_forget() -> bytes:
            sock.close()
            return b"closed" if sock.fileno() == -1 else b"open"

        assert _in_child(close_and_forget) == b"closed"
        assert {name: bytes(data) for name, data in relay.recorded.items()} == before
        sock.sendall(b"the parent goes on")
        assert sock.recv(100) == b"the parent goes on"


@needs_fork
def test_a_child_that_forgets_its_copy_aborts_nothing() -> None:
    with connected() as (ours, theirs):

        def forget() -> bytes:
            import warnings

            warnings.simplefilter("ignore")
            ours.__del__()
            return b"done"

        assert _in_child(forget) == b"done"
        ours.sendall(b"alive")
        assert theirs.recv(100) == b"alive"


@needs_fork
def test_after_a_fork_both_processes_write_and_no_packet_uses_a_nonce_twice() -> None:
    """Semantics of fork: the one that did not make the connection cannot seal, so nothing on the wire repeats."""
    received: list[bytes] = []

    def read_all(connection: ss.SecureSocket) -> None:
        data = b""
        while more := connection.recv(1 << 16):
            data += more
        received.append(data)

    with serving(read_all) as server, Relay(server.address) as relay:
        with connect(relay.address) as sock:
            sock.sendall(b"a" * 100)

            def write_too() -> bytes:
                said = b""
                for _ in range(20):
                    said = _name_of_error(lambda: sock.send(b"b" * 100))
                return said

            assert _in_child(write_too) == b"LocalMisuse"
            for _ in range(20):
                sock.sendall(b"c" * 100)
        until(lambda: received)
        assert received == [b"a" * 100 + b"c" * 2000]
        nonces = _nonces(bytes(relay.recorded["to_server"]))
        assert len(nonces) > 20
        assert len(set(nonces)) == len(nonces)


def _nonces(stream: bytes) -> list[bytes]:
    """SPI, sequence number and IV of every ESP packet of a recorded direction (RFC 9329 framing)."""
    assert stream.startswith(b"IKETCP")
    at, found = 6, []
    while at < len(stream):
        length = int.from_bytes(stream[at : at + 2], "big")
        if stream[at + 2 : at + 6] != bytes(4):
            found.append(stream[at + 2 : at + 2 + 16])
        at += length
    return found


@needs_fork
def test_a_child_accepts_on_the_listener_it_inherited() -> None:
    with ss.create_server(("127.0.0.1", 0), context=server_context()) as listener:
        address = listener.getsockname()
        with connect(address) as early:
            # Negotiated by the parent, not accepted yet: it stays the parent's.
            assert select.select([listener], [], [], PATIENCE_S)[0]
            number = listener.fileno()
            reading, writing = os.pipe()
            go, start = os.pipe()
            child = os.fork()
            if not child:
                try:
                    signal.alarm(int(PATIENCE_S))
                    unready = not select.select([number], [], [], 0)[0]
                    os.write(writing, b"1" if unready else b"0")
                    os.read(go, 1)
                    same = listener.fileno() == number
                    accepted, _ = listener.accept()
                    data = accepted.recv(100)
                    os.write(writing, data if same else b"another number")
                    accepted.close()
                finally:
                    os._exit(0)
            assert os.read(reading, 1) == b"1"
            listener.settimeout(PATIENCE_S)
            accepted, _ = listener.accept()
            with accepted:
                early.sendall(b"to the parent")
                assert accepted.recv(100) == b"to the parent"
                early.setblocking(False)
                early.close()
            # The parent stops accepting; the socket itself is still the child's too.
            listener.close()
            os.write(start, b"x")
            with connect(address) as late:
                late.sendall(b"to the child")
                assert os.read(reading, 100) == b"to the child"
            os.waitpid(child, 0)
            for each in (reading, writing, go, start):
                os.close(each)


@needs_fork
def test_a_child_that_does_not_use_the_listener_takes_no_connection_from_it() -> None:
    with serving(lambda connection: connection.sendall(b"the parent's")) as server:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        os.close(reading)
        try:
            for _ in range(5):
                with connect(server.address) as sock:
                    assert sock.recv(100) == b"the parent's"
        finally:
            os.close(writing)
            os.waitpid(child, 0)


@needs_fork
def test_a_child_can_connect_and_listen_anew() -> None:
    # The parent has a reactor, pools and waiters of its own; the child starts with none of them.
    with connected() as (_, _theirs):

        def make_one_of_its_own() -> bytes:
            with connected() as (ours, theirs):
                ours.sendall(b"in the child")
                return theirs.recv(100)

        assert _in_child(make_one_of_its_own) == b"in the child"


# -- threads -----------------------------------------------------------------------------------------------------------


def test_importing_and_connecting_start_no_thread() -> None:
    program = (
        "import threading, securesock as ss; before = threading.active_count()\n"
        "ss.SecureSocket; ss.create_server; ss.Identity\n"
        "sock = ss.SecureSocket(context=ss.SecurityContext(ss.Identity.ephemeral('host/a.example')))\n"
        "sock.close()\n"
        "print(before, threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.split() == ["1", "1"]


def test_an_established_connection_of_a_client_has_no_thread() -> None:
    program = (
        "import sys, threading, securesock as ss\n"
        "identity = ss.Identity.from_psk('a.example', {'b.example': bytes(range(32))})\n"
        "address = ('127.0.0.1', int(sys.argv[1]))\n"
        "sock = ss.create_connection(address, 20, peer='host/b.example', context=ss.SecurityContext(identity))\n"
        "sock.sendall(b'x'); sock.recv(1); print(threading.active_count()); sock.close()\n"
        "print(threading.active_count())"
    )
    psk = ss.SecurityContext(ss.Identity.from_psk("b.example", {"a.example": bytes(range(32))}))
    with serving(echo, context=psk) as server:
        command = [sys.executable, "-c", program, str(server.address[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
        assert done.stdout.split() == ["1", "1"]


@pytest.mark.parametrize("operation", ["recv", "send"])
def test_close_from_another_thread_wakes_whoever_waits(operation: str) -> None:
    with connected() as (ours, _theirs):
        raised: list[int | None] = []
        waiting = threading.Event()

        def work() -> None:
            try:
                waiting.set()
                while True:
                    if operation == "recv":
                        ours.recv(1)
                    else:
                        ours.sendall(bytes(1 << 20))
            except OSError as error:
                raised.append(error.errno)

        ours.settimeout(None)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER.pack(1, 0))
        thread = threading.Thread(target=work)
        thread.start()
        assert waiting.wait(PATIENCE_S)
        link = ours._link
        until(lambda: (link._reader if operation == "recv" else link._writer) is not None)
        ours.close()
        thread.join(PATIENCE_S)
        assert raised == [errno.EBADF]


def test_close_wakes_a_sender_and_a_receiver_at_once() -> None:
    with connected() as (ours, _theirs):
        raised: list[int | None] = []

        def run(call: Callable[[], object]) -> None:
            try:
                while True:
                    call()
            except OSError as error:
                raised.append(error.errno)

        ours.settimeout(None)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER.pack(1, 0))
        calls = (lambda: ours.recv(1), lambda: ours.recv(1), lambda: ours.sendall(bytes(1 << 20)))
        threads = [threading.Thread(target=run, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        link = ours._link
        until(lambda: link._reader is not None and link._writer is not None)
        ours.close()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        assert raised == [errno.EBADF] * 3


def test_shutdown_of_reading_from_another_thread_wakes_the_reader() -> None:
    with connected() as (ours, _theirs):
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(ours.recv(1)))
        thread.start()
        until(lambda: ours._link._reader is not None)
        ours.shutdown(socket.SHUT_RD)
        thread.join(PATIENCE_S)
        assert got == [b""]


# -- who drives it: rekeys ---------------------------------------------------------------------------------------------


def _rekeys(sock: ss.SecureSocket) -> int:
    return sock.query_security().rekeys


def test_one_side_only_sends_the_other_only_receives_through_rekeys_by_time() -> None:
    short_client = with_limits(client_context(), seconds=0.2)
    short_server = with_limits(server_context(), seconds=0.2)
    with connected(client=short_client, server=short_server) as (ours, theirs):
        digests = [hashlib.sha256(), hashlib.sha256()]
        block = bytes(range(256)) * 64

        def receive() -> None:
            while data := theirs.recv(1 << 16):
                digests[1].update(data)

        thread = threading.Thread(target=receive)
        thread.start()
        started = monotonic()
        while min(_rekeys(ours), _rekeys(theirs)) < 4 and monotonic() - started < PATIENCE_S:
            for _ in range(20):
                ours.sendall(block)
                digests[0].update(block)
        ours.shutdown(socket.SHUT_WR)
        thread.join(PATIENCE_S)
        assert digests[0].hexdigest() == digests[1].hexdigest()
        assert _rekeys(ours) >= 4
        assert _rekeys(theirs) >= 4


@pytest.mark.timeout(90)
def test_bulk_both_ways_in_four_threads_with_small_buffers_and_rekeys_of_both_ends() -> None:
    client = with_limits(client_context(), max_bytes=1 << 20)
    server = with_limits(server_context(), max_bytes=1 << 20)
    total = 12 << 20
    with connected(client=client, server=server) as (ours, theirs):
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            sock.settimeout(60)
        digests = {name: hashlib.sha256() for name in ("ours sent", "ours got", "theirs sent", "theirs got")}

        def send(name: str, sock: ss.SecureSocket) -> None:
            block = hashlib.sha256(name.encode()).digest() * 4096
            for _ in range(total // len(block)):
                sock.sendall(block)
                digests[f"{name} sent"].update(block)
            sock.shutdown(socket.SHUT_WR)

        def receive(name: str, sock: ss.SecureSocket) -> None:
            while data := sock.recv(1 << 16):
                digests[f"{name} got"].update(data)

        threads = [
            threading.Thread(target=work, args=(name, sock))
            for name, sock in (("ours", ours), ("theirs", theirs))
            for work in (send, receive)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert digests["ours sent"].digest() == digests["theirs got"].digest()
        assert digests["theirs sent"].digest() == digests["ours got"].digest()
        assert _rekeys(ours) >= 10
        assert ours.query_security().latch == "established"


def test_one_end_asleep_past_every_lifetime_then_both_directions_go_on() -> None:
    client = with_limits(client_context(), seconds=0.3)
    server = with_limits(server_context(), seconds=0.3)
    with connected(client=client, server=server) as (ours, theirs):
        ours.sendall(b"before")
        assert theirs.recv(100) == b"before"
        # Nobody touches either end until every SA is far past its time.
        threading.Event().wait(0.8)
        done: list[bytes] = []

        def answer() -> None:
            done.append(theirs.recv(100))
            theirs.sendall(b"awake")

        thread = threading.Thread(target=answer)
        thread.start()
        ours.sendall(b"after")
        assert ours.recv(100) == b"awake"
        thread.join(PATIENCE_S)
        assert done == [b"after"]
        assert _rekeys(ours) >= 1


def test_at_a_limit_without_an_answer_a_send_behaves_as_a_full_buffer_does() -> None:
    client = with_limits(client_context(), max_packets=8)
    with connected(client=client) as (ours, theirs):
        ours.settimeout(0.2)
        sent = 0
        with pytest.raises(TimeoutError):
            while True:
                sent += ours.send(b"x" * 100)
        assert sent <= 8 * 100
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.send(b"x")
        # The peer reads, so it answers the rekey; then everything goes on, and nothing was lost.
        received: list[bytes] = []

        def receive() -> None:
            while data := theirs.recv(1000):
                received.append(data)

        thread = threading.Thread(target=receive)
        thread.start()
        ours.settimeout(PATIENCE_S)
        for _ in range(50):
            sent += ours.send(b"x" * 100)
        ours.shutdown(socket.SHUT_WR)
        thread.join(PATIENCE_S)
        assert sum(map(len, received)) == sent
        assert _rekeys(ours) >= 1


def test_a_sender_that_waits_for_a_rekey_keeps_what_comes_in_up_to_a_mebibyte() -> None:
    client = with_limits(client_context(), seconds=0.2)
    with connected(client=client) as (ours, theirs):
        # The peer fills every buffer on the way, and then neither reads nor writes.
        theirs.setblocking(False)
        flood = 0
        with pytest.raises(ss.WantWrite):
            while True:
                flood += theirs.send(bytes(65536))
        assert flood > 2 << 20
        ours.settimeout(0.6)
        with pytest.raises(TimeoutError):
            while True:
                ours.send(b"x")
        assert (1 << 20) - 65536 < ours.pending() <= (1 << 20) + 65536
        # Full is full: only the application's own reading lets the answer behind all that data through.
        theirs.settimeout(PATIENCE_S)
        ours.settimeout(PATIENCE_S)
        received: list[int] = []
        ended: list[bytes] = []

        def read_ours() -> None:
            while data := ours.recv(1 << 20):
                received.append(len(data))

        def read_theirs() -> None:
            while data := theirs.recv(1 << 16):
                ended.append(data)
            theirs.shutdown(socket.SHUT_WR)

        threads = [threading.Thread(target=read) for read in (read_ours, read_theirs)]
        for thread in threads:
            thread.start()
        ours.sendall(b"goes on")
        ours.shutdown(socket.SHUT_WR)
        for thread in threads:
            thread.join(PATIENCE_S)
        assert b"".join(ended).endswith(b"xgoes on")
        assert sum(received) == flood
        assert _rekeys(ours) >= 1


def test_a_rekey_by_a_peer_is_answered_by_a_program_that_only_sends() -> None:
    server = with_limits(server_context(), seconds=0.2)
    with connected(server=server) as (ours, theirs):
        # Little on the way: an answer behind more than a lifetime's worth of unread data would come too late.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        stop = threading.Event()
        received: list[int] = []

        def receive_and_send_a_little() -> None:
            while data := theirs.recv(1 << 16):
                received.append(len(data))
                if not stop.is_set():
                    theirs.send(b".")
            theirs.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=receive_and_send_a_little)
        thread.start()
        sent = 0
        started = monotonic()
        while _rekeys(ours) < 2 and monotonic() - started < PATIENCE_S:
            for _ in range(20):
                sent += ours.send(b"y" * 1000)
        stop.set()
        ours.shutdown(socket.SHUT_WR)
        while ours.recv(1 << 16):
            pass
        thread.join(PATIENCE_S)
        assert sum(received) == sent
        assert _rekeys(ours) >= 2
