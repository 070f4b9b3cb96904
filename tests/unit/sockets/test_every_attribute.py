"""Every attribute of socket.socket is secured or refused: none is inherited unseen."""

from __future__ import annotations

import copy
import multiprocessing.reduction
import pickle
import socket
from collections.abc import Callable, Iterator

import pytest

import securesock as ss
from securesock.sockets.datagram_socket import SecureDatagramSocket
from tests.support.loopback import client_context

# What moves bytes of the stream, or says who moves them when: overridden by ours.
_SECURED = {
    "accept", "bind", "connect", "connect_ex", "fileno", "get_inheritable", "getblocking", "gettimeout",
    "listen", "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "send", "sendall",
    "sendfile", "sendmsg", "setblocking", "setsockopt", "settimeout", "shutdown", "timeout", "_real_close",
    "__init__", "__del__",
}  # fmt: skip
# What would lead around the protection: LocalMisuse.
_REFUSED = {
    "_accept", "detach", "dup", "ioctl", "sendmsg_afalg", "sendto", "set_inheritable", "share", "__getstate__",
    "__reduce_ex__", "_sendfile_use_sendfile",
}  # fmt: skip
# What tells about the descriptor or the object and moves no byte, or is built on the calls above.
_HARMLESS = {
    "close",
    "_check_sendfile_params", "_closed", "_decref_socketios", "_io_refs", "_sendfile_use_send", "family", "getpeername",
    "getsockname", "getsockopt", "makefile", "proto", "type", "__class__", "__delattr__", "__dir__", "__doc__",
    "__enter__", "__eq__", "__exit__", "__format__", "__ge__", "__getattribute__", "__gt__", "__hash__",
    "__init_subclass__", "__le__", "__lt__", "__module__", "__ne__", "__new__", "__reduce__", "__repr__", "__setattr__",
    "__sizeof__", "__slots__", "__str__", "__subclasshook__", "__weakref__", "__static_attributes__",
    "__firstlineno__",
}  # fmt: skip


@pytest.fixture
def sock() -> Iterator[ss.SecureSocket]:
    with ss.SecureSocket(context=client_context()) as fresh:
        yield fresh


def test_every_attribute_of_a_socket_is_accounted_for() -> None:
    unknown = set(dir(socket.socket)) - _SECURED - _REFUSED - _HARMLESS
    assert not unknown, f"decide what a secured socket does with {sorted(unknown)}"


@pytest.mark.parametrize("name", sorted((_SECURED | _REFUSED) & set(dir(socket.socket))))
def test_what_matters_is_our_own_and_not_the_base_classs(name: str) -> None:
    ours = getattr(ss.SecureSocket, name)
    assert ours is not getattr(socket.socket, name, None)


_CALLS: dict[str, Callable[[ss.SecureSocket], object]] = {
    "_accept": lambda sock: sock._accept(),
    "_sendfile_use_sendfile": lambda sock: sock._sendfile_use_sendfile(None),
    "detach": lambda sock: sock.detach(),
    "dup": lambda sock: sock.dup(),
    "ioctl": lambda sock: sock.ioctl(0, 0),
    "sendmsg_afalg": lambda sock: sock.sendmsg_afalg([b"x"], op=0),
    "sendto": lambda sock: sock.sendto(b"x", ("127.0.0.1", 9)),
    "sendto with flags": lambda sock: sock.sendto(b"x", 0, ("127.0.0.1", 9)),
    "set_inheritable": lambda sock: sock.set_inheritable(True),
    "share": lambda sock: sock.share(1),
    "__getstate__": lambda sock: sock.__getstate__(),
    "__reduce_ex__": pickle.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "multiprocessing": multiprocessing.reduction.ForkingPickler.dumps,
}


def test_each_refused_attribute_has_a_call() -> None:
    assert set(_CALLS) >= _REFUSED


@pytest.mark.parametrize("name", sorted(_CALLS))
def test_what_leads_around_the_protection_is_misuse_that_says_what_to_do(sock: ss.SecureSocket, name: str) -> None:
    with pytest.raises(ss.LocalMisuse) as caught:
        _CALLS[name](sock)
    assert len(str(caught.value)) > 30
    assert sock.fileno() >= 0


def test_not_being_inheritable_is_no_misuse(sock: ss.SecureSocket) -> None:
    sock.set_inheritable(False)
    assert not sock.get_inheritable()


def test_a_secured_socket_is_a_socket(sock: ss.SecureSocket) -> None:
    assert isinstance(sock, socket.socket)
    assert sock.family is socket.AF_INET
    assert sock.type is socket.SOCK_STREAM


# What a datagram socket does in its own way; the rest is about time, options and refusals, which are the same.
_OF_DATAGRAMS = {
    "accept", "bind", "connect", "fileno", "listen", "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg",
    "recvmsg_into", "send", "sendall", "sendfile", "sendmsg", "sendto", "shutdown", "_real_close", "__init__",
    "__del__",
}  # fmt: skip
_SAME_FOR_BOTH = {
    "connect_ex", "get_inheritable", "getblocking", "gettimeout", "setblocking", "setsockopt", "settimeout", "timeout",
}  # fmt: skip


def test_a_datagram_socket_has_no_call_that_would_go_by_a_link_it_does_not_have() -> None:
    assert _SECURED | {"sendto"} == _OF_DATAGRAMS | _SAME_FOR_BOTH
    for name in _OF_DATAGRAMS:
        assert name in vars(SecureDatagramSocket), f"SecureDatagramSocket needs its own {name}"


@pytest.mark.parametrize("name", sorted(set(_CALLS) - {"sendto", "sendto with flags"}))
def test_what_leads_around_the_protection_is_misuse_on_datagrams_too(name: str) -> None:
    sock = ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=client_context())
    with sock, pytest.raises(ss.LocalMisuse):
        _CALLS[name](sock)
