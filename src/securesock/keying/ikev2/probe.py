"""What an IKEv2 responder agrees to, asked one IKE_SA_INIT at a time; nothing is authenticated and no SA is made.

The first question offers everything we know; the others offer one key exchange method, or one cipher, each.  A
responder that wants a cookie gets it back (RFC 7296 2.6), and one that wants another method of those offered gets that
(1.2).
Every question leaves a half-open IKE_SA at a responder that agrees, which it forgets by itself; so there are few.

A machine without I/O: ``next_question`` out, ``handle_reply_untrusted`` or ``handle_silence`` in.  It must not know
sockets, ports, nor what is done with the findings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from ...crypto.key_exchange import begin_key_exchange, is_available
from ...crypto.suites import (
    ENCRYPTIONS,
    INTEGRITIES,
    KEY_EXCHANGES,
    ML_KEM_768,
    PRFS,
    Encryption,
    KeyExchangeMethod,
)
from ...entropy import Entropy
from ...errors import WireError
from ...policy.negotiation import IkeOffer
from ...types import Address
from ...wire.ikev2.message import parse_message_untrusted, write_message
from ...wire.ikev2.payloads import CertificateRequest, Nonce, Notify, Payload, SecurityAssociation, VendorId
from ...wire.ikev2.payloads import KeyExchange as KeyExchangePayload
from ...wire.isakmp import read_header_untrusted
from ...wire.numbers import ExchangeType, HeaderFlag, NotifyType, name_of
from .core import FIRST_ERROR_LIMIT, NONCE_LENGTH, find, notifies
from .init import COOKIE_LENGTHS, MAX_REPEATS, SIGNATURE_HASHES
from .proposals import chosen_ike, offer_ike
from .selectors import nat_detection

__all__ = ["Finding", "IkeProbe"]

_CIPHERS: Final = tuple(each for each in ENCRYPTIONS.values() if each.encrypts)
_METHODS: Final = tuple(each for each in KEY_EXCHANGES.values() if each is not ML_KEM_768)
SHA1_LENGTH: Final = 20
"""RFC 7296 3.7: a CERTREQ names each trust anchor by a hash of this length."""
_NOTHING_SAID: Final = frozenset(
    {
        NotifyType.NAT_DETECTION_SOURCE_IP,
        NotifyType.NAT_DETECTION_DESTINATION_IP,
        NotifyType.COOKIE,
    }
)
"""Notifies that say nothing about what a responder can do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one question.

    ``kind`` is what was asked about: everything at once, a key exchange method, or a cipher; ``name`` is its name.
    ``verdict``: "accepted" with ``suite``, "refused" with ``detail`` naming the error, or "silent".  Of an accepted
    question also ``notifies`` (names), ``vendor_ids`` (hex) and how many trust anchors the responder names.
    """

    kind: Literal["everything", "key-exchange", "encryption"]
    name: str
    verdict: Literal["accepted", "refused", "silent"]
    suite: str = ""
    detail: str = ""
    notifies: tuple[str, ...] = ()
    vendor_ids: tuple[str, ...] = ()
    authorities: int = 0


@dataclass(slots=True)
class _Question:
    kind: Literal["everything", "key-exchange", "encryption"]
    name: str
    offers: tuple[IkeOffer, ...]
    spi: bytes
    nonce: bytes
    method: KeyExchangeMethod
    public: bytes
    cookie: Notify | None = None
    repeats: int = 0
    tried: set[int] = field(default_factory=set)


class IkeProbe:
    """The questions to one responder.  Addresses as our socket sees them, for NAT_DETECTION."""

    def __init__(self, entropy: Entropy, our_address: Address, peer_address: Address) -> None:
        self._entropy = entropy
        self._our_address = our_address
        self._peer_address = peer_address
        self._plan = self._questions()
        self._question: _Question | None = None
        self.findings: list[Finding] = []

    def next_question(self) -> bytes | None:
        """The next IKE_SA_INIT, without marker; None when all was asked.  The one before it must be settled."""
        self._question = next(self._plan, None)
        return None if self._question is None else self._write(self._question)

    def handle_silence(self) -> None:
        """Nothing came in time, also not to repeats."""
        if self._question is not None:
            self._found("silent", detail="no answer")

    def handle_reply_untrusted(self, datagram: bytes) -> bytes | None:
        """One datagram, without marker: the question asked anew where the responder wants that, else None.

        Anything that is no answer to our question is passed over: then the question is not settled yet.
        """
        question = self._question
        if question is None:
            return None
        try:
            header = read_header_untrusted(datagram)
            ours = header.initiator_spi == question.spi and header.flags & HeaderFlag.RESPONSE
            if not ours or header.exchange_type != ExchangeType.IKE_SA_INIT:
                return None
            payloads = parse_message_untrusted(datagram).payloads
        except WireError:
            return None
        found = notifies(payloads)
        again = self._asked_again(question, found)
        if again is not None:
            return again
        refused = next((each for each in found if each < FIRST_ERROR_LIMIT), None)
        if refused is not None:
            self._found("refused", detail=name_of(NotifyType, refused))
            return None
        self._accepted(question, payloads, found)
        return None

    @property
    def settled(self) -> bool:
        """Whether ``next_question`` may be called."""
        return self._question is None

    def _asked_again(self, question: _Question, found: dict[int, Notify]) -> bytes | None:
        cookie, other = found.get(NotifyType.COOKIE), found.get(NotifyType.INVALID_KE_PAYLOAD)
        if question.repeats >= MAX_REPEATS:
            return None
        if cookie is not None and len(cookie.data) in COOKIE_LENGTHS:
            question.cookie = Notify(NotifyType.COOKIE, cookie.data)
        elif other is not None:
            method = KEY_EXCHANGES.get(int.from_bytes(other.data, "big"))
            offered = {each for offer in question.offers for each in offer.key_exchanges}
            if method not in offered or method is None or method.transform_id in question.tried:
                return None
            question.method = method
            question.public = begin_key_exchange(method, self._entropy).public
            question.tried.add(method.transform_id)
        else:
            return None
        question.repeats += 1
        return self._write(question)

    def _accepted(self, question: _Question, payloads: tuple[Payload, ...], found: dict[int, Notify]) -> None:
        choice = find(payloads, SecurityAssociation)
        suite = None if choice is None else chosen_ike(offer_ike(question.offers), choice)
        if suite is None:
            self._found("refused", detail="the answer chooses what was not offered")
            return
        authorities = find(payloads, CertificateRequest)
        self._found(
            "accepted",
            suite=suite.name,
            notifies=tuple(sorted(name_of(NotifyType, each) for each in found if each not in _NOTHING_SAID)),
            vendor_ids=tuple(each.data.hex() for each in payloads if isinstance(each, VendorId)),
            authorities=0 if authorities is None else len(authorities.data) // SHA1_LENGTH,
        )

    def _found(
        self,
        verdict: Literal["accepted", "refused", "silent"],
        *,
        suite: str = "",
        detail: str = "",
        notifies: tuple[str, ...] = (),
        vendor_ids: tuple[str, ...] = (),
        authorities: int = 0,
    ) -> None:
        question = self._question
        if question is not None:
            self.findings.append(
                Finding(question.kind, question.name, verdict, suite, detail, notifies, vendor_ids, authorities)
            )
        self._question = None

    def _questions(self) -> Iterator[_Question]:
        methods = tuple(each for each in _METHODS if is_available(each))
        yield self._ask("everything", "all that we know", _offers(_CIPHERS, methods, hybrid=True), methods[0])
        for method in methods:
            yield self._ask("key-exchange", method.name, _offers(_CIPHERS, (method,)), method)
        if is_available(ML_KEM_768):
            hybrid = (_offer(_aeads(_CIPHERS), methods, (ML_KEM_768,)),)
            yield self._ask("key-exchange", f"hybrid with {ML_KEM_768.name}", hybrid, methods[0])
        for cipher in _CIPHERS:
            yield self._ask("encryption", cipher.name, _offers((cipher,), methods), methods[0])

    def _ask(
        self,
        kind: Literal["everything", "key-exchange", "encryption"],
        name: str,
        offers: tuple[IkeOffer, ...],
        method: KeyExchangeMethod,
    ) -> _Question:
        entropy = self._entropy
        public = begin_key_exchange(method, entropy).public
        spi, nonce = entropy.token(8), entropy.token(NONCE_LENGTH)
        return _Question(kind, name, offers, spi, nonce, method, public, tried={method.transform_id})

    def _write(self, question: _Question) -> bytes:
        payloads: list[Payload] = [] if question.cookie is None else [question.cookie]
        payloads += [
            offer_ike(question.offers),
            KeyExchangePayload(question.method.transform_id, question.public),
            Nonce(question.nonce),
            *nat_detection(question.spi, bytes(8), self._our_address, self._peer_address),
            SIGNATURE_HASHES,
            Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
        ]
        if any(offer.additional for offer in question.offers):
            payloads.append(Notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED))
        return write_message(question.spi, bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.INITIATOR, 0, payloads)


def _aeads(ciphers: tuple[Encryption, ...]) -> tuple[Encryption, ...]:
    return tuple(each for each in ciphers if each.is_aead)


def _offer(
    ciphers: tuple[Encryption, ...],
    methods: tuple[KeyExchangeMethod, ...],
    additional: tuple[KeyExchangeMethod, ...] = (),
) -> IkeOffer:
    integrities = () if ciphers[0].is_aead else tuple(INTEGRITIES.values())
    return IkeOffer(ciphers, integrities, tuple(PRFS.values()), methods, additional)


def _offers(
    ciphers: tuple[Encryption, ...], methods: tuple[KeyExchangeMethod, ...], *, hybrid: bool = False
) -> tuple[IkeOffer, ...]:
    """AEADs and other ciphers never share a proposal (RFC 7296 3.3.3)."""
    aeads = _aeads(ciphers)
    others = tuple(each for each in ciphers if not each.is_aead)
    offers = [_offer(each, methods) for each in (aeads, others) if each]
    if hybrid and aeads and is_available(ML_KEM_768):
        offers.insert(0, _offer(aeads, methods, (ML_KEM_768,)))
    return tuple(offers)
