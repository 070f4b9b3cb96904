"""What two ends said to each other, taken from a network device in a namespace and kept as a capture file.

Only what the device sends is kept: a loopback shows each packet twice, and a device on which IPsec ends shows the
opened packet beside the sealed one.  Nothing is lost between the last packet and the look at it: it lies in the
recording socket's own queue from the moment it is sent.  Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

CLONE_NEWNET: Final = 0x40000000  # setns(2)
ETH_P_ALL: Final = 3
ETH_P_IP: Final = 0x0800
PACKET_OUTGOING: Final = 4  # packet(7)
SO_RCVBUFFORCE: Final = 33  # socket(7): beyond rmem_max, for root
QUEUE_BYTES: Final = 64 * 1024 * 1024
LINKTYPE_ETHERNET: Final = 1
MAX_PACKET: Final = 262144  # what tcpdump takes too


class Recorded(NamedTuple):
    """One frame, from its Ethernet header on."""

    frame: bytes

    @property
    def is_ipv4(self) -> bool:
        """Whether an IPv4 packet is in it."""
        return int.from_bytes(self.frame[12:14], "big") == ETH_P_IP

    @property
    def protocol(self) -> int:
        """IPv4's protocol number."""
        return self.frame[23]

    @property
    def packet(self) -> bytes:
        """The IPv4 packet, without what Ethernet pads it with."""
        return self.frame[14 : 14 + int.from_bytes(self.frame[16:18], "big")]

    @property
    def content(self) -> bytes:
        """What the IPv4 packet carries, from the UDP or TCP header on."""
        return self.packet[(self.frame[14] & 15) * 4 :]

    @property
    def ports(self) -> tuple[int, int]:
        """Source and destination, of UDP or TCP."""
        source, destination = struct.unpack_from(">HH", self.content)
        return source, destination


MANY: Final = 1 << 20
"""More packets than any test sends under one SA: what has a greater sequence number is no ESP."""
ARP: Final = 0x0806
IPV6: Final = 0x86DD
HOP_BY_HOP, ICMP, UDP, ICMPV6 = 0, 1, 17, 58  # protocol numbers
PORT_UNREACHABLE: Final = bytes((3, 3))


def is_ipsec(each: Recorded) -> bool:
    """Whether a frame of IPv4 holds IKE, ESP or a keepalive in UDP of port 4500 (RFC 3948 2), and nothing else; or says
    that nobody took such a packet, which it quotes (RFC 792): what came when we had closed."""
    if each.protocol == ICMP and each.content[:2] == PORT_UNREACHABLE:
        return is_ipsec(Recorded(each.frame[:14] + each.content[8:]))
    if each.protocol != UDP or 4500 not in each.ports:
        return False
    data = each.content[8:]
    if data == b"\xff":
        return True
    if len(data) < 12:
        return False
    spi, sequence = struct.unpack_from(">II", data)
    if not spi:  # IKE behind its marker: version 2.0, and as long as it says
        return len(data) >= 32 and data[21] == 0x20 and int.from_bytes(data[28:32], "big") == len(data) - 4
    return 0 < sequence < MANY and len(data) % 4 == 0


def not_ipsec(packets: list[Recorded]) -> list[str]:
    """What is neither IPsec nor finds neighbours (ARP, ICMPv6), in hex; also that there was none of it at all."""
    if not any(each.is_ipv4 for each in packets):
        return ["nothing"]
    return [each.frame.hex() for each in packets if not (is_ipsec(each) if each.is_ipv4 else _finds_neighbours(each))]


def _finds_neighbours(each: Recorded) -> bool:
    kind = int.from_bytes(each.frame[12:14], "big")
    return kind == ARP or (kind == IPV6 and each.frame[20] in (HOP_BY_HOP, ICMPV6))


class Recording:
    """Everything sent through a device since it began."""

    def __init__(self, namespace: str, device: str) -> None:
        self._socket = socket_in(namespace, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUEUE_BYTES)
        self._socket.bind((device, 0))
        self._socket.setblocking(False)
        self._kept: list[Recorded] = []

    def packets(self) -> list[Recorded]:
        """All that was sent until now."""
        while True:
            try:
                frame, address = self._socket.recvfrom(MAX_PACKET)
            except BlockingIOError:
                return self._kept
            if address[2] == PACKET_OUTGOING:
                self._kept.append(Recorded(frame))

    def close(self) -> None:
        """No more."""
        self._socket.close()


def write_capture(path: Path, packets: Iterable[Recorded]) -> None:
    """A pcap file (draft-ietf-opsawg-pcap); the packets have numbers for times."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, MAX_PACKET, LINKTYPE_ETHERNET))
        for number, each in enumerate(packets):
            length = len(each.frame)
            file.write(struct.pack("<IIII", number // 1000, number % 1000 * 1000, length, length) + each.frame)


@contextlib.contextmanager
def recording(namespace: str, device: str) -> Iterator[Recording]:
    """A recording of what a device sends, for as long as the block runs."""
    made = Recording(namespace, device)
    try:
        yield made
    finally:
        made.close()


def socket_in(namespace: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket of another network namespace: it stays where it was made, and so does the thread that made it."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def make() -> None:
        try:
            enter(namespace)
            made.append(socket.socket(family, kind, protocol))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    for error in failed:
        raise error
    return made[0]


def enter(namespace: str) -> None:
    """Move the calling thread into a namespace of `ip netns`, for good."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"setns {namespace}: {os.strerror(number)}")
    finally:
        os.close(descriptor)
