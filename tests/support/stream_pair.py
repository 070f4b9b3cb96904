"""Two StreamConnections back to back in memory, with the bytes between them in our hands.

Time stands still unless a test moves ``now``.  Bytes wait in ``wires`` until they are delivered, so that a test can
cut, flip, drop, repeat and delay them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Self, TypeVar

from securesock.crypto.esp_cipher import make_esp_cipher
from securesock.keying.contract import KeyingSession, Role
from securesock.planes.userspace.stream import StreamConnection
from securesock.sad.spec import SaSpec
from securesock.wire.esp import PADDING
from securesock.wire.segment import PSH_ACK, SEGMENT_HEADER
from tests.support.pre_keyed import PreKeyedSession

Session = TypeVar("Session", bound=KeyingSession)

INITIATOR = Role.INITIATOR
RESPONDER = Role.RESPONDER


def other(role: Role) -> Role:
    return RESPONDER if role is INITIATOR else INITIATOR


class StreamPairOf(Generic[Session]):
    """``ends`` and ``sessions`` by role; ``wires[role]``: what that end has sent and the other has not been given."""

    def __init__(self, initiator: Session, responder: Session, now: float = 0.0) -> None:
        self.now = now
        self.sessions = {INITIATOR: initiator, RESPONDER: responder}
        self.ends = {role: StreamConnection(self.sessions[role], role) for role in (INITIATOR, RESPONDER)}
        self.wires = {INITIATOR: bytearray(), RESPONDER: bytearray()}
        for end in self.ends.values():
            end.start(now)

    @property
    def initiator(self) -> StreamConnection:
        return self.ends[INITIATOR]

    @property
    def responder(self) -> StreamConnection:
        return self.ends[RESPONDER]

    def flush(self, role: Role) -> int:
        """What ``role`` has for the carrier goes on the wire; how many bytes."""
        count = 0
        end = self.ends[role]
        while (out := end.outbound()) is not None:
            self.wires[role] += out
            count += len(out)
            end.outbound_sent(len(out))
        return count

    def deliver(self, role: Role, limit: int | None = None) -> int:
        """Bytes that ``role`` sent reach the other end, as far as it wants any; how many."""
        wire, receiver = self.wires[role], self.ends[other(role)]
        left = len(wire) if limit is None else min(limit, len(wire))
        count = 0
        while left and receiver.wants_input:
            taken = feed(receiver, wire[:left], self.now)
            del wire[:taken]
            left -= taken
            count += taken
        return count

    def step(self, limit: int | None = None) -> int:
        """Both ends send, then both receive."""
        moved = self.flush(INITIATOR) + self.flush(RESPONDER)
        return moved + self.deliver(INITIATOR, limit) + self.deliver(RESPONDER, limit)

    def settle(self, limit: int | None = None) -> None:
        """Until nothing moves any more."""
        while self.step(limit):
            pass

    def establish(self) -> Self:
        self.settle()
        assert self.initiator.state == self.responder.state == "established"
        return self

    def send(self, role: Role, data: bytes) -> None:
        """All of ``data`` is sealed and lies on the wire; the other end is fed only as far as that needs."""
        view = memoryview(data)
        while view:
            count = self.ends[role].seal(view, self.now)
            view = view[count:]
            if not self.flush(role) and not count:
                assert self.step(), "sealing waits for something that does not come"

    def receive(self, role: Role) -> bytes:
        """All that ``role`` is sent, read as far as there is any."""
        got = bytearray()
        while True:
            self.deliver(other(role))
            data = self.ends[role].read(1 << 20) if self.ends[role].readable() else b""
            self.ends[role].inbound_release()
            if not data:
                return bytes(got)
            got += data


class StreamPair(StreamPairOf[PreKeyedSession]):
    """Two ends that know the keys beforehand."""

    def __init__(
        self, initiator: PreKeyedSession | None = None, responder: PreKeyedSession | None = None, now: float = 0.0
    ) -> None:
        super().__init__(initiator or PreKeyedSession(INITIATOR), responder or PreKeyedSession(RESPONDER), now)


def feed(end: StreamConnection, data: bytes | bytearray, now: float = 0.0) -> int:
    """Give an end the front of ``data``, as much as it has room for; how much that was."""
    room = end.inbound_buffer()
    count = min(len(room), len(data))
    room[:count] = data[:count]
    end.inbound_received(count, now)
    end.inbound_release()
    return count


def feed_all(end: StreamConnection, data: bytes | bytearray, now: float = 0.0) -> None:
    """Give an end all of ``data``, unless it wants no more."""
    while data and end.wants_input:
        data = data[feed(end, data, now) :]


def frames(wire: bytes | bytearray) -> Iterator[bytes]:
    """The whole frames of a wire, lengths included."""
    at = 0
    while at < len(wire):
        length = int.from_bytes(wire[at : at + 2], "big")
        yield bytes(wire[at : at + length])
        at += length


def craft(
    spec: SaSpec,
    sequence: int,
    data: bytes = b"",
    *,
    offset: int = 0,
    flags: int = PSH_ACK,
    header: tuple[int, ...] | None = None,
    segment: bytes | None = None,
    padding: bytes | None = None,
    pad_length: int | None = None,
    next_header: int = 6,
    spi: int | None = None,
) -> bytes:
    """One frame with an ESP packet as ``spec``'s owner would seal it, or as nobody should."""
    cipher = make_esp_cipher(spec.suite, spec.keys)
    fields = header or (spec.our_port, spec.peer_port, offset & 0xFFFFFFFF, 0, 0x50, flags, 0, 0, 0)
    inner = SEGMENT_HEADER.pack(*fields) + data if segment is None else segment
    if padding is None:
        padding = PADDING[-(len(inner) + 2) % cipher.alignment]
    inner += padding + bytes((len(padding) if pad_length is None else pad_length, next_header))
    head = (spec.spi if spi is None else spi).to_bytes(4, "big") + (sequence & 0xFFFFFFFF).to_bytes(4, "big")
    packet = bytearray(head + bytes(cipher.iv_length) + inner + bytes(cipher.icv_length))
    cipher.seal_packet(memoryview(packet), sequence)
    return (len(packet) + 2).to_bytes(2, "big") + bytes(packet)
