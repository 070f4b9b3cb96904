"""A byte string that is never shown, compared, copied or pickled by accident.

Python cannot promise that no copy of a secret exists (a caller's str, a library's
buffer); this class promises that ours is shown by nothing and is overwritten by
``wipe``.  This module imports nothing of ours.
"""

from __future__ import annotations

import hmac
from typing import NoReturn

__all__ = ["Secret"]


class Secret:
    """Holds bytes; ``reveal()`` is the only way to read them.

    Truth is whether it holds any bytes.  ``==`` is refused on purpose: use
    ``matches``, which takes constant time.
    """

    __slots__ = ("__weakref__", "_bytes")

    def __init__(self, value: bytes | bytearray | str | Secret = b"") -> None:
        if isinstance(value, Secret):
            value = value.reveal()
        if not isinstance(value, (bytes, bytearray, str)):
            # bytearray(32) is no error but 32 zeros, which would be a secret that everybody knows
            raise TypeError(f"a secret is bytes or text, not {type(value).__name__}")
        self._bytes: bytearray = bytearray(value.encode() if isinstance(value, str) else value)

    def reveal(self) -> bytes:
        """The bytes themselves.  The caller keeps the copy away from logs and errors."""
        return bytes(self._bytes)

    def matches(self, other: bytes | Secret) -> bool:
        """Constant-time comparison."""
        return hmac.compare_digest(self._bytes, other._bytes if isinstance(other, Secret) else other)

    def wipe(self) -> None:
        """Overwrite our copy with zeros, then forget its length."""
        self._bytes[:] = bytes(len(self._bytes))
        self._bytes.clear()

    def __len__(self) -> int:
        return len(self._bytes)

    def __bool__(self) -> bool:
        return bool(self._bytes)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Secret):
            raise TypeError("secrets are not compared with ==; use matches()")
        return NotImplemented

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")

    def __copy__(self) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")
