"""TCP sockets that the system itself protects: SecureSocket of SecurityContext(plane="windows").

The application's socket is an ordinary one, of which the system was told what it must have and whom it must reach; the
system negotiates, seals and opens.  What this library adds is its own surface: the same calls, the same errors, and
SecurityInfo.  A connection that the system does not call secured, where clear text was not allowed, is closed before
the application sees it.

The calls are planes/windows/extensions'.  This module must not know how they are made.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, TypeAlias

from ..drivers.clear import ClearLink
from ..drivers.waiting import READ, WRITE, this_thread
from ..engine.asking import ExpectedPeer, expected_peer
from ..engine.context import SecurityContext
from ..engine.report import Asked
from ..errors import LocalMisuse, PlaneError
from ..identity.impersonation import EXIT_NOT_RESTORED, Impersonation, LocalAccount
from ..identity.names import PeerTargetName
from ..planes.windows.extensions import SocketExtensions, system_extensions
from ..planes.windows.translation import packed_name, packed_settings, security_info
from ..types import Address, AnyTrustedPeer, Principal, SecurityInfo, SecuritySettings
from ..wire.winsock_errors import WSAError, WSAErrorCode
from .attempt import Attempt
from .negotiation import Accepted
from .opening import Opened, Opening, is_connected
from .stream_socket import SecureSocket

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    _AnyAddress: TypeAlias = tuple[object, ...] | str | ReadableBuffer

__all__ = ["NativeSocket", "revert_native"]

# What socket.socket.accept() is made of; ours is refused to whoever would get a carrier by it.
_accept: Final[Callable[[socket.socket], tuple[int, Address]]] = vars(_socket.socket)["_accept"]


class NativeSocket(SecureSocket):
    """See the module and SecureSocket.  Settings are handed to the system when they are given, or with the first of
    bind(), connect() and listen(); the peer's name before the connection."""

    __slots__ = ("_is_listening", "_is_named", "_refused", "_system")

    def __init__(
        self,
        family: int = -1,
        type: int = -1,
        proto: int = -1,
        fileno: int | None = None,
        *,
        context: SecurityContext | None = None,
    ) -> None:
        self._clear_state(context)
        if context is not None and context.policy is not None:
            raise LocalMisuse("Windows judges by filters of its own: leave policy= out where it protects the socket")
        if fileno is not None:
            raise LocalMisuse("a descriptor comes with settings of its own: make a SecureSocket and connect with it")
        kind = socket.SOCK_STREAM if type == -1 else type
        family = socket.AF_INET if family == -1 else family
        if kind != socket.SOCK_STREAM or family not in (socket.AF_INET, socket.AF_INET6):
            raise LocalMisuse(
                "plane='windows' carries TCP: AF_INET or AF_INET6, SOCK_STREAM; for UDP there is winsock.native"
            )
        made = self._system.new_socket(family, kind, proto if proto > 0 else socket.IPPROTO_TCP)
        socket.socket.__init__(self, family, kind, proto, made)
        self._adopt_timeout(socket.getdefaulttimeout())

    def _clear_state(self, context: SecurityContext | None) -> None:
        super()._clear_state(context)
        self._system: SocketExtensions = system_extensions()
        self._is_named = False
        self._is_listening = False
        self._refused: Counter[str] = Counter()

    # -- what is asked -------------------------------------------------------------------------------------------------

    def set_security(self, settings: SecuritySettings) -> None:
        """See SecureSocket; policy keys and credentials are the system's to judge (WSAError)."""
        if not isinstance(settings, SecuritySettings):
            raise LocalMisuse("set_security takes SecuritySettings or IPsecSettings")
        self._set_packed(settings, packed_settings(settings))

    def _set_packed(self, settings: SecuritySettings, packed: bytes) -> None:
        """``packed`` is what the system gets, ``settings`` what of it the rest of this package knows."""
        if self._settings_given:
            raise LocalMisuse("the settings of this socket are set already, and they are set once")
        if self._in_use or self._bound:
            raise LocalMisuse("settings come before bind(), listen() and connect()")
        self._system.set_security(self._handle, packed)
        self._settings, self._settings_given = settings, True

    def set_peer_target_name(self, peer: str | AnyTrustedPeer, address: Address | None = None) -> None:
        """See SecureSocket; names of machines alone ("host/NAME"), as the system knows no others."""
        if isinstance(expected := expected_peer(peer), PeerTargetName):
            _spn(expected)
        super().set_peer_target_name(peer, address)
        if self._settings_given:
            self._tell_name(self._expected)

    def _name_packed(self, packed: bytes) -> None:
        """A name in Windows' own form, which need not be one of ours; the system judges it."""
        self._system.set_peer_target_name(self._handle, packed)
        self._is_named = True

    def _forget_named(self, address: bytes) -> None:
        self._system.delete_peer_target_name(self._handle, address)
        self._is_named = False

    def _query_packed(self, template: bytes | None) -> bytes:
        """What the system answers, with whatever handles it opened for it."""
        return self._system.query_security(self._handle, template)

    def query_security(self, address: Address | None = None) -> SecurityInfo:
        """See SecureSocket; the system is asked each time."""
        known = super().query_security(address)
        if self._link is None or known.latch == "broken":
            return known
        try:
            now = security_info(self._system, self._handle, self._settings)
        except WSAError as error:
            if error.winerror != WSAErrorCode.WSAECONNRESET:
                raise
            return replace(known, latch="broken", negotiation_error=str(error))
        return replace(now, established_at=known.established_at)

    def impersonate_peer(self, address: Address | None = None) -> Impersonation:
        """See SecureSocket; by the system (WSAImpersonateSocketPeer), which also says which account the peer is."""
        if self._timeout == 0:
            raise LocalMisuse("only a blocking socket has a peer to act as: what waits for many serves many at once")
        info = self.query_security(address)
        peer = info.peer_user or info.peer_machine or Principal("", method="anonymous")
        return _NativeImpersonation(peer, self)

    @property
    def _handle(self) -> int:
        return socket.socket.fileno(self)

    @property
    def _in_use(self) -> bool:
        return self._is_listening or super()._in_use

    def _asked(self, expected: ExpectedPeer | None) -> Asked:
        """Everything is told to the system before anything is sent."""
        self._secure()
        self._tell_name(expected)
        return Asked(self._settings, expected, self.context)

    def _secure(self) -> None:
        """No settings at all are the system's default: secured, and never in clear."""
        if not self._settings_given:
            self._system.set_security(self._handle, None)
            self._settings_given = True

    def _tell_name(self, expected: ExpectedPeer | None) -> None:
        if isinstance(expected, PeerTargetName) and not self._is_named:
            self._system.set_peer_target_name(self._handle, packed_name(_spn(expected)))
            self._is_named = True

    # -- connecting ----------------------------------------------------------------------------------------------------

    def bind(self, address: _AnyAddress, /) -> None:
        """As socket.bind(); without settings the default ones hold from here on."""
        self._secure()
        super().bind(address)

    def _new_attempt(self, asked: Asked) -> Attempt:
        opening = _NativeOpening(asked, self._options, bound=self._bound)
        return Attempt(asked, opening)

    def _send_at_once(self) -> None:
        """The system's own default: no message of ours goes before the application's."""

    # -- listening -----------------------------------------------------------------------------------------------------

    def listen(self, backlog: int = 128, /) -> None:
        """As socket.listen(); the system negotiates with each client before its connection is there."""
        if self._attempt is not None or self._link is not None or self._failure is not None:
            raise LocalMisuse("a socket that connected does not listen: make another one")
        if self._expected is not None:
            raise LocalMisuse("a listener has no peer to name: policy of the system says who may connect")
        self._asked(None)
        _socket.socket.listen(self, backlog)
        self._bound = self._is_listening = True

    def accept(self) -> tuple[SecureSocket, Address]:
        """The next connection that the system calls secured; others are closed and counted, see ``refusals``."""
        if not self._is_listening:
            raise OSError(errno.EINVAL, "the socket does not listen")
        deadline = None if self._timeout is None else monotonic() + self._timeout
        while True:
            try:
                descriptor, address = _accept(self)
            except BlockingIOError:
                self._wait_for_client(deadline)
                continue
            carrier = socket.socket(self.family, self.type, self.proto, descriptor)
            accepted = self._judged(carrier, address)
            if accepted is not None:
                return accepted, address

    @property
    def refusals(self) -> Mapping[str, int]:
        """How many connections this listener closed because the system did not call them secured."""
        return MappingProxyType(dict(self._refused))

    def _judged(self, carrier: socket.socket, address: Address) -> SecureSocket | None:
        try:
            info = security_info(self._system, carrier.fileno(), self._settings)
        except OSError:
            carrier.close()
            self._refused["unknown"] += 1
            return None
        if not info.secured and not self._settings.allow_insecure:
            carrier.close()
            self._refused["in clear"] += 1
            return None
        link = ClearLink(guarded=False)
        asked = Asked(self._settings, None, self.context)
        return NativeSocket._of_accepted(Accepted(carrier, address, link, info, asked))

    def _wait_for_client(self, deadline: float | None) -> None:
        left = None if deadline is None else deadline - monotonic()
        if left is not None and left <= 0:
            if self._timeout == 0:
                raise BlockingIOError(errno.EAGAIN, "no connection waits")
            raise TimeoutError("timed out")
        this_thread().wait(self._handle, READ, left)


class _NativeOpening(Opening):
    """There is nothing to negotiate: a connection that is there is what the system made it."""

    __slots__ = ()

    def advance(self, carrier: socket.socket, now: float) -> Opened | int:
        """See Opening."""
        if not is_connected(carrier):
            return WRITE
        settings = self._asked.settings
        info = security_info(system_extensions(), _socket.socket.fileno(carrier), settings)
        if not info.secured and not settings.allow_insecure:
            raise PlaneError(
                "Windows made the connection and does not call it secured: see which IPsec policy covers it (netsh wfp "
                "show state); nothing was sent",
                errno=errno.EACCES,
            )
        return Opened(ClearLink(guarded=False), info, self._asked)


class _NativeImpersonation(Impersonation):
    """The system acts and reverts; the thread's credentials are not ours to read."""

    __slots__ = ("_is_begun", "_native")

    def __init__(self, principal: Principal, sock: NativeSocket) -> None:
        super().__init__(principal, principal.name)
        self._native = sock
        self._is_begun = False

    def __enter__(self) -> LocalAccount:
        if self._is_begun:
            raise LocalMisuse("an impersonation is entered once: ask the socket for another one")
        sock = self._native
        # WSAImpersonateSocketPeer is for blocking sockets, and ours never block but for this call.
        _socket.socket.setblocking(sock, True)
        try:
            sock._system.impersonate_peer(sock._handle, None)
        finally:
            _socket.socket.setblocking(sock, False)
        self._is_begun = True
        _threads.begun.append(self)
        return LocalAccount(self.principal.name, -1, -1, ())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_begun and self in _threads.begun:
            _threads.begun.remove(self)
            try:
                self._native._system.revert_impersonation()
            except OSError:
                # whoever went on would go on as the peer (WSASYSCALLFAILURE)
                os._exit(EXIT_NOT_RESTORED)

    def until_reverted(self) -> LocalAccount:
        """See Impersonation."""
        return self.__enter__()


class _Threads(threading.local):
    def __init__(self) -> None:
        self.begun: list[_NativeImpersonation] = []


_threads: Final = _Threads()


def revert_native() -> bool:
    """End what the system began last in this thread; False if there is nothing."""
    if not _threads.begun:
        return False
    _threads.begun[-1].__exit__(None, None, None)
    return True


def _spn(expected: PeerTargetName) -> str:
    if expected.form != "fqdn":
        raise LocalMisuse(
            f"Windows knows machines by their names, and {expected} is none: say 'host/NAME', or ANY_TRUSTED_PEER"
        )
    return expected.principal
