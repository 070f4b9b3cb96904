"""The AUTH payload: what is signed, how we sign, and how the peer's proof becomes a principal.

RFC 7296 2.15 and 2.16, RFC 7427 (signatures), RFC 7619 (NULL), RFC 9242 3.3 (IKE_INTERMEDIATE in the signed octets).
Knows identities and keys; nothing of messages in flight or time beyond the moment it is handed.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature

from ...crypto.prf import compute_prf
from ...crypto.signatures import sign_auth, verify_auth
from ...crypto.suites import Prf
from ...errors import AuthenticationFailed, WireError
from ...identity.certificates import PublicKey
from ...identity.identity import Identity
from ...identity.names import IkeId, PeerTargetName, describe_id
from ...types import AnyTrustedPeer, Principal
from ...wire.id_types import IdType
from ...wire.ikev2.payloads import Authentication, Certificate, Identification
from ...wire.numbers import AuthMethod, CertEncoding

__all__ = [
    "ProvenPeer",
    "identification",
    "key_auth",
    "prove_by_key",
    "prove_ourselves",
    "prove_peer",
    "signed_octets",
]

_KEY_PAD: Final = b"Key Pad for IKEv2"


class ProvenPeer(NamedTuple):
    """Who the peer proved to be, and the trust anchor or kind of secret that vouched for it."""

    principal: Principal
    anchor: str


def identification(payload_type: int, ike_id: IkeId) -> Identification:
    """The ID payload of an identity."""
    return Identification(payload_type, ike_id.id_type, ike_id.data)


def signed_octets(
    first_message: bytes, nonce: bytes, prf: Prf, sk_p: bytes, ike_id: Identification, intermediate: bytes
) -> bytes:
    """RFC 7296 2.15: own first message, the other side's nonce, MACed ID; then RFC 9242's IntAuth when there is one."""
    id_body = bytes((ike_id.id_type, 0, 0, 0)) + ike_id.data
    return first_message + nonce + compute_prf(prf, sk_p, id_body) + intermediate


def _shared_key_auth(prf: Prf, secret: bytes, octets: bytes) -> bytes:
    return compute_prf(prf, compute_prf(prf, secret, _KEY_PAD), octets)


def key_auth(prf: Prf, key: bytes, octets: bytes) -> Authentication:
    """AUTH by a key that EAP left both ends with: as a pre-shared one (RFC 7296 2.16)."""
    return Authentication(AuthMethod.SHARED_KEY_MESSAGE_INTEGRITY_CODE, _shared_key_auth(prf, key, octets))


def prove_by_key(prf: Prf, key: bytes, octets: bytes, auth: Authentication | None) -> None:
    """Hold the peer's AUTH against EAP's key; AuthenticationFailed."""
    expected = _shared_key_auth(prf, key, octets)
    by_key = auth is not None and auth.method == AuthMethod.SHARED_KEY_MESSAGE_INTEGRITY_CODE
    if auth is None or not by_key or not hmac.compare_digest(expected, auth.data):
        raise AuthenticationFailed(
            "the peer's AUTH after EAP does not fit EAP's key: somebody else answered in between"
        )


def prove_ourselves(
    identity: Identity, peer_id: IkeId | None, prf: Prf, sk_p: bytes, octets: bytes, peer_hashes: Sequence[int]
) -> Authentication:
    """Our AUTH payload.  AuthenticationFailed when we share no secret with, or no hash function of, the peer."""
    if identity.method == "anonymous":
        # RFC 7619 2.1: as with a shared key, SK_pi or SK_pr in its place
        return Authentication(AuthMethod.NULL_AUTHENTICATION, _shared_key_auth(prf, sk_p, octets))
    if identity.method == "psk":
        secret = identity.secret_for(peer_id)
        if secret is None:
            name = "a peer without a name" if peer_id is None else describe_id(peer_id)
            raise AuthenticationFailed(
                f"no pre-shared key is configured for {name}: add it to Identity.from_psk(peers=...)"
            )
        return Authentication(
            AuthMethod.SHARED_KEY_MESSAGE_INTEGRITY_CODE, _shared_key_auth(prf, secret.reveal(), octets)
        )
    if not peer_hashes:
        raise AuthenticationFailed(
            "the peer did not announce signature hash algorithms (RFC 7427), and older signatures rest on SHA-1"
        )
    return Authentication(AuthMethod.DIGITAL_SIGNATURE, sign_auth(identity.private_key, octets, peer_hashes))


def prove_peer(
    identity: Identity,
    peer: Identification,
    certificates: Sequence[Certificate],
    auth: Authentication,
    prf: Prf,
    sk_p: bytes,
    octets: bytes,
    at: datetime,
    expected: PeerTargetName | AnyTrustedPeer | None,
    pins: Collection[str],
    *,
    allow_anonymous: bool,
    only_signature: bool = False,
) -> ProvenPeer:
    """Who the peer is.  AuthenticationFailed says what was not proven; nothing is known of the peer after it.

    ``only_signature``: a machine that a user is to be proven to shows a certificate (RFC 7296 2.16).
    """
    peer_id = IkeId(peer.id_type, peer.data)
    if only_signature and auth.method != AuthMethod.DIGITAL_SIGNATURE:
        raise AuthenticationFailed(
            f"the responder authenticates by method {auth.method}; a user is proven to nobody but a "
            "machine with a certificate"
        )
    match auth.method:
        case AuthMethod.DIGITAL_SIGNATURE:
            chain = [each.data for each in certificates if each.encoding == CertEncoding.X509_SIGNATURE]
            proven = identity.validate_certificate(peer_id, chain, at, expected, pins)
            _verify_signature(proven.public_key, auth.data, octets, proven.principal)
            return ProvenPeer(proven.principal, proven.anchor)
        case AuthMethod.SHARED_KEY_MESSAGE_INTEGRITY_CODE:
            secret = identity.secret_for(peer_id)
            # an unknown peer costs the same work as a wrong secret, so that names cannot be probed for by time
            mac = _shared_key_auth(prf, secret.reveal() if secret is not None else sk_p, octets)
            if not hmac.compare_digest(mac, auth.data) or secret is None:
                raise AuthenticationFailed(
                    f"{describe_id(peer_id)} did not prove the pre-shared key: the secrets of the two ends differ, "
                    "or this end has none for that name"
                )
            return ProvenPeer(identity.shared_key_principal(peer_id, expected), "psk")
        case AuthMethod.NULL_AUTHENTICATION:
            if not allow_anonymous or expected is not None or peer.id_type != IdType.ID_NULL:
                raise AuthenticationFailed(
                    "the peer is anonymous, which only a policy with allow_anonymous=True accepts"
                )
            if not hmac.compare_digest(_shared_key_auth(prf, sk_p, octets), auth.data):
                raise AuthenticationFailed("the anonymous peer's AUTH does not fit this key exchange")
            return ProvenPeer(Principal("anonymous", "machine", "anonymous"), "")
    raise AuthenticationFailed(
        f"the peer authenticates by method {auth.method}; this end accepts signatures (RFC 7427) and pre-shared keys"
    )


def _verify_signature(public_key: PublicKey, data: bytes, octets: bytes, principal: Principal) -> None:
    try:
        verify_auth(public_key, data, octets)
    except InvalidSignature:
        raise AuthenticationFailed(
            f"whoever presented the certificate of {principal.name} does not hold its private key"
        ) from None
    except WireError as error:
        raise AuthenticationFailed(f"the signature of {principal.name} cannot be used: {error}") from error
