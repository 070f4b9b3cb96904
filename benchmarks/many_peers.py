"""One UDP socket with very many idle peers, and what they cost it: memory, and time per packet that comes in.

    python -m benchmarks.many_peers COUNT

Negotiates with COUNT peers, whose ends are in a process of their own (benchmarks.many_clients), each at an address of
its own of the loopback and all of one principal; says "ready", and answers each line: "memory" with KiB a pair, N with
the microseconds that recvfrom() takes for one datagram, when each comes from one of N peers at random: kernel, SA
look-up, opening, and all that is done with it.  Each process stays on a core of its own: what a thousand peers need is
a megabyte, which a receiver that is moved between two bursts finds in the other core's caches.
"""

from __future__ import annotations

import gc
import math
import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final

import securesock as ss
from benchmarks.many_clients import FINISHED, FRAME, SERVER, SIZES, context, peer_address
from securesock.drivers.datagrams import DatagramCarrier

FIRST: Final = 64
"""Negotiated before the first look, so that what a process needs once is not shared out over its peers."""
REST_S: Final = 10.0
"""How long those that are too many may take to go to rest: seconds after the last of them was met."""
BURST: Final = 100  # datagrams that a socket's queue holds
BURSTS: Final = 60


class ManyPeers:
    """The socket, and the process of the other ends."""

    def __init__(self, count: int) -> None:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[-1]})  # before there are threads
        self.socket = ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=context("server.example"))
        self.socket.bind(SERVER)
        self._port = self.socket.getsockname()[1]
        self._count = count
        command = [sys.executable, "-m", "benchmarks.many_clients", str(count), str(self._port)]
        self._clients = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        os.sched_setaffinity(self._clients.pid, {cores[0]})
        self._random = random.Random(1)

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._clients.stdin is None or self._clients.stdout is None:
            raise RuntimeError("the clients have no pipes")
        return self._clients.stdin, self._clients.stdout

    def negotiate(self) -> None:
        """With all of them, as if their datagrams had come from as many addresses."""
        carrier = getattr(self.socket, "_carrier", None)
        if not isinstance(carrier, DatagramCarrier):
            raise RuntimeError("the socket has no carrier")
        machine = carrier._machine
        to_clients, from_clients = self._pipes()
        port = int.from_bytes(from_clients.read(2), "big")
        self._before, met = 0.0, 0
        while True:
            index, length = FRAME.unpack(from_clients.read(FRAME.size))
            if index == FINISHED:
                break
            datagram = from_clients.read(length)
            with carrier._lock:
                arrival = machine.handle_untrusted(datagram, peer_address(index, port), time.monotonic())
                while (out := machine.poll_transmit()) is not None:
                    to_clients.write(FRAME.pack(index, len(out[0])) + out[0])
            to_clients.flush()
            met += arrival is not None
            if met == FIRST and not self._before:
                self._before = resident_kib()
        if met != self._count:
            raise RuntimeError(f"{met} of {self._count} peers were met: {dict(self.socket.refusals)}")
        rest, until = getattr(machine, "rest", None), time.monotonic() + REST_S
        while rest is not None and rest.due < math.inf and time.monotonic() < until:
            time.sleep(0.1)

    def memory(self) -> float:
        """KiB a pair."""
        return (resident_kib() - self._before) / (self._count - FIRST)

    def cost(self, among: int) -> float:
        """Microseconds a datagram, the median of bursts."""
        to_clients, from_clients = self._pipes()
        sock, taken = self.socket, []
        sock.settimeout(10.0)
        chosen = [self._random.randrange(among) for _ in range(BURSTS * BURST)]
        to_clients.write(SIZES.pack(BURSTS, BURST) + struct.pack(f">{len(chosen)}I", *chosen))
        to_clients.flush()
        for _ in range(BURSTS):
            from_clients.read(1)
            started = time.perf_counter()
            for _ in range(BURST):
                sock.recvfrom(2048)
            taken.append((time.perf_counter() - started) / BURST)
            to_clients.write(b".")
            to_clients.flush()
        return statistics.median(taken) * 1e6

    def close(self) -> None:
        """The clients first: nobody has to say goodbye to so many."""
        self._clients.kill()
        self._clients.communicate()


def resident_kib() -> float:
    """VmRSS of this process."""
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def main(count: int) -> None:
    """Until standard input ends."""
    peers = ManyPeers(count)
    try:
        peers.negotiate()
        print("ready", flush=True)
        for line in sys.stdin:
            print(peers.memory() if line.strip() == "memory" else peers.cost(int(line)), flush=True)
    finally:
        peers.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
