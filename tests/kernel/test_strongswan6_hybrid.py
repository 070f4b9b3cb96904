"""The ML-KEM-768 hybrid with a second implementation: strongSwan 6 of Debian unstable (RFC 9242, RFC 9370).

All of it with the kernel's ESP under charon, IKE fragments of both ends (RFC 7383), certificates, and rekeys whose
second key exchange is an IKE_FOLLOWUP_KE.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.interop import certificates, strongswan
from tests.interop.debian_unstable import debian_unstable
from tests.interop.network import Namespaces, cable
from tests.interop.ours import OurEnd

pytestmark = pytest.mark.needs_program("debootstrap")

PREPARED: Final = (debian_unstable,)
SECONDS: Final = 200.0
HYBRID: Final = "IKE:AES_GCM_16_256/PRF_HMAC_SHA2_256/CURVE_25519/KE1_ML_KEM_768"
CONNECTION: Final = """  version = 2
  local_addrs = 10.90.0.2
  remote_addrs = 10.90.0.1
  local_port = 4500
  remote_port = 4500
  proposals = aes256gcm16-prfsha256-x25519-ke1_mlkem768
  mobike = no
  encap = yes
  fragmentation = yes
  send_cert = always
  local {
    auth = pubkey
    id = b.test
    certs = peer.pem
  }
  remote {
    auth = pubkey
    id = a.test
  }
  children {
    net {
      local_ts = 10.90.0.2/32[17/4500]
      remote_ts = 10.90.0.1/32[17/4500]
      mode = transport
      esp_proposals = aes256gcm16-x25519-ke1_mlkem768-esn
    }
  }"""


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    with cable() as pair:
        yield pair


def proofs(folder: Path) -> dict[str, Any]:
    """RSA's certificates make IKE_AUTH larger than what goes unfragmented.  charon's are written, ours returned."""
    authority = ec.generate_private_key(ec.SECP256R1())
    anchor = certificates.issued("the authority", authority.public_key(), authority, ca=True)
    ours, peers = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    certificates.write_for_swanctl(folder, anchor, certificates.issued("b.test", peers.public_key(), authority), peers)
    return {
        "certificate": certificates.pem(certificates.issued("a.test", ours.public_key(), authority)),
        "key": certificates.key_pem(ours),
        "trust": certificates.pem(anchor),
    }


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_the_hybrid_is_agreed_on_and_kept_through_rekeys_of_either_end(
    namespaces: Namespaces, tmp_path: Path, role: str
) -> None:
    script = proofs(tmp_path) | {
        "role": role,
        "rekeys": ["ours ike", "ours child", "theirs ike", "theirs child"],
    }
    with (
        strongswan.charon(
            namespaces.peers,
            tmp_path,
            CONNECTION,
            esp=strongswan.IN_KERNEL,
            options="fragment_size = 600",
            root=debian_unstable(),
        ) as peer,
        OurEnd(namespaces.ours, script) as ours,
    ):
        if role == "responder":
            peer.initiate()
        ours.wait_for_event("established")
        ours.wait_for_event("rekeyed ike")
        ours.wait_for_event("rekeyed child")
        peer.rekey_ike()
        ours.wait_for_event("rekeyed ike")
        peer.rekey_child()
        outcome = ours.outcome()
        log = peer.wait_for("received DELETE for IKE_SA")
    assert outcome["error"] is None, outcome
    assert outcome["rekeyed"] == ["ike", "child", "ike", "child"]
    assert "ML-KEM-768" in outcome["main_mode"]
    assert outcome["fragments_sent"] and outcome["fragments_received"]
    assert log.count(f"selected proposal: {HYBRID}") == 3  # the first, ours and theirs
    assert "parsed IKE_INTERMEDIATE" in log
    for spoken in ("generating", "parsed"):  # by charon for its two rekeys, to charon for ours
        assert len(re.findall(rf"{spoken} IKE_FOLLOWUP_KE request \d+ \[ KE", log)) == 2
