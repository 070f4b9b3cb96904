"""The inbound side of a secured stream: bytes of a stranger, and what a proven peer may have sealed."""

from __future__ import annotations

from fuzz.registry import fuzz_target
from securesock.crypto.esp_cipher import make_esp_cipher
from securesock.crypto.kdf import DirectionKeys
from securesock.crypto.suites import AES_128_GCM_16, EspSuite
from securesock.errors import PeerIncompatible, PeerMisbehaved
from securesock.planes.userspace.buffers import BufferPool
from securesock.planes.userspace.intake import Intake
from securesock.planes.userspace.open import Opener
from securesock.sad.entries import InboundSa
from securesock.sad.spec import InnerFlow, SaSpec
from securesock.types import Lifetimes
from securesock.wire.tcp_encapsulation import MAX_FRAME_BEFORE_AUTHENTICATION

POOL = BufferPool()
SPEC = SaSpec(
    0x1000,
    EspSuite(AES_128_GCM_16, None),
    DirectionKeys(bytes(20), b""),
    Lifetimes(1e6, 1 << 40, 1 << 30),
    1,
    InnerFlow(6, "192.0.2.1", 40000, "192.0.2.2", 7000),
    we_initiated=False,
)


class Inconsistent(Exception):
    """More was kept or delivered than may be."""


def feed(opener: Opener, data: bytes, piece: int) -> int:
    """Everything in pieces; how many IKE messages came out."""
    messages = 0
    while data:
        room = opener.intake.room(opener.max_frame)
        if not room:
            raise Inconsistent("a frame that is not whole left no room for its rest")
        count = min(len(room), len(data), piece)
        room[:count] = data[:count]
        data = data[count:]
        opener.intake.filled += count
        while opener.advance_untrusted() is not None:
            messages += 1
        if opener.max_frame == MAX_FRAME_BEFORE_AUTHENTICATION < opener.intake.filled - opener.intake.start:
            raise Inconsistent("more was kept of a stranger than one frame")
        opener.intake.release()
    return messages


@fuzz_target(allowed=(PeerMisbehaved, PeerIncompatible))
def stream_of_a_stranger(data: bytes) -> None:
    """The same in one piece and byte by byte."""
    whole = Opener(Intake(POOL), expect_prefix=True)
    messages = feed(whole, data, len(data))
    if messages != feed(Opener(Intake(POOL), expect_prefix=True), data, 1) or whole.intake.unread:
        raise Inconsistent("the pieces in which bytes come make a difference")


@fuzz_target(allowed=(PeerMisbehaved,))
def opened_packet(data: bytes) -> None:
    """``data`` is the plaintext of an authentic packet."""
    plaintext = data + bytes(-len(data) % 4)
    packet = bytearray(SPEC.spi.to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes(8) + plaintext + bytes(16))
    make_esp_cipher(SPEC.suite, SPEC.keys).seal_packet(memoryview(packet), 1)
    opener = Opener(Intake(POOL), expect_prefix=False)
    opener.install(InboundSa(SPEC, 0.0))
    opener.authenticated()
    frame = (len(packet) + 2).to_bytes(2, "big") + packet
    feed(opener, bytes(frame), len(frame))
    delivered = opener.intake.read(1 << 20)
    if delivered and delivered != plaintext[20 : 20 + len(delivered)]:
        raise Inconsistent("something else was delivered than was sealed")
    if opener.offset != len(delivered):
        raise Inconsistent("the stream's offset is not what was delivered")
