"""Our last words on an IKE_SA: DELETE, and what its end means for the session (RFC 7296 1.4.1, 2.25).

Whoever decides that an IKE_SA has no future any more calls this; it must not know why.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from ...wire.ikev2.payloads import Delete, Payload
from ...wire.numbers import ExchangeType, ProtocolId
from .core import Core, Opened
from .ike_sa import IkeSa

__all__ = ["ExpectAnything", "begin_delete", "end_out_of_step"]

OUT_OF_STEP_S: Final = 180.0
"""RFC 7296 2.25: TEMPORARY_FAILURE for "several minutes" means that the ends do not agree on what there is.  Longer
than the peer retransmits (message_window: 129 s), so that no exchange of its own can be what it waits for."""


class ExpectAnything:
    """Whatever comes back is a sign of life and nothing more (RFC 7296 2.4)."""

    def __init__(self, sa: IkeSa) -> None:
        self._sa = sa

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The peer lives."""
        self._sa.window.reply_received()


def begin_delete(core: Core, now: float, reason: str = "this end deleted the IKE_SA") -> None:
    """Say goodbye; the session is over at once, whatever the peer answers.

    A request that is outstanding has the window (RFC 7296 2.3).  Among datagrams the goodbye waits for its reply; on a
    stream the end of the carrier says the same.
    """
    sa = core.ike if core.established else None
    goodbye = partial(_send_goodbye, core, sa, _goodbye(core, sa)) if sa is not None else None
    waits = sa is not None and sa.window.awaiting_reply
    if sa is None and core.ike is not None:
        core.ike.window.give_up()  # a negotiation that is called off asks for nothing any more
    if goodbye is not None and not waits:
        goodbye(now)
    if sa is None and core.ike is not None:
        core.ike.window.give_up()  # nothing was agreed on: nobody is told, and nothing is asked for any more
    core.close(reason)
    if goodbye is not None and waits and not core.on_stream:
        core.tasks.append(goodbye)


def _goodbye(core: Core, sa: IkeSa) -> tuple[Payload, ...]:
    if not sa.attempts:
        return (Delete(ProtocolId.IKE),)
    # the peer may have replaced this IKE_SA already: then its end alone is not the end of the CHILD_SAs
    spis = tuple(child.inbound_spi.to_bytes(4, "big") for child in core.children)
    return Delete(ProtocolId.ESP, spis), Delete(ProtocolId.IKE)


def _send_goodbye(core: Core, sa: IkeSa, payloads: tuple[Payload, ...], now: float) -> None:
    core.request(sa, ExchangeType.INFORMATIONAL, payloads, ExpectAnything(sa), now)


def end_out_of_step(core: Core, sa: IkeSa, now: float) -> bool:
    """Note that the peer could not do something just now; end it if it has said so for too long (RFC 7296 2.25), and
    say so.

    On a stream the connection lives until its limit instead: nothing there may end it by time.
    """
    sa.put_off_since = min(sa.put_off_since, now)
    if core.on_stream or now < sa.put_off_since + OUT_OF_STEP_S:
        return False
    begin_delete(core, now, "the peer has put off what it was asked for minutes: nobody knows what it has")
    return True
