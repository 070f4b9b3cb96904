"""UDP sockets under a filtering platform: each peer's flow is judged, whoever began, and again when policy changes."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

import securesock as ss
from securesock.policy import ActionType, Condition, Field, Filter, FilterEngine, Layer, allow, match
from securesock.policy import identifiers as ids
from securesock.policy.events import MmFailure
from securesock.policy.ipsec import AuthenticationMethod, PresharedKeyAuthentication, SaLifetime, TunnelEndpoints
from securesock.policy.ipsec_numbers import AuthMethodType
from securesock.secret import Secret
from securesock.sockets.datagram_socket import SecureDatagramSocket
from tests.support.governed import (
    AES_128_GCM,
    INTEGRITY_ONLY,
    add_tunnel,
    main_mode,
    policy_filter,
    quick_mode,
    socket_filters,
    under,
)
from tests.support.loopback import client_context, server_context, shorten_silence, until

NAME = "host/server.example"
CLIENT = "host/client.example"


@pytest.fixture
def engine() -> Iterator[FilterEngine]:
    with FilterEngine.open() as opened:
        yield opened


def _socket(
    context: ss.SecurityContext, settings: ss.SecuritySettings | None = None, *, bind: bool = False
) -> ss.SecureSocket:
    sock = ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=context)
    if settings is not None:
        sock.set_security(settings)
    if bind:
        sock.bind(("127.0.0.1", 0))
    sock.settimeout(20)
    return sock


@pytest.fixture
def server() -> Iterator[ss.SecureSocket]:
    with _socket(server_context(), bind=True) as running:
        yield running


def _to(
    server: ss.SecureSocket, context: ss.SecurityContext, settings: ss.SecuritySettings | None = None
) -> ss.SecureSocket:
    sock = _socket(context, settings)
    sock.set_peer_target_name(NAME, server.getsockname())
    return sock


def _block(layer: Layer, *conditions: Condition) -> Filter:
    return Filter("closed", layer=layer, action=ActionType.BLOCK, conditions=conditions)


def _hears(server: ss.SecureSocket, sock: ss.SecureSocket, data: bytes = b"hello") -> bool:
    sock.sendto(data, server.getsockname())
    return server.recvfrom(100)[0] == data


def test_a_governed_socket_talks_and_has_filters_while_it_lives(engine: FilterEngine, server: ss.SecureSocket) -> None:
    with _to(server, under(client_context(), engine)) as sock:
        assert _hears(server, sock)
        info = sock.query_security(server.getsockname())
        layers = {each.layer for each in socket_filters(engine)}
        assert layers >= {Layer.ALE_AUTH_CONNECT_V4, Layer.ALE_AUTH_RECV_ACCEPT_V4, Layer.IPSEC_V4}
        assert info.filter_id in [each.id for each in socket_filters(engine)]
        assert info.secured
        assert not info.differences
        accounts = {each.layer for each in sock.explain_policy(server.getsockname())}
        assert Layer.ALE_AUTH_CONNECT_V4 in accounts
    assert not socket_filters(engine)


def test_filters_come_with_the_settings_and_go_with_a_forgotten_socket(engine: FilterEngine) -> None:
    sock = _socket(under(client_context(), engine), ss.SecuritySettings())
    assert socket_filters(engine)
    with pytest.warns(ResourceWarning):
        del sock
        gc.collect()
    until(lambda: not socket_filters(engine), "the filters are gone")


def test_a_blocked_flow_is_refused_by_name_and_others_go_on(engine: FilterEngine, server: ss.SecureSocket) -> None:
    with _socket(server_context(), bind=True) as other, _to(server, under(client_context(), engine)) as sock:
        sock.set_peer_target_name(NAME, other.getsockname())
        port = other.getsockname()[1]
        block = engine.filters.add(_block(Layer.ALE_AUTH_CONNECT_V4, match(Field.IP_REMOTE_PORT, port)))
        for _ in range(2):
            with pytest.raises(ss.PolicyRefused) as caught:
                sock.sendto(b"x", other.getsockname())
            assert caught.value.filter_id == block.id
        assert _hears(server, sock)


def test_a_filter_may_forbid_to_bind(engine: FilterEngine) -> None:
    engine.filters.add(_block(Layer.ALE_RESOURCE_ASSIGNMENT_V4, match(Field.IP_PROTOCOL, 17)))
    context = under(server_context(), engine)
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=context) as sock, pytest.raises(ss.PolicyRefused):
        sock.bind(("127.0.0.1", 0))

    async def endpoint() -> None:
        with pytest.raises(ss.PolicyRefused):
            await ss.aio.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0), context=context
            )

    asyncio.run(endpoint())


@pytest.mark.parametrize(
    ("conditions", "let_in"),
    [
        ((), False),
        ((match(Field.ALE_REMOTE_MACHINE_ID, allow(CLIENT)),), False),
        ((match(Field.ALE_REMOTE_MACHINE_ID, allow("host/other.example")),), True),
    ],
)
def test_whoever_begins_is_judged_by_who_it_is(
    engine: FilterEngine, conditions: tuple[Condition, ...], let_in: bool
) -> None:
    engine.filters.add(_block(Layer.ALE_AUTH_RECV_ACCEPT_V4, *conditions))
    with _socket(under(server_context(), engine), bind=True) as server, _to(server, client_context()) as sock:
        if let_in:
            assert _hears(server, sock)
        else:
            sock.settimeout(0.5)
            with pytest.raises((ss.AuthenticationFailed, TimeoutError)):
                sock.sendto(b"hello", server.getsockname())
            until(lambda: sum(server.refusals.values()))


def test_named_policies_decide_what_is_negotiated(engine: FilterEngine) -> None:
    shared = AuthenticationMethod(AuthMethodType.PRESHARED_KEY, PresharedKeyAuthentication(Secret(bytes(range(32)))))
    main = engine.provider_contexts.add(main_mode(shared))
    quick = engine.provider_contexts.add(quick_mode(AES_128_GCM, lifetime=SaLifetime(600, 0, 0)))
    settings = ss.IPsecSettings(main_mode_policy=main.key, quick_mode_policy=quick.key)
    with (
        _socket(under(server_context(), engine), settings, bind=True) as server,
        _to(server, under(client_context(), engine), settings) as sock,
    ):
        assert _hears(server, sock)
        info = sock.query_security(server.getsockname())
        assert (info.main_mode_policy, info.quick_mode_policy) == (main.key, quick.key)
        assert info.quick_mode_suite.startswith("AES-128-GCM-16")
        assert info.peer_machine is not None
        assert info.peer_machine.method == "psk"


def test_integrity_alone_is_carried_and_said(engine: FilterEngine) -> None:
    key = engine.provider_contexts.add(quick_mode(INTEGRITY_ONLY)).key
    settings = ss.IPsecSettings(quick_mode_policy=key)
    with (
        _socket(under(server_context(), engine), settings, bind=True) as server,
        _to(server, under(client_context(), engine), settings) as sock,
    ):
        assert _hears(server, sock)
        info = sock.query_security(server.getsockname())
        assert (info.secured, info.encrypted) == (True, False)
        assert any("integrity without encryption" in each for each in info.differences)


def test_skip_filter_instantiation_relies_on_filters_that_exist(engine: FilterEngine, server: ss.SecureSocket) -> None:
    with (
        _to(server, under(client_context(), engine), ss.IPsecSettings(skip_filter_instantiation=True)) as sock,
        pytest.raises(ss.PolicyRefused, match="skip_filter_instantiation"),
    ):
        sock.sendto(b"x", server.getsockname())


def test_a_change_that_the_sa_would_not_have_been_made_under_ends_it(
    engine: FilterEngine, server: ss.SecureSocket
) -> None:
    with _to(server, under(client_context(), engine)) as sock:
        changes = sock.watch_policy()
        assert _hears(server, sock)
        port = server.getsockname()[1]
        block = engine.filters.add(_block(Layer.ALE_AUTH_CONNECT_V4, match(Field.IP_REMOTE_PORT, port)))
        assert changes.wait(20)
        change = changes.poll()
        assert change is not None
        assert change.broken
        assert change.filter_id == block.id
        with pytest.raises(ss.ConnectionBroken, match="policy changed"):
            sock.sendto(b"x", server.getsockname())
        with pytest.raises(ss.PolicyRefused):
            sock.sendto(b"x", server.getsockname())
        engine.filters.delete(block)
        assert _hears(server, sock, b"again")
    assert not changes.is_open


def test_a_change_that_the_sa_would_have_been_made_under_is_shown(
    engine: FilterEngine, server: ss.SecureSocket
) -> None:
    other = engine.provider_contexts.add(quick_mode(AES_128_GCM))
    named = ss.IPsecSettings(quick_mode_policy=other.key)
    with _to(server, under(client_context(), engine), named) as sock:
        assert _hears(server, sock)
        changes = sock.watch_policy()
        forced = engine.filters.add(policy_filter(Layer.IPSEC_V4, other))
        assert changes.wait(20)
        assert sock.query_security(server.getsockname()).filter_id == forced.id
        assert _hears(server, sock, b"still")


def test_clear_text_is_policys_to_forbid_even_where_the_settings_allow_it(
    engine: FilterEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_silence(monkeypatch)
    insecure = ss.SecuritySettings(allow_insecure=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as clear:
        clear.bind(("127.0.0.1", 0))
        clear.settimeout(20)
        with _socket(under(client_context(), engine), insecure) as sock:
            sock.sendto(b"hello", clear.getsockname())
            until(lambda: _received(clear) == b"hello", "clear text, which is allowed")
        engine.filters.add(
            Filter(
                "always secured",
                layer=Layer.ALE_AUTH_CONNECT_V4,
                action=ActionType.CALLOUT_TERMINATING,
                action_key=ids.CALLOUT_IPSEC_ALE_CONNECT_V4,
                raw_context=0x2,
            )
        )
        with _socket(under(client_context(), engine), insecure) as sock:
            sock.settimeout(0.6)
            with pytest.raises(OSError):
                sock.sendto(b"hello", clear.getsockname())
            assert _received(clear) != b"hello"


def _received(sock: socket.socket) -> bytes:
    """What came that is neither IKE nor ESP; b"" for nothing."""
    sock.setblocking(False)
    try:
        while True:
            data = sock.recv(2048)
            if not data.startswith(bytes(4)):
                return data
    except BlockingIOError:
        return b""


def test_asyncio_endpoints_are_judged_too(engine: FilterEngine) -> None:
    class Heard(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.data: asyncio.Queue[bytes] = asyncio.Queue()
            self.errors: asyncio.Queue[Exception] = asyncio.Queue()

        def datagram_received(self, data: bytes, addr: object) -> None:
            self.data.put_nowait(data)

        def error_received(self, exc: Exception) -> None:
            self.errors.put_nowait(exc)

    async def run() -> None:
        there, hearer = await ss.aio.create_datagram_endpoint(
            Heard, local_addr=("127.0.0.1", 0), context=under(server_context(), engine)
        )
        address = there.get_extra_info("sockname")
        here, told = await ss.aio.create_datagram_endpoint(
            Heard, remote_addr=address, peer=NAME, context=under(client_context(), engine)
        )
        here.sendto(b"hello")
        assert await hearer.data.get() == b"hello"
        assert here.query_security(address).filter_id in [each.id for each in socket_filters(engine)]
        assert Layer.ALE_AUTH_CONNECT_V4 in {each.layer for each in here.explain_policy(address)}
        changes = here.watch_policy()
        engine.filters.add(_block(Layer.ALE_AUTH_CONNECT_V4, match(Field.IP_REMOTE_PORT, address[1])))
        assert isinstance(await told.errors.get(), ss.ConnectionBroken)
        assert next(iter(changes)).broken
        here.close()
        there.close()
        await asyncio.sleep(0)

    asyncio.run(run())
    until(lambda: not socket_filters(engine), "the filters are gone")


def test_endpoints_and_sockets_without_a_filtering_platform_have_nothing_to_watch(server: ss.SecureSocket) -> None:
    async def run() -> None:
        endpoint, _ = await ss.aio.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0), context=client_context()
        )
        for ask in (endpoint.watch_policy, lambda: endpoint.explain_policy(server.getsockname())):
            with pytest.raises(ss.LocalMisuse, match="no filtering platform"):
                ask()
        endpoint.close()
        await asyncio.sleep(0)

    asyncio.run(run())
    for ask in (server.watch_policy, lambda: server.explain_policy(server.getsockname())):
        with pytest.raises(ss.LocalMisuse, match="no filtering platform"):
            ask()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_child_that_closes_what_it_inherited_takes_nothing_from_its_parent(
    engine: FilterEngine, server: ss.SecureSocket
) -> None:
    with _to(server, under(client_context(), engine)) as sock:
        assert _hears(server, sock)
        own = {each.id for each in socket_filters(engine)}
        child = os.fork()
        if not child:
            sock.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert {each.id for each in socket_filters(engine)} == own
        assert _hears(server, sock)


def test_nothing_is_explained_that_was_not_begun(engine: FilterEngine, server: ss.SecureSocket) -> None:
    with _to(server, under(client_context(), engine)) as sock:
        with pytest.raises(ss.LocalMisuse, match="nothing is negotiated"):
            sock.explain_policy(server.getsockname())
        assert _hears(server, sock)
        assert sock.explain_policy(server.getsockname())


def _stranger() -> ss.SecurityContext:
    return ss.SecurityContext(ss.Identity.ephemeral("host/stranger.example"))


def _is_refused(server: ss.SecureSocket, sock: ss.SecureSocket) -> None:
    sock.set_peer_target_name(NAME, server.getsockname())
    with pytest.raises(ss.AuthenticationFailed):
        sock.sendto(b"x", server.getsockname())


def test_a_negotiation_that_fails_is_a_net_event_at_either_end(engine: FilterEngine) -> None:
    with (
        FilterEngine.open() as theirs,
        _socket(under(server_context(), theirs), bind=True) as server,
        _socket(under(_stranger(), engine)) as sock,
    ):
        _is_refused(server, sock)
        event = engine.net_events.enumerate()[-1]
        assert isinstance(event.detail, MmFailure)
        assert event.detail.remote_principal == NAME
        assert (event.protocol, event.remote_port) == (17, server.getsockname()[1])
        until(lambda: theirs.net_events.enumerate() != [], "it is told at the other end")
        assert theirs.net_events.enumerate()[-1].remote_port == sock.getsockname()[1]


def test_nothing_is_kept_of_strangers(engine: FilterEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securesock.planes.userspace.associations.LINGER_S", 0.2)
    with (
        _socket(under(server_context(), engine), bind=True) as server,
        _socket(_stranger()) as sock,
    ):
        assert isinstance(server, SecureDatagramSocket)
        judges = server._judges
        assert judges is not None
        _is_refused(server, sock)
        assert judges.applied(("127.0.0.1", sock.getsockname()[1])) is not None
        until(lambda: not judges._judged, "it is forgotten")


GATEWAY = "127.0.0.92"
BEHIND = ("10.92.0.1", 7)


@pytest.fixture
def gateway(engine: FilterEngine) -> Iterator[ss.SecureSocket]:
    """At a standard host's port, and inside of its tunnel where BEHIND says; the engine's flows go there through it."""
    entry = ss.PeerEntry("127.0.0.1", gateway="127.0.0.1", inner=BEHIND[0], inner_port=BEHIND[1], peer=CLIENT)
    add_tunnel(engine, TunnelEndpoints("127.0.0.1", GATEWAY, remote_fqdn="server.example"), "10.92.0.0/24")
    with _socket(replace(server_context(), peers=(entry,))) as sock:
        sock.bind((GATEWAY, 4500))
        yield sock


def test_a_connected_socket_goes_through_the_tunnel_that_policy_has(
    engine: FilterEngine, gateway: ss.SecureSocket
) -> None:
    with _socket(under(client_context(), engine), bind=True) as sock:
        sock.connect(BEHIND)
        sock.send(b"question")
        data, sender = gateway.recvfrom(100)
        assert (data, sender) == (b"question", sock.getsockname())
        gateway.sendto(b"answer", sender)
        assert sock.recv(100) == b"answer"
        assert sock.getpeername() == BEHIND
        info = sock.query_security()
        assert info.peer_machine is not None
        assert info.peer_machine.name == NAME


def test_an_asyncio_endpoint_goes_through_the_tunnel_that_policy_has(
    engine: FilterEngine, gateway: ss.SecureSocket
) -> None:
    async def run() -> None:
        came: asyncio.Queue[tuple[bytes, object]] = asyncio.Queue()

        class Hears(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
                came.put_nowait((data, addr))

        transport, _ = await ss.aio.create_datagram_endpoint(
            Hears,
            local_addr=("127.0.0.1", 0),
            remote_addr=BEHIND,
            context=under(client_context(), engine),
        )
        transport.sendto(b"question")
        data, sender = await asyncio.to_thread(gateway.recvfrom, 100)
        assert data == b"question"
        gateway.sendto(b"answer", sender)
        assert await asyncio.wait_for(came.get(), 20) == (b"answer", BEHIND)
        transport.close()

    asyncio.run(run())


def test_a_stream_is_refused_where_a_filter_wants_a_tunnel(engine: FilterEngine) -> None:
    add_tunnel(engine, TunnelEndpoints("127.0.0.1", GATEWAY), "127.0.0.0/8")
    with ss.SecureSocket(context=under(client_context(), engine)) as sock, pytest.raises(ss.PolicyRefused) as caught:
        sock.connect(("127.0.0.1", 9))
    assert "this flow is carried in transport mode" in str(caught.value)
