"""IKE_INTERMEDIATE: additional key exchanges between IKE_SA_INIT and IKE_AUTH (RFC 9242, RFC 9370 2.2.2).

One method per exchange, in the order of ADDKE1..7; each changes the keys that protect what follows, and every one of
these messages goes into what AUTH proves.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from ...crypto.kdf import derive_ike_keys, intermediate_skeyseed
from ...crypto.key_exchange import answer_key_exchange, begin_key_exchange
from ...crypto.prf import compute_prf
from ...crypto.suites import KeyExchangeMethod
from ...errors import PeerMisbehaved
from ...wire.ikev2.message import write_payloads
from ...wire.ikev2.payloads import KeyExchange, Payload
from ...wire.isakmp import HEADER, HEADER_LENGTH
from ...wire.numbers import ExchangeType, NotifyType, PayloadType
from .auth import ExpectAuthRequest, begin_auth
from .beginning import Beginning
from .core import Core, Opened, Refusal, RequestState, error_notify, find, refusal_error, refuse_unknown_critical
from .ike_sa import IkeSa

__all__ = ["ExpectIntermediateReply", "ExpectIntermediateRequest", "authenticated_octets", "continue_initiator"]

_SK_HEADER: Final = struct.Struct(">BxH")


def authenticated_octets(datagram: bytes, first_payload: int, inner: bytes) -> bytes:
    """A | P of RFC 9242 3.3.2: the message as it would be in one piece without IV, padding and ICV.

    ``datagram`` is the message or any fragment of it, whose headers differ in next payload and length alone.  They are
    taken from there because even bits that we ignore are authenticated.
    """
    header = HEADER.unpack_from(datagram)
    length = _SK_HEADER.size + len(inner)
    return (
        HEADER.pack(*header[:2], PayloadType.SK, *header[3:7], HEADER_LENGTH + length)
        + _SK_HEADER.pack(first_payload, length)
        + inner
    )


class _Chain:
    """IntAuth_i and IntAuth_r of RFC 9242 3.3.2, each keyed by the SK_p in force before the exchange."""

    def __init__(self, sa: IkeSa) -> None:
        self._sa = sa
        self._ours = b""
        self._peers = b""

    def add(self, datagram: bytes, payloads: tuple[Payload, ...], opened: Opened) -> None:
        """One whole exchange: what we said (``payloads``, which went out in ``datagram``) and what the peer said."""
        sa = self._sa
        prf = sa.suite.prf
        ours = authenticated_octets(datagram, *write_payloads(payloads))
        peers = authenticated_octets(opened.datagram, opened.first_payload, opened.inner)
        self._ours = compute_prf(prf, sa.our_sk_p, self._ours + ours)
        self._peers = compute_prf(prf, sa.peer_sk_p, self._peers + peers)

    def octets(self, next_message_id: int) -> bytes:
        """IntAuth: the initiator's chain, the responder's, and IKE_AUTH's message ID."""
        pair = self._ours + self._peers if self._sa.initiator else self._peers + self._ours
        return pair + next_message_id.to_bytes(4, "big")


def _rekey(core: Core, sa: IkeSa, beginning: Beginning, shared: bytes) -> None:
    """RFC 9370 2.2.2: SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr), then a whole new set of keys."""
    suite = sa.suite
    nonces = (beginning.initiator_nonce, beginning.responder_nonce)
    skeyseed = intermediate_skeyseed(suite.prf, sa.keys.sk_d, shared, *nonces)
    core.use_keys(sa, suite, derive_ike_keys(suite, skeyseed, *nonces, sa.initiator_spi, sa.responder_spi))


def continue_initiator(
    core: Core, sa: IkeSa, beginning: Beginning, methods: Sequence[KeyExchangeMethod], now: float
) -> None:
    """After IKE_SA_INIT: the additional key exchanges if any were agreed on, then IKE_AUTH."""
    if methods:
        ExpectIntermediateReply(core, sa, beginning, methods).ask(now)
    else:
        begin_auth(core, sa, beginning, now)


class ExpectIntermediateReply:
    """Initiator: sent its public value of one additional key exchange."""

    def __init__(self, core: Core, sa: IkeSa, beginning: Beginning, methods: Sequence[KeyExchangeMethod]) -> None:
        self._core = core
        self._sa = sa
        self._beginning = beginning
        self._chain = _Chain(sa)
        self._methods = list(methods)

    def ask(self, now: float) -> None:
        """Send the next method's public value."""
        self._method = self._methods.pop(0)
        self._exchange = begin_key_exchange(self._method, self._core.entropy)
        self._payloads: tuple[Payload, ...] = (KeyExchange(self._method.transform_id, self._exchange.public),)
        self._datagram = self._core.request(self._sa, ExchangeType.IKE_INTERMEDIATE, self._payloads, self, now)[0]

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The responder's public value (or ciphertext)."""
        refuse_unknown_critical(opened.payloads)
        refused = error_notify(opened.payloads)
        if refused is not None:
            self._core.fail(refusal_error(refused, "the additional key exchange"))
            return
        public = find(opened.payloads, KeyExchange)
        if public is None or public.group != self._method.transform_id:
            raise PeerMisbehaved("the responder answered another key exchange than the one asked (RFC 9370 2.2.2)")
        shared = self._exchange.finish(public.data)
        self._chain.add(self._datagram, self._payloads, opened)
        _rekey(self._core, self._sa, self._beginning, shared)
        self._sa.window.reply_received()
        if self._methods:
            self.ask(now)
            return
        self._beginning.intermediate = self._chain.octets(opened.message_id + 1)
        begin_auth(self._core, self._sa, self._beginning, now)


class ExpectIntermediateRequest:
    """Responder: awaits the initiator's next public value."""

    def __init__(self, core: Core, sa: IkeSa, beginning: Beginning, methods: Sequence[KeyExchangeMethod]) -> None:
        self._core = core
        self._sa = sa
        self._beginning = beginning
        self._chain = _Chain(sa)
        self._methods = list(methods)

    @classmethod
    def or_auth(cls, core: Core, sa: IkeSa, beginning: Beginning, methods: Sequence[KeyExchangeMethod]) -> RequestState:
        """This state, or the one after it when no additional method was agreed on."""
        return cls(core, sa, beginning, methods) if methods else ExpectAuthRequest(core, sa, beginning)

    def handle_request(self, opened: Opened, now: float) -> None:
        """One additional key exchange."""
        refuse_unknown_critical(opened.payloads)
        method = self._methods[0]
        public = find(opened.payloads, KeyExchange)
        if (
            opened.exchange_type != ExchangeType.IKE_INTERMEDIATE
            or public is None
            or public.group != method.transform_id
        ):
            raise Refusal(
                NotifyType.INVALID_SYNTAX,
                error=PeerMisbehaved(f"the initiator agreed to {method.name} and then did not send it"),
            )
        answer_public, shared = answer_key_exchange(method, public.data, self._core.entropy)
        payloads: tuple[Payload, ...] = (KeyExchange(method.transform_id, answer_public),)
        datagrams = self._core.reply(self._sa, opened, payloads)
        self._chain.add(datagrams[0], payloads, opened)
        _rekey(self._core, self._sa, self._beginning, shared)
        self._methods.pop(0)
        if not self._methods:
            self._beginning.intermediate = self._chain.octets(opened.message_id + 1)
            self._sa.expecting = ExpectAuthRequest(self._core, self._sa, self._beginning)
