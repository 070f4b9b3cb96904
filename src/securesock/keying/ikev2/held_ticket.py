"""What an IKE_SA keeps of the ticket that stands for it: values alone (RFC 5723)."""

from __future__ import annotations

from collections.abc import Callable
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
    """The ticket of the IKE_SA in use, and how to make it worthless."""

    sa: IkeSa
    parties: Parties
    void: Callable[[], None]
