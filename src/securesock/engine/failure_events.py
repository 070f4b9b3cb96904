"""A negotiation that failed, as a net event: what an administrator looks for when a connection does not come about.

FWPM_NET_EVENT_IKEEXT_MM_FAILURE with the code that Windows has for the reason.  On a stream both modes are made in one
breath and one answer refuses both, so that all of it counts as main mode.  It must not know sockets.
Source: winerror.h (ERROR_IPSEC_IKE_*), iketypes.h, fwpmtypes.h.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Final

from ..errors import (
    AuthenticationFailed,
    KeyingTimeout,
    LocalMisuse,
    PeerIncompatible,
    PeerMisbehaved,
    PolicyRefused,
)
from ..identity.names import PeerTargetName
from ..policy.errors import PolicyError
from ..policy.events import FailurePoint, MmFailure, NetEvent, SaRole
from ..policy.filter_engine import FilterEngine
from ..types import AnyTrustedPeer, Flow
from ..wire.winsock_numbers import ERROR_IPSEC_IKE
from .applied import Applied
from .context import SecurityContext

__all__ = ["report_failure", "winerror_of"]

_CODES: Final[tuple[tuple[type[OSError], ERROR_IPSEC_IKE], ...]] = (
    (AuthenticationFailed, ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_AUTH_FAIL),
    (PolicyRefused, ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_NO_POLICY),
    (PeerIncompatible, ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_POLICY_MATCH),
    (TimeoutError, ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_TIMED_OUT),  # KeyingTimeout, and the socket's own
)
_POINTS: Final[tuple[tuple[type[OSError], FailurePoint], ...]] = (
    (PeerMisbehaved, FailurePoint.PEER),
    (KeyingTimeout, FailurePoint.PEER),
    (LocalMisuse, FailurePoint.ME),
)


def winerror_of(error: BaseException | None) -> ERROR_IPSEC_IKE:
    """What Windows calls the reason for which a negotiation failed."""
    found = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    return ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_GENERAL_PROCESSING_ERROR if found is None else found


def report_failure(
    engine: FilterEngine,
    context: SecurityContext,
    flow: Flow,
    error: BaseException,
    role: SaRole,
    now: datetime,
    expected: PeerTargetName | AnyTrustedPeer | None = None,
    applied: Applied | None = None,
) -> None:
    """Put it among the engine's net events, for who enumerates them or subscribed."""
    detail = MmFailure(
        error=int(winerror_of(error)),
        failure_point=next((point for kind, point in _POINTS if isinstance(error, kind)), FailurePoint.NONE),
        role=role,
        local_principal=context.identity.names[0],
        remote_principal=expected.principal if isinstance(expected, PeerTargetName) else "",
        policy=None if applied is None else applied.mark.main_mode_policy,
    )
    event = NetEvent(
        detail,
        now,
        protocol=flow.protocol,
        local_address=flow.our_host,
        remote_address=flow.peer_host,
        local_port=flow.our_port,
        remote_port=flow.peer_port,
    )
    with contextlib.suppress(PolicyError):  # an engine that does not take it keeps nobody from being told the error
        engine.net_events.report(event)
