"""A server that lets in users by password, and two of them: one who knows hers, one who does not.

python examples/users.py

Needs the extra: pip install "securesock[eap]".
"""

from __future__ import annotations

import threading

import securesock as ss

ALICE = "alice@example.org"
PASSWORD = "correct horse battery staple"


def serve(listener: ss.SecureSocket) -> None:
    """Answer one user."""
    connection, _ = listener.accept()  # returns only who was proven and is on the list
    with connection:
        print("the server sees", connection.query_security().peer_user)
        connection.sendall(connection.recv(100).upper())


def main() -> None:
    """Both ends."""
    machine = ss.Identity.ephemeral("host/files.example")
    server = ss.SecurityContext(machine, users=ss.Users({ALICE: PASSWORD}))
    # the machine that a user sits at proves nothing; it only has to know whom to believe
    client = ss.SecurityContext(ss.Identity.ephemeral("host/laptop.example", authority=machine.authority))

    with ss.create_server(("127.0.0.1", 0), context=server, allow=[ALICE]) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        for password in ("a guess", PASSWORD):
            settings = ss.IPsecSettings(user_name="alice", domain_name="example.org", password=password)
            try:
                with ss.create_connection(
                    listener.getsockname(), peer="host/files.example", settings=settings, context=client
                ) as connection:
                    connection.sendall(b"hello")
                    print("the client reads", connection.recv(100).decode())
            except ss.AuthenticationFailed as error:
                print("refused:", error)
        thread.join()


if __name__ == "__main__":
    main()
