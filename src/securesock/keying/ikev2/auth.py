"""IKE_AUTH: both ends prove who they are in its first exchange (RFC 7296 1.2, 2.15, 2.21.2).

ExpectAuthReply is the initiator, ExpectAuthRequest the responder.  Where a user is to be proven, whose AUTH comes after
EAP, eap_auth goes on.  The CHILD_SA that comes with it is first_child's: this room carries that room's payloads and
knows nothing of what they say.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import AuthenticationFailed, PeerMisbehaved, SecureSocketError
from ...identity.names import IkeId
from ...types import Principal
from ...wire.ikev2.payloads import Authentication, Identification, Payload
from ...wire.numbers import ExchangeType, NotifyType, PayloadType
from .authentication import identification
from .beginning import Beginning
from .core import Core, Opened, Refusal, error_notify, find, refusal_error, refuse_unknown_critical
from .first_child import FirstChildAnswer, FirstChildWish
from .ike_sa import IkeSa
from .ppk import judged_keys, keys_of_reply, proof_payloads
from .proof import Proof, admit, initiator_done, our_principal, our_responder_id, responder_done, tell_why, wanted_id

__all__ = ["ExpectAuthReply", "ExpectAuthRequest", "begin_auth"]


def begin_auth(core: Core, sa: IkeSa, beginning: Beginning, now: float) -> None:
    """The initiator's proof, or its user's name, and its wish for the CHILD_SA."""
    try:
        if core.config.user is not None:
            from .eap_auth import begin_user_auth  # EAP, which few do; below likewise

            begin_user_auth(core, sa, beginning, core.config.user, now)
        else:
            ExpectAuthReply(core, sa, beginning).ask(now)
    except AuthenticationFailed as error:
        core.fail(error)


class ExpectAuthReply:
    """Initiator: proved itself, waits for the responder's proof and the CHILD_SA."""

    def __init__(self, core: Core, sa: IkeSa, beginning: Beginning) -> None:
        self._core = core
        self._sa = sa
        self._beginning = beginning
        self._proof = Proof(core, sa, beginning)
        self._wish = FirstChildWish(core, sa, beginning)
        self._our_id = identification(PayloadType.IDi, core.config.identity.our_id(None))
        self._our: Principal = our_principal(core, self._our_id)

    def ask(self, now: float) -> None:
        """Send IKE_AUTH."""
        wanted = wanted_id(self._core)
        proof = proof_payloads(self._sa, self._beginning, lambda keys: self._proof.ours(self._our_id, wanted, keys))
        payloads: list[Payload] = [self._our_id, *self._proof.certificates(), *self._proof.certificate_request()]
        if wanted is not None:
            payloads.append(identification(PayloadType.IDr, wanted))
        payloads += (*proof, *self._wish.payloads())
        self._core.request(self._sa, ExchangeType.IKE_AUTH, tuple(payloads), self, now)

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The responder's proof; only when all of it holds is the flow ready."""
        refuse_unknown_critical(opened.payloads)
        core, sa = self._core, self._sa
        sa.window.reply_received()
        peer_id = find(opened.payloads, Identification, PayloadType.IDr)
        refused = error_notify(opened.payloads)
        if peer_id is None:
            what = f"us, who said to be {self._our.name}"
            raise refusal_error(refused, what) if refused else PeerMisbehaved("the responder's IKE_AUTH names nobody")
        try:
            keys = keys_of_reply(sa, self._beginning, opened.payloads)
            auth = find(opened.payloads, Authentication)
            proven = self._proof.judge(opened.payloads, peer_id, auth, keys, now)
            if refused is not None:
                raise refusal_error(refused, "the protection of this flow")
            sa.prove_with(keys)
            child = self._wish.accept(opened.payloads, now)
        except SecureSocketError as error:
            tell_why(core, sa, error, now)
            raise
        initiator_done(core, sa, self._beginning, child, proven, self._our, now)


class ExpectAuthRequest:
    """Responder: judges the initiator before it proves itself."""

    def __init__(self, core: Core, sa: IkeSa, beginning: Beginning) -> None:
        self._core = core
        self._sa = sa
        self._beginning = beginning
        self._proof = Proof(core, sa, beginning)
        self._answer = FirstChildAnswer(core, sa, beginning)

    def handle_request(self, opened: Opened, now: float) -> None:
        """IKE_AUTH.  A refusal is an error notify inside the encrypted reply (RFC 7296 2.21.2)."""
        refuse_unknown_critical(opened.payloads)
        core, sa = self._core, self._sa
        peer_id = find(opened.payloads, Identification, PayloadType.IDi)
        if opened.exchange_type != ExchangeType.IKE_AUTH or peer_id is None:
            error = PeerMisbehaved("the initiator did not authenticate in IKE_AUTH")
            raise Refusal(NotifyType.INVALID_SYNTAX, error=error)
        try:
            if find(opened.payloads, Authentication) is None and core.config.users is not None:
                # RFC 7296 2.16: an initiator without AUTH wants EAP
                from .eap_auth import answer_user

                answer_user(core, sa, self._beginning, opened, peer_id, now)
                return
            settled = judged_keys(core.config, sa, self._beginning, opened.payloads, peer_id)
            proven = self._proof.judge(opened.payloads, peer_id, settled.auth, settled.keys, now)
            admit(core, proven)
            our_id = our_responder_id(core, opened.payloads)
            auth = self._proof.ours(our_id, IkeId(peer_id.id_type, peer_id.data), settled.keys)
        except SecureSocketError as error:
            raise Refusal(NotifyType.AUTHENTICATION_FAILED, error=error) from None
        sa.prove_with(settled.keys)
        proof: Sequence[Payload] = (our_id, *self._proof.certificates(), auth, *settled.reply)
        our = our_principal(core, our_id)
        responder_done(core, sa, self._beginning, opened, self._answer, opened.payloads, tuple(proof), proven, our, now)
