"""Two real ends on the loopback, for tests of the socket API: identities, a server in a thread, a relay in between.

Nothing here sleeps: what is waited for is an event, a join, or a condition looked at until it holds.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import cache
from time import monotonic
from typing import Final

import pytest

import securesock as ss
from securesock.drivers.waiting import this_thread
from securesock.planes.userspace import association, deadlines
from securesock.policy.negotiation import DEFAULT_QUICK_MODE, QuickModePolicy
from securesock.types import Lifetimes

# A thread that ever waits on a secured socket owns a pair by which it is woken, for as long as the thread lives: the
# main thread's is made here, before any test counts descriptors.
this_thread()

PATIENCE_S: Final = 20.0
"""How long a test waits for what must happen; reached only by a test that fails."""

LINGER: Final = struct.Struct("hh" if os.name == "nt" else "ii")
"""What SO_LINGER takes: whether, and how many seconds (winsock2.h, socket(7))."""


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on this platform")


def accepted(listener: ss.SecureSocket) -> ss.SecureSocket:
    """The next connection, whose close() waits for nobody: its peer is this thread's too."""
    sock, _ = listener.accept()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER.pack(1, 0))
    return sock


@cache
def client_context() -> ss.SecurityContext:
    """host/client.example, of the same authority as the server."""
    return ss.SecurityContext(ss.Identity.ephemeral("host/client.example", authority=_server_identity().authority))


@cache
def server_context() -> ss.SecurityContext:
    """host/server.example, also reachable as 127.0.0.1 and ::1."""
    return ss.SecurityContext(_server_identity())


@cache
def stranger_context() -> ss.SecurityContext:
    """host/client.example of an authority that nobody trusts."""
    return ss.SecurityContext(ss.Identity.ephemeral("host/client.example"))


@cache
def psk_contexts() -> tuple[ss.SecurityContext, ss.SecurityContext]:
    """(client, server) of the same names by a shared secret: for very many connections, each a third faster to make."""
    secret = bytes(range(32))
    client = ss.Identity.from_psk("host/client.example", {"host/server.example": secret})
    server = ss.Identity.from_psk("host/server.example", {"host/client.example": secret})
    return ss.SecurityContext(client), ss.SecurityContext(server)


@cache
def _server_identity() -> ss.Identity:
    return ss.Identity.ephemeral(["host/server.example", "127.0.0.1", "::1"])


def quick_mode(**limits: float) -> QuickModePolicy:
    """The default policy with shorter lifetimes: seconds, max_bytes, max_packets."""
    kept = DEFAULT_QUICK_MODE.lifetimes._asdict() | limits
    return QuickModePolicy(DEFAULT_QUICK_MODE.offers, Lifetimes(**kept), DEFAULT_QUICK_MODE.pfs)


def with_limits(context: ss.SecurityContext, **limits: float) -> ss.SecurityContext:
    """The same identity, whose ESP SAs live only so long."""
    return ss.SecurityContext(context.identity, quick_mode=quick_mode(**limits))


def shorten_silence(patch: pytest.MonkeyPatch, seconds: float = 0.2) -> None:
    """For tests that do not look at it: how long a peer of datagrams may be silent before it is spoken to in clear."""
    for module in (association, deadlines):
        assert module.SILENCE_S == 2.0
        patch.setattr(module, "SILENCE_S", seconds)


def until(condition: Callable[[], object], what: str = "") -> None:
    """Look until it holds."""
    deadline = monotonic() + PATIENCE_S
    never = threading.Event()
    while not condition():
        if monotonic() > deadline:
            raise AssertionError(f"it never came about: {what or condition}")
        never.wait(0.005)


class Server:
    """A listener whose connections are each handled in a thread; what a handler raises is kept."""

    def __init__(self, listener: ss.SecureSocket, handle: Callable[[ss.SecureSocket], None]) -> None:
        self.listener = listener
        self.address = listener.getsockname()
        self.errors: list[BaseException] = []
        self.infos: list[ss.SecurityInfo] = []
        self._handle = handle
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.infos.append(connection.query_security())
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: ss.SecureSocket) -> None:
        with connection:
            try:
                self._handle(connection)
            except (OSError, AssertionError) as error:
                self.errors.append(error)

    def close(self) -> None:
        """No more accepting; every handler has ended."""
        self.listener.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@contextlib.contextmanager
def serving(
    handle: Callable[[ss.SecureSocket], None],
    *,
    host: str = "127.0.0.1",
    family: int = socket.AF_INET,
    settings: ss.SecuritySettings | None = None,
    context: ss.SecurityContext | None = None,
    allow: list[str] | None = None,
    public_addresses: tuple[ss.Address, ...] = (),
    backlog: int | None = None,
) -> Iterator[Server]:
    """A server for the length of a with block."""
    listener = ss.create_server(
        (host, 0),
        family=family,
        settings=settings,
        context=context or server_context(),
        allow=allow,
        public_addresses=public_addresses,
        backlog=backlog,
    )
    server = Server(listener, handle)
    try:
        yield server
    finally:
        server.close()


def echo(connection: ss.SecureSocket) -> None:
    """Send back what comes, until the peer's end."""
    while data := connection.recv(1 << 20):
        connection.sendall(data)


def connect(
    address: ss.Address,
    *,
    peer: str | None = "host/server.example",
    context: ss.SecurityContext | None = None,
    settings: ss.SecuritySettings | None = None,
    timeout: float | None = PATIENCE_S,
) -> ss.SecureSocket:
    """A client of ``serving``."""
    return ss.create_connection(
        (address[0], address[1]), timeout, peer=peer, settings=settings, context=context or client_context()
    )


@contextlib.contextmanager
def connected(
    *, client: ss.SecurityContext | None = None, server: ss.SecurityContext | None = None
) -> Iterator[tuple[ss.SecureSocket, ss.SecureSocket]]:
    """Both ends of one connection: the client's, the server's."""
    with ss.create_server(("127.0.0.1", 0), context=server or server_context()) as listener:
        listener.settimeout(PATIENCE_S)
        ours = connect(listener.getsockname(), context=client)
        theirs, _ = listener.accept()
        theirs.settimeout(PATIENCE_S)
    try:
        yield ours, theirs
    finally:
        # One thread closes both ends here: the first must not wait for the second.
        theirs.setblocking(False)
        theirs.close()
        ours.close()


class Relay:
    """A TCP relay in a thread: records both directions, and does to the bytes what it is told.

    ``to_server`` and ``to_client`` see each chunk and return what goes on; None cuts both connections.
    """

    def __init__(
        self,
        target: ss.Address,
        to_server: Callable[[bytes], bytes | None] = bytes,
        to_client: Callable[[bytes], bytes | None] = bytes,
    ) -> None:
        self.recorded = {"to_server": bytearray(), "to_client": bytearray()}
        self._target = (target[0], target[1])
        self._change = {"to_server": to_server, "to_client": to_client}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._threads = [threading.Thread(target=self._run)]
        self._sockets: list[socket.socket] = []
        self._threads[0].start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            for name, source, target in (("to_server", client, server), ("to_client", server, client)):
                thread = threading.Thread(target=self._pump, args=(name, source, target))
                self._threads.append(thread)
                thread.start()

    def _pump(self, name: str, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                self.recorded[name] += data
                changed = self._change[name](data)
                if changed is None:
                    self.cut()
                    return
                target.sendall(changed)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for each in (source, target):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End every connection without a word (an ordinary TCP end, in the middle of whatever there was)."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the relay."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        for each in self._sockets:
            each.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
