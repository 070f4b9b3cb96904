"""EAP-TLS in pieces, and what an end that does not keep to it is worth."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509

from securesock.errors import AuthenticationFailed, PeerMisbehaved
from securesock.identity.identity import Identity
from securesock.identity.names import parse_peer_target_name
from securesock.identity.users import UserName
from securesock.keying.eap import tls
from securesock.keying.eap.exchange import ProvenUser, UserNotProven
from securesock.keying.eap.tls import FRAGMENT, MAX_TLS_MESSAGE, CertificatePeer, CertificateServer, TlsFragments
from securesock.secret import Secret
from securesock.wire.eap import EapTlsData, parse_tls_data_untrusted, write_tls_data
from tests.unit.identity.mill import NOW as THEN
from tests.unit.identity.mill import Order, make, make_authority

NOW = datetime.now(UTC)
ACK = write_tls_data(EapTlsData())


@pytest.fixture(scope="module")
def machine() -> Identity:
    return Identity.ephemeral("host/server.example")


@pytest.fixture(scope="module")
def alice(machine: Identity) -> Identity:
    return Identity.ephemeral("alice@example.org", authority=machine.authority)


@pytest.mark.parametrize("length", [0, 1, FRAGMENT, FRAGMENT + 1, 3 * FRAGMENT, MAX_TLS_MESSAGE])
def test_a_flight_arrives_as_it_was(length: int) -> None:
    flight = bytes(each % 251 for each in range(length))
    ours, peers = TlsFragments(), TlsFragments()
    piece = parse_tls_data_untrusted(ours.put(flight))
    assert (piece.total is not None) == (length > FRAGMENT)
    while (whole := peers.take(piece)) is None:
        assert ours.sending
        piece = parse_tls_data_untrusted(ours.next())
    assert whole == flight
    assert not ours.sending


@pytest.mark.parametrize(
    "pieces",
    [
        [EapTlsData(b"x", MAX_TLS_MESSAGE + 1, True)],
        [EapTlsData(b"", None, True)],
        [EapTlsData(b"x", 3, True), EapTlsData(b"y")],
        [EapTlsData(b"x", 3, True), EapTlsData(b"y", 4, True)],
        [EapTlsData(b"x" * 9000, None, True), EapTlsData(b"x" * 9000)],
    ],
)
def test_pieces_that_lie_or_never_end_are_refused(pieces: list[EapTlsData]) -> None:
    fragments = TlsFragments()
    with pytest.raises(PeerMisbehaved):
        for each in pieces:
            fragments.take(each)


def ends(machine: Identity, alice: Identity) -> tuple[CertificatePeer, CertificateServer]:
    expected = parse_peer_target_name("host/server.example")
    server = CertificateServer(machine, None, NOW)
    server.begin(None, 1)
    return CertificatePeer(alice, machine, expected, NOW), server


def played(peer: CertificatePeer, server: CertificateServer) -> ProvenUser:
    data = peer.respond(write_tls_data(EapTlsData(start=True)))
    while True:
        answer = server.answer(data, 2)
        if isinstance(answer, ProvenUser):
            return answer
        data = peer.respond(answer)


def test_both_ends_have_the_same_key(machine: Identity, alice: Identity) -> None:
    peer, server = ends(machine, alice)
    proven = played(peer, server)
    ours = peer.succeed()
    assert len(ours) == 64
    assert ours.matches(proven.msk)
    assert proven.principal.name == "alice@example.org"
    found = peer.proven_server()
    assert found is not None
    assert found.principal.name == "host/server.example"
    assert not server.refused


def test_a_stranger_who_says_nothing_costs_no_handshake(machine: Identity, alice: Identity) -> None:
    peer, server = ends(machine, alice)
    assert server._begun is None
    assert server.answer(write_tls_data(EapTlsData(b"\x16", 200, more=True)), 2) == ACK
    assert server._begun is None
    peer, server = ends(machine, alice)
    played(peer, server)
    assert server._begun is not None


def test_success_before_the_end_is_not_believed(machine: Identity, alice: Identity) -> None:
    peer, server = ends(machine, alice)
    with pytest.raises(AuthenticationFailed, match="before EAP-TLS was done"):
        peer.succeed()
    data = peer.respond(write_tls_data(EapTlsData(start=True)))
    data = peer.respond(server.answer(data, 2))
    with pytest.raises(AuthenticationFailed, match="before EAP-TLS was done"):
        peer.succeed()  # TLS is up on our side; the protected indication did not come (RFC 9190 2.5)


def test_application_data_that_is_no_success_is_refused(
    machine: Identity, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securesock.keying.eap.tls_handshake.SUCCESS", b"\x01")
    peer, server = ends(machine, alice)
    data = peer.respond(write_tls_data(EapTlsData(start=True)))
    answer = b""
    while not server._done:
        answer = server.answer(data, 2)
        if not server._done:
            data = peer.respond(answer)
    monkeypatch.undo()
    while server._fragments.sending:
        data = peer.respond(answer)
        answer = server.answer(data, 2)
    peer.respond(answer)
    with pytest.raises(AuthenticationFailed, match="application data"):
        peer.succeed()


def test_the_start_comes_first_and_once(machine: Identity, alice: Identity) -> None:
    start = write_tls_data(EapTlsData(start=True))
    for before, data in (((), ACK), ((start,), start), ((), write_tls_data(EapTlsData(b"x", start=True)))):
        peer, _ = ends(machine, alice)
        for each in before:
            peer.respond(each)
        with pytest.raises(PeerMisbehaved):
            peer.respond(data)


def test_nobody_interrupts_a_flight_in_pieces(
    machine: Identity, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securesock.keying.eap.tls.FRAGMENT", 100)
    peer, server = ends(machine, alice)
    data = peer.respond(write_tls_data(EapTlsData(start=True)))
    with pytest.raises(PeerMisbehaved, match="interrupts"):
        peer.respond(write_tls_data(EapTlsData(b"x")))
    while peer._fragments.sending:
        assert server.answer(data, 2) == ACK
        data = peer.respond(ACK)
    server.answer(data, 2)
    assert server._fragments.sending
    with pytest.raises(UserNotProven, match="interrupts"):
        server.answer(write_tls_data(EapTlsData(b"x")), 2)


def test_nothing_follows_the_end(machine: Identity, alice: Identity) -> None:
    peer, server = ends(machine, alice)
    played(peer, server)
    with pytest.raises(PeerMisbehaved, match="after its end"):
        peer.respond(ACK)


def test_junk_for_a_handshake_is_a_failed_user(machine: Identity, alice: Identity) -> None:
    _, server = ends(machine, alice)
    alert = server.answer(write_tls_data(EapTlsData(b"\x16\x03\x01\x00\x05hello")), 2)
    assert isinstance(alert, bytes)
    assert server.refused
    with pytest.raises(UserNotProven, match="TLS handshake failed"):
        server.answer(ACK, 3)


def test_a_pinned_machine_needs_no_authority(machine: Identity, alice: Identity) -> None:
    assert machine.pin is not None
    nobody = Identity.anonymous()
    server = CertificateServer(machine, None, NOW)
    server.begin(None, 1)
    peer = CertificatePeer(alice, nobody, parse_peer_target_name(machine.pin), NOW)
    assert played(peer, server).msk.matches(peer.succeed())
    assert isinstance(peer.succeed(), Secret)
    found = peer.proven_server()
    assert found is not None
    assert found.principal.name == machine.pin


def test_a_machine_is_no_user(machine: Identity, alice: Identity) -> None:
    peer, server = ends(machine, machine)
    data = peer.respond(write_tls_data(EapTlsData(start=True)))
    with pytest.raises(UserNotProven, match="names no user"):
        while True:
            answer = server.answer(data, 2)
            assert isinstance(answer, bytes)
            data = peer.respond(answer)
    with pytest.raises(AuthenticationFailed):
        raise peer.fail()


def test_a_claim_that_is_no_mailbox_leaves_the_certificate_the_word(machine: Identity, alice: Identity) -> None:
    peer, server = ends(machine, alice)
    server.begin(UserName("jürgen", "example.org"), 1)
    assert played(peer, server).principal.name == "alice@example.org"


def test_a_certificate_that_cannot_be_read_names_nobody() -> None:
    with pytest.raises(AuthenticationFailed, match="cannot be read"):
        tls._first_mailbox(b"no certificate")


def test_whoever_ends_with_an_alert_instead_of_an_acknowledgement_is_not_proven(
    machine: Identity, alice: Identity
) -> None:
    peer, server = ends(machine, alice)
    data = peer.respond(write_tls_data(EapTlsData(start=True)))
    while not server._done:
        answer = server.answer(data, 2)
        assert isinstance(answer, bytes)
        if not server._done:
            data = peer.respond(answer)
    with pytest.raises(UserNotProven, match="alert"):
        server.answer(write_tls_data(EapTlsData(b"\x15\x03\x03\x00\x02\x02\x2a")), 3)


def test_a_chain_with_an_intermediate_is_shown_whole(machine: Identity) -> None:
    """Both ends judge what was shown, up to the anchor that they have."""
    root = make_authority("root")
    lower = make_authority("lower", issuer=root)
    user = make(Order(names=(x509.RFC822Name("alice@example.org"),)), lower)
    alice = Identity.from_pem(user.pem + lower.pem, user.key_pem, trust=[root.pem])
    assert len(alice.certificate_chain) == 2
    trusting = Identity.ephemeral("host/server.example", authority=machine.authority, trust=[root.pem])
    server = CertificateServer(trusting, None, THEN)
    server.begin(None, 1)
    peer = CertificatePeer(alice, machine, parse_peer_target_name("host/server.example"), NOW)
    proven = played(peer, server)
    assert proven.principal.name == "alice@example.org"
    assert proven.anchor.startswith("CN=root ")
