"""Several UDP datagrams in one system call, where the kernel can (Linux: UDP_SEGMENT since 4.18, UDP_GRO since 5.0).

UDP_SEGMENT: one buffer is sent as datagrams of one size.  UDP_GRO: datagrams of one size from one sender are read at
once, the last of which may be shorter, and the size is told beside them (linux/udp.h, udp(7)).  Where the kernel does
not know them each datagram is a call of its own.  This module must not know what is in a datagram.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from ..types import Address

__all__ = ["MAX_RUN", "MAX_SEGMENTS", "Runs", "receive_run"]

SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
MAX_SEGMENTS: Final = 64
"""UDP_MAX_SEGMENTS of the kernels that know it first; later ones allow 128."""
MAX_RUN: Final = 65507
"""What one IPv4 packet has room for before it is cut."""
_LARGEST: Final = 65536  # no run that the kernel joins is larger
_NOT_SO: Final = (errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP)
"""What a kernel, or a route whose packets are too small for one segment, answers."""
_SIZE: Final = struct.Struct("=H")
_INT: Final = struct.Struct("=i")
_CAN_RUN: Final = hasattr(socket, "CMSG_SPACE") and hasattr(socket.socket, "sendmsg")
_ANCILLARY: Final = socket.CMSG_SPACE(_INT.size) if _CAN_RUN else 0
_AT_ONCE: Final = int(getattr(socket, "MSG_DONTWAIT", 0))


class Runs:
    """What one UDP descriptor can: ``joined`` says that the kernel joins what it receives."""

    __slots__ = ("_kernel", "_too_long", "joined")

    def __init__(self, kernel: socket.socket) -> None:
        self._kernel = kernel
        self._too_long = MAX_RUN if _CAN_RUN else 0
        self.joined = False

    def join(self) -> None:
        """Have the kernel join what it receives, where it can: from now on it is read with receive_run."""
        if _CAN_RUN and not self.joined:
            try:
                self._kernel.setsockopt(SOL_UDP, UDP_GRO, 1)
            except OSError:
                return
            self.joined = True

    def may_send(self, size: int) -> bool:
        """Whether runs of packets of ``size`` bytes are worth trying: none of that size was refused yet."""
        return size < self._too_long

    def send(self, packets: bytes, size: int, to: Address | None) -> bool:
        """Send the packets of ``size`` bytes in ``packets``, to None over a connected socket; never waits.

        False: the kernel cannot, and nothing was sent.  BlockingIOError, and the kernel's other errors, pass.
        """
        control = [(SOL_UDP, UDP_SEGMENT, _SIZE.pack(size))]
        try:
            if to is None:
                self._kernel.sendmsg((packets,), control, _AT_ONCE)
            else:
                self._kernel.sendmsg((packets,), control, _AT_ONCE, to)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in _NOT_SO:
                raise
            self._too_long = size
            return False
        return True


def receive_run(kernel: socket.socket, flags: int = 0) -> tuple[bytes, int, Address]:
    """The datagrams of one read, one behind the other; the size of each but the last; who sent them.

    BlockingIOError: there is none.
    """
    run, ancillary, _, address = kernel.recvmsg(_LARGEST, _ANCILLARY, flags)
    size = len(run)
    for level, kind, data in ancillary:
        if level == SOL_UDP and kind == UDP_GRO:
            size = _INT.unpack(data[: _INT.size])[0]
    return run, size if size > 0 else max(len(run), 1), address
