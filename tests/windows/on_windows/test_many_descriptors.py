"""More connections than select() of Windows takes at once: nobody honest waits for them."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

import securesock as ss
from securesock.drivers.reactor import reactor
from tests.support.loopback import PATIENCE_S, connect, server_context

STRANGERS = 640  # CPython's select() takes 512 there
FROM_ONE_SOURCE = 60


def test_select_takes_fewer_than_this() -> None:
    """The control: what the reactor would meet without its own way to look."""
    import select

    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(STRANGERS)]
        with pytest.raises(ValueError, match="too many"):
            select.select(many, [], [], 0)


def test_silent_strangers_keep_nobody_waiting_and_end_no_thread() -> None:
    with ss.create_server(("127.0.0.1", 0), context=server_context()) as listener, contextlib.ExitStack() as stack:
        for number in range(STRANGERS):
            stranger = stack.enter_context(socket.socket())
            stranger.bind((f"127.0.0.{2 + number // FROM_ONE_SOURCE}", 0))
            stranger.connect(listener.getsockname())
        listener.settimeout(PATIENCE_S)
        accepted: list[ss.SecureSocket] = []
        accepting = threading.Thread(target=lambda: accepted.append(listener.accept()[0]))
        accepting.start()
        with connect(listener.getsockname()) as client:
            accepting.join(PATIENCE_S)
            with accepted[0] as server:
                server.sendall(b"hello")
                assert client.recv(10) == b"hello"
                server.setblocking(False)
        assert reactor().run_and_wait(lambda: None, PATIENCE_S)
