"""An asyncio endpoint sends and receives runs of datagrams where the kernel can, and all the same where it cannot."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter
from typing import Any

import pytest

import securesock as ss
from securesock.drivers import aio_carrier, batches
from securesock.sockets.aio import create_datagram_endpoint
from tests.support.event_loops import on_every_loop
from tests.support.loopback import client_context, server_context

PATIENCE_S = 20.0
BURST = 60
BURSTS = 5

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux sends and joins runs of datagrams")


class Collector(asyncio.DatagramProtocol):
    """Keeps what comes, or sends it back; ``fails``: raises of each, when that is done."""

    fails = False

    def __init__(self, *, echo: bool = False) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()
        self._echo = echo

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: ss.Address) -> None:
        if self._echo:
            self.transport.sendto(data, addr)
        else:
            self.received.put_nowait(data)
        if self.fails:
            raise RuntimeError("of the protocol")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def endpoint(context: ss.SecurityContext, *, remote: ss.Address | None = None, echo: bool = False) -> Collector:
    where = None if remote is None else (remote[0], remote[1])
    _, protocol = await create_datagram_endpoint(lambda: Collector(echo=echo), ("127.0.0.1", 0), where, context=context)
    return protocol


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many datagrams went and came in runs: "sent" and "received"."""
    counted: Counter[str] = Counter()
    send, receive = batches.Runs.send, batches.receive_run

    def counting_send(self: batches.Runs, packets: bytes, size: int, to: ss.Address | None) -> bool:
        taken = send(self, packets, size, to)
        if taken:
            counted["sent"] += -(-len(packets) // size)
        else:
            counted["refused"] += 1
        return taken

    def counting_receive(kernel: socket.socket, flags: int = 0) -> tuple[bytes, int, ss.Address]:
        run, size, address = receive(kernel, flags)
        if len(run) > size:
            counted["received"] += -(-len(run) // size)
        return run, size, address

    monkeypatch.setattr(batches.Runs, "send", counting_send)
    monkeypatch.setattr(aio_carrier, "receive_run", counting_receive)
    return counted


async def bursts_come_back(*, connected: bool, fails: bool = False) -> None:
    """Bursts of one size, and one of all sizes, each in one turn of the loop; the answers are whole and in order.

    ``fails``: the server's protocol raises of each from the third burst on.
    """
    server = await endpoint(server_context(), echo=True)
    where = server.transport.get_extra_info("sockname")
    client = await endpoint(client_context(), remote=where if connected else None)
    to = None if connected else where
    client.transport.sendto(b"first", to)
    assert await asyncio.wait_for(client.received.get(), PATIENCE_S) == b"first"
    equal = [[b"%04d" % (number + burst * BURST) + bytes(900) for number in range(BURST)] for burst in range(BURSTS)]
    uneven = [bytes([size]) * size for size in (9, 9, 8, 200, 200, 200, 1, 3, 3)]
    for number, burst in enumerate([*equal, uneven]):
        server.fails = fails and number >= 2
        for data in burst:
            client.transport.sendto(data, to)
        assert [await asyncio.wait_for(client.received.get(), PATIENCE_S) for _ in burst] == burst
    for each in (client, server):
        each.transport.close()
        await asyncio.wait_for(each.lost, PATIENCE_S)


@pytest.mark.parametrize("connected", [False, True])
@on_every_loop
async def test_what_is_sent_and_answered_in_one_turn_goes_and_comes_in_runs(
    runs: Counter[str], connected: bool
) -> None:
    await bursts_come_back(connected=connected)
    # of 2 * BURSTS * BURST datagrams; the first burst is still taken for lone ones
    assert runs["sent"] > BURSTS * BURST
    assert runs["received"] > BURSTS * BURST
    assert not runs["refused"]


@on_every_loop
async def test_the_same_comes_where_the_kernel_sends_no_runs_and_joins_none(
    runs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "UDP_SEGMENT", 9999)
    monkeypatch.setattr(batches, "UDP_GRO", 9999)
    await bursts_come_back(connected=False)
    assert runs["refused"]
    assert (runs["sent"], runs["received"]) == (0, 0)


@on_every_loop
async def test_the_same_comes_where_python_has_no_calls_for_runs(
    runs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_CAN_RUN", False)
    await bursts_come_back(connected=True)
    assert not runs


@on_every_loop
async def test_the_same_comes_where_the_loop_watches_no_descriptors(
    runs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securesock.sockets.aio_datagrams.may_watch", lambda loop: False)
    await bursts_come_back(connected=False)
    assert not runs


@on_every_loop
async def test_a_protocol_that_raises_of_one_datagram_is_given_the_others_of_its_run(runs: Counter[str]) -> None:
    told: list[BaseException | None] = []

    def hear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        raised = context.get("exception")
        while raised is not None:  # those of one run are one behind the other
            told.append(raised)
            raised = raised.__context__

    asyncio.get_running_loop().set_exception_handler(hear)
    await bursts_come_back(connected=False, fails=True)
    assert runs["received"]
    assert len(told) == BURST * (BURSTS - 2) + 9
    assert any(each.__context__ for each in told if each is not None)
    assert {type(each) for each in told} == {RuntimeError}


@on_every_loop
async def test_a_socket_that_is_given_is_taken_over(runs: Counter[str]) -> None:
    server = await endpoint(server_context(), echo=True)
    kernel = socket.socket(type=socket.SOCK_DGRAM)
    kernel.connect(server.transport.get_extra_info("sockname"))
    transport, client = await create_datagram_endpoint(
        Collector, sock=kernel, peer="host/server.example", context=client_context()
    )
    assert transport.get_extra_info("peername") == server.transport.get_extra_info("sockname")
    transport.sendto(b"hello")
    assert await asyncio.wait_for(client.received.get(), PATIENCE_S) == b"hello"
    assert str(transport.query_security().peer_machine) == "host/server.example"
    for each in (client, server):
        each.transport.close()
        await asyncio.wait_for(each.lost, PATIENCE_S)
    assert kernel.fileno() == -1
    with socket.socket() as stream, pytest.raises(ss.LocalMisuse, match="UDP socket"):
        await create_datagram_endpoint(Collector, sock=stream, context=client_context())
    with socket.socket(type=socket.SOCK_DGRAM) as plain, pytest.raises(ValueError, match="made already"):
        await create_datagram_endpoint(Collector, ("127.0.0.1", 0), sock=plain, context=client_context())
    with pytest.raises(ss.LocalMisuse, match="UDP"):
        await create_datagram_endpoint(Collector, family=socket.AF_UNIX, context=client_context())
