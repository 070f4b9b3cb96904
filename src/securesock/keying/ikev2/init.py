"""IKE_SA_INIT: algorithms, nonces, the first key exchange; nothing here is authenticated yet (RFC 7296 1.2, 2.6, 2.7).

ExpectInitReply is the initiator, ExpectInitRequest the responder.  Who the peer is comes later, in auth.
"""

from __future__ import annotations

import struct
from typing import Final

from ...crypto.kdf import derive_ike_keys, initial_skeyseed
from ...crypto.key_exchange import answer_key_exchange, begin_key_exchange
from ...crypto.signatures import SUPPORTED_HASHES
from ...crypto.suites import KEY_EXCHANGES, IkeSuite
from ...errors import PeerIncompatible, PeerMisbehaved, SecureSocketError, WireError
from ...wire.ikev2.payloads import CertificateRequest, KeyExchange, Nonce, Notify, Payload, SecurityAssociation
from ...wire.numbers import CertEncoding, ExchangeType, NotifyType
from ..contract import KeyingConfig
from .beginning import Beginning
from .core import (
    NONCE_LENGTH,
    NONCE_LENGTHS,
    Core,
    ExpectNothing,
    Opened,
    Refusal,
    error_notify,
    find,
    notifies,
    refusal_error,
    refuse_unknown_critical,
)
from .ike_sa import IkeSa
from .intermediate import ExpectIntermediateRequest, continue_initiator
from .ppk import USE_PPK, our_ppk
from .proposals import accept_ike, answer, chosen_ike, latched_ike_proposal, offer_ike
from .selectors import nat_detection, translated

__all__ = ["ExpectInitReply", "ExpectInitRequest"]

SIGNATURE_HASHES: Final = Notify(
    NotifyType.SIGNATURE_HASH_ALGORITHMS, struct.pack(f">{len(SUPPORTED_HASHES)}H", *SUPPORTED_HASHES)
)
"""RFC 7427 4: two bytes a hash function."""

COOKIE_LENGTHS: Final = range(1, 65)
MAX_REPEATS: Final = 4
"""COOKIE and INVALID_KE_PAYLOAD each need one repeat, a changed secret one more; nobody is led round further (RFC
7296 2.6.1)."""


def _read_hashes(found: dict[int, Notify]) -> tuple[int, ...]:
    notify = found.get(NotifyType.SIGNATURE_HASH_ALGORITHMS)
    count = 0 if notify is None else len(notify.data) // 2
    return () if notify is None else struct.unpack_from(f">{count}H", notify.data)


class ExpectInitReply:
    """Initiator: asked for an IKE_SA, waits for the responder's choice."""

    def __init__(self, core: Core, our_spi: bytes | None = None) -> None:
        """``our_spi``: of the beginning that this takes the place of, a resumption that was refused."""
        self._core = core
        self._offers = core.offers
        self._offered = offer_ike(core.offers)
        self._nonce = core.entropy.token(NONCE_LENGTH)
        self._cookie: Notify | None = None
        self._tried: set[int] = set()
        self._ppk = our_ppk(core.config)
        self._repeats = 0
        self._sa = IkeSa(
            initiator=True,
            our_spi=our_spi or core.fresh_ike_spi(),
            peer_spi=bytes(8),
            entropy=core.entropy,
            expecting=ExpectNothing(),
            retransmit=not core.on_stream,
        )
        core.ike = core.ikes[self._sa.our_spi] = self._sa
        self._method = self._offers[0].key_exchanges[0]
        self._exchange = begin_key_exchange(self._method, core.entropy)

    def ask(self, now: float) -> None:
        """Send IKE_SA_INIT, or send it again with what the responder asked for."""
        core, sa = self._core, self._sa
        method = self._method.transform_id
        self._tried.add(method)
        payloads: list[Payload] = [
            self._offered,
            KeyExchange(method, self._exchange.public),
            Nonce(self._nonce),
            *nat_detection(
                sa.our_spi, bytes(8), core.config.our_address, core.config.peer_address, core.source_of_nobody
            ),
            SIGNATURE_HASHES,
        ]
        if self._ppk is not None:
            payloads.append(USE_PPK)
        if any(offer.additional for offer in self._offers):
            payloads.append(Notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED))
        if not core.on_stream:
            payloads.append(Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
        if self._cookie is not None:
            payloads.insert(0, self._cookie)  # RFC 7296 2.6: first, everything else unchanged
        self._message = core.request_in_clear(sa, tuple(payloads), self, now)

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The responder's choice, or what it wants first.

        Nothing in it is authentic: whatever is refused here leaves this object awaiting another answer.
        """
        refuse_unknown_critical(opened.payloads)
        found = notifies(opened.payloads)
        if self._wants_repeat(found, now):
            return
        refused = error_notify(opened.payloads)
        if refused is not None:
            raise refusal_error(refused, "our IKE_SA_INIT")
        choice = find(opened.payloads, SecurityAssociation)
        public = find(opened.payloads, KeyExchange)
        nonce = find(opened.payloads, Nonce)
        if choice is None or public is None or nonce is None or len(nonce.data) not in NONCE_LENGTHS:
            raise PeerMisbehaved("the responder's IKE_SA_INIT lacks its proposal, key exchange or nonce")
        suite = chosen_ike(self._offered, choice)
        if suite is None or suite.key_exchange != self._method or public.group != suite.key_exchange.transform_id:
            raise PeerMisbehaved("the responder chose algorithms that we did not offer")
        if self._ppk is not None and self._ppk.mandatory and NotifyType.USE_PPK not in found:
            # RFC 8784 6: anybody on the path can have left it out: among datagrams a better answer is waited for
            raise PeerIncompatible("the responder uses no PPK (RFC 8784), and one is mandatory with it")
        if suite.additional_key_exchanges and NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED not in found:
            raise PeerMisbehaved("the responder chose an additional key exchange without IKE_INTERMEDIATE")
        self._agree(suite, public.data, nonce.data, found, opened, now)

    def _wants_repeat(self, found: dict[int, Notify], now: float) -> bool:
        cookie = found.get(NotifyType.COOKIE)
        other_group = found.get(NotifyType.INVALID_KE_PAYLOAD)
        if cookie is None and other_group is None:
            return False
        self._repeats += 1
        if self._repeats > MAX_REPEATS:
            raise PeerMisbehaved("the responder keeps asking for another IKE_SA_INIT")
        if cookie is not None:
            if len(cookie.data) not in COOKIE_LENGTHS:
                raise PeerMisbehaved("the responder's cookie is not 1 to 64 bytes (RFC 7296 2.6)")
            self._cookie = Notify(NotifyType.COOKIE, cookie.data)
        if other_group is not None:
            group = int.from_bytes(other_group.data, "big")
            offered = {method.transform_id for offer in self._offers for method in offer.key_exchanges}
            # RFC 7296 2.7: only a group that we offered, and never the same twice
            if len(other_group.data) != 2 or group not in offered or group in self._tried:
                raise PeerIncompatible(f"the responder wants key exchange method {group}, which we do not offer")
            self._method = KEY_EXCHANGES[group]
            self._exchange = begin_key_exchange(self._method, self._core.entropy)
        self._sa.window.give_up()  # asked again under the same message ID (RFC 7296 2.2)
        self.ask(now)
        return True

    def _agree(
        self, suite: IkeSuite, public: bytes, nonce: bytes, found: dict[int, Notify], opened: Opened, now: float
    ) -> None:
        core, sa = self._core, self._sa
        peer_spi = opened.datagram[8:16]
        if peer_spi == bytes(8):
            raise PeerMisbehaved("the responder chose no SPI")
        shared = self._exchange.finish(public)
        sa.peer_spi = peer_spi
        skeyseed = initial_skeyseed(suite.prf, self._nonce, nonce, shared)
        core.use_keys(sa, suite, derive_ike_keys(suite, skeyseed, self._nonce, nonce, sa.our_spi, sa.peer_spi))
        sa.fragmentation = not core.on_stream and NotifyType.IKEV2_FRAGMENTATION_SUPPORTED in found
        beginning = Beginning(
            initiator_nonce=self._nonce,
            responder_nonce=nonce,
            our_first_message=self._message,
            peer_first_message=opened.datagram,
            peer_hashes=_read_hashes(found),
            translated=translated(
                [each for each in opened.payloads if isinstance(each, Notify)],
                sa.our_spi,
                sa.peer_spi,
                core.config.our_address,
                core.config.peer_address,
            ),
        )
        if self._ppk is not None and NotifyType.USE_PPK in found:
            beginning.ppk_agreed, beginning.ppk = True, self._ppk
        sa.window.reply_received()
        continue_initiator(core, sa, beginning, suite.additional_key_exchanges, now)


class ExpectInitRequest:
    """Responder: chooses, answers, and forgets nothing that AUTH will be computed over."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._repeats = 0

    def handle_request(self, opened: Opened, now: float) -> None:
        """IKE_SA_INIT.  Refusals are sent in clear: there are no keys yet (RFC 7296 2.21.1)."""
        core = self._core
        sa = self._new_sa(opened)
        sa.window.request_opened(opened.datagram)
        try:
            if opened.exchange_type == ExchangeType.IKE_SESSION_RESUME:
                self._resume(sa, opened, now)
            else:
                self._handle(sa, opened, now)
        except Refusal as refusal:
            core.reply_in_clear(sa, (refusal.notify,), final=True)
            if refusal.error is not None:
                core.fail(refusal.error)
        except WireError as error:
            core.reply_in_clear(sa, (Notify(NotifyType.INVALID_SYNTAX),), final=True)
            core.fail(PeerMisbehaved(f"the initiator's key exchange is not valid: {error}"))

    def _new_sa(self, opened: Opened) -> IkeSa:
        core = self._core
        sa = IkeSa(
            initiator=False,
            our_spi=core.fresh_ike_spi(),
            peer_spi=opened.datagram[:8],
            entropy=core.entropy,
            expecting=self,
            retransmit=not core.on_stream,
        )
        core.ike = core.ikes[sa.our_spi] = sa
        return sa

    def _handle(self, sa: IkeSa, opened: Opened, now: float) -> None:
        refuse_unknown_critical(opened.payloads)
        proposals = find(opened.payloads, SecurityAssociation)
        public = find(opened.payloads, KeyExchange)
        nonce = find(opened.payloads, Nonce)
        if proposals is None or public is None or nonce is None or len(nonce.data) not in NONCE_LENGTHS:
            raise Refusal(
                NotifyType.INVALID_SYNTAX,
                error=PeerMisbehaved("the initiator's IKE_SA_INIT lacks its proposals, key exchange or nonce"),
            )
        found = notifies(opened.payloads)
        accepted = accept_ike(
            self._core.offers,
            proposals.proposals,
            peer_group=public.group,
            intermediate=NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED in found,
        )
        if accepted is None:
            raise Refusal(NotifyType.NO_PROPOSAL_CHOSEN, error=_nothing_in_common())
        proposal, suite = accepted
        if public.group != suite.key_exchange.transform_id:
            self._ask_for(sa, suite.key_exchange.transform_id)
            return
        answer_public, shared = answer_key_exchange(suite.key_exchange, public.data, self._core.entropy)
        reply_nonce = self._core.entropy.token(NONCE_LENGTH)
        payloads = self._reply_payloads(sa, suite, answer_public, reply_nonce, found)
        message = self._core.reply_in_clear(
            sa, (answer(proposal, latched_ike_proposal(suite, b"")), *payloads), final=True
        )
        skeyseed = initial_skeyseed(suite.prf, nonce.data, reply_nonce, shared)
        keys = derive_ike_keys(suite, skeyseed, nonce.data, reply_nonce, sa.peer_spi, sa.our_spi)
        self._core.use_keys(sa, suite, keys)
        config = self._core.config
        beginning = Beginning(
            initiator_nonce=nonce.data,
            responder_nonce=reply_nonce,
            our_first_message=message,
            peer_first_message=opened.datagram,
            peer_hashes=_read_hashes(found),
            translated=translated(
                [each for each in opened.payloads if isinstance(each, Notify)],
                sa.peer_spi,
                bytes(8),  # RFC 7296 2.23: the responder's SPI was still zero
                config.our_address,
                config.peer_address,
            ),
        )
        beginning.ppk_agreed = _uses_ppk(config, found)
        sa.expecting = ExpectIntermediateRequest.or_auth(self._core, sa, beginning, suite.additional_key_exchanges)

    def _resume(self, sa: IkeSa, opened: Opened, now: float) -> None:
        self._repeats += 1
        if self._repeats > MAX_REPEATS:
            raise Refusal(
                NotifyType.INVALID_SYNTAX, error=PeerMisbehaved("the initiator shows one ticket after another")
            )
        if not self._resumes(sa, opened, now):
            # RFC 5723 4.3.2: the initiator begins as usual; nothing of this attempt is kept but the count
            self._core.ikes.pop(sa.our_spi, None)
            self._core.ike = None

    def _resumes(self, sa: IkeSa, opened: Opened, now: float) -> bool:
        if self._core.config.tickets is None:
            self._core.refuse_ticket(sa, "ticket-unwanted")
            return False
        from .resumption import answer_resume  # for those who resume

        return answer_resume(self._core, sa, opened, now)

    def _ask_for(self, sa: IkeSa, group: int) -> None:
        self._repeats += 1
        if self._repeats > MAX_REPEATS:
            raise Refusal(NotifyType.NO_PROPOSAL_CHOSEN, error=_nothing_in_common())
        wanted = Notify(NotifyType.INVALID_KE_PAYLOAD, group.to_bytes(2, "big"))
        self._core.reply_in_clear(sa, (wanted,), final=False)
        # RFC 7296 2.7: the initiator asks anew; nothing of this attempt is kept but the count
        self._core.ikes.pop(sa.our_spi, None)
        self._core.ike = None

    def _reply_payloads(
        self, sa: IkeSa, suite: IkeSuite, public: bytes, nonce: bytes, found: dict[int, Notify]
    ) -> tuple[Payload, ...]:
        config = self._core.config
        payloads: list[Payload] = [
            KeyExchange(suite.key_exchange.transform_id, public),
            Nonce(nonce),
            *nat_detection(
                sa.peer_spi, sa.our_spi, config.our_address, config.peer_address, self._core.source_of_nobody
            ),
            SIGNATURE_HASHES,
        ]
        authorities = config.identity.certificate_authorities
        if authorities:
            payloads.append(CertificateRequest(CertEncoding.X509_SIGNATURE, authorities))
        if _uses_ppk(config, found):
            payloads.append(USE_PPK)
        if suite.additional_key_exchanges:
            payloads.append(Notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED))
        if not self._core.on_stream and NotifyType.IKEV2_FRAGMENTATION_SUPPORTED in found:
            payloads.append(Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
            sa.fragmentation = True
        return tuple(payloads)


def _uses_ppk(config: KeyingConfig, found: dict[int, Notify]) -> bool:
    """RFC 8784 3: a responder that has any PPK says so; for whom it is, it learns in IKE_AUTH."""
    return bool(config.ppks) and NotifyType.USE_PPK in found


def _nothing_in_common() -> SecureSocketError:
    return PeerIncompatible("the initiator's proposals and our main mode policy have no algorithms in common")
