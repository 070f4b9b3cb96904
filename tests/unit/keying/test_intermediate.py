"""What of an IKE_INTERMEDIATE message AUTH covers: RFC 9242 3.3.2."""

from __future__ import annotations

import pytest

from securesock.keying.ikev2.intermediate import authenticated_octets
from securesock.wire.ikev2.message import write_payloads, write_sk_prefix, write_skf_prefix
from securesock.wire.ikev2.payloads import KeyExchange
from securesock.wire.numbers import ExchangeType, HeaderFlag, PayloadType

HEAD = (b"initiate", b"responds", ExchangeType.IKE_INTERMEDIATE, HeaderFlag.INITIATOR, 1)
FIRST, INNER = write_payloads((KeyExchange(36, bytes(range(256)) * 4),))


def test_lengths_count_neither_iv_nor_padding_nor_icv() -> None:
    sealed = write_sk_prefix(*HEAD, FIRST, 8 + len(INNER) + 1 + 16) + bytes(8 + len(INNER) + 1 + 16)
    authenticated = authenticated_octets(sealed, FIRST, INNER)
    # the length of A and P together, and of P with the header of the Encrypted payload
    assert authenticated[24:28] == (28 + 4 + len(INNER)).to_bytes(4, "big")
    assert authenticated[28:32] == bytes((FIRST, 0)) + (4 + len(INNER)).to_bytes(2, "big")
    assert authenticated[:24] == sealed[:24]
    assert authenticated[32:] == INNER
    assert authenticated == write_sk_prefix(*HEAD, FIRST, len(INNER)) + INNER


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_message_in_fragments_is_covered_as_if_it_were_whole(number: int) -> None:
    """RFC 9242 3.3.2: the prf is applied to whole messages only, whichever fragment came last."""
    fragment = write_skf_prefix(*HEAD, FIRST, 100, number, 3) + bytes(100)
    assert fragment[16] == PayloadType.SKF
    assert authenticated_octets(fragment, FIRST, INNER) == write_sk_prefix(*HEAD, FIRST, len(INNER)) + INNER


@pytest.mark.parametrize(("at", "bit"), [(17, 0x01), (19, 0x10), (19, 0x01)], ids=["minor", "V flag", "reserved"])
def test_bits_that_are_ignored_are_covered_as_they_came(at: int, bit: int) -> None:
    """From the first octet of the IKE header on: a later minor version, say, and flags that nobody knows yet."""
    sealed = bytearray(write_sk_prefix(*HEAD, FIRST, 8 + len(INNER) + 1 + 16))
    sealed[at] |= bit
    authenticated = authenticated_octets(bytes(sealed), FIRST, INNER)
    assert authenticated[:24] == bytes(sealed[:24])
