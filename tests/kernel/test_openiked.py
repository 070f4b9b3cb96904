"""OpenIKED 7.2 with the kernel's ESP: an ordinary program beside iked, or behind it, and us as nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop import certificates, hosts
from tests.interop.combinations import combinations
from tests.interop.network import OUR_HOST, PEER_HOST, Namespaces, cable
from tests.interop.openiked import iked, openiked
from tests.interop.users import echo_program, secured_user

PREPARED: Final = (openiked,)
SECONDS: Final = hosts.seconds(300.0)

IN_CLEAR: Final = {"no-packet"}
"""iked has neither trap nor block policies.  What the ordinary program says between two SAs may leave in the clear;
that is dropped here, and counted as what it looks like.  Seen once; never recorded on the cable."""
PASSWORD: Final = "a password of alice"
IKE: Final = {
    "x25519": "enc aes-256-gcm prf hmac-sha2-256 group curve25519",
    "ecp256": "enc aes-256 prf hmac-sha2-256 auth hmac-sha2-256 group ecp256",
    "modp2048": "enc aes-128 prf hmac-sha2-256 auth hmac-sha2-256 group modp2048",
}
ESP: Final = {"128": "enc aes-128 auth hmac-sha2-512", "256": "enc aes-256 auth hmac-sha2-384"}
COMBINED: Final = combinations(
    {"proof": ("psk", "ecdsa", "rsa"), "mode": ("transport", "tunnel"), "ike": tuple(IKE), "esp": tuple(ESP)}
)
POLICY: Final = """ikev2 "net" {who} {mode} esp proto udp from {theirs} to {ours} local 10.90.0.2 peer 10.90.0.1 \\
\tikesa {ike} \\
\tchildsa {esp} group {group} \\
\tsrcid b.test dstid a.test ikelifetime {ike_seconds} lifetime {child_seconds}"""


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    with cable() as pair:
        yield pair


def policy(mode: hosts.Mode, who: str = "passive", ike: str = "x25519", esp: str = "128", **seconds: str) -> str:
    theirs, ours = (PEER_HOST, OUR_HOST) if mode == "transport" else (hosts.NETWORK, hosts.INNER)
    values = {
        "ike_seconds": "3h",
        "child_seconds": "3h",
        "ike": IKE[ike],
        "esp": ESP[esp],
        "group": IKE[ike].split()[-1],
    }
    return POLICY.format(mode=mode, who=who, theirs=theirs, ours=ours, **(values | seconds))


@pytest.mark.parametrize("combined", COMBINED, ids=lambda each: "-".join(each.values()))
def test_we_begin_and_data_goes_both_ways_through_our_rekeys(
    namespaces: Namespaces, tmp_path: Path, combined: dict[str, Any]
) -> None:
    mode, proof, ike = combined["mode"], combined["proof"], combined["ike"]
    proofs = hosts.SECRET if proof == "psk" else certificates.proofs(proof)
    hosts.furnish(namespaces.peers, mode)
    ours = hosts.script(mode, proofs, ike=ike, rekey_packets=240, rekey_ike_packets=400)
    with (
        iked(namespaces.peers, tmp_path, policy(mode, ike=ike, esp=combined["esp"]), proofs),
        echo_program(namespaces.peers, *hosts.echo_at(mode)),
        secured_user(namespaces.ours, ours) as user,
    ):
        user.ask("reach", hosts.echo_at(mode))  # iked answers before its kernel has the SA: what comes first is lost
        assert user.ask("echo", hosts.echo_at(mode), hosts.SIZES) == hosts.SIZES
        hosts.ask_until_replaced(user, mode, hosts.SAS)
        assert hosts.judged(user, mode, IN_CLEAR) == hosts.AS_IT_SHOULD_BE


@pytest.mark.parametrize("mode", ["transport", "tunnel"])
def test_openiked_begins_and_an_ordinary_program_asks_us(
    namespaces: Namespaces, tmp_path: Path, mode: hosts.Mode
) -> None:
    hosts.furnish(namespaces.peers, mode)
    with iked(namespaces.peers, tmp_path, policy(mode, "active"), hosts.SECRET) as peer:

        def begin() -> None:
            peer.initiate()
            peer.wait_for("established peer")

        assert hosts.they_begin_and_ask(namespaces, mode, begin) == "host/b.test"


def test_data_goes_on_while_openiked_replaces_both_sas(namespaces: Namespaces, tmp_path: Path) -> None:
    seconds = {"ike_seconds": "20", "child_seconds": "12"}  # it rekeys at no command, only as their end comes near
    hosts.furnish(namespaces.peers, "tunnel")
    with (
        iked(namespaces.peers, tmp_path, policy("tunnel", **seconds), hosts.SECRET),
        echo_program(namespaces.peers, *hosts.echo_at("tunnel")),
        secured_user(namespaces.ours, hosts.script("tunnel")) as user,
    ):
        user.ask("reach", hosts.echo_at("tunnel"))
        hosts.ask_until_replaced(user, "tunnel", hosts.SAS)
        assert hosts.judged(user, "tunnel", IN_CLEAR) == hosts.AS_IT_SHOULD_BE


def test_a_user_is_proven_to_openiked_by_password(namespaces: Namespaces, tmp_path: Path) -> None:
    proofs = certificates.proofs("ecdsa")
    password = {"user_name": "alice", "domain_name": "example.org", "password": PASSWORD}
    ours = hosts.script("tunnel", proofs, settings=password)
    hosts.furnish(namespaces.peers, "tunnel")
    anybody = policy("tunnel").replace("dstid a.test", "")
    with (
        iked(namespaces.peers, tmp_path, anybody, proofs, user=("alice@example.org", PASSWORD)) as peer,
        echo_program(namespaces.peers, *hosts.echo_at("tunnel")),
        secured_user(namespaces.ours, ours) as user,
    ):
        user.ask("reach", hosts.echo_at("tunnel"))
        assert user.ask("echo", hosts.echo_at("tunnel"), hosts.SIZES) == hosts.SIZES
        assert hosts.judged(user, "tunnel", IN_CLEAR) == hosts.AS_IT_SHOULD_BE
        log = peer.log
    assert "sa_state: SA_INIT -> EAP" in log
    assert "policy_lookup: peerid 'alice@example.org'" in log
