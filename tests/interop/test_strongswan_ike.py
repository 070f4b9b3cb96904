"""IKEv2 with strongSwan 5.9: a stranger's implementation agrees with ours on algorithms, keys and proofs.

What is shown is IKE_SA_INIT and IKE_AUTH in both roles: charon reports the IKE_SA established, and ours reports that
the peer proved
itself.  charon's user-space ESP knows tunnel mode alone and ours here transport mode alone, so the CHILD_SA is
refused by whoever is asked
for it; that both ends go on to say so, inside the protection that they agreed on, is part of the test.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.interop import strongswan

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_program("ip"),
    pytest.mark.needs_program("swanctl"),
    pytest.mark.needs_program("charon-systemd"),
]

OUR_END: Final = Path(__file__).with_name("our_end.py")
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
def namespaces() -> Iterator[strongswan.Namespaces]:
    with strongswan.cable() as pair:
        yield pair


class OurEnd:
    def __init__(self, namespace: str, script: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, str(OUR_END)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(script) + "\n")
        self._process.stdin.flush()
        assert self._line() == {"ready": True}

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def outcome(self) -> dict[str, Any]:
        return self._line()

    def __enter__(self) -> OurEnd:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def played(namespace: str, script: dict[str, Any]) -> dict[str, Any]:
    with OurEnd(namespace, script) as ours:
        return ours.outcome()


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
    namespaces: strongswan.Namespaces, tmp_path: Path, offers: str, chosen: str
) -> None:
    connection = CONNECTION.format(proposals=PROPOSALS, auth="psk", certificate="")
    with strongswan.charon(namespaces.peers, tmp_path, connection, SHARED.format(SECRET)) as peer:
        outcome = played(namespaces.ours, {"role": "initiator", "secret": SECRET, "offers": offers})
        log = peer.wait_for("deleting IKE_SA")
    assert_proven(outcome, log)
    assert f"selected proposal: {chosen}" in log
    assert ("requesting MODP_2048" in log) == (offers == "modp after another group")


def test_another_shared_key_proves_nothing(namespaces: strongswan.Namespaces, tmp_path: Path) -> None:
    connection = CONNECTION.format(proposals=PROPOSALS, auth="psk", certificate="")
    with strongswan.charon(namespaces.peers, tmp_path, connection, SHARED.format(SECRET)) as peer:
        script = {"role": "initiator", "secret": "another secret of sixteen bytes"}
        outcome = played(namespaces.ours, script)
        log = peer.wait_for("MAC mismatched")
    assert outcome["error"] == "AuthenticationFailed"
    assert "] established between" not in log


def test_strongswan_begins_and_both_ends_prove_a_shared_key(namespaces: strongswan.Namespaces, tmp_path: Path) -> None:
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
def test_we_begin_and_both_ends_prove_certificates(
    namespaces: strongswan.Namespaces, tmp_path: Path, kind: str
) -> None:
    authority = ec.generate_private_key(ec.SECP256R1())
    anchor = certificate("the authority", authority.public_key(), authority, ca=True)
    ours, peers = KEYS[kind](), KEYS[kind]()
    write(tmp_path, anchor, certificate("b.test", peers.public_key(), authority), peers)
    script = {
        "role": "initiator",
        "certificate": text(certificate("a.test", ours.public_key(), authority)),
        "key": key_text(ours),
        "trust": text(anchor),
    }
    connection = CONNECTION.format(proposals=PROPOSALS, auth="pubkey", certificate="certs = peer.pem")
    with strongswan.charon(namespaces.peers, tmp_path, connection) as peer:
        outcome = played(namespaces.ours, script)
        log = peer.wait_for("deleting IKE_SA")
    assert_proven(outcome, log)


def test_a_certificate_of_another_authority_is_refused_by_us(namespaces: strongswan.Namespaces, tmp_path: Path) -> None:
    authority, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    anchor = certificate("the authority", authority.public_key(), authority, ca=True)
    ours, peers = KEYS["ECDSA"](), KEYS["ECDSA"]()
    write(tmp_path, anchor, certificate("b.test", peers.public_key(), authority), peers)
    script = {
        "role": "initiator",
        "certificate": text(certificate("a.test", ours.public_key(), authority)),
        "key": key_text(ours),
        "trust": text(certificate("another authority", other.public_key(), other, ca=True)),
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


def certificate(
    name: str, public_key: Any, authority: ec.EllipticCurvePrivateKey, *, ca: bool = False
) -> x509.Certificate:
    """One day's certificate."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = subject if ca else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the authority")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
    )
    if ca:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(authority, hashes.SHA256())


def text(found: x509.Certificate) -> str:
    return found.public_bytes(Encoding.PEM).decode()


def key_text(key: Any) -> str:
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return data.decode()


def write(folder: Path, anchor: x509.Certificate, leaf: x509.Certificate, key: Any) -> None:
    """Where swanctl looks for them."""
    for place, content in (
        ("x509ca/ca.pem", text(anchor)),
        ("x509/peer.pem", text(leaf)),
        ("pkcs8/peer.pem", key_text(key)),
    ):
        path = folder / "swanctl" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
