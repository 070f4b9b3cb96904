"""Who may connect: what keying asks once it knows who the peer is.

A small room, since sockets name its values long before anything is negotiated.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..types import Principal

__all__ = ["Admission", "AdmitAnyTrusted"]


class Admission(Protocol):
    """Who may connect; asked with the proven principal before the authentication reply goes out.

    ``pins`` are the keys ("sha256:...") whose holders need no chain to a trust anchor.
    """

    @property
    def pins(self) -> Collection[str]:
        """The pinned keys, none where there is no list."""
        ...

    def refusal(self, principal: Principal) -> str | None:
        """Why this principal is refused, for our own log; None admits it."""
        ...


class AdmitAnyTrusted:
    """Any principal that the identity's trust anchors or secrets vouch for."""

    @property
    def pins(self) -> Collection[str]:
        """No key stands for itself here."""
        return ()

    def refusal(self, principal: Principal) -> str | None:
        """Admits everybody who was proven; anonymous peers are the keying policy's matter."""
        return None
