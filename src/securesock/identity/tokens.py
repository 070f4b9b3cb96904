"""Tokens of peers behind handles: who a peer proved to be, held open until somebody closes it.

On Windows a query hands out kernel handles that the caller owns.  Here a handle is a number in a table of this process,
with the same duties: each is closed once, the rest with the process, and what is never closed shows in a count.  It
must not know sockets, nor what a caller does with a token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

from ..policy.access import Token
from ..types import Principal

__all__ = ["PeerToken", "TokenTable"]

_STEP = 4  # handles of Windows are multiples of four, and callers use the two low bits for marks of their own


@dataclass(frozen=True, slots=True)
class PeerToken:
    """A principal as it was proven when the token was made, and what the handle may be used for (TOKEN_QUERY ...)."""

    principal: Principal
    access: int

    @property
    def access_token(self) -> Token:
        """As security descriptors know it: ``allow("host/*.example").admits(token.access_token)``."""
        return Token((self.principal.name,))


class TokenTable:
    """The open handles of a process.  Any thread may use it: each step is one operation on a dict."""

    def __init__(self) -> None:
        self._open: dict[int, PeerToken] = {}
        self._numbers = count(_STEP, _STEP)

    def open(self, principal: Principal | None, access: int) -> int:
        """A new handle, never one that was used before; 0 for nobody, and for an anonymous peer, who has no token."""
        if principal is None or principal.method == "anonymous":
            return 0
        handle = next(self._numbers)
        self._open[handle] = PeerToken(principal, access)
        return handle

    def find(self, handle: int) -> PeerToken | None:
        """What is behind an open handle."""
        return self._open.get(handle)

    def close(self, handle: int) -> bool:
        """False for a handle that is closed already or never was one."""
        return self._open.pop(handle, None) is not None

    def close_all(self) -> None:
        """As the end of a process does; a child begins without its parent's."""
        self._open.clear()

    def counts(self) -> Mapping[str, int]:
        """How many are open, by the principal's kind."""
        return Counter(token.principal.kind for token in tuple(self._open.values()))
