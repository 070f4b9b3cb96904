"""What the peer of an established IKE_SA may ask: CREATE_CHILD_SA, IKE_FOLLOWUP_KE, INFORMATIONAL (RFC 7296 1.3,
1.4)."""

from __future__ import annotations

from ...wire.ikev2.payloads import SecurityAssociation
from ...wire.numbers import ExchangeType, NotifyType, ProtocolId
from .core import Core, Opened, Refusal, find, refuse_unknown_critical
from .create_child import answer_create_child
from .followup import answer_followup
from .ike_sa import IkeSa
from .informational import answer_informational
from .rekey_ike import answer_ike_rekey

__all__ = ["ExpectRequests"]


class ExpectRequests:
    """The last state of an IKE_SA."""

    def __init__(self, core: Core, sa: IkeSa) -> None:
        self._core = core
        self._sa = sa

    def handle_request(self, opened: Opened, now: float) -> None:
        """Dispatch by exchange; an unknown one is refused and harms nothing."""
        refuse_unknown_critical(opened.payloads, established=True)
        core, sa = self._core, self._sa
        match opened.exchange_type:
            case ExchangeType.INFORMATIONAL:
                answer_informational(core, sa, opened, now)
            case ExchangeType.CREATE_CHILD_SA:
                offered = find(opened.payloads, SecurityAssociation)
                about_ike = offered is not None and any(each.protocol == ProtocolId.IKE for each in offered.proposals)
                if about_ike:
                    answer_ike_rekey(core, sa, opened, ExpectRequests, now)
                else:
                    answer_create_child(core, sa, opened, now)
            case ExchangeType.IKE_FOLLOWUP_KE:
                answer_followup(core, sa, opened, now)
            case _:
                raise Refusal(NotifyType.INVALID_SYNTAX)
