"""An echo server under this machine's configured identity, a thread for each client.

python examples/echo_server.py PORT
"""

from __future__ import annotations

import sys
import threading

import securesock as ss


def echo(connection: ss.SecureSocket) -> None:
    """Send back what comes until the client's end of stream."""
    with connection:
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except ss.PeerMisbehaved as error:  # tampered with, truncated, reset: what came before was proven
            print("broken:", error, file=sys.stderr)


def main() -> None:
    with ss.create_server(("", int(sys.argv[1]))) as listener:
        print("listening on port", listener.getsockname()[1], flush=True)
        while True:
            connection, address = listener.accept()
            info = connection.query_security()
            print(f"{info.peer_machine} from {address[0]} under {info.quick_mode_suite}", flush=True)
            threading.Thread(target=echo, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
