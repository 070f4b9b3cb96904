"""The trust anchors of one identity, and path validation up to them (RFC 5280 6).

Validation is OpenSSL's, through pyOpenSSL's X509Store: signatures, names, validity, path length, name constraints
of every type, unknown critical extensions, for every kind of key.  Beside it stand only the rules that OpenSSL
leaves to its caller: the allow list of keys and signatures, RFC 4945's usages, that an intermediate says outright
that it is an authority, and revocation lists.

The everyday path, a leaf directly below an anchor without name constraints, is first given to the verifier of
cryptography.x509, which takes a third less time (docs/identity.md has the figures).  What it accepts there OpenSSL
accepts too (a property test holds the two against each other); whatever it does not accept, Ed25519 for one, OpenSSL
decides, with a better reason.  It is not asked about anything else: it does not hold a subject against constraints on
directory names.

A store of OpenSSL's is made anew for each validation because its time is part of it; that costs 3 us, and no two
threads share one.  pyOpenSSL is imported when it is first needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from ..errors import AuthenticationFailed, LocalMisuse
from .certificates import (
    LIBRARY_ERRORS,
    LeafCertificate,
    PublicKey,
    accept_key,
    authority_fault,
    issuer_label,
    key_info_of,
    label_of,
    pin_of,
    signature_fault,
)
from .revocation import RevocationList, check_revocation

if TYPE_CHECKING:
    from OpenSSL import crypto

__all__ = ["TrustAnchors"]

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
    _labels: Mapping[x509.Certificate, str] = field(init=False)
    _plain: PolicyBuilder | None = field(init=False)

    def __post_init__(self) -> None:
        keys = {anchor: _key_of_anchor(anchor) for anchor in self.certificates}
        place = object.__setattr__  # the class is frozen
        place(self, "key_digests", b"".join(_key_digest(key) for key in keys.values()))
        place(self, "_labels", {anchor: f"{label_of(anchor)} ({pin_of(key)})" for anchor, key in keys.items()})
        place(self, "_plain", _plain_policy(self.certificates))

    def lists_of(self, anchor: x509.Certificate) -> tuple[RevocationList, ...]:
        """The revocation lists that this anchor has signed."""
        return tuple(each for each in self.revocation.get(anchor.subject, ()) if each.is_from(anchor))

    def validate(self, leaf: LeafCertificate, intermediates: Sequence[bytes], at: datetime) -> str:
        """The anchor (its subject and pin) that a leaf's path ends in; AuthenticationFailed says why there is none.

        ``intermediates`` are DER, in any order, from the peer.  ``at`` is an aware datetime.
        """
        if not self.certificates:
            raise AuthenticationFailed(
                "no trust anchor is configured, so that only pinned keys can be proven: give trust=[...]",
                reason="other-authority",
            )
        at = at.astimezone(UTC)
        path = (None if intermediates else self._find_plain_path(leaf, at)) or self._find_path(leaf, intermediates, at)
        if self.revocation or self.crl_required:
            check_revocation(path, self.revocation, at, self.crl_required)
        return self._labels[path[-1]]

    def _find_plain_path(self, leaf: LeafCertificate, at: datetime) -> list[x509.Certificate] | None:
        """Leaf and anchor, None when cryptography's verifier finds no path: then OpenSSL has the word."""
        if self._plain is None:
            return None
        try:
            return self._plain.time(at).build_client_verifier().verify(leaf.certificate, []).chain
        except (VerificationError, *LIBRARY_ERRORS):
            return None

    def _find_path(self, leaf: LeafCertificate, intermediates: Sequence[bytes], at: datetime) -> list[x509.Certificate]:
        """Leaf, intermediates, anchor as OpenSSL finds them; the leaf alone when it is an anchor itself."""
        from OpenSSL import crypto

        store = crypto.X509Store()
        for anchor in self.certificates:
            store.add_cert(crypto.X509.from_cryptography(anchor))
        store.set_time(at)
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        try:
            shown = crypto.load_certificate(crypto.FILETYPE_ASN1, leaf.der)
            others = [crypto.load_certificate(crypto.FILETYPE_ASN1, each) for each in intermediates]
            found = crypto.X509StoreContext(store, shown, others).get_verified_chain()
            path = [leaf.certificate, *(certificate.to_cryptography() for certificate in found[1:])]
        except crypto.X509StoreContextError as error:
            raise _path_error(error) from None
        except (crypto.Error, *LIBRARY_ERRORS) as error:
            raise AuthenticationFailed(
                f"the peer's certificates are malformed: {error}", reason="malformed-certificate"
            ) from None
        for certificate in path[:-1]:
            if fault := signature_fault(certificate):
                raise _refused(certificate, "weak-algorithm", f"has {fault}, which is not taken")
        for certificate in path[1:-1]:
            if fault := authority_fault(certificate):
                raise _refused(certificate, "path", f"is used as an authority and is not fit: {fault}")
        return path


def _key_of_anchor(anchor: x509.Certificate) -> PublicKey:
    try:
        return accept_key(anchor.public_key())
    except LIBRARY_ERRORS as error:
        raise LocalMisuse(f"the trust anchor {label_of(anchor)} has {error}, which is not taken") from None


def _key_digest(key: PublicKey) -> bytes:
    return hashlib.sha1(key_info_of(key), usedforsecurity=False).digest()  # names a key, secures nothing


def _plain_policy(anchors: Sequence[x509.Certificate]) -> PolicyBuilder | None:
    """What cryptography's verifier is asked about paths without intermediates; None where it is not asked at all.

    Its defaults are the web's.  Here a leaf need not name its authority's key, its names are not the verifier's to
    judge, and its usages are RFC 4945's, which the caller checks.
    """
    try:
        if not anchors or any(_has_name_constraints(anchor) for anchor in anchors):
            return None
    except LIBRARY_ERRORS:
        return None
    agnostic = Criticality.AGNOSTIC
    leaf = ExtensionPolicy.webpki_defaults_ee()
    for kind in (x509.AuthorityKeyIdentifier, x509.ExtendedKeyUsage, x509.SubjectAlternativeName):
        leaf = leaf.may_be_present(kind, agnostic, None)
    authority = ExtensionPolicy.webpki_defaults_ca().may_be_present(x509.ExtendedKeyUsage, agnostic, None)
    builder = PolicyBuilder().store(Store(list(anchors))).max_chain_depth(0)
    return builder.extension_policies(ca_policy=authority, ee_policy=leaf)


def _has_name_constraints(anchor: x509.Certificate) -> bool:
    return any(type(extension.value) is x509.NameConstraints for extension in anchor.extensions)


def _refused(certificate: x509.Certificate, reason: str, text: str) -> AuthenticationFailed:
    return AuthenticationFailed(f"the certificate of {label_of(certificate)} {text}", reason=reason)


def _path_error(error: crypto.X509StoreContextError) -> AuthenticationFailed:
    code, _depth, text = error.errors
    reason, explanation = _REASONS.get(code, ("path", f"cannot be validated: {text}"))
    try:
        certificate = error.certificate.to_cryptography()
    except LIBRARY_ERRORS:
        return AuthenticationFailed(f"a certificate of the peer {explanation}", reason=reason)
    if reason == "other-authority":
        explanation += (
            f" (issuer {issuer_label(certificate)}): add that authority to trust, or ask who should have issued it"
        )
    return _refused(certificate, reason, explanation)
