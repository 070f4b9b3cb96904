"""Inbound SAs as rows of a table: each packet is judged as an opener of its own would judge it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import cast

import pytest

from securesock.crypto import suites
from securesock.crypto.kdf import DirectionKeys
from securesock.crypto.suites import EspSuite
from securesock.engine.ports import Arrival
from securesock.keying.contract import KeyingSession, Role
from securesock.planes.userspace import kept_ciphers, resting_openers
from securesock.planes.userspace.association import Association, AssociationOpener
from securesock.planes.userspace.packet import Dropped, PacketSealer
from securesock.planes.userspace.peers import Peer
from securesock.planes.userspace.resting_openers import FIRST_PLACES, NotAtRest, RestingOpeners
from securesock.sad import ciphers as ciphers_module
from securesock.sad.ciphers import CIPHERS, Ciphers
from securesock.sad.entries import OutboundSa
from securesock.sad.spec import InnerFlow, SaSpec
from securesock.types import Address, Lifetimes, Principal

A: Address = ("192.0.2.1", 7001)
OTHER: Address = ("192.0.2.1", 7009)
MAPPED: Address = ("::ffff:192.0.2.1", 7001, 0, 0)
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


@pytest.fixture(params=["for a packet alone", "to be kept"], autouse=True)
def ciphers_are_made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIPHERS, "soon_s", -1.0 if request.param == "for a packet alone" else inf)


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
@pytest.mark.parametrize("address", [A, A6, MAPPED], ids=["ipv4", "ipv6", "mapped"])
def test_packets_in_turn_are_opened_from_the_row(suite: EspSuite, address: Address) -> None:
    seals, rows = sealer(spec(suite)), table(opener(spec(suite), address))
    for number, length in enumerate((0, 1, 64, 1400, 64)):
        data = bytes([number]) * length
        arrival = opened(rows, seals.seal(data), address=address, now=11.0 + number)
        assert arrival == Arrival(data, address, PRINCIPAL, 7)
    assert rows.last_in(SPI) == 15.0
    assert rows.address(SPI) == address
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
    of = spec(suite, max_packets=1 << 63)
    seals = sealer(of)
    begin = 0 if seed % 3 else (1 << 32) - 40  # with ESN past the end of the low half, without up to it
    seals.sa.packets = begin
    judges = [Judge(of, in_rows=False), Judge(of, in_rows=True)]
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
    if begin and not suite.esn:
        assert judges[1].from_row == 0  # past three quarters of its numbers
    else:
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
    assert taken.last_in == 11.0


def test_a_forged_packet_changes_nothing() -> None:
    seals, rows = sealer(spec()), table(opener(spec()))
    packet = seals.seal(b"data")
    with pytest.raises(Dropped, match="not-authentic"):
        opened(rows, packet[:-1] + bytes([packet[-1] ^ 1]))
    assert opened(rows, packet) == Arrival(b"data", A, PRINCIPAL, 7)


def test_what_is_near_a_limit_is_not_for_a_row() -> None:
    # asked for a successor at three quarters: of 8 packets the sixth, of the bytes those that a packet could reach
    for limits, least in (({"max_packets": 8}, 5), ({"max_bytes": ((1 << 16) + 60) * 4 // 3}, 3)):
        seals, rows = sealer(spec(**limits)), table(opener(spec(**limits)))
        took = 0
        with pytest.raises(NotAtRest):
            for _ in range(9):
                opened(rows, seals.seal(bytes(20)))
                took += 1
        assert took == least
        assert not rows.put(rows.take(SPI, association()))  # and would be none again


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


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Ciphers:
    """A process that keeps four ciphers, and measures how long it takes to make two."""
    ciphers = Ciphers(4)
    for module in (resting_openers, kept_ciphers):
        monkeypatch.setattr(module, "CIPHERS", ciphers)
    monkeypatch.setattr(ciphers_module, "SPAN", 2)
    return ciphers


class Many:
    """Rows with their peers' ends."""

    def __init__(self, count: int) -> None:
        self.rows = table(*(opener(spec(spi=SPI + each)) for each in range(count)))
        self._sealers = [sealer(spec(spi=SPI + each)) for each in range(count)]

    def come(self, *numbers: int, now: float = 20.0) -> None:
        """A packet of each, which opens."""
        for number in numbers:
            data = b"of %d" % number
            arrival = opened(self.rows, self._sealers[number].seal(data), SPI + number, now=now)
            assert arrival == Arrival(data, A, PRINCIPAL, 7)

    def forge(self, number: int) -> None:
        packet = self._sealers[number].seal(b"forged")
        self._sealers[number].sa.packets -= 1
        with pytest.raises(Dropped, match="not-authentic"):
            opened(self.rows, packet[:-1] + bytes([packet[-1] ^ 1]), SPI + number)

    @property
    def kept(self) -> set[int]:
        """Whose cipher is kept."""
        row = {number: self.rows._row(SPI + number) for number in range(len(self._sealers))}
        return {number for number, each in row.items() if each and self.rows._kept.ready[each.kept] is not None}


def test_with_room_each_cipher_is_kept(few: Ciphers) -> None:
    many = Many(6)
    many.forge(0)
    assert not many.kept  # not for a packet that is not authentic
    many.come(0, 1, 2, 3, 0, 1)
    assert many.kept == {0, 1, 2, 3}
    assert len(few) == 4


def test_without_room_those_are_kept_that_carry_three_packets_while_few_are_made(few: Ciphers) -> None:
    many = Many(9)
    many.come(0, 1, 2, 3, 4)
    assert many.kept == {1, 2, 3, 4}  # the least recently used went
    many.come(5, 6, now=30.0)
    many.come(7, 8, now=40.0)  # it took ten seconds to make two
    many.come(5, now=41.0)
    assert many.kept == {1, 2, 3, 4}
    many.come(5, now=45.0)  # the third, but fifteen seconds after the first
    assert many.kept == {1, 2, 3, 4}
    many.come(5, now=46.0)
    assert many.kept == {2, 3, 4, 5}
    many.come(2, 5)
    assert len(few) == 4


def test_one_whose_cipher_was_let_go_opens_its_packets_with_another(few: Ciphers) -> None:
    many = Many(6)
    many.come(*range(6))  # the fifth pushed out the first
    assert many.kept == {1, 2, 3, 4}
    for now, numbers in ((30.0, (0, 1, 2)), (60.0, (3, 0, 1)), (90.0, (0, 1))):
        few.soon_s = -1.0
        many.come(*numbers, now=now)
    assert many.kept == {1, 2, 3, 4}
    few.soon_s = inf
    many.come(0)
    assert many.kept == {0, 1, 2, 3}


def test_whoever_is_taken_out_gives_its_cipher_back(few: Ciphers) -> None:
    many = Many(3)
    many.come(0, 1, 2)
    taken = many.rows.take(SPI + 1, association())
    assert len(few) == 2
    assert many.rows.put(taken)
    many.come(1, 0, 2)
    assert len(few) == 3
    assert len(many.rows._kept.ready) == 4  # its number was used again, and 0 is nobody's


def test_whoever_becomes_a_row_gives_its_cipher_back(few: Ciphers) -> None:
    sealing, made = sealer(spec()), opener(spec())
    made.open_untrusted(sealing.seal(b"first"), 1)
    few.enqueue(made)
    rows = table(made)
    assert made.ready is None
    assert len(few) == 0
    assert opened(rows, sealing.seal(b"second"), SPI) == Arrival(b"second", A, PRINCIPAL, 7)


def test_numbers_of_the_silent_are_cleared_when_there_are_many(few: Ciphers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_ciphers, "MAX_NUMBERS", 8)
    many = Many(40)
    for number in range(40):
        few.soon_s = inf
        many.come(number)
    assert len(many.rows._kept.ready) == 9
    assert many.kept == {36, 37, 38, 39}
    for number in range(40):
        few.soon_s = -1.0
        many.come(number)  # nobody's packet is opened with another's cipher
    assert many.kept == {36, 37, 38, 39}


def test_a_thread_that_lets_go_late_costs_whoever_has_the_number_now_no_more_than_a_cipher(few: Ciphers) -> None:
    many = Many(2)
    many.come(0)
    late, _ = few._kept.popitem(last=False)  # another thread is about to let it go
    many.rows.take(SPI, association())
    many.come(1)
    late.let_go()
    assert not late.was_used()
    many.come(1, 1)
    assert many.kept == {1}
