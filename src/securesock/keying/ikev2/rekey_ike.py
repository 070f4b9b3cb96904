"""CREATE_CHILD_SA that replaces the IKE_SA itself (RFC 7296 1.3.2, 2.8.2, 2.18; RFC 9370 2.2.4).

The new IKE_SA inherits all CHILD_SAs; whoever began the surviving replacement deletes the old one, and that DELETE
is the last
request on it.  Latched: exactly the old suite, the additional key exchange included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ...crypto.kdf import derive_ike_keys, rekey_skeyseed
from ...crypto.key_exchange import answer_key_exchange, begin_key_exchange
from ...errors import PeerMisbehaved
from ...wire.ikev2.payloads import Delete, KeyExchange, Nonce, Notify, Payload, Proposal, SecurityAssociation
from ...wire.numbers import ExchangeType, NotifyType, ProtocolId, name_of
from ..contract import Rekeyed
from .attempts import Attempt, begin_for_peer, decide, has_peers_complete
from .child_sa import ChildSa
from .core import (
    MAX_SAS,
    NONCE_LENGTH,
    NONCE_LENGTHS,
    Core,
    Opened,
    Refusal,
    RequestState,
    error_notify,
    find,
    notifies,
    refuse_unknown_critical,
)
from .followup import TRY_AGAIN, ExpectFollowupReply, PendingFollowup, remember_followup
from .goodbye import end_out_of_step
from .ike_sa import IkeSa
from .lifetimes import rekey_time, retry_time
from .proposals import answer, find_same, latched_ike_proposal, same_transforms

__all__ = ["answer_ike_rekey", "begin_ike_rekey", "delete_replaced_ikes", "settle_ike"]

Expecting: TypeAlias = Callable[[Core, IkeSa], RequestState]
"""Makes the state in which the new IKE_SA answers requests."""


def begin_ike_rekey(core: Core, expecting: Expecting, now: float) -> None:
    """Replace the IKE_SA; nothing happens when that is under way, or was refused for good."""
    sa = core.ike
    if sa is not None and sa.may_rekey:
        ExpectIkeRekeyReply(core, sa, expecting).ask(now)


class ExpectIkeRekeyReply:
    """Whoever began: waits for the peer's half of the new IKE_SA."""

    def __init__(self, core: Core, old: IkeSa, expecting: Expecting) -> None:
        self._core = core
        self._old = old
        self._expecting = expecting
        self._nonce = core.entropy.token(NONCE_LENGTH)
        self._spi = core.fresh_ike_spi()
        self._exchange = begin_key_exchange(old.suite.key_exchange, core.entropy)
        self._attempt: Attempt[IkeSa] = Attempt(ours=True, lowest_nonce=self._nonce)

    def ask(self, now: float) -> None:
        """Send CREATE_CHILD_SA with an IKE proposal."""
        self._asked_at = now
        old = self._old
        old.attempts.append(self._attempt)
        self._proposal = latched_ike_proposal(old.suite, self._spi)
        payloads: tuple[Payload, ...] = (
            SecurityAssociation((self._proposal,)),
            Nonce(self._nonce),
            KeyExchange(self._old.suite.key_exchange.transform_id, self._exchange.public),
        )
        self._core.request(old, ExchangeType.CREATE_CHILD_SA, payloads, self, now)

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The peer's half, or its refusal."""
        refuse_unknown_critical(opened.payloads)
        self._old.window.reply_received()
        refused = error_notify(opened.payloads)
        if refused is not None:
            self._refused(refused, now)
            return
        choice = find(opened.payloads, SecurityAssociation)
        nonce = find(opened.payloads, Nonce)
        public = find(opened.payloads, KeyExchange)
        if (
            choice is None
            or nonce is None
            or public is None
            or len(nonce.data) not in NONCE_LENGTHS
            or len(choice.proposals) != 1
            or public.group != self._old.suite.key_exchange.transform_id
            or not same_transforms(choice.proposals[0], self._proposal)
            or not _valid_spi(choice.proposals[0])
        ):
            raise PeerMisbehaved("the peer's answer to the IKE_SA rekey is not what was offered")
        self._peer_spi = choice.proposals[0].spi
        self._peer_nonce = nonce.data
        self._attempt.lowest_nonce = min(self._nonce, nonce.data)
        self._shared = self._exchange.finish(public.data)
        additional = self._old.suite.additional_key_exchanges
        if additional:
            followup = ExpectFollowupReply(self._core, self._old, additional, self._complete, self._refused)
            followup.ask(notifies(opened.payloads).get(NotifyType.ADDITIONAL_KEY_EXCHANGE), now)
        else:
            self._complete((), now)

    def _complete(self, additional: tuple[bytes, ...], now: float) -> None:
        self._attempt.replacement = _make(
            self._core,
            self._old,
            self._expecting,
            initiator=True,
            spis=(self._spi, self._peer_spi),
            nonces=(self._nonce, self._peer_nonce),
            secrets=(self._shared, additional),
            now=now,
        )
        if self._attempt in self._old.attempts:
            settle_ike(self._core, self._old)

    def _refused(self, refused: Notify, now: float) -> None:
        old = self._old
        if self._attempt not in old.attempts:
            return
        old.attempts.remove(self._attempt)
        core = self._core
        core.trace("rekey-refused", name_of(NotifyType, refused.notify_type))
        if refused.notify_type in TRY_AGAIN:
            if end_out_of_step(core, old, now):
                return
            old.rekey_at = retry_time(core.entropy, now, now - self._asked_at, on_stream=core.on_stream)
        else:
            old.refused = True
        settle_ike(core, old)


def answer_ike_rekey(core: Core, sa: IkeSa, opened: Opened, expecting: Expecting, now: float) -> None:
    """A CREATE_CHILD_SA request of the peer that replaces the IKE_SA."""
    if sa.closing or sa.replaced or core.creating or any(_is_ours_to_finish(child) for child in core.children):
        raise Refusal(NotifyType.TEMPORARY_FAILURE)  # RFC 7296 2.25.1, 2.25.2
    if has_peers_complete(sa.attempts) or len(core.ikes) >= MAX_SAS:
        raise Refusal(NotifyType.TEMPORARY_FAILURE)
    proposals = find(opened.payloads, SecurityAssociation)
    nonce = find(opened.payloads, Nonce)
    public = find(opened.payloads, KeyExchange)
    if proposals is None or nonce is None or public is None or len(nonce.data) not in NONCE_LENGTHS:
        raise Refusal(NotifyType.INVALID_SYNTAX, error=PeerMisbehaved("the peer's IKE_SA rekey lacks a payload"))
    spi = core.fresh_ike_spi()
    exact = latched_ike_proposal(sa.suite, spi)
    proposal = find_same(proposals.proposals, exact)
    if proposal is None or not _valid_spi(proposal):
        raise Refusal(NotifyType.NO_PROPOSAL_CHOSEN)
    method = sa.suite.key_exchange
    if public.group != method.transform_id:
        raise Refusal(NotifyType.INVALID_KE_PAYLOAD, method.transform_id.to_bytes(2, "big"))
    answer_public, shared = answer_key_exchange(method, public.data, core.entropy)
    nonces = (nonce.data, core.entropy.token(NONCE_LENGTH))
    attempt = begin_for_peer(sa.attempts, min(nonces))
    peer_spi = proposal.spi

    def complete(additional: tuple[bytes, ...], at: float) -> None:
        if attempt in sa.attempts:
            attempt.replacement = _make(
                core,
                sa,
                expecting,
                initiator=False,
                spis=(spi, peer_spi),
                nonces=nonces,
                secrets=(shared, additional),
                now=at,
            )
            settle_ike(core, sa)

    payloads: list[Payload] = [
        answer(proposal, exact),
        Nonce(nonces[1]),
        KeyExchange(method.transform_id, answer_public),
    ]
    additional = sa.suite.additional_key_exchanges
    if additional:
        payloads.append(remember_followup(core, sa, PendingFollowup(additional, complete)))
    core.reply(sa, opened, tuple(payloads))
    if not additional:
        complete((), now)


def _is_ours_to_finish(child: ChildSa) -> bool:
    """Whether we are at replacing or closing it.  What the peer has begun and left undone is its own affair."""
    return child.deleting or any(each.ours or each.replacement is not None for each in child.attempts)


def _valid_spi(proposal: Proposal) -> bool:
    return len(proposal.spi) == 8 and proposal.spi != bytes(8)


def _make(
    core: Core,
    old: IkeSa,
    expecting: Expecting,
    *,
    initiator: bool,
    spis: tuple[bytes, bytes],
    nonces: tuple[bytes, bytes],
    secrets: tuple[bytes, tuple[bytes, ...]],
    now: float,
) -> IkeSa:
    """The new IKE_SA; the rekey's initiator is its original initiator, and message IDs begin at 0 (RFC 7296 2.18)."""
    our_spi, peer_spi = spis
    shared, additional = secrets
    new = IkeSa(
        initiator=initiator,
        our_spi=our_spi,
        peer_spi=peer_spi,
        entropy=core.entropy,
        expecting=old.expecting,
        retransmit=not core.on_stream,
    )
    new.expecting = expecting(core, new)
    new.fragmentation = old.fragmentation
    new.rekey_at = rekey_time(core.config.main_mode.lifetimes, core.entropy, now)
    # RFC 7296 2.18: the old IKE_SA's SK_d and PRF make SKEYSEED
    skeyseed = rekey_skeyseed(old.suite.prf, old.keys.sk_d, shared, *nonces, additional)
    keys = derive_ike_keys(old.suite, skeyseed, *nonces, new.initiator_spi, new.responder_spi)
    core.use_keys(new, old.suite, keys)
    core.ikes[our_spi] = new
    return new


def settle_ike(core: Core, old: IkeSa) -> None:
    """Once every replacement of ``old`` is complete: which stays, and who deletes what (RFC 7296 2.8.2)."""
    outcome = decide(old.attempts)
    if outcome is None:
        return
    old.replaced = True
    core.ike = outcome.kept
    if outcome.kept.closing:
        # the peer knew the outcome before us, and has ended what stands
        core.close("the peer deleted the IKE_SA")
        return
    core.emit(Rekeyed("ike", outcome.kept.sa_id))
    for sa in outcome.redundant:
        sa.replaced = True
    core.ikes_to_delete += outcome.ours_to_delete
    if outcome.we_began:
        core.ikes_to_delete.append(old)


def delete_replaced_ikes(core: Core, now: float) -> None:
    """Delete the IKE_SAs that are ours to delete, each as soon as nothing else is under way on it."""
    for sa in [each for each in core.ikes_to_delete if not each.window.awaiting_reply]:
        core.ikes_to_delete.remove(sa)
        if not sa.closing:  # the peer was faster
            sa.closing = True
            core.request(sa, ExchangeType.INFORMATIONAL, (Delete(ProtocolId.IKE),), ExpectIkeDeleteReply(core, sa), now)


class ExpectIkeDeleteReply:
    """We deleted an IKE_SA that was replaced; nothing follows on it."""

    def __init__(self, core: Core, sa: IkeSa) -> None:
        self._core = core
        self._sa = sa

    def handle_reply(self, opened: Opened, now: float) -> None:
        """Gone on both ends."""
        self._sa.window.reply_received()
        self._core.forget_ike(self._sa, now)
