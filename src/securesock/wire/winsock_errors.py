"""WSAError: what the Winsock surface raises, by the code that Windows' documentation gives.

Beside the structures because reading a hostile one raises it.  It must not know sockets: it is a table of codes and an
exception.  Source: winerror.h; which function returns which code is the business of ``winsock``.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import Final

from ..errors import SecureSocketError

__all__ = [
    "WSAEACCES",
    "WSAEAFNOSUPPORT",
    "WSAECONNRESET",
    "WSAEFAULT",
    "WSAEINVAL",
    "WSAEISCONN",
    "WSAEMSGSIZE",
    "WSAENOTCONN",
    "WSAENOTSOCK",
    "WSAEOPNOTSUPP",
    "WSAError",
    "WSAErrorCode",
    "WSASYSCALLFAILURE",
    "WSA_INVALID_HANDLE",
    "WSA_IO_PENDING",
    "WSA_OPERATION_ABORTED",
]


class WSAErrorCode(IntEnum):
    """The codes of winerror.h that the secure socket extensions use, under their own names."""

    WSA_INVALID_HANDLE = 6
    WSA_OPERATION_ABORTED = 995
    WSA_IO_PENDING = 997
    WSAEACCES = 10013
    WSAEFAULT = 10014
    WSAEINVAL = 10022
    WSAENOTSOCK = 10038
    WSAEMSGSIZE = 10040
    WSAEOPNOTSUPP = 10045
    WSAEAFNOSUPPORT = 10047
    WSAECONNRESET = 10054
    WSAEISCONN = 10056
    WSAENOTCONN = 10057
    WSASYSCALLFAILURE = 10107


WSA_INVALID_HANDLE: Final = WSAErrorCode.WSA_INVALID_HANDLE
WSA_OPERATION_ABORTED: Final = WSAErrorCode.WSA_OPERATION_ABORTED
WSA_IO_PENDING: Final = WSAErrorCode.WSA_IO_PENDING
WSAEACCES: Final = WSAErrorCode.WSAEACCES
WSAEFAULT: Final = WSAErrorCode.WSAEFAULT
WSAEINVAL: Final = WSAErrorCode.WSAEINVAL
WSAENOTSOCK: Final = WSAErrorCode.WSAENOTSOCK
WSAEMSGSIZE: Final = WSAErrorCode.WSAEMSGSIZE
WSAEOPNOTSUPP: Final = WSAErrorCode.WSAEOPNOTSUPP
WSAEAFNOSUPPORT: Final = WSAErrorCode.WSAEAFNOSUPPORT
WSAECONNRESET: Final = WSAErrorCode.WSAECONNRESET
WSAEISCONN: Final = WSAErrorCode.WSAEISCONN
WSAENOTCONN: Final = WSAErrorCode.WSAENOTCONN
WSASYSCALLFAILURE: Final = WSAErrorCode.WSASYSCALLFAILURE

_ERRNO: Final[dict[int, int]] = {
    WSAErrorCode.WSA_INVALID_HANDLE: errno.EBADF,
    WSAErrorCode.WSA_OPERATION_ABORTED: errno.ECANCELED,
    WSAErrorCode.WSA_IO_PENDING: errno.EINPROGRESS,
    WSAErrorCode.WSAEACCES: errno.EACCES,
    WSAErrorCode.WSAEFAULT: errno.EFAULT,
    WSAErrorCode.WSAEINVAL: errno.EINVAL,
    WSAErrorCode.WSAENOTSOCK: errno.ENOTSOCK,
    WSAErrorCode.WSAEMSGSIZE: errno.EMSGSIZE,
    WSAErrorCode.WSAEOPNOTSUPP: errno.EOPNOTSUPP,
    WSAErrorCode.WSAEAFNOSUPPORT: errno.EAFNOSUPPORT,
    WSAErrorCode.WSAECONNRESET: errno.ECONNRESET,
    WSAErrorCode.WSAEISCONN: errno.EISCONN,
    WSAErrorCode.WSAENOTCONN: errno.ENOTCONN,
    WSAErrorCode.WSASYSCALLFAILURE: errno.EIO,
}


class WSAError(SecureSocketError):
    """A Winsock call that failed: ``winerror`` is what WSAGetLastError() would return, ``errno`` its POSIX twin.

    A code that only Windows itself has told (the native plane) is kept as it is, with errno EIO.
    ``needed_length``: bytes that the answer needs, where a buffer was too small or none was given; else None.
    """

    def __init__(self, code: int, message: str, *, needed_length: int | None = None) -> None:
        name = WSAErrorCode(code).name if code in _ERRNO else "Windows error"
        super().__init__(f"{name} ({int(code)}): {message}", errno=_ERRNO.get(code, errno.EIO))
        self.winerror: int = code
        self.needed_length = needed_length

    def _state(self) -> dict[str, object]:
        # On Windows winerror is a slot of OSError's own, and its type knows better than __dict__.
        return super()._state() | {"winerror": self.winerror}
