"""WSAIoctl, for the four control codes that the functions are wrappers of on Windows.

The same calls in the other form: it must not add a rule of its own.  Source: Microsoft's page on WSAIoctl; mstcpip.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, cast, overload

from ..sockets.stream_socket import SecureSocket
from ..wire.winsock_errors import WSAError, WSAErrorCode
from ..wire.winsock_fields import invalid
from ..wire.winsock_numbers import (
    SIO,
    SIO_DELETE_PEER_TARGET_NAME,
    SIO_QUERY_SECURITY,
    SIO_SET_PEER_TARGET_NAME,
    SIO_SET_SECURITY,
)
from .answers import QueryInfo
from .arguments import secure_socket
from .functions import (
    WSADeleteSocketPeerTargetName,
    WSASetSocketPeerTargetName,
    WSASetSocketSecurity,
    query_into,
)
from .overlapped import CompletionRoutine, Overlapped

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from .arguments import GivenName, GivenPeer, GivenSettings, GivenTemplate

    _Setter: TypeAlias = Literal[SIO.SIO_SET_SECURITY, SIO.SIO_SET_PEER_TARGET_NAME, SIO.SIO_DELETE_PEER_TARGET_NAME]

__all__ = ["WSAIoctl"]


@overload
def WSAIoctl(
    sock: SecureSocket,
    code: Literal[SIO.SIO_QUERY_SECURITY],
    in_buffer: GivenTemplate = ...,
    out_buffer: WriteableBuffer | None = ...,
    overlapped: Overlapped[QueryInfo] | None = ...,
    completion_routine: CompletionRoutine[QueryInfo] | None = ...,
) -> QueryInfo: ...
@overload
def WSAIoctl(
    sock: SecureSocket,
    code: _Setter,
    in_buffer: GivenSettings | GivenName | GivenPeer = ...,
    out_buffer: WriteableBuffer | None = ...,
    overlapped: Overlapped[int] | None = ...,
    completion_routine: CompletionRoutine[int] | None = ...,
) -> int: ...
@overload
def WSAIoctl(sock: SecureSocket, code: int) -> int | QueryInfo: ...


def WSAIoctl(
    sock: SecureSocket,
    code: int,
    in_buffer: GivenTemplate | GivenSettings | GivenName | GivenPeer = None,
    out_buffer: WriteableBuffer | None = None,
    overlapped: Overlapped[QueryInfo] | Overlapped[int] | None = None,
    completion_routine: CompletionRoutine[QueryInfo] | CompletionRoutine[int] | None = None,
) -> int | QueryInfo:
    """What the function of ``code`` does, raises and returns.

    SIO_SET_SECURITY, SIO_SET_PEER_TARGET_NAME and SIO_DELETE_PEER_TARGET_NAME return 0.  SIO_QUERY_SECURITY returns the
    structure asked for and writes it into ``out_buffer`` too if there is one; an empty one asks for the size.

    WSAEOPNOTSUPP: a code of mstcpip.h that is not for security.  WSAEINVAL: any other.  WSAEFAULT: an ``out_buffer``
    that cannot be written.
    """
    secure_socket(sock)
    if code == SIO_QUERY_SECURITY:
        into = None if out_buffer is None else _writable(out_buffer)
        return query_into(
            sock,
            cast("GivenTemplate", in_buffer),
            cast("Overlapped[QueryInfo] | None", overlapped),
            cast("CompletionRoutine[QueryInfo] | None", completion_routine),
            None if into is None else len(into),
            into,
        )
    later = cast("Overlapped[int] | None", overlapped), cast("CompletionRoutine[int] | None", completion_routine)
    if code == SIO_SET_SECURITY:
        return WSASetSocketSecurity(sock, cast("GivenSettings", in_buffer), *later)
    if code == SIO_SET_PEER_TARGET_NAME:
        return WSASetSocketPeerTargetName(sock, cast("GivenName", in_buffer), *later)
    if code == SIO_DELETE_PEER_TARGET_NAME:
        return WSADeleteSocketPeerTargetName(sock, cast("GivenPeer", in_buffer), *later)
    if code in tuple(SIO):
        raise WSAError(WSAErrorCode.WSAEOPNOTSUPP, f"{SIO(code).name} has nothing to do with security")
    raise invalid(f"{code!r} is no control code of the secure socket extensions")


def _writable(buffer: WriteableBuffer) -> memoryview:
    try:
        view = memoryview(buffer).cast("B")
    except (TypeError, ValueError):
        raise WSAError(WSAErrorCode.WSAEFAULT, "the output buffer is no buffer") from None
    if view.readonly:
        raise WSAError(WSAErrorCode.WSAEFAULT, "the output buffer cannot be written")
    return view
