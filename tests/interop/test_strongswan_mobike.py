"""MOBIKE (RFC 4555) with strongSwan 5.9: either end's address goes and another comes, and the tunnel goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop import strongswan
from tests.interop.network import Namespaces, cable, ip
from tests.interop.test_strongswan_data import (
    BEHIND,
    INNER,
    POOLS,
    PORT,
    SHARED,
    behind,
    connection,
    script,
)
from tests.interop.users import asked_plainly, secured_user

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_program("ip"),
    pytest.mark.needs_program("swanctl"),
    pytest.mark.needs_program("charon-systemd"),
]


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    with cable() as pair:
        yield pair


def mobile(config: str) -> str:
    """strongSwan's default, which the other suites turn off."""
    assert "mobike = no" in config
    return config.replace("mobike = no", "mobike = yes")


def test_we_move_and_strongswan_follows(namespaces: Namespaces, tmp_path: Path) -> None:
    with (
        strongswan.charon(namespaces.peers, tmp_path, mobile(connection()), SHARED, pools=POOLS) as peer,
        behind(namespaces.peers) as echo,
        secured_user(namespaces.ours, script()) as user,
    ):
        assert user.ask("echo", echo, [100, 3000]) == [100, 3000]
        before = user.ask("security", echo)
        ip("-n", namespaces.ours, "addr", "del", "10.90.0.1/24", "dev", "end0")
        ip("-n", namespaces.ours, "addr", "add", "10.90.0.33/24", "dev", "end0")
        assert 1 <= user.ask("persist", echo, 20) < 20
        assert user.ask("echo", echo, [100, 3000]) == [100, 3000]
        after = user.ask("security", echo)
        # and the other way round: strongSwan asks under the same IKE_SA, at our new address
        peer.swanctl("--rekey", "--ike", "peer")
        peer.wait_for("IKE_SA peer[2] rekeyed")
        assert user.ask("echo", echo, [100]) == [100]
        refusals = user.ask("refusals")
        log = peer.log
    # (its user-space ESP cannot move an SA: it replaces the CHILD_SA after the update)
    assert before["main_mode_sa_id"] == after["main_mode_sa_id"]
    assert refusals.pop("path-changed") == 1
    assert set(refusals) <= {"carrier-error", "not-sent"}
    assert "N(UPD_SA_ADDR) N(NATD_S_IP) N(NATD_D_IP) N(COOKIE2)" in log
    assert "from 10.90.0.33[" in log


def test_strongswan_moves_and_we_follow(namespaces: Namespaces, tmp_path: Path) -> None:
    config = mobile(connection(ours=f"{INNER['4']}/32", connection="", local="%any"))
    ours = script(bind=["10.90.0.1", 4500])
    ours["peers"][0] |= {"inner": INNER["4"], "inner_port": PORT}
    with (
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED) as peer,
        secured_user(namespaces.ours, ours) as user,
    ):
        host = BEHIND["4"][0]
        ip("-n", namespaces.peers, "addr", "add", f"{host}/32", "dev", "lo")
        peer.initiate()
        user.begin("serve", 1)
        assert asked_plainly(namespaces.peers, host, INNER["4"], PORT, [10]) == [10]
        first = user.take()
        before = user.ask("security", first[0])
        ip("-n", namespaces.peers, "addr", "add", "10.90.0.44/24", "dev", "end1")
        ip("-n", namespaces.peers, "addr", "del", "10.90.0.2/24", "dev", "end1")
        ip("-n", namespaces.peers, "addr", "replace", "10.90.0.44/24", "dev", "end1")
        peer.wait_for("N(UPD_SA_ADDR)")
        peer.wait_for("N(COOKIE2)")
        user.begin("serve", 2)
        assert asked_plainly(namespaces.peers, host, INNER["4"], PORT, [20, 2000]) == [20, 2000]
        senders = user.take()
        after = user.ask("security", senders[0])
        refusals = user.ask("refusals")
        log = peer.log
    # the application sees what it saw
    assert {sender[0] for sender in first + senders} == {host}
    assert before["main_mode_sa_id"] == after["main_mode_sa_id"]
    assert refusals.get("moved") == 1
    assert "from 10.90.0.44[" in log
