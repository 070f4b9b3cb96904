"""The carrier of an asyncio endpoint on a fake kernel and a loop of one's own hands: runs, order, and pressure."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest

from securesock.drivers import aio_carrier, batches
from securesock.drivers.aio_carrier import RunProtocol, RunTransport, bind_udp, may_watch
from securesock.types import Address

PEER: Address = ("192.0.2.7", 700)
OTHER: Address = ("192.0.2.8", 800)
pytestmark = pytest.mark.skipif(not hasattr(socket.socket, "sendmsg"), reason="runs need sendmsg")


class FakeKernel:
    """A UDP descriptor that takes ``room`` calls, and notes each: ("one", data, to) or ("run", data, size, to)."""

    family, type, proto = socket.AF_INET, socket.SOCK_DGRAM, 0

    def __init__(self, *, peer: Address | None = None) -> None:
        self.peer = peer
        self.room = 1000
        self.takes_runs = self.joins = True
        self.failures: deque[OSError] = deque()
        self.calls: list[tuple[Any, ...]] = []
        self.arriving: deque[tuple[bytes, int | None, Address]] = deque()
        self.closed = self.joined = False
        self.reads = 0

    def fileno(self) -> int:
        return 77

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def getsockname(self) -> Address:
        return ("192.0.2.1", 1)

    def getpeername(self) -> Address:
        if self.peer is None:
            raise OSError(errno.ENOTCONN, "not connected")
        return self.peer

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if not self.joins:
            raise OSError(errno.ENOPROTOOPT, "no such option")
        self.joined = True

    def getsockopt(self, level: int, option: int) -> int:
        raise OSError(errno.ENOPROTOOPT, "this kernel does not tell who chose the size of a buffer")

    def _take(self, call: tuple[Any, ...]) -> None:
        if self.failures:
            raise self.failures.popleft()
        if not self.room:
            raise BlockingIOError(errno.EAGAIN, "full")
        self.room -= 1
        self.calls.append(call)

    def send(self, data: bytes) -> None:
        self._take(("one", bytes(data), None))

    def sendto(self, data: bytes, to: Address) -> None:
        self._take(("one", bytes(data), to))

    def sendmsg(
        self, buffers: tuple[bytes], control: list[tuple[int, int, bytes]], flags: int, to: Address | None = None
    ) -> None:
        if not self.takes_runs:
            raise OSError(errno.EINVAL, "no runs")
        size = int.from_bytes(control[0][2], "little")
        self._take(("run", buffers[0], size, to))

    def recvmsg(self, most: int, ancillary: int, flags: int = 0) -> tuple[bytes, list[Any], int, Address]:
        data, size, address = self._arrival()
        control = [] if size is None else [(batches.SOL_UDP, batches.UDP_GRO, size.to_bytes(4, "little"))]
        return data, control, 0, address

    def recvfrom(self, most: int) -> tuple[bytes, Address]:
        data, _, address = self._arrival()
        return data, address

    def _arrival(self) -> tuple[bytes, int | None, Address]:
        self.reads += 1
        if self.failures:
            raise self.failures.popleft()
        if not self.arriving:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        return self.arriving.popleft()

    def close(self) -> None:
        self.closed = True


class HandLoop:
    """What the carrier uses of a loop; ``turn`` runs what was to be called soon."""

    def __init__(self) -> None:
        self.soon: deque[Callable[[], None]] = deque()
        self.reader: Callable[[], None] | None = None
        self.writer: Callable[[], None] | None = None

    def call_soon(self, function: Callable[..., None], *args: Any) -> None:
        self.soon.append(lambda: function(*args))

    def turn(self) -> None:
        for _ in range(len(self.soon)):
            self.soon.popleft()()

    def add_reader(self, number: int, function: Callable[[], None]) -> None:
        self.reader = function

    def remove_reader(self, number: int) -> None:
        self.reader = None

    def add_writer(self, number: int, function: Callable[[], None]) -> None:
        self.writer = function

    def remove_writer(self, number: int) -> None:
        self.writer = None


class Told(RunProtocol):
    """What the carrier told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.answer: Callable[[bytes, Address], None] = lambda data, addr: None
        self.on_error: Callable[[], None] = lambda: None

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.events.append(data)
        self.answer(data, addr)

    def run_received(self, run: bytes, size: int, addr: Address) -> None:
        self.events.append((run, size))
        for begin in range(0, len(run), size):
            self.answer(run[begin : begin + size], addr)

    def error_received(self, exc: Exception) -> None:
        self.events.append(cast(OSError, exc).errno)
        self.on_error()

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(("lost", exc))


class Bed:
    """One carrier."""

    def __init__(self, *, peer: Address | None = None, joins: bool = True) -> None:
        self.kernel, self.loop, self.told = FakeKernel(peer=peer), HandLoop(), Told()
        self.kernel.joins = joins
        self.carrier = RunTransport(cast(Any, self.loop), cast(Any, self.kernel), self.told)
        self.carrier.start()

    def readable(self) -> None:
        assert self.loop.reader is not None
        self.loop.reader()

    def writable(self) -> None:
        assert self.loop.writer is not None
        self.loop.writer()


def test_a_datagram_alone_goes_at_once_and_those_behind_it_as_a_run() -> None:
    bed = Bed()
    for number in range(5):
        bed.carrier.sendto(b"%03d" % number, PEER)
    assert bed.kernel.calls == [("one", b"000", PEER)]
    bed.loop.turn()
    assert bed.kernel.calls[1:] == [("run", b"001002003004", 3, PEER)]
    bed.carrier.sendto(b"next turn", PEER)
    assert bed.kernel.calls[2:] == [("one", b"next turn", PEER)]


def test_a_run_ends_with_a_shorter_one_with_a_longer_one_and_with_another_address() -> None:
    bed = Bed()
    sent = [(b"at once", PEER), (b"aaaa", PEER), (b"bbbb", PEER), (b"cc", PEER), (b"dddd", PEER), (b"eeeee", PEER)]
    for data, to in [*sent, (b"fffff", OTHER), (b"ggggg", OTHER)]:
        bed.carrier.sendto(data, to)
    bed.loop.turn()
    assert bed.kernel.calls[1:] == [
        ("run", b"aaaabbbbcc", 4, PEER),
        ("one", b"dddd", PEER),
        ("one", b"eeeee", PEER),
        ("run", b"fffffggggg", 5, OTHER),
    ]


def test_a_connected_one_names_no_address_and_takes_no_other() -> None:
    bed = Bed(peer=PEER)
    for data in (b"aa", b"bb", b"cc"):
        bed.carrier.sendto(data, None)
    bed.carrier.sendto(b"dd", PEER)
    with pytest.raises(ValueError, match="Invalid address"):
        bed.carrier.sendto(b"ee", OTHER)
    bed.loop.turn()
    assert bed.kernel.calls == [("one", b"aa", None), ("run", b"bbccdd", 2, None)]


@pytest.mark.parametrize(("size", "most"), [(10, 64), (1400, 46)])
def test_no_more_is_kept_than_one_run_holds(size: int, most: int) -> None:
    bed = Bed()
    for _ in range(200):
        bed.carrier.sendto(bytes(size), PEER)
        assert bed.carrier.get_write_buffer_size() <= batches.MAX_RUN
    assert [len(call[1]) for call in bed.kernel.calls[:3]] == [size, most * size, most * size]
    bed.loop.turn()
    assert sum(len(call[1]) for call in bed.kernel.calls) == 200 * size
    assert bed.carrier.get_write_buffer_size() == 0


def test_where_the_kernel_takes_no_runs_each_goes_alone_and_that_size_is_not_tried_again() -> None:
    bed = Bed()
    bed.kernel.takes_runs = False
    for _ in range(2):
        for data in (b"aa", b"bb", b"cc"):
            bed.carrier.sendto(data, PEER)
        bed.loop.turn()
    assert [call[1] for call in bed.kernel.calls] == [b"aa", b"bb", b"cc"] * 2
    bed.kernel.takes_runs = True
    for data in (b"aa", b"bb", b"cc"):
        bed.carrier.sendto(data, PEER)
    bed.loop.turn()
    assert {call[0] for call in bed.kernel.calls} == {"one"}


def test_an_error_about_an_earlier_datagram_loses_none_of_a_run() -> None:
    bed = Bed(peer=PEER)
    for data in (b"aa", b"bb", b"cc", b"dd"):
        bed.carrier.sendto(data)
    bed.kernel.failures.append(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
    bed.loop.turn()
    assert [call[1] for call in bed.kernel.calls] == [b"aa", b"bb", b"cc", b"dd"]
    assert bed.told.events == [errno.ECONNREFUSED]
    for data in (b"ee", b"ff", b"gg"):
        bed.carrier.sendto(data)
    bed.loop.turn()
    assert bed.kernel.calls[-1] == ("run", b"ffgg", 2, None)


def test_an_error_of_one_datagram_is_told_and_the_next_go_on() -> None:
    bed = Bed()
    bed.kernel.failures.append(OSError(errno.EMSGSIZE, "too long"))
    bed.told.on_error = lambda: bed.carrier.sendto(b"answer", PEER)  # kept, as the machine's own messages are
    bed.carrier.sendto(b"a", PEER)
    bed.told.on_error = lambda: None
    bed.loop.turn()
    assert (bed.told.events, bed.kernel.calls) == ([errno.EMSGSIZE], [("one", b"answer", PEER)])


def test_a_full_kernel_pauses_the_protocol_and_a_writable_one_resumes_it_in_order() -> None:
    bed = Bed()
    bed.kernel.room = 0
    sent = [bytes([number]) * 1000 for number in range(100)]
    for data in sent:
        bed.carrier.sendto(data, PEER)
    assert bed.told.events == ["pause"]
    assert bed.carrier.get_write_buffer_size() == 100_000
    bed.loop.turn()
    bed.kernel.room = 1
    bed.writable()
    assert bed.told.events == ["pause"]
    bed.kernel.room = 100
    bed.writable()
    assert bed.told.events == ["pause", "resume"]
    assert b"".join(call[1] for call in bed.kernel.calls) == b"".join(sent)
    assert [call[0] for call in bed.kernel.calls] == ["run", "run"]
    assert bed.loop.writer is None


def test_limits_are_as_asyncio_has_them() -> None:
    bed = Bed()
    bed.carrier.set_write_buffer_limits(high=0)
    bed.kernel.room = 0
    bed.carrier.sendto(b"x", PEER)
    assert bed.told.events == ["pause"]
    bed.kernel.room = 1
    bed.writable()
    assert bed.told.events == ["pause", "resume"]
    with pytest.raises(ValueError, match="must be >="):
        bed.carrier.set_write_buffer_limits(high=1, low=2)
    bed.kernel.room = 0
    bed.carrier.set_write_buffer_limits(low=2)
    bed.carrier.sendto(bytes(8), PEER)
    bed.loop.turn()
    bed.carrier.sendto(bytes(1), PEER)
    assert bed.told.events[2:] == ["pause"]
    bed.carrier.set_write_buffer_limits()
    assert bed.told.events[2:] == ["pause"]


def test_what_the_kernel_joined_comes_as_one_run_and_answers_go_as_one() -> None:
    bed = Bed()
    bed.kernel.arriving.extend([(b"a", None, PEER), (b"b", None, PEER)])  # several wait: have them joined
    bed.readable()
    bed.told.events.clear()
    bed.told.answer = lambda data, addr: bed.carrier.sendto(data.upper(), addr)
    bed.kernel.arriving.extend([(b"aabbc", 2, PEER), (b"alone", None, PEER), (b"", None, PEER)])
    bed.readable()
    assert bed.told.events == [(b"aabbc", 2), b"alone", b""]
    assert bed.kernel.calls == [("run", b"AABBC", 2, PEER), ("one", b"ALONE", PEER)]
    bed.loop.turn()
    assert bed.kernel.calls[2:] == [("one", b"", PEER)]


def test_lone_datagrams_are_read_with_one_call_and_others_looked_for_every_ninth_time() -> None:
    bed = Bed()
    looked = []
    for _ in range(20):
        bed.kernel.arriving.append((b"lone", None, PEER))
        before = bed.kernel.reads
        bed.readable()
        looked.append(bed.kernel.reads - before)
    assert looked == [2] + [1] * 8 + [2] + [1] * 8 + [2, 1]
    assert not bed.kernel.joined
    bed.kernel.arriving.extend([(b"one of many", None, PEER)] * 20)
    for _ in range(9):
        bed.readable()
    assert (len(bed.kernel.arriving), bed.kernel.joined) == (0, True)


def test_lone_datagrams_are_sent_without_a_turn_of_the_loop_but_every_ninth_time() -> None:
    bed = Bed()
    turns = []
    for _ in range(19):
        bed.carrier.sendto(b"lone", PEER)
        turns.append(len(bed.loop.soon))
        bed.loop.turn()
    assert turns == [1] + [0] * 8 + [1] + [0] * 8 + [1]
    for _ in range(20):
        bed.carrier.sendto(b"many", PEER)
    bed.loop.turn()
    for _ in range(20):
        bed.carrier.sendto(b"many", PEER)
    bed.loop.turn()
    calls = [(call[0], len(call[1]) // 4) for call in bed.kernel.calls[19:]]
    assert calls == [("one", 1)] * 9 + [("run", 11), ("one", 1), ("run", 19)]


def test_one_turn_reads_no_more_than_a_run_holds() -> None:
    bed = Bed()
    bed.kernel.arriving.extend([(b"x", None, PEER)] * 100)
    bed.readable()
    assert len(bed.told.events) == 64
    bed.readable()
    assert len(bed.told.events) == 100


def test_where_the_kernel_joins_nothing_it_is_read_plainly_and_its_errors_are_told() -> None:
    bed = Bed(joins=False)
    bed.kernel.arriving.extend([(b"plain", 2, PEER)] * 3)
    bed.readable()
    assert not bed.kernel.joined
    bed.kernel.failures.append(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
    bed.readable()
    assert bed.told.events == [b"plain"] * 3 + [errno.ECONNREFUSED]


def test_what_a_protocol_raises_leaves_nothing_unsent() -> None:
    bed = Bed()

    def fail(data: bytes, addr: Address) -> None:
        bed.carrier.sendto(data, addr)
        raise RuntimeError("of the protocol")

    bed.kernel.arriving.extend([(b"a", None, PEER), (b"b", None, PEER)])
    bed.readable()
    bed.told.answer = fail
    bed.kernel.arriving.append((b"datadata", 4, PEER))
    with pytest.raises(RuntimeError):
        bed.readable()
    assert bed.kernel.calls == [("one", b"data", PEER)]


def test_close_sends_what_is_kept_and_waits_for_the_kernel() -> None:
    bed = Bed()
    for data in (b"aa", b"bb", b"cc"):
        bed.carrier.sendto(data, PEER)
    bed.kernel.room = 0
    bed.carrier.close()
    bed.carrier.close()
    bed.carrier.sendto(b"too late", PEER)
    bed.loop.turn()
    assert (bed.told.events, bed.loop.reader, bed.carrier.is_closing()) == ([], None, True)
    bed.kernel.room = 9
    bed.writable()
    bed.loop.turn()
    assert bed.kernel.calls[1:] == [("run", b"bbcc", 2, PEER)]
    assert (bed.told.events, bed.loop.writer, bed.kernel.closed) == ([("lost", None)], None, True)


def test_close_within_an_error_ends_when_the_rest_has_gone() -> None:
    bed = Bed()
    for data in (b"aa", b"b", b"cc", b"dd"):
        bed.carrier.sendto(data, PEER)
    bed.kernel.failures.append(OSError(errno.ENETUNREACH, "no way"))
    bed.told.on_error = bed.carrier.close
    bed.loop.turn()
    bed.loop.turn()
    assert bed.told.events == [errno.ENETUNREACH, ("lost", None)]
    assert bed.kernel.calls[1:] == [("run", b"ccdd", 2, PEER)]


def test_abort_sends_nothing_more_not_even_in_the_middle_of_sending() -> None:
    bed = Bed()
    for data in (b"aa", b"b", b"cc", b"dd"):
        bed.carrier.sendto(data, PEER)
    bed.kernel.failures.append(OSError(errno.ENETUNREACH, "no way"))
    bed.told.on_error = bed.carrier.abort
    bed.loop.turn()
    bed.carrier.abort()
    bed.loop.turn()
    assert bed.told.events == [errno.ENETUNREACH, ("lost", None)]
    assert (len(bed.kernel.calls), bed.kernel.closed) == (1, True)


def test_closed_before_it_was_started_it_never_reads() -> None:
    bed = Bed()
    bed.carrier.close()
    bed.carrier.start()
    assert bed.loop.reader is None


def test_it_says_where_it_is() -> None:
    bed = Bed(peer=PEER)
    assert bed.carrier.get_extra_info("peername") == PEER
    assert bed.carrier.get_extra_info("sockname") == ("192.0.2.1", 1)
    assert bed.carrier.get_extra_info("socket").fileno() == 77
    assert Bed().carrier.get_extra_info("peername") is None


def test_only_a_loop_that_watches_descriptors_is_asked_to() -> None:
    class Proactor(asyncio.AbstractEventLoop):
        pass

    loop = asyncio.SelectorEventLoop()
    try:
        assert may_watch(loop)
    finally:
        loop.close()
    assert not may_watch(Proactor())


async def _bound(**asked: Any) -> tuple[Address, Address | None]:
    local, remote = asked.pop("local", None), asked.pop("remote", None)
    with await bind_udp(asyncio.get_running_loop(), local, remote, **asked) as kernel:
        assert not kernel.getblocking()
        return kernel.getsockname(), kernel.getpeername() if remote else None


def test_a_socket_is_bound_and_connected_as_the_loop_does() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        where = taken.getsockname()
        assert asyncio.run(_bound(local=("127.0.0.1", 0)))[0][0] == "127.0.0.1"
        assert asyncio.run(_bound(local=("127.0.0.1", 0), remote=where))[1] == where
        assert asyncio.run(_bound(remote=("localhost", where[1]), family=socket.AF_INET))[1] == where
        assert asyncio.run(_bound(local=("", 0), family=socket.AF_INET))[0][0] == "0.0.0.0"
        assert asyncio.run(_bound(family=socket.AF_INET))[0][0] == "0.0.0.0"
        with pytest.raises(OSError) as caught:
            asyncio.run(_bound(local=where))
        assert caught.value.errno == errno.EADDRINUSE
    for wrong in ({}, {"local": ("127.0.0.1", 0), "remote": ("::1", 9)}):
        with pytest.raises(ValueError, match="address"):
            asyncio.run(_bound(**wrong))


def test_a_port_is_shared_where_the_system_can(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        assert asyncio.run(_bound(local=other.getsockname(), reuse_port=True))[0] == other.getsockname()
    monkeypatch.delattr(aio_carrier.socket, "SO_REUSEPORT")
    with pytest.raises(ValueError, match="reuse_port"):
        asyncio.run(_bound(local=("127.0.0.1", 0), reuse_port=True))
