"""What sockets come to need, loaded before it is needed.

A name brings little of this package; the first socket that is made brings all that sockets of its kind use, and before
it connects, listens or is bound, what its context asks for beyond that.  So everything is there when a service has
given up its rights or its root directory, or a thread acts as an account that may not read these files.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final

from ..engine.user import proves_a_user

if TYPE_CHECKING:
    from ..engine.context import SecurityContext
    from ..types import SecuritySettings

__all__ = ["load_for", "load_for_aio", "load_for_datagrams", "load_for_streams"]

# the first key exchange writes a key, the first reactor starts as whoever the process is
_ANYHOW: Final = ("cryptography.hazmat.primitives.serialization", "..identity.impersonation")
_STREAMS: Final = ("..planes.userspace.stream", ".attempt", ".listener", ".opening", ".userspace")
_AIO: Final = ("..planes.userspace.stream", ".aio_admitting", ".aio_opening", ".userspace")
_DATAGRAMS: Final = ("..planes.userspace.datagram", ".watched")
_USERS: Final = ("..keying.eap.mschapv2", "..keying.ikev2.eap_auth")


@cache
def load_for_streams() -> None:
    """For TCP sockets, whether they connect or listen."""
    _load_anyhow()
    _load(*_STREAMS)


@cache
def load_for_aio() -> None:
    """For asyncio's connections and servers."""
    _load_anyhow()
    _load(*_AIO)


@cache
def load_for_datagrams() -> None:
    """For UDP sockets."""
    _load_anyhow()
    _load(*_DATAGRAMS)


def load_for(context: SecurityContext, settings: SecuritySettings) -> None:
    """What these ask for: users, tickets."""
    if context.users is not None or proves_a_user(context, settings):
        _load(*_USERS)
        from ..crypto.mschap import be_ready

        # of the extra for users; where it is lacking the negotiation says so
        with suppress(ImportError):
            be_ready()
        with suppress(ImportError):
            _load("..keying.eap.tls")
    if context.tickets is not None:
        _load("..keying.ikev2.resumption")


def _load_anyhow() -> None:
    _load(*_ANYHOW)
    with suppress(ImportError):  # a library without it has one key exchange less
        _load("..crypto.modp")


def _load(*rooms: str) -> None:
    for room in rooms:
        import_module(room, __package__)
