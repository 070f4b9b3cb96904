"""An authenticated peer that does what it likes: requests of its own making under the keys of a real session."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from securesock.crypto.key_exchange import begin_key_exchange
from securesock.crypto.suites import X25519
from securesock.keying.ikev2.child_sa import ChildSa
from securesock.keying.ikev2.core import Core, Opened
from securesock.keying.ikev2.ike_sa import IkeSa
from securesock.keying.ikev2.proposals import latched_child_proposal, latched_ike_proposal
from securesock.keying.ikev2.selectors import flow_selectors
from securesock.testing import Endpoint, Pair, SeededEntropy
from securesock.wire.ikev2.message import parse_message_untrusted
from securesock.wire.ikev2.payloads import KeyExchange, Nonce, Notify, Payload, SecurityAssociation
from securesock.wire.numbers import ExchangeType, HeaderFlag, NotifyType, ProtocolId

__all__ = ["Hostile", "core_of"]


def core_of(endpoint: Endpoint) -> Core:
    """What a session keeps."""
    return endpoint.session._core


class Hostile:
    """The initiator's end with a mind of its own: asks what it likes under the keys of its session."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.core = core_of(pair.initiator)
        self.replies: list[tuple[Payload, ...]] = []
        self._entropy = SeededEntropy("hostile")

    def _ike(self) -> IkeSa:
        if self.core.ike is None:
            raise RuntimeError("there is no IKE_SA to ask under")
        return self.core.ike

    def ask(self, exchange: ExchangeType, payloads: Iterable[Payload]) -> tuple[Payload, ...]:
        """The responder's reply; whatever it asks of its own is not answered."""
        sa = self._ike()
        now = self.pair.clock.now()
        count = len(self.replies)
        self.core.request(sa, exchange, tuple(payloads), self, now)
        while (action := self.pair.initiator.session.poll_action()) is not None:
            datagram = self.pair.initiator.carry_out(action)
            if datagram is not None:
                self.pair.responder.session.handle_datagram(datagram, now)
        while (action := self.pair.responder.session.poll_action()) is not None:
            datagram = self.pair.responder.carry_out(action)
            if datagram is not None and parse_message_untrusted(datagram).header.flags & HeaderFlag.RESPONSE:
                self.pair.initiator.session.handle_datagram(datagram, now)
        if len(self.replies) != count + 1:
            raise RuntimeError("the responder did not answer")
        return self.replies[-1]

    def handle_reply(self, opened: Opened, now: float) -> None:
        """Keeps the reply; Exchange of keying.ikev2.core."""
        self._ike().window.reply_received()
        self.replies.append(opened.payloads)

    def child_rekey(self, old: ChildSa) -> list[Payload]:
        """A rekey of ``old`` as any peer would ask for it; its key exchange is never finished."""
        sa = self._ike()
        suite = replace(old.suite, key_exchange=X25519, additional_key_exchanges=sa.suite.additional_key_exchanges)
        return [
            Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, old.inbound_spi.to_bytes(4, "big")),
            Notify(NotifyType.USE_TRANSPORT_MODE),
            SecurityAssociation((latched_child_proposal(suite, self._entropy.token(4)),)),
            Nonce(self._entropy.token(32)),
            KeyExchange(X25519.transform_id, begin_key_exchange(X25519, self._entropy).public),
            *flow_selectors(old.flow, initiator_first=True),
        ]

    def ike_rekey(self) -> list[Payload]:
        """A rekey of the IKE_SA as any peer would ask for it."""
        sa = self._ike()
        return [
            SecurityAssociation((latched_ike_proposal(sa.suite, self._entropy.token(8)),)),
            Nonce(self._entropy.token(32)),
            KeyExchange(X25519.transform_id, begin_key_exchange(X25519, self._entropy).public),
        ]
