"""One day's certificates of an authority made for one test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Proofs(NamedTuple):
    """What both ends prove themselves with: ours in the words of our_socket.py and our_end.py, and the peer's."""

    ours: dict[str, str]
    anchor: x509.Certificate
    leaf: x509.Certificate
    key: Any


KEYS: Final[dict[str, Callable[[], Any]]] = {
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def proofs(kind: str) -> Proofs:
    """Certificates of one authority for a.test, which is us, and b.test; keys of a kind."""
    authority = ec.generate_private_key(ec.SECP256R1())
    anchor = issued("the authority", authority.public_key(), authority, ca=True)
    key, peers = KEYS[kind](), KEYS[kind]()
    ours = {
        "certificate": pem(issued("a.test", key.public_key(), authority)),
        "key": key_pem(key),
        "trust": pem(anchor),
    }
    return Proofs(ours, anchor, issued("b.test", peers.public_key(), authority), peers)


def issued(
    name: str, public_key: Any, authority: Any, *, ca: bool = False, issuer: str | None = None
) -> x509.Certificate:
    """One day's certificate, of a user where the name is a mailbox.

    Without ``issuer`` it is the authority's own, or the authority's.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer or (name if ca else "the authority"))])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
    )
    if ca:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        alternative = x509.RFC822Name(name) if "@" in name else x509.DNSName(name)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    return builder.sign(authority, hashes.SHA256())


def pem(found: x509.Certificate) -> str:
    return found.public_bytes(Encoding.PEM).decode()


def key_pem(key: Any) -> str:
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return data.decode()


def write_for_swanctl(folder: Path, anchor: x509.Certificate, leaf: x509.Certificate, key: Any) -> None:
    """Where swanctl looks for them."""
    for place, content in (
        ("x509ca/ca.pem", pem(anchor)),
        ("x509/peer.pem", pem(leaf)),
        ("pkcs8/peer.pem", key_pem(key)),
    ):
        path = folder / "swanctl" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
