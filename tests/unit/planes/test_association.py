"""A key exchange with a peer: when it was heard, under which of its SAs."""

from __future__ import annotations

from typing import cast

import pytest

from securesock.crypto import suites
from securesock.crypto.kdf import DirectionKeys
from securesock.crypto.suites import EspSuite
from securesock.keying.contract import KeyingSession, Role
from securesock.planes.userspace.association import Association, AssociationOpener
from securesock.planes.userspace.peers import Peer
from securesock.sad.spec import InnerFlow, SaSpec
from securesock.types import Lifetimes

ADDRESS = ("192.0.2.1", 7001)
FLOW = InnerFlow(17, "192.0.2.1", 7001, "192.0.2.2", 7002)
SUITE = EspSuite(suites.AES_128_GCM_16, None)


def association() -> Association:
    return Association(Peer(ADDRESS), cast(KeyingSession, None), Role.RESPONDER, b"", 10.0)


def opener(of: Association, spi: int) -> AssociationOpener:
    keys = DirectionKeys(bytes(20), b"")
    return AssociationOpener(SaSpec(spi, SUITE, keys, Lifetimes(1000.0, 1 << 30, 1 << 20), spi, FLOW, False), of, 10.0)


def test_it_was_heard_when_its_newest_sa_opened_a_packet() -> None:
    one = association()
    first = opener(one, 256)
    one.open_with(first)
    assert one.last_in == 10.0
    first.last_in = 12.0
    assert one.last_in == 12.0


def test_what_an_older_sa_opened_counts_on_when_there_is_a_newer_one() -> None:
    one = association()
    first, second = opener(one, 256), opener(one, 257)
    one.open_with(first)
    first.last_in = 12.0
    one.open_with(second)
    assert one.last_in == 12.0
    assert first.watchful  # its packets are told of one by one from now on
    one.heard(13.0)
    assert one.last_in == 13.0
    second.last_in = 14.0
    one.open_with(first)  # the newer one went again
    assert one.last_in == 14.0
    one.open_with(None)
    assert one.last_in == 14.0


def test_packets_are_watched_until_the_peer_has_the_keys_and_where_addresses_are_translated() -> None:
    one = association()
    newest = opener(one, 256)
    one.open_with(newest)
    assert newest.watchful
    one.confirmed = True
    one.set_watch()
    assert not newest.watchful
    one.translated = True
    one.set_watch()
    assert newest.watchful


@pytest.mark.parametrize("size", [1, 1000, 65507])
def test_no_packet_that_reaches_a_limit_goes_unlooked_at(size: int) -> None:
    one = association()
    newest = opener(one, 256)
    one.confirmed = True
    one.open_with(newest)
    newest.check_packets, newest.check_bytes = 100, 200_000
    newest.note_limits()
    looks = 0
    for _ in range(120):
        newest.packets += 1
        newest.byte_count += size
        if newest.packets >= newest.look_at:
            looks += 1
            newest.note_limits()
        else:
            assert newest.packets < newest.check_packets
            assert newest.byte_count < newest.check_bytes
    assert 20 < looks < 120
