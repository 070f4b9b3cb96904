"""One end of a datagram comparison, in the namespace that it was started in; told what to do by lines of JSON.

    python -m benchmarks.datagram_ends FOLDER ours|plain|roomy HOST PORT

FOLDER is what bulk_contexts.write_identities wrote; roomy is plain with a receive buffer as large as ours.  It binds
HOST, PORT, answers {"port"}, and then each line: {"receive": "batch" | "single", "seconds"}: count what comes for so
long, and a moment more: {"datagrams", "bytes"}; {"send": "batch" | "single", "to", "size", "seconds", "rate"}: ``rate``
datagrams a second at most (0: as fast as it goes): {"datagrams"}; {"echo": COUNT}: send so many back; {"trips": COUNT,
"to"}: 64 bytes there and back, one at a time: {"p50_us"}.  All kinds run the same loops; batches are of 44, by
UDP_SEGMENT and UDP_GRO on all sides.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import securesock
from benchmarks.bulk_contexts import SERVER_NAME, our_context
from securesock.drivers.receive_room import RECEIVE_ROOM

BATCH: Final = 44
MESSAGE: Final = os.urandom(64)
QUIET_S: Final = 0.3
"""How long after the last moment datagrams may still come: more than any queue on the way holds."""
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104


class Plain:
    """Plain UDP with the two calls that SecureSocket has beside socket's."""

    def __init__(self, host: str, port: int, *, roomy: bool) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, port))
        self._joined = False
        if roomy:
            self._make_room()

    def _make_room(self) -> None:
        # as ours
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_ROOM)

    def send_batch(self, batch: list[bytes], to: tuple[str, int]) -> int:
        """One call of the kernel's."""
        self.socket.sendmsg(batch, [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", len(batch[0])))], 0, to)
        return len(batch)

    def recv_batch(self) -> tuple[int, int]:
        """Datagrams and bytes of one read."""
        if not self._joined:
            self.socket.setsockopt(SOL_UDP, UDP_GRO, 1)
            self._make_room()
            self._joined = True
        data, ancillary, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(4))
        size = next((struct.unpack("=i", value)[0] for _, kind, value in ancillary if kind == UDP_GRO), len(data))
        return -(-len(data) // size) if size else 1, len(data)


class Ours:
    """A SecureSocket in the same clothes."""

    def __init__(self, folder: Path, host: str, port: int) -> None:
        # the same machine at both ends: who is expected is said where it sends
        self.socket = securesock.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=our_context(folder, "server"))
        self.socket.bind((host, port))
        self._named: set[tuple[str, int]] = set()

    def name(self, to: tuple[str, int]) -> None:
        """Say who has to be there, once."""
        if to not in self._named:
            self._named.add(to)
            self.socket.set_peer_target_name(f"host/{SERVER_NAME}", to)

    def send_batch(self, batch: list[bytes], to: tuple[str, int]) -> int:
        """Sealed, one call of the kernel's."""
        return self.socket.send_batch(batch, to)

    def recv_batch(self) -> tuple[int, int]:
        """Datagrams and bytes of one read."""
        came = self.socket.recv_batch(64)
        return len(came), sum(len(data) for data, _ in came)


def receive(end: Plain | Ours, how: str, seconds: float) -> dict[str, int]:
    """Count until the time is over and it is quiet."""
    datagrams = count = 0
    limit = time.monotonic() + seconds + QUIET_S
    sock, batch = end.socket, end.recv_batch
    sock.settimeout(QUIET_S)
    while time.monotonic() < limit:
        try:
            if how == "batch":
                more, length = batch()
                datagrams += more
                count += length
            else:
                for _ in range(16):  # the clock is looked at now and then
                    count += len(sock.recvfrom(2048)[0])
                    datagrams += 1
        except TimeoutError:
            continue
    sock.settimeout(None)
    return {"datagrams": datagrams, "bytes": count}


def send(end: Plain | Ours, how: str, to: tuple[str, int], size: int, seconds: float, rate: float) -> dict[str, int]:
    """Send for so long; where there is a rate, ahead of it by a batch at most."""
    data = os.urandom(size)
    batch = [data] * BATCH
    step: Callable[[], int]
    if how == "batch":

        def step() -> int:
            return end.send_batch(batch, to)
    else:
        sendto = end.socket.sendto

        def step() -> int:
            for _ in range(BATCH):
                sendto(data, to)
            return BATCH

    started = time.monotonic()
    sent = 0
    while (elapsed := time.monotonic() - started) < seconds:
        ahead = sent / rate - elapsed if rate else 0.0
        if ahead > 0:
            time.sleep(min(ahead, seconds - elapsed))
        sent += step()
    return {"datagrams": sent}


def trips(sock: socket.socket, count: int, to: tuple[str, int]) -> dict[str, float]:
    """The median of so many."""
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        sock.sendto(MESSAGE, to)
        if sock.recvfrom(2048)[0] != MESSAGE:
            raise RuntimeError("another message came back")
        taken.append(time.perf_counter() - started)
    return {"p50_us": statistics.median(taken) * 1e6}


def echo(sock: socket.socket, count: int) -> dict[str, int]:
    """Send back what comes."""
    for _ in range(count):
        data, sender = sock.recvfrom(2048)
        sock.sendto(data, sender)
    return {"datagrams": count}


def obey(end: Plain | Ours, wish: dict[str, Any]) -> dict[str, Any]:
    """One line."""
    to = tuple(wish.get("to", ()))
    if to and isinstance(end, Ours):
        end.name((to[0], to[1]))
    if "receive" in wish:
        return receive(end, wish["receive"], wish["seconds"])
    if "send" in wish:
        return send(end, wish["send"], (to[0], to[1]), wish["size"], wish["seconds"], wish["rate"])
    if "echo" in wish:
        return echo(end.socket, wish["echo"])
    return trips(end.socket, wish["trips"], (to[0], to[1]))


def main(folder: Path, kind: str, host: str, port: int) -> None:
    """Until standard input ends."""
    end: Plain | Ours = Ours(folder, host, port) if kind == "ours" else Plain(host, port, roomy=kind == "roomy")
    print(json.dumps({"port": end.socket.getsockname()[1]}), flush=True)
    for line in sys.stdin:
        print(json.dumps(obey(end, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
