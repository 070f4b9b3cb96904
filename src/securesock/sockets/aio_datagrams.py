"""What stands behind ss.aio.create_datagram_endpoint: the endpoint's machine and what it asks about addresses.

This module must not know how anything is negotiated or sealed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from time import monotonic, time
from typing import TYPE_CHECKING, cast

from ..drivers.aio_carrier import bind_udp, carry, may_watch
from ..drivers.aio_datagrams import AioDatagrams, Directory, IkePortProtocol
from ..drivers.ike_port import open_ike_port
from ..drivers.reactor import in_reactor
from ..engine.asking import ExpectedPeer, expected_peer
from ..engine.context import SecurityContext
from ..engine.ports import SecuredDatagrams
from ..engine.report import Asked, datagram_info
from ..engine.user import proves_a_user, wipe_password
from ..entropy import SystemEntropy
from ..errors import LocalMisuse
from ..types import ANY_TRUSTED_PEER, Address, AnyTrustedPeer, SecurityInfo
from .address_book import AddressBook, LocalAddress
from .datagram_keying import SocketKeying, is_routed
from .path import KernelPath
from .planes import datagram_machine

if TYPE_CHECKING:
    from ..engine.datagram_policy import DatagramPolicy
    from ..engine.live_flows import PolicyChange
    from ..engine.socket_policy import SocketPolicy
    from ..policy import Explanation, Subscription

__all__ = ["carry_bound", "carry_taken_over", "hear_at_ike_port", "is_connected", "make_endpoint", "routed"]


class _Directory:
    """See drivers.aio_datagrams.Directory."""

    def __init__(self, book: AddressBook, asked: Asked, judges: DatagramPolicy | None) -> None:
        self._book = book
        self._asked = asked
        self._judges = judges

    def resolve(self, address: object) -> Address:
        return self._book.resolve(address)

    def host(self, address: Address) -> ExpectedPeer:
        if proves_a_user(self._asked.context, self._asked.settings):
            return ANY_TRUSTED_PEER  # nobody was named, which is not enough for a user: beginning says so
        return self._book.host(address)

    def closed(self) -> None:
        wipe_password(self._asked.settings)
        if self._judges is not None:
            self._judges.over()

    def watch_policy(self, callback: Callable[[PolicyChange], object] | None = None) -> Subscription[PolicyChange]:
        return self._judging().subscribe(callback)

    def explain_policy(self, address: Address) -> tuple[Explanation, ...]:
        return self._judging().explain(address)

    def _judging(self) -> DatagramPolicy:
        if self._judges is None:
            raise LocalMisuse("no filtering platform judges this endpoint: it has to be made under policy=...")
        return self._judges

    def expected(self, peer: str | AnyTrustedPeer) -> ExpectedPeer:
        return expected_peer(peer)

    def info(self, machine: SecuredDatagrams, address: Address) -> SecurityInfo | None:
        asked = self._asked
        if self._judges is not None:
            asked = replace(asked, applied=self._judges.applied(address))
        return datagram_info(asked, machine.report(address), "userspace", time() - monotonic())


def make_endpoint(
    loop: asyncio.AbstractEventLoop,
    protocol: asyncio.DatagramProtocol,
    asked: Asked,
    remote_host: str | None,
    to_any: bool | None = None,
    only: Address | None = None,
) -> AioDatagrams:
    """The carrier's protocol; ``asked.expected`` is who has to be at the remote address, if there is one.

    ``to_any``: the application bound no address of its own, None where the descriptor says so itself.  ``only``: the
    remote address that the descriptor is not connected to, because a standard host reaches it.
    """

    def begin(carrier: asyncio.DatagramTransport) -> tuple[SecuredDatagrams, Directory, Address | None]:
        bound: socket.socket = carrier.get_extra_info("socket")
        our_address = LocalAddress(bound, to_any=to_any)
        judges = _judging(asked.policy, our_address)
        keying = SocketKeying(
            asked.context,
            asked.settings,
            our_address,
            lambda: time() - monotonic(),
            SystemEntropy(),
            path=KernelPath(bound),
            policy=judges,
        )
        machine = datagram_machine(asked.context.plane, keying, asked.settings.allow_insecure)
        book = AddressBook(bound.family, numeric=True)
        remote: Address | None = only or carrier.get_extra_info("peername")
        if remote is not None:
            if remote_host:
                book.meant(remote, remote_host)
            if asked.expected is not None:
                machine.expect(remote, asked.expected)
        if asked.policy is not None and judges is not None:
            judges.look_after(machine.live, endpoint.break_off, endpoint.in_loop, in_reactor)
        return machine, _Directory(book, Asked(asked.settings, None, asked.context), judges), remote

    endpoint = AioDatagrams(loop, protocol, begin, only)
    return endpoint


def _judging(policy: SocketPolicy | None, our_address: Callable[[Address], Address]) -> DatagramPolicy | None:
    if policy is None:
        return None
    from ..engine.datagram_policy import DatagramPolicy  # of the filtering platform, which most do without

    return DatagramPolicy(policy, our_address)


def is_connected(kernel: socket.socket) -> bool:
    """Whether a UDP socket has a remote address."""
    try:
        kernel.getpeername()
    except OSError:
        return False
    return True


async def carry_taken_over(loop: asyncio.AbstractEventLoop, endpoint: AioDatagrams, kernel: socket.socket) -> None:
    """Have the loop carry the datagrams of a UDP socket, in runs where it may watch the descriptor for us."""
    if may_watch(loop):
        await carry(loop, kernel, endpoint)
    else:
        await loop.create_datagram_endpoint(lambda: endpoint, sock=kernel)


async def carry_bound(
    loop: asyncio.AbstractEventLoop,
    endpoint: AioDatagrams,
    local: tuple[str, int] | None,
    remote: tuple[str, int] | None,
    *,
    family: int,
    proto: int,
    flags: int,
    reuse_port: bool | None,
) -> None:
    """As carry_taken_over, of a socket that is bound and connected as loop.create_datagram_endpoint does."""
    if not may_watch(loop):
        await loop.create_datagram_endpoint(
            lambda: endpoint, local, remote, family=family, proto=proto, flags=flags, reuse_port=reuse_port
        )
        return
    kernel = await bind_udp(loop, local, remote, family=family, proto=proto, flags=flags, reuse_port=reuse_port)
    await carry(loop, kernel, endpoint)


async def hear_at_ike_port(loop: asyncio.AbstractEventLoop, context: SecurityContext, endpoint: AioDatagrams) -> None:
    """Answer at port 500, too, where the endpoint is at 4500 and the process may."""
    bound = endpoint.carrier.get_extra_info("socket")
    found = open_ike_port(bound) if context.peers and bound is not None else None
    if found is not None:
        port, _ = await loop.create_datagram_endpoint(lambda: IkePortProtocol(endpoint), sock=found)
        endpoint.hear_at(port)


async def routed(
    loop: asyncio.AbstractEventLoop, context: SecurityContext, remote: tuple[str, int] | None, family: int
) -> Address | None:
    """The remote address, where a standard host reaches it; None where the carrier is connected to it itself.

    gaierror: it cannot be found.
    """
    if remote is None or not (context.peers or context.policy):
        return None
    found = await loop.getaddrinfo(*remote, family=family, type=socket.SOCK_DGRAM)
    address = cast(Address, found[0][4])
    return address if is_routed(context, address) else None
