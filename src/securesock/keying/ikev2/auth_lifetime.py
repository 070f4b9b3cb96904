"""How long a proof counts: repeated authentication (RFC 4478; RFC 7296 2.8.3), for datagram carriers.

The responder says so in its last IKE_AUTH message, or later; the initiator then begins a whole new IKE_SA while the old
one still carries, which is whoever drives this session's business.  A stream proves its ends once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from ...wire.ikev2.payloads import Notify, Payload
from ...wire.numbers import NotifyType
from ..contract import ProveAgain
from .core import Core, notifies

__all__ = ["announce_lifetime", "begin_lifetime", "hear_lifetime", "hear_later_lifetime", "proof_left_s"]

SHORTEST_S: Final = 60.0
"""RFC 4478 5 lets an initiator set a reasonable limit: nobody makes us prove ourselves more often."""

_LIFETIME: Final = struct.Struct(">I")


def proof_left_s(core: Core, now: float) -> float | None:
    """How long the proofs of this session count by our own policy; a resumed one brings its age along."""
    limit_s = core.config.main_mode.reauthentication_s
    return None if limit_s is None or core.on_stream else max(0.0, core.proven_at + limit_s - now)


def announce_lifetime(core: Core, now: float) -> tuple[Payload, ...]:
    """What the responder's last IKE_AUTH message says."""
    left_s = proof_left_s(core, now)
    return () if left_s is None else (Notify(NotifyType.AUTH_LIFETIME, _LIFETIME.pack(min(int(left_s), 0xFFFFFFFF))),)


def hear_lifetime(core: Core, payloads: Iterable[Payload]) -> None:
    """The same, at the initiator; it counts once the responder is proven."""
    core.peers_limit_s = _read(payloads)


def _read(payloads: Iterable[Payload]) -> float | None:
    notify = notifies(payloads).get(NotifyType.AUTH_LIFETIME)
    if notify is None or len(notify.data) != _LIFETIME.size:
        return None
    return max(SHORTEST_S, float(_LIFETIME.unpack(notify.data)[0]))


def begin_lifetime(core: Core, now: float) -> None:
    """Both ends are proven: tell whoever drives this until when that counts."""
    limits = [each for each in (proof_left_s(core, now), core.peers_limit_s) if each is not None]
    if limits and not core.on_stream:
        core.emit(ProveAgain(min(limits)))


def hear_later_lifetime(core: Core, payloads: Iterable[Payload], now: float) -> None:
    """An INFORMATIONAL request of the original responder may shorten it at any time (RFC 4478 2)."""
    limit_s = _read(payloads)
    if limit_s is not None and core.we_are_initiator and core.established:
        core.peers_limit_s = limit_s
        begin_lifetime(core, now)
