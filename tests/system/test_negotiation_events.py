"""A key exchange that fails leaves a net event at either end that has a filtering platform: who, with whom, and why."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

import securesock as ss
from securesock.policy.conditions import match
from securesock.policy.events import MmFailure, NetEvent, NetEventTemplate, NetEventType, SaRole
from securesock.policy.fields import Field
from securesock.policy.filter_engine import FilterEngine
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Filter
from securesock.winsock import ERROR_IPSEC_IKE_AUTH_FAIL
from tests.support.loopback import PATIENCE_S, client_context, server_context, serving, stranger_context, until


@pytest.fixture
def engines() -> Iterator[tuple[FilterEngine, FilterEngine]]:
    """The client's and the server's."""
    with FilterEngine.open(":memory:") as client, FilterEngine.open(":memory:") as server:
        yield client, server


def failures(engine: FilterEngine) -> list[NetEvent]:
    wanted = match(Field.NET_EVENT_TYPE, int(NetEventType.IKEEXT_MM_FAILURE))
    return engine.net_events.enumerate(NetEventTemplate(conditions=(wanted,)))


def the_one(engine: FilterEngine) -> tuple[NetEvent, MmFailure]:
    until(lambda: failures(engine), "the failure is recorded")
    (event,) = failures(engine)
    assert isinstance(event.detail, MmFailure)
    return event, event.detail


def nothing(connection: ss.SecureSocket) -> None:
    connection.recv(1)


def test_a_peer_that_is_not_trusted_is_an_event_at_both_ends(engines: tuple[FilterEngine, FilterEngine]) -> None:
    ours, theirs = engines
    with serving(nothing, context=replace(server_context(), policy=theirs)) as server:
        heard = theirs.net_events.subscribe()
        with ss.SecureSocket(context=replace(stranger_context(), policy=ours)) as sock:
            sock.settimeout(PATIENCE_S)
            sock.set_peer_target_name("host/server.example")
            with pytest.raises(ss.AuthenticationFailed):
                sock.connect(server.address)
        event, detail = the_one(ours)
        assert detail.error == ERROR_IPSEC_IKE_AUTH_FAIL
        assert (detail.role, detail.remote_principal) == (SaRole.INITIATOR, "host/server.example")
        assert detail.local_principal == "host/client.example"
        assert (event.protocol, event.remote_address, event.remote_port) == (6, "127.0.0.1", server.address[1])
        other, told = the_one(theirs)
        assert told.role is SaRole.RESPONDER
        assert (other.local_port, other.remote_port) == (event.remote_port, event.local_port)
        assert heard.wait(PATIENCE_S)
        assert heard.poll() == other


def test_asyncio_reports_the_same(engines: tuple[FilterEngine, FilterEngine]) -> None:
    ours, theirs = engines

    async def run() -> None:
        server = await ss.aio.start_server(
            lambda reader, writer: None, "127.0.0.1", 0, context=replace(server_context(), policy=theirs)
        )
        async with server:
            host, port = server.sockets[0].getsockname()
            context = replace(stranger_context(), policy=ours)
            with pytest.raises(ss.AuthenticationFailed):
                await ss.aio.open_connection(host, port, peer="host/server.example", context=context)

    asyncio.run(run())
    assert the_one(ours)[1].role is SaRole.INITIATOR
    assert the_one(theirs)[1].role is SaRole.RESPONDER


def test_a_stranger_who_never_spoke_ike_is_no_event(engines: tuple[FilterEngine, FilterEngine]) -> None:
    _, theirs = engines
    with serving(nothing, context=replace(server_context(), policy=theirs)) as server:
        with socket.create_connection(server.address) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with suppress(ConnectionResetError):
                assert plain.recv(1) == b""
        until(lambda: server.listener.refusals, "the stranger is refused")
    assert failures(theirs) == []


def test_what_a_filter_refused_is_one_event_and_no_second(engines: tuple[FilterEngine, FilterEngine]) -> None:
    ours, _ = engines
    ours.filters.add(Filter("closed", layer=Layer.ALE_AUTH_CONNECT_V4, action=ActionType.BLOCK))
    sock = ss.SecureSocket(context=replace(client_context(), policy=ours))
    with sock, pytest.raises(ss.PolicyRefused, match="closed"):
        sock.connect(("127.0.0.1", 9))
    assert failures(ours) == []
    assert [each.type for each in ours.net_events.enumerate()] == [NetEventType.CLASSIFY_DROP]
