"""Identities whose keys, certificates and revocation lists the openssl program made, over real connections."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

import securesock as ss

pytestmark = pytest.mark.needs_program("openssl")

PASSWORD = "correct horse"
KEYS = {
    "P-256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "P-384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "RSA-2048": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "Ed25519": ["-algorithm", "ED25519"],
}
USAGES = "keyUsage=critical,digitalSignature\nextendedKeyUsage=1.3.6.1.5.5.7.3.17\n"  # ipsecIKE, RFC 4945 5.1.3.12


class OpensslAuthority:
    """A folder with an authority, an intermediate and what they issue, all by the openssl program."""

    def __init__(self, folder: Path, key: list[str]) -> None:
        self.folder, self._key = folder, key
        self.make(
            "root", "/CN=root", None, "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
        )
        self.make("middle", "/CN=middle", "root", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def make(self, name: str, subject: str, issuer: str | None, extensions: str) -> None:
        """name.key (PKCS #8, encrypted) and name.pem, signed by ``issuer`` or by itself."""
        (self.folder / f"{name}.ext").write_text(extensions)
        hidden = ["-aes256", "-pass", f"pass:{PASSWORD}", "-out", f"{name}.key"]
        self.openssl("genpkey", *self._key, *hidden)
        password = ["-passin", f"pass:{PASSWORD}"]
        self.openssl("req", "-new", "-key", f"{name}.key", *password, "-subj", subject, "-out", f"{name}.csr")
        signer = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"] if issuer else ["-key", f"{name}.key"]
        lasting = ["-days", "30", "-extfile", f"{name}.ext", "-out", f"{name}.pem"]
        self.openssl("x509", "-req", "-in", f"{name}.csr", *signer, *password, *lasting)

    def identity(self, name: str, crl: tuple[Path, ...] = ()) -> ss.Identity:
        """A machine's identity: leaf and intermediate in one file, the root trusted."""
        self.make(name, f"/CN={name}", "middle", f"subjectAltName=DNS:{name}.example,IP:127.0.0.1\n{USAGES}")
        chain = self.folder / f"{name}-chain.pem"
        chain.write_bytes((self.folder / f"{name}.pem").read_bytes() + (self.folder / "middle.pem").read_bytes())
        return ss.Identity.from_pem(
            chain, self.folder / f"{name}.key", trust=[self.folder / "root.pem"], password=PASSWORD, crl=crl
        )


def exchange(server: ss.Identity, client: ss.Identity, peer: str | None = None) -> tuple[str, str]:
    """Connect, echo one message, and return whom each end saw."""
    seen: list[str] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            seen.append(str(connection.query_security().peer_machine))
            connection.sendall(connection.recv(100))

    with ss.create_server(("127.0.0.1", 0), context=ss.SecurityContext(server)) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        address = listener.getsockname()
        thread.start()
        with ss.create_connection(address, 20, peer=peer, context=ss.SecurityContext(client)) as sock:
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"
            client_saw = str(sock.query_security().peer_machine)
        thread.join()
    return client_saw, seen[0]


@pytest.mark.parametrize("key", KEYS)
def test_certificates_of_openssl_prove_names_through_an_intermediate(tmp_path: Path, key: str) -> None:
    authority = OpensslAuthority(tmp_path, KEYS[key])

    seen = exchange(authority.identity("server"), authority.identity("client"), peer="host/server.example")

    assert seen == ("host/server.example", "host/client.example")


def test_an_address_in_a_certificate_of_openssl_is_a_name_too(tmp_path: Path) -> None:
    authority = OpensslAuthority(tmp_path, KEYS["P-256"])

    client_saw, _ = exchange(authority.identity("server"), authority.identity("client"))

    assert client_saw == "127.0.0.1"


def test_a_wrong_password_of_a_key_of_openssl_is_misuse(tmp_path: Path) -> None:
    authority = OpensslAuthority(tmp_path, KEYS["P-256"])

    with pytest.raises(ss.LocalMisuse) as refused:
        ss.Identity.from_pem(tmp_path / "root.pem", tmp_path / "root.key", trust=[], password="battery staple")

    assert "battery" not in str(refused.value)
    assert authority.folder == tmp_path
