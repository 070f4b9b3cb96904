"""Makes certificates that authorities should not, for the tests of what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
IPSEC_IKE = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.17")

KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)

Key: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Extension: TypeAlias = tuple[x509.ExtensionType, bool]

UNKNOWN_CRITICAL: Extension = (
    x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"),
    True,
)


@cache
def rsa_key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    """RSA keys are slow to make: one of each size and number."""
    return rsa.generate_private_key(65537, bits)


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def key_usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in allowed for name in KEY_USAGES})


def subject(*, cn: str | None = None, o: str | None = None, email: str | None = None) -> x509.Name:
    pairs = [(NameOID.ORGANIZATION_NAME, o), (NameOID.COMMON_NAME, cn), (NameOID.EMAIL_ADDRESS, email)]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs if value is not None])


@dataclass(frozen=True)
class Holder:
    """A certificate and its key: an authority or a machine."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class Order:
    """What a certificate is to look like; the defaults are an ordinary machine's."""

    names: Sequence[x509.GeneralName] = ()
    name: x509.Name = field(default_factory=lambda: subject(cn="machine"))
    key: Key | None = None
    not_before: datetime = NOW - 30 * DAY
    not_after: datetime = NOW + 30 * DAY
    extensions: Iterable[Extension] = ((x509.BasicConstraints(False, None), True),)
    algorithm: hashes.HashAlgorithm | None = None
    pss: bool = False
    names_critical: bool = False


CA: tuple[Extension, ...] = (
    (x509.BasicConstraints(True, None), True),
    (key_usage("key_cert_sign", "crl_sign"), True),
)


def make(order: Order, issuer: Holder | None = None) -> Holder:
    key = order.key or ec_key()
    signer = issuer.key if issuer else key
    issuer_name = issuer.certificate.subject if issuer else order.name
    builder = x509.CertificateBuilder(
        issuer_name, order.name, key.public_key(), x509.random_serial_number(), order.not_before, order.not_after
    )
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    for extension, critical in order.extensions:
        builder = builder.add_extension(extension, critical)
    if order.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(order.names), order.names_critical)
    algorithm = order.algorithm or (None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    if order.pss:
        hashed = algorithm or hashes.SHA256()
        return Holder(
            builder.sign(signer, hashed, rsa_padding=padding.PSS(padding.MGF1(hashed), hashed.digest_size)), key
        )
    return Holder(builder.sign(signer, algorithm), key)


def make_authority(
    cn: str = "authority",
    *,
    issuer: Holder | None = None,
    key: Key | None = None,
    extra: Iterable[Extension] = (),
    extensions: Iterable[Extension] = CA,
    days: int = 365,
    algorithm: hashes.HashAlgorithm | None = None,
) -> Holder:
    return make(
        Order(
            name=subject(cn=cn),
            key=key,
            extensions=(*extensions, *extra),
            algorithm=algorithm,
            not_before=NOW - days * DAY,
            not_after=NOW + days * DAY,
        ),
        issuer,
    )


def dns(*names: str) -> list[x509.GeneralName]:
    """dNSName entries, even ones that a careful library would not write."""
    return [x509.DNSName._init_without_validation(name) for name in names]


def make_crl(
    issuer: Holder,
    *serials: int,
    at: datetime = NOW - DAY,
    until: datetime = NOW + DAY,
    extra: Iterable[Extension] = (),
    key: Key | None = None,
) -> x509.CertificateRevocationList:
    builder = x509.CertificateRevocationListBuilder(issuer.certificate.subject, at, until)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
        builder = builder.add_revoked_certificate(entry)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical)
    signer = key or issuer.key
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def crl_pem(crl: x509.CertificateRevocationList) -> bytes:
    return crl.public_bytes(Encoding.PEM)
