"""What the demonstration plays, and the report that it comes to.

A success, then everything that must be refused, each between two new processes with a recorder on the path; and a run
in clear, which shows that the recorder would have seen clear text had there been any.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from ...identity.identity import Identity
from .ends import Script
from .relay import Recorder, Tamper, cut_after_packet, flip_a_bit_of_packet

__all__ = ["Refusal", "Report", "clear_text_windows", "play"]

WINDOW: Final = 8
"""Bytes of application data that must not be found on the wire in one piece."""

MESSAGE_BYTES: Final = 4096
END_SECONDS: Final = 30.0
CLIENT: Final = "host/client.example"
SERVER: Final = "host/server.example"


@dataclass(frozen=True)
class Refusal:
    """One thing that was tried and not let through."""

    case: str
    what: str
    refused: bool
    error: str
    text: str


@dataclass(frozen=True)
class Report:
    """Everything that ``securesock demo`` says."""

    secured: bool
    encrypted: bool
    client: dict[str, Any]
    server: dict[str, Any]
    bytes_on_wire: int
    clear_text_bytes_on_wire: int
    control: dict[str, int]
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether all of it is as promised."""
        proven = (self.client["peer_machine"]["name"], self.server["peer_machine"]["name"]) == (SERVER, CLIENT)
        control = self.control["windows"] > 0 and self.control["windows"] == self.control["found"]
        refused = bool(self.refusals) and all(each.refused for each in self.refusals)
        return all((self.secured, self.encrypted, proven, not self.clear_text_bytes_on_wire, control, refused))


def clear_text_windows(payload: bytes, recorded: bytes) -> int:
    """How many of the payload's 8-byte windows appear in what was recorded."""
    seen = {recorded[at : at + WINDOW] for at in range(len(recorded) - WINDOW + 1)}
    return sum(payload[at : at + WINDOW] in seen for at in range(len(payload) - WINDOW + 1))


@dataclass(frozen=True)
class _Outcome:
    server: dict[str, Any]
    client: dict[str, Any]
    recorded: bytes


@dataclass(frozen=True)
class _Cast:
    """Who plays, and what is said: random hexadecimal text, so that no window of it is on the wire by chance."""

    client: Script
    server: Script
    message: str


def _script(role: str, identity: Identity, trust: str, message: str) -> Script:
    certificate, private_key = _pem(identity)
    return Script(role, certificate, private_key, trust, 0, message, peer=SERVER if role == "client" else "")


def _pem(identity: Identity) -> tuple[str, str]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    chain = (x509.load_der_x509_certificate(each) for each in identity.certificate_chain)
    certificate = b"".join(each.public_bytes(Encoding.PEM) for each in chain)
    key = identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.decode(), key.decode()


def _anchors(identity: Identity) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return "".join(each.public_bytes(Encoding.PEM).decode() for each in identity.trust.certificates)


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "securesock.cli.demo.ends"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _tell(process: subprocess.Popen[str], script: Script) -> None:
    if process.stdin is not None:
        process.stdin.write(json.dumps(asdict(script)) + "\n")
        process.stdin.flush()


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise RuntimeError("one end of the demonstration ended without a word")
    found: dict[str, Any] = json.loads(line)
    return found


def _play(cast: _Cast, tamper: Tamper | None = None) -> _Outcome:
    """One connection between two processes, with a recorder between them."""
    with contextlib.ExitStack() as ends:
        # both at once: most of a play is the start of its two ends
        server = _start()
        ends.callback(_end, server)
        client = _start()
        ends.callback(_end, client)
        _tell(server, cast.server)
        port = _line(server)["port"]
        with Recorder(("127.0.0.1", port), tamper) as recorder:
            _tell(client, replace(cast.client, port=recorder.address[1]))
            said = _line(client)
            answered = _line(server)
            _end(client)
        return _Outcome(answered, said, bytes(recorder.recorded["to server"] + recorder.recorded["to client"]))


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(END_SECONDS)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _cast() -> _Cast:
    server = Identity.ephemeral(SERVER)
    client = Identity.ephemeral(CLIENT, authority=server.authority)
    message = secrets.token_hex(MESSAGE_BYTES // 2)
    return _Cast(
        _script("client", client, _anchors(client), message),
        _script("server", server, _anchors(server), message),
        message,
    )


def _refusals(cast: _Cast, say: Callable[[Refusal], None]) -> list[Refusal]:
    stranger_client = Identity.ephemeral(CLIENT)
    stranger_server = Identity.ephemeral(SERVER)
    certificate, key = _pem(stranger_client)
    unknown_client = replace(cast.client, certificate=certificate, private_key=key)
    other_trust = replace(cast.client, trust=_anchors(stranger_server))
    in_parts = replace(cast.client, parts=4)
    cases: list[tuple[str, str, _Cast, Tamper | None, str, tuple[str, ...]]] = [
        (
            "clear client",
            "a client that speaks in clear reaches a secured server",
            replace(cast, client=replace(cast.client, clear=True)),
            None,
            "server",
            ("PeerIncompatible", "PeerMisbehaved"),
        ),
        (
            "wrong peer name",
            "the client expects another machine than the one that answers",
            replace(cast, client=replace(cast.client, peer="host/other.example")),
            None,
            "client",
            ("AuthenticationFailed",),
        ),
        (
            "client not trusted",
            "the client's certificate is from an authority that the server does not trust",
            replace(cast, client=unknown_client),
            None,
            "client",
            ("AuthenticationFailed",),
        ),
        (
            "server not trusted",
            "the server's certificate is from an authority that the client does not trust",
            replace(cast, client=other_trust),
            None,
            "client",
            ("AuthenticationFailed",),
        ),
        (
            "tampered byte",
            "somebody on the path changes one bit",
            replace(cast, client=in_parts),
            flip_a_bit_of_packet(3),
            "server",
            ("ConnectionBroken",),
        ),
        (
            "truncated stream",
            "somebody on the path cuts the connection, so that the end looks like an end",
            replace(cast, client=in_parts),
            cut_after_packet(3),
            "server",
            ("StreamTruncated",),
        ),
    ]
    found = []
    for case, what, players, tamper, who, expected in cases:
        refusal = _judge(case, what, _play(players, tamper), who, expected)
        say(refusal)
        found.append(refusal)
    return found


def _judge(case: str, what: str, outcome: _Outcome, who: str, expected: tuple[str, ...]) -> Refusal:
    """Refused means: this end says so with the right error, and the application's exchange did not come about."""
    told = outcome.server if who == "server" else outcome.client
    completed = bool(outcome.client.get("complete")) or "received" in outcome.server
    error = told.get("error")
    if error is None and who == "server":
        kinds = sorted(told.get("refusals", {}))
        error = {"kind": ", ".join(kinds), "text": "counted by the listener; the application never saw it"}
    error = error or {"kind": "", "text": ""}
    refused = not completed and any(each in error["kind"] for each in expected)
    return Refusal(case, what, refused, error["kind"], error["text"])


def play(say: Callable[[Refusal], None] = lambda _: None) -> Report:
    """Play all of it; ``say`` hears of each refusal as it happens."""
    cast = _cast()
    payload = cast.message.encode()
    success = _play(cast)
    if not success.client.get("complete") or "security" not in success.server:
        raise RuntimeError(f"the connection that should succeed did not: {success.client} {success.server}")
    in_clear = _play(
        replace(
            cast, client=replace(cast.client, allow_insecure=True, peer=""), server=replace(cast.server, clear=True)
        )
    )
    client, server = success.client["security"], success.server["security"]
    return Report(
        secured=client["secured"] and server["secured"],
        encrypted=client["encrypted"] and server["encrypted"],
        client=client,
        server=server,
        bytes_on_wire=len(success.recorded),
        clear_text_bytes_on_wire=clear_text_windows(payload, success.recorded),
        control={
            "windows": len(payload) - WINDOW + 1,
            "found": clear_text_windows(payload, in_clear.recorded),
        },
        refusals=_refusals(cast, say),
    )
