"""The six functions of the Winsock Secure Socket Extensions, over SecureSocket.

They take what Windows' take, without pointers and lengths: a structure or its packed bytes; they return 0 or the
structure asked for, and raise WSAError with the documented code.  The rules of order are SecureSocket's own; here they
get their codes.  A stream has one peer; a datagram socket has one for each address, so that name, template and
impersonation need it.  Source: ws2tcpip.h, and Microsoft's page on each function; docs/winsock.md has what those leave
open.
"""

from __future__ import annotations

import errno
import socket
import weakref
from typing import TYPE_CHECKING, Final

from ..errors import LocalMisuse, PlaneError, PolicyRefused, SecureSocketError
from ..identity.impersonation import revert_to_self
from ..sockets.datagram_socket import SecureDatagramSocket
from ..sockets.native import NativeSocket, revert_native
from ..sockets.stream_socket import SecureSocket
from ..types import Address, IPsecSettings, SecuritySettings
from ..wire.winsock_errors import WSAError, WSAErrorCode
from ..wire.winsock_fields import invalid, pack_sockaddr_storage
from ..wire.winsock_structures import SOCKET_SECURITY_SETTINGS, SOCKET_SECURITY_SETTINGS_IPSEC
from .answers import QueryInfo, answer, is_connected, negotiated, system_answer, with_tokens, without_tokens
from .arguments import check_settings, one_of_many, read_name, read_peer, read_settings, read_template, secure_socket
from .overlapped import Completion, CompletionRoutine, Overlapped

if TYPE_CHECKING:
    from .arguments import GivenName, GivenPeer, GivenSettings, GivenTemplate

__all__ = [
    "WSADeleteSocketPeerTargetName",
    "WSAImpersonateSocketPeer",
    "WSAQuerySocketSecurity",
    "WSARevertImpersonation",
    "WSASetSocketPeerTargetName",
    "WSASetSocketSecurity",
    "query_into",
]

_IMPERSONATION_CODES: Final = {errno.EPERM: WSAErrorCode.WSAEACCES, errno.ENOTSUP: WSAErrorCode.WSAEOPNOTSUPP}

# For which address a stream's name was given, if for one.
_named: Final[weakref.WeakKeyDictionary[SecureSocket, Address]] = weakref.WeakKeyDictionary()


def WSASetSocketSecurity(
    sock: SecureSocket,
    settings: GivenSettings = None,
    overlapped: Overlapped[int] | None = None,
    completion_routine: CompletionRoutine[int] | None = None,
) -> int:
    """Secure ``sock`` as the structure says, None as the default does; 0.

    Once, and before bind, listen and connect.  A socket that is secured in this way and given no peer target name
    takes any machine of the trust anchors for its peer, as Windows does; SecurityInfo.differences says so.  No other
    socket may share its port afterwards (SO_EXCLUSIVEADDRUSE, where there is none SO_REUSEPORT is taken away).

    WSAEISCONN: connected.  WSAEINVAL: a bad value in the structure, a policy key that nothing is stored under, bound or
    in use, a second call.  WSAEMSGSIZE: too few bytes.  WSAENOTSOCK, WSAEFAULT.  After an error nothing is changed.
    """
    secure = secure_socket(sock)
    completion = Completion(overlapped, completion_routine)
    structure = read_settings(settings)
    try:
        asked = check_settings(structure)
        _check_not_connected(secure)
        _hand_over(secure, asked, structure)
    finally:
        if structure is not settings and isinstance(structure, SOCKET_SECURITY_SETTINGS_IPSEC):
            structure.wipe()
    secure._trust_any_unless_named()
    _keep_port_to_itself(secure)
    return completion.succeed(0)


def WSAQuerySocketSecurity(
    sock: SecureSocket,
    template: GivenTemplate = None,
    overlapped: Overlapped[QueryInfo] | None = None,
    completion_routine: CompletionRoutine[QueryInfo] | None = None,
    *,
    info_length: int | None = None,
) -> QueryInfo:
    """What protects the connection of ``sock``, in the form that the template asks for.

    No template, or one that is all zero, asks for Flags alone; one of the IPSEC2 form for the SA ids of its FieldMask
    and the outcome of the negotiation.  After a negotiation that failed nothing is secured, and NegotiationWinerr says
    why.  With a PeerTokenAccessMask there are handles of the tokens of the peer's user and machine, 0 for what was not
    proven; they are the caller's to close (CloseHandle).
    A datagram socket's template is required, with the host and port of the peer.
    ``info_length``: how many bytes the caller has for the answer; None for as many as it takes, 0 to ask for the size,
    which the error has as ``needed_length``.

    WSAENOTCONN: nothing negotiated yet, or a listener.  WSAECONNRESET: the connection has broken.  WSAEFAULT: an
    ``info_length`` of 0 without a template.  WSAEMSGSIZE: any other that is too small, or a template that is cut short
    or missing.  WSAEINVAL, WSAEOPNOTSUPP: a bit of the template, or its address.  WSAEAFNOSUPPORT, WSAENOTSOCK.
    """
    return query_into(sock, template, overlapped, completion_routine, info_length, None)


def WSASetSocketPeerTargetName(
    sock: SecureSocket,
    peer_target_name: GivenName,
    overlapped: Overlapped[int] | None = None,
    completion_routine: CompletionRoutine[int] | None = None,
) -> int:
    """Whom ``sock`` must reach, before connect(); 0.  Of several the last one holds.

    A stream needs no PeerAddress: it has one peer, and its name holds wherever it connects to.  A datagram socket takes
    one name for each address, before the first datagram there.

    WSAEISCONN: connected.  WSAEINVAL: a text that is no peer target name, a listener, a connect() under way or failed,
    no host or port for a datagram socket.  WSAEFAULT: None.  WSAEAFNOSUPPORT: PeerAddress of another family.
    WSAEMSGSIZE, WSAENOTSOCK.
    """
    secure = secure_socket(sock)
    completion = Completion(overlapped, completion_routine)
    name = read_name(peer_target_name)
    _check_not_connected(secure)
    try:
        if isinstance(secure, SecureDatagramSocket):
            secure.set_peer_target_name(name.PeerTargetName, one_of_many(name.PeerAddress, "PeerAddress"))
        elif isinstance(secure, NativeSocket):
            secure._name_packed(name.pack())
        else:
            secure.set_peer_target_name(name.PeerTargetName)
            _remember(secure, name.PeerAddress)
    except LocalMisuse as error:
        raise invalid(str(error)) from error
    except socket.gaierror as error:
        raise WSAError(WSAErrorCode.WSAEAFNOSUPPORT, "PeerAddress is of another family than the socket") from error
    return completion.succeed(0)


def WSADeleteSocketPeerTargetName(
    sock: SecureSocket,
    peer_addr: GivenPeer,
    overlapped: Overlapped[int] | None = None,
    completion_routine: CompletionRoutine[int] | None = None,
) -> int:
    """No authentication towards ``peer_addr`` (an address tuple, or the bytes of a sockaddr) uses a name any more; 0.

    A stream's name goes unless it was given for another host; what is connected already stays as it is.  A datagram
    socket's SA with the address ends, too.  There may be nothing to delete.

    WSAEFAULT: None.  WSAEAFNOSUPPORT: another family.  WSAEINVAL: no address; no host or port for a datagram socket.
    WSAEMSGSIZE, WSAENOTSOCK.
    """
    secure = secure_socket(sock)
    completion = Completion(overlapped, completion_routine)
    peer = read_peer(peer_addr, "PeerAddr")
    if isinstance(secure, SecureDatagramSocket):
        try:
            secure.delete_peer_target_name(one_of_many(peer, "PeerAddr"))
        except LocalMisuse as error:
            raise invalid(str(error)) from error
        except socket.gaierror as error:
            raise WSAError(WSAErrorCode.WSAEAFNOSUPPORT, "PeerAddr is of another family than the socket") from error
        return completion.succeed(0)
    if isinstance(secure, NativeSocket):
        secure._forget_named(pack_sockaddr_storage(peer))
        return completion.succeed(0)
    named = _named.get(secure)
    if named is None or (peer is not None and peer[0] == named[0]):
        secure._forget_peer_target_name()
        _remember(secure, None)
    return completion.succeed(0)


def WSAImpersonateSocketPeer(sock: SecureSocket, peer_addr: GivenPeer = None) -> int:
    """Have the calling thread act as the local account of the peer, until WSARevertImpersonation; 0.

    ``peer_addr`` says which peer of a datagram socket, and is not looked at for a stream.  Whose account it is says
    SecurityContext(accounts=...), of the user if one was proven and else of the machine.  SecureSocket.impersonate_peer
    is the same as a context manager, which cannot be left without the thread's being put back.

    WSAEINVAL: the socket is non-blocking, an event loop runs in this thread, or an address without host or port.
    WSAENOTCONN, WSAECONNRESET: as for WSAQuerySocketSecurity, and after a negotiation that failed.  WSAEACCES: the peer
    has no account on this machine, or this process not the privilege.  WSAEOPNOTSUPP: not on this system.
    WSASYSCALLFAILURE: the system did otherwise than it was told.  WSAEFAULT: None for a datagram socket.
    WSAEAFNOSUPPORT, WSAEMSGSIZE, WSAENOTSOCK.  After an error nothing of the thread has changed.
    """
    secure = secure_socket(sock)
    if secure.gettimeout() == 0:
        raise invalid("only blocking sockets have a peer to act as")
    peer = None if _is_stream(secure) else one_of_many(read_peer(peer_addr, "PeerAddr"), "PeerAddr")
    info = negotiated(secure, peer)
    if info.latch == "broken":
        raise WSAError(WSAErrorCode.WSAENOTCONN, f"the socket is not connected: {info.negotiation_error}")
    try:
        secure.impersonate_peer(peer).until_reverted()
    except PolicyRefused as error:
        raise WSAError(WSAErrorCode.WSAEACCES, str(error)) from error
    except LocalMisuse as error:
        code = _IMPERSONATION_CODES.get(error.errno or 0, WSAErrorCode.WSAEINVAL)
        raise WSAError(code, str(error)) from error
    except PlaneError as error:
        raise WSAError(WSAErrorCode.WSASYSCALLFAILURE, str(error)) from error
    return 0


def WSARevertImpersonation() -> int:
    """End what WSAImpersonateSocketPeer began last in this thread; nothing, if it did not; 0.

    Where the thread cannot be put back the process ends, and no code is returned: whoever went on would go on as the
    peer.
    """
    if not revert_native():
        revert_to_self()
    return 0


def query_into(
    sock: SecureSocket,
    template: GivenTemplate,
    overlapped: Overlapped[QueryInfo] | None,
    completion_routine: CompletionRoutine[QueryInfo] | None,
    info_length: int | None,
    into: memoryview | None,
) -> QueryInfo:
    """WSAQuerySocketSecurity, with room for the packed answer: it is there before the call completes."""
    secure = secure_socket(sock)
    completion = Completion(overlapped, completion_routine)
    asked = read_template(template, stream=_is_stream(secure))
    if asked is not None and not _is_stream(secure):
        one_of_many(asked.PeerAddress, "PeerAddress")
    native = secure if isinstance(secure, NativeSocket) else None
    info = answer(secure, asked) if native is None else system_answer(native, without_tokens(asked))
    needed = len(info.pack())
    if info_length is not None and info_length < needed:
        code = WSAErrorCode.WSAEFAULT if asked is None and info_length == 0 else WSAErrorCode.WSAEMSGSIZE
        raise WSAError(code, f"the answer has {needed} bytes, room is for {info_length}", needed_length=needed)
    # last, when nothing can fail any more: a handle that nobody is told of is never closed
    info = with_tokens(secure, info, asked) if native is None else system_answer(native, asked)
    if into is not None:
        into[:needed] = info.pack()
    return completion.succeed(info, needed)


def _hand_over(
    sock: SecureSocket,
    asked: SecuritySettings,
    structure: SOCKET_SECURITY_SETTINGS | SOCKET_SECURITY_SETTINGS_IPSEC,
) -> None:
    """To the socket; one that the system protects gets the structure as it is."""
    try:
        if isinstance(sock, NativeSocket):
            sock._set_packed(asked, structure.pack())
        else:
            sock.set_security(asked)
    except SecureSocketError as error:
        if isinstance(asked, IPsecSettings):
            asked.password.wipe()
        if isinstance(error, LocalMisuse):
            raise invalid(str(error)) from error
        raise


def _is_stream(sock: SecureSocket) -> bool:
    return not isinstance(sock, SecureDatagramSocket)


def _remember(sock: SecureSocket, address: Address | None) -> None:
    if address is None:
        _named.pop(sock, None)
    else:
        _named[sock] = address


def _check_not_connected(sock: SecureSocket) -> None:
    if is_connected(sock):
        raise WSAError(WSAErrorCode.WSAEISCONN, "the socket is connected: this comes before connect()")


def _keep_port_to_itself(sock: SecureSocket) -> None:
    """What SO_EXCLUSIVEADDRUSE is for, on the platform at hand: nobody else may receive what is sent to this port."""
    exclusive: int | None = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
    shared: int | None = getattr(socket, "SO_REUSEPORT", None)
    if exclusive is not None:
        sock.setsockopt(socket.SOL_SOCKET, exclusive, 1)
    elif shared is not None:
        sock.setsockopt(socket.SOL_SOCKET, shared, 0)
