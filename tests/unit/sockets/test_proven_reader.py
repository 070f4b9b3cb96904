"""The reader of ss.aio's streams beside asyncio's own: the same answers, and errors after what was proven."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securesock.errors import StreamTruncated
from securesock.sockets.aio_streams import ProvenStreamReader

LIMIT = 50


class Transport(asyncio.ReadTransport):
    """Counts whether it is asked to read."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


async def outcome(call: Awaitable[bytes]) -> object:
    """What a call answers, or the class and the data of what it raises."""
    try:
        return await call
    except asyncio.IncompleteReadError as error:
        return type(error), error.partial, error.expected
    except asyncio.LimitOverrunError as error:
        return type(error), error.consumed
    except ValueError as error:
        return type(error), str(error)


def readers() -> tuple[asyncio.StreamReader, ProvenStreamReader]:
    loop = asyncio.get_running_loop()
    return asyncio.StreamReader(LIMIT, loop), ProvenStreamReader(LIMIT, loop)


CALLS = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 120)),
    st.tuples(st.just("readexactly"), st.integers(0, 120)),
    st.tuples(st.just("readline"), st.none()),
    st.tuples(st.just("readuntil"), st.sampled_from([b"\n", b"ab", b"aab", b"\n\n"])),
)
FEEDS = st.lists(st.lists(st.sampled_from(b"ab\n"), max_size=90).map(bytes), max_size=8)


@given(FEEDS, st.lists(CALLS, max_size=12), st.booleans())
def test_every_call_answers_as_asyncios_does(
    feeds: list[bytes], calls: list[tuple[str, object]], all_at_once: bool
) -> None:
    async def body() -> None:
        theirs, ours = readers()
        pausing = Transport(), Transport()
        for reader, transport in zip((theirs, ours), pausing, strict=True):
            reader.set_transport(transport)
        waiting = [] if all_at_once else list(feeds)
        if all_at_once:
            for data in feeds:
                theirs.feed_data(data)
                ours.feed_data(data)
            theirs.feed_eof()
            ours.feed_eof()
        for name, argument in calls:
            arguments = () if argument is None else (argument,)
            tasks = [asyncio.ensure_future(outcome(getattr(each, name)(*arguments))) for each in (theirs, ours)]
            for _ in range(2):
                await asyncio.sleep(0)
            while not all(task.done() for task in tasks):
                for reader in (theirs, ours):
                    if waiting:
                        reader.feed_data(waiting[0])
                    else:
                        reader.feed_eof()
                if waiting:
                    waiting.pop(0)
                for _ in range(3):
                    await asyncio.sleep(0)
            assert tasks[0].result() == tasks[1].result()
            assert theirs.at_eof() == ours.at_eof()
            assert pausing[0].reading == pausing[1].reading

    asyncio.run(body())


def test_a_large_piece_is_handed_on_as_it_came() -> None:
    async def body() -> None:
        _, reader = readers()
        piece = bytes(100_000)
        reader.feed_data(piece)
        assert await reader.read(1 << 20) is piece

    asyncio.run(body())


def test_many_small_pieces_are_few_objects() -> None:
    async def body() -> None:
        _, reader = readers()
        for _ in range(10_000):
            reader.feed_data(b"x")
        assert len(reader._pieces) == 1
        reader.feed_eof()
        assert await reader.read() == b"x" * 10_000

    asyncio.run(body())


READS: dict[str, Callable[[ProvenStreamReader], Awaitable[bytes]]] = {
    "read": lambda reader: reader.read(100),
    "read all": lambda reader: reader.read(),
    "readexactly": lambda reader: reader.readexactly(1),
    "readline": lambda reader: reader.readline(),
    "readuntil": lambda reader: reader.readuntil(b"x"),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_every_call_raises_what_ended_the_stream_when_nothing_is_left(
    read: Callable[[ProvenStreamReader], Awaitable[bytes]],
) -> None:
    async def body() -> None:
        _, reader = readers()
        reader.feed_data(b"proven")
        reader.set_exception(StreamTruncated("cut"))
        assert await reader.read(100) == b"proven"
        for _ in range(2):
            with pytest.raises(StreamTruncated):
                await read(reader)
        assert not reader.at_eof()

    asyncio.run(body())


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_who_waits_is_told_of_the_error(read: Callable[[ProvenStreamReader], Awaitable[bytes]]) -> None:
    async def body() -> None:
        _, reader = readers()
        waiting = asyncio.ensure_future(read(reader))
        await asyncio.sleep(0)
        reader.set_exception(StreamTruncated("cut"))
        with pytest.raises(StreamTruncated):
            await waiting

    asyncio.run(body())


def test_what_is_incomplete_is_the_cause_of_the_error() -> None:
    async def body() -> None:
        for read in (lambda each: each.readexactly(7), lambda each: each.readuntil(b"!"), lambda each: each.readline()):
            _, reader = readers()
            reader.feed_data(b"proven")
            reader.set_exception(StreamTruncated("cut"))
            with pytest.raises(StreamTruncated) as told:
                await read(reader)
            assert isinstance(told.value.__cause__, asyncio.IncompleteReadError)
            assert told.value.__cause__.partial == b"proven"

    asyncio.run(body())


def test_an_error_behind_the_peers_end_changes_nothing() -> None:
    async def body() -> None:
        _, reader = readers()
        reader.feed_data(b"all")
        reader.feed_eof()
        reader.set_exception(ConnectionResetError("too late to matter"))
        assert reader.exception() is None
        assert await reader.read() == b"all"
        assert reader.at_eof()

    asyncio.run(body())


def test_a_second_reader_is_refused_and_a_cancelled_one_makes_room() -> None:
    async def body() -> None:
        _, reader = readers()
        first = asyncio.ensure_future(reader.read(10))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already waiting"):
            await reader.readline()
        first.cancel()
        await asyncio.sleep(0)
        second = asyncio.ensure_future(reader.read(10))
        await asyncio.sleep(0)
        reader.feed_data(b"for the second")
        assert await second == b"for the se"

    asyncio.run(body())


def test_lines_are_iterated_over() -> None:
    async def body() -> None:
        _, reader = readers()
        reader.feed_data(b"one\ntwo\nthree")
        reader.feed_eof()
        assert [line async for line in reader] == [b"one\n", b"two\n", b"three"]

    asyncio.run(body())


def test_the_first_of_several_separators_ends_a_read() -> None:
    async def body() -> None:
        _, reader = readers()
        reader.feed_data(b"one;two\r\nthree")
        assert await reader.readuntil((b"\r\n", b";")) == b"one;"
        assert await reader.readuntil((b"\r\n", b";")) == b"two\r\n"
        for wrong in (b"", (), (b"x", b"")):
            with pytest.raises(ValueError, match="Separator"):
                await reader.readuntil(wrong)

    asyncio.run(body())
