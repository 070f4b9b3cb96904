"""Certificate revocation lists that lie on our own disk (RFC 5280 5 and 6.3).

A list counts only under the key of the authority that issued it, which is checked before it is believed.  A
serial on a list is revoked for ever, however old the list; freshness matters only where a list is required.
Partial lists (delta, indirect, by reason) are refused when they are loaded: obeying half of one would be a
promise that nobody keeps.  Nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from ..errors import AuthenticationFailed, LocalMisuse
from .certificates import LIBRARY_ERRORS, PublicKey, label_of
from .names import printable

__all__ = ["RevocationList", "check_revocation", "is_signed_by", "read_revocation_list"]

_KNOWN_EXTENSIONS: Final = frozenset(
    {
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.CRL_NUMBER,
        ExtensionOID.ISSUING_DISTRIBUTION_POINT,
    }
)


@dataclass(frozen=True, slots=True, repr=False)
class RevocationList:
    """One complete list: whose, since and until when, which serials.

    ``verified_by`` are the trust anchors whose key signed it, found out when it was loaded.
    """

    crl: x509.CertificateRevocationList
    source: str
    serials: frozenset[int]
    only_user_certificates: bool
    only_authorities: bool
    verified_by: frozenset[x509.Certificate]

    def is_from(self, issuer: x509.Certificate) -> bool:
        """Whether this issuer's key signed the list."""
        return issuer in self.verified_by or is_signed_by(self.crl, issuer)

    def is_current(self, at: datetime) -> bool:
        """Between its thisUpdate and its nextUpdate; a list without nextUpdate is never current."""
        until = self.crl.next_update_utc
        return self.crl.last_update_utc <= at and until is not None and at <= until

    def covers(self, is_authority: bool) -> bool:
        """Whether it speaks of certificates of this kind (RFC 5280 5.2.5)."""
        return not (self.only_user_certificates if is_authority else self.only_authorities)


def read_revocation_list(
    crl: x509.CertificateRevocationList, source: str, anchors: Iterable[x509.Certificate]
) -> RevocationList:
    """Take a list into use; LocalMisuse for a partial one, and for one that its issuer among ``anchors`` never signed.

    A list of an issuer that is no anchor is kept: its signature is checked when a path goes through that issuer.
    """
    try:
        extensions = tuple(crl.extensions)
        serials = frozenset(revoked.serial_number for revoked in crl)
        issuers = [anchor for anchor in anchors if anchor.subject == crl.issuer]
        verified = frozenset(anchor for anchor in issuers if is_signed_by(crl, anchor))
    except LIBRARY_ERRORS as error:
        raise LocalMisuse(f"{source}: the revocation list is malformed: {error}") from None
    if issuers and not verified:
        raise LocalMisuse(
            f"{source}: the revocation list says that it is from {printable(crl.issuer.rfc4514_string())}, "
            "and no trusted key of that name signed it"
        )
    only_user_certificates = only_authorities = False
    for extension in extensions:
        value = extension.value
        partial = extension.critical and extension.oid not in _KNOWN_EXTENSIONS
        if isinstance(value, x509.IssuingDistributionPoint):
            partial = value.indirect_crl or bool(value.only_some_reasons) or value.only_contains_attribute_certs
            only_user_certificates, only_authorities = value.only_contains_user_certs, value.only_contains_ca_certs
        if partial:
            raise LocalMisuse(
                f"{source}: only complete revocation lists are obeyed, and the extension "
                f"{extension.oid.dotted_string} makes this one partial; ask the authority for its full list"
            )
    return RevocationList(crl, source, serials, only_user_certificates, only_authorities, verified)


def check_revocation(
    path: Sequence[x509.Certificate],
    lists: Mapping[x509.Name, Sequence[RevocationList]],
    at: datetime,
    required: bool,
) -> None:
    """Hold a validated path, leaf first, anchor last, against the lists; AuthenticationFailed when one is on them.

    ``required``: every certificate below the anchor needs a list of its issuer that is current (RFC 5280 6.3.3).
    """
    for index, (certificate, issuer) in enumerate(pairwise(path)):
        is_covered = False
        for each in lists.get(_subject_of(issuer), ()):
            if not each.covers(is_authority=index > 0) or not each.is_from(issuer):
                continue
            if certificate.serial_number in each.serials:
                raise AuthenticationFailed(
                    f"the certificate of {label_of(certificate)} "
                    f"(serial {certificate.serial_number:x}) was revoked by its authority ({each.source})",
                    reason="revoked",
                )
            is_covered = is_covered or each.is_current(at)
        if required and not is_covered:
            raise AuthenticationFailed(
                f"no current revocation list of {label_of(issuer)} is at hand, and one is "
                "required (crl='require'): fetch its list and put it beside the trust file",
                reason="revocation-unknown",
            )


def _subject_of(issuer: x509.Certificate) -> x509.Name:
    try:
        return issuer.subject
    except LIBRARY_ERRORS:
        return x509.Name([])  # OpenSSL reads names that the other library refuses; no list can be from such a one


def is_signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """RFC 5280 6.3.3 (f) and (g): the issuer's key may sign lists, and signed this one."""
    try:
        for extension in issuer.extensions:
            if isinstance(extension.value, x509.KeyUsage) and not extension.value.crl_sign:
                return False
        key = issuer.public_key()
        return isinstance(key, PublicKey) and crl.is_signature_valid(key)
    except LIBRARY_ERRORS:
        return False
