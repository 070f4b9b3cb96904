"""EAP-TLS, both ends: a TLS handshake cut into EAP packets (RFC 5216, RFC 9190).

The user shows a certificate, the server shows its own.  With TLS 1.3 success counts only after the server's protected
indication of it; an EAP-Success by itself, which nothing protects, is believed by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ...errors import AuthenticationFailed, LocalMisuse, PeerMisbehaved, WireError
from ...identity.certificates import read_leaf_untrusted
from ...identity.identity import Identity
from ...identity.names import IkeId, PeerTargetName, mailbox_id, principal_kind
from ...identity.users import UserName
from ...secret import Secret
from ...types import Principal
from ...wire.eap import EapTlsData, EapType, parse_tls_data_untrusted, write_tls_data
from .exchange import ProvenServer, ProvenUser, UserNotProven
from .tls_handshake import TlsFailed, TlsHandshake

__all__ = ["CertificatePeer", "CertificateServer", "TlsFragments"]

FRAGMENT: Final = 1024
"""Bytes of TLS in one packet.  With the headers of EAP and IKE it stays below the smallest path MTU (1280), so that
IKE need not fragment it again where it cannot."""

MAX_TLS_MESSAGE: Final = 16384
"""Of one flight, put together: semantics "Limits against strangers", 16 KiB before authentication.  RFC 5216 2.1.5
thinks of 64 KB; ten certificates with RSA keys are less than 16 KiB."""

_ACKNOWLEDGED: Final = write_tls_data(EapTlsData())


class TlsFragments:
    """A flight in each direction, in pieces (RFC 5216 2.1.5)."""

    def __init__(self) -> None:
        self._received = b""
        self._total: int | None = None
        self._waiting = b""

    @property
    def sending(self) -> bool:
        """Whether pieces of ours wait for an acknowledgement."""
        return bool(self._waiting)

    def take(self, piece: EapTlsData) -> bytes | None:
        """The other end's flight when it is whole, None when the piece is to be acknowledged; PeerMisbehaved."""
        if piece.total is not None:
            if self._received and piece.total != self._total:
                raise PeerMisbehaved("the peer changes the length of its EAP-TLS message between fragments")
            self._total = piece.total
        self._received += piece.data
        too_long = max(len(self._received), self._total or 0) > MAX_TLS_MESSAGE
        if too_long or (piece.more and not piece.data):
            raise PeerMisbehaved(f"the peer's EAP-TLS message has more than {MAX_TLS_MESSAGE} bytes, or never ends")
        if piece.more:
            return None
        whole, total = self._received, self._total
        self._received, self._total = b"", None
        if total is not None and total != len(whole):
            raise PeerMisbehaved("the peer's EAP-TLS message has not the length that it told")
        return whole

    def put(self, flight: bytes) -> bytes:
        """The first packet's data of a flight of ours."""
        if len(flight) <= FRAGMENT:
            return write_tls_data(EapTlsData(flight))  # RFC 9190 2.1.9: no length on what is in one piece
        self._waiting = flight[FRAGMENT:]
        return write_tls_data(EapTlsData(flight[:FRAGMENT], total=len(flight), more=True))

    def next(self) -> bytes:
        """The next packet's data."""
        piece, self._waiting = self._waiting[:FRAGMENT], self._waiting[FRAGMENT:]
        return write_tls_data(EapTlsData(piece, more=bool(self._waiting)))


class CertificateServer:
    """Asks for a user's certificate and shows the machine's own; ``identity`` is the machine's, and whom it trusts."""

    eap_type: Final = EapType.TLS

    def __init__(self, identity: Identity, claimed_id: IkeId | None, at: datetime) -> None:
        self._identity = identity
        self._claimed_id = claimed_id
        self._at = at
        self._fragments = TlsFragments()
        self._begun: TlsHandshake | None = None
        self._user: Principal | None = None
        self._anchor = ""
        self._failed: TlsFailed | None = None
        self._done = False

    @property
    def refused(self) -> bool:
        """Whether the certificate was refused."""
        return self._failed is not None

    @property
    def _handshake(self) -> TlsHandshake:
        """Made for the first flight: a stranger who says no to EAP-TLS, or nothing, costs none."""
        if self._begun is None:
            anchors = self._identity.trust.certificates
            self._begun = TlsHandshake(self._identity, anchors, self._judge, server=True)
        return self._begun

    def begin(self, claimed: UserName | None, identifier: int) -> bytes:
        """EAP-TLS/Start."""
        if claimed is not None and claimed.domain:
            self._claimed_id = _mailbox(claimed.principal)
        return write_tls_data(EapTlsData(start=True))

    def answer(self, data: bytes, identifier: int) -> bytes | ProvenUser:
        """The user's next flight, or its acknowledgement of ours."""
        piece = parse_tls_data_untrusted(data)
        if self._fragments.sending:
            if piece.data or piece.more:
                raise UserNotProven("the user interrupts our EAP-TLS message")
            return self._fragments.next()
        if self._failed is not None:
            # RFC 5216 2.1.3: the alert was read; a new handshake is not begun
            raise UserNotProven(str(self._failed))
        flight = self._fragments.take(piece)
        if flight is None:
            return _ACKNOWLEDGED
        if self._done:
            return self._proven(flight)
        try:
            answer = self._handshake.advance(flight)
        except TlsFailed as error:
            self._failed = error
            if not error.alert:
                raise UserNotProven(str(error)) from None
            answer = error.alert
        if self._handshake.finished:
            self._done = True
            if self._handshake.is_1_3:
                answer += self._handshake.send_success()
        return self._fragments.put(answer)

    def _proven(self, flight: bytes) -> ProvenUser:
        if flight or self._user is None:
            # RFC 5216 2.1.3: a user that does not take our certificate says so in an alert
            raise UserNotProven("the user ended EAP-TLS with an alert: it does not take this machine's certificate")
        return ProvenUser(self._user, self._anchor, Secret(self._handshake.export_msk()))

    def _judge(self, chain: Sequence[bytes]) -> None:
        claimed = self._claimed_id or _first_mailbox(chain[0])
        proven = self._identity.validate_certificate(claimed, chain, self._at, None)
        if proven.principal.kind != "user":
            raise AuthenticationFailed(
                f"{proven.principal.name} is a machine's name, and EAP-TLS is for users here: its certificate needs a "
                "mailbox as a subjectAltName",
                reason="no-user",
            )
        self._user = Principal(proven.principal.name, "user", "eap", proven.principal.evidence)
        self._anchor = proven.anchor


class CertificatePeer:
    """Proves ``user`` by its certificate to the machine ``expected``, whom ``machine`` (our own identity) judges."""

    eap_type: Final = EapType.TLS

    def __init__(self, user: Identity, machine: Identity, expected: PeerTargetName, at: datetime) -> None:
        self._machine = machine
        self._expected = expected
        self._at = at
        self._fragments = TlsFragments()
        self._handshake = TlsHandshake(user, (), self._judge, server=False)
        self._failed: TlsFailed | None = None
        self._started = False
        self._done = False
        self._server: ProvenServer | None = None

    def respond(self, data: bytes) -> bytes:
        """To the start, to each flight of the server's, to its acknowledgements."""
        piece = parse_tls_data_untrusted(data)
        if piece.start:
            if self._started or piece.data:
                raise PeerMisbehaved("the responder starts EAP-TLS twice")
            self._started = True
            return self._fragments.put(self._handshake.advance(b""))
        if not self._started:
            raise PeerMisbehaved("the responder did not start EAP-TLS")
        if self._fragments.sending:
            if piece.data or piece.more:
                raise PeerMisbehaved("the responder interrupts our EAP-TLS message")
            return self._fragments.next()
        flight = self._fragments.take(piece)
        return _ACKNOWLEDGED if flight is None else self._take(flight)

    def _take(self, flight: bytes) -> bytes:
        if self._failed is not None or self._done:
            raise PeerMisbehaved("the responder goes on with EAP-TLS after its end")
        try:
            if self._handshake.finished:
                self._done = self._handshake.read_success(flight)
                return _ACKNOWLEDGED
            answer = self._handshake.advance(flight)
        except TlsFailed as error:
            self._failed = error
            return self._fragments.put(error.alert)  # RFC 5216 2.1.3: the server answers it with Failure
        self._done = self._handshake.finished and not self._handshake.is_1_3
        return self._fragments.put(answer)

    def _judge(self, chain: Sequence[bytes]) -> None:
        expected_id = self._expected.ike_id or _anybody(chain[0])
        proven = self._machine.validate_certificate(expected_id, chain, self._at, self._expected)
        self._server = ProvenServer(proven.principal, proven.anchor)

    def succeed(self) -> Secret:
        """The MSK; with TLS 1.3 only after the protected indication."""
        if not self._done or self._server is None:
            raise self._failed or AuthenticationFailed("EAP-Success came before EAP-TLS was done: nothing is proven")
        return Secret(self._handshake.export_msk())

    def fail(self) -> AuthenticationFailed:
        """What our own end did not take, or that the server did not take our certificate."""
        return self._failed or AuthenticationFailed(
            "the responder did not accept the user's certificate; its own log says why", reason="user"
        )

    def wipe(self) -> None:
        """Nothing that is ours to wipe: the key belongs to the user's identity."""

    def proven_server(self) -> ProvenServer | None:
        """By its TLS certificate."""
        return self._server


def _mailbox(text: str) -> IkeId | None:
    try:
        return mailbox_id(text)
    except WireError:
        return None


def _first_mailbox(leaf: bytes) -> IkeId:
    """The certificate's own word on whose it is, where its holder said nothing of use."""
    found = [each for each in _names(leaf) if principal_kind(each) == "user"]
    if not found:
        raise AuthenticationFailed(
            "the certificate names no user: it needs a mailbox as a subjectAltName", reason="no-user"
        )
    return found[0]


def _anybody(leaf: bytes) -> IkeId:
    """For a pinned key, which is the principal whatever the certificate says."""
    found = _names(leaf)
    return found[0] if found else IkeId(0, b"")


def _names(leaf: bytes) -> tuple[IkeId, ...]:
    try:
        return tuple(read_leaf_untrusted(leaf).alternative_names)
    except (WireError, LocalMisuse) as error:
        raise AuthenticationFailed(f"the certificate cannot be read: {error}", reason="malformed-certificate") from None
