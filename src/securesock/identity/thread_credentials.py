"""As whom the calling thread meets files: read and set for this one thread, by Linux' own system calls.

In the kernel credentials belong to a thread.  The C library makes them the process's: its setgroups(), and with it
Python's os.setgroups(), interrupts every thread and changes them all (nptl(7)).  So the calls are made by number here,
and the numbers are an architecture's: where they are not known nothing is tried.  It must not know accounts or peers.

Sources: credentials(7), setfsuid(2), capabilities(7), capget(2); asm/unistd_64.h and asm-generic/unistd.h.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import LocalMisuse, PlaneError

if TYPE_CHECKING:
    import ctypes

__all__ = ["CAP_FS_MASK", "CAP_SETGID", "CAP_SETUID", "ThreadCredentials", "read_credentials", "write_credentials"]

# include/uapi/linux/capability.h
CAP_SETGID: Final = 1 << 6
CAP_SETUID: Final = 1 << 7
CAP_FS_MASK: Final = sum(1 << each for each in (0, 1, 2, 3, 4, 9, 27, 32))
"""What setfsuid(2) takes from root: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, LINUX_IMMUTABLE, MKNOD,
MAC_OVERRIDE (capabilities(7), "Effect of user ID changes on capabilities")."""


class ThreadCredentials(NamedTuple):
    """What decides about files: supplementary groups (sorted), group, user, and the three capability sets as bits."""

    groups: tuple[int, ...]
    fsgid: int
    fsuid: int
    effective: int
    permitted: int
    inheritable: int


class _Numbers(NamedTuple):
    getgroups: int
    setgroups: int
    setfsgid: int
    setfsuid: int
    capget: int
    capset: int


_NUMBERS: Final = {
    "x86_64": _Numbers(115, 116, 123, 122, 125, 126),
    "aarch64": _Numbers(158, 159, 152, 151, 90, 91),
}
_POINTER_BYTES: Final = 8  # a 32-bit program on the same machine has other numbers, and uname() tells the kernel's
_CAPABILITY_VERSION: Final = 0x2008_0522  # _LINUX_CAPABILITY_VERSION_3: two words of each set
_NO_CHANGE: Final = 0xFFFF_FFFF  # setfsuid(2): an id that is none fails, and the present one is returned


def read_credentials() -> ThreadCredentials:
    """Those of the calling thread.  LocalMisuse (ENOTSUP): not to be had here.  PlaneError: the kernel refused."""
    kernel = _Kernel()
    return ThreadCredentials(
        kernel.groups(),
        kernel.call("setfsgid", _NO_CHANGE),
        kernel.call("setfsuid", _NO_CHANGE),
        *kernel.capabilities(),
    )


def write_credentials(wanted: ThreadCredentials) -> None:
    """Set those of the calling thread; PlaneError from the kernel, with what came before it done.

    setfsuid and setfsgid do not say whether they succeeded: read back and compare.  Groups first, because they alone
    are refused aloud where the privilege is missing, and nothing has been changed then.  Capabilities last, because
    setfsuid changes them as well.
    """
    kernel = _Kernel()
    kernel.set_groups(wanted.groups)
    kernel.call("setfsgid", wanted.fsgid)
    kernel.call("setfsuid", wanted.fsuid)
    kernel.set_capabilities(wanted.effective, wanted.permitted, wanted.inheritable)


class _Kernel:
    """The system calls of the calling thread."""

    __slots__ = ("_ctypes", "_numbers", "_syscall")

    def __init__(self) -> None:
        machine = os.uname().machine if hasattr(os, "uname") else "a machine without one"
        if sys.platform != "linux" or machine not in _NUMBERS or struct.calcsize("P") != _POINTER_BYTES:
            raise LocalMisuse(
                f"a thread's own credentials are known for Linux on {' and '.join(_NUMBERS)} with 64 bits, and this is "
                f"{sys.platform} on {machine} with {8 * struct.calcsize('P')}: serve each peer in a process of its own "
                "account instead",
                errno=errno.ENOTSUP,
            )
        import ctypes  # when somebody first impersonates: it is slow to load, and few do

        self._ctypes = ctypes
        self._numbers = _NUMBERS[machine]
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._syscall.restype = ctypes.c_long

    def call(self, name: str, *arguments: int | ctypes.Array[ctypes.c_uint32]) -> int:
        """What the kernel returns; PlaneError with its errno."""
        long = self._ctypes.c_long
        passed = [long(each) if isinstance(each, int) else each for each in arguments]
        result: int = self._syscall(long(getattr(self._numbers, name)), *passed)
        if result == -1:
            number = self._ctypes.get_errno()
            raise PlaneError(f"the system refuses {name} to this thread: {os.strerror(number)}", errno=number)
        return result

    def words(self, values: Iterable[int]) -> ctypes.Array[ctypes.c_uint32]:
        """Numbers of 32 bits, as the kernel takes them: ids are no longer on either architecture."""
        listed = list(values)
        return (self._ctypes.c_uint32 * len(listed))(*listed)

    def groups(self) -> tuple[int, ...]:
        count = self.call("getgroups", 0, 0)
        room = self.words([0] * count)
        self.call("getgroups", count, room)
        return tuple(sorted(room))

    def set_groups(self, groups: tuple[int, ...]) -> None:
        self.call("setgroups", len(groups), self.words(groups))

    def capabilities(self) -> tuple[int, int, int]:
        sets = self.words([0] * 6)
        self.call("capget", self.words((_CAPABILITY_VERSION, 0)), sets)
        low, high = sets[:3], sets[3:]
        effective, permitted, inheritable = (below | above << 32 for below, above in zip(low, high, strict=True))
        return effective, permitted, inheritable

    def set_capabilities(self, *sets: int) -> None:
        words = [each & 0xFFFF_FFFF for each in sets] + [each >> 32 for each in sets]
        self.call("capset", self.words((_CAPABILITY_VERSION, 0)), self.words(words))
