"""Every error says who is to blame by its class, is an OSError with an errno, and survives pickle and copy."""

from __future__ import annotations

import copy
import errno
import pickle

import pytest

from securesock import errors
from securesock.errors import (
    AuthenticationFailed,
    ConnectionBroken,
    KeyingTimeout,
    LocalMisuse,
    PeerIncompatible,
    PeerMisbehaved,
    PlaneError,
    PolicyRefused,
    SecureSocketError,
    StreamTruncated,
    WantRead,
    WantWrite,
    WireError,
)

# class, errno, what code written for the standard library catches it as
BLAME: list[tuple[type[SecureSocketError], int, tuple[type[BaseException], ...]]] = [
    (SecureSocketError, errno.EIO, (OSError,)),
    (LocalMisuse, errno.EINVAL, (OSError, ValueError)),
    (PeerMisbehaved, errno.EPROTO, (OSError,)),
    (ConnectionBroken, errno.ECONNRESET, (PeerMisbehaved, ConnectionResetError, ConnectionError)),
    (StreamTruncated, errno.ECONNRESET, (PeerMisbehaved, ConnectionResetError, ConnectionError)),
    (PeerIncompatible, errno.EPROTONOSUPPORT, (OSError,)),
    (AuthenticationFailed, errno.EACCES, (OSError,)),
    (PolicyRefused, errno.EACCES, (OSError,)),
    (KeyingTimeout, errno.ETIMEDOUT, (TimeoutError,)),
    (PlaneError, errno.EIO, (OSError,)),
]
KINDS = [each[0] for each in BLAME]


def test_the_table_names_every_error() -> None:
    listed = {errors.__dict__[name] for name in errors.__all__}
    assert listed == {*KINDS, WantRead, WantWrite, WireError}


@pytest.mark.parametrize(("kind", "number", "bases"), BLAME)
def test_errno_and_bases(kind: type[SecureSocketError], number: int, bases: tuple[type[BaseException], ...]) -> None:
    error = kind("what happened, to whom, what to do next")
    assert error.errno == number
    assert error.strerror == str(error) == "what happened, to whom, what to do next"
    for base in (SecureSocketError, *bases):
        assert isinstance(error, base)


@pytest.mark.parametrize("kind", KINDS)
def test_blame_is_one_class_only(kind: type[SecureSocketError]) -> None:
    blamed = [each for each in KINDS if each is not SecureSocketError and issubclass(kind, each)]
    roots = [each for each in blamed if each.__mro__[1] is SecureSocketError]
    assert len(roots) == (0 if kind is SecureSocketError else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickle_and_copy(kind: type[SecureSocketError]) -> None:
    error = kind("a message", errno=errno.ENETDOWN)
    error.add_note("a note")
    again = [copy.copy(error), copy.deepcopy(error)]
    again += [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for each in again:
        assert type(each) is kind
        assert (each.errno, each.strerror, str(each)) == (errno.ENETDOWN, "a message", "a message")
        assert each.__notes__ == ["a note"]


def test_what_an_error_knows_beside_its_message_survives_too() -> None:
    refused = pickle.loads(pickle.dumps(PolicyRefused("no", filter_id=42)))
    assert refused.filter_id == 42
    assert PolicyRefused("no").filter_id is None
    failed = copy.copy(AuthenticationFailed("no", reason="expired"))
    assert failed.reason == "expired"
    assert AuthenticationFailed("no").reason == ""


def test_the_planes_errno_is_the_systems() -> None:
    assert PlaneError("no such device", errno=errno.ENODEV).errno == errno.ENODEV


@pytest.mark.parametrize("kind", [WantRead, WantWrite])
def test_want_read_and_want_write_are_blocking_io_errors_and_blame_nobody(kind: type[BlockingIOError]) -> None:
    error = kind(errno.EAGAIN, "not now")
    assert isinstance(error, BlockingIOError)
    assert not isinstance(error, SecureSocketError)
    assert pickle.loads(pickle.dumps(error)).errno == errno.EAGAIN


def test_a_wire_error_reaches_no_application() -> None:
    assert issubclass(WireError, ValueError)
    assert not issubclass(WireError, OSError)
