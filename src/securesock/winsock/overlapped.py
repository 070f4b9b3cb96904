"""Calls that complete later: an overlapped object is a future, a completion routine a function.

Every operation of the secure socket extensions is done when its call returns, as nothing is sent for any of them.  What
remains of Windows' rules: a call that fails raises and completes nothing; one that succeeds completes its overlapped
object with the same result, and calls its completion routine once, after that.  A concurrent future is completed before
the call returns, in its thread; an asyncio future in its loop, in a later turn.

On Windows both parameters are ignored for a socket that is not overlapped.  A SecureSocket is neither, and whoever
hands them in wants them used.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

from ..wire.winsock_errors import WSAError, WSAErrorCode
from ..wire.winsock_fields import invalid

__all__ = ["Completion", "CompletionRoutine", "Overlapped"]

Result = TypeVar("Result")
Overlapped: TypeAlias = concurrent.futures.Future[Result] | asyncio.Future[Result]
"""Where the result of a call goes: 0, or the structure asked for."""
CompletionRoutine: TypeAlias = Callable[[int, int, "Overlapped[Result] | None", int], object]
"""(error 0, bytes transferred, the overlapped object or None, flags 0), as LPWSAOVERLAPPED_COMPLETION_ROUTINE."""


class Completion(Generic[Result]):
    """Both of a call's parameters, checked before the call does anything.

    WSAEFAULT: no future, or no function.  WSAEINVAL: a future that is done already, or whose loop is closed.
    """

    def __init__(self, overlapped: Overlapped[Result] | None, routine: CompletionRoutine[Result] | None) -> None:
        if routine is not None and not callable(routine):
            raise WSAError(WSAErrorCode.WSAEFAULT, "a completion routine is a function")
        if overlapped is not None:
            if not isinstance(overlapped, concurrent.futures.Future) and not asyncio.isfuture(overlapped):
                raise WSAError(WSAErrorCode.WSAEFAULT, "an overlapped object is a concurrent or an asyncio future")
            if overlapped.done():
                raise invalid("the overlapped object is done already: each is for one call")
            if isinstance(overlapped, asyncio.Future) and overlapped.get_loop().is_closed():
                raise invalid("the overlapped object's event loop is closed")
        self._overlapped = overlapped
        self._routine = routine

    def succeed(self, result: Result, transferred: int = 0) -> Result:
        """The operation is done: ``result``, and how many bytes the answer has.

        What the routine raises passes through to whoever completes; the operation stands.
        """
        overlapped = self._overlapped
        if isinstance(overlapped, asyncio.Future):
            overlapped.get_loop().call_soon_threadsafe(self._deliver, result, transferred)
        else:
            self._deliver(result, transferred)
        return result

    def _deliver(self, result: Result, transferred: int) -> None:
        overlapped = self._overlapped
        if overlapped is not None:
            # Cancelled meanwhile: its owner wants no result, and the operation stands.
            with contextlib.suppress(concurrent.futures.InvalidStateError, asyncio.InvalidStateError):
                overlapped.set_result(result)
        if self._routine is not None:
            self._routine(0, transferred, overlapped, 0)
