"""An ordinary UDP program that knows nothing of IPsec: OUR_HOST HOST PORT SIZE ...: asks, and says what came back."""

from __future__ import annotations

import json
import os
import socket
import sys


def main() -> None:
    """One datagram after the other; the sizes that came back unchanged, as JSON."""
    ours, host, port, *sizes = sys.argv[1:]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    came = []
    with socket.socket(family, socket.SOCK_DGRAM) as plain:
        plain.bind((ours, 0))
        plain.settimeout(10.0)
        for size in map(int, sizes):
            data = os.urandom(size)
            plain.sendto(data, (host, int(port)))
            if plain.recvfrom(65535)[0] == data:
                came.append(size)
    print(json.dumps(came))


if __name__ == "__main__":
    main()
