"""Token handles of the Winsock surface: what a query with a PeerTokenAccessMask hands out, and CloseHandle.

A handle is this process's, and a child begins without its parent's.  Source: Microsoft's pages on
SOCKET_SECURITY_QUERY_INFO and CloseHandle; the two functions in small letters are ours, as no page of the secure socket
extensions says what a program reads from a token.
"""

from __future__ import annotations

from typing import Final

from ..engine.fork import in_child
from ..identity.tokens import PeerToken, TokenTable
from ..wire.winsock_errors import WSAError, WSAErrorCode
from ..wire.winsock_numbers import TOKEN_QUERY

__all__ = ["CloseHandle", "open_token", "open_token_handles", "peer_token"]

# winnt.h: rights that stand for others, TOKEN_QUERY among them
_MAXIMUM_ALLOWED: Final = 0x0200_0000
_GENERIC_READ: Final = 0x8000_0000
_GENERIC_ALL: Final = 0x1000_0000
_MAY_QUERY: Final = int(TOKEN_QUERY) | _MAXIMUM_ALLOWED | _GENERIC_READ | _GENERIC_ALL

_table: Final = TokenTable()
in_child(_table.close_all)
open_token: Final = _table.open


def CloseHandle(handle: int) -> int:
    """End a token handle; 1, as Windows' TRUE.  WSA_INVALID_HANDLE: it is none, or closed already."""
    if not _table.close(handle):
        raise WSAError(WSAErrorCode.WSA_INVALID_HANDLE, f"{handle!r} is no open token handle")
    return 1


def peer_token(handle: int) -> PeerToken:
    """Who is behind a token handle: a principal, and the token that security descriptors judge.

    WSA_INVALID_HANDLE: it is none, or closed.  WSAEACCES: it was asked for without TOKEN_QUERY.
    """
    token = _table.find(handle)
    if token is None:
        raise WSAError(WSAErrorCode.WSA_INVALID_HANDLE, f"{handle!r} is no open token handle")
    if not token.access & _MAY_QUERY:
        raise WSAError(WSAErrorCode.WSAEACCES, "the handle was asked for without TOKEN_QUERY")
    return token


def open_token_handles() -> int:
    """How many handles this process has not closed yet; a server that forgets CloseHandle sees it grow."""
    return sum(_table.counts().values())
