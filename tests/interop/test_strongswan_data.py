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
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.interop import certificates, strongswan
from tests.interop.combinations import combinations
from tests.interop.network import Namespaces, cable, ip, translated_cable
from tests.interop.users import MAY_BIND_500, Refused, asked_plainly, echo_program, secured_user

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
  local_addrs = {local}
  remote_addrs = {remote}
  {local_port}
  {remote_port}
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
    }}
    {more}
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
        "more": "",
        "local": "10.90.0.2",
        "remote_port": "remote_port = 4500",
        "local_port": "local_port = 4500",
        "remote": "10.90.0.1",
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
    assert info["inner_address"][0] == INNER["4"]  # as the peer assigned it
    assert "remote host is behind NAT" in log  # as we made it believe, because we cannot speak protocol 50
    assert "received packet: from 10.90.0.1[500]" not in log
    assert "TS 10.92.0.0/24[udp] === 10.91.0.1/32[udp]" in log


def test_strongswan_begins_and_a_plain_program_behind_it_is_answered(namespaces: Namespaces, tmp_path: Path) -> None:
    config = connection(ours=f"{INNER['4']}/32", connection="")
    ours = script(bind=["10.90.0.1", 4500])
    ours["peers"][0] |= {"inner": INNER["4"], "inner_port": PORT}
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
    assert info["requested_address"] == info["inner_address"] == [INNER["4"], PORT]
    assert "remote host is behind NAT" in peer.log


def test_connected_sockets_batches_and_asyncio_reach_behind_a_gateway_as_sendto_does(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    sizes = [10, 1000, 3000]
    with (
        strongswan.charon(namespaces.peers, tmp_path, connection(), SHARED, pools=POOLS),
        behind(namespaces.peers) as echo,
        secured_user(namespaces.ours, script()) as user,
    ):
        assert user.ask("endpoint", echo, sizes) == [sizes, "host/b.test"]
        assert user.ask("batches", echo, [100] * 20 + [3000] * 3 + [50]) == [50] + [100] * 20 + [3000] * 3
        assert user.ask("connected", echo, sizes) == [sizes, echo]
        assert user.ask("refusals") == {}


MORE: Final = """{name} {{
      local_ts = {behind}
      remote_ts = dynamic
      mode = tunnel
      esp_proposals = aes256gcm16
    }}
    """


def test_a_second_network_behind_the_gateway_gets_an_sa_of_its_own_from_either_end(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    others = (("more", "10.93.0.0/24"), ("third", "10.95.0.0/24"))
    config = connection(more="".join(MORE.format(name=name, behind=network) for name, network in others))
    ours = script()
    ours["peers"][0]["networks"] = ["10.92.0.0/24", "10.93.0.0/24", "10.94.0.0/24", "10.95.0.0/24"]
    other, third = ["10.93.0.1", ECHO], ["10.95.0.1", ECHO]
    with (
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED, pools=POOLS) as peer,
        behind(namespaces.peers) as echo,
    ):
        for host, _ in (other, third):
            ip("-n", namespaces.peers, "addr", "add", f"{host}/32", "dev", "lo")
        with (
            echo_program(namespaces.peers, *other),
            echo_program(namespaces.peers, *third),
            secured_user(namespaces.ours, ours) as user,
        ):
            assert user.ask("echo", echo, [100, 3000]) == [100, 3000]
            assert user.ask("echo", other, [100, 3000]) == [100, 3000]
            assert user.ask("echo", echo, [100]) == [100]
            with pytest.raises(Refused, match="TS_UNACCEPTABLE"):
                user.ask("echo", ["10.94.0.1", ECHO], [100])
            assert "IKE_SA peer[2]" not in peer.log
            # and charon asks for the third
            peer.swanctl("--initiate", "--child", "third", "--timeout", "10")
            asked = peer.log.count("parsed CREATE_CHILD_SA request")
            assert user.ask("echo", third, [100, 3000]) == [100, 3000]
            assert peer.log.count("parsed CREATE_CHILD_SA request") == asked
            assert user.ask("refusals") == {"rekey-refused": 1}


@pytest.mark.needs_program("nft")
def test_a_narrower_hop_on_the_way_is_found_out_and_nothing_is_cut_outside(tmp_path: Path) -> None:
    config = connection(remote="%any", remote_port="")
    with (
        translated_cable("ours") as (namespaces, translator),
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED, pools=POOLS),
        behind(namespaces.peers) as echo,
        secured_user(namespaces.ours, script()) as user,
    ):
        translator.remember_for(60)
        assert user.ask("echo", echo, [1400]) == [1400]
        translator.narrow(1300)
        # the hop says once that it is too narrow, and from then on the kernel knows
        assert 1 < user.ask("persist", echo, 10, 1400) < 6
        assert user.ask("echo", echo, [1400, 5000]) == [1400, 5000]
        with pytest.raises(Refused, match="Message too long"):
            user.ask("whole", echo, 1300)
        assert user.ask("whole", echo, 1000) == 1000
        assert user.ask("refusals") == {}


@pytest.mark.parametrize("how", ["socket", "endpoint"])
def test_strongswan_that_was_not_told_begins_at_port_500_where_we_may_have_it(
    namespaces: Namespaces, tmp_path: Path, how: str
) -> None:
    config = connection(ours=f"{INNER['4']}/32", connection="", remote_port="", local_port="")
    ours = script(bind=["10.90.0.1", 4500 if how == "socket" else PORT])
    ours["peers"][0] |= {"inner": INNER["4"], "inner_port": PORT}
    sizes = [10, 3000]
    with (
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED) as peer,
        secured_user(namespaces.ours, ours, MAY_BIND_500) as user,
    ):
        ip("-n", namespaces.peers, "addr", "add", f"{BEHIND['4'][0]}/32", "dev", "lo")
        if how == "socket":
            peer.initiate()
            user.begin("serve", len(sizes))
        else:
            user.begin("serve_at_endpoint", ["10.90.0.1", 4500], len(sizes))
            peer.initiate()
        assert asked_plainly(namespaces.peers, BEHIND["4"][0], INNER["4"], PORT, sizes) == sizes
        user.take()
        log = peer.log
    assert "from 10.90.0.2[500] to 10.90.0.1[500]" in log
    assert "from 10.90.0.2[4500] to 10.90.0.1[4500]" in log


def test_one_sa_carries_both_versions_of_ip_to_addresses_that_the_peer_assigned(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    config = connection(behind="10.92.0.0/24, fd92::/64")
    ours = script(family=6)
    ours["peers"][0]["networks"] = ["10.92.0.0/24", "fd92::/64"]
    with (
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED, pools=POOLS) as peer,
        behind(namespaces.peers, "4") as four,
        behind(namespaces.peers, "6") as six,
        secured_user(namespaces.ours, ours) as user,
    ):
        for where in ([f"::ffff:{four[0]}", ECHO], six):
            assert user.ask("echo", where, [100, 3000]) == [100, 3000]
        assert user.ask("refusals") == {}
        log = peer.log
    assert "TS 10.92.0.0/24[udp] fd92::/64[udp] === 10.91.0.1/32[udp] fd91::1/128[udp]" in log
    assert "CHILD_SA net{2}" not in log


def test_an_address_of_our_own_inside_needs_none_of_the_peers(namespaces: Namespaces, tmp_path: Path) -> None:
    config = connection(ours=f"{INNER['4']}/32", connection="")
    ours = script()
    ours["peers"][0]["inner"] = INNER["4"]
    with (
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED) as peer,
        behind(namespaces.peers) as echo,
        secured_user(namespaces.ours, ours) as user,
    ):
        assert user.ask("echo", echo, [100, 3000]) == [100, 3000]
        assert user.ask("security", echo)["inner_address"][0] == INNER["4"]
        assert "CPRQ" not in peer.log


def test_a_peer_without_addresses_for_us_is_said_to_be_one(namespaces: Namespaces, tmp_path: Path) -> None:
    with (
        strongswan.charon(namespaces.peers, tmp_path, connection(connection=""), SHARED),
        behind(namespaces.peers) as echo,
        secured_user(namespaces.ours, script()) as user,
        pytest.raises(Refused, match="PeerIncompatible"),
    ):
        user.ask("echo", echo, [100])


def test_the_tunnel_itself_may_run_over_ipv6(namespaces: Namespaces, tmp_path: Path) -> None:
    ours = script(family=6)
    ours["peers"][0]["gateway"] = "fd90::2"
    for namespace, device, host in ((namespaces.ours, "end0", "fd90::1"), (namespaces.peers, "end1", "fd90::2")):
        ip("-n", namespace, "addr", "add", f"{host}/64", "dev", device, "nodad")
    config = connection(local="fd90::2", remote="fd90::1", remote_port="")
    with (
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED, pools=POOLS),
        behind(namespaces.peers) as echo,
        secured_user(namespaces.ours, ours) as user,
    ):
        sizes = [100, 1400, 3000]
        assert user.ask("echo", [f"::ffff:{echo[0]}", ECHO], sizes) == sizes
        assert user.ask("refusals") == {}


IKE: Final = {
    "x25519": "aes256gcm16-prfsha256-x25519",
    "ecp384": "chacha20poly1305-prfsha256-ecp384",
    "ecp256": "aes256-sha256-ecp256",
    "modp2048": "aes128-sha256-modp2048",
}
ESP: Final = {"gcm": "aes256gcm16", "chacha": "chacha20poly1305", "cbc": "aes256-sha256"}
KEYS: Final = {
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
MIXED: Final = [10, 1000, 3000] * 40
COMBINED: Final = combinations(
    {
        "begins": ("we", "strongswan"),
        "proof": ("psk", *KEYS),
        "ike": tuple(IKE),
        "esp": tuple(ESP),
        "pfs": ("pfs", "no pfs"),
        "version": ("4", "6"),
    }
)


def proofs(folder: Path, kind: str) -> dict[str, str]:
    """What our script says of who we are; the peer's is written where swanctl looks for it."""
    if kind == "psk":
        return {"secret": SECRET}
    authority = ec.generate_private_key(ec.SECP256R1())
    anchor = certificates.issued("the authority", authority.public_key(), authority, ca=True)
    ours, peers = KEYS[kind](), KEYS[kind]()
    leaf = certificates.issued("b.test", peers.public_key(), authority)
    certificates.write_for_swanctl(folder, anchor, leaf, peers)
    return {
        "certificate": certificates.pem(certificates.issued("a.test", ours.public_key(), authority)),
        "key": certificates.key_pem(ours),
        "trust": certificates.pem(anchor),
    }


@pytest.mark.parametrize("combined", COMBINED, ids=lambda each: "-".join(each.values()))
def test_combined_features_carry_datagrams_through_rekeys_from_either_side(
    namespaces: Namespaces, tmp_path: Path, combined: dict[str, str]
) -> None:
    version, we_begin = combined["version"], combined["begins"] == "we"
    esp = ESP[combined["esp"]] + (f"-{combined['ike']}" if combined["pfs"] == "pfs" else "")
    config = connection(
        version,
        ike=IKE[combined["ike"]],
        esp=esp,
        auth="psk" if combined["proof"] == "psk" else "pubkey",
        certificate="" if combined["proof"] == "psk" else "certs = peer.pem",
        **({} if we_begin else {"ours": INNER[version], "connection": ""}),
    )
    ours = script(
        version,
        ike=combined["ike"],
        suite=combined["esp"],
        pfs=combined["pfs"] == "pfs",
        rekey_packets=2000,
        rekey_ike_packets=1600,
        family=int(version),
        bind=["10.90.0.1" if version == "4" else "::", PORT if we_begin else 4500],
        **proofs(tmp_path, combined["proof"]),
    )
    if combined["proof"] != "psk":
        del ours["secret"]
    if not we_begin:
        ours["peers"][0] |= {"inner": INNER[version], "inner_port": PORT}
    shared = SHARED if combined["proof"] == "psk" else ""
    with (
        strongswan.charon(namespaces.peers, tmp_path, config, shared, pools=POOLS) as peer,
        behind(namespaces.peers, version) as echo,
        secured_user(namespaces.ours, ours) as user,
    ):
        if not we_begin:
            peer.initiate()
        # every datagram comes back, whoever replaces whatever in the meantime
        user.ask("echo", echo, [100])
        for wish in (("--child", "net"), ("--ike", "peer")):
            user.begin("echo", echo, MIXED)
            peer.swanctl("--rekey", *wish)
            assert user.take() == MIXED
        peer.wait_for("IKE_SA peer[2] rekeyed")
        assert user.ask("echo", echo, [100] * 1500) == [100] * 1500
        info = user.ask("security", echo)
        refusals = user.ask("refusals")
        user.ask("close")
        log = peer.wait_for("IKE_SA peer[3] rekeyed")
    assert info["peer_machine"]["name"] == "host/b.test"
    assert info["rekeys"] >= 4
    assert refusals == {}
    assert "CHILD_SA net{3}" in log


@pytest.mark.needs_program("nft")
def test_we_are_behind_a_translator_that_forgets_us(tmp_path: Path) -> None:
    config = connection(remote="%any", remote_port="")
    with (
        translated_cable("ours") as (namespaces, translator),
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED, pools=POOLS) as peer,
        behind(namespaces.peers) as echo,
        secured_user(namespaces.ours, script()) as user,
    ):
        assert user.ask("echo", echo, [10, 3000]) == [10, 3000]
        strongswan.wait_until(translator.knows_nothing, "the translator never forgot")
        translator.masquerade("41000-41999")
        translator.remember_for(60)
        # charon does not learn from ESP where we are now, but from the sign of life that we ask for after 10 s
        assert 1 < user.ask("persist", echo, 20) < 20
        assert user.ask("refusals") == {}
        log = peer.log
    assert "remote host is behind NAT" in log
    assert "received packet: from 10.90.0.254[40" in log


@pytest.mark.needs_program("nft")
def test_strongswan_is_behind_a_translator_and_we_follow_its_port(tmp_path: Path) -> None:
    config = connection(local="10.89.0.2", ours=f"{INNER['4']}/32", connection="")
    ours = script(bind=["10.90.0.1", 4500])
    ours["peers"][0] |= {"gateway": "10.90.0.254", "inner": INNER["4"], "inner_port": PORT}
    with (
        translated_cable("peers") as (namespaces, translator),
        strongswan.charon(namespaces.peers, tmp_path, config, SHARED) as peer,
        secured_user(namespaces.ours, ours) as user,
    ):
        host = BEHIND["4"][0]
        ip("-n", namespaces.peers, "addr", "add", f"{host}/32", "dev", "lo")
        peer.initiate()
        user.begin("serve", 2)
        assert asked_plainly(namespaces.peers, host, INNER["4"], PORT, [10, 3000]) == [10, 3000]
        user.take()
        strongswan.wait_until(translator.knows_nothing, "the translator never forgot")
        translator.masquerade("41000-41999")
        translator.remember_for(60)
        user.begin("serve", 2)
        assert asked_plainly(namespaces.peers, host, INNER["4"], PORT, [20, 2000]) == [20, 2000]
        senders = user.take()
        refusals = user.ask("refusals")
        log = peer.log
    assert {sender[0] for sender in senders} == {host}
    assert refusals == {"moved": 1}
    assert "local host is behind NAT" in log


def test_a_chain_larger_than_a_packet_goes_in_fragments_from_either_end(namespaces: Namespaces, tmp_path: Path) -> None:
    root = KEYS["ecdsa"]()
    middle, ours, peers = (KEYS["rsa"]() for _ in range(3))
    anchor = certificates.issued("the authority", root.public_key(), root, ca=True)
    between = certificates.issued("the office", middle.public_key(), root, ca=True, issuer="the authority")
    leaves = [
        certificates.issued(name, key.public_key(), middle, issuer="the office")
        for name, key in (("a.test", ours), ("b.test", peers))
    ]
    certificates.write_for_swanctl(tmp_path, anchor, leaves[1], peers)
    (tmp_path / "swanctl/x509ca/office.pem").write_text(certificates.pem(between))
    proof = {
        "certificate": certificates.pem(leaves[0]) + certificates.pem(between),
        "key": certificates.key_pem(ours),
        "trust": certificates.pem(anchor),
    }
    always = "pools = four, six\n  send_cert = always"
    config = connection(auth="pubkey", certificate="certs = peer.pem", connection=always)
    entry = script()["peers"]
    with (
        strongswan.charon(namespaces.peers, tmp_path, config, "", pools=POOLS) as peer,
        behind(namespaces.peers) as echo,
        secured_user(namespaces.ours, {"peers": entry} | proof) as user,
    ):
        assert user.ask("echo", echo, [100]) == [100]
        log = peer.log
    assert "received fragment #2 of 2" in log
    assert "splitting IKE message" in log
    assert 'received end entity cert "CN=a.test"' in log
    assert 'sending issuer cert "CN=the office"' in log


def test_what_strongswan_deletes_is_gone_and_comes_back_with_the_next_datagram(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    with (
        strongswan.charon(namespaces.peers, tmp_path, connection(), SHARED, pools=POOLS) as peer,
        behind(namespaces.peers) as echo,
        secured_user(namespaces.ours, script()) as user,
    ):
        for number, what in enumerate((("--ike", "peer"), ("--child", "net")), 1):
            assert user.ask("echo", echo, [100]) == [100]
            peer.swanctl("--terminate", *what)
            assert user.ask("outlive", echo) == ""
            peer.wait_for(f"IKE_SA peer[{number}] established")
        assert user.ask("echo", echo, [100]) == [100]
        peer.wait_for("IKE_SA peer[3] established")
        assert user.ask("refusals") == {}


def test_strongswan_that_is_killed_is_noticed_and_found_again(namespaces: Namespaces, tmp_path: Path) -> None:
    with behind(namespaces.peers) as echo, secured_user(namespaces.ours, script()) as user:
        with strongswan.charon(namespaces.peers, tmp_path, connection(), SHARED, pools=POOLS) as peer:
            assert user.ask("echo", echo, [100]) == [100]
            peer.kill()
            assert user.ask("outlive", echo) == ""  # asked after 10 s, given up 30 s later
        with strongswan.charon(namespaces.peers, tmp_path, connection(), SHARED, pools=POOLS):
            assert user.ask("persist", echo, 20) > 0
        assert user.ask("refusals")["KeyingTimeout"] == 1


def test_strongswan_notices_that_we_were_killed(namespaces: Namespaces, tmp_path: Path) -> None:
    config = connection(connection="pools = four, six\n  dpd_delay = 1s")
    options = "retransmit_timeout = 0.2\n  retransmit_tries = 3"
    with strongswan.charon(namespaces.peers, tmp_path, config, SHARED, pools=POOLS, options=options) as peer:
        with behind(namespaces.peers) as echo, secured_user(namespaces.ours, script()) as user:
            assert user.ask("echo", echo, [100]) == [100]
            peer.wait_for("generating INFORMATIONAL request")
            assert user.ask("echo", echo, [100]) == [100]  # answered
        assert "giving up after 3 retransmits" in peer.wait_for("giving up after")
