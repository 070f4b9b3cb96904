"""The key exchanges of one datagram socket: carried out, chosen among, ended, and looked at when their time comes.

The lower half of the datagram machine.  It does what sessions ask for, keeps the tables by which packets and messages
find their association, seals with the one that was chosen, and looks at an association when its earliest deadline
comes (timers).

It must not know where datagrams come from, nor how an unknown one is judged: that is the upper half's, in datagram.
"""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Container, Sequence
from copy import copy
from math import inf
from typing import Final

from ...engine.ports import DatagramKeying, Route, SealedRun
from ...errors import AuthenticationFailed, LocalMisuse, PolicyRefused, SecureSocketError
from ...identity.names import PeerTargetName
from ...keying.contract import (
    AddressPair,
    Establishment,
    FlowFailed,
    FlowReady,
    InstallSa,
    KeyingSession,
    Moved,
    PeerClosed,
    ProveAgain,
    ReachRefused,
    Rekeyed,
    RemoveSa,
    Role,
    SendDatagram,
    StandardHost,
    Trace,
)
from ...sad.ciphers import CIPHERS
from ...sad.entries import InboundSa, OutboundSa
from ...sad.spec import SaSpec
from ...types import ANY_TRUSTED_PEER, Address, AnyTrustedPeer
from ...wire.inet import packed_host
from ...wire.tcp_encapsulation import NON_ESP_MARKER
from .association import IDLE_S, LINGER_S, RETIRE_S, Association, AssociationOpener
from .directory import PeerDirectory
from .host_packet import HostOpener, HostSealer
from .packet import PacketSealer
from .peers import LatchAdmission, Peer, choose_sealing, covering
from .reassembly import Reassembly
from .rest import Rest
from .resting_openers import RestingOpeners
from .timers import Timers

__all__ = ["Associations"]

LEAST_MTU: Final = 1280
"""IPv6's (RFC 8200 5), and in practice IPv4's."""
MAX_REACHING: Final = 16
"""Further SAs that one peer is asked for and has not answered: more than one IKE_SA may have (keying's MAX_SAS)."""
SURE_TO_PASS: Final = 1024
"""Application bytes that fit into LEAST_MTU with every header and suite: longer ones ask for the path's."""


class _NotToBeChosen:
    """SPIs that no new SA may have."""

    def __init__(self, *tables: Container[int]) -> None:
        self._tables = tables

    def __contains__(self, spi: object) -> bool:
        return any(spi in each for each in self._tables)


class Associations(PeerDirectory):
    """Peers and their associations.  Not thread-safe: who calls holds the socket's lock."""

    def __init__(self, keying: DatagramKeying, *, allow_insecure: bool = False) -> None:
        super().__init__(keying)
        self.counters: Counter[str] = Counter()
        self.queued = 0
        self.moves = 0
        self._allow_insecure = allow_insecure
        self._answered: set[Address] = set()  # with whom we began, and who speaks IKE: never in clear, whatever comes
        self._outgoing: deque[tuple[bytes | bytearray | memoryview, Address]] = deque()
        self._openers: dict[int, AssociationOpener] = {}
        self._host_openers: dict[int, tuple[HostOpener, Association]] = {}
        self._resting = RestingOpeners(self._openers)
        self._spis: Container[int] = _NotToBeChosen(self._openers, self._host_openers, self._resting)
        self._by_ike_spi: dict[bytes, Association] = {}
        self._beginnings: dict[tuple[Address, bytes], Association] = {}
        self.due = inf
        self.sealed_for: Address = ("", 0)
        self._timers = Timers()
        self.rest = Rest(
            self._keying, self._peers, self._openers, self._resting, self._spis, self._beginnings, self._note_due
        )
        self._keeper = self.rest

    # -- sealing ----------------------------------------------------------------------------------------------

    def seal(self, data: bytes | memoryview, address: Address, now: float) -> bytes | bytearray | memoryview | None:
        """See the port."""
        peer = self._peers.get(address)
        if peer is None or (sealer := peer.sealer) is None or (association := peer.active) is None:
            return self._seal_without_sa(peer, data, address, now)
        sa = sealer.sa
        if sa.packets >= sealer.look_at or now >= sa.check_time:
            if sa.due(now):
                self._approach_limit(association, sa, now)
                sealer = peer.sealer
                if sealer is None or sealer.sa.exhausted(now):
                    return None
            sealer.note_limits()
        association.last_out = now
        if not association.watched:
            self._schedule(association)
        self.sealed_for = peer.carrier
        return sealer.seal(data)

    def _seal_without_sa(
        self, peer: Peer | None, data: bytes | memoryview, address: Address, now: float
    ) -> bytes | bytearray | memoryview | None:
        """For whom there is no SA at hand: none that is awake, one with a standard host, or none at all."""
        if peer is None:
            return self._seal_for_host(data, address, now) if self._hosts else None
        if peer.resting is not None:
            self.rest.wake(peer)
            return self.seal(data, address, now)
        if not peer.why_clear or peer.begun or now >= peer.clear_used_at + IDLE_S:
            return None
        peer.clear_used_at = now
        self.sealed_for = peer.carrier
        return data

    def _seal_for_host(
        self, data: bytes | memoryview, address: Address, now: float
    ) -> bytes | bytearray | memoryview | None:
        """For an address that a standard host reaches: fragments but the last are to be transmitted before it."""
        peer = self._known(address)
        association = None if peer is None else peer.active
        if peer is not None:
            self._check_behind(peer, address)
        if peer is None or association is None:
            may = peer is not None and peer.why_clear and not peer.begun and now < peer.clear_used_at + IDLE_S
            if peer is not None and may:
                peer.clear_used_at = now
            self.sealed_for = address
            return data if may else None
        sealer = covering(peer, address)
        if sealer is None:
            return None
        if sealer.sa.due(now):
            self._approach_limit(association, sealer.sa, now)
            sealer = covering(peer, address)
            if sealer is None or sealer.sa.exhausted(now):
                return None
        self._claim(peer, address)
        host = packed_host(address[0])
        pieces = sealer.inner(
            data,
            host,
            address[1],
            self._keying.path_mtu(peer.carrier, now) if len(data) > SURE_TO_PASS else LEAST_MTU,
            20 if len(packed_host(peer.carrier[0])) == 4 else 40,
            whole=self._keying.is_cutting_forbidden(),
            checked=not association.translated,
        )
        if sealer.sa.packets + len(pieces) > sealer.sa.hard_packets:
            return None  # they end within the SA's numbers or are not begun; its successor is on its way
        association.last_out = now
        if not association.watched:
            self._schedule(association)
        packets = [sealer.seal(each, len(host), 0) for each in pieces[:-1]]
        for each in packets:
            self._transmit(each, peer.carrier)
        self.sealed_for = peer.carrier
        return sealer.seal(pieces[-1], len(host), len(data))

    def seal_run(
        self, batch: Sequence[bytes | memoryview], begin: int, most: int, most_bytes: int, address: Address, now: float
    ) -> SealedRun | None:
        """See the port."""
        peer = self._peers.get(address)
        if peer is None:
            return self._seal_run_for_host(batch, begin, most, most_bytes, address, now) if self._hosts else None
        if peer.resting is not None:
            self.rest.wake(peer)
        if peer.sealer is None or peer.active is None or now >= peer.sealer.sa.check_time:
            return None
        sealer, association = peer.sealer, peer.active
        length = len(batch[begin])
        size = sealer.packet_length(length)
        end = min(len(batch), begin + min(most, most_bytes // size, sealer.room(length)))
        stop = begin + 1
        while stop < end and len(batch[stop]) == length:
            stop += 1
        if end <= begin:
            return None
        association.last_out = now
        if not association.watched:
            self._schedule(association)
        self.sealed_for = peer.carrier
        return SealedRun(sealer.seal_run(batch[begin:stop]), size, stop - begin)

    def _check_behind(self, peer: Peer, address: Address) -> None:
        """PolicyRefused where the host may be spoken to, and what is behind it may not."""
        if peer.route is None:
            return
        standard, principal = peer.route.standard, None if peer.active is None else peer.active.principal
        forbidden = self._keying.why_not_behind(address, peer.carrier, standard, principal, outbound=True)
        if forbidden is not None:
            raise copy(forbidden)

    def _seal_run_for_host(
        self, batch: Sequence[bytes | memoryview], begin: int, most: int, most_bytes: int, address: Address, now: float
    ) -> SealedRun | None:
        """The same by way of a standard host: until one needs fragments, or something else has to be sent first."""
        packets: list[bytes | bytearray | memoryview] = []
        for data in batch[begin:]:
            size = len(packets[0]) if packets else 0
            if packets and (
                len(data) != len(batch[begin]) or len(packets) >= most or (len(packets) + 1) * size > most_bytes
            ):
                break
            packet = self._seal_for_host(data, address, now)
            if packet is None:
                break
            packets.append(packet)
            if self._outgoing:
                break
        return SealedRun(b"".join(packets), len(packets[0]), len(packets)) if packets else None

    def _approach_limit(self, association: Association, sa: OutboundSa, now: float) -> None:
        """A soft limit asks for a successor; at a hard one without a successor to come, the association ends."""
        session, limits = association.session, association.more.limits
        if sa.ask_once():
            session.rekey_child(now)
        if limits is not None and limits.due_at(*association.sealed(), now) and limits.ask_once():
            session.rekey_ike(now)
        self._drive(association, association.peer.carrier, now)
        of_child = sa.exhausted(now) and not session.child_rekey_pending
        of_ike = (
            limits is not None
            and limits is association.more.limits
            and limits.exhausted_at(*association.sealed(), now)
            and not session.ike_rekey_pending
        )
        if of_child or of_ike:
            self.counters["past-its-limits"] += 1
            self._delete(association, now)

    def _flush(self, peer: Peer, now: float) -> None:
        """Send the first datagrams that waited."""
        while peer.queue:
            (data, address), *rest = peer.queue
            try:
                packet = self.seal(data, address, now)
            except OSError as error:
                self.counters[errno.errorcode.get(error.errno or 0, "not-sent")] += 1
                packet = b""
            if packet is None and peer.reach is not None and address in peer.reach.refused:
                self.counters["first-datagrams-lost"] += 1
                packet = b""
            if packet is None:
                return
            peer.queue = tuple(rest)
            peer.queued_bytes -= len(data)
            self.queued -= 1
            if packet:
                self._transmit(packet, self.sealed_for)

    def _drop_queue(self, peer: Peer) -> None:
        self.counters["first-datagrams-lost"] += len(peer.queue)
        self.queued -= len(peer.queue)
        peer.queue = ()
        peer.queued_bytes = 0

    # -- what sessions want --------------------------------------------------------------------------------------------

    def _drive(self, association: Association, to: Address, now: float) -> None:
        """Carry out what the session asked for; its messages go to ``to``."""
        session = association.session
        while (action := session.poll_action()) is not None:
            match action:
                case SendDatagram(data, elsewhere):
                    association.more.rank = association.more.rank or data[:8]
                    self._transmit(NON_ESP_MARKER + data, elsewhere or to)
                case InstallSa() | FlowReady() if association.state == "over":
                    self.counters["too-late"] += 1
                case InstallSa(spec, "inbound"):
                    self._install(association, spec, now)
                case InstallSa(spec, _):
                    self._install_outbound(association, OutboundSa(spec, now))
                case RemoveSa(spi, "inbound"):
                    association.more.leaving += ((now + RETIRE_S, spi),)
                case RemoveSa(spi, _):
                    association.drop_sealer(spi)
                case FlowReady(establishment):
                    self._ready(association, establishment, now)
                case FlowFailed(error):
                    self._failed(association, error, now)
                case PeerClosed():
                    self._end(association, now)
                case Rekeyed(what, sa_id):
                    association.more.rekeys += 1
                    if what == "ike":
                        association.more.main_mode_sa_id = sa_id
                        association.begin_limits(now)
                case ProveAgain(within_s):
                    association.prove_within(within_s, now)
                case Moved(path, is_translated):
                    self._moved(association, path, is_translated)
                case ReachRefused(wanted, error):
                    self._reach_refused(association.peer, wanted, error)
                case Trace(reason):
                    self.counters[reason] += 1
        self._note_spis(association)
        choose_sealing(association.peer, now)
        self._flush(association.peer, now)
        self._schedule(association)

    def _reach(self, peer: Peer, address: Address, now: float) -> None:
        """Ask a standard host for a further SA, where those that there are do not cover ``address``."""
        active, route, reach = peer.active, peer.route, peer.reach
        if active is None or route is None or reach is None or address in reach.asked:
            return
        host = packed_host(address[0])
        # what it has narrowed once it would narrow again: only the networks that the address is of (RFC 7296 2.9)
        spans = tuple(each for each in route.standard.peers if each.covers(host, address[1]))
        if covering(peer, address) is not None or len(reach.asked) >= MAX_REACHING or not spans:
            return
        reach.asked.add(address)
        reach.refused.pop(address, None)
        active.session.reach(route.standard._replace(peers=spans, wanted=(host, address[1])), now)
        self._drive(active, peer.carrier, now)

    def _reach_refused(self, peer: Peer, wanted: tuple[bytes, int], error: SecureSocketError) -> None:
        reach = peer.reach
        for address in () if reach is None else tuple(reach.asked):
            if reach is not None and (packed_host(address[0]), address[1]) == wanted:
                reach.asked.discard(address)
                reach.refused[address] = error.with_traceback(None)

    def _moved(self, association: Association, path: AddressPair, is_translated: bool | None) -> None:
        """An authenticated change of addresses; the application keeps seeing those of establishment."""
        if path.peer != association.peer.carrier:
            self.counters["moved"] += 1
            self.moves += 1
            self._carry(association.peer, path.peer)
        if is_translated is not None:
            association.translated = is_translated
            association.set_watch()

    def look_at_path(self, address: Address, now: float) -> None:
        """See the port."""
        peer = self._known(address)
        for association in peer.associations if peer is not None else ():
            if association.state == "live":
                self._look_at_path(association, now)

    def _look_at_path(self, association: Association, now: float) -> None:
        """Ask anew which of our addresses leads to the peer; tell it, or leave one that cannot follow."""
        try:
            our = self._keying.our_address(association.peer.carrier)
        except OSError:
            return  # no way there at all, for now
        if our == association.our_address:
            return
        known, association.our_address = association.our_address, our
        if known is None:
            return
        self.moves += 1
        if association.session.move(our, now):
            self._drive(association, association.peer.carrier, now)
        else:
            self.counters["cannot-follow"] += 1
            self._delete(association, now)

    def _note_spis(self, association: Association) -> None:
        wanted = tuple(association.session.ike_spis)
        if wanted == association.more.ike_spis:
            return
        for spi in association.more.ike_spis:
            if spi not in wanted:
                self._by_ike_spi.pop(spi, None)
        for spi in wanted:
            self._by_ike_spi[spi] = association
        association.more.ike_spis = wanted

    def _install(self, association: Association, spec: SaSpec, now: float) -> None:
        if spec.spi in self._openers or spec.spi in self._host_openers or self._resting.holds(spec.spi):
            # both were chosen before either was installed: one in 2^32; the session that came later ends
            self.counters["spi-collision"] += 1
            self._delete(association, now)
            return
        if spec.scope is None:
            opener = self._openers[spec.spi] = AssociationOpener(spec, association, now)
            self._resting.reserve(spec.spi)
            association.open_with(opener)
        else:
            pieces = self._pieces(association)
            self._host_openers[spec.spi] = HostOpener(InboundSa(spec, now), spec.scope, pieces), association
        association.more.inbound += (spec.spi,)

    def _install_outbound(self, association: Association, sa: OutboundSa) -> None:
        scope = sa.spec.scope
        if scope is None:
            association.add_sealer(PacketSealer(sa))
            return
        association.add_sealer(HostSealer(sa, scope))
        reach = association.peer.reach
        if reach is not None:
            reach.asked -= {each for each in reach.asked if scope.our_host(packed_host(each[0]), each[1]) is not None}

    def _ready(self, association: Association, establishment: Establishment, now: float) -> None:
        peer = association.peer
        refusal = peer.check_latch(establishment.peer, establishment.anchor)
        if refusal is not None:
            self._failed(association, AuthenticationFailed(refusal, reason="other-name"), now)
            association.session.delete(now)
            return
        if peer.latched is None:
            peer.latched, peer.anchor = establishment.peer, establishment.anchor
        if association.role is Role.INITIATOR:
            peer.asked = None
        elif peer.carrier != association.more.source:
            # it began from there: whoever had moved has come back, or was started again
            self._carry(peer, association.more.source)
            self.moves += 1
        peer.why_clear = ""
        if association.more.place is not None:
            association.more.place.leave()
        others = [each for each in peer.associations if each.state == "live"]
        association.establish(establishment, now)
        self._remember_carrier(association)
        self.rest.note_awake(association, now)
        self._look_at_path(association, now)
        if association.may_carry:
            peer.failure = None
        for other in others:
            older = other.more.established_at < association.more.started
            lost = association.role is Role.RESPONDER and establishment.initial_contact and older
            if lost or other.more.main_mode_sa_id == establishment.resumed:
                # RFC 7296 2.4, RFC 5723 4.3.4: without a word, since the peer has lost it.  Semantics "Datagrams": of
                # the same identity, method, address and port, which is what the latch of this address stands for
                self._end(other, now)
                continue
            if other is association.more.renews:
                other.make_way(now)
                continue
            association.join(other, now)
            self._drive(other, peer.carrier, now)
        association.more.renews = None

    def _begin(self, peer: Peer, address: Address, host: PeerTargetName | AnyTrustedPeer | None, now: float) -> None:
        """Negotiate with ``peer`` for the sake of ``address``, unless there is an SA or a negotiation."""
        if peer.why_clear and now >= peer.clear_used_at + IDLE_S:
            peer.why_clear = ""
        if peer.occupied or peer.why_clear:
            self._reach(peer, address, now)
            return
        standard = otherwise = None
        try:
            route = self._keying.route(address)
        except LocalMisuse:
            if peer.route is None:
                raise
            route = None  # its entry does not say whom to begin with, but it was here before
        if peer.route is not None:
            peer.route = route or peer.route
            host, standard = peer.route.expected, peer.route.standard
        elif route is not None:
            host, otherwise = route.expected, route if address[0] not in self._carriers else None
        if peer.is_a_users:
            raise LocalMisuse(
                f"this address is the user {peer.latched}'s, who has to begin: whoever answers proves a machine"
            )
        expected = peer.wanted(host)
        if expected is host and host is not ANY_TRUSTED_PEER:
            peer.asked = host
        if expected is None:
            self._forget_stranger(peer)
            raise LocalMisuse("nobody said who should be at this address: name the peer, or name its host")
        peer.failure = None
        self._carry(peer, peer.address)  # whoever had moved and was lost is looked for where the application means
        peer.any_trusted = peer.any_trusted or expected is ANY_TRUSTED_PEER
        self._start(peer, expected, standard, now, otherwise=otherwise)

    def _failed(
        self, association: Association, error: SecureSocketError, now: float, *, is_proven: bool = True
    ) -> None:
        """``is_proven`` unless anybody on the path can have caused it."""
        peer, negotiating = association.peer, association.state == "negotiating"
        old, association.more.renews = association.more.renews, None
        refused = is_proven and isinstance(error, AuthenticationFailed | PolicyRefused)
        if negotiating and old is not None and refused:
            # semantics "The latch": whoever cannot prove again to be who it was is not who it was
            self.counters["latch-broken"] += 1
            self._delete(old, now)
        self.counters[getattr(error, "reason", "") or type(error).__name__] += 1
        if negotiating:
            self._keying.failed(association.role, peer.carrier, error)
        self._end(association, now)
        self._close_inbound(association)
        if negotiating and association.role is Role.INITIATOR and not peer.occupied:
            peer.failure, peer.failure_told = error.with_traceback(None), False
            self._carriers.pop(peer.address[0], None)  # the next time both ports may answer again

    def _confirm(self, association: Association, now: float) -> None:
        association.confirmed = True
        self.due = -inf  # whoever waits for that is told
        association.more.confirm_by = inf
        association.set_watch()
        choose_sealing(association.peer, now)
        self._flush(association.peer, now)

    def _start(
        self,
        peer: Peer,
        expected: PeerTargetName | AnyTrustedPeer,
        standard: StandardHost | None,
        now: float,
        *,
        otherwise: Route | None = None,
        renews: Association | None = None,
    ) -> None:
        try:
            session = self._keying.make_session(
                Role.INITIATOR,
                peer.carrier,
                expected,
                LatchAdmission(peer),
                self._spis,
                now,
                standard,
                anew=renews is not None,
            )
        except SecureSocketError:
            self._forget_stranger(peer)  # policy forbids it, or leaves nothing to offer: whoever sends is told
            raise
        association = Association(peer, session, Role.INITIATOR, b"", now)
        association.more.clear_allowed = not self._allow_insecure or (
            peer.address not in self._answered and self._keying.may_fall_back(peer.carrier)
        )
        association.more.otherwise, association.more.renews = otherwise, renews
        peer.associations += (association,)
        session.handle_acquire(now)
        self._drive(association, peer.carrier, now)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _delete(self, association: Association, now: float) -> None:
        if association.state != "over":
            association.session.delete(now)
            self._drive(association, association.peer.carrier, now)
            self._end(association, now)

    def _end(self, association: Association, now: float) -> None:
        """It seals nothing more, and repeats its last words for a while."""
        if association.state == "over":
            return
        refused = association.state == "negotiating" and association.role is Role.RESPONDER
        if self._allow_insecure and association.role is Role.INITIATOR and association.session.peer_speaks_ike:
            self._answered.add(association.peer.address)
        association.state = "over"
        association.more.bury_at = now + LINGER_S
        self.rest.ended(association)
        association.stop_sealing()
        if association.more.place is not None and not refused:
            association.more.place.leave()  # refused ones keep theirs until they are buried: they cannot pile up
        peer = association.peer
        if peer.reach is not None:
            peer.reach.asked.clear()
        choose_sealing(peer, now)
        if peer.queue and not peer.occupied and not peer.why_clear:
            self._drop_queue(peer)
        self._schedule(association)

    def _abandon(self, association: Association, now: float) -> None:
        """Its session goes on with nothing."""
        association.session.delete(now)
        self._drive(association, association.peer.carrier, now)

    def _close_inbound(self, association: Association) -> None:
        for spi in association.more.inbound:
            self._remove_inbound(association, spi)
        association.more.leaving = ()

    def _remove_inbound(self, association: Association, spi: int) -> None:
        if spi in association.more.inbound:
            association.more.inbound = left = tuple(each for each in association.more.inbound if each != spi)
            opener = self._openers.pop(spi, None)
            self._resting.release(spi)
            if opener is not None and opener is association.opener:
                association.open_with(self._openers.get(left[-1]) if left else None)
            CIPHERS.drop(opener or self._host_openers.pop(spi)[0].sa)

    def _pieces(self, association: Association) -> Reassembly:
        """What came in fragments from a standard host; its counts are the socket's."""
        if association.more.pieces is None:
            association.more.pieces = Reassembly(self.counters)
        return association.more.pieces

    def _bury(self, association: Association) -> None:
        self._close_inbound(association)
        if association.more.pieces is not None:
            association.more.pieces.expire(inf)
        for spi in association.more.ike_spis:
            self._by_ike_spi.pop(spi, None)
        association.more.ike_spis = ()
        peer = association.peer
        if association.role is Role.RESPONDER:
            self._beginnings.pop((association.more.source, association.more.rank), None)
        if association.more.place is not None:
            association.more.place.leave()
        peer.associations = tuple(each for each in peer.associations if each is not association)
        association.more.bury_at = inf
        self._forget_stranger(peer)

    def _evict(self, now: float) -> None:
        """Those whose place a newcomer was given."""
        for place in self._keying.evicted():
            for association in tuple(self._beginnings.values()):
                if association.more.place is place and association.state == "negotiating":
                    self.counters["evicted"] += 1
                    self._end(association, now)
                    self._bury(association)

    def resting_sessions(self) -> list[KeyingSession]:
        """See the port."""
        return self.rest.sessions()

    # -- time ----------------------------------------------------------------------------------------------------------

    def poll_transmit(self) -> tuple[bytes | bytearray | memoryview, Address] | None:
        """See the port."""
        if self._outgoing:
            return self._outgoing.popleft()
        if self.due == -inf:
            self.due = inf
            self._note_due()
        return None

    def next_deadline(self) -> float | None:
        """See the port."""
        return None if self.due == inf else self.due

    def _schedule(self, association: Association) -> None:
        """Look at it again when its next deadline comes; a look that comes too early costs no more than the look."""
        if self._timers.note(association, association.next_deadline(self._allow_insecure)):
            self._note_due()

    def _note_due(self) -> None:
        if self.due > -inf:
            self.due = min(self._timers.due, self.rest.due)

    def _transmit(self, packet: bytes | bytearray | memoryview, to: Address) -> None:
        self._outgoing.append((packet, to))
        self.due = -inf
