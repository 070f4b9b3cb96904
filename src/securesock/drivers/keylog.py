"""SECURESOCK_KEYLOG=DIR: writes the keys of this process's connections so that Wireshark can read a capture of them.

Whoever can read that folder can read the traffic, so it is said loudly, once, and the files are readable by their
owner alone.
Wireshark and tshark take the two files as they are (in their configuration folder, or with -o uat:...).
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..keying.contract import Action, AddressPair, KeyingSession, KeyMaterial, StandardHost

if TYPE_CHECKING:
    from ..errors import SecureSocketError
    from ..types import Address

__all__ = ["VARIABLE", "KeyLoggingSession", "keylog_folder"]

VARIABLE: Final = "SECURESOCK_KEYLOG"

_lock = threading.Lock()
_known: dict[str, Path | None] = {}


def keylog_folder() -> Path | None:
    """Where keys are to be written, or None: nobody asked, or nothing can be written there.

    Warns (RuntimeWarning) the first time that there is such a place, which is made where it is not there yet.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    if name not in _known:
        try:
            Path(name).mkdir(mode=0o700, parents=True, exist_ok=True)
            _known[name] = Path(name)
        except OSError as error:
            _known[name] = None
            _warn(f"{VARIABLE} is set, and nothing is written: {error}; name a folder that can be made")
        else:
            _warn(
                f"{VARIABLE} is set: the keys of every connection are written to {name}; "
                "whoever reads them reads the traffic"
            )
    return _known[name]


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=3)


class KeyLoggingSession:
    """A KeyingSession whose key material goes to files instead of to the plane."""

    def __init__(self, session: KeyingSession, folder: Path) -> None:
        self._session = session
        self._folder = folder

    @property
    def session(self) -> KeyingSession:
        """Whose keys are logged."""
        return self._session

    def poll_action(self) -> Action | None:
        """The next action that is the plane's; what was to be logged before it has been written."""
        while isinstance(action := self._session.poll_action(), KeyMaterial):
            _append(self._folder / action.table, action.line)
        return action

    @property
    def established(self) -> bool:
        """See KeyingSession."""
        return self._session.established

    @property
    def peer_speaks_ike(self) -> bool:
        """See KeyingSession."""
        return self._session.peer_speaks_ike

    @property
    def ike_spis(self) -> Collection[bytes]:
        """See KeyingSession."""
        return self._session.ike_spis

    @property
    def last_heard(self) -> float:
        """See KeyingSession."""
        return self._session.last_heard

    @property
    def unproven_refusal(self) -> SecureSocketError | None:
        """See KeyingSession."""
        return self._session.unproven_refusal

    @property
    def child_rekey_pending(self) -> bool:
        """See KeyingSession."""
        return self._session.child_rekey_pending

    @property
    def ike_rekey_pending(self) -> bool:
        """See KeyingSession."""
        return self._session.ike_rekey_pending

    def handle_acquire(self, now: float) -> None:
        """See KeyingSession."""
        self._session.handle_acquire(now)

    def handle_datagram(self, data: bytes, now: float, path: AddressPair | None = None) -> None:
        """See KeyingSession."""
        self._session.handle_datagram(data, now, path)

    def move(self, our: Address, now: float) -> bool:
        """See KeyingSession."""
        return self._session.move(our, now)

    def handle_timeout(self, now: float) -> None:
        """See KeyingSession."""
        self._session.handle_timeout(now)

    def next_deadline(self) -> float | None:
        """See KeyingSession."""
        return self._session.next_deadline()

    def rekey_child(self, now: float) -> None:
        """See KeyingSession."""
        self._session.rekey_child(now)

    def reach(self, standard: StandardHost, now: float) -> None:
        """See KeyingSession."""
        self._session.reach(standard, now)

    def rekey_ike(self, now: float) -> None:
        """See KeyingSession."""
        self._session.rekey_ike(now)

    def traffic_came(self) -> None:
        """See KeyingSession."""
        self._session.traffic_came()

    def check_liveness(self, now: float) -> None:
        """See KeyingSession."""
        self._session.check_liveness(now)

    def delete(self, now: float) -> None:
        """See KeyingSession."""
        self._session.delete(now)


def _append(path: Path, line: str) -> None:
    """What cannot be written is said and left out: who wanted to look on does not end what is looked at."""
    try:
        with _lock:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "a") as file:
                file.write(line + "\n")
    except OSError as error:
        _warn(f"{VARIABLE}: the keys of a connection were not written: {error}")
