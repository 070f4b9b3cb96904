"""The user-space plane of TCP sockets: a keying session of ours and the stream that it keys.

A room of its own, because it brings all of IKEv2 and ESP: it is loaded with the first socket (rooms), and not by
whoever only names SecureSocket.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..drivers.keylog import KeyLoggingSession, keylog_folder
from ..entropy import SystemEntropy
from ..planes.userspace.stream import StreamConnection
from .watched import WatchedSession

if TYPE_CHECKING:
    from ..engine.ports import SecuredStream
    from ..keying.contract import KeyingConfig

__all__ = ["UserSpaceStreams"]


class UserSpaceStreams:
    """IKEv2 and ESP in this process, on the application's own TCP connection (engine.ports.StreamPlane)."""

    name = "userspace"

    def __init__(self) -> None:
        self._entropy = SystemEntropy()

    def make_stream(self, config: KeyingConfig) -> SecuredStream:
        """See StreamPlane."""
        folder = keylog_folder()
        session = WatchedSession(config if folder is None else replace(config, log_keys=True), self._entropy)
        keying = session if folder is None else KeyLoggingSession(session, folder)
        stream = StreamConnection(keying, config.role)
        session.carried_by(stream)
        return stream
