"""IKE_AUTH with EAP: a user is proven to a machine that proves itself with a certificate (RFC 7296 2.16, RFC 5998).

The initiator first says who its user is and asks for the CHILD_SA; nothing of EAP leaves it before the responder's AUTH
was verified and names whom the application expects.  EAP's key then goes into a second AUTH of both ends, which ties
the user to this IKE_SA.  With EAP_ONLY_AUTHENTICATION the responder leaves its own AUTH out and is proven by EAP-TLS.

ExpectMachineProof, ExpectEapRequest and ExpectKeyProof are the initiator; ExpectEapResponse and ExpectUserProof the
responder.  Which user is proven how is keying.eap's.  A failed user is the end of everything: also of what the machine
has proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...clock import utc_at
from ...errors import AuthenticationFailed, PeerMisbehaved, SecureSocketError, WireError
from ...identity.names import IkeId, PeerTargetName, canonical_id, describe_id
from ...identity.users import UserName, read_user_name_untrusted
from ...secret import Secret
from ...types import Principal
from ...wire.eap import MAX_NAME
from ...wire.id_types import IdType
from ...wire.ikev2.payloads import Authentication, Eap, Identification, Notify, Payload
from ...wire.numbers import ExchangeType, NotifyType, PayloadType
from ..contract import UserProof
from ..eap.exchange import EapPeer, EapServer, PeerMethod, ProvenUser, ServerMethod
from .authentication import ProvenPeer, identification
from .beginning import Beginning
from .core import Core, Opened, Refusal, error_notify, find, notifies, refusal_error, refuse_unknown_critical
from .first_child import FirstChildAnswer, FirstChildWish
from .ike_sa import IkeSa
from .informational import answer_informational
from .ppk import judged_keys, keys_of_reply, proof_payloads
from .proof import Proof, admit, initiator_done, our_principal, our_responder_id, responder_done, tell_why, wanted_id

__all__ = ["answer_user", "begin_user_auth"]

EAP_ONLY: Final = Notify(NotifyType.EAP_ONLY_AUTHENTICATION)
_NAMES: Final = frozenset({IdType.ID_RFC822_ADDR, IdType.ID_FQDN, IdType.ID_KEY_ID})
"""IDs whose data may be a user's name."""


# the initiator


def begin_user_auth(core: Core, sa: IkeSa, beginning: Beginning, user: UserProof, now: float) -> None:
    """Say who the user is, ask for the CHILD_SA, prove nothing yet."""
    ExpectMachineProof(core, sa, beginning, user).ask(now)


class _Asked:
    """What the initiator's states hand on."""

    def __init__(self, core: Core, sa: IkeSa, beginning: Beginning, user: UserProof) -> None:
        self.core = core
        self.sa = sa
        self.beginning = beginning
        self.proof = Proof(core, sa, beginning)
        self.wish = FirstChildWish(core, sa, beginning)
        self.our_id = Identification(PayloadType.IDi, user.ike_id.id_type, user.ike_id.data)
        self.our = user.principal
        self.peer_id: Identification | None = None
        self.machine: ProvenPeer | None = None

    def payload_error(self, opened: Opened) -> SecureSocketError | None:
        """The error that a reply with an error notify stands for."""
        refused = error_notify(opened.payloads)
        return None if refused is None else refusal_error(refused, f"the user, who is said to be {self.our.name}")


class ExpectMachineProof:
    """Initiator: named the user, waits for the responder's certificate, AUTH and first EAP request."""

    def __init__(self, core: Core, sa: IkeSa, beginning: Beginning, user: UserProof) -> None:
        self._asked = _Asked(core, sa, beginning, user)
        self._user = user

    def ask(self, now: float) -> None:
        """Send IKE_AUTH without AUTH."""
        asked, wanted = self._asked, wanted_id(self._asked.core)
        payloads: list[Payload] = [asked.our_id, *asked.proof.certificate_request()]
        if wanted is not None:
            payloads.append(identification(PayloadType.IDr, wanted))
        if self._offers_eap_only:
            payloads.append(EAP_ONLY)
        payloads += asked.wish.payloads()
        asked.core.request(asked.sa, ExchangeType.IKE_AUTH, tuple(payloads), self, now)

    @property
    def _offers_eap_only(self) -> bool:
        # RFC 5998 4: only with a method that proves the responder too, against dictionaries: EAP-TLS, never MSCHAPv2
        return self._asked.core.config.eap_only and self._user.certificate is not None

    def handle_reply(self, opened: Opened, now: float) -> None:
        """Only a responder that is whom we expect hears of EAP."""
        refuse_unknown_critical(opened.payloads)
        asked = self._asked
        asked.sa.window.reply_received()
        peer_id = find(opened.payloads, Identification, PayloadType.IDr)
        request = find(opened.payloads, Eap)
        auth = find(opened.payloads, Authentication)
        if peer_id is None or request is None:
            raise asked.payload_error(opened) or PeerMisbehaved("the responder's IKE_AUTH names nobody, or has no EAP")
        asked.peer_id = peer_id
        try:
            if auth is not None or not self._offers_eap_only:
                # the responder's first AUTH is always without a PPK (RFC 8784 3)
                asked.machine = asked.proof.judge(
                    opened.payloads, peer_id, auth, asked.sa.keys, now, only_signature=True
                )
            method = self._method(now)
            peer = EapPeer(asked.our.name.encode(), method, may_refuse=asked.machine is not None)
        except SecureSocketError as error:
            tell_why(asked.core, asked.sa, error, now)
            raise
        ExpectEapRequest(asked, peer, method).respond(request, now)

    def _method(self, now: float) -> PeerMethod:
        config, user = self._asked.core.config, self._user
        expected = config.expected_peer
        if not isinstance(expected, PeerTargetName):
            raise AuthenticationFailed("a user is proven to nobody but a machine that was named")
        if user.certificate is not None:
            from ..eap.tls import CertificatePeer

            at = utc_at(now, config.wall_offset_s)
            return CertificatePeer(user.certificate, config.identity, expected, at)
        from ..eap.mschapv2 import PasswordPeer

        method = PasswordPeer(user.name, user.password, self._asked.core.entropy)
        user.password.wipe()
        self._asked.core.at_end(method.wipe)
        return method


class ExpectEapRequest:
    """Initiator: answered EAP, waits for what the responder says to it."""

    def __init__(self, asked: _Asked, peer: EapPeer, method: PeerMethod) -> None:
        self._asked = asked
        self._peer = peer
        self._method = method

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The next EAP request, or the end of EAP."""
        refuse_unknown_critical(opened.payloads)
        self._asked.sa.window.reply_received()
        request = find(opened.payloads, Eap)
        if request is None:
            raise self._asked.payload_error(opened) or PeerMisbehaved("the responder ended EAP without a word")
        self.respond(request, now)

    def respond(self, request: Eap, now: float) -> None:
        """Answer one EAP packet; after Success prove ourselves by EAP's key."""
        asked = self._asked
        try:
            answer = self._peer.handle_request(request.data)
            if isinstance(answer, Secret):
                ExpectKeyProof(asked, self._proven_machine(), answer).ask(now)
                return
        except SecureSocketError as error:
            if not self._peer.refused:  # EAP-Failure: the responder has ended it already
                tell_why(asked.core, asked.sa, error, now)
            raise
        asked.core.request(asked.sa, ExchangeType.IKE_AUTH, (Eap(answer),), self, now)

    def _proven_machine(self) -> ProvenPeer:
        if self._asked.machine is not None:
            return self._asked.machine
        server, peer_id = self._method.proven_server(), self._asked.peer_id
        if server is None or peer_id is None:
            raise AuthenticationFailed("the responder proved itself neither by AUTH nor by EAP")
        expected = wanted_id(self._asked.core)
        if expected is not None and not _is_same(expected, IkeId(peer_id.id_type, peer_id.data)):
            raise AuthenticationFailed(
                f"the responder proved to be {server.principal.name} in EAP-TLS and says to be somebody else in IKE",
                reason="other-name",
            )
        return ProvenPeer(server.principal, server.anchor)


def _is_same(one: IkeId, other: IkeId) -> bool:
    try:
        return canonical_id(one) == canonical_id(other)
    except WireError:
        return False


class ExpectKeyProof:
    """Initiator: sent AUTH by EAP's key, waits for the responder's and the CHILD_SA."""

    def __init__(self, asked: _Asked, machine: ProvenPeer, msk: Secret) -> None:
        self._asked = asked
        self._machine = machine
        self._msk = msk
        asked.core.at_end(msk.wipe)

    def ask(self, now: float) -> None:
        """Send IKE_AUTH with AUTH."""
        asked, key = self._asked, self._msk.reveal()
        proof = proof_payloads(asked.sa, asked.beginning, lambda keys: asked.proof.ours_by_key(asked.our_id, key, keys))
        asked.core.request(asked.sa, ExchangeType.IKE_AUTH, proof, self, now)

    def handle_reply(self, opened: Opened, now: float) -> None:
        """Only when the responder has the key too is the flow ready."""
        refuse_unknown_critical(opened.payloads)
        asked = self._asked
        core, sa = asked.core, asked.sa
        sa.window.reply_received()
        refused = error_notify(opened.payloads)
        auth = find(opened.payloads, Authentication)
        if auth is None or asked.peer_id is None:
            raise asked.payload_error(opened) or PeerMisbehaved("the responder's last IKE_AUTH has no AUTH")
        try:
            keys = keys_of_reply(sa, asked.beginning, opened.payloads)
            asked.proof.judge_by_key(asked.peer_id, auth, self._msk.reveal(), keys)
            if refused is not None:
                raise refusal_error(refused, "the protection of this flow")
            sa.prove_with(keys)
            child = asked.wish.accept(opened.payloads, now)
        except SecureSocketError as error:
            tell_why(core, sa, error, now)
            raise
        initiator_done(core, sa, asked.beginning, child, self._machine, asked.our, now)


# the responder


class _Answered:
    """What the responder's states hand on; ``wish`` is the first request's payloads, which ask for the CHILD_SA."""

    def __init__(
        self, core: Core, sa: IkeSa, beginning: Beginning, peer_id: Identification, wish: Sequence[Payload]
    ) -> None:
        self.core = core
        self.sa = sa
        self.beginning = beginning
        self.proof = Proof(core, sa, beginning)
        self.answer = FirstChildAnswer(core, sa, beginning)
        self.peer_id = peer_id
        self.wish = wish
        self.our_id = our_responder_id(core, wish)

    @property
    def source(self) -> str:
        """Where tries are counted by."""
        return self.core.config.peer_address[0]


def answer_user(
    core: Core, sa: IkeSa, beginning: Beginning, opened: Opened, peer_id: Identification, now: float
) -> None:
    """The initiator named a user and sent no AUTH: prove ourselves and begin EAP.  AuthenticationFailed."""
    config = core.config
    if config.identity.method != "x509":
        # RFC 7296 2.16: a user is proven to nobody but a machine that signs
        raise AuthenticationFailed("a user wants to be proven, and this end has no certificate under its policy")
    if not config.user_tries.may_try(config.peer_address[0], now):
        raise _too_many_tries()
    answered = _Answered(core, sa, beginning, peer_id, opened.payloads)
    users = config.users
    wants_eap_only = NotifyType.EAP_ONLY_AUTHENTICATION in notifies(opened.payloads)
    eap_only = wants_eap_only and config.eap_only and users is not None and users.certificates
    claimed = _claimed(peer_id)
    methods = _methods(answered, now, only_tls=eap_only)
    server = EapServer(methods, claimed, core.entropy.token(1)[0])
    proof: tuple[Payload, ...] = (answered.our_id,)
    if not eap_only:
        # RFC 8784 3: without a PPK, which the initiator has not named yet
        auth = answered.proof.ours(answered.our_id, IkeId(peer_id.id_type, peer_id.data), sa.keys)
        proof = (answered.our_id, *answered.proof.certificates(), auth)
    sa.expecting = ExpectEapResponse(answered, server)
    core.reply(sa, opened, (*proof, Eap(server.begin())))


def _claimed(peer_id: Identification) -> UserName | None:
    """Who the initiator says its user is; None where its ID names no user and it has to be asked."""
    if peer_id.id_type not in _NAMES:
        return None
    try:
        return read_user_name_untrusted(peer_id.data)
    except WireError:
        return None


def _methods(answered: _Answered, now: float, *, only_tls: bool) -> list[ServerMethod]:
    """What this end can prove users by, the same for every user, so that nobody learns who is known."""
    core = answered.core
    config, users = core.config, core.config.users
    found: list[ServerMethod] = []
    if users is not None and users.certificates:
        from ..eap.tls import CertificateServer

        peer_id = answered.peer_id
        subject = IkeId(peer_id.id_type, peer_id.data) if peer_id.id_type == IdType.ID_DER_ASN1_DN else None
        found.append(CertificateServer(config.identity, subject, utc_at(now, config.wall_offset_s)))
    if users is not None and users.by_password and not only_tls:
        from ..eap.mschapv2 import PasswordServer

        # RFC 2759 3: a name as people read it
        our_name = describe_id(IkeId(answered.our_id.id_type, answered.our_id.data)).encode()[:MAX_NAME]
        found.append(PasswordServer(users, our_name, core.entropy))
    return found


def _too_many_tries() -> AuthenticationFailed:
    return AuthenticationFailed("too many failed users from this address: it has to wait", reason="too-many-tries")


class ExpectEapResponse:
    """Responder: asked in EAP, waits for the answer."""

    def __init__(self, answered: _Answered, server: EapServer) -> None:
        self._answered = answered
        self._server = server
        self._counted = False

    def handle_request(self, opened: Opened, now: float) -> None:
        """One EAP response; the reply is the next request, or how it ended."""
        refuse_unknown_critical(opened.payloads)
        answered, server = self._answered, self._server
        core, tries = answered.core, answered.core.config.user_tries
        if opened.exchange_type == ExchangeType.INFORMATIONAL:
            answer_informational(core, answered.sa, opened, now)  # it tells us why it leaves (RFC 7296 2.21.2)
            return
        response = find(opened.payloads, Eap)
        if opened.exchange_type != ExchangeType.IKE_AUTH or response is None:
            error = PeerMisbehaved("the initiator did not answer in EAP")
            raise Refusal(NotifyType.INVALID_SYNTAX, error=error)
        if not server.refused and not tries.may_try(answered.source, now):
            # asked again, so that many at once try no more often than one after the other
            raise Refusal(NotifyType.AUTHENTICATION_FAILED, error=_too_many_tries())
        try:
            packet = server.handle_response(response.data)
        except PeerMisbehaved as error:
            raise Refusal(NotifyType.INVALID_SYNTAX, error=error) from None
        if server.refused and not self._counted:
            self._counted = True
            tries.failed(answered.source, now)
        if server.proven is not None:
            answered.sa.expecting = ExpectUserProof(answered, server.proven)
        core.reply(answered.sa, opened, (Eap(packet),))
        if server.failure is not None:
            core.fail(server.failure)


class ExpectUserProof:
    """Responder: EAP has proven the user, waits for AUTH by EAP's key."""

    def __init__(self, answered: _Answered, user: ProvenUser) -> None:
        self._answered = answered
        self._user = user
        answered.core.at_end(user.msk.wipe)

    def handle_request(self, opened: Opened, now: float) -> None:
        """The user's AUTH; then whether it is let in, our own AUTH and the CHILD_SA."""
        refuse_unknown_critical(opened.payloads)
        answered, user = self._answered, self._user
        core, sa, peer_id = answered.core, answered.sa, answered.peer_id
        if opened.exchange_type == ExchangeType.INFORMATIONAL:
            answer_informational(core, sa, opened, now)
            return
        if opened.exchange_type != ExchangeType.IKE_AUTH:
            error = PeerMisbehaved("the initiator did not prove its user in IKE_AUTH")
            raise Refusal(NotifyType.INVALID_SYNTAX, error=error)
        key = user.msk.reveal()
        proven = ProvenPeer(user.principal, user.anchor)
        try:
            settled = judged_keys(core.config, sa, answered.beginning, opened.payloads, peer_id)
            answered.proof.judge_by_key(peer_id, settled.auth, key, settled.keys)
            _check_expected(core, user.principal)
            admit(core, proven)
        except SecureSocketError as error:
            raise Refusal(NotifyType.AUTHENTICATION_FAILED, error=error) from None
        auth = answered.proof.ours_by_key(answered.our_id, key, settled.keys)
        sa.prove_with(settled.keys)
        our = our_principal(core, answered.our_id)
        proof = (auth, *settled.reply)
        responder_done(core, sa, answered.beginning, opened, answered.answer, answered.wish, proof, proven, our, now)


def _check_expected(core: Core, user: Principal) -> None:
    """Where the application has said who must be at that address, a user is it only by its own name."""
    expected = core.config.expected_peer
    if expected is None:
        return
    if not isinstance(expected, PeerTargetName) or expected.form != "user" or expected.principal != user.name:
        raise AuthenticationFailed(
            f"the user {user.name} was proven, and {expected} was expected at this address", reason="other-name"
        )
