"""Connections opened, used and closed against one server process: nothing of them is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import securesock as ss
from tests.soak.sizes import CONNECTIONS
from tools import leftovers

SERVER = Path(__file__).with_name("soak_server.py")
# What one connection may leave behind on the average.  An SA pair alone is over 3 KiB, a buffer 64 KiB and more, so
# that a leak of any of them in one connection of a hundred shows; the rest is the allocator's.
RSS_BYTES_PER_CONNECTION = 256
# Below this the allocator's own arenas decide, not the connections.
RSS_NOISE_KIB = 1536


def pem(identity: ss.Identity) -> dict[str, str]:
    chain = (x509.load_der_x509_certificate(each) for each in identity.certificate_chain)
    anchors = identity.trust.certificates
    key = identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {
        "certificate": b"".join(each.public_bytes(Encoding.PEM) for each in chain).decode(),
        "trust": b"".join(each.public_bytes(Encoding.PEM) for each in anchors).decode(),
        "key": key.decode(),
    }


class Server:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._answer())

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def measure(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, Any] = self._answer()
        return found

    def measure_settled(self, objects: int) -> dict[str, Any]:
        """When it has let go of what has a time: the limits of negotiations are forgotten after 10 s."""
        deadline = time.monotonic() + 15
        never = threading.Event()
        while (found := self.measure())["objects"] > objects and time.monotonic() < deadline:
            never.wait(0.5)
        return found


@pytest.mark.timeout(1200)
def test_many_connections_leave_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    identity = ss.Identity.ephemeral("host/server.example")
    context = ss.SecurityContext(ss.Identity.ephemeral("host/client.example", authority=identity.authority))
    command = [sys.executable, "-W", "error", str(SERVER)]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with leftovers.process(started) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(pem(identity)) + "\n")
        process.stdin.flush()
        server = Server(process)
        # caches, pools and the allocator fill themselves first
        use(server, context, CONNECTIONS // 4)
        before = server.measure()
        use(server, context, CONNECTIONS - CONNECTIONS // 4)
        # one object left in every connection would be a hundred times this
        after = server.measure_settled(before["objects"] + CONNECTIONS // 100)
    counted = CONNECTIONS - CONNECTIONS // 4
    with capsys.disabled():
        print(f"\nsoak: {CONNECTIONS} connections; after the first quarter {before}, at the end {after}")
    assert after["refusals"] == {}
    assert after["objects"] <= before["objects"] + CONNECTIONS // 100
    assert after["threads"] == before["threads"]
    assert after["descriptors"] <= before["descriptors"] + 1
    grown_kib = after["rss_kib"] - before["rss_kib"]
    assert grown_kib <= RSS_NOISE_KIB + counted * RSS_BYTES_PER_CONNECTION // 1024


def use(server: Server, context: ss.SecurityContext, times: int) -> None:
    for number in range(times):
        message = b"%d" % number * 50
        with ss.create_connection(("127.0.0.1", server.port), 30, peer="host/server.example", context=context) as sock:
            sock.sendall(message)
            sock.shutdown(1)
            answer = b""
            while chunk := sock.recv(65536):
                answer += chunk
        assert answer == message
