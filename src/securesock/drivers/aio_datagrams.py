"""A secured UDP socket in an event loop: a protocol on the carrier's transport, a transport for the application.

``AioDatagrams`` is the protocol of a datagram transport, ours that reads and sends runs (aio_carrier) or the loop's
own, and the application talks to a SecuredDatagramTransport.  Nothing but the public interfaces of transports is used,
so that any loop will do.  Nothing waits: a first datagram is kept until its negotiation is over, and an application
hears of a failure as asyncio tells it of any, through ``error_received``.

Everything here runs in the loop's thread.  This module must not know how datagrams are protected, nor policy.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol, cast

from ..engine.fork import process, refuse_inherited
from ..engine.ports import Arrival, SecuredDatagrams
from ..errors import LocalMisuse, SecureSocketError
from ..identity.names import PeerTargetName
from ..types import Address, AnyTrustedPeer, SecurityInfo
from .aio_carrier import RunProtocol
from .ike_port import IkePort
from .inherited import close_copy
from .reconnecting import FROM_THE_PATH, NO_WAY, reconnect

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ..engine.live_flows import PolicyChange
    from ..policy import Explanation, Subscription

__all__ = ["AioDatagrams", "IkePortProtocol", "Directory", "SecuredDatagramTransport"]

_CLOSE_S: Final = 2.0  # how long close() waits for first datagrams (semantics "Datagrams")
_LEAST_WAIT_S: Final = 0.001  # the loop's clock is coarser than ours: a deadline is never met too early


class Directory(Protocol):
    """What an endpoint asks about addresses and peers."""

    def resolve(self, address: object) -> Address:
        """The kernel's own form of an address; LocalMisuse when it is none."""
        ...

    def host(self, address: Address) -> PeerTargetName | AnyTrustedPeer:
        """Who is expected at an address where nothing else says so."""
        ...

    def expected(self, peer: str | AnyTrustedPeer) -> PeerTargetName | AnyTrustedPeer:
        """A peer target name as an application writes it."""
        ...

    def info(self, machine: SecuredDatagrams, address: Address) -> SecurityInfo | None:
        """What is in force with an address."""
        ...

    def watch_policy(self, callback: Callable[[PolicyChange], object] | None = None) -> Subscription[PolicyChange]:
        """Hear of every change of any peer's policy; LocalMisuse without a filtering platform."""
        ...

    def explain_policy(self, address: Address) -> tuple[Explanation, ...]:
        """Why the flow with an address is judged as it is; LocalMisuse without a filtering platform."""
        ...

    def closed(self) -> None:
        """The endpoint is gone, and what only its negotiations needed with it."""
        ...


class AioDatagrams(RunProtocol):
    """Between the carrier's transport and the application's protocol.  Made before the carrier is.

    ``only``: the remote address, where the carrier itself has none because a standard host reaches it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.DatagramProtocol,
        begin: Callable[[asyncio.DatagramTransport], tuple[SecuredDatagrams, Directory, Address | None]],
        only: Address | None = None,
    ) -> None:
        self.only = only
        self.others = 0
        self.loop = loop
        self.protocol = protocol
        self.closing = False
        self._begin = begin
        self._generation = process.generation
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._moves = 0
        self._ike_port = IkePort()
        self._ike_transport: asyncio.DatagramTransport | None = None
        self._over = False

    # -- what the carrier tells ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The descriptor is bound: the machine is made, and the application told."""
        self.carrier = cast(asyncio.DatagramTransport, transport)  # uvloop's is none by its class
        self.machine, self.directory, self.connected = self._begin(self.carrier)
        self.transport = SecuredDatagramTransport(self)
        self.protocol.connection_made(self.transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Open it and deliver what it holds."""
        if self._over or self._generation != process.generation:
            return
        arrival = self.machine.handle_untrusted(data, addr, monotonic())
        self.settle()
        if arrival is None:
            self._tell_failure()
        else:
            self._deliver(arrival)

    def run_received(self, run: bytes, size: int, addr: Address) -> None:
        """Open the datagrams of ``size`` bytes in ``run``, the last of which may be shorter, and deliver them."""
        if self._over or self._generation != process.generation:
            return
        arrivals = deque(self.machine.handle_run_untrusted(run, size, addr, monotonic()))
        self.settle()
        if not arrivals:
            self._tell_failure()
        self._deliver_all(arrivals)

    def _deliver_all(self, arrivals: deque[Arrival]) -> None:
        try:
            while arrivals:
                self._deliver(arrivals.popleft())
        finally:
            if arrivals:  # what the protocol raises is the loop's to tell, and costs the others nothing
                self._deliver_all(arrivals)

    def _deliver(self, arrival: Arrival) -> None:
        if self.only is not None and arrival.address[:2] != self.only[:2]:
            self.others += 1
        elif not self.closing:
            self.protocol.datagram_received(arrival.data, arrival.address)

    def error_received(self, exc: Exception) -> None:
        """What anybody on the path can cause (ICMP) is told to nobody; timeouts say what is to be said.

        Where the kernel has no way to the remote address, our own may be another one now.  What else it refuses to send
        (too long for a datagram, a firewall of this machine) the application hears.
        """
        no_way = isinstance(exc, OSError) and exc.errno in NO_WAY
        if no_way and self.connected is not None and not self._over and self._generation == process.generation:
            self.machine.look_at_path(self.connected, monotonic())
            self.settle()
        if isinstance(exc, OSError) and exc.errno not in FROM_THE_PATH and not no_way and not self.closing:
            self.protocol.error_received(exc)

    def pause_writing(self) -> None:
        """The carrier keeps more than it likes."""
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """The carrier takes more."""
        self.protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The descriptor is gone."""
        self._over = self.closing = True
        if self._ike_transport is not None:
            self._ike_transport.close()
        if self._timer is not None:
            self._timer.cancel()
        self.directory.closed()
        self.protocol.connection_lost(exc)

    # -- what others want ------------------------------------------------------------------------------------------

    def in_loop(self, function: Callable[[], None]) -> None:
        """Run ``function`` in the loop's next turn, from whatever thread; not at all once the endpoint is gone."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(lambda: None if self._over else function())

    def break_off(self, address: Address, error: SecureSocketError) -> None:
        """See SecuredDatagrams; in the loop."""
        self.machine.break_off(address, error, monotonic())
        self.settle()
        if address == self.connected:
            self._tell_failure()

    # -- what the transport does ---------------------------------------------------------------------------------------

    def refuse_in_child(self) -> None:
        """Keys do not survive a fork (semantics "Processes and threads")."""
        if self._generation != process.generation:
            refuse_inherited("datagram endpoint")

    def send(self, data: memoryview, address: Address) -> None:
        """Seal and send, or keep it until the negotiation is over; what hinders it is told to the protocol."""
        try:
            self._seal_and_send(data, address)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self.protocol.error_received(error)
        self.settle()

    def _seal_and_send(self, data: memoryview, address: Address) -> None:
        machine, now = self.machine, monotonic()
        packet = machine.seal(data, address, now)
        if packet is None:
            failure = machine.take_failure(address)
            if failure is not None:
                self.protocol.error_received(failure)
                return
            machine.begin(address, self.directory.host(address), now)
            packet = machine.seal(data, address, now)
            if packet is None and not machine.enqueue(data.tobytes(), address):
                full = BlockingIOError(errno.EAGAIN, "enough datagrams wait for the negotiation with this peer")
                self.protocol.error_received(full)
        if packet is not None:
            to = machine.sealed_for
            while (out := machine.poll_transmit()) is not None:
                self._put(*out)  # the fragments that go before
            self._put(packet, to)

    def hear_at(self, port: asyncio.DatagramTransport) -> None:
        """Have those answered, too, who begin at this transport of an IkePortProtocol: port 500 (ike_port)."""
        self._ike_transport = port

    def ike_received(self, message: bytes, sender: Address) -> None:
        """A message without marker, of somebody who begins at port 500."""
        if not self._over and self._generation == process.generation:
            self.machine.handle_untrusted(self._ike_port.marked(message, sender), sender, monotonic())
            self.settle()

    def _put(self, packet: bytes | bytearray | memoryview, to: Address) -> None:
        if self._ike_transport is not None:
            message = self._ike_port.unmarked(packet, to)
            if message is not None:
                self._ike_transport.sendto(message, to)
                return
        self.carrier.sendto(packet, None if self.connected is not None and self.only is None else to)

    def settle(self) -> None:
        """After every turn of the machine: send what it wants sent, and set the timer."""
        if self.machine.moves != self._moves:
            self._moves = self.machine.moves
            self._reconnect()
        while (out := self.machine.poll_transmit()) is not None:
            self._put(*out)
        deadline = self.machine.next_deadline()
        if deadline is not None and deadline < self._timer_at and not self._over:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self.loop.call_later(max(deadline - monotonic(), 0) + _LEAST_WAIT_S, self._tick)
        if self.closing and not self.machine.queued:
            self._finish()

    def _reconnect(self) -> None:
        """The kernel holds on to our address of before, where there is a remote address."""
        carrier = self.carrier.get_extra_info("socket")
        if self.connected is not None and self.only is None and not self._over and carrier is not None:
            with socket.socket(carrier.family, carrier.type, carrier.proto, os.dup(carrier.fileno())) as kernel:
                reconnect(kernel, self.connected)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, inf
        if not self._over and self._generation == process.generation:
            self.machine.handle_timeout(monotonic())
            self.settle()
            self._tell_failure()

    def _tell_failure(self) -> None:
        failure = None if self.connected is None else self.machine.take_failure(self.connected)
        if failure is not None and not self.closing:
            self.protocol.error_received(failure)

    def close(self) -> None:
        """Say goodbye, when first datagrams whose negotiation is under way have gone, or in two seconds."""
        if self.closing:
            return
        self.closing = True
        if self._generation != process.generation:
            self._leave_to_parent()
        elif self.machine.queued:
            self.loop.call_later(_CLOSE_S, self._finish)
        else:
            self._finish()

    def _finish(self) -> None:
        if self._over or self._generation != process.generation:
            return
        self._over = True
        self.machine.close(monotonic())
        while (out := self.machine.poll_transmit()) is not None:
            self._put(*out)
        self.carrier.close()

    def abort(self) -> None:
        """Be gone at once."""
        if self._generation != process.generation:
            if not self.closing:
                self._leave_to_parent()
            return
        self.closing = self._over = True
        self.carrier.abort()

    def _leave_to_parent(self) -> None:
        """In a forked child: our copies of the descriptors are closed, nothing is written, and the loop left alone."""
        self.closing = self._over = True
        for carrier in (self.carrier, self._ike_transport):
            if carrier is not None:
                close_copy(carrier)


class IkePortProtocol(asyncio.DatagramProtocol):
    """What comes at port 500."""

    def __init__(self, endpoint: AioDatagrams) -> None:
        self._endpoint = endpoint

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Somebody begins there."""
        self._endpoint.ike_received(data, addr)


class SecuredDatagramTransport(asyncio.DatagramTransport):
    """What the application's protocol is handed: an asyncio.DatagramTransport, and the calls of names and reports."""

    def __init__(self, endpoint: AioDatagrams) -> None:
        super().__init__()
        self._endpoint = endpoint

    def sendto(self, data: ReadableBuffer, addr: tuple[object, ...] | str | ReadableBuffer | None = None) -> None:
        """Seal and send one datagram; without ``addr`` to the remote address of the endpoint.

        Kept until the negotiation with that address is over, 64 or 64 KiB of them; ``error_received`` of the protocol
        hears why one was not sent.  LocalMisuse: no address, or a name in it, which looking up would wait for.
        """
        endpoint = self._endpoint
        if endpoint.closing:
            return
        endpoint.send(memoryview(data).cast("B"), self._where(addr))

    def _where(self, address: object) -> Address:
        endpoint = self._endpoint
        endpoint.refuse_in_child()
        if address is not None:
            where = endpoint.directory.resolve(address)
            if endpoint.connected not in (None, where):
                raise ValueError(f"Invalid address: must be None or {endpoint.connected}")
            return where
        if endpoint.connected is None:
            raise LocalMisuse("an endpoint without a remote address has many peers: give the address of one")
        return endpoint.connected

    def set_peer_target_name(self, peer: str | AnyTrustedPeer, address: Address | None = None) -> None:
        """Who has to be at ``address``; before the first datagram there.  As SecureSocket's."""
        endpoint = self._endpoint
        endpoint.machine.expect(self._where(address), endpoint.directory.expected(peer))

    def delete_peer_target_name(self, address: Address) -> None:
        """End what there is with ``address``.  As SecureSocket's."""
        self._endpoint.machine.forget(self._where(address), monotonic())
        self._endpoint.settle()

    def query_security(self, address: Address | None = None) -> SecurityInfo:
        """What is in force with ``address``.  As SecureSocket's."""
        where = self._where(address)
        info = self._endpoint.directory.info(self._endpoint.machine, where)
        if info is None:
            raise LocalMisuse(f"nothing is negotiated with {where[0]} port {where[1]}", errno=errno.ENOTCONN)
        return info

    def watch_policy(self, callback: Callable[[PolicyChange], object] | None = None) -> Subscription[PolicyChange]:
        """As SecureSocket.watch_policy(): ``callback`` is called by a daemon thread, outside the loop."""
        return self._endpoint.directory.watch_policy(callback)

    def explain_policy(self, address: Address | None = None) -> tuple[Explanation, ...]:
        """As SecureSocket.explain_policy()."""
        return self._endpoint.directory.explain_policy(self._where(address))

    @property
    def refusals(self) -> Mapping[str, int]:
        """How many datagrams and negotiations were dropped or refused, by reason."""
        endpoint = self._endpoint
        endpoint.refuse_in_child()
        counted = {**endpoint.machine.counters, "other-peer": endpoint.others}
        return MappingProxyType({reason: count for reason, count in counted.items() if count})

    def get_extra_info(self, name: str, default: object = None) -> object:
        """The carrier's, and "security": the SecurityInfo of the remote address, None while there is none."""
        endpoint = self._endpoint
        if name != "security":
            found: object = endpoint.carrier.get_extra_info(name, default)
            return found
        if endpoint.connected is None:
            return default
        return endpoint.directory.info(endpoint.machine, endpoint.connected) or default

    def is_closing(self) -> bool:
        """Whether close() or abort() was called."""
        return self._endpoint.closing

    def close(self) -> None:
        """Send what is kept, say goodbye, and call connection_lost."""
        self._endpoint.close()

    def abort(self) -> None:
        """Call connection_lost soon; nothing more is sent."""
        self._endpoint.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who is told from now on."""
        if not isinstance(protocol, asyncio.DatagramProtocol):
            raise LocalMisuse("a datagram endpoint speaks to a DatagramProtocol")
        self._endpoint.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is told."""
        return self._endpoint.protocol
