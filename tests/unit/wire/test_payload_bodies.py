"""Each payload's body: known bytes both ways, unknown numbers kept, wrong lengths refused."""

from __future__ import annotations

import pytest

from securesock.errors import WireError
from securesock.wire.ikev2.bodies import MAX_CONFIG_ATTRIBUTES, MAX_DELETED_SPIS
from securesock.wire.ikev2.message import parse_payloads, write_payloads
from securesock.wire.ikev2.payloads import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    Eap,
    Identification,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    TrafficSelector,
    TrafficSelectors,
    UnknownPayload,
    UnknownTrafficSelector,
    VendorId,
)
from securesock.wire.numbers import PayloadType

# RFC 5903 8.1, 8.2, 8.3: the KE payloads that the initiator sends for groups 19, 20 and 21
RFC5903_KE = {
    19: (
        "0000004800130000dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c37725811805271a0461cdb8252"
        "d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3"
    ),
    20: (
        "0000006800140000667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4"
        "c88732aee95f41aa9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947da"
        "e69b4c634573a81c"
    ),
    21: (
        "0000008c001500000015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e38"
        "0aeae57c2d107564941885942af5a7f4601723c4195d176ced3e017cae20b6641d2eeb695786d8c946146239d099e18e"
        "1d5a514c739d7cb4a10ad8a788015ac405d7799dc75e7b7d5b6cf2261a6a7f1507438bf01beb6ca3926f9582"
    ),
}


@pytest.mark.parametrize(("group", "text"), RFC5903_KE.items())
def test_key_exchange_payloads_of_rfc5903(group: int, text: str) -> None:
    raw = bytes.fromhex(text)
    (payload,) = parse_payloads(PayloadType.KE, raw)
    assert payload == KeyExchange(group, raw[8:])
    assert write_payloads((payload,)) == (PayloadType.KE, raw)


@pytest.mark.parametrize(("data_length", "payload_length"), [(1184, 1192), (1088, 1096)])
def test_key_exchange_payloads_of_ml_kem_768_have_the_drafts_sizes(data_length: int, payload_length: int) -> None:
    # draft-ietf-ipsecme-ikev2-mlkem: encapsulation key and ciphertext of ML-KEM-768
    _, raw = write_payloads((KeyExchange(36, bytes(data_length)),))
    assert len(raw) == payload_length


KNOWN: list[tuple[str, Payload, str]] = [
    # what: RFC 7296's figure, with the reserved fields zero
    ("3.5 IDi", Identification(35, 2, b"a.example"), "00000011 02000000 612e6578616d706c65"),
    ("3.5 IDr", Identification(36, 1, bytes((192, 0, 2, 1))), "0000000c 01000000 c0000201"),
    ("3.5 of an unknown type", Identification(36, 201, b""), "00000008 c9000000"),
    ("3.6", Certificate(4, b"\x30\x00"), "00000007 04 3000"),
    ("3.7", CertificateRequest(4, b"\xaa" * 20), "00000019 04" + "aa" * 20),
    ("3.8", Authentication(14, b"\x01\x02"), "0000000a 0e000000 0102"),
    ("3.9", Nonce(bytes(16)), "00000014" + "00" * 16),
    ("3.9 of the longest", Nonce(bytes(256)), "00000104" + "00" * 256),
    ("3.10 without SPI", Notify(16388, b"\x01" * 20), "0000001c 0000 4004" + "01" * 20),
    ("3.10 with SPI", Notify(16393, b"", 3, b"\x01\x02\x03\x04"), "0000000c 0304 4009 01020304"),
    ("3.10 of an unknown type", Notify(50000, b"x"), "00000009 0000 c350 78"),
    ("3.11 IKE SA", Delete(1), "00000008 0100 0000"),
    ("3.11 two ESP SAs", Delete(3, (b"abcd", b"efgh")), "00000010 0304 0002 61626364 65666768"),
    ("3.11 of a protocol unknown here", Delete(9), "00000008 0900 0000"),
    ("3.11 no AH SA", Delete(2), "00000008 0204 0000"),
    ("3.11 no ESP SA", Delete(3), "00000008 0304 0000"),
    ("3.12", VendorId(b"securesock"), "0000000e 736563757265736f636b"),
    (
        "3.13 one IPv4 address and port",
        TrafficSelectors(44, (TrafficSelector(7, 6, 5000, 5000, b"\xc0\0\2\1", b"\xc0\0\2\1"),)),
        "00000018 01000000 07060010 13881388 c0000201 c0000201",
    ),
    (
        "3.13 all of IPv6, and a type unknown here",
        TrafficSelectors(
            45, (TrafficSelector(8, 0, 0, 65535, bytes(16), b"\xff" * 16), UnknownTrafficSelector(10, 0, b"sys"))
        ),
        "00000037 02000000 08000028 0000ffff" + "00" * 16 + "ff" * 16 + "0a000007 737973",
    ),
    ("3.15", Configuration(1, ((1, b""), (25, b"a"))), "00000011 01000000 00010000 00190001 61"),
    ("3.16", Eap(bytes.fromhex("0101000501")), "00000009 0101000501"),
    ("of an unknown type", UnknownPayload(54, False, b"ps"), "00000006 7073"),
    ("of an unknown type, critical", UnknownPayload(200, True, b"ps"), "00800006 7073"),
]


@pytest.mark.parametrize(("what", "payload", "text"), KNOWN, ids=[item[0] for item in KNOWN])
def test_known_bytes_both_ways(what: str, payload: Payload, text: str) -> None:
    raw = bytes.fromhex(text)
    assert write_payloads((payload,)) == (payload.payload_type, raw)
    (parsed,) = parse_payloads(payload.payload_type, raw)
    assert parsed == payload
    assert type(parsed) is type(payload)


@pytest.mark.parametrize(
    ("payload_type", "text"),
    [
        (PayloadType.KE, "001300"),
        (PayloadType.IDi, "020000"),
        (PayloadType.IDr, ""),
        (PayloadType.CERT, ""),
        (PayloadType.CERTREQ, ""),
        (PayloadType.AUTH, "020000"),
        (PayloadType.NONCE, "00" * 15),
        (PayloadType.NONCE, "00" * 257),
        (PayloadType.NOTIFY, "000040"),
        (PayloadType.NOTIFY, "0304400900"),
        (PayloadType.DELETE, "030400"),
        (PayloadType.DELETE, "0304000161626364 65"),
        (PayloadType.DELETE, "03040002 61626364"),
        (PayloadType.DELETE, "0300ffff"),
        (PayloadType.DELETE, "01040001 61626364"),
        (PayloadType.DELETE, "03080001 6162636465666768"),
        (PayloadType.TSi, "00000000"),
        (PayloadType.TSi, "010000"),
        (PayloadType.TSi, "02000000 07060010 13881388 c0000201 c0000201"),
        (PayloadType.TSi, "01000000 07060010 13881388 c0000201 c0000201 00"),
        (PayloadType.TSr, "01000000 07060011 13881388 c0000201 c0000201 00"),
        (PayloadType.TSr, "01000000 08060010 13881388 c0000201 c0000201"),
        (PayloadType.TSr, "01000000 0a060003"),
        (PayloadType.EAP, "010100"),
        (PayloadType.EAP, "0101000601"),
        (PayloadType.CP, "0100"),
        (PayloadType.CP, "01000000 0001"),
        (PayloadType.CP, "01000000 00010001"),
    ],
)
def test_bodies_that_contradict_themselves_are_refused(payload_type: int, text: str) -> None:
    body = bytes.fromhex(text)
    raw = b"\0\0" + (4 + len(body)).to_bytes(2, "big") + body
    with pytest.raises(WireError):
        parse_payloads(payload_type, raw)


def test_counts_are_bounded() -> None:
    spis = tuple(number.to_bytes(4, "big") for number in range(MAX_DELETED_SPIS + 1))
    attributes = ((1, b""),) * (MAX_CONFIG_ATTRIBUTES + 1)
    for payload in (Delete(3, spis[:-1]), Configuration(1, attributes[:-1])):
        first, raw = write_payloads((payload,))
        assert parse_payloads(first, raw) == (payload,)
    for payload in (Delete(3, spis), Configuration(1, attributes)):
        first, raw = write_payloads((payload,))
        with pytest.raises(WireError, match="more than"):
            parse_payloads(first, raw)


def test_protocol_of_a_notify_without_spi_is_ignored() -> None:
    # RFC 7296 3.10; RFC 4306 had another rule, and such notifies still come
    assert parse_payloads(PayloadType.NOTIFY, bytes.fromhex("00000008 0100 4000")) == (Notify(16384),)


def test_reserved_bit_of_a_configuration_attribute_is_ignored() -> None:
    raw = bytes.fromhex("0000000c 02000000 80010000")
    assert parse_payloads(PayloadType.CP, raw) == (Configuration(2, ((1, b""),)),)


def test_errors_are_told_from_status_by_number_alone() -> None:
    assert Notify(16383).is_error
    assert not Notify(16384).is_error


def test_identification_body_is_what_auth_covers() -> None:
    assert Identification(35, 2, b"name").body == b"\x02\0\0\0name"


def test_eap_message_is_not_shown() -> None:
    assert "secret" not in repr(Eap(b"\x02\x01\x00\x0bsecret!")) + repr((Eap(b"\x02\x01\x00\x0bsecret!"),))


@pytest.mark.parametrize(
    "payload",
    [
        Delete(3, (b"abcd", b"abc")),
        Delete(3, (b"",)),
        Nonce(bytes(15)),
        Nonce(bytes(257)),
        TrafficSelectors(44, (TrafficSelector(7, 6, 0, 0, bytes(16), bytes(16)),)),
        TrafficSelectors(44, (TrafficSelector(7, 6, 0, 0, bytes(4), bytes(16)),)),
        TrafficSelectors(44, (TrafficSelector(9, 6, 0, 0, bytes(4), bytes(4)),)),
        TrafficSelectors(44, (TrafficSelector(7, 6, 0, 65536, bytes(4), bytes(4)),)),
        Identification(35, 256, b""),
        Certificate(256, b""),
        Authentication(256, b""),
        Notify(1, b"", 3, bytes(256)),
        Configuration(1, ((1, bytes(65536)),)),
    ],
)
def test_values_without_a_legal_form_are_not_written(payload: Payload) -> None:
    with pytest.raises(WireError):
        write_payloads((payload,))
