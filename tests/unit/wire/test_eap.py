"""EAP packets and what is in them: known bytes both ways, limits, and nothing shown that a password is in."""

from __future__ import annotations

import pytest

from securesock.errors import WireError
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

# RFC 2759 9.2
CHALLENGE = bytes.fromhex("5b5d7c7d7b3f2f3e3c2c602132262628")
PEER_CHALLENGE = bytes.fromhex("21402324255e262a28295f2b3a337c7e")
NT_RESPONSE = bytes.fromhex("82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df")
AUTHENTICATOR_RESPONSE = bytes.fromhex("407a5589115fd0d6209f510fe9c04566932cda56")

PACKETS = [
    ("01010005" + "01", EapPacket(EapCode.REQUEST, 1, EapType.IDENTITY)),
    ("0201000a01616c696365", EapPacket(EapCode.RESPONSE, 1, EapType.IDENTITY, b"alice")),
    ("02ff0006030d", EapPacket(EapCode.RESPONSE, 255, EapType.NAK, b"\x0d")),
    ("03070004", EapPacket(EapCode.SUCCESS, 7)),
    ("04080004", EapPacket(EapCode.FAILURE, 8)),
    ("01090006fe00", EapPacket(EapCode.REQUEST, 9, EapType.EXPANDED, b"\0")),
]


@pytest.mark.parametrize(("text", "packet"), PACKETS)
def test_packets_are_read_and_written(text: str, packet: EapPacket) -> None:
    raw = bytes.fromhex(text)
    assert parse_eap_untrusted(raw) == packet
    assert write_eap(packet) == raw


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "truncated"),
        ("010100", "truncated"),
        ("01010004", "without a type"),
        ("02010004", "without a type"),
        ("0101000601", "length"),
        ("0101000501ff", "length"),
        ("0301000501", "with data"),
        ("0001000501", "code 0"),
        ("0501000501", "code 5"),
    ],
)
def test_what_is_no_packet_is_refused(text: str, said: str) -> None:
    with pytest.raises(WireError, match=said):
        parse_eap_untrusted(bytes.fromhex(text))


@pytest.mark.parametrize(
    "packet",
    [
        EapPacket(EapCode.SUCCESS, 1, None, b"x"),
        EapPacket(EapCode.REQUEST, 1),
        EapPacket(EapCode.SUCCESS, 1, EapType.TLS),
        EapPacket(1, 1, 13, bytes(65536)),
    ],
)
def test_what_has_no_form_is_not_written(packet: EapPacket) -> None:
    with pytest.raises(WireError):
        write_eap(packet)


MESSAGES: list[tuple[str, MsChap, bool]] = [
    ("010700" + "1a" + "10" + CHALLENGE.hex() + "73657276" + "65", MsChapChallenge(CHALLENGE, b"serve"), True),
    (
        "02070039" + "31" + PEER_CHALLENGE.hex() + "00" * 8 + NT_RESPONSE.hex() + "00" + "557365",
        MsChapResponse(PEER_CHALLENGE, NT_RESPONSE, b"Use"),
        False,
    ),
    ("03", MsChapSuccess(), False),
    ("04", MsChapFailure(), False),
]


@pytest.mark.parametrize(("text", "value", "is_request"), MESSAGES)
def test_mschapv2_is_read_and_written(text: str, value: MsChap, is_request: bool) -> None:
    raw = bytes.fromhex(text)
    chap_id, found = parse_mschap_untrusted(raw, is_request=is_request)
    assert found == value
    assert chap_id == (7 if len(raw) > 1 else 0)
    assert write_mschap(chap_id, value, is_request=is_request) == raw


def test_success_and_failure_say_what_rfc_2759_has_them_say() -> None:
    success = write_mschap(1, MsChapSuccess(AUTHENTICATOR_RESPONSE, b"OK"), is_request=True)
    assert success[4:] == b"S=407A5589115FD0D6209F510FE9C04566932CDA56 M=OK"
    assert parse_mschap_untrusted(success, is_request=True)[1] == MsChapSuccess(AUTHENTICATOR_RESPONSE, b"OK")
    failure = write_mschap(1, MsChapFailure(691, False, CHALLENGE), is_request=True)
    assert failure[4:] == b"E=691 R=0 C=5B5D7C7D7B3F2F3E3C2C602132262628 V=3 M=Authentication failed"
    assert parse_mschap_untrusted(failure, is_request=True)[1] == MsChapFailure(691, False, CHALLENGE)


@pytest.mark.parametrize("text", [b"E=691 R=1", b"E=691 R=1 V=3", b"E=647 R=0 C=" + b"0" * 32])
def test_a_shorter_failure_of_another_implementation_is_understood(text: bytes) -> None:
    raw = b"\x04\x01" + (4 + len(text)).to_bytes(2, "big") + text
    value = parse_mschap_untrusted(raw, is_request=True)[1]
    assert isinstance(value, MsChapFailure)
    assert value.error in (691, 647)


@pytest.mark.parametrize(
    ("text", "is_request"),
    [
        ("", True),
        ("03", True),  # success without its proof
        ("01", False),
        ("010000", True),
        ("01000005", True),
        ("0100000600", True),
        ("010000" + "15" + "0f" + "00" * 16, True),  # a challenge of 15 bytes
        ("020000" + "14" + "10" + "00" * 15, False),
        ("0300000553", True),
        ("0400000545", True),
        ("0700000400", True),
        ("0100" + (4 + 17 + MAX_NAME + 1).to_bytes(2, "big").hex() + "10" + "00" * (16 + MAX_NAME + 1), True),
        ("0200" + (4 + 50 + MAX_NAME + 1).to_bytes(2, "big").hex() + "31" + "00" * (49 + MAX_NAME + 1), False),
    ],
)
def test_what_is_no_mschapv2_is_refused(text: str, is_request: bool) -> None:
    with pytest.raises(WireError, match="MSCHAPv2"):
        parse_mschap_untrusted(bytes.fromhex(text), is_request=is_request)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20", EapTlsData(start=True)),
        ("00", EapTlsData()),
        ("001603", EapTlsData(b"\x16\x03")),
        ("c0000000101603", EapTlsData(b"\x16\x03", 16, True)),
        ("4016", EapTlsData(b"\x16", None, True)),
        ("80000000021603", EapTlsData(b"\x16\x03", 2)),
    ],
)
def test_eap_tls_is_read_and_written(text: str, value: EapTlsData) -> None:
    raw = bytes.fromhex(text)
    assert parse_tls_data_untrusted(raw) == value
    assert write_tls_data(value) == raw


def test_reserved_flags_of_eap_tls_are_ignored() -> None:
    assert parse_tls_data_untrusted(b"\x1f\x16") == EapTlsData(b"\x16")


@pytest.mark.parametrize("text", ["", "80000000", "8000000001" + "1603"])
def test_what_is_no_eap_tls_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="EAP-TLS"):
        parse_tls_data_untrusted(bytes.fromhex(text))


def test_nothing_that_a_password_can_be_found_with_is_shown() -> None:
    packet = EapPacket(EapCode.RESPONSE, 1, EapType.MSCHAPV2, NT_RESPONSE)
    response = MsChapResponse(PEER_CHALLENGE, NT_RESPONSE, b"User")
    assert not any(repr(NT_RESPONSE)[2:20] in repr(each) for each in (packet, response))
    assert repr(response) == "MsChapResponse(***)"
