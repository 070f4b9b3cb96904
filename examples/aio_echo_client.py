"""Sends its standard input to an echo server that must prove its name, and prints what comes back; under asyncio.

python examples/aio_echo_client.py HOST PORT NAME
"""

from __future__ import annotations

import asyncio
import sys

import securesock as ss


async def send(writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        writer.write(line)
        await writer.drain()
    writer.write_eof()  # our authenticated end of stream


async def receive(reader: asyncio.StreamReader) -> None:
    while data := await reader.read(65536):
        sys.stdout.buffer.write(data)


async def main() -> None:
    host, port, name = sys.argv[1:4]
    try:
        async with asyncio.timeout(10):
            reader, writer = await ss.aio.open_connection(host, int(port), peer=f"host/{name}")
    except ss.SecureSocketError as error:
        sys.exit(f"not connected: {error}")
    await asyncio.gather(send(writer), receive(reader))
    writer.close()
    await writer.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
