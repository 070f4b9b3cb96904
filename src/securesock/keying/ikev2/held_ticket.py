"""What an IKE_SA keeps of the ticket that stands for it: values alone (RFC 5723)."""

from __future__ import annotations

from typing import NamedTuple

from ...identity.names import IkeId
from ...types import Principal
from .ike_sa import IkeSa

__all__ = ["HeldTicket", "Parties"]


class Parties(NamedTuple):
    """Between whom an IKE_SA is: both IDs, and the peer as it was proven."""

    initiator_id: IkeId
    responder_id: IkeId
    peer: Principal
    anchor: str


class HeldTicket(NamedTuple):
    """The ticket of the IKE_SA in use.

    An initiator's ``token`` is the ticket itself, kept under ``peer``; a responder's is its id, and ``peer`` is None.
    """

    sa: IkeSa
    parties: Parties
    token: bytes
    expires_at: float
    peer: tuple[object, ...] | None
