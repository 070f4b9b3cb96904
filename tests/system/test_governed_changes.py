"""Policy that changes under a live connection: what is shown, who hears of it, and what is broken instead."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

import securesock as ss
from securesock.drivers.aio_transport import SecuredTransport
from securesock.policy import ActionType, Field, Filter, FilterEngine, Layer, Sublayer, allow, match
from tests.support.governed import AES_128_GCM, INTEGRITY_ONLY, policy_filter, quick_mode, socket_filters, under
from tests.support.loopback import Server, client_context, echo, server_context, serving, until

NAME = "host/server.example"


@pytest.fixture
def engine() -> Iterator[FilterEngine]:
    with FilterEngine.open() as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(echo) as running:
        yield running


def _connect(server: Server, engine: FilterEngine, settings: ss.SecuritySettings | None = None) -> ss.SecureSocket:
    context = under(client_context(), engine)
    return ss.create_connection(server.address, 20, peer=NAME, settings=settings, context=context)


def _is_alive(sock: ss.SecureSocket) -> bool:
    sock.sendall(b"hello")
    return sock.recv(100) == b"hello"


def test_a_policy_that_would_have_made_the_connection_is_shown_and_told(engine: FilterEngine, server: Server) -> None:
    named = engine.provider_contexts.add(quick_mode(AES_128_GCM))
    other = engine.provider_contexts.add(quick_mode(AES_128_GCM, INTEGRITY_ONLY))
    with _connect(server, engine, ss.IPsecSettings(quick_mode_policy=named.key)) as sock:
        changes = sock.watch_policy()
        assert changes.poll() is None
        forced = engine.filters.add(policy_filter(Layer.IPSEC_V4, other))
        info = sock.query_security()
        assert (info.quick_mode_policy, info.filter_id, info.latch) == (other.key, forced.id, "established")
        assert any(str(forced.id) in each for each in info.differences)
        assert changes.wait(20)
        change = changes.poll()
        assert change is not None
        assert (change.quick_mode_policy, change.filter_id, change.broken) == (other.key, forced.id, "")
        assert _is_alive(sock)
        engine.filters.delete(forced)
        assert sock.query_security().quick_mode_policy == named.key
        assert not sock.query_security().differences
        assert changes.wait(20)
        assert changes.poll() is not None
    assert not changes.is_open


def test_a_subscriber_is_called(engine: FilterEngine, server: Server) -> None:
    other = engine.provider_contexts.add(quick_mode(AES_128_GCM))
    named = ss.IPsecSettings(quick_mode_policy=other.key)
    heard = threading.Event()
    with _connect(server, engine, named) as sock:
        sock.watch_policy(lambda change: heard.set())
        engine.filters.add(policy_filter(Layer.IPSEC_V4, other))
        # the same policy, but another's filter put it there now
        assert heard.wait(20)
        assert _is_alive(sock)


def test_a_change_that_would_weaken_the_connection_breaks_it(engine: FilterEngine, server: Server) -> None:
    weaker = engine.provider_contexts.add(quick_mode(INTEGRITY_ONLY))
    with _connect(server, engine) as sock:
        changes = sock.watch_policy()
        forced = engine.filters.add(policy_filter(Layer.IPSEC_V4, weaker))
        with pytest.raises(ss.ConnectionBroken, match="policy changed"):
            sock.recv(100)
        with pytest.raises(BrokenPipeError):
            sock.sendall(b"more")
        info = sock.query_security()
        assert info.latch == "broken"
        assert info.encrypted
        assert "policy changed" in info.negotiation_error
        assert changes.wait(20)
        change = changes.poll()
        assert change is not None
        assert change.broken
        assert change.filter_id == forced.id
    until(lambda: not socket_filters(engine), "the filters are gone")


def test_a_block_ends_the_connection_while_somebody_waits_in_it(engine: FilterEngine) -> None:
    ended: list[BaseException] = []

    def handle(connection: ss.SecureSocket) -> None:
        try:
            connection.recv(100)
        except OSError as error:
            ended.append(error)

    with serving(handle) as server, _connect(server, engine) as sock:
        errors: list[BaseException] = []

        def receive() -> None:
            try:
                sock.recv(100)
            except OSError as error:
                errors.append(error)

        receiving = threading.Thread(target=receive)
        receiving.start()
        block = engine.filters.add(Filter("closed now", layer=Layer.ALE_AUTH_CONNECT_V4, action=ActionType.BLOCK))
        receiving.join(20)
        assert isinstance(errors[0], ss.ConnectionBroken)
        assert "closed now" in str(errors[0])
        until(lambda: ended, "the peer has heard")
        assert isinstance(ended[0], ss.ConnectionBroken)  # by an authenticated reset, not by silence
        assert block.id


def test_what_was_proven_before_the_break_is_delivered(engine: FilterEngine) -> None:
    def handle(connection: ss.SecureSocket) -> None:
        connection.sendall(b"before")
        connection.recv(100)

    with serving(handle) as server, _connect(server, engine) as sock:
        assert sock.recv(3) == b"bef"
        engine.filters.add(Filter("closed now", layer=Layer.ALE_AUTH_CONNECT_V4, action=ActionType.BLOCK))
        until(lambda: sock.query_security().latch == "broken", "it is broken")
        assert sock.recv(100) == b"ore"
        with pytest.raises(ss.ConnectionBroken):
            sock.recv(100)
        server.errors.clear()  # the peer's recv ended by our reset


def test_an_accepted_connection_is_broken_when_its_peer_is_let_in_no_more(engine: FilterEngine) -> None:
    permit = engine.filters.add(
        Filter(
            "the client",
            layer=Layer.ALE_AUTH_RECV_ACCEPT_V4,
            conditions=(match(Field.ALE_REMOTE_MACHINE_ID, allow("host/client.example")),),
        )
    )
    with ss.create_server(("127.0.0.1", 0), context=under(server_context(), engine)) as listener:
        client = ss.create_connection(listener.getsockname(), 20, peer=NAME, context=client_context())
        accepted, _ = listener.accept()
        with client, accepted:
            engine.filters.add(
                Filter(
                    "others",
                    layer=Layer.ALE_AUTH_RECV_ACCEPT_V4,
                    conditions=(match(Field.ALE_REMOTE_MACHINE_ID, allow("host/other.example")),),
                )
            )
            assert accepted.query_security().latch == "established"
            engine.filters.delete(permit)
            with pytest.raises(ss.ConnectionBroken):
                accepted.recv(100)
            with pytest.raises(ss.ConnectionBroken):
                client.recv(100)


def test_asyncio_connections_are_broken_and_tell_too(engine: FilterEngine, server: Server) -> None:
    async def run() -> None:
        reader, writer = await ss.aio.open_connection(
            *server.address[:2], peer=NAME, context=under(client_context(), engine)
        )
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        transport = writer.transport
        assert isinstance(transport, SecuredTransport)
        assert Layer.ALE_AUTH_CONNECT_V4 in {each.layer for each in transport.explain_policy()}
        changes = transport.watch_policy()
        engine.filters.add(Filter("closed now", layer=Layer.OUTBOUND_TRANSPORT_V4, action=ActionType.BLOCK))
        with pytest.raises(ss.ConnectionBroken, match="closed now"):
            await reader.read(100)
        assert writer.get_extra_info("security").latch == "broken"
        assert "closed now" in next(iter(changes)).broken
        writer.close()
        with pytest.raises(ss.ConnectionBroken):
            await writer.wait_closed()

    asyncio.run(run())


def test_asyncio_connections_without_a_filtering_platform_have_nothing_to_watch(server: Server) -> None:
    async def run() -> None:
        _, writer = await ss.aio.open_connection(*server.address[:2], peer=NAME, context=client_context())
        transport = writer.transport
        assert isinstance(transport, SecuredTransport)
        for ask in (transport.watch_policy, transport.explain_policy):
            with pytest.raises(ss.LocalMisuse, match="no filtering platform"):
                ask()
        writer.close()
        await writer.wait_closed()

    asyncio.run(run())


def test_filters_that_are_not_for_the_flow_change_nothing(engine: FilterEngine, server: Server) -> None:
    with _connect(server, engine) as sock:
        changes = sock.watch_policy()
        engine.filters.add(
            Filter(
                "another port",
                layer=Layer.ALE_AUTH_CONNECT_V4,
                action=ActionType.BLOCK,
                conditions=(match(Field.IP_REMOTE_PORT, 1),),
            )
        )
        low = engine.sublayers.add(Sublayer("below the sockets", weight=1))
        other = engine.provider_contexts.add(quick_mode(INTEGRITY_ONLY))
        engine.filters.add(Filter("too light", layer=Layer.IPSEC_V4, sublayer=low.key, provider_context=other.key))
        assert sock.query_security().latch == "established"
        assert _is_alive(sock)
        with _connect(server, engine):
            assert changes.poll() is None


def test_an_engine_that_is_closed_leaves_the_living_alone(server: Server) -> None:
    engine = FilterEngine.open()
    with _connect(server, engine) as sock:
        engine.close()
        assert sock.query_security().latch == "established"
        assert _is_alive(sock)
        with pytest.raises(ss.SecureSocketError):
            _connect(server, engine)


def test_a_live_connection_can_be_explained(engine: FilterEngine, server: Server) -> None:
    with _connect(server, engine) as sock:
        accounts = {each.layer.name: each for each in sock.explain_policy()}
        assert list(accounts) == [
            "ALE_AUTH_CONNECT_V4",
            "OUTBOUND_TRANSPORT_V4",
            "INBOUND_TRANSPORT_V4",
            "IPSEC_KM_DEMUX_V4",
            "IKEEXT_V4",
            "IPSEC_V4",
        ]
        assert "secure socket" in accounts["OUTBOUND_TRANSPORT_V4"].text
        deciding = accounts["OUTBOUND_TRANSPORT_V4"].verdict.filter
        assert deciding is not None
        assert deciding.id == sock.query_security().filter_id
    with ss.SecureSocket(context=client_context()) as fresh:
        for call in (fresh.explain_policy, fresh.watch_policy):
            with pytest.raises(ss.LocalMisuse, match="filtering platform"):
                call()
