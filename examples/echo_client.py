"""Sends its standard input to an echo server that must prove its name, and prints what comes back.

python examples/echo_client.py HOST PORT NAME
"""

from __future__ import annotations

import socket
import sys
import threading

import securesock as ss


def send(sock: ss.SecureSocket) -> None:
    """One thread may send while another receives."""
    for line in sys.stdin.buffer:
        sock.sendall(line)
    sock.shutdown(socket.SHUT_WR)  # our authenticated end of stream


def main() -> None:
    host, port, name = sys.argv[1:4]
    try:
        sock = ss.create_connection((host, int(port)), timeout=10, peer=f"host/{name}")
    except ss.SecureSocketError as error:
        sys.exit(f"not connected: {error}")
    with sock:
        sock.settimeout(None)
        sender = threading.Thread(target=send, args=(sock,), daemon=True)
        sender.start()
        while data := sock.recv(65536):
            sys.stdout.buffer.write(data)
        sender.join()


if __name__ == "__main__":
    main()
