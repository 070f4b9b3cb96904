"""The server process of the soak tests: answers connections one after the other, and says how large it has become.

    python server.py FOLDER CHILD_BYTES IKE_BYTES

FOLDER holds authority.pem, server.pem and server.key.  The first line on stdout is the port; after that each line on
stdin is answered by one line of JSON with what this process holds at that moment.

What a connection is for its first byte says: "e": what follows is sent back.  "d": what follows is digested until the
client's end of stream, the digest sent back.
"""

from __future__ import annotations

import gc
import hashlib
import json
import sys
import threading
from pathlib import Path

import securesock as ss
from tests.soak.holdings import Holdings, limited_context


def answer(connection: ss.SecureSocket) -> None:
    with connection:
        kind = connection.recv(1)
        if kind == b"e":
            while data := connection.recv(65536):
                connection.sendall(data)
        elif kind == b"d":
            digest, room = hashlib.sha256(), bytearray(1 << 20)
            while count := connection.recv_into(room):
                digest.update(memoryview(room)[:count])
            info = connection.query_security()
            connection.sendall(digest.digest() + info.rekeys.to_bytes(4, "big"))


def serve(listener: ss.SecureSocket) -> None:
    while True:
        connection, _ = listener.accept()
        answer(connection)


def main() -> None:
    folder, child_bytes, ike_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    identity = ss.Identity.from_pem(
        certificate=folder / "server.pem", private_key=folder / "server.key", trust=[folder / "authority.pem"]
    )
    with ss.create_server(("127.0.0.1", 0), context=limited_context(identity, child_bytes, ike_bytes)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        for _ in sys.stdin:
            gc.collect()
            print(json.dumps(Holdings.now()._asdict()), flush=True)


if __name__ == "__main__":
    main()
