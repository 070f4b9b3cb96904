"""A fake of the system's socket extensions, for unit tests: remembers what it is told and answers as it is set."""

from __future__ import annotations

import socket

from securesock.wire.winsock_errors import WSAError
from securesock.wire.winsock_structures import SOCKET_SECURITY_QUERY_INFO, SOCKET_SECURITY_QUERY_INFO_IPSEC2

__all__ = ["FakeExtensions"]


class FakeExtensions:
    """See planes.windows.extensions.SocketExtensions.  ``failures`` are the codes of the calls to come, in order."""

    def __init__(self, answer: SOCKET_SECURITY_QUERY_INFO | SOCKET_SECURITY_QUERY_INFO_IPSEC2) -> None:
        self.answer = answer
        self.failures: list[int] = []
        self.told: list[tuple[str, bytes | None]] = []
        self.templates: list[bytes | None] = []
        self.closed: list[int] = []
        self.unknown_tokens: set[int] = set()

    def _note(self, call: str, data: bytes | None) -> None:
        self.told.append((call, data))
        if self.failures:
            raise WSAError(self.failures.pop(0), f"{call} failed")

    def new_socket(self, family: int, kind: int, proto: int) -> int:
        return socket.socket(family, kind, proto).detach()

    def set_security(self, handle: int, settings: bytes | None) -> None:
        self._note("set_security", settings)

    def query_security(self, handle: int, template: bytes | None) -> bytes:
        self.templates.append(template)
        self._note("query_security", template)
        return self.answer.pack()

    def set_peer_target_name(self, handle: int, name: bytes) -> None:
        self._note("set_peer_target_name", name)

    def delete_peer_target_name(self, handle: int, address: bytes) -> None:
        self._note("delete_peer_target_name", address)

    def impersonate_peer(self, handle: int, address: bytes | None) -> None:
        self._note("impersonate_peer", address)

    def revert_impersonation(self) -> None:
        self._note("revert_impersonation", None)

    def account_of(self, token: int) -> str:
        if token in self.unknown_tokens:
            raise WSAError(1332, "no account")  # ERROR_NONE_MAPPED
        return f"EXAMPLE\\token{token}"

    def close_handle(self, handle: int) -> None:
        self.closed.append(handle)
