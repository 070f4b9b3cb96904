"""Port 500 beside 4500: who is answered from where, and that it is done without where it may not be had."""

from __future__ import annotations

import socket

from securesock.drivers.ike_port import MAX_SEEN, IkePort, open_ike_port
from securesock.types import Address
from securesock.wire.tcp_encapsulation import NON_ESP_MARKER

SOMEBODY: Address = ("192.0.2.1", 500)


def test_a_message_gets_its_marker_and_its_answer_loses_it() -> None:
    port = IkePort()
    assert port.unmarked(NON_ESP_MARKER + b"answer", SOMEBODY) is None
    assert port.marked(b"message", SOMEBODY) == NON_ESP_MARKER + b"message"
    assert port.unmarked(bytearray(NON_ESP_MARKER + b"answer"), SOMEBODY) == b"answer"
    assert port.unmarked(b"\x01\x02\x03\x04 ESP", SOMEBODY) is None
    assert port.unmarked(NON_ESP_MARKER + b"answer", ("192.0.2.1", 4500)) is None


def test_many_beginners_push_out_the_oldest() -> None:
    port = IkePort()
    port.marked(b"", SOMEBODY)
    for number in range(MAX_SEEN):
        port.marked(b"", ("192.0.2.2", number))
    assert port.unmarked(NON_ESP_MARKER, SOMEBODY) is None
    assert port.unmarked(NON_ESP_MARKER, ("192.0.2.2", 0)) == b""


def test_messages_are_read_and_answered_over_a_descriptor() -> None:
    port = IkePort()
    with (
        socket.socket(type=socket.SOCK_DGRAM) as ours,
        socket.socket(type=socket.SOCK_DGRAM) as beginner,
    ):
        for each in (ours, beginner):
            each.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        assert port.read(ours) is None
        beginner.sendto(b"message", ours.getsockname())
        ours.settimeout(10)
        found = port.read(ours)
        assert found == (NON_ESP_MARKER + b"message", beginner.getsockname())
        assert port.send(ours, NON_ESP_MARKER + b"answer", beginner.getsockname())
        beginner.settimeout(10)
        assert beginner.recv(100) == b"answer"
        assert not port.send(ours, b"\x01\x02\x03\x04 ESP", beginner.getsockname())


def test_a_socket_at_another_port_has_no_port_500() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        assert open_ike_port(bound) is None
