"""The Secure Socket Extensions of the system at hand, as the rest of the package sees them: handles and packed bytes.

Nothing here is about a platform; what calls the system is ``fwpuclnt``, and where there is no such system asking for
it is a PlaneError.  It must not know sockets of ours, settings, nor what becomes of an answer.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Protocol

from ...errors import PlaneError

__all__ = ["SocketExtensions", "system_extensions"]


class SocketExtensions(Protocol):
    """The six functions of ws2tcpip.h, and what else it takes to use them.  Failures are WSAErrors with their code.

    ``handle`` is a SOCKET.  Everything is done when a call returns: no OVERLAPPED is ever handed to the system.
    """

    def new_socket(self, family: int, kind: int, proto: int) -> int:
        """A socket that is not overlapped, as WSAImpersonateSocketPeer demands; not inherited by child processes."""
        ...

    def set_security(self, handle: int, settings: bytes | None) -> None:
        """WSASetSocketSecurity; None is the system's default."""
        ...

    def query_security(self, handle: int, template: bytes | None) -> bytes:
        """WSAQuerySocketSecurity: asked for the size, then for the answer."""
        ...

    def set_peer_target_name(self, handle: int, name: bytes) -> None:
        """WSASetSocketPeerTargetName."""
        ...

    def delete_peer_target_name(self, handle: int, address: bytes) -> None:
        """WSADeleteSocketPeerTargetName, with the bytes of a sockaddr."""
        ...

    def impersonate_peer(self, handle: int, address: bytes | None) -> None:
        """WSAImpersonateSocketPeer: the calling thread acts as the peer from now on."""
        ...

    def revert_impersonation(self) -> None:
        """WSARevertImpersonation."""
        ...

    def account_of(self, token: int) -> str:
        """Whose token a handle is: "DOMAIN\\NAME"."""
        ...

    def close_handle(self, handle: int) -> None:
        """CloseHandle."""
        ...


@cache
def system_extensions() -> SocketExtensions:
    """Those of this system; PlaneError where it has none."""
    if sys.platform == "win32":
        from .fwpuclnt import Fwpuclnt

        return Fwpuclnt()
    raise PlaneError(
        "this system has no Secure Socket Extensions of its own: plane='windows' is for Windows, leave it out elsewhere"
    )
