"""The system's own errors, in its own words, where a call of ours finds one instead of raising it.

It must not know what was called.
"""

from __future__ import annotations

import os
import socket

__all__ = ["system_error"]


def system_error(number: int) -> OSError:
    """The OSError of an error number, of the class that belongs to it.

    On Windows the numbers of sockets are Winsock's, which only the socket module has words for (socket.errorTab).
    """
    words: dict[int, str] = getattr(socket, "errorTab", {})
    return OSError(number, words.get(number) or os.strerror(number))
