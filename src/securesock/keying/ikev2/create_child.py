"""CREATE_CHILD_SA for CHILD_SAs: replacing one, with and without PFS, and making further ones (RFC 7296 1.3.1,
1.3.3, 2.8).

The latch (RFC 5660): a replacement has exactly the transforms of what it replaces, and its key exchange, if it runs
one, is the
IKE_SA's.  When both ends begin at once, both creations complete and the one with the lowest nonce goes (RFC 7296
2.8.1);
no end sends under either before it knows which one stays, so that the outbound SA is switched once.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import replace
from functools import partial

from ...crypto.kdf import derive_child_keys
from ...crypto.key_exchange import answer_key_exchange, begin_key_exchange
from ...crypto.suites import EspSuite
from ...errors import PeerIncompatible, PeerMisbehaved
from ...sad.spec import InnerFlow, Scope
from ...wire.ikev2.payloads import (
    Delete,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    TrafficSelectors,
)
from ...wire.numbers import ExchangeType, NotifyType, PayloadType, ProtocolId, name_of
from ..contract import InstallSa, ReachRefused, Rekeyed, RemoveSa, StandardHost
from .attempts import Attempt, begin_for_peer, decide, has_peers_complete
from .child_sa import ChildSa, make_child
from .core import (
    MAX_SAS,
    NONCE_LENGTH,
    NONCE_LENGTHS,
    Core,
    Opened,
    Refusal,
    error_notify,
    find,
    notifies,
    refusal_error,
    refuse_unknown_critical,
)
from .followup import TRY_AGAIN, ExpectFollowupReply, PendingFollowup, remember_followup
from .goodbye import begin_delete, end_out_of_step
from .ike_sa import IkeSa
from .lifetimes import rekey_time, retry_time
from .proposals import answer, find_same, latched_child_proposal, same_transforms
from .scopes import agreed_scope, flow_of, requested_scope, scope_selectors, wider_than
from .selectors import exact_flow, flow_selectors

__all__ = ["answer_create_child", "begin_child_rekey", "begin_new_child", "begin_reach", "peer_deleted"]


def _with_pfs(suite: EspSuite, sa: IkeSa) -> EspSuite:
    return replace(
        suite, key_exchange=sa.suite.key_exchange, additional_key_exchanges=sa.suite.additional_key_exchanges
    )


def _suites(core: Core, sa: IkeSa, old: ChildSa) -> tuple[EspSuite, ...]:
    """What a request of ours offers, in order: with a key exchange, without, or both (RFC 7296 1.3.1)."""
    policy, latched = core.config.quick_mode, old.suite
    if not policy.pfs:
        return (latched,)
    return (_with_pfs(latched, sa),) if policy.pfs_required else (_with_pfs(latched, sa), latched)


def begin_child_rekey(core: Core, child: ChildSa, now: float) -> None:
    """Replace ``child``; nothing happens when it is being replaced or deleted already, or the peer refused for good."""
    sa = core.ike
    if sa is not None and child.may_rekey:
        ExpectChildReply(core, sa, child).ask(now)


def begin_new_child(core: Core, flow: InnerFlow, now: float) -> None:
    """Make a CHILD_SA for another flow beside the one that there is, with its transforms (RFC 7296 1.3.1)."""
    if core.children:
        _create(core, _pattern(core, flow), now)


def begin_put_off(core: Core, now: float) -> bool:
    """Ask again for a further CHILD_SA that the peer put off, if its time has come (RFC 7296 2.25)."""
    pattern = next((each for each in core.put_off if each.rekey_at <= now), None)
    if pattern is None:
        return False
    core.put_off = tuple(each for each in core.put_off if each is not pattern)
    if any(each.flow == pattern.flow and not each.replaced for each in core.children):
        return False  # the peer has made it meanwhile
    _create(core, pattern, now)
    return True


def begin_reach(core: Core, standard: StandardHost, now: float) -> None:
    """The same with a standard host, for what its SAs do not cover so far."""
    first = next((each.scope for each in core.children if each.scope is not None), None)
    if first is not None:
        scope = requested_scope(standard, first.our_hosts)
        flow = flow_of(scope, we_initiated=core.we_are_initiator, wanted=standard.wanted)
        _create(core, _pattern(core, flow, scope), now)


def _pattern(core: Core, flow: InnerFlow, scope: Scope | None = None) -> ChildSa:
    """What a new CHILD_SA is made after: the latched transforms for another flow.  It never carries anything itself."""
    first = core.children[0]
    inbound, outbound = (replace(each, flow=flow, scope=scope) for each in (first.inbound, first.outbound))
    return ChildSa(inbound, outbound, math.inf, pattern=True)


def _mode(child: ChildSa) -> tuple[Payload, ...]:
    """Transport mode is said (RFC 7296 1.3.1), tunnel mode is what it is without."""
    in_tunnel = child.scope is not None and child.scope.mode == "tunnel"
    return () if in_tunnel else (Notify(NotifyType.USE_TRANSPORT_MODE),)


def _selectors(core: Core, child: ChildSa, *, we_ask: bool) -> tuple[TrafficSelectors, TrafficSelectors]:
    """TSi and TSr of an exchange about ``child``; TSi is the side that asks (RFC 7296 2.9)."""
    if child.scope is not None:
        return scope_selectors(child.scope, ours_first=we_ask)
    return flow_selectors(child.flow, initiator_first=core.we_are_initiator is we_ask)


def _is_for(
    core: Core, child: ChildSa, tsi: TrafficSelectors | None, tsr: TrafficSelectors | None, *, we_ask: bool
) -> bool:
    """Whether the peer's selectors are the child's: exactly its flow, or all of its scope."""
    if child.scope is None or tsi is None or tsr is None:
        return (tsi, tsr) == _selectors(core, child, we_ask=we_ask)
    ours, peers = (tsi, tsr) if we_ask else (tsr, tsi)
    return wider_than(child.scope, ours, peers)


class ExpectChildReply:
    """Whoever began: asked for a replacement or a further CHILD_SA, waits for the peer's half."""

    def __init__(self, core: Core, sa: IkeSa, old: ChildSa, *, rekey: bool = True) -> None:
        self._rekey = rekey
        self._core = core
        self._sa = sa
        self._old = old
        self._suites = _suites(core, sa, old)
        self._suite = self._suites[0]
        self._nonce = core.entropy.token(NONCE_LENGTH)
        self._spi = core.fresh_child_spi()
        method = self._suite.key_exchange
        self._exchange = begin_key_exchange(method, core.entropy) if method is not None else None
        self._group = method.transform_id if method is not None else 0
        self._attempt: Attempt[ChildSa] = Attempt(ours=True, lowest_nonce=self._nonce)

    def ask(self, now: float) -> None:
        """Send CREATE_CHILD_SA, with REKEY_SA where it replaces something."""
        self._asked_at = now
        core, old = self._core, self._old
        old.attempts.append(self._attempt)
        core.deleted_early.clear()
        if old.pattern:
            core.creating.append(old)
        spi = self._spi.to_bytes(4, "big")
        self._offered = tuple(
            latched_child_proposal(suite, spi)._replace(number=number) for number, suite in enumerate(self._suites, 1)
        )
        payloads: list[Payload] = [
            *_mode(old),
            SecurityAssociation(self._offered),
            Nonce(self._nonce),
        ]
        if self._rekey:
            # RFC 7296 3.10: the SPI that the sender expects inbound
            spi = old.inbound_spi.to_bytes(4, "big")
            payloads.insert(0, Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, spi))
        if self._exchange is not None:
            payloads.append(KeyExchange(self._group, self._exchange.public))
        payloads += _selectors(core, old, we_ask=True)
        core.request(self._sa, ExchangeType.CREATE_CHILD_SA, tuple(payloads), self, now)

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The peer's half, or its refusal."""
        refuse_unknown_critical(opened.payloads)
        self._sa.window.reply_received()
        refused = error_notify(opened.payloads)
        if refused is not None:
            self._refused(refused, now)
            return
        choice = find(opened.payloads, SecurityAssociation)
        nonce = find(opened.payloads, Nonce)
        if choice is None or nonce is None or len(nonce.data) not in NONCE_LENGTHS or len(choice.proposals) != 1:
            raise PeerMisbehaved("the peer's CREATE_CHILD_SA reply lacks its proposal or nonce")
        found = notifies(opened.payloads)
        self._check(choice.proposals[0], opened, found)
        self._peer_nonce = nonce.data
        self._peer_spi = int.from_bytes(choice.proposals[0].spi, "big")
        self._attempt.lowest_nonce = min(self._nonce, nonce.data)
        self._shared = b""
        if self._exchange is not None and self._suite.key_exchange is not None:
            public = find(opened.payloads, KeyExchange)
            if public is None or public.group != self._group:
                raise PeerMisbehaved("the peer's CREATE_CHILD_SA reply lacks the key exchange that it agreed to")
            self._shared = self._exchange.finish(public.data)
        additional = self._suite.additional_key_exchanges
        if additional:
            followup = ExpectFollowupReply(self._core, self._sa, additional, self._complete, self._refused)
            followup.ask(found.get(NotifyType.ADDITIONAL_KEY_EXCHANGE), now)
        else:
            self._complete((), now)

    def abandon(self, now: float) -> None:
        """As if the peer could not do it just now."""
        self._refused(Notify(NotifyType.TEMPORARY_FAILURE), now)

    def _check(self, proposal: Proposal, opened: Opened, found: dict[int, Notify]) -> None:
        if len(proposal.spi) != 4 or int.from_bytes(proposal.spi, "big") < 256:
            raise PeerMisbehaved("the peer chose a reserved SPI (RFC 4303 2.1)")
        chosen = next(
            (number for number, each in enumerate(self._offered) if same_transforms(proposal, each)), len(self._offered)
        )
        if chosen == len(self._offered) or proposal.number != self._offered[chosen].number:
            raise PeerMisbehaved("the peer answered a rekey with algorithms that were not offered")
        self._suite = self._suites[chosen]
        if (NotifyType.USE_TRANSPORT_MODE in found) != bool(_mode(self._old)):
            raise PeerMisbehaved("the peer answered a rekey in another mode")
        tsi = find(opened.payloads, TrafficSelectors, PayloadType.TSi)
        tsr = find(opened.payloads, TrafficSelectors, PayloadType.TSr)
        if self._old.pattern and self._old.scope is not None:
            self._narrow(self._old.scope, tsi, tsr)
        elif not _is_for(self._core, self._old, tsi, tsr, we_ask=True):
            raise PeerMisbehaved("the peer changed the traffic selectors in a rekey (RFC 7296 2.9.2)")

    def _narrow(self, asked: Scope, tsi: TrafficSelectors | None, tsr: TrafficSelectors | None) -> None:
        """A further CHILD_SA is for what the peer left of what was asked for (RFC 7296 2.9)."""
        if tsi is None or tsr is None:
            raise PeerMisbehaved("the peer's CREATE_CHILD_SA reply lacks its traffic selectors")
        seen = (asked.ours[0].first, asked.peers[0].first) if asked.mode == "transport" else None
        standard = StandardHost(asked.mode, (), asked.our_port, asked.peers)
        scope = agreed_scope(standard, tsi, tsr, asked.our_hosts, seen)
        if scope is None:
            raise PeerMisbehaved("the peer's traffic selectors have nothing in common with those that it was asked for")
        wanted = _wanted(self._core, self._old)
        if scope.our_host(*wanted) is None:
            error = PeerIncompatible("the peer's traffic selectors leave out the address that was to be reached")
            self._core.emit(ReachRefused(wanted, error))
        self._old.inbound, self._old.outbound = (
            replace(each, scope=scope) for each in (self._old.inbound, self._old.outbound)
        )

    def _complete(self, additional: tuple[bytes, ...], now: float) -> None:
        child = _make(
            self._core,
            self._sa,
            self._old,
            self._suite,
            inbound_spi=self._spi,
            outbound_spi=self._peer_spi,
            nonces=(self._nonce, self._peer_nonce),
            secrets=(self._shared, additional),
            we_requested=True,
            now=now,
        )
        self._sa.put_off_since = math.inf
        self._attempt.replacement = child
        if self._attempt in self._old.attempts:
            _settle(self._core, self._old)
        else:
            # the peer deleted the old SA meanwhile: its replacement won, and ours is ours to delete
            child.replaced = True
            self._core.tasks.append(partial(_delete, self._core, child))
        if child.outbound_spi in self._core.deleted_early:
            drop_child(self._core, child)
            if not self._core.children:
                begin_delete(self._core, now, "the peer deleted the CHILD_SA that it had just made")

    def _refused(self, refused: Notify, now: float) -> None:
        old = self._old
        if self._attempt not in old.attempts:
            return
        old.attempts.remove(self._attempt)
        core = self._core
        core.trace("rekey-refused", name_of(NotifyType, refused.notify_type))
        try_again = refused.notify_type in TRY_AGAIN
        if try_again and end_out_of_step(core, self._sa, now):
            return
        if try_again:
            old.rekey_at = retry_time(core.entropy, now, now - self._asked_at, on_stream=core.on_stream)
        if old.pattern:
            _creation_refused(core, old, refused, now)
        elif refused.notify_type == NotifyType.CHILD_SA_NOT_FOUND and not core.on_stream and old in core.children:
            _begin_from_scratch(core, old)
        else:
            # the latch: nothing else will ever be offered, so the connection lives until its limit
            old.refused = not try_again
            _settle(core, old)


def _begin_from_scratch(core: Core, lost: ChildSa) -> None:
    """The peer has not got ``lost`` any more: gone without a word, and made anew unless something else carries its
    flow (RFC 7296 2.25)."""
    core.trace("child-sa-lost")
    drop_child(core, lost)
    if not any(each.flow == lost.flow and not each.replaced for each in core.children):
        pattern = ChildSa(lost.inbound, lost.outbound, math.inf, pattern=True)
        core.tasks.append(partial(_create, core, pattern))


def _create(core: Core, pattern: ChildSa, now: float) -> None:
    sa = core.ike
    if sa is not None:
        ExpectChildReply(core, sa, pattern, rekey=False).ask(now)


def _wanted(core: Core, pattern: ChildSa) -> tuple[bytes, int]:
    """The peer's end of the flow that a further CHILD_SA was asked for."""
    flow = pattern.flow
    host, port = flow[3:] if core.we_are_initiator else flow[1:3]
    return ipaddress.ip_address(host).packed, port


def _creation_refused(core: Core, pattern: ChildSa, refused: Notify, now: float) -> None:
    """Whoever wanted a further CHILD_SA asks again later (RFC 7296 2.25) or does without; an IKE_SA that has none left
    has no use."""
    core.creating.remove(pattern)
    if refused.notify_type in TRY_AGAIN and core.children:
        core.put_off = (*core.put_off, pattern)
        return
    if pattern.scope is not None:
        core.emit(ReachRefused(_wanted(core, pattern), refusal_error(refused, "an SA for this address")))
    if not core.children:
        begin_delete(core, now, "the peer has lost the CHILD_SA and makes no other")


def answer_create_child(core: Core, sa: IkeSa, opened: Opened, now: float) -> None:
    """A CREATE_CHILD_SA request of the peer that is about a CHILD_SA."""
    found = notifies(opened.payloads)
    rekey = found.get(NotifyType.REKEY_SA)
    if rekey is None:
        _AnswerRekey(core, sa, opened, _further(core, sa, opened)).run(found, now)
        return
    old = next((each for each in core.children if each.outbound_spi.to_bytes(4, "big") == rekey.spi), None)
    if old is None and sa.window.awaiting_reply and isinstance(sa.awaiting, ExpectChildReply | ExpectFollowupReply):
        # it may be the one that we asked for, whose reply this request has overtaken
        raise Refusal(NotifyType.TEMPORARY_FAILURE)
    if old is None or rekey.protocol != ProtocolId.ESP:
        raise _child_not_found(rekey)
    if old.deleting or old.replaced or sa.closing or sa.replaced or sa.attempts:
        raise Refusal(NotifyType.TEMPORARY_FAILURE)  # RFC 7296 2.25.1, 2.25.2
    if has_peers_complete(old.attempts) or len(core.children) >= MAX_SAS:
        raise Refusal(NotifyType.TEMPORARY_FAILURE)
    _AnswerRekey(core, sa, opened, old).run(found, now)


def _further(core: Core, sa: IkeSa, opened: Opened) -> ChildSa:
    """What the peer's further CHILD_SA is made after: one exact flow between the hosts that the first one is for."""
    if not core.config.further_children or not core.children or len(core.children) >= MAX_SAS:
        # one connection is one flow, and its one CHILD_SA is there
        raise Refusal(NotifyType.NO_ADDITIONAL_SAS)
    if sa.closing or sa.replaced or sa.attempts:
        raise Refusal(NotifyType.TEMPORARY_FAILURE)  # RFC 7296 2.25.2
    tsi = find(opened.payloads, TrafficSelectors, PayloadType.TSi)
    tsr = find(opened.payloads, TrafficSelectors, PayloadType.TSr)
    standard = core.config.standard
    if standard is not None:
        return _further_scope(core, standard, tsi, tsr)
    first = core.children[0].flow
    # TSi is the requester's side (RFC 7296 2.9), the flow is kept in the first initiator's view
    sides = (tsr, tsi) if core.we_are_initiator else (tsi, tsr)
    flow = exact_flow(sides[0], sides[1], first.protocol) if sides[0] is not None and sides[1] is not None else None
    if flow is None or (flow.initiator_host, flow.responder_host) != (first.initiator_host, first.responder_host):
        raise Refusal(NotifyType.TS_UNACCEPTABLE)
    return _pattern(core, flow)


def _further_scope(
    core: Core, standard: StandardHost, tsi: TrafficSelectors | None, tsr: TrafficSelectors | None
) -> ChildSa:
    """The same with a standard host: whatever else of the configured scope it asks for."""
    first = core.children[0].scope
    if first is None or tsi is None or tsr is None:
        raise Refusal(NotifyType.TS_UNACCEPTABLE)
    seen = (first.ours[0].first, first.peers[0].first) if first.mode == "transport" else None
    scope = agreed_scope(standard, tsr, tsi, first.our_hosts, seen)
    if scope is None:
        raise Refusal(NotifyType.TS_UNACCEPTABLE)
    return _pattern(core, flow_of(scope, we_initiated=core.we_are_initiator), scope)


def _child_not_found(rekey: Notify) -> Refusal:
    refusal = Refusal(NotifyType.CHILD_SA_NOT_FOUND)
    # RFC 7296 2.25: the notify names the SA that was not found
    refusal.notify = Notify(NotifyType.CHILD_SA_NOT_FOUND, b"", rekey.protocol, rekey.spi)
    return refusal


class _AnswerRekey:
    """Whoever answers: one rekey that the peer began."""

    def __init__(self, core: Core, sa: IkeSa, opened: Opened, old: ChildSa) -> None:
        self._core = core
        self._sa = sa
        self._opened = opened
        self._old = old

    def run(self, found: dict[int, Notify], now: float) -> None:
        """Check the latch, answer, and wait for further key exchanges or complete."""
        core, sa, old = self._core, self._sa, self._old
        proposals = find(self._opened.payloads, SecurityAssociation)
        nonce = find(self._opened.payloads, Nonce)
        tsi = find(self._opened.payloads, TrafficSelectors, PayloadType.TSi)
        tsr = find(self._opened.payloads, TrafficSelectors, PayloadType.TSr)
        if proposals is None or nonce is None or len(nonce.data) not in NONCE_LENGTHS:
            raise Refusal(NotifyType.INVALID_SYNTAX, error=PeerMisbehaved("the peer's rekey lacks proposals or nonce"))
        if (NotifyType.USE_TRANSPORT_MODE in found) != bool(_mode(old)):
            raise Refusal(NotifyType.NO_PROPOSAL_CHOSEN)
        if not _is_for(core, old, tsi, tsr, we_ask=False):
            raise Refusal(NotifyType.TS_UNACCEPTABLE)
        selectors = _selectors(core, old, we_ask=False)
        self._spi = core.fresh_child_spi()
        proposal = self._choose(proposals)
        self._peer_spi = int.from_bytes(proposal.spi, "big")
        self._nonces = (nonce.data, core.entropy.token(NONCE_LENGTH))
        payloads: list[Payload] = [
            *_mode(old),
            answer(proposal, latched_child_proposal(self._suite, self._spi.to_bytes(4, "big"))),
            Nonce(self._nonces[1]),
        ]
        self._shared = self._exchange_keys(payloads)
        self._attempt = begin_for_peer(old.attempts, min(self._nonces))
        additional = self._suite.additional_key_exchanges
        if additional:
            payloads.append(remember_followup(core, sa, PendingFollowup(additional, self._complete)))
            core.reply(sa, self._opened, (*payloads, *selectors))
            return
        child = self._make((), now)
        core.reply(sa, self._opened, (*payloads, *selectors))
        self._install(child)

    def _choose(self, proposals: SecurityAssociation) -> Proposal:
        """Exactly the latched transforms, with the latched key exchange or (unless our policy wants PFS) without."""
        spi = self._spi.to_bytes(4, "big")
        policy = self._core.config.quick_mode
        suites = [_with_pfs(self._old.suite, self._sa)]
        if not (policy.pfs and policy.pfs_required):
            suites.append(self._old.suite)
        for suite in suites:
            found = find_same(proposals.proposals, latched_child_proposal(suite, spi))
            if found is not None and len(found.spi) == 4 and int.from_bytes(found.spi, "big") >= 256:
                self._suite = suite
                return found
        raise Refusal(NotifyType.NO_PROPOSAL_CHOSEN)

    def _exchange_keys(self, payloads: list[Payload]) -> bytes:
        method = self._suite.key_exchange
        if method is None:
            return b""
        public = find(self._opened.payloads, KeyExchange)
        if public is None:
            raise Refusal(NotifyType.INVALID_SYNTAX, error=PeerMisbehaved("the peer's rekey lacks its key exchange"))
        if public.group != method.transform_id:
            raise Refusal(NotifyType.INVALID_KE_PAYLOAD, method.transform_id.to_bytes(2, "big"))
        answer_public, shared = answer_key_exchange(method, public.data, self._core.entropy)
        payloads.append(KeyExchange(method.transform_id, answer_public))
        return shared

    def _make(self, additional: tuple[bytes, ...], now: float) -> ChildSa:
        return _make(
            self._core,
            self._sa,
            self._old,
            self._suite,
            inbound_spi=self._spi,
            outbound_spi=self._peer_spi,
            nonces=self._nonces,
            secrets=(self._shared, additional),
            we_requested=False,
            now=now,
        )

    def _complete(self, additional: tuple[bytes, ...], now: float) -> None:
        if self._attempt in self._old.attempts:
            self._install(self._make(additional, now))

    def _install(self, child: ChildSa) -> None:
        self._attempt.replacement = child
        _settle(self._core, self._old)


def _make(
    core: Core,
    sa: IkeSa,
    old: ChildSa,
    suite: EspSuite,
    *,
    inbound_spi: int,
    outbound_spi: int,
    nonces: tuple[bytes, bytes],
    secrets: tuple[bytes, tuple[bytes, ...]],
    we_requested: bool,
    now: float,
) -> ChildSa:
    """The replacement; its inbound half is installed at once (RFC 7296 2.8)."""
    shared, additional = secrets
    lifetimes = core.config.quick_mode.lifetimes
    child = make_child(
        suite=old.suite,
        inbound_spi=inbound_spi,
        outbound_spi=outbound_spi,
        keys=derive_child_keys(sa.suite.prf, sa.keys.sk_d, suite, *nonces, shared, additional),
        we_requested=we_requested,
        flow=old.flow,
        we_initiated=core.we_are_initiator,
        lifetimes=lifetimes,
        rekey_at=rekey_time(lifetimes, core.entropy, now),
        scope=old.scope,
    )
    core.add_child(child)
    core.emit(InstallSa(child.inbound, "inbound"))
    return child


def _settle(core: Core, old: ChildSa) -> None:
    """Once every creation that replaces ``old`` is complete: switch, and delete what goes (RFC 7296 2.8.1)."""
    outcome = decide(old.attempts)
    if outcome is None:
        return
    old.replaced = True
    for child in outcome.redundant:
        child.replaced = True
    for child in outcome.ours_to_delete:
        core.tasks.append(partial(_delete, core, child))
    if old.pattern:
        if old in core.creating:
            core.creating.remove(old)
        use_outbound(core, outcome.kept)  # a further flow: nothing is replaced, so nothing is waited for
        return
    outcome.kept.replaces = old
    if outcome.we_began or core.on_stream:
        # on a stream, everything that we say after our reply reaches a peer that has read the reply
        use_outbound(core, outcome.kept)
    core.emit(Rekeyed("child", outcome.kept.inbound.sa_id))
    if outcome.we_began:
        core.tasks.append(partial(_delete, core, old))


def use_outbound(core: Core, child: ChildSa) -> None:
    """Seal with ``child`` from here on."""
    if not child.outbound_in_use:
        child.outbound_in_use = True
        core.emit(InstallSa(child.outbound, "outbound"))


def _delete(core: Core, child: ChildSa, now: float) -> None:
    """Ask the peer to stop using its half; ours has been switched away from already."""
    sa = core.ike
    if sa is None or child not in core.children or child.deleting:
        return
    child.deleting = True
    payload = Delete(ProtocolId.ESP, (child.inbound_spi.to_bytes(4, "big"),))
    core.request(sa, ExchangeType.INFORMATIONAL, (payload,), ExpectChildDeleteReply(core, sa, child), now)


class ExpectChildDeleteReply:
    """We deleted a CHILD_SA; the peer's answer is the last thing it says about its own half."""

    def __init__(self, core: Core, sa: IkeSa, child: ChildSa) -> None:
        self._core = core
        self._sa = sa
        self._child = child

    def abandon(self, now: float) -> None:
        """The peer may have it still: once more, under the next IKE_SA."""
        self._child.deleting = False
        self._core.tasks.append(partial(_delete, self._core, self._child))

    def handle_reply(self, opened: Opened, now: float) -> None:
        """Whatever it lists, the pair is gone (RFC 7296 1.4.1)."""
        self._sa.window.reply_received()
        drop_child(self._core, self._child)


def peer_deleted(core: Core, child: ChildSa) -> None:
    """The peer listed its half of ``child`` in a DELETE: whatever replaces it is what we seal with now.

    A peer deletes a replaced SA only when its own replacement won or when it saw no other (RFC 7296 2.8.1), so an
    attempt of
    ours that is still under way has lost.
    """
    if any(not each.ours and each.replacement is not None for each in child.attempts):
        child.attempts[:] = [each for each in child.attempts if not each.ours]
        _settle(core, child)
    for successor in core.children:
        if successor.replaces is child:
            use_outbound(core, successor)
    drop_child(core, child)


def drop_child(core: Core, child: ChildSa) -> None:
    """Forget a CHILD_SA in both directions."""
    if child in core.children:
        core.children.remove(child)
        core.emit(RemoveSa(child.outbound_spi, "outbound"), RemoveSa(child.inbound_spi, "inbound"))
