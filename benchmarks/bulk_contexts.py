"""Who the two processes of a bulk benchmark are: the same P-256 certificates for TLS 1.3 and for us.

Knows files in a folder, and neither sockets nor what is measured.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from securesock.engine.context import SecurityContext
from securesock.identity.authority import Authority
from securesock.identity.identity import Identity

__all__ = ["SERVER_NAME", "our_context", "tls_context", "write_identities"]

Side: TypeAlias = Literal["client", "server"]

SERVER_NAME: Final = "server.example"


def write_identities(folder: Path) -> None:
    """ca.pem, and certificate and key of both sides."""
    authority = Authority.create("benchmark authority")
    (folder / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    for side in ("client", "server"):
        identity = Identity.ephemeral(f"host/{side}.example", authority=authority)
        key = identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{side}.key").write_bytes(key)
        chain = (x509.load_der_x509_certificate(each) for each in identity.certificate_chain)
        (folder / f"{side}.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))


def tls_context(folder: Path, side: Side) -> ssl.SSLContext:
    """TLS 1.3, both ends proven."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if side == "server" else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / "ca.pem")
    context.load_cert_chain(folder / f"{side}.pem", folder / f"{side}.key")
    return context


def our_context(folder: Path, side: Side) -> SecurityContext:
    """The default policy, both ends proven."""
    certificate, key = str(folder / f"{side}.pem"), str(folder / f"{side}.key")
    return SecurityContext(Identity.from_pem(certificate, key, trust=[str(folder / "ca.pem")]))
