"""An asyncio echo server under this machine's configured identity.

python examples/aio_echo_server.py PORT
"""

from __future__ import annotations

import asyncio
import sys

import securesock as ss


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes until the client's end of stream."""
    info: ss.SecurityInfo = writer.get_extra_info("security")
    print(f"{info.peer_machine} from {writer.get_extra_info('peername')[0]} under {info.quick_mode_suite}", flush=True)
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
    except ss.PeerMisbehaved as error:  # tampered with, truncated, reset: what came before was proven
        print("broken:", error, file=sys.stderr)


async def main() -> None:
    server = await ss.aio.start_server(echo, "0.0.0.0", int(sys.argv[1]))
    print("listening on port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
