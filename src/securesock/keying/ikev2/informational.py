"""INFORMATIONAL: deletes, errors that come after the fact, and the empty one that asks whether we live (RFC 7296
1.4)."""

from __future__ import annotations

from typing import Final

from ...wire.ikev2.payloads import Delete, Payload
from ...wire.numbers import ExchangeType, NotifyType, ProtocolId, name_of
from .auth_lifetime import hear_later_lifetime
from .core import MAX_SAS, Core, Opened, error_notify, refusal_error
from .create_child import peer_deleted
from .goodbye import begin_delete
from .ike_sa import IkeSa
from .mobike import answer_mobility, follow, hear_liveness, liveness_payloads
from .rekey_ike import settle_ike

__all__ = ["answer_informational", "begin_liveness"]


ENDS_THE_IKE_SA: Final = frozenset(
    {NotifyType.AUTHENTICATION_FAILED, NotifyType.INVALID_SYNTAX, NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD}
)
"""RFC 7296 2.21.2: the only errors that do, without a DELETE; the others are news of what went wrong (2.21.4)."""


def answer_informational(core: Core, sa: IkeSa, opened: Opened, now: float) -> None:
    """Answer and act on one INFORMATIONAL request."""
    deletes = [each for each in opened.payloads if isinstance(each, Delete)]
    deletes_ike = any(each.protocol == ProtocolId.IKE for each in deletes)
    error = error_notify(opened.payloads)
    if error is not None and (deletes_ike or error.notify_type in ENDS_THE_IKE_SA):
        core.reply(sa, opened, ())
        core.fail(refusal_error(error, "what we proved or agreed to"))
        return
    if error is not None:
        core.trace("peer-reports-error", name_of(NotifyType, error.notify_type))
    ours = _delete_children(core, sa, deletes)
    said, path = answer_mobility(core, sa, opened)
    if core.config.tickets is not None:
        from .ticket_exchange import answer_ticket_request  # for those who resume

        said += answer_ticket_request(core, sa, opened, now)
    core.reply(sa, opened, () if deletes_ike else (*ours, *said))  # RFC 7296 1.4.1: to the IKE_SA's end an empty reply
    hear_later_lifetime(core, opened.payloads, now)
    if path is not None and not deletes_ike:
        follow(core, sa, opened, path, now)
    if deletes_ike:
        _ike_deleted(core, sa, now)
    if deletes and not core.children and core.established:
        reason = "the peer deleted the connection's last CHILD_SA"
        if core.on_stream:
            core.close(reason)  # the carrier's end says the rest
        else:
            begin_delete(core, now, reason)  # an IKE_SA with nothing under it has no use here: the peer is told


def _ike_deleted(core: Core, sa: IkeSa, now: float) -> None:
    if sa is core.ike and sa.attempts:
        # RFC 7296 2.8.2: the peer never saw our attempt; its own, which we answered, is the one that stands
        sa.attempts[:] = [each for each in sa.attempts if not each.ours]
        settle_ike(core, sa)
    if sa is core.ike:
        sa.window.give_up()  # RFC 7296 2.25.2: whatever we asked on it is forgotten
        core.close("the peer deleted the IKE_SA")
    else:
        core.forget_ike(sa, now)


def _delete_children(core: Core, sa: IkeSa, deletes: list[Delete]) -> tuple[Payload, ...]:
    """Drop the pairs that the peer lists; the answer lists our halves (RFC 7296 1.4.1).

    A pair that we do not know may be the one that we are waiting for: its DELETE overtook the reply that makes it.
    """
    ours: list[bytes] = []
    listed = {spi for each in deletes if each.protocol == ProtocolId.ESP for spi in each.spis}
    if sa.window.awaiting_reply and len(core.deleted_early) < MAX_SAS:
        core.deleted_early |= {int.from_bytes(each, "big") for each in list(listed)[:MAX_SAS]}
    for child in [each for each in core.children if each.outbound_spi.to_bytes(4, "big") in listed]:
        if not child.deleting:
            # both deleting at once: answered without (RFC 7296 2.25.1)
            ours.append(child.inbound_spi.to_bytes(4, "big"))
        peer_deleted(core, child)
    return (Delete(ProtocolId.ESP, tuple(ours)),) if ours else ()


def begin_liveness(core: Core, now: float) -> None:
    """Ask whether the peer lives; meaningful on datagram carriers only."""
    sa = core.ike
    if sa is not None and core.established and not sa.window.awaiting_reply:
        payloads = liveness_payloads(core, sa)
        core.request(sa, ExchangeType.INFORMATIONAL, payloads, ExpectLivenessReply(core, sa), now)


class ExpectLivenessReply:
    """Any authentic answer will do (RFC 7296 2.4); it may also say where the peer sees us."""

    def __init__(self, core: Core, sa: IkeSa) -> None:
        self._core = core
        self._sa = sa

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The peer lives."""
        self._sa.window.reply_received()
        hear_liveness(self._core, self._sa, opened)
