"""The Winsock Secure Socket Extensions under their Windows names, on every platform.

    from securesock import winsock

    winsock.WSASetSocketSecurity(sock, winsock.SOCKET_SECURITY_SETTINGS(
        winsock.SOCKET_SECURITY_PROTOCOL_DEFAULT, winsock.SOCKET_SETTINGS_GUARANTEE_ENCRYPTION))
    winsock.WSASetSocketPeerTargetName(sock, winsock.SOCKET_PEER_TARGET_NAME(PeerTargetName="host/db.example"))
    sock.connect(("db.example", 7000))
    winsock.WSAQuerySocketSecurity(sock).Flags

Six functions, WSAIoctl with their four control codes, the structures with ``pack`` and ``unpack``, the constants, and
what closes and reads the handles of tokens.
docs/winsock.md says what each field and call does here, and what was chosen where Windows' documentation is silent.
Names are imported when they are first used: who only names this package loads no structure of Windows'.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..identity.tokens import PeerToken
    from ..wire.winsock_errors import (
        WSA_INVALID_HANDLE,
        WSA_IO_PENDING,
        WSA_OPERATION_ABORTED,
        WSAEACCES,
        WSAEAFNOSUPPORT,
        WSAECONNRESET,
        WSAEFAULT,
        WSAEINVAL,
        WSAEISCONN,
        WSAEMSGSIZE,
        WSAENOTCONN,
        WSAENOTSOCK,
        WSAEOPNOTSUPP,
        WSASYSCALLFAILURE,
        WSAError,
        WSAErrorCode,
    )
    from ..wire.winsock_fields import NO_GUID
    from ..wire.winsock_numbers import (
        ERROR_IPSEC_IKE,
        ERROR_IPSEC_IKE_AUTH_FAIL,
        ERROR_IPSEC_IKE_DROP_NO_RESPONSE,
        ERROR_IPSEC_IKE_GENERAL_PROCESSING_ERROR,
        ERROR_IPSEC_IKE_NO_POLICY,
        ERROR_IPSEC_IKE_POLICY_MATCH,
        ERROR_IPSEC_IKE_TIMED_OUT,
        SIO,
        SIO_DELETE_PEER_TARGET_NAME,
        SIO_QUERY_SECURITY,
        SIO_QUERY_WFP_ALE_ENDPOINT_HANDLE,
        SIO_QUERY_WFP_CONNECTION_REDIRECT_CONTEXT,
        SIO_QUERY_WFP_CONNECTION_REDIRECT_RECORDS,
        SIO_SET_PEER_TARGET_NAME,
        SIO_SET_SECURITY,
        SIO_SET_WFP_CONNECTION_REDIRECT_RECORDS,
        SIO_SOCKET_USAGE_NOTIFICATION,
        SOCKET_INFO_CONNECTION,
        SOCKET_INFO_CONNECTION_ENCRYPTED,
        SOCKET_INFO_CONNECTION_IMPERSONATED,
        SOCKET_INFO_CONNECTION_SECURED,
        SOCKET_QUERY_IPSEC2,
        SOCKET_QUERY_IPSEC2_ABORT_CONNECTION_ON_FIELD_CHANGE,
        SOCKET_QUERY_IPSEC2_FIELD_MASK,
        SOCKET_QUERY_IPSEC2_FIELD_MASK_MM_SA_ID,
        SOCKET_QUERY_IPSEC2_FIELD_MASK_QM_SA_ID,
        SOCKET_SECURITY_PROTOCOL,
        SOCKET_SECURITY_PROTOCOL_DEFAULT,
        SOCKET_SECURITY_PROTOCOL_INVALID,
        SOCKET_SECURITY_PROTOCOL_IPSEC,
        SOCKET_SECURITY_PROTOCOL_IPSEC2,
        SOCKET_SETTINGS,
        SOCKET_SETTINGS_ALLOW_INSECURE,
        SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
        SOCKET_SETTINGS_IPSEC,
        SOCKET_SETTINGS_IPSEC_ALLOW_FIRST_INBOUND_PKT_UNENCRYPTED,
        SOCKET_SETTINGS_IPSEC_OPTIONAL_PEER_NAME_VERIFICATION,
        SOCKET_SETTINGS_IPSEC_PEER_NAME_IS_RAW_FORMAT,
        SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION,
        SOCKET_USAGE_TYPE,
        SYSTEM_CRITICAL_SOCKET,
        TOKEN_DUPLICATE,
        TOKEN_IMPERSONATE,
        TOKEN_QUERY,
        TOKEN_RIGHTS,
    )
    from ..wire.winsock_structures import (
        SOCKET_PEER_TARGET_NAME,
        SOCKET_SECURITY_QUERY_INFO,
        SOCKET_SECURITY_QUERY_INFO_IPSEC2,
        SOCKET_SECURITY_QUERY_TEMPLATE,
        SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
        SOCKET_SECURITY_SETTINGS,
        SOCKET_SECURITY_SETTINGS_IPSEC,
    )
    from .answers import QueryInfo
    from .functions import (
        WSADeleteSocketPeerTargetName,
        WSAImpersonateSocketPeer,
        WSAQuerySocketSecurity,
        WSARevertImpersonation,
        WSASetSocketPeerTargetName,
        WSASetSocketSecurity,
    )
    from .ioctl import WSAIoctl
    from .overlapped import CompletionRoutine, Overlapped
    from .tokens import CloseHandle, open_token_handles, peer_token

__all__ = [
    "CloseHandle",
    "CompletionRoutine",
    "ERROR_IPSEC_IKE",
    "ERROR_IPSEC_IKE_AUTH_FAIL",
    "ERROR_IPSEC_IKE_DROP_NO_RESPONSE",
    "ERROR_IPSEC_IKE_GENERAL_PROCESSING_ERROR",
    "ERROR_IPSEC_IKE_NO_POLICY",
    "ERROR_IPSEC_IKE_POLICY_MATCH",
    "ERROR_IPSEC_IKE_TIMED_OUT",
    "NO_GUID",
    "Overlapped",
    "PeerToken",
    "QueryInfo",
    "SIO",
    "SIO_DELETE_PEER_TARGET_NAME",
    "SIO_QUERY_SECURITY",
    "SIO_QUERY_WFP_ALE_ENDPOINT_HANDLE",
    "SIO_QUERY_WFP_CONNECTION_REDIRECT_CONTEXT",
    "SIO_QUERY_WFP_CONNECTION_REDIRECT_RECORDS",
    "SIO_SET_PEER_TARGET_NAME",
    "SIO_SET_SECURITY",
    "SIO_SET_WFP_CONNECTION_REDIRECT_RECORDS",
    "SIO_SOCKET_USAGE_NOTIFICATION",
    "SOCKET_INFO_CONNECTION",
    "SOCKET_INFO_CONNECTION_ENCRYPTED",
    "SOCKET_INFO_CONNECTION_IMPERSONATED",
    "SOCKET_INFO_CONNECTION_SECURED",
    "SOCKET_PEER_TARGET_NAME",
    "SOCKET_QUERY_IPSEC2",
    "SOCKET_QUERY_IPSEC2_ABORT_CONNECTION_ON_FIELD_CHANGE",
    "SOCKET_QUERY_IPSEC2_FIELD_MASK",
    "SOCKET_QUERY_IPSEC2_FIELD_MASK_MM_SA_ID",
    "SOCKET_QUERY_IPSEC2_FIELD_MASK_QM_SA_ID",
    "SOCKET_SECURITY_PROTOCOL",
    "SOCKET_SECURITY_PROTOCOL_DEFAULT",
    "SOCKET_SECURITY_PROTOCOL_INVALID",
    "SOCKET_SECURITY_PROTOCOL_IPSEC",
    "SOCKET_SECURITY_PROTOCOL_IPSEC2",
    "SOCKET_SECURITY_QUERY_INFO",
    "SOCKET_SECURITY_QUERY_INFO_IPSEC2",
    "SOCKET_SECURITY_QUERY_TEMPLATE",
    "SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2",
    "SOCKET_SECURITY_SETTINGS",
    "SOCKET_SECURITY_SETTINGS_IPSEC",
    "SOCKET_SETTINGS",
    "SOCKET_SETTINGS_ALLOW_INSECURE",
    "SOCKET_SETTINGS_GUARANTEE_ENCRYPTION",
    "SOCKET_SETTINGS_IPSEC",
    "SOCKET_SETTINGS_IPSEC_ALLOW_FIRST_INBOUND_PKT_UNENCRYPTED",
    "SOCKET_SETTINGS_IPSEC_OPTIONAL_PEER_NAME_VERIFICATION",
    "SOCKET_SETTINGS_IPSEC_PEER_NAME_IS_RAW_FORMAT",
    "SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION",
    "SOCKET_USAGE_TYPE",
    "SYSTEM_CRITICAL_SOCKET",
    "TOKEN_DUPLICATE",
    "TOKEN_IMPERSONATE",
    "TOKEN_QUERY",
    "TOKEN_RIGHTS",
    "WSADeleteSocketPeerTargetName",
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
    "WSAImpersonateSocketPeer",
    "WSAIoctl",
    "WSAQuerySocketSecurity",
    "WSARevertImpersonation",
    "WSASYSCALLFAILURE",
    "WSASetSocketPeerTargetName",
    "WSASetSocketSecurity",
    "WSA_INVALID_HANDLE",
    "WSA_IO_PENDING",
    "WSA_OPERATION_ABORTED",
    "open_token_handles",
    "peer_token",
]

_ROOMS: Final = (
    "..wire.winsock_errors",
    "..wire.winsock_numbers",
    "..wire.winsock_fields",
    "..wire.winsock_structures",
    "..identity.tokens",
    ".overlapped",
    ".tokens",
    ".answers",
    ".functions",
    ".ioctl",
)
"""Where the names are, the least first: a room below the others is not left for a name that it has."""


if not TYPE_CHECKING:  # a checker that saw it would take every misspelt name for an object

    def __getattr__(name: str) -> object:
        if name in __all__:
            for room in _ROOMS:
                here = vars(import_module(room, __name__))
                if name in here:
                    globals()[name] = here[name]
                    return here[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
