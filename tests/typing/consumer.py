"""A program that uses the public names with their exact types; mypy --strict and pyright must both accept it.

It is never run.  A public name that goes, changes its type or becomes Any fails here first.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal, assert_type
from uuid import UUID

import securesock as ss
from securesock import testing
from securesock import winsock as ws
from securesock.types import Json


def identities(folder: Path) -> list[ss.Identity]:
    """Every way to say who this process is."""
    ephemeral = ss.Identity.ephemeral("host/a.example")
    return [
        ss.Identity.load(),
        ss.Identity.from_pem(certificate="host.pem", private_key="host.key", trust=["ca.pem"], password=None, crl=()),
        ss.Identity.from_pem(certificate=folder / "host.pem", private_key=b"-----BEGIN", trust=[b"-----BEGIN"]),
        ss.Identity.from_psk(name="a.example", peers={"b.example": secrets.token_bytes(32)}),
        ss.Identity.ephemeral("host/b.example", authority=ephemeral.authority, trust=()),
    ]


def contexts(identity: ss.Identity) -> list[ss.SecurityContext]:
    """A context is an identity and choices, each of a closed set."""
    assert_type(ss.default_context(), ss.SecurityContext)
    return [
        ss.SecurityContext(identity),
        ss.SecurityContext(identity, plane="userspace", key_exchange="hybrid-required"),
        ss.SecurityContext(
            identity,
            peers=(
                ss.PeerEntry("10.92.0.0/24", gateway="192.0.2.2", inner="assigned", peer="vpn.example"),
                ss.PeerEntry(("192.0.2.7", "2001:db8::7"), carrier="auto", mode="transport", inner_port=7000),
            ),
        ),
        ss.SecurityContext(
            identity,
            users=ss.Users({"alice@example.org": "password", "bob": ss.NtHash(bytes(16))}, certificates=True),
            user=identity,
            eap_only=True,
            ppks=[ss.Ppk("id", secrets.token_bytes(32), mandatory=False, peers=["host/b.example"])],
        ),
    ]


def three_lines(context: ss.SecurityContext) -> None:
    """What the README opens with."""
    with ss.create_connection(("db.example", 7000), peer="host/db.example", context=context) as sock:
        assert_type(sock, ss.SecureSocket)
        sock.sendall(b"hello")
        print(sock.query_security().peer_machine)


def long_form(context: ss.SecurityContext) -> bytes:
    """In the order that Winsock asks for; a SecureSocket is a socket.socket."""
    sock = ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=context)
    sock.set_security(ss.IPsecSettings(guarantee_encryption=True, user_name="alice", password=bytearray(b"secret")))
    sock.set_peer_target_name("host/db.example")
    sock.connect(("db.example", 7000))
    plain: socket.socket = sock
    plain.settimeout(1.5)
    assert_type(sock.pending(), int)
    assert_type(sock.recv(100), bytes)
    assert_type(sock.recv_into(bytearray(100)), int)
    return sock.recv(100)


def non_blocking(sock: ss.SecureSocket) -> Literal["read", "write", "done"]:
    """As with ssl."""
    try:
        sock.do_handshake()
    except ss.WantRead as wait:
        blocked: BlockingIOError = wait
        assert_type(blocked.errno, int | None)
        return "read"
    except ss.WantWrite:
        return "write"
    return "done"


def server(context: ss.SecurityContext) -> ss.Principal | None:
    """A listener with all that it can be told."""
    settings = ss.SecuritySettings(guarantee_encryption=True, allow_insecure=False)
    with ss.create_server(
        ("", 7000),
        family=socket.AF_INET6,
        backlog=100,
        reuse_port=False,
        dualstack_ipv6=True,
        settings=settings,
        context=context,
        allow=["host/*.example"],
        public_addresses=[("192.0.2.1", 7000)],
    ) as listener:
        connection, address = listener.accept()
        assert_type(connection, ss.SecureSocket)
        assert_type(address, ss.Address)
        assert_type(listener.refusals, Mapping[str, int])
        return connection.query_security().peer_machine


def client(context: ss.SecurityContext) -> ss.SecureSocket:
    """The standard library's arguments first, ours by name."""
    return ss.create_connection(
        ("db.example", 7000),
        10.0,
        ("192.0.2.7", 0),
        all_errors=True,
        peer=ss.ANY_TRUSTED_PEER,
        settings=ss.SecuritySettings(allow_insecure=True),
        context=context,
    )


class Shouting(asyncio.Protocol):
    """A protocol of asyncio's own."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is asyncio's to look at."""
        transport.close()


def datagrams(context: ss.SecurityContext) -> int:
    """One UDP socket, many peers."""
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=context) as sock:
        assert_type(sock, ss.SecureSocket)
        sock.set_security(ss.SecuritySettings(guarantee_encryption=True))
        sock.bind(("", 7000))
        sock.set_peer_target_name("host/db.example", ("192.0.2.1", 7000))
        sock.sendto(b"hello", ("192.0.2.1", 7000))
        data, address = sock.recvfrom(65536)
        assert_type(address, ss.Address | None)
        sock.sendto(data, address)
        assert_type(sock.query_security(address), ss.SecurityInfo)
        _, ancillary, _, _ = sock.recvmsg(65536, 256)
        names = [value for level, kind, value in ancillary if (level, kind) == (ss.SOL_SECURESOCK, ss.SCM_PRINCIPAL)]
        assert_type(sock.recv_batch(64), list[tuple[bytes, ss.Address]])
        sock.delete_peer_target_name(("192.0.2.1", 7000))
        return sock.send_batch([b"a", bytearray(b"b"), *names], ("192.0.2.1", 7001))


class Answering(asyncio.DatagramProtocol):
    """A datagram protocol that knows nothing of securesock."""


async def datagrams_on_asyncio(context: ss.SecurityContext) -> ss.SecurityInfo:
    """asyncio's call for datagrams, with ours by name."""
    transport, protocol = await ss.aio.create_datagram_endpoint(
        Answering, ("127.0.0.1", 0), ("192.0.2.1", 7000), peer="host/db.example", context=context
    )
    assert_type(protocol, Answering)
    plain: asyncio.DatagramTransport = transport
    plain.sendto(b"hello")
    return transport.query_security()


async def on_asyncio(context: ss.SecurityContext) -> int:
    """asyncio's four calls, with ours by name."""
    settings = ss.SecuritySettings(guarantee_encryption=True)
    reader, writer = await ss.aio.open_connection(
        "db.example", 7000, limit=1 << 16, peer="host/db.example", settings=settings, context=context
    )
    assert_type(reader, asyncio.StreamReader)
    assert_type(writer, asyncio.StreamWriter)
    transport, protocol = await ss.aio.create_connection(Shouting, "db.example", 7000, context=context)
    assert_type(protocol, Shouting)
    writable: asyncio.Transport = transport
    writable.write(b"hello")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())

    server = await ss.aio.start_server(
        answer, None, 7000, backlog=10, settings=settings, context=context, allow=["host/*.example"]
    )
    other = await ss.aio.create_server(
        Shouting, "", 7001, context=context, public_addresses=[("192.0.2.1", 7001)], start_serving=False
    )
    assert_type(other.refusals, Mapping[str, int])
    async with server:
        return len(server.sockets)


def describe(info: ss.SecurityInfo) -> dict[str, Json]:
    """Every field of what was applied."""
    assert_type(info.protocol, str)
    assert_type(info.secured, bool)
    assert_type(info.encrypted, bool)
    assert_type(info.impersonated, bool)
    assert_type(info.peer_machine, ss.Principal | None)
    assert_type(info.peer_user, ss.Principal | None)
    assert_type(info.plane, str)
    assert_type(info.keying, str)
    assert_type(info.main_mode_suite, str)
    assert_type(info.quick_mode_suite, str)
    assert_type(info.main_mode_sa_id, int)
    assert_type(info.quick_mode_sa_id, int)
    assert_type(info.negotiation_error, str)
    assert_type(info.main_mode_policy, UUID | None)
    assert_type(info.quick_mode_policy, UUID | None)
    assert_type(info.filter_id, int | None)
    assert_type(info.asked, ss.SecuritySettings)
    assert_type(info.requested_address, ss.Address | None)
    assert_type(info.key_exchange, str)
    assert_type(info.differences, tuple[str, ...])
    assert_type(info.rekeys, int)
    assert_type(info.established_at, datetime | None)
    assert_type(info.latch, Literal["established", "broken"])
    return info.to_dict()


def name(principal: ss.Principal) -> str:
    """Who somebody is."""
    assert_type(principal.kind, Literal["machine", "user"])
    assert_type(principal.method, Literal["x509", "psk", "kerberos", "ntlm", "tls", "eap", "anonymous"])
    assert_type(principal.evidence, str)
    return principal.name


def blame(error: ss.SecureSocketError) -> str:
    """Every error is an OSError, sorted by who is to blame, and is what code for plain sockets catches."""
    system: OSError = error
    assert_type(system.errno, int | None)
    match error:
        case ss.LocalMisuse():
            misuse: ValueError = error
            return str(misuse)
        case ss.PolicyRefused():
            assert_type(error.filter_id, int | None)
            return "policy"
        case ss.KeyingTimeout():
            late: TimeoutError = error
            return str(late)
        case ss.ConnectionBroken() | ss.StreamTruncated():
            reset: ConnectionResetError = error
            return str(reset)
        case ss.PeerMisbehaved() | ss.PeerIncompatible() | ss.AuthenticationFailed():
            return "peer"
        case ss.PlaneError():
            return "system"
        case _:
            return "nobody"


def as_windows_has_it(sock: ss.SecureSocket, later: ws.Overlapped[int]) -> bytes:
    """The Winsock names: a structure or its bytes in, 0 or a structure out."""
    assert_type(ss.winsock.WSARevertImpersonation(), int)
    settings = ws.SOCKET_SECURITY_SETTINGS_IPSEC(
        SecurityProtocol=ws.SOCKET_SECURITY_PROTOCOL_IPSEC,
        SecurityFlags=ws.SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
        AuthipQMPolicyKey=UUID(int=0),
        UserName="",
        Password=bytearray(b""),
    )
    assert_type(settings.Password, str)
    assert_type(ws.SOCKET_SECURITY_SETTINGS_IPSEC.unpack(settings.pack()), ws.SOCKET_SECURITY_SETTINGS_IPSEC)
    assert_type(
        ws.WSASetSocketSecurity(sock, settings.pack(), later, lambda error, count, overlapped, flags: None), int
    )
    name = ws.SOCKET_PEER_TARGET_NAME(PeerAddress=("192.0.2.1", 7000), PeerTargetName="host/db.example")
    assert_type(ws.WSASetSocketPeerTargetName(sock, name), int)
    assert_type(ws.WSADeleteSocketPeerTargetName(sock, ("192.0.2.1", 7000)), int)
    assert_type(ws.WSAIoctl(sock, ws.SIO_SET_SECURITY, settings), int)
    info = ws.WSAIoctl(sock, ws.SIO_QUERY_SECURITY, None, bytearray(64))
    assert_type(info, ws.SOCKET_SECURITY_QUERY_INFO | ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2)
    with sock.impersonate_peer() as account:
        assert_type(account.uid, int)
    token = ws.peer_token(info.PeerMachineAccessTokenHandle)
    assert_type(token.principal, ss.Principal)
    assert_type(ws.CloseHandle(info.PeerMachineAccessTokenHandle), int)
    assert_type(ws.open_token_handles(), int)
    try:
        ws.WSAImpersonateSocketPeer(sock)
    except ws.WSAError as error:
        assert_type(error.winerror, int)
        assert_type(error.needed_length, int | None)
    return ws.WSAQuerySocketSecurity(sock, ws.SOCKET_SECURITY_QUERY_TEMPLATE()).pack()


def test_tools(identity: ss.Identity) -> testing.Pair:
    """What tests of a program stand on, by its public name."""
    clock, network = testing.FakeClock(), testing.FakeNetwork[object](loss=0.1)
    assert_type(clock.advance(1.0), float)
    network.send("somebody", b"datagram", clock.now())
    assert_type(network.arrived(clock.now()), list[tuple[object, bytes]])
    authority = testing.Authority.create("an authority")
    return testing.Pair(identity, ss.Identity.ephemeral("host/responder.example", authority=authority)).establish()
