"""Settings and names as the bytes that Windows takes, and its answers as SecurityInfo.

Windows says whether a connection is protected, by which SAs, and whose the peer's tokens are.  It does not say which
suites were agreed on, nor how a principal was proven: the suites stay empty, and the method is that of AuthIP's second
authentication with the default policy, Kerberos (docs/windows.md).  This module makes no call.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from ...types import IPsecSettings, Principal, SecurityInfo, SecuritySettings
from ...wire.winsock_errors import WSAError, WSAErrorCode
from ...wire.winsock_fields import NO_GUID
from ...wire.winsock_numbers import (
    SOCKET_INFO_CONNECTION_ENCRYPTED,
    SOCKET_INFO_CONNECTION_IMPERSONATED,
    SOCKET_INFO_CONNECTION_SECURED,
    SOCKET_QUERY_IPSEC2_FIELD_MASK_MM_SA_ID,
    SOCKET_QUERY_IPSEC2_FIELD_MASK_QM_SA_ID,
    SOCKET_SECURITY_PROTOCOL_DEFAULT,
    SOCKET_SECURITY_PROTOCOL_IPSEC,
    SOCKET_SETTINGS,
    SOCKET_SETTINGS_ALLOW_INSECURE,
    SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
    SOCKET_SETTINGS_IPSEC,
    SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION,
    TOKEN_QUERY,
)
from ...wire.winsock_structures import (
    QUERY_INFO_IPSEC2_LENGTH,
    SOCKET_PEER_TARGET_NAME,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_INFO_IPSEC2,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SECURITY_SETTINGS_IPSEC,
)
from .extensions import SocketExtensions

__all__ = ["PLANE", "ask", "packed_name", "packed_settings", "security_info"]

PLANE: Final = "windows"
_TEMPLATE: Final = SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(
    PeerTokenAccessMask=int(TOKEN_QUERY),
    FieldMask=SOCKET_QUERY_IPSEC2_FIELD_MASK_MM_SA_ID | SOCKET_QUERY_IPSEC2_FIELD_MASK_QM_SA_ID,
).pack()
# Vista has the first form alone.
_OLD_TEMPLATE: Final = SOCKET_SECURITY_QUERY_TEMPLATE(
    SOCKET_SECURITY_PROTOCOL_IPSEC, PeerTokenAccessMask=int(TOKEN_QUERY)
).pack()


def packed_settings(settings: SecuritySettings) -> bytes:
    """SOCKET_SECURITY_SETTINGS, or SOCKET_SECURITY_SETTINGS_IPSEC for IPsecSettings."""
    flags = SOCKET_SETTINGS(0)
    if settings.guarantee_encryption:
        flags |= SOCKET_SETTINGS_GUARANTEE_ENCRYPTION
    if settings.allow_insecure:
        flags |= SOCKET_SETTINGS_ALLOW_INSECURE
    if not isinstance(settings, IPsecSettings):
        return SOCKET_SECURITY_SETTINGS(SOCKET_SECURITY_PROTOCOL_DEFAULT, flags).pack()
    skip = settings.skip_filter_instantiation
    structure = SOCKET_SECURITY_SETTINGS_IPSEC(
        SOCKET_SECURITY_PROTOCOL_IPSEC,
        flags,
        SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION if skip else SOCKET_SETTINGS_IPSEC(0),
        settings.main_mode_policy or NO_GUID,
        settings.quick_mode_policy or NO_GUID,
        settings.user_name,
        settings.domain_name,
        settings.password,
    )
    try:
        return structure.pack()
    finally:
        structure.wipe()


def packed_name(principal: str) -> bytes:
    """SOCKET_PEER_TARGET_NAME of a stream, whose address is not looked at."""
    return SOCKET_PEER_TARGET_NAME(SOCKET_SECURITY_PROTOCOL_IPSEC, None, principal).pack()


def ask(system: SocketExtensions, handle: int) -> SOCKET_SECURITY_QUERY_INFO_IPSEC2:
    """What protects the connection of ``handle``; the handles of tokens are the caller's to close."""
    try:
        answer = system.query_security(handle, _TEMPLATE)
    except WSAError as error:
        if error.winerror != WSAErrorCode.WSAEINVAL:
            raise
        answer = system.query_security(handle, _OLD_TEMPLATE)
    if len(answer) >= QUERY_INFO_IPSEC2_LENGTH:
        return SOCKET_SECURITY_QUERY_INFO_IPSEC2.unpack(answer)
    first = SOCKET_SECURITY_QUERY_INFO.unpack(answer)
    return SOCKET_SECURITY_QUERY_INFO_IPSEC2(
        Flags=first.Flags,
        PeerApplicationAccessTokenHandle=first.PeerApplicationAccessTokenHandle,
        PeerMachineAccessTokenHandle=first.PeerMachineAccessTokenHandle,
    )


def security_info(system: SocketExtensions, handle: int, settings: SecuritySettings) -> SecurityInfo:
    """What is applied to the connection of ``handle``.  Every token that the system hands out is closed again."""
    answer = ask(system, handle)
    tokens = answer.PeerApplicationAccessTokenHandle, answer.PeerMachineAccessTokenHandle
    try:
        user, machine = (system.account_of(token) if token else "" for token in tokens)
    finally:
        for token in tokens:
            if token:
                system.close_handle(token)
    secured = bool(answer.Flags & SOCKET_INFO_CONNECTION_SECURED)
    encrypted = bool(answer.Flags & SOCKET_INFO_CONNECTION_ENCRYPTED)
    return SecurityInfo(
        secured=secured,
        encrypted=encrypted,
        impersonated=bool(answer.Flags & SOCKET_INFO_CONNECTION_IMPERSONATED),
        peer_machine=Principal(machine, "machine", "kerberos", "access token") if machine else None,
        peer_user=Principal(user, "user", "kerberos", "access token") if user else None,
        plane=PLANE,
        keying="authip" if secured else "",
        main_mode_sa_id=answer.MmSaId,
        quick_mode_sa_id=answer.QmSaId,
        negotiation_error=f"Windows error {answer.NegotiationWinerr}" if answer.NegotiationWinerr else "",
        main_mode_policy=getattr(settings, "main_mode_policy", None),
        quick_mode_policy=getattr(settings, "quick_mode_policy", None),
        asked=settings,
        differences=tuple(_differences(secured, encrypted)),
        established_at=datetime.now(UTC),
    )


def _differences(secured: bool, encrypted: bool) -> list[str]:
    if not secured:
        return ["asked for IPsec, applied clear text, because the system says so"]
    if not encrypted:
        return ["asked for IPsec, applied integrity without encryption, because the system's policy prefers it"]
    return []
