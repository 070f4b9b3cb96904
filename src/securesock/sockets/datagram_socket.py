"""SecureSocket of SOCK_DGRAM: a UDP socket whose datagrams are IPsec-protected, with as many peers as it likes.

Each address that is sent to, or that sends, has its own negotiation, SA pair and SecurityInfo.  The first datagram to
an address begins the negotiation.  Who has to be there is the name given for the address, or who was there before, or
the host that the address names.  This module must not know how anything is negotiated, sealed or waited for.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import socket
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic, time
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias, cast

from ..drivers.arrived import readiness_pair
from ..drivers.datagrams import DatagramCarrier
from ..drivers.ike_port import open_ike_port
from ..drivers.reactor import at_once, in_reactor, reactor
from ..drivers.system_errors import system_error
from ..engine.asking import ExpectedPeer, check_offers, expected_peer
from ..engine.context import SecurityContext
from ..engine.fork import process, refuse_inherited
from ..engine.ports import Arrival
from ..engine.report import Asked, datagram_info
from ..engine.user import proves_a_user, wipe_password
from ..entropy import SystemEntropy
from ..errors import LocalMisuse
from ..types import ANY_TRUSTED_PEER, Address, AnyTrustedPeer, SecurityInfo
from .address_book import AddressBook, LocalAddress, addresses_of, numeric_bound
from .ancillary import SCM_PRINCIPAL, SCM_SA_ID, SOL_SECURESOCK
from .calls import ReadableFile, readable, writable
from .datagram_keying import SocketKeying, is_routed
from .path import KernelPath
from .planes import datagram_machine
from .refused import check_no_flags, check_peek
from .rooms import load_for, load_for_datagrams
from .stream_socket import SecureSocket

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from ..engine.datagram_policy import DatagramPolicy
    from ..engine.live_flows import PolicyChange
    from ..engine.socket_policy import SocketPolicy
    from ..policy import Explanation, Subscription

    _AnyAddress: TypeAlias = tuple[object, ...] | str | ReadableBuffer

__all__ = ["SecureDatagramSocket"]

_LEFT_OUT: Final = object()
_NONBLOCK: Final = int(getattr(socket, "SOCK_NONBLOCK", 0))
_EXTRAS: Final = _NONBLOCK | int(getattr(socket, "SOCK_CLOEXEC", 0))


class _Names:
    """See drivers.datagrams.PeerNames."""

    def __init__(self, book: AddressBook, unnamed: AnyTrustedPeer | None, *, proves: bool) -> None:
        # nobody was named, which is not enough for a user: beginning says so
        self._anybody = ANY_TRUSTED_PEER if proves else unnamed
        self._book = book
        self.connected: Address | None = None

    def host(self, address: Address) -> ExpectedPeer:
        only = self.connected
        if only is not None and address[:2] != only[:2]:
            raise LocalMisuse(
                f"the socket is connected to {only[0]} port {only[1]} and would hear no answer of {address[0]} port "
                f"{address[1]}: use a socket that is not connected",
                errno=errno.EISCONN,
            )
        return self._anybody or self._book.host(address)


class SecureDatagramSocket(SecureSocket):
    """See SecureSocket, which makes it; made directly it is always of SOCK_DGRAM."""

    __slots__ = ("_book", "_carrier", "_carrier_made_in", "_judges", "_known", "_names", "_peer_address", "_readiness")

    def __init__(
        self,
        family: int = -1,
        type: int = socket.SOCK_DGRAM,
        proto: int = -1,
        fileno: int | None = None,
        *,
        context: SecurityContext | None = None,
    ) -> None:
        self._clear_state(context)
        self._carrier: DatagramCarrier | None = None
        self._carrier_made_in = process.generation
        self._judges: DatagramPolicy | None = None
        self._peer_address: Address | None = None
        self._readiness: tuple[socket.socket, socket.socket] | None = None
        if fileno is not None:
            raise LocalMisuse("a descriptor comes without keys: make a SecureSocket and send and receive with it")
        if type & ~_EXTRAS != socket.SOCK_DGRAM or family not in (-1, socket.AF_INET, socket.AF_INET6):
            raise LocalMisuse("a secured datagram socket is one of AF_INET or AF_INET6, and SOCK_DGRAM")
        load_for_datagrams()
        socket.socket.__init__(self, family, socket.SOCK_DGRAM, proto)
        self._book = AddressBook(self.family)
        self._known = cast("dict[object, Address]", self._book.known)  # asked for whatever is said to be an address
        self._adopt_timeout(0.0 if type & _NONBLOCK else socket.getdefaulttimeout())

    def __repr__(self) -> str:
        """Without the readiness descriptor that fileno() would make."""
        return f"<{type(self).__name__} fd={socket.socket.fileno(self)} family={self.family} peer={self._peer_address}>"

    # -- who is where --------------------------------------------------------------------------------------------------

    def set_peer_target_name(self, peer: str | AnyTrustedPeer, address: Address | None = None) -> None:
        """Who has to be at ``address`` (WSASetSocketPeerTargetName); of a connected socket it may be left out.

        Before the first datagram there.  LocalMisuse: too late, no name, or no address.
        """
        self._open().expect(self._address(address), expected_peer(peer))

    def delete_peer_target_name(self, address: Address) -> None:
        """End what there is with ``address``: its SA, its latch, its name (WSADeleteSocketPeerTargetName)."""
        self._open().forget(self._book.resolve(address))

    def query_security(self, address: Address | None = None) -> SecurityInfo:
        """What is in force with ``address`` (WSAQuerySocketSecurity); of a connected socket it may be left out.

        LocalMisuse with errno ENOTCONN: nothing was negotiated with it, or that has ended.
        """
        where = self._address(address)
        report = self._open().report(where)
        info = datagram_info(self._asked_of(where), report, "userspace", time() - monotonic())
        if info is None:
            raise LocalMisuse(f"nothing is negotiated with {where[0]} port {where[1]}", errno=errno.ENOTCONN)
        return info

    @property
    def refusals(self) -> Mapping[str, int]:
        """How many datagrams and negotiations were dropped or refused, by reason."""
        return MappingProxyType({} if self._carrier is None else self._carrier.dropped())

    @property
    def _in_use(self) -> bool:
        return self._carrier is not None

    def _asked_of(self, address: Address) -> Asked:
        applied = None if self._judges is None else self._judges.applied(address)
        return Asked(self._settings, None, self.context, applied=applied)

    def _address(self, address: Address | None) -> Address:
        if address is not None:
            return self._book.resolve(address)
        if self._peer_address is None:
            raise LocalMisuse("a datagram socket that is not connected has many peers: give the address of one")
        return self._peer_address

    def _why_failed(self, address: Address | None = None) -> OSError | None:
        return self._open().report(self._address(address)).error

    # -- the carrier ---------------------------------------------------------------------------------------------------

    def _open(self) -> DatagramCarrier:
        """The carrier, made and bound when it is first needed."""
        carrier = self._carrier
        if carrier is not None:
            return carrier
        if socket.socket.fileno(self) < 0:
            raise OSError(errno.EBADF, "the socket is closed")
        check_offers(self.context, self._settings)
        load_for(self.context, self._settings)
        policy = self._policy = self._policy_under(self._settings)
        if not self._bound:
            # as the kernel does when something is sent: any address, any port
            socket.socket.bind(self, ("", 0))
            self._bound = True
        if policy is not None:
            policy.bound(addresses_of(self))
        kernel = socket.socket(self.family, self.type, self.proto, _socket.dup(socket.socket.fileno(self)))
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(kernel.close)
            carrier = self._carrier = self._carrier_on(kernel, policy)
            on_failure.pop_all()
        self._carrier_made_in = process.generation
        if self._judges is not None:
            carrier.gone = self._judges.over
            self._judges.look_after(carrier.live, carrier.break_off, at_once, in_reactor)
        ike_kernel = open_ike_port(kernel) if self.context.peers else None
        if ike_kernel is not None:
            carrier.hear_at(ike_kernel)
        carrier.start()
        return carrier

    def _carrier_on(self, kernel: socket.socket, policy: SocketPolicy | None) -> DatagramCarrier:
        our_address = LocalAddress(kernel)
        keying = SocketKeying(
            self.context,
            self._settings,
            our_address,
            lambda: time() - monotonic(),
            SystemEntropy(),
            path=KernelPath(kernel),
            policy=None if policy is None else self._judging(policy, our_address),
        )
        machine = datagram_machine(self.context.plane, keying, self._settings.allow_insecure)
        proves = proves_a_user(self.context, self._settings)
        names = self._names = _Names(self._book, self._unnamed, proves=proves)
        return DatagramCarrier(kernel, machine, names, self._readiness)

    def _judging(self, policy: SocketPolicy, our_address: Callable[[Address], Address]) -> DatagramPolicy:
        from ..engine.datagram_policy import DatagramPolicy  # of the filtering platform, which most do without

        judges = self._judges = DatagramPolicy(policy, our_address)
        return judges

    def watch_policy(self, callback: Callable[[PolicyChange], object] | None = None) -> Subscription[PolicyChange]:
        """Hear when the policy of the flow with any peer becomes another one, or ends the SA with it; see TCP's."""
        self._open()
        if self._judges is None:
            raise LocalMisuse("no filtering platform judges this socket: it has to be made under policy=...")
        return self._judges.subscribe(callback)

    def explain_policy(self, address: Address | None = None) -> tuple[Explanation, ...]:
        """Why the flow with ``address`` is judged as it is now; see TCP's.  LocalMisuse: nothing was begun with it."""
        self._open()
        if self._judges is None:
            raise LocalMisuse("no filtering platform judges this socket: it has to be made under policy=...")
        return self._judges.explain(self._address(address))

    def bind(self, address: _AnyAddress, /) -> None:
        """As socket.bind(); from then on whoever begins there is negotiated with.

        PolicyRefused where the filtering platform forbids the address.
        """
        self._refuse_in_child()
        policy = self._policy_under(self._settings)
        if policy is not None:
            policy.may_bind(*numeric_bound(self, address)[:2])
        socket.socket.bind(self, address)
        self._bound = True
        self._open()

    def connect(self, address: _AnyAddress, /) -> None:
        """Fix the peer, as for any UDP socket; the first datagram begins the negotiation."""
        self._refuse_in_child()
        carrier = self._open()
        resolved = self._book.resolve(address)
        if is_routed(self.context, resolved):
            # what comes and goes has the standard host's address, and on the wire no other
            carrier.only = resolved
        else:
            socket.socket.connect(self, resolved)
        self._peer_address = carrier.connected = self._names.connected = resolved

    def _refuse_in_child(self) -> None:
        """Before a call that would change the descriptor, which is the parent's, too."""
        if self._carrier is not None and self._carrier_made_in != process.generation:
            refuse_inherited("datagram socket")

    def getpeername(self) -> Address:
        """The address that the socket is connected to, behind whatever standard host."""
        if self._carrier is not None and self._carrier.only is not None:
            return self._carrier.only
        address: Address = socket.socket.getpeername(self)
        return address

    def do_handshake(self) -> NoReturn:
        """Not of datagram sockets."""
        raise LocalMisuse("datagram sockets negotiate with each peer when the first datagram is sent there")

    def listen(self, backlog: int = 0, /) -> NoReturn:
        """Not of datagram sockets."""
        raise system_error(errno.EOPNOTSUPP)

    def accept(self) -> NoReturn:
        """Not of datagram sockets."""
        raise system_error(errno.EOPNOTSUPP)

    def fileno(self) -> int:
        """A descriptor that is readable exactly while a receiving call would return at once: to wait for, only.

        -1 once the socket is closed.  A blocking socket is faster without it.
        """
        if socket.socket.fileno(self) < 0:
            return -1
        if self._carrier is None and not self._bound:
            # not bound by being looked at: the descriptor becomes the carrier's when there is one
            if self._readiness is None:
                self._readiness = readiness_pair()
            return self._readiness[0].fileno()
        return self._open().fileno()

    # -- sending -------------------------------------------------------------------------------------------------------

    def sendto(self, data: ReadableBuffer, flags_or_address: object, address: object = _LEFT_OUT, /) -> int:
        """sendto(data, address) or sendto(data, flags, address): seal and send one datagram; its length.

        The first to an address negotiates: a blocking call returns after that or raises its error, within the timeout
        (None: 10 s); a non-blocking one keeps the datagram and raises at the next call, BlockingIOError once 64 or
        64 KiB are kept.  An address of None means the connected peer.
        """
        if address is _LEFT_OUT:
            carrier = self._carrier
            try:
                known = self._known.get(flags_or_address)
            except TypeError:  # a list, for one
                known = None
            # as nearly all calls are
            if known is not None and type(data) is bytes and carrier is not None:
                carrier.send(data, known, self._timeout)
                return len(data)
            address = flags_or_address
        else:
            if not isinstance(flags_or_address, int):
                raise TypeError("flags is an integer")
            check_no_flags(flags_or_address)
        return self._send(data if type(data) is bytes else readable(data), address)

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """sendto() the connected peer."""
        if flags:
            check_no_flags(flags)
        return self._send(data if type(data) is bytes else readable(data), None)

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        """As send(): a datagram goes as a whole."""
        self.send(data, flags)

    def sendmsg(
        self,
        buffers: Iterable[ReadableBuffer],
        ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (),
        flags: int = 0,
        address: tuple[object, ...] | str | ReadableBuffer | None = None,
        /,
    ) -> int:
        """As sendto(), of several buffers as one datagram.  LocalMisuse for ancillary data and flags."""
        if list(ancdata):
            raise LocalMisuse("ancillary data would leave the protection: send it as data, or over a local socket")
        check_no_flags(flags)
        return self._send(memoryview(b"".join(buffers)), address)

    def _send(self, data: bytes | memoryview, address: object) -> int:
        carrier = self._carrier or self._open()
        carrier.send(data, self._where(address), self._timeout)
        return len(data)

    def _where(self, address: object) -> Address:
        if address is not None:
            return self._book.resolve(address)
        if self._peer_address is None:
            raise system_error(errno.EDESTADDRREQ)
        return self._peer_address

    def send_batch(self, batch: Sequence[ReadableBuffer], address: Address | None = None) -> int:
        """Seal and send several datagrams with as few system calls as the kernel allows; how many were sent.

        Fewer than there are: a call with the rest raises what hinders its first one.
        Datagrams of one length in a row go in one call where the kernel has UDP_SEGMENT.
        """
        carrier = self._carrier or self._open()
        views = [each if type(each) is bytes else readable(each) for each in batch]
        return carrier.send_batch(views, self._where(address), self._timeout)

    def sendfile(self, file: ReadableFile, offset: int = 0, count: int | None = None) -> NoReturn:
        """Refused: a file is a stream, and datagrams may be lost."""
        raise LocalMisuse("a file is a stream, and datagrams may be lost: use a TCP socket")

    # -- receiving -----------------------------------------------------------------------------------------------------

    def _receive(self, flags: int) -> Arrival:
        carrier = self._carrier
        if carrier is None:
            if not self._bound:
                raise OSError(errno.EINVAL, "a datagram socket receives when it is bound or has sent something")
            carrier = self._open()
        return carrier.receive(self._timeout, peek=bool(flags) and check_peek(flags))

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """The next datagram, cut to ``bufsize`` bytes.  Raises TimeoutError, BlockingIOError.

        Of a connected socket also why its negotiation failed.
        """
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        return self._receive(flags).data[:bufsize]

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Address | None]:
        """As recv(), and the address of its sender, who has proven who it is (query_security, recvmsg)."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recvfrom")
        carrier = self._carrier
        data, address, _, _ = self._receive(flags) if flags or carrier is None else carrier.receive(self._timeout)
        return data[:bufsize], address

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """As recv(), into ``buffer``; how many bytes."""
        return self.recvfrom_into(buffer, nbytes, flags)[0]

    def recvfrom_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Address | None]:
        """As recvfrom(), into ``buffer``."""
        view = writable(buffer, nbytes)
        arrival = self._receive(flags)
        data = arrival.data[: len(view)]
        view[: len(data)] = data
        return len(data), arrival.address

    def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Address | None]:
        """As recvfrom(), with ancillary data of level SOL_SECURESOCK: SCM_PRINCIPAL and SCM_SA_ID.

        The flags returned hold MSG_TRUNC where the datagram was longer than ``bufsize``.  ``ancbufsize`` 0 asks for no
        ancillary data, any other value for all of it.
        """
        if bufsize < 0 or ancbufsize < 0:
            raise ValueError("negative buffer size in recvmsg")
        arrival = self._receive(flags)
        truncated = int(socket.MSG_TRUNC) if len(arrival.data) > bufsize else 0
        return arrival.data[:bufsize], _ancillary(arrival) if ancbufsize else [], truncated, arrival.address

    def recvmsg_into(
        self, buffers: Iterable[WriteableBuffer], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, Address | None]:
        """As recvmsg(), into several buffers in turn."""
        views = [writable(each, 0) for each in buffers]
        data, ancillary, truncated, address = self.recvmsg(sum(map(len, views)), ancbufsize, flags)
        rest = memoryview(data)
        for view in views:
            count = min(len(view), len(rest))
            view[:count] = rest[:count]
            rest = rest[count:]
        return len(data), ancillary, truncated, address

    def recv_batch(self, max_datagrams: int) -> list[tuple[bytes, Address]]:
        """At least one datagram and at most ``max_datagrams``: what is there, with the addresses of the senders.

        The kernel joins what it can (UDP_GRO) from the first call on.
        """
        if max_datagrams < 1:
            raise ValueError("a batch is of one datagram at least")
        carrier = self._carrier or self._open()
        return [each[:2] for each in carrier.receive_batch(max_datagrams, self._timeout)]

    def pending(self) -> int:
        """Always 0: a datagram that is opened is delivered, or makes fileno() readable."""
        return 0

    # -- the end -------------------------------------------------------------------------------------------------------

    def shutdown(self, how: int, /) -> None:
        """Not of datagram sockets, which have no end of stream."""
        raise system_error(errno.ENOTCONN if self._peer_address is None else errno.EOPNOTSUPP)

    def _real_close(self, _ss: object = None) -> None:
        if socket.socket.fileno(self) < 0:
            return
        carrier = self._carrier
        wipe_password(self._settings)  # until now another peer's negotiation may have needed it
        _socket.socket.close(self)
        if carrier is not None:
            carrier.close(wait=self._timeout != 0)
        else:
            for each in self._readiness or ():
                each.close()
            if self._policy is not None:
                self._policy.release()

    def __del__(self) -> None:
        if socket.socket.fileno(self) < 0:
            return
        carrier = getattr(self, "_carrier", None)
        if carrier is not None:
            carrier.close(wait=False)
        elif (policy := getattr(self, "_policy", None)) is not None:
            reactor().call(policy.release)
        try:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            _socket.socket.close(self)


def _ancillary(arrival: Arrival) -> list[tuple[int, int, bytes]]:
    if arrival.principal is None:
        return []
    return [
        (SOL_SECURESOCK, SCM_PRINCIPAL, arrival.principal.name.encode()),
        (SOL_SECURESOCK, SCM_SA_ID, arrival.sa_id.to_bytes(8, "big")),
    ]
