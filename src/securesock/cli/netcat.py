"""securesock listen and connect: standard input and output over one secured connection, as netcat over a plain one.

Thin: all protection is the sockets'.  With --udp: netcat_datagrams.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Annotated, Final

import typer

import securesock as ss

from ..errors import LocalMisuse
from .conversation import Received, Sink, print_chunk, read_address, read_some, say_who, summary
from .netcat_datagrams import connect_datagrams, listen_datagrams
from .output import DONE, AsJson, emit, reaching

__all__ = ["register"]

CHUNK: Final = 65536

Guarantee = Annotated[bool, typer.Option("--guarantee-encryption", help="Only suites with a cipher.")]
AllowInsecure = Annotated[
    bool,
    typer.Option("--allow-insecure", help="Clear text where the other end knows no IPsec. An attacker can cause that."),
]
Udp = Annotated[bool, typer.Option("--udp", help="Datagrams: each piece of input is one.")]
Wait = Annotated[
    float, typer.Option("--wait", help="With --udp: seconds without a datagram that end it after the input.", min=0.0)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("listen")(listen)
    app.command("connect")(connect)


def connect(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", show_default=False)],
    peer: Annotated[
        str | None,
        typer.Option("--peer", help="Who must be at the other end; by default the host.", show_default=False),
    ] = None,
    guarantee_encryption: Guarantee = False,
    allow_insecure: AllowInsecure = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to connect and negotiate in.", min=0.1)] = 15.0,
    udp: Udp = False,
    wait: Wait = 1.0,
    as_json: AsJson = False,
) -> int:
    """Connect, send standard input, print what comes back."""
    settings = ss.SecuritySettings(guarantee_encryption, allow_insecure)
    if udp:
        return connect_datagrams(read_address(address, None), peer, settings, timeout, wait, as_json)
    with reaching(address):
        connection = ss.create_connection(read_address(address, None), timeout, peer=peer, settings=settings)
    with connection:
        connection.settimeout(None)
        if not as_json:
            say_who(connection.query_security())
        received = Received()
        sent = _exchange(connection, sys.stdin.buffer, received if as_json else print_chunk)
        emit(summary(connection.query_security(), sent, received), (), as_json)
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
    once: Annotated[bool, typer.Option("--once", help="End after the first connection, or with --udp peer.")] = False,
    udp: Udp = False,
    wait: Wait = 1.0,
    as_json: AsJson = False,
) -> int:
    """Accept connections one after another: print what comes, send standard input or a program's output."""
    if as_json and not once:
        raise LocalMisuse("--json prints one object when the connection is over: use it with --once")
    host, port = read_address(address, "")
    settings = ss.SecuritySettings(guarantee_encryption, allow_insecure)
    if udp:
        return listen_datagrams((host, port), peer, settings, program, once, wait, as_json)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ss.create_server((host, port), family=family, settings=settings, allow=peer) as listener:
        print("listening on", *listener.getsockname()[:2], file=sys.stderr, flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                if not as_json:
                    say_who(connection.query_security())
                try:
                    _serve(connection, program, as_json)
                except ss.SecureSocketError as error:
                    if once:
                        raise
                    print(f"securesock: {error}", file=sys.stderr)
            if once:
                return DONE


def _serve(connection: ss.SecureSocket, program: str | None, as_json: bool) -> None:
    received = Received()
    sink: Sink = received if as_json else print_chunk
    if program is None:
        sent = _exchange(connection, sys.stdin.buffer, sink)
    else:
        sent = _run(connection, shlex.split(program), received)
    emit(summary(connection.query_security(), sent, received), (), as_json)


def _run(connection: ss.SecureSocket, command: list[str], received: Received) -> int:
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
            while data := read_some(source, CHUNK):
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
