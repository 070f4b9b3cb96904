"""Moves the datagrams of one secured UDP socket: application threads seal, open, send and receive; the reactor does
what no application call does.

One lock stands before the machine.  A thread that sends takes it to seal and sends without it; a thread that receives
reads the kernel's queue itself, because waking another thread costs more than opening a packet.  While some thread
receives, or did a moment ago, the reactor keeps its hands off the descriptor; else it reads, so that key exchanges go
on in a program that only sends, or does nothing for a while.  What it opens waits (arrived).  Timers are the reactor's.

Where the kernel lets it (Linux), a thread that receives waits a moment in the receiving call itself, which costs one
system call where poll() and reading cost three; only then does it wait so that others can wake it.

A program that waits for the descriptor itself (``fileno``) is given another one (arrived), and the reactor reads.

It must not know who is expected where, nor how anything is sealed.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Final, Protocol

from ..engine.fork import process, refuse_inherited
from ..engine.half_open import NEGOTIATION_S
from ..engine.ports import Arrival, PeerReport, SealedRun, SecuredDatagrams
from ..errors import KeyingTimeout, SecureSocketError
from ..identity.names import PeerTargetName
from ..keying.contract import Establishment
from ..types import Address, AnyTrustedPeer
from .arrived import Arrived
from .batches import MAX_RUN, MAX_SEGMENTS, Runs, receive_run
from .ike_port import IkePort
from .reactor import Timer, reactor
from .receive_room import ask_for_room
from .reconnecting import FROM_THE_PATH, NO_WAY, reconnect
from .waiting import READ, WRITE, Waiter, this_thread

__all__ = ["DatagramCarrier"]

BLOCK_S: Final = 0.05
"""How long a thread waits in the kernel at a time: at worst so late it finds what another thread's peek left for it."""
HANDS_OFF_S: Final = 0.05
"""How long after a receiving call the reactor leaves the descriptor alone: longer than an application takes between two
such calls, shorter than a peer's first retransmission."""
CLOSE_S: Final = 2.0
"""How long close() waits for first datagrams whose negotiation is under way (semantics "Datagrams")."""
STOP_S: Final = 5.0
_COMING: Final = ("negotiating", "established")  # established, and yet nothing to seal with: a rekey is under way
_READ_AT_ONCE: Final = 64  # packets that the reactor takes per turn, so that other sockets have their turns too
_NEVER: Final = -1  # no generation of a process
_LEAST_WAIT_S: Final = 0.001  # what is left of a timeout that has just passed: one more look
_TRIES: Final = 3  # what an error of the path may cost one datagram: another can come in between
_BUFFER_SIZE: Final = 65536  # no UDP datagram is larger, and no run of segments that the kernel joins
# not by way of the object, whose own attributes would be looked through first
_send: Final = _socket.socket.send
_sendto: Final = _socket.socket.sendto
_recvfrom: Final = _socket.socket.recvfrom

_AT_ONCE: Final = int(getattr(socket, "MSG_DONTWAIT", 0))
_MAY_BLOCK: Final = sys.platform == "linux"
"""A thread that waits in the kernel has to be got out of there.  Linux ends such a call at SO_RCVTIMEO and, also of a
socket that is not connected, at shutdown()."""


class PeerNames(Protocol):
    """Who is expected where nothing else says so."""

    def host(self, address: Address) -> PeerTargetName | AnyTrustedPeer:
        """Who has to be at ``address``; asked only when a negotiation begins."""
        ...


class DatagramCarrier:
    """``kernel`` is a UDP descriptor of our own, bound already; ``readiness`` as readiness_pair made it, where the
    application has asked for it before there was a carrier.  ``only``: whose datagrams alone are delivered, where the
    descriptor itself is not connected."""

    def __init__(
        self,
        kernel: socket.socket,
        machine: SecuredDatagrams,
        names: PeerNames,
        readiness: tuple[socket.socket, socket.socket] | None = None,
    ) -> None:
        self.connected: Address | None = None
        self.gone: Callable[[], None] | None = None
        self._broken_off: set[Address] = set()
        self.only: Address | None = None
        self.counters: Counter[str] = Counter()
        # what the kernel is asked without waiting says so in each call
        kernel.setblocking(_MAY_BLOCK)
        if _MAY_BLOCK:
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, int(BLOCK_S * 1e6)))
        self._kernel = kernel
        self._machine = machine
        self._names = names
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        self._blocked: list[int] = []  # an item for each thread that waits in the kernel
        ask_for_room(kernel)
        self._runs = Runs(kernel)
        self._plain = _MAY_BLOCK and readiness is None  # nothing keeps a thread from waiting in the kernel
        self._arrived = Arrived(readiness)
        self._receivers: list[Waiter] = []
        self._received_at = -inf
        self._watched = self._armed = False
        self._timer: Timer | None = None
        self._timer_at = inf
        self._closed = False
        self._moves = 0
        self._stopping = self._released = False
        self._generation = self._usable_in = process.generation
        self._ike_kernel: socket.socket | None = None
        self._ike_port = IkePort()

    def hear_at(self, ike_kernel: socket.socket) -> None:
        """Have those answered, too, who begin at this descriptor: port 500 (ike_port).  Before ``start``."""
        self._ike_kernel = ike_kernel

    def start(self) -> None:
        """Have the reactor look after it."""
        reactor().call(self._watch)

    def _check(self) -> None:
        if self._generation != process.generation:
            refuse_inherited("datagram socket")
        if self._closed:
            raise OSError(errno.EBADF, "the socket is closed")

    # -- peers ---------------------------------------------------------------------------------------------------------

    def expect(self, address: Address, expected: PeerTargetName | AnyTrustedPeer) -> None:
        """See SecuredDatagrams."""
        self._check()
        with self._lock:
            self._machine.expect(address, expected)

    def forget(self, address: Address) -> None:
        """See SecuredDatagrams."""
        self._check()
        with self._lock:
            self._machine.forget(address, monotonic())
            self._settle()

    def live(self) -> list[tuple[Address, Establishment]]:
        """See SecuredDatagrams; nobody once it is closed."""
        if self._generation != process.generation or self._closed:
            return []
        with self._lock:
            return self._machine.live()

    def break_off(self, address: Address, error: SecureSocketError) -> None:
        """See SecuredDatagrams."""
        if self._generation != process.generation or self._closed:
            return
        with self._lock:
            self._machine.break_off(address, error, monotonic())
            self._broken_off.add(address)
            self._settle()
            self._wake_receivers()

    def report(self, address: Address) -> PeerReport:
        """See SecuredDatagrams."""
        self._check()
        with self._lock:
            return self._machine.report(address)

    def dropped(self) -> dict[str, int]:
        """What was dropped or refused, by reason."""
        if self._generation != process.generation:
            refuse_inherited("datagram socket")
        with self._lock:
            return dict(self.counters + Counter(self._machine.counters))

    # -- sending -------------------------------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview, address: Address, timeout: float | None) -> None:
        """Seal and send one datagram; where there is no SA yet, after the negotiation.

        A non-blocking socket keeps it until then, and raises BlockingIOError when enough are kept; the next call
        raises why the negotiation failed.  TimeoutError: not within ``timeout`` (None: 10 s for a negotiation).
        """
        if self._usable_in != process.generation:
            self._check()
        machine, lock = self._machine, self._lock
        lock.acquire()  # half the cost of a with statement
        try:
            packet = machine.seal(data, address, monotonic())
            if packet is None:
                packet = self._negotiate(data, address, timeout)
                if packet is None:
                    return
            to = machine.sealed_for
            if machine.due < self._timer_at:
                self._settle()  # the fragments that go before, for one
        finally:
            lock.release()
        try:
            if self.connected is not None and to == self.connected:
                _send(self._kernel, packet, _AT_ONCE)
            else:
                _sendto(self._kernel, packet, _AT_ONCE, to)
        except OSError as error:
            if error.errno in NO_WAY:
                self._look_at_path(address)
            self._send_again(packet, to, timeout, error)

    def _look_at_path(self, address: Address) -> None:
        """The kernel has no way there: our own address may be another one now."""
        with self._lock:
            self._machine.look_at_path(address, monotonic())
            self._settle()

    def send_batch(self, batch: Sequence[bytes | memoryview], address: Address, timeout: float | None) -> int:
        """Seal and send several, as few system calls as the kernel allows; how many were sent."""
        done = 0
        while done < len(batch):
            run, to = self._seal_run(batch, done, address)
            try:
                if run is None:
                    self.send(batch[done], address, timeout)
                    done += 1
                else:
                    done += self._send_run(run, to, address, timeout)
            except OSError as error:
                if done and not isinstance(error, SecureSocketError):
                    return done  # as sendmmsg(2): the next call begins with it, and says what hinders it
                raise
        return done

    def _seal_run(
        self, batch: Sequence[bytes | memoryview], begin: int, address: Address
    ) -> tuple[SealedRun | None, Address]:
        if self._usable_in != process.generation:
            self._check()
        machine = self._machine
        with self._lock:
            run = machine.seal_run(batch, begin, MAX_SEGMENTS, MAX_RUN, address, monotonic())
            if machine.due < self._timer_at:
                self._settle()
            return run, machine.sealed_for

    def _send_run(self, run: SealedRun, to: Address, address: Address, timeout: float | None) -> int:
        """How many of its packets the kernel took; BlockingIOError when it took none."""
        packets, size, count = run
        where = None if to == self.connected else to
        joined = count > 1 and self._runs.may_send(size)
        while joined:
            try:
                if self._runs.send(packets, size, where):
                    return count
                joined = False  # neither the kernel nor the path: one by one
            except BlockingIOError:
                if timeout == 0:
                    raise
                self._wait_writable(timeout)
            except OSError as error:
                if error.errno not in FROM_THE_PATH:
                    raise
                joined = False  # about an earlier datagram, or there is no way: one by one tells
        for number in range(count):
            packet = packets[number * size : (number + 1) * size]
            try:
                self._put(packet, to)
            except OSError as error:
                if number and timeout == 0 and isinstance(error, BlockingIOError):
                    return number
                if error.errno in NO_WAY:
                    self._look_at_path(address)
                self._send_again(packet, to, timeout, error)
        return count

    def _negotiate(
        self, data: bytes | memoryview, address: Address, timeout: float | None
    ) -> bytes | bytearray | memoryview | None:
        """Under the lock.  The packet, or None when it was kept for later."""
        machine, started = self._machine, monotonic()
        if timeout == 0 or address in self._broken_off:
            self._broken_off.discard(address)
            self._raise_failure(address)
        while True:
            now = monotonic()
            machine.begin(address, self._names.host(address), now)
            self._settle()
            reactor().call(self._watch)
            packet = machine.seal(data, address, now)
            if packet is not None:
                return packet
            if timeout == 0:
                if machine.report(address).state not in _COMING or not machine.enqueue(bytes(data), address):
                    self._raise_failure(address)
                    raise BlockingIOError(errno.EAGAIN, "enough datagrams wait for the negotiation with this peer")
                return None
            limit = started + (NEGOTIATION_S if timeout is None else timeout)
            while packet is None and machine.report(address).state in _COMING:
                left = limit - monotonic()
                if left <= 0:
                    if timeout is None:
                        raise KeyingTimeout(
                            f"{address[0]} port {address[1]} did not finish the key exchange within "
                            f"{NEGOTIATION_S:g} s; does it speak IKEv2?"
                        )
                    raise TimeoutError("timed out")
                self._wait_for_change(left)
                if self._closed:
                    raise OSError(errno.EBADF, "the socket was closed")
                packet = machine.seal(data, address, monotonic())
            if packet is not None:
                return packet
            self._raise_failure(address)

    def _wait_for_change(self, seconds: float) -> None:
        self._waiting += 1
        try:
            self._changed.wait(seconds)
        finally:
            self._waiting -= 1

    def _raise_failure(self, address: Address) -> None:
        failure = self._machine.take_failure(address)
        if failure is not None:
            raise failure

    def _send_again(
        self, packet: bytes | bytearray | memoryview, to: Address, timeout: float | None, error: OSError
    ) -> None:
        """The kernel did not take it: wait until it does, or pass its error on."""
        for _ in range(_TRIES):
            if isinstance(error, BlockingIOError):
                if timeout == 0:
                    raise error
                self._wait_writable(timeout)
            elif error.errno not in FROM_THE_PATH:
                raise error
            else:
                self.counters["carrier-error"] += 1  # about an earlier datagram; this one was not sent
            try:
                self._put(packet, to)
            except OSError as again:
                error = again
            else:
                return
        self.counters["not-sent"] += 1

    def _put(self, packet: bytes | bytearray | memoryview, to: Address) -> None:
        if self._ike_kernel is not None and self._ike_port.send(self._ike_kernel, packet, to):
            return
        if to == self.connected:
            _send(self._kernel, packet, _AT_ONCE)
        else:
            _sendto(self._kernel, packet, _AT_ONCE, to)

    def _wait_writable(self, timeout: float | None) -> None:
        if not this_thread().wait(self._kernel.fileno(), WRITE, timeout):
            raise TimeoutError("timed out")
        self._check()

    # -- receiving -----------------------------------------------------------------------------------------------------

    def receive(self, timeout: float | None, *, peek: bool = False) -> Arrival:
        """The next datagram.  BlockingIOError or TimeoutError when there is none in time.

        Of a connected socket it raises why the negotiation with the peer failed; of others nothing that a peer causes.
        """
        if self._usable_in != process.generation:
            self._check()
        blocked = self._plain and not (self._watched or self._arrived.waiting or peek)
        if blocked and (timeout is None or timeout >= BLOCK_S):
            limit = None if timeout is None else monotonic() + timeout
            arrival = self._receive_blocked()
            if arrival is not None:
                return arrival
            timeout = None if limit is None else max(limit - monotonic(), _LEAST_WAIT_S)
        try:
            with self._lock:
                arrival = self._take(peek)
            if arrival is not None:
                return arrival
            if timeout == 0:
                raise BlockingIOError(errno.EAGAIN, "no datagram waits")
            return self._wait_for_arrival(timeout, peek)
        finally:
            self._keep_hands_off(monotonic())

    def _receive_blocked(self) -> Arrival | None:
        """One receiving call that waits in the kernel; None: what came was not for the application, or nothing came."""
        blocked, machine, lock = self._blocked, self._machine, self._lock
        blocked.append(1)
        try:
            if self._closed:
                return None
            packet, address = _recvfrom(self._kernel, _BUFFER_SIZE)
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                self._note_path_error(error)
            return None
        finally:
            blocked.pop()
            if self._closed:
                self._leave_kernel()
        self._received_at = now = monotonic()
        lock.acquire()  # half the cost of a with statement
        try:
            arrival = machine.handle_untrusted(packet, address, now)
            if arrival is None or machine.due < self._timer_at:
                self._settle()
            if self.only is not None and arrival is not None and not self._is_wanted(arrival):
                arrival = None
        finally:
            lock.release()
        if not self._armed:
            self._keep_hands_off(now)
        return arrival

    def _leave_kernel(self) -> None:
        """Closed meanwhile: the last one who waited in the kernel lets the descriptor go."""
        with self._lock:
            if self._released and not self._blocked:
                self._release()
            self._changed.notify_all()

    def _keep_hands_off(self, now: float) -> None:
        self._received_at = now
        if not self._watched and not self._armed:
            self._armed = True
            reactor().call(self._arm)

    def _handle_untrusted(self, packet: bytes, address: Address, now: float) -> Sequence[Arrival]:
        """Under the lock: one datagram of the carrier, and what it makes the machine want."""
        machine = self._machine
        arrival = machine.handle_untrusted(packet, address, now)
        if arrival is None or machine.due < self._timer_at:
            self._settle()
        return () if arrival is None or not self._is_wanted(arrival) else (arrival,)

    def _note_path_error(self, error: OSError) -> None:
        if self._closed and error.errno == errno.EBADF:
            self._check()  # the descriptor went while we were about to read it
        if error.errno not in FROM_THE_PATH:
            raise error
        self.counters["carrier-error"] += 1

    def receive_batch(self, most: int, timeout: float | None) -> list[Arrival]:
        """What is there, at least one and at most ``most``."""
        if not self._runs.joined:
            self._runs.join()
            self._plain = self._plain and not self._runs.joined
        batch = [self.receive(timeout)]
        with self._lock:
            while len(batch) < most:
                if self._arrived.waiting:
                    batch += self._arrived.take(most - len(batch))
                elif (arrival := self._take(peek=False)) is not None:
                    batch.append(arrival)
                else:
                    break
        return batch

    def _wait_for_arrival(self, timeout: float | None, peek: bool) -> Arrival:
        limit = inf if timeout is None else monotonic() + timeout
        waiter = this_thread()
        with self._lock:
            self._receivers.append(waiter)
        try:
            while True:
                left = limit - monotonic()
                if left <= 0:
                    raise TimeoutError("timed out")
                if not self._closed:
                    waiter.wait(self._kernel.fileno(), READ, None if left == inf else left)
                self._check()
                with self._lock:
                    arrival = self._take(peek)
                if arrival is not None:
                    return arrival
        finally:
            with self._lock:
                self._receivers.remove(waiter)
                if self._closed:
                    self._changed.notify_all()

    def _take(self, peek: bool) -> Arrival | None:
        """Under the lock: the next datagram, from those that arrived or from the kernel; None when there is none."""
        arrived = self._arrived
        if not arrived.waiting:
            if self.connected is not None:
                self._raise_failure(self.connected)
            came = self._read()
            if not came:
                return None
            if not peek:
                self._keep(came[1:])
                return came[0]
            self._keep(came)
        return arrived.waiting[0] if peek else arrived.take(1)[0]

    def _read(self) -> Sequence[Arrival]:
        """Under the lock: read the kernel's queue until something for the application comes out of one read of it, or
        it is empty."""
        while True:
            try:
                if self._runs.joined:
                    came = self._read_run()
                else:
                    packet, address = _recvfrom(self._kernel, _BUFFER_SIZE, _AT_ONCE)
                    came = self._handle_untrusted(packet, address, monotonic())
            except BlockingIOError:
                return ()
            except OSError as error:
                self._note_path_error(error)
                continue
            if came:
                return came

    def _is_wanted(self, arrival: Arrival) -> bool:
        """Whether it is from the peer that the socket is connected to, where the kernel cannot tell: a gateway speaks
        for others."""
        if self.only is None or arrival.address[:2] == self.only[:2]:
            return True
        self.counters["other-peer"] += 1
        return False

    def _read_run(self) -> Sequence[Arrival]:
        """Several packets that the kernel joined."""
        run, size, address = receive_run(self._kernel, _AT_ONCE)
        if len(run) <= size:
            return self._handle_untrusted(run, address, monotonic())
        arrivals = self._machine.handle_run_untrusted(run, size, address, monotonic())
        self._settle()
        return arrivals if self.only is None else [each for each in arrivals if self._is_wanted(each)]

    def _keep(self, arrivals: Sequence[Arrival]) -> None:
        """Under the lock: for the application's next calls, unless too much waits already."""
        if arrivals and (dropped := self._arrived.keep(arrivals)):
            self.counters["receive-queue-full"] += dropped

    def fileno(self) -> int:
        """Readable exactly while ``receive`` would return at once; the reactor reads the kernel's queue from now on."""
        self._check()
        with self._lock:
            if not self._arrived.has_descriptor:
                self._plain = False
                reactor().call(self._watch)
            return self._arrived.fileno()

    # -- after every turn of the machine -------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Under the lock: send what the machine wants sent, tell the reactor of its deadline, wake who waits."""
        machine = self._machine
        if machine.moves != self._moves:
            self._moves = machine.moves
            if self.connected is not None and self.only is None:
                reconnect(self._kernel, self.connected)
        while (out := machine.poll_transmit()) is not None:
            try:
                self._put(*out)
            except OSError:
                self.counters["carrier-error"] += 1  # lost on its way, as any datagram may be
        deadline = machine.next_deadline()
        if deadline is not None and deadline < self._timer_at:
            self._timer_at = deadline
            reactor().call(self._set_timer)
        if self._waiting:
            self._changed.notify_all()
        if self._stopping and not machine.queued:
            reactor().call(self._stop)

    # -- in the reactor ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if not self._watched and self._kernel.fileno() >= 0:
            self._watched = True
            reactor().watch(self._kernel, READ, self._readable)
            if self._ike_kernel is not None:
                reactor().watch(self._ike_kernel, READ, self._ike_readable)

    def _ike_readable(self, mask: int, now: float) -> None:
        with self._lock:
            for _ in range(_READ_AT_ONCE):
                found = None if self._ike_kernel is None else self._ike_port.read(self._ike_kernel)
                if found is None:
                    break
                self._machine.handle_untrusted(*found, now)
                self._settle()

    def _readable(self, mask: int, now: float) -> None:
        # whoever waits in the kernel reads also what a negotiation waits for
        awaited = self._arrived.has_descriptor or self._waiting
        if self._blocked or (not awaited and (self._receivers or now < self._received_at + HANDS_OFF_S)):
            self._watched = False
            reactor().forget(self._kernel)
            self._arm()
            return
        with self._lock:
            try:
                for _ in range(_READ_AT_ONCE):
                    came = self._read()
                    if not came:
                        break
                    self._keep(came)
            except OSError:
                self.counters["carrier-error"] += 1  # the next receiving call will meet it, if it lasts
            self._wake_receivers()

    def _arm(self) -> None:
        self._armed = True
        reactor().at(monotonic() + HANDS_OFF_S, self._look_again)

    def _look_again(self, now: float) -> None:
        """Whether the application still receives; while it does nothing but wait, its return arms this again."""
        self._armed = False
        if self._receivers and not self._blocked:
            return
        if self._blocked or now < self._received_at + HANDS_OFF_S:
            self._arm()
        else:
            self._watch()

    def _wake_receivers(self) -> None:
        """Under the lock: a datagram, or a failure, is there for them."""
        failed = self.connected is not None and self._machine.report(self.connected).error is not None
        if self._arrived.waiting or failed or self._closed:
            for waiter in self._receivers:
                waiter.wake()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._kernel.fileno() < 0 else reactor().at(self._timer_at, self._tick)

    def _tick(self, now: float) -> None:
        with self._lock:
            self._timer, self._timer_at = None, inf
            if self._kernel.fileno() < 0:
                return
            self._machine.handle_timeout(now)
            self._settle()
            self._wake_receivers()

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self, *, wait: bool) -> None:
        """Say goodbye; first datagrams whose negotiation is under way are waited for, by us or by the reactor.

        ``wait``: return only when the port is free again.
        """
        if self._generation != process.generation:
            self._release()
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._usable_in = _NEVER
            self._changed.notify_all()
            for waiter in self._receivers:
                waiter.wake()
            limit = monotonic() + CLOSE_S
            while wait and self._machine.queued and (left := limit - monotonic()) > 0:
                self._wait_for_change(left)
            if not wait and self._machine.queued:
                self._stopping = True
                reactor().call(lambda: self._stop_later(limit))
                return
        if wait:
            reactor().run_and_wait(self._stop, STOP_S)
            with self._lock:
                while (self._receivers or self._kernel.fileno() >= 0) and (left := limit + STOP_S - monotonic()) > 0:
                    self._wait_for_change(left)
        else:
            reactor().call(self._stop)

    def _stop_later(self, when: float) -> None:
        reactor().at(when, lambda _: self._stop())

    def _stop(self) -> None:
        with self._lock:
            if self._kernel.fileno() < 0:
                return
            self._stopping = False
            self._machine.close(monotonic())
            self._settle()
            reactor().forget(self._kernel)
            if self._ike_kernel is not None:
                reactor().forget(self._ike_kernel)
            if self._timer is not None:
                self._timer.cancel()
            if self._blocked:
                # the descriptor's number may not become another's while somebody reads it
                self._released = True
                with contextlib.suppress(OSError):  # not connected, says Linux, and wakes them
                    self._kernel.shutdown(socket.SHUT_RD)
            else:
                self._release()

    def _release(self) -> None:
        self._kernel.close()
        if self._ike_kernel is not None:
            self._ike_kernel.close()
        self._arrived.close()
        gone, self.gone = self.gone, None
        if gone is not None:
            gone()
