"""A private authority: makes certificates for the machines of those who have no other authority.

Certificates follow the profile that every validator takes (RFC 5280 4.2, RFC 4945 5.1): version 3, random serial
numbers, key identifiers, basicConstraints and keyUsage critical, and the EKUs ipsecIKE, serverAuth and clientAuth,
so that other IPsec hosts take them too.  Keys are P-256.  The time is the caller's; ephemeral authorities, whose
keys never leave memory, issue for all time.

This module reads and writes no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..errors import LocalMisuse
from .certificates import IPSEC_IKE, PublicKey
from .credentials import PrivateKey
from .names import parse_peer_target_name, printable

__all__ = ["ALWAYS", "Authority", "IssuedCertificate", "Validity"]

_MAX_COMMON_NAME: Final = 64  # RFC 5280 appendix A.1: ub-common-name
# RFC 2606 2 reserves this domain: to permit it alone is to permit no name of that type.
_NOWHERE: Final = "invalid"


class Validity(NamedTuple):
    """From when until when, as aware datetimes."""

    not_before: datetime
    not_after: datetime


ALWAYS: Final = Validity(datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
"""RFC 5280 4.1.2.5: the end that means "no well-defined expiration date"."""


class IssuedCertificate(NamedTuple):
    """A machine's certificate and its key; the key is None when the machine made its own."""

    certificate: x509.Certificate
    private_key: PrivateKey | None

    def __repr__(self) -> str:
        return f"IssuedCertificate(serial {self.certificate.serial_number:x})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Authority:
    """An authority's certificate and the key that signs with it.  Immutable; not pickled."""

    certificate: x509.Certificate
    private_key: PrivateKey

    @classmethod
    def create(
        cls, name: str, *, validity: Validity = ALWAYS, permitted: Sequence[str] = (), key: PrivateKey | None = None
    ) -> Authority:
        """A new self-signed authority.

        ``permitted``: domains ("example.org": it and all below it) and networks ("192.0.2.0/24") that it may vouch
        for; everything else is then refused by whoever validates (RFC 5280 4.2.1.10).
        """
        if not name.isprintable() or not 0 < len(name) <= _MAX_COMMON_NAME:
            raise LocalMisuse(f"an authority's name has 1 to {_MAX_COMMON_NAME} printable characters")
        key = key or generate_private_key(SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key.public_key(), key.public_key(), validity)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs=False, certifies=True), critical=True)
        if permitted:
            builder = builder.add_extension(_name_constraints(permitted, name), critical=True)
        return cls(builder.sign(key, _hash_for(key)), key)

    @property
    def name(self) -> str:
        """The subject, as RFC 4514 text."""
        return self.certificate.subject.rfc4514_string()

    @property
    def pem(self) -> bytes:
        """The authority's certificate, for other machines' trust."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self, names: Sequence[str], *, validity: Validity = ALWAYS, public_key: PublicKey | None = None
    ) -> IssuedCertificate:
        """A certificate for a machine of these names (written as peer target names), with a new P-256 key or for
        ``public_key``.  LocalMisuse for what is no name.
        """
        if not names:
            raise LocalMisuse("a certificate needs at least one name, such as 'host/db.example'")
        private_key, general_names = None, [_general_name(name) for name in names]
        if public_key is None:
            private_key = generate_private_key(SECP256R1())
            public_key = private_key.public_key()
        own_key = self.certificate.public_key()
        if not isinstance(own_key, PublicKey):
            raise LocalMisuse(f"the authority {printable(self.name)} has a key that signs no certificates")
        builder = _builder(self._subject_for(names[0]), self.certificate.subject, public_key, own_key, validity)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs=True, certifies=False), critical=True)
        usages = [IPSEC_IKE, ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(general_names), critical=False)
        return IssuedCertificate(builder.sign(self.private_key, _hash_for(self.private_key)), private_key)

    def revocation_list(
        self, revoked: Mapping[int, datetime], *, at: datetime, until: datetime, number: int
    ) -> x509.CertificateRevocationList:
        """The complete list of revoked serials with the times of their revocation (RFC 5280 5)."""
        own_key = self.certificate.public_key()
        if not isinstance(own_key, PublicKey):
            raise LocalMisuse(f"the authority {printable(self.name)} has a key that signs no lists")
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(at).next_update(until)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own_key), critical=False)
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        for serial, since in revoked.items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.private_key, _hash_for(self.private_key))

    def _subject_for(self, name: str) -> x509.Name:
        """The authority's name as organization, the machine's as common name: within the subtree of its constraints."""
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, _organization(self.certificate.subject))]
        # a common name that is no host name is taken for one by validators that look for names there
        common_name = name.removeprefix("host/")
        if parse_peer_target_name(name).form == "fqdn" and len(common_name) <= _MAX_COMMON_NAME:
            attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
        return x509.Name(attributes)

    def __repr__(self) -> str:
        return f"Authority({printable(self.name)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an authority holds a private key and is not pickled")


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, issuer_key: PublicKey, validity: Validity
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), *validity)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)


def _hash_for(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, Ed25519PrivateKey) else hashes.SHA256()


def _key_usage(*, signs: bool, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certifies,
        crl_sign=certifies,
        encipher_only=False,
        decipher_only=False,
    )


def _organization(subject: x509.Name) -> str:
    for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        if isinstance(attribute.value, str):
            return attribute.value[:_MAX_COMMON_NAME]  # ub-organization-name is 64 as well
    return "securesock"


def _general_name(name: str) -> x509.GeneralName:
    target = parse_peer_target_name(name)
    match target.form:
        case "fqdn":
            return x509.DNSName(target.principal.removeprefix("host/"))
        case "address":
            return x509.IPAddress(ip_address(target.principal))
        case "uri":
            return x509.UniformResourceIdentifier(target.principal)
        case "user":
            return x509.RFC822Name(target.principal)
    raise LocalMisuse(f"{name}: a certificate is issued for a name, not for a pinned key")


def _name_constraints(permitted: Sequence[str], authority: str) -> x509.NameConstraints:
    """Only these domains and networks, and in every other type of name nothing else (RFC 5280 4.2.1.10: a type
    without a constraint is free).
    """
    networks: list[x509.GeneralName] = []
    domains: list[str] = []
    for text in permitted:
        try:
            networks.append(x509.IPAddress(ip_network(text)))
        except ValueError:
            domains.append(_domain(text))
    domains = domains or [_NOWHERE]
    subtrees: list[x509.GeneralName] = [x509.DNSName(domain) for domain in domains]
    for domain in domains:
        for host in (
            domain,
            "." + domain,
        ):  # 4.2.1.10: for mailboxes and URIs, with the dot what is below, without it itself
            subtrees += [x509.RFC822Name(host), x509.UniformResourceIdentifier(host)]
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, authority[:_MAX_COMMON_NAME])
    subtrees.append(x509.DirectoryName(x509.Name([organization])))
    excluded: list[x509.GeneralName] = []
    for everything in (ip_network("0.0.0.0/0"), ip_network("::/0")):
        if not any(isinstance(each.value, type(everything)) for each in networks):
            excluded.append(x509.IPAddress(everything))
    return x509.NameConstraints(subtrees + networks, excluded or None)


def _domain(text: str) -> str:
    target = parse_peer_target_name(text)
    if target.form != "fqdn":
        raise LocalMisuse(f"{printable(text)}: an authority is limited to domains and networks")
    return target.principal.removeprefix("host/")
