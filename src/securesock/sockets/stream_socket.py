"""SecureSocket: a socket.socket whose bytes are IPsec-protected, made to be used wherever a socket is.

It is a subclass of socket.socket, as ssl.SSLSocket is.  The object's descriptor is the carrier, an ordinary TCP
connection that this library alone reads and writes; every inherited call is overridden, either by one that goes through
the protection or by a refusal.  What a socket is doing is one object at a time: an Attempt while it connects, a link
once it is connected, a Listener when it listens.

Rules of order, as Winsock has them: settings first (set_security), then the peer's name (set_peer_target_name), then
bind, listen or connect.  This module must not know how anything is negotiated, sealed or waited for.
"""

from __future__ import annotations

import _socket
import copy
import errno
import socket
import warnings
import weakref
from collections.abc import Callable, Mapping
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias, overload

from ..drivers.blocking import StreamLink
from ..drivers.closing import close_link
from ..drivers.reactor import in_reactor, reactor
from ..engine.admission import AllowList
from ..engine.asking import (
    ExpectedPeer,
    check_offers,
    check_settings,
    expected_peer,
    is_governed,
    is_governed_by_keys,
    name_of_host,
)
from ..engine.context import SecurityContext, default_context
from ..engine.fork import refuse_inherited
from ..engine.report import Asked, failed_info, live_info
from ..engine.user import check_listening, check_user, wipe_password
from ..errors import ConnectionBroken, LocalMisuse, PolicyRefused
from ..identity.accounts import AccountMap
from ..keying.admission import Admission, AdmitAnyTrusted
from ..types import ANY_TRUSTED_PEER, Address, AnyTrustedPeer, SecurityInfo, SecuritySettings
from .address_book import addresses_of, numeric_bound
from .calls import SocketCalls
from .planes import stream_plane
from .rooms import load_for, load_for_streams

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ..engine.applied import Applied
    from ..engine.live_flows import LiveFlow, PolicyChange
    from ..engine.socket_policy import SocketPolicy
    from ..engine.verdicts import Direction
    from ..identity.impersonation import Impersonation
    from ..policy import Explanation, Subscription
    from .attempt import Attempt
    from .listener import Listener
    from .negotiation import Accepted
    from .opening import Link

    _AnyAddress: TypeAlias = tuple[object, ...] | str | ReadableBuffer

__all__ = ["SecureSocket"]

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
# Linux lets SOCK_NONBLOCK and SOCK_CLOEXEC ride on the type.
_NONBLOCK: Final = int(getattr(socket, "SOCK_NONBLOCK", 0))
_EXTRAS: Final = _NONBLOCK | int(getattr(socket, "SOCK_CLOEXEC", 0))
_TIMEOUTS: Final = (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)
_DEFAULT_BACKLOG: Final = min(socket.SOMAXCONN, 128)


class SecureSocket(SocketCalls):
    """A TCP socket whose stream is protected by IPsec, keyed by IKEv2 on the connection itself; or, of SOCK_DGRAM, a
    UDP socket whose datagrams are, keyed on the socket's own port.

    ``context``: who we are and what may be agreed on; the user's configuration (default_context) when it is needed and
    none was given.  ``fileno`` exists for the signature's sake: a descriptor comes without keys, so it is LocalMisuse.
    """

    __slots__ = (
        "_admission",
        "_attempt",
        "_bound",
        "_context",
        "_expected",
        "_failure",
        "_info",
        "_keeps_password",
        "_listener",
        "_live",
        "_named",
        "_options",
        "_policy",
        "_public_addresses",
        "_settings",
        "_settings_given",
        "_unnamed",
    )

    def __new__(
        cls,
        family: int = -1,
        type: int = -1,
        proto: int = -1,
        fileno: int | None = None,
        *,
        context: SecurityContext | None = None,
    ) -> SecureSocket:
        """A SecureSocket of SOCK_DGRAM is a SecureDatagramSocket, one that Windows itself protects a NativeSocket."""
        if cls is SecureSocket and type != -1 and type & ~_EXTRAS == socket.SOCK_DGRAM:
            from .datagram_socket import SecureDatagramSocket  # when the first is made: it is built on this module

            return super().__new__(SecureDatagramSocket)
        if cls is SecureSocket and context is not None and context.plane == "windows":
            from .native import NativeSocket  # likewise

            return super().__new__(NativeSocket)
        return super().__new__(cls)

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
        if fileno is not None:
            raise LocalMisuse("a descriptor comes without keys: make a SecureSocket and connect or listen with it")
        kind = socket.SOCK_STREAM if type == -1 else type & ~_EXTRAS
        if kind != socket.SOCK_STREAM or (family != -1 and family not in _FAMILIES):
            raise LocalMisuse("SecureSocket carries TCP and UDP: AF_INET or AF_INET6, SOCK_STREAM or SOCK_DGRAM")
        load_for_streams()
        super().__init__(family, kind, proto)
        self._adopt_timeout(0.0 if type != -1 and type & _NONBLOCK else socket.getdefaulttimeout())

    @classmethod
    def _of_accepted(cls, accepted: Accepted) -> SecureSocket:
        carrier, asked = accepted.carrier, accepted.asked
        sock = cls.__new__(cls)
        sock._clear_state(asked.context)
        family, kind, proto = carrier.family, carrier.type, carrier.proto
        socket.socket.__init__(sock, family, kind, proto, carrier.detach())
        sock._adopt_timeout(socket.getdefaulttimeout())
        sock._settings = asked.settings
        if asked.policy is not None:
            asked.policy.hold()
            sock._policy = asked.policy
        sock._settle(accepted.link, accepted.info, accepted.asked, "inbound")
        return sock

    def _clear_state(self, context: SecurityContext | None) -> None:
        self._context = context
        self._link: Link | None = None
        self._attempt: Attempt | None = None
        self._listener: Listener | None = None
        self._failure: OSError | None = None
        self._info: SecurityInfo | None = None
        self._settings = SecuritySettings()
        self._settings_given = False
        self._expected: ExpectedPeer | None = None
        self._named = False
        self._keeps_password = False
        self._unnamed: AnyTrustedPeer | None = None
        self._admission: Admission = AdmitAnyTrusted()
        self._public_addresses: tuple[Address, ...] = ()
        self._options: dict[tuple[int, int], tuple[int | bytes | None, int]] = {}
        self._bound = False
        self._policy: SocketPolicy | None = None
        self._live: LiveFlow | None = None

    def _adopt_timeout(self, timeout: float | None) -> None:
        self._timeout = timeout
        _socket.socket.settimeout(self, 0.0)

    # -- what is asked -------------------------------------------------------------------------------------------------

    def set_security(self, settings: SecuritySettings) -> None:
        """What this socket must have; once, and before bind, listen and connect (WSASetSocketSecurity).

        A listener's settings are those of what it accepts.  From now on the socket's filters are in the context's
        filtering platform, if it has one.  LocalMisuse: too late, twice, or not to be had; a PolicyError where the
        platform does not take the filters.  Nothing is changed then.
        """
        if not isinstance(settings, SecuritySettings):
            raise LocalMisuse("set_security takes SecuritySettings or IPsecSettings")
        if self._settings_given:
            raise LocalMisuse("the settings of this socket are set already, and they are set once")
        if self._in_use or self._bound:
            raise LocalMisuse("settings come before bind(), listen() and connect()")
        check_settings(settings, self._context)
        policy = self._policy_under(settings)
        if policy is not None:
            policy.turn_on()
        self._settings, self._settings_given, self._policy = settings, True, policy

    def _policy_under(self, settings: SecuritySettings) -> SocketPolicy | None:
        """This socket's part in the filtering platform, None where there is none; most programs do without."""
        if self._policy is not None:
            return self._policy
        allowed = self._admission if isinstance(self._admission, AllowList) else None
        if allowed is not None:
            return self._new_policy(settings, allowed)
        if self._context is None and not is_governed_by_keys(settings):
            return None  # the user's own context is loaded when it is needed
        return self._new_policy(settings, None) if is_governed(self.context, settings) else None

    def _new_policy(self, settings: SecuritySettings, allowed: AllowList | None) -> SocketPolicy:
        from ..engine.socket_policy import SocketPolicy

        protocol = socket.IPPROTO_UDP if self.type == socket.SOCK_DGRAM else socket.IPPROTO_TCP
        return SocketPolicy(self.context, settings, protocol, 6 if self.family == socket.AF_INET6 else 4, allowed)

    def set_peer_target_name(self, peer: str | AnyTrustedPeer, address: Address | None = None) -> None:
        """Whom this socket must reach; before connect (WSASetSocketPeerTargetName).

        Without it the host name or IP literal of the address is what must be proven.
        A datagram socket is told who is at which ``address``, a connected one at that of its peer.
        LocalMisuse: too late, no name, or an address where there is but one peer.
        """
        if address is not None:
            raise LocalMisuse("a TCP socket has one peer: leave the address out")
        if self._in_use:
            raise LocalMisuse("the peer's name comes before connect(); a listener is told whom to admit by allow=")
        self._expected, self._named = expected_peer(peer), True

    def delete_peer_target_name(self, address: Address) -> None:
        """Of datagram sockets (WSADeleteSocketPeerTargetName); a TCP socket has one peer for life."""
        raise LocalMisuse("a TCP socket has one peer for life: make another socket")

    def _expect(self, expected: ExpectedPeer, *, named: bool, keeps_password: bool = False) -> None:
        """``named``: the application said so, not the address alone.  ``keeps_password``: the caller may try again."""
        self._expected, self._named, self._keeps_password = expected, named, keeps_password

    def _trust_any_unless_named(self) -> None:
        """Winsock's rule for a socket without a peer target name, where ours is the host of the address."""
        self._unnamed = ANY_TRUSTED_PEER

    def _forget_peer_target_name(self) -> None:
        self._expected, self._named = None, False

    def _why_failed(self, address: Address | None = None) -> OSError | None:
        """What ended the negotiation, if one failed; ``address``: of a datagram socket."""
        return self._failure

    def _admit(self, admission: Admission, public_addresses: tuple[Address, ...]) -> None:
        self._admission, self._public_addresses = admission, public_addresses
        if self._policy is not None and isinstance(admission, AllowList):
            self._policy.admit(admission)

    def query_security(self, address: Address | None = None) -> SecurityInfo:
        """What was really applied, beside what was asked (WSAQuerySocketSecurity); of a datagram socket with whom.

        Also after a negotiation that failed.  LocalMisuse: with errno ENOTCONN there was none yet, else the connection
        is that of the process that this one was forked from.
        """
        if address is not None:
            raise LocalMisuse("a TCP socket has one peer: leave the address out")
        info, link = self._info, self._link
        if link is not None and link.inherited:
            refuse_inherited("connection")
        if info is None:
            raise LocalMisuse(
                "nothing was negotiated on this socket yet; of a listener, ask the sockets that accept() returns",
                errno=errno.ENOTCONN,
            )
        if not isinstance(link, StreamLink):
            return info
        connection = link.connection
        if self._live is not None:
            info = self._live.current(info)
        return live_info(
            info,
            main_mode_sa_id=connection.main_mode_sa_id,
            quick_mode_sa_id=connection.quick_mode_sa_id,
            rekeys=connection.child_rekeys + connection.ike_rekeys,
            error=connection.error,
        )

    def impersonate_peer(self, address: Address | None = None) -> Impersonation:
        """A context manager: inside it this thread opens files as the local account that the peer is
        (WSAImpersonateSocketPeer); ``address`` says which peer of a datagram socket.

        The account is what SecurityContext(accounts=...) says of the user who was proven, or else of the machine.
        Executed programs run as the service all the same, and a thread started inside is the peer for good:
        docs/identity.md says what changes and what does not.
        PolicyRefused: the peer has no account here, or proved no name.  LocalMisuse: a non-blocking socket; nothing
        negotiated, or in vain (ENOTCONN).  ConnectionBroken: it has broken.  Entering raises what Impersonation says.
        """
        from ..identity.impersonation import Impersonation

        if self._timeout == 0:
            raise LocalMisuse("only a blocking socket has a peer to act as: what waits for many serves many at once")
        info = self.query_security(address)
        if info.latch == "broken":
            if info.secured:
                raise ConnectionBroken(f"the connection has broken: {info.negotiation_error}")
            raise LocalMisuse(f"the socket is not connected: {info.negotiation_error}", errno=errno.ENOTCONN)
        accounts = self.context.accounts
        if not isinstance(accounts, AccountMap):
            accounts = AccountMap(accounts)
        return Impersonation(*accounts.account_of(info.peer_user, info.peer_machine))

    @property
    def context(self) -> SecurityContext:
        """The context given, or the user's own."""
        if self._context is None:
            self._context = default_context()
        return self._context

    @property
    def _in_use(self) -> bool:
        return any(each is not None for each in (self._attempt, self._link, self._listener, self._failure))

    def _asked(self, expected: ExpectedPeer | None) -> Asked:
        # What cannot work is said here, before anything is sent.
        check_offers(self.context, self._settings)
        stream_plane(self.context.plane)
        load_for(self.context, self._settings)
        self._policy = self._policy_under(self._settings)
        return Asked(self._settings, expected, self.context, self._policy)

    # -- connecting ----------------------------------------------------------------------------------------------------

    def connect(self, address: _AnyAddress, /) -> None:
        """Connect, negotiate, and return when the peer is proven and everything agreed on is in force.

        A timeout is one deadline over all of it.  A non-blocking socket raises BlockingIOError (EINPROGRESS): go on
        with do_handshake().  After a failure the socket is of no further use, as POSIX has it: close it.
        Raises the system's own errors of connecting, and every SecureSocketError by blame.
        """
        started = monotonic()
        self._begin(address)
        if self._timeout == 0:
            raise BlockingIOError(errno.EINPROGRESS, "the connection is being made: go on with do_handshake()")
        self._finish_attempt(started)

    def connect_ex(self, address: _AnyAddress, /) -> int:
        """As connect(), with an errno for the system's errors and the peer's; LocalMisuse and gaierror are raised."""
        try:
            self.connect(address)
        except (LocalMisuse, socket.gaierror):
            raise
        except OSError as error:
            return error.errno or errno.EAGAIN  # a timeout of the socket's own has no errno
        return 0

    def do_handshake(self) -> None:
        """Go on with the negotiation of a non-blocking connect() until it is done; WantRead and WantWrite as for ssl.

        Returns at once on a connected socket.  Raises what ended the negotiation, again at each call.
        """
        if self._link is None:
            self._finish_attempt(monotonic())
        elif self._link.inherited:
            refuse_inherited("connection")

    def _begin(self, address: _AnyAddress) -> None:
        if self._link is not None:
            raise OSError(errno.EISCONN, "the socket is connected")
        if self._attempt is not None:
            raise BlockingIOError(errno.EALREADY, "the negotiation is under way: go on with do_handshake()")
        if self._listener is not None:
            raise LocalMisuse("a listening socket does not connect: make another one")
        if self._failure is not None:
            raise LocalMisuse(f"connect() failed on this socket ({self._failure}): make another one")
        if not isinstance(address, tuple) or len(address) < 2 or not isinstance(address[0], str):
            raise LocalMisuse(f"{address!r} is no address of TCP: give (host, port)")
        expected = self._expected or self._unnamed or name_of_host(address[0])
        check_user(self.context, self._settings, self._expected if self._named else None)
        attempt = self._new_attempt(self._asked(expected))
        self._send_at_once()
        try:
            attempt.begin(self, address)
        except PolicyRefused as error:
            self._failure, self._info = copy.copy(error), failed_info(attempt.asked, error)
            raise
        self._attempt = attempt

    def _new_attempt(self, asked: Asked) -> Attempt:
        # loaded with the first socket, and not with the class; so in listen()
        from .attempt import Attempt
        from .opening import Opening

        return Attempt(asked, Opening(asked, self._options, bound=self._bound))

    def _finish_attempt(self, started: float) -> None:
        attempt = self._attempt
        if attempt is None:
            raise self._not_connected()
        try:
            opened = attempt.finish(self, started, self._timeout)
        except BlockingIOError:
            raise
        except OSError as error:
            if attempt.failure is not None:
                self._negotiated()
                self._failure, self._info = attempt.failure, failed_info(attempt.asked, error)
                self._attempt = None
            raise
        self._negotiated()
        self._settle(opened.link, opened.info, opened.asked, "outbound")
        self._attempt = None

    def _negotiated(self) -> None:
        if not self._keeps_password:
            wipe_password(self._settings)

    def _settle(self, link: Link, info: SecurityInfo, asked: Asked, direction: Direction) -> None:
        if isinstance(link, StreamLink):
            link.adopt(self)
            if asked.policy is not None and asked.applied is not None:
                self._live = self._look_after(link, asked.policy, asked.applied, asked.expected, direction)
        self._link, self._info = link, info

    def _look_after(
        self,
        link: StreamLink,
        policy: SocketPolicy,
        applied: Applied,
        expected: ExpectedPeer | None,
        direction: Direction,
    ) -> LiveFlow | None:
        """Have the connection judged again whenever policy changes."""
        establishment, this = link.connection.establishment, weakref.ref(self)
        if establishment is None:
            return None
        return policy.live(
            applied,
            direction,
            expected,
            establishment,
            lambda error: link.break_off(error, this()),
            in_reactor,
        )

    def watch_policy(self, callback: Callable[[PolicyChange], object] | None = None) -> Subscription[PolicyChange]:
        """Hear when the policy of this connection becomes another one, or ends it (SecurityContext(policy=...)).

        The subscription is polled, waited for or iterated; with ``callback`` a daemon thread calls it.  It ends with
        the socket.  LocalMisuse: no connection that a filtering platform judges.
        """
        if self._live is None:
            raise LocalMisuse("no filtering platform judges this socket: it has to be connected under policy=...")
        return self._live.subscribe(callback)

    def explain_policy(self) -> tuple[Explanation, ...]:
        """Why this connection is judged as it is now: the account of each layer on its way, in words and as data.

        LocalMisuse: no connection that a filtering platform judges.
        """
        if self._live is None:
            raise LocalMisuse("no filtering platform judges this socket: it has to be connected under policy=...")
        return self._live.explain()

    def _connected(self) -> Link:
        if self._attempt is not None:
            self.do_handshake()
        if self._link is None:
            raise self._not_connected()
        return self._link

    def _not_connected(self) -> OSError:
        if self._failure is not None:
            return copy.copy(self._failure)  # one instance raised again and again would collect every traceback
        if socket.socket.fileno(self) < 0:
            return OSError(errno.EBADF, "the socket is closed")
        return OSError(errno.ENOTCONN, "the socket is not connected")

    # -- listening -----------------------------------------------------------------------------------------------------

    def bind(self, address: _AnyAddress, /) -> None:
        """As socket.bind().  PolicyRefused where the filtering platform forbids the address."""
        policy = self._policy_under(self._settings)
        if policy is not None:
            policy.may_bind(*numeric_bound(self, address)[:2])
        super().bind(address)
        self._bound = True

    def listen(self, backlog: int = _DEFAULT_BACKLOG, /) -> None:
        """Accept and negotiate from now on, side by side; at most ``backlog`` finished connections wait for accept().

        From now on fileno() is readable exactly while accept() would return at once.
        """
        if self._attempt is not None or self._link is not None or self._failure is not None:
            raise LocalMisuse("a socket that connected does not listen: make another one")
        if self._expected is not None:
            raise LocalMisuse("a listener is told whom to admit by create_server(allow=[...]), not by one peer's name")
        if self._listener is not None:
            self._listener.set_backlog(backlog)
            return
        check_listening(self._settings)
        asked = self._asked(None)
        admission = self._admission
        if self._policy is not None and self._policy.allowed is admission:
            admission = AdmitAnyTrusted()  # allow= is filters then
        from .listener import Listener
        from .negotiation import Terms

        terms = Terms(asked, admission, self._public_addresses)
        if self._policy is not None:
            if not self._bound:
                super().bind(("", 0))  # as the kernel does in listen()
                self._bound = True
            self._policy.listening(addresses_of(self))
        # The reactor empties the kernel's queue at once.  In a flood its length decides whether an honest client's
        # connection is taken or has to be asked for again, a second later: so it is as long as the system allows.
        super().listen(max(backlog, socket.SOMAXCONN))
        self._bound = True
        self._send_at_once()  # what is accepted inherits it
        kernel = socket.socket(self.family, self.type, self.proto, _socket.dup(socket.socket.fileno(self)))
        kernel.setblocking(False)
        self._listener = Listener(kernel, terms, backlog)
        self._listener.start()

    def accept(self) -> tuple[SecureSocket, Address]:
        """The next connection that is proven and confirmed by both sides, and the address it came from.

        A refused or unfinished one is never returned: see ``refusals``.
        """
        listener = self._listener
        if listener is None:
            raise OSError(errno.EINVAL, "the socket does not listen")
        accepted = listener.accept(self._timeout)
        return SecureSocket._of_accepted(accepted), accepted.address

    @property
    def refusals(self) -> Mapping[str, int]:
        """How many connections this listener let go without accepting them, by reason."""
        return MappingProxyType({} if self._listener is None else self._listener.refusals)

    def fileno(self) -> int:
        """The carrier's descriptor, to wait for it: never read or write it.  Of a listener: its readiness."""
        listener = self._listener
        if listener is None or socket.socket.fileno(self) < 0:
            return super().fileno()
        return listener.fileno()

    # -- options -------------------------------------------------------------------------------------------------------

    @overload
    def setsockopt(self, level: int, optname: int, value: int | ReadableBuffer, /) -> None: ...
    @overload
    def setsockopt(self, level: int, optname: int, value: None, optlen: int, /) -> None: ...

    def setsockopt(self, level: int, optname: int, value: int | ReadableBuffer | None, optlen: int = 0, /) -> None:
        """As socket.setsockopt(): of the carrier.  Remembered for a connection that is repeated in clear.

        LocalMisuse for the system's own timeouts, which would end waits that are ours: use settimeout().
        """
        if level == socket.SOL_SOCKET and optname in _TIMEOUTS:
            raise LocalMisuse("SO_RCVTIMEO and SO_SNDTIMEO are the carrier's own waits: use settimeout()")
        kept = value if value is None or isinstance(value, int) else bytes(value)
        if kept is None:
            super().setsockopt(level, optname, None, optlen)
        else:
            super().setsockopt(level, optname, kept)
        if self._link is None:
            self._options[level, optname] = kept, optlen

    def _send_at_once(self) -> None:
        """TCP_NODELAY unless the application chose: Nagle would hold its first request behind our last key message,
        until the peer's system acknowledges that one, which it delays by 40 ms and more (RFC 1122 4.2.3.2)."""
        if (socket.IPPROTO_TCP, socket.TCP_NODELAY) not in self._options:
            super().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # -- the end -------------------------------------------------------------------------------------------------------

    def shutdown(self, how: int, /) -> None:
        """SHUT_WR sends the authenticated end of our stream; the carrier stays open both ways, and so does rekeying.

        SHUT_RD makes recv() return b"" once what is opened was read.  A non-blocking socket may raise WantRead or
        WantWrite: call again.
        """
        if self._listener is not None:
            self._listener.close(wait=True)
            return
        link = self._connected()
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise OSError(errno.EINVAL, "shutdown takes SHUT_RD, SHUT_WR or SHUT_RDWR")
        if how != socket.SHUT_WR:
            link.read_shut = True
            link.wake_all()
        if how != socket.SHUT_RD:
            link.finish(self, self._timeout)

    def _real_close(self, _ss: object = None) -> None:
        if socket.socket.fileno(self) < 0:
            return
        link, attempt, listener, policy = self._link, self._attempt, self._listener, self._policy
        gone = None if policy is None else policy.release
        if self._live is not None:
            self._live.over()
        if listener is not None:
            listener.close(wait=True)
        elif attempt is not None:
            attempt.cancel()
        if link is None:
            _socket.socket.close(self)
            if gone is not None:
                gone()
        else:
            close_link(link, self, never_wait=self._timeout == 0, done=gone)

    def __del__(self) -> None:
        if socket.socket.fileno(self) < 0:
            return
        link, listener = getattr(self, "_link", None), getattr(self, "_listener", None)
        if isinstance(link, StreamLink):
            link.abort(self)
        if listener is not None:
            listener.close(wait=False)
        policy = getattr(self, "_policy", None)
        if policy is not None:
            # elsewhere: whoever is interrupted here may be in the middle of something of the engine's
            reactor().call(policy.release)
        try:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            _socket.socket.close(self)
