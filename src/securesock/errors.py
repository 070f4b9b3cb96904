"""Every error that securesock raises, sorted by who is to blame.

A SecureSocketError is an OSError with an errno, so that code written for plain
sockets keeps working; the class says whose fault it is, which is what decides
what to do next.  The message says what happened, to whom, and what to do next,
and never holds a secret.  All of them survive pickle and copy.

The system's own errors (ConnectionRefusedError, socket.gaierror) and the
TimeoutError of a socket timeout are not wrapped: they pass unchanged.

This module imports nothing of ours.
"""

from __future__ import annotations

import errno as _errno
from typing import ClassVar

__all__ = [
    "AuthenticationFailed",
    "ConnectionBroken",
    "KeyingTimeout",
    "LocalMisuse",
    "PeerIncompatible",
    "PeerMisbehaved",
    "PlaneError",
    "PolicyRefused",
    "SecureSocketError",
    "StreamTruncated",
    "WantRead",
    "WantWrite",
    "WireError",
]


class WireError(ValueError):
    """Bytes that are not what their format says.  The only exception a parser raises.

    It never reaches an application: the machine that called the parser turns it
    into a counted drop, a notify, or PeerMisbehaved.
    """


class SecureSocketError(OSError):
    """Base of all errors by blame.  ``errno`` is set by the class, ``strerror`` is the message."""

    default_errno: ClassVar[int] = _errno.EIO

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(self.default_errno if errno is None else errno, message)

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[object, ...]:
        # OSError pickles its two-argument form, which our constructors do not take.
        return _rebuild, (type(self), self.args, self._state())

    def _state(self) -> dict[str, object]:
        """What a copy has beside its arguments."""
        return dict(self.__dict__)


def _rebuild(kind: type[SecureSocketError], args: tuple[int, str], state: dict[str, object]) -> SecureSocketError:
    error = kind.__new__(kind, *args)
    OSError.__init__(error, *args)
    for name, value in state.items():
        setattr(error, name, value)  # of an OSError not every attribute is in its __dict__ (winerror on Windows)
    return error


class LocalMisuse(SecureSocketError, ValueError):
    """This program asked for something that cannot be: EINVAL.  Nothing was sent."""

    default_errno = _errno.EINVAL


class PeerMisbehaved(SecureSocketError):
    """The peer, or somebody on the path, broke the protocol: EPROTO.  The connection is over."""

    default_errno = _errno.EPROTO


class ConnectionBroken(PeerMisbehaved, ConnectionResetError):
    """An established connection ended without its authenticated end: tampering, a broken latch, a reset."""

    default_errno = _errno.ECONNRESET


class StreamTruncated(PeerMisbehaved, ConnectionResetError):
    """The carrier ended without the peer's authenticated end of stream; what was read before is proven."""

    default_errno = _errno.ECONNRESET


class PeerIncompatible(SecureSocketError):
    """Both ends are honest and have nothing in common: EPROTONOSUPPORT."""

    default_errno = _errno.EPROTONOSUPPORT


class AuthenticationFailed(SecureSocketError):
    """The peer did not prove the name expected, or refused what we proved: EACCES.

    ``reason`` is a short stable word for counters ("expired", "revoked", "other-name"), empty where none is known.
    """

    default_errno = _errno.EACCES

    def __init__(self, message: str, *, reason: str = "", errno: int | None = None) -> None:
        super().__init__(message, errno=errno)
        self.reason = reason


class PolicyRefused(SecureSocketError):
    """Policy forbids this flow: EACCES.  ``filter_id`` names the filter that decided, if one did."""

    default_errno = _errno.EACCES

    def __init__(self, message: str, *, filter_id: int | None = None, errno: int | None = None) -> None:
        super().__init__(message, errno=errno)
        self.filter_id = filter_id


class KeyingTimeout(SecureSocketError, TimeoutError):
    """The peer did not finish the key exchange in time: ETIMEDOUT."""

    default_errno = _errno.ETIMEDOUT


class PlaneError(SecureSocketError):
    """What carries the protected bytes failed; ``errno`` is the system's."""


class WantRead(BlockingIOError):
    """A non-blocking call needs the descriptor to become readable first (as ssl.SSLWantReadError)."""


class WantWrite(BlockingIOError):
    """A non-blocking call needs the descriptor to become writable first (as ssl.SSLWantWriteError)."""
