"""The ciphers that are kept of rows (resting_openers), by numbers: a row holds its own, and a packet finds the cipher,
and whose it is, without a way to memory: both lists are short.

A number is its row's until the row gives it back, also when the cipher was let go meanwhile, which any thread may do:
whoever owns the table clears the number when a packet of the row comes, and of those that are silent all at once.
It must not know what a row is, nor which ciphers are worth keeping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ...sad.ciphers import CIPHERS, MAX_CIPHERS
from ...types import Principal

__all__ = ["KeptCiphers"]

MAX_NUMBERS: Final = 2 * MAX_CIPHERS
"""Half of them at least are without a cipher, before those are cleared; they fit into 16 bits."""


class _Holder:
    """See ciphers.CipherHolder.  ``number`` 0: it has given it back."""

    __slots__ = ("_ready", "_used", "number", "owner")

    def __init__(self, of: KeptCiphers, number: int, owner: int) -> None:
        # not ``of`` itself, which the queue would keep alive when its socket is gone
        self._ready = of.ready
        self._used = of.used
        self.number = number
        self.owner = owner

    @property
    def ready(self) -> AESGCM | ChaCha20Poly1305 | None:
        return self._ready[self.number]

    def was_used(self) -> bool:
        was, self._used[self.number] = self._used[self.number], 0
        return bool(was)

    def let_go(self) -> None:
        self._ready[self.number] = None


class KeptCiphers:
    """Of one table.  ``ready`` by number, None where the cipher was let go and for number 0, which is nobody's; who
    uses one writes 1 to ``used``.  ``principals``: whose it is.  ``clear`` is told an owner whose number is no more."""

    def __init__(self, clear: Callable[[int], None]) -> None:
        self.ready: list[AESGCM | ChaCha20Poly1305 | None] = [None]
        self.used = bytearray(1)
        self.principals: list[Principal | None] = [None]
        self._holders: list[_Holder | None] = [None]
        self._free: list[int] = []
        self._clear = clear

    def keep(self, cipher: AESGCM | ChaCha20Poly1305, owner: int, principal: Principal | None) -> int:
        """Its number.  ``clear`` may be called for others."""
        if not self._free and len(self.ready) > MAX_NUMBERS:
            for each in filter(None, self._holders):
                if each.ready is None:
                    self._clear(each.owner)
                    self.give_back(each.number)
        if self._free:
            number = self._free.pop()
        else:
            number = len(self.ready)
            self.ready.append(None)
            self.used.append(0)
            self.principals.append(None)
            self._holders.append(None)
        self.ready[number], self.used[number], self.principals[number] = cipher, 0, principal
        holder = self._holders[number] = _Holder(self, number, owner)
        CIPHERS.enqueue(holder)
        return number

    def give_back(self, number: int) -> None:
        """Its owner has forgotten it, whether the cipher is still kept or not."""
        holder = self._holders[number]
        if holder is not None:
            CIPHERS.drop(holder)
            holder.number, self._holders[number], self.principals[number] = 0, None, None
            self._free.append(number)
