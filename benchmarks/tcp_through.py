"""How fast one TCP connection is between two namespaces, for the figure that stands beside tunnels' datagrams.

python -m benchmarks.tcp_through HOST           (accepts one connection after another, and reads each to its end)
python -m benchmarks.tcp_through HOST PORT S    (sends for S seconds, prints the MB/s that arrived)
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from tests.interop.network import Namespaces
from tools import leftovers

CHUNK: Final = 1 << 18
PATIENCE_S: Final = 30.0


def transfer(both: Namespaces, hosts: tuple[str, str], seconds: float) -> Callable[[], float]:
    """What measures once, from the first host to the second, in MB/s."""

    def run(namespace: str, *arguments: str) -> list[str]:
        return ["ip", "netns", "exec", namespace, sys.executable, "-m", "benchmarks.tcp_through", *arguments]

    def measure() -> float:
        with leftovers.process(
            subprocess.Popen(run(both.peers, hosts[1]), stdout=subprocess.PIPE, text=True)
        ) as receiver:
            if receiver.stdout is None:
                raise RuntimeError("the receiver has no output")
            port = receiver.stdout.readline().strip()
            command = run(both.ours, hosts[1], port, str(seconds))
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S + seconds)
            receiver.kill()
            return float(done.stdout)

    return measure


def serve(host: str) -> None:
    """Until it is ended."""
    with socket.create_server((host, 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                count = 0
                while more := len(connection.recv(CHUNK)):
                    count += more
                connection.sendall(count.to_bytes(8, "big"))


def send(host: str, port: int, seconds: float) -> float:
    """What the other side says it has read, per second."""
    data = bytes(CHUNK)
    with socket.create_connection((host, port)) as connection:
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        count = int.from_bytes(connection.recv(8), "big")
        return count / 1e6 / (time.monotonic() - started)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        print(send(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
