"""Who has to be at the other end of a datagram: every kind of name and proof, at real sockets and endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import securesock as ss
from securesock.keying.ikev2 import first_child
from securesock.sockets.aio import create_datagram_endpoint
from securesock.testing import Authority
from securesock.wire.ikev2.payloads import Notify, Payload
from securesock.wire.numbers import NotifyType
from tests.support.aio_peers import AnswersQuestions
from tests.support.event_loops import on_every_loop
from tests.support.loopback import PATIENCE_S, client_context, connected, server_context, until

SECRET = b"a secret of more than sixteen bytes"


@contextlib.contextmanager
def datagrams(context: ss.SecurityContext, *, answers: bool = False) -> Iterator[ss.SecureSocket]:
    """``answers``: the process's own thread negotiates while nobody receives."""
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=context) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE_S)
        if answers:
            sock.fileno()
        yield sock


@cache
def many_names() -> ss.SecurityContext:
    """A server that is reachable by the name of this machine."""
    names = ["host/localhost", "host/other.example", "spiffe://example.org/db", "127.0.0.1"]
    return ss.SecurityContext(ss.Identity.ephemeral(names, authority=server_context().identity.authority))


def pinned() -> str:
    certificate = many_names().identity.certificate
    assert certificate is not None
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{sha256(key).hexdigest()}"


def named(name: str | ss.AnyTrustedPeer | None) -> Callable[[ss.SecureSocket, ss.Address], ss.Address]:
    def name_it(sock: ss.SecureSocket, to: ss.Address) -> ss.Address:
        if name is not None:
            sock.set_peer_target_name(name, to)
        return to

    return name_it


def by_host(sock: ss.SecureSocket, to: ss.Address) -> ss.Address:
    return ("localhost", to[1])


@pytest.mark.parametrize(
    ("how", "proven"),
    [
        (by_host, "host/localhost"),
        (named(None), "127.0.0.1"),
        (named("127.0.0.1"), "127.0.0.1"),
        (named("host/other.example"), "host/other.example"),
        (named("OTHER.example"), "host/other.example"),
        (named("spiffe://example.org/db"), "spiffe://example.org/db"),
        (named(ss.ANY_TRUSTED_PEER), "host/localhost"),
    ],
    ids=["host in the address", "literal", "named literal", "name", "case", "URI", "any machine"],
)
def test_each_kind_of_name_is_proven_and_reported(
    how: Callable[[ss.SecureSocket, ss.Address], ss.Address], proven: str
) -> None:
    with datagrams(many_names(), answers=True) as server, datagrams(client_context()) as client:
        to = how(client, server.getsockname())
        client.sendto(b"hello", to)
        assert server.recv(100) == b"hello"
        info = client.query_security(to)
        assert info.peer_machine is not None
        assert (info.peer_machine.name, info.peer_machine.kind, info.peer_machine.method) == (proven, "machine", "x509")
        assert bool(info.differences) == (how is not by_host and proven == "host/localhost")  # nobody was named


def test_a_pinned_key_is_the_name() -> None:
    with datagrams(many_names(), answers=True) as server, datagrams(trusting_nobody()) as client:
        with pytest.raises(ss.AuthenticationFailed):
            client.sendto(b"not for you", server.getsockname())
        client.set_peer_target_name(pinned(), server.getsockname())
        client.sendto(b"hello", server.getsockname())
        assert server.recv(100) == b"hello"
        assert str(client.query_security(server.getsockname()).peer_machine) == pinned()


def trusting_nobody() -> ss.SecurityContext:
    """One whom the server knows, and whose own trust does not reach the server."""
    authority = server_context().identity.authority
    assert authority is not None
    issued = authority.issue(["host/client.example"])
    assert issued.private_key is not None
    return ss.SecurityContext(
        ss.Identity.from_pem(
            certificate=issued.certificate.public_bytes(Encoding.PEM),
            private_key=issued.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            trust=[Authority.create("of nobody").pem],
        )
    )


@pytest.mark.parametrize(
    "name", ["host/third.example", "127.0.0.2", "spiffe://example.org/other", f"sha256:{'0' * 64}", "alice@REALM"]
)
def test_whoever_is_another_one_gets_nothing_and_both_names_are_said(name: str) -> None:
    with datagrams(many_names(), answers=True) as server, datagrams(client_context()) as client:
        client.set_peer_target_name(name, server.getsockname())
        with pytest.raises(ss.AuthenticationFailed) as caught:
            client.sendto(b"not for you", server.getsockname())
        assert caught.value.errno == errno.EACCES
        assert name.removeprefix("host/") in str(caught.value)
        assert "localhost" in str(caught.value) or name.startswith("sha256:")
        assert "check which host" in str(caught.value) or name.startswith("sha256:")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(100)


def psk(name: str, **peers: bytes) -> ss.SecurityContext:
    secrets = {f"{peer}.example": secret for peer, secret in peers.items()}
    return ss.SecurityContext(ss.Identity.from_psk(name=f"{name}.example", peers=secrets))


def test_a_shared_secret_proves_both_ends() -> None:
    with datagrams(psk("b", a=SECRET), answers=True) as server, datagrams(psk("a", b=SECRET)) as client:
        client.set_peer_target_name("b.example", server.getsockname())
        client.sendto(b"hello", server.getsockname())
        data, ancillary, _, sender = server.recvmsg(100, 100)
        assert data == b"hello"
        assert ancillary[0] == (ss.SOL_SECURESOCK, ss.SCM_PRINCIPAL, b"host/a.example")
        for info, name in (
            (client.query_security(server.getsockname()), "host/b.example"),
            (server.query_security(sender), "host/a.example"),
        ):
            assert info.peer_machine is not None
            assert (info.peer_machine.name, info.peer_machine.method) == (name, "psk")


@pytest.mark.parametrize(
    "context",
    [psk("a", b=SECRET + b"!"), psk("x", b=SECRET), client_context()],
    ids=["another secret", "another name", "a certificate"],
)
def test_without_the_shared_secret_nobody_is_let_in(context: ss.SecurityContext) -> None:
    with datagrams(psk("b", a=SECRET), answers=True) as server, datagrams(context) as client:
        client.set_peer_target_name("b.example", server.getsockname())
        with pytest.raises(ss.AuthenticationFailed):
            client.sendto(b"let me in", server.getsockname())
        with pytest.raises(ss.LocalMisuse):
            server.query_security(client.getsockname())
        assert sum(server.refusals.values()) > 0


def letting_nobody_in(context: ss.SecurityContext, *, lets: bool) -> ss.SecurityContext:
    return replace(context, main_mode=replace(context.main_mode, allow_anonymous=lets))


def nobody() -> ss.SecurityContext:
    authority = server_context().identity.authority
    assert authority is not None
    return ss.SecurityContext(ss.Identity.anonymous(trust=authority.pem))


def test_nobody_comes_in_where_policy_says_so_and_has_no_name() -> None:
    with datagrams(letting_nobody_in(server_context(), lets=True), answers=True) as server:
        with datagrams(nobody()) as client:
            client.sendto(b"from nobody", server.getsockname())
            data, ancillary, _, sender = server.recvmsg(100, 100)
            assert data == b"from nobody"
            assert ancillary[0] == (ss.SOL_SECURESOCK, ss.SCM_PRINCIPAL, b"anonymous")
            info = server.query_security(sender)
            assert info.peer_machine == ss.Principal("anonymous", "machine", "anonymous")
            assert info.peer_user is None
            assert str(client.query_security(server.getsockname()).peer_machine) == "127.0.0.1"
        with datagrams(nobody()) as client:
            server.set_peer_target_name("host/client.example", client.getsockname())
            with pytest.raises(ss.AuthenticationFailed):
                client.sendto(b"for somebody's address", server.getsockname())
    with datagrams(server_context(), answers=True) as server, datagrams(nobody()) as client:
        with pytest.raises(ss.AuthenticationFailed):
            client.sendto(b"where nobody is let in", server.getsockname())
        with pytest.raises(ss.LocalMisuse):
            server.query_security(client.getsockname())


@pytest.mark.parametrize("name", [None, "127.0.0.1", "host/server.example", ss.ANY_TRUSTED_PEER])
def test_nobody_who_answers_is_whom_no_name_means(name: str | ss.AnyTrustedPeer | None) -> None:
    with (
        datagrams(nobody(), answers=True) as server,
        datagrams(letting_nobody_in(client_context(), lets=True)) as client,
    ):
        to = named(name)(client, server.getsockname())
        with pytest.raises(ss.AuthenticationFailed):
            client.sendto(b"not for nobody", to)
        assert not client.query_security(to).secured


def test_nobody_comes_to_a_listener_only_where_policy_says_so() -> None:
    for lets in (True, False):
        with ss.create_server(("127.0.0.1", 0), context=letting_nobody_in(server_context(), lets=lets)) as listener:
            listener.settimeout(PATIENCE_S)
            where = listener.getsockname()
            if lets:
                with ss.create_connection(where, PATIENCE_S, context=nobody()) as ours, listener.accept()[0] as theirs:
                    assert theirs.query_security().peer_machine == ss.Principal("anonymous", "machine", "anonymous")
                    theirs.setblocking(False)  # one thread closes both ends here
                    ours.setblocking(False)
            else:
                with pytest.raises(ss.AuthenticationFailed):
                    ss.create_connection(where, PATIENCE_S, context=nobody())
                until(lambda: sum(listener.refusals.values()) == 1, "a counted refusal")


def test_an_address_stays_its_first_principals_at_real_sockets() -> None:
    with datagrams(server_context(), answers=True) as server:
        with datagrams(client_context()) as client:
            where = client.getsockname()
            client.sendto(b"first", server.getsockname())
            assert server.recv(100) == b"first"
        until(lambda: not is_secured(server, where), "the goodbye")
        other = ss.SecurityContext(
            ss.Identity.ephemeral("host/other.example", authority=server_context().identity.authority)
        )
        with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=other) as intruder:
            intruder.bind(where)
            intruder.settimeout(PATIENCE_S)
            with pytest.raises(ss.AuthenticationFailed):
                intruder.sendto(b"I live here now", server.getsockname())
            server.delete_peer_target_name(where)
            intruder.sendto(b"and now I do", server.getsockname())
            assert server.recvfrom(100) == (b"and now I do", where)
            assert str(server.query_security(where).peer_machine) == "host/other.example"


def is_secured(sock: ss.SecureSocket, address: ss.Address) -> bool:
    try:
        return sock.query_security(address).secured
    except ss.LocalMisuse:
        return False


def test_a_connected_socket_begins_with_nobody_else_and_says_why() -> None:
    with (
        datagrams(server_context(), answers=True) as server,
        datagrams(many_names(), answers=True) as other,
        datagrams(client_context()) as client,
    ):
        client.connect(server.getsockname())
        client.send(b"hello")
        assert server.recv(100) == b"hello"
        for timeout in (PATIENCE_S, 0):
            client.settimeout(timeout)
            with pytest.raises(ss.LocalMisuse, match=r"connected to .* use a socket that is not") as caught:
                client.sendto(b"not heard", other.getsockname())
            assert caught.value.errno == errno.EISCONN
        client.settimeout(PATIENCE_S)
        client.connect(other.getsockname())  # as any UDP socket may
        client.send(b"now you")
        assert other.recv(100) == b"now you"


@pytest.mark.parametrize(
    ("context", "peer", "proven"),
    [
        (many_names, None, "host/localhost"),
        (many_names, "host/other.example", "host/other.example"),
        (many_names, ss.ANY_TRUSTED_PEER, "host/localhost"),
        (many_names, "host/third.example", None),
        (server_context, None, None),  # which is no localhost
    ],
)
@on_every_loop
async def test_an_endpoint_has_to_reach_whom_its_remote_host_names(
    context: Callable[[], ss.SecurityContext], peer: str | ss.AnyTrustedPeer | None, proven: str | None
) -> None:
    server, heard = await create_datagram_endpoint(AnswersQuestions, ("127.0.0.1", 0), context=context())
    remote = ("localhost", server.get_extra_info("sockname")[1])
    client, told = await create_datagram_endpoint(
        AnswersQuestions, None, remote, family=socket.AF_INET, peer=peer, context=client_context()
    )
    try:
        client.sendto(b"question")
        answer = await asyncio.wait_for(told.told.get(), PATIENCE_S)
        assert str(client.query_security().peer_machine) == str(proven)
        if proven is None:
            assert isinstance(answer, ss.AuthenticationFailed)
            assert heard.told.empty()
        else:
            assert answer == b"answer"
    finally:
        client.close()
        server.close()


def test_initial_contact_of_a_streams_peer_ends_no_other_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Semantics "Datagrams": one engine per process cannot know of its host's other SAs, so it is never believed."""
    original = first_child.FirstChildWish.payloads
    said: list[bool] = []

    def payloads(self: first_child.FirstChildWish) -> tuple[Payload, ...]:
        ours = original(self)
        said.append(any(isinstance(each, Notify) and each.notify_type == NotifyType.INITIAL_CONTACT for each in ours))
        return (*ours, Notify(NotifyType.INITIAL_CONTACT))

    with connected() as (first, first_served):
        monkeypatch.setattr(first_child.FirstChildWish, "payloads", payloads)
        with connected() as (second, second_served):
            for ours, theirs in ((first, first_served), (second, second_served)):
                ours.sendall(b"still here")
                assert theirs.recv(100) == b"still here"
                theirs.sendall(b"so am I")
                assert ours.recv(100) == b"so am I"
    assert said == [False]  # ours never say it
