"""One IKE_SA seals and opens: sizes of datagrams, fragments of both directions, IVs."""

from __future__ import annotations

import pytest

from securesock.crypto import suites
from securesock.crypto.kdf import derive_ike_keys
from securesock.crypto.suites import IkeSuite
from securesock.keying.ikev2.fragments import Whole
from securesock.keying.ikev2.ike_sa import IkeSa
from securesock.keying.ikev2.init import ExpectNothing
from securesock.testing import SeededEntropy
from securesock.wire.ikev2.message import Encrypted, parse_message_untrusted, write_payloads
from securesock.wire.ikev2.payloads import VendorId
from securesock.wire.numbers import ExchangeType, PayloadType

LARGEST_MESSAGE = 1280 - 40 - 8 - 4
"""RFC 7383 2.5.1: IPv6's minimum MTU, less IPv6, UDP and the non-ESP marker."""

AEAD = IkeSuite(suites.AES_256_GCM_16, None, suites.PRF_HMAC_SHA2_256, suites.X25519)
CBC = IkeSuite(suites.AES_256_CBC, suites.HMAC_SHA2_512_256, suites.PRF_HMAC_SHA2_256, suites.X25519)
SUITES = pytest.mark.parametrize("suite", [AEAD, CBC], ids=lambda suite: suite.name)


def ike_sa(suite: IkeSuite = AEAD, *, initiator: bool = True) -> IkeSa:
    spis = (b"i" * 8, b"r" * 8)
    sa = IkeSa(
        initiator=initiator,
        our_spi=spis[0 if initiator else 1],
        peer_spi=spis[1 if initiator else 0],
        entropy=SeededEntropy(1),
        expecting=ExpectNothing(),
        retransmit=True,
    )
    sa.use_keys(suite, derive_ike_keys(suite, b"s" * 32, b"n" * 32, b"m" * 32, *spis))
    sa.fragmentation = True
    return sa


def sealed(sa: IkeSa, length: int) -> tuple[bytes, ...]:
    return sa.seal(ExchangeType.INFORMATIONAL, 1, (VendorId(bytes(length)),), response=False)


@SUITES
def test_no_length_of_a_message_makes_a_datagram_too_large(suite: IkeSuite) -> None:
    """Pad Length, CBC's padding and the non-ESP marker count too: the edge is where a message is just not cut."""
    sa = ike_sa(suite)
    counts = set()
    for length in range(1050, 2500):
        datagrams = sealed(sa, length)
        assert max(map(len, datagrams)) <= LARGEST_MESSAGE
        counts.add(len(datagrams))
    assert counts == {1, 2, 3}


@SUITES
def test_what_fits_is_not_cut(suite: IkeSuite) -> None:
    sa = ike_sa(suite)
    whole = [datagrams[0] for length in range(1050, 1200) if len(datagrams := sealed(sa, length)) == 1]
    assert max(map(len, whole)) > LARGEST_MESSAGE - suite.encryption.alignment


@SUITES
@pytest.mark.parametrize("length", [10, 1500, 5000])
def test_the_other_end_opens_what_was_sealed_in_any_number_of_pieces(suite: IkeSuite, length: int) -> None:
    sealing, opening = ike_sa(suite), ike_sa(suite, initiator=False)
    whole = None
    for datagram in sealed(sealing, length):
        encrypted = parse_message_untrusted(datagram).encrypted
        assert encrypted is not None
        piece = opening.open(encrypted, datagram)
        whole = Whole(encrypted.first_payload, piece)
        if encrypted.total_fragments:
            whole = opening.reassemble(False, 1, encrypted, piece, 0.0)
    assert whole == Whole(*write_payloads((VendorId(bytes(length)),)))


def test_a_request_and_a_reply_come_in_at_once_without_disturbing_each_other() -> None:
    sa = ike_sa()

    def add(is_reply: bool, number: int, piece: bytes) -> Whole | None:
        first_payload = int(PayloadType.KE) if number == 1 else 0
        return sa.reassemble(is_reply, 1, Encrypted(first_payload, 36, number, 2), piece, 0.0)

    assert add(False, 1, b"request ") is None
    assert add(True, 1, b"reply ") is None
    assert add(False, 2, b"of theirs") == Whole(PayloadType.KE, b"request of theirs")
    assert add(True, 2, b"to ours") == Whole(PayloadType.KE, b"reply to ours")


def test_no_iv_repeats_under_one_key() -> None:
    sa = ike_sa()
    ivs = [datagram[32:40] for _ in range(50) for datagram in sealed(sa, 10)]
    ivs += [datagram[36:44] for _ in range(50) for datagram in sealed(sa, 3000)]
    assert len(set(ivs)) == len(ivs) == 50 + 3 * 50
