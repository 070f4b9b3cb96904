"""The server process of the soak tests: echoes every connection, and says on request what it holds.

Standard input: the identity as PEM texts in one JSON line, then any line asks for a report.  Standard output: the
port, then one JSON line for each report.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
from pathlib import Path

import securesock as ss


def measure() -> dict[str, int]:
    """Resident memory in KiB, objects that the collector tracks, threads and descriptors of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    values = {words[0]: words[1] for words in map(str.split, status.splitlines()) if len(words) > 1}
    descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
    objects = len(gc.get_objects())
    return {
        "rss_kib": int(values["VmRSS:"]),
        "objects": objects,
        "threads": int(values["Threads:"]),
        "descriptors": descriptors,
    }


def serve(listener: ss.SecureSocket) -> None:
    """One connection after another: read to the end of the stream, send it back."""
    while True:
        connection, _ = listener.accept()
        with connection:
            data = b""
            while chunk := connection.recv(65536):
                data += chunk
            connection.sendall(data)


def main() -> None:
    """Serve until standard input ends."""
    texts = json.loads(sys.stdin.readline())
    identity = ss.Identity.from_pem(
        certificate=texts["certificate"].encode(), private_key=texts["key"].encode(), trust=[texts["trust"].encode()]
    )
    with ss.create_server(("127.0.0.1", 0), context=ss.SecurityContext(identity), backlog=128) as listener:
        print(json.dumps(listener.getsockname()[1]), flush=True)
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        for _ in sys.stdin:
            print(json.dumps(measure() | {"refusals": dict(listener.refusals)}), flush=True)


if __name__ == "__main__":
    main()
