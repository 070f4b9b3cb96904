"""Who may come in, judged on the proven principal at ALE_AUTH_RECV_ACCEPT before the IKE_AUTH reply.

Conditions on ALE_REMOTE_MACHINE_ID and ALE_REMOTE_USER_ID are held against who was proven; a peer without a proven user
meets none on users, and an anonymous one none at all.  A flow for which some filter lets certain peers in is blocked
for all others (policy/peer_rules).  Before that KM_AUTHORIZATION is asked whether there may be an SA with it at all.
create_server(allow=...) is a pair of such filters.  It must not know how a principal was proven.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from ..keying.admission import Admission
from ..policy import identifiers as ids
from ..policy.conditions import Condition, match
from ..policy.fields import Field
from ..policy.filter_engine import FilterEngine
from ..policy.ipsec_numbers import METHOD_TYPES, KeyModuleType
from ..policy.layers import FlowValue, Layer
from ..policy.model import ActionType, Filter
from ..policy.values import Direction
from ..types import Flow, Principal
from .admission import AllowList, PrincipalGroups, token_of
from .socket_filters import Endpoint, traffic_of
from .verdicts import fields_of, ip_version, layer_for

__all__ = ["PeerAdmission", "allow_filters", "peer_fields"]

_MAIN_MODE: Final = 0  # IKEEXT_KEY_MODULE mode of KM_AUTHORIZATION: main, quick, extended


def allow_filters(endpoint: Endpoint, allowed: AllowList) -> Iterator[Filter]:
    """create_server(allow=...) at one endpoint: these machines and these users may come, and so nobody else."""
    for field in (Field.ALE_REMOTE_MACHINE_ID, Field.ALE_REMOTE_USER_ID):
        conditions: tuple[Condition, ...] = (*traffic_of(endpoint), match(field, allowed.descriptor))
        yield Filter(
            f"secure socket, allowed {'machines' if field is Field.ALE_REMOTE_MACHINE_ID else 'users'}",
            layer=layer_for("ALE_AUTH_RECV_ACCEPT", endpoint.version),
            action=ActionType.PERMIT,
            conditions=conditions,
            sublayer=ids.SUBLAYER_SECURE_SOCKET,
            provider=ids.PROVIDER_SECURESOCK,
        )


def peer_fields(principal: Principal, groups: PrincipalGroups | None = None) -> dict[Field, FlowValue]:
    """What the ALE layers are told of who was proven; nothing of whoever stayed anonymous."""
    if principal.method == "anonymous":
        return {}
    field = Field.ALE_REMOTE_USER_ID if principal.kind == "user" else Field.ALE_REMOTE_MACHINE_ID
    return {field: token_of(principal, groups)}


def why_no_sa(
    engine: FilterEngine, principal: Principal, groups: PrincipalGroups | None, direction: Direction
) -> str | None:
    """Why there may be no SA with a principal (KM_AUTHORIZATION, ERROR_IPSEC_IKE_AUTHORIZATION_FAILURE)."""
    fields: dict[Field, FlowValue] = {
        Field.REMOTE_ID: token_of(principal, groups),
        Field.AUTHENTICATION_TYPE: int(METHOD_TYPES[principal.method]),
        Field.KM_TYPE: int(KeyModuleType.IKEV2),
        Field.KM_MODE: _MAIN_MODE,
        Field.DIRECTION: int(direction),
    }
    verdict = engine.authorize(Layer.KM_AUTHORIZATION, fields)
    return verdict.reason if verdict.is_blocked else None


class PeerAdmission:
    """keying.contract.Admission for one flow, by default an incoming one.  ``otherwise`` is asked first, and either
    may refuse."""

    def __init__(
        self,
        engine: FilterEngine,
        flow: Flow,
        otherwise: Admission,
        pins: Collection[str] = (),
        groups: PrincipalGroups | None = None,
        *,
        outbound: bool = False,
    ) -> None:
        self._layer = "ALE_AUTH_CONNECT" if outbound else "ALE_AUTH_RECV_ACCEPT"
        self._direction = Direction.OUTBOUND if outbound else Direction.INBOUND
        self._engine = engine
        self._flow = flow
        self._otherwise = otherwise
        self._pins = frozenset((*otherwise.pins, *pins))
        self._groups = groups

    @property
    def pins(self) -> Collection[str]:
        """The keys whose holders need no chain."""
        return self._pins

    def refusal(self, principal: Principal) -> str | None:
        """Why this principal is not let in; None admits it."""
        reason = self._otherwise.refusal(principal)
        if reason is None:
            reason = why_no_sa(self._engine, principal, self._groups, self._direction)
        if reason is not None:
            return reason
        layer = layer_for(self._layer, ip_version(self._flow.our_host))
        fields = fields_of(layer, self._flow, peer=peer_fields(principal, self._groups), secured=True)
        verdict = self._engine.authorize_peer(layer, fields)
        return verdict.reason if verdict.is_blocked else None
