"""UDP datagrams in ESP packets towards standard IPsec hosts, whose kernel or user-space ESP looks at every header.

    transport:  SPI sequence IV | UDP header, data                | padding, pad length, 17     | ICV
    tunnel:     SPI sequence IV | IP header, UDP header, data     | padding, pad length, 4 or 41 | ICV

Unlike the fast paths of packet, an SA here is for all that its selectors name (RFC 4301 5.2), so that an address and a
port stand beside each datagram.  A datagram too large for the path is cut into inner fragments before it is sealed
(RFC 4301 7): fragments of the outer packet are what translators of addresses drop.  What comes in pieces is put
together again (reassembly).

It knows nothing of keying, peers and time but the ``now`` that it is handed; who calls it holds the socket's lock.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Final

from cryptography.exceptions import InvalidTag

from ...errors import WireError
from ...sad.ciphers import CIPHERS
from ...sad.entries import InboundSa, OutboundSa
from ...sad.replay import ReplayWindow
from ...sad.spec import Scope
from ...wire.esp import (
    ESP_HEADER,
    ESP_HEADER_LENGTH,
    ESP_TRAILER_LENGTH,
    NEXT_HEADER_DUMMY,
    NEXT_HEADER_IPV4,
    NEXT_HEADER_IPV6,
    NEXT_HEADER_UDP,
    pad_length_for,
    read_trailer,
    write_trailer,
)
from ...wire.inet import (
    UDP_HEADER_LENGTH,
    ip_header_length,
    read_ip_packet,
    read_udp_header,
    udp_checksum,
    write_ip_fragments,
    write_ip_header,
    write_udp_datagram,
)
from .packet import Dropped
from .reassembly import Reassembly

__all__ = ["HostOpener", "HostSealer", "Received"]

_LOW_32: Final = 0xFFFFFFFF
_OUTER_UDP: Final = 8
_MOST_KNOWN: Final = 256  # ends of one SA whose answer is kept; a server behind a gateway has some dozens of clients
_LEAST_ROOM: Final = 68
"""RFC 791 3.2: what every IPv4 hop carries uncut; below that no path is believed in."""
_TUNNEL: Final = {4: NEXT_HEADER_IPV4, 16: NEXT_HEADER_IPV6}
_MAY_BE_CUT: Final = 0  # IPv4: neither "do not fragment" nor an offset
_NEVER_CUT: Final = 0x4000


class Received:
    """A datagram for the application: who sent it, as the inner headers say."""

    __slots__ = ("data", "host", "port")

    def __init__(self, data: bytes, host: bytes, port: int) -> None:
        self.data = data
        self.host = host  # empty: the carrier's, for in transport mode there is no other
        self.port = port


class _Ends:
    """Which of our addresses goes with which of the peer's: the answers of one scope, which is asked for every packet
    and has many selectors to look through."""

    __slots__ = ("_known", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._known: dict[tuple[bytes, int], bytes | None] = {}

    def ours(self, host: bytes, port: int) -> bytes | None:
        """See Scope.our_host."""
        key = host, port
        if key in self._known:
            return self._known[key]
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        found = self._known[key] = self._scope.our_host(host, port)
        return found


class HostSealer:
    """The outbound half of an SA pair with a standard host."""

    __slots__ = ("_ends", "sa", "scope")

    def __init__(self, sa: OutboundSa, scope: Scope) -> None:
        self.sa = sa
        self.scope = scope
        self._ends = _Ends(scope)

    def covers(self, host: bytes, port: int) -> bool:
        """Whether the selectors allow datagrams to there."""
        return self._ends.ours(host, port) is not None

    def inner(
        self,
        data: bytes | memoryview,
        host: bytes,
        port: int,
        path_mtu: int,
        outer_header: int,
        *,
        whole: bool,
        checked: bool,
    ) -> list[bytes]:
        """The payloads of the ESP packets for one datagram to ``host``, ``port``, which the scope covers.

        ``path_mtu`` and ``outer_header`` (length of the carrier's IP header) say what fits.  ``whole``: the
        application forbids fragments, so that EMSGSIZE is raised where some would be needed.  ``checked``: transport
        mode writes the UDP checksum; without it IPv4 sends none, because addresses are translated (RFC 3948 3.1.2).
        """
        scope = self.scope
        ours = self._ends.ours(host, port)
        if ours is None:
            raise OSError(errno.ENETUNREACH, "the peer's SA does not cover this address")
        header = ip_header_length(host) if scope.mode == "tunnel" else 0
        longest = 65535 - UDP_HEADER_LENGTH - ip_header_length(host) % 40  # IPv6's length leaves its header out
        if len(data) > longest:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        if scope.mode == "transport" and not checked and len(host) == 4:
            udp = struct.pack(">HHHH", scope.our_port, port, UDP_HEADER_LENGTH + len(data), 0) + data
        else:
            udp = write_udp_datagram(ours, host, scope.our_port, port, bytes(data))
        room = self.room(path_mtu, outer_header)
        if header + len(udp) > room and whole:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        if scope.mode == "transport":
            return [udp]  # the kernel cuts the outer packet: RFC 4303 3.3.4, fragments after ESP
        if header + len(udp) <= room:
            # our selectors carry no ICMP, which would tell of a narrower path behind the peer: routers may cut it
            place = _NEVER_CUT if whole else _MAY_BE_CUT
            identification = (self.sa.packets + 1) & 0xFFFF
            head = write_ip_header(ours, host, NEXT_HEADER_UDP, len(udp), identification=identification, place=place)
            return [head + udp]
        return write_ip_fragments(ours, host, NEXT_HEADER_UDP, udp, room, self.sa.packets + 1)

    def room(self, path_mtu: int, outer_header: int) -> int:
        """How long a payload may be for its packet to pass uncut."""
        cipher = self.sa.ready or CIPHERS.make(self.sa)
        space = path_mtu - outer_header - _OUTER_UDP - ESP_HEADER_LENGTH - cipher.iv_length - cipher.icv_length
        return max(space // cipher.alignment * cipher.alignment - ESP_TRAILER_LENGTH, _LEAST_ROOM)

    def seal(self, payload: bytes, host_length: int, data_length: int) -> bytearray:
        """The packet for one payload of ``inner``; ``data_length`` counts against the SA's limit of bytes."""
        sa, cipher = self.sa, self.sa.ready or CIPHERS.make(self.sa)
        next_header = NEXT_HEADER_UDP if self.scope.mode == "transport" else _TUNNEL[host_length]
        plain = payload + write_trailer(pad_length_for(len(payload), cipher.alignment), next_header)
        head = ESP_HEADER_LENGTH + cipher.iv_length
        packet = bytearray(head + len(plain) + cipher.icv_length)
        sequence = sa.packets + 1
        sa.packets = sequence  # before sealing: whatever interrupts us, no number is used twice
        sa.byte_count += data_length
        ESP_HEADER.pack_into(packet, 0, sa.spi, sequence & _LOW_32)
        packet[head : head + len(plain)] = plain
        cipher.seal_packet(memoryview(packet), sequence)
        return packet


class HostOpener:
    """The inbound half: the replay window, and the check against the selectors.

    ``pieces`` is what came in fragments so far, for all SAs with the peer: a packet may come half under one SA and half
    under its successor.
    """

    __slots__ = ("_ends", "pieces", "replay", "sa", "scope")

    def __init__(self, sa: InboundSa, scope: Scope, pieces: Reassembly) -> None:
        self.sa = sa
        self.scope = scope
        self.pieces = pieces
        self._ends = _Ends(scope)
        self.replay = ReplayWindow(esn=sa.spec.suite.esn)

    def open_untrusted(self, packet: memoryview, low: int, carrier_host: bytes, now: float) -> Received | None:
        """The datagram of an authentic packet that was not seen before; None for a dummy, and for a fragment of what
        is not whole yet.  Raises Dropped for everything else, as PacketOpener.open_untrusted does.

        ``carrier_host`` is where the packet's SA has its peer: the sender, in transport mode.
        """
        sa, cipher = self.sa, self.sa.ready or CIPHERS.make(self.sa)
        at, last = ESP_HEADER_LENGTH + cipher.iv_length, len(packet) - cipher.icv_length
        plain = last - at
        if plain % cipher.alignment or plain < ESP_TRAILER_LENGTH:
            raise Dropped("malformed-packet")
        sequence = self.replay.infer(low)
        if sequence is None:
            raise Dropped("replayed")
        if sa.packets >= sa.hard_packets or sa.byte_count >= sa.hard_bytes:
            raise Dropped("past-its-limits")
        try:
            cipher.open_packet(packet, sequence)
        except InvalidTag:
            raise Dropped("not-authentic") from None
        self.replay.commit(sequence)
        sa.packets += 1
        try:
            size, next_header = read_trailer(packet[at:last])
            if next_header == NEXT_HEADER_DUMMY:
                return None  # RFC 4303 2.6: discarded without a word
            payload = packet[at : at + size]
            in_tunnel = self.scope.mode == "tunnel"
            received = (
                self._tunnel(payload, next_header, now)
                if in_tunnel
                else self._transport(payload, next_header, carrier_host)
            )
        except WireError:
            raise Dropped("malformed-packet", authentic=True) from None
        except Dropped as dropped:
            dropped.authentic = True  # whichever check it was
            raise
        if received is not None:
            sa.byte_count += len(received.data)
        return received

    def _transport(self, payload: memoryview, next_header: int, carrier_host: bytes) -> Received:
        """RFC 3948 3.1.2: the checksum is the sender's view of addresses that may have been translated, and the ICV
        covers what it would: it is not looked at."""
        if next_header != NEXT_HEADER_UDP:
            raise Dropped("wrong-selectors")
        source, destination, end = read_udp_header(payload)
        self._check(carrier_host, source, None, destination)
        return Received(payload[UDP_HEADER_LENGTH:end].tobytes(), b"", source)

    def _tunnel(self, payload: memoryview, next_header: int, now: float) -> Received | None:
        header = read_ip_packet(payload)
        if next_header != _TUNNEL[len(header.source)]:
            raise Dropped("malformed-packet")
        if header.protocol != NEXT_HEADER_UDP:
            raise Dropped("wrong-selectors")
        body = payload[header.payload_offset : header.end].tobytes()
        if header.fragment is not None:
            # before anything is kept of it: the addresses are those of every piece (RFC 4301 5.2)
            if header.destination not in self.scope.our_hosts or not self._may_come_from(header.source):
                raise Dropped("wrong-selectors")
            whole = self.pieces.add(header.source, header.destination, header.fragment, body, now)
            if whole is None:
                return None
            body = whole
        source, destination, end = read_udp_header(body)
        self._check(header.source, source, header.destination, destination)
        # the ICV reaches from the peer to us; the checksum from the host behind it (RFC 1122 4.1.3.4)
        has_none = body[6:8] == b"\0\0"
        if has_none and len(header.source) == 16:
            raise Dropped("wrong-checksum")  # RFC 8200 8.1
        if not has_none and udp_checksum(header.source, header.destination, body[:end]):
            raise Dropped("wrong-checksum")
        return Received(body[UDP_HEADER_LENGTH:end], header.source, source)

    def _may_come_from(self, host: bytes) -> bool:
        return any(each.covers(host, each.first_port) for each in self.scope.peers)

    def _check(self, peer_host: bytes, peer_port: int, our_host: bytes | None, our_port: int) -> None:
        scope = self.scope
        ours = self._ends.ours(peer_host, peer_port)
        if ours is None or our_port != scope.our_port or our_host not in (None, ours):
            raise Dropped("wrong-selectors")
