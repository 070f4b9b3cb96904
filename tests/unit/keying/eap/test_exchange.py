"""EAP itself: identifiers, identities, the choice of a method, and packets that do not belong."""

from __future__ import annotations

import pytest

from securesock.errors import AuthenticationFailed, PeerMisbehaved, WireError
from securesock.identity.users import UserName, Users, parse_user_name
from securesock.keying.eap import exchange
from securesock.keying.eap.exchange import EapPeer, EapServer, ProvenUser, UserNotProven
from securesock.keying.eap.mschapv2 import PasswordPeer, PasswordServer
from securesock.secret import Secret
from securesock.testing import SeededEntropy
from securesock.types import Principal
from securesock.wire.eap import (
    EapCode,
    EapPacket,
    EapType,
    MsChapChallenge,
    MsChapFailure,
    MsChapResponse,
    MsChapSuccess,
    parse_eap_untrusted,
    parse_mschap_untrusted,
    write_eap,
    write_mschap,
)

ALICE = parse_user_name("alice@example.org")
ENTROPY = SeededEntropy("eap")


class Method:
    """A method of a test: says what it was told, and ends when it is told to."""

    def __init__(self, eap_type: EapType = EapType.TLS) -> None:
        self.eap_type = eap_type
        self.claimed: UserName | None = None
        self.refused = False

    def begin(self, claimed: UserName | None, identifier: int) -> bytes:
        self.claimed = claimed
        return b"begin"

    def answer(self, data: bytes, identifier: int) -> bytes | ProvenUser:
        if data == b"end":
            return ProvenUser(Principal("alice", "user", "eap"), "", Secret(bytes(64)))
        if data == b"fail":
            raise UserNotProven("as asked")
        return b"more"


def response(identifier: int, eap_type: int = EapType.TLS, data: bytes = b"x") -> bytes:
    return write_eap(EapPacket(EapCode.RESPONSE, identifier, eap_type, data))


def begun(*methods: Method, claimed: UserName | None = ALICE) -> tuple[EapServer, EapPacket]:
    server = EapServer(methods or (Method(),), claimed, 254)
    return server, parse_eap_untrusted(server.begin())


def test_each_request_has_another_identifier_and_success_the_last_ones() -> None:
    server, first = begun()
    assert (first.code, first.identifier, first.data) == (EapCode.REQUEST, 255, b"begin")
    second = parse_eap_untrusted(server.handle_response(response(255)))
    assert (second.code, second.identifier) == (EapCode.REQUEST, 0)
    end = parse_eap_untrusted(server.handle_response(response(0, data=b"end")))
    assert end == EapPacket(EapCode.SUCCESS, 0)
    assert server.proven is not None


def test_failure_has_the_last_identifier_too() -> None:
    server, _ = begun()
    end = parse_eap_untrusted(server.handle_response(response(255, data=b"fail")))
    assert end == EapPacket(EapCode.FAILURE, 255)
    assert server.refused
    assert server.proven is None


@pytest.mark.parametrize("raw", [response(254), response(0), write_eap(EapPacket(1, 255, 13)), b"\x03\xff\x00\x04"])
def test_what_answers_no_request_is_the_peers_fault(raw: bytes) -> None:
    server, _ = begun()
    with pytest.raises(PeerMisbehaved):
        server.handle_response(raw)


def test_a_peer_without_a_name_is_asked_for_one() -> None:
    method = Method()
    server, first = begun(method, claimed=None)
    assert first.eap_type == EapType.IDENTITY
    again = parse_eap_untrusted(server.handle_response(response(255, EapType.IDENTITY, b"alice@example.org")))
    assert again.eap_type == EapType.TLS
    assert method.claimed == ALICE


def test_a_privacy_friendly_identity_claims_nobody() -> None:
    method = Method()
    server, _ = begun(method, claimed=None)
    server.handle_response(response(255, EapType.IDENTITY, b"@example.org"))
    assert method.claimed is None


def test_another_answer_than_an_identity_is_the_peers_fault() -> None:
    server, _ = begun(claimed=None)
    with pytest.raises(PeerMisbehaved, match="identity"):
        server.handle_response(response(255))


def test_a_nak_leads_to_another_method_once() -> None:
    server, first = begun(Method(EapType.TLS), Method(EapType.MSCHAPV2))
    assert first.eap_type == EapType.TLS
    second = parse_eap_untrusted(server.handle_response(response(255, EapType.NAK, bytes((EapType.MSCHAPV2,)))))
    assert second.eap_type == EapType.MSCHAPV2
    end = parse_eap_untrusted(server.handle_response(response(0, EapType.NAK, bytes((EapType.TLS,)))))
    assert end.code == EapCode.FAILURE


@pytest.mark.parametrize("wanted", [b"\0", b"\x04", b""])
def test_a_nak_for_what_is_not_there_is_the_end(wanted: bytes) -> None:
    server, _ = begun()
    assert parse_eap_untrusted(server.handle_response(response(255, EapType.NAK, wanted))).code == EapCode.FAILURE


def test_a_nak_or_another_method_in_the_middle_is_the_end() -> None:
    for late in (EapType.NAK, EapType.MSCHAPV2):
        server, _ = begun()
        server.handle_response(response(255))
        assert parse_eap_untrusted(server.handle_response(response(0, late))).code == EapCode.FAILURE


def test_a_conversation_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_ROUNDS", 3)
    server, _ = begun()
    server.handle_response(response(255))
    server.handle_response(response(0))
    assert parse_eap_untrusted(server.handle_response(response(1))).code == EapCode.FAILURE


# the answering end


def peer(password: str = "clientPass") -> EapPeer:
    return EapPeer(b"alice@example.org", PasswordPeer(ALICE, Secret(password), ENTROPY))


def request(eap_type: int, data: bytes = b"", identifier: int = 7) -> bytes:
    return write_eap(EapPacket(EapCode.REQUEST, identifier, eap_type, data))


def answered(found: bytes | Secret) -> EapPacket:
    assert isinstance(found, bytes)
    return parse_eap_untrusted(found)


def test_identity_and_notification_are_answered() -> None:
    ours = peer()
    assert answered(ours.handle_request(request(EapType.IDENTITY))).data == b"alice@example.org"
    assert answered(ours.handle_request(request(EapType.NOTIFICATION, b"hello"))) == EapPacket(2, 7, 2)


@pytest.mark.parametrize("proposed", [EapType.MD5_CHALLENGE, EapType.TLS, EapType.EXPANDED])
def test_another_method_is_refused_with_ours(proposed: int) -> None:
    nak = answered(peer().handle_request(request(proposed, b"\0")))
    assert (nak.eap_type, nak.data) == (EapType.NAK, bytes((EapType.MSCHAPV2,)))


def test_another_method_is_the_end_where_only_ours_proves_the_responder() -> None:
    ours = EapPeer(b"", PasswordPeer(ALICE, Secret("x"), ENTROPY), may_refuse=False)
    with pytest.raises(AuthenticationFailed, match="EAP-TLS"):
        ours.handle_request(request(EapType.TLS, b"\x20"))


@pytest.mark.parametrize("raw", [b"", b"\x05\0\0\4", b"\x02\x07\0\5\1", request(EapType.MSCHAPV2, b"\xff")])
def test_what_does_not_belong_is_the_responders_fault(raw: bytes) -> None:
    with pytest.raises(PeerMisbehaved):
        peer().handle_request(raw)


def test_a_responder_that_never_ends_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_ROUNDS", 1)
    ours = peer()
    ours.handle_request(request(EapType.IDENTITY))
    with pytest.raises(PeerMisbehaved, match="more than 1"):
        ours.handle_request(request(EapType.IDENTITY))


def test_success_out_of_nothing_is_believed_by_nobody() -> None:
    with pytest.raises(AuthenticationFailed, match="before it has shown"):
        peer().handle_request(write_eap(EapPacket(EapCode.SUCCESS, 7)))


# MSCHAPv2 out of order


def challenge() -> bytes:
    return write_mschap(7, MsChapChallenge(bytes(16), b"server"), is_request=True)


def test_a_server_that_does_not_know_the_password_is_not_believed() -> None:
    ours = peer()
    ours.handle_request(request(EapType.MSCHAPV2, challenge()))
    with pytest.raises(AuthenticationFailed, match="without knowing"):
        ours.handle_request(request(EapType.MSCHAPV2, write_mschap(7, MsChapSuccess(bytes(20), b""), is_request=True)))


@pytest.mark.parametrize(
    "data",
    [
        write_mschap(7, MsChapSuccess(bytes(20)), is_request=True),
        write_mschap(7, MsChapFailure(691, False, bytes(16)), is_request=True),
    ],
)
def test_a_server_that_judges_before_it_asks_is_at_fault(data: bytes) -> None:
    with pytest.raises(PeerMisbehaved, match="out of order"):
        peer().handle_request(request(EapType.MSCHAPV2, data))


def test_a_second_challenge_is_not_answered() -> None:
    ours = peer()
    ours.handle_request(request(EapType.MSCHAPV2, challenge()))
    with pytest.raises(PeerMisbehaved, match="out of order"):
        ours.handle_request(request(EapType.MSCHAPV2, challenge()))


def test_success_after_failure_is_not_believed() -> None:
    ours = peer()
    ours.handle_request(request(EapType.MSCHAPV2, challenge()))
    failure = write_mschap(7, MsChapFailure(691, True, bytes(16)), is_request=True)
    assert answered(ours.handle_request(request(EapType.MSCHAPV2, failure))).data == b"\x04"
    with pytest.raises(PeerMisbehaved):
        ours.handle_request(request(EapType.MSCHAPV2, write_mschap(7, MsChapSuccess(bytes(20)), is_request=True)))
    with pytest.raises(AuthenticationFailed, match="does not say which"):
        ours.handle_request(write_eap(EapPacket(EapCode.FAILURE, 7)))


def password_server() -> PasswordServer:
    server = PasswordServer(Users({"alice@example.org": "clientPass"}), b"server", ENTROPY)
    server.begin(None, 7)
    return server


def test_a_user_that_acknowledges_before_it_was_judged_is_not_proven() -> None:
    for data in (b"\x03", b"\x04", write_mschap(8, MsChapResponse(bytes(16), bytes(24), b"alice"), is_request=False)):
        with pytest.raises(UserNotProven, match="out of order"):
            password_server().answer(data, 8)


def test_a_name_that_is_none_is_told_what_a_wrong_password_is() -> None:
    server = password_server()
    said = server.answer(write_mschap(7, MsChapResponse(bytes(16), bytes(24), b"\xff"), is_request=False), 8)
    assert isinstance(said, bytes)
    value = parse_mschap_untrusted(said, is_request=True)[1]
    assert isinstance(value, MsChapFailure)
    assert (value.error, value.may_retry) == (691, False)
    assert server.refused
    with pytest.raises(UserNotProven, match="unknown here, or"):
        server.answer(b"\x04", 9)


def test_no_second_try_in_one_conversation() -> None:
    server = password_server()
    wrong = write_mschap(7, MsChapResponse(bytes(16), bytes(24), b"alice@example.org"), is_request=False)
    server.answer(wrong, 8)
    with pytest.raises(UserNotProven):
        server.answer(wrong, 9)


def test_junk_inside_is_a_wire_error_for_the_key_exchange_to_answer() -> None:
    with pytest.raises(WireError):
        password_server().answer(b"", 8)


def test_a_password_proves_no_machine() -> None:
    assert PasswordPeer(ALICE, Secret("x"), ENTROPY).proven_server() is None
