"""Identity: who this process is, whom it trusts, and the judgement of what a peer shows.

Loaded once, frozen, shared by threads and connections.  Keying asks it for the ID, chain and key to prove, and
hands it what the peer showed; the answer is a Principal or AuthenticationFailed.  It holds no state of a
connection, reads no clock (the time of judgement is an argument) and touches no file after it was made.

What makes identities (files, authority) is imported when one is made, so that importing securesock stays cheap.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

from cryptography import x509

from ..errors import AuthenticationFailed, LocalMisuse, WireError
from ..secret import Secret
from ..types import AnyTrustedPeer, Principal, PrincipalKind
from .certificates import LeafCertificate, PublicKey, WeakKey, label_of, pin_of, read_leaf_untrusted
from .credentials import (
    NOBODY,
    AnonymousCredential,
    CertificateCredential,
    PrivateKey,
    PskCredential,
    certificate_credential,
    psk_credential,
)
from .names import (
    IkeId,
    PeerTargetName,
    canonical_id,
    check_expected,
    describe_id,
    principal_kind,
    principal_name,
    uri_text,
)
from .trust import TrustAnchors

if TYPE_CHECKING:
    from .authority import Authority
    from .files import CrlSources, Source, TrustSource

__all__ = ["Identity", "ProvenCertificate"]

# RFC 7296 3.6 asks for four at least; a peer that shows more than this wants work done, not a path.
MAX_CERTIFICATES = 10


class ProvenCertificate(NamedTuple):
    """What a peer's certificates prove: the principal, the key that must have signed AUTH, and by which anchor."""

    principal: Principal
    public_key: PublicKey
    anchor: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Identity:
    """This process's credential and its trust anchors.

    Made by ``load``, ``from_pem``, ``from_psk``, ``ephemeral`` or ``anonymous``.  ``authority`` is the private
    authority of an ephemeral identity, None for all others.  Never pickled; a copy is the identity itself.
    """

    _credential: CertificateCredential | PskCredential | AnonymousCredential
    _trust: TrustAnchors
    authority: Authority | None = None
    _shared_key: Secret | None = None

    @classmethod
    def load(cls) -> Identity:
        """The user's configured identity ("securesock identity init" makes one); LocalMisuse when there is none."""
        from .configured import load_identity

        return load_identity()

    @classmethod
    def from_pem(
        cls,
        certificate: Source,
        private_key: Source,
        trust: TrustSource | Sequence[TrustSource],
        password: str | bytes | bytearray | Secret | None = None,
        crl: CrlSources = (),
    ) -> Identity:
        """A certificate (leaf first, then intermediates) with its private key, from paths or PEM bytes.

        ``trust``: the authorities that peers are judged by, as paths, PEM bytes or folders of them; may be empty
        where only pinned keys are connected to.  The revocation lists beside a trust file (``*.crl`` in its folder)
        and those in ``crl`` are obeyed; "require" in ``crl`` refuses peers of whose authority no current list is at
        hand.  LocalMisuse says what does not fit; errors of reading files pass unchanged.
        """
        from .files import der_of, label_of_source, load_certificates, load_private_key, load_trust

        chain, key = der_of(load_certificates(certificate)), load_private_key(private_key, password)
        credential = certificate_credential(chain, key, label_of_source(certificate))
        return cls(credential, load_trust(trust, crl))

    @classmethod
    def from_psk(cls, name: str, peers: Mapping[str, bytes | bytearray | str | Secret]) -> Identity:
        """Our name and the secret shared with each peer by its name (peer target names).

        LocalMisuse for our own name among the peers, for names that are none, and for secrets under 16 bytes.
        """
        return cls(psk_credential(name, peers), TrustAnchors(()))

    @classmethod
    def anonymous(cls, trust: TrustSource | Sequence[TrustSource] = (), crl: CrlSources = ()) -> Identity:
        """Nobody: proves no name (NULL authentication, RFC 7619), and still judges peers by ``trust``.

        Only a peer whose policy says allow_anonymous=True lets it in.
        """
        from .files import load_trust

        return cls(AnonymousCredential(), load_trust(trust, crl))

    @classmethod
    def ephemeral(
        cls,
        name: str | Sequence[str],
        authority: Authority | None = None,
        trust: TrustSource | Sequence[TrustSource] = (),
    ) -> Identity:
        """For tests and demos: a new certificate for ``name`` (or several names), in memory only.

        It is signed by ``authority`` (another ephemeral identity's, by default a new one), which is trusted, as
        are the authorities in ``trust``.
        """
        from .authority import Authority
        from .files import der_of, load_trust

        names = [name] if isinstance(name, str) else list(name)
        authority = authority or Authority.create("securesock ephemeral authority")
        issued = authority.issue(names)
        credential = certificate_credential(der_of([issued.certificate]), issued.private_key, "the new certificate")
        others = load_trust(trust, ())
        anchors = dict.fromkeys((authority.certificate, *others.certificates))
        return cls(credential, replace(others, certificates=tuple(anchors)), authority)

    @property
    def method(self) -> Literal["x509", "psk", "anonymous"]:
        """How this identity proves itself."""
        match self._credential:
            case CertificateCredential():
                return "x509"
            case PskCredential():
                return "psk"
        return "anonymous"

    @property
    def names(self) -> tuple[str, ...]:
        """Our own names, as a peer will be shown them; the first is the one we give when none is asked for."""
        return tuple(_own_name(each) for each in self._ids)

    @property
    def ids(self) -> tuple[IkeId, ...]:
        """The same as ID payloads."""
        return self._ids

    @property
    def trust(self) -> TrustAnchors:
        """The trust anchors."""
        return self._trust

    @property
    def certificate_chain(self) -> tuple[bytes, ...]:
        """DER certificates to show, leaf first; empty without a certificate."""
        return self._credential.chain if isinstance(self._credential, CertificateCredential) else ()

    @property
    def private_key(self) -> PrivateKey:
        """The key that signs AUTH; LocalMisuse without a certificate."""
        if not isinstance(self._credential, CertificateCredential):
            raise LocalMisuse(f"an identity of method {self.method} has no private key")
        return self._credential.private_key

    @property
    def pin(self) -> str | None:
        """Our own key as a peer may pin it ("sha256:..."), None for PSK."""
        return self._credential.pin if isinstance(self._credential, CertificateCredential) else None

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 of our DER certificate, 64 hex digits, None for PSK."""
        return self._credential.fingerprint if isinstance(self._credential, CertificateCredential) else None

    @property
    def certificate(self) -> x509.Certificate | None:
        """Our own certificate, None for PSK."""
        chain = self.certificate_chain
        return x509.load_der_x509_certificate(chain[0]) if chain else None

    @property
    def shared_key_peers(self) -> tuple[str, ...]:
        """The peers whom we share a secret with, by name; empty for X.509."""
        secrets = self._credential.secrets if isinstance(self._credential, PskCredential) else {}
        return tuple(principal_name(each) for each in secrets)

    @property
    def certificate_authorities(self) -> bytes:
        """The body of a CERTREQ: the SHA-1 of each anchor's SubjectPublicKeyInfo, concatenated (RFC 7296 3.7)."""
        return self._trust.key_digests

    @property
    def our_principal(self) -> Principal:
        """Ourselves, under our first name."""
        return self.principal_for(self._ids[0])

    def principal_for(self, our_id: IkeId) -> Principal:
        """Ourselves under one of our IDs, for the report of what was proven."""
        return Principal(_own_name(our_id), principal_kind(our_id), self.method, self.fingerprint or "")

    def our_id(self, requested: IkeId | None = None) -> IkeId:
        """The ID to prove: the requested one if it is ours (an initiator's IDr), else the first."""
        if requested is not None:
            try:
                wanted = canonical_id(requested)
            except WireError:
                return self._ids[0]
            if wanted in self._ids:
                return wanted
        return self._ids[0]

    def secret_for(self, peer_id: IkeId | None) -> Secret | None:
        """The secret shared with exactly this peer, None when there is none or this is no PSK identity.

        ``peer_id`` None: a peer that nobody named; only a policy's key is shared with those (``under_methods``).
        """
        if peer_id is None:
            return self._shared_key
        try:
            peer = canonical_id(peer_id)
        except WireError:
            return None
        if self._shared_key is not None:
            return None if peer in self._ids else self._shared_key
        return self._credential.secrets.get(peer) if isinstance(self._credential, PskCredential) else None

    def under_methods(
        self,
        *,
        by: Literal["x509", "psk", "anonymous"],
        certificates: bool,
        shared_key: Secret | None = None,
        roots: Sequence[bytes] | None = None,
        crl_required: bool = False,
    ) -> Identity:
        """The same end under a policy that names the methods of authentication (IKEEXT_POLICY, iketypes.h).

        ``by``: how we prove ourselves.  ``certificates``: whether peers may show some; ``roots``, DER certificates or
        names of our anchors, are then the only anchors.  ``shared_key``: whoever proves it may have any name but ours,
        which is all that a policy's key can vouch for.  LocalMisuse for a root that is neither.
        """
        credential = self._credential
        if by == "psk":
            credential = PskCredential(self._ids[0], {})
        elif by == "anonymous":
            credential = AnonymousCredential()
        anchors = self._trust.certificates if roots is None else tuple(dict.fromkeys(self._anchors_of(roots)))
        trust = self._trust
        if not certificates:
            trust = replace(trust, certificates=())
        elif anchors != trust.certificates or crl_required:
            trust = replace(trust, certificates=anchors, crl_required=crl_required or trust.crl_required)
        return Identity(credential, trust, self.authority, shared_key)

    def _anchors_of(self, roots: Sequence[bytes]) -> Iterator[x509.Certificate]:
        for root in roots:
            try:
                yield x509.load_der_x509_certificate(root)
                continue
            except ValueError:
                pass  # then it is the name of one
            named = [each for each in self._trust.certificates if each.subject.public_bytes() == root]
            if not named:
                raise LocalMisuse("a root of the policy is neither a certificate nor the name of a trust anchor")
            yield from named

    def shared_key_principal(self, peer_id: IkeId, expected: PeerTargetName | AnyTrustedPeer | None) -> Principal:
        """The principal of a peer that proved a shared secret; AuthenticationFailed when another was expected."""
        check_expected(expected, peer_id)
        return Principal(principal_name(peer_id), principal_kind(peer_id), "psk")

    def validate_certificate(
        self,
        peer_id: IkeId,
        certificates: Sequence[bytes],
        at: datetime,
        expected: PeerTargetName | AnyTrustedPeer | None,
        pins: Collection[str] = (),
    ) -> ProvenCertificate:
        """Judge what a peer showed: DER certificates, leaf first, at an aware datetime.

        AuthenticationFailed says why they prove nothing, or another than the expected peer.

        ``expected`` None is a responder that takes any principal of the trust anchors, and whoever holds one of the
        pinned keys in ``pins``.  The caller still has to verify AUTH under the key that is returned.
        """
        if not certificates:
            raise AuthenticationFailed("the peer showed no certificate", reason="no-certificate")
        if len(certificates) > MAX_CERTIFICATES:
            raise AuthenticationFailed(
                f"the peer showed {len(certificates)} certificates, more than {MAX_CERTIFICATES}",
                reason="too-many-certificates",
            )
        try:
            leaf = read_leaf_untrusted(certificates[0])
        except WeakKey as error:
            raise AuthenticationFailed(
                f"the peer's certificate has {error}, which is not taken", reason="weak-algorithm"
            ) from None
        except WireError as error:
            raise AuthenticationFailed(f"the peer shows {error}", reason="malformed-certificate") from None
        if isinstance(expected, PeerTargetName) and expected.form == "pin":
            return _validate_pinned(leaf, expected.text)
        if expected is None and pins and (pin := pin_of(leaf.public_key)) in pins:
            return _validate_pinned(leaf, pin)
        anchor = self._trust.validate(leaf, certificates[1:], at)
        proven, kind = _proven_id(leaf, peer_id)
        check_expected(expected, proven, kind)
        principal = Principal(principal_name(proven), kind, "x509", leaf.fingerprint)
        return ProvenCertificate(principal, leaf.public_key, anchor)

    @property
    def _ids(self) -> tuple[IkeId, ...]:
        return self._credential.ids if isinstance(self._credential, CertificateCredential) else (self._credential.id,)

    def __repr__(self) -> str:
        shown = f"; certificate sha256 {self.fingerprint}" if self.fingerprint else ""
        return f"<Identity {self.method} {', '.join(self.names)}{shown}>"

    def __copy__(self) -> Identity:
        return self

    def __deepcopy__(self, memo: object) -> Identity:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("an identity holds a private key or secrets and is not pickled")


def _own_name(our_id: IkeId) -> str:
    """ID_NULL is nobody's name, and the only one that an anonymous end has to show (RFC 7619 2.2)."""
    return "anonymous" if our_id == NOBODY else principal_name(our_id)


def _validate_pinned(leaf: LeafCertificate, pin: str) -> ProvenCertificate:
    """A pin replaces the chain: the key is the principal, and nothing else in the certificate is believed."""
    shown = pin_of(leaf.public_key)
    if not hmac.compare_digest(shown, pin):
        raise AuthenticationFailed(f"the peer's key is {shown}, and {pin} was expected", reason="other-key")
    return ProvenCertificate(Principal(pin, "machine", "x509", leaf.fingerprint), leaf.public_key, pin)


def _proven_id(leaf: LeafCertificate, peer_id: IkeId) -> tuple[IkeId, PrincipalKind]:
    """The canonical ID that a validated certificate vouches for, and whose it is."""
    if leaf.usage_fault:
        raise AuthenticationFailed(f"the peer's certificate is for other uses: {leaf.usage_fault}", reason="usage")
    try:
        proven = canonical_id(peer_id)
    except WireError as error:
        raise AuthenticationFailed(f"the peer has no name: {error}", reason="no-name") from None
    if not leaf.names(proven):
        raise AuthenticationFailed(
            f"the peer says that it is {describe_id(proven)}, and its certificate for "
            f"{label_of(leaf.certificate)} does not name it so: it needs that name as a subjectAltName",
            reason="other-name",
        )
    # X509-SVID 2: a certificate with more than one URI is no SPIFFE identity
    if leaf.uri_count > 1 and uri_text(proven).startswith("spiffe:"):
        raise AuthenticationFailed("the peer's certificate has more than one URI beside a SPIFFE ID", reason="no-name")
    has_mailbox = any(principal_kind(each) == "user" for each in leaf.alternative_names)
    kind = principal_kind(proven)
    if has_mailbox and leaf.subject_id == proven:
        kind = "user"  # a subject beside a mailbox is a person's
    return proven, kind
