"""IKEv2 with strongSwan 5.9: a stranger's implementation agrees with ours on algorithms, keys and proofs.

What is shown is IKE_SA_INIT and IKE_AUTH in both roles: charon reports the IKE_SA established, and ours reports that
the peer proved
itself.  charon's user-space ESP knows tunnel mode alone and ours here transport mode alone, so the CHILD_SA is
refused by whoever is asked
for it; that both ends go on to say so, inside the protection that they agreed on, is part of the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.interop import certificates, strongswan
from tests.interop.network import Namespaces, cable
from tests.interop.ours import OurEnd, played

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_program("ip"),
    pytest.mark.needs_program("swanctl"),
    pytest.mark.needs_program("charon-systemd"),
]

SECRET: Final = "a secret of more than sixteen bytes"
PROPOSALS: Final = (
    "aes256gcm16-prfsha256-x25519,chacha20poly1305-prfsha384-ecp384,aes256-sha256-ecp256,aes128-sha512-modp2048"
)
CONNECTION: Final = """  version = 2
  local_addrs = 10.90.0.2
  remote_addrs = 10.90.0.1
  local_port = 4500
  remote_port = 4500
  proposals = {proposals}
  mobike = no
  local {{
    auth = {auth}
    id = b.test
    {certificate}
  }}
  remote {{
    auth = {auth}
    id = a.test
  }}
  children {{
    net {{
      local_ts = 10.90.0.2/32
      remote_ts = 10.90.0.1/32
      mode = transport
      esp_proposals = aes256gcm16
    }}
  }}"""
SHARED: Final = '  ike-1 {{\n    id-1 = a.test\n    id-2 = b.test\n    secret = "{}"\n  }}'


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    with cable() as pair:
        yield pair


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        ("default", "IKE:AES_GCM_16_256/PRF_HMAC_SHA2_256/CURVE_25519"),
        ("chacha20", "IKE:CHACHA20_POLY1305/PRF_HMAC_SHA2_384/ECP_384"),
        ("cbc", "IKE:AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/ECP_256"),
        ("modp after another group", "IKE:AES_CBC_128/HMAC_SHA2_512_256/PRF_HMAC_SHA2_512/MODP_2048"),
    ],
)
def test_we_begin_and_both_ends_prove_a_shared_key(
    namespaces: Namespaces, tmp_path: Path, offers: str, chosen: str
) -> None:
    connection = CONNECTION.format(proposals=PROPOSALS, auth="psk", certificate="")
    with strongswan.charon(namespaces.peers, tmp_path, connection, SHARED.format(SECRET)) as peer:
        outcome = played(namespaces.ours, {"role": "initiator", "secret": SECRET, "offers": offers})
        log = peer.wait_for("deleting IKE_SA")
    assert_proven(outcome, log)
    assert f"selected proposal: {chosen}" in log
    assert ("requesting MODP_2048" in log) == (offers == "modp after another group")


def test_another_shared_key_proves_nothing(namespaces: Namespaces, tmp_path: Path) -> None:
    connection = CONNECTION.format(proposals=PROPOSALS, auth="psk", certificate="")
    with strongswan.charon(namespaces.peers, tmp_path, connection, SHARED.format(SECRET)) as peer:
        script = {"role": "initiator", "secret": "another secret of sixteen bytes"}
        outcome = played(namespaces.ours, script)
        log = peer.wait_for("MAC mismatched")
    assert outcome["error"] == "AuthenticationFailed"
    assert "] established between" not in log


def test_strongswan_begins_and_both_ends_prove_a_shared_key(namespaces: Namespaces, tmp_path: Path) -> None:
    connection = CONNECTION.format(proposals=PROPOSALS, auth="psk", certificate="")
    with (
        strongswan.charon(namespaces.peers, tmp_path, connection, SHARED.format(SECRET)) as peer,
        OurEnd(namespaces.ours, {"role": "responder", "secret": SECRET}) as ours,
    ):
        peer.initiate()
        log = peer.wait_for("no CHILD_SA built")
        outcome = ours.outcome()
    assert "] established between 10.90.0.2[b.test]...10.90.0.1[a.test]" in log
    assert outcome["error"] == "PeerIncompatible"
    assert "ESP proposals" in outcome["text"]  # charon offers ESN to nobody, and ours takes nothing else


KEYS: Final = {
    "ECDSA": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ECDSA-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("kind", KEYS)
def test_we_begin_and_both_ends_prove_certificates(namespaces: Namespaces, tmp_path: Path, kind: str) -> None:
    authority = ec.generate_private_key(ec.SECP256R1())
    anchor = certificates.issued("the authority", authority.public_key(), authority, ca=True)
    ours, peers = KEYS[kind](), KEYS[kind]()
    certificates.write_for_swanctl(
        tmp_path, anchor, certificates.issued("b.test", peers.public_key(), authority), peers
    )
    script = {
        "role": "initiator",
        "certificate": certificates.pem(certificates.issued("a.test", ours.public_key(), authority)),
        "key": certificates.key_pem(ours),
        "trust": certificates.pem(anchor),
    }
    connection = CONNECTION.format(proposals=PROPOSALS, auth="pubkey", certificate="certs = peer.pem")
    with strongswan.charon(namespaces.peers, tmp_path, connection) as peer:
        outcome = played(namespaces.ours, script)
        log = peer.wait_for("deleting IKE_SA")
    assert_proven(outcome, log)


def test_a_certificate_of_another_authority_is_refused_by_us(namespaces: Namespaces, tmp_path: Path) -> None:
    authority, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    anchor = certificates.issued("the authority", authority.public_key(), authority, ca=True)
    ours, peers = KEYS["ECDSA"](), KEYS["ECDSA"]()
    certificates.write_for_swanctl(
        tmp_path, anchor, certificates.issued("b.test", peers.public_key(), authority), peers
    )
    script = {
        "role": "initiator",
        "certificate": certificates.pem(certificates.issued("a.test", ours.public_key(), authority)),
        "key": certificates.key_pem(ours),
        "trust": certificates.pem(certificates.issued("another authority", other.public_key(), other, ca=True)),
    }
    connection = CONNECTION.format(proposals=PROPOSALS, auth="pubkey", certificate="certs = peer.pem")
    with strongswan.charon(namespaces.peers, tmp_path, connection) as peer:
        outcome = played(namespaces.ours, script)
        log = peer.wait_for("AUTH_FAILED")
    assert outcome["error"] == "AuthenticationFailed"
    assert "N(AUTH_FAILED)" in log  # and we told it so


def assert_proven(outcome: dict[str, Any], log: str) -> None:
    """charon took our proof, and we took charon's: only then do we speak of the CHILD_SA."""
    assert "] established between 10.90.0.2[b.test]...10.90.0.1[a.test]" in log
    assert "authentication of 'a.test' with" in log
    assert outcome["error"] == "PeerIncompatible", outcome
    assert "the protection of this flow" in outcome["text"]
    assert "received DELETE for IKE_SA" in log  # protected with the keys that both derived
