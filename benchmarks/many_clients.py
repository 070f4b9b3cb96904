"""The other ends of very many idle peers: they negotiate over a pipe, and send what they are told to from one socket.

    python -m benchmarks.many_clients COUNT PORT

First comes the port that they all have, at an address of the loopback each.  Frames on both pipes: index of the peer,
length, datagram.  When all have negotiated comes FINISHED, and from then on lists of indices are answered (how many
bursts, how many in each, then all, 4 bytes each): datagrams of 64 bytes are sealed, each by that peer, and sent to PORT
from its address, burst by burst.  All are sealed before the first is sent, as peers elsewhere would: not in the
receiver's time, nor in the caches that both processes share.  One byte comes after each burst, and one is waited for
before the next.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import securesock as ss
from securesock.crypto import suites
from securesock.engine.half_open import HalfOpenTable
from securesock.entropy import SystemEntropy
from securesock.identity.names import parse_peer_target_name
from securesock.planes.userspace.datagram import UserSpaceDatagrams
from securesock.planes.userspace.packet import PacketSealer
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE, IkeOffer, MainModePolicy
from securesock.sockets.datagram_keying import SocketKeying
from securesock.types import Address, SecuritySettings

FRAME: Final = struct.Struct(">IH")
SIZES: Final = struct.Struct(">II")
FINISHED: Final = 0xFFFFFFFF
SERVER: Final[Address] = ("127.0.0.1", 0)
IP_PKTINFO: Final = 8  # linux/in.h: which of our addresses a datagram comes from
AT_ONCE: Final = 16
"""Negotiations side by side: both processes have something to do, and nobody is asked for a cookie."""
IDLE_S: Final = 1e6  # none of them goes while others are made
NAMES: Final = ("client.example", "server.example")
SECRET: Final = b"a secret of more than sixteen bytes"


def peer_address(index: int, port: int) -> Address:
    """Where a peer is: all of 127.0.0.0/8 is this machine."""
    return (f"127.{1 + (index >> 16)}.{index >> 8 & 255}.{index & 255}", port)


def context(name: str) -> ss.SecurityContext:
    """One of the two ends."""
    (other,) = (each for each in NAMES if each != name)
    offer = IkeOffer((suites.AES_256_GCM_16,), (), (suites.PRF_HMAC_SHA2_256,), (suites.X25519,))
    return ss.SecurityContext(
        ss.Identity.from_psk(name=name, peers={other: SECRET}),
        main_mode=MainModePolicy((offer,), DEFAULT_MAIN_MODE.lifetimes),
        quick_mode=replace(DEFAULT_QUICK_MODE, idle_s=IDLE_S),
    )


class Clients:
    """All of them; a machine each while it negotiates, and no more than what seals afterwards."""

    def __init__(self, count: int, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("0.0.0.0", 0))
        self._port = self._socket.getsockname()[1]
        self._server: Address = (SERVER[0], port)
        self._context = context("client.example")
        self._name = parse_peer_target_name("server.example")
        self._entropy = SystemEntropy()
        self._waiting: Iterator[int] = iter(range(count))
        self._machines: dict[int, UserSpaceDatagrams] = {}
        self.sealers: dict[int, PacketSealer] = {}

    def _begin(self) -> Iterator[tuple[int, bytes]]:
        index = next(self._waiting, None)
        if index is None:
            return
        ours = peer_address(index, self._port)
        keying = SocketKeying(
            self._context,
            SecuritySettings(),
            lambda _: ours,
            lambda: time.time() - time.monotonic(),
            self._entropy,
            table=HalfOpenTable(),
        )
        machine = self._machines[index] = UserSpaceDatagrams(keying)
        now = time.monotonic()
        machine.begin(self._server, self._name, now)
        machine.enqueue(b"here", self._server)
        yield from self._sent(index, machine)

    def _sent(self, index: int, machine: UserSpaceDatagrams) -> Iterator[tuple[int, bytes]]:
        while (out := machine.poll_transmit()) is not None:
            yield index, bytes(out[0])
        sealer = machine._peers[self._server].sealer
        if sealer is not None:
            self.sealers[index] = sealer
            del self._machines[index]
            yield from self._begin()

    def negotiate(self) -> None:
        """With the frames of both pipes."""
        pipe_in, pipe_out = sys.stdin.buffer, sys.stdout.buffer
        pipe_out.write(self._port.to_bytes(2, "big"))
        for _ in range(AT_ONCE):
            self._write(self._begin())
        while self._machines:
            index, length = FRAME.unpack(pipe_in.read(FRAME.size))
            datagram = pipe_in.read(length)
            machine = self._machines.get(index)
            if machine is not None:
                machine.handle_untrusted(datagram, self._server, time.monotonic())
                self._write(self._sent(index, machine))
        pipe_out.write(FRAME.pack(FINISHED, 0))
        pipe_out.flush()

    @staticmethod
    def _write(datagrams: Iterator[tuple[int, bytes]]) -> None:
        pipe_out = sys.stdout.buffer
        for index, datagram in datagrams:
            pipe_out.write(FRAME.pack(index, len(datagram)) + datagram)
        pipe_out.flush()

    def obey(self) -> None:
        """Send what is asked for, until the pipe ends."""
        pipe_in, pipe_out, data = sys.stdin.buffer, sys.stdout.buffer, os.urandom(64)
        while head := pipe_in.read(SIZES.size):
            bursts, size = SIZES.unpack(head)
            indices = struct.unpack(f">{bursts * size}I", pipe_in.read(4 * bursts * size))
            sealed = [(self.sealers[index].seal(data), self._from(index)) for index in indices]
            for begin in range(0, len(sealed), size):
                for packet, control in sealed[begin : begin + size]:
                    self._socket.sendmsg([packet], control, 0, self._server)
                pipe_out.write(b"!")
                pipe_out.flush()
                pipe_in.read(1)

    @staticmethod
    def _from(index: int) -> list[tuple[int, int, bytes]]:
        source = socket.inet_aton(peer_address(index, 0)[0])
        return [(socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + source + bytes(4))]


if __name__ == "__main__":
    clients = Clients(int(sys.argv[1]), int(sys.argv[2]))
    clients.negotiate()
    clients.obey()
