"""Hearing of changes: what was added to or deleted from a container, and when the verdict on a flow is another one.

A Subscription is a bounded queue that a commit fills and its owner empties, by polling, waiting or iterating; with a
callback a thread of its own does that.  Nobody's code runs inside a commit, so that a subscriber can neither delay nor
break one.  A FlowWatch costs a commit nothing: it asks again, when its owner does and only if its layer has changed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Final, Generic, NamedTuple, TypeVar
from uuid import UUID

from ..identity.impersonation import as_oneself
from .errors import PolicyCode, error_for
from .model import ObjectKind, PolicyObject
from .verdicts import Verdict

__all__ = ["Bell", "Change", "ChangeType", "FlowWatch", "Subscription"]

# A subscriber that has not looked for so many changes has lost its way; its queue must not eat the process.
QUEUE_LIMIT: Final = 65_536

Notice = TypeVar("Notice")


class ChangeType(IntEnum):
    """FWPM_CHANGE_TYPE."""

    ADD = 1
    DELETE = 2


class Change(NamedTuple):
    """FWPM_FILTER_CHANGE0 and its kin: what happened to which object."""

    type: ChangeType
    kind: ObjectKind
    key: UUID
    id: int
    item: PolicyObject


class Subscription(Generic[Notice]):
    """Changes (or net events) in the order in which they were committed.  Thread-safe."""

    def __init__(self, cancelled: Callable[[Subscription[Notice]], None]) -> None:
        self._ready: Final = threading.Condition()
        self._notices: Final[deque[Notice]] = deque()
        self._on_cancel: Final = cancelled
        self._has_dropped = False
        self._is_open = True

    def deliver(self, notice: Notice) -> None:
        """Queue a notice; the engine calls this.  Beyond the limit it is dropped, which the owner is told."""
        with self._ready:
            if not self._is_open:
                return
            if len(self._notices) >= QUEUE_LIMIT:
                self._has_dropped = True
            else:
                self._notices.append(notice)
            self._ready.notify_all()

    def poll(self) -> Notice | None:
        """The oldest notice, None if there is none.

        PolicyStateError (NOTIFICATION_DROPPED), once, where notices are missing.
        """
        with self._ready:
            if self._notices:
                return self._notices.popleft()
            if self._has_dropped:
                self._has_dropped = False
                message = f"more than {QUEUE_LIMIT} changes were waiting; look at everything anew"
                raise error_for(PolicyCode.NOTIFICATION_DROPPED, message)
            return None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a notice; False when the time is over, or the subscription is cancelled, and none is there."""
        with self._ready:
            self._ready.wait_for(lambda: self._notices or self._has_dropped or not self._is_open, timeout_s)
            return bool(self._notices) or self._has_dropped

    def __iter__(self) -> Iterator[Notice]:
        """Notices as they come, until the subscription is cancelled."""
        while self.wait():
            notice = self.poll()
            if notice is not None:
                yield notice

    @property
    def is_open(self) -> bool:
        """Whether notices are still queued."""
        return self._is_open

    def cancel(self) -> None:
        """Hear of nothing more; what is queued can still be polled.  May be called again, and by any thread."""
        self._on_cancel(self)
        with self._ready:
            self._is_open = False
            self._ready.notify_all()

    def call(self, callback: Callable[[Notice], object]) -> None:
        """Call back for each notice, in a daemon thread, until the subscription is cancelled.

        What ``callback`` raises ends the thread and the subscription, and goes to threading.excepthook.
        """

        def run() -> None:
            try:
                for notice in self:
                    callback(notice)
            finally:
                self.cancel()

        with as_oneself():
            threading.Thread(target=run, name="securesock-policy-subscription", daemon=True).start()


class Bell(Subscription[Change]):
    """A subscription that keeps nothing: each notice calls a function that leaves word and returns at once."""

    def __init__(self, cancelled: Callable[[Subscription[Change]], None], bell: Callable[[], None]) -> None:
        super().__init__(cancelled)
        self._bell: Final = bell

    def deliver(self, notice: Change) -> None:
        """Ring."""
        if self.is_open:
            self._bell()


class FlowWatch:
    """Whether the policy of one flow is still what it was: "the policy of this socket changed".

    ``verdict`` is the last one that was seen.
    """

    def __init__(
        self,
        classify: Callable[[], Verdict],
        generation: Callable[[], int],
        wait_for_change: Callable[[int, float | None], bool],
    ) -> None:
        self._classify: Final = classify
        self._generation: Final = generation
        self._wait_for_change: Final = wait_for_change
        self._seen = generation()
        self.verdict = classify()

    def poll(self) -> Verdict | None:
        """The new verdict if it differs from the last one in anything but words; else None.

        While nothing has changed in the layer this compares two numbers.
        """
        generation = self._generation()
        if generation == self._seen:
            return None
        self._seen = generation
        before, now = self.verdict, self._classify()
        self.verdict = now
        return None if _essence(before) == _essence(now) else now

    def wait(self, timeout_s: float | None = None) -> Verdict | None:
        """Wait for another verdict; None when the time is over.  Each change of the layer starts the time anew."""
        while True:
            changed = self.poll()
            if changed is not None or not self._wait_for_change(self._seen, timeout_s):
                return changed


def _essence(verdict: Verdict) -> tuple[object, ...]:
    decided_by = None if verdict.filter is None else verdict.filter.id
    vetoed = None if verdict.vetoed is None else verdict.vetoed.id
    return verdict.action, decided_by, verdict.is_hard, vetoed, verdict.demand
