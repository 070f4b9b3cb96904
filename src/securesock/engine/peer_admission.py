"""Who may come in, judged on the proven principal at ALE_AUTH_RECV_ACCEPT before the IKE_AUTH reply.

Conditions on ALE_REMOTE_MACHINE_ID and ALE_REMOTE_USER_ID are held against who was proven; a peer without a proven user
meets none on users, and an anonymous one none at all.  A flow for which some filter lets certain peers in is blocked
for all others (policy/peer_rules).  It must not know how a principal was proven.
"""

from __future__ import annotations

from collections.abc import Collection

from ..keying.contract import Admission
from ..policy.access import Token
from ..policy.fields import Field
from ..policy.filter_engine import FilterEngine
from ..policy.layers import FlowValue
from ..types import Flow, Principal
from .verdicts import fields_of, ip_version, layer_for

__all__ = ["PeerAdmission", "peer_fields"]


def peer_fields(*principals: Principal | None) -> dict[Field, FlowValue]:
    """What the layers are told of who was proven."""
    known: dict[Field, FlowValue] = {}
    for principal in principals:
        if principal is not None and principal.method != "anonymous":
            field = Field.ALE_REMOTE_USER_ID if principal.kind == "user" else Field.ALE_REMOTE_MACHINE_ID
            known[field] = Token((principal.name,))
    return known


class PeerAdmission:
    """keying.contract.Admission for one incoming flow; ``otherwise`` is asked too, and either may refuse."""

    def __init__(self, engine: FilterEngine, flow: Flow, otherwise: Admission) -> None:
        self._engine = engine
        self._flow = flow
        self._otherwise = otherwise

    @property
    def pins(self) -> Collection[str]:
        """The keys whose holders need no chain."""
        return self._otherwise.pins

    def refusal(self, principal: Principal) -> str | None:
        """Why this principal is not let in; None admits it."""
        reason = self._otherwise.refusal(principal)
        if reason is not None:
            return reason
        layer = layer_for("ALE_AUTH_RECV_ACCEPT", ip_version(self._flow.our_host))
        fields = fields_of(layer, self._flow, peer=peer_fields(principal), secured=True)
        verdict = self._engine.authorize_peer(layer, fields)
        return verdict.reason if verdict.is_blocked else None
