"""What a secured socket refuses to do, attribute by attribute of socket.socket.

Each of these would hand the carrier's descriptor to somebody who knows nothing of the keys: what he wrote would go out
in clear, what he read would be missing here.  They raise LocalMisuse and say what to do instead.  A test walks over
dir(socket.socket), so that a new method of a new Python is not inherited unseen.
"""

from __future__ import annotations

import socket
from typing import Final, NoReturn

from ..errors import LocalMisuse

__all__ = ["RefusingSocket", "check_no_flags", "check_peek"]

MSG_PEEK: Final = int(socket.MSG_PEEK)


def check_peek(flags: int) -> bool:
    """Whether a recv call only peeks; LocalMisuse for every other flag."""
    if flags & ~MSG_PEEK:
        raise LocalMisuse(
            f"recv with flags {flags:#x}: a secured socket knows MSG_PEEK only, because the others speak to "
            "the carrier; use settimeout() for waiting"
        )
    return bool(flags)


def check_no_flags(flags: int) -> None:
    """LocalMisuse for any flag of a send call."""
    if flags:
        raise LocalMisuse(
            f"send with flags {flags:#x}: flags speak to the carrier, not to the secured stream; pass none"
        )


class RefusingSocket(socket.socket):
    """socket.socket without the calls that lead around the protection."""

    __slots__ = ()

    def dup(self) -> NoReturn:
        """Refused: two sockets cannot count on one key's counter."""
        raise LocalMisuse(
            "a secured socket has one set of counters and cannot be duplicated: hand the object itself on"
        )

    def detach(self) -> NoReturn:
        """Refused: the bare descriptor would carry clear text."""
        raise LocalMisuse("without its keys the descriptor of a secured socket is of no use: keep the object")

    def share(self, process_id: int) -> NoReturn:
        """Refused (Windows): keys do not leave the process."""
        raise LocalMisuse("keys do not leave this process: accept or connect in the process that uses the socket")

    def ioctl(self, control: object, option: object) -> NoReturn:
        """Refused (Windows): it speaks to the carrier."""
        raise LocalMisuse("ioctl speaks to the carrier, not to the secured stream; use setsockopt() for its options")

    def sendmsg_afalg(self, *args: object, **kwargs: object) -> NoReturn:
        """Refused: for AF_ALG sockets."""
        raise LocalMisuse("sendmsg_afalg is for AF_ALG sockets, which carry no peer's bytes")

    def set_inheritable(self, inheritable: bool) -> None:
        """Only False: a program that inherits the descriptor has no keys for it."""
        if inheritable:
            raise LocalMisuse("a program that inherits the descriptor has no keys: accept or connect in that program")
        super().set_inheritable(False)

    def _accept(self) -> NoReturn:
        raise LocalMisuse("an accepted carrier is negotiated first: use accept()")

    def _sendfile_use_sendfile(self, *args: object) -> NoReturn:
        raise LocalMisuse("sendfile by descriptor would send clear text: use sendfile(), which seals")

    def __getstate__(self) -> NoReturn:
        raise LocalMisuse("keys do not leave this process: a secured socket is neither pickled nor copied")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise LocalMisuse("keys do not leave this process: a secured socket is neither pickled nor copied")
