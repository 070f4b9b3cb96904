"""A server and a client in one program, with identities that live as long as it does.

python examples/both_ends.py
"""

from __future__ import annotations

import threading

import securesock as ss


def serve(listener: ss.SecureSocket) -> None:
    """Answer one connection in capitals."""
    connection, _ = listener.accept()  # returns only what has proven its name
    with connection:
        print("the server sees", connection.query_security().peer_machine)
        connection.sendall(connection.recv(1024).upper())


def main() -> None:
    # The server's identity comes with an authority of its own, which issues the client's: each trusts the other.
    server_identity = ss.Identity.ephemeral("host/db.example")
    client_identity = ss.Identity.ephemeral("host/app.example", authority=server_identity.authority)
    with ss.create_server(
        ("127.0.0.1", 0), context=ss.SecurityContext(server_identity), allow=["host/*.example"]
    ) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        context = ss.SecurityContext(client_identity)
        with ss.create_connection(listener.getsockname(), peer="host/db.example", context=context) as sock:
            sock.sendall(b"hello")
            answer = sock.recv(1024)
            info = sock.query_security()
            print("the client sees", info.peer_machine, "under", info.quick_mode_suite, "and reads", answer.decode())
        server.join()


if __name__ == "__main__":
    main()
