"""create_connection and create_server: the standard library's two conveniences, secured."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ..engine.asking import ExpectedPeer, expected_peer, name_of_host, read_admission, read_public_addresses
from ..engine.user import wipe_password
from ..errors import AuthenticationFailed, LocalMisuse, SecureSocketError
from .stream_socket import SecureSocket

if TYPE_CHECKING:
    from ..engine.context import SecurityContext
    from ..types import Address, AnyTrustedPeer, SecuritySettings

__all__ = ["create_connection", "create_server"]


class _DefaultTimeout:
    """Stands for socket.getdefaulttimeout() at the time of the call."""

    def __repr__(self) -> str:
        return "the default timeout"


_DEFAULT_TIMEOUT: Final = _DefaultTimeout()


def create_connection(
    address: tuple[str, int | str],
    timeout: float | _DefaultTimeout | None = _DEFAULT_TIMEOUT,
    source_address: tuple[str, int] | None = None,
    *,
    all_errors: bool = False,
    peer: str | AnyTrustedPeer | None = None,
    settings: SecuritySettings | None = None,
    context: SecurityContext | None = None,
) -> SecureSocket:
    """Connect to (host, port) and return the secured socket, as socket.create_connection does.

    ``timeout``: for each address that the host has, one deadline over TCP and the negotiation.
    ``peer``: who must be at the other end; not given, the host itself (a name, or an IP literal).
    Each address is tried in turn, but LocalMisuse ends it at once, and so does AuthenticationFailed where clear text is
    allowed: no later address may be used in clear after one has failed to prove itself.
    Raises the last SecureSocketError, or the last error if there was none; with ``all_errors`` an ExceptionGroup.
    """
    host, port = address
    expected = expected_peer(peer) if peer is not None else name_of_host(host)
    errors: list[OSError] = []
    try:
        for family, kind, proto, _, where in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
            try:
                return _connect(
                    family, kind, proto, where, timeout, source_address, expected, peer is not None, settings, context
                )
            except LocalMisuse:
                raise
            except OSError as error:
                errors.append(error)
                if isinstance(error, AuthenticationFailed) and settings is not None and settings.allow_insecure:
                    break
        if not errors:
            raise OSError("getaddrinfo returns an empty list")
        if all_errors:
            raise ExceptionGroup("create_connection failed", errors)
        raise _most_telling(errors)
    finally:
        if settings is not None:
            wipe_password(settings)
        errors.clear()  # an error holds its frame, and the frame holds the errors


def _most_telling(errors: list[OSError]) -> OSError:
    """The last that says something of the peer's security, or the last."""
    for error in reversed(errors):
        if isinstance(error, SecureSocketError):
            return error
    return errors[-1]


def _connect(
    family: int,
    kind: int,
    proto: int,
    where: tuple[object, ...],
    timeout: float | _DefaultTimeout | None,
    source_address: tuple[str, int] | None,
    expected: ExpectedPeer,
    named: bool,
    settings: SecuritySettings | None,
    context: SecurityContext | None,
) -> SecureSocket:
    sock = SecureSocket(family, kind, proto, context=context)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(sock.close)
        if not isinstance(timeout, _DefaultTimeout):
            sock.settimeout(timeout)
        if settings is not None:
            sock.set_security(settings)
        sock._expect(expected, named=named, keeps_password=True)
        if source_address:
            sock.bind(source_address)
        sock.connect(where)
        on_failure.pop_all()
    return sock


def create_server(
    address: tuple[str, int],
    *,
    family: int = socket.AF_INET,
    backlog: int | None = None,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
    settings: SecuritySettings | None = None,
    context: SecurityContext | None = None,
    allow: Iterable[str] | None = None,
    public_addresses: Iterable[Address] = (),
) -> SecureSocket:
    """A listening secured socket bound to (host, port), as socket.create_server makes one.

    ``settings``: of the listener and of everything it accepts.
    ``allow``: who may connect, as peer target names or globs on DNS labels ("host/*.example"), judged on what was
    proven and before the client is told that it succeeded; not given, any principal of the trust anchors.
    ``public_addresses``: under which (numeric host, port) clients may reach this listener through address translation;
    not given, under any.
    """
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("SO_REUSEPORT not supported on this platform")
    if dualstack_ipv6 and not socket.has_dualstack_ipv6():
        raise ValueError("dualstack_ipv6 not supported on this platform")
    if dualstack_ipv6 and family != socket.AF_INET6:
        raise ValueError("dualstack_ipv6 requires AF_INET6 family")
    sock = SecureSocket(family, socket.SOCK_STREAM, context=context)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(sock.close)
        if settings is not None:
            sock.set_security(settings)
        sock._admit(read_admission(allow), read_public_addresses(public_addresses))
        if os.name == "posix":  # elsewhere it would let another process take the port over
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dualstack_ipv6 else 1)
        try:
            sock.bind(address)
        except OSError as error:
            message = f"{error.strerror} (while attempting to bind on address {address!r})"
            raise OSError(error.errno, message) from None
        if backlog is None:
            sock.listen()
        else:
            sock.listen(backlog)
        on_failure.pop_all()
    return sock
