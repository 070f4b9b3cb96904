"""One EAP conversation, either end: identifiers, identity, the choice of a method, and how it ends (RFC 3748 4 and 5).

EapServer asks, EapPeer answers, each for one user in one negotiation.  What proves the user is a method's business
(mschapv2, tls); what carries the packets is the key exchange's.  Lost and repeated packets are none of ours: IKE
carries each exactly once (RFC 7296 3.16).  A machine without I/O: packets in, packets out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from ...errors import AuthenticationFailed, PeerMisbehaved, SecureSocketError, WireError
from ...identity.users import UserName, read_user_name_untrusted
from ...secret import Secret
from ...types import Principal
from ...wire.eap import EapCode, EapPacket, EapType, parse_eap_untrusted, write_eap

__all__ = ["EapPeer", "EapServer", "PeerMethod", "ProvenServer", "ProvenUser", "ServerMethod", "UserNotProven"]

MAX_ROUNDS: Final = 64
"""Requests in one conversation: EAP-TLS with two chains of 16 KiB in fragments of 1 KiB needs about 40."""

_NO_METHOD: Final = 0  # RFC 3748 5.3.1: a Nak that names no alternative


class ProvenUser(NamedTuple):
    """Who was proven, what vouched for it, and the key that binds the proof to the key exchange (64 bytes)."""

    principal: Principal
    anchor: str
    msk: Secret


class ProvenServer(NamedTuple):
    """The machine at the asking end, and the trust anchor that vouched for it."""

    principal: Principal
    anchor: str


class UserNotProven(AuthenticationFailed):
    """The user was not proven.  The peer is told nothing but that; ``str()`` is for our own log."""


class ServerMethod(Protocol):
    """The asking end of a method."""

    @property
    def eap_type(self) -> EapType:
        """Its number."""
        ...

    @property
    def refused(self) -> bool:
        """Whether the user has failed already, although it may not have been told yet."""
        ...

    def begin(self, claimed: UserName | None, identifier: int) -> bytes:
        """The data of its first request; ``claimed`` is who the peer says to be, unproven."""
        ...

    def answer(self, data: bytes, identifier: int) -> bytes | ProvenUser:
        """The next request's data (it will have ``identifier``), or who was proven; UserNotProven ends it."""
        ...


class PeerMethod(Protocol):
    """The answering end of a method, for one user's credential."""

    @property
    def eap_type(self) -> EapType:
        """Its number."""
        ...

    def respond(self, data: bytes) -> bytes:
        """The data of the response to a request's; AuthenticationFailed when the server proved to be somebody else."""
        ...

    def succeed(self) -> Secret:
        """EAP-Success came: the MSK.  AuthenticationFailed when the method had not come to its good end (RFC 3748
        4.2: then it is no success)."""
        ...

    def fail(self) -> AuthenticationFailed:
        """EAP-Failure came: why, as far as this end knows."""
        ...

    def wipe(self) -> None:
        """Overwrite what the user is proven with."""
        ...

    def proven_server(self) -> ProvenServer | None:
        """The machine that this method has proven too, after ``succeed``; None for one that proves the user alone."""
        ...


class EapServer:
    """Asks.  ``methods`` in the order in which they are proposed; ``claimed`` None asks the peer for its identity."""

    def __init__(self, methods: Sequence[ServerMethod], claimed: UserName | None, identifier: int) -> None:
        self._methods = list(methods)
        self._claimed = claimed
        self._identifier = identifier
        self._method: ServerMethod | None = None
        self._agreed = False
        self._rounds = 0
        self.proven: ProvenUser | None = None
        self.failure: SecureSocketError | None = None

    @property
    def refused(self) -> bool:
        """Whether the user has failed already, although it may not have been told yet."""
        return self.failure is not None or (self._method is not None and self._method.refused)

    def begin(self) -> bytes:
        """The first request."""
        if self._claimed is None:
            return self._request(EapType.IDENTITY, b"")
        return self._propose()

    def handle_response(self, packet: bytes) -> bytes:
        """The next packet: a request, or Success or Failure, after which ``proven`` or ``failure`` is set.

        WireError for what is no EAP.
        """
        response = parse_eap_untrusted(packet)
        try:
            return self._answer(response)
        except UserNotProven as error:
            self.failure = error
            return write_eap(EapPacket(EapCode.FAILURE, self._identifier))

    def _answer(self, response: EapPacket) -> bytes:
        if response.code != EapCode.RESPONSE or response.identifier != self._identifier:
            raise PeerMisbehaved("the peer's EAP packet answers no request of ours (RFC 3748 4.1)")
        if self._method is None:
            if response.eap_type != EapType.IDENTITY:
                raise PeerMisbehaved("the peer was asked for its EAP identity and said something else")
            try:
                self._claimed = read_user_name_untrusted(response.data)
            except WireError:
                self._claimed = None  # RFC 9190 2.1.7: "@realm" is a privacy-friendly one
            return self._propose()
        if response.eap_type == EapType.NAK and not self._agreed:
            return self._propose_another(response.data)
        if response.eap_type != self._method.eap_type:
            raise UserNotProven(f"the user answers EAP method {self._method.eap_type} with {response.eap_type}")
        self._agreed = True
        answer = self._method.answer(response.data, self._next_identifier)
        if isinstance(answer, ProvenUser):
            self.proven = answer
            return write_eap(EapPacket(EapCode.SUCCESS, self._identifier))  # RFC 3748 4.2: the last response's
        return self._request(self._method.eap_type, answer)

    def _propose_another(self, wanted: bytes) -> bytes:
        self._methods = [each for each in self._methods if each is not self._method and each.eap_type in wanted]
        if not self._methods:
            raise UserNotProven("the user wants another EAP method than this end accepts")
        return self._propose()

    def _propose(self) -> bytes:
        method = self._method = self._methods[0]
        return self._request(method.eap_type, method.begin(self._claimed, self._next_identifier))

    @property
    def _next_identifier(self) -> int:
        return self._identifier + 1 & 0xFF  # RFC 3748 4.1: another one for each request

    def _request(self, eap_type: EapType, data: bytes) -> bytes:
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise UserNotProven(f"the user was not proven within {MAX_ROUNDS} EAP requests")
        self._identifier = self._next_identifier
        return write_eap(EapPacket(EapCode.REQUEST, self._identifier, eap_type, data))


class EapPeer:
    """Answers.  ``identity`` is told when asked for; ``may_refuse`` False takes no other method to be proposed."""

    def __init__(self, identity: bytes, method: PeerMethod, *, may_refuse: bool = True) -> None:
        self._identity = identity
        self._method = method
        self._may_refuse = may_refuse
        self._rounds = 0
        self.refused = False

    def handle_request(self, packet: bytes) -> bytes | Secret:
        """The response, or the MSK when it was Success.

        AuthenticationFailed: Failure, or the server is not who it should be.  PeerMisbehaved: no EAP, or too much.
        """
        try:
            request = parse_eap_untrusted(packet)
        except WireError as error:
            raise PeerMisbehaved(f"the responder sent no EAP: {error}") from error
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise PeerMisbehaved(f"the responder sent more than {MAX_ROUNDS} EAP requests")
        match request.code:
            case EapCode.SUCCESS:
                return self._method.succeed()
            case EapCode.FAILURE:
                self.refused = True
                raise self._method.fail()
            case EapCode.RESPONSE:
                raise PeerMisbehaved("the responder answers in EAP where it should ask")
        return self._respond(request)

    def _respond(self, request: EapPacket) -> bytes:
        answer_type, data = request.eap_type, b""
        match request.eap_type:
            case EapType.IDENTITY:
                data = self._identity
            case EapType.NOTIFICATION:
                pass  # RFC 3748 5.2: acknowledged; its text is the server's, unproven, and shown to nobody
            case self._method.eap_type:
                try:
                    data = self._method.respond(request.data)
                except WireError as error:
                    raise PeerMisbehaved(f"the responder's EAP cannot be read: {error}") from error
            case _:
                if not self._may_refuse:
                    # RFC 5998 3: the initiator MUST abort at once on a method that proves the user alone
                    raise AuthenticationFailed(
                        f"the responder proved nothing and wants EAP method {request.eap_type}, which proves the user "
                        "alone: only EAP-TLS may stand without the responder's own AUTH"
                    )
                answer_type, data = EapType.NAK, bytes((self._method.eap_type,))
        return write_eap(EapPacket(EapCode.RESPONSE, request.identifier, answer_type, data))
