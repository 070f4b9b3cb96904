"""ss.aio: asyncio's connections and servers, secured.

Each function has the name, the arguments and the meaning of its namesake in asyncio (``open_connection``,
``start_server``, and the loop's ``create_connection``, ``create_server`` and ``create_datagram_endpoint``) but for
those of TLS, and takes in addition

    peer       who must be at the other end, as for securesock.create_connection; not given, the host itself
    settings   SecuritySettings or IPsecSettings
    context    a SecurityContext; not given, the user's own
    allow      (servers) who may connect; not given, any principal of the trust anchors
    public_addresses   (servers) under which (host, port) clients may reach this server through address translation

A transport's ``get_extra_info("security")`` is the SecurityInfo.  Any event loop will do: only its public interfaces
are used.  An application hears of a connection when both ends are proven, and never of one that was refused.

This module must not know how anything is negotiated or sealed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..engine.admission import AllowList
from ..engine.asking import (
    ExpectedPeer,
    check_offers,
    check_settings,
    expected_peer,
    is_governed,
    name_of_host,
    read_admission,
    read_public_addresses,
)
from ..engine.context import SecurityContext, default_context
from ..engine.report import Asked
from ..engine.user import check_listening, check_user, wipe_password
from ..errors import LocalMisuse
from ..keying.admission import AdmitAnyTrusted
from ..types import Address, AnyTrustedPeer, SecuritySettings
from .address_book import addresses_of
from .aio_streams import DEFAULT_LIMIT, ClientConnected, ProvenStreamProtocol, ProvenStreamReader, ProvenStreamWriter
from .planes import check_datagram_plane, stream_plane
from .refused import RefusingSocket
from .rooms import load_for, load_for_aio, load_for_datagrams

if TYPE_CHECKING:
    from ..drivers.aio_datagrams import SecuredDatagramTransport
    from .aio_admitting import AioDoor

__all__ = [
    "Server",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "open_connection",
    "start_server",
]

DatagramProtocolT = TypeVar("DatagramProtocolT", bound=asyncio.DatagramProtocol)
ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)
_NO_SETTINGS: Final = SecuritySettings()


async def open_connection(
    host: str | None = None,
    port: int | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    sock: socket.socket | None = None,
    local_addr: tuple[str, int] | None = None,
    happy_eyeballs_delay: float | None = None,
    interleave: int | None = None,
    peer: str | AnyTrustedPeer | None = None,
    settings: SecuritySettings | None = None,
    context: SecurityContext | None = None,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As asyncio.open_connection: a reader and a writer, once both ends are proven.

    The reader delivers what was proven before it raises what ended the connection, and returns b"" only at the peer's
    authenticated end (and, as asyncio's, after this end's own close).  Errors: see create_connection.
    """
    loop = asyncio.get_running_loop()
    reader = ProvenStreamReader(limit, loop)
    protocol = ProvenStreamProtocol(reader, None, loop)
    transport, _ = await create_connection(
        lambda: protocol,
        host,
        port,
        family=family,
        proto=proto,
        flags=flags,
        sock=sock,
        local_addr=local_addr,
        happy_eyeballs_delay=happy_eyeballs_delay,
        interleave=interleave,
        peer=peer,
        settings=settings,
        context=context,
    )
    return reader, ProvenStreamWriter(transport, protocol, reader, loop)


async def create_connection(
    protocol_factory: Callable[[], ProtocolT],
    host: str | None = None,
    port: int | None = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    sock: socket.socket | None = None,
    local_addr: tuple[str, int] | None = None,
    happy_eyeballs_delay: float | None = None,
    interleave: int | None = None,
    peer: str | AnyTrustedPeer | None = None,
    settings: SecuritySettings | None = None,
    context: SecurityContext | None = None,
) -> tuple[asyncio.Transport, ProtocolT]:
    """As loop.create_connection: the transport and the protocol, which has heard connection_made.

    ``sock``: a connected TCP socket of the standard library's, which is taken over; without ``peer`` its peer's address
    is what must be proven.

    Raises the system's own errors while TCP connects.  Then LocalMisuse, AuthenticationFailed, PeerIncompatible,
    PeerMisbehaved or KeyingTimeout (10 s): nothing is left of the attempt, and the protocol has heard nothing.  So when
    the caller is cancelled, unless the protocol has heard connection_made by then: it hears connection_lost.
    """
    from .aio_opening import connect_judged, open_transport  # the rooms of whoever connects, for those who do

    expected = _expected(host, sock, peer)
    asked = _asked(settings, expected, context)
    check_user(asked.context, asked.settings, None if peer is None else expected)
    if sock is not None and asked.settings.allow_insecure:
        raise LocalMisuse(
            "a connection that is there already cannot be repeated in clear: give host and port, not sock"
        )
    loop = asyncio.get_running_loop()
    # Not every loop knows them, so that they are handed on only when they are given.
    eyeballs = {"happy_eyeballs_delay": happy_eyeballs_delay, "interleave": interleave}
    options: dict[str, Any] = {name: value for name, value in eyeballs.items() if value is not None}

    async def connect(factory: Callable[[], asyncio.BaseProtocol], at: tuple[str, int] | None) -> None:
        if sock is not None:
            await loop.create_connection(factory, sock=sock)
        elif asked.policy is not None:
            judged = await connect_judged(asked, at or (host, port), (family, proto, flags), local_addr)
            await loop.create_connection(factory, sock=judged)
        elif at is not None:
            await loop.create_connection(factory, *at, local_addr=local_addr)
        else:
            there: tuple[Any, Any] = (host, port)
            await loop.create_connection(
                factory, *there, family=family, proto=proto, flags=flags, local_addr=local_addr, **options
            )

    protocol = protocol_factory()
    try:
        return await open_transport(connect, asked, expected, protocol), protocol
    finally:
        wipe_password(asked.settings)


async def start_server(
    client_connected_cb: ClientConnected,
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    family: int = socket.AF_UNSPEC,
    flags: int = socket.AI_PASSIVE,
    sock: socket.socket | None = None,
    backlog: int = 100,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    start_serving: bool = True,
    settings: SecuritySettings | None = None,
    context: SecurityContext | None = None,
    allow: Iterable[str] | None = None,
    public_addresses: Iterable[Address] = (),
) -> Server:
    """As asyncio.start_server: ``client_connected_cb(reader, writer)`` for each client that is proven and admitted."""
    loop = asyncio.get_running_loop()

    def protocol_factory() -> ProvenStreamProtocol:
        return ProvenStreamProtocol(ProvenStreamReader(limit, loop), client_connected_cb, loop)

    return await create_server(
        protocol_factory,
        host,
        port,
        family=family,
        flags=flags,
        sock=sock,
        backlog=backlog,
        reuse_address=reuse_address,
        reuse_port=reuse_port,
        start_serving=start_serving,
        settings=settings,
        context=context,
        allow=allow,
        public_addresses=public_addresses,
    )


async def create_server(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    family: int = socket.AF_UNSPEC,
    flags: int = socket.AI_PASSIVE,
    sock: socket.socket | None = None,
    backlog: int = 100,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    start_serving: bool = True,
    settings: SecuritySettings | None = None,
    context: SecurityContext | None = None,
    allow: Iterable[str] | None = None,
    public_addresses: Iterable[Address] = (),
) -> Server:
    """As loop.create_server; ``protocol_factory`` is called for clients that are proven, admitted and confirmed.

    A silent client delays nobody: it has 2 s to say something and 10 s to finish, and of those that say nothing only
    so many are kept (64 of one source, 1000 in all).  Everybody refused is counted in ``Server.refusals``.
    Raises LocalMisuse, and the system's own errors of binding and listening.
    """
    _check_carrier(sock)
    if settings is not None:
        check_listening(settings)
    admission = read_admission(allow)
    allowed = admission if isinstance(admission, AllowList) else None
    asked = _asked(settings, None, context, allowed=allowed)
    if asked.policy is not None and asked.policy.allowed is admission:
        admission = AdmitAnyTrusted()  # allow= is filters then
    from .aio_admitting import AioDoor
    from .negotiation import Terms

    terms = Terms(asked, admission, read_public_addresses(public_addresses))
    loop = asyncio.get_running_loop()
    door = AioDoor(loop, terms, protocol_factory)
    # asyncio gives its server away only after a last pause, in which a cancelled one would be lost and serve on.
    options: dict[str, Any] = {"backlog": backlog, "start_serving": False}
    if sock is not None:
        served = await loop.create_server(door.carrier_protocol, sock=sock, **options)
    else:
        options |= {"family": family, "flags": flags, "reuse_address": reuse_address, "reuse_port": reuse_port}
        served = await loop.create_server(door.carrier_protocol, host, port or 0, **options)
    server = Server(served, door)
    with ExitStack() as unless_started:
        unless_started.callback(server.close)
        if terms.asked.policy is not None:
            addresses = [address for each in served.sockets for address in addresses_of(each)]
            for host_bound, port_bound in addresses:
                terms.asked.policy.may_bind(host_bound, port_bound)
            terms.asked.policy.listening(addresses)
        if start_serving:
            await server.start_serving()
        unless_started.pop_all()
    return server


async def create_datagram_endpoint(
    protocol_factory: Callable[[], DatagramProtocolT],
    local_addr: tuple[str, int] | None = None,
    remote_addr: tuple[str, int] | None = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: socket.socket | None = None,
    peer: str | AnyTrustedPeer | None = None,
    settings: SecuritySettings | None = None,
    context: SecurityContext | None = None,
) -> tuple[SecuredDatagramTransport, DatagramProtocolT]:
    """As loop.create_datagram_endpoint: a UDP socket whose datagrams are protected, with as many peers as it likes.

    The first datagram to an address negotiates, and is kept until that is over; a failure is told to the protocol's
    ``error_received``: of the remote address at once, of others with the next datagram there.
    ``peer``: who must be at ``remote_addr``; the transport's ``set_peer_target_name(name, address)`` says it of others.
    ``sock``: a bound UDP socket of the standard library's, which is taken over, with the remote address that it is
    connected to; nothing else of its making may be given.

    Raises LocalMisuse, ValueError as the loop's, and the system's own errors of binding.  Broadcasts have no peer that
    could prove anything: ``allow_broadcast`` is LocalMisuse.
    """
    # the rooms of UDP, for those who call this
    from .aio_datagrams import carry_bound, carry_taken_over, hear_at_ike_port, is_connected, make_endpoint, routed

    _check_carrier(sock, socket.SOCK_DGRAM)
    if sock is not None and (local_addr or remote_addr or family or proto or flags or reuse_port):
        raise ValueError("what is said of a socket's making is no use where sock= is given: it is made already")
    if allow_broadcast:
        raise LocalMisuse("a broadcast has no peer that could prove who it is: send to each peer")
    connected = remote_addr is not None or (sock is not None and is_connected(sock))
    if peer is not None and not connected:
        raise LocalMisuse(
            "peer= is who must be at remote_addr; of others the transport's set_peer_target_name() is told"
        )
    if family not in (0, socket.AF_INET, socket.AF_INET6):
        raise LocalMisuse("a secured endpoint is one of UDP")
    asked = _asked(settings, None if peer is None else expected_peer(peer), context, socket.IPPROTO_UDP)
    loop = asyncio.get_running_loop()
    protocol = protocol_factory()
    to_any = None if sock is not None else local_addr is None or local_addr[0] in ("", "0.0.0.0", "::")
    only = await routed(loop, asked.context, remote_addr, family)
    if only is not None:
        # what comes and goes on the wire has the standard host's address
        family = socket.AF_INET if len(only) == 2 else socket.AF_INET6
        local_addr = local_addr or ("::" if family == socket.AF_INET6 else "0.0.0.0", 0)
    remote = None if only is not None else remote_addr
    endpoint = make_endpoint(loop, protocol, asked, None if remote_addr is None else remote_addr[0], to_any, only)
    if sock is not None:
        await carry_taken_over(loop, endpoint, sock)
    else:
        await carry_bound(
            loop, endpoint, local_addr, remote, family=family, proto=proto, flags=flags, reuse_port=reuse_port
        )
    if asked.policy is not None:
        with ExitStack() as unless_allowed:
            unless_allowed.callback(endpoint.abort)
            asked.policy.bound(addresses_of(endpoint.carrier.get_extra_info("socket")))
            unless_allowed.pop_all()
    await hear_at_ike_port(loop, asked.context, endpoint)
    return endpoint.transport, protocol


class Server(asyncio.AbstractServer):
    """What create_server and start_server return; as asyncio's own servers, and an asynchronous context manager.

    ``refusals`` counts who was not let in, by reason: "other-name", "expired", "silent", "evicted", "timeout",
    "too-many-half-open" ..., or the name of the error's class.
    """

    def __init__(self, served: asyncio.base_events.Server, door: AioDoor) -> None:
        self._served = served
        self._door = door

    @property
    def refusals(self) -> Mapping[str, int]:
        """How many were refused, by reason."""
        return MappingProxyType(self._door.refusals)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; empty after close()."""
        return tuple(self._served.sockets)

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        return self._served.is_serving()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop it runs in."""
        return self._served.get_loop()

    async def start_serving(self) -> None:
        """Begin to accept; no effect if it does already."""
        await self._served.start_serving()

    async def serve_forever(self) -> None:
        """Accept until cancelled; the server is closed then."""
        try:
            await self._served.serve_forever()
        finally:
            self.close()

    def close(self) -> None:
        """Stop accepting and drop whoever is still negotiating; connections that were handed out stay."""
        self._served.close()
        if not self._door.closed and self._door.terms.asked.policy is not None:
            self._door.terms.asked.policy.release()
        self._door.close()

    def close_clients(self) -> None:
        """Close every connection that was handed out and is still open."""
        for transport in tuple(self._door.admitted):
            transport.close()

    def abort_clients(self) -> None:
        """Abort every connection that was handed out and is still open."""
        for transport in tuple(self._door.admitted):
            transport.abort()

    async def wait_closed(self) -> None:
        """Until the listening sockets are closed (and, since Python 3.12, all connections too)."""
        await self._served.wait_closed()


def _asked(
    settings: SecuritySettings | None,
    expected: ExpectedPeer | None,
    context: SecurityContext | None,
    protocol: int = socket.IPPROTO_TCP,
    allowed: AllowList | None = None,
) -> Asked:
    """Everything that can be wrong with what was asked is said before anything is begun."""
    settings = _NO_SETTINGS if settings is None else settings
    if not isinstance(settings, SecuritySettings):
        raise LocalMisuse("settings= takes SecuritySettings or IPsecSettings")
    context = default_context() if context is None else context
    check_settings(settings, context)
    check_offers(context, settings)
    if protocol == socket.IPPROTO_TCP:
        load_for_aio()
        stream_plane(context.plane)
    else:
        load_for_datagrams()
        check_datagram_plane(context.plane)
    load_for(context, settings)
    policy = None
    if allowed is not None or is_governed(context, settings):
        from ..engine.socket_policy import SocketPolicy  # of the filtering platform, which most programs do without

        policy = SocketPolicy(context, settings, protocol, allowed=allowed)
    return Asked(settings, expected, context, policy)


def _expected(host: str | None, sock: socket.socket | None, peer: str | AnyTrustedPeer | None) -> ExpectedPeer:
    _check_carrier(sock)
    if peer is not None:
        return expected_peer(peer)
    if sock is not None:
        host = sock.getpeername()[0]
    return name_of_host(host or "")


def _check_carrier(sock: socket.socket | None, kind: int = socket.SOCK_STREAM) -> None:
    if isinstance(sock, RefusingSocket):
        raise LocalMisuse("sock= is the bare carrier: a plain socket.socket; a SecureSocket has its own calls")
    if sock is not None and (sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != kind):
        named = "TCP socket: AF_INET or AF_INET6, and SOCK_STREAM"
        if kind == socket.SOCK_DGRAM:
            named = "UDP socket: AF_INET or AF_INET6, and SOCK_DGRAM"
        raise LocalMisuse(f"sock= is a {named}")
