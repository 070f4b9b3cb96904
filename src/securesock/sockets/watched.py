"""Keying sessions whose SAs can be enumerated: an IkeSession that tells the registry of this process what it did.

It watches the actions as whoever drives the session takes them, and changes none.  It must not know who enumerates.
"""

from __future__ import annotations

import weakref
from collections.abc import Container
from typing import TYPE_CHECKING

from ..drivers.keylog import KeyLoggingSession
from ..engine.live_sas import LIVE_SAS, KeyingFailure, LiveSa, SaSource
from ..keying.contract import (
    Action,
    Establishment,
    FlowFailed,
    FlowReady,
    InstallSa,
    KeyingConfig,
    KeyingSession,
    Rekeyed,
    Role,
)
from ..keying.ikev2.session import IkeSession

if TYPE_CHECKING:
    from ..engine.ports import SecuredDatagrams, SecuredStream
    from ..entropy import Entropy

__all__ = ["WatchedSession", "watch_again", "watch_resting"]


class WatchedSession(IkeSession):
    """See keying.contract.KeyingSession; in ``LIVE_SAS`` from its first FlowReady on, while it or its stream lives."""

    def __init__(self, config: KeyingConfig, entropy: Entropy, spis_in_use: Container[int] = ()) -> None:
        super().__init__(config, entropy, spis_in_use)
        self._config = config
        self._establishment: Establishment | None = None
        self._main_mode_sa_id = self._quick_mode_sa_id = 0
        self._inbound_spi = self._outbound_spi = 0
        self._rekeys = 0
        self._stream: weakref.ref[SecuredStream] | None = None
        LIVE_SAS.count(**{"started" if config.role is Role.INITIATOR else "responder_started": 1})

    def carried_by(self, stream: SecuredStream) -> None:
        """The one stream that the SA is for: it ends with it."""
        self._stream = weakref.ref(stream)

    def poll_action(self) -> Action | None:
        """See KeyingSession."""
        action = super().poll_action()
        match action:
            case None:
                pass
            case InstallSa(spec, "inbound"):
                self._inbound_spi = spec.spi
            case InstallSa(spec, _):
                self._outbound_spi = spec.spi
            case FlowReady(establishment):
                self._establishment = establishment
                self._main_mode_sa_id = establishment.main_mode_sa_id
                self._quick_mode_sa_id = establishment.quick_mode_sa_id
                LIVE_SAS.add(self, None if self._stream is None else self._stream())
                LIVE_SAS.count(succeeded=1, sas_added=1)
            case Rekeyed(what, sa_id):
                self._rekeys += 1
                if what == "child":
                    self._quick_mode_sa_id = sa_id
                    LIVE_SAS.count(rekeys=1, sas_added=1)
                else:
                    self._main_mode_sa_id = sa_id
            case FlowFailed(error):
                LIVE_SAS.tell(KeyingFailure(self._config, error, self._establishment is not None))
        return action

    def live_sa(self) -> LiveSa | None:
        """See engine.live_sas.SaSource."""
        establishment = self._establishment
        if establishment is None or not self.established:
            return None
        if self._stream is not None:
            stream = self._stream()
            if stream is None or stream.state != "established":
                return None
        ike = self._core.ike
        return LiveSa(
            self._main_mode_sa_id,
            self._quick_mode_sa_id,
            self._inbound_spi,
            self._outbound_spi,
            establishment,
            self._config,
            self._rekeys,
            (0, 0) if ike is None else (_number(ike.initiator_spi), _number(ike.responder_spi)),
        )


def watch_again(session: KeyingSession) -> None:
    """The session of a datagram peer that was at rest is another object now."""
    watched = _watched(session)
    if watched is not None:
        LIVE_SAS.add(watched)


def watch_resting(machine: SecuredDatagrams) -> None:
    """Enumerate also what ``machine`` has put to rest, as long as it lives."""
    LIVE_SAS.add_owner(machine, _resting_of)


def _resting_of(machine: SecuredDatagrams) -> list[SaSource]:
    found = (_watched(session) for session in machine.resting_sessions())
    return [each for each in found if each is not None]


def _watched(session: KeyingSession) -> WatchedSession | None:
    inner = session.session if isinstance(session, KeyLoggingSession) else session
    return inner if isinstance(inner, WatchedSession) else None


def _number(spi: bytes) -> int:
    return int.from_bytes(spi, "big")
