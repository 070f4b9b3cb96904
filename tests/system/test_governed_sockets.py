"""Sockets under a filtering platform: who may connect and listen, under which policy, and the filters of a socket."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Iterator
from uuid import UUID

import pytest

import securesock as ss
from securesock.policy import ActionType, Field, Filter, FilterEngine, FilterFlag, Layer, Sublayer, match
from securesock.policy import identifiers as ids
from securesock.policy.events import NetEventType
from securesock.policy.ipsec import AuthenticationMethod, KeyingPolicy, PresharedKeyAuthentication
from securesock.policy.ipsec_numbers import AuthMethodType, ContextType, PfsGroup
from securesock.policy.model import ProviderContext
from securesock.secret import Secret
from tests.support.governed import (
    AES_128_GCM,
    INTEGRITY_ONLY,
    main_mode,
    policy_filter,
    quick_mode,
    socket_filters,
    under,
)
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


def _says(sock: ss.SecureSocket) -> bytes:
    sock.sendall(b"hello")
    return sock.recv(100)


# -- block and permit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [Layer.ALE_AUTH_CONNECT_V4, Layer.OUTBOUND_TRANSPORT_V4, Layer.INBOUND_TRANSPORT_V4])
def test_a_blocked_flow_is_refused_by_name_before_anything_is_sent(engine: FilterEngine, layer: Layer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        block = engine.filters.add(
            Filter("closed", layer=layer, action=ActionType.BLOCK, conditions=(match(Field.IP_REMOTE_PORT, port),))
        )
        with ss.SecureSocket(context=under(client_context(), engine)) as sock:
            with pytest.raises(ss.PolicyRefused, match="closed") as caught:
                sock.connect(("127.0.0.1", port))
            assert caught.value.filter_id == block.id
            info = sock.query_security()
            assert (info.secured, info.latch, info.filter_id) == (False, "broken", block.id)
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    dropped = [each.detail.filter_id for each in engine.net_events.enumerate()]
    assert dropped == [block.id]
    assert not socket_filters(engine)


def test_allow_insecure_does_not_get_around_a_block(engine: FilterEngine) -> None:
    engine.filters.add(Filter("closed", layer=Layer.ALE_AUTH_CONNECT_V4, action=ActionType.BLOCK))
    with (
        socket.create_server(("127.0.0.1", 0)) as clear,
        ss.SecureSocket(context=under(client_context(), engine)) as sock,
    ):
        sock.set_security(ss.SecuritySettings(allow_insecure=True))
        with pytest.raises(ss.PolicyRefused):
            sock.connect(clear.getsockname())


def test_an_open_engine_lets_everything_pass_that_the_settings_allow(engine: FilterEngine, server: Server) -> None:
    with _connect(server, engine) as sock:
        assert _says(sock) == b"hello"
        info = sock.query_security()
        assert info.secured
        assert info.encrypted
        assert info.filter_id in [each.id for each in socket_filters(engine)]
        assert info.main_mode_policy is None
        assert not info.differences


def test_a_filter_may_forbid_to_bind_or_to_listen(engine: FilterEngine) -> None:
    context = under(server_context(), engine)
    bind = engine.filters.add(
        Filter(
            "no binding",
            layer=Layer.ALE_RESOURCE_ASSIGNMENT_V4,
            action=ActionType.BLOCK,
            conditions=(match(Field.IP_LOCAL_ADDRESS, "127.0.0.2"),),
        )
    )
    with ss.SecureSocket(context=context) as sock:
        with pytest.raises(ss.PolicyRefused) as caught:
            sock.bind(("127.0.0.2", 0))
        assert caught.value.filter_id == bind.id
        sock.bind(("127.0.0.1", 0))
        listen = engine.filters.add(Filter("no listening", layer=Layer.ALE_AUTH_LISTEN_V4, action=ActionType.BLOCK))
        with pytest.raises(ss.PolicyRefused) as caught:
            sock.listen()
        assert caught.value.filter_id == listen.id
    with pytest.raises(ss.PolicyRefused):
        asyncio.run(_listen(context))


async def _listen(context: ss.SecurityContext) -> None:
    server = await ss.aio.start_server(lambda reader, writer: None, "127.0.0.1", 0, context=context)
    server.close()


def test_a_blocked_client_is_refused_before_it_is_heard(engine: FilterEngine) -> None:
    context = under(server_context(), engine)
    engine.filters.add(
        Filter(
            "not from here",
            layer=Layer.ALE_AUTH_RECV_ACCEPT_V4,
            action=ActionType.BLOCK,
            conditions=(match(Field.IP_REMOTE_ADDRESS, "127.0.0.0/8"),),
        )
    )
    with ss.create_server(("127.0.0.1", 0), context=context) as listener:
        with pytest.raises(OSError):
            ss.create_connection(listener.getsockname(), 20, peer=NAME, context=client_context())
        until(lambda: listener.refusals.get("PolicyRefused"), "a refusal")


@pytest.mark.parametrize("reach", ["numeric", "named"])
def test_asyncio_judges_before_it_connects(engine: FilterEngine, reach: str) -> None:
    context = under(client_context(), engine)
    block = engine.filters.add(Filter("closed", layer=Layer.ALE_AUTH_CONNECT_V4, action=ActionType.BLOCK))

    async def connect() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            host = "127.0.0.1" if reach == "numeric" else "localhost"
            with pytest.raises(ss.PolicyRefused) as caught:
                await ss.aio.open_connection(
                    host, silent.getsockname()[1], family=socket.AF_INET, peer=NAME, context=context
                )
            assert caught.value.filter_id == block.id
            silent.setblocking(False)
            with pytest.raises(BlockingIOError):
                silent.accept()

    asyncio.run(connect())
    assert not socket_filters(engine)


# -- the socket's filters ----------------------------------------------------------------------------------------------


def test_filters_come_with_the_settings_and_go_with_the_socket(engine: FilterEngine, server: Server) -> None:
    before = len(engine.filters.enumerate())
    sock = ss.SecureSocket(context=under(client_context(), engine))
    assert not socket_filters(engine)
    sock.set_security(ss.SecuritySettings())
    unbound = socket_filters(engine)
    assert unbound
    sock.set_peer_target_name(NAME)
    sock.connect(server.address)
    bound = socket_filters(engine)
    assert {each.layer for each in bound} >= {
        Layer.OUTBOUND_TRANSPORT_V4,
        Layer.INBOUND_TRANSPORT_V4,
        Layer.ALE_AUTH_CONNECT_V4,
        Layer.IKEEXT_V4,
        Layer.IPSEC_V4,
    }
    assert not {each.id for each in bound} & {each.id for each in unbound}
    assert _says(sock) == b"hello"
    sock.close()
    assert not socket_filters(engine)
    assert len(engine.filters.enumerate()) == before


def test_a_listener_and_what_it_accepted_share_filters_until_the_last_of_them_is_gone(engine: FilterEngine) -> None:
    listener = ss.create_server(("127.0.0.1", 0), context=under(server_context(), engine))
    client = ss.create_connection(listener.getsockname(), 20, peer=NAME, context=client_context())
    accepted, _ = listener.accept()
    own = {each.id for each in socket_filters(engine)}
    assert own
    assert accepted.query_security().filter_id in own
    listener.close()
    assert {each.id for each in socket_filters(engine)} == own
    closing = threading.Thread(target=client.close)
    closing.start()
    accepted.close()
    closing.join()
    assert not socket_filters(engine)


def test_a_forgotten_socket_takes_its_filters_with_it(engine: FilterEngine, server: Server) -> None:
    sock = _connect(server, engine)
    assert socket_filters(engine)
    with pytest.warns(ResourceWarning):
        del sock
        gc.collect()
    until(lambda: not socket_filters(engine), "the filters are gone")


def test_filters_stay_until_pending_data_is_out(engine: FilterEngine) -> None:
    go_on = threading.Event()

    def handle(connection: ss.SecureSocket) -> None:
        go_on.wait(20)
        while connection.recv(1 << 16):
            pass

    with serving(handle) as server:
        sock = _connect(server, engine)
        sock.settimeout(0)
        with pytest.raises(BlockingIOError):
            while True:
                sock.send(bytes(1 << 16))
        sock.close()
        assert socket_filters(engine)
        go_on.set()
        until(lambda: not socket_filters(engine), "the filters are gone")


def test_asyncio_connections_and_servers_have_filters_too(engine: FilterEngine) -> None:
    async def run() -> None:
        met = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read(100))
            await writer.drain()
            await met.wait()
            writer.close()

        context = under(server_context(), engine)
        server = await ss.aio.start_server(serve, "127.0.0.1", 0, context=context)
        assert socket_filters(engine)
        host, port = server.sockets[0].getsockname()[:2]
        reader, writer = await ss.aio.open_connection(host, port, peer=NAME, context=under(client_context(), engine))
        writer.write(b"hello")
        assert await reader.read(100) == b"hello"
        info = writer.get_extra_info("security")
        assert info.filter_id in [each.id for each in socket_filters(engine)]
        server.close()
        assert socket_filters(engine)
        met.set()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    asyncio.run(run())
    until(lambda: not socket_filters(engine), "the filters are gone")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_child_that_closes_what_it_inherited_takes_nothing_from_its_parent(
    engine: FilterEngine, server: Server
) -> None:
    with _connect(server, engine) as sock:
        own = {each.id for each in socket_filters(engine)}
        child = os.fork()
        if not child:
            sock.close()
            os._exit(len(socket_filters(engine)))
        assert os.waitpid(child, 0)[1] == 0
        assert {each.id for each in socket_filters(engine)} == own
        assert _says(sock) == b"hello"


def test_a_policy_that_a_socket_names_cannot_be_deleted_under_it(engine: FilterEngine) -> None:
    key = engine.provider_contexts.add(quick_mode()).key
    with ss.SecureSocket(context=under(client_context(), engine)) as sock:
        sock.set_security(ss.IPsecSettings(quick_mode_policy=key))
        with pytest.raises(ss.SecureSocketError, match="in use"):
            engine.provider_contexts.delete(key)
    engine.provider_contexts.delete(key)


def test_skip_filter_instantiation_relies_on_filters_that_exist(engine: FilterEngine, server: Server) -> None:
    settings = ss.IPsecSettings(skip_filter_instantiation=True)
    with pytest.raises(ss.PolicyRefused, match="skip_filter_instantiation"):
        _connect(server, engine, settings)
    with pytest.raises(ss.PolicyRefused, match="skip_filter_instantiation"):
        ss.create_connection(server.address, 20, peer=NAME, settings=settings, context=client_context())
    secured = engine.filters.add(
        Filter(
            "secure it",
            layer=Layer.OUTBOUND_TRANSPORT_V4,
            action=ActionType.CALLOUT_TERMINATING,
            action_key=ids.CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4,
            conditions=(match(Field.IP_REMOTE_PORT, server.address[1]),),
        )
    )
    with _connect(server, engine, settings) as sock:
        assert not socket_filters(engine)
        assert sock.query_security().filter_id == secured.id
        assert _says(sock) == b"hello"


# -- policies by key ---------------------------------------------------------------------------------------------------


def test_named_policies_decide_what_is_negotiated(engine: FilterEngine, server: Server) -> None:
    main, quick = engine.provider_contexts.add(main_mode()), engine.provider_contexts.add(quick_mode(AES_128_GCM))
    settings = ss.IPsecSettings(main_mode_policy=main.key, quick_mode_policy=quick.key)
    with _connect(server, engine, settings) as sock:
        assert _says(sock) == b"hello"
        info = sock.query_security()
        assert info.main_mode_suite == "AES-256-CBC/HMAC-SHA2-256-128/PRF-HMAC-SHA2-256/P-256"
        assert info.quick_mode_suite.startswith("AES-128-GCM-16")
        assert (info.main_mode_policy, info.quick_mode_policy) == (main.key, quick.key)
        assert info.keying == "ikev2"
        assert info.asked == settings
        assert not info.differences


def test_the_modern_defaults_can_be_named_without_an_engine(server: Server) -> None:
    key = ids.PROVIDER_CONTEXT_MODERN_QUICK_MODE
    settings = ss.IPsecSettings(quick_mode_policy=key)
    with ss.create_connection(server.address, 20, peer=NAME, settings=settings, context=client_context()) as sock:
        assert sock.query_security().quick_mode_policy == key


def test_a_policys_shared_key_proves_both_ends(engine: FilterEngine) -> None:
    shared = AuthenticationMethod(AuthMethodType.PRESHARED_KEY, PresharedKeyAuthentication(Secret(bytes(range(32)))))
    key = engine.provider_contexts.add(main_mode(shared)).key
    settings = ss.IPsecSettings(main_mode_policy=key)
    context = under(server_context(), engine)
    with serving(echo, settings=settings, context=context) as server, _connect(server, engine, settings) as sock:
        assert _says(sock) == b"hello"
        peer = sock.query_security().peer_machine
        assert peer is not None
        assert (peer.name, peer.method) == (NAME, "psk")


def test_integrity_without_encryption_needs_a_policy_that_says_so_on_both_ends(engine: FilterEngine) -> None:
    key = engine.provider_contexts.add(quick_mode(INTEGRITY_ONLY, AES_128_GCM)).key
    settings = ss.IPsecSettings(quick_mode_policy=key)
    context = under(server_context(), engine)
    with serving(echo, settings=settings, context=context) as server:
        with _connect(server, engine, settings) as sock:
            assert _says(sock) == b"hello"
            info = sock.query_security()
            assert (info.secured, info.encrypted) == (True, False)
            assert any("integrity without encryption" in each for each in info.differences)
        with _connect(server, engine, ss.IPsecSettings(True, quick_mode_policy=key)) as sock:
            assert sock.query_security().encrypted
    guaranteed = ss.IPsecSettings(True, quick_mode_policy=key)
    with serving(echo, settings=guaranteed, context=context) as server, _connect(server, engine, settings) as sock:
        assert sock.query_security().encrypted
    only = engine.provider_contexts.add(quick_mode(INTEGRITY_ONLY)).key
    with serving(echo, settings=guaranteed, context=context) as server, pytest.raises(ss.PeerIncompatible):
        _connect(server, engine, ss.IPsecSettings(quick_mode_policy=only))
    with serving(echo, settings=guaranteed, context=context) as server, pytest.raises(ss.LocalMisuse, match="cipher"):
        _connect(server, engine, ss.IPsecSettings(True, quick_mode_policy=only))


def test_asked_pfs_by_another_group_is_told(engine: FilterEngine, server: Server) -> None:
    key = engine.provider_contexts.add(quick_mode(pfs=PfsGroup.ECP_384)).key
    with _connect(server, engine, ss.IPsecSettings(quick_mode_policy=key)) as sock:
        assert any("P-384" in each for each in sock.query_security().differences)


# -- another's policy weighs more --------------------------------------------------------------------------------------


def test_a_policy_of_higher_weight_is_applied_instead_and_the_difference_is_told(
    engine: FilterEngine, server: Server
) -> None:
    asked = engine.provider_contexts.add(quick_mode(AES_128_GCM))
    forced_main, forced_quick = engine.provider_contexts.add(main_mode()), engine.provider_contexts.add(quick_mode())
    main = engine.filters.add(policy_filter(Layer.IKEEXT_V4, forced_main))
    quick = engine.filters.add(policy_filter(Layer.IPSEC_V4, forced_quick, match(Field.IP_PROTOCOL, 6)))
    with _connect(server, engine, ss.IPsecSettings(quick_mode_policy=asked.key)) as sock:
        info = sock.query_security()
    assert (info.main_mode_policy, info.quick_mode_policy) == (forced_main.key, forced_quick.key)
    assert info.filter_id == quick.id
    assert info.main_mode_suite.endswith("P-256")
    assert any(str(asked.key) in each and str(forced_quick.key) in each for each in info.differences)
    assert any(str(main.id) in each for each in info.differences)


def test_a_policy_of_lower_weight_changes_nothing(engine: FilterEngine, server: Server) -> None:
    low = engine.sublayers.add(Sublayer("below the sockets", weight=1))
    other = engine.provider_contexts.add(quick_mode(AES_128_GCM))
    engine.filters.add(Filter("too light", layer=Layer.IPSEC_V4, sublayer=low.key, provider_context=other.key))
    with _connect(server, engine) as sock:
        assert sock.query_security().quick_mode_policy is None


def test_a_policy_of_anothers_that_cannot_be_applied_refuses_the_flow(engine: FilterEngine, server: Server) -> None:
    windows = engine.filters.add(
        Filter("Windows' own", layer=Layer.IPSEC_V4, provider_context=ids.PROVIDER_CONTEXT_SECURE_SOCKET_IPSEC)
    )
    with pytest.raises(ss.PolicyRefused, match="extended-mode") as caught:
        _connect(server, engine)
    assert caught.value.filter_id == windows.id


def test_a_keying_policy_without_ikev2_refuses_the_flow(engine: FilterEngine, server: Server) -> None:
    def modules(*keys: UUID) -> Filter:
        content = KeyingPolicy(keys)
        context = engine.provider_contexts.add(ProviderContext("m", type=ContextType.KEYING, content=content))
        return engine.filters.add(policy_filter(Layer.IPSEC_KM_DEMUX_V4, context))

    wrong = modules(ids.KEYING_MODULE_AUTHIP)
    with pytest.raises(ss.PolicyRefused, match="IKEv2") as caught:
        _connect(server, engine)
    assert caught.value.filter_id == wrong.id
    engine.filters.delete(wrong)
    modules(ids.KEYING_MODULE_AUTHIP, ids.KEYING_MODULE_IKEV2)
    _connect(server, engine).close()


def _ale_connect(name: str, raw_context: int) -> Filter:
    return Filter(
        name,
        layer=Layer.ALE_AUTH_CONNECT_V4,
        action=ActionType.CALLOUT_TERMINATING,
        action_key=ids.CALLOUT_IPSEC_ALE_CONNECT_V4,
        raw_context=raw_context,
    )


def test_a_demand_for_security_takes_the_permission_for_clear_text_away(engine: FilterEngine) -> None:
    demand = engine.filters.add(_ale_connect("always secured", 0x2))
    with socket.create_server(("127.0.0.1", 0)) as clear:
        closing = threading.Thread(target=lambda: clear.accept()[0].close())
        closing.start()
        with ss.SecureSocket(context=under(client_context(), engine)) as sock:
            sock.set_security(ss.SecuritySettings(allow_insecure=True))
            with pytest.raises(OSError):
                sock.connect(clear.getsockname())
            assert not sock.query_security().secured
        closing.join()
    assert demand.id


def test_a_demand_for_encryption_is_a_guarantee(engine: FilterEngine) -> None:
    engine.filters.add(_ale_connect("always encrypted", 0x8))
    key = engine.provider_contexts.add(quick_mode(INTEGRITY_ONLY, AES_128_GCM)).key
    settings = ss.IPsecSettings(quick_mode_policy=key)
    context = under(server_context(), engine)
    with serving(echo, settings=settings, context=context) as server, _connect(server, engine, settings) as sock:
        info = sock.query_security()
    assert info.encrypted
    assert any("always encrypted" in each for each in info.differences)


def test_an_end_that_may_not_begin_waits_for_the_peer(engine: FilterEngine, server: Server) -> None:
    waiting = engine.filters.add(
        Filter(
            "only answers",
            layer=Layer.OUTBOUND_TRANSPORT_V4,
            action=ActionType.CALLOUT_TERMINATING,
            action_key=ids.CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4,
            flags=FilterFlag.IPSEC_NO_ACQUIRE_INITIATE,
        )
    )
    with pytest.raises(ss.PolicyRefused, match="begin") as caught:
        _connect(server, engine)
    assert caught.value.filter_id == waiting.id


def test_in_clear_a_governed_socket_keeps_its_flow_and_its_filters(engine: FilterEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as clear:

        def answer() -> None:
            clear.accept()[0].close()
            connection, _ = clear.accept()
            with connection:
                connection.sendall(connection.recv(100))

        answering = threading.Thread(target=answer)
        answering.start()
        with ss.SecureSocket(context=under(client_context(), engine)) as sock:
            sock.set_security(ss.SecuritySettings(allow_insecure=True))
            sock.connect(clear.getsockname())
            assert not sock.query_security().secured
            assert socket_filters(engine)
            assert _says(sock) == b"hello"
        answering.join()
    assert not socket_filters(engine)
    assert not [each for each in engine.net_events.enumerate() if each.type is NetEventType.CLASSIFY_DROP]
