"""Two UDP sockets: the first datagram to an address negotiates, and each end asks who is at the other.

python examples/datagrams.py
"""

from __future__ import annotations

import socket
import threading

import securesock as ss


def answer(sock: ss.SecureSocket) -> None:
    """A datagram's sender has proven who it is before recvfrom() returns it."""
    data, address = sock.recvfrom(65536)
    print("the server sees", sock.query_security(address).peer_machine)
    sock.sendto(data.upper(), address)


def main() -> None:
    server_identity = ss.Identity.ephemeral("host/db.example")
    client_identity = ss.Identity.ephemeral("host/app.example", authority=server_identity.authority)
    server_context, client_context = map(ss.SecurityContext, (server_identity, client_identity))
    with (
        ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=server_context) as server,
        ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=client_context) as client,
    ):
        server.bind(("127.0.0.1", 0))
        answering = threading.Thread(target=answer, args=(server,))
        answering.start()
        where = server.getsockname()
        client.set_peer_target_name("host/db.example", where)
        client.settimeout(5)
        client.sendto(b"hello", where)
        data, _ = client.recvfrom(65536)
        answering.join()
        info = client.query_security(where)
        print("the client sees", info.peer_machine, "under", info.quick_mode_suite, "and reads", data.decode())


if __name__ == "__main__":
    main()
