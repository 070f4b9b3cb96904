"""A TLS handshake over bytes alone: pyOpenSSL between two memory buffers (RFC 5216 2, RFC 9190 2.1).

Both ends show certificates, nothing is resumed, and the keys are exported.  OpenSSL does TLS; whether the other end's
certificates will do, and whose they are, is said by ``judge`` before anything that depends on it is sent.  OpenSSL
takes its randomness from itself, as it does for every key exchange.  What carries the bytes is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from ...errors import AuthenticationFailed
from ...identity.identity import Identity

__all__ = ["TlsFailed", "TlsHandshake"]

# ECDHE and AEAD alone for TLS 1.2; TLS 1.3 has nothing else (RFC 9190 2.4)
_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_LEGACY_SERVER_CONNECT: Final = 0x4
"""SSL_OP_LEGACY_SERVER_CONNECT: a server of TLS 1.2 need not know RFC 5746 (strongSwan's does not).  What that protects
are data sent before a renegotiation: here nobody renegotiates, nothing is sent but the handshake, and the key that is
exported from it goes into AUTH."""

_OPTIONS: Final = (
    SSL.OP_NO_COMPRESSION
    | SSL.OP_NO_TICKET
    | SSL.OP_NO_RENEGOTIATION
    | SSL.OP_CIPHER_SERVER_PREFERENCE
    | _LEGACY_SERVER_CONNECT
)
_READ: Final = 16384
_LABEL_1_2: Final = b"client EAP encryption"  # RFC 5216 2.3
_LABEL_1_3: Final = b"EXPORTER_EAP_TLS_Key_Material"  # RFC 9190 2.3
_TYPE: Final = b"\x0d"
KEY_MATERIAL_LENGTH: Final = 128
MSK_LENGTH: Final = 64

SUCCESS: Final = b"\0"
"""The protected success indication: one byte of application data (RFC 9190 2.5)."""

Judge = Callable[[Sequence[bytes]], None]


class TlsFailed(AuthenticationFailed):
    """The handshake failed; ``alert`` is what is still to be sent."""

    def __init__(self, message: str, alert: bytes, *, reason: str = "tls") -> None:
        super().__init__(message, reason=reason)
        self.alert = alert


class TlsHandshake:
    """One handshake.  ``credential`` is proven; ``authorities``: whose names a server asks its client for.

    ``judge``: handed the other end's DER chain as it was shown, leaf first; raises AuthenticationFailed.
    """

    def __init__(
        self, credential: Identity, authorities: Sequence[x509.Certificate], judge: Judge, *, server: bool
    ) -> None:
        self._judge = judge
        self._found: dict[int, bytes] = {}
        self._refused: AuthenticationFailed | None = None
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(_CIPHERS)
        context.set_options(_OPTIONS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        leaf, *others = (x509.load_der_x509_certificate(each) for each in credential.certificate_chain)
        context.use_certificate(leaf)
        for each in others:
            context.add_extra_chain_cert(each)
        context.use_privatekey(credential.private_key)
        for each in authorities:
            context.add_client_ca(each)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        self._connection = SSL.Connection(context, None)
        if server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
        self.finished = False
        self.judged = False

    @property
    def is_1_3(self) -> bool:
        """Whether TLS 1.3 was agreed on; asked when it is finished."""
        return self._connection.get_protocol_version() == SSL.TLS1_3_VERSION

    def advance(self, received: bytes) -> bytes:
        """Take the other end's messages; what is to be sent, which may be nothing.  TlsFailed ends it."""
        if received:
            self._connection.bio_write(received)
        if not self.finished:
            try:
                self._connection.do_handshake()
                self.finished = self.judged
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                raise self._failure(error) from None
        return self._to_send()

    def send_success(self) -> bytes:
        """The protected success indication, as the server."""
        self._connection.send(SUCCESS)
        return self._to_send()

    def read_success(self, received: bytes) -> bool:
        """Whether the server's protected success indication came; TlsFailed for an alert or other data."""
        self._connection.bio_write(received)
        try:
            data = self._connection.recv(_READ)
        except SSL.WantReadError:
            return False  # post-handshake messages, such as tickets that nobody asked for
        except SSL.Error as error:
            raise self._failure(error) from None
        if data != SUCCESS:
            raise TlsFailed("the responder sends application data in EAP-TLS (RFC 9190 2.1.1)", b"")
        return True

    def export_msk(self) -> bytes:
        """The MSK, 64 bytes (RFC 5216 2.3, RFC 9190 2.3)."""
        # RFC 9190 2.3: the full length is asked for, whatever part of it is used
        if self.is_1_3:
            material = self._connection.export_keying_material(_LABEL_1_3, KEY_MATERIAL_LENGTH, _TYPE)
        else:
            material = self._connection.export_keying_material(_LABEL_1_2, KEY_MATERIAL_LENGTH)
        return material[:MSK_LENGTH]

    def _to_send(self) -> bytes:
        pieces = []
        while True:
            try:
                pieces.append(self._connection.bio_read(_READ))
            except SSL.WantReadError:
                return b"".join(pieces)

    def _failure(self, error: SSL.Error) -> TlsFailed:
        alert = self._to_send()
        if self._refused is not None:
            return TlsFailed(str(self._refused), alert, reason=self._refused.reason)
        reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
        words = ", ".join(each[-1] for each in reasons) or "the other end ended it"
        return TlsFailed(f"the TLS handshake failed: {words}", alert)

    def _verify(self, connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
        """Called by OpenSSL for each certificate of the chain as far as it was shown; at last for the leaf, depth 0.

        OpenSSL is given no anchor here, so that what it thinks of the chain does not count: ``judge`` has the word.
        """
        self._found[depth] = certificate.to_cryptography().public_bytes(Encoding.DER)
        if depth or not ok:
            return True
        try:
            self._judge([self._found[each] for each in sorted(self._found)])
        except AuthenticationFailed as error:
            self._refused = error
            return False
        self.judged = True
        return True
