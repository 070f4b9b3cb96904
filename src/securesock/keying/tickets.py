"""Tickets: what lets two ends that were proven to each other go on without proving themselves again (RFC 5723).

A TicketBook is one identity's in one process, and serves both roles.  As responder it seals state into tickets under
keys that only it knows and changes often, and knows which tickets were used or called back: each is good for one use.
As initiator it keeps the tickets that it was given, a bounded number of them, until they are used or run out.

It must not know what the state is, which is a keying protocol's own bytes, nor what carries it.  Time is monotonic
seconds, since no ticket outlives the process that made it.  Not thread-safe: engine/ticket_books has one that is.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag

from ..crypto.message_protection import make_aead
from ..crypto.suites import AES_256_GCM_16
from ..entropy import Entropy
from ..secret import Secret

__all__ = ["KeptTicket", "OpenedTicket", "TicketBook", "TicketRefused"]

LIFETIME_S: Final = 3600.0
"""RFC 5723 9.8: an hour bounds what a ticket is worth whose peer was revoked meanwhile."""

KEY_LIFETIME_S: Final = 24 * 3600.0
"""RFC 5723 6.2: significantly longer than an IKE_SA's life (8 h).  The key before it still opens."""

MAX_KEPT: Final = 1024
MAX_KEPT_EACH: Final = 4
"""Tickets kept in all, and for one peer: each connection brings one, and a few may break at once."""

MAX_SPENT: Final = 65536
"""Used tickets that are remembered, 16 bytes each; beyond it all older tickets are called back at once."""

MAX_TICKET: Final = 4096
"""RFC 5723 says nothing; a peer's ticket with a chain of certificates in it is shorter."""

_VERSION: Final = 1
_HEAD: Final = struct.Struct(">B4s12s")
_BODY: Final = struct.Struct(">16sdd")
_KEY_ID: Final = struct.Struct(">I")


class TicketRefused(Exception):
    """A ticket that is not honoured, by the stable word that it is counted under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class KeptTicket:
    """An initiator's: the ticket, and its own copy of what the ticket stands for."""

    ticket: bytes = field(repr=False)
    state: Secret = field(repr=False)
    expires_at: float


@dataclass(frozen=True, slots=True, eq=False)
class OpenedTicket:
    """A responder's own ticket, shown to it again."""

    ticket_id: bytes
    state: Secret = field(repr=False)
    expires_at: float


class TicketBook:
    """See the module."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self.renew()

    def renew(self) -> None:
        """Know nothing any more, in a forked child: what one process has used the other would use again."""
        self._keys: OrderedDict[int, tuple[Secret, float]] = OrderedDict()
        self._next_key = 0
        self._spent: OrderedDict[bytes, float] = OrderedDict()
        self._none_before = self._now = float("-inf")
        self._kept: OrderedDict[Hashable, list[KeptTicket]] = OrderedDict()
        self._count = 0

    # the responder's

    def seal(self, state: bytes, now: float, lifetime_s: float = LIFETIME_S) -> tuple[bytes, bytes]:
        """A ticket for ``state`` and its 16-byte id, good for ``lifetime_s`` seconds and one use."""
        key_id, key = self._sealing_key(now)
        ticket_id = self._entropy.token(16)
        nonce = self._entropy.token(12)
        head = _HEAD.pack(_VERSION, _KEY_ID.pack(key_id), nonce)
        body = _BODY.pack(ticket_id, now, now + lifetime_s) + state
        return head + make_aead(AES_256_GCM_16, key.reveal()).encrypt(nonce, body, head), ticket_id

    def _sealing_key(self, now: float) -> tuple[int, Secret]:
        self._now = max(self._now, now)
        newest = next(reversed(self._keys), None)
        if newest is None or now >= self._keys[newest][1] + KEY_LIFETIME_S:
            newest, self._next_key = self._next_key, self._next_key + 1
            self._keys[newest] = (Secret(self._entropy.token(32)), now)
            while len(self._keys) > 2:
                self._keys.popitem(last=False)[1][0].wipe()
        return newest, self._keys[newest][0]

    def open_untrusted(self, ticket: bytes, now: float) -> OpenedTicket:
        """What we once sealed.  TicketRefused: not ours, run out, used, or called back."""
        if not _HEAD.size < len(ticket) <= MAX_TICKET:
            raise TicketRefused("ticket-malformed")
        version, key_id, nonce = _HEAD.unpack_from(ticket)
        self._now = max(self._now, now)
        key, _ = self._keys.get(_KEY_ID.unpack(key_id)[0], (None, 0.0))
        if version != _VERSION or key is None:
            raise TicketRefused("ticket-of-unknown-key")
        try:
            body = make_aead(AES_256_GCM_16, key.reveal()).decrypt(nonce, ticket[_HEAD.size :], ticket[: _HEAD.size])
        except InvalidTag:
            raise TicketRefused("ticket-not-authentic") from None
        ticket_id, made_at, expires_at = _BODY.unpack_from(body)
        if now >= expires_at:
            raise TicketRefused("ticket-expired")
        if ticket_id in self._spent or made_at <= self._none_before:
            raise TicketRefused("ticket-used")
        return OpenedTicket(ticket_id, Secret(body[_BODY.size :]), expires_at)

    def spend(self, ticket_id: bytes, expires_at: float) -> bool:
        """Use it, or call it back; False when that was done before."""
        if ticket_id in self._spent:
            return False
        while self._spent and next(iter(self._spent.values())) <= self._now:
            self._spent.popitem(last=False)
        if len(self._spent) >= MAX_SPENT:
            self._spent.clear()
            self._none_before = self._now
        self._spent[ticket_id] = expires_at
        return True

    # the initiator's

    def keep(self, peer: Hashable, kept: KeptTicket) -> None:
        """For the next negotiation with ``peer``; the oldest go where there are too many."""
        tickets = self._kept.setdefault(peer, [])
        self._kept.move_to_end(peer)
        tickets.append(kept)
        self._count += 1
        if len(tickets) > MAX_KEPT_EACH:
            tickets.pop(0)
            self._count -= 1
        while self._count > MAX_KEPT:
            self._count -= len(self._kept.popitem(last=False)[1])

    def take(self, peer: Hashable, now: float) -> KeptTicket | None:
        """The newest ticket for ``peer`` that has not run out, which is not kept any more: it is shown once."""
        tickets = self._kept.pop(peer, [])
        self._count -= len(tickets)
        live = [each for each in tickets if now < each.expires_at]
        taken = live.pop() if live else None
        if live:
            self._kept[peer] = live
            self._count += len(live)
        return taken

    def drop(self, peer: Hashable, ticket: bytes) -> None:
        """The SA that it stands for was ended or replaced (RFC 5723 6.2)."""
        tickets = self._kept.get(peer, [])
        for kept in [each for each in tickets if each.ticket == ticket]:
            tickets.remove(kept)
            self._count -= 1
            kept.state.wipe()
            if not tickets:
                del self._kept[peer]

    def __len__(self) -> int:
        return self._count
