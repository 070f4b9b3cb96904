"""Token handles and impersonation by their Windows names: who gets one, who closes it, and every refusal's code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Final

import pytest

import securesock as ss
from securesock.identity import impersonation
from securesock.identity.thread_credentials import CAP_SETUID, read_credentials, write_credentials
from securesock.policy.access import allow
from securesock.winsock import (
    SIO_QUERY_SECURITY,
    SOCKET_INFO_CONNECTION_IMPERSONATED,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    TOKEN_IMPERSONATE,
    TOKEN_QUERY,
    WSA_INVALID_HANDLE,
    WSAEACCES,
    WSAEINVAL,
    WSAEMSGSIZE,
    WSAEOPNOTSUPP,
    WSASYSCALLFAILURE,
    CloseHandle,
    WSAError,
    WSAImpersonateSocketPeer,
    WSAIoctl,
    WSAQuerySocketSecurity,
    WSARevertImpersonation,
    open_token_handles,
    peer_token,
)
from securesock.winsock.tokens import open_token
from tests.support.loopback import client_context, connected, server_context

QUERY: Final = SOCKET_SECURITY_QUERY_TEMPLATE(PeerTokenAccessMask=TOKEN_QUERY)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    before = open_token_handles()
    yield
    assert open_token_handles() == before


def refused(call: Callable[[], object]) -> int:
    with pytest.raises(WSAError) as caught:
        call()
    return caught.value.winerror


def user_context() -> ss.SecurityContext:
    """alice@example.org, of the server's authority."""
    return ss.SecurityContext(ss.Identity.ephemeral("alice@example.org", authority=server_context().identity.authority))


@pytest.mark.parametrize("template", [QUERY, SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(PeerTokenAccessMask=TOKEN_QUERY)])
@pytest.mark.parametrize("packed", [False, True])
def test_a_machine_has_a_machine_token_and_no_application_token(
    template: SOCKET_SECURITY_QUERY_TEMPLATE | SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2, packed: bool
) -> None:
    with connected() as (client, server):
        for sock, name in ((client, "host/server.example"), (server, "host/client.example")):
            info = WSAQuerySocketSecurity(sock, template.pack() if packed else template)
            assert info.PeerApplicationAccessTokenHandle == 0
            token = peer_token(info.PeerMachineAccessTokenHandle)
            assert token.principal == sock.query_security().peer_machine
            assert token.principal.name == name
            assert allow("host/*.example").admits(token.access_token)
            assert CloseHandle(info.PeerMachineAccessTokenHandle) == 1


def test_a_user_has_an_application_token_and_the_connection_counts_as_impersonated() -> None:
    with connected(client=user_context()) as (_, server):
        info = WSAQuerySocketSecurity(server, QUERY)
        assert SOCKET_INFO_CONNECTION_IMPERSONATED in info.Flags
        assert info.PeerMachineAccessTokenHandle == 0
        assert peer_token(info.PeerApplicationAccessTokenHandle).principal.name == "alice@example.org"
        assert CloseHandle(info.PeerApplicationAccessTokenHandle) == 1


def test_without_a_mask_there_are_no_handles() -> None:
    with connected() as (client, _):
        for template in (None, SOCKET_SECURITY_QUERY_TEMPLATE(), SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2()):
            info = WSAQuerySocketSecurity(client, template)
            assert (info.PeerApplicationAccessTokenHandle, info.PeerMachineAccessTokenHandle) == (0, 0)


def test_each_query_hands_out_a_handle_of_its_own_and_leaks_are_counted() -> None:
    before = open_token_handles()
    with connected() as (client, _):
        handles = [WSAQuerySocketSecurity(client, QUERY).PeerMachineAccessTokenHandle for _ in range(3)]
    assert len(set(handles)) == 3
    assert open_token_handles() == before + 3  # also after the socket is closed
    for handle in handles:
        CloseHandle(handle)


def test_a_handle_is_closed_once() -> None:
    with connected() as (client, _):
        handle = WSAQuerySocketSecurity(client, QUERY).PeerMachineAccessTokenHandle
    CloseHandle(handle)
    assert refused(lambda: CloseHandle(handle)) == WSA_INVALID_HANDLE
    assert refused(lambda: peer_token(handle)) == WSA_INVALID_HANDLE
    assert refused(lambda: CloseHandle(0)) == WSA_INVALID_HANDLE


@pytest.mark.parametrize(("mask", "may"), [(8, True), (4, False), (12, True), (1 << 25, True), (1 << 31, True)])
def test_a_token_is_read_with_the_right_to_query(mask: int, may: bool) -> None:
    with connected() as (client, _):
        handle = WSAQuerySocketSecurity(client, replace(QUERY, PeerTokenAccessMask=mask)).PeerMachineAccessTokenHandle
    try:
        if may:
            assert peer_token(handle).access == mask
        else:
            assert mask == TOKEN_IMPERSONATE
            assert refused(lambda: peer_token(handle)) == WSAEACCES
    finally:
        CloseHandle(handle)


def test_a_query_that_fails_opens_nothing() -> None:
    with connected() as (client, _):
        assert refused(lambda: WSAQuerySocketSecurity(client, QUERY, info_length=23)) == WSAEMSGSIZE
        assert refused(lambda: WSAQuerySocketSecurity(client, QUERY, info_length=0)) == WSAEMSGSIZE
        assert refused(lambda: WSAIoctl(client, SIO_QUERY_SECURITY, QUERY, bytearray(10))) == WSAEMSGSIZE


def test_the_control_code_writes_the_handle_too() -> None:
    room = bytearray(24)
    with connected() as (client, _):
        info = WSAIoctl(client, SIO_QUERY_SECURITY, QUERY, room)
    assert int.from_bytes(room[16:24], "little") == info.PeerMachineAccessTokenHandle != 0
    CloseHandle(info.PeerMachineAccessTokenHandle)


def test_a_child_begins_without_its_parents_handles() -> None:
    handle = open_token(ss.Principal("host/app.example"), 8)
    child = os.fork()
    if child == 0:
        os._exit(open_token_handles())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert open_token_handles() >= 1
    CloseHandle(handle)


# -- impersonation -----------------------------------------------------------------------------------------------------


def mapped(**accounts: str) -> ss.SecurityContext:
    """The server's context, with an account for its clients."""
    return replace(server_context(), accounts={"host/client.example": "daemon", **accounts})


def as_the_client_in_a_thread(sock: ss.SecureSocket) -> list[int]:
    """fsuid in between and after, in a thread of its own."""

    def act() -> list[int]:
        assert WSAImpersonateSocketPeer(sock) == 0
        between = read_credentials().fsuid
        assert WSARevertImpersonation() == 0
        return [between, read_credentials().fsuid]

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(act).result()


@pytest.mark.needs_root
def test_the_thread_acts_as_the_clients_account_until_it_reverts() -> None:
    with connected(server=mapped()) as (_, server):
        assert as_the_client_in_a_thread(server) == [1, 0]
        assert as_the_client_in_a_thread(server) == [1, 0]  # as often as one likes


@pytest.mark.needs_root
def test_each_use_is_reverted_by_itself() -> None:
    def act() -> list[int]:
        seen = []
        for _ in range(2):
            WSAImpersonateSocketPeer(server)
        for _ in range(3):
            seen.append(read_credentials().fsuid)
            WSARevertImpersonation()
        return seen

    with connected(server=mapped()) as (_, server), ThreadPoolExecutor(1) as threads:
        assert threads.submit(act).result() == [1, 1, 0]


@pytest.mark.parametrize("accounts", [{}, {"host/other.example": "daemon"}, {"host/client.example": "no-such-account"}])
def test_a_peer_without_an_account_is_refused(accounts: dict[str, str]) -> None:
    with connected(server=replace(server_context(), accounts=accounts)) as (_, server):
        assert refused(lambda: WSAImpersonateSocketPeer(server)) == WSAEACCES
        with pytest.raises(ss.PolicyRefused, match="account"), server.impersonate_peer():
            raise AssertionError("entered")


@pytest.mark.needs_root
def test_without_the_privilege_it_is_no_access() -> None:
    def act() -> tuple[int, bool]:
        own = read_credentials()
        write_credentials(own._replace(effective=own.effective & ~CAP_SETUID))
        before = read_credentials()
        return refused(lambda: WSAImpersonateSocketPeer(server)), read_credentials() == before

    with connected(server=mapped()) as (_, server), ThreadPoolExecutor(1) as threads:
        assert threads.submit(act).result() == (WSAEACCES, True)


def test_in_an_event_loop_and_on_a_foreign_machine_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act() -> int:
        return refused(lambda: WSAImpersonateSocketPeer(server))

    with connected(server=mapped()) as (_, server):
        assert asyncio.run(act()) == WSAEINVAL
        monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="riscv64"))
        assert refused(lambda: WSAImpersonateSocketPeer(server)) == WSAEOPNOTSUPP


@pytest.mark.needs_root
def test_a_system_that_does_otherwise_is_a_system_call_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impersonation, "write_credentials", lambda wanted: None)
    with connected(server=mapped()) as (_, server):
        assert refused(lambda: WSAImpersonateSocketPeer(server)) == WSASYSCALLFAILURE
    assert read_credentials().fsuid == 0
    assert client_context().accounts == {}
