"""Full handshakes beside ssl's: both ends in one thread, in memory, so that nothing but the handshake is measured.

Both do the same work: mutual authentication with P-256 certificates of one authority, which both ends validate each
time (nothing of a peer's is remembered between handshakes), the server's name checked by the client, X25519,
AES-256-GCM.  TLS 1.3 sends no tickets and its contexts are made once, as our identities are.  Ours ends when both ends
have the first CHILD_SA in both directions, ciphers made.
"""

from __future__ import annotations

import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.harness import Bound, Contest, Measure, case
from securesock.clock import SystemClock
from securesock.crypto.esp_cipher import make_esp_cipher
from securesock.crypto.suites import AES_256_GCM_16, ML_KEM_768, X25519
from securesock.entropy import SystemEntropy
from securesock.identity.authority import Authority
from securesock.identity.identity import Identity
from securesock.identity.names import parse_peer_target_name
from securesock.keying.contract import Establishment, FlowReady, InstallSa, KeyingConfig, Role, SendDatagram
from securesock.keying.ikev2.session import IkeSession
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE, KeyExchangePreference, main_mode_offers

HANDSHAKES: Final = 100
"""In one round: a tenth of a second a side, long against the clock and short against the machine's other moods."""

_CLIENT, _SERVER = "client.example", "server.example"
_CLIENT_ADDRESS, _SERVER_ADDRESS = ("192.0.2.1", 40000), ("192.0.2.2", 7000)


@case(
    "full handshake, mutual P-256, X25519, one thread",
    unit="1/s",
    better="higher",
    bound=Bound("ratio", at_least=0.5),
    aim=1.0,
    rounds=15,
)
def handshakes() -> Iterator[Contest]:
    """The row beside ours with ML-KEM-768 says what that costs us; ssl of a Python on OpenSSL 3.0 has none."""
    authority = Authority.create("benchmark authority")
    client = Identity.ephemeral(f"host/{_CLIENT}", authority=authority)
    server = Identity.ephemeral(f"host/{_SERVER}", authority=authority)
    yield Contest(
        _ours(client, server, "classical"),
        {
            "ssl (TLS 1.3)": _tls(client, server, authority),
            "ours with ML-KEM-768": _ours(client, server, "hybrid-required"),
        },
    )


def _rate_of(handshake: Callable[[], None]) -> Measure:
    """Handshakes a second; ``handshake`` does one."""

    def measured() -> float:
        started = time.perf_counter()
        for _ in range(HANDSHAKES):
            handshake()
        return HANDSHAKES / (time.perf_counter() - started)

    return measured


def _ours(client: Identity, server: Identity, preference: KeyExchangePreference) -> Measure:
    clock, entropy = SystemClock(), SystemEntropy()
    main_mode = replace(DEFAULT_MAIN_MODE, offers=main_mode_offers(preference))
    expected = parse_peer_target_name(f"host/{_SERVER}")
    additional = () if preference == "classical" else (ML_KEM_768,)

    def config(role: Role) -> KeyingConfig:
        is_client = role is Role.INITIATOR
        addresses = (_CLIENT_ADDRESS, _SERVER_ADDRESS) if is_client else (_SERVER_ADDRESS, _CLIENT_ADDRESS)
        return KeyingConfig(
            role=role,
            carrier="stream",
            identity=client if is_client else server,
            main_mode=main_mode,
            quick_mode=DEFAULT_QUICK_MODE,
            our_address=addresses[0],
            peer_address=addresses[1],
            wall_offset_s=clock.wall_offset_s(),
            expected_peer=expected if is_client else None,
        )

    def handshake() -> None:
        initiator = IkeSession(config(Role.INITIATOR), entropy)
        responder = IkeSession(config(Role.RESPONDER), entropy)
        initiator.handle_acquire(clock.now())
        sides = ((initiator, responder), (responder, initiator))
        established: dict[Role, Establishment] = {}
        moved = True
        while moved:
            moved = False
            for us, them in sides:
                while (action := us.poll_action()) is not None:
                    match action:
                        case SendDatagram(data):
                            them.handle_datagram(data, clock.now())
                            moved = True
                        case InstallSa(spec, _):
                            make_esp_cipher(spec.suite, spec.keys)
                        case FlowReady(establishment):
                            established[Role.INITIATOR if us is initiator else Role.RESPONDER] = establishment
        _check(established, additional)

    return _rate_of(handshake)


def _check(established: dict[Role, Establishment], additional: tuple[object, ...]) -> None:
    """That this was the handshake which the row promises; RuntimeError otherwise."""
    if len(established) != 2:
        raise RuntimeError("a handshake failed")
    for establishment in established.values():
        suite = establishment.main_mode_suite
        if (suite.key_exchange, suite.encryption, suite.additional_key_exchanges) != (
            X25519,
            AES_256_GCM_16,
            additional,
        ):
            raise RuntimeError(f"another suite than the one to be measured: {suite.name}")


def _tls(client: Identity, server: Identity, authority: Authority) -> Measure:
    client_context = _context(ssl.PROTOCOL_TLS_CLIENT, client, authority)
    server_context = _context(ssl.PROTOCOL_TLS_SERVER, server, authority)
    server_context.num_tickets = 0
    if not client_context.check_hostname:
        raise RuntimeError("a client's context checks the server's name unless somebody turned that off")

    def handshake() -> None:
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        our_end = client_context.wrap_bio(to_client, to_server, server_hostname=_SERVER)
        peer_end = server_context.wrap_bio(to_server, to_client, server_side=True)
        waiting = [our_end, peer_end]
        while waiting:
            end = waiting.pop(0)
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting.append(end)
        cipher = peer_end.cipher()
        if cipher is None or cipher[0] != "TLS_AES_256_GCM_SHA384":
            raise RuntimeError(f"another suite than the one to be measured: {cipher}")

    return _rate_of(handshake)


def _context(protocol: int, identity: Identity, authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_ecdh_curve("X25519")
    context.load_verify_locations(cadata=authority.certificate.public_bytes(Encoding.DER))
    key = identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = [x509.load_der_x509_certificate(each).public_bytes(Encoding.PEM) for each in identity.certificate_chain]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "identity.pem"
        path.write_bytes(key + b"".join(chain))
        context.load_cert_chain(path)
    return context
