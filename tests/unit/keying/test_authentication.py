"""The AUTH payload: what each method proves, and what it does not, without a key exchange around it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from securesock.crypto import suites
from securesock.crypto.signatures import SUPPORTED_HASHES
from securesock.errors import AuthenticationFailed
from securesock.identity.credentials import NOBODY
from securesock.identity.identity import Identity
from securesock.identity.names import IkeId, fqdn_id, parse_peer_target_name
from securesock.keying.ikev2.authentication import (
    ProvenPeer,
    identification,
    key_auth,
    prove_by_key,
    prove_ourselves,
    prove_peer,
    signed_octets,
)
from securesock.types import ANY_TRUSTED_PEER, Principal
from securesock.wire.id_types import IdType
from securesock.wire.ikev2.payloads import Authentication, Certificate, Identification
from securesock.wire.numbers import AuthMethod, CertEncoding, PayloadType

PRF = suites.PRF_HMAC_SHA2_256
SK_P = bytes(range(32))
OCTETS = b"what both ends sign over"
NOW = datetime.now(UTC)
A, B = fqdn_id("a.example"), fqdn_id("b.example")


@pytest.fixture(scope="module")
def holder() -> Identity:
    return Identity.ephemeral("host/a.example")


@pytest.fixture(scope="module")
def shared() -> tuple[Identity, Identity]:
    secret = "a secret of more than sixteen bytes"
    return Identity.from_psk("a.example", {"b.example": secret}), Identity.from_psk("b.example", {"a.example": secret})


def named(ike_id: IkeId) -> Identification:
    return identification(PayloadType.IDi, ike_id)


def judged(
    judge: Identity,
    ike_id: IkeId,
    auth: Authentication,
    chain: tuple[bytes, ...] = (),
    *,
    expected: object = None,
    allow_anonymous: bool = False,
    only_signature: bool = False,
    octets: bytes = OCTETS,
) -> ProvenPeer:
    shown = [Certificate(CertEncoding.X509_SIGNATURE, each) for each in chain]
    return prove_peer(
        judge,
        named(ike_id),
        shown,
        auth,
        PRF,
        SK_P,
        octets,
        NOW,
        expected,
        (),
        allow_anonymous=allow_anonymous,
        only_signature=only_signature,
    )


def test_a_signature_proves_whom_the_certificate_names(holder: Identity) -> None:
    auth = prove_ourselves(holder, None, PRF, SK_P, OCTETS, SUPPORTED_HASHES)
    assert auth.method == AuthMethod.DIGITAL_SIGNATURE
    proven = judged(holder, A, auth, holder.certificate_chain, only_signature=True)
    assert proven.principal == Principal("host/a.example", "machine", "x509", holder.fingerprint or "")


@pytest.mark.parametrize("octets", [b"other octets", b""])
def test_a_signature_over_something_else_proves_nothing(holder: Identity, octets: bytes) -> None:
    auth = prove_ourselves(holder, None, PRF, SK_P, OCTETS, SUPPORTED_HASHES)
    with pytest.raises(AuthenticationFailed, match="does not hold its private key"):
        judged(holder, A, auth, holder.certificate_chain, octets=octets)


@pytest.mark.parametrize("data", [b"", b"\x0c", b"\x02\x30\x00signature"])
def test_a_signature_that_cannot_be_read_proves_nothing(holder: Identity, data: bytes) -> None:
    with pytest.raises(AuthenticationFailed, match="cannot be used"):
        judged(holder, A, Authentication(AuthMethod.DIGITAL_SIGNATURE, data), holder.certificate_chain)


def test_without_a_hash_in_common_nothing_is_signed(holder: Identity) -> None:
    with pytest.raises(AuthenticationFailed, match="SHA-1"):
        prove_ourselves(holder, None, PRF, SK_P, OCTETS, ())


def test_a_shared_key_proves_the_name_that_it_is_shared_with(shared: tuple[Identity, Identity]) -> None:
    ours, peers = shared
    auth = prove_ourselves(ours, B, PRF, SK_P, OCTETS, ())
    assert judged(peers, A, auth) == ProvenPeer(Principal("host/a.example", "machine", "psk"), "psk")
    for wrong in (auth.data[:-1] + bytes((auth.data[-1] ^ 1,)), auth.data[:-1], b""):
        with pytest.raises(AuthenticationFailed, match="did not prove the pre-shared key"):
            judged(peers, A, Authentication(auth.method, wrong))
    with pytest.raises(AuthenticationFailed, match="did not prove the pre-shared key"):
        judged(peers, fqdn_id("c.example"), auth)


@pytest.mark.parametrize("peer", [None, fqdn_id("c.example")])
def test_with_nobody_a_key_is_shared_with_nothing_is_proven(
    shared: tuple[Identity, Identity], peer: IkeId | None
) -> None:
    with pytest.raises(AuthenticationFailed, match="no pre-shared key is configured"):
        prove_ourselves(shared[0], peer, PRF, SK_P, OCTETS, ())


def test_nobody_proves_this_key_exchange_and_no_name(holder: Identity) -> None:
    auth = prove_ourselves(Identity.anonymous(), None, PRF, SK_P, OCTETS, ())
    assert auth.method == AuthMethod.NULL_AUTHENTICATION
    assert judged(holder, NOBODY, auth, allow_anonymous=True).principal.name == "anonymous"
    with pytest.raises(AuthenticationFailed, match="does not fit"):
        judged(holder, NOBODY, Authentication(auth.method, bytes(32)), allow_anonymous=True)
    # RFC 7619 2.2: a name without a proof of it is none, and whoever expects somebody does not get nobody
    expected = parse_peer_target_name("a.example")
    for ike_id, who, allow in (
        (NOBODY, None, False),
        (A, None, True),
        (NOBODY, expected, True),
        (NOBODY, ANY_TRUSTED_PEER, True),
    ):
        with pytest.raises(AuthenticationFailed, match="allow_anonymous"):
            judged(holder, ike_id, auth, expected=who, allow_anonymous=allow)


@pytest.mark.parametrize("method", [1, 3, 9, 10, 11, 12, 15, 201, 255])
def test_other_methods_prove_nothing(holder: Identity, method: int) -> None:
    with pytest.raises(AuthenticationFailed, match=f"method {method}"):
        judged(holder, A, Authentication(method, bytes(32)), holder.certificate_chain)


@pytest.mark.parametrize(
    "method",
    [AuthMethod.SHARED_KEY_MESSAGE_INTEGRITY_CODE, AuthMethod.NULL_AUTHENTICATION, AuthMethod.RSA_DIGITAL_SIGNATURE],
)
def test_whom_a_user_is_proven_to_signs(shared: tuple[Identity, Identity], method: int) -> None:
    """RFC 7296 2.16: even one that knows a key of ours is no such machine."""
    ours, peers = shared
    data = prove_ourselves(ours, B, PRF, SK_P, OCTETS, ()).data
    with pytest.raises(AuthenticationFailed, match="machine with a certificate"):
        judged(peers, A, Authentication(method, data), allow_anonymous=True, only_signature=True)


def test_eaps_key_is_proven_as_a_shared_one() -> None:
    msk = bytes(range(64))
    auth = key_auth(PRF, msk, OCTETS)
    prove_by_key(PRF, msk, OCTETS, auth)
    for key, octets, said in (
        (bytes(64), OCTETS, auth),
        (msk, b"other octets", auth),
        (msk, OCTETS, None),
        (msk, OCTETS, Authentication(AuthMethod.NULL_AUTHENTICATION, auth.data)),
        (msk, OCTETS, Authentication(auth.method, auth.data[:-1])),
    ):
        with pytest.raises(AuthenticationFailed, match="does not fit EAP's key"):
            prove_by_key(PRF, key, octets, said)


def test_what_is_signed_depends_on_everything_that_it_is_to_bind() -> None:
    """RFC 7296 2.15 and RFC 9242 3.3: message, nonce, ID with its type, SK_p, and the intermediate exchanges."""

    def octets(
        message: bytes = b"message",
        nonce: bytes = bytes(32),
        sk_p: bytes = SK_P,
        ike_id: IkeId = A,
        intermediate: bytes = b"",
    ) -> bytes:
        return signed_octets(message, nonce, PRF, sk_p, named(ike_id), intermediate)

    changed = [
        octets(message=b"another"),
        octets(nonce=bytes(31) + b"\x01"),
        octets(sk_p=bytes(32)),
        octets(ike_id=B),
        octets(ike_id=IkeId(IdType.ID_RFC822_ADDR, A.data)),
        octets(intermediate=b"exchange"),
    ]
    assert len({octets(), *changed}) == 7
