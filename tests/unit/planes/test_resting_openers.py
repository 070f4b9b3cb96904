"""Inbound SAs as rows of a table: each packet is judged as an opener of its own would judge it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest

from securesock.crypto import suites
from securesock.crypto.kdf import DirectionKeys
from securesock.crypto.suites import EspSuite
from securesock.engine.ports import Arrival
from securesock.keying.contract import KeyingSession, Role
from securesock.planes.userspace import resting_openers
from securesock.planes.userspace.association import Association, AssociationOpener
from securesock.planes.userspace.packet import Dropped, PacketSealer
from securesock.planes.userspace.peers import Peer
from securesock.planes.userspace.resting_openers import FIRST_PLACES, NotAtRest, RestingOpeners
from securesock.sad.ciphers import CIPHERS, Ciphers
from securesock.sad.entries import OutboundSa
from securesock.sad.spec import InnerFlow, SaSpec
from securesock.types import Address, Lifetimes, Principal

A: Address = ("192.0.2.1", 7001)
OTHER: Address = ("192.0.2.1", 7009)
A6: Address = ("2001:db8:1234:5678:9abc:def0:1234:5678", 7001, 0, 3)
SPI = 0xABCD1234
FLOW = InnerFlow(17, "192.0.2.1", 7001, "192.0.2.2", 7002)
GCM = EspSuite(suites.AES_256_GCM_16, None, esn=True)
SUITES = (
    GCM,
    EspSuite(suites.AES_128_GCM_16, None, esn=False),
    EspSuite(suites.CHACHA20_POLY1305, None, esn=True),
)
KEY = bytes(range(1, 37))
PRINCIPAL = Principal(name="host/a.example", kind="machine", method="psk", evidence="")


@pytest.fixture(autouse=True)
def no_cipher_is_worth_keeping(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(CIPHERS, "soon", 0)
    yield


def spec(suite: EspSuite = GCM, spi: int = SPI, **limits: int) -> SaSpec:
    encryption = suite.encryption.key_length + suite.encryption.salt_length
    keys = DirectionKeys(KEY[:encryption], b"i" * (suite.integrity.key_length if suite.integrity else 0))
    lifetimes = Lifetimes(**({"seconds": 1000.0, "max_bytes": 1 << 30, "max_packets": 1 << 20} | limits))
    return SaSpec(spi, suite, keys, lifetimes, 7, FLOW, False)


def sealer(of: SaSpec) -> PacketSealer:
    return PacketSealer(OutboundSa(replace(of, we_initiated=True), 0.0))


def association(address: Address = A) -> Association:
    return Association(Peer(address), cast(KeyingSession, None), Role.RESPONDER, b"", 10.0)


def opener(of: SaSpec, address: Address = A) -> AssociationOpener:
    made = AssociationOpener(of, association(address), 10.0)
    made.principal = PRINCIPAL
    return made


def table(*openers: AssociationOpener) -> RestingOpeners:
    made = RestingOpeners([each.spi for each in openers])
    for each in openers:
        assert made.put(each)
    return made


def low_of(packet: bytes) -> int:
    return int.from_bytes(packet[4:8], "big")


def opened(rows: RestingOpeners, packet: bytes, spi: int = SPI, address: Address = A, now: float = 11.0) -> object:
    return rows.open_untrusted(packet, spi, low_of(packet), address, now)


@pytest.mark.parametrize("suite", SUITES, ids=lambda each: each.encryption.name)
@pytest.mark.parametrize("address", [A, A6], ids=["ipv4", "ipv6"])
def test_packets_in_turn_are_opened_from_the_row(suite: EspSuite, address: Address) -> None:
    seals, rows = sealer(spec(suite)), table(opener(spec(suite), address))
    for number, length in enumerate((0, 1, 64, 1400, 64)):
        data = bytes([number]) * length
        arrival = opened(rows, seals.seal(data), address=address, now=11.0 + number)
        assert arrival == Arrival(data, address, PRINCIPAL, 7)
    assert rows.last_in(SPI) == 15.0
    taken = rows.take(SPI, association(address))
    assert (taken.packets, taken.top, taken.byte_count, taken.last_in) == (5, 5, 1529, 15.0)
    assert taken.open_untrusted(seals.seal(b"on its own"), 6) == b"on its own"


class Judge:
    """What a receiver with one SA makes of packets, by an opener of its own or from a row where that is possible."""

    def __init__(self, of: SaSpec, *, in_rows: bool) -> None:
        self.opener = opener(of)
        self.rows = table(self.opener) if in_rows else None
        self.from_row = 0

    def judge(self, packet: bytes, address: Address) -> object:
        low = low_of(packet)
        try:
            if self.rows is None:
                return self.opener.open_untrusted(packet, low)
            try:
                arrival = self.rows.open_untrusted(packet, SPI, low, address, 11.0)
            except NotAtRest:
                if SPI in self.rows and self.rows.address(SPI) is not None:
                    self.opener = self.rows.take(SPI, self.opener.association)
                try:
                    return self.opener.open_untrusted(packet, low)
                finally:
                    self.rows.put(self.opener)
            self.from_row += 1
            return None if arrival is None else arrival.data
        except Dropped as dropped:
            return dropped.reason

    def counts(self) -> tuple[int, int, int]:
        if self.rows is not None and self.rows.address(SPI) is not None:
            self.opener = self.rows.take(SPI, self.opener.association)
            assert self.rows.put(self.opener)
        return self.opener.packets, self.opener.top, self.opener.byte_count


def disturbed(packets: list[bytes], draw: random.Random, *, loses: bool) -> Iterator[tuple[bytes, Address]]:
    """Most in turn, some late, repeated, forged, cut, from elsewhere, or lost."""
    late: list[bytes] = []
    for packet in packets:
        what = draw.random()
        if what < 0.06:
            late.append(packet)
        elif what < 0.10:
            yield packet, A
            yield packet, A
        elif what < 0.13:
            yield packet[:-1] + bytes([packet[-1] ^ 1]), A
            yield packet, A
        elif what < 0.15:
            yield packet[: draw.choice((8, 20, 31, 32, 34, 35, 36, 40))], A
            yield packet, A
        elif what < 0.17:
            yield packet, OTHER
        elif what < 0.19 and loses:
            pass
        else:
            yield packet, A
        if late and draw.random() < 0.6:
            yield late.pop(0), A


@pytest.mark.parametrize("suite", SUITES, ids=lambda each: each.encryption.name)
@pytest.mark.parametrize("seed", range(12))
def test_any_history_of_packets_is_judged_as_by_an_opener_of_its_own(suite: EspSuite, seed: int) -> None:
    draw = random.Random(seed)
    seals = sealer(spec(suite))
    begin = 0 if seed % 3 else (1 << 32) - 40  # with ESN past the end of the low half, without up to it
    seals.sa.packets = begin
    judges = [Judge(spec(suite), in_rows=False), Judge(spec(suite), in_rows=True)]
    for judge in judges:
        if judge.rows is not None:
            judge.opener = judge.rows.take(SPI, judge.opener.association)
        judge.opener.top = begin
        if judge.rows is not None:
            judge.rows.put(judge.opener)
    odd = {10: dummy(), 11: bytes(64), 36: b"", 37: bytes(8) + bytes((0, 17))}  # the last two are no packets
    packets = [
        foreign(seals, odd[number]) if number in odd else seals.seal(bytes(draw.choice((0, 1, 64, 64, 64, 1400))))
        for number in range(39 if begin else 120)
    ]
    for packet, address in disturbed(packets, draw, loses=seed % 2 == 0):
        one, other = (judge.judge(packet, address) for judge in judges)
        assert one == other
        assert judges[0].counts() == judges[1].counts()
    assert judges[1].from_row > (0 if seed % 2 == 0 else 10)  # after a loss not for the next thousand


def dummy() -> bytes:
    return bytes(62) + bytes((0, 59))


def foreign(seals: PacketSealer, plain: bytes) -> bytes:
    """An authentic packet with anything in it."""
    seals.sa.packets += 1
    return seals.sa.cipher.seal_bytes(SPI.to_bytes(4, "big"), plain, seals.sa.packets)


@pytest.mark.parametrize(
    ("plain", "reason"),
    [(dummy(), None), (bytes(8) + b"data" + bytes((1, 2, 2, 17)), "wrong-selectors")],
    ids=["a dummy", "another flow"],
)
def test_an_authentic_packet_that_is_not_delivered_counts_all_the_same(plain: bytes, reason: str | None) -> None:
    seals, rows = sealer(spec()), table(opener(spec()))
    packet = foreign(seals, plain)
    if reason is None:
        assert opened(rows, packet) is None
    else:
        with pytest.raises(Dropped, match=reason):
            opened(rows, packet)
    with pytest.raises(NotAtRest):  # its number was seen
        opened(rows, packet)
    taken = rows.take(SPI, association())
    assert (taken.packets, taken.top, taken.byte_count) == (1, 1, 0)
    assert taken.last_in == (11.0 if reason is None else float("-inf"))


def test_a_forged_packet_changes_nothing() -> None:
    seals, rows = sealer(spec()), table(opener(spec()))
    packet = seals.seal(b"data")
    with pytest.raises(Dropped, match="not-authentic"):
        opened(rows, packet[:-1] + bytes([packet[-1] ^ 1]))
    assert opened(rows, packet) == Arrival(b"data", A, PRINCIPAL, 7)


def test_what_is_near_a_limit_is_not_for_a_row() -> None:
    for limits in ({"max_packets": 8}, {"max_bytes": (1 << 16) + 100}):
        seals, rows = sealer(spec(**limits)), table(opener(spec(**limits)))
        took = 0
        with pytest.raises(NotAtRest):
            for _ in range(9):
                opened(rows, seals.seal(bytes(20)))
                took += 1
        assert took == (0 if "max_bytes" in limits else 5)  # asked for a successor at three quarters: six


def test_one_that_a_row_cannot_hold_stays_an_object() -> None:
    gaps = opener(spec())
    seals = sealer(spec())
    seals.seal(b"lost")
    assert gaps.open_untrusted(seals.seal(b"second"), 2) == b"second"
    asked = opener(spec())
    asked.ask_once()
    long_key = opener(spec(EspSuite(suites.AES_128_CBC, suites.HMAC_SHA2_256_128, esn=True)))
    far = opener(spec(), ("fe80::1234:5678:9abc:def0%an-interface-with-a-name", 7001, 0, 3))
    for each in (gaps, asked, long_key, far):
        assert not RestingOpeners([SPI]).put(each)


def test_what_is_taken_out_leaves_no_key_behind() -> None:
    rows = table(opener(spec()))
    assert KEY[:32] in bytes(rows._table)
    taken = rows.take(SPI, association())
    assert taken.key == KEY
    assert KEY[:8] not in bytes(rows._table)
    assert SPI in rows  # its place stays its own
    with pytest.raises(KeyError):
        rows.take(SPI, association())
    rows.release(SPI)
    assert SPI not in rows


def test_nobody_takes_the_place_of_another() -> None:
    first, second = opener(spec()), opener(spec(spi=SPI + FIRST_PLACES))
    rows = RestingOpeners([first.spi, second.spi])
    assert rows.put(first)
    assert second.spi in rows
    assert not rows.put(second)
    with pytest.raises(NotAtRest):
        opened(rows, sealer(spec()).seal(b"whose"), second.spi)
    rows.release(second.spi)  # it had none
    assert opened(rows, sealer(spec()).seal(b"data")) == Arrival(b"data", A, PRINCIPAL, 7)


def test_when_the_table_grows_each_row_is_found_again_and_who_had_no_place_gets_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resting_openers, "FIRST_PLACES", 8)
    objects = {SPI: 0, SPI + 8: 0}
    first, second = opener(spec()), opener(spec(spi=SPI + 8))
    rows = RestingOpeners(objects)
    assert rows.put(first)
    assert not rows.put(second)
    for number in range(2, 8):
        rows.reserve(SPI + number)
    assert rows._places == 16
    assert rows.put(second)
    assert opened(rows, sealer(spec()).seal(b"first")) == Arrival(b"first", A, PRINCIPAL, 7)
    assert opened(rows, sealer(spec(spi=SPI + 8)).seal(b"second"), SPI + 8) == Arrival(b"second", A, PRINCIPAL, 7)


def test_many_are_each_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting_openers, "FIRST_PLACES", 8)
    draw, objects = random.Random(3), set[int]()
    rows, specs = RestingOpeners(objects), dict[int, tuple[Address, bytes]]()
    shared = spec()
    while len(specs) < 300:
        spi = draw.randrange(256, 1 << 32)
        if spi in rows and objects:
            continue
        address = (f"198.51.100.{draw.randrange(256)}", draw.randrange(1024, 65536))
        one = opener(shared, address)
        one.spi, one.key, one.ports = spi, draw.randbytes(36), address[1] << 16 | 7002
        objects.add(spi)
        rows.reserve(spi)
        if rows.put(one):
            specs[spi] = address, one.key
            objects.remove(spi)
    for spi, (address, key) in specs.items():
        assert rows.address(spi) == address
        flow = shared.flow._replace(initiator_port=address[1])
        peers = replace(shared, spi=spi, keys=DirectionKeys(key, b""), flow=flow, we_initiated=True)
        arrival = opened(rows, PacketSealer(OutboundSa(peers, 0.0)).seal(b"%d" % spi), spi, address)
        assert arrival == Arrival(b"%d" % spi, address, PRINCIPAL, 7)
    assert len(rows._kinds) == 1  # whatever their ports


def test_one_that_is_needed_again_soon_twice_in_succession_is_not_for_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    ciphers = Ciphers(16)
    monkeypatch.setattr(resting_openers, "CIPHERS", ciphers)
    monkeypatch.setattr(ciphers, "soon", 2)
    rows, sealers = (
        table(*(opener(spec(spi=SPI + each)) for each in range(4))),
        [sealer(spec(spi=SPI + each)) for each in range(4)],
    )
    ciphers.made = (1 << 31) - 3  # it begins anew meanwhile
    for number in (0, 1, 1, 2, 3, 1, 0, 1):
        opened(rows, sealers[number].seal(b"data"), SPI + number)
    with pytest.raises(NotAtRest):
        opened(rows, sealers[1].seal(b"data"), SPI + 1)
    opened(rows, sealers[0].seal(b"data"), SPI + 0)


def test_with_room_for_its_cipher_it_is_not_for_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting_openers, "CIPHERS", Ciphers(16))
    rows = table(opener(spec()))
    with pytest.raises(NotAtRest):
        opened(rows, sealer(spec()).seal(b"data"))
