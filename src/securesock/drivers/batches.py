"""Several UDP datagrams in one system call, where the kernel can (Linux: UDP_SEGMENT since 4.18, UDP_GRO since 5.0).

UDP_SEGMENT: one buffer is sent as datagrams of one size, the last of which may be shorter.  UDP_GRO: datagrams of one
size from one sender are read at once, and the size is told beside them (linux/udp.h, udp(7)).  Where the kernel does
not know them each datagram is a call of its own.  This module must not know what is in a datagram.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from typing import Final

from ..types import Address

__all__ = ["enable_gro", "receive_segments", "send_segments"]

SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
MAX_SEGMENTS: Final = 64
"""UDP_MAX_SEGMENTS of the kernels that know it first; later ones allow 128."""
MAX_RUN: Final = 65507
"""What one IPv4 packet has room for before it is cut."""
_NOT_SO: Final = (errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP)
"""What a kernel, or a route whose packets are too small for one segment, answers."""
_SIZE: Final = struct.Struct("=H")
_INT: Final = struct.Struct("=i")
_CAN_RUN: Final = hasattr(socket, "CMSG_SPACE") and hasattr(socket.socket, "sendmsg")
_ANCILLARY: Final = socket.CMSG_SPACE(_INT.size) if _CAN_RUN else 0


def enable_gro(kernel: socket.socket) -> bool:
    """Let the kernel join what it receives; False where it cannot."""
    if not _CAN_RUN:
        return False
    try:
        kernel.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:
        return False
    return True


def receive_segments(kernel: socket.socket, buffer: memoryview) -> tuple[list[memoryview], Address]:
    """The datagrams of one read, as slices of ``buffer``, and who sent them.  BlockingIOError: there is none."""
    count, ancillary, _, address = kernel.recvmsg_into([buffer], _ANCILLARY)
    size = count
    for level, kind, data in ancillary:
        if level == SOL_UDP and kind == UDP_GRO:
            size = _INT.unpack(data[: _INT.size])[0]
    if size <= 0:
        return [buffer[:count]], address
    return [buffer[at : min(at + size, count)] for at in range(0, count, size)], address


def send_segments(kernel: socket.socket, packets: Sequence[bytes | bytearray | memoryview], to: Address | None) -> int:
    """Send a first run of ``packets``; how many went.  OSError of the kernel's for the first of them passes.

    ``to`` is None for a connected socket.
    """
    size = len(packets[0])
    run = 1
    while run < min(len(packets), MAX_SEGMENTS, MAX_RUN // max(size, 1)) and len(packets[run]) == size:
        run += 1
    if run < min(len(packets), MAX_SEGMENTS) and len(packets[run]) < size and (run + 1) * size <= MAX_RUN:
        run += 1
    if run > 1 and size and _CAN_RUN:
        control = [(SOL_UDP, UDP_SEGMENT, _SIZE.pack(size))]
        try:
            if to is None:
                kernel.sendmsg(packets[:run], control)
            else:
                kernel.sendmsg(packets[:run], control, 0, to)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in _NOT_SO:
                raise
        else:
            return run
    if to is None:
        kernel.send(packets[0])
    else:
        kernel.sendto(packets[0], to)
    return 1
