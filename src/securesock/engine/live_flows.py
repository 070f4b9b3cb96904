"""Connections under policy while they live: what policy makes of each now, who hears of it, and which have to end.

The latch (RFC 5660) forbids that a connection's protection changes under it.  So when policy changes, every live flow
is judged again, and one that the policy of now would not have made any more, be it blocked, of another suite, or with a
peer that is not let in, is broken.  One that it would have made lives on as it is; who subscribed is told of the policy
that is in force now, and query_security() shows it.

Commits of other sessions than the sockets' own ring a bell; the looking is done where ``schedule`` puts it, never in
the thread that commits.  This module must not know sockets nor how a connection is ended.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from ..crypto.suites import EspSuite, IkeSuite
from ..errors import ConnectionBroken, LocalMisuse, PolicyRefused
from ..keying.contract import Establishment
from ..policy.changes import Subscription
from ..policy.errors import PolicyStateError
from ..policy.explain import Explanation
from ..policy.filter_engine import FilterEngine
from ..policy.negotiation import ChildOffer, IkeOffer
from ..types import Flow, SecurityInfo
from .applied import Applied
from .fork import in_child
from .socket_filters import desk_session

__all__ = ["LiveFlow", "PolicyChange", "PolicyChanges", "Schedule", "allows", "watch"]

Schedule = Callable[[Callable[[], None]], None]
"""Have a function run soon, in another thread than the caller's."""


class PolicyChange(NamedTuple):
    """The policy of one live flow is another one: which is in force now, and why it ended the flow if it did."""

    flow: Flow
    filter_id: int | None
    main_mode_policy: UUID | None
    quick_mode_policy: UUID | None
    differences: tuple[str, ...]
    broken: str = ""


class PolicyChanges:
    """Who wants to hear of such changes.  Thread-safe; subscriptions are told outside the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: list[Subscription[PolicyChange]] = []

    def subscribe(self, callback: Callable[[PolicyChange], object] | None = None) -> Subscription[PolicyChange]:
        """Hear of every change from now on; with ``callback`` a daemon thread calls it (policy.Subscription)."""
        subscription: Subscription[PolicyChange] = Subscription(self._forget)
        with self._lock:
            self._subscriptions.append(subscription)
        if callback is not None:
            subscription.call(callback)
        return subscription

    def _forget(self, subscription: Subscription[PolicyChange]) -> None:
        with self._lock:
            self._subscriptions = [each for each in self._subscriptions if each is not subscription]

    def tell(self, flow: Flow, applied: Applied, broken: str, filter_id: int | None) -> None:
        """Of ``flow`` this is in force now; ``broken``: why it ended, if it did."""
        mark = applied.mark
        change = PolicyChange(
            flow, filter_id, mark.main_mode_policy, mark.quick_mode_policy, applied.differences, broken
        )
        with self._lock:
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.deliver(change)

    def over(self) -> None:
        """Nobody hears of anything any more."""
        with self._lock:
            subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription.cancel()


def allows(applied: Applied, establishment: Establishment) -> bool:
    """Whether a negotiation under this policy could have come to what was established."""
    main, quick = establishment.main_mode_suite, establishment.quick_mode_suite
    ours, theirs = establishment.our.method == "eap", establishment.peer.method == "eap"
    return (
        any(_has_ike(offer, main) for offer in applied.main_mode.offers)
        and any(_has_child(offer, quick) for offer in applied.quick_mode.offers)
        and (applied.main_mode.allow_anonymous or establishment.peer.method != "anonymous")
        and (applied.users.machines or ours or theirs)
        and (applied.users.prove or not ours)
        and (applied.users.accept or not theirs)
    )


def _has_ike(offer: IkeOffer, suite: IkeSuite) -> bool:
    return (
        suite.encryption in offer.encryptions
        and (suite.integrity is None or suite.integrity in offer.integrities)
        and suite.prf in offer.prfs
        and suite.key_exchange in offer.key_exchanges
        and suite.additional_key_exchanges == offer.additional
    )


def _has_child(offer: ChildOffer, suite: EspSuite) -> bool:
    # no stored policy says how packets are numbered: that is the context's, or a standard host's
    return suite.encryption in offer.encryptions and (suite.integrity is None or suite.integrity in offer.integrities)


class LiveFlow:
    """One of them.  ``judge`` makes of the flow what policy makes of it now, peer included; ``break_off`` ends it.

    ``applied`` is the newest judgement.  Thread-safe.
    """

    def __init__(
        self,
        flow: Flow,
        establishment: Establishment,
        applied: Applied,
        judge: Callable[[], Applied],
        explain: Callable[[], tuple[Explanation, ...]],
        break_off: Callable[[ConnectionBroken], None],
    ) -> None:
        self.flow: Final = flow
        self.applied = applied
        self._establishment = establishment
        self._judge = judge
        self._explain = explain
        self._break_off = break_off
        self._lock = threading.Lock()
        self._first = applied
        self._changes = PolicyChanges()
        self._watch: _Watch | None = None
        self._seen = 0
        self._over = False

    def begin(self, engine: FilterEngine, schedule: Schedule) -> None:
        """Look after it from now on, as long as somebody holds it; whatever changed since it was judged is found."""
        self._watch = _watch_of(engine, schedule)
        self._watch.flows.add(self)
        self.look()

    def explain(self) -> tuple[Explanation, ...]:
        """Why it is judged as it is: the account of each layer on its way."""
        return self._explain()

    def current(self, established: SecurityInfo) -> SecurityInfo:
        """What is said of the connection, with the policy of now beside what was established."""
        if self._watch is not None and self._watch.rings != self._seen:
            self.look()
        first, now = self._first, self.applied
        if now is first:
            return established
        return replace(
            established,
            main_mode_policy=now.mark.main_mode_policy,
            quick_mode_policy=now.mark.quick_mode_policy,
            filter_id=now.mark.filter_id,
            differences=(*now.differences, *established.differences[len(first.differences) :]),
        )

    def look(self) -> None:
        """Judge it anew."""
        with self._lock:
            if self._over:
                return
            if self._watch is not None:
                self._seen = self._watch.rings
            try:
                applied = self._judge()
            except PolicyStateError:
                return  # the engine was closed: there is no policy to be held against
            except (PolicyRefused, LocalMisuse) as error:
                filter_id = error.filter_id if isinstance(error, PolicyRefused) else None
                self._end(str(error), filter_id)
                return
            if not allows(applied, self._establishment):
                wanted = f"filter {applied.mark.filter_id}" if applied.mark.filter_id else "policy"
                self._end(f"{wanted} asks for another protection than the one that was latched", applied.mark.filter_id)
                return
            if (applied.mark, applied.differences) != (self.applied.mark, self.applied.differences):
                self.applied = applied
                self._changes.tell(self.flow, applied, "", applied.mark.filter_id)

    def _end(self, why: str, filter_id: int | None) -> None:
        self._over = True
        self._changes.tell(self.flow, self.applied, why, filter_id)
        self._break_off(ConnectionBroken(f"policy changed under the connection, which was ended: {why}"))

    def subscribe(self, callback: Callable[[PolicyChange], object] | None = None) -> Subscription[PolicyChange]:
        """See PolicyChanges."""
        return self._changes.subscribe(callback)

    def over(self) -> None:
        """The connection has ended by itself: nobody hears of anything any more."""
        with self._lock:
            self._over = True
        self._changes.over()


class Looked(Protocol):
    """What wants to be looked at when policy changes."""

    def look(self) -> None:
        """It has changed."""
        ...


def watch(engine: FilterEngine, looked: Looked, schedule: Schedule) -> None:
    """Have it look whenever the policy of ``engine`` changes, as long as somebody holds it."""
    _watch_of(engine, schedule).flows.add(looked)


class _Watch:
    """The live flows of one engine."""

    def __init__(self, engine: FilterEngine, schedule: Schedule) -> None:
        self.flows: weakref.WeakSet[Looked] = weakref.WeakSet()
        self._schedule = schedule
        self._rung = False
        self.rings = 0
        session = desk_session(engine)
        if session is not None:
            session.ring(self._ring)

    def _ring(self) -> None:
        """In the thread that committed: leave word, once for all that is committed until somebody looks."""
        self.rings += 1
        if not self._rung:
            self._rung = True
            self._schedule(self._look)

    def _look(self) -> None:
        self._rung = False  # before the look: what is committed from here on rings again
        for flow in tuple(self.flows):
            flow.look()


_watches: Final[weakref.WeakKeyDictionary[FilterEngine, _Watch]] = weakref.WeakKeyDictionary()
in_child(_watches.clear)  # no connection lives on in a child


def _watch_of(engine: FilterEngine, schedule: Schedule) -> _Watch:
    found = _watches.get(engine)
    if found is None:
        found = _watches[engine] = _Watch(engine, schedule)
    return found
