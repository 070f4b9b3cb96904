"""securesock listen and connect: standard input and output over one secured connection, as netcat over a plain one.

Thin: all protection is the sockets'.  What was proven goes to standard error, the data to standard output; with
--json one object
with both, the received data in base64.
"""

from __future__ import annotations

import base64
import contextlib
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Annotated, Final, TypeAlias

import typer

import securesock as ss

from ..errors import LocalMisuse
from ..types import Json
from .output import DONE, AsJson, emit

__all__ = ["register"]

CHUNK: Final = 65536
KEPT_FOR_JSON: Final = 16 << 20
"""Of received data at most this much goes into the object of --json; all of it is counted."""

Guarantee = Annotated[bool, typer.Option("--guarantee-encryption", help="Only suites with a cipher.")]
AllowInsecure = Annotated[
    bool,
    typer.Option("--allow-insecure", help="Clear text where the other end knows no IPsec. An attacker can cause that."),
]
Sink: TypeAlias = Callable[[bytes], None]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("listen")(listen)
    app.command("connect")(connect)


@dataclass
class _Received:
    """Counts what comes and keeps its beginning."""

    count: int = 0
    data: bytes = b""

    def __call__(self, chunk: bytes) -> None:
        self.count += len(chunk)
        if len(self.data) < KEPT_FOR_JSON:
            self.data += chunk[: KEPT_FOR_JSON - len(self.data)]


def connect(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", show_default=False)],
    peer: Annotated[
        str | None,
        typer.Option("--peer", help="Who must be at the other end; by default the host.", show_default=False),
    ] = None,
    guarantee_encryption: Guarantee = False,
    allow_insecure: AllowInsecure = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to connect and negotiate in.", min=0.1)] = 15.0,
    as_json: AsJson = False,
) -> int:
    """Connect, send standard input, print what comes back."""
    settings = ss.SecuritySettings(guarantee_encryption, allow_insecure)
    with ss.create_connection(_address(address, None), timeout, peer=peer, settings=settings) as connection:
        connection.settimeout(None)
        _say_who(connection, as_json)
        received = _Received()
        sent = _exchange(connection, sys.stdin.buffer, received if as_json else _print)
        emit(_summary(connection, sent, received), (), as_json)
    return DONE


def listen(
    address: Annotated[str, typer.Argument(metavar="[HOST:]PORT", show_default=False)],
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", help="Who may connect: names, or globs on DNS labels (repeatable).", show_default=False),
    ] = None,
    guarantee_encryption: Guarantee = False,
    allow_insecure: AllowInsecure = False,
    program: Annotated[
        str | None,
        typer.Option("--exec", metavar="COMMAND", help="Run it for each connection, as its input and output."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End after the first connection.")] = False,
    as_json: AsJson = False,
) -> int:
    """Accept connections one after another: print what comes, send standard input or a program's output."""
    if as_json and not once:
        raise LocalMisuse("--json prints one object when the connection is over: use it with --once")
    host, port = _address(address, "")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    settings = ss.SecuritySettings(guarantee_encryption, allow_insecure)
    with ss.create_server((host, port), family=family, settings=settings, allow=peer) as listener:
        print("listening on", *listener.getsockname()[:2], file=sys.stderr, flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                _say_who(connection, as_json)
                try:
                    _serve(connection, program, as_json)
                except ss.SecureSocketError as error:
                    if once:
                        raise
                    print(f"securesock: {error}", file=sys.stderr)
            if once:
                return DONE


def _serve(connection: ss.SecureSocket, program: str | None, as_json: bool) -> None:
    received = _Received()
    sink: Sink = received if as_json else _print
    if program is None:
        sent = _exchange(connection, sys.stdin.buffer, sink)
    else:
        sent = _run(connection, shlex.split(program), received)
    emit(_summary(connection, sent, received), (), as_json)


def _run(connection: ss.SecureSocket, command: list[str], received: _Received) -> int:
    """The program's standard input is what comes, its output is what goes."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdin is None or process.stdout is None:
            raise OSError("the program has no pipes")
        to_program = process.stdin

        def feed(chunk: bytes) -> None:
            received(chunk)
            with contextlib.suppress(BrokenPipeError):  # the program has read all that it wants
                to_program.write(chunk)
                to_program.flush()

        def no_more() -> None:
            with contextlib.suppress(BrokenPipeError):
                to_program.close()

        return _exchange(connection, process.stdout, feed, no_more)


def _exchange(
    connection: ss.SecureSocket, source: IO[bytes], sink: Sink, at_end: Callable[[], None] = lambda: None
) -> int:
    """Both directions until both have ended; how many bytes went.  Raises what ended the connection."""
    sent = 0
    failures: list[OSError] = []

    def send() -> None:
        nonlocal sent
        try:
            while data := _read_some(source):
                connection.sendall(data)
                sent += len(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError as error:
            failures.append(error)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        while chunk := connection.recv(CHUNK):
            sink(chunk)
    finally:
        at_end()
    sender.join()
    if failures:
        raise failures[0]
    return sent


def _read_some(source: IO[bytes]) -> bytes:
    """What is there now, so that a terminal's or a program's lines go out at once."""
    read1 = getattr(source, "read1", None)
    data: bytes = read1(CHUNK) if read1 is not None else source.read(CHUNK)
    return data


def _print(chunk: bytes) -> None:
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _address(text: str, default_host: str | None) -> tuple[str, int]:
    """HOST:PORT, [IPV6]:PORT or, where there is a default host, PORT."""
    host, colon, port = text.rpartition(":")
    if not colon and default_host is not None:
        host = default_host
    elif not host:
        raise LocalMisuse(f"{text} is no HOST:PORT")
    if not port.isdecimal() or int(port) > 65535:
        raise LocalMisuse(f"{text} has no port number at its end")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _say_who(connection: ss.SecureSocket, as_json: bool) -> None:
    info = connection.query_security()
    if as_json:
        return
    if not info.secured:
        print(f"securesock: NOT secured, in clear: {'; '.join(info.differences)}", file=sys.stderr)
        return
    peer = info.peer_user or info.peer_machine
    print(f"securesock: connected with {peer}, {info.quick_mode_suite}, {info.key_exchange}", file=sys.stderr)


def _summary(connection: ss.SecureSocket, sent: int, received: _Received) -> dict[str, Json]:
    return {
        "security": connection.query_security().to_dict(),
        "sent": sent,
        "received": received.count,
        "data": base64.b64encode(received.data).decode(),
    }
