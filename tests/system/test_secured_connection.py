"""The promise itself, on real sockets: proven, sealed, delivered in order, and reported as it is."""

from __future__ import annotations

import hashlib
import io
import random
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest

import securesock as ss
from tests.support.loopback import (
    LINGER,
    PATIENCE_S,
    Relay,
    client_context,
    connect,
    connected,
    echo,
    server_context,
    serving,
    stranger_context,
    until,
)


def test_both_ends_know_who_the_other_is_and_what_protects_them() -> None:
    with connected() as (ours, theirs):
        for info, peer in (
            (ours.query_security(), "host/server.example"),
            (theirs.query_security(), "host/client.example"),
        ):
            assert info.secured
            assert info.encrypted
            assert info.protocol == "ipsec"
            assert info.keying == "ikev2"
            assert info.plane == "userspace"
            assert str(info.peer_machine) == peer
            assert info.peer_machine is not None
            assert info.peer_machine.method == "x509"
            assert info.peer_machine.evidence
            assert info.peer_user is None
            assert "GCM" in info.quick_mode_suite
            assert info.key_exchange == "X25519+ML-KEM-768"
            assert info.main_mode_sa_id
            assert info.quick_mode_sa_id
            assert info.differences == ()
            assert info.latch == "established"
            assert info.rekeys == 0
            assert info.established_at is not None
            assert timedelta(0) <= datetime.now(UTC) - info.established_at < timedelta(minutes=1)
            assert info.requested_address == theirs.getsockname()
        assert ours.query_security().main_mode_suite == theirs.query_security().main_mode_suite
        assert ours.getpeername() == theirs.getsockname()


def test_the_three_lines_and_the_long_form_do_the_same() -> None:
    with serving(echo) as server:
        sock = ss.SecureSocket(socket.AF_INET, socket.SOCK_STREAM, context=client_context())
        sock.set_security(ss.IPsecSettings(guarantee_encryption=True))
        sock.set_peer_target_name("host/server.example")
        with sock:
            sock.connect(server.address)
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"
            assert sock.query_security().asked == ss.IPsecSettings(guarantee_encryption=True)


def test_the_listeners_settings_are_those_of_what_it_accepts() -> None:
    settings = ss.SecuritySettings(guarantee_encryption=True)
    with serving(echo, settings=settings) as server, connect(server.address) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        assert server.infos[0].asked == settings


def test_no_byte_of_the_application_is_seen_on_the_wire() -> None:
    secret = b"the quick brown fox jumps over the lazy dog " * 100
    with serving(echo) as server, Relay(server.address) as relay:
        with connect(relay.address) as sock:
            sock.sendall(secret)
            received = bytearray()
            while len(received) < len(secret):
                received += sock.recv(1 << 16)
        assert received == secret
        windows = {secret[start : start + 8] for start in range(len(secret) - 7)}
        for recorded in relay.recorded.values():
            assert len(recorded) > len(secret)
            assert not any(bytes(recorded[at : at + 8]) in windows for at in range(len(recorded) - 7))


def test_a_large_transfer_arrives_whole_and_in_order_in_both_directions() -> None:
    size = 24 << 20
    sent = random.Random(1).randbytes(size)
    with connected() as (ours, theirs):
        digests: dict[str, str] = {}

        def receive(name: str, sock: ss.SecureSocket) -> None:
            digest, buffer = hashlib.sha256(), bytearray(1 << 18)
            while count := sock.recv_into(buffer):
                digest.update(memoryview(buffer)[:count])
            digests[name] = digest.hexdigest()

        def send(sock: ss.SecureSocket) -> None:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)

        threads = [threading.Thread(target=receive, args=each) for each in (("ours", ours), ("theirs", theirs))]
        threads += [threading.Thread(target=send, args=(each,)) for each in (ours, theirs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        expected = hashlib.sha256(sent).hexdigest()
        assert digests == {"ours": expected, "theirs": expected}


@pytest.mark.parametrize("size", [1, 3, 64, 1399, 65478, 65479, 131_072, 1_000_003])
def test_writes_of_every_size_come_out_as_they_went_in(size: int) -> None:
    data = random.Random(size).randbytes(size)
    with connected() as (ours, theirs):
        thread = threading.Thread(target=ours.sendall, args=(data,))
        thread.start()
        received = bytearray()
        while len(received) < size:
            received += theirs.recv(1 << 20)
        thread.join(PATIENCE_S)
        assert received == data


def test_ipv6_works_and_a_literal_is_proven_as_such() -> None:
    with serving(echo, host="::1", family=socket.AF_INET6) as server, connect(server.address, peer=None) as sock:
        assert str(sock.query_security().peer_machine) == "::1"
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"


def test_a_dual_stack_listener_and_an_ipv4_client_agree_on_their_addresses() -> None:
    with ss.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, context=server_context()) as listener:
        listener.settimeout(PATIENCE_S)
        port = listener.getsockname()[1]
        with connect(("127.0.0.1", port)) as sock:
            accepted, address = listener.accept()
            with accepted:
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER.pack(1, 0))
                assert address[0] == "::ffff:127.0.0.1"
                assert accepted.query_security().requested_address == ("127.0.0.1", port)
                assert accepted.query_security().differences == ()
                sock.sendall(b"x")
                assert accepted.recv(1) == b"x"


# -- who is expected -------------------------------------------------------------------------------------------------


def test_without_a_name_an_ip_literal_must_be_proven_as_such() -> None:
    with serving(echo) as server, connect(server.address, peer=None) as sock:
        assert str(sock.query_security().peer_machine) == "127.0.0.1"


def test_without_a_name_the_host_name_of_the_address_must_be_proven() -> None:
    with serving(echo) as server, pytest.raises(ss.AuthenticationFailed, match="localhost"):
        connect(("localhost", server.address[1]), peer=None)


def test_another_name_is_refused_and_the_error_says_both() -> None:
    with serving(echo) as server:
        with pytest.raises(ss.AuthenticationFailed) as caught:
            connect(server.address, peer="host/other.example")
        assert "other.example" in str(caught.value)
        until(lambda: server.listener.refusals["AuthenticationFailed"] == 1)
        assert server.infos == []


def test_any_trusted_peer_is_accepted_aloud() -> None:
    with (
        serving(echo) as server,
        ss.create_connection(server.address, PATIENCE_S, peer=ss.ANY_TRUSTED_PEER, context=client_context()) as sock,
    ):
        info = sock.query_security()
        assert info.peer_machine is not None
        assert any("any machine of the trust anchors was accepted" in each for each in info.differences)


def test_a_pinned_key_replaces_the_chain() -> None:
    pinned = ss.Identity.ephemeral("host/pinned.example", authority=stranger_context().identity.authority)
    assert pinned.pin
    trusted_by_nobody_here = ss.SecurityContext(pinned)
    client = ss.SecurityContext(
        ss.Identity.ephemeral("host/client.example", authority=stranger_context().identity.authority)
    )
    with serving(echo, context=trusted_by_nobody_here) as server:
        with connect(server.address, peer=pinned.pin, context=client) as sock:
            assert str(sock.query_security().peer_machine) == pinned.pin
        with pytest.raises(ss.AuthenticationFailed):
            connect(server.address, peer="sha256:" + "0" * 64, context=client)


def test_two_ends_without_any_authority_know_each_other_by_their_keys_alone() -> None:
    ours, theirs, other = (ss.Identity.ephemeral(f"host/{name}.example") for name in ("a", "b", "c"))
    assert ours.pin
    assert theirs.pin
    with serving(echo, context=ss.SecurityContext(theirs), allow=[ours.pin]) as server:
        with connect(server.address, peer=theirs.pin, context=ss.SecurityContext(ours)) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5) == b"hello"
        with pytest.raises(ss.AuthenticationFailed):
            connect(server.address, peer=theirs.pin, context=ss.SecurityContext(other))


def test_a_server_of_another_authority_is_refused_by_the_client() -> None:
    with serving(echo, context=stranger_context()) as server:
        with pytest.raises(ss.AuthenticationFailed):
            connect(server.address, peer="host/client.example")
        assert server.infos == []


def test_a_client_of_another_authority_is_refused_and_its_connect_raises() -> None:
    with serving(echo) as server:
        with pytest.raises(ss.AuthenticationFailed):
            connect(server.address, context=stranger_context())
        until(lambda: sum(server.listener.refusals.values()) == 1)
        with connect(server.address) as sock:
            sock.sendall(b"still there")
            assert sock.recv(100) == b"still there"
        assert len(server.infos) == 1


def test_pre_shared_keys_prove_names_too() -> None:
    secret = bytes(range(32))
    ours = ss.SecurityContext(ss.Identity.from_psk("a.example", {"b.example": secret}))
    theirs = ss.SecurityContext(ss.Identity.from_psk("b.example", {"a.example": secret}))
    with serving(echo, context=theirs) as server, connect(server.address, peer="host/b.example", context=ours) as sock:
        peer = sock.query_security().peer_machine
        assert peer == ss.Principal("host/b.example", "machine", "psk")
        until(lambda: server.infos)
        assert str(server.infos[0].peer_machine) == "host/a.example"


def test_a_pre_shared_key_that_differs_is_refused() -> None:
    ours = ss.SecurityContext(ss.Identity.from_psk("a.example", {"b.example": bytes(32)}))
    theirs = ss.SecurityContext(ss.Identity.from_psk("b.example", {"a.example": bytes(range(32))}))
    with serving(echo, context=theirs) as server:
        with pytest.raises(ss.AuthenticationFailed):
            connect(server.address, peer="host/b.example", context=ours)
        assert server.infos == []


@pytest.mark.parametrize("allow", [["host/client.example"], ["*.example"], ["spiffe://x/y", "client.example"]])
def test_a_principal_on_the_list_is_let_in(allow: list[str]) -> None:
    with serving(echo, allow=allow) as server, connect(server.address) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"


@pytest.mark.parametrize("allow", [[], ["host/other.example"], ["*.other"]])
def test_a_principal_that_is_not_on_the_list_gets_an_error_from_connect(allow: list[str]) -> None:
    with serving(echo, allow=allow) as server:
        with pytest.raises(ss.AuthenticationFailed):
            connect(server.address)
        until(lambda: sum(server.listener.refusals.values()) == 1)
        assert server.infos == []


# -- through a relay ---------------------------------------------------------------------------------------------------


def test_through_a_relay_both_ends_see_what_was_asked_for() -> None:
    with serving(echo) as server, Relay(server.address) as relay:
        with connect(relay.address) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        info = server.infos[0]
        assert info.requested_address == relay.address
        assert any("translated" in each for each in info.differences)


def test_public_addresses_refuse_a_client_that_asked_for_another() -> None:
    with serving(echo, public_addresses=(("203.0.113.1", 443),)) as server, Relay(server.address) as relay:
        with pytest.raises(ss.SecureSocketError):
            connect(relay.address)
        until(lambda: sum(server.listener.refusals.values()) == 1)
        assert server.infos == []


def test_public_addresses_admit_a_client_that_asked_for_one_of_them() -> None:
    relay = Relay(("127.0.0.1", 9))
    with relay, serving(echo, public_addresses=(relay.address,)) as server:
        relay._target = server.address
        with connect(relay.address) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"


# -- what one end may require ------------------------------------------------------------------------------------------


def test_hybrid_required_is_met_by_a_default_peer_and_refused_by_a_classical_one() -> None:
    required = ss.SecurityContext(client_context().identity, key_exchange="hybrid-required")
    classical = ss.SecurityContext(server_context().identity, key_exchange="classical")
    with serving(echo) as server, connect(server.address, context=required) as sock:
        assert "ML-KEM-768" in sock.query_security().key_exchange
    with serving(echo, context=classical) as server, pytest.raises(ss.PeerIncompatible):
        connect(server.address, context=required)


def test_a_classical_peer_is_accepted_by_default_and_the_difference_is_said() -> None:
    classical = ss.SecurityContext(server_context().identity, key_exchange="classical")
    with serving(echo, context=classical) as server, connect(server.address) as sock:
        info = sock.query_security()
        assert info.key_exchange == "X25519"
        assert any("asked for a hybrid key exchange" in each for each in info.differences)


# -- the calls of a socket ---------------------------------------------------------------------------------------------


def test_every_receiving_call_delivers_the_stream() -> None:
    with connected() as (ours, theirs):
        ours.sendall(b"0123456789abcdefghij")
        assert theirs.recv(2, socket.MSG_PEEK) == b"01"
        assert theirs.recv(2) == b"01"
        assert theirs.pending() == 18
        assert theirs.recvfrom(2) == (b"23", None)
        buffer = bytearray(4)
        assert theirs.recv_into(buffer, 2) == 2
        assert buffer == b"45\0\0"
        assert theirs.recv_into(memoryview(buffer), 0, socket.MSG_PEEK) == 4
        assert buffer == b"6789"
        assert theirs.recvfrom_into(buffer) == (4, None)
        assert theirs.recvmsg(2) == (b"ab", [], 0, None)
        pair = [bytearray(2), bytearray(3)]
        assert theirs.recvmsg_into(pair) == (5, [], 0, None)
        assert pair == [b"cd", b"efg"]
        assert theirs.recv(0) == b""
        assert theirs.recv(100) == b"hij"
        assert theirs.pending() == 0


def test_every_sending_call_is_sealed() -> None:
    with connected() as (ours, theirs):
        assert ours.send(b"a") == 1
        assert ours.send(bytearray(b"b")) == 1
        assert ours.send(memoryview(b"xcx")[1:2]) == 1
        ours.sendall(b"d")
        assert ours.sendmsg([b"e", b"f"]) == 2
        assert ours.sendfile(io.BytesIO(b"..gh.."), 2, 2) == 2
        assert ours.send(b"") == 0
        ours.sendall(b"")
        ours.shutdown(socket.SHUT_WR)
        received = b""
        while data := theirs.recv(100):
            received += data
        assert received == b"abcdefgh"


SCM_RIGHTS = 1  # socket.SCM_RIGHTS, and the next one: which not every platform has
DONT_WAIT = int(getattr(socket, "MSG_DONTWAIT", 0x40))


def test_wrong_arguments_are_refused_before_anything_is_sent() -> None:
    with connected() as (ours, theirs):
        for call in (
            lambda: ours.recv(1, DONT_WAIT),
            lambda: ours.recv(1, socket.MSG_OOB),
            lambda: ours.send(b"x", socket.MSG_OOB),
            lambda: ours.sendall(b"x", DONT_WAIT),
            lambda: ours.sendmsg([b"x"], [(socket.SOL_SOCKET, SCM_RIGHTS, b"\0\0\0\0")]),
            lambda: ours.sendmsg([b"x"], (), 0, ("127.0.0.1", 9)),
            lambda: ours.sendto(b"x", ("127.0.0.1", 9)),
        ):
            with pytest.raises(ss.LocalMisuse):
                call()
        with pytest.raises(ValueError, match="negative"):
            ours.recv(-1)
        with pytest.raises(ValueError, match="small"):
            ours.recv_into(bytearray(1), 2)
        with pytest.raises(TypeError):
            ours.recv_into(b"read only")
        with pytest.raises(TypeError):
            ours.send("text")
        with pytest.raises(ValueError, match="positive"):
            ours.sendfile(io.BytesIO(b"x"), 0, 0)
        theirs.settimeout(0)
        with pytest.raises(ss.WantRead):
            theirs.recv(1)


def test_sendfile_leaves_the_file_behind_what_was_sent() -> None:
    with connected() as (ours, theirs):
        file = io.BytesIO(bytes(range(200)))
        assert ours.sendfile(file, 10, 50) == 50
        assert file.tell() == 60
        assert ours.sendfile(file, 150) == 50
        assert file.tell() == 200
        ours.shutdown(socket.SHUT_WR)
        with theirs.makefile("rb") as received:
            assert received.read() == bytes(range(10, 60)) + bytes(range(150, 200))


def test_makefile_reads_lines_and_writes() -> None:
    with connected() as (ours, theirs), ours.makefile("rwb") as file:
        file.write(b"one\ntwo\n")
        file.flush()
        with theirs.makefile("r", encoding="ascii") as lines:
            assert lines.readline() == "one\n"
            assert lines.readline() == "two\n"
        theirs.sendall(b"three\n")
        assert file.readline() == b"three\n"


def test_a_file_keeps_the_socket_open_until_it_is_closed_too() -> None:
    with connected() as (ours, theirs):
        file = theirs.makefile("rb")
        theirs.close()
        assert theirs.fileno() >= 0
        ours.sendall(b"late\n")
        assert file.readline() == b"late\n"
        theirs.setblocking(False)
        file.close()
        assert theirs.fileno() == -1
        assert ours.recv(1) == b""


def test_half_close_ends_one_direction_only() -> None:
    with connected() as (ours, theirs):
        ours.sendall(b"question")
        ours.shutdown(socket.SHUT_WR)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            ours.send(b"more")
        assert theirs.recv(100) == b"question"
        assert theirs.recv(100) == b""
        assert theirs.recv(100) == b""
        theirs.sendall(b"answer" * 10_000)
        theirs.shutdown(socket.SHUT_WR)
        received = b""
        while data := ours.recv(1 << 20):
            received += data
        assert received == b"answer" * 10_000


def test_our_own_end_of_reading_is_not_the_peers() -> None:
    with connected() as (ours, theirs):
        ours.sendall(b"kept")
        assert theirs.recv(1) == b"k"
        theirs.shutdown(socket.SHUT_RD)
        assert theirs.recv(100) == b"ept"
        assert theirs.recv(100) == b""
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"


def test_options_are_the_carriers() -> None:
    with connected() as (ours, _):
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
