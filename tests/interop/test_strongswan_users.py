"""Users and PPKs with strongSwan 5.9: EAP-MSCHAPv2 and EAP-TLS in both roles, and what is said of them.

UDP through charon's user-space ESP shows that both ends have the keys that EAP's proof was bound to: without them
nothing would come back from the echo program behind it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.interop import certificates, strongswan
from tests.interop.debian_unstable import debian_unstable
from tests.interop.network import Namespaces, cable, ip
from tests.interop.users import Refused, SecuredUser, asked_plainly, echo_program, secured_user

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_program("ip"),
    pytest.mark.needs_program("swanctl"),
    pytest.mark.needs_program("charon-systemd"),
]

ALICE: Final = "alice@example.org"
PASSWORD: Final = "correct horse battery staple"
EAP: Final = "eap-identity eap-mschapv2 eap-tls"
TLS_1_3: Final = "tls {\n    version_max = 1.3\n  }"
BEHIND: Final = "10.92.0.1"
INNER: Final = "10.91.0.1"
POOLS: Final = "  four {\n    addrs = 10.91.0.0/24\n  }"
ECHO: Final = 7
PORT: Final = 7000
SIZES: Final = [10, 1000, 3000]
ACCOUNT: Final = f'  eap-1 {{\n    id = {ALICE}\n    secret = "{PASSWORD}"\n  }}'

CONNECTION: Final = """  version = 2
  local_addrs = 10.90.0.2
  remote_addrs = 10.90.0.1
  local_port = 4500
  remote_port = 4500
  proposals = aes256gcm16-prfsha256-x25519
  mobike = no
  {connection}
  local {{
    {local}
  }}
  remote {{
    {remote}
  }}
  children {{
    net {{
      local_ts = 10.92.0.0/24
      remote_ts = {ours}
      mode = tunnel
      esp_proposals = aes256gcm16
    }}
  }}"""


class Credentials:
    """An authority; certificates for a.test, b.test and alice, with their keys; ``large``: of RSA, so that EAP-TLS
    needs fragments."""

    def __init__(self, *, large: bool = False) -> None:
        self._large = large
        self._authority = ec.generate_private_key(ec.SECP256R1())
        self.anchor = certificates.issued("the authority", self._authority.public_key(), self._authority, ca=True)

    def issue(self, name: str) -> tuple[Any, Any]:
        """A certificate and its key."""
        key = rsa.generate_private_key(65537, 3072) if self._large else ec.generate_private_key(ec.SECP256R1())
        return certificates.issued(name, key.public_key(), self._authority), key

    def for_charon(self, folder: Path, name: str) -> None:
        """Where swanctl looks for the one of ``name``."""
        certificates.write_for_swanctl(folder, self.anchor, *self.issue(name))

    def texts(self, name: str) -> dict[str, str]:
        """A certificate and its key for our own end."""
        leaf, key = self.issue(name)
        return {"certificate": certificates.pem(leaf), "key": certificates.key_pem(key)}

    def script(self, **more: Any) -> dict[str, Any]:
        """Our end, whose machine is a.test."""
        entry = {"networks": ["10.92.0.0/24"], "gateway": "10.90.0.2", "inner": "assigned", "peer": "b.test"}
        return {**self.texts("a.test"), "trust": certificates.pem(self.anchor), "peers": [entry]} | more


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    with cable() as pair:
        yield pair


@contextlib.contextmanager
def played(
    namespaces: Namespaces, folder: Path, connection: str, secrets: str, script: dict[str, Any], options: str = ""
) -> Iterator[tuple[strongswan.Charon, SecuredUser]]:
    """charon with an echo program behind it, and our end."""
    with strongswan.charon(
        namespaces.peers, folder, connection, secrets, more=EAP, options=options, pools=POOLS
    ) as peer:
        ip("-n", namespaces.peers, "addr", "add", f"{BEHIND}/32", "dev", "lo")
        with echo_program(namespaces.peers, BEHIND, ECHO), secured_user(namespaces.ours, script) as user:
            yield peer, user


def server(how: str, local: str = "auth = pubkey\n    certs = peer.pem") -> str:
    """charon as the machine that a user is proven to."""
    return CONNECTION.format(
        connection="pools = four",
        local=f"{local}\n    id = b.test",
        remote=f"auth = {how}\n    id = {ALICE}",
        ours="dynamic",
    )


def by_password(password: str = PASSWORD) -> dict[str, Any]:
    return {"settings": {"user_name": "alice", "domain_name": "example.org", "password": password}}


def test_a_user_is_proven_to_strongswan_by_password(namespaces: Namespaces, tmp_path: Path) -> None:
    known = Credentials()
    known.for_charon(tmp_path, "b.test")
    with played(namespaces, tmp_path, server("eap-mschapv2"), ACCOUNT, known.script(**by_password())) as (peer, user):
        assert user.ask("echo", [BEHIND, ECHO], SIZES) == SIZES
        info = user.ask("security", [BEHIND, ECHO])
        user.ask("close")
        log = peer.wait_for("deleting IKE_SA")
    assert info["peer_machine"]["name"] == "host/b.test"
    assert f"authentication of '{ALICE}' with EAP successful" in log
    assert "EAP method EAP_MSCHAPV2 succeeded, MSK established" in log


def test_a_wrong_password_is_refused_by_strongswan(namespaces: Namespaces, tmp_path: Path) -> None:
    known = Credentials()
    known.for_charon(tmp_path, "b.test")
    script = known.script(**by_password("another one"))
    with played(namespaces, tmp_path, server("eap-mschapv2"), ACCOUNT, script) as (peer, user):
        with pytest.raises(Refused, match="does not say which") as refused:
            user.ask("echo", [BEHIND, ECHO], SIZES)
        log = peer.wait_for("EAP method EAP_MSCHAPV2 failed")
    assert refused.value.kind == "AuthenticationFailed"
    assert "established between" not in log


@pytest.mark.parametrize("large", [False, True])
def test_a_user_is_proven_to_strongswan_by_certificate(namespaces: Namespaces, tmp_path: Path, large: bool) -> None:
    known = Credentials(large=large)
    known.for_charon(tmp_path, "b.test")
    script = known.script(user=known.texts(ALICE))
    with played(namespaces, tmp_path, server("eap-tls"), "", script) as (peer, user):
        assert user.ask("echo", [BEHIND, ECHO], SIZES) == SIZES
        user.ask("close")
        log = peer.wait_for("deleting IKE_SA")
    assert "negotiated TLS 1.2 using suite" in log
    assert "EAP method EAP_TLS succeeded, MSK established" in log
    assert f"authentication of '{ALICE}' with EAP successful" in log


def test_with_eap_tls_alone_strongswan_sends_no_other_proof(namespaces: Namespaces, tmp_path: Path) -> None:
    known = Credentials()
    known.for_charon(tmp_path, "b.test")
    script = known.script(user=known.texts(ALICE), eap_only=True)
    connection = server("eap-tls", local="auth = eap-tls\n    certs = peer.pem")
    with played(namespaces, tmp_path, connection, "", script) as (peer, user):
        assert user.ask("echo", [BEHIND, ECHO], SIZES) == SIZES
        info = user.ask("security", [BEHIND, ECHO])
        user.ask("close")
        log = peer.wait_for("deleting IKE_SA")
    assert info["peer_machine"]["name"] == "host/b.test"
    assert "parsed IKE_AUTH request 1" in log
    assert "N(EAP_ONLY)" in log
    assert "authentication of 'b.test' (myself) with ECDSA" not in log


def client(local: str, remote: str = "auth = pubkey") -> str:
    """charon as a user's machine."""
    return CONNECTION.format(
        connection="", local=f"{local}\n    id = {ALICE}", remote=f"{remote}\n    id = a.test", ours=f"{INNER}/32"
    )


def accepting(known: Credentials, passwords: dict[str, str], *, certificates: bool) -> dict[str, Any]:
    script = known.script(users={"passwords": passwords, "certificates": certificates}, bind=["10.90.0.1", 4500])
    script["peers"][0] |= {"inner": INNER, "inner_port": PORT, "peer": ALICE}
    return script


def serve(namespaces: Namespaces, peer: strongswan.Charon, user: SecuredUser) -> dict[str, Any]:
    """A plain program behind charon is answered; what we know of whoever is there."""
    peer.initiate()
    peer.wait_for("CHILD_SA net{1} established")
    user.begin("serve", len(SIZES))
    assert asked_plainly(namespaces.peers, BEHIND, INNER, PORT, SIZES) == SIZES
    found: dict[str, Any] = user.ask("security", user.take()[0])
    return found


@pytest.mark.parametrize("both", [False, True])
def test_strongswans_user_is_proven_to_us_by_password(namespaces: Namespaces, tmp_path: Path, both: bool) -> None:
    """Where we propose EAP-TLS first, charon's Nak leads to MSCHAPv2."""
    known = Credentials()
    known.for_charon(tmp_path, "b.test")
    script = accepting(known, {ALICE: PASSWORD}, certificates=both)
    with played(namespaces, tmp_path, client("auth = eap-mschapv2"), ACCOUNT, script) as (peer, user):
        info = serve(namespaces, peer, user)
        log = peer.log
    assert info["peer_user"] == {"name": ALICE, "kind": "user", "method": "eap", "evidence": ""}
    assert info["peer_machine"] is None
    assert "EAP method EAP_MSCHAPV2 succeeded, MSK established" in log
    assert "authentication of 'a.test' with EAP successful" in log


def test_strongswans_user_with_a_wrong_password_is_nobody(namespaces: Namespaces, tmp_path: Path) -> None:
    known = Credentials()
    known.for_charon(tmp_path, "b.test")
    script = accepting(known, {ALICE: "another one"}, certificates=False)
    with played(namespaces, tmp_path, client("auth = eap-mschapv2"), ACCOUNT, script) as (peer, user):
        user.begin("serve", 1)  # from now on it negotiates
        peer.initiate()
        log = peer.wait_for("EAP_MSCHAPV2 method failed")
    assert "established between" not in log


@pytest.mark.parametrize("large", [False, True])
def test_strongswans_user_is_proven_to_us_by_certificate(namespaces: Namespaces, tmp_path: Path, large: bool) -> None:
    known = Credentials(large=large)
    known.for_charon(tmp_path, ALICE)
    script = accepting(known, {}, certificates=True)
    connection = client("auth = eap-tls\n    certs = peer.pem")
    with played(namespaces, tmp_path, connection, "", script) as (peer, user):
        info = serve(namespaces, peer, user)
        log = peer.log
    assert (info["peer_user"]["name"], info["peer_user"]["method"]) == (ALICE, "eap")
    assert len(info["peer_user"]["evidence"]) == 64
    assert "negotiated TLS 1.2 using suite" in log
    assert "EAP method EAP_TLS succeeded, MSK established" in log


def test_with_eap_tls_alone_strongswan_takes_no_other_proof(namespaces: Namespaces, tmp_path: Path) -> None:
    known = Credentials()
    known.for_charon(tmp_path, ALICE)
    script = accepting(known, {}, certificates=True) | {"eap_only": True}
    connection = client("auth = eap-tls\n    certs = peer.pem", remote="auth = eap-tls")
    with played(namespaces, tmp_path, connection, "", script) as (peer, user):
        info = serve(namespaces, peer, user)
        log = peer.log
    assert info["peer_user"]["name"] == ALICE
    assert "parsed IKE_AUTH response 1 [ IDr EAP/REQ/TLS ]" in log


def test_strongswans_user_is_asked_for_its_name_where_its_id_is_an_address(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    known = Credentials()
    known.for_charon(tmp_path, "b.test")
    script = accepting(known, {ALICE: PASSWORD}, certificates=False)
    connection = client(f"auth = eap-mschapv2\n    eap_id = {ALICE}").replace(
        f"\n    id = {ALICE}", "\n    id = 10.90.0.2"
    )
    with played(namespaces, tmp_path, connection, ACCOUNT, script) as (peer, user):
        info = serve(namespaces, peer, user)
        log = peer.log
    assert info["peer_user"]["name"] == ALICE
    assert "server requested EAP_IDENTITY" in log


# TLS 1.3


def test_success_that_nothing_protects_is_not_believed_under_tls_1_3(namespaces: Namespaces, tmp_path: Path) -> None:
    """strongSwan 5.9 is older than RFC 9190 and has no protected indication; by itself it does not offer TLS 1.3."""
    known = Credentials()
    known.for_charon(tmp_path, "b.test")
    script = known.script(user=known.texts(ALICE))
    with played(namespaces, tmp_path, server("eap-tls"), "", script, TLS_1_3) as (peer, user):
        with pytest.raises(Refused, match="before EAP-TLS was done") as refused:
            user.ask("echo", [BEHIND, ECHO], SIZES)
        log = peer.wait_for("N(AUTH_FAILED)")
    assert refused.value.kind == "AuthenticationFailed"
    assert "negotiated TLS 1.3 using suite" in log


@pytest.mark.needs_program("debootstrap")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("role", ["server", "client"])
def test_strongswan_6_and_we_have_the_protected_success_of_tls_1_3(
    namespaces: Namespaces, tmp_path: Path, role: str
) -> None:
    """Without ESP in this kernel, and without a TUN device in its root, charon has no CHILD_SA: it is told apart here
    from the proofs, which come before."""
    known = Credentials()
    known.for_charon(tmp_path, "b.test" if role == "server" else ALICE)
    if role == "server":
        connection, script = server("eap-tls"), known.script(user=known.texts(ALICE))
    else:
        connection = client("auth = eap-tls\n    certs = peer.pem")
        script = accepting(known, {}, certificates=True)
    with (
        strongswan.charon(
            namespaces.peers,
            tmp_path,
            connection,
            esp=strongswan.IN_KERNEL,
            more="eap-identity eap-tls",
            options=TLS_1_3,
            pools=POOLS,
            root=debian_unstable(),
        ) as peer,
        secured_user(namespaces.ours, script) as user,
    ):
        if role == "server":
            with pytest.raises(Refused, match="the protection of this flow"):
                user.ask("echo", [BEHIND, ECHO], SIZES)
        else:
            user.begin("serve", 1)  # from now on it negotiates
            peer.initiate()
        log = peer.wait_for("IKE_SA peer[1] established between")
    assert "negotiated TLS 1.3 using suite" in log
    assert "EAP method EAP_TLS succeeded, MSK established" in log
    assert f"authentication of '{ALICE if role == 'server' else 'a.test'}' with EAP successful" in log


# PPKs

SECRET: Final = "a secret of more than sixteen bytes"

SHARED: Final = f'  ike-1 {{\n    id-1 = a.test\n    id-2 = b.test\n    secret = "{SECRET}"\n  }}'
PPK: Final = "a ppk of more than thirty-two bytes, as RFC 8784 has it"
KEY: Final = f'  ppk-1 {{\n    id-1 = our ppk\n    secret = "{PPK}"\n  }}'


def with_ppk(required: bool, *, named: bool = True) -> str:
    """charon with a PPK: ``named`` takes no other, else it takes those that it knows."""
    name = "ppk_id = our ppk\n  " if named else ""
    said = f"{name}ppk_required = {'yes' if required else 'no'}"
    return CONNECTION.format(
        connection=f"pools = four\n  {said}",
        local="auth = psk\n    id = b.test",
        remote="auth = psk\n    id = a.test",
        ours="dynamic",
    )


def ours(ppks: list[tuple[str, str, bool]], **more: Any) -> dict[str, Any]:
    entry = {"networks": ["10.92.0.0/24"], "gateway": "10.90.0.2", "inner": "assigned", "peer": "b.test"}
    return {"secret": SECRET, "peers": [entry], "ppks": ppks} | more


@pytest.mark.parametrize(
    ("ours_mandatory", "theirs_required", "same"),
    [(True, True, True), (False, False, True), (False, False, False), (False, True, False), (True, False, False)],
)
def test_a_ppk_is_agreed_on_with_strongswan_or_done_without(
    namespaces: Namespaces, tmp_path: Path, ours_mandatory: bool, theirs_required: bool, same: bool
) -> None:
    script = ours([("our ppk" if same else "another", PPK, ours_mandatory)])
    secrets = f"{SHARED}\n{KEY}"
    connection = with_ppk(theirs_required, named=same)
    with played(namespaces, tmp_path, connection, secrets, script) as (peer, user):
        if not same and (ours_mandatory or theirs_required):
            with pytest.raises(Refused) as refused:
                user.ask("echo", [BEHIND, ECHO], SIZES)
            assert refused.value.kind == "AuthenticationFailed"
            assert "established between" not in peer.log
            return
        assert user.ask("echo", [BEHIND, ECHO], SIZES) == SIZES
        info = user.ask("security", [BEHIND, ECHO])
        log = peer.log
    assert info["key_exchange"].endswith("+PPK") == same
    assert ("using PPK for PPK_ID 'our ppk'" in log) == same


def test_strongswan_begins_with_a_ppk(namespaces: Namespaces, tmp_path: Path) -> None:
    script = ours([("our ppk", PPK, True)], bind=["10.90.0.1", 4500])
    script["peers"][0] |= {"inner": INNER, "inner_port": PORT}
    connection = with_ppk(True).replace("pools = four\n", "").replace("remote_ts = dynamic", f"remote_ts = {INNER}/32")
    with played(namespaces, tmp_path, connection, f"{SHARED}\n{KEY}", script) as (peer, user):
        info = serve(namespaces, peer, user)
        log = peer.log
    assert info["key_exchange"].endswith("+PPK")
    assert "using PPK for PPK_ID 'our ppk'" in log


def test_a_ppk_goes_with_a_users_password(namespaces: Namespaces, tmp_path: Path) -> None:
    known = Credentials()
    known.for_charon(tmp_path, "b.test")
    script = known.script(**by_password(), ppks=[("our ppk", PPK, True)])
    connection = server("eap-mschapv2").replace(
        "pools = four", "pools = four\n  ppk_id = our ppk\n  ppk_required = yes"
    )
    with played(namespaces, tmp_path, connection, f"{ACCOUNT}\n{KEY}", script) as (peer, user):
        assert user.ask("echo", [BEHIND, ECHO], SIZES) == SIZES
        info = user.ask("security", [BEHIND, ECHO])
        log = peer.log
    assert info["key_exchange"].endswith("+PPK")
    assert "using PPK for PPK_ID 'our ppk'" in log
    assert f"authentication of '{ALICE}' with EAP successful" in log
