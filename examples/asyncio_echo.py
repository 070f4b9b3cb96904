"""An asyncio server and client: asyncio's own calls, with a context and a peer.

python examples/asyncio_echo.py
"""

from __future__ import annotations

import asyncio

import securesock as ss


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes until the client's end of stream."""
    info: ss.SecurityInfo = writer.get_extra_info("security")
    print("the server sees", info.peer_machine)
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def main() -> None:
    server_identity = ss.Identity.ephemeral("host/db.example")
    client_identity = ss.Identity.ephemeral("host/app.example", authority=server_identity.authority)
    server = await ss.aio.start_server(echo, "127.0.0.1", 0, context=ss.SecurityContext(server_identity))
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await ss.aio.open_connection(
            "127.0.0.1", port, peer="host/db.example", context=ss.SecurityContext(client_identity)
        )
        writer.write(b"hello")
        writer.write_eof()  # our authenticated end of stream; the other direction goes on
        answer = await reader.read()
        info: ss.SecurityInfo = writer.get_extra_info("security")
        print("the client sees", info.peer_machine, "under", info.quick_mode_suite, "and reads", answer.decode())
        writer.close()
        await writer.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
