"""The recorder of the demonstration counts what it should, and a count of nothing means something."""

from __future__ import annotations

import pytest

from securesock.cli.demo.relay import cut_after_packet, flip_a_bit_of_packet, is_packet
from securesock.cli.demo.story import clear_text_windows


def frame(body: bytes) -> bytes:
    return (len(body) + 2).to_bytes(2, "big") + body


IKE = frame(bytes(4) + b"an IKE message")
PACKETS = [frame(b"\1\2\3\4" + bytes((n,)) * 40) for n in range(1, 5)]
STREAM = b"IKETCP" + IKE + PACKETS[0] + PACKETS[1] + IKE + PACKETS[2] + PACKETS[3]


def test_every_window_of_clear_text_is_found() -> None:
    payload = bytes(range(200))
    assert clear_text_windows(payload, b"before" + payload + b"after") == 193
    assert clear_text_windows(payload, payload[:100] + b"|" + payload[100:]) == 193 - 7
    assert clear_text_windows(payload, bytes(reversed(payload))) == 0
    assert clear_text_windows(payload, b"") == 0


def test_ike_messages_are_no_packets() -> None:
    assert not is_packet(IKE)
    assert is_packet(PACKETS[0])


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_exactly_one_bit_of_the_chosen_packet_is_flipped(size: int) -> None:
    tamper = flip_a_bit_of_packet(3)
    carried = b"".join(tamper("to server", STREAM[at : at + size]).data for at in range(0, len(STREAM), size))
    assert len(carried) == len(STREAM)
    changed = [at for at, (one, other) in enumerate(zip(carried, STREAM, strict=True)) if one != other]
    assert len(changed) == 1
    start = STREAM.index(PACKETS[2])
    assert start < changed[0] < start + len(PACKETS[2])


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_the_cut_comes_behind_the_chosen_packet(size: int) -> None:
    tamper = cut_after_packet(2)
    carried = b""
    for at in range(0, len(STREAM), size):
        passed = tamper("to server", STREAM[at : at + size])
        carried += passed.data
        if passed.cut:
            break
    assert carried == STREAM[: STREAM.index(PACKETS[1]) + len(PACKETS[1])]


def test_the_other_direction_is_left_alone() -> None:
    assert flip_a_bit_of_packet(1)("to client", PACKETS[0]) == (PACKETS[0], False)
    assert cut_after_packet(1)("to client", PACKETS[0]) == (PACKETS[0], False)
