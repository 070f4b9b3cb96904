"""Asks one IKE responder what it agrees to: keying.ikev2.probe over a UDP socket, one question at a time.

Polite by design: never two questions on their way, and each silent one is repeated twice at most.  It must not know
what the questions are.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import Final

from ..entropy import Entropy
from ..keying.ikev2.probe import Finding, IkeProbe
from ..wire.tcp_encapsulation import NON_ESP_MARKER
from ..wire.udp_encapsulation import IKE_PORT

__all__ = ["probe_responder"]

REPEATS: Final = 3
"""How often a question is sent before it counts as unanswered."""


def probe_responder(host: str, port: int, wait_s: float, entropy: Entropy) -> list[Finding]:
    """What the responder at ``host`` (a name or numeric) and ``port`` agrees to; ``wait_s`` for each answer.

    On port 500 messages have no marker, on every other one they have (RFC 3948 2.2).  Ends after the first question
    when nothing at all answers.  OSError: no such host, or the system refuses to send.
    """
    family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    marker = b"" if port == IKE_PORT else NON_ESP_MARKER
    with socket.socket(family, socket.SOCK_DGRAM) as carrier:
        carrier.connect(where)  # the kernel drops what others send
        our, peer = carrier.getsockname(), carrier.getpeername()
        probe = IkeProbe(entropy, (our[0], our[1]), (peer[0], peer[1]))
        while (question := probe.next_question()) is not None:
            _ask(carrier, probe, marker, question, wait_s / REPEATS)
            if probe.findings and probe.findings[0].verdict == "silent":
                break
    return probe.findings


def _ask(carrier: socket.socket, probe: IkeProbe, marker: bytes, question: bytes, wait_s: float) -> None:
    for _ in range(REPEATS):
        if not _send(carrier, marker + question):
            break
        limit = monotonic() + wait_s
        while (left := limit - monotonic()) > 0:
            carrier.settimeout(left)
            try:
                datagram = carrier.recv(65535)
            except TimeoutError:
                break
            except ConnectionRefusedError:
                probe.handle_silence()  # ICMP says that nobody is there
                return
            if not datagram.startswith(marker):
                continue
            again = probe.handle_reply_untrusted(datagram[len(marker) :])
            if probe.settled:
                return
            if again is not None:
                question = again
                limit = monotonic() + wait_s
                if not _send(carrier, marker + question):
                    break
    probe.handle_silence()


def _send(carrier: socket.socket, datagram: bytes) -> bool:
    """False where ICMP has said meanwhile that nobody is there."""
    try:
        carrier.send(datagram)
    except ConnectionRefusedError:
        return False
    return True
