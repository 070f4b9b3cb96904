"""One certificate: what is read of it before and beside path validation.

Parses certificates of a peer and of our own files, and keeps what RFC 4945 says of a certificate that is used
for IKE: which names its subjectAltName gives (5.1.3.6), which key usages let it sign for IKE (5.1.3.2, 5.1.3.12).
Keys and signature algorithms are an allow list.  Whether a certificate is anybody's is not decided here but by
path validation (trust.py).

``read_x_untrusted`` parse or raise WireError, whatever a peer puts into a certificate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from ..errors import WireError
from ..wire.id_types import IdType
from .names import IkeId, address_id, fqdn_id, mailbox_id, printable, uri_id

__all__ = [
    "LIBRARY_ERRORS",
    "LeafCertificate",
    "PublicKey",
    "WeakKey",
    "accept_key",
    "authority_fault",
    "issuer_label",
    "key_info_of",
    "label_of",
    "pin_of",
    "read_certificate_untrusted",
    "read_leaf_untrusted",
    "signature_fault",
]

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MIN_RSA_BITS: Final = 2048  # NIST SP 800-57 part 1, table 2: 112 bits of strength
_CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})
_HASHES: Final = frozenset({"sha256", "sha384", "sha512"})

# RFC 4945 5.1.3.12: no EKU, anyExtendedKeyUsage or ipsecIKE; the two of TLS because most authorities issue only those.
IPSEC_IKE: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.17")
_USABLE_EKUS: Final = frozenset(
    {
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        IPSEC_IKE,
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
)

# What the library raises for certificates that are DER and still make no sense.  Its warning, which a program may have
# turned into an error, says that it will refuse the same certificates in a later release.
LIBRARY_ERRORS: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,
)


class WeakKey(WireError):
    """A public key of a kind or strength that nothing is believed under."""


@dataclass(frozen=True, slots=True, repr=False)
class LeafCertificate:
    """A certificate that somebody shows for a key.  Nothing in it is proven by having been read."""

    der: bytes
    certificate: x509.Certificate
    public_key: PublicKey
    alternative_names: tuple[IkeId, ...]
    uri_count: int
    usage_fault: str | None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the DER certificate, 64 lower-case hex digits."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def subject_id(self) -> IkeId | None:
        """The whole subject as ID_DER_ASN1_DN, None when it is empty (RFC 5280 4.1.2.6) or cannot be read."""
        try:
            subject = self.certificate.subject
            return IkeId(IdType.ID_DER_ASN1_DN, subject.public_bytes()) if subject.rdns else None
        except LIBRARY_ERRORS:
            return None

    def names(self, ike_id: IkeId) -> bool:
        """Whether a canonical ID is a subjectAltName of its own type, or the whole subject; never the CN."""
        if ike_id.id_type == IdType.ID_DER_ASN1_DN:
            return ike_id == self.subject_id
        return ike_id in self.alternative_names


def read_certificate_untrusted(der: bytes) -> x509.Certificate:
    """Parse one DER certificate; its extensions and key may still be malformed."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        signature, serial = certificate.signature, certificate.serial_number
    except LIBRARY_ERRORS as error:
        raise WireError(f"a certificate of {len(der)} bytes is malformed: {error}") from None
    if serial <= 0:
        raise WireError("a certificate with a serial number that is not positive")  # RFC 5280 4.1.2.2
    # The signature is the last field, and no signature has bits to spare.  The count of spare bits before it is outside
    # of what is signed, and cryptography passes over it: one certificate would have several fingerprints.
    if der[-len(signature) - 1] != 0:
        raise WireError("a certificate whose signature has unused bits")
    return certificate


def read_leaf_untrusted(der: bytes) -> LeafCertificate:
    """Parse one DER certificate with its key, names and usages; WeakKey when its key is not taken."""
    certificate = read_certificate_untrusted(der)
    names: tuple[IkeId, ...] = ()
    uri_count = 0
    usage_fault = None
    try:
        public_key = certificate.public_key()
        extensions = certificate.extensions
        for extension in extensions:
            value = extension.value
            # "type is" and no isinstance: these classes have an abstract base, which makes every isinstance a call
            if type(value) is x509.SubjectAlternativeName:
                names = tuple(_names_in(value))
                uri_count = sum(type(name) is x509.UniformResourceIdentifier for name in value)
            elif type(value) is x509.ExtendedKeyUsage or type(value) is x509.KeyUsage:
                usage_fault = usage_fault or _usage_fault(value)
    except LIBRARY_ERRORS as error:
        raise WireError(f"a certificate of {len(der)} bytes is malformed: {error}") from None
    return LeafCertificate(der, certificate, accept_key(public_key), names, uri_count, usage_fault)


def accept_key(key: CertificatePublicKeyTypes) -> PublicKey:
    """The key itself when it is of a kind and strength that is taken; WeakKey says why it is not."""
    if isinstance(key, EllipticCurvePublicKey):
        if key.curve.name in _CURVES:
            return key
        raise WeakKey(f"a key on the curve {key.curve.name}")
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, RSAPublicKey):
        if key.key_size >= MIN_RSA_BITS:
            return key
        raise WeakKey(f"an RSA key of {key.key_size} bits, below {MIN_RSA_BITS}")
    raise WeakKey(f"a key of type {type(key).__name__}")


def signature_fault(certificate: x509.Certificate) -> str | None:
    """Why the algorithm of a certificate's signature is not taken, None when it is."""
    if certificate.signature_algorithm_oid == SignatureAlgorithmOID.ED25519:
        return None
    try:
        algorithm = certificate.signature_hash_algorithm
    except LIBRARY_ERRORS:
        algorithm = None
    if algorithm is None:
        return f"a signature of type {certificate.signature_algorithm_oid.dotted_string}"
    return None if algorithm.name in _HASHES else f"a signature over {algorithm.name.upper()}"


def authority_fault(certificate: x509.Certificate) -> str | None:
    """Why an intermediate certificate may not issue others for IKE, None when it may.

    RFC 5280 6.1.4 (k) asks for basicConstraints with cA; libraries that still take older marks of an authority
    are laxer.  An authority that is limited to other purposes (code signing) is not one for machines.
    """
    is_authority = False
    try:
        accept_key(certificate.public_key())
        for extension in certificate.extensions:
            value = extension.value
            if isinstance(value, x509.BasicConstraints):
                is_authority = value.ca
            elif isinstance(value, x509.ExtendedKeyUsage) and (fault := _usage_fault(value)):
                return fault
    except WeakKey as error:
        return f"it has {error}"
    except LIBRARY_ERRORS as error:
        return f"malformed: {error}"
    return None if is_authority else "no authority: it lacks basicConstraints with cA"


def label_of(certificate: x509.Certificate) -> str:
    """A certificate's subject for people, its serial number where it has none; safe to print."""
    try:
        subject = printable(certificate.subject.rfc4514_string())
    except LIBRARY_ERRORS:
        subject = ""
    return subject or f"serial {certificate.serial_number:x}"


def issuer_label(certificate: x509.Certificate) -> str:
    """Who a certificate says that it is from, for people; safe to print."""
    try:
        return printable(certificate.issuer.rfc4514_string())
    except LIBRARY_ERRORS:
        return "a name that cannot be read"


def key_info_of(key: CertificatePublicKeyTypes) -> bytes:
    """A key's DER SubjectPublicKeyInfo."""
    # whoever only makes an identity waits for no format of keys: the library's module brings SSH's along
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pin_of(key: CertificatePublicKeyTypes) -> str:
    """ "sha256:" and the hex SHA-256 of a key's DER SubjectPublicKeyInfo."""
    return "sha256:" + hashlib.sha256(key_info_of(key)).hexdigest()


def _names_in(extension: x509.SubjectAlternativeName) -> Iterator[IkeId]:
    """The names that can be a principal's; wildcards and what is outside the grammar match nobody and are left out."""
    for name in extension:
        try:
            if type(name) is x509.DNSName:
                yield fqdn_id(name.value)
            elif type(name) is x509.UniformResourceIdentifier:
                yield uri_id(name.value)
            elif type(name) is x509.RFC822Name:
                yield mailbox_id(name.value)
            elif type(name) is x509.IPAddress and isinstance(name.value, (IPv4Address, IPv6Address)):
                yield address_id(name.value)
        except WireError:
            continue


def _usage_fault(value: x509.ExtendedKeyUsage | x509.KeyUsage) -> str | None:
    if isinstance(value, x509.ExtendedKeyUsage):
        if _USABLE_EKUS.isdisjoint(value):
            return "its extended key usage allows neither IKE nor TLS"
        return None
    # RFC 4945 5.1.3.2: digitalSignature or nonRepudiation, if the extension is there at all
    if value.digital_signature or value.content_commitment:
        return None
    return "its key usage allows no signatures"
