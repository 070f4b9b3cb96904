"""impersonate_peer(): a server that opens files as its clients, with real sockets, real files and real accounts."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import securesock as ss
from securesock import winsock as ws
from securesock.identity.thread_credentials import read_credentials
from tests.support.loopback import PATIENCE_S, client_context, connect, connected, server_context, serving
from tools import leftovers

ACCOUNTS = {"host/client.example": "daemon", "alice@example.org": "nobody", "host/server.example": "root"}


def mapping_context() -> ss.SecurityContext:
    return replace(server_context(), accounts=ACCOUNTS)


def alice_context() -> ss.SecurityContext:
    return ss.SecurityContext(ss.Identity.ephemeral("alice@example.org", authority=server_context().identity.authority))


@pytest.fixture
def files() -> Iterator[Path]:
    """A folder that everybody may pass through; each file is for its owner alone."""
    with leftovers.folder("impersonation") as folder:
        folder.chmod(0o711)
        for name, uid in (("root", 0), ("daemon", 1), ("nobody", 65534)):
            (folder / name).write_text(f"{name}'s")
            os.chown(folder / name, uid, 0)
            (folder / name).chmod(0o600)
        yield folder


@pytest.mark.needs_root
def test_a_file_server_gives_each_client_what_its_account_may_read(files: Path) -> None:
    def serve(connection: ss.SecureSocket) -> None:
        for line in connection.makefile("r", encoding="utf-8"):
            try:
                with connection.impersonate_peer() as account:
                    answer = f"{account.name} {(files / line.strip()).read_text()}"
            except PermissionError:
                answer = "refused"
            connection.sendall(f"{answer}\n".encode())
        assert (files / "root").read_text() == "root's"

    with serving(serve, context=mapping_context()) as server:
        answers = {}
        for context in (client_context(), alice_context()):
            with connect(server.address, context=context) as client:
                client.sendall(b"daemon\nnobody\nroot\n")
                client.shutdown(socket.SHUT_WR)
                answers[context.identity.names[0]] = client.makefile("r", encoding="utf-8").read().splitlines()
    assert not server.errors
    assert answers == {
        "host/client.example": ["daemon daemon's", "refused", "refused"],
        "alice@example.org": ["refused", "nobody nobody's", "refused"],
    }


@pytest.mark.needs_root
def test_a_client_may_act_as_its_server_and_root_is_an_account_when_it_is_named(files: Path) -> None:
    def act() -> tuple[str, int]:
        with client.impersonate_peer() as account:
            assert (files / "root").read_text() == "root's"
            with pytest.raises(PermissionError):
                (files / "daemon").read_text()
            return account.name, account.uid

    context = replace(client_context(), accounts=ACCOUNTS)
    with connected(client=context) as (client, _), ThreadPoolExecutor(1) as threads:
        assert threads.submit(act).result() == ("root", 0)


@pytest.mark.needs_root
def test_a_datagram_socket_has_a_peer_to_act_as_for_each_address() -> None:
    def act(address: ss.Address) -> int:
        with server.impersonate_peer(address):
            return read_credentials().fsuid

    def sender(context: ss.SecurityContext) -> ss.SecureSocket:
        sock = ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=context)
        sock.settimeout(PATIENCE_S)
        sock.bind(("127.0.0.1", 0))
        return sock

    with sender(mapping_context()) as server, sender(client_context()) as machine, sender(alice_context()) as user:
        for each in (machine, user):
            each.set_peer_target_name("host/server.example", server.getsockname())
            each.sendto(b"x", server.getsockname())
        peers = [server.recvfrom(10)[1] for _ in range(2)]
        with ThreadPoolExecutor(1) as threads:
            seen = {address: threads.submit(act, address).result() for address in peers if address is not None}
        assert seen == {machine.getsockname(): 1, user.getsockname(): 65534}
        with pytest.raises(ss.LocalMisuse, match="many peers"):
            server.impersonate_peer()
        with pytest.raises(ss.LocalMisuse) as caught:
            server.impersonate_peer(("127.0.0.1", 9))
        assert caught.value.errno == errno.ENOTCONN


def test_only_a_blocking_socket_has_a_peer_to_act_as() -> None:
    with connected(server=mapping_context()) as (_, server):
        server.setblocking(False)
        with pytest.raises(ss.LocalMisuse, match="blocking") as caught:
            server.impersonate_peer()
        assert caught.value.errno == errno.EINVAL


def test_a_socket_that_is_not_connected_has_nobody() -> None:
    with ss.SecureSocket(context=mapping_context()) as sock:
        with pytest.raises(ss.LocalMisuse) as caught:
            sock.impersonate_peer()
        assert caught.value.errno == errno.ENOTCONN
    listener = ss.create_server(("127.0.0.1", 0), context=mapping_context())
    with listener, pytest.raises(ss.LocalMisuse, match=r"accept\(\)"):
        listener.impersonate_peer()


def test_a_negotiation_in_vain_and_a_broken_connection_have_nobody() -> None:
    with serving(lambda connection: None) as server, ss.SecureSocket(context=mapping_context()) as sock:
        sock.set_peer_target_name("host/other.example")
        with pytest.raises(ss.AuthenticationFailed):
            sock.connect(server.address)
        with pytest.raises(ss.LocalMisuse) as caught:
            sock.impersonate_peer()
        assert caught.value.errno == errno.ENOTCONN
    with connected(server=mapping_context()) as (client, theirs):
        os.write(client.fileno(), b"\0\3?")  # a frame of a length that no frame has
        with pytest.raises(ss.PeerMisbehaved):
            theirs.recv(1)
        with pytest.raises(ss.ConnectionBroken, match="has broken"):
            theirs.impersonate_peer()


def test_a_connection_in_clear_has_proven_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain, ThreadPoolExecutor(1) as threads:
        accepted = threads.submit(lambda: plain.accept()[0].close())
        settings = ss.SecuritySettings(allow_insecure=True)
        with ss.SecureSocket(context=mapping_context()) as sock:
            sock.settimeout(PATIENCE_S)
            sock.set_security(settings)
            sock._trust_any_unless_named()
            again = threads.submit(lambda: plain.accept()[0].close())
            sock.connect(plain.getsockname())
            assert not sock.query_security().secured
            with pytest.raises(ss.PolicyRefused, match="nobody to act as"):
                sock.impersonate_peer()
        accepted.result()
        again.result()


@pytest.mark.needs_root
@pytest.mark.parametrize("account", ["nobody", None])
def test_a_user_with_a_password_is_his_own_account_and_never_his_machines(account: str | None) -> None:
    accounts = {"host/client.example": "root"} | ({} if account is None else {"alice@example.org": account})
    context = replace(server_context(), accounts=accounts, users=ss.Users({"alice@example.org": "correct horse"}))
    settings = ss.IPsecSettings(user_name="alice", domain_name="example.org", password="correct horse")
    with (
        ss.create_server(("127.0.0.1", 0), context=context) as listener,
        ThreadPoolExecutor(1) as threads,
        connect(listener.getsockname(), settings=settings) as client,
    ):
        server, _ = listener.accept()
        with server:
            template = ws.SOCKET_SECURITY_QUERY_TEMPLATE(PeerTokenAccessMask=ws.TOKEN_QUERY)
            handle = ws.WSAQuerySocketSecurity(server, template).PeerApplicationAccessTokenHandle
            assert ws.peer_token(handle).principal == server.query_security().peer_user
            ws.CloseHandle(handle)
            if account is None:
                with pytest.raises(ss.PolicyRefused, match=r"alice@example\.org maps to no account"):
                    server.impersonate_peer()
            else:
                assert threads.submit(_file_system_user, server).result() == 65534
            server.setblocking(False)
        assert client.recv(1) == b""


def _file_system_user(connection: ss.SecureSocket) -> int:
    with connection.impersonate_peer():
        return read_credentials().fsuid
