"""What a program waits for: rooms that it does not use are not loaded.

Each program runs in an interpreter of its own, which says which modules it has at the end.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from securesock.identity.authority import Authority

ROOT: Final = Path(__file__).resolve().parents[2]

EVERY_NAME: Final = "from securesock import *"

NEVER: Final = frozenset(
    {
        "OpenSSL",
        "ctypes",
        "json",
        "securesock.cli",
        "Crypto",
        "securesock.engine.policy_keys",
        "securesock.engine.socket_policy",
        "securesock.engine.ticket_books",
        "securesock.identity.authority",
        "securesock.identity.configured",
        "securesock.keying.eap",
        "securesock.keying.ikev2.eap_auth",
        "securesock.keying.ikev2.resumption",
        "securesock.keying.ikev2.ticket_exchange",
        "securesock.engine.routes",
        "securesock.planes.windows",
        "securesock.policy.access",
        "securesock.policy.filter_engine",
        "securesock.policy.store",
        "securesock.sockets.native",
        "securesock.testing",
        "securesock.winsock.answers",
        "securesock.wire.eap",
        "securesock.wire.winsock_numbers",
        "securesock.wire.winsock_structures",
        "sqlite3",
        "tomllib",
        "uuid",
    }
)
"""What belongs to the command line, the filtering platform, users (EAP), resumption, standard hosts, Winsock, Windows
and files that most programs have not."""

NOT_BY_TCP: Final = NEVER | {
    "asyncio",
    "pickle",
    "securesock.drivers.aio",
    "securesock.drivers.datagrams",
    "securesock.engine.peer_entry",
    "securesock.engine.ports",
    "securesock.keying.cookies",
    "securesock.keying.tickets",
    "securesock.planes.userspace.datagram",
    "securesock.planes.userspace.peers",
    "securesock.sad.replay",
    "securesock.sockets.datagram_socket",
}
NOT_BY_UDP: Final = NEVER | {
    "asyncio",
    "securesock.drivers.aio",
    "securesock.engine.peer_entry",
    "securesock.planes.userspace.stream",
    "securesock.sockets.listener",
    "securesock.sockets.negotiation",
    "securesock.sockets.opening",
    "securesock.wire.segment",
}

WHEN_CONNECTED: Final = frozenset(
    {
        "pathlib",
        "pickle",
        "securesock.drivers.aio",
        "securesock.drivers.aio_datagrams",
        "securesock.drivers.datagrams",
        "securesock.keying.contract",
        "securesock.keying.ikev2",
        "securesock.keying.tickets",
        "securesock.planes",
        "securesock.sad.entries",
        "securesock.sockets.datagram_socket",
        "securesock.sockets.listener",
        "securesock.sockets.opening",
        "securesock.wire.ikev2",
    }
)
"""What carries and keys, which is loaded with the first socket."""


CONTEXTS: Final = """
import socket, threading
import securesock as ss

def context(name, **more):
    identity = ss.Identity.from_pem(f"{FOLDER}/{name}.pem", f"{FOLDER}/{name}.key", f"{FOLDER}/ca.pem")
    return ss.SecurityContext(identity, **more)

def at_once(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread
"""
TCP: Final = (
    CONTEXTS
    + """
listener = ss.create_server(("127.0.0.1", 0), context=context("server"))

def serve():
    with listener.accept()[0] as connection:
        connection.sendall(connection.recv(16))

server = at_once(serve)
with ss.create_connection(listener.getsockname(), 20, peer="host/server.example", context=context("client")) as sock:
    sock.sendall(b"hello")
    assert sock.recv(16) == b"hello" and sock.query_security().secured
server.join()
listener.close()
"""
)
UDP: Final = (
    CONTEXTS
    + """
def opened(name):
    sock = ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=context(name))
    sock.settimeout(20)
    return sock

def serve():
    server.sendto(*server.recvfrom(16))

with opened("server") as server, opened("client") as client:
    server.bind(("127.0.0.1", 0))
    where = server.getsockname()
    answering = at_once(serve)
    client.set_peer_target_name("host/server.example", where)
    client.sendto(b"hello", where)
    assert client.recvfrom(16)[0] == b"hello" and client.query_security(where).secured
    answering.join()
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificates of both ends are."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority.create("a private authority")
    (folder / "ca.pem").write_bytes(authority.pem)
    for name in ("client", "server"):
        issued = authority.issue([f"host/{name}.example"])
        (folder / f"{name}.pem").write_bytes(issued.certificate.public_bytes(Encoding.PEM))
        key = issued.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.key").write_bytes(key)
    return folder


def loaded_by(program: str) -> frozenset[str]:
    """The modules of an interpreter that has run it."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT / "src",
    )
    assert done.returncode == 0, done.stderr
    return frozenset(done.stdout.split())


def test_naming_everything_loads_neither_what_keys_and_carries_nor_what_few_use() -> None:
    loaded = loaded_by(EVERY_NAME)

    assert "securesock.sockets.stream_socket" in loaded
    assert not loaded & (NEVER | WHEN_CONNECTED)


def test_a_tcp_connection_with_certificates_loads_no_room_that_it_does_not_use(folder: Path) -> None:
    loaded = loaded_by(f"FOLDER = {str(folder)!r}\n{TCP}")

    assert "securesock.keying.ikev2.session" in loaded
    assert not loaded & NOT_BY_TCP


def test_a_udp_socket_with_certificates_loads_no_room_that_it_does_not_use(folder: Path) -> None:
    loaded = loaded_by(f"FOLDER = {str(folder)!r}\n{UDP}")

    assert "securesock.planes.userspace.datagram" in loaded
    assert not loaded & NOT_BY_UDP


LOCKED_UP: Final = """
import sys

class NoMore:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(f"{name} was not there yet")

def lock_up():
    "".encode("idna")  # Python's own look-up of hosts loads it late
    sys.meta_path.insert(0, NoMore())
"""
TCP_LOCKED_UP: Final = (
    CONTEXTS
    + LOCKED_UP
    + """
listener = ss.create_server(("127.0.0.1", 0), context=context("server"))
client = ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=context("client"))
lock_up()

def serve():
    with listener.accept()[0] as connection:
        connection.sendall(connection.recv(16))
        connection.query_security().to_dict()

server = at_once(serve)
client.settimeout(20)
client.set_peer_target_name("host/server.example")
client.connect(listener.getsockname())
client.sendall(b"hello")
assert client.recv(16) == b"hello" and client.query_security().to_dict()["secured"]
client.setblocking(False)
client.close()
server.join()
listener.close()
"""
)
USER_LOCKED_UP: Final = (
    CONTEXTS
    + LOCKED_UP
    + """
users = ss.Users({"alice": "correct horse"})
listener = ss.create_server(("127.0.0.1", 0), context=context("server", users=users))
client = ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=context("client"))
client.set_security(ss.IPsecSettings(user_name="alice", password="correct horse"))
client.set_peer_target_name("host/server.example")
client.setblocking(False)
try:
    client.connect(listener.getsockname())
except BlockingIOError:
    pass
lock_up()
client.settimeout(20)
client.do_handshake()
with listener.accept()[0] as connection, client:
    assert connection.query_security().peer_user.name == "alice"
listener.close()
"""
)
UDP_LOCKED_UP: Final = (
    CONTEXTS
    + LOCKED_UP
    + """
def opened(name):
    sock = ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=context(name, resumption=True))
    sock.settimeout(20)
    sock.bind(("127.0.0.1", 0))
    return sock

def serve():
    for _ in range(2):
        server.sendto(*server.recvfrom(16))

with opened("server") as server, opened("client") as client:
    lock_up()
    where = server.getsockname()
    answering = at_once(serve)
    for _ in range(2):
        client.set_peer_target_name("host/server.example", where)
        client.sendto(b"hello", where)
        assert client.recvfrom(16)[0] == b"hello" and client.query_security(where).to_dict()["secured"]
        client.delete_peer_target_name(where)
    answering.join()
"""
)
AIO_LOCKED_UP: Final = (
    CONTEXTS
    + LOCKED_UP
    + """
import asyncio

async def serve(reader, writer):
    writer.write(await reader.read(16))
    await writer.drain()
    writer.close()

async def main():
    server = await ss.aio.start_server(serve, "127.0.0.1", 0, context=context("server"))
    there = server.sockets[0].getsockname()
    ours = context("client")
    lock_up()
    reader, writer = await ss.aio.open_connection(*there, peer="host/server.example", context=ours)
    writer.write(b"hello")
    assert await reader.read(16) == b"hello"
    assert writer.get_extra_info("security").to_dict()["secured"]
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()

asyncio.run(main())
"""
)


@pytest.mark.parametrize(
    "program", [TCP_LOCKED_UP, USER_LOCKED_UP, UDP_LOCKED_UP, AIO_LOCKED_UP], ids=["tcp", "user", "udp", "asyncio"]
)
def test_once_there_is_a_socket_nothing_more_has_to_be_found(folder: Path, program: str) -> None:
    """A service that has given up its rights or its root directory goes on; so does a thread that acts as its peer."""
    loaded_by(f"FOLDER = {str(folder)!r}\n{program}")
