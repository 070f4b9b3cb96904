"""Who does not get in through ss.aio, and that it costs nobody else anything."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import ExitStack

import pytest

from securesock.crypto.suites import AES_128_GCM_16, CHACHA20_POLY1305
from securesock.engine import half_open
from securesock.engine.context import SecurityContext
from securesock.engine.half_open import HALF_OPEN
from securesock.errors import AuthenticationFailed, KeyingTimeout, PeerIncompatible, PeerMisbehaved, SecureSocketError
from securesock.identity.identity import Identity
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE, ChildOffer, QuickModePolicy
from securesock.sockets import aio, aio_admitting, aio_opening
from tests.support.aio_peers import LOCALHOST, Listening, Relay, connect, contexts, identities, listening
from tests.support.event_loops import on_every_loop

PREFIX = b"IKETCP"


async def still_serves(there: Listening) -> None:
    """An honest client is served, and nobody else reached the application."""
    client = await connect(there.port)
    server = await there.accepted.get()
    client.writer.write(b"ping")
    assert await server.reader.readexactly(4) == b"ping"
    assert there.accepted.empty()
    await client.close()
    await server.close()


async def stranger(there: Listening, data: bytes) -> bytes:
    """What somebody is answered who sends ``data`` and waits."""
    reader, writer = await asyncio.open_connection(LOCALHOST, there.port)
    writer.write(data)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@on_every_loop
async def test_a_server_with_another_name_is_refused() -> None:
    async with listening() as there:
        with pytest.raises(AuthenticationFailed) as told:
            await connect(there.port, peer="host/other.example")
        assert told.value.reason == "other-name"
        await there.refused("AuthenticationFailed")
        await still_serves(there)


@on_every_loop
async def test_the_host_of_the_address_is_who_must_answer_where_no_name_is_given() -> None:
    async with listening() as there:
        with pytest.raises(AuthenticationFailed):
            await aio.open_connection(LOCALHOST, there.port, context=contexts()[1])
    server = Identity.ephemeral(LOCALHOST)
    client = SecurityContext(Identity.ephemeral("host/c.example", authority=server.authority))
    async with listening(SecurityContext(server)) as there:
        _reader, writer = await aio.open_connection(LOCALHOST, there.port, context=client)
        assert str(writer.get_extra_info("security").peer_machine) == LOCALHOST
        writer.close()
        await writer.wait_closed()


@on_every_loop
async def test_a_client_of_another_authority_is_refused_and_told_so() -> None:
    server, _ = identities()
    foreign = SecurityContext(Identity.ephemeral("host/client.example", trust=[server.authority]))
    async with listening() as there:
        with pytest.raises(AuthenticationFailed, match="refused"):
            await connect(there.port, foreign)
        assert sum(there.server.refusals.values()) == 1
        await still_serves(there)


@on_every_loop
async def test_a_server_of_another_authority_is_refused() -> None:
    foreign = SecurityContext(Identity.ephemeral("host/client.example"))
    async with listening() as there:
        with pytest.raises(AuthenticationFailed):
            await connect(there.port, foreign)
        await still_serves(there)


@on_every_loop
async def test_only_who_is_on_the_list_is_admitted() -> None:
    async with listening(allow=["host/other.example", "*.internal.example"]) as there:
        with pytest.raises(AuthenticationFailed):
            await connect(there.port)
        await there.refused("PolicyRefused")
        assert there.accepted.empty()
    async with listening(allow=["*.example"]) as there:
        await still_serves(there)


@on_every_loop
async def test_a_shared_secret_that_differs_is_refused() -> None:
    server = SecurityContext(Identity.from_psk("server.example", {"client.example": b"x" * 32}))
    client = SecurityContext(Identity.from_psk("client.example", {"server.example": b"y" * 32}))
    async with listening(server) as there:
        with pytest.raises(AuthenticationFailed):
            await connect(there.port, client)
        assert there.accepted.empty()
        right = SecurityContext(Identity.from_psk("client.example", {"server.example": b"x" * 32}))
        client_end = await connect(there.port, right)
        assert client_end.writer.get_extra_info("security").peer_machine.method == "psk"
        await client_end.close()


@on_every_loop
async def test_ends_without_a_common_suite_say_so() -> None:
    server, client = identities()
    lifetimes = DEFAULT_QUICK_MODE.lifetimes
    ours = SecurityContext(client, quick_mode=QuickModePolicy((ChildOffer((AES_128_GCM_16,)),), lifetimes))
    theirs = SecurityContext(server, quick_mode=QuickModePolicy((ChildOffer((CHACHA20_POLY1305,)),), lifetimes))
    async with listening(theirs) as there:
        with pytest.raises(PeerIncompatible):
            await connect(there.port, ours)
        await there.refused("PeerIncompatible")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "PeerIncompatible"),
        (PREFIX + bytes((0, 0)), "PeerMisbehaved"),
        (PREFIX + bytes((0, 5)), "PeerMisbehaved"),
        (PREFIX + struct.pack(">H", 16385), "PeerMisbehaved"),
        (PREFIX + bytes((0, 20)) + bytes(18), "PeerMisbehaved"),
        (PREFIX + bytes((0, 20)) + b"\1" * 18, "ConnectionBroken"),
    ],
    ids=["another protocol", "length 0", "length 5", "too large", "no IKE message", "a packet before all"],
)
@on_every_loop
async def test_garbage_ends_its_own_connection_at_once(data: bytes, reason: str) -> None:
    async with listening() as there:
        assert await stranger(there, data) == b""
        await there.refused(reason)
        await still_serves(there)


@on_every_loop
async def test_a_client_that_goes_early_is_a_counted_refusal() -> None:
    async with listening() as there:
        for data in (b"", PREFIX, PREFIX + bytes((1,))):
            _, writer = await asyncio.open_connection(LOCALHOST, there.port)
            writer.write(data)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        await there.refused("PeerMisbehaved", 3)
        assert len(HALF_OPEN) == 0
        await still_serves(there)


@on_every_loop
async def test_a_client_that_proves_itself_and_goes_before_it_confirms_is_never_seen() -> None:
    """Its last message, the empty segment, is held back by the relay's end."""
    async with listening() as there, Relay.between(there.port) as relay:
        seen = bytearray()

        def without_the_segment(data: bytes) -> bytes:
            seen.extend(data)
            kept = bytearray()
            at = 0 if not data.startswith(PREFIX) else len(PREFIX)
            kept += data[:at]
            while at < len(data):
                length = int.from_bytes(data[at : at + 2], "big")
                if data[at + 2 : at + 6] == bytes(4):
                    kept += data[at : at + length]
                at += length
            return bytes(kept)

        relay.to_server = without_the_segment
        client = await connect(relay.port)
        relay.cut()
        await there.refused("PeerMisbehaved")
        assert there.accepted.empty()
        await client.close()


@on_every_loop
async def test_silent_and_slow_clients_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_admitting, "FIRST_MESSAGE_S", 0.1)
    async with listening() as there:
        silent = asyncio.create_task(stranger(there, b""))
        half = asyncio.create_task(stranger(there, PREFIX + bytes((1, 0, 0))))
        await still_serves(there)
        assert await silent == b""
        assert await half == b""
        assert there.server.refusals == {"silent": 1, "no-first-message": 1}
        assert len(HALF_OPEN) == 0


@on_every_loop
async def test_a_key_exchange_that_takes_too_long_is_given_up_by_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_admitting, "NEGOTIATION_S", 0.1)
    monkeypatch.setattr(aio_opening, "NEGOTIATION_S", 0.3)
    async with listening() as there, Relay.between(there.port) as relay:
        relay.to_client = lambda data: b""
        relay.keep_open = True  # the client shall not learn that the server has given up
        with pytest.raises(KeyingTimeout, match="did not finish"):
            await connect(relay.port)
        await there.refused("timeout")
        assert len(HALF_OPEN) == 0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\0\0 this is no frame", PeerMisbehaved),
        (struct.pack(">H", 16385), PeerMisbehaved),
        (b"220 mail.example ESMTP\r\n", KeyingTimeout),  # as a frame, a legal length whose bytes never come
        (b"", KeyingTimeout),
    ],
)
@on_every_loop
async def test_a_server_that_speaks_something_else_is_given_up(
    data: bytes, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio_opening, "NEGOTIATION_S", 0.2)
    clients = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await reader.read()
        writer.close()

    other = await asyncio.start_server(
        lambda *streams: clients.append(asyncio.create_task(talk(*streams))), LOCALHOST, 0
    )
    try:
        with pytest.raises(error):
            await connect(other.sockets[0].getsockname()[1])
        await asyncio.gather(*clients, return_exceptions=True)
    finally:
        other.close()
        await other.wait_closed()


@on_every_loop
async def test_the_systems_own_errors_pass_unchanged() -> None:
    closed = socket.create_server((LOCALHOST, 0))
    port = closed.getsockname()[1]
    closed.close()
    with pytest.raises(ConnectionRefusedError) as told:
        await connect(port)
    assert not isinstance(told.value, SecureSocketError)
    async with listening() as there:
        with pytest.raises(OSError, match="address") as told_too:
            await aio.start_server(there.take, LOCALHOST, there.port, context=contexts()[0])
        assert not isinstance(told_too.value, SecureSocketError)


@on_every_loop
async def test_silent_crowds_from_elsewhere_do_not_keep_clients_out() -> None:
    """Semantics: 5,000 silent connections from 127.0.0.2 while clients from 127.0.0.1 all succeed within 1 s."""
    async with listening() as there:
        crowd: list[socket.socket] = []
        clients: list[asyncio.Task[float]] = []

        async def served() -> float:
            loop = asyncio.get_running_loop()
            started = loop.time()
            client = await connect(there.port)
            seconds = loop.time() - started
            await client.close()
            return seconds

        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            for number in range(5000):
                silent = stack.enter_context(socket.socket())
                silent.setblocking(False)
                silent.bind(("127.0.0.2", 0))
                await loop.sock_connect(silent, (LOCALHOST, there.port))
                crowd.append(silent)
                if number % 250 == 249:
                    clients.append(asyncio.create_task(served()))
            times = await asyncio.gather(*clients)
            assert len(times) == 20
            assert max(times) < 1.0
            await there.refused("evicted", 5000 - half_open.MAX_PER_SOURCE)
            assert len(HALF_OPEN) <= half_open.MAX_PER_SOURCE
    assert len(HALF_OPEN) == 0


@on_every_loop
async def test_a_server_that_is_closed_drops_who_is_still_negotiating() -> None:
    async with listening() as there:
        reader, writer = await asyncio.open_connection(LOCALHOST, there.port)
        while not len(HALF_OPEN):
            await asyncio.sleep(0)
        there.server.close()
        assert len(HALF_OPEN) == 0
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            assert there.accepted.empty()
        writer.close()
        assert there.accepted.empty()
    assert DEFAULT_MAIN_MODE.allow_anonymous is False
