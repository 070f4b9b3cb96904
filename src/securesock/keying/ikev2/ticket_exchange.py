"""Asking for tickets and giving them, in IKE_AUTH and later (RFC 5723 4.1, 4.2, 6.2).

What a ticket stands for is one IKE_SA: who both ends are, its algorithms and its SK_d.  It is void when that IKE_SA is
ended or replaced, and good when it was lost.  How one is used: resumption.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ...crypto.suites import IkeSuite
from ...errors import WireError
from ...identity.names import IkeId, PeerTargetName
from ...secret import Secret
from ...types import Principal
from ...wire.ikev2.message import parse_payloads, write_payloads
from ...wire.ikev2.payloads import Authentication, Identification, Notify, Payload, SecurityAssociation
from ...wire.numbers import ExchangeType, NotifyType, PayloadType
from ..tickets import LIFETIME_S, MAX_TICKET, KeptTicket
from .auth_lifetime import proof_left_s
from .authentication import ProvenPeer
from .core import Core, Opened, find, notifies
from .held_ticket import HeldTicket, Parties
from .ike_sa import IkeSa
from .proposals import accept_ike, latched_ike_proposal
from .selectors import canonical_host

__all__ = [
    "Resumable",
    "answer_ticket_request",
    "grant_ticket",
    "hear_ticket",
    "keep_ticket",
    "peer_key",
    "read_state",
    "refresh_ticket",
    "want_ticket",
]

_LENGTH: Final = struct.Struct(">H")
_LIFETIME: Final = struct.Struct(">I")
_TIME: Final = struct.Struct(">d")


@dataclass(frozen=True, slots=True, eq=False)
class Resumable:
    """What is "from the ticket" in RFC 5723 5; ``peer`` is whom the keeper of this copy once proved."""

    suite: IkeSuite
    sk_d: bytes = field(repr=False)
    initiator_id: IkeId
    responder_id: IkeId
    peer: Principal
    anchor: str
    sa_id: int
    uses_ppk: bool
    proven_at: float


def _write_state(core: Core, sa: IkeSa, parties: Parties) -> bytes:
    peer = {name: getattr(parties.peer, name) for name in ("name", "kind", "method", "evidence")}
    fields = (
        write_payloads((SecurityAssociation((latched_ike_proposal(sa.suite, b""),)),))[1],
        sa.keys.sk_d,
        bytes((parties.initiator_id.id_type,)) + parties.initiator_id.data,
        bytes((parties.responder_id.id_type,)) + parties.responder_id.data,
        json.dumps(peer).encode(),
        parties.anchor.encode(),
        sa.sa_id.to_bytes(8, "big"),
        bytes((sa.uses_ppk,)),
        _TIME.pack(core.proven_at),
    )
    return b"".join(_LENGTH.pack(len(each)) + each for each in fields)


def read_state(core: Core, state: Secret) -> Resumable | None:
    """What was kept or sealed; None where our policy has no such algorithms any more."""
    data, fields, at = state.reveal(), [], 0
    while at < len(data):
        length = _LENGTH.unpack_from(data, at)[0]
        at += _LENGTH.size
        fields.append(data[at : at + length])
        at += length
    offered, sk_d, initiator, responder, peer, anchor, sa_id, uses_ppk, proven_at = fields
    choice = find(parse_payloads(PayloadType.SA, offered), SecurityAssociation)
    if choice is None:
        raise WireError("a ticket without algorithms")
    accepted = accept_ike(core.offers, choice.proposals, peer_group=0, intermediate=True)
    needs_ppk = any(each.mandatory for each in core.config.ppks)
    if accepted is None or (needs_ppk and not uses_ppk[0]):
        return None
    return Resumable(
        accepted[1],
        sk_d,
        IkeId(initiator[0], initiator[1:]),
        IkeId(responder[0], responder[1:]),
        Principal(**json.loads(peer)),
        anchor.decode(),
        int.from_bytes(sa_id, "big"),
        bool(uses_ppk[0]),
        _TIME.unpack(proven_at)[0],
    )


def peer_key(core: Core) -> tuple[object, ...]:
    """Under what an initiator keeps its tickets: the address, and who is expected there."""
    config, expected = core.config, core.config.expected_peer
    name = expected.principal if isinstance(expected, PeerTargetName) else expected
    return config.carrier, canonical_host(config.peer_address[0]), config.peer_address[1], name


# the initiator's


def want_ticket(core: Core) -> tuple[Payload, ...]:
    """What the first IKE_AUTH request says; nothing where a user is to be proven (RFC 5998 5: not with EAP alone)."""
    config = core.config
    wants = config.tickets is not None and config.user is None and config.identity.method != "anonymous"
    return (Notify(NotifyType.TICKET_REQUEST),) if wants and core.we_are_initiator else ()


def hear_ticket(core: Core, payloads: Iterable[Payload]) -> None:
    """What the last IKE_AUTH reply brought; it is kept when the responder was proven."""
    payloads = tuple(payloads)
    peer_id = find(payloads, Identification, PayloadType.IDr)
    if peer_id is not None and want_ticket(core):
        core.offered_ticket = notifies(payloads).get(NotifyType.TICKET_LT_OPAQUE)
        core.ticket_of = IkeId(peer_id.id_type, peer_id.data)


def keep_ticket(core: Core, sa: IkeSa, proven: ProvenPeer, now: float) -> None:
    """Both ends are proven: the ticket is worth something."""
    peer_id, core.ticket_of = core.ticket_of, None
    offered, core.offered_ticket = core.offered_ticket, None
    if offered is not None and peer_id is not None:
        _keep(core, sa, Parties(core.config.identity.our_id(None), peer_id, *proven), offered, now)


def _keep(core: Core, sa: IkeSa, parties: Parties, offered: Notify, now: float) -> None:
    book, data = core.config.tickets, offered.data
    if book is None or not _LIFETIME.size < len(data) <= _LIFETIME.size + MAX_TICKET:
        core.trace("ticket-unusable")
        return
    lifetime_s = min(float(_LIFETIME.unpack_from(data)[0]), core.config.main_mode.lifetimes.seconds)
    kept = KeptTicket(data[_LIFETIME.size :], Secret(_write_state(core, sa, parties)), now + lifetime_s)
    key = peer_key(core)
    book.keep(key, kept)
    core.ticket = HeldTicket(sa, parties, kept.ticket, kept.expires_at, key)


def refresh_ticket(core: Core) -> None:
    """RFC 5723 6.2: a ticket is void when its IKE_SA was replaced; the initiator asks for another one."""
    held = core.ticket
    if held is None or core.ike is None or held.sa is core.ike:
        return
    core.void_ticket()
    if core.we_are_initiator:
        core.tasks.append(partial(_ask, core, held.parties))
    else:
        core.ticket = held._replace(sa=core.ike)  # who it is stays known, for when another one is asked for


def _ask(core: Core, parties: Parties, now: float) -> None:
    if core.ike is not None:
        awaiting = ExpectTicketReply(core, core.ike, parties)
        core.request(core.ike, ExchangeType.INFORMATIONAL, (Notify(NotifyType.TICKET_REQUEST),), awaiting, now)


class ExpectTicketReply:
    """Asked for a ticket in the middle of an IKE_SA's life."""

    def __init__(self, core: Core, sa: IkeSa, parties: Parties) -> None:
        self._core = core
        self._sa = sa
        self._parties = parties

    def handle_reply(self, opened: Opened, now: float) -> None:
        """A ticket, or none: that is no failure."""
        self._sa.window.reply_received()
        offered = notifies(opened.payloads).get(NotifyType.TICKET_LT_OPAQUE)
        if offered is not None and self._sa is self._core.ike:
            _keep(self._core, self._sa, self._parties, offered, now)


# the responder's


def grant_ticket(
    core: Core, sa: IkeSa, wish: Sequence[Payload], proof: Iterable[Payload], proven: ProvenPeer, now: float
) -> tuple[Payload, ...]:
    """What the last IKE_AUTH reply says to an initiator that asked in its first request."""
    if core.config.tickets is None or NotifyType.TICKET_REQUEST not in notifies(wish):
        return ()
    initiator = find(wish, Identification, PayloadType.IDi)
    responder = find(proof, Identification, PayloadType.IDr)
    by_eap = find(wish, Authentication) is None
    if by_eap or initiator is None or responder is None or proven.principal.method == "anonymous":
        return (Notify(NotifyType.TICKET_NACK),)
    parties = Parties(IkeId(initiator.id_type, initiator.data), IkeId(responder.id_type, responder.data), *proven)
    return (_seal(core, sa, parties, now),)


def _seal(core: Core, sa: IkeSa, parties: Parties, now: float) -> Notify:
    book = core.config.tickets
    if book is None:
        return Notify(NotifyType.TICKET_NACK)
    # RFC 5723 6.2: no longer than the IKE_SA itself, nor than its proofs count
    left_s = proof_left_s(core, now)
    lifetime_s = min(LIFETIME_S, core.config.main_mode.lifetimes.seconds, LIFETIME_S if left_s is None else left_s)
    ticket, ticket_id = book.seal(_write_state(core, sa, parties), now, lifetime_s)
    if len(ticket) > MAX_TICKET:
        return Notify(NotifyType.TICKET_NACK)
    core.ticket = HeldTicket(sa, parties, ticket_id, now + lifetime_s, None)
    return Notify(NotifyType.TICKET_LT_OPAQUE, _LIFETIME.pack(int(lifetime_s)) + ticket)


def answer_ticket_request(core: Core, sa: IkeSa, opened: Opened, now: float) -> tuple[Payload, ...]:
    """An INFORMATIONAL that asks for a ticket, which only the initiator may."""
    if NotifyType.TICKET_REQUEST not in notifies(opened.payloads) or core.config.tickets is None:
        return ()
    held = core.ticket
    if held is None or core.we_are_initiator or sa is not core.ike:
        return (Notify(NotifyType.TICKET_NACK),)
    core.void_ticket()
    return (_seal(core, sa, held.parties, now),)
