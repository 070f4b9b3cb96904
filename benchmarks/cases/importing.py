"""What `import securesock` costs beyond the modules that any program with TLS imports anyway."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.bulk_contexts import SERVER_NAME, write_identities
from benchmarks.harness import Bound, Contest, case
from benchmarks.small_clients import KINDS, Server

_TIMED = "import time; started = time.perf_counter()\n{}\nprint((time.perf_counter() - started) * 1000)"
_EVERYBODYS = "import ssl, asyncio, cryptography.x509"


_FIRST_ANSWER = {
    "ours": """
import securesock as ss
identity = ss.Identity.from_pem({folder!r} + "/client.pem", {folder!r} + "/client.key", {folder!r} + "/ca.pem")
with ss.create_connection(
    ("127.0.0.1", {port}), peer="host/{name}", context=ss.SecurityContext(identity)
) as connection:
    connection.sendall(b"hello")
    connection.recv(16)
""",
    "tls": """
import socket, ssl
context = ssl.create_default_context(cafile={folder!r} + "/ca.pem")
context.load_cert_chain({folder!r} + "/client.pem", {folder!r} + "/client.key")
plain = socket.create_connection(("127.0.0.1", {port}))
plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
with context.wrap_socket(plain, server_hostname="{name}") as connection:
    connection.sendall(b"hello")
    connection.recv(16)
""",
}


def _took_ms(statement: str) -> float:
    """Milliseconds that a fresh interpreter takes for it."""
    # -I: neither the folder nor the environment of whoever runs this
    done = subprocess.run([sys.executable, "-I", "-c", _TIMED.format(statement)], check=True, capture_output=True)
    return float(done.stdout)


@case("import securesock", unit="ms", better="lower", rounds=15, bound=Bound("difference", at_most=50.0))
def importing() -> Iterator[Contest]:
    """What every program pays.  The difference is the cost; the ratio says little."""
    yield Contest(lambda: _took_ms("import securesock"), {_EVERYBODYS: lambda: _took_ms(_EVERYBODYS)})


@case(
    "import securesock, all names used", unit="ms", better="lower", rounds=15, bound=Bound("difference", at_most=50.0)
)
def importing_all() -> Iterator[Contest]:
    """What a program pays that uses sockets, identities and asyncio: most is imported when it is first used."""
    yield Contest(lambda: _took_ms("from securesock import *"), {_EVERYBODYS: lambda: _took_ms(_EVERYBODYS)})


@case("a program's first secured answer, imports and all", unit="ms", better="lower", rounds=15)
def first_answer() -> Iterator[Contest]:
    """What was put off when the names were imported is paid here; ssl is a library in C and waits for little.

    A server is running, and has served before; the client is a fresh interpreter each time.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        write_identities(Path(folder))
        programs = {}
        for kind, program in _FIRST_ANSWER.items():
            server = stack.enter_context(Server(Path(folder), "echo", kind))
            server.connect().close()
            programs[kind] = program.format(folder=folder, port=server.port, name=SERVER_NAME)
        yield Contest(lambda: _took_ms(programs["ours"]), {KINDS["tls"]: lambda: _took_ms(programs["tls"])})
