"""Whether a recorded cable carried IPsec alone is a question that can be answered with no."""

from __future__ import annotations

import struct

import pytest

from tests.support.recorder import Recorded, not_ipsec


def udp(data: bytes, ports: tuple[int, int] = (4500, 4500), protocol: int = 17) -> Recorded:
    content = struct.pack(">HHHH", *ports, 8 + len(data), 0) + data
    head = struct.pack(">BBHHHBBH8x", 0x45, 0, 20 + len(content), 0, 0, 64, protocol, 0)
    return Recorded(bytes(12) + b"\x08\x00" + head + content)


def other(kind: int, then: int) -> Recorded:
    return Recorded(bytes(12) + kind.to_bytes(2, "big") + bytes(6) + bytes([then]) + bytes(40))


def unreachable(quoted: Recorded) -> Recorded:
    content = bytes((3, 3)) + bytes(6) + quoted.packet
    return Recorded(
        bytes(12) + b"\x08\x00" + struct.pack(">BBHHHBBH8x", 0x45, 0, 20 + len(content), 0, 0, 64, 1, 0) + content
    )


ESP = udp(struct.pack(">II", 0xC0FFEE, 7) + bytes(40))
IKE = udp(bytes(4) + bytes(16) + struct.pack(">BBBBII", 46, 0x20, 35, 8, 1, 28 + 8) + bytes(8))
NEIGHBOURS = [other(0x0806, 0), other(0x86DD, 58), other(0x86DD, 0)]


def test_ike_esp_keepalives_and_what_finds_neighbours_are_no_clear_text() -> None:
    assert not_ipsec([ESP, IKE, udp(b"\xff"), unreachable(IKE), unreachable(ESP), *NEIGHBOURS]) == []


@pytest.mark.parametrize(
    "clear",
    [
        udp(b"a question in clear", (4500, 4500)),
        udp(b"a question in clear", (40000, 4500)),
        udp(b"short", (4500, 4500)),
        udp(bytes(4) + b"behind a marker, and longer than a header is"),
        udp(struct.pack(">II", 0xC0FFEE, 7) + bytes(40), (40000, 7)),
        udp(struct.pack(">II", 0xC0FFEE, 7) + bytes(40), protocol=6),
        unreachable(udp(b"a question in clear", (40000, 7))),
        other(0x86DD, 17),
        other(0x86DD, 6),
    ],
    ids=["port 4500", "to 4500", "short", "marker", "another port", "TCP", "quoted", "UDP of IPv6", "TCP of IPv6"],
)
def test_anything_else_is(clear: Recorded) -> None:
    assert not_ipsec([ESP, clear, IKE]) == [clear.frame.hex()]


def test_a_cable_that_carried_nothing_shows_nothing() -> None:
    assert not_ipsec([]) == not_ipsec(NEIGHBOURS) == ["nothing"]
