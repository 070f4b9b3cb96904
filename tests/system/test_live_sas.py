"""What lives is enumerated, of streams and of datagram sockets, and nothing that has ended."""

from __future__ import annotations

import asyncio
import socket

import pytest

import securesock as ss
from securesock.engine.live_sas import LIVE_SAS, KeyingFailure
from securesock.keying.contract import Role
from tests.support.loopback import PATIENCE_S, client_context, connect, connected, echo, server_context, serving, until


def ids() -> set[int]:
    return {sa.quick_mode_sa_id for sa in LIVE_SAS.snapshot()}


def test_both_ends_of_a_stream_are_there_while_it_lives() -> None:
    before = ids()
    with connected() as (ours, theirs):
        found = {sa.quick_mode_sa_id: sa for sa in LIVE_SAS.snapshot()}
        mine, other = (found[each.query_security().quick_mode_sa_id] for each in (ours, theirs))
        assert mine.main_mode_sa_id == ours.query_security().main_mode_sa_id
        assert (mine.inbound_spi, mine.outbound_spi) == (other.outbound_spi, other.inbound_spi)
        assert (mine.config.role, other.config.role) == (Role.INITIATOR, Role.RESPONDER)
        assert mine.config.our_address == ours.getsockname() == other.config.peer_address
        assert mine.establishment.peer.name == "host/server.example"
    assert ids() <= before


def test_both_ends_of_datagrams_are_there_until_they_are_deleted() -> None:
    with ss.SecureSocket(type=socket.SOCK_DGRAM, context=server_context()) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE_S)
        with ss.SecureSocket(type=socket.SOCK_DGRAM, context=client_context()) as client:
            client.settimeout(PATIENCE_S)
            client.sendto(b"hello", server.getsockname())
            _, address = server.recvfrom(100)
            mine = client.query_security(server.getsockname()).quick_mode_sa_id
            theirs = server.query_security(address).quick_mode_sa_id
            assert {mine, theirs} <= ids()
            client.delete_peer_target_name(server.getsockname())
            until(lambda: mine not in ids())
        until(lambda: theirs not in ids())


def test_a_refusal_is_counted_and_told() -> None:
    heard: list[KeyingFailure] = []
    end, before = LIVE_SAS.listen(heard.append), LIVE_SAS.counters()
    try:
        with serving(echo, allow=["host/other.example"]) as server, pytest.raises(ss.AuthenticationFailed):
            connect(server.address)
    finally:
        end()
    after = LIVE_SAS.counters()
    assert after.failed - before.failed == len(heard) == 2
    assert (after.started - before.started, after.responder_started - before.responder_started) == (1, 1)
    kinds = {each.config.role: type(each.error) for each in heard}
    assert kinds == {Role.INITIATOR: ss.AuthenticationFailed, Role.RESPONDER: ss.PolicyRefused}


async def _an_asyncio_connection() -> None:
    before = ids()
    server = await ss.aio.start_server(lambda reader, writer: None, "127.0.0.1", 0, context=server_context())
    async with server:
        address = server.sockets[0].getsockname()
        _, writer = await ss.aio.open_connection(*address, peer="host/server.example", context=client_context())
        assert writer.get_extra_info("security").quick_mode_sa_id in ids()
        writer.transport.abort()
        await writer.wait_closed()
        assert writer.get_extra_info("security").quick_mode_sa_id not in ids()
    assert len(ids() - before) <= 1  # the server's end hears of it when it next looks


def test_an_asyncio_connection_is_there_until_it_is_lost() -> None:
    asyncio.run(_an_asyncio_connection())
