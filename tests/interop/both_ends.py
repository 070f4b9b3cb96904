"""Two secured sockets of ours that echo to each other, through rekeys, in the namespace of whoever started this.

python both_ends.py stream|datagram CIPHER
"""

from __future__ import annotations

import socket
import sys
import threading
from dataclasses import replace

import securesock as ss
from securesock.crypto import suites
from securesock.policy.negotiation import (
    DEFAULT_MAIN_MODE,
    DEFAULT_QUICK_MODE,
    ChildOffer,
    IkeOffer,
    MainModePolicy,
    QuickModePolicy,
)

ADDRESS = ("127.0.0.1", 4500)
OTHER = ("127.0.0.1", 4501)
MESSAGE = b"clear text marker " * 50
ROUNDS = 80
CHILD_BYTES = 40 * len(MESSAGE)  # both directions count; a rekey begins at half of it
IKE_BYTES = 3 * CHILD_BYTES
_GCM = (suites.AES_256_GCM_16, ())
CIPHERS = {  # of the key exchange, of the data
    "AES-GCM": (_GCM, (suites.AES_128_GCM_16, ())),
    "ChaCha20-Poly1305": (_GCM, (suites.CHACHA20_POLY1305, ())),
    "AES-CBC with HMAC-SHA2": (
        (suites.AES_256_CBC, (suites.HMAC_SHA2_256_128,)),
        (suites.AES_128_CBC, (suites.HMAC_SHA2_512_256,)),
    ),
}


def policies(cipher: str) -> tuple[MainModePolicy, QuickModePolicy]:
    """The hybrid, one cipher each, and rekeys after few bytes."""
    (encryption, integrities), data = CIPHERS[cipher]
    prfs = (suites.PRF_HMAC_SHA2_256,)
    ike = IkeOffer((encryption,), integrities, prfs, (suites.X25519,), (suites.ML_KEM_768,))
    main, quick = (each.lifetimes for each in (DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE))
    return (
        replace(DEFAULT_MAIN_MODE, offers=(ike,), lifetimes=main._replace(max_bytes=IKE_BYTES)),
        QuickModePolicy((ChildOffer((data[0],), data[1]),), quick._replace(max_bytes=CHILD_BYTES)),
    )


def contexts(cipher: str) -> tuple[ss.SecurityContext, ss.SecurityContext]:
    """The server's and the client's."""
    main_mode, quick_mode = policies(cipher)
    server = ss.Identity.ephemeral(["host/server.example", ADDRESS[0]])
    client = ss.Identity.ephemeral("host/client.example", authority=server.authority)
    return (
        ss.SecurityContext(server, main_mode=main_mode, quick_mode=quick_mode),
        ss.SecurityContext(client, main_mode=main_mode, quick_mode=quick_mode),
    )


def stream(server: ss.SecurityContext, client: ss.SecurityContext) -> None:
    """One connection."""
    listener = ss.create_server(ADDRESS, context=server)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    with ss.create_connection(ADDRESS, peer="server.example", context=client) as connection:
        for _ in range(ROUNDS):
            connection.sendall(MESSAGE)
            left = len(MESSAGE)
            while left:
                left -= len(connection.recv(left))
    thread.join()
    listener.close()


def datagram(server: ss.SecurityContext, client: ss.SecurityContext) -> None:
    """Two sockets."""
    with (
        ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=server) as far,
        ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=client) as near,
    ):
        for each, address in ((far, ADDRESS), (near, OTHER)):
            each.bind(address)
            each.settimeout(20.0)
        near.set_peer_target_name("host/server.example", ADDRESS)

        def serve() -> None:
            for _ in range(ROUNDS):
                data, address = far.recvfrom(65536)
                far.sendto(data, address)

        thread = threading.Thread(target=serve)
        thread.start()
        for _ in range(ROUNDS):
            near.sendto(MESSAGE, ADDRESS)
            near.recvfrom(65536)
        thread.join()


if __name__ == "__main__":
    {"stream": stream, "datagram": datagram}[sys.argv[1]](*contexts(sys.argv[2]))
