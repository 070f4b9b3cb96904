"""Several datagrams in one system call, on the loopback."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator

import pytest

from securesock.drivers import batches
from securesock.drivers.batches import Runs, receive_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux sends and joins runs of datagrams")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.socket(type=socket.SOCK_DGRAM) as sender, socket.socket(type=socket.SOCK_DGRAM) as receiver:
        for each in (sender, receiver):
            each.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        yield sender, receiver


def test_one_call_sends_as_many_datagrams_as_there_are(ends: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = ends
    run = b"".join(bytes([number]) * 100 for number in range(20))
    assert Runs(sender).send(run, 100, receiver.getsockname())
    assert [receiver.recv(2000) for _ in range(20)] == [bytes([number]) * 100 for number in range(20)]
    sender.connect(receiver.getsockname())
    assert Runs(sender).send(run, 100, None)
    assert len(receiver.recv(2000)) == 100


def test_the_kernel_says_how_long_what_it_joined_was(ends: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = ends
    Runs(receiver).join()
    run = bytes(range(250))
    assert Runs(sender).send(run, 60, receiver.getsockname())
    taken, sizes = b"", set()
    while len(taken) < len(run):
        data, size, address = receive_run(receiver)
        assert address == sender.getsockname()
        taken += data
        sizes.add(size)
    assert taken == run
    assert max(sizes) == 60
    sender.sendto(b"alone", receiver.getsockname())
    assert receive_run(receiver)[:2] == (b"alone", 5)
    sender.sendto(b"", receiver.getsockname())
    assert receive_run(receiver)[:2] == (b"", 1)


def test_a_size_that_was_refused_is_not_tried_again(ends: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = ends
    runs = Runs(sender)
    assert runs.may_send(1400)
    assert not runs.send(bytes(70_000), 35_000, receiver.getsockname())
    assert not runs.may_send(35_000)
    assert runs.may_send(34_999)


def test_other_errors_than_that_it_cannot_pass(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(OSError) as caught:
        Runs(ends[0]).send(bytes(200), 100, ("255.255.255.255", 9))
    assert caught.value.errno == errno.EACCES


def test_where_the_kernel_cannot_join_nothing_is_said_to_be_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "UDP_GRO", 9999)
    with socket.socket(type=socket.SOCK_DGRAM) as kernel:
        runs = Runs(kernel)
        runs.join()
        assert not runs.joined
