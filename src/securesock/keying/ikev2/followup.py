"""IKE_FOLLOWUP_KE: the additional key exchanges of a CREATE_CHILD_SA (RFC 9370 2.2.4).

The exchanges of one creation are tied together by an opaque link that the responder hands out and the initiator
returns.
What is created when the last secret is there is the creator's business, not this module's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from ...crypto.key_exchange import answer_key_exchange, begin_key_exchange
from ...crypto.suites import KeyExchangeMethod
from ...errors import PeerMisbehaved
from ...wire.ikev2.payloads import KeyExchange, Notify, Payload
from ...wire.numbers import ExchangeType, NotifyType
from .core import Core, Opened, Refusal, error_notify, find, notifies, refuse_unknown_critical
from .ike_sa import IkeSa

__all__ = ["TRY_AGAIN", "ExpectFollowupReply", "PendingFollowup", "answer_followup", "remember_followup"]

LINK_LENGTH: Final = 16
"""Opaque to the initiator; 16 random bytes cannot be mistaken for another creation's."""

MAX_LINK: Final = 256

TRY_AGAIN: Final = frozenset({NotifyType.TEMPORARY_FAILURE, NotifyType.STATE_NOT_FOUND})
"""Refusals after which a creation is begun anew later (RFC 7296 2.25, RFC 9370 2.2.4)."""

Finish: TypeAlias = Callable[[tuple[bytes, ...], float], None]
Refused: TypeAlias = Callable[[Notify, float], None]


def link_notify(link: bytes) -> Notify:
    """N(ADDITIONAL_KEY_EXCHANGE)."""
    return Notify(NotifyType.ADDITIONAL_KEY_EXCHANGE, link)


class ExpectFollowupReply:
    """Whoever began the creation: one key exchange after another until all secrets are there."""

    def __init__(
        self, core: Core, sa: IkeSa, methods: Sequence[KeyExchangeMethod], finish: Finish, refused: Refused
    ) -> None:
        self._core = core
        self._sa = sa
        self._methods = list(methods)
        self._finish = finish
        self._refused = refused
        self._secrets: tuple[bytes, ...] = ()

    def ask(self, link: Notify | None, now: float) -> None:
        """Send the next public value under the responder's link."""
        if link is None or not 0 < len(link.data) <= MAX_LINK:
            raise PeerMisbehaved("the peer agreed to an additional key exchange and gave no link (RFC 9370 2.2.4)")
        self._method = self._methods.pop(0)
        self._exchange = begin_key_exchange(self._method, self._core.entropy)
        payloads: tuple[Payload, ...] = (
            KeyExchange(self._method.transform_id, self._exchange.public),
            link_notify(link.data),
        )
        self._core.request(self._sa, ExchangeType.IKE_FOLLOWUP_KE, payloads, self, now)

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The peer's public value, and its next link when there is more to do."""
        refuse_unknown_critical(opened.payloads)
        self._sa.window.reply_received()
        refused = error_notify(opened.payloads)
        if refused is not None:
            self._refused(refused, now)
            return
        public = find(opened.payloads, KeyExchange)
        if public is None or public.group != self._method.transform_id:
            raise PeerMisbehaved("the peer answered another key exchange than the one asked (RFC 9370 2.2.4)")
        self._secrets = (*self._secrets, self._exchange.finish(public.data))
        if self._methods:
            self.ask(notifies(opened.payloads).get(NotifyType.ADDITIONAL_KEY_EXCHANGE), now)
        else:
            self._finish(self._secrets, now)

    def abandon(self, now: float) -> None:
        """As if the peer could not do it just now."""
        self._refused(Notify(NotifyType.TEMPORARY_FAILURE), now)


class PendingFollowup:
    """Whoever answers: what is still missing of one creation."""

    def __init__(self, methods: Sequence[KeyExchangeMethod], finish: Finish) -> None:
        self.methods = list(methods)
        self.finish = finish
        self.secrets: tuple[bytes, ...] = ()


def answer_followup(core: Core, sa: IkeSa, opened: Opened, now: float) -> None:
    """One IKE_FOLLOWUP_KE request; an unknown link is refused and harms nothing (RFC 9370 2.2.4)."""
    link = notifies(opened.payloads).get(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    pending = sa.followups.pop(link.data, None) if link is not None else None
    if pending is None:
        raise Refusal(NotifyType.STATE_NOT_FOUND)
    method = pending.methods[0]
    public = find(opened.payloads, KeyExchange)
    if public is None or public.group != method.transform_id:
        raise Refusal(NotifyType.INVALID_SYNTAX, error=PeerMisbehaved("the peer sent another key exchange than agreed"))
    answer_public, shared = answer_key_exchange(method, public.data, core.entropy)
    pending.methods.pop(0)
    pending.secrets = (*pending.secrets, shared)
    payloads: tuple[Payload, ...] = (KeyExchange(method.transform_id, answer_public),)
    if pending.methods:
        core.reply(sa, opened, (*payloads, remember_followup(core, sa, pending)))
        return
    core.reply(sa, opened, payloads)
    pending.finish(pending.secrets, now)


def remember_followup(core: Core, sa: IkeSa, pending: PendingFollowup) -> Notify:
    """Keep what is missing under a fresh link; a peer has one creation at a time under way, so the last one replaces
    any other."""
    link = core.entropy.token(LINK_LENGTH)
    sa.followups.clear()
    sa.followups[link] = pending
    return link_notify(link)
