"""The error family: numbers, classes, errnos, and what survives pickling."""

from __future__ import annotations

import errno
import pickle

import pytest

from securesock.errors import LocalMisuse, SecureSocketError
from securesock.policy.errors import (
    InvalidPolicy,
    PolicyAccessDenied,
    PolicyCode,
    PolicyConflict,
    PolicyError,
    PolicyObjectNotFound,
    PolicyStateError,
    PolicyStoreError,
    PolicyTimeout,
    error_for,
)

# winerror.h: FWP_E_* are 0x80320000 + 1 ... 0x39, in this order.
NAMES = [
    "CALLOUT_NOT_FOUND",
    "CONDITION_NOT_FOUND",
    "FILTER_NOT_FOUND",
    "LAYER_NOT_FOUND",
    "PROVIDER_NOT_FOUND",
    "PROVIDER_CONTEXT_NOT_FOUND",
    "SUBLAYER_NOT_FOUND",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "IN_USE",
    "DYNAMIC_SESSION_IN_PROGRESS",
    "WRONG_SESSION",
    "NO_TXN_IN_PROGRESS",
    "TXN_IN_PROGRESS",
    "TXN_ABORTED",
    "SESSION_ABORTED",
    "INCOMPATIBLE_TXN",
    "TIMEOUT",
    "NET_EVENTS_DISABLED",
    "INCOMPATIBLE_LAYER",
    "KM_CLIENTS_ONLY",
    "LIFETIME_MISMATCH",
    "BUILTIN_OBJECT",
    "TOO_MANY_CALLOUTS",
    "NOTIFICATION_DROPPED",
    "TRAFFIC_MISMATCH",
    "INCOMPATIBLE_SA_STATE",
    "NULL_POINTER",
    "INVALID_ENUMERATOR",
    "INVALID_FLAGS",
    "INVALID_NET_MASK",
    "INVALID_RANGE",
    "INVALID_INTERVAL",
    "ZERO_LENGTH_ARRAY",
    "NULL_DISPLAY_NAME",
    "INVALID_ACTION_TYPE",
    "INVALID_WEIGHT",
    "MATCH_TYPE_MISMATCH",
    "TYPE_MISMATCH",
    "OUT_OF_BOUNDS",
    "RESERVED",
    "DUPLICATE_CONDITION",
    "DUPLICATE_KEYMOD",
    "ACTION_INCOMPATIBLE_WITH_LAYER",
    "ACTION_INCOMPATIBLE_WITH_SUBLAYER",
    "CONTEXT_INCOMPATIBLE_WITH_LAYER",
    "CONTEXT_INCOMPATIBLE_WITH_CALLOUT",
    "INCOMPATIBLE_AUTH_METHOD",
    "INCOMPATIBLE_DH_GROUP",
    "EM_NOT_SUPPORTED",
    "NEVER_MATCH",
    "PROVIDER_CONTEXT_MISMATCH",
    "INVALID_PARAMETER",
    "TOO_MANY_SUBLAYERS",
    "CALLOUT_NOTIFICATION_FAILED",
    "INVALID_AUTH_TRANSFORM",
    "INVALID_CIPHER_TRANSFORM",
]


def test_codes_have_the_numbers_of_winerror_h() -> None:
    assert [PolicyCode[name] for name in NAMES] == list(range(0x80320001, 0x8032003A))
    assert PolicyCode.ERROR_ACCESS_DENIED == 5
    assert PolicyCode.ERROR_NOT_SUPPORTED == 0x32
    assert PolicyCode.ERROR_INVALID_SECURITY_DESCR == 0x8007053A


@pytest.mark.parametrize("code", list(PolicyCode))
def test_every_code_makes_an_error_that_tells_its_name_and_number(code: PolicyCode) -> None:
    error = error_for(code, "what happened")
    assert isinstance(error, PolicyError)
    assert isinstance(error, SecureSocketError)
    assert error.code is code
    assert error.winerror == int(code)
    assert str(error).startswith("what happened (")
    assert code.name in str(error)
    assert error.errno


@pytest.mark.parametrize(
    ("code", "kind", "number"),
    [
        (PolicyCode.FILTER_NOT_FOUND, PolicyObjectNotFound, errno.ENOENT),
        (PolicyCode.LAYER_NOT_FOUND, LookupError, errno.ENOENT),
        (PolicyCode.ALREADY_EXISTS, PolicyConflict, errno.EEXIST),
        (PolicyCode.IN_USE, PolicyConflict, errno.EBUSY),
        (PolicyCode.BUILTIN_OBJECT, PolicyConflict, errno.EPERM),
        (PolicyCode.TXN_ABORTED, PolicyStateError, errno.EPERM),
        (PolicyCode.TIMEOUT, PolicyTimeout, errno.ETIMEDOUT),
        (PolicyCode.TIMEOUT, TimeoutError, errno.ETIMEDOUT),
        (PolicyCode.INVALID_WEIGHT, InvalidPolicy, errno.EINVAL),
        (PolicyCode.INVALID_WEIGHT, LocalMisuse, errno.EINVAL),
        (PolicyCode.INVALID_WEIGHT, ValueError, errno.EINVAL),
        (PolicyCode.ERROR_NOT_SUPPORTED, InvalidPolicy, errno.ENOTSUP),
        (PolicyCode.ERROR_ACCESS_DENIED, PolicyAccessDenied, errno.EACCES),
        (PolicyCode.ERROR_ACCESS_DENIED, PermissionError, errno.EACCES),
        (PolicyCode.ERROR_GEN_FAILURE, PolicyStoreError, errno.EIO),
    ],
)
def test_the_class_and_the_errno_say_what_kind_of_trouble_it_is(
    code: PolicyCode, kind: type[Exception], number: int
) -> None:
    error = error_for(code, "x")
    assert isinstance(error, kind)
    assert error.errno == number


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(error_for(PolicyCode.IN_USE, "x")))
    assert (type(error), error.code, error.errno, str(error)) == (
        PolicyConflict,
        PolicyCode.IN_USE,
        errno.EBUSY,
        "x (FWP_E_IN_USE)",
    )
