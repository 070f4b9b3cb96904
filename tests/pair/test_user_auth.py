"""A user is proven to a machine by EAP, and to nobody else: both roles, both methods, and every way it can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from OpenSSL import SSL

from securesock.crypto.mschap import nt_hash
from securesock.errors import AuthenticationFailed, PolicyRefused, SecureSocketError
from securesock.identity.identity import Identity
from securesock.identity.names import IkeId, parse_peer_target_name
from securesock.identity.ppk import Ppk
from securesock.identity.users import NtHash, Users, parse_user_name
from securesock.keying.contract import KeyingConfig, SendDatagram, UserProof
from securesock.keying.eap import tls
from securesock.keying.eap.exchange import EapServer
from securesock.keying.ikev2.core import Core
from securesock.keying.ikev2.eap_auth import ExpectEapResponse
from securesock.keying.ikev2.proof import Proof
from securesock.secret import Secret
from securesock.testing import FakeNetwork, Pair
from securesock.types import ANY_TRUSTED_PEER, Principal
from securesock.wire.id_types import IdType
from securesock.wire.ikev2.payloads import Authentication, Certificate, Eap, Payload
from securesock.wire.numbers import AuthMethod
from tests.support.hostile import core_of

PASSWORD = "correct horse battery staple"
ALICE = "alice@example.org"
SERVER = "host/responder.example"


@pytest.fixture(scope="module")
def server() -> Identity:
    return Identity.ephemeral(SERVER)


@pytest.fixture(scope="module")
def client(server: Identity) -> Identity:
    """A machine that proves nothing of its own: only whom it trusts counts."""
    return Identity.ephemeral("host/initiator.example", authority=server.authority)


@pytest.fixture(scope="module")
def alice(server: Identity) -> Identity:
    return Identity.ephemeral(ALICE, authority=server.authority)


@pytest.fixture(params=["TLS 1.3", "TLS 1.2"])
def tls_version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "TLS 1.2":
        plain = SSL.Context.set_min_proto_version

        def at_most_1_2(context: SSL.Context, version: int) -> None:
            plain(context, version)
            context.set_max_proto_version(SSL.TLS1_2_VERSION)

        monkeypatch.setattr(SSL.Context, "set_min_proto_version", at_most_1_2)
    yield request.param


def ike_id(name: str) -> IkeId:
    return IkeId(IdType.ID_RFC822_ADDR, name.encode())


def by_password(name: str = ALICE, password: str = PASSWORD, **more: object) -> Callable[[KeyingConfig], KeyingConfig]:
    def configure(config: KeyingConfig) -> KeyingConfig:
        user = parse_user_name(name)
        principal = Principal(user.principal, "user", "eap")
        return replace(config, user=UserProof(user, ike_id(name), principal, Secret(password)), **more)

    return configure


def by_certificate(identity: Identity, name: str = ALICE, **more: object) -> Callable[[KeyingConfig], KeyingConfig]:
    def configure(config: KeyingConfig) -> KeyingConfig:
        principal = Principal(name, "user", "eap", identity.fingerprint or "")
        proof = UserProof(parse_user_name(name), ike_id(name), principal, certificate=identity)
        return replace(config, user=proof, **more)

    return configure


def accepting(users: Users, **more: object) -> Callable[[KeyingConfig], KeyingConfig]:
    return lambda config: replace(config, users=users, **more)


PASSWORDS = Users({ALICE: PASSWORD, "bob": "another password"})
CERTIFICATES = Users(certificates=True)
BOTH = Users({ALICE: PASSWORD}, certificates=True)


def networks() -> list[FakeNetwork]:
    return [FakeNetwork(ordered=True), FakeNetwork(ordered=False, latency_s=0.01, loss=0.2, seed=5)]


def assert_user_proven(pair: Pair, name: str = ALICE) -> None:
    assert pair.initiator.error is None
    assert pair.responder.error is None
    ours, peers = pair.initiator.establishment, pair.responder.establishment
    assert ours is not None
    assert peers is not None
    assert (ours.peer.name, ours.peer.kind, ours.peer.method) == (SERVER, "machine", "x509")
    assert (peers.peer.name, peers.peer.kind, peers.peer.method) == (name, "user", "eap")
    assert (ours.our.name, ours.our.kind, ours.our.method) == (name, "user", "eap")
    assert pair.congruent()


@pytest.mark.parametrize("network", networks(), ids=["stream", "datagrams with loss"])
def test_a_user_is_proven_by_password(client: Identity, server: Identity, network: FakeNetwork) -> None:
    pair = Pair(client, server, network=network, initiator=by_password(), responder=accepting(PASSWORDS)).establish()
    assert_user_proven(pair)


@pytest.mark.parametrize("ordered", [True, False], ids=["stream", "datagrams"])
def test_a_user_is_proven_by_certificate(
    client: Identity, server: Identity, alice: Identity, ordered: bool, tls_version: str
) -> None:
    network = FakeNetwork(ordered=ordered)
    pair = Pair(
        client, server, network=network, initiator=by_certificate(alice), responder=accepting(CERTIFICATES)
    ).establish()
    assert_user_proven(pair)
    assert pair.responder.establishment is not None
    assert pair.responder.establishment.peer.evidence == alice.fingerprint


def test_a_user_with_nothing_but_trust_is_proven(server: Identity) -> None:
    """The machine of the user needs no credential: nothing of it is shown."""
    assert server.authority is not None
    nobody = Identity.anonymous(trust=server.authority.pem)
    pair = Pair(nobody, server, initiator=by_password(), responder=accepting(PASSWORDS)).establish()
    assert_user_proven(pair)


def test_a_user_without_a_domain_is_one_too(client: Identity, server: Identity) -> None:
    initiator = by_password("bob", "another password")
    assert_user_proven(Pair(client, server, initiator=initiator, responder=accepting(PASSWORDS)).establish(), "bob")


@pytest.mark.parametrize("name", ["192.0.2.2", "spiffe://example.org/" + "a/" * 200 + "z"])
def test_a_machine_of_any_name_asks_for_a_password(client: Identity, server: Identity, name: str) -> None:
    """Its name in MSCHAPv2 is what people read of it, and as much as RFC 2759 has room for."""
    machine = Identity.ephemeral(name, authority=server.authority)
    pair = Pair(client, machine, expected=name, initiator=by_password(), responder=accepting(PASSWORDS)).establish()
    assert pair.responder.establishment is not None
    assert pair.responder.establishment.peer.name == ALICE
    assert pair.initiator.establishment is not None
    assert pair.initiator.establishment.peer.name == name


def test_a_hash_stands_for_the_password(client: Identity, server: Identity) -> None:
    users = Users({ALICE: NtHash(nt_hash(PASSWORD.encode()))})
    assert_user_proven(Pair(client, server, initiator=by_password(), responder=accepting(users)).establish())


def test_a_machine_beside_users_proves_itself_as_before(client: Identity, server: Identity) -> None:
    pair = Pair(client, server, responder=accepting(PASSWORDS)).establish()
    assert pair.responder.establishment is not None
    assert pair.responder.establishment.peer == Principal(
        "host/initiator.example", "machine", "x509", client.fingerprint or ""
    )


@pytest.mark.parametrize("how", ["password", "certificate"])
def test_a_server_that_accepts_both_takes_what_the_user_has(
    client: Identity, server: Identity, alice: Identity, how: str
) -> None:
    initiator = by_password() if how == "password" else by_certificate(alice)
    assert_user_proven(Pair(client, server, initiator=initiator, responder=accepting(BOTH)).establish())


def test_rekeys_go_on_under_the_same_user(client: Identity, server: Identity) -> None:
    pair = Pair(client, server, initiator=by_password(), responder=accepting(PASSWORDS)).establish()
    for endpoint in pair.endpoints:
        endpoint.session.rekey_ike(pair.clock.now())
        pair.settle()
        endpoint.session.rekey_child(pair.clock.now())
        pair.settle()
    assert_user_proven(pair)
    assert pair.initiator.rekeys["ike"] == pair.responder.rekeys["ike"] == 2


# what fails


def assert_nobody(pair: Pair) -> None:
    for endpoint in pair.endpoints:
        assert endpoint.establishment is None
        assert endpoint.outbound is None
        assert not endpoint.session.established


def lengths(pair: Pair) -> list[int]:
    return [len(each.data) for each in pair.responder.actions if isinstance(each, SendDatagram)]


def test_an_unknown_user_and_a_wrong_password_look_the_same(client: Identity, server: Identity) -> None:
    wrong = Pair(client, server, initiator=by_password(password="wrong"), responder=accepting(PASSWORDS)).establish()
    unknown = Pair(
        client, server, initiator=by_password("zorro@example.org"), responder=accepting(PASSWORDS)
    ).establish()
    for pair in (wrong, unknown):
        assert_nobody(pair)
        assert isinstance(pair.initiator.error, AuthenticationFailed)
        assert isinstance(pair.responder.error, AuthenticationFailed)
        assert "does not say which" in str(pair.initiator.error)
    assert lengths(wrong)[3:] == lengths(unknown)[3:]  # before that the signatures' own lengths differ
    assert [type(each) for each in wrong.responder.actions] == [type(each) for each in unknown.responder.actions]


def test_the_hash_of_nobody_lets_nobody_in(client: Identity, server: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown user's proof is held against a known hash for the work's sake; whoever computes that gains nothing."""
    monkeypatch.setattr("securesock.keying.eap.mschapv2.nt_hash", lambda password: bytes(16))
    initiator = by_password("zorro@example.org")
    assert_nobody(Pair(client, server, initiator=initiator, responder=accepting(PASSWORDS)).establish())


def test_a_user_where_nobody_accepts_users_is_refused(client: Identity, server: Identity) -> None:
    pair = Pair(client, server, initiator=by_password()).establish()
    assert_nobody(pair)
    assert isinstance(pair.initiator.error, AuthenticationFailed)


def test_a_user_with_the_other_kind_of_proof_is_refused(client: Identity, server: Identity, alice: Identity) -> None:
    for initiator, users in ((by_password(), CERTIFICATES), (by_certificate(alice), PASSWORDS)):
        pair = Pair(client, server, initiator=initiator, responder=accepting(users)).establish()
        assert_nobody(pair)
        assert isinstance(pair.responder.error, AuthenticationFailed)


def test_a_certificate_of_another_authority_or_of_a_machine_or_another_user_proves_nobody(
    client: Identity, server: Identity, tls_version: str
) -> None:
    strangers = Identity.ephemeral(ALICE)
    machine = Identity.ephemeral("host/m.example", authority=server.authority)
    bob = Identity.ephemeral("bob@example.org", authority=server.authority)
    for identity in (strangers, machine, bob):
        pair = Pair(client, server, initiator=by_certificate(identity), responder=accepting(CERTIFICATES)).establish()
        assert_nobody(pair)
        assert isinstance(pair.initiator.error, AuthenticationFailed)
        assert isinstance(pair.responder.error, AuthenticationFailed)


def test_a_user_that_is_not_admitted_is_told_so(client: Identity, server: Identity) -> None:
    class Nobody:
        pins = ()

        def refusal(self, principal: Principal) -> str | None:
            return f"not {principal.name}"

    pair = Pair(client, server, initiator=by_password(), responder=accepting(PASSWORDS, admission=Nobody())).establish()
    assert_nobody(pair)
    assert isinstance(pair.responder.error, PolicyRefused)
    assert isinstance(pair.initiator.error, AuthenticationFailed)


@pytest.mark.parametrize(
    ("expected", "let_in"),
    [(ALICE, True), ("bob@example.org", False), ("host/initiator.example", False), (ANY_TRUSTED_PEER, False)],
)
def test_where_somebody_is_expected_a_user_is_it_only_by_name(
    client: Identity, server: Identity, expected: str, let_in: bool
) -> None:
    named = parse_peer_target_name(expected) if isinstance(expected, str) else expected
    responder = accepting(PASSWORDS, expected_peer=named)
    pair = Pair(client, server, initiator=by_password(), responder=responder).establish()
    if let_in:
        assert_user_proven(pair)
    else:
        assert_nobody(pair)


# to whom


class Eavesdropper:
    """Notes what an EAP conversation brought to the responder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.responses: list[bytes] = []
        original = EapServer.handle_response

        def noting(server: EapServer, packet: bytes) -> bytes:
            self.responses.append(packet)
            return original(server, packet)

        monkeypatch.setattr(EapServer, "handle_response", noting)


@pytest.mark.parametrize("how", ["password", "certificate"])
def test_nothing_of_eap_reaches_a_machine_that_is_not_the_one_expected(
    client: Identity, server: Identity, alice: Identity, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Eavesdropper(monkeypatch)
    initiator = by_password() if how == "password" else by_certificate(alice)
    pair = Pair(
        client, server, expected="host/another.example", initiator=initiator, responder=accepting(BOTH)
    ).establish()
    assert_nobody(pair)
    assert heard.responses == []
    assert isinstance(pair.initiator.error, AuthenticationFailed)
    assert isinstance(pair.responder.error, AuthenticationFailed)  # and it was told


def test_nothing_of_eap_reaches_a_machine_of_another_authority(
    client: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Eavesdropper(monkeypatch)
    stranger = Identity.ephemeral(SERVER)
    pair = Pair(client, stranger, initiator=by_password(), responder=accepting(PASSWORDS)).establish()
    assert_nobody(pair)
    assert heard.responses == []


def without(kind: type) -> Callable[[pytest.MonkeyPatch], None]:
    """A responder that leaves payloads of a class out of its replies."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        original = Core.reply

        def reply(core: Core, sa, opened, payloads):
            return original(core, sa, opened, tuple(each for each in payloads if not isinstance(each, kind)))

        monkeypatch.setattr(Core, "reply", reply)

    return patch


@pytest.mark.parametrize("how", ["password", "certificate"])
def test_nothing_of_eap_reaches_a_machine_that_proves_nothing(
    client: Identity, server: Identity, alice: Identity, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Eavesdropper(monkeypatch)
    without(Authentication)(monkeypatch)
    initiator = by_password() if how == "password" else by_certificate(alice)
    pair = Pair(client, server, initiator=initiator, responder=accepting(BOTH)).establish()
    assert_nobody(pair)
    assert heard.responses == []
    assert isinstance(pair.initiator.error, AuthenticationFailed)


def test_a_machine_with_a_shared_key_is_none_to_prove_a_user_to(
    client: Identity, server: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Eavesdropper(monkeypatch)
    ours = Identity.from_psk("initiator.example", {"responder.example": "a secret of sixteen bytes"})
    peers = Identity.from_psk("responder.example", {"alice@example.org": "a secret of sixteen bytes"})
    pair = Pair(ours, peers, initiator=by_password(), responder=accepting(PASSWORDS)).establish()
    assert_nobody(pair)
    assert "no certificate" in str(pair.responder.error)
    # and one that does it all the same is not believed, whatever it shares with us
    by_key = Authentication(AuthMethod.SHARED_KEY_MESSAGE_INTEGRITY_CODE, bytes(32))
    monkeypatch.setattr(Proof, "ours", lambda *_: by_key)
    pair = Pair(client, server, initiator=by_password(), responder=accepting(PASSWORDS)).establish()
    assert_nobody(pair)
    assert "machine with a certificate" in str(pair.initiator.error)
    assert heard.responses == []


def test_any_trusted_machine_is_none_to_prove_a_user_to(
    client: Identity, server: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Eavesdropper(monkeypatch)
    pair = Pair(
        client, server, expected=ANY_TRUSTED_PEER, initiator=by_password(), responder=accepting(PASSWORDS)
    ).establish()
    assert_nobody(pair)
    assert heard.responses == []


# EAP alone (RFC 5998)


def replies(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Payload, ...]]:
    found: list[tuple[Payload, ...]] = []
    original = Core.reply

    def reply(core: Core, sa, opened, payloads):
        found.append(payloads)
        return original(core, sa, opened, payloads)

    monkeypatch.setattr(Core, "reply", reply)
    return found


def test_with_eap_tls_alone_the_machine_is_proven_by_it(
    client: Identity, server: Identity, alice: Identity, tls_version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(
        client,
        server,
        initiator=by_certificate(alice, eap_only=True),
        responder=accepting(CERTIFICATES, eap_only=True),
    )
    said = replies(pair, monkeypatch)
    pair.establish()
    assert_user_proven(pair)
    first = next(each for each in said if any(isinstance(payload, Eap) for payload in each))
    assert not any(isinstance(payload, (Authentication, Certificate)) for payload in first)


@pytest.mark.parametrize(("ours", "peers"), [(True, False), (False, True)])
def test_eap_alone_needs_both_ends_will(
    client: Identity,
    server: Identity,
    alice: Identity,
    ours: bool,
    peers: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = Pair(
        client,
        server,
        initiator=by_certificate(alice, eap_only=ours),
        responder=accepting(CERTIFICATES, eap_only=peers),
    )
    said = replies(pair, monkeypatch)
    pair.establish()
    assert_user_proven(pair)
    assert any(isinstance(payload, Certificate) for each in said for payload in each)


def test_with_eap_alone_the_machine_has_to_be_the_one_expected(
    client: Identity, server: Identity, alice: Identity, tls_version: str
) -> None:
    responder = accepting(CERTIFICATES, eap_only=True)
    for expected, peer in (("host/another.example", server), (SERVER, Identity.ephemeral(SERVER))):
        pair = Pair(
            client, peer, expected=expected, initiator=by_certificate(alice, eap_only=True), responder=responder
        ).establish()
        assert_nobody(pair)
        assert isinstance(pair.initiator.error, AuthenticationFailed)


def test_a_password_never_stands_without_the_machines_own_proof(
    client: Identity, server: Identity, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 5998 4: MSCHAPv2 is none of the safe methods.  A machine that left its AUTH out hears no response to it."""
    heard = Eavesdropper(monkeypatch)
    without(Authentication)(monkeypatch)
    pair = Pair(
        client,
        server,
        initiator=by_password(eap_only=True),
        responder=accepting(BOTH, eap_only=True),
    ).establish()
    assert_nobody(pair)
    assert heard.responses == []
    # and a user with a certificate, who would be content with EAP-TLS alone, is not led to another method
    pair = Pair(
        client, server, initiator=by_certificate(alice, eap_only=True), responder=accepting(PASSWORDS, eap_only=True)
    ).establish()
    assert_nobody(pair)
    assert heard.responses == []
    assert "EAP-TLS" in str(pair.initiator.error)


# limits


class Tries:
    def __init__(self, left: int) -> None:
        self.left = left

    def may_try(self, host: str, now: float) -> bool:
        assert host == "192.0.2.1"
        return self.left > 0

    def failed(self, host: str, now: float) -> None:
        self.left -= 1


def step(pair: Pair) -> None:
    """Until the next datagram has arrived."""
    due = pair.network.next_arrival()
    assert due is not None
    pair.clock.advance_to(due)
    pair._step(False)


def test_tries_are_counted_and_end(client: Identity, server: Identity) -> None:
    tries = Tries(2)
    responder = accepting(PASSWORDS, user_tries=tries)
    for _ in range(2):
        pair = Pair(client, server, initiator=by_password(password="wrong"), responder=responder).establish()
        assert_nobody(pair)
    assert tries.left == 0
    pair = Pair(client, server, initiator=by_password(), responder=responder).establish()
    assert_nobody(pair)
    error = pair.responder.error
    assert isinstance(error, AuthenticationFailed)
    assert error.reason == "too-many-tries"


def test_a_good_user_costs_no_try(client: Identity, server: Identity) -> None:
    tries = Tries(1)
    responder = accepting(PASSWORDS, user_tries=tries)
    for _ in range(3):
        assert_user_proven(Pair(client, server, initiator=by_password(), responder=responder).establish())
    assert tries.left == 1


def test_many_at_once_try_no_more_often(client: Identity, server: Identity) -> None:
    """Begun while tries were left, and refused when its turn came."""
    tries = Tries(1)
    responder = accepting(PASSWORDS, user_tries=tries)
    pair = Pair(client, server, initiator=by_password(), responder=responder)
    pair.initiator.session.handle_acquire(pair.clock.now())
    pair.collect()
    while not isinstance(getattr(core_of(pair.responder).ike, "expecting", None), ExpectEapResponse):
        step(pair)
    tries.left = 0
    pair.settle()
    assert_nobody(pair)
    assert isinstance(pair.responder.error, AuthenticationFailed)
    assert pair.responder.error.reason == "too-many-tries"


def test_a_client_that_leaves_after_its_refusal_has_used_its_try(client: Identity, server: Identity) -> None:
    tries = Tries(1)
    pair = Pair(
        client, server, initiator=by_password(password="wrong"), responder=accepting(PASSWORDS, user_tries=tries)
    )
    pair.initiator.session.handle_acquire(pair.clock.now())
    pair.collect()
    while tries.left:
        step(pair)
    assert pair.responder.error is None  # it has not been told the end yet, and the try is gone all the same


def test_the_pieces_of_eap_tls_are_put_together(
    client: Identity, server: Identity, alice: Identity, tls_version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "FRAGMENT", 150)
    pair = Pair(client, server, initiator=by_certificate(alice), responder=accepting(CERTIFICATES)).establish()
    assert_user_proven(pair)


def test_a_conversation_that_never_ends_is_ended(
    client: Identity, server: Identity, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "FRAGMENT", 10)
    pair = Pair(client, server, initiator=by_certificate(alice), responder=accepting(CERTIFICATES)).establish()
    assert_nobody(pair)


# secrets


def test_what_the_negotiation_needed_is_wiped_when_it_is_over(client: Identity, server: Identity) -> None:
    for password in (PASSWORD, "a wrong password"):
        kept: list[UserProof] = []

        def configure(config: KeyingConfig, password: str = password, kept: list[UserProof] = kept) -> KeyingConfig:
            configured = by_password(password=password)(config)
            assert configured.user is not None
            kept.append(configured.user)
            return configured

        pair = Pair(client, server, initiator=configure, responder=accepting(PASSWORDS)).establish()
        assert not kept[0].password
        assert not core_of(pair.initiator)._wipes
        assert not core_of(pair.responder)._wipes
        assert password not in repr(pair.initiator.actions) + repr(core_of(pair.initiator).config)


def test_a_negotiation_that_never_got_to_it_wipes_the_password_too(client: Identity, server: Identity) -> None:
    pair = Pair(client, server, network=FakeNetwork(ordered=False, loss=1.0), initiator=by_password())
    config = core_of(pair.initiator).config
    pair.establish(timeout_s=600)
    assert isinstance(pair.initiator.error, SecureSocketError)
    assert config.user is not None
    assert not config.user.password


# with a PPK


@pytest.mark.parametrize("mandatory", [True, False])
def test_a_ppk_goes_with_the_users_own_auth(client: Identity, server: Identity, mandatory: bool) -> None:
    ppk = Ppk("id", bytes(range(32)), mandatory=mandatory)
    pair = Pair(
        client,
        server,
        initiator=by_password(ppks=(ppk,)),
        responder=accepting(PASSWORDS, ppks=(ppk,)),
    ).establish()
    assert_user_proven(pair)
    other = Ppk("id", bytes(32), mandatory=mandatory)
    pair = Pair(
        client, server, initiator=by_password(ppks=(ppk,)), responder=accepting(PASSWORDS, ppks=(other,))
    ).establish()
    assert_nobody(pair)
