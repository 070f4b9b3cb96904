"""One secured TCP connection as a machine without I/O: bytes of the carrier in and out, application data out and in.

The carrier is the application's own TCP connection, in the framing of RFC 9329:
IKE messages and ESP packets in one ordered stream; each ESP packet holds one TCP
segment of the inner connection.  The order is everything: a message, the switch to
a new outbound SA, and the packets under it leave in the order in which they were
decided, and what comes in is handled in the order in which it came.

Who may call what at the same time.  The driver owns two locks.  Inbound methods are
called under its read lock and touch ``_intake`` and ``_opener``; outbound methods under its write
lock and touch ``_sealer``, ``_finished`` and what stands beside it.  The keying session is behind a lock of its
own in ``_link``, which is held only while one message or one request is handled; what
it wants to have sent waits there until the outbound side takes it between two packets.
So a reader never waits for a writer.

It knows nothing of sockets, threads, clocks, credentials or policy.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from copy import copy
from math import inf

from ...errors import ConnectionBroken, LocalMisuse, PeerMisbehaved, SecureSocketError, StreamTruncated
from ...keying.contract import Establishment, KeyingSession, Role
from ...sad.entries import Limits, OutboundSa
from ...wire.segment import FIN_ACK, PSH_ACK, RST
from .buffers import BUFFERS
from .intake import Intake
from .link import MAX_CONTROL, KeyingLink, Mark, StreamState
from .open import Opener
from .seal import Sealer
from .short import ShortOpening, ShortSealing

__all__ = ["StreamConnection"]

NOTHING = memoryview(b"")


class StreamConnection:
    """See the module.  ``role`` is who opened the TCP connection.  ``now`` is monotonic seconds.

    The short way for small messages, past the pool's buffer, is two attributes, as a method would be a call more:

    ``seal_message(data, now)``, under the write lock: a frame with all of ``data``, for the carrier at once.  None, and
    nothing changed, where ``seal`` has to be asked: something else goes first, a limit is due, the stream is over, or
    ``data`` is empty or longer than MAX_MESSAGE.

    ``open_message(view, count, limit)``, under the read lock: the data of ``view[:count]`` if that is one whole frame
    with the next data, and nothing else is kept here.  None, and nothing changed, for everything else: put the bytes
    into ``inbound_buffer`` then.  ``limit``: the most that the reader takes.
    """

    def __init__(self, session: KeyingSession, role: Role) -> None:
        self._intake = Intake(BUFFERS)
        self._opener = Opener(self._intake, expect_prefix=role is Role.RESPONDER)
        self._sealer = Sealer(BUFFERS)
        self._link = KeyingLink(session, role, self._opener, self._sealer)
        self._short_sealing = ShortSealing(self._link, self._sealer)
        self.seal_message = self._short_sealing.seal
        self.open_message = ShortOpening(self._link, self._opener).open_untrusted
        self._abandoned = False
        self._finished = False  # our FIN or RST was sealed, or never will be
        self._consented = role is Role.RESPONDER  # whatever consent there is to give was sealed
        self._withdrawn = False
        self.carrier_ended = False

    # for anyone at any time

    @property
    def state(self) -> StreamState:
        """Negotiating, then established, then closed; failed from either of the first two.

        The initiator is established when its checks have passed, the responder when the initiator's first segment was
        opened.  Closed: both ends of stream were sealed or read, or this end aborted.
        """
        return self._link.state

    @property
    def error(self) -> SecureSocketError | None:
        """Why it failed: the first reason."""
        return self._link.error

    @property
    def establishment(self) -> Establishment | None:
        """What was agreed and proven."""
        return self._link.establishment

    @property
    def counters(self) -> Mapping[str, int]:
        """What was dropped or refused, by named reason."""
        return self._link.counters

    @property
    def peer_speaks_ike(self) -> bool:
        """Whether a well-formed IKE message of the peer's was read: from then on clear text is out of the question."""
        return self._link.peer_speaks_ike

    @property
    def child_rekeys(self) -> int:
        """How often the SA pair was replaced."""
        return self._link.child_rekeys

    @property
    def ike_rekeys(self) -> int:
        """How often the key-exchange SA was replaced."""
        return self._link.ike_rekeys

    @property
    def main_mode_sa_id(self) -> int:
        """Of the present key-exchange SA; 0 before there is one."""
        return self._link.main_mode_sa_id

    @property
    def quick_mode_sa_id(self) -> int:
        """Of the present SA pair; 0 before there is one."""
        return self._link.quick_mode_sa_id

    @property
    def outbound_waiting(self) -> bool:
        """Whether anything waits for the carrier."""
        return bool(self._link.control) or self._sealer.unsent() > 0

    @property
    def ended(self) -> bool:
        """Whether the peer's authenticated end of stream was read."""
        return self._opener.fin

    @property
    def at_end(self) -> bool:
        """Nothing is readable and nothing more will be: ``read_into`` then returns 0 or raises."""
        return not self._intake.unread and (self._opener.fin or self._link.state in ("failed", "closed"))

    @property
    def wants_input(self) -> bool:
        """Whether to read the carrier: not when it has ended, when enough is kept, or when the peer does not listen."""
        link = self._link
        return (
            not self.carrier_ended
            and not self._abandoned
            and link.error is None
            and not self._intake.full()
            and link.control_bytes < MAX_CONTROL
        )

    @property
    def quiet(self) -> bool:
        """Nothing is readable or partly received, nothing waits for the carrier, no stream has ended, all is well."""
        return not (
            self._intake.kept
            or self._link.control
            or self._sealer.buffer is not None
            or self._opener.fin
            or self._link.state != "established"
        )

    def readable(self) -> int:
        """Opened bytes that were not read yet."""
        return self._intake.unread

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due; after establishment ``seal`` looks at it by itself."""
        return None if self._link.deadline == inf else self._link.deadline

    def abandon(self) -> None:
        """For the child of a fork: no key, counter or byte is left, and every other method raises LocalMisuse.

        A copied counter of an SA would be a repeated nonce.  Takes no lock: another thread may have held it at the
        fork.
        """
        self._abandoned = True
        self._link.control.clear()
        self._sealer = Sealer(BUFFERS)
        self._intake = Intake(BUFFERS)
        self._opener = Opener(self._intake, expect_prefix=False)
        self._short_sealing = ShortSealing(self._link, self._sealer)
        self._short_sealing.stop()
        self.seal_message = self._short_sealing.seal
        self.open_message = ShortOpening(self._link, self._opener).open_untrusted

    def break_off(self, error: SecureSocketError) -> None:
        """Fail, for a reason that is not the peer's; from any thread.  What was opened stays readable, and whoever
        drives the connection tells the peer as after any failure."""
        self._refuse_if_abandoned()
        self._link.fail(error)
        self._short_sealing.stop()

    # keying: under the write lock

    def start(self, now: float) -> None:
        """Begin.  The initiator has its first message to send; the responder waits."""
        self._refuse_if_abandoned()
        self._link.start(now)

    def handle_timeout(self, now: float) -> None:
        """The time of ``next_deadline`` has come."""
        self._refuse_if_abandoned()
        self._link.handle_timeout(now)

    def rekey_child(self, now: float) -> None:
        """Have the SA pair replaced now."""
        self._refuse_if_abandoned()
        self._link.rekey_child(now)

    def rekey_ike(self, now: float) -> None:
        """Have the key-exchange SA replaced now."""
        self._refuse_if_abandoned()
        self._link.rekey_ike(now)

    # inbound: under the read lock

    def inbound_buffer(self) -> memoryview:
        """Room for the carrier's next bytes, not empty while ``wants_input``.

        Valid until ``inbound_received`` or ``inbound_release``.
        """
        self._refuse_if_abandoned()
        return self._intake.room(self._opener.max_frame)

    def inbound_received(self, count: int, now: float) -> None:
        """``count`` bytes were put into ``inbound_buffer``; 0 means that the carrier has ended.

        Raises nothing for what the peer did: see ``state`` and ``error``.
        """
        self._refuse_if_abandoned()
        link, opener = self._link, self._opener
        if link.error is not None:
            return
        if count == 0:
            self._carrier_end()
            return
        self._intake.filled += count
        try:
            while (message := opener.advance_untrusted()) is not None:
                link.handle_message_untrusted(message, now)
        except SecureSocketError as error:
            link.fail(error)
            self._intake.discard()
            return
        self._after_opening(now)

    def inbound_release(self) -> None:
        """Give the buffer back to the pool: before waiting for the carrier, and at the end of a call."""
        self._refuse_if_abandoned()
        self._intake.release()

    def read_into(self, buffer: memoryview, peek: bool = False) -> int:
        """Copy opened bytes to the front of ``buffer`` (writable, contiguous, format "B"); how many.

        0 when there are none, which is the authenticated end of the stream if ``ended``.  When there are none and the
        connection failed, raises its error: StreamTruncated, ConnectionBroken, or what ended the negotiation.
        """
        self._refuse_if_abandoned()
        if not self._intake.unread:
            self._raise_why_nothing()
            return 0
        return self._intake.read_into(buffer, peek=peek)

    def read(self, limit: int, peek: bool = False) -> bytes:
        """As ``read_into``, at most ``limit`` bytes as a new object."""
        self._refuse_if_abandoned()
        if not self._intake.unread:
            self._raise_why_nothing()
            return b""
        return self._intake.read(limit, peek=peek)

    # outbound: under the write lock

    def seal(self, data: memoryview, now: float) -> int:
        """Seal from the front of ``data`` (contiguous, format "B"); how many bytes were taken.

        0 while negotiating, while ``outbound`` must be flushed first, or at a limit until there are new keys.  Raises
        BrokenPipeError after the end of our stream or of the connection; that is also how it ends when a limit was
        reached and no new keys will come.
        """
        link = self._link
        if self._finished or self._abandoned or link.error is not None:
            self._refuse_if_over()
        if now >= link.deadline:
            link.handle_timeout(now)
        sealer = self._sealer
        taken, total = 0, len(data)
        while taken < total:
            sa = self._ready_sa(now)
            if sa is None:
                break
            count = sealer.fill(sa, data[taken:] if taken else data, link.control)
            taken += count
            if not count or sealer.full:
                break
        return taken

    def keep_unsent(self, rest: bytes) -> None:
        """What the carrier did not take of a sealed message: it goes first in ``outbound``."""
        if self._abandoned:
            self._refuse_if_abandoned()
        self._sealer.append(rest)

    def outbound(self) -> memoryview | None:
        """What waits for the carrier, in order; None when nothing does.  Valid until ``outbound_sent``."""
        if self._abandoned:
            self._refuse_if_abandoned()
        sealer = self._sealer
        if self._link.control and not sealer.unsent():
            self._drain_control()
        return None if sealer.buffer is None else sealer.waiting()

    def outbound_sent(self, count: int) -> None:
        """The carrier took ``count`` bytes of ``outbound``."""
        if self._abandoned:
            self._refuse_if_abandoned()
        self._sealer.sent(count)

    def finish(self, now: float) -> bool:
        """Seal the authenticated end of our stream, once; False where ``seal`` would return 0: call again.

        The other direction, and keying, go on.
        """
        if self._finished:
            self._refuse_if_abandoned()
            return True
        self._refuse_if_over()
        sa = self._ready_sa(now)
        if sa is None or not self._seal_empty(sa, FIN_ACK):
            return False
        self._finished = True
        self._short_sealing.stop()
        self._close_if_both_ended()
        return True

    def abort(self, now: float) -> None:
        """Be over at once: the peer learns it by an authenticated RST, or by a DELETE if it has no segment of ours yet.

        Flush ``outbound`` as far as the carrier takes it without waiting.  Opened bytes stay readable.
        """
        self._refuse_if_abandoned()
        link, sealer = self._link, self._sealer
        if link.state == "closed":
            return
        self._finished = True
        self._short_sealing.stop()
        if link.state == "negotiating" or not self._consented:
            # nothing may be sealed that the peer would take for our consent
            self._withdrawn = True
            link.delete(now)
            return
        self._drain_control()
        sa = sealer.sa
        if sa is not None and not sa.exhausted(now):
            self._seal_empty(sa, RST)
        link.close()

    # inside, either side

    def _refuse_if_abandoned(self) -> None:
        if self._abandoned:
            raise LocalMisuse(
                "this connection was made before fork() and belongs to the parent process: "
                "accept or connect in the process that uses it"
            )

    def _close_if_both_ended(self) -> None:
        """Each side sets its own flag and then looks at both, so that one of two threads sees both set."""
        if self._finished and self._opener.fin:
            self._link.close()

    # inside, inbound

    def _raise_why_nothing(self) -> None:
        if self._opener.fin:
            return
        if self._link.error is not None:
            # a copy: one instance raised at every call would collect every caller's frames, and keep them alive
            raise copy(self._link.error)
        if self._link.state == "closed":
            raise ConnectionBroken("this end has aborted the connection")

    def _carrier_end(self) -> None:
        self.carrier_ended = True
        if self._link.state == "negotiating":
            self._link.fail(PeerMisbehaved("the peer closed the connection before both ends were proven"))
        elif not self._opener.fin:
            self._link.fail(StreamTruncated("the connection ended without the peer's authenticated end of stream"))

    def _after_opening(self, now: float) -> None:
        link, opener = self._link, self._opener
        if link.state == "negotiating" and link.establishment is not None and opener.segments:
            link.establish()
        if opener.fin:
            self._close_if_both_ended()
        sa, opened = opener.sa, link.opened
        if sa is None or opened is None:
            return
        if sa.due(now) and sa.ask_once():
            link.rekey_child(now)
        if opened.due_at(opener.segments, opener.offset, now) and opened.ask_once():
            link.rekey_ike(now)
        if now >= link.deadline and (sa.asked or opened.asked):
            link.handle_timeout(now)  # what we asked for was put off by the peer

    # inside, outbound

    def _refuse_if_over(self) -> None:
        self._refuse_if_abandoned()
        if self._finished:
            raise BrokenPipeError(errno.EPIPE, "this end of the stream was shut down")
        if self._link.error is not None:
            raise BrokenPipeError(errno.EPIPE, f"the connection is over: {self._link.error}")

    def _ready_sa(self, now: float) -> OutboundSa | None:
        """The SA to seal the next packet with; None when none may be sealed now."""
        link, sealer = self._link, self._sealer
        while True:
            if link.control and not self._drain_control():
                return None
            sa, sealed = sealer.sa, link.sealed
            if sa is None or sealed is None or link.state != "established":
                return None
            packets, byte_count = sealer.segments, sealer.offset
            if sa.due(now) and self._stalled(
                sa, sa.packets, sa.byte_count, now, link.rekey_child, link.child_rekey_pending
            ):
                pending = link.child_rekey_pending()
            elif sealed.due_at(packets, byte_count, now) and self._stalled(
                sealed, packets, byte_count, now, link.rekey_ike, link.ike_rekey_pending
            ):
                pending = link.ike_rekey_pending()
            else:
                return sa
            if link.control or link.sealed is not sealed:
                continue  # the answer came between two looks
            if not pending or self.carrier_ended:
                link.fail(ConnectionBroken("the keys have reached their limit and the peer does not agree to new ones"))
                self._refuse_if_over()
            return None

    def _stalled(
        self,
        limits: Limits,
        packets: int,
        byte_count: int,
        now: float,
        ask: Callable[[float], None],
        pending: Callable[[], bool],
    ) -> bool:
        """Whether the limits let nothing more be sealed.

        Asks for new keys at the soft limit, and again at the hard one, because what was asked first may have met a
        replacement that was just ending.
        """
        if limits.ask_once():
            ask(now)
        if not limits.exhausted_at(packets, byte_count, now):
            return False
        if not pending() and limits.ask_again():
            ask(now)
        return True

    def _drain_control(self) -> bool:
        """Lay what waits in the queue behind what waits in the buffer; False when the buffer has no room for it."""
        control, sealer = self._link.control, self._sealer
        while control:
            item = control[0]
            if isinstance(item, bytes):
                if not sealer.append(item):
                    return False
                self._link.frame_left(len(item))
            elif isinstance(item, OutboundSa):
                sealer.sa = item
            elif isinstance(item, int):
                if sealer.sa is not None and sealer.sa.spi == item:
                    sealer.sa = None
            elif item is Mark.CONFIRM and sealer.sa is not None and not self._withdrawn:
                if not self._seal_empty(sealer.sa, PSH_ACK):
                    return False
                self._consented = True
            control.popleft()
        return True

    def _seal_empty(self, sa: OutboundSa, flags: int) -> bool:
        """Seal one segment without data; False when there is no room in the buffer."""
        before = sa.packets
        self._sealer.fill(sa, NOTHING, (), flags)
        return sa.packets > before
