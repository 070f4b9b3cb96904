"""Frames on one TCP connection: RFC 9329's bytes, limits that hold before anything is kept."""

from __future__ import annotations

import pytest

from securesock.errors import WireError
from securesock.wire.tcp_encapsulation import (
    MAX_FRAME,
    MAX_FRAME_BEFORE_AUTHENTICATION,
    STREAM_PREFIX,
    Frame,
    FrameReader,
    write_esp_frame,
    write_ike_frame,
)

IKE = b"i" * 28
ESP = b"\0\0\1\0" + b"e" * 20


def drain(reader: FrameReader) -> list[Frame]:
    frames = []
    while (frame := reader.poll_frame()) is not None:
        frames.append(frame)
    return frames


def test_known_bytes() -> None:
    assert write_ike_frame(b"ike") == bytes.fromhex("0009 00000000 696b65")
    assert write_esp_frame(b"\0\0\1\0") == bytes.fromhex("0006 00000100")


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_stream_is_cut_into_frames_however_it_arrives(step: int) -> None:
    stream = STREAM_PREFIX + write_ike_frame(IKE) + write_esp_frame(ESP) + write_ike_frame(b"") + write_ike_frame(IKE)
    reader = FrameReader(expect_prefix=True)
    frames = []
    for at in range(0, len(stream), step):
        piece = stream[at : at + step]
        assert reader.feed(piece) == len(piece)
        frames += drain(reader)
    assert frames == [Frame(True, IKE), Frame(False, ESP), Frame(True, b""), Frame(True, IKE)]
    assert reader.buffered == 0


def test_responders_stream_has_no_prefix() -> None:
    reader = FrameReader(expect_prefix=False)
    reader.feed(write_ike_frame(IKE))
    assert reader.poll_frame() == Frame(True, IKE)


@pytest.mark.parametrize("first", [b"G", b"IKETCX", b"\x16\x03\x01", b"iketcp"])
def test_another_protocol_is_refused_at_its_first_wrong_byte(first: bytes) -> None:
    reader = FrameReader(expect_prefix=True)
    reader.feed(first)
    with pytest.raises(WireError, match="IKETCP"):
        reader.poll_frame()


@pytest.mark.parametrize("length", range(6))
def test_length_0_to_5_is_fatal_before_anything_else_is_read(length: int) -> None:
    reader = FrameReader(expect_prefix=False)
    reader.feed(length.to_bytes(2, "big"))
    with pytest.raises(WireError, match=f"length {length}"):
        reader.poll_frame()


def test_frame_over_the_limit_is_fatal_when_its_length_is_there() -> None:
    reader = FrameReader(expect_prefix=False)
    reader.feed((MAX_FRAME_BEFORE_AUTHENTICATION + 1).to_bytes(2, "big"))
    with pytest.raises(WireError, match="16385"):
        reader.poll_frame()


def test_frame_of_the_limit_is_read_and_nothing_beyond_is_kept() -> None:
    frame = write_ike_frame(bytes(MAX_FRAME_BEFORE_AUTHENTICATION - 6))
    reader = FrameReader(expect_prefix=False)
    assert reader.feed(frame + b"more") == len(frame)
    assert reader.feed(b"more") == 0
    assert reader.poll_frame() == Frame(True, frame[6:])
    assert reader.feed(b"more") == 4


def test_limit_rises_after_authentication_and_never_sinks() -> None:
    reader = FrameReader(expect_prefix=False)
    reader.raise_limit(MAX_FRAME)
    reader.raise_limit(100)
    frame = write_esp_frame(b"\0\0\1\0" + bytes(65529))
    assert len(frame) == MAX_FRAME
    assert reader.feed(frame) == MAX_FRAME
    assert reader.poll_frame() == Frame(False, frame[2:])


def test_reader_stays_dead_after_an_error() -> None:
    reader = FrameReader(expect_prefix=False)
    reader.feed(b"\0\0")
    for _ in range(2):
        with pytest.raises(WireError):
            reader.poll_frame()
    with pytest.raises(WireError):
        reader.feed(write_ike_frame(IKE))
    assert reader.buffered == 0


def test_rest_goes_to_the_reader_that_takes_over() -> None:
    reader = FrameReader(expect_prefix=False)
    reader.feed(write_ike_frame(IKE) + write_esp_frame(ESP)[:9])
    assert reader.poll_frame() == Frame(True, IKE)
    assert reader.take_rest() == write_esp_frame(ESP)[:9]
    assert reader.buffered == 0


def test_message_that_fits_no_frame_is_not_written() -> None:
    assert len(write_ike_frame(bytes(65529))) == MAX_FRAME
    with pytest.raises(WireError):
        write_ike_frame(bytes(65530))


@pytest.mark.parametrize("packet", [b"", b"\0\0\1", b"\0\0\0\0esp", b"\0\0\1\0" + bytes(65530)])
def test_packet_that_is_no_esp_frame_is_not_written(packet: bytes) -> None:
    with pytest.raises(WireError):
        write_esp_frame(packet)
