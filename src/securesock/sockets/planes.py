"""Which plane carries a socket: the choice is made by what a plane can do, never by a platform's name."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from ..drivers.keylog import KeyLoggingSession, keylog_folder
from ..engine.context import PlaneName
from ..engine.ports import DatagramKeying, SecuredDatagrams, SecuredStream, StreamPlane
from ..entropy import SystemEntropy
from ..errors import PlaneError
from ..keying.contract import KeyingConfig
from ..planes.userspace.datagram import UserSpaceDatagrams
from ..planes.userspace.stream import StreamConnection
from .watched import WatchedSession, watch_resting

__all__ = ["datagram_machine", "stream_plane"]


class _UserSpaceStreams:
    """IKEv2 and ESP in this process, on the application's own TCP connection."""

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


_STREAM_PLANES: Final[Mapping[str, StreamPlane]] = MappingProxyType({"userspace": _UserSpaceStreams()})


def stream_plane(asked: PlaneName) -> StreamPlane:
    """The plane for a TCP socket; PlaneError where the one asked for is not to be had."""
    plane = _STREAM_PLANES.get("userspace" if asked == "auto" else asked)
    if plane is None:
        raise PlaneError(
            f"the plane {asked!r} cannot carry a TCP socket here: use plane='auto'", errno=errno.EPROTONOSUPPORT
        )
    return plane


def datagram_machine(asked: PlaneName, keying: DatagramKeying, allow_insecure: bool) -> SecuredDatagrams:
    """What carries a UDP socket's datagrams protected; PlaneError where the plane asked for is not to be had."""
    if asked not in ("auto", "userspace"):
        raise PlaneError(
            f"the plane {asked!r} cannot carry a UDP socket here: use plane='auto'", errno=errno.EPROTONOSUPPORT
        )
    machine = UserSpaceDatagrams(keying, allow_insecure=allow_insecure)
    watch_resting(machine)
    return machine
