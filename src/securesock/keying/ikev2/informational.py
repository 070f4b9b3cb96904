"""INFORMATIONAL: deletes, errors that come after the fact, and the empty one that asks whether we live (RFC 7296
1.4)."""

from __future__ import annotations

from functools import partial
from typing import Final

from ...wire.ikev2.payloads import Delete, Payload
from ...wire.numbers import ExchangeType, NotifyType, ProtocolId, name_of
from .core import Core, Opened, error_notify, refusal_error
from .create_child import peer_deleted
from .ike_sa import IkeSa
from .rekey_ike import settle_ike

__all__ = ["ExpectLivenessReply", "answer_informational", "begin_delete", "begin_liveness"]


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
    ours = _delete_children(core, deletes)
    core.reply(sa, opened, () if deletes_ike else ours)  # RFC 7296 1.4.1: to the IKE_SA's end an empty reply
    if deletes_ike:
        _ike_deleted(core, sa, now)
    if deletes and not core.children and core.established:
        core.close("the peer deleted the connection's last CHILD_SA")


def _ike_deleted(core: Core, sa: IkeSa, now: float) -> None:
    if sa is core.ike and sa.attempts:
        # RFC 7296 2.8.2: the peer never saw our attempt; its own, which we answered, is the one that stands
        sa.attempts[:] = [each for each in sa.attempts if not each.ours]
        settle_ike(core, sa)
    if sa is core.ike:
        core.close("the peer deleted the IKE_SA")
    else:
        core.forget_ike(sa, now)


def _delete_children(core: Core, deletes: list[Delete]) -> tuple[Payload, ...]:
    """Drop the pairs that the peer lists; the answer lists our halves (RFC 7296 1.4.1)."""
    ours: list[bytes] = []
    listed = {spi for each in deletes if each.protocol == ProtocolId.ESP for spi in each.spis}
    for child in [each for each in core.children if each.outbound_spi.to_bytes(4, "big") in listed]:
        if not child.deleting:
            # both deleting at once: answered without (RFC 7296 2.25.1)
            ours.append(child.inbound_spi.to_bytes(4, "big"))
        peer_deleted(core, child)
    return (Delete(ProtocolId.ESP, tuple(ours)),) if ours else ()


def begin_delete(core: Core, now: float) -> None:
    """Say goodbye; the session is over at once, whatever the peer answers.

    A request that is outstanding has the window (RFC 7296 2.3).  Among datagrams the goodbye waits for its reply; on a
    stream the end of the carrier says the same.
    """
    sa = core.ike if core.established else None
    goodbye = partial(_send_goodbye, core, sa, _goodbye(core, sa)) if sa is not None else None
    waits = sa is not None and sa.window.awaiting_reply
    if goodbye is not None and not waits:
        goodbye(now)
    core.close("this end deleted the IKE_SA")
    if goodbye is not None and waits and not core.on_stream:
        core.tasks.append(goodbye)


def _goodbye(core: Core, sa: IkeSa) -> tuple[Payload, ...]:
    if not sa.attempts:
        return (Delete(ProtocolId.IKE),)
    # the peer may have replaced this IKE_SA already: then its end alone is not the end of the CHILD_SAs
    spis = tuple(child.inbound_spi.to_bytes(4, "big") for child in core.children)
    return Delete(ProtocolId.ESP, spis), Delete(ProtocolId.IKE)


def _send_goodbye(core: Core, sa: IkeSa, payloads: tuple[Payload, ...], now: float) -> None:
    core.request(sa, ExchangeType.INFORMATIONAL, payloads, ExpectLivenessReply(sa), now)


def begin_liveness(core: Core, now: float) -> None:
    """Ask whether the peer lives; meaningful on datagram carriers only."""
    sa = core.ike
    if sa is not None and core.established and not sa.window.awaiting_reply:
        core.request(sa, ExchangeType.INFORMATIONAL, (), ExpectLivenessReply(sa), now)


class ExpectLivenessReply:
    """An empty question; any authentic answer will do (RFC 7296 2.4)."""

    def __init__(self, sa: IkeSa) -> None:
        self._sa = sa

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The peer lives."""
        self._sa.window.reply_received()
