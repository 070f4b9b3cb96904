"""The datagrams of one UDP socket, protected: one socket, many peers, each with its own key exchange and SAs.

ESP in UDP on the application's own port (RFC 3948): a packet begins with its SPI, an IKE message with four zero bytes
in that place.  What comes in is told apart by SPI, so that SPIs are one socket's, not one peer's.  The first datagram
to an address begins a negotiation; nothing leaves in clear but what allow_insecure permits, and then only to who showed
that it does not speak IKE.

A machine without I/O.  What it is not told it asks of its ``DatagramKeying``: sessions, cookies, a stranger's place.
Whatever a peer sends leads to a reply, a counted drop, or the end of its own SAs.  It must not know sockets, threads,
nor which keying protocol is spoken.  Peers and the choice among associations: peers.  The fast paths: packet.
"""

from __future__ import annotations

import errno
import os
from copy import copy
from struct import error as StructError
from typing import Final

from ...engine.ports import Arrival, PeerReport, PeerState
from ...errors import LocalMisuse, SecureSocketError, WireError
from ...identity.names import PeerTargetName
from ...keying.contract import AddressPair, Establishment, Role
from ...sad.entries import InboundSa
from ...types import Address, AnyTrustedPeer
from ...wire.esp import ESP_HEADER, ESP_HEADER_LENGTH
from ...wire.inet import MAX_PACKET, UDP_HEADER_LENGTH, packed_host
from ...wire.isakmp import IkeHeader, read_header_untrusted
from ...wire.numbers import ExchangeType, HeaderFlag
from ...wire.tcp_encapsulation import NON_ESP_MARKER
from ...wire.udp_encapsulation import NAT_KEEPALIVE
from .association import Association
from .deadlines import Deadlines
from .host_packet import HostOpener
from .packet import Dropped
from .peers import LatchAdmission, inner_address
from .resting_openers import NotAtRest

__all__ = ["MAX_QUEUED", "MAX_QUEUED_BYTES", "UserSpaceDatagrams"]

_new: Final = tuple.__new__  # the class's own is a function in Python
_read_esp_header: Final = ESP_HEADER.unpack_from
MAX_QUEUED: Final = 64
MAX_QUEUED_BYTES: Final = 65536
"""First datagrams kept per peer (semantics "Datagrams"): what an application sends in a burst before it looks for an
answer."""


class UserSpaceDatagrams(Deadlines):
    """See engine.ports.SecuredDatagrams."""

    # -- names and reports ---------------------------------------------------------------------------------------------

    def expect(self, address: Address, expected: PeerTargetName | AnyTrustedPeer) -> None:
        """See the port."""
        peer = self._peer(address)
        if peer.begun:
            raise LocalMisuse(
                "the peer's name comes before its first datagram: there is an SA with this address already, or one is "
                "being negotiated; delete_peer_target_name() ends it"
            )
        peer.expected = expected
        peer.any_trusted = False

    def forget(self, address: Address, now: float) -> None:
        """See the port."""
        peer = self._known(address)
        self._disclaim(address)
        if peer is None:
            return
        self._drop_queue(peer)
        peer.expected = peer.asked = peer.latched = peer.failure = None
        peer.any_trusted = False
        peer.why_clear = peer.anchor = ""
        for association in peer.associations:
            self._delete(association, now)
            self._close_inbound(association)
        self._answered.discard(peer.address)
        self._forget_stranger(peer)

    def report(self, address: Address) -> PeerReport:
        """See the port."""
        peer = self._known(address)
        if peer is None:
            return PeerReport("none", None, False, 0, 0, 0, 0.0, None, "")
        if not self._is_reached(peer, address):
            error = None if peer.reach is None else peer.reach.refused.get(address)
            asked = peer.reach is not None and address in peer.reach.asked
            state: PeerState = "failed" if error is not None else "negotiating" if asked else "none"
            return PeerReport(state, None, False, 0, 0, 0, 0.0, error, "")
        live = [each for each in peer.associations if each.may_carry and not each.more.replaced]
        shown = peer.active or (live[-1] if live else None)
        if shown is not None:
            return PeerReport(
                "established",
                shown.establishment,
                shown.role is Role.INITIATOR,
                shown.more.main_mode_sa_id,
                shown.more.quick_mode_sa_id,
                shown.more.rekeys,
                shown.more.established_at,
                None,
                "",
                peer.any_trusted,
            )
        state = "none"
        if peer.occupied or (peer.why_clear and peer.begun):
            state = "negotiating"
        elif peer.why_clear:
            state = "clear"
        elif peer.failure is not None:
            state = "failed"
        elif peer.begun:
            state = "negotiating"
        return PeerReport(state, None, False, 0, 0, 0, 0.0, peer.failure, peer.why_clear)

    def take_failure(self, address: Address) -> SecureSocketError | None:
        """See the port."""
        peer = self._known(address)
        if peer is None:
            return None
        refused = None if peer.reach is None else peer.reach.refused.pop(address, None)
        if refused is not None:
            return refused
        if peer.failure is None or peer.failure_told:
            return None
        peer.failure_told = True
        return copy(peer.failure)

    # -- outbound ------------------------------------------------------------------------------------------------------

    def begin(self, address: Address, host: PeerTargetName | AnyTrustedPeer | None, now: float) -> None:
        """See the port.  LocalMisuse when nothing says who should be there."""
        peer = self._peer(address)
        route = peer.route
        if route is not None and route.tries_own and not peer.begun and address[0] not in self._carriers:
            # it was not found at port 4500 the last time
            self._behind.pop(address, None)
            peer.failure = None
            self._forget_stranger(peer)
            peer = self._own_peer(address)
        self._check_behind(peer, address)
        self._begin(peer, address, host, now)

    def enqueue(self, data: bytes, address: Address) -> bool:
        """See the port."""
        if UDP_HEADER_LENGTH + len(data) > MAX_PACKET:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        peer = self._peer(address)
        if len(peer.queue) >= MAX_QUEUED or peer.queued_bytes + len(data) > MAX_QUEUED_BYTES:
            self.counters["first-datagrams-too-many"] += 1
            return False
        peer.keep(((data, address),))
        peer.queued_bytes += len(data)
        self.queued += 1
        return True

    # -- inbound -------------------------------------------------------------------------------------------------------

    def handle_untrusted(self, packet: bytes, address: Address, now: float) -> Arrival | None:
        """See the port."""
        try:
            spi, low = _read_esp_header(packet)
        except StructError:
            return self._handle_other_untrusted(packet, address)
        opener = self._openers.get(spi)
        if opener is None:
            if not spi:
                return self._handle_ike_untrusted(packet, address, now)
            try:
                return self._resting.open_untrusted(packet, spi, low, address, now)
            except Dropped as dropped:
                self.counters[dropped.reason] += 1
                return None
            except NotAtRest:
                return self._handle_of_no_opener_untrusted(packet, spi, low, address, now)
        try:
            data = opener.open_untrusted(packet, low)
        except Dropped as dropped:
            self.counters[dropped.reason] += 1
            if not dropped.authentic:
                return None
            data = None
        opener.last_in = now
        if opener.packets >= opener.look_at:
            self._heard_untrusted_address(opener.association, opener, opener.top, low, address, now)
            opener.note_limits()
        if data is None:
            return None
        return _new(Arrival, (data, opener.address, opener.principal, opener.sa_id))

    def _handle_of_no_opener_untrusted(
        self, packet: bytes, spi: int, low: int, address: Address, now: float
    ) -> Arrival | None:
        """The same of a standard host, of an SA at rest that needs its opener, and of nobody."""
        of_host = self._host_openers.get(spi)
        if of_host is not None:
            return self._open_of_host_untrusted(of_host[0], of_host[1], packet, low, address, now)
        if self.rest.bring_opener(spi) is None:
            return self._handle_other_untrusted(packet, address)
        return self.handle_untrusted(packet, address, now)

    def handle_run_untrusted(self, run: bytes, size: int, address: Address, now: float) -> list[Arrival]:
        """See the port."""
        arrivals: list[Arrival] = []
        opener, begin = None, 0
        if size >= ESP_HEADER_LENGTH:
            spi = ESP_HEADER.unpack_from(run)[0]
            opener = self._openers.get(spi) or self.rest.bring_opener(spi)
        if opener is not None:
            count, opened = opener.open_run_untrusted(run, size, self.counters)
            begin = count * size
            if count:
                opener.last_in = now
                if opener.watchful:
                    low = ESP_HEADER.unpack_from(run, begin - size)[1]
                    self._heard_untrusted_address(opener.association, opener, opener.top, low, address, now)
            where, principal, sa_id = opener.address, opener.principal, opener.sa_id
            arrivals = [_new(Arrival, (data, where, principal, sa_id)) for data in opened]
        for at in range(begin, len(run), size):
            arrival = self.handle_untrusted(run[at : at + size], address, now)
            if arrival is not None:
                arrivals.append(arrival)
        return arrivals

    def _handle_other_untrusted(self, packet: bytes, address: Address) -> Arrival | None:
        """Neither ESP under one of our SPIs nor IKE."""
        if self._may_come_in_clear(address):
            return Arrival(packet, address, None, 0)
        if packet == NAT_KEEPALIVE:
            return None
        self.counters["unknown-spi" if len(packet) >= ESP_HEADER_LENGTH else "no-packet"] += 1
        return None

    def _may_come_in_clear(self, address: Address) -> bool:
        """Semantics "Datagrams": from whom gave no sign of IKE, or of whom nothing is known; not from where an SA lives
        or starts, ever lived, or was refused, nor from where a translator has moved one to."""
        if not self._allow_insecure:
            return False
        peer = self._known(address) or self._hosts.get(address) or self._strayed.get(address)
        if peer is not None:
            named = peer.expected is not None or peer.failure is not None
            if peer.begun or peer.latched is not None or (named and not peer.why_clear):
                return False
        return self._keying.may_come_in_clear(address)

    def _open_of_host_untrusted(
        self, opener: HostOpener, association: Association, packet: bytes, low: int, address: Address, now: float
    ) -> Arrival | None:
        """The same of a standard host, which speaks for more than itself."""
        view = memoryview(bytearray(packet))  # opened in place
        received = None
        try:
            received = opener.open_untrusted(view, low, packed_host(association.peer.address[0]), now)
        except Dropped as dropped:
            self.counters[dropped.reason] += 1
            if not dropped.authentic:
                return None
        self._heard_untrusted_address(association, opener.sa, opener.replay.top, low, address, now)
        if received is None:
            if association.more.pieces is not None and association.more.pieces.deadline < association.scheduled:
                self._schedule(association)
            return None
        sender = inner_address(association.peer.address, received.host, received.port)
        if not self._may_come_from_behind(association, sender):
            self.counters["policy"] += 1
            return None
        if not self._claim(association.peer, sender):
            self.counters["other-principal"] += 1
            return None
        if sender in self._behind:
            self._behind[sender] = association.peer  # answers go where it spoke from last
        return Arrival(received.data, sender, association.principal, opener.sa.spec.sa_id)

    def _may_come_from_behind(self, association: Association, sender: Address) -> bool:
        peer, principal = association.peer, association.principal
        if peer.route is None:
            return True
        standard = peer.route.standard
        return self._keying.why_not_behind(sender, peer.carrier, standard, principal, outbound=False) is None

    def _heard_untrusted_address(
        self, association: Association, sa: InboundSa, top: int, low: int, address: Address, now: float
    ) -> None:
        """An authentic packet came, from an address that nothing proves; it shows also an SA's age."""
        association.heard(now)
        peer = association.peer
        if not association.confirmed:
            association.session.traffic_came()
            self._confirm(association, now)
        if address != peer.carrier and association.translated and sa.packets and top & 0xFFFFFFFF == low:
            # RFC 7296 2.23: a translator moved the peer; only the newest authentic packet tells where to
            self.counters["moved"] += 1
            self.moves += 1
            self._carry(peer, address)
        if (sa.packets >= sa.check_packets or sa.byte_count >= sa.check_bytes) and sa.ask_once():
            association.session.rekey_child(now)
            self._drive(association, peer.carrier, now)

    def _handle_ike_untrusted(self, packet: bytes, address: Address, now: float) -> Arrival | None:
        message = packet[len(NON_ESP_MARKER) :]
        try:
            header = read_header_untrusted(message)
        except WireError:
            if self._may_come_in_clear(address):
                return Arrival(packet, address, None, 0)
            self.counters["malformed-message"] += 1
            return None
        from_initiator = bool(header.flags & HeaderFlag.INITIATOR)
        if header.responder_spi == bytes(8) and from_initiator and not header.flags & HeaderFlag.RESPONSE:
            if header.initiator_spi in self._by_ike_spi:
                # an echo program sends us our own beginning: that is no sign of IKE, and nobody to negotiate with
                self.counters["our-own-message"] += 1
                return None
            self._handle_beginning_untrusted(header, message, address, now)
            return None
        association = self._by_ike_spi.get(header.responder_spi if from_initiator else header.initiator_spi)
        if association is None:
            self.counters["unknown-ike-spi"] += 1
            return None
        our = association.our_address
        association.session.handle_datagram(message, now, None if our is None else AddressPair(our, address))
        proven = association.state == "negotiating" and association.session.established
        if proven and association.peer.route is not None:
            # RFC 7296 2.23: whoever begins at port 500 proves itself from 4500, and is there from then on
            association.peer.carrier = address
        # RFC 7296 2.11: answered to where it came from
        self._drive(association, address, now)
        return None

    def _handle_beginning_untrusted(self, header: IkeHeader, message: bytes, address: Address, now: float) -> None:
        key = address, header.initiator_spi
        association = self._beginnings.get(key)
        if association is None:
            association = self._admit_untrusted(header, message, address, now)
            if association is None:
                return
            self._beginnings[key] = association
        association.session.handle_datagram(message, now)
        self._drive(association, address, now)
        if not association.session.peer_speaks_ike:
            self._end(association, now)
            self._bury(association)

    def _admit_untrusted(self, header: IkeHeader, message: bytes, address: Address, now: float) -> Association | None:
        """Room for a stranger's negotiation, or a cookie, or a counted drop."""
        self._evict(now)
        if header.exchange_type not in (ExchangeType.IKE_SA_INIT, ExchangeType.IKE_SESSION_RESUME):
            self.counters["unexpected-request"] += 1
            return None
        proven = False
        if self._keying.crowded():
            try:
                answer = self._keying.ask_for_cookie_untrusted(message, address, now)
            except WireError:
                self.counters["malformed-message"] += 1
                return None
            if answer is not None:
                self.counters["asked-for-cookie"] += 1
                self._transmit(NON_ESP_MARKER + answer, address)
                return None
            proven = True
        place = self._keying.take_place(address)
        if place is None:
            self.counters["too-many-half-open"] += 1
            return None
        if proven:
            place.speaks_ike()
        route = self._keying.arriving(address)
        peer = self._beginner(address) if route is None else self._host(address, route)
        expected = peer.expected if route is None else peer.expected or route.expected
        standard = None if route is None else route.standard
        try:
            session = self._keying.make_session(
                Role.RESPONDER, address, expected, LatchAdmission(peer), self._spis, now, standard
            )
        except OSError:
            # no way back to whoever claims to be there, or nothing that we could agree to
            self.counters["cannot-answer"] += 1
            place.leave()
            self._forget_stranger(peer)
            return None
        association = Association(peer, session, Role.RESPONDER, header.initiator_spi, now)
        association.more.source = address
        association.more.place = place
        peer.associations += (association,)
        return association

    def live(self) -> list[tuple[Address, Establishment]]:
        """See the port."""
        return [
            (peer.address, each.establishment)
            for peer in (*self._peers.values(), *self._hosts.values())
            for each in peer.associations
            if each.state == "live" and not each.more.replaced and each.establishment is not None
        ]

    def break_off(self, address: Address, error: SecureSocketError, now: float) -> None:
        """See the port."""
        peer = self._peers.get(address) or self._hosts.get(address)
        if peer is None:
            return
        self.counters["policy-changed"] += 1
        peer.why_clear = ""
        peer.failure, peer.failure_told = error, False
        if peer.route is not None:
            self._lose_way(peer)
        for association in peer.associations:
            self._delete(association, now)
            self._close_inbound(association)

    def close(self, now: float) -> None:
        """See the port."""
        for peer in (*self._peers.values(), *self._hosts.values()):
            self._drop_queue(peer)
            for association in peer.associations:
                self._delete(association, now)
                self._bury(association)
