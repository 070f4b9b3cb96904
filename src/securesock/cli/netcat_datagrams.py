"""securesock listen and connect with --udp: each piece of standard input is a datagram, each datagram is printed.

Datagrams have no end, so what ends a conversation is silence: nothing came for ``wait`` seconds after our own input
had ended.  Thin: all protection is the sockets'.
"""

from __future__ import annotations

import select
import shlex
import socket
import subprocess
import sys
import threading
from typing import Final

import securesock as ss

from ..errors import LocalMisuse
from ..types import Address, Json
from .conversation import Received, Sink, print_chunk, read_some, say_who, summary
from .output import DONE, emit, reaching

__all__ = ["connect_datagrams", "listen_datagrams"]

CHUNK: Final = 1400
"""Input is cut into datagrams of this size: with all headers one packet on a path of 1500 bytes."""
MAX_DATAGRAM: Final = 65535
LOOK_S: Final = 0.1
"""While our input is being sent, how often to look whether that has ended or failed."""


def connect_datagrams(
    address: tuple[str, int],
    peer: str | None,
    settings: ss.SecuritySettings,
    timeout: float,
    wait: float,
    as_json: bool,
) -> int:
    """Send standard input to one peer, print what it answers."""
    with reaching(f"{address[0]} port {address[1]}"):
        family, _, _, _, found = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
    where = str(found[0]), int(found[1])
    with ss.SecureSocket(family, socket.SOCK_DGRAM, context=ss.default_context()) as sock:
        sock.set_security(settings)
        sock.set_peer_target_name(address[0] if peer is None else peer, where)
        sock.connect(where)
        sock.settimeout(timeout)
        conversation = _Conversation(sock, as_json)
        conversation.begin(where)
        conversation.listen_until_silent(wait)
        emit(conversation.summary(), (), as_json)
    return DONE


def listen_datagrams(
    address: tuple[str, int],
    peers: list[str] | None,
    settings: ss.SecuritySettings,
    program: str | None,
    once: bool,
    wait: float,
    as_json: bool,
) -> int:
    """Print what anybody sends; standard input answers the first peer, or a program answers each datagram."""
    if peers is not None:
        raise LocalMisuse("--peer and --udp do not go together when listening: name peers in the policy")
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with ss.SecureSocket(family, socket.SOCK_DGRAM, context=ss.default_context()) as sock:
        sock.set_security(settings)
        sock.bind(address)
        print("listening on", *sock.getsockname()[:2], file=sys.stderr, flush=True)
        conversation = _Conversation(sock, as_json, program)
        data, where = sock.recvfrom(MAX_DATAGRAM)
        conversation.heard(data, where)
        if program is None and where is not None:
            conversation.begin(where)
        conversation.listen_until_silent(wait if once else None)
        emit(conversation.summary(), (), as_json)
    return DONE


class _Conversation:
    """Counts and prints what comes, and tells of each peer once."""

    def __init__(self, sock: ss.SecureSocket, as_json: bool, program: str | None = None) -> None:
        self._sock = sock
        self._as_json = as_json
        self._program = None if program is None else shlex.split(program)
        self._sent = 0
        self._received = Received()
        self._sink: Sink = self._received if as_json else print_chunk
        self._known: dict[Address, ss.SecurityInfo] = {}
        self._failures: list[OSError] = []
        self._sender: threading.Thread | None = None

    def begin(self, peer: Address) -> None:
        """Send standard input to ``peer`` from now on."""
        self._sender = threading.Thread(target=self._send_input, args=(peer,), daemon=True)
        self._sender.start()

    def _send_input(self, peer: Address) -> None:
        try:
            while data := read_some(sys.stdin.buffer, CHUNK):
                self._send(data, peer)
        except OSError as error:
            self._failures.append(error)

    def _send(self, data: bytes, peer: Address) -> None:
        self._sock.sendto(data, peer)
        self._sent += len(data)
        self._introduce(peer)

    def _introduce(self, peer: Address) -> None:
        if peer not in self._known:
            # asked now: when its last datagram is read the peer may be gone, and its SA with it
            info = self._known[peer] = self._sock.query_security(peer)
            if not self._as_json:
                say_who(info)

    def heard(self, data: bytes, peer: Address | None) -> None:
        """One datagram, and the program's answer to it."""
        if peer is None:
            return
        self._introduce(peer)
        if self._program is None:
            self._sink(data)
            return
        self._received(data)
        with subprocess.Popen(self._program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            answer, _ = process.communicate(data)
        for at in range(0, len(answer), CHUNK):
            self._send(answer[at : at + CHUNK], peer)

    def listen_until_silent(self, wait: float | None) -> None:
        """Until our input has ended and nothing came for ``wait`` seconds (None: for ever); raises what stopped us."""
        while True:
            sending = self._sender is not None and self._sender.is_alive()
            # not by the socket's timeout: that one bounds the negotiation in the sending thread
            readable, _, _ = select.select([self._sock], [], [], LOOK_S if sending else wait)
            if readable:
                self.heard(*self._sock.recvfrom(MAX_DATAGRAM))
            elif self._failures:
                raise self._failures[0]
            elif not sending:
                return

    def summary(self) -> dict[str, Json]:
        """The object of --json, about the first peer; LocalMisuse when there was none."""
        for info in self._known.values():
            return summary(info, self._sent, self._received)
        raise LocalMisuse("nothing was sent and nothing came: there is no peer to tell of")
