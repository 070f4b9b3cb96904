"""Somebody on the path: carries a TCP connection, keeps every byte of both directions, and may change or cut it.

Knows nothing of what it carries beyond the length that stands before each message of RFC 9329.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = ["Direction", "Passed", "Recorder", "Tamper", "cut_after_packet", "flip_a_bit_of_packet"]

Direction: TypeAlias = Literal["to server", "to client"]


class Passed(NamedTuple):
    """What is really carried on, and whether the connection is cut in both directions behind it."""

    data: bytes
    cut: bool = False


Tamper: TypeAlias = Callable[[Direction, bytes], Passed]
"""Sees what is about to be carried on and decides."""

CHUNK: Final = 65536
PREFIX: Final = len(b"IKETCP")


class Recorder:
    """Listens on 127.0.0.1 and carries each connection to ``target``.  A context manager; leaving it ends
    everything."""

    def __init__(self, target: tuple[str, int], tamper: Tamper | None = None) -> None:
        self._target = target
        self._tamper = tamper
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self.recorded: dict[Direction, bytearray] = {"to server": bytearray(), "to client": bytearray()}

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect to."""
        host, port = self._listener.getsockname()
        return str(host), int(port)

    def __enter__(self) -> Recorder:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open += (client, server)
                self._start(partial(self._carry, client, server, "to server"))
                self._start(partial(self._carry, server, client, "to client"))

    def _carry(self, one: socket.socket, other: socket.socket, direction: Direction) -> None:
        with contextlib.suppress(OSError):
            while chunk := one.recv(CHUNK):
                passed = Passed(chunk) if self._tamper is None else self._tamper(direction, chunk)
                self.recorded[direction] += passed.data
                other.sendall(passed.data)
                if passed.cut:
                    for each in (one, other):
                        each.shutdown(socket.SHUT_RDWR)
                    return
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)


class _Frames:
    """Cuts one direction into whole messages, however they arrive."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._prefix_left = PREFIX
        self.packets = 0

    def whole(self, chunk: bytes) -> list[bytes]:
        """The messages that are complete now, their length with them; the prefix counts as one that is no packet."""
        self._kept += chunk
        found: list[bytes] = []
        if self._prefix_left and len(self._kept) >= PREFIX:
            found.append(bytes(self._kept[:PREFIX]))
            del self._kept[:PREFIX]
            self._prefix_left = 0
        while not self._prefix_left and len(self._kept) >= 2:
            length = int.from_bytes(self._kept[:2], "big")
            if len(self._kept) < max(length, 2):
                break
            found.append(bytes(self._kept[: max(length, 2)]))
            del self._kept[: max(length, 2)]
        return found


def is_packet(message: bytes) -> bool:
    """Whether a message of RFC 9329 is an ESP packet: it has no non-ESP marker."""
    return len(message) > 6 and message[2:6] != bytes(4)


def flip_a_bit_of_packet(number: int) -> Tamper:
    """Changes one bit of the client's ESP packet ``number`` (from 1)."""
    frames = _Frames()

    def tamper(direction: Direction, chunk: bytes) -> Passed:
        if direction != "to server":
            return Passed(chunk)
        passed = bytearray()
        for message in frames.whole(chunk):
            frames.packets += is_packet(message)
            if is_packet(message) and frames.packets == number:
                middle = len(message) // 2
                message = message[:middle] + bytes((message[middle] ^ 1,)) + message[middle + 1 :]
            passed += message
        return Passed(bytes(passed))

    return tamper


def cut_after_packet(number: int) -> Tamper:
    """Cuts the connection behind the client's ESP packet ``number`` (from 1), as if the stream had ended there."""
    frames = _Frames()

    def tamper(direction: Direction, chunk: bytes) -> Passed:
        if direction != "to server":
            return Passed(chunk)
        passed = bytearray()
        for message in frames.whole(chunk):
            passed += message
            frames.packets += is_packet(message)
            if frames.packets == number:
                return Passed(bytes(passed), cut=True)
        return Passed(bytes(passed))

    return tamper
