"""IKEv2 messages: known bytes both ways, what must be ignored, what must be refused."""

from __future__ import annotations

import pytest

from securesock.errors import WireError
from securesock.wire.ikev2.message import (
    MAX_PAYLOADS,
    MAX_TOTAL_FRAGMENTS,
    Encrypted,
    parse_message_untrusted,
    parse_payloads,
    write_message,
    write_payloads,
    write_sk_prefix,
    write_skf_prefix,
)
from securesock.wire.ikev2.payloads import KeyExchange, Nonce, Notify, UnknownPayload, VendorId
from securesock.wire.isakmp import IkeHeader, read_header_untrusted
from securesock.wire.numbers import ExchangeType, HeaderFlag, NotifyType, PayloadType

SPI_I = bytes.fromhex("c0c1c2c3c4c5c6c7")
SPI_R = bytes.fromhex("d0d1d2d3d4d5d6d7")

# RFC 7634 appendix B: an INFORMATIONAL message with one SK payload, and what is inside of it
RFC7634_MESSAGE = bytes.fromhex(
    "c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029"
    "1011121314151617"
    "61039470 1f8d017f7c129248896b71bfe25236efd7cdc67066906315b2"
)
RFC7634_PLAINTEXT = bytes.fromhex("0000000c000040010000000a00")


def test_header_of_rfc7634_appendix_b() -> None:
    assert read_header_untrusted(RFC7634_MESSAGE) == IkeHeader(
        SPI_I, SPI_R, PayloadType.SK, 0x20, ExchangeType.INFORMATIONAL, 0, 9, 69
    )


def test_encrypted_payload_of_rfc7634_appendix_b_is_found_and_its_prefix_written_again() -> None:
    message = parse_message_untrusted(RFC7634_MESSAGE)
    assert message.payloads == ()
    assert message.encrypted == Encrypted(PayloadType.NOTIFY, 32, 0, 0)
    body = RFC7634_MESSAGE[32:]
    assert body[:8] == bytes.fromhex("1011121314151617")
    prefix = write_sk_prefix(SPI_I, SPI_R, ExchangeType.INFORMATIONAL, 0, 9, PayloadType.NOTIFY, len(body))
    assert prefix + body == RFC7634_MESSAGE


def test_content_of_rfc7634_appendix_b_both_ways() -> None:
    content = RFC7634_PLAINTEXT[:-1]  # the last byte is the pad length
    payloads = parse_payloads(PayloadType.NOTIFY, content)
    assert payloads == (Notify(NotifyType.SET_WINDOW_SIZE, bytes((0, 0, 0, 10))),)
    assert write_payloads(payloads) == (PayloadType.NOTIFY, content)


def test_clear_message_is_read_as_written() -> None:
    payloads = (KeyExchange(31, bytes(range(32))), Nonce(b"n" * 32), Notify(NotifyType.COOKIE, b"c" * 64))
    raw = write_message(SPI_I, bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.INITIATOR, 0, payloads)
    message = parse_message_untrusted(raw)
    assert message.payloads == payloads
    assert message.encrypted is None
    assert message.header.length == len(raw)
    assert [type(payload) for payload in message.payloads] == [KeyExchange, Nonce, Notify]


def test_message_without_payloads() -> None:
    raw = write_message(SPI_I, SPI_R, ExchangeType.INFORMATIONAL, HeaderFlag.RESPONSE, 1, ())
    assert len(raw) == 28
    assert parse_message_untrusted(raw).payloads == ()


@pytest.mark.parametrize("length", [27, 29])
def test_header_length_other_than_the_datagrams_is_refused(length: int) -> None:
    raw = bytearray(write_message(SPI_I, SPI_R, ExchangeType.INFORMATIONAL, 0, 1, ()))
    raw[24:28] = length.to_bytes(4, "big")
    with pytest.raises(WireError, match="Length"):
        read_header_untrusted(bytes(raw))


def test_header_of_another_major_version_is_read_but_its_message_is_not() -> None:
    raw = bytearray(write_message(SPI_I, SPI_R, ExchangeType.INFORMATIONAL, 0, 1, ()))
    raw[17] = 0x30
    assert read_header_untrusted(bytes(raw)).major_version == 3
    with pytest.raises(WireError, match="major version 3"):
        parse_message_untrusted(bytes(raw))


def test_minor_version_and_reserved_bits_are_ignored() -> None:
    raw = bytearray(write_message(SPI_I, SPI_R, 37, 0, 1, (VendorId(b"v"),)))
    raw[17] = 0x2F
    raw[19] = 0xC7  # flags that RFC 7296 3.1 does not define
    raw[29] = 0xFF  # critical bit of a payload we know, and the reserved ones
    assert parse_message_untrusted(bytes(raw)).payloads == (VendorId(b"v"),)


@pytest.mark.parametrize("critical", [False, True])
def test_unknown_payload_survives_with_its_critical_bit(critical: bool) -> None:
    payloads = (Nonce(b"n" * 16), UnknownPayload(200, critical, b"what"), VendorId(b"v"))
    raw = write_message(SPI_I, SPI_R, 34, 8, 0, payloads)
    assert parse_message_untrusted(raw).payloads == payloads


def test_payloads_may_stand_before_the_encrypted_one_but_not_behind() -> None:
    sk = bytes.fromhex("0000000c") + bytes(8)
    first, chain = write_payloads((VendorId(b"v"),))
    raw = bytearray(write_message(SPI_I, SPI_R, 35, 8, 1, ())) + chain + sk
    raw[16], raw[28] = first, PayloadType.SK
    raw[24:28] = len(raw).to_bytes(4, "big")
    message = parse_message_untrusted(bytes(raw))
    assert message.payloads == (VendorId(b"v"),)
    assert message.encrypted == Encrypted(0, len(raw) - 8)
    raw += bytes(4)
    raw[24:28] = len(raw).to_bytes(4, "big")
    with pytest.raises(WireError, match="not the last"):
        parse_message_untrusted(bytes(raw))


@pytest.mark.parametrize("payload_type", [PayloadType.SK, PayloadType.SKF])
def test_encrypted_payload_inside_of_another_is_refused(payload_type: int) -> None:
    with pytest.raises(WireError, match="inside"):
        parse_payloads(payload_type, bytes.fromhex("0000000c") + bytes(8))


def test_fragments_carry_their_numbers_and_only_the_first_the_payload_type() -> None:
    body = bytes(range(40))
    for number in (1, 2, 3):
        raw = write_skf_prefix(SPI_I, SPI_R, 35, 8, 1, PayloadType.IDi, len(body), number, 3) + body
        encrypted = parse_message_untrusted(raw).encrypted
        assert encrypted == Encrypted(PayloadType.IDi if number == 1 else 0, 36, number, 3)
        assert raw[36:] == body


@pytest.mark.parametrize(("number", "total"), [(0, 1), (1, 0), (0, 0), (3, 2), (1, MAX_TOTAL_FRAGMENTS + 1)])
def test_fragment_numbers_out_of_range_are_refused(number: int, total: int) -> None:
    raw = bytearray(write_skf_prefix(SPI_I, SPI_R, 35, 8, 1, PayloadType.IDi, 8, 1, 1) + bytes(8))
    raw[32:36] = number.to_bytes(2, "big") + total.to_bytes(2, "big")
    with pytest.raises(WireError, match="SKF"):
        parse_message_untrusted(bytes(raw))


def test_number_of_payloads_is_bounded() -> None:
    first, chain = write_payloads([VendorId(b"")] * MAX_PAYLOADS)
    assert len(parse_payloads(first, chain)) == MAX_PAYLOADS
    first, chain = write_payloads([VendorId(b"")] * (MAX_PAYLOADS + 1))
    with pytest.raises(WireError, match="more than"):
        parse_payloads(first, chain)


@pytest.mark.parametrize(
    "payload",
    [
        VendorId(bytes(65532)),
        Notify(65536),
        KeyExchange(-1, b""),
        UnknownPayload(300, False, b""),
        Nonce(b"short"),
    ],
)
def test_values_that_do_not_fit_are_not_written(
    payload: VendorId | Notify | KeyExchange | UnknownPayload | Nonce,
) -> None:
    with pytest.raises(WireError):
        write_message(SPI_I, SPI_R, 37, 0, 0, (VendorId(b""), payload))


def test_spis_of_another_length_are_not_written() -> None:
    with pytest.raises(WireError, match="8 bytes"):
        write_message(b"short", SPI_R, 37, 0, 0, ())


@pytest.mark.parametrize("length", range(4))
def test_truncated_fragment_numbers_are_refused(length: int) -> None:
    raw = write_skf_prefix(SPI_I, SPI_R, 35, 8, 1, PayloadType.IDi, 0, 1, 1)[: 32 + length]
    raw = raw[:24] + len(raw).to_bytes(4, "big") + raw[28:30] + (4 + length).to_bytes(2, "big") + raw[32:]
    with pytest.raises(WireError, match="SKF: truncated"):
        parse_message_untrusted(raw)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 6, 65535])
def test_payload_length_below_its_header_or_beyond_the_message_is_refused(length: int) -> None:
    with pytest.raises(WireError, match="length of payload type 43"):
        parse_payloads(PayloadType.VENDOR_ID, b"\0\0" + length.to_bytes(2, "big") + b"v")


def test_bytes_behind_the_last_payload_are_refused() -> None:
    with pytest.raises(WireError, match="1 bytes after"):
        parse_payloads(0, b"x")
    with pytest.raises(WireError, match="2 bytes after"):
        parse_payloads(PayloadType.VENDOR_ID, bytes.fromhex("00000005 76 0000"))


@pytest.mark.parametrize(("number", "total"), [(0, 1), (2, 1)])
def test_fragment_numbers_out_of_range_are_not_written(number: int, total: int) -> None:
    with pytest.raises(WireError, match="fragment"):
        write_skf_prefix(SPI_I, SPI_R, 35, 8, 1, PayloadType.IDi, 8, number, total)


@pytest.mark.parametrize(("exchange_type", "message_id", "body_length"), [(256, 0, 0), (37, 2**32, 0), (37, 0, 65532)])
def test_header_fields_that_do_not_fit_are_not_written(exchange_type: int, message_id: int, body_length: int) -> None:
    with pytest.raises(WireError):
        write_sk_prefix(SPI_I, SPI_R, exchange_type, 0, message_id, 0, body_length)
