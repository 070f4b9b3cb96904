"""Bad input at a real UDP socket: each kind is counted by its own reason, none is delivered, the socket works on.

What comes from a peer with keys is made by tests/support/hostile_datagrams; the loopback keeps the order of what one
socket sends, so that a good datagram behind the bad ones says when all of them were looked at.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

import securesock as ss
from securesock.drivers.arrived import ARRIVED_OVERHEAD, MAX_ARRIVED
from securesock.engine.half_open import HALF_OPEN
from securesock.keying.ikev2.fragments import MAX_BEFORE_AUTHENTICATION
from securesock.sad.replay import WINDOW_SIZE
from tests.support.hostile_datagrams import HostilePeer
from tests.support.loopback import PATIENCE_S, client_context, server_context, until

_PAGE = resource.getpagesize()


@contextlib.contextmanager
def serving() -> Iterator[ss.SecureSocket]:
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=server_context()) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE_S)
        yield server


@contextlib.contextmanager
def visited() -> Iterator[tuple[ss.SecureSocket, HostilePeer]]:
    """A server, and a peer that has an SA with it and has sent one good datagram."""
    with serving() as server, HostilePeer(server.getsockname(), client_context()) as peer:
        # nobody receives yet: the process's own thread negotiates
        server.fileno()
        peer.begin()
        peer.socket.send(peer.seal(b"good"))
        assert server.recv(100) == b"good"
        yield server, peer


def works_on(server: ss.SecureSocket, peer: HostilePeer) -> None:
    """The next datagram that comes out is the next good one."""
    peer.socket.send(peer.seal(b"and on"))
    assert server.recv(100) == b"and on"


def test_a_replayed_packet_is_delivered_once() -> None:
    with visited() as (server, peer):
        packet = peer.seal(b"once")
        for _ in range(5):
            peer.socket.send(packet)
        assert server.recv(100) == b"once"
        works_on(server, peer)
        assert server.refusals["replayed"] == 4


def test_packets_are_taken_in_any_order_within_the_window_and_not_beyond() -> None:
    with visited() as (server, peer):
        packets = [peer.seal(b"%d" % number) for number in range(WINDOW_SIZE + 8)]
        received = []
        for packet in reversed(packets):
            peer.socket.send(packet)
            if len(received) < WINDOW_SIZE:
                received.append(int(server.recv(100)))
        assert received == list(range(WINDOW_SIZE + 7, 7, -1))
        works_on(server, peer)
        # left of the window: taken for a number after it, whose packet this is not (RFC 4303 A2.2)
        assert server.refusals["not-authentic"] == 8


def test_a_wrong_spi_and_an_altered_packet_are_counted_apart() -> None:
    with visited() as (server, peer):
        packet = bytearray(peer.seal(b"altered"))
        peer.socket.send(struct.pack(">I", 0xDEADBEEF) + packet[4:])
        packet[-1] ^= 1
        peer.socket.send(packet)
        works_on(server, peer)
        assert (server.refusals["unknown-spi"], server.refusals["not-authentic"]) == (1, 1)


def test_what_the_selectors_do_not_name_is_not_delivered_though_it_is_authentic() -> None:
    with visited() as (server, peer):
        ours, theirs = peer.socket.getsockname()[1], server.getsockname()[1]
        bad = [
            (struct.pack(">HHHH", 9, theirs, 11, 0) + b"bad", 17),
            (struct.pack(">HHHH", ours, 9, 11, 0) + b"bad", 17),
            (struct.pack(">HHIIHHHH", ours, theirs, 0, 0, 0x5018, 100, 0, 0) + b"bad", 6),
            (b"\x08\0\0\0bad", 1),
        ]
        for inner, next_header in bad:
            peer.socket.send(peer.craft(inner, next_header))
        works_on(server, peer)
        assert server.refusals["wrong-selectors"] == len(bad)
        lengths = [struct.pack(">HHHH", ours, theirs, length, 0) + b"bad" for length in (7, 12, 65535)]
        for inner in (*lengths, b"", b"short"):
            peer.socket.send(peer.craft(inner))
        works_on(server, peer)
        assert server.refusals["malformed-packet"] == len(lengths) + 2


def test_fragments_that_repeat_lie_or_never_end_are_counted_and_bounded() -> None:
    with visited() as (server, peer):
        before = dict(server.refusals)
        peer.send_fragment(1, 3, b"begun")
        peer.send_fragment(1, 3, b"another first")
        peer.send_fragment(2, 2, b"of a smaller total")
        peer.send_fragment(2, 65, b"too many")
        peer.send_fragment(4, 3, b"beyond its own total")
        for number in range(2, 64):  # larger than any message, and the last one never comes
            peer.send_fragment(number, 64, bytes(1400))
        works_on(server, peer)
        counted = {reason: count - before.get(reason, 0) for reason, count in server.refusals.items()}
        assert counted.pop("repeated-fragment") == 1
        assert counted.pop("fragment-of-smaller-total") == 1
        # a total beyond the limit, and a number beyond its total: no header says that (RFC 7383 2.5)
        assert counted.pop("impossible-fragment", 0) + counted.pop("malformed-message", 0) == 2
        assert counted.pop("fragments-too-large") == 62 - 65535 // 1400
        assert not any(counted.values())
        peer.ask_for_life()  # and the key exchange still works


def test_a_stranger_may_not_make_us_keep_more_than_16_kib() -> None:
    with serving() as server, HostilePeer(server.getsockname(), client_context()) as stranger:
        server.fileno()
        stranger.begin(stop_before_auth=True)
        for number in range(1, 33):
            stranger.send_fragment(number, 64, bytes(1000))
        stranger.socket.send(bytes(4) + os.urandom(8) + bytes(8) + b"\x21\x20\x22\x08" + bytes(4) + b"\0\0\x80\0")
        until(lambda: server.refusals.get("fragments-too-large"), "the bound")
        until(lambda: server.refusals.get("malformed-message"), "the last one")
        assert server.refusals["fragments-too-large"] == 32 - MAX_BEFORE_AUTHENTICATION // 1000
        with HostilePeer(server.getsockname(), client_context()) as honest:
            honest.begin()
            works_on(server, honest)


def test_a_first_message_beyond_16_kib_is_not_read() -> None:
    with serving() as server, HostilePeer(server.getsockname(), client_context()) as stranger:
        server.fileno()
        size = 20_000
        first = os.urandom(8) + bytes(8) + b"\x29\x20\x22\x08" + bytes(4) + struct.pack(">I", size)
        stranger.socket.send(bytes(4) + first + bytes(size - len(first)))
        until(lambda: server.refusals.get("oversize-message"), "the refusal")
        assert len(HALF_OPEN) == 0
        stranger.begin()
        works_on(server, stranger)


def test_datagrams_of_an_address_that_is_no_peer_are_counted() -> None:
    with visited() as (server, peer), socket.socket(type=socket.SOCK_DGRAM) as plain:
        plain.connect(server.getsockname())
        for junk in (b"", b"\xff", b"GET / HTTP/1.1\r\n\r\n", bytes(4), bytes(4) + bytes(28), os.urandom(64)):
            plain.send(junk)
        plain.send(struct.pack(">I", 0xFFFFFFFF) + bytes(100))
        until(lambda: sum(server.refusals.values()) >= 6, "all of them")
        works_on(server, peer)
        counted = server.refusals
        assert counted["no-packet"] == 2  # shorter than any; the keepalive is nobody's fault
        assert counted["unknown-spi"] == 3
        assert counted["malformed-message"] == 1


def test_what_nobody_reads_is_kept_within_bounds_and_the_rest_counted() -> None:
    """Of a program that waits for the descriptor; else the kernel's own queue is the bound."""
    with visited() as (server, peer):
        kept = MAX_ARRIVED // (1000 + ARRIVED_OVERHEAD)
        for number in range(kept):
            peer.socket.send(peer.seal(b"%04d" % number * 250))
            if number % 50 == 49:  # no more at once than the kernel keeps for us
                peer.ask_for_life()
        for _ in range(20):
            peer.socket.send(peer.seal(bytes(1000)))
        until(lambda: server.refusals.get("receive-queue-full") == 20, "the bound")
        peer.ask_for_life()  # and the key exchange goes on
        assert [server.recv(2000)[:4] for _ in range(kept)] == [b"%04d" % number for number in range(kept)]
        works_on(server, peer)


def test_a_stolen_packet_from_another_address_moves_nobody_and_is_a_replay() -> None:
    with visited() as (server, peer), socket.socket(type=socket.SOCK_DGRAM) as thief:
        packet = peer.seal(b"mine")
        peer.socket.send(packet)
        assert server.recvfrom(100) == (b"mine", peer.socket.getsockname())
        thief.sendto(packet, server.getsockname())
        until(lambda: server.refusals.get("replayed"), "the replay")
        later = peer.seal(b"first seen elsewhere")
        thief.sendto(later, server.getsockname())
        assert server.recvfrom(100) == (b"first seen elsewhere", peer.socket.getsockname())
        server.sendto(b"to the peer", peer.socket.getsockname())
        thief.setblocking(False)
        with pytest.raises(BlockingIOError):
            thief.recv(100)
        works_on(server, peer)


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _a_beginning() -> bytes:
    """An IKE_SA_INIT as our own sockets send it."""
    with socket.socket(type=socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(PATIENCE_S)
        with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=client_context()) as client:
            client.bind(("127.0.0.1", 0))
            client.setblocking(False)
            client.sendto(b"", sink.getsockname())
            first = sink.recv(65536)
            client.delete_peer_target_name(sink.getsockname())
        return first


@pytest.mark.timeout(120)
def test_five_thousand_silent_beginnings_keep_no_honest_client_waiting() -> None:
    """From 5,000 addresses: beyond 50 half-open negotiations nobody is given a place without a cookie."""
    beginning = bytearray(_a_beginning())
    with serving() as server:
        server.fileno()
        address = server.getsockname()
        before = _rss()
        for number in range(5000):
            beginning[4:12] = struct.pack(">Q", number + 1)
            with socket.socket(type=socket.SOCK_DGRAM) as stranger:
                stranger.bind((f"127.{1 + number // 60000}.{number // 250 % 240}.{2 + number % 250}", 0))
                stranger.sendto(beginning, address)
            if number % 50 == 49:  # no more than the kernel keeps for us: each of them is to be looked at
                # (a place that is free again after 10 s, on a slow machine, is taken without a cookie)
                until(lambda sent=number: server.refusals.get("asked-for-cookie", 0) >= sent * 0.9 - 49, "the flood")
        until(lambda: server.refusals.get("asked-for-cookie", 0) >= 4400, "all but the first 50")
        assert len(HALF_OPEN) <= 50
        slowest = 0.0
        for number in range(10):
            with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=client_context()) as honest:
                honest.bind((f"127.0.0.{100 + number}", 0))
                honest.settimeout(PATIENCE_S)
                started = monotonic()
                honest.sendto(b"honest", address)
                slowest = max(slowest, monotonic() - started)
                assert server.recv(100) == b"honest"
        assert slowest < 1.0
        assert len(HALF_OPEN) <= 50
        assert _rss() - before < 16 << 20
    until(lambda: len(HALF_OPEN) == 0)
