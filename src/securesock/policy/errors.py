"""What the policy engine refuses, by the codes of the Windows Filtering Platform.

Every error is a PolicyError with ``code`` (a name of winerror.h) and ``winerror`` (its number), so that the Winsock
facade can hand the number through; the class says what kind of trouble it is, for programs that do not think in codes.
Knows nothing of objects: it is a table.  Source: FWP_E_* and ERROR_* of winerror.h.
"""

from __future__ import annotations

import errno as _errno
from enum import IntEnum
from typing import Final

from ..errors import LocalMisuse, SecureSocketError

__all__ = [
    "InvalidPolicy",
    "PolicyAccessDenied",
    "PolicyCode",
    "PolicyConflict",
    "PolicyError",
    "PolicyObjectNotFound",
    "PolicyStateError",
    "PolicyStoreError",
    "PolicyTimeout",
    "error_for",
]


class PolicyCode(IntEnum):
    """FWP_E_* without its prefix; the Win32 codes that the platform also returns keep their full names."""

    CALLOUT_NOT_FOUND = 0x80320001
    CONDITION_NOT_FOUND = 0x80320002
    FILTER_NOT_FOUND = 0x80320003
    LAYER_NOT_FOUND = 0x80320004
    PROVIDER_NOT_FOUND = 0x80320005
    PROVIDER_CONTEXT_NOT_FOUND = 0x80320006
    SUBLAYER_NOT_FOUND = 0x80320007
    NOT_FOUND = 0x80320008
    ALREADY_EXISTS = 0x80320009
    IN_USE = 0x8032000A
    DYNAMIC_SESSION_IN_PROGRESS = 0x8032000B
    WRONG_SESSION = 0x8032000C
    NO_TXN_IN_PROGRESS = 0x8032000D
    TXN_IN_PROGRESS = 0x8032000E
    TXN_ABORTED = 0x8032000F
    SESSION_ABORTED = 0x80320010
    INCOMPATIBLE_TXN = 0x80320011
    TIMEOUT = 0x80320012
    NET_EVENTS_DISABLED = 0x80320013
    INCOMPATIBLE_LAYER = 0x80320014
    KM_CLIENTS_ONLY = 0x80320015
    LIFETIME_MISMATCH = 0x80320016
    BUILTIN_OBJECT = 0x80320017
    TOO_MANY_CALLOUTS = 0x80320018
    NOTIFICATION_DROPPED = 0x80320019
    TRAFFIC_MISMATCH = 0x8032001A
    INCOMPATIBLE_SA_STATE = 0x8032001B
    NULL_POINTER = 0x8032001C
    INVALID_ENUMERATOR = 0x8032001D
    INVALID_FLAGS = 0x8032001E
    INVALID_NET_MASK = 0x8032001F
    INVALID_RANGE = 0x80320020
    INVALID_INTERVAL = 0x80320021
    ZERO_LENGTH_ARRAY = 0x80320022
    NULL_DISPLAY_NAME = 0x80320023
    INVALID_ACTION_TYPE = 0x80320024
    INVALID_WEIGHT = 0x80320025
    MATCH_TYPE_MISMATCH = 0x80320026
    TYPE_MISMATCH = 0x80320027
    OUT_OF_BOUNDS = 0x80320028
    RESERVED = 0x80320029
    DUPLICATE_CONDITION = 0x8032002A
    DUPLICATE_KEYMOD = 0x8032002B
    ACTION_INCOMPATIBLE_WITH_LAYER = 0x8032002C
    ACTION_INCOMPATIBLE_WITH_SUBLAYER = 0x8032002D
    CONTEXT_INCOMPATIBLE_WITH_LAYER = 0x8032002E
    CONTEXT_INCOMPATIBLE_WITH_CALLOUT = 0x8032002F
    INCOMPATIBLE_AUTH_METHOD = 0x80320030
    INCOMPATIBLE_DH_GROUP = 0x80320031
    EM_NOT_SUPPORTED = 0x80320032
    NEVER_MATCH = 0x80320033
    PROVIDER_CONTEXT_MISMATCH = 0x80320034
    INVALID_PARAMETER = 0x80320035
    TOO_MANY_SUBLAYERS = 0x80320036
    CALLOUT_NOTIFICATION_FAILED = 0x80320037
    INVALID_AUTH_TRANSFORM = 0x80320038
    INVALID_CIPHER_TRANSFORM = 0x80320039
    ERROR_ACCESS_DENIED = 5
    ERROR_GEN_FAILURE = 31
    ERROR_NOT_SUPPORTED = 50
    ERROR_INVALID_SECURITY_DESCR = 0x8007053A


class PolicyError(SecureSocketError):
    """The policy engine refused.  Nothing of the refused call remains; an open transaction goes on."""

    def __init__(self, code: PolicyCode, message: str, *, errno: int | None = None) -> None:
        super().__init__(message, errno=errno)
        self.code = code

    @property
    def winerror(self) -> int:
        """The code as Windows numbers it."""
        return int(self.code)


class InvalidPolicy(PolicyError, LocalMisuse):
    """An object, a template or a flow that cannot be: EINVAL."""

    default_errno = _errno.EINVAL


class PolicyObjectNotFound(PolicyError, LookupError):
    """No object has this key or id: ENOENT."""

    default_errno = _errno.ENOENT


class PolicyConflict(PolicyError):
    """The object would clash with others: its key is taken, it is in use, or it would outlive what it refers to."""

    default_errno = _errno.EBUSY


class PolicyStateError(PolicyError):
    """Right call, wrong moment: no transaction, a second one, a read-only one, an ended session."""

    default_errno = _errno.EPERM


class PolicyTimeout(PolicyError, TimeoutError):
    """Another transaction held the engine for longer than this session waits: ETIMEDOUT."""

    default_errno = _errno.ETIMEDOUT


class PolicyAccessDenied(PolicyError, PermissionError):
    """The session's user lacks a right: EACCES."""

    default_errno = _errno.EACCES


class PolicyStoreError(PolicyError):
    """The file that holds persistent policy cannot be read or written: EIO.  What was committed before stays."""

    default_errno = _errno.EIO


_CODE: Final = PolicyCode
_CLASSES: Final[dict[PolicyCode, type[PolicyError]]] = {
    **dict.fromkeys(
        (
            _CODE.CALLOUT_NOT_FOUND,
            _CODE.CONDITION_NOT_FOUND,
            _CODE.FILTER_NOT_FOUND,
            _CODE.LAYER_NOT_FOUND,
            _CODE.PROVIDER_NOT_FOUND,
            _CODE.PROVIDER_CONTEXT_NOT_FOUND,
            _CODE.SUBLAYER_NOT_FOUND,
            _CODE.NOT_FOUND,
        ),
        PolicyObjectNotFound,
    ),
    **dict.fromkeys(
        (
            _CODE.ALREADY_EXISTS,
            _CODE.IN_USE,
            _CODE.LIFETIME_MISMATCH,
            _CODE.BUILTIN_OBJECT,
            _CODE.TOO_MANY_CALLOUTS,
            _CODE.TOO_MANY_SUBLAYERS,
            _CODE.TRAFFIC_MISMATCH,
            _CODE.INCOMPATIBLE_SA_STATE,
        ),
        PolicyConflict,
    ),
    **dict.fromkeys(
        (
            _CODE.DYNAMIC_SESSION_IN_PROGRESS,
            _CODE.WRONG_SESSION,
            _CODE.NO_TXN_IN_PROGRESS,
            _CODE.TXN_IN_PROGRESS,
            _CODE.TXN_ABORTED,
            _CODE.SESSION_ABORTED,
            _CODE.INCOMPATIBLE_TXN,
            _CODE.NET_EVENTS_DISABLED,
            _CODE.KM_CLIENTS_ONLY,
            _CODE.NOTIFICATION_DROPPED,
            _CODE.CALLOUT_NOTIFICATION_FAILED,
        ),
        PolicyStateError,
    ),
    _CODE.TIMEOUT: PolicyTimeout,
    _CODE.ERROR_ACCESS_DENIED: PolicyAccessDenied,
    _CODE.ERROR_GEN_FAILURE: PolicyStoreError,
}
_ERRNOS: Final[dict[PolicyCode, int]] = {
    _CODE.ALREADY_EXISTS: _errno.EEXIST,
    _CODE.BUILTIN_OBJECT: _errno.EPERM,
    _CODE.ERROR_NOT_SUPPORTED: _errno.ENOTSUP,
}


def error_for(code: PolicyCode, message: str) -> PolicyError:
    """The error that belongs to ``code``: its class, its errno, and the code's name at the end of the message."""
    kind = _CLASSES.get(code, InvalidPolicy)
    name = code.name if code.name.startswith("ERROR_") else f"FWP_E_{code.name}"
    return kind(code, f"{message} ({name})", errno=_ERRNOS.get(code))
