"""How much may wait for a UDP socket, on real descriptors."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from securesock.drivers import receive_room
from securesock.drivers.receive_room import ask_for_room

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether an application has set it")


@pytest.fixture
def kernel() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        yield made


def room(kernel: socket.socket) -> int:
    return kernel.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def test_more_may_wait_than_by_default(kernel: socket.socket) -> None:
    before = room(kernel)
    ask_for_room(kernel)
    assert room(kernel) > before


def test_what_the_application_has_chosen_stays_as_it_is(kernel: socket.socket) -> None:
    kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 70_000)
    chosen = room(kernel)
    ask_for_room(kernel)
    assert room(kernel) == chosen


def test_where_the_kernel_cannot_tell_who_has_chosen_nothing_is_changed(
    kernel: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive_room, "SO_BUF_LOCK", 9999)
    before = room(kernel)
    ask_for_room(kernel)
    assert room(kernel) == before
