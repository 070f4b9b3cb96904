"""Two ends that know each other by a pre-shared key, and what happens when the keys differ.

python examples/shared_secret.py
"""

from __future__ import annotations

import secrets
import threading

import securesock as ss


def serve(listener: ss.SecureSocket) -> None:
    """Greet one connection; the one with the wrong key never gets here."""
    connection, _ = listener.accept()
    with connection:
        peer = connection.query_security().peer_machine
        connection.sendall(f"hello {peer}".encode())


def main() -> None:
    key = secrets.token_bytes(32)  # handed to both ends in some trusted way; under 16 bytes is refused
    server = ss.SecurityContext(ss.Identity.from_psk(name="a.example", peers={"b.example": key}))
    client = ss.SecurityContext(ss.Identity.from_psk(name="b.example", peers={"a.example": key}))
    stranger = ss.SecurityContext(ss.Identity.from_psk(name="b.example", peers={"a.example": secrets.token_bytes(32)}))

    with ss.create_server(("127.0.0.1", 0), context=server) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            ss.create_connection(listener.getsockname(), peer="a.example", context=stranger).close()
        except ss.AuthenticationFailed as error:
            print("with another key:", error)
        with ss.create_connection(listener.getsockname(), peer="a.example", context=client) as sock:
            print("with the key:", sock.recv(1024).decode())
        thread.join()


if __name__ == "__main__":
    main()
