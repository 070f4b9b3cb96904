"""A peer that breaks a rule, or a path that changes its bytes: each ends its own connection, and the server goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import securesock as ss
from securesock.identity.authority import Authority, Validity
from tests.support.loopback import Relay, Server, client_context, connect, echo, serving, until

_NOW = datetime.now(UTC)
_LAST_YEAR = Validity(_NOW - timedelta(days=400), _NOW - timedelta(days=30))
_NEXT_YEAR = Validity(_NOW + timedelta(days=30), _NOW + timedelta(days=400))


@cache
def _authority() -> Authority:
    return Authority.create("a test's authority")


def _context(folder: Path, name: str, *, validity: Validity | None = None, revoked: bool = False) -> ss.SecurityContext:
    """An identity from PEM files, as a user has it."""
    issued = _authority().issue([name], **({} if validity is None else {"validity": validity}))
    assert issued.private_key is not None
    stem = name.replace("/", "-")
    certificate, key, trust = (folder / f"{stem}.{kind}" for kind in ("pem", "key", "ca.pem"))
    certificate.write_bytes(issued.certificate.public_bytes(Encoding.PEM))
    key.write_bytes(issued.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    trust.write_bytes(_authority().pem)
    if revoked:
        _revoked[issued.certificate.serial_number] = _NOW - timedelta(days=1)
    return ss.SecurityContext(ss.Identity.from_pem(certificate, key, [trust]))


_revoked: dict[int, datetime] = {}


def _with_revocations(folder: Path, name: str) -> ss.SecurityContext:
    """One that has the authority's list beside its trust file."""
    listed = _authority().revocation_list(
        _revoked, at=_NOW - timedelta(hours=1), until=_NOW + timedelta(days=7), number=1
    )
    (folder / f"{name.replace('/', '-')}.ca.crl").write_bytes(listed.public_bytes(Encoding.PEM))
    return _context(folder, name)


def _still_serves(server: Server, client: ss.SecurityContext, peer: str) -> None:
    with connect(server.address, peer=peer, context=client) as sock:
        sock.sendall(b"still there")
        assert sock.recv(100) == b"still there"


@pytest.mark.parametrize("validity", [_LAST_YEAR, _NEXT_YEAR], ids=["expired", "not yet valid"])
def test_a_client_whose_certificate_is_out_of_its_time_is_refused(tmp_path: Path, validity: Validity) -> None:
    good = _context(tmp_path, "host/good.example")
    late = _context(tmp_path, "host/late.example", validity=validity)
    with serving(echo, context=_context(tmp_path, "host/server.example")) as server:
        with pytest.raises(ss.AuthenticationFailed):
            connect(server.address, context=late)
        until(lambda: sum(server.listener.refusals.values()) == 1)
        assert set(server.listener.refusals) <= {"expired", "not-yet-valid"}
        _still_serves(server, good, "host/server.example")


@pytest.mark.parametrize("validity", [_LAST_YEAR, _NEXT_YEAR], ids=["expired", "not yet valid"])
def test_a_server_whose_certificate_is_out_of_its_time_is_refused(tmp_path: Path, validity: Validity) -> None:
    client = _context(tmp_path, "host/good.example")
    with serving(echo, context=_context(tmp_path, "host/server.example", validity=validity)) as server:
        with pytest.raises(ss.AuthenticationFailed):
            connect(server.address, context=client)
        until(lambda: sum(server.listener.refusals.values()) == 1)
        assert server.infos == []


def test_a_client_whose_certificate_was_revoked_is_refused(tmp_path: Path) -> None:
    good = _context(tmp_path, "host/good.example")
    revoked = _context(tmp_path, "host/revoked.example", revoked=True)
    with serving(echo, context=_with_revocations(tmp_path, "host/server.example")) as server:
        with pytest.raises(ss.AuthenticationFailed):
            connect(server.address, context=revoked)
        until(lambda: server.listener.refusals["revoked"] == 1)
        _still_serves(server, good, "host/server.example")


def test_a_server_whose_certificate_was_revoked_is_refused(tmp_path: Path) -> None:
    revoked = _context(tmp_path, "host/server.example", revoked=True)
    with serving(echo, context=revoked) as server:
        with pytest.raises(ss.AuthenticationFailed) as caught:
            connect(server.address, context=_with_revocations(tmp_path, "host/good.example"))
        assert caught.value.reason == "revoked"
        assert server.infos == []


def _flip_in(number: int, at: int) -> Callable[[bytes], bytes]:
    """Change one bit of the nth chunk of a direction."""
    seen = 0

    def flip(data: bytes) -> bytes:
        nonlocal seen
        seen += 1
        if seen != number:
            return data
        assert at < len(data)
        return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]

    return flip


# IKETCP, length, marker, SPIs, next payload, version, exchange, flags, id, length, first payload, its content
@pytest.mark.parametrize("at", [0, 3, 6, 7, 9, 13, 21, 28, 29, 30, 31, 35, 38, 42, 50, 120, 200])
@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_a_bit_flipped_in_the_first_message_lets_nobody_in(direction: str, at: int) -> None:
    """Whatever it hits, the ends do not agree on what was said, and AUTH covers it all (RFC 7296 2.15)."""
    with serving(echo) as server, Relay(server.address, **{direction: _flip_in(1, at)}) as relay:
        with pytest.raises((ss.SecureSocketError, TimeoutError)) as caught:
            connect(relay.address, timeout=0.7)
        assert not isinstance(caught.value, ss.LocalMisuse)
        assert server.infos == []
        with connect(server.address) as sock:
            sock.sendall(b"still there")
            assert sock.recv(100) == b"still there"


@pytest.mark.parametrize("at", [0, 1, 2, 5, 10, 20, 24, 33, 40, 60, 79])
@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_a_bit_flipped_in_a_protected_message_lets_nobody_in(direction: str, at: int) -> None:
    with serving(echo) as server, Relay(server.address, **{direction: _flip_in(2, at)}) as relay:
        with pytest.raises((ss.SecureSocketError, TimeoutError)) as caught:
            connect(relay.address, timeout=0.7)
        assert not isinstance(caught.value, ss.LocalMisuse)
        assert server.infos == []


@pytest.mark.parametrize(
    ("direction", "number"), [("to_server", number) for number in (1, 2, 3, 4)] + [("to_client", 1), ("to_client", 2)]
)
def test_a_path_that_ends_in_the_middle_of_the_negotiation_is_an_error_on_both_sides(
    direction: str, number: int
) -> None:
    """IKE_SA_INIT, IKE_INTERMEDIATE, IKE_AUTH, and the client's confirmation."""
    seen = 0

    def cut(data: bytes) -> bytes | None:
        nonlocal seen
        seen += 1
        return None if seen == number else data

    with serving(echo) as server, Relay(server.address, **{direction: cut}) as relay:
        if (direction, number) == ("to_server", 4):
            # Everything is agreed on at the client's end but its own confirmation; the server has not heard it.
            with connect(relay.address) as sock, pytest.raises(ConnectionResetError):
                sock.recv(1)
        else:
            with pytest.raises((ss.PeerMisbehaved, ConnectionResetError)):
                connect(relay.address)
        until(lambda: sum(server.listener.refusals.values()) == 1)
        assert server.infos == []


def test_many_bad_peers_at_once_delay_no_good_one() -> None:
    refused: list[bool] = []

    def try_to_connect(address: ss.Address) -> None:
        try:
            connect(address, timeout=5).close()
        except ss.SecureSocketError:
            refused.append(True)

    def spoil(data: bytes) -> bytes:
        return data[:60] + bytes([data[60] ^ 4]) + data[61:]

    with serving(echo) as server, Relay(server.address, to_server=spoil) as relay:
        threads = [threading.Thread(target=try_to_connect, args=(relay.address,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            with connect(server.address, context=client_context(), timeout=5) as sock:
                sock.sendall(b"good")
                assert sock.recv(100) == b"good"
        for thread in threads:
            thread.join()
        assert len(refused) == 8
