"""The SAs of this process that are alive, for whoever has to enumerate them: one place for all sockets and carriers.

A keying session that is watched (sockets/watched) puts itself here when its flow is ready; it is held weakly, and what
has ended is not shown.  Beside them stand counters, since the process began.  It must not know sockets, planes nor
which keying protocol is spoken; it never holds a key.  Windows' names: IPSEC_SA_CONTEXT, IKEEXT_SA_DETAILS,
IPSEC_STATISTICS, IKEEXT_STATISTICS.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from .fork import in_child

if TYPE_CHECKING:
    from uuid import UUID

    from ..errors import SecureSocketError
    from ..keying.contract import Establishment, KeyingConfig
    from .ports import SecuredDatagrams, SecuredStream

__all__ = ["LIVE_SAS", "KeyingCounters", "KeyingFailure", "LiveSa", "LiveSas", "SaSource", "lookup_context"]


def lookup_context(main_mode_sa_id: int, quick_mode_sa_id: int) -> UUID:
    """Both ids, 64 bits each, as one GUID: a connection's SaLookupContext."""
    from uuid import UUID  # for enumerations, which few ask for

    return UUID(int=main_mode_sa_id << 64 | quick_mode_sa_id)


class LiveSa(NamedTuple):
    """One ESP SA pair and the key exchange SA that it was last agreed under.

    ``establishment`` has the ids of the beginning; ``main_mode_sa_id`` and ``quick_mode_sa_id`` are those of now, and
    ``config`` knows who began, on what carrier, between which addresses.  SPIs are those on the wire; ``ike_spis`` the
    initiator's and the responder's of the key exchange SA.
    """

    main_mode_sa_id: int
    quick_mode_sa_id: int
    inbound_spi: int
    outbound_spi: int
    establishment: Establishment
    config: KeyingConfig
    rekeys: int
    ike_spis: tuple[int, int] = (0, 0)

    @property
    def lookup_context(self) -> UUID:
        """By which a connection finds its SAs (SaLookupContext)."""
        return lookup_context(self.main_mode_sa_id, self.quick_mode_sa_id)


class KeyingFailure(NamedTuple):
    """A negotiation, or an SA, that ended with an error.  ``was_established``: the flow had been ready."""

    config: KeyingConfig
    error: SecureSocketError
    was_established: bool


class KeyingCounters(NamedTuple):
    """Since the process began.  ``sas_added`` counts ESP SA pairs, those of rekeys too: what of them does not live any
    more was deleted."""

    started: int = 0
    responder_started: int = 0
    succeeded: int = 0
    failed: int = 0
    sas_added: int = 0
    rekeys: int = 0


class SaSource(Protocol):
    """What can say which SA it keeps."""

    def live_sa(self) -> LiveSa | None:
        """The SA as it stands; None once it has ended."""
        ...


class LiveSas:
    """See the module.  Thread-safe."""

    def __init__(self) -> None:
        self._sources: weakref.WeakSet[SaSource] = weakref.WeakSet()
        self._of_streams: weakref.WeakKeyDictionary[SecuredStream, SaSource] = weakref.WeakKeyDictionary()
        self._owners: weakref.WeakKeyDictionary[SecuredDatagrams, Callable[[SecuredDatagrams], list[SaSource]]]
        self._owners = weakref.WeakKeyDictionary()
        self._listeners: list[Callable[[KeyingFailure], object]] = []
        self.renew()

    def renew(self) -> None:
        """In a forked child: no SA lives on in it (semantics section 4), and nothing has been counted."""
        self._lock = threading.Lock()
        self._sources.clear()
        self._of_streams.clear()
        self._owners.clear()
        self._counters = KeyingCounters()
        self._failures: Counter[type[SecureSocketError]] = Counter()

    def add(self, source: SaSource, stream: SecuredStream | None = None) -> None:
        """From now on ``source`` is asked, as long as it lives, or the one ``stream`` that its SA is for."""
        with self._lock:
            if stream is None:
                self._sources.add(source)
            else:
                self._of_streams[stream] = source

    def add_owner(self, machine: SecuredDatagrams, sources: Callable[[SecuredDatagrams], list[SaSource]]) -> None:
        """As long as ``machine`` lives, ``sources`` says whom else to ask: those whose idle peers are at rest."""
        with self._lock:
            self._owners[machine] = sources

    def leave(self, stream: SecuredStream) -> None:
        """The application closed the stream: what still goes out on it is the carrier's matter."""
        with self._lock:
            self._of_streams.pop(stream, None)

    def count(self, **more: int) -> None:
        """Add to counters, by their names."""
        with self._lock:
            now = self._counters
            self._counters = now._replace(**{name: getattr(now, name) + number for name, number in more.items()})

    def tell(self, failure: KeyingFailure) -> None:
        """Count a failure, and tell whoever listens; what a listener raises is its own affair and passes."""
        with self._lock:
            failed = self._counters.failed + (not failure.was_established)
            self._counters = self._counters._replace(failed=failed)
            self._failures[type(failure.error)] += 1
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener(failure)

    def listen(self, listener: Callable[[KeyingFailure], object]) -> Callable[[], None]:
        """Hear of failures from now on, in the thread that meets them; what is returned ends it."""
        with self._lock:
            self._listeners.append(listener)
        return lambda: self._forget(listener)

    def _forget(self, listener: Callable[[KeyingFailure], object]) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def counters(self) -> KeyingCounters:
        """As they stand."""
        return self._counters

    def failures(self) -> Mapping[type[SecureSocketError], int]:
        """How many there were of each kind of error; a copy."""
        with self._lock:
            return Counter(self._failures)

    def snapshot(self) -> list[LiveSa]:
        """What lives now, in the order of the SA ids, so that an enumeration has one."""
        with self._lock:
            sources = [*self._sources, *self._of_streams.values()]
            owners = list(self._owners.items())
        for machine, others in owners:
            sources += others(machine)
        found = [sa for sa in (source.live_sa() for source in sources) if sa is not None]
        return sorted(found, key=lambda sa: sa.quick_mode_sa_id)


LIVE_SAS: Final = LiveSas()

in_child(LIVE_SAS.renew)
