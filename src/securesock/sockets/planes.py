"""Which plane carries a socket: the choice is made by what a plane can do, never by a platform's name.

A plane is loaded with the first socket (rooms), and not with the names of this package.
"""

from __future__ import annotations

import errno
from functools import cache
from typing import TYPE_CHECKING

from ..errors import PlaneError

if TYPE_CHECKING:
    from ..engine.context import PlaneName
    from ..engine.ports import DatagramKeying, SecuredDatagrams, StreamPlane

__all__ = ["check_datagram_plane", "datagram_machine", "stream_plane"]


@cache
def _user_space_streams() -> StreamPlane:
    from .userspace import UserSpaceStreams  # brings all of IKEv2 and ESP

    return UserSpaceStreams()


def stream_plane(asked: PlaneName) -> StreamPlane:
    """The plane for a TCP socket; PlaneError where the one asked for is not to be had."""
    if asked not in ("auto", "userspace"):
        raise PlaneError(
            f"the plane {asked!r} cannot carry a TCP socket here: use plane='auto'", errno=errno.EPROTONOSUPPORT
        )
    return _user_space_streams()


def check_datagram_plane(asked: PlaneName) -> None:
    """PlaneError where the plane asked for cannot carry a UDP socket."""
    if asked not in ("auto", "userspace"):
        raise PlaneError(
            f"the plane {asked!r} cannot carry a UDP socket here: use plane='auto'", errno=errno.EPROTONOSUPPORT
        )


def datagram_machine(asked: PlaneName, keying: DatagramKeying, allow_insecure: bool) -> SecuredDatagrams:
    """What carries a UDP socket's datagrams protected; PlaneError where the plane asked for is not to be had."""
    check_datagram_plane(asked)
    # a TCP socket needs neither
    from ..planes.userspace.datagram import UserSpaceDatagrams
    from .watched import watch_resting

    machine = UserSpaceDatagrams(keying, allow_insecure=allow_insecure)
    watch_resting(machine)
    return machine
