"""Users on real sockets: a password or a certificate names who is at the other end, over TCP, UDP and asyncio."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from functools import cache

import pytest

import securesock as ss
from securesock.policy import FilterEngine
from securesock.policy.ipsec import AuthenticationMethod, EapAuthentication
from securesock.policy.ipsec_numbers import AuthMethodType
from tests.support.aio_peers import AnswersQuestions
from tests.support.event_loops import on_every_loop
from tests.support.governed import main_mode
from tests.support.loopback import LINGER, PATIENCE_S, accepted, until

PASSWORD = "correct horse battery staple"
ALICE = "alice@example.org"
SERVER = "host/server.example"
LOCALHOST = "127.0.0.1"


@cache
def server_identity() -> ss.Identity:
    return ss.Identity.ephemeral([SERVER, LOCALHOST])


@cache
def server_context() -> ss.SecurityContext:
    return ss.SecurityContext(server_identity(), users=ss.Users({ALICE: PASSWORD}, certificates=True))


@cache
def client_context() -> ss.SecurityContext:
    return ss.SecurityContext(ss.Identity.ephemeral("host/client.example", authority=server_identity().authority))


@cache
def certificate_context() -> ss.SecurityContext:
    user = ss.Identity.ephemeral(ALICE, authority=server_identity().authority)
    return ss.SecurityContext(client_context().identity, user=user)


def asked(password: str = PASSWORD) -> ss.IPsecSettings:
    return ss.IPsecSettings(guarantee_encryption=True, user_name="alice", domain_name="EXAMPLE.org", password=password)


def assert_alice(info: ss.SecurityInfo, evidence: str | None = "") -> None:
    assert info.peer_user == ss.Principal(ALICE, "user", "eap", evidence or "")
    assert info.peer_machine is None


def test_a_password_names_the_user_of_a_tcp_connection() -> None:
    settings = asked()
    with (
        ss.create_server((LOCALHOST, 0), context=server_context(), allow=[ALICE]) as listener,
        ss.create_connection(
            listener.getsockname(), PATIENCE_S, peer=SERVER, settings=settings, context=client_context()
        ) as client,
    ):
        server = accepted(listener)
        with server:
            assert_alice(server.query_security())
            info = client.query_security()
            assert info.peer_machine is not None
            assert info.peer_machine.name == SERVER
            assert info.peer_user is None
            client.sendall(b"hello")
            assert server.recv(5) == b"hello"
    assert not settings.password  # it was used, and overwritten


def test_a_certificate_names_the_user_too() -> None:
    context = certificate_context()
    assert context.user is not None
    with (
        ss.create_server((LOCALHOST, 0), context=server_context()) as listener,
        ss.create_connection(listener.getsockname(), PATIENCE_S, peer=SERVER, context=context) as client,
    ):
        server = accepted(listener)
        with server:
            assert_alice(server.query_security(), context.user.fingerprint)
            client.sendall(b"hello")
            assert server.recv(5) == b"hello"


@pytest.mark.parametrize("password", ["a wrong one", PASSWORD])
def test_a_user_that_fails_or_is_not_let_in_is_refused_and_counted(password: str) -> None:
    allow = [ALICE] if password == "a wrong one" else ["bob@example.org"]
    settings = asked(password)
    with ss.create_server((LOCALHOST, 0), context=server_context(), allow=allow) as listener:
        with pytest.raises(ss.AuthenticationFailed) as caught:
            ss.create_connection(
                listener.getsockname(), PATIENCE_S, peer=SERVER, settings=settings, context=client_context()
            )
        assert password not in str(caught.value)
        until(lambda: sum(listener.refusals.values()) == 1)
    assert not settings.password


def test_the_long_form_wipes_the_password_when_the_negotiation_is_over() -> None:
    for password, proven in ((PASSWORD, True), ("a wrong one", False)):
        settings = asked(password)
        with (
            ss.create_server((LOCALHOST, 0), context=server_context()) as listener,
            ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=client_context()) as client,
        ):
            client.settimeout(PATIENCE_S)
            client.set_security(settings)
            client.set_peer_target_name(SERVER)
            assert settings.password
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER.pack(1, 0))  # nobody accepts it
            assert (client.connect_ex(listener.getsockname()) == 0) == proven
            assert not settings.password


def test_a_user_without_a_peer_target_name_is_misuse_on_every_kind_of_socket() -> None:
    with ss.create_server((LOCALHOST, 0), context=server_context()) as listener:
        where = listener.getsockname()
        with pytest.raises(ss.LocalMisuse, match="machine that is named"):
            ss.create_connection(where, settings=asked(), context=client_context())
        with pytest.raises(ss.LocalMisuse, match="machine that is named"):
            ss.create_connection(where, settings=asked(), peer=ss.ANY_TRUSTED_PEER, context=client_context())
        with pytest.raises(ss.LocalMisuse, match="machine that is named"):
            ss.create_connection(where, context=certificate_context())
        with ss.SecureSocket(context=client_context()) as client:
            client.set_security(asked())
            with pytest.raises(ss.LocalMisuse, match="machine that is named"):
                client.connect(where)
        with ss.SecureSocket(type=socket.SOCK_DGRAM, context=client_context()) as client:
            client.set_security(asked())
            client.bind((LOCALHOST, 0))
            with pytest.raises(ss.LocalMisuse, match="machine that is named"):
                client.sendto(b"hello", where)
        assert not listener.refusals


def test_a_listener_proves_no_user() -> None:
    with pytest.raises(ss.LocalMisuse, match="listener"):
        ss.create_server((LOCALHOST, 0), settings=asked(), context=server_context())

    async def serve() -> None:
        with pytest.raises(ss.LocalMisuse, match="listener"):
            await ss.aio.start_server(lambda r, w: None, LOCALHOST, 0, settings=asked(), context=server_context())

    asyncio.run(serve())


@pytest.mark.parametrize("how", ["password", "certificate"])
def test_a_user_is_named_to_a_datagram_socket(how: str) -> None:
    context = client_context() if how == "password" else certificate_context()
    settings = asked()
    with (
        ss.SecureSocket(type=socket.SOCK_DGRAM, context=server_context()) as server,
        ss.SecureSocket(type=socket.SOCK_DGRAM, context=context) as client,
    ):
        for each in (server, client):
            each.settimeout(PATIENCE_S)
        server.bind((LOCALHOST, 0))
        if how == "password":
            client.set_security(settings)
        client.bind((LOCALHOST, 0))
        client.set_peer_target_name(SERVER, server.getsockname())
        client.sendto(b"hello", server.getsockname())
        data, address = server.recvfrom(100)
        assert data == b"hello"
        fingerprint = "" if context.user is None or how == "password" else context.user.fingerprint
        assert_alice(server.query_security(address), fingerprint)
        server.sendto(b"and back", address)
        assert client.recvfrom(100)[0] == b"and back"
        if how == "password":
            assert settings.password  # another peer's negotiation may need it
    assert how == "certificate" or not settings.password


def test_a_user_that_fails_on_datagrams_sends_nothing() -> None:
    with (
        ss.SecureSocket(type=socket.SOCK_DGRAM, context=server_context()) as server,
        ss.SecureSocket(type=socket.SOCK_DGRAM, context=client_context()) as client,
    ):
        server.bind((LOCALHOST, 0))
        server.settimeout(0.0)
        client.settimeout(PATIENCE_S)
        client.set_security(asked("a wrong one"))
        client.bind((LOCALHOST, 0))
        client.set_peer_target_name(SERVER, server.getsockname())
        with pytest.raises(BlockingIOError):
            server.recvfrom(100)  # from now on it negotiates
        with pytest.raises(ss.AuthenticationFailed):
            client.sendto(b"hello", server.getsockname())
        with pytest.raises(BlockingIOError):
            server.recvfrom(100)


def test_a_user_is_named_to_asyncio_servers() -> None:
    seen: list[ss.SecurityInfo] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("security"))
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def play() -> None:
        settings = asked()
        async with await ss.aio.start_server(serve, LOCALHOST, 0, context=server_context()) as server:
            where = server.sockets[0].getsockname()
            reader, writer = await ss.aio.open_connection(
                *where, peer=SERVER, settings=settings, context=client_context()
            )
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            await writer.wait_closed()
            assert not settings.password
            with pytest.raises(ss.LocalMisuse, match="machine that is named"):
                await ss.aio.open_connection(*where, settings=asked(), context=client_context())

    asyncio.run(play())
    assert_alice(seen[0])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@on_every_loop
async def test_a_user_is_named_to_asyncio_endpoints(host: str) -> None:
    settings = asked()
    server, server_end = await ss.aio.create_datagram_endpoint(AnswersQuestions, (host, 0), context=server_context())
    where = server.get_extra_info("sockname")
    with pytest.raises(ss.LocalMisuse, match="machine that is named"):
        nameless, end = await ss.aio.create_datagram_endpoint(
            AnswersQuestions, None, where[:2], settings=asked(), context=client_context()
        )
        try:
            nameless.sendto(b"question")
        finally:
            nameless.close()
            await asyncio.wait_for(end.lost, PATIENCE_S)
    client, client_end = await ss.aio.create_datagram_endpoint(
        AnswersQuestions, None, where[:2], peer=SERVER, settings=settings, context=client_context()
    )
    client.sendto(b"question")
    assert await asyncio.wait_for(client_end.told.get(), PATIENCE_S) == b"answer"
    assert_alice(server.query_security(client.get_extra_info("sockname")))
    assert server.get_extra_info("security") is None
    assert str(client.query_security().peer_machine) == SERVER
    for transport, ended in ((client, client_end), (server, server_end)):
        transport.close()
        await asyncio.wait_for(ended.lost, PATIENCE_S)
    assert not settings.password  # no other peer's negotiation will need it
    assert [server_end.told.get_nowait()] == [b"question"]
    assert server_end.told.empty()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_guessing_over_datagrams_is_slowed_down_for_its_source_and_names_nobody(family: int) -> None:
    host = LOCALHOST if family == socket.AF_INET else "::1"
    context = ss.SecurityContext(server_identity(), users=ss.Users({ALICE: PASSWORD}))
    with ss.SecureSocket(family, socket.SOCK_DGRAM, context=context) as server:
        server.bind((host, 0))
        server.fileno()  # the process's own thread negotiates
        server.settimeout(PATIENCE_S)

        def try_once(password: str) -> None:
            with ss.SecureSocket(family, socket.SOCK_DGRAM, context=client_context()) as client:
                client.set_security(asked(password))
                client.bind((host, 0))
                client.settimeout(PATIENCE_S)
                client.set_peer_target_name(SERVER, server.getsockname())
                with pytest.raises(ss.AuthenticationFailed) as caught:
                    client.sendto(b"let me in", server.getsockname())
                assert password not in str(caught.value)
                info = client.query_security(server.getsockname())
                assert (info.secured, info.peer_machine, info.peer_user) == (False, None, None)
                with pytest.raises(ss.LocalMisuse):  # neither the user nor the machine beside it is anybody
                    server.query_security(client.getsockname())

        for number in range(10):
            try_once(f"guess {number}")
        assert server.refusals.get("too-many-tries", 0) == 0
        try_once(PASSWORD)
        until(lambda: server.refusals.get("too-many-tries") == 1)
        with ss.SecureSocket(family, socket.SOCK_DGRAM, context=client_context()) as machine:
            machine.bind((host, 0))
            machine.settimeout(PATIENCE_S)
            machine.set_peer_target_name(SERVER, server.getsockname())
            machine.sendto(b"a machine of the same source", server.getsockname())
            assert server.recv(100) == b"a machine of the same source"


def test_guessing_is_slowed_down_for_its_source() -> None:
    context = ss.SecurityContext(server_identity(), users=ss.Users({ALICE: PASSWORD}))
    with ss.create_server((LOCALHOST, 0), context=context) as listener:

        def try_once(password: str) -> None:
            with pytest.raises(ss.AuthenticationFailed):
                ss.create_connection(
                    listener.getsockname(), PATIENCE_S, peer=SERVER, settings=asked(password), context=client_context()
                )

        for number in range(10):
            try_once(f"guess {number}")
        try_once(PASSWORD)
        until(lambda: listener.refusals.get("too-many-tries") == 1)


def test_a_ppk_is_in_the_keys_of_both_ends_and_said_to_be() -> None:
    secret = bytes(range(32))
    authority = server_identity().authority
    for ours, peers, used in (
        (ss.Ppk("id", secret), ss.Ppk("id", secret), True),
        (ss.Ppk("id", secret, mandatory=False), ss.Ppk("another", secret, mandatory=False), False),
    ):
        server_side = ss.SecurityContext(server_identity(), ppks=[peers])
        client_side = ss.SecurityContext(ss.Identity.ephemeral("host/c.example", authority=authority), ppks=[ours])
        with (
            ss.create_server((LOCALHOST, 0), context=server_side) as listener,
            ss.create_connection(listener.getsockname(), PATIENCE_S, peer=SERVER, context=client_side) as client,
        ):
            server = accepted(listener)
            with server:
                client.sendall(b"hello")
                assert server.recv(5) == b"hello"
                for info in (client.query_security(), server.query_security()):
                    assert info.key_exchange.endswith("+PPK") == used
                    assert any("PPK" in each for each in info.differences) != used


def test_a_stored_main_mode_policy_whose_method_is_eap_lets_in_users_alone() -> None:
    method = AuthenticationMethod(AuthMethodType.EAP, EapAuthentication())
    engine = FilterEngine.open(":memory:")
    main = engine.provider_contexts.add(main_mode(method))
    server_side, client_side = (replace(each, policy=engine) for each in (server_context(), client_context()))
    named = ss.IPsecSettings(main_mode_policy=main.key)
    with ss.create_server((LOCALHOST, 0), settings=named, context=server_side) as listener:
        where = listener.getsockname()
        settings = ss.IPsecSettings(main_mode_policy=main.key, user_name=ALICE, password=PASSWORD)
        with ss.create_connection(where, PATIENCE_S, peer=SERVER, settings=settings, context=client_side) as client:
            server = accepted(listener)
            with server:
                assert_alice(server.query_security())
                assert client.query_security().main_mode_policy == main.key
        with pytest.raises(ss.LocalMisuse, match="wants a user proven"):
            ss.create_connection(where, PATIENCE_S, peer=SERVER, settings=named, context=client_side)
        plain = ss.SecurityContext(client_context().identity)
        with pytest.raises(ss.SecureSocketError):
            ss.create_connection(where, PATIENCE_S, peer=SERVER, context=plain)
        until(lambda: sum(listener.refusals.values()) == 1)
    engine.close()
