"""What goes into a keying module and what comes out: the seam that every keying protocol keeps.

A keying machine is handed messages, wishes and the time, and answers with actions: frozen values that its
caller carries out in order.  It has no clock, socket, callback or randomness of its own: the same inputs, the same
``now`` and the
same entropy give the same bytes.  This module must not know which keying protocol is spoken nor what carries it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from ..policy.negotiation import IDLE_S, UNMARKED, MainModePolicy, PolicyMark, QuickModePolicy
from ..secret import Secret
from .admission import Admission, AdmitAnyTrusted

if TYPE_CHECKING:
    from ..crypto.suites import EspSuite, IkeSuite
    from ..errors import SecureSocketError
    from ..identity.identity import Identity
    from ..identity.names import IkeId, PeerTargetName
    from ..identity.ppk import Ppk
    from ..identity.users import UserName, Users
    from ..sad.spec import InnerFlow, Mode, SaSpec, Scope, Span
    from ..types import Address, AnyTrustedPeer, Lifetimes, Principal
    from .tickets import TicketBook

__all__ = [
    "Action",
    "AnyTries",
    "Establishment",
    "FlowFailed",
    "FlowReady",
    "InstallSa",
    "KeyMaterial",
    "KeyingConfig",
    "KeyingSession",
    "Moved",
    "AddressPair",
    "PeerClosed",
    "ProveAgain",
    "ReachRefused",
    "Rekeyed",
    "RemoveSa",
    "Role",
    "SendDatagram",
    "StandardHost",
    "Trace",
    "UserProof",
    "UserTries",
]


class Role(Enum):
    """Which end of the key exchange we are."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


class AddressPair(NamedTuple):
    """The two ends of what carries messages, as our end of it writes addresses."""

    our: Address
    peer: Address


class StandardHost(NamedTuple):
    """The peer is any IPsec host and not one of our own kind: what a CHILD_SA with it may be for.

    UDP encapsulation is forced, as an unprivileged process needs it (RFC 7296 2.23).  ``our_hosts`` are our inner
    addresses, ``assigned`` the lengths (4, 16) of those that the peer is asked for; ``our_port`` is the one UDP port on
    our side.  ``peers``: what may be reached through the peer, and in transport mode the peer alone.  ``wanted``: the
    address and port that the first datagram is for.
    """

    mode: Mode
    our_hosts: tuple[bytes, ...]
    our_port: int
    peers: tuple[Span, ...]
    assigned: tuple[int, ...] = ()
    wanted: tuple[bytes, int] | None = None


@dataclass(frozen=True, slots=True)
class UserProof:
    """A user whom an initiator proves instead of itself: by ``certificate``, an identity of its own, or by
    ``password``, a copy that is wiped once it was used.

    ``ike_id`` is IDi; ``principal`` is how we call ourselves then.
    """

    name: UserName
    ike_id: IkeId
    principal: Principal
    password: Secret = field(default_factory=Secret)
    certificate: Identity | None = None


class UserTries(Protocol):
    """How many users may fail from one host (numeric): what keeps passwords from being guessed."""

    def may_try(self, host: str, now: float) -> bool:
        """Whether another user may be tried from there."""
        ...

    def failed(self, host: str, now: float) -> None:
        """One failed."""
        ...


class AnyTries:
    """No limit beyond one try a negotiation."""

    def may_try(self, host: str, now: float) -> bool:
        """Always."""
        return True

    def failed(self, host: str, now: float) -> None:
        """Not counted."""


@dataclass(frozen=True, slots=True)
class KeyingConfig:
    """One negotiation: who we are, whom we expect, what may be agreed on, where the carrier runs.

    ``expected_peer`` is None for a responder.  Addresses are as our end of the carrier sees them (numeric hosts).
    ``policy``: by which stored policies, and on whose behalf; changes nothing here.
    ``public_addresses``: where a responder may be reached through translation; empty = anywhere.
    ``standard``: the peer is a standard host, and CHILD_SAs are for this; None between two of our own kind.
    ``further_children``: the peer may make CHILD_SAs for further flows; a plane that carries one flow says no.
    ``mobike``: the SAs may move to other addresses (RFC 4555, datagrams); ``additional_hosts`` are further addresses of
    ours that the peer is told of, ``peer_networks`` where the peer may move to (empty = anywhere), and without
    ``nats_allowed`` whoever rewrites addresses ends it.
    ``tickets``: sessions are resumed, and may be, with these (RFC 5723); None: not at all.  ``anew``: not this one.
    ``log_keys``: emit KeyMaterial, for a capture to be read by.
    ``wall_offset_s`` turns ``now`` into Unix time, to judge certificates.
    ``user``: whom an initiator proves by EAP.  ``users``: whom a responder accepts so, None accepts nobody;
    ``user_tries`` bounds their failures.  ``eap_only``: either end may be content with EAP-TLS (RFC 5998).
    ``ppks``: secrets to be mixed into the keys (RFC 8784).
    """

    role: Role
    carrier: Literal["stream", "datagram"]
    identity: Identity
    main_mode: MainModePolicy
    quick_mode: QuickModePolicy
    our_address: Address
    peer_address: Address
    wall_offset_s: float
    policy: PolicyMark = UNMARKED
    expected_peer: PeerTargetName | AnyTrustedPeer | None = None
    admission: Admission = field(default_factory=AdmitAnyTrusted)
    public_addresses: tuple[Address, ...] = ()
    log_keys: bool = False
    standard: StandardHost | None = None
    further_children: bool = False
    mobike: bool = False
    additional_hosts: tuple[str, ...] = ()
    peer_networks: tuple[str, ...] = ()
    nats_allowed: bool = True
    tickets: TicketBook | None = None
    anew: bool = False
    user: UserProof | None = None
    users: Users | None = None
    user_tries: UserTries = field(default_factory=AnyTries)
    eap_only: bool = False
    ppks: tuple[Ppk, ...] = ()


class Establishment(NamedTuple):
    """What was agreed on and proven when a flow became ready; the latch compares against it (RFC 5660).

    ``resumed``: the main mode SA id of the one that this continues (RFC 5723), None for one of its own.
    ``initial_contact``: the initiator said that it has no other SA with us (RFC 7296 2.4).
    """

    our: Principal
    peer: Principal
    anchor: str
    main_mode_suite: IkeSuite
    quick_mode_suite: EspSuite
    main_mode_sa_id: int
    quick_mode_sa_id: int
    flow: InnerFlow
    translated: bool
    main_mode_lifetimes: Lifetimes
    idle_s: float = IDLE_S
    keying: Literal["ikev2", "authip"] = "ikev2"
    scope: Scope | None = None
    uses_ppk: bool = False
    resumed: int | None = None
    initial_contact: bool = False


class SendDatagram(NamedTuple):
    """Carry this IKE message to the peer; framing or marker is the plane's.

    ``to``: where the peer has to be asked, once that is another address than the plane has.  None leaves it to the
    plane, which sends a reply where its request came from.
    """

    data: bytes
    to: Address | None = None


class InstallSa(NamedTuple):
    """Inbound: accept packets under it from now on.  Outbound: seal with it from here on, in order with
    SendDatagram."""

    spec: SaSpec
    direction: Literal["inbound", "outbound"]


class RemoveSa(NamedTuple):
    """Forget an SA.  Inbound comes only when the peer said that it seals nothing more with it."""

    spi: int
    direction: Literal["inbound", "outbound"]


class FlowReady(NamedTuple):
    """The peer is proven and both directions are installed."""

    establishment: Establishment


class FlowFailed(NamedTuple):
    """The negotiation is over; actions queued before this one still go out."""

    error: SecureSocketError


class PeerClosed(NamedTuple):
    """The peer deleted the IKE_SA or the last CHILD_SA."""

    reason: str


class Rekeyed(NamedTuple):
    """A rekey completed; ``sa_id`` is the new SA's."""

    what: Literal["child", "ike"]
    sa_id: int


class ReachRefused(NamedTuple):
    """A standard host makes no SA that covers this inner address and port; the others stand."""

    wanted: tuple[bytes, int]
    error: SecureSocketError


class Moved(NamedTuple):
    """Packets go along ``path`` now.  ``translated``: whether addresses are rewritten there, None: as before."""

    path: AddressPair
    translated: bool | None


class ProveAgain(NamedTuple):
    """The proofs of both ends count for so long; then the initiator begins anew, or the responder ends it."""

    within_s: float


class Trace(NamedTuple):
    """Something was dropped or refused: a counted reason, and words for a log.  Never secrets."""

    reason: str
    detail: str = ""


class KeyMaterial(NamedTuple):
    """A line for one of Wireshark's tables; emitted only where KeyingConfig.log_keys says so.  Holds keys."""

    table: Literal["ikev2_decryption_table", "esp_sa"]
    line: str

    def __repr__(self) -> str:
        return f"KeyMaterial(table={self.table!r}, line=***)"


Action: TypeAlias = (
    KeyMaterial
    | SendDatagram
    | InstallSa
    | RemoveSa
    | FlowReady
    | FlowFailed
    | PeerClosed
    | Rekeyed
    | Moved
    | ProveAgain
    | ReachRefused
    | Trace
)


class KeyingSession(Protocol):
    """One negotiation with one peer and what lives on of it.  Not thread-safe: its caller holds a lock."""

    @property
    def established(self) -> bool:
        """Whether FlowReady was emitted and nothing ended it since."""
        ...

    @property
    def peer_speaks_ike(self) -> bool:
        """Whether a well-formed IKE message of the peer was read: then clear text is no answer to it."""
        ...

    @property
    def ike_spis(self) -> Collection[bytes]:
        """Our SPIs, 8 bytes each, of the key exchange SAs that messages may come for: what one carrier of many
        sessions tells them apart by."""
        ...

    @property
    def last_heard(self) -> float:
        """When the last authentic message came; minus infinity before the first."""
        ...

    @property
    def unproven_refusal(self) -> SecureSocketError | None:
        """A refusal that nothing proves (datagrams): the best guess at why a negotiation ran out of time."""
        ...

    @property
    def child_rekey_pending(self) -> bool:
        """Whether a replacement of the CHILD_SA is wanted or under way, and may still come."""
        ...

    @property
    def ike_rekey_pending(self) -> bool:
        """The same for the IKE_SA."""
        ...

    def handle_acquire(self, now: float) -> None:
        """Begin (initiator)."""
        ...

    def handle_datagram(self, data: bytes, now: float, path: AddressPair | None = None) -> None:
        """One IKE message from the peer, without marker or framing; ``path``: the way that it came, where somebody
        knows."""
        ...

    def handle_timeout(self, now: float) -> None:
        """Called at or after ``next_deadline()``."""
        ...

    def poll_action(self) -> Action | None:
        """The next thing to carry out, in order; None when there is nothing."""
        ...

    def next_deadline(self) -> float | None:
        """When handle_timeout wants to be called."""
        ...

    def rekey_child(self, now: float) -> None:
        """Replace the CHILD_SA; no effect while that is under way."""
        ...

    def reach(self, standard: StandardHost, now: float) -> None:
        """Ask a standard host for a further CHILD_SA, which covers what is ``wanted``."""
        ...

    def rekey_ike(self, now: float) -> None:
        """Replace the IKE_SA; no effect while that is under way."""
        ...

    def traffic_came(self) -> None:
        """A packet of the peer's opened (datagrams): it has read what we sent last in the negotiation."""
        ...

    def check_liveness(self, now: float) -> None:
        """Ask the peer for a sign of life (datagrams); no effect while a request is on its way anyway."""
        ...

    def move(self, our: Address, now: float) -> bool:
        """Our end of the path is at another address now (datagrams); whether the peer can follow."""
        ...

    def delete(self, now: float) -> None:
        """Say goodbye: DELETE of the IKE_SA."""
        ...
