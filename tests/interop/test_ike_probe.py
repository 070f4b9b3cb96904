"""securesock ike-probe asks strongSwan: what it is configured to take is found, what it is not is told by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop import strongswan
from tests.interop.network import PEER_HOST, cable

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_program("ip"),
    pytest.mark.needs_program("swanctl"),
    pytest.mark.needs_program("charon-systemd"),
]

CONNECTION = """  version = 2
  local_addrs = 10.90.0.2
  remote_addrs = 10.90.0.1
  proposals = aes256gcm16-prfsha256-ecp256,aes128-sha256-modp2048
  local { auth = psk }
  remote { auth = psk }
  children { net { } }"""


@pytest.mark.parametrize("port", [500, 4500])
def test_what_strongswan_is_configured_to_take_is_found(tmp_path: Path, port: int) -> None:
    with cable() as names, strongswan.charon(names.peers, tmp_path, CONNECTION):
        command = "import sys; from securesock.cli import main; sys.exit(main())"
        arguments = ["ike-probe", PEER_HOST, "--port", str(port), "--json"]
        done = subprocess.run(
            ["ip", "netns", "exec", names.ours, sys.executable, "-c", command, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    accepted = {name for name, each in found.items() if each["verdict"] == "accepted"}
    assert accepted == {"all that we know", "P-256", "MODP-2048", "AES-256-GCM-16", "AES-128-CBC"}
    assert found["all that we know"]["suite"].startswith("AES-256-GCM-16/")
    assert found["X25519"]["detail"] in {"NO_PROPOSAL_CHOSEN", "INVALID_KE_PAYLOAD"}
