"""An identity proves its names, and judges what others show."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import pytest

from securesock.errors import AuthenticationFailed, LocalMisuse
from securesock.identity.identity import Identity
from securesock.identity.names import parse_peer_target_name
from securesock.types import ANY_TRUSTED_PEER

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_two_ephemeral_identities_of_one_authority_prove_themselves_to_each_other() -> None:
    ours = Identity.ephemeral("host/a.example")
    peer = Identity.ephemeral("host/b.example", authority=ours.authority)
    proven = ours.validate_certificate(
        peer.our_id(), peer.certificate_chain, NOW, parse_peer_target_name("host/b.example")
    )
    assert proven.principal.name == "host/b.example"
    assert proven.principal.kind == "machine"
    assert proven.principal.method == "x509"
    assert proven.principal.evidence == peer.fingerprint
    assert proven.public_key == peer.private_key.public_key()


def test_another_name_is_refused() -> None:
    ours = Identity.ephemeral("host/a.example")
    peer = Identity.ephemeral("host/b.example", authority=ours.authority)
    with pytest.raises(AuthenticationFailed, match=r"host/b\.example.*host/c\.example") as caught:
        ours.validate_certificate(peer.our_id(), peer.certificate_chain, NOW, parse_peer_target_name("host/c.example"))
    assert caught.value.reason == "other-name"


def test_another_authority_is_refused() -> None:
    ours = Identity.ephemeral("host/a.example")
    peer = Identity.ephemeral("host/b.example")
    with pytest.raises(AuthenticationFailed, match="no trust anchor") as caught:
        ours.validate_certificate(peer.our_id(), peer.certificate_chain, NOW, ANY_TRUSTED_PEER)
    assert caught.value.reason == "other-authority"


def test_an_identity_is_not_pickled_and_shows_no_key() -> None:
    ours = Identity.ephemeral("host/a.example")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ours)
    assert "host/a.example" in repr(ours)


def test_a_shared_secret_is_found_by_exactly_the_peers_id() -> None:
    ours = Identity.from_psk(name="a.example", peers={"b.example": b"0123456789abcdef"})
    secret = ours.secret_for(parse_peer_target_name("b.example").ike_id)
    assert secret is not None and secret.matches(b"0123456789abcdef")
    assert ours.secret_for(parse_peer_target_name("c.example").ike_id) is None
    assert ours.secret_for(ours.our_id()) is None


def test_a_short_secret_and_our_own_name_are_misuse() -> None:
    with pytest.raises(LocalMisuse, match="15 bytes"):
        Identity.from_psk(name="a.example", peers={"b.example": b"0123456789abcde"})
    with pytest.raises(LocalMisuse, match="our own name"):
        Identity.from_psk(name="a.example", peers={"host/A.example": b"0123456789abcdef"})
