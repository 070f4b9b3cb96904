"""Acting as a peer: the calling thread meets files as the local account that the peer's principal is.

It is for a server that opens its clients' files with the clients' rights, so that the kernel decides and not the
server.  What changes is what decides about files: supplementary groups, file system group and user (setfsuid(2)), and
the capabilities by which a superuser would not be asked.  Who the process is does not change: its user ids, its right
to signal others and its ports stay the service's, other threads are untouched, and what it executes is the service
again.  A thread that it starts meanwhile, and a child that it forks, begin as the account and stay so.

Everything is put back on the way out, whatever happened inside, and read back; a thread that might still be somebody
else must not go on to the next client, so that where it cannot be put back the process ends.

Here the account is known already (identity/accounts says whose it is); peers and sockets are not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Final, NamedTuple, NoReturn

from ..errors import LocalMisuse, PlaneError, PolicyRefused
from ..types import Principal
from .thread_credentials import (
    CAP_FS_MASK,
    CAP_SETGID,
    CAP_SETUID,
    ThreadCredentials,
    read_credentials,
    write_credentials,
)

__all__ = ["EXIT_NOT_RESTORED", "Impersonation", "LocalAccount", "as_oneself", "revert_to_self"]

EXIT_NOT_RESTORED: Final = 71
"""The status of a process that ended because a thread could not stop acting as somebody (EX_OSERR of sysexits.h)."""


class LocalAccount(NamedTuple):
    """An account of this machine with its groups, as logging in would give them (initgroups(3)); sorted."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


class _Step:
    """One thread that acts as one peer: as whom it goes on afterwards, and whether it does already."""

    __slots__ = ("before", "has_ended", "principal", "thread")

    def __init__(self, before: ThreadCredentials, principal: Principal, steps: _Steps) -> None:
        self.before = before
        self.has_ended = True  # until it begins
        self.principal = principal
        self.thread = weakref.ref(steps)

    def is_alive(self) -> bool:
        """Whether there is a thread to put back: what a thread was is gone with it, and with a fork for all but one."""
        return self.thread() is not None

    def end(self) -> None:
        """Be as before again, and end what was begun later and never ended; or the process."""
        if self.has_ended:
            return
        steps = _threads.steps
        if self not in steps:  # another thread's
            _end_process(self.principal)
        is_back = False
        try:
            _put_back(self.before, self.principal)
            is_back = True
        finally:
            if not is_back:  # a signal's exception, possibly before its first line
                _put_back(self.before, self.principal)
            # whoever comes here is himself again
            for each in steps[steps.index(self) :]:
                each.has_ended = True
            del steps[steps.index(self) :]


class _Steps(list[_Step]):
    """What one thread has begun and not ended, the last one last; it lives as long as the thread."""


class _Threads(threading.local):
    def __init__(self) -> None:
        self.steps = _Steps()


_threads: Final = _Threads()


class Impersonation:
    """A context manager: inside the block this thread acts as ``account``, the value of the block, on files.

    Made by SecureSocket.impersonate_peer().  Entered once, and left by the thread that entered it; several nest.

    Entering raises LocalMisuse: in a running event loop (EINVAL), without the privilege, CAP_SETUID and CAP_SETGID
    (EPERM), or where credentials of a thread are not known (ENOTSUP).  PolicyRefused: no such account.  PlaneError: the
    kernel did otherwise than it was told.  After an error the thread is as it was.
    """

    __slots__ = ("_step", "_wanted", "principal")

    def __init__(self, principal: Principal, account: str | int) -> None:
        self.principal: Final = principal
        self._wanted = account
        self._step: _Step | None = None

    def __enter__(self) -> LocalAccount:
        if self._step is not None:
            raise LocalMisuse("an impersonation is entered once: ask the socket for another one")
        return self._begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._step is not None:
            self._step.end()

    def __del__(self) -> None:
        """A signal's exception may strike where __exit__ begins, before its first line: the object, which nobody needs
        then but the traceback, goes with the exception, and puts the thread back."""
        step = getattr(self, "_step", None)
        if step is not None and step.is_alive():
            try:
                step.end()
            finally:
                step.end()  # to no effect, unless a second one struck

    def until_reverted(self) -> LocalAccount:
        """Enter for good: what ends it is revert_to_self(), and not this object's end (WSAImpersonateSocketPeer)."""
        account = self.__enter__()
        self._step = None
        return account

    def _begin(self) -> LocalAccount:
        _refuse_in_event_loop()
        before = read_credentials()
        account = _read_account(self.principal, self._wanted)
        wanted = before._replace(
            groups=account.groups, fsgid=account.gid, fsuid=account.uid, effective=before.effective & ~CAP_FS_MASK
        )
        _check_privilege(before, wanted, self.principal)
        steps = _threads.steps
        step = self._step = _Step(before, self.principal, steps)
        is_done = False
        try:
            steps.append(step)
            step.has_ended = False
            if wanted != before:  # a service's own account takes no privilege
                _become(wanted, account, self.principal)
            is_done = True
        finally:
            if not is_done:
                step.end()
                if step in steps:  # it was interrupted before it had begun
                    steps.remove(step)
        return account


def revert_to_self() -> bool:
    """End what this thread began last and has not ended; False if there is nothing (WSARevertImpersonation)."""
    steps = _threads.steps
    if not steps:
        return False
    steps[-1].end()
    return True


@contextlib.contextmanager
def as_oneself() -> Iterator[None]:
    """Be the service for a moment: for what belongs to the whole process, such as a thread that it keeps.

    A thread begins as whoever starts it, and this library's own would serve all peers as one of them.
    """
    steps = _threads.steps
    if not steps:
        yield
        return
    first, acting = steps[0], read_credentials()
    try:
        _put_back(first.before, first.principal)
        yield
    finally:
        _put_back(acting, first.principal)


def _refuse_in_event_loop() -> None:
    """Between two steps of a coroutine the loop runs others, for other peers, in this very thread."""
    if "asyncio" not in sys.modules:
        return
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise LocalMisuse(
        "an event loop runs in this thread, and whatever it runs next would act as this peer too: impersonate in a "
        "thread of its own (asyncio.to_thread), and only around calls that do not await"
    )


def _read_account(principal: Principal, wanted: str | int) -> LocalAccount:
    import pwd  # where there is none nothing comes this far

    try:
        entry = pwd.getpwnam(wanted) if isinstance(wanted, str) else pwd.getpwuid(wanted)
    except (KeyError, ValueError, OverflowError):
        raise PolicyRefused(
            f"{principal} maps to the account {wanted}, and this machine has no such account: make it, or map "
            "the peer to another"
        ) from None
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return LocalAccount(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(sorted(set(groups))))


def _check_privilege(before: ThreadCredentials, wanted: ThreadCredentials, principal: Principal) -> None:
    """setfsuid would fail in silence, after setgroups has succeeded: so what is missing is said before anything."""
    missing = [
        name for name, bit in (("CAP_SETUID", CAP_SETUID), ("CAP_SETGID", CAP_SETGID)) if not before.effective & bit
    ]
    if missing and wanted != before:
        raise LocalMisuse(
            f"acting as {principal} takes {' and '.join(missing)}, which this thread does not have: give them to the "
            "service (AmbientCapabilities= of systemd, or setcap), or run it as root",
            errno=errno.EPERM,
        )


def _become(wanted: ThreadCredentials, account: LocalAccount, principal: Principal) -> None:
    write_credentials(wanted)
    if read_credentials() != wanted:
        raise PlaneError(
            f"the system did not make this thread {account.name}, for {principal}, and did not say why: "
            "see whether a user namespace or a security module forbids it",
            errno=errno.EPERM,
        )


def _put_back(before: ThreadCredentials, principal: Principal) -> None:
    """Whatever comes in between, a signal's exception too, ends with the thread as it was or without the process."""
    is_restored = False
    try:
        is_restored = _restore(before)
    finally:
        if not is_restored:
            try:
                is_restored = _restore(before)
            finally:
                if not is_restored:
                    _end_process(principal)


def _restore(before: ThreadCredentials) -> bool:
    """Where the first call was refused so would be the one that takes it back, and there is nothing to take back."""
    if read_credentials() == before:
        return True
    write_credentials(before)
    return read_credentials() == before


def _end_process(principal: Principal) -> NoReturn:
    message = f"securesock: a thread cannot stop acting as {principal}, so the process ends\n"
    try:
        os.write(2, message.encode(errors="replace"))
    finally:
        os._exit(EXIT_NOT_RESTORED)
