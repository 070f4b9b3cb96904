"""Peers let in, or not, by who they proved to be: filters on ALE_REMOTE_*, allow= as filters, KM_AUTHORIZATION."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

import securesock as ss
from securesock.policy import ActionType, Condition, Field, Filter, FilterEngine, Layer, allow, match
from tests.support.governed import socket_filters, under
from tests.support.loopback import client_context, echo, server_context, serving, until

NAME = "host/server.example"
CLIENT = "host/client.example"


@pytest.fixture
def engine() -> Iterator[FilterEngine]:
    with FilterEngine.open() as opened:
        yield opened


def _accept(name: str, *conditions: Condition, action: ActionType = ActionType.PERMIT) -> Filter:
    return Filter(name, layer=Layer.ALE_AUTH_RECV_ACCEPT_V4, action=action, conditions=conditions)


def _is_let_in(context: ss.SecurityContext, client: ss.SecurityContext, **options: object) -> bool:
    with serving(echo, context=context, **options) as server:
        try:
            with ss.create_connection(server.address, 20, peer=NAME, context=client) as sock:
                sock.sendall(b"hello")
                return sock.recv(100) == b"hello"
        except ss.AuthenticationFailed:
            until(lambda: server.listener.refusals.get("PolicyRefused"), "a counted refusal")
            return False


def _as_user() -> ss.SecurityContext:
    authority = server_context().identity.authority
    return ss.SecurityContext(ss.Identity.ephemeral("alice@example.org", authority=authority))


@pytest.mark.parametrize(
    ("field", "trustee", "let_in"),
    [
        (Field.ALE_REMOTE_MACHINE_ID, CLIENT, True),
        (Field.ALE_REMOTE_MACHINE_ID, "host/*.example", True),
        (Field.ALE_REMOTE_MACHINE_ID, "host-like/cli*.example", True),
        (Field.ALE_REMOTE_MACHINE_ID, "group:clients", True),
        (Field.ALE_REMOTE_MACHINE_ID, "host/other.example", False),
        (Field.ALE_REMOTE_MACHINE_ID, "host/*.*.example", False),
        (Field.ALE_REMOTE_MACHINE_ID, "group:others", False),
        (Field.ALE_REMOTE_USER_ID, CLIENT, False),
        (Field.ALE_REMOTE_USER_ID, "*", False),
    ],
)
def test_a_permit_for_certain_peers_keeps_all_others_out(
    engine: FilterEngine, field: Field, trustee: str, let_in: bool
) -> None:
    engine.filters.add(_accept("who may come", match(field, allow(trustee))))
    context = replace(
        under(server_context(), engine), groups={"clients": ["host/client.*"], "others": ["host/x.example"]}
    )
    assert _is_let_in(context, client_context()) is let_in


def test_a_user_is_a_user_and_no_machine(engine: FilterEngine) -> None:
    permit = engine.filters.add(_accept("a user", match(Field.ALE_REMOTE_USER_ID, allow("alice@example.org"))))
    context = under(server_context(), engine)
    assert _is_let_in(context, _as_user())
    assert not _is_let_in(context, client_context())
    engine.filters.delete(permit)
    engine.filters.add(_accept("a machine", match(Field.ALE_REMOTE_MACHINE_ID, allow("alice@example.org"))))
    assert not _is_let_in(context, _as_user())


def test_one_of_several_permits_is_enough_and_other_ports_do_not_count(engine: FilterEngine) -> None:
    engine.filters.add(_accept("another", match(Field.ALE_REMOTE_MACHINE_ID, allow("host/other.example"))))
    ours = engine.filters.add(_accept("ours", match(Field.ALE_REMOTE_MACHINE_ID, allow(CLIENT))))
    context = under(server_context(), engine)
    assert _is_let_in(context, client_context())
    engine.filters.delete(ours)
    engine.filters.add(
        _accept("elsewhere", match(Field.IP_LOCAL_PORT, 1), match(Field.ALE_REMOTE_MACHINE_ID, allow(CLIENT)))
    )
    assert not _is_let_in(context, client_context())


def test_a_block_by_name_refuses_that_peer_alone(engine: FilterEngine) -> None:
    block = engine.filters.add(
        _accept("not this one", match(Field.ALE_REMOTE_MACHINE_ID, allow(CLIENT)), action=ActionType.BLOCK)
    )
    context = under(server_context(), engine)
    assert not _is_let_in(context, client_context())
    dropped = engine.net_events.enumerate()[-1]
    assert dropped.detail.filter_id == block.id
    assert _is_let_in(context, _as_user())


def test_the_recipe_of_permits_and_a_block_behind_them_works(engine: FilterEngine) -> None:
    engine.filters.add(_accept("everybody else", action=ActionType.BLOCK))
    engine.filters.add(_accept("the client", match(Field.ALE_REMOTE_MACHINE_ID, allow(CLIENT))))
    context = under(server_context(), engine)
    assert _is_let_in(context, client_context())
    assert not _is_let_in(context, _as_user())


def test_no_sa_with_whom_km_authorization_blocks(engine: FilterEngine) -> None:
    engine.filters.add(
        Filter(
            "no SA",
            layer=Layer.KM_AUTHORIZATION,
            action=ActionType.BLOCK,
            conditions=(match(Field.REMOTE_ID, allow(CLIENT)),),
        )
    )
    context = under(server_context(), engine)
    assert not _is_let_in(context, client_context())
    assert _is_let_in(context, _as_user())


@pytest.mark.parametrize("governed", [False, True])
@pytest.mark.parametrize("settings", [None, ss.SecuritySettings()])
@pytest.mark.parametrize(
    ("allowed", "let_in"),
    [([CLIENT], True), (["*.example"], True), (["group:ops"], True), (["host/other.example"], False), ([], False)],
)
def test_allow_is_filters(
    engine: FilterEngine, governed: bool, settings: ss.SecuritySettings | None, allowed: list[str], let_in: bool
) -> None:
    context = replace(server_context(), groups={"ops": ["client.example"]})
    if governed:
        context = under(context, engine)
    assert _is_let_in(context, client_context(), allow=allowed, settings=settings) is let_in
    assert not socket_filters(engine)


def test_allow_stands_in_the_engine_where_there_is_one(engine: FilterEngine) -> None:
    with ss.create_server(("127.0.0.1", 0), context=under(server_context(), engine), allow=[CLIENT]):
        names = [each.name for each in socket_filters(engine)]
    assert any("allowed machines" in each for each in names)
    assert any("allowed users" in each for each in names)


@pytest.mark.parametrize(("allowed", "let_in"), [([CLIENT], True), (["host/other.example"], False)])
def test_asyncio_servers_let_in_by_the_same_filters(engine: FilterEngine, allowed: list[str], let_in: bool) -> None:
    async def run() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read(100))
            writer.close()

        server = await ss.aio.start_server(
            serve, "127.0.0.1", 0, context=under(server_context(), engine), allow=allowed
        )
        async with server:
            host, port = server.sockets[0].getsockname()[:2]
            try:
                reader, writer = await ss.aio.open_connection(host, port, peer=NAME, context=client_context())
            except ss.AuthenticationFailed:
                assert not let_in
                return
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            assert let_in
            writer.close()
            await writer.wait_closed()

    asyncio.run(run())


def test_an_outbound_flow_is_held_against_its_peer_once_that_is_proven(engine: FilterEngine) -> None:
    connects = Layer.ALE_AUTH_CONNECT_V4
    context = under(client_context(), engine)
    permit = engine.filters.add(
        Filter("only to the server", layer=connects, conditions=(match(Field.ALE_REMOTE_MACHINE_ID, allow(NAME)),))
    )
    with serving(echo) as server:
        with ss.create_connection(server.address, 20, peer=NAME, context=context) as sock:
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"
        engine.filters.delete(permit)
        other = engine.filters.add(
            Filter(
                "only elsewhere",
                layer=connects,
                conditions=(match(Field.ALE_REMOTE_MACHINE_ID, allow("host/other.example")),),
            )
        )
        with pytest.raises(ss.PolicyRefused) as caught:
            ss.create_connection(server.address, 20, peer=NAME, context=context)
        assert caught.value.filter_id == other.id

        async def connect() -> None:
            with pytest.raises(ss.PolicyRefused):
                await ss.aio.open_connection(*server.address[:2], peer=NAME, context=context)

        asyncio.run(connect())
        until(lambda: not socket_filters(engine), "the filters are gone")


def test_the_peers_name_that_is_asked_for_is_judged_too(engine: FilterEngine) -> None:
    block = engine.filters.add(
        Filter(
            "not to be reached",
            layer=Layer.ALE_AUTH_CONNECT_V4,
            action=ActionType.BLOCK,
            conditions=(match(Field.PEER_NAME, NAME),),
        )
    )
    with serving(echo) as server, pytest.raises(ss.PolicyRefused) as caught:
        ss.create_connection(server.address, 20, peer=NAME, context=under(client_context(), engine))
    assert caught.value.filter_id == block.id
