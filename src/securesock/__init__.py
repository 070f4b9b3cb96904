"""securesock: IPsec for one socket, in three lines of Python.

    with securesock.create_connection(("db.example", 7000), peer="host/db.example") as sock:
        sock.sendall(b"hello")
        print(sock.query_security().peer_machine)

The public names are here, each once.  What needs cryptography is imported when it is first used, so that a program
which only handles errors or settings starts as fast as before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from .errors import (
    AuthenticationFailed,
    ConnectionBroken,
    KeyingTimeout,
    LocalMisuse,
    PeerIncompatible,
    PeerMisbehaved,
    PlaneError,
    PolicyRefused,
    SecureSocketError,
    StreamTruncated,
    WantRead,
    WantWrite,
)
from .types import (
    ANY_TRUSTED_PEER,
    Address,
    AnyTrustedPeer,
    IPsecSettings,
    Principal,
    SecurityInfo,
    SecuritySettings,
)

if TYPE_CHECKING:
    from . import policy, winsock
    from .engine.context import SecurityContext, default_context
    from .engine.peer_entry import PeerEntry
    from .identity.identity import Identity
    from .identity.ppk import Ppk
    from .identity.users import NtHash, Users
    from .sockets import aio
    from .sockets.ancillary import SCM_PRINCIPAL, SCM_SA_ID, SOL_SECURESOCK
    from .sockets.connection import create_connection, create_server
    from .sockets.stream_socket import SecureSocket

__version__ = "0.1.0"

__all__ = [
    "ANY_TRUSTED_PEER",
    "Address",
    "AnyTrustedPeer",
    "AuthenticationFailed",
    "ConnectionBroken",
    "IPsecSettings",
    "Identity",
    "KeyingTimeout",
    "LocalMisuse",
    "NtHash",
    "PeerEntry",
    "PeerIncompatible",
    "PeerMisbehaved",
    "PlaneError",
    "PolicyRefused",
    "Ppk",
    "Principal",
    "SCM_PRINCIPAL",
    "SCM_SA_ID",
    "SOL_SECURESOCK",
    "SecureSocket",
    "SecureSocketError",
    "SecurityContext",
    "SecurityInfo",
    "SecuritySettings",
    "StreamTruncated",
    "Users",
    "WantRead",
    "WantWrite",
    "aio",
    "create_connection",
    "create_server",
    "default_context",
    "policy",
    "winsock",
]

_LATER: Final = {
    "Identity": ".identity.identity",
    "NtHash": ".identity.users",
    "PeerEntry": ".engine.peer_entry",
    "Ppk": ".identity.ppk",
    "SCM_PRINCIPAL": ".sockets.ancillary",
    "SCM_SA_ID": ".sockets.ancillary",
    "SOL_SECURESOCK": ".sockets.ancillary",
    "SecureSocket": ".sockets.stream_socket",
    "SecurityContext": ".engine.context",
    "Users": ".identity.users",
    "create_connection": ".sockets.connection",
    "create_server": ".sockets.connection",
    "default_context": ".engine.context",
}
_MODULES_LATER: Final = {"aio": ".sockets.aio", "policy": ".policy", "testing": ".testing", "winsock": ".winsock"}


if not TYPE_CHECKING:  # a checker that saw it would take every misspelt name for an object

    def __getattr__(name: str) -> object:
        value: object
        if name in _MODULES_LATER:
            value = import_module(_MODULES_LATER[name], __name__)
        elif name in _LATER:
            value = getattr(import_module(_LATER[name], __name__), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
