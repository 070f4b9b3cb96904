"""The ports through which planes and drivers meet.

A plane says what it can carry and makes machines; a driver moves bytes between such a machine and a descriptor.
Neither knows the other: this module is all that they share.  It must not know any plane, keying protocol or socket.

Theory.  A secured stream is a machine without I/O.  Its methods fall in three groups: inbound (the caller holds the
connection's read lock), outbound (the write lock), and the rest (any lock or none).  One thread may be inside an
inbound method while another is inside an outbound one.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from ..errors import SecureSocketError
    from ..identity.names import PeerTargetName
    from ..keying.admission import Admission
    from ..keying.contract import Establishment, KeyingConfig, KeyingSession, Role, StandardHost
    from ..types import Address, AnyTrustedPeer, Principal

__all__ = [
    "Arrival",
    "DatagramKeying",
    "HalfOpenPlace",
    "PeerReport",
    "PeerState",
    "Route",
    "SealedRun",
    "SecuredDatagrams",
    "SecuredStream",
    "StreamPlane",
    "StreamState",
]

StreamState: TypeAlias = Literal["negotiating", "established", "closed", "failed"]
PeerState: TypeAlias = Literal["none", "negotiating", "established", "clear", "failed"]
"""Where a datagram socket stands with one address."""


class SecuredStream(Protocol):
    """One secured byte stream over one carrier; ``now`` is monotonic seconds everywhere."""

    # -- any lock or none ------------------------------------------------------------------------------------------

    @property
    def state(self) -> StreamState:
        """Where it stands; "failed" is reached from any of the others."""
        ...

    @property
    def error(self) -> SecureSocketError | None:
        """Why it failed: the first reason."""
        ...

    @property
    def establishment(self) -> Establishment | None:
        """What was agreed on and proven."""
        ...

    @property
    def peer_speaks_ike(self) -> bool:
        """Initiator: a well-formed answer to our first message came.  Responder: a valid first message came."""
        ...

    @property
    def outbound_waiting(self) -> bool:
        """Whether ``outbound()`` has something for the carrier."""
        ...

    @property
    def quiet(self) -> bool:
        """Nothing is readable, half received or waiting for the carrier, and nothing ended: a message may come."""
        ...

    @property
    def wants_input(self) -> bool:
        """False when enough is kept unread, or when nothing more will come."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the peer's authenticated end of stream was read."""
        ...

    @property
    def carrier_ended(self) -> bool:
        """Whether the carrier's end was read."""
        ...

    @property
    def at_end(self) -> bool:
        """Nothing opened waits, and nothing more will come."""
        ...

    @property
    def counters(self) -> Mapping[str, int]:
        """What was dropped or refused, by reason."""
        ...

    @property
    def child_rekeys(self) -> int:
        """How often the ESP SA pair was replaced."""
        ...

    @property
    def ike_rekeys(self) -> int:
        """How often the IKE SA was replaced."""
        ...

    @property
    def main_mode_sa_id(self) -> int:
        """The key exchange SA in use."""
        ...

    @property
    def quick_mode_sa_id(self) -> int:
        """The ESP SA pair in use."""
        ...

    def readable(self) -> int:
        """Opened bytes that were not read yet."""
        ...

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` wants to be called."""
        ...

    def abandon(self) -> None:
        """In a forked child: nothing can be sealed or opened any more."""
        ...

    def break_off(self, error: SecureSocketError) -> None:
        """Fail for a reason that is not the peer's."""
        ...

    # -- write lock ------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin, once."""
        ...

    def handle_timeout(self, now: float) -> None:
        """Called at or after ``next_deadline()``."""
        ...

    def rekey_child(self, now: float) -> None:
        """Replace the ESP SA pair now."""
        ...

    def rekey_ike(self, now: float) -> None:
        """Replace the IKE SA now."""
        ...

    def seal(self, data: memoryview, now: float) -> int:
        """Seal at most one batch; how much of ``data`` was taken.  BrokenPipeError after the end."""
        ...

    def seal_message(self, data: bytes | memoryview, now: float) -> bytes | None:
        """All of a small ``data`` as one frame for the carrier; None: ``seal`` it, there is something else to do."""
        ...

    def keep_unsent(self, rest: bytes) -> None:
        """What the carrier did not take of the frame of ``seal_message``; before any other outbound call."""
        ...

    def outbound(self) -> memoryview | None:
        """What goes to the carrier next."""
        ...

    def outbound_sent(self, count: int) -> None:
        """The carrier took ``count`` bytes of ``outbound()``."""
        ...

    def finish(self, now: float) -> bool:
        """Seal the end of stream; False when a rekey must come first."""
        ...

    def abort(self, now: float) -> None:
        """Seal a reset if that is possible, and drop the rest."""
        ...

    # -- read lock -------------------------------------------------------------------------------------------------

    def inbound_buffer(self) -> memoryview:
        """Room for bytes of the carrier; dead after ``inbound_received`` or ``inbound_release``."""
        ...

    def inbound_received(self, count: int, now: float) -> None:
        """``count`` bytes were put into ``inbound_buffer()``; 0 is the carrier's end.  Raises nothing of the peer's."""
        ...

    def open_message(self, view: memoryview, count: int, limit: int) -> bytes | None:
        """The data of ``view[:count]`` if that is one small packet; None: put those bytes into ``inbound_buffer``."""
        ...

    def inbound_release(self) -> None:
        """Give the buffer back: before every wait and at the end of every call."""
        ...

    def read_into(self, buffer: memoryview, peek: bool = False) -> int:
        """Copy opened bytes out; 0 at the authenticated end; raises what ended the stream otherwise."""
        ...

    def read(self, limit: int, peek: bool = False) -> bytes:
        """The same as bytes."""
        ...


class StreamPlane(Protocol):
    """What can carry a TCP connection's bytes protected."""

    @property
    def name(self) -> str:
        """As SecurityInfo.plane shows it."""
        ...

    def make_stream(self, config: KeyingConfig) -> SecuredStream:
        """A machine for one connection; nothing is sent before ``start``."""
        ...


class Arrival(NamedTuple):
    """One datagram for the application.  ``principal`` is None and ``sa_id`` 0 for one that came in clear."""

    data: bytes
    address: Address
    principal: Principal | None
    sa_id: int


class SealedRun(NamedTuple):
    """``datagrams`` packets of ``size`` bytes, one behind the other in ``packets``."""

    packets: bytes
    size: int
    datagrams: int


class PeerReport(NamedTuple):
    """What is in force with one address.  ``why_clear`` is empty unless ``state`` is "clear".

    ``any_trusted``: we began, and expected any machine of the trust anchors.
    """

    state: PeerState
    establishment: Establishment | None
    we_began: bool
    main_mode_sa_id: int
    quick_mode_sa_id: int
    rekeys: int
    established_at: float
    error: SecureSocketError | None
    why_clear: str
    any_trusted: bool = False


class Route(NamedTuple):
    """How the datagrams of one address go to a standard host: ``carrier`` is where its ESP and IKE come and go,
    ``expected`` who has to be there, ``standard`` what an SA with it is for.  ``tries_own``: only where the address's
    own port gave no sign of IKE for a second."""

    carrier: Address
    expected: PeerTargetName | AnyTrustedPeer
    standard: StandardHost
    tries_own: bool = False


class HalfOpenPlace(Protocol):
    """A place among those whom strangers may occupy; see engine.half_open."""

    def speaks_ike(self) -> None:
        """It has shown that it receives where it says to be: newcomers do not push it out any more."""
        ...

    def leave(self) -> None:
        """It was established, refused or ended.  Idempotent."""
        ...


class DatagramKeying(Protocol):
    """What a datagram machine needs made for it: sessions, and the doors that stand before them."""

    def make_session(
        self,
        role: Role,
        peer: Address,
        expected: PeerTargetName | AnyTrustedPeer | None,
        admission: Admission,
        spis_in_use: Container[int],
        now: float,
        standard: StandardHost | None = None,
        *,
        anew: bool = False,
    ) -> KeyingSession:
        """A session with the host at ``peer``; nothing is sent before it is driven.

        ``anew``: everybody proves who they are, whatever was kept of the last time.
        """
        ...

    def may_fall_back(self, peer: Address) -> bool:
        """Whether policy lets what we began with ``peer`` go on in clear, where the application allows it."""
        ...

    def may_come_in_clear(self, peer: Address) -> bool:
        """The same for a datagram that comes in clear."""
        ...

    def why_not_behind(
        self, address: Address, carrier: Address, standard: StandardHost, principal: Principal | None, *, outbound: bool
    ) -> SecureSocketError | None:
        """Why policy forbids datagrams to, or from, ``address`` behind the standard host at ``carrier``; None where it
        does not."""
        ...

    def failed(self, role: Role, peer: Address, error: SecureSocketError) -> None:
        """A negotiation with ``peer`` came to nothing."""
        ...

    def forgotten(self, peer: Address) -> None:
        """Nothing is known of ``peer`` any more."""
        ...

    def route(self, address: Address) -> Route | None:
        """The way to ``address`` by a standard host, None where its own port is spoken to.  LocalMisuse: by whom, is
        not said.  OSError: there is no way."""
        ...

    def arriving(self, carrier: Address) -> Route | None:
        """The same for a standard host that begins from ``carrier``, None for one of our own kind."""
        ...

    def woken(self, session: KeyingSession) -> None:
        """A session that was at rest (SecuredDatagrams.resting_sessions) is in use again, as another object."""
        ...

    def path_mtu(self, carrier: Address, now: float) -> int:
        """The longest IP packet that passes to ``carrier`` uncut, as far as is known."""
        ...

    def is_cutting_forbidden(self) -> bool:
        """Whether the application forbids fragments (IP_MTU_DISCOVER)."""
        ...

    def our_address(self, peer: Address) -> Address:
        """Which of our addresses leads to ``peer`` now.  OSError: none does."""
        ...

    def ask_for_cookie_untrusted(self, message: bytes, peer: Address, now: float) -> bytes | None:
        """The answer that asks for a cookie, None when ``message`` brings one.  WireError: no beginning at all."""
        ...

    def take_place(self, peer: Address) -> HalfOpenPlace | None:
        """A place for one more stranger's negotiation, or None: there is none."""
        ...

    def crowded(self) -> bool:
        """Whether so many strangers are in the middle of a negotiation that a cookie is asked for first."""
        ...

    def evicted(self) -> list[HalfOpenPlace]:
        """Those of our places that were given to others since the last call."""
        ...


class SecuredDatagrams(Protocol):
    """The datagrams of one socket and all its peers.  One caller at a time: whoever calls holds the socket's lock.

    After every call but the properties ``poll_transmit`` is emptied onto the carrier, and ``next_deadline`` looked at.
    After ``seal`` and ``seal_run``, and after ``handle_untrusted`` when it gave an Arrival, that may wait while ``due``
    is not earlier than it was.  What poll_transmit has after ``seal`` goes before what that returned: fragments of the
    same datagram.
    """

    @property
    def due(self) -> float:
        """As next_deadline, infinity for None; minus infinity until poll_transmit has had nothing more, where it had
        something or whoever waits for a negotiation has to look."""
        ...

    @property
    def counters(self) -> Mapping[str, int]:
        """What was dropped or refused, by reason."""
        ...

    @property
    def queued(self) -> int:
        """First datagrams that still wait for a negotiation."""
        ...

    @property
    def moves(self) -> int:
        """How often an end of some path changed: a kernel that holds on to the one of before has to let go."""
        ...

    def expect(self, address: Address, expected: PeerTargetName | AnyTrustedPeer) -> None:
        """Whoever is at ``address`` has to prove this name.  LocalMisuse while an SA with it lives or begins."""
        ...

    def live(self) -> list[tuple[Address, Establishment]]:
        """Who has an SA with the socket."""
        ...

    def break_off(self, address: Address, error: SecureSocketError, now: float) -> None:
        """End what there is with ``address`` for a reason that is not the peer's; whoever sends there next is told."""
        ...

    def forget(self, address: Address, now: float) -> None:
        """End what there is with ``address``, and its latch, and the name expected there."""
        ...

    def report(self, address: Address) -> PeerReport:
        """What is in force with ``address``."""
        ...

    def take_failure(self, address: Address) -> SecureSocketError | None:
        """Why the last negotiation with ``address`` failed, if nobody was told yet."""
        ...

    def begin(self, address: Address, host: PeerTargetName | AnyTrustedPeer | None, now: float) -> None:
        """Negotiate, unless there is an SA or a negotiation; ``host`` is expected where nothing else is known."""
        ...

    def seal(self, data: bytes | memoryview, address: Address, now: float) -> bytes | bytearray | memoryview | None:
        """What to send for ``data``; None when there is no SA to seal it with.

        OSError with EMSGSIZE: longer than UDP has it, or too large and the application forbids fragments; nothing was
        sealed.
        """
        ...

    def seal_run(
        self, batch: Sequence[bytes | memoryview], begin: int, most: int, most_bytes: int, address: Address, now: float
    ) -> SealedRun | None:
        """What to send for the datagrams of one length from ``batch[begin]`` on: at most ``most`` of them, in packets
        of at most ``most_bytes`` together.  None: ``seal`` the next one, it is not so simple."""
        ...

    @property
    def sealed_for(self) -> Address:
        """Where what ``seal`` or ``seal_run`` returned last goes to."""
        ...

    def enqueue(self, data: bytes, address: Address) -> bool:
        """Keep a first datagram until the negotiation is over; False when enough are kept.

        OSError with EMSGSIZE: no UDP datagram is as long.
        """
        ...

    def handle_untrusted(self, packet: bytes, address: Address, now: float) -> Arrival | None:
        """One datagram of the carrier.  Raises nothing of the peer's."""
        ...

    def handle_run_untrusted(self, run: bytes, size: int, address: Address, now: float) -> list[Arrival]:
        """Datagrams of ``size`` bytes from one sender, one behind the other, the last of which may be shorter."""
        ...

    def look_at_path(self, address: Address, now: float) -> None:
        """Something sent there was not taken: our own address may be another one now."""
        ...

    def poll_transmit(self) -> tuple[bytes | bytearray | memoryview, Address] | None:
        """What goes to the carrier next, and where to."""
        ...

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` wants to be called."""
        ...

    def handle_timeout(self, now: float) -> None:
        """Called at or after ``next_deadline()``."""
        ...

    def resting_sessions(self) -> list[KeyingSession]:
        """Copies of the sessions that idle peers have put away, to be looked at and no more.  From any thread."""
        ...

    def close(self, now: float) -> None:
        """Say goodbye to everybody."""
        ...
