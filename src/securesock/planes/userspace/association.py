"""A key exchange with one peer of a datagram socket, the SA pairs that live under it, and when it has to be looked at.

A peer has several for a while: both ends began at once, or the host at the other end was started again.  Very many may
be idle, so what packets and clocks look at is kept apart from all else, which goes to rest (rest).

Nothing here moves bytes or asks the time, and it must not know what was promised about the peer.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from ...engine.ports import HalfOpenPlace, Route
from ...keying.contract import Establishment, KeyingSession, Role
from ...sad.ciphers import CIPHERS
from ...sad.entries import SEALING_SHARE, Limits
from ...sad.spec import SaSpec
from ...types import Address, Principal
from ...wire.inet import MAX_PACKET
from .host_packet import HostSealer
from .packet import PacketOpener, PacketSealer
from .reassembly import Reassembly

if TYPE_CHECKING:
    from .peers import Peer

__all__ = [
    "IDLE_S",
    "LINGER_S",
    "NEGOTIATION_S",
    "NEVER",
    "OWN_PORT_S",
    "PROVE_RETRY_S",
    "QUIET_S",
    "RETIRE_S",
    "SILENCE_S",
    "Association",
    "AssociationOpener",
    "Particulars",
]

NEGOTIATION_S: Final = 10.0
"""Semantics "Limits against strangers": every exchange of a negotiation on a bad line, and no longer."""
OWN_PORT_S: Final = 1.0
"""How long an own port gives no sign of IKE before port 4500 is tried in its place (semantics "Datagrams")."""
SILENCE_S: Final = 2.0
"""How long a peer gives no sign of IKE before allow_insecure takes it for one that does not speak it."""
CONFIRM_S: Final = 1.0
"""How long a responder holds its own datagrams back until a packet shows that its last message arrived: a lost one is
sent again within 0.5 s."""
IDLE_S: Final = 300.0
"""After five minutes without a datagram either way the SAs go."""
LIVENESS_S: Final = 10.0
"""Sent to, and not heard of for so long: ask for a sign of life (RFC 7296 2.4)."""
DEAD_S: Final = 30.0
"""Asked, and not answered for so long: six requests went unanswered, and the next datagram begins anew."""
PATH_CHECK_S: Final = 1.0
"""Sent to, and not heard of for so long: our own address may have changed, which costs two system calls to know."""
KEEPALIVE_S: Final = 20.0
"""RFC 3948 4: the default interval, below what translators of addresses are known to remember."""
PROVE_SHARE: Final = 0.9
"""Share of the time that a proof counts after which who began proves itself anew: at least 6 s are left for it."""
PROVE_GRACE_S: Final = 10.0
"""RFC 4478 2: a responder ends it "soon after"; as long as a negotiation may take."""
PROVE_RETRY_S: Final = 10.0
"""When a peer could not be reached to prove itself anew, the next try."""
RETIRE_S: Final = 1.0
"""How long an association that another one replaces still opens packets that were on their way."""
QUIET_S: Final = 1.0
"""Idle for so long, a peer may be put to rest: what was on its way when it fell silent has come."""
NEVER: Final = -inf
LINGER_S: Final = 10.0
"""How long after its end an association still repeats its last reply (RFC 7296 2.1)."""

_SLOTS: Final = tuple(name for each in PacketOpener.__mro__ for name in getattr(each, "__slots__", ()))

AssociationState: TypeAlias = Literal["negotiating", "live", "over"]


class AssociationOpener(PacketOpener):
    """What opens the packets of an association, with all that a packet asks of it and of its peer.

    ``last_in``: when it last opened one.  ``watchful``: where a packet comes from, or that it came, means something.
    ``look_at``: how many packets there are when somebody has to look, at that or at the limits.
    """

    __slots__ = ("_watchful", "address", "association", "last_in", "look_at", "principal")

    def __init__(self, spec: SaSpec, association: Association, now: float) -> None:
        super().__init__(spec, now)
        self.association = association
        self.address = association.peer.address
        self.principal = association.principal
        self.last_in = NEVER
        self.watchful = True

    @property
    def watchful(self) -> bool:
        """Whether every packet is to be looked at."""
        return self._watchful

    @watchful.setter
    def watchful(self, wanted: bool) -> None:
        self._watchful = wanted
        self.note_limits()

    def note_limits(self) -> None:
        """They are others, or nearer: no packet holds more than 64 KiB."""
        if self._watchful:
            self.look_at = 0
            return
        left = min(self.check_packets - self.packets, (self.check_bytes - self.byte_count) // MAX_PACKET)
        self.look_at = self.packets + max(left, 1)

    @classmethod
    def like(cls, other: PacketOpener, association: Association) -> AssociationOpener:
        """One for another SA whose packets are opened the same way: all that is its own is yet to be written."""
        opener = cls.__new__(cls)
        for name in _SLOTS:
            setattr(opener, name, getattr(other, name))
        opener.association = association
        opener.address = association.peer.address
        opener.watchful = True
        return opener


class Particulars:
    """What of an association no packet looks at: of an idle peer it is at rest.

    ``rank`` is the SPI of the IKE_SA's initiator, which both ends know.  ``otherwise``: the way to go where the peer's
    own port is silent.  ``replaced``: another one took its place.  ``retire_at``: when we delete it.
    """

    __slots__ = (
        "bury_at",
        "clear_allowed",
        "confirm_by",
        "established_at",
        "establishment",
        "hard_at",
        "host_sealers",
        "ike_spis",
        "inbound",
        "leaving",
        "limits",
        "main_mode_sa_id",
        "otherwise",
        "pieces",
        "place",
        "probed_at",
        "prove_at",
        "prove_by",
        "quick_mode_sa_id",
        "rank",
        "rekeys",
        "renews",
        "replaced",
        "retire_at",
        "sealed_bytes",
        "sealed_packets",
        "sealers",
        "session",
        "source",
        "started",
    )

    def __init__(self, session: KeyingSession, rank: bytes, source: Address, now: float) -> None:
        self.session = session
        self.rank = rank
        self.started = now
        self.source = source  # where its negotiation comes from, or goes to
        self.place: HalfOpenPlace | None = None
        self.otherwise: Route | None = None
        self.clear_allowed = True  # by policy, where the application allows it
        self.ike_spis: tuple[bytes, ...] = ()
        self.inbound: tuple[int, ...] = ()
        self.leaving: tuple[tuple[float, int], ...] = ()
        self.sealers: list[PacketSealer] = []
        self.host_sealers: tuple[HostSealer, ...] = ()
        self.pieces: Reassembly | None = None
        self.limits: Limits | None = None
        self.sealed_packets = self.sealed_bytes = 0
        self.establishment: Establishment | None = None
        self.established_at = 0.0
        self.main_mode_sa_id = 0
        self.quick_mode_sa_id = 0
        self.rekeys = 0
        self.replaced = False
        self.probed_at = NEVER
        self.confirm_by = self.hard_at = self.retire_at = self.bury_at = inf
        self.prove_at = self.prove_by = inf
        self.renews: Association | None = None

    def __getstate__(self) -> tuple[object, ...]:
        """Without the names."""
        return tuple(getattr(self, each) for each in self.__slots__)

    def __setstate__(self, values: tuple[object, ...]) -> None:
        for name, value in zip(self.__slots__, values, strict=True):
            setattr(self, name, value)


class Association:
    """One keying session.  What packets and clocks look at is here, all else in ``more``, which wakes an idle peer.

    ``confirmed``: the peer is known to have the keys.  ``watched``: the timers know that something was sent since the
    peer was last heard.  ``opener``: the inbound SA installed last, but for a standard host's; where that is at rest
    too, ``resting_spi`` is its SPI.  ``wake_at``: of one at rest, when it has to be looked at as a whole.
    """

    __slots__ = (
        "_heard_at_rest",
        "_last_in",
        "_more",
        "confirmed",
        "idle_s",
        "kept_at",
        "last_out",
        "opener",
        "our_address",
        "path_looked_at",
        "peer",
        "principal",
        "resting_spi",
        "role",
        "scheduled",
        "state",
        "translated",
        "wake_at",
        "watched",
    )

    def __init__(self, peer: Peer, session: KeyingSession, role: Role, rank: bytes, now: float) -> None:
        self.peer = peer
        self._more: Particulars | None = Particulars(session, rank, peer.carrier, now)
        self._heard_at_rest = NEVER
        self.wake_at = inf
        self.opener: AssociationOpener | None = None
        self.resting_spi = 0
        self.role = role
        self.state: AssociationState = "negotiating"
        self.idle_s = IDLE_S
        self.principal: Principal | None = None
        self.confirmed = False
        self.watched = False
        self.translated = False  # whether the two ends see different addresses
        self.our_address: Address | None = None
        self._last_in = self.last_out = self.kept_at = self.path_looked_at = now
        self.scheduled = inf

    # what an idle peer's is at rest, and comes back when it is asked for

    @property
    def more(self) -> Particulars:
        """All that no packet looks at."""
        if self._more is None:
            self.peer.keeper.wake(self.peer)
        return cast(Particulars, self._more)

    @property
    def session(self) -> KeyingSession:
        """The key exchange with the peer."""
        return self.more.session

    @property
    def establishment(self) -> Establishment | None:
        """What was agreed on, once it was."""
        return self.more.establishment

    @property
    def sealers(self) -> list[PacketSealer]:
        """The outbound SAs; the last one seals."""
        return self.more.sealers

    @property
    def session_due(self) -> float:
        """When the session has to be looked at, infinity for never."""
        due = self.session.next_deadline()
        return inf if due is None else due

    @property
    def at_rest(self) -> bool:
        """Whether the peer's bytes hold what of it no packet looks at."""
        return self._more is None

    def may_rest(self, now: float) -> bool:
        """Whether nothing has happened for a while and nothing will soon."""
        more = self._more
        if more is None:
            return False
        quiet = (
            self.state == "live"
            and self.confirmed
            and len(more.inbound) == 1
            and not (more.leaving or more.host_sealers or more.replaced or self.probing)
            and now >= max(self.heard_or_sent_at, self.heard_at) + QUIET_S
        )
        peer = self.peer
        alone = peer.associations == (self,) and peer.route is None and not (peer.queue or peer.failure)
        return quiet and alone and self.session_due > now + QUIET_S

    def rest(self) -> Particulars:
        """Let go of what no packet looks at; ``wake`` takes it again."""
        more = self.more
        self.wake_at = min(self.session_due, self.ends_at, self.prove_at)
        # what is not later than last_in is the same to heard_at, and one object less
        self._heard_at_rest = NEVER if more.session.last_heard <= self.last_in else more.session.last_heard
        if not self.translated:
            self.kept_at = self.last_out  # nobody is reminded
        for sealer in more.sealers:
            CIPHERS.drop(sealer.sa)
        self._more = None
        return more

    def wake(self, more: Particulars) -> None:
        """Go on with what ``rest`` let go of."""
        self._more, self.wake_at = more, inf

    @property
    def last_in(self) -> float:
        """When the last packet opened."""
        if self.opener is not None:
            return max(self._last_in, self.opener.last_in)
        return max(self._last_in, self.peer.keeper.last_in(self.resting_spi)) if self.resting_spi else self._last_in

    def heard(self, now: float) -> None:
        """A packet opened, and ``opener`` did not note it."""
        self._last_in = now

    def open_with(self, opener: AssociationOpener | None) -> None:
        """Another inbound SA is the newest; the one before may still open what is on its way."""
        before, self.opener = self.opener, opener
        if before is not None:
            self.heard(max(self._last_in, before.last_in))
            before.watchful = True
        self.set_watch()

    def set_watch(self) -> None:
        """Whether packets of the newest SA say more than what is in them: that the peer has the keys, and where a
        translator has moved it to."""
        if self.opener is not None:
            self.opener.watchful = not self.confirmed or self.translated
            self.opener.principal = self.principal

    @property
    def heard_or_sent_at(self) -> float:
        """When the last datagram went either way."""
        return max(self.last_in, self.last_out)

    @property
    def may_carry(self) -> bool:
        """Whether it lives, with somebody whom the application means."""
        asked = self.peer.asked
        return self.state == "live" and (
            asked is None
            or self.role is Role.INITIATOR
            or (self.principal is not None and self.principal.name == asked.principal)
        )

    @property
    def keepalive_at(self) -> float:
        """When a translator of addresses between the ends has to be reminded of us."""
        return max(self.last_out, self.kept_at) + KEEPALIVE_S

    @property
    def heard_at(self) -> float:
        """When the peer last showed that it lives."""
        return max(self.last_in, self._heard_at_rest if self._more is None else self._more.session.last_heard)

    def establish(self, establishment: Establishment, now: float) -> None:
        """The peer is proven and both directions are there."""
        more = self.more
        self.state = "live"
        more.establishment = establishment
        self.translated = establishment.translated
        self.principal = establishment.peer
        self.idle_s = establishment.idle_s
        more.main_mode_sa_id = establishment.main_mode_sa_id
        more.quick_mode_sa_id = establishment.quick_mode_sa_id
        more.established_at = self._last_in = self.last_out = now
        more.place = None
        self.begin_limits(now)
        # the initiator has read our answer; a responder waits for a sign that its own was read
        self.confirmed = self.role is Role.INITIATOR
        more.confirm_by = inf if self.confirmed else now + CONFIRM_S
        self.set_watch()

    # what its key exchange SA may still carry

    def add_sealer(self, sealer: PacketSealer | HostSealer) -> None:
        """Seal with it from now on."""
        more = self.more
        if isinstance(sealer, HostSealer):
            more.host_sealers = (*more.host_sealers, sealer)
        else:
            more.sealers.append(sealer)
        more.quick_mode_sa_id = sealer.sa.spec.sa_id
        self._bound(sealer)

    def drop_sealer(self, spi: int) -> None:
        """Its SA is gone; what it sealed still counts."""
        more = self.more
        gone = [each for each in self._all_sealers() if each.sa.spi == spi]
        more.sealers = [each for each in more.sealers if each.sa.spi != spi]
        more.host_sealers = tuple(each for each in more.host_sealers if each.sa.spi != spi)
        for sealer in gone:
            more.sealed_packets += sealer.sa.packets
            more.sealed_bytes += sealer.sa.byte_count
            CIPHERS.drop(sealer.sa)

    def begin_limits(self, now: float) -> None:
        """There is a new key exchange SA: its limits (semantics "Who drives it") count from here."""
        more = self.more
        if more.establishment is None:
            return
        lifetimes = more.establishment.main_mode_lifetimes
        more.hard_at = now + lifetimes.seconds
        more.limits = Limits(lifetimes, now, SEALING_SHARE, *self.sealed())
        for sealer in self._all_sealers():
            self._bound(sealer)

    def _all_sealers(self) -> tuple[PacketSealer | HostSealer, ...]:
        return (*self.more.sealers, *self.more.host_sealers)

    def stop_sealing(self) -> None:
        """Seal nothing more."""
        for sealer in self._all_sealers():
            CIPHERS.drop(sealer.sa)
        self.more.sealers, self.more.host_sealers = [], ()

    def sealed(self) -> tuple[int, int]:
        """Packets and bytes of application data, over all SAs."""
        return (
            self.more.sealed_packets + sum(each.sa.packets for each in self._all_sealers()),
            self.more.sealed_bytes + sum(each.sa.byte_count for each in self._all_sealers()),
        )

    def _bound(self, sealer: PacketSealer | HostSealer) -> None:
        """No SA may carry more than the one that it was made under, so that the fast path looks at one limit."""
        limits, sa = self.more.limits, sealer.sa
        if limits is not None:
            packets, byte_count = self.sealed()
            left, left_bytes = limits.hard_packets - packets, limits.hard_bytes - byte_count
            sa.hard_packets = min(sa.hard_packets, sa.packets + left)
            sa.hard_bytes = min(sa.hard_bytes, sa.byte_count + left_bytes)
            sa.check_packets = min(sa.check_packets, sa.packets + max(1, left // 2))
            sa.check_bytes = min(sa.check_bytes, sa.byte_count + max(1, left_bytes // 2))
            if isinstance(sealer, PacketSealer):
                sealer.note_limits()

    def join(self, other: Association, now: float) -> None:
        """This one became live while ``other`` was: which of the two goes.

        Either both ends began at once, or the host at the other end was started again; messages that are lost and sent
        again make the two look the same.  So nobody guesses.  The newest seals, whose peer is certain to have its keys.
        The one with the lower rank goes, and whoever began it deletes it: at either end the same one.  The older one
        has to show that it lives, in case nobody is left who could delete it.
        """
        loser = min(self, other, key=lambda each: each.more.rank)
        if loser.role is Role.INITIATOR:
            loser.more.replaced = True
            loser.more.retire_at = min(loser.more.retire_at, now + RETIRE_S)
        other.more.probed_at = now
        other.session.check_liveness(now)

    def next_deadline(self, allow_insecure: bool) -> float:
        """When something has to be looked at; infinity for never."""
        moments = [self.wake_at] if self._more is None else self._moments(self._more, allow_insecure)
        if self.state == "live":
            moments.append(self.heard_or_sent_at + self.idle_s)
            if self.translated:
                moments.append(self.keepalive_at)
            self.watched = self.last_out > self.heard_at
            if self.watched or self.probing:
                moments.append(self.liveness_at)
            moments.append(self.path_check_at)
        return min(moments)

    def _moments(self, more: Particulars, allow_insecure: bool) -> list[float]:
        """The deadlines of one that is awake beyond those that it has at rest."""
        moments = [more.bury_at, self.session_due]
        if more.leaving:
            moments.append(more.leaving[0][0])
        if self.state == "negotiating":
            moments.append(more.started + NEGOTIATION_S)
            if more.otherwise is not None and not more.session.peer_speaks_ike:
                moments.append(more.started + OWN_PORT_S)
            if self.may_be_clear(allow_insecure):
                moments.append(more.started + SILENCE_S)
        elif self.state == "live":
            moments += [self.ends_at, more.prove_at]
            if not self.confirmed:
                moments.append(more.confirm_by)
            if more.pieces is not None:
                moments.append(more.pieces.deadline)
        return moments

    @property
    def ends_at(self) -> float:
        """When it is deleted, whatever comes; of one at rest, the moment before which it is not."""
        more = self._more
        return self.wake_at if more is None else min(more.hard_at, more.retire_at, more.prove_by)

    @property
    def prove_at(self) -> float:
        """When we prove ourselves anew; of one at rest, the moment before which we do not."""
        return self.wake_at if self._more is None else self._more.prove_at

    def prove_within(self, seconds: float, now: float) -> None:
        """The proofs of both ends count for so long (RFC 4478): who began proves itself anew before that."""
        more = self.more
        more.prove_by = now + seconds
        if self.role is Role.INITIATOR:
            more.prove_at = now + seconds * PROVE_SHARE
        else:
            more.prove_by += PROVE_GRACE_S

    def make_way(self, now: float) -> None:
        """Another one was made to take its place: what is on its way still opens, and then it is deleted."""
        more = self.more
        more.replaced = True
        more.prove_at = inf
        more.retire_at = min(more.retire_at, now + RETIRE_S)

    @property
    def path_check_at(self) -> float:
        """When to ask anew which of our addresses leads to the peer: while it is silent, and when a translator is
        reminded."""
        since = max(self.path_looked_at, self.heard_at)
        if self.probing or self.last_out > self.heard_at:
            # the longer the silence, the less often: many receivers never say a word
            return since + max(PATH_CHECK_S, self.path_looked_at - self.heard_at)
        # whoever began may only listen, and would not be found at its new address
        return since + (KEEPALIVE_S if self.translated or self.role is Role.INITIATOR else inf)

    @property
    def probing(self) -> bool:
        """Whether the peer was asked for a sign of life since it last gave one."""
        return self._more is not None and self._more.probed_at > self.heard_at

    @property
    def liveness_at(self) -> float:
        """When to ask, or to give up."""
        return self.more.probed_at + DEAD_S if self.probing else self.heard_at + LIVENESS_S

    def may_be_clear(self, allow_insecure: bool) -> bool:
        """Whether silence may be taken for a peer that does not speak IKE (semantics "In clear, or not")."""
        return (
            allow_insecure
            and self.more.clear_allowed
            and self.role is Role.INITIATOR
            # what is behind a gateway is nobody whom clear text would reach
            and (self.peer.route is None or self.peer.route.standard.mode == "transport")
            and not self.session.peer_speaks_ike
            and self.peer.latched is None
        )
