"""A secured UDP socket in the namespace and under the user that this process was started with, told what to do.

The first line of standard input says who we are and whom we know; each further line is one wish.  Each is answered with
one line: {"ok": ...} or {"error": the class, "text": the words}.  Everything here is the public interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from dataclasses import replace
from typing import Any, cast

import securesock as ss
from securesock.crypto import suites
from securesock.policy.negotiation import (
    DEFAULT_MAIN_MODE,
    STANDARD_QUICK_MODE,
    ChildOffer,
    IkeOffer,
    MainModePolicy,
    QuickModePolicy,
)
from securesock.types import Lifetimes

IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2  # linux/in.h
PRF = (suites.PRF_HMAC_SHA2_256,)
INTEGRITY = (suites.HMAC_SHA2_256_128,)
IKE_OFFERS = {
    "x25519": IkeOffer((suites.AES_256_GCM_16,), (), PRF, (suites.X25519,)),
    "ecp384": IkeOffer((suites.CHACHA20_POLY1305,), (), PRF, (suites.P_384,)),
    "ecp256": IkeOffer((suites.AES_256_CBC,), INTEGRITY, PRF, (suites.P_256,)),
    "modp2048": IkeOffer((suites.AES_128_CBC,), INTEGRITY, PRF, (suites.MODP_2048,)),
}
ENCRYPTIONS = {
    "gcm": ChildOffer((suites.AES_256_GCM_16,), (), (True, False)),
    "chacha": ChildOffer((suites.CHACHA20_POLY1305,), (), (True, False)),
    "cbc": ChildOffer((suites.AES_256_CBC,), (suites.HMAC_SHA2_256_128,), (True, False)),
    "gcm-esn": ChildOffer((suites.AES_256_GCM_16,), (), (True,)),
}


def context(script: dict[str, Any]) -> ss.SecurityContext:
    """As the first line has it."""
    if "secret" in script:
        identity = ss.Identity.from_psk(name="a.test", peers={"b.test": script["secret"].encode()})
    else:
        identity = ss.Identity.from_pem(
            certificate=script["certificate"].encode(),
            private_key=script["key"].encode(),
            trust=[script["trust"].encode()],
        )
    quick_mode: QuickModePolicy = STANDARD_QUICK_MODE
    if "suite" in script:
        quick_mode = replace(quick_mode, offers=(ENCRYPTIONS[script["suite"]],))
    if "rekey_packets" in script:
        quick_mode = replace(quick_mode, lifetimes=Lifetimes(3600.0, 1 << 40, script["rekey_packets"]))
    if not script.get("pfs", True):
        quick_mode = replace(quick_mode, pfs=False)
    entries = [ss.PeerEntry(tuple(each.pop("networks")), **each) for each in script["peers"]]
    main_mode = MainModePolicy((IKE_OFFERS[script.get("ike", "x25519")],), DEFAULT_MAIN_MODE.lifetimes)
    if "rekey_ike_packets" in script:
        main_mode = replace(main_mode, lifetimes=Lifetimes(3600.0, 1 << 40, script["rekey_ike_packets"]))
    users = script.get("users")
    user = script.get("user")
    trust = [script["trust"].encode()] if "trust" in script else []
    return ss.SecurityContext(
        identity,
        main_mode=main_mode,
        quick_mode=quick_mode,
        peers=tuple(entries),
        users=None if users is None else ss.Users(users["passwords"], certificates=users["certificates"]),
        user=None if user is None else ss.Identity.from_pem(user["certificate"].encode(), user["key"].encode(), trust),
        eap_only=script.get("eap_only", False),
        ppks=[ss.Ppk(name, secret, mandatory=mandatory) for name, secret, mandatory in script.get("ppks", ())],
    )


class _Answers(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.came.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self.came.put_nowait(exc)


async def _at_endpoint(context: ss.SecurityContext, address: tuple[str, int], sizes: list[int]) -> list[Any]:
    transport, answers = await ss.aio.create_datagram_endpoint(_Answers, remote_addr=address, context=context)
    came = []
    for size in sizes:
        transport.sendto(os.urandom(size))
        answer = await asyncio.wait_for(answers.came.get(), 10)
        came.append(len(answer) if isinstance(answer, bytes) else repr(answer))
    info = transport.get_extra_info("security")
    transport.close()
    return [came, info.peer_machine.name]


class _Echoes(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.left = asyncio.Semaphore(0)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.transport.sendto(data, addr)
        self.left.release()


async def _serve_at_endpoint(context: ss.SecurityContext, where: tuple[str, int], count: int) -> int:
    transport, echoes = await ss.aio.create_datagram_endpoint(_Echoes, local_addr=where, context=context)
    for _ in range(count):
        await asyncio.wait_for(echoes.left.acquire(), 10)
    transport.close()
    return count


class Wishes:
    """One socket, and what may be asked of it."""

    def __init__(self, script: dict[str, Any]) -> None:
        family = socket.AF_INET6 if script.get("family") == 6 else socket.AF_INET
        self.socket = ss.SecureSocket(family, socket.SOCK_DGRAM, context=context(script))
        self.socket.settimeout(script.get("timeout", 10.0))
        if "settings" in script:
            self.socket.set_security(ss.IPsecSettings(**script["settings"]))
        if "bind" in script:
            self.socket.bind(tuple(script["bind"]))

    def echo(self, address: list[Any], sizes: list[int]) -> list[int]:
        """Send datagrams of these sizes one after the other; the sizes that came back unchanged."""
        came: list[int] = []
        for size in sizes:
            data = os.urandom(size)
            self.socket.sendto(data, tuple(address))
            answer, sender = self.socket.recvfrom(65535)
            if answer == data and sender is not None and list(sender[:2]) == list(address[:2]):
                came.append(size)
        return came

    def connected(self, address: list[Any], sizes: list[int]) -> list[Any]:
        """As echo, with connect(), send() and recv(); and whom it is connected to then."""
        self.socket.connect(tuple(address))
        came = []
        for size in sizes:
            data = os.urandom(size)
            self.socket.send(data)
            if self.socket.recv(65535) == data:
                came.append(size)
        return [came, list(self.socket.getpeername()[:2])]

    def batches(self, address: list[Any], sizes: list[int]) -> list[int]:
        """As echo, all at once; what came back."""
        self.socket.send_batch([bytes(size) for size in sizes], tuple(address))
        came: list[int] = []
        while len(came) < len(sizes):
            came += [len(data) for data, _ in self.socket.recv_batch(len(sizes))]
        return sorted(came)

    def endpoint(self, address: list[Any], sizes: list[int]) -> list[Any]:
        """As connected, with an asyncio endpoint of its own; and who the transport says is there."""
        return asyncio.run(_at_endpoint(self.socket.context, (address[0], address[1]), sizes))

    def whole(self, address: list[Any], size: int) -> int:
        """As echo, of one datagram that nobody may cut."""
        self.socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        return len(self.echo(address, [size])) * size

    def persist(self, address: list[Any], tries: int, size: int = 10) -> int:
        """Ask once a second until an answer comes; after how many tries it did."""
        self.socket.settimeout(1.0)
        for number in range(1, tries + 1):
            with contextlib.suppress(TimeoutError):
                self.socket.sendto(bytes(size), tuple(address))
                self.socket.recvfrom(65535)
                return number
        return 0

    def outlive(self, address: list[Any]) -> str:
        """Ask once a second until there is no SA with the peer any more; what is said of it then."""
        self.socket.settimeout(1.0)
        while True:
            with contextlib.suppress(TimeoutError):
                self.socket.recvfrom(65535)
            try:
                info = self.socket.query_security(tuple(address))
            except ss.LocalMisuse:
                return ""
            if not info.secured:
                return info.negotiation_error
            self.socket.sendto(b"still there?", tuple(address))

    def reach(self, address: list[Any], count: int = 1) -> int:
        """Ask so many questions in turn, each again where no answer comes, as a UDP program does; how often again."""
        kept, again = self.socket.gettimeout(), 0
        self.socket.settimeout(2.0)
        for number in range(count):
            question = str(number).encode()
            for _ in range(10):
                self.socket.sendto(question, tuple(address))
                with contextlib.suppress(TimeoutError):
                    while self.socket.recvfrom(65535)[0] != question:
                        continue  # the answer to what was asked twice
                    break
                again += 1
            else:
                raise TimeoutError(f"question {number} was never answered")
        self.socket.settimeout(kept)
        return again

    def serve_at_endpoint(self, where: list[Any], count: int) -> int:
        """As serve, with an asyncio endpoint at ``where``."""
        return asyncio.run(_serve_at_endpoint(self.socket.context, (where[0], where[1]), count))

    def serve(self, count: int) -> list[Any]:
        """Answer that many datagrams with themselves; the senders."""
        senders = []
        for _ in range(count):
            data, sender = self.socket.recvfrom(65535)
            self.socket.sendto(data, sender)
            senders.append(sender)
        return senders

    def security(self, address: list[Any]) -> dict[str, Any]:
        """SecurityInfo of an address."""
        return dict(self.socket.query_security(tuple(address)).to_dict())

    def refusals(self) -> dict[str, int]:
        """What was dropped."""
        return dict(self.socket.refusals)

    def user(self) -> int:
        """As whom we run."""
        return os.getuid()

    def close(self) -> None:
        """Say goodbye."""
        self.socket.close()


def main() -> None:
    """Until standard input ends."""
    wishes = Wishes(json.loads(sys.stdin.readline()))
    print(json.dumps({"ok": "ready"}), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"ok": getattr(wishes, name)(*arguments)}
        except OSError as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
