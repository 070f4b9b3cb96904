"""The six functions of Fwpuclnt.dll for any socket: Windows' own, called as they are (ctypes).

    from securesock.winsock import native

    native.WSASetSocketSecurity(sock, SOCKET_SECURITY_SETTINGS(SecurityFlags=SOCKET_SETTINGS_GUARANTEE_ENCRYPTION))

``sock`` is any socket.socket, of TCP or UDP, or its handle.  Structures and their packed bytes mean the same, and an
answer is the structure.  The system judges everything: what it refuses is a WSAError with its code.  Calls are over
when they return; sockets of Python's are overlapped, which WSAImpersonateSocketPeer does not take: new_socket() makes
one that is not.  Elsewhere than on Windows each function is a PlaneError.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, TypeAlias

from ..planes.windows.extensions import system_extensions
from ..types import Address
from ..wire.winsock_fields import bytes_of, checked_address, pack_sockaddr_storage
from ..wire.winsock_structures import (
    QUERY_INFO_IPSEC2_LENGTH,
    SOCKET_PEER_TARGET_NAME,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_INFO_IPSEC2,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SECURITY_SETTINGS_IPSEC,
)
from .answers import QueryInfo

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    AnySocket: TypeAlias = socket.socket | int

__all__ = [
    "CloseHandle",
    "WSADeleteSocketPeerTargetName",
    "WSAImpersonateSocketPeer",
    "WSAQuerySocketSecurity",
    "WSARevertImpersonation",
    "WSASetSocketPeerTargetName",
    "WSASetSocketSecurity",
    "new_socket",
]


def new_socket(family: int = socket.AF_INET, type: int = socket.SOCK_STREAM, proto: int = 0) -> socket.socket:
    """A socket.socket that is not overlapped."""
    return socket.socket(family, type, proto, system_extensions().new_socket(family, type, proto))


def WSASetSocketSecurity(
    sock: AnySocket, settings: SOCKET_SECURITY_SETTINGS | SOCKET_SECURITY_SETTINGS_IPSEC | ReadableBuffer | None = None
) -> int:
    """Secure ``sock``; None as the system's default does; 0."""
    packed = None if settings is None else _packed(settings, "SecuritySettings")
    system_extensions().set_security(_handle(sock), packed)
    return 0


def WSAQuerySocketSecurity(
    sock: AnySocket,
    template: SOCKET_SECURITY_QUERY_TEMPLATE | SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2 | ReadableBuffer | None = None,
) -> QueryInfo:
    """What protects the connection; handles of tokens are the caller's to close, with CloseHandle of this module."""
    packed = None if template is None else _packed(template, "SecurityQueryTemplate")
    answer = system_extensions().query_security(_handle(sock), packed)
    if len(answer) >= QUERY_INFO_IPSEC2_LENGTH:
        return SOCKET_SECURITY_QUERY_INFO_IPSEC2.unpack(answer)
    return SOCKET_SECURITY_QUERY_INFO.unpack(answer)


def WSASetSocketPeerTargetName(sock: AnySocket, peer_target_name: SOCKET_PEER_TARGET_NAME | ReadableBuffer) -> int:
    """Whom ``sock`` must reach; 0."""
    system_extensions().set_peer_target_name(_handle(sock), _packed(peer_target_name, "PeerTargetName"))
    return 0


def WSADeleteSocketPeerTargetName(sock: AnySocket, peer_addr: Address | ReadableBuffer) -> int:
    """No authentication towards that address uses a name any more; 0."""
    system_extensions().delete_peer_target_name(_handle(sock), _sockaddr(peer_addr))
    return 0


def WSAImpersonateSocketPeer(sock: AnySocket, peer_addr: Address | ReadableBuffer | None = None) -> int:
    """The calling thread acts as the peer; 0.  Whoever calls this answers for the way back."""
    address = None if peer_addr is None else _sockaddr(peer_addr)
    system_extensions().impersonate_peer(_handle(sock), address)
    return 0


def WSARevertImpersonation() -> int:
    """The calling thread acts as itself again; 0."""
    system_extensions().revert_impersonation()
    return 0


def CloseHandle(handle: int) -> int:
    """End a token's handle; 1, as Windows' TRUE."""
    system_extensions().close_handle(handle)
    return 1


def _handle(sock: AnySocket) -> int:
    return sock if isinstance(sock, int) else socket.socket.fileno(sock)


def _packed(
    given: SOCKET_SECURITY_SETTINGS
    | SOCKET_SECURITY_SETTINGS_IPSEC
    | SOCKET_SECURITY_QUERY_TEMPLATE
    | SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2
    | SOCKET_PEER_TARGET_NAME
    | ReadableBuffer,
    name: str,
) -> bytes:
    if isinstance(
        given,
        SOCKET_SECURITY_SETTINGS
        | SOCKET_SECURITY_SETTINGS_IPSEC
        | SOCKET_SECURITY_QUERY_TEMPLATE
        | SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2
        | SOCKET_PEER_TARGET_NAME,
    ):
        return given.pack()
    return bytes_of(given, name)


def _sockaddr(given: Address | ReadableBuffer) -> bytes:
    if isinstance(given, tuple):
        return pack_sockaddr_storage(checked_address(given, "PeerAddr"))
    return bytes_of(given, "PeerAddr")
