"""A UDP relay between one client and one server that records what passes: the cable that a tapper would sit at."""

from __future__ import annotations

import select
import socket
import threading
from types import TracebackType

from securesock.types import Address

__all__ = ["DatagramRelay", "clear_windows"]

WINDOW = 8
"""As the demo counts clear text (semantics "In clear, or not"): bytes in a row that cannot be there by chance."""


def clear_windows(payload: bytes, recorded: list[bytes]) -> int:
    """How many of the windows of ``payload`` were recorded."""
    stream = b"|".join(recorded)
    return sum(payload[at : at + WINDOW] in stream for at in range(len(payload) - WINDOW + 1))


class DatagramRelay:
    """``address`` is where the client sends to; the server answers whoever spoke last."""

    def __init__(self, server: Address, family: int = socket.AF_INET) -> None:
        self.recorded: list[bytes] = []
        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        self._inner, self._outer = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        for each in (self._inner, self._outer):
            each.bind((host, 0))
        self._inner.connect(server)
        self.address: Address = self._outer.getsockname()
        self.client: Address | None = None
        self._done, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            ready = select.select([self._inner, self._outer, self._done], [], [])[0]
            if self._done in ready:
                return
            for each in ready:
                try:
                    data, source = each.recvfrom(1 << 16)
                    self.recorded.append(data)
                    if each is self._outer:
                        self.client = source
                        self._inner.send(data)
                    elif self.client is not None:
                        self._outer.sendto(data, self.client)
                except ConnectionRefusedError:
                    continue  # whoever is there has closed

    def __enter__(self) -> DatagramRelay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.send(b"x")
        self._thread.join()
        for each in (self._inner, self._outer, self._done, self._wake):
            each.close()
