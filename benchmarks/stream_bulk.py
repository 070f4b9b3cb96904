"""Bulk in one direction over loopback, two processes, blocking sockets: the stream plane beside ssl and plain TCP.

    python -m benchmarks.stream_bulk [--rounds 9] [--mib 1024] [--send-kib 1024 64] [--json FILE]

Rounds alternate between the three.  Each round is one connection that was warmed up; its clock runs from the first
send until the receiver has said that it read the last byte.  AES-256-GCM in all that is encrypted.  The stream plane
is keyed in advance and has the least driver there can be: this measures its loops, not the sockets on top of it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from securesock.keying.contract import Role
from securesock.planes.userspace.stream import StreamConnection
from tests.support.pre_keyed import PreKeyedSession

READ = 1 << 20
WARM_UP = 32 << 20


class Stream(Protocol):
    """What the two processes need of a connection."""

    def sendall(self, data: memoryview, /) -> None: ...

    def recv_into(self, buffer: memoryview, /) -> int: ...


class PreKeyed:
    """The least driver that a StreamConnection needs on a blocking socket."""

    def __init__(self, carrier: socket.socket, role: Role) -> None:
        self.carrier = carrier
        self.connection = StreamConnection(PreKeyedSession(role), role)
        self.connection.start(time.monotonic())
        while self.connection.state == "negotiating":
            self._flush()
            self._read()
        self._flush()

    def sendall(self, data: memoryview) -> None:
        seal, flush = self.connection.seal, self._flush
        while data:
            count = seal(data, time.monotonic())
            flush()
            if count == len(data):
                return
            data = data[count:]
            if not count:
                self._read()

    def recv_into(self, buffer: memoryview) -> int:
        connection = self.connection
        while not connection.readable() and not connection.at_end:
            self._read()
        count = connection.read_into(buffer)
        connection.inbound_release()
        if connection.outbound_waiting:
            self._flush()
        return count

    def _flush(self) -> None:
        connection, send = self.connection, self.carrier.send
        while (out := connection.outbound()) is not None:
            connection.outbound_sent(send(out))

    def _read(self) -> None:
        room = self.connection.inbound_buffer()
        self.connection.inbound_received(self.carrier.recv_into(room), time.monotonic())


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--mib", type=int, default=1024)
    arguments.add_argument("--send-kib", type=int, nargs="+", default=[1024, 64])
    arguments.add_argument("--only", nargs="+", default=["ours", "ssl", "tcp"])
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        kinds = make_kinds(Path(folder))
        for kib in options.send_kib:
            rates: dict[str, list[float]] = {name: [] for name in options.only}
            for _ in range(options.rounds):
                for name in options.only:
                    rates[name].append(one_round(*kinds[name], kib << 10, options.mib << 20))
            for name, each in rates.items():
                spread = (max(each) - min(each)) / statistics.median(each)
                print(f"{kib:5} KiB  {name:5} {statistics.median(each):6.2f} GB/s  spread {spread:.0%}", flush=True)
            results += compare(kib, rates)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def compare(kib: int, rates: dict[str, list[float]]) -> list[dict[str, object]]:
    """Ours against each other, as median ratios of the rounds' pairs."""
    results: list[dict[str, object]] = []
    for peer in ("ssl", "tcp"):
        if "ours" not in rates or peer not in rates:
            continue
        ratios = sorted(ours / theirs for ours, theirs in zip(rates["ours"], rates[peer], strict=True))
        print(f"{kib:5} KiB  ours / {peer}: {statistics.median(ratios):.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        results.append(
            {
                "name": f"bulk {kib} KiB sends",
                "ours": statistics.median(rates["ours"]),
                "peer": statistics.median(rates[peer]),
                "peer_name": peer,
                "unit": "GB/s",
                "better": "higher",
                "ratio": statistics.median(ratios),
                "spread": ratios[-1] - ratios[0],
            }
        )
    return results


Wrap = Callable[[socket.socket], Stream]


def make_kinds(folder: Path) -> dict[str, tuple[Wrap, Wrap]]:
    """By name: what makes a client's and a server's stream of a TCP connection."""
    certificate = write_certificate(folder)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(certificate)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    for context in (client, server):
        context.minimum_version = ssl.TLSVersion.TLSv1_3

    def secure(carrier: socket.socket) -> Stream:
        stream = client.wrap_socket(carrier, server_hostname="localhost")
        cipher = stream.cipher()
        if cipher is None or cipher[0] != "TLS_AES_256_GCM_SHA384":
            raise SystemExit(f"ssl chose {cipher}, which is nothing to compare with")
        return stream

    return {
        "ours": (lambda carrier: PreKeyed(carrier, Role.INITIATOR), lambda carrier: PreKeyed(carrier, Role.RESPONDER)),
        "ssl": (secure, lambda carrier: server.wrap_socket(carrier, server_side=True)),
        "tcp": (lambda carrier: carrier, lambda carrier: carrier),
    }


def one_round(wrap_client: Wrap, wrap_server: Wrap, send_size: int, total: int) -> float:
    """GB/s from a client process to a server process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with listener.accept()[0] as carrier:
                    receive(wrap_server(carrier), total)
                status = 0
            finally:
                os._exit(status)
        with socket.create_connection(listener.getsockname()) as carrier:
            carrier.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            rate = send(wrap_client(carrier), send_size, total)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit("the receiving process failed")
    return rate


def send(stream: Stream, size: int, total: int) -> float:
    """Warm up, then the clock."""
    data = memoryview(os.urandom(size))
    answer = memoryview(bytearray(1))
    for amount in (WARM_UP, total):
        started = time.perf_counter()
        for _ in range(amount // size):
            stream.sendall(data)
        stream.recv_into(answer)
        elapsed = time.perf_counter() - started
    return total / elapsed / 1e9


def receive(stream: Stream, total: int) -> None:
    """Read what ``send`` sends, and say so twice."""
    buffer = memoryview(bytearray(READ))
    for amount in (WARM_UP, total):
        left = amount
        while left > 0:
            count = stream.recv_into(buffer[: min(READ, left)])
            if not count:
                raise SystemExit("the stream ended early")
            left -= count
        stream.sendall(memoryview(b"."))


def write_certificate(folder: Path) -> Path:
    """A self-signed P-256 certificate for localhost and its key in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "localhost.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


if __name__ == "__main__":
    main()
