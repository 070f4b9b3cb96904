"""An ordinary UDP echo program that knows nothing of IPsec: HOST PORT."""

from __future__ import annotations

import socket
import sys


def main() -> None:
    """Echo until killed."""
    host, port = sys.argv[1], int(sys.argv[2])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as plain:
        plain.bind((host, port))
        print("ready", flush=True)
        while True:
            data, sender = plain.recvfrom(65535)
            plain.sendto(data, sender)


if __name__ == "__main__":
    main()
