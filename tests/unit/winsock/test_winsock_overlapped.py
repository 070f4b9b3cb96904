"""Overlapped objects and completion routines: completed after success, once, and never after an error."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

import securesock as ss
from securesock.winsock import (
    SIO_QUERY_SECURITY,
    SIO_SET_SECURITY,
    SOCKET_PEER_TARGET_NAME,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_SETTINGS,
    WSAEFAULT,
    WSAEINVAL,
    Overlapped,
    WSADeleteSocketPeerTargetName,
    WSAError,
    WSAIoctl,
    WSAQuerySocketSecurity,
    WSASetSocketPeerTargetName,
    WSASetSocketSecurity,
)
from tests.support.loopback import client_context, connected

NAME = SOCKET_PEER_TARGET_NAME(PeerTargetName="host/server.example")
Later = Callable[..., object]
SETTERS: dict[str, Later] = {
    "set": lambda sock, *later: WSASetSocketSecurity(sock, None, *later),
    "name": lambda sock, *later: WSASetSocketPeerTargetName(sock, NAME, *later),
    "delete": lambda sock, *later: WSADeleteSocketPeerTargetName(sock, ("127.0.0.1", 1), *later),
    "ioctl": lambda sock, *later: WSAIoctl(sock, SIO_SET_SECURITY, None, None, *later),
}
every_setter = pytest.mark.parametrize("call", SETTERS.values(), ids=SETTERS)


class Routine:
    """Remembers how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, object, int]] = []

    def __call__(self, error: int, transferred: int, overlapped: object, flags: int) -> None:
        assert not isinstance(overlapped, concurrent.futures.Future) or overlapped.done()
        self.calls.append((error, transferred, overlapped, flags))


@pytest.fixture
def sock() -> Iterator[ss.SecureSocket]:
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=client_context()) as fresh:
        yield fresh


@every_setter
def test_a_concurrent_future_is_completed_and_the_routine_called_once_after_it(
    sock: ss.SecureSocket, call: Later
) -> None:
    overlapped: concurrent.futures.Future[int] = concurrent.futures.Future()
    routine = Routine()
    assert call(sock, overlapped, routine) == 0
    assert overlapped.result(0) == 0
    assert routine.calls == [(0, 0, overlapped, 0)]


@every_setter
def test_a_routine_alone_is_called_once(sock: ss.SecureSocket, call: Later) -> None:
    routine = Routine()
    assert call(sock, None, routine) == 0
    assert routine.calls == [(0, 0, None, 0)]


@every_setter
def test_an_asyncio_future_is_completed_in_a_later_turn_of_its_loop(sock: ss.SecureSocket, call: Later) -> None:
    async def run() -> None:
        overlapped: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        routine = Routine()
        assert call(sock, overlapped, routine) == 0
        assert not overlapped.done()
        assert routine.calls == []
        assert await overlapped == 0
        assert routine.calls == [(0, 0, overlapped, 0)]

    asyncio.run(run())


def test_an_asyncio_future_may_be_handed_in_by_another_thread(sock: ss.SecureSocket) -> None:
    async def run() -> None:
        overlapped: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        seen: list[threading.Thread] = []

        def routine(*_: object) -> None:
            seen.append(threading.current_thread())

        thread = threading.Thread(target=WSASetSocketSecurity, args=(sock, None, overlapped, routine))
        thread.start()
        assert await overlapped == 0
        thread.join()
        assert seen == [threading.current_thread()]

    asyncio.run(run())


def test_a_query_completes_with_the_structure_and_its_length() -> None:
    with connected() as (ours, _):
        for call in (
            lambda *later: WSAQuerySocketSecurity(ours, None, *later),
            lambda *later: WSAIoctl(ours, SIO_QUERY_SECURITY, None, None, *later),
        ):
            overlapped: concurrent.futures.Future[SOCKET_SECURITY_QUERY_INFO] = concurrent.futures.Future()
            routine = Routine()
            info = call(overlapped, routine)
            assert overlapped.result(0) is info
            assert routine.calls == [(0, 24, overlapped, 0)]


def test_the_output_buffer_is_filled_before_the_call_completes() -> None:
    with connected() as (ours, _):
        room = bytearray(24)
        seen: list[bytes] = []
        info = WSAIoctl(ours, SIO_QUERY_SECURITY, None, room, None, lambda *_: seen.append(bytes(room)))
        assert seen == [info.pack()]


@pytest.mark.parametrize("settings", [b"\0", SOCKET_SECURITY_SETTINGS(SecurityFlags=3)])
def test_a_call_that_fails_completes_nothing(sock: ss.SecureSocket, settings: bytes) -> None:
    overlapped: concurrent.futures.Future[int] = concurrent.futures.Future()
    routine = Routine()
    with pytest.raises(WSAError):
        WSASetSocketSecurity(sock, settings, overlapped, routine)
    assert not overlapped.done()
    assert routine.calls == []
    assert WSASetSocketSecurity(sock, None, overlapped, routine) == 0
    assert len(routine.calls) == 1


def done_already() -> Overlapped[int]:
    overlapped: concurrent.futures.Future[int] = concurrent.futures.Future()
    overlapped.set_result(0)
    return overlapped


def cancelled() -> Overlapped[int]:
    overlapped: concurrent.futures.Future[int] = concurrent.futures.Future()
    overlapped.cancel()
    return overlapped


def without_a_loop() -> Overlapped[int]:
    loop = asyncio.new_event_loop()
    overlapped: asyncio.Future[int] = loop.create_future()
    loop.close()
    return overlapped


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (done_already, WSAEINVAL),
        (cancelled, WSAEINVAL),
        (without_a_loop, WSAEINVAL),
        (object, WSAEFAULT),
        (threading.Event, WSAEFAULT),
    ],
)
def test_what_cannot_be_completed_is_refused_before_anything_is_done(
    sock: ss.SecureSocket, make: Callable[[], Overlapped[int]], code: int
) -> None:
    with pytest.raises(WSAError) as caught:
        WSASetSocketSecurity(sock, None, make())
    assert caught.value.winerror == code
    assert WSASetSocketSecurity(sock) == 0


def test_a_routine_that_cannot_be_called_is_a_fault(sock: ss.SecureSocket) -> None:
    with pytest.raises(WSAError) as caught:
        WSASetSocketSecurity(sock, None, None, "routine")
    assert caught.value.winerror == WSAEFAULT
    assert WSASetSocketSecurity(sock) == 0


def test_a_future_cancelled_before_its_turn_stays_cancelled_and_the_operation_stands(sock: ss.SecureSocket) -> None:
    async def run() -> None:
        overlapped: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        routine = Routine()
        assert WSASetSocketSecurity(sock, None, overlapped, routine) == 0
        overlapped.cancel()
        await asyncio.sleep(0)
        assert overlapped.cancelled()
        assert len(routine.calls) == 1

    asyncio.run(run())
    with pytest.raises(WSAError, match="once"):
        WSASetSocketSecurity(sock)


def test_what_a_routine_raises_passes_and_the_operation_stands(sock: ss.SecureSocket) -> None:
    def routine(*_: object) -> None:
        raise ZeroDivisionError

    overlapped: concurrent.futures.Future[int] = concurrent.futures.Future()
    with pytest.raises(ZeroDivisionError):
        WSASetSocketSecurity(sock, None, overlapped, routine)
    assert overlapped.result(0) == 0
    with pytest.raises(WSAError, match="once"):
        WSASetSocketSecurity(sock)
