"""What a query answers: SecurityInfo as SOCKET_SECURITY_QUERY_INFO or its IPSEC2 form.

It must not know how a call came about.  Sources: Microsoft's page on WSAQuerySocketSecurity; docs/winsock.md has the
choices where it is silent.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from ..engine.live_sas import lookup_context
from ..errors import (
    LocalMisuse,
)
from ..sockets.datagram_socket import SecureDatagramSocket
from ..sockets.native import NativeSocket
from ..sockets.stream_socket import SecureSocket
from ..types import Address, SecurityInfo
from ..wire.winsock_errors import WSAError, WSAErrorCode
from ..wire.winsock_numbers import (
    ERROR_IPSEC_IKE,
    SOCKET_INFO_CONNECTION,
    SOCKET_INFO_CONNECTION_ENCRYPTED,
    SOCKET_INFO_CONNECTION_IMPERSONATED,
    SOCKET_INFO_CONNECTION_SECURED,
    SOCKET_QUERY_IPSEC2_FIELD_MASK_MM_SA_ID,
    SOCKET_QUERY_IPSEC2_FIELD_MASK_QM_SA_ID,
    SOCKET_SECURITY_PROTOCOL_DEFAULT,
    SOCKET_SECURITY_PROTOCOL_IPSEC,
)
from ..wire.winsock_structures import (
    QUERY_INFO_IPSEC2_LENGTH,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_INFO_IPSEC2,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
)
from .tokens import open_token

if TYPE_CHECKING:
    from .arguments import Template

__all__ = ["QueryInfo", "answer", "is_connected", "negotiated", "system_answer", "with_tokens", "without_tokens"]

QueryInfo: TypeAlias = SOCKET_SECURITY_QUERY_INFO | SOCKET_SECURITY_QUERY_INFO_IPSEC2


def negotiated(sock: SecureSocket, peer: Address | None = None) -> SecurityInfo:
    """What the socket's negotiation came to, be it a failure; ``peer`` is whose, for a datagram socket.

    WSAENOTCONN when there was none or it is under way; WSAECONNRESET when an established connection has broken;
    WSAEAFNOSUPPORT for a peer of another family than the socket's.
    """
    try:
        if isinstance(sock, SecureDatagramSocket):
            info = sock.query_security(peer)
        else:
            info = sock.query_security()
    except LocalMisuse as error:
        raise WSAError(WSAErrorCode.WSAENOTCONN, str(error)) from error
    except socket.gaierror as error:
        raise WSAError(WSAErrorCode.WSAEAFNOSUPPORT, "the peer's address is of another family") from error
    if info.secured and info.latch == "broken":
        raise WSAError(WSAErrorCode.WSAECONNRESET, f"the connection has broken: {info.negotiation_error}")
    return info


def is_connected(sock: SecureSocket) -> bool:
    """Whether the socket has, or had, a connection that applications may use, or a datagram socket its one peer."""
    try:
        if isinstance(sock, SecureDatagramSocket):
            return bool(socket.socket.getpeername(sock))
        info = sock.query_security()
    except OSError:
        return False
    return info.secured or info.latch == "established"


def answer(sock: SecureSocket, template: Template | None) -> QueryInfo:
    """The form that the template asks for, without token handles: see ``with_tokens``."""
    peer = None if template is None else template.PeerAddress
    info = negotiated(sock, peer)
    flags = SOCKET_INFO_CONNECTION(0)
    for bit, holds in (
        (SOCKET_INFO_CONNECTION_SECURED, info.secured),
        (SOCKET_INFO_CONNECTION_ENCRYPTED, info.encrypted),
        (SOCKET_INFO_CONNECTION_IMPERSONATED, info.impersonated),
    ):
        flags |= bit if holds else SOCKET_INFO_CONNECTION(0)
    if isinstance(template, SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2):
        main_mode = SOCKET_QUERY_IPSEC2_FIELD_MASK_MM_SA_ID in template.FieldMask
        quick_mode = SOCKET_QUERY_IPSEC2_FIELD_MASK_QM_SA_ID in template.FieldMask
        return SOCKET_SECURITY_QUERY_INFO_IPSEC2(
            Flags=flags,
            MmSaId=info.main_mode_sa_id if main_mode else 0,
            QmSaId=info.quick_mode_sa_id if quick_mode else 0,
            NegotiationWinerr=_negotiation_winerr(sock, info, peer),
            SaLookupContext=lookup_context(info.main_mode_sa_id, info.quick_mode_sa_id),
        )
    if template is None or template == SOCKET_SECURITY_QUERY_TEMPLATE() or not info.secured:
        return SOCKET_SECURITY_QUERY_INFO(SOCKET_SECURITY_PROTOCOL_DEFAULT, flags)
    return SOCKET_SECURITY_QUERY_INFO(SOCKET_SECURITY_PROTOCOL_IPSEC, flags)


def with_tokens(sock: SecureSocket, info: QueryInfo, template: Template | None) -> QueryInfo:
    """The answer with handles of the peer's tokens, if the template's PeerTokenAccessMask asks for them.

    An application token is a user's, so that there is none where only the machine was proven; and none of a peer that
    was not proven.  Whoever calls this answers for the handles.
    """
    if template is None or not template.PeerTokenAccessMask:
        return info
    proven = negotiated(sock, template.PeerAddress)
    mask = int(template.PeerTokenAccessMask)
    return replace(
        info,
        PeerApplicationAccessTokenHandle=open_token(proven.peer_user, mask),
        PeerMachineAccessTokenHandle=open_token(proven.peer_machine, mask),
    )


def without_tokens(template: Template | None) -> Template | None:
    """The same question, for the length of whose answer no handle has to be opened."""
    return template if template is None else replace(template, PeerTokenAccessMask=0)


def system_answer(sock: NativeSocket, template: Template | None) -> QueryInfo:
    """What the system says of a socket that it protects, in its own form."""
    packed = sock._query_packed(None if template is None else template.pack())
    form = SOCKET_SECURITY_QUERY_INFO_IPSEC2 if len(packed) >= QUERY_INFO_IPSEC2_LENGTH else SOCKET_SECURITY_QUERY_INFO
    return form.unpack(packed)


def _negotiation_winerr(sock: SecureSocket, info: SecurityInfo, peer: Address | None) -> int:
    if info.secured:
        return 0
    if info.latch == "established":
        # In clear, which is allowed only where the peer did not answer IKE.
        return ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_DROP_NO_RESPONSE
    from ..engine.failure_events import winerror_of  # brings the filtering platform, which a success does not need

    return winerror_of(sock._why_failed(peer))
