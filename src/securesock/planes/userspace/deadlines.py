"""What happens to an association when its time comes: what is retransmitted, given up, asked, proven anew, ended.

An association is looked at when its earliest deadline comes (timers), and says then when it wants to be looked at
again.  One that is at rest is woken by what needs all of it, and by nothing else: a translator of addresses is reminded
of us, and the path looked at, without.

It must not know what comes in, nor who asks for the time.
"""

from __future__ import annotations

from ...errors import KeyingTimeout, SecureSocketError
from ...wire.udp_encapsulation import NAT_KEEPALIVE
from .association import NEGOTIATION_S, OWN_PORT_S, PROVE_RETRY_S, SILENCE_S, Association
from .associations import Associations

__all__ = ["Deadlines"]


class Deadlines(Associations):
    """Associations, and their time.  Not thread-safe: who calls holds the socket's lock."""

    def handle_timeout(self, now: float) -> None:
        """See the port."""
        self._evict(now)
        while (association := self._timers.take(now)) is not None:
            self._look_at(association, now)
            self._schedule(association)
        if self.rest.due <= now:
            self.rest.make_room(now)
        self._note_due()

    def _look_at(self, association: Association, now: float) -> None:
        if association.wake_at <= now:
            self.rest.wake(association.peer)
        if not association.at_rest:
            self._look_at_session(association, now)
        if association.state == "live":
            self._look_at_live(association, now)

    def _look_at_session(self, association: Association, now: float) -> None:
        more = association.more
        while more.leaving and more.leaving[0][0] <= now:
            (_, spi), *rest = more.leaving
            more.leaving = tuple(rest)
            self._remove_inbound(association, spi)
        if association.session_due <= now:
            association.session.handle_timeout(now)
            self._drive(association, association.peer.carrier, now)
        if association.state == "over" and now >= more.bury_at:
            self._bury(association)
        elif association.state == "negotiating":
            self._look_at_negotiation(association, now)
        elif more.pieces is not None:
            more.pieces.expire(now)

    def _look_at_negotiation(self, association: Association, now: float) -> None:
        silent = not association.session.peer_speaks_ike
        if association.more.otherwise is not None and silent and now >= association.more.started + OWN_PORT_S:
            self._try_standard_port(association, now)
        elif now >= association.more.started + SILENCE_S and association.may_be_clear(self._allow_insecure):
            self._fall_back(association, now)
            self._abandon(association, now)
        elif now >= association.more.started + NEGOTIATION_S:
            host, port = association.peer.address[:2]
            # a refusal that nothing proves is the best guess at why nobody answered properly
            error = association.session.unproven_refusal or KeyingTimeout(
                f"{host} port {port} did not finish the key exchange within {NEGOTIATION_S:g} s; does it speak IKEv2?"
            )
            self._failed(association, error, now, is_proven=False)
            self._abandon(association, now)

    def _look_at_live(self, association: Association, now: float) -> None:
        if not association.confirmed and now >= association.more.confirm_by:
            self._confirm(association, now)
        if now >= min(association.ends_at, association.heard_or_sent_at + association.idle_s):
            self._delete(association, now)
            return
        if now >= association.prove_at:
            self._prove_again(association, now)
        if now >= association.path_check_at:
            association.path_looked_at = now
            self._look_at_path(association, now)
            if association.state != "live":
                return
        if association.translated and now >= association.keepalive_at:
            association.kept_at = now
            self._transmit(NAT_KEEPALIVE, association.peer.carrier)
        sent_since = association.last_out > association.heard_at
        if (sent_since or association.probing) and now >= association.liveness_at:
            if association.probing:
                self._failed(association, KeyingTimeout("the peer gives no sign of life any more"), now)
            else:
                association.more.probed_at = now
                association.session.check_liveness(now)
                self._drive(association, association.peer.carrier, now)

    def _try_standard_port(self, association: Association, now: float) -> None:
        """The own port is silent: the same with a standard host, and never with both (semantics "Datagrams")."""
        own, route = association.peer, association.more.otherwise
        if route is None:
            return
        host = self._host(route.carrier, route)
        host.expected = host.expected or own.expected
        host.keep(own.queue)
        host.queued_bytes += own.queued_bytes
        own.queue = ()
        own.queued_bytes = 0
        # nothing that its own port answers from now on counts
        self._end(association, now)
        self._abandon(association, now)
        self._peers.pop(own.address, None)
        self._behind[own.address] = host
        try:
            self._begin(host, own.address, own.asked, now)
        except SecureSocketError as error:  # policy, which nobody is here to be told of
            host.failure, host.failure_told = error.with_traceback(None), False
            self._drop_queue(host)
            return
        self._flush(host, now)

    def _fall_back(self, association: Association, now: float) -> None:
        """allow_insecure: the peer gave no sign of IKE; what waited goes in clear."""
        peer = association.peer
        peer.why_clear = f"the peer did not answer IKE within {SILENCE_S:g} s"
        peer.clear_used_at = now
        self._end(association, now)
        self._flush(peer, now)

    def _prove_again(self, association: Association, now: float) -> None:
        """RFC 7296 2.8.3: a whole new IKE_SA, beside the old one, which carries until the new one does."""
        peer = association.peer
        association.more.prove_at = now + PROVE_RETRY_S
        expected = None if peer.is_a_users else peer.wanted(None)
        if expected is None or any(
            each.more.renews is association and each.state != "over" for each in peer.associations
        ):
            return
        self.counters["proving-again"] += 1
        try:
            standard = None if peer.route is None else peer.route.standard
            self._start(peer, expected, standard, now, renews=association)
        except OSError:
            self.counters["cannot-prove-again"] += 1
