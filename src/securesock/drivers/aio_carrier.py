"""A UDP descriptor in an event loop that can watch descriptors: a DatagramTransport that reads and sends runs.

asyncio's own transports pass nothing beside a datagram, so that the kernel could neither join what it receives nor send
several at once (batches).  This one stands on add_reader and add_writer alone, which every loop of selectors has, and
uvloop.  A loop without them (Windows' proactor) has its own transport, one datagram a call.

What is sent while nothing else was sent in the same turn of the loop goes at once; what follows it in that turn, and
what answers a run, is kept until the turn or the run is over, and goes in as few calls as the kernel allows, in order.
While an application sends and receives one datagram at a time, it pays for next to none of this (LOOK_AGAIN).  This
module must not know what is in a datagram.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio.trsock import TransportSocket
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

from ..types import Address
from .batches import MAX_RUN, MAX_SEGMENTS, Runs, receive_run
from .receive_room import ask_for_room

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["RunProtocol", "RunTransport", "bind_udp", "carry", "may_watch"]

_BUFFER_SIZE: Final = 65536  # no UDP datagram is larger
HIGH_WATER: Final = 64 * 1024
"""Bytes that the kernel has not taken, above which the protocol is asked to pause: asyncio's own default."""
LOOK_AGAIN: Final = 8
"""After a read, or a turn's sending, that was of one datagram: how many more go by before others are looked for again.
A look costs a call into the kernel, or a turn of the loop: an eighth of that, so; and a burst is seen eight late."""


class RunProtocol(asyncio.DatagramProtocol):
    """Who is told; as asyncio's own, what is not overridden does nothing."""

    def run_received(self, run: bytes, size: int, addr: Address) -> None:
        """Datagrams of ``size`` bytes from one sender, one behind the other, the last of which may be shorter."""


def may_watch(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop watches descriptors for others at all."""
    return type(loop).add_reader is not asyncio.AbstractEventLoop.add_reader


async def bind_udp(
    loop: asyncio.AbstractEventLoop,
    local: tuple[str | None, int] | None,
    remote: tuple[str, int] | None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
) -> socket.socket:
    """A UDP socket bound and connected as loop.create_datagram_endpoint has it, the first pair of addresses that works.

    ValueError: neither an address nor a family, no SO_REUSEPORT, or no family that both ends have; gaierror, and the
    system's errors of binding.
    """
    if local is None and remote is None and family == 0:
        raise ValueError("unexpected address family")
    here = await _found(loop, local, family, proto, flags)
    there = await _found(loop, remote, family, proto, flags)
    ways = [kind for kind in here or there or [(family, proto)] if _has(here, kind) and _has(there, kind)]
    if not ways:
        raise ValueError("can not get address information")
    failures: list[OSError] = []
    for kind in ways:
        kernel = socket.socket(kind[0], socket.SOCK_DGRAM, kind[1])
        try:
            _bind(kernel, here.get(kind), there.get(kind), reuse_port)
        except OSError as error:
            kernel.close()
            failures.append(error)
            continue
        except ValueError:
            kernel.close()
            raise
        return kernel
    raise failures[0]


def _has(found: dict[tuple[int, int], Address], kind: tuple[int, int]) -> bool:
    return not found or kind in found


def _bind(kernel: socket.socket, here: Address | None, there: Address | None, reuse_port: bool | None) -> None:
    if reuse_port:
        if not hasattr(socket, "SO_REUSEPORT"):
            raise ValueError("reuse_port not supported by socket module")
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    kernel.setblocking(False)
    if here is not None:
        kernel.bind(here)
    if there is not None:
        kernel.connect(there)  # of UDP, which waits for nobody


async def _found(
    loop: asyncio.AbstractEventLoop, address: tuple[str | None, int] | None, family: int, proto: int, flags: int
) -> dict[tuple[int, int], Address]:
    """The first address of each family and protocol; none for None."""
    if address is None:
        return {}
    host, port = address
    found: list[tuple[Any, Any, int, str, Any]]
    try:  # what is an address already needs no thread that looks it up
        numeric = flags | socket.AI_NUMERICHOST | (0 if host else socket.AI_PASSIVE)
        found = socket.getaddrinfo(host or None, port, family, socket.SOCK_DGRAM, proto, numeric)
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags)
    first: dict[tuple[int, int], Address] = {}
    where: Any  # some system without IPv6 would say another kind of address
    for kind, _, number, _, where in found:
        first.setdefault((kind, number), where)
    return first


async def carry(loop: asyncio.AbstractEventLoop, kernel: socket.socket, protocol: RunProtocol) -> RunTransport:
    """Take ``kernel`` over, a UDP socket; returns when the protocol was told of its transport."""
    transport = RunTransport(loop, kernel, protocol)
    made = loop.create_future()
    loop.call_soon(protocol.connection_made, transport)
    loop.call_soon(transport.start)
    loop.call_soon(lambda: None if made.done() else made.set_result(None))
    try:
        await made
    except asyncio.CancelledError:
        transport.close()
        raise
    return transport


class RunTransport(asyncio.DatagramTransport):
    """``kernel`` is ours from now on, and closed with the transport; connected, or not."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kernel: socket.socket, protocol: RunProtocol) -> None:
        here: Address | None = None
        peer: Address | None = None
        with contextlib.suppress(OSError):  # Windows says none of a socket that is not bound yet
            here = kernel.getsockname()
        with contextlib.suppress(OSError):
            peer = kernel.getpeername()
        kernel.setblocking(False)
        super().__init__({"socket": TransportSocket(kernel), "sockname": here, "peername": peer})
        self._loop = loop
        self._kernel = kernel
        self._number = kernel.fileno()
        self._protocol = protocol
        self._peer = peer
        ask_for_room(kernel)
        self._runs = Runs(kernel)
        self._may_join = True  # when several wait for the first time: a lone one is read with less
        self._lone_reads = self._lone_sends = 0  # so many more are taken for lone ones without a look
        self._gathered = False
        self._kept: deque[tuple[bytes, Address | None]] = deque()
        self._kept_bytes = 0
        self._singly = 0  # of the first that are kept, so many go one by one: the kernel did not take them as a run
        self._holding = False  # somebody sends what is kept when the turn, or the read, is over
        self._flushing = self._blocked = self._paused = False
        self._closing = self._lost = False
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4

    # -- reading -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read from now on."""
        if not self._closing:
            self._loop.add_reader(self._number, self._readable)

    def _readable(self) -> None:
        """Read until nothing is there, or others should have their turns; a lone datagram costs one call."""
        taken = 0
        while taken < MAX_SEGMENTS and not self._closing:
            try:
                if self._runs.joined:
                    run, size, address = receive_run(self._kernel)
                else:
                    run, address = self._kernel.recvfrom(_BUFFER_SIZE)
                    size = len(run)
            except BlockingIOError:
                if taken == 1:
                    self._lone_reads = LOOK_AGAIN
                return
            except OSError as error:
                self._protocol.error_received(error)
                return
            if taken and self._may_join:
                self._may_join = False
                self._runs.join()
            if len(run) > size:
                taken += -(-len(run) // size)
                self._deliver_run(run, size, address)
            else:
                taken += 1
                self._protocol.datagram_received(run, address)
            if taken > 1:
                self._lone_reads = 0
            elif self._lone_reads:
                self._lone_reads -= 1
                return

    def _deliver_run(self, run: bytes, size: int, address: Address) -> None:
        held, self._holding = self._holding, True
        try:
            self._protocol.run_received(run, size, address)
        finally:
            self._holding = held
            self._flush()

    # -- sending -------------------------------------------------------------------------------------------------------

    def sendto(self, data: ReadableBuffer, addr: object = None) -> None:
        """Send at once, or with others before this turn of the loop is over; errors are told to the protocol.

        ValueError: ``addr`` is not the one that the socket is connected to.
        """
        if self._peer is not None:
            if addr not in (None, self._peer):
                raise ValueError(f"Invalid address: must be None or {self._peer}")
            addr = None
        if self._closing:
            return
        where = cast("Address | None", addr)
        if self._kept or self._holding:
            self._keep(bytes(data), where)
            return
        if self._lone_sends:
            self._lone_sends -= 1
        else:
            self._holding, self._gathered = True, False
            self._loop.call_soon(self._end_turn)
        try:
            self._send(data, where)
        except BlockingIOError:
            self._keep(bytes(data), where)
            self._wait_until_writable()
        except OSError as error:
            self._protocol.error_received(error)

    def _end_turn(self) -> None:
        self._holding = False
        if not self._gathered:
            self._lone_sends = LOOK_AGAIN
        self._flush()

    def _keep(self, packet: bytes, where: Address | None) -> None:
        if self._kept_bytes + len(packet) > MAX_RUN or len(self._kept) >= MAX_SEGMENTS:
            self._flush()  # no longer run could be made of them
        self._gathered = True
        self._kept.append((packet, where))
        self._kept_bytes += len(packet)
        if self._blocked:
            self._pause_if_full()

    def _send(self, packet: ReadableBuffer, where: Address | None) -> None:
        if where is None:
            self._kernel.send(packet)
        else:
            self._kernel.sendto(packet, where)

    def _flush(self) -> None:
        """Send what is kept, in order, until the kernel takes no more; then, when that was asked, end."""
        if self._flushing or self._blocked:
            return
        self._flushing = True
        try:
            while self._kept and not self._blocked:
                self._send_next()
        finally:
            self._flushing = False
        if self._closing and not self._kept:
            self._lose()

    def _send_next(self) -> None:
        """Send the first that is kept, with those behind it that make a run with it."""
        packet, where = self._kept[0]
        count, size = self._run_length(), len(packet)
        try:
            if count == 1:
                self._send(packet, where)
            elif not self._runs.send(b"".join(each for each, _ in islice(self._kept, count)), size, where):
                self._singly = count  # neither the kernel nor the path
                return
        except BlockingIOError:
            self._wait_until_writable()
            return
        except OSError as error:
            if count > 1:
                self._singly = count  # about an earlier datagram, or there is no way: one by one tells
            else:
                self._forget_first(1)
            self._protocol.error_received(error)
            return
        self._forget_first(count)

    def _run_length(self) -> int:
        """How many of the first make one run: of one size but for the last, which may be shorter, to one address."""
        packet, where = self._kept[0]
        size = len(packet)
        if self._singly or not size or len(self._kept) == 1 or not self._runs.may_send(size):
            return 1
        count, room = 1, MAX_RUN - size
        for other, to in islice(self._kept, 1, MAX_SEGMENTS):
            if to != where or not 0 < len(other) <= min(size, room):
                break
            count += 1
            room -= len(other)
            if len(other) < size:
                break
        return count

    def _forget_first(self, count: int) -> None:
        for _ in range(count):
            self._kept_bytes -= len(self._kept.popleft()[0])
        self._singly = max(self._singly - count, 0)

    def _wait_until_writable(self) -> None:
        self._blocked = True
        self._loop.add_writer(self._number, self._writable)
        self._pause_if_full()

    def _writable(self) -> None:
        self._blocked = False
        self._flush()
        if not self._blocked and not self._lost:
            self._loop.remove_writer(self._number)
        if self._paused and self._kept_bytes <= self._low:
            self._paused = False
            self._protocol.resume_writing()

    def _pause_if_full(self) -> None:
        if self._kept_bytes > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As WriteTransport's: the protocol pauses above ``high`` bytes and resumes at ``low``.

        ValueError: ``low`` is above ``high``, or below 0.
        """
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        if self._blocked:
            self._pause_if_full()

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._kept_bytes

    # -- the end -------------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether close() or abort() was called."""
        return self._closing

    def close(self) -> None:
        """Read no more, send what is kept, and call connection_lost."""
        if not self._closing:
            self._closing = True
            self._loop.remove_reader(self._number)
            self._flush()

    def abort(self) -> None:
        """Call connection_lost soon; nothing more is sent."""
        self._kept.clear()
        self._kept_bytes = self._singly = 0
        if not self._closing:
            self._closing = True
            self._loop.remove_reader(self._number)
        self._lose()

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            self._loop.remove_writer(self._number)
            self._loop.call_soon(self._end)

    def _end(self) -> None:
        try:
            self._protocol.connection_lost(None)
        finally:
            self._kernel.close()
