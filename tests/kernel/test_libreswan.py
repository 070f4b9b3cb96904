"""libreswan 4.10 with the kernel's ESP: an ordinary program beside pluto, or behind it, and us as nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop import certificates, hosts
from tests.interop.combinations import combinations
from tests.interop.libreswan import libreswan, pluto
from tests.interop.network import Namespaces, cable
from tests.interop.users import echo_program, secured_user

PREPARED: Final = (libreswan,)
SECONDS: Final = hosts.seconds(300.0)

AUTHBY: Final = {"psk": "secret", "ecdsa": "ecdsa", "rsa": "rsa-sha2"}
SELECTED: Final = {"leftprotoport": "17/0", "rightprotoport": "17/0"}  # UDP, any ports
ENDS: Final[dict[hosts.Mode, dict[str, str]]] = {
    "transport": {"type": "transport", "narrowing": "yes"},  # to the one port that we ask for
    "tunnel": {"type": "tunnel", "leftsubnet": f"{hosts.INNER}/32", "rightsubnet": hosts.NETWORK},
}
IKE: Final = {
    "x25519": "aes_gcm256-sha2_256-dh31",
    "ecp256": "aes256-sha2_256-dh19",
    "ecp384": "chacha20_poly1305-sha2_256-dh20",
    "modp2048": "aes128-sha2_256-dh14",
}
ESP: Final = {"gcm": "aes_gcm256-null", "chacha": "chacha20_poly1305-null", "cbc": "aes256-sha2_256"}
COMBINED: Final = combinations({"proof": tuple(AUTHBY), "mode": tuple(ENDS), "ike": tuple(IKE), "esp": tuple(ESP)})


PPK: Final = "a ppk of more than thirty-two bytes, as RFC 8784 has it"


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    with cable() as pair:
        yield pair


def options(mode: hosts.Mode, proof: str = "psk", ike: str = "x25519", esp: str = "gcm") -> dict[str, str]:
    return {"ike": IKE[ike], "esp": ESP[esp], "authby": AUTHBY[proof]} | SELECTED | ENDS[mode]


@pytest.mark.parametrize("combined", COMBINED, ids=lambda each: "-".join(each.values()))
def test_we_begin_and_data_goes_both_ways_through_rekeys_of_either_end(
    namespaces: Namespaces, tmp_path: Path, combined: dict[str, Any]
) -> None:
    mode, proof = combined["mode"], combined["proof"]
    proofs = hosts.SECRET if proof == "psk" else certificates.proofs(proof)
    ours = hosts.script(mode, proofs, ike=combined["ike"], suite=combined["esp"], rekey_packets=240)
    ours |= {"rekey_ike_packets": 400}
    hosts.furnish(namespaces.peers, mode)
    with (
        pluto(namespaces.peers, tmp_path, options(**combined), proofs) as peer,
        echo_program(namespaces.peers, *hosts.echo_at(mode)),
        secured_user(namespaces.ours, ours) as user,
    ):
        assert user.ask("echo", hosts.echo_at(mode), hosts.SIZES) == hosts.SIZES
        hosts.ask_until_replaced(user, mode, hosts.SAS)  # by us, who count packets
        hosts.ask_until_replaced(user, mode, ["main_mode_sa_id"], peer.rekey_ike)
        hosts.ask_until_replaced(user, mode, ["quick_mode_sa_id"], peer.rekey_child)
        assert hosts.judged(user, mode) == hosts.AS_IT_SHOULD_BE


@pytest.mark.parametrize("mode", ["transport", "tunnel"])
def test_libreswan_begins_and_an_ordinary_program_asks_us(
    namespaces: Namespaces, tmp_path: Path, mode: hosts.Mode
) -> None:
    hosts.furnish(namespaces.peers, mode)
    with pluto(namespaces.peers, tmp_path, options(mode) | {"leftikeport": "4500"}, hosts.SECRET) as peer:

        def begin() -> None:
            peer.initiate()
            peer.wait_for("established Child SA")

        assert hosts.they_begin_and_ask(namespaces, mode, begin) == "host/b.test"


def test_a_post_quantum_preshared_key_goes_into_the_keys(namespaces: Namespaces, tmp_path: Path) -> None:
    ours = hosts.script("tunnel", ppks=[("our ppk", PPK, True)])
    hosts.furnish(namespaces.peers, "tunnel")
    with (
        pluto(namespaces.peers, tmp_path, options("tunnel") | {"ppk": "insist"}, hosts.SECRET, ppk=PPK) as peer,
        echo_program(namespaces.peers, *hosts.echo_at("tunnel")),
        secured_user(namespaces.ours, ours) as user,
    ):
        assert user.ask("echo", hosts.echo_at("tunnel"), hosts.SIZES) == hosts.SIZES
        assert user.ask("security", hosts.echo_at("tunnel"))["key_exchange"].endswith("+PPK")
        assert "PPK AUTH calculated as responder" in peer.log
