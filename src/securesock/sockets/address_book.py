"""Addresses as applications write them and as the kernel does: one peer is one key, whatever it was called.

Knows the addresses of one datagram socket, and which host an application named when it meant one of them.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Final, Protocol

from ..engine.asking import name_of_host, numeric_address
from ..errors import LocalMisuse

if TYPE_CHECKING:
    from ..identity.names import PeerTargetName
    from ..types import Address

__all__ = ["AddressBook", "LocalAddress", "addresses_of", "numeric_bound", "numeric_peer"]

_MAX_KNOWN: Final = 1024  # addresses whose form was looked at; a server's peers are told apart without another look


def _is_group(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_multicast or str(address) == "255.255.255.255"


class AddressBook:
    """For a socket of ``family``.  ``numeric``: names are refused, because looking them up would wait.

    ``known``: what ``resolve`` returns for addresses that need no look.
    """

    __slots__ = ("_family", "_flags", "_hosts", "known")

    def __init__(self, family: int, *, numeric: bool = False) -> None:
        self._family = family
        self._flags = (socket.AI_V4MAPPED if family == socket.AF_INET6 else 0) | (
            socket.AI_NUMERICHOST if numeric else 0
        )
        self.known: dict[Address, Address] = {}
        self._hosts: dict[Address, str] = {}

    def resolve(self, address: object) -> Address:
        """The kernel's own form of an address, as a receiving call will show it.

        LocalMisuse for what is no address, and for one of many hosts (multicast, and the broadcast of the link);
        gaierror for a host that cannot be found.
        """
        known = self.known.get(address) if type(address) is tuple else None
        if known is not None:
            return known
        if not isinstance(address, tuple) or len(address) < 2 or not isinstance(address[0], str):
            raise LocalMisuse(f"{address!r} is no address of UDP: give (host, port)")
        host, port = address[0], address[1]
        if not host:
            raise LocalMisuse("an empty host says nothing about who should answer: name the host")
        found = self._look_up(host, port)
        resolved: Address = (str(found[0]), int(found[1]))
        if _is_group(resolved[0]):
            raise LocalMisuse(f"{resolved[0]} is nobody who could prove who it is: send to each peer")
        if len(found) == 4:
            scope = address[3] if len(address) == 4 and isinstance(address[3], int) else int(found[3])
            resolved = (str(found[0]), int(found[1]), 0, scope)
        self.meant(resolved, host)
        if host == resolved[0]:  # a name may lead elsewhere the next time
            if len(self.known) >= _MAX_KNOWN:
                self.known.clear()
            self.known[address] = resolved
        return resolved

    def _look_up(self, host: str, port: object) -> tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]:
        if not isinstance(port, int) or not 0 < port < 65536:
            raise LocalMisuse(f"{port!r} is no port: give a number from 1 to 65535")
        try:
            return socket.getaddrinfo(host, port, self._family, socket.SOCK_DGRAM, 0, self._flags)[0][4]
        except socket.gaierror as error:
            if self._flags & socket.AI_NUMERICHOST and error.errno == socket.EAI_NONAME:
                raise LocalMisuse(f"{host!r} is a name: look it up first, with loop.getaddrinfo()") from None
            raise
        except UnicodeError:
            raise LocalMisuse(f"{host!r} is no host: its labels are of 1 to 63 characters") from None

    def meant(self, address: Address, host: str) -> None:
        """An application named ``host`` and meant ``address``; the first name stays."""
        if len(self._hosts) >= _MAX_KNOWN:
            self._hosts.clear()
        self._hosts.setdefault(address, host)

    def host(self, address: Address) -> PeerTargetName:
        """Who is expected at ``address`` where nothing else says so."""
        return name_of_host(self._hosts.get(address, address[0]))


def numeric_peer(sock: socket.socket, address: tuple[object, ...]) -> Address:
    """Where a TCP connection to ``address`` will go, in the kernel's own form; gaierror for an unknown host."""
    host, port = address[0], address[1]
    if not isinstance(host, str) or not isinstance(port, int):
        raise LocalMisuse(f"{address!r} is no address of TCP: give (host, port)")
    flags = socket.AI_V4MAPPED if sock.family == socket.AF_INET6 else 0
    found = socket.getaddrinfo(host, port, sock.family, socket.SOCK_STREAM, 0, flags)[0][4]
    if len(found) == 4 and len(address) == 4 and isinstance(address[3], int) and address[3]:
        return str(found[0]), int(found[1]), 0, address[3]
    return (str(found[0]), int(found[1])) if len(found) == 2 else (str(found[0]), int(found[1]), 0, int(found[3]))


def numeric_bound(sock: socket.socket, address: object) -> tuple[str, int]:
    """The host and port that bind() will mean by ``address``; what is no address is bind()'s own to refuse."""
    if not isinstance(address, tuple) or len(address) < 2 or not isinstance(address[0], str):
        raise LocalMisuse(f"{address!r} is no address to bind: give (host, port)")
    host = address[0] or ("::" if sock.family == socket.AF_INET6 else "0.0.0.0")
    flags = socket.AI_V4MAPPED if sock.family == socket.AF_INET6 else 0
    found = socket.getaddrinfo(host, address[1], sock.family, sock.type, 0, flags | socket.AI_PASSIVE)[0][4]
    return numeric_address((str(found[0]), int(found[1])))[:2]


def addresses_of(sock: _Bound) -> list[tuple[str, int]]:
    """At which addresses a bound socket is reached: "0.0.0.0" and "::" for any; a dual-stack one has both."""
    host, port = numeric_address(sock.getsockname())[:2]
    if host != "::" or sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return [(host, port)]
    return [(host, port), ("0.0.0.0", port)]


class _Bound(Protocol):
    @property
    def family(self) -> int: ...

    def getsockname(self) -> Address: ...

    def getsockopt(self, level: int, optname: int, /) -> int: ...


class LocalAddress:
    """Which of our addresses a peer is reached from; the kernel's routes say so where the socket is bound to any."""

    __slots__ = ("_bound", "_to_any")

    def __init__(self, bound: _Bound, *, to_any: bool | None = None) -> None:
        """``to_any``: not bound to one address; known here before the socket is connected, which fixes one for now."""
        self._bound = bound
        self._to_any = _is_any(bound.getsockname()) if to_any is None else to_any

    def __call__(self, peer: Address) -> Address:
        """Our end of the path to ``peer``; the system's own error where there is none."""
        ours = self._bound.getsockname()
        if not self._to_any:
            return ours
        with socket.socket(self._bound.family, socket.SOCK_DGRAM) as probe:
            probe.connect(peer)
            found: Address = probe.getsockname()
        return (found[0], ours[1]) if len(found) == 2 else (found[0], ours[1], 0, found[3])


def _is_any(address: Address) -> bool:
    return ipaddress.ip_address(address[0].partition("%")[0]).is_unspecified
