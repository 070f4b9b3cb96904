"""One end of a demonstration, in a process of its own: ``python -m securesock.cli.demo.ends``.

Reads one JSON object (the script of this end) from standard input, writes one JSON object a line to standard output.
The private key comes over that pipe and is never written to a file.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from dataclasses import dataclass
from typing import Any, Final

import securesock as ss

__all__ = ["Script", "main"]

SECONDS: Final = 10.0
"""No step of the demonstration takes a tenth of this; a hanging one ends."""


@dataclass(frozen=True)
class Script:
    """What one end is to do.  PEM texts; ``clear``: play an ordinary program that knows nothing of securesock."""

    role: str
    certificate: str
    private_key: str
    trust: str
    port: int
    message: str
    peer: str = ""
    allow_insecure: bool = False
    clear: bool = False
    parts: int = 1


def _context(script: Script) -> ss.SecurityContext:
    identity = ss.Identity.from_pem(
        certificate=script.certificate.encode(), private_key=script.private_key.encode(), trust=[script.trust.encode()]
    )
    return ss.SecurityContext(identity)


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def _error(error: Exception) -> dict[str, str]:
    return {"kind": type(error).__name__, "text": str(error)}


def _serve_in_clear(script: Script) -> None:
    """A program that knows nothing of securesock: sends back whatever comes, until the message itself came."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _say(port=listener.getsockname()[1])
        listener.settimeout(SECONDS)
        received = 0
        while received != len(script.message):
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(SECONDS)
                received = _echo_as_it_comes(accepted)
        _say(received=received)


def _echo_as_it_comes(connection: socket.socket) -> int:
    """As an ordinary echo server; a client that asks whether it speaks IKE sees at once that it does not."""
    received = 0
    # a client that goes on in clear resets the connection on which it asked
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while data := connection.recv(65536):
            received += len(data)
            connection.sendall(data)
    return received


def _serve(script: Script) -> None:
    """Answer one connection with its own words; report who came, or who was refused."""
    settings = ss.SecuritySettings(allow_insecure=script.allow_insecure)
    with ss.create_server(("127.0.0.1", 0), settings=settings, context=_context(script)) as listener:
        _say(port=listener.getsockname()[1])
        listener.settimeout(SECONDS)
        try:
            connection = _accept_or_refuse(listener)
        except TimeoutError:
            _say(refusals=dict(listener.refusals))
            return
        with connection:
            connection.settimeout(SECONDS)
            info = connection.query_security().to_dict()
            try:
                received = _echo(connection)
            except ss.SecureSocketError as error:
                _say(security=info, error=_error(error))
                return
            _say(security=connection.query_security().to_dict(), received=received)


def _accept_or_refuse(listener: ss.SecureSocket) -> ss.SecureSocket:
    """The first connection that proved itself.  TimeoutError as soon as one was refused instead."""
    listener.settimeout(0.05)
    for _ in range(int(SECONDS / 0.05)):
        try:
            accepted, _ = listener.accept()
        except TimeoutError:
            if listener.refusals:
                raise
            continue
        return accepted
    raise TimeoutError("nobody came")


def _echo(connection: socket.socket) -> int:
    """Read until the peer's end of stream, send it all back; how many bytes."""
    received = bytearray()
    while data := connection.recv(65536):
        received += data
    connection.sendall(received)
    return len(received)


def _connect(script: Script) -> None:
    """Send the message in parts, read it back, report who answered."""
    address = ("127.0.0.1", script.port)
    connection: socket.socket
    payload = script.message.encode()
    try:
        if script.clear:
            connection = socket.create_connection(address, timeout=SECONDS)
        else:
            settings = ss.SecuritySettings(allow_insecure=script.allow_insecure)
            peer = script.peer or ss.ANY_TRUSTED_PEER
            context = _context(script)
            connection = ss.create_connection(address, SECONDS, peer=peer, settings=settings, context=context)
        with connection:
            size = -(-len(payload) // script.parts)
            for at in range(0, len(payload), size):
                connection.sendall(payload[at : at + size])
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while data := connection.recv(65536):
                answer += data
            security = connection.query_security().to_dict() if isinstance(connection, ss.SecureSocket) else None
    except OSError as error:
        _say(error=_error(error))
        return
    _say(security=security, complete=answer == payload)


def main() -> None:
    """Play the end that standard input describes."""
    # loaded while nothing is known yet, so that the other end need not wait for it
    for name in ("Identity", "SecurityContext", "create_connection", "create_server"):
        getattr(ss, name)
    script = Script(**json.loads(sys.stdin.readline()))
    if script.role == "client":
        _connect(script)
    elif script.clear:
        _serve_in_clear(script)
    else:
        _serve(script)


if __name__ == "__main__":
    main()
