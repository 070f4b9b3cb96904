"""EAP: values of every kind written and read back, and conversations in which the other end says whatever it likes."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from securesock.errors import AuthenticationFailed, PeerMisbehaved, WireError
from securesock.identity.identity import Identity
from securesock.identity.names import parse_peer_target_name
from securesock.identity.users import Users, parse_user_name, read_user_name_untrusted
from securesock.keying.eap.exchange import EapPeer, EapServer, PeerMethod, ServerMethod
from securesock.keying.eap.mschapv2 import PasswordPeer, PasswordServer
from securesock.keying.eap.tls import CertificatePeer, CertificateServer, TlsFragments
from securesock.secret import Secret
from securesock.testing import SeededEntropy
from securesock.wire.eap import (
    MAX_NAME,
    EapCode,
    EapPacket,
    EapTlsData,
    EapType,
    MsChap,
    MsChapChallenge,
    MsChapFailure,
    MsChapResponse,
    MsChapSuccess,
    parse_eap_untrusted,
    parse_mschap_untrusted,
    parse_tls_data_untrusted,
    write_eap,
    write_mschap,
    write_tls_data,
)

u8 = st.integers(0, 0xFF)
names = st.binary(max_size=MAX_NAME)


def exactly(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length)


packets = st.builds(
    EapPacket, st.sampled_from([EapCode.REQUEST, EapCode.RESPONSE]), u8, u8, st.binary(max_size=300)
) | st.builds(EapPacket, st.sampled_from([EapCode.SUCCESS, EapCode.FAILURE]), u8, st.none(), st.just(b""))
asked = (
    st.builds(MsChapChallenge, exactly(16), names)
    | st.builds(MsChapSuccess, exactly(20), st.binary(max_size=40))
    | st.builds(MsChapFailure, st.integers(0, 9999999999), st.booleans(), exactly(16))
)
answered = (
    st.builds(MsChapResponse, exactly(16), exactly(24), names) | st.just(MsChapSuccess()) | st.just(MsChapFailure())
)


@given(packets)
def test_packets_are_read_as_they_were_written(packet: EapPacket) -> None:
    assert parse_eap_untrusted(write_eap(packet)) == packet


@given(st.tuples(asked, st.just(True)) | st.tuples(answered, st.just(False)), u8)
def test_mschapv2_is_read_as_it_was_written(value: tuple[MsChap, bool], chap_id: int) -> None:
    said, is_request = value
    assert parse_mschap_untrusted(write_mschap(chap_id, said, is_request=is_request), is_request=is_request)[1] == said


@given(st.binary(max_size=40), st.none() | st.integers(40, 0xFFFFFFFF), st.booleans(), st.booleans())
def test_eap_tls_is_read_as_it_was_written(data: bytes, total: int | None, more: bool, start: bool) -> None:
    value = EapTlsData(data, total, more, start)
    assert parse_tls_data_untrusted(write_tls_data(value)) == value


@given(st.binary(max_size=120))
def test_a_name_that_is_taken_is_the_same_when_it_is_shown(data: bytes) -> None:
    try:
        name = read_user_name_untrusted(data)
    except WireError:
        return
    assert read_user_name_untrusted(name.principal.encode()) == name
    assert not name.principal.startswith(("host/", "sha256:"))
    assert "://" not in name.principal


@given(st.lists(st.builds(EapTlsData, st.binary(max_size=3000), st.none() | st.integers(0, 20000), st.booleans())))
def test_pieces_of_any_kind_are_kept_within_bounds(pieces: list[EapTlsData]) -> None:
    fragments = TlsFragments()
    try:
        for piece in pieces:
            whole = fragments.take(piece)
            assert whole is None or len(whole) <= 16384
            assert len(fragments._received) <= 16384
    except PeerMisbehaved:
        pass


# conversations

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def machine() -> Identity:
    return Identity.ephemeral("host/server.example")


@cache
def alice() -> Identity:
    return Identity.ephemeral("alice@example.org", authority=machine().authority)


@cache
def users() -> Users:
    return Users({"alice@example.org": "a password"})


mschap_data = st.builds(lambda value, chap_id: write_mschap(chap_id, value, is_request=True), asked, u8) | st.builds(
    lambda value, chap_id: write_mschap(chap_id, value, is_request=False), answered, u8
)
tls_data = st.builds(
    lambda data, more, start: write_tls_data(EapTlsData(data, None, more, start)),
    st.binary(max_size=100),
    st.booleans(),
    st.booleans(),
)
anything = st.lists(
    st.binary(max_size=60)
    | st.builds(
        lambda code, offset, eap_type, data: (code, offset, eap_type, data),
        st.sampled_from([EapCode.REQUEST, EapCode.RESPONSE, EapCode.SUCCESS, EapCode.FAILURE]),
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from([EapType.IDENTITY, EapType.NAK, EapType.TLS, EapType.MSCHAPV2, EapType.NOTIFICATION]),
        mschap_data | tls_data | st.binary(max_size=20),
    ),
    max_size=8,
)


def packet_of(said: bytes | tuple[int, int, int, bytes], identifier: int) -> bytes:
    if isinstance(said, bytes):
        return said
    code, offset, eap_type, data = said
    if code in (EapCode.SUCCESS, EapCode.FAILURE):
        return write_eap(EapPacket(code, identifier + offset & 0xFF))
    return write_eap(EapPacket(code, identifier + offset & 0xFF, eap_type, data))


@given(anything, st.booleans(), st.booleans())
def test_whatever_is_answered_proves_nobody(
    said: list[bytes | tuple[int, int, int, bytes]], by_password: bool, named: bool
) -> None:
    methods: list[ServerMethod] = [CertificateServer(machine(), None, NOW)]
    if by_password:
        methods.insert(0, PasswordServer(users(), b"server", SeededEntropy("server")))
    server = EapServer(methods, parse_user_name("alice@example.org") if named else None, 1)
    packet = server.begin()
    try:
        for each in said:
            if server.failure is not None:
                break
            packet = server.handle_response(packet_of(each, packet[1]))
    except (WireError, PeerMisbehaved):
        pass
    assert server.proven is None


@given(anything, st.booleans())
def test_whatever_is_asked_nobody_is_believed(
    said: list[bytes | tuple[int, int, int, bytes]], by_password: bool
) -> None:
    method: PeerMethod = CertificatePeer(alice(), machine(), parse_peer_target_name("host/server.example"), NOW)
    if by_password:
        method = PasswordPeer(parse_user_name("alice@example.org"), Secret("a password"), SeededEntropy("peer"))
    peer = EapPeer(b"alice@example.org", method)
    try:
        for each in said:
            answer = peer.handle_request(packet_of(each, 7))
            assert not isinstance(answer, Secret)
            assert b"a password" not in answer
    except (PeerMisbehaved, AuthenticationFailed):
        pass
