"""One end of a UDP conversation in the network namespace that this process has entered; see test_mobility.

    main("server")              answers every datagram with whom it saw, for ever
    main("unconnected")         sends numbers to 10.90.0.2 until standard input says that an address has changed, and
    "connected", "asyncio"      more were answered; then says what it saw

Everything is said in lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import sys
from time import monotonic
from typing import Any, Final

import securesock as ss

SECRET: Final = b"a secret of more than sixteen bytes"
SERVER: Final = ("10.90.0.2", 7000)
PATIENCE_S: Final = 25.0
PAUSE_S: Final = 0.02
AF_INET, SOCK_DGRAM = 2, 2


def context(ours: str, peers: str) -> ss.SecurityContext:
    return ss.SecurityContext(ss.Identity.from_psk(name=ours, peers={peers: SECRET}), key_exchange="classical")


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def serve() -> None:
    with ss.SecureSocket(AF_INET, SOCK_DGRAM, context=context("b.test", "a.test")) as sock:
        sock.bind(("0.0.0.0", SERVER[1]))
        say(event="ready")
        while True:
            data, address = sock.recvfrom(1000)
            with contextlib.suppress(OSError):
                sock.sendto(json.dumps([data.decode(), address]).encode(), address)


class Answers:
    """What came back, and when the address had changed."""

    def __init__(self) -> None:
        self.sent = 0
        self.moved_at = 0
        self.addresses: list[Any] = []
        self.limit = monotonic() + PATIENCE_S

    @property
    def over(self) -> bool:
        return monotonic() > self.limit or bool(self.moved_at and self.last > self.moved_at + 10)

    @property
    def last(self) -> int:
        return int(self.addresses[-1][0]) if self.addresses else 0

    def heard(self, data: bytes) -> None:
        if not self.addresses:
            say(event="ready")
        self.addresses.append(json.loads(data))

    def look(self) -> None:
        if not self.moved_at and select.select([sys.stdin], [], [], 0)[0]:
            sys.stdin.readline()
            self.moved_at = self.sent

    def tell(self, before: ss.SecurityInfo, after: ss.SecurityInfo) -> None:
        say(
            found_again=self.last > self.moved_at > 0,
            addresses=sorted({tuple(each[1]) for each in self.addresses}),
            same_sa=before.quick_mode_sa_id == after.quick_mode_sa_id,
            peer=str(after.peer_machine),
        )


def ask(*, connected: bool) -> None:
    answers = Answers()
    with ss.SecureSocket(AF_INET, SOCK_DGRAM, context=context("a.test", "b.test")) as sock:
        sock.settimeout(PAUSE_S)
        if connected:
            sock.connect(SERVER)
        sock.set_peer_target_name("b.test") if connected else sock.set_peer_target_name("b.test", SERVER)
        before = None
        while not answers.over:
            answers.look()
            answers.sent += 1
            with contextlib.suppress(OSError):
                if before is None:
                    sock.settimeout(10)
                if connected:
                    sock.send(b"%d" % answers.sent)
                else:
                    sock.sendto(b"%d" % answers.sent, SERVER)
                sock.settimeout(PAUSE_S)
                before = before or sock.query_security(SERVER)
                answers.heard(sock.recv(1000))
        if before is not None:
            answers.tell(before, sock.query_security(SERVER))


async def ask_in_a_loop() -> None:
    answers = Answers()

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            answers.heard(data)

    transport, _ = await ss.aio.create_datagram_endpoint(
        Protocol, remote_addr=SERVER, peer="b.test", context=context("a.test", "b.test")
    )
    before = None
    while not answers.over:
        answers.look()
        answers.sent += 1
        transport.sendto(b"%d" % answers.sent)
        await asyncio.sleep(PAUSE_S)
        if before is None and answers.addresses:
            before = transport.query_security()
    if before is not None:
        answers.tell(before, transport.query_security())
    transport.close()


def main(what: str) -> None:
    match what:
        case "server":
            serve()
        case "asyncio":
            asyncio.run(ask_in_a_loop())
        case how:
            ask(connected=how == "connected")
