"""What this process proves itself with: a certificate chain and its key, or secrets shared with named peers.

Frozen values.  They are shown by names and fingerprints; keys and secrets are in no repr.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from ..errors import LocalMisuse, WireError
from ..secret import Secret
from ..wire.id_types import IdType
from .certificates import LeafCertificate, WeakKey, pin_of, read_leaf_untrusted, signature_fault
from .names import IkeId, canonical_id, parse_peer_target_name, principal_name, printable

__all__ = [
    "MIN_PSK_BYTES",
    "NOBODY",
    "AnonymousCredential",
    "CertificateCredential",
    "PrivateKey",
    "PskCredential",
    "certificate_credential",
    "psk_credential",
]

PrivateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

# A secret shorter than 128 bits is found by an attacker on the path who tries them all (RFC 7296 2.15).
MIN_PSK_BYTES: Final = 16


@dataclass(frozen=True, slots=True, repr=False)
class CertificateCredential:
    """A chain of DER certificates, leaf first, the leaf's private key, and the names that the leaf gives us."""

    chain: tuple[bytes, ...]
    private_key: PrivateKey
    ids: tuple[IkeId, ...]
    fingerprint: str
    pin: str

    def __repr__(self) -> str:
        names = ", ".join(principal_name(each) for each in self.ids)
        return f"CertificateCredential({names}; certificate {self.fingerprint[:16]}...)"


@dataclass(frozen=True, slots=True, repr=False)
class PskCredential:
    """Our name, and the secret that we share with each peer, by the peer's canonical ID."""

    id: IkeId
    secrets: Mapping[IkeId, Secret]

    def __repr__(self) -> str:
        peers = ", ".join(principal_name(each) for each in self.secrets)
        return f"PskCredential({principal_name(self.id)}; peers {peers})"


NOBODY: Final = IkeId(IdType.ID_NULL, b"")


@dataclass(frozen=True, slots=True)
class AnonymousCredential:
    """Nothing to show: NULL authentication under ID_NULL (RFC 7619)."""

    id: IkeId = NOBODY


def certificate_credential(chain: tuple[bytes, ...], private_key: object, source: str) -> CertificateCredential:
    """Check that a chain and a key belong together and can be used for IKE; LocalMisuse says why they cannot."""
    try:
        leaf = read_leaf_untrusted(chain[0])
    except WeakKey as error:
        raise LocalMisuse(f"{source}: no peer takes this certificate: it has {error}") from None
    except WireError as error:
        raise LocalMisuse(f"{source}: {error}") from None
    if not isinstance(private_key, PrivateKey):
        raise LocalMisuse(f"{source}: a private key of type {type(private_key).__name__} cannot sign for IKE")
    if pin_of(private_key.public_key()) != pin_of(leaf.public_key):
        raise LocalMisuse(f"{source}: the private key is not the certificate's; the leaf certificate comes first")
    fault = signature_fault(leaf.certificate) or leaf.usage_fault
    if fault:
        raise LocalMisuse(f"{source}: no peer takes this certificate: {fault}")
    ids = _own_ids(leaf)
    if not ids:
        raise LocalMisuse(
            f"{source}: the certificate names nobody: it needs a subjectAltName "
            "(a host name, an address or a SPIFFE ID); the common name is never used"
        )
    return CertificateCredential(chain, private_key, ids, leaf.fingerprint, pin_of(leaf.public_key))


def _own_ids(leaf: LeafCertificate) -> tuple[IkeId, ...]:
    """Every name that the leaf gives, in its own order; the whole subject last."""
    ids = list(dict.fromkeys(leaf.alternative_names))
    subject = leaf.subject_id
    if subject is not None and _is_name(subject):
        ids.append(subject)
    return tuple(ids)


def _is_name(ike_id: IkeId) -> bool:
    try:
        canonical_id(ike_id)
    except WireError:
        return False
    return True


def psk_credential(name: str, peers: Mapping[str, bytes | bytearray | str | Secret]) -> PskCredential:
    """Read names and secrets; LocalMisuse for our own name among the peers, empty names, secrets under 16 bytes."""
    own = _id_of(name)
    secrets: dict[IkeId, Secret] = {}
    for peer, value in peers.items():
        peer_id = _id_of(peer)
        if peer_id == own:
            raise LocalMisuse(f"{printable(peer)} is our own name: a secret shared with oneself proves nothing")
        if peer_id in secrets:
            raise LocalMisuse(f"{printable(peer)} is there twice, under two spellings of one name")
        if not isinstance(value, (bytes, bytearray, str, Secret)):
            raise LocalMisuse(f"the secret shared with {printable(peer)} is bytes or text, not {type(value).__name__}")
        secret = Secret(value)
        if len(secret) < MIN_PSK_BYTES:
            raise LocalMisuse(
                f"the secret shared with {printable(peer)} has {len(secret)} bytes and needs at least "
                f"{MIN_PSK_BYTES}: use secrets.token_bytes(32)"
            )
        secrets[peer_id] = secret
    return PskCredential(own, MappingProxyType(secrets))


def _id_of(name: str) -> IkeId:
    target = parse_peer_target_name(name)
    if target.ike_id is None:
        raise LocalMisuse(f"{printable(name)}: a pinned key is no name to share a secret under")
    return target.ike_id
