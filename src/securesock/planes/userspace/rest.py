"""Which peers of a datagram socket are awake, and which idle ones are at rest.

The plane keeps the key exchanges of a thousand peers at hand.  Beyond them those that were established or woken longest
ago go to rest, if they are idle: what no packet touches of them becomes bytes (resting) until anything asks for it.
What comes in is opened meanwhile from a row (resting_openers), or by the SA's opener where that is more than a row can
hold.
This module must not know how anything is negotiated, sealed or opened.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Container, Mapping, MutableMapping
from dataclasses import replace
from math import inf
from typing import Final, cast

from ...crypto.kdf import DirectionKeys
from ...engine.ports import DatagramKeying
from ...keying.contract import KeyingSession
from ...sad.spec import InnerFlow, SaSpec
from ...types import Address
from .association import QUIET_S, Association, AssociationOpener, Particulars
from .peers import Peer
from .resting import Resting
from .resting_openers import RestingOpeners

__all__ = ["Rest"]

MAX_AWAKE: Final = 1024
"""Peers whose key exchange is at hand: some 10 KiB each, half a KiB at rest, and a tenth of a millisecond to wake."""
_LOOKS: Final = 4  # how many more than those that are too many are looked at: some are in the middle of something

_SHARE_LEFT: Final = 4
"""How many openers become rows, for each that is left, before the dictionary of these is made anew."""

_NO_FLOW: Final = InnerFlow(0, "", 0, "", 0)
"""Of an SA at rest: what opens its packets has long noted the flow's ports."""
_NO_KEYS: Final = DirectionKeys(b"", b"")
"""And its keys."""


class Rest:
    """Of one machine, whose tables these are; ``note_due`` tells it that ``due`` is another.  Its lock is held."""

    def __init__(
        self,
        keying: DatagramKeying,
        peers: Mapping[Address, Peer],
        openers: MutableMapping[int, AssociationOpener],
        resting_openers: RestingOpeners,
        spis: Container[int],
        beginnings: MutableMapping[tuple[Address, bytes], Association],
        note_due: Callable[[], None],
    ) -> None:
        self.due = inf
        self.max_awake = MAX_AWAKE
        self._keying = keying
        self._peers = peers
        self._openers = openers
        self._resting_openers = resting_openers
        self._objects: deque[AssociationOpener] = deque()
        self._became_rows = 0  # openers, since their dictionary was made anew
        self._spis = spis
        self._beginnings = beginnings
        self._note_due = note_due
        self._awake: OrderedDict[Association, None] = OrderedDict()
        self._resting = Resting()
        self._ours: dict[Address, Address] = {}
        self._specs: dict[SaSpec, SaSpec] = {}

    def note_awake(self, association: Association, now: float) -> None:
        """It was established, or woken: if it is one too many, the longest idle ones go to rest."""
        self._awake[association] = None
        if len(self._awake) > self.max_awake:
            self.make_room(now)

    def ended(self, association: Association) -> None:
        """It needs no room any more."""
        self._awake.pop(association, None)

    def make_room(self, now: float) -> None:
        """Put the oldest to rest that are idle; the others come to the end, and are looked at again a moment later."""
        for _ in range(min(len(self._awake) - self.max_awake + _LOOKS, len(self._awake))):
            if len(self._awake) <= self.max_awake:
                break
            association, _ = self._awake.popitem(last=False)
            if not self._put_peer(association, now):
                self._awake[association] = None
        self.due = now + QUIET_S if len(self._awake) > self.max_awake else inf
        self._note_due()

    def _put_peer(self, association: Association, now: float) -> bool:
        """Put a peer to rest, if it is idle."""
        if not association.may_rest(now):
            return False
        peer, opener = association.peer, association.opener
        if opener is None:
            return False
        spec, source, rank = opener.spec, association.more.source, association.more.rank
        more = association.rest()
        peer.resting = self._resting.freeze((more, spec), self._own(peer, spec.keys))
        if peer.resting is None:
            association.wake(more)
            return False
        peer.sealer = None
        # one object for what is equal, and none for what no packet needs
        opener.forget_shape()
        blank = replace(spec, spi=0, keys=_NO_KEYS, sa_id=0, flow=_NO_FLOW)
        opener.spec = self._specs.setdefault(blank, blank)
        if association.our_address is not None:
            association.our_address = self._ours.setdefault(association.our_address, association.our_address)
        association.principal = opener.principal = self._resting.shared(association.principal)
        peer.latched = self._resting.shared(peer.latched)
        # whoever asks for its first answer again has long had it
        self._beginnings.pop((source, rank), None)
        self._objects.append(opener)
        self._put_openers()
        return True

    def _put_openers(self) -> None:
        """Look at two openers of peers at rest, those that have waited longest: of whom a row can hold all becomes one.
        Whoever puts one here has two looked at, so that they do not pile up."""
        for _ in range(min(2, len(self._objects))):
            opener = self._objects.popleft()
            association = opener.association
            if not association.at_rest or association.opener is not opener:
                continue  # it comes here again when its peer goes to rest
            if self._resting_openers.put(opener):
                del self._openers[opener.spi]
                association.opener, association.resting_spi = None, opener.spi
                self._became_rows += 1
            else:
                self._objects.append(opener)
        if self._became_rows > _SHARE_LEFT * len(self._openers):
            # a dictionary stays as large as it ever was, and who is not in it is looked for all over it
            openers, self._became_rows = dict(self._openers), 0
            self._openers.clear()
            self._openers.update(openers)

    def bring_opener(self, spi: int) -> AssociationOpener | None:
        """The SA with this SPI has an opener of its own again, if it was a row.  Its peer sleeps on."""
        address = self._resting_openers.address(spi)
        peer = None if address is None else self._peers.get(address)
        if peer is None:
            return None
        self._put_openers()
        opener = self._bring_opener(next(each for each in peer.associations if each.resting_spi == spi))
        self._objects.append(opener)
        return opener

    def _bring_opener(self, association: Association) -> AssociationOpener:
        spi, association.resting_spi = association.resting_spi, 0
        opener = self._openers[spi] = self._resting_openers.take(spi, association)
        association.opener = opener
        association.set_watch()
        return opener

    def last_in(self, spi: int) -> float:
        """See RestKeeper."""
        return self._resting_openers.last_in(spi)

    def wake(self, peer: Peer) -> None:
        """See RestKeeper."""
        if peer.resting is None:
            return
        association = next(each for each in peer.associations if each.at_rest)
        opener = association.opener or self._bring_opener(association)
        more, opener.spec = self._thaw(peer.resting, peer, opener.keys)
        association.wake(more)
        peer.resting = None
        if peer.active is association and association.sealers:
            peer.sealer = association.sealers[-1]
        self._keying.woken(association.session)
        self.note_awake(association, association.heard_or_sent_at)

    def sessions(self) -> list[KeyingSession]:
        """See engine.ports.SecuredDatagrams.resting_sessions."""
        found: list[KeyingSession] = []
        for peer in tuple(self._peers.values()):
            frozen = peer.resting
            if frozen is not None:
                # the keys of a copy, whose SA may have ended by now, are nobody's to look at
                found.append(self._thaw(frozen, peer, None)[0].session)
        return found

    def _thaw(self, frozen: bytes, peer: Peer, keys: DirectionKeys | None) -> tuple[Particulars, SaSpec]:
        return cast("tuple[Particulars, SaSpec]", self._resting.thaw(frozen, self._own(peer, keys)))

    def _own(self, peer: Peer, keys: DirectionKeys | None) -> tuple[object, ...]:
        """What an idle peer's bytes are without."""
        return peer, self._spis, keys, peer.address[0]
