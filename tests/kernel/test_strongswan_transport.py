"""UDP in transport mode with strongSwan 5.9 and the kernel's ESP: an ordinary program beside charon, us as nobody.

The kernel checks what arrives against the selectors and the checksum rules of RFC 3948 3.1.2, and the cable is
recorded: between the two nothing is seen but IKE, and ESP in UDP.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop import strongswan
from tests.interop.network import OUR_HOST, PEER_HOST, Namespaces, cable
from tests.interop.users import asked_plainly, echo_program, secured_user
from tests.support.recorder import Recording, not_ipsec, recording

pytestmark = [pytest.mark.needs_program("swanctl"), pytest.mark.needs_program("charon-systemd")]

SECRET: Final = "a secret of more than sixteen bytes"
SHARED: Final = f'  ike-1 {{\n    id-1 = a.test\n    id-2 = b.test\n    secret = "{SECRET}"\n  }}'
ECHO: Final = 7
DATAGRAMS: Final = [100] * 200  # beyond the half of an SA's packets, where our rekey begins, and not to its end
CONNECTION: Final = """  version = 2
  local_addrs = 10.90.0.2
  remote_addrs = 10.90.0.1
  local_port = 4500
  remote_port = 4500
  proposals = aes256gcm16-prfsha256-x25519
  mobike = no
  local {{
    auth = psk
    id = b.test
  }}
  remote {{
    auth = psk
    id = a.test
  }}
  children {{
    net {{
      local_ts = 10.90.0.2/32[udp]
      remote_ts = 10.90.0.1/32[udp{port}]
      mode = transport
      esp_proposals = {esp}
    }}
  }}"""


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    with cable() as pair:
        yield pair


def script(**values: Any) -> dict[str, Any]:
    entry = {"networks": [f"{PEER_HOST}/32"], "mode": "transport", "carrier": "4500", "peer": "b.test"}
    return {"secret": SECRET, "peers": [entry], "timeout": 30.0} | values


@contextlib.contextmanager
def both_ends_recorded(namespaces: Namespaces) -> Iterator[tuple[Recording, Recording]]:
    """What we send, and what the peer does: a recording has what its own device sends."""
    with recording(namespaces.ours, "end0") as ours, recording(namespaces.peers, "end1") as peers:
        yield ours, peers


@pytest.mark.parametrize(
    "esp",
    [f"{each}-x25519" for each in ("aes256gcm16", "chacha20poly1305", "aes256-sha256")] + ["aes256gcm16-x25519-esn"],
)
def test_nobody_reaches_an_ordinary_program_and_the_cable_carries_esp_alone(
    namespaces: Namespaces, tmp_path: Path, esp: str
) -> None:
    with (
        both_ends_recorded(namespaces) as ends,
        strongswan.charon(
            namespaces.peers, tmp_path, CONNECTION.format(esp=esp, port=""), SHARED, esp=strongswan.IN_KERNEL
        ) as peer,
        echo_program(namespaces.peers, PEER_HOST, ECHO),
        secured_user(namespaces.ours, script(rekey_packets=240)) as user,
    ):
        assert user.ask("user") == 65534
        sizes = [0, 1, 100, 1000, 1300]
        assert user.ask("echo", [PEER_HOST, ECHO], sizes) == sizes
        user.begin("echo", [PEER_HOST, ECHO], DATAGRAMS)
        peer.rekey_child()
        peer.rekey_ike()
        assert user.take() == DATAGRAMS
        info = user.ask("security", [PEER_HOST, ECHO])
        assert user.ask("refusals") == {}
        user.ask("close")
        log = peer.wait_for("deleting IKE_SA")
        sent = [each.packets() for each in ends]
    assert info["peer_machine"]["name"] == "host/b.test"
    assert info["rekeys"] >= 2
    assert "CHILD_SA net{3}" in log
    assert [not_ipsec(each) for each in sent] == [[], []]


def test_strongswan_begins_and_an_ordinary_program_asks_us(namespaces: Namespaces, tmp_path: Path) -> None:
    config = CONNECTION.format(esp="aes256gcm16", port="/4500")
    ours = script(bind=[OUR_HOST, 4500])
    with (  # the port that IKE comes to is the application's too: transport mode has no other inside
        both_ends_recorded(namespaces) as ends,
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED, esp=strongswan.IN_KERNEL) as peer,
        secured_user(namespaces.ours, ours) as user,
    ):
        peer.initiate()
        sizes = [10, 1000, 1300]
        user.begin("serve", len(sizes))
        assert asked_plainly(namespaces.peers, PEER_HOST, OUR_HOST, 4500, sizes) == sizes
        senders = user.take()
        info = user.ask("security", senders[0])
        sent = [each.packets() for each in ends]
    assert {sender[0] for sender in senders} == {PEER_HOST}
    assert info["peer_machine"]["name"] == "host/b.test"
    assert [not_ipsec(each) for each in sent] == [[], []]


def test_auto_finds_strongswan_behind_a_program_that_echoes_whatever_comes(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    config = CONNECTION.format(esp="aes256gcm16", port="")
    ours = script(peers=[{"networks": [PEER_HOST], "peer": "b.test"}])
    with (
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED, esp=strongswan.IN_KERNEL),
        echo_program(namespaces.peers, PEER_HOST, ECHO),
        secured_user(namespaces.ours, ours) as user,
    ):
        sizes = [10, 1000]
        assert user.ask("echo", [PEER_HOST, ECHO], sizes) == sizes
        info = user.ask("security", [PEER_HOST, ECHO])
        refusals = user.ask("refusals")
    assert info["peer_machine"]["name"] == "host/b.test"
    assert refusals.keys() == {"our-own-message"}


def test_an_ordinary_program_asks_us_at_a_port_inside(namespaces: Namespaces, tmp_path: Path) -> None:
    config = CONNECTION.format(esp="aes256gcm16", port="/7000")
    ours = script(bind=[OUR_HOST, 4500])
    ours["peers"][0]["inner_port"] = 7000
    with (
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED, esp=strongswan.IN_KERNEL) as peer,
        secured_user(namespaces.ours, ours) as user,
    ):
        peer.initiate()
        sizes = [10, 1000, 1300]
        user.begin("serve", len(sizes))
        assert asked_plainly(namespaces.peers, PEER_HOST, OUR_HOST, 7000, sizes) == sizes
        assert {sender[0] for sender in user.take()} == {PEER_HOST}
