"""What a session knows of the addresses of its two ends, and of moving between them: values alone (RFC 4555)."""

from __future__ import annotations

from ..contract import AddressPair

__all__ = ["Mobility"]


class Mobility:
    """What a session knows of its addresses.  ``path``: where IKE messages go from and to now.

    ``enabled``: both ends speak MOBIKE.  ``chosen``: the path is no longer the one of the negotiation.
    """

    __slots__ = (
        "asked",
        "chosen",
        "enabled",
        "path",
        "peer_hosts",
        "pending",
        "seen_as",
        "tried",
        "unexpected_nats",
        "used",
    )

    def __init__(self, path: AddressPair) -> None:
        self.path = self.used = path
        self.enabled = False
        self.chosen = False
        self.pending = False
        self.asked: AddressPair | None = None
        self.peer_hosts: tuple[str, ...] = ()
        self.tried: tuple[str, ...] = ()  # not a set: of 100,000 sessions hardly one ever tries
        self.seen_as: tuple[bytes, bytes] | None = None
        self.unexpected_nats = 0
