"""IKE_AUTH with EAP against an end that does not keep to it: nobody is proven, and each end says whose fault it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from securesock.errors import AuthenticationFailed, PeerIncompatible, PeerMisbehaved, SecureSocketError
from securesock.identity.identity import Identity
from securesock.keying.ikev2 import eap_auth
from securesock.keying.ikev2.core import Core
from securesock.testing import Pair
from securesock.wire.eap import EapCode, EapPacket, write_eap
from securesock.wire.id_types import IdType
from securesock.wire.ikev2.payloads import Authentication, Eap, Identification, Notify, Payload
from securesock.wire.numbers import AuthMethod, ExchangeType, NotifyType, PayloadType
from tests.pair.test_user_auth import (
    CERTIFICATES,
    PASSWORDS,
    SERVER,
    accepting,
    assert_nobody,
    assert_user_proven,
    by_certificate,
    by_password,
)

Payloads = tuple[Payload, ...]
Change = Callable[[Payloads], Payloads]


@pytest.fixture(scope="module")
def server() -> Identity:
    return Identity.ephemeral([SERVER, "host/other.example"])


@pytest.fixture(scope="module")
def client(server: Identity) -> Identity:
    return Identity.ephemeral("host/initiator.example", authority=server.authority)


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int, Change], None]]:
    """``changed("initiator", 2, how)``: its second IKE_AUTH request is another one; so the responder's replies."""
    originals = {"initiator": Core.request, "responder": Core.reply}
    changes: dict[tuple[str, int], Change] = {}
    counts = {"initiator": 0, "responder": 0}

    def change(who: str, payloads: Payloads, exchange: int) -> Payloads:
        if exchange == ExchangeType.IKE_AUTH:
            counts[who] += 1
            payloads = changes.get((who, counts[who]), lambda same: same)(payloads)
        return payloads

    def request(core: Core, sa, exchange, payloads, awaiting, now):
        return originals["initiator"](core, sa, exchange, change("initiator", payloads, exchange), awaiting, now)

    def reply(core: Core, sa, opened, payloads):
        return originals["responder"](core, sa, opened, change("responder", payloads, opened.exchange_type))

    monkeypatch.setattr(Core, "request", request)
    monkeypatch.setattr(Core, "reply", reply)
    yield lambda who, number, how: changes.__setitem__((who, number), how)


def nothing(payloads: Payloads) -> Payloads:
    return ()


def saying(notify_type: NotifyType) -> Change:
    return lambda payloads: (Notify(notify_type),)


def without(kind: type) -> Change:
    return lambda payloads: tuple(each for each in payloads if not isinstance(each, kind))


def with_eap(data: bytes) -> Change:
    return lambda payloads: (*without(Eap)(payloads), Eap(data))


def with_auth(data: bytes, method: int = AuthMethod.SHARED_KEY_MESSAGE_INTEGRITY_CODE) -> Change:
    return lambda payloads: (Authentication(method, data), *without(Authentication)(payloads))


# an EAP-MSCHAPv2 that succeeds is four IKE_AUTH exchanges: names, response, acknowledgement, AUTH
BY_RESPONDER: list[tuple[int, Change, type[SecureSocketError]]] = [
    (1, nothing, PeerMisbehaved),
    (1, saying(NotifyType.AUTHENTICATION_FAILED), AuthenticationFailed),
    (1, without(Eap), PeerMisbehaved),
    (1, without(Identification), PeerMisbehaved),
    (1, with_eap(write_eap(EapPacket(EapCode.SUCCESS, 1))), AuthenticationFailed),
    (1, with_eap(write_eap(EapPacket(EapCode.FAILURE, 1))), AuthenticationFailed),
    (1, with_eap(write_eap(EapPacket(EapCode.RESPONSE, 1, 26, b""))), PeerMisbehaved),
    (1, with_eap(write_eap(EapPacket(EapCode.REQUEST, 1, 26, b""))), PeerMisbehaved),
    (2, nothing, PeerMisbehaved),
    (2, saying(NotifyType.AUTHENTICATION_FAILED), AuthenticationFailed),
    (2, with_eap(write_eap(EapPacket(EapCode.SUCCESS, 1))), AuthenticationFailed),
    (3, nothing, PeerMisbehaved),
    (4, nothing, PeerMisbehaved),
    (4, saying(NotifyType.AUTHENTICATION_FAILED), AuthenticationFailed),
    (4, without(Authentication), PeerMisbehaved),
    (4, with_auth(bytes(32)), AuthenticationFailed),
    (4, with_auth(bytes(32), AuthMethod.NULL_AUTHENTICATION), AuthenticationFailed),
]


@pytest.mark.parametrize(("number", "how", "blamed"), BY_RESPONDER)
def test_a_responder_that_does_not_keep_to_it_is_not_believed(
    client: Identity,
    server: Identity,
    changed: Callable[[str, int, Change], None],
    number: int,
    how: Change,
    blamed: type[SecureSocketError],
) -> None:
    changed("responder", number, how)
    pair = Pair(client, server, initiator=by_password(), responder=accepting(PASSWORDS)).establish()
    assert pair.initiator.establishment is None
    assert pair.initiator.outbound is None
    assert isinstance(pair.initiator.error, blamed)


BY_INITIATOR: list[tuple[int, Change, type[SecureSocketError]]] = [
    (1, without(Identification), PeerMisbehaved),
    (2, nothing, PeerMisbehaved),
    (2, with_eap(b"\x02\x00\x00\x05"), PeerMisbehaved),
    (2, with_eap(write_eap(EapPacket(EapCode.REQUEST, 1, 26, b""))), PeerMisbehaved),
    (2, with_eap(write_eap(EapPacket(EapCode.SUCCESS, 1))), PeerMisbehaved),
    (3, nothing, PeerMisbehaved),
    (4, nothing, AuthenticationFailed),
    (4, with_auth(bytes(32)), AuthenticationFailed),
    (4, with_auth(b""), AuthenticationFailed),
    (4, with_auth(bytes(32), AuthMethod.NULL_AUTHENTICATION), AuthenticationFailed),
    (4, with_auth(bytes(32), AuthMethod.DIGITAL_SIGNATURE), AuthenticationFailed),
]


@pytest.mark.parametrize(("number", "how", "blamed"), BY_INITIATOR)
def test_an_initiator_that_does_not_keep_to_it_proves_nobody(
    client: Identity,
    server: Identity,
    changed: Callable[[str, int, Change], None],
    number: int,
    how: Change,
    blamed: type[SecureSocketError],
) -> None:
    changed("initiator", number, how)
    pair = Pair(client, server, initiator=by_password(), responder=accepting(PASSWORDS)).establish()
    assert_nobody(pair)
    assert isinstance(pair.responder.error, blamed)


@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize("exchange", [ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL])
def test_another_exchange_before_the_user_is_proven_makes_nothing(
    client: Identity, server: Identity, number: int, exchange: ExchangeType, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, count = Core.request, 0

    def request(core: Core, sa, asked, payloads, awaiting, now):
        nonlocal count
        count += asked == ExchangeType.IKE_AUTH
        return original(core, sa, exchange if count == number else asked, payloads, awaiting, now)

    monkeypatch.setattr(Core, "request", request)
    pair = Pair(client, server, initiator=by_password(), responder=accepting(PASSWORDS)).establish()
    assert_nobody(pair)


def test_a_user_that_says_goodbye_before_its_proof_leaves_nothing(
    client: Identity, server: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(self: eap_auth.ExpectKeyProof, now: float) -> None:
        asked = self._asked
        notify = Notify(NotifyType.AUTHENTICATION_FAILED)
        asked.core.request(asked.sa, ExchangeType.INFORMATIONAL, (notify,), self, now)

    monkeypatch.setattr(eap_auth.ExpectKeyProof, "ask", leave)
    pair = Pair(client, server, initiator=by_password(), responder=accepting(PASSWORDS)).establish()
    assert pair.responder.establishment is None
    assert isinstance(pair.responder.error, AuthenticationFailed)


def test_a_refused_child_sa_is_no_fault_of_the_users(client: Identity, server: Identity) -> None:
    """RFC 7296 1.2: both ends are proven, and say what they could not agree on."""
    responder = accepting(PASSWORDS, public_addresses=(("198.51.100.7", 443),), our_address=("192.0.2.3", 7000))
    pair = Pair(client, server, initiator=by_password(), responder=responder).establish()
    assert_nobody(pair)
    for endpoint in pair.endpoints:
        assert isinstance(endpoint.error, PeerIncompatible)
    assert "the protection of this flow" in str(pair.initiator.error)


@pytest.mark.parametrize(
    "ike_id", [(IdType.ID_IPV4_ADDR, bytes(4)), (IdType.ID_RFC822_ADDR, b"\xff"), (IdType.ID_KEY_ID, b"")]
)
def test_an_id_that_names_no_user_is_asked_for_one(
    client: Identity, server: Identity, changed: Callable[[str, int, Change], None], ike_id: tuple[int, bytes]
) -> None:
    asked: list[EapPacket] = []

    def rename(payloads: Payloads) -> Payloads:
        return tuple(
            Identification(PayloadType.IDi, *ike_id) if each.payload_type == PayloadType.IDi else each
            for each in payloads
        )

    def note(payloads: Payloads) -> Payloads:
        asked.extend(each for each in payloads if isinstance(each, Eap))
        return payloads

    changed("initiator", 1, rename)
    changed("responder", 1, note)
    pair = Pair(client, server, initiator=by_password(), responder=accepting(PASSWORDS)).establish()
    assert asked[0].data[4] == 1  # EAP-Request/Identity
    assert_nobody(pair)  # AUTH is over the ID that was really sent: nobody changes it on the way
    assert isinstance(pair.responder.error, AuthenticationFailed)


def test_with_eap_alone_ike_and_tls_name_the_same_machine(
    client: Identity, server: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = Identity.ephemeral("alice@example.org", authority=server.authority)
    ends = {"initiator": by_certificate(alice, eap_only=True), "responder": accepting(CERTIFICATES, eap_only=True)}
    assert_user_proven(Pair(client, server, **ends).establish())
    for said in (
        Identification(PayloadType.IDr, IdType.ID_FQDN, b"other.example"),
        Identification(PayloadType.IDr, IdType.ID_NULL, b""),
    ):
        monkeypatch.setattr(eap_auth, "our_responder_id", lambda core, payloads, said=said: said)
        monkeypatch.setattr(eap_auth, "our_principal", lambda core, our_id: None)
        pair = Pair(client, server, **ends).establish()
        assert pair.initiator.establishment is None
        assert isinstance(pair.initiator.error, AuthenticationFailed)
        assert "somebody else" in str(pair.initiator.error)
