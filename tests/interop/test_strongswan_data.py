"""UDP through strongSwan 5.9's user-space ESP: we are nobody, tunnel mode, UDP encapsulation to port 4500.

An ordinary echo program stands behind charon.  Whatever passes has real inner IP and UDP headers, because the kernel of
charon's namespace looks at all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop import strongswan
from tests.interop.network import Namespaces, cable, ip
from tests.interop.users import asked_plainly, echo_program, secured_user

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_program("ip"),
    pytest.mark.needs_program("swanctl"),
    pytest.mark.needs_program("charon-systemd"),
]

SECRET: Final = "a secret of more than sixteen bytes"
SHARED: Final = f'  ike-1 {{\n    id-1 = a.test\n    id-2 = b.test\n    secret = "{SECRET}"\n  }}'
BEHIND: Final = {"4": ("10.92.0.1", "10.92.0.0/24"), "6": ("fd92::1", "fd92::/64")}
INNER: Final = {"4": "10.91.0.1", "6": "fd91::1"}
POOLS: Final = "  four {\n    addrs = 10.91.0.0/24\n  }\n  six {\n    addrs = fd91::/112\n  }"
ECHO: Final = 7
PORT: Final = 7000

CONNECTION: Final = """  version = 2
  local_addrs = 10.90.0.2
  remote_addrs = 10.90.0.1
  local_port = 4500
  remote_port = 4500
  proposals = {ike}
  mobike = no
  {connection}
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
      local_ts = {behind}
      remote_ts = {ours}
      mode = tunnel
      esp_proposals = {esp}
      {child}
    }}
  }}"""


def connection(version: str = "4", **values: str) -> str:
    """swanctl's connection to us."""
    defaults = {
        "ike": "aes256gcm16-prfsha256-x25519",
        "auth": "psk",
        "certificate": "",
        "behind": BEHIND[version][1],
        "ours": "dynamic",
        "esp": "aes256gcm16",
        "connection": "pools = four, six",
        "child": "",
    }
    return CONNECTION.format(**(defaults | values))


def script(version: str = "4", **values: Any) -> dict[str, Any]:
    """Who we are and how b.test is reached."""
    entry = {"networks": [BEHIND[version][1]], "gateway": "10.90.0.2", "inner": "assigned", "peer": "b.test"}
    return {"secret": SECRET, "peers": [entry]} | values


@contextlib.contextmanager
def behind(namespace: str, version: str = "4") -> Iterator[list[Any]]:
    """An echo program at an address that only charon's side has; where it is."""
    host = BEHIND[version][0]
    ip("-n", namespace, "addr", "add", f"{host}/{'32' if version == '4' else '128'}", "dev", "lo")
    with echo_program(namespace, host, ECHO):
        yield [host, ECHO]


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    with cable() as pair:
        yield pair


def test_nobody_reaches_an_echo_program_through_a_tunnel_with_an_assigned_address(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    with (
        strongswan.charon(namespaces.peers, tmp_path, connection(), SHARED, pools=POOLS) as peer,
        behind(namespaces.peers) as echo,
        secured_user(namespaces.ours, script()) as user,
    ):
        assert user.ask("user") == 65534
        # the last ones are sealed in pieces, and come back in pieces
        sizes = [0, 1, 100, 1000, 1400, 1472, 3000, 20000]
        assert user.ask("echo", echo, sizes) == sizes
        info = user.ask("security", echo)
        assert user.ask("refusals") == {}
        user.ask("close")
        log = peer.wait_for("deleting IKE_SA")
    assert (info["peer_machine"]["name"], info["requested_address"]) == ("host/b.test", echo)
    assert "remote host is behind NAT" in log  # as we made it believe, because we cannot speak protocol 50
    assert "received packet: from 10.90.0.1[500]" not in log
    assert "TS 10.92.0.0/24[udp] === 10.91.0.1/32[udp]" in log


def test_strongswan_begins_and_a_plain_program_behind_it_is_answered(namespaces: Namespaces, tmp_path: Path) -> None:
    config = connection(ours=f"{INNER['4']}/32", connection="")
    ours = script(bind=["10.90.0.1", 4500])
    ours["peers"][0]["inner"] = [INNER["4"], PORT]
    with (
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED) as peer,
        secured_user(namespaces.ours, ours) as user,
    ):
        ip("-n", namespaces.peers, "addr", "add", f"{BEHIND['4'][0]}/32", "dev", "lo")
        peer.initiate()
        sizes = [10, 1000, 3000]
        user.begin("serve", len(sizes))
        assert asked_plainly(namespaces.peers, BEHIND["4"][0], INNER["4"], PORT, sizes) == sizes
        senders = user.take()
        info = user.ask("security", senders[0])
        assert user.ask("refusals") == {}
    assert {sender[0] for sender in senders} == {BEHIND["4"][0]}
    assert info["peer_machine"]["name"] == "host/b.test"
    assert info["requested_address"] == [INNER["4"], PORT]
