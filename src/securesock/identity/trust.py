"""The trust anchors of one identity, and path validation up to them (RFC 5280 6).

Validation is OpenSSL's, through pyOpenSSL's X509Store: signatures, names, validity, path length, name constraints
of every type, unknown critical extensions.  One validator for all keys: the verifier of cryptography.x509 takes no
Ed25519 and does not hold a subject against constraints on directory names (docs/identity.md has the figures).
Beside it stand only the rules that OpenSSL leaves to its caller: the allow list of keys and signatures, RFC 4945's
usages, that an intermediate says outright that it is an authority, and revocation lists.

A store is made anew for each validation because its time is part of it; that costs 3 us, and no two threads share
one.  The library is imported when the first anchors are loaded, so that importing securesock stays cheap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..errors import AuthenticationFailed, LocalMisuse
from .certificates import LeafCertificate, authority_fault, key_fault, signature_fault
from .names import printable
from .revocation import RevocationList, check_revocation

if TYPE_CHECKING:
    from OpenSSL import crypto

__all__ = ["TrustAnchors", "label_of"]

# X509_V_ERR_* of OpenSSL's x509_vfy.h that a user can do something about, and the word that is counted.
_REASONS: Final[Mapping[int, tuple[str, str]]] = {
    9: ("not-yet-valid", "is not valid yet: look at both machines' clocks"),
    10: ("expired", "has expired: the peer needs a new one, or a clock is wrong"),
    18: ("other-authority", "is signed by itself, and no trust anchor here"),
    19: ("other-authority", "leads to an authority that is no trust anchor here"),
    20: ("other-authority", "is from an authority that is no trust anchor here"),
    21: ("other-authority", "is from an authority that is no trust anchor here"),
    25: ("path", "is below an authority that may not have so many below it"),
    34: ("path", "has a critical extension that nobody here knows"),
    47: ("name-constraints", "is for a name that its authority may not vouch for"),
    48: ("name-constraints", "is for a name that its authority may not vouch for"),
}


@dataclass(frozen=True, slots=True, repr=False)
class TrustAnchors:
    """Whom we believe: authorities' certificates, and the revocation lists beside them.

    An anchor need not be self-signed: whom the user names is trusted, and nothing above it is asked for.
    ``key_digests``: the SHA-1 of every anchor's SubjectPublicKeyInfo, concatenated, as a CERTREQ has it (RFC 7296 3.7).
    """

    certificates: tuple[x509.Certificate, ...]
    revocation: Mapping[x509.Name, tuple[RevocationList, ...]] = field(default_factory=dict)
    crl_required: bool = False
    key_digests: bytes = field(init=False)
    _prepared: tuple[crypto.X509, ...] = field(init=False)

    def __post_init__(self) -> None:
        for anchor in self.certificates:
            if fault := key_fault(anchor.public_key()):
                raise LocalMisuse(f"the trust anchor {label_of(anchor)} has {fault}, which is not taken")
        object.__setattr__(self, "key_digests", b"".join(_key_digest(anchor) for anchor in self.certificates))
        object.__setattr__(self, "_prepared", tuple(_to_openssl(anchor) for anchor in self.certificates))

    def validate(self, leaf: LeafCertificate, intermediates: Sequence[bytes], at: datetime) -> x509.Certificate:
        """The anchor that a leaf's path ends in at the time ``at``; AuthenticationFailed with the reason if none does.

        ``intermediates`` are DER, in any order, from the peer.  ``at`` is an aware datetime.
        """
        if not self.certificates:
            raise AuthenticationFailed(
                "no trust anchor is configured, so that only pinned keys can be proven: give trust=[...]",
                reason="other-authority",
            )
        path = [leaf.certificate, *self._find_path(leaf.der, intermediates, at)]
        for certificate in path[:-1]:
            if fault := signature_fault(certificate):
                raise _refused(certificate, "weak-algorithm", f"has {fault}, which is not taken")
        for certificate in path[1:-1]:
            if fault := key_fault(certificate.public_key()) or authority_fault(certificate):
                raise _refused(certificate, "path", f"is used as an authority and is not fit: {fault}")
        if self.revocation or self.crl_required:
            check_revocation(path, self.revocation, at, self.crl_required)
        return path[-1]

    def _find_path(self, leaf: bytes, intermediates: Sequence[bytes], at: datetime) -> list[x509.Certificate]:
        """What stands above the leaf: intermediates, then the anchor; empty when the leaf itself is the anchor."""
        from OpenSSL import crypto

        store = crypto.X509Store()
        for anchor in self._prepared:
            store.add_cert(anchor)
        store.set_time(at.astimezone(UTC))
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        try:
            shown = crypto.load_certificate(crypto.FILETYPE_ASN1, leaf)
            others = [crypto.load_certificate(crypto.FILETYPE_ASN1, each) for each in intermediates]
            path = crypto.X509StoreContext(store, shown, others).get_verified_chain()
            return [certificate.to_cryptography() for certificate in path[1:]]
        except crypto.X509StoreContextError as error:
            raise _path_error(error) from None
        except (crypto.Error, ValueError) as error:
            raise AuthenticationFailed(
                f"the peer's certificates are malformed: {error}", reason="malformed-certificate"
            ) from None


def label_of(certificate: x509.Certificate) -> str:
    """A certificate's subject for people; serial number where it has none."""
    try:
        subject = certificate.subject.rfc4514_string()
    except ValueError:
        subject = ""
    return printable(subject) or f"serial {certificate.serial_number:x}"


def _key_digest(anchor: x509.Certificate) -> bytes:
    info = anchor.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha1(info, usedforsecurity=False).digest()  # names a key, secures nothing


def _to_openssl(certificate: x509.Certificate) -> crypto.X509:
    from OpenSSL import crypto

    return crypto.X509.from_cryptography(certificate)


def _refused(certificate: x509.Certificate, reason: str, text: str) -> AuthenticationFailed:
    return AuthenticationFailed(f"the certificate of {label_of(certificate)} {text}", reason=reason)


def _path_error(error: crypto.X509StoreContextError) -> AuthenticationFailed:
    code, _depth, text = error.errors
    reason, explanation = _REASONS.get(code, ("path", f"cannot be validated: {text}"))
    try:
        certificate = error.certificate.to_cryptography()
    except ValueError:
        return AuthenticationFailed(f"a certificate of the peer {explanation}", reason=reason)
    if reason == "other-authority":
        issuer = printable(certificate.issuer.rfc4514_string())
        explanation += f" (issuer {issuer}): add that authority to trust, or ask who should have issued it"
    return _refused(certificate, reason, explanation)
