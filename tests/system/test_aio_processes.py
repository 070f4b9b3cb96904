"""ss.aio and what surrounds it: forks, the end of the process, the blocking sockets at the other end."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable
from time import monotonic

import pytest

import securesock as ss
from tests.support.aio_peers import CLIENT, LOCALHOST, SERVER, Streams, connect, connected, contexts, listening
from tests.support.event_loops import on_every_loop
from tests.support.loopback import psk_contexts
from tests.support.warm_python import warm_python

PATIENCE_S = 20


@pytest.fixture(scope="module", autouse=True)
def _started_once() -> None:
    warm_python()


def in_child(work: Callable[[], object]) -> str:
    """Run ``work`` in a forked child; what it returned or raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(PATIENCE_S)
        try:
            said = f"returned {work()}"
        except OSError as error:
            said = f"raised {type(error).__name__}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    try:
        assert select.select([reading], [], [], PATIENCE_S)[0], "the child said nothing"
        return os.read(reading, 1 << 16).decode()
    finally:
        os.close(reading)
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@on_every_loop
async def test_in_a_child_an_inherited_connection_is_dead_and_the_parents_lives() -> None:
    async with connected() as (client, server):
        transport = client.writer.transport
        for call in (
            lambda: transport.write(b"from the child"),
            lambda: transport.writelines([b"from ", b"the child"]),
            transport.write_eof,
            lambda: transport.get_protocol() and transport._link.get_buffer(-1),
            transport._link._writing_resumed,
        ):
            assert in_child(call) == "raised LocalMisuse"
        assert in_child(transport.close) == "returned None"
        assert in_child(transport.abort) == "returned None"
        assert in_child(lambda: (transport.close(), transport.is_closing(), transport.write(b"x"))[1]) in (
            "returned True",
            "raised LocalMisuse",
        )
        for number in range(20):
            client.writer.write(b"%04d" % number)
            assert await server.reader.readexactly(4) == b"%04d" % number
            server.writer.write(b"%04d" % number)
            assert await client.reader.readexactly(4) == b"%04d" % number


@on_every_loop
async def test_a_thousand_ends_lose_no_byte_while_the_peer_rekeys_and_reads_slowly() -> None:
    """500 on each loop: the peer starts a rekey while the end is under way."""
    data = bytes(range(256)) * 300
    failures = 0

    async def read_slowly(server: Streams) -> None:
        nonlocal failures
        received = await server.reader.readexactly(1000)
        link = server.writer.transport._link
        link._connection.rekey_child(monotonic())  # as a lifetime of this end's would at this moment
        server.writer.write(b"its request is on the way to one that closes")
        while piece := await server.reader.read(7000):
            received += piece
            await asyncio.sleep(0)
        failures += received != data
        await server.close()

    client_by_psk, server_by_psk = psk_contexts()
    async with listening(server_by_psk) as there:
        tasks = set()
        for number in range(500):
            client = await connect(there.port, client_by_psk)
            tasks.add(asyncio.create_task(read_slowly(await there.accepted.get())))
            client.writer.write(data)
            client.writer.close()
            if number % 2:
                await client.writer.wait_closed()
            there.everybody.clear()
            if len(tasks) > 20:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.gather(*done)
        await asyncio.gather(*tasks)
        assert failures == 0


PROGRAM = """
import asyncio, sys, warnings
import securesock as ss

warnings.simplefilter("error")

identity = ss.Identity.from_psk("client.example", {"server.example": b"s" * 32})
size, waits = int(sys.argv[2]), sys.argv[3] == "waits"

async def main():
    reader, writer = await ss.aio.open_connection(
        "127.0.0.1", int(sys.argv[1]), peer="server.example", context=ss.SecurityContext(identity)
    )
    writer.write(bytes(size))
    writer.close()
    if waits:
        await writer.wait_closed()

if sys.argv[4] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize(("size", "waits"), [(8 << 20, "waits"), (50_000, "does not wait")])
@on_every_loop
async def test_a_process_that_ends_right_after_close_loses_nothing(size: int, waits: str) -> None:
    context = ss.SecurityContext(ss.Identity.from_psk("server.example", {"client.example": b"s" * 32}))
    loop_name = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    async with listening(context) as there:
        command = [*warm_python(), PROGRAM, str(there.port), str(size), waits, loop_name]
        program = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
        server = await there.accepted.get()
        received = 0
        while piece := await server.reader.read(10_000):
            if received == 0:
                # as a reader that is slow to begin: what the kernel holds is not read while the other process ends
                server.writer.write(b"nobody reads this")
            received += len(piece)
        assert received == size
        await server.close()
        _, said = await program.communicate()
        assert said.decode() == ""
        assert program.returncode == 0


@on_every_loop
async def test_a_blocking_client_and_an_asyncio_server() -> None:
    server_context, client_context = contexts()
    data = os.urandom(4 << 20)

    def blocking() -> tuple[str, bytes]:
        sock = ss.create_connection((LOCALHOST, there.port), 10, peer=SERVER, context=client_context)
        with sock:
            sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(1)))
            sender.start()
            received = bytearray()
            while piece := sock.recv(1 << 16):
                received += piece
            sender.join()
            return str(sock.query_security().peer_machine), bytes(received)

    async with listening(server_context) as there:
        thread = asyncio.get_running_loop().run_in_executor(None, blocking)
        server = await there.accepted.get()
        assert str(server.writer.get_extra_info("security").peer_machine) == CLIENT
        while piece := await server.reader.read(1 << 16):
            server.writer.write(piece)
            await server.writer.drain()
        await server.close()
        name, received = await thread
        assert name == SERVER
        assert received == data


@on_every_loop
async def test_an_asyncio_client_and_a_blocking_server() -> None:
    server_context, client_context = contexts()
    data = os.urandom(4 << 20)

    def blocking() -> None:
        connection, _ = listener.accept()
        with connection:
            while piece := connection.recv(1 << 16):
                connection.sendall(piece)

    async def receive(client: Streams) -> bytes:
        received = bytearray()
        while piece := await client.reader.read(1 << 16):
            received += piece
        return bytes(received)

    with ss.create_server((LOCALHOST, 0), context=server_context) as listener:
        thread = asyncio.get_running_loop().run_in_executor(None, blocking)
        client = await connect(listener.getsockname()[1], client_context)
        receiving = asyncio.create_task(receive(client))
        client.writer.write(data)
        await client.writer.drain()
        client.writer.write_eof()
        assert await receiving == data
        await client.close()
        await thread
