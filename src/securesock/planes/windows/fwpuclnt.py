"""Fwpuclnt.dll by ctypes: the six functions that Windows exports there, and a few of its neighbours.

Signatures are those of ws2tcpip.h, winsock2.h, processthreadsapi.h and winbase.h.  The DLLs are looked for in the
system's folder alone, so that nothing beside a program can stand in for them.  A call that fails leaves its reason in
the thread's last error, which ctypes keeps aside at once (use_last_error), and becomes a WSAError with that code.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, byref, c_int, c_ulong, c_void_p, c_wchar_p, create_string_buffer, create_unicode_buffer
from typing import TYPE_CHECKING, Any, Final

from ...errors import PlaneError
from ...wire.winsock_errors import WSAError, WSAErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Fwpuclnt"]

if sys.platform == "win32":
    _SEARCH_SYSTEM32: Final = 0x800  # LOAD_LIBRARY_SEARCH_SYSTEM32, libloaderapi.h
    _INVALID_SOCKET: Final = c_void_p(-1).value
    _NO_HANDLE_INHERIT: Final = 0x80  # WSA_FLAG_NO_HANDLE_INHERIT; without WSA_FLAG_OVERLAPPED (0x01)
    _TOKEN_USER: Final = 1  # TOKEN_INFORMATION_CLASS, winnt.h
    _MOST_NAME: Final = 256 + 1  # UNLEN of lmcons.h; domains are shorter
    _TRIES: Final = 4  # an answer may grow between asking for its size and asking for it, but not for ever

    class Fwpuclnt:
        """See SocketExtensions.  PlaneError: a Windows without these functions (they came with Vista)."""

        def __init__(self) -> None:
            library = _load("fwpuclnt.dll")
            sockets, advapi, kernel = _load("ws2_32.dll"), _load("advapi32.dll"), _load("kernel32.dll")
            handle, buffer, size = c_void_p, c_void_p, c_ulong
            later = (c_void_p, c_void_p)  # LPWSAOVERLAPPED, LPWSAOVERLAPPED_COMPLETION_ROUTINE
            self._set = _function(library, "WSASetSocketSecurity", handle, buffer, size, *later)
            self._query = _function(
                library, "WSAQuerySocketSecurity", handle, buffer, size, buffer, POINTER(size), *later
            )
            self._name = _function(library, "WSASetSocketPeerTargetName", handle, buffer, size, *later)
            self._forget = _function(library, "WSADeleteSocketPeerTargetName", handle, buffer, size, *later)
            self._impersonate = _function(library, "WSAImpersonateSocketPeer", handle, buffer, size)
            self._revert = _function(library, "WSARevertImpersonation")
            self._socket = _function(sockets, "WSASocketW", c_int, c_int, c_int, c_void_p, c_ulong, c_ulong)
            self._socket.restype = c_void_p
            self._token = _function(advapi, "GetTokenInformation", handle, c_int, buffer, size, POINTER(size))
            self._account = _function(
                advapi, "LookupAccountSidW", c_wchar_p, c_void_p, c_wchar_p, POINTER(size), c_wchar_p, POINTER(size),
                POINTER(c_int),
            )  # fmt: skip
            self._close = _function(kernel, "CloseHandle", handle)

        def new_socket(self, family: int, kind: int, proto: int) -> int:
            """See SocketExtensions."""
            made: int | None = self._socket(family, kind, proto, None, 0, _NO_HANDLE_INHERIT)
            if made is None or made == _INVALID_SOCKET:
                raise _failure("WSASocket")
            return made

        def set_security(self, handle: int, settings: bytes | None) -> None:
            """See SocketExtensions."""
            self._call("WSASetSocketSecurity", self._set, handle, settings, _length(settings), None, None)

        def query_security(self, handle: int, template: bytes | None) -> bytes:
            """See SocketExtensions.

            Asking for the size is WSAEFAULT or WSAEMSGSIZE, by whether there is a template; both were seen.
            """
            room = c_ulong(0)
            answer: ctypes.Array[ctypes.c_char] | None = None
            for _ in range(_TRIES):
                if not self._query(handle, template, _length(template), answer, byref(room), None, None):
                    return b"" if answer is None else answer.raw[: room.value]
                error = ctypes.get_last_error()
                is_size = error in (WSAErrorCode.WSAEFAULT, WSAErrorCode.WSAEMSGSIZE)
                if not is_size or not room.value or (answer is not None and room.value <= len(answer)):
                    break
                answer = create_string_buffer(room.value)
            raise _failure("WSAQuerySocketSecurity")

        def set_peer_target_name(self, handle: int, name: bytes) -> None:
            """See SocketExtensions."""
            self._call("WSASetSocketPeerTargetName", self._name, handle, name, len(name), None, None)

        def delete_peer_target_name(self, handle: int, address: bytes) -> None:
            """See SocketExtensions."""
            self._call("WSADeleteSocketPeerTargetName", self._forget, handle, address, len(address), None, None)

        def impersonate_peer(self, handle: int, address: bytes | None) -> None:
            """See SocketExtensions."""
            self._call("WSAImpersonateSocketPeer", self._impersonate, handle, address, _length(address))

        def revert_impersonation(self) -> None:
            """See SocketExtensions."""
            self._call("WSARevertImpersonation", self._revert)

        def account_of(self, token: int) -> str:
            """See SocketExtensions.  TOKEN_USER begins with a pointer to the SID."""
            needed = c_ulong(0)
            self._token(token, _TOKEN_USER, None, 0, byref(needed))
            user = create_string_buffer(max(needed.value, ctypes.sizeof(c_void_p)))
            if not self._token(token, _TOKEN_USER, user, len(user), byref(needed)):
                raise _failure("GetTokenInformation")
            name, domain = create_unicode_buffer(_MOST_NAME), create_unicode_buffer(_MOST_NAME)
            lengths = c_ulong(_MOST_NAME), c_ulong(_MOST_NAME)
            sid = c_void_p.from_buffer(user)
            found = self._account(None, sid, name, byref(lengths[0]), domain, byref(lengths[1]), byref(c_int()))
            if not found:
                raise _failure("LookupAccountSid")
            return f"{domain.value}\\{name.value}" if domain.value else name.value

        def close_handle(self, handle: int) -> None:
            """See SocketExtensions."""
            if not self._close(handle):
                raise _failure("CloseHandle")

        def _call(self, name: str, function: Callable[..., int], *arguments: object) -> None:
            if function(*arguments):
                raise _failure(name)

    def _load(name: str) -> ctypes.WinDLL:
        try:
            return ctypes.WinDLL(name, use_last_error=True, winmode=_SEARCH_SYSTEM32)
        except OSError as error:
            raise PlaneError(f"{name} cannot be loaded: {error}") from error

    def _function(library: ctypes.WinDLL, name: str, *arguments: Any) -> Any:
        try:
            found = getattr(library, name)
        except AttributeError:
            raise PlaneError(f"this Windows has no {name}: the Secure Socket Extensions came with Vista") from None
        found.argtypes, found.restype = arguments, c_int
        return found

    def _length(data: bytes | None) -> int:
        return 0 if data is None else len(data)

    def _failure(function: str) -> WSAError:
        error = ctypes.get_last_error()
        return WSAError(error, f"{function} failed: {ctypes.FormatError(error).strip()}")
