"""securesock explain: why a flow is judged as it is, layer by layer, by the filter engine's store.

It asks what a socket of this machine would ask (engine/verdicts), and changes nothing.  Addresses are numeric: a name
may lead to several, and each is a flow of its own.  Arrows, quoted from the shell, mean the same as "to" and "from".
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Annotated, Final, NamedTuple

import typer

from ..engine.context import SecurityContext
from ..engine.verdicts import Direction, Inquest, explain_flow
from ..errors import LocalMisuse
from ..identity.identity import Identity
from ..identity.names import parse_peer_target_name
from ..policy.access import Token
from ..policy.fields import Field
from ..policy.layers import FlowValue
from ..types import Flow, Json, SecuritySettings
from .output import AsJson, emit
from .policy import Store, open_store

__all__ = ["register"]

_FLOW: Final = re.compile(
    r"(?:(?P<protocol>tcp|udp|\d+)\s+)?(?:(?P<ours>\S+?)\s*)?(?P<arrow>->|<-|\bto\b|\bfrom\b)\s*(?P<peers>\S+)"
)
_TARGET: Final = re.compile(r"(?:(?P<protocol>tcp|udp|\d+)\s+)?(?P<peers>[^\s<>]+)")
_PROTOCOLS: Final = {"tcp": 6, "udp": 17}
_HELP: Final = "[tcp|udp] [OURS] to PEER (we begin), OURS from PEER (the peer does), or PEER; each HOST[:PORT]."


class Endpoint(NamedTuple):
    """A numeric host, and a port or 0."""

    host: str
    port: int


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    flow: Annotated[list[str], typer.Argument(metavar="FLOW...", help=_HELP)],
    peer: Annotated[
        str | None, typer.Option("--peer", metavar="NAME", help="Whom we expect, or who proved it.", show_default=False)
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="The user who proved it.", show_default=False)
    ] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Say which filters are considered for a flow, and which decides."""
    asked, direction = read_flow(" ".join(flow))
    known: dict[Field, FlowValue] = {}
    named = None if peer is None else parse_peer_target_name(peer)
    if named is not None and direction == "inbound":
        known[Field.ALE_REMOTE_MACHINE_ID] = Token((named.principal,))
    if user is not None:
        known[Field.ALE_REMOTE_USER_ID] = Token((parse_peer_target_name(user).principal,))
    expected = named if direction == "outbound" else None
    with open_store(store) as engine:
        # whose identity it is decides nothing here
        context = SecurityContext(Identity.ephemeral("host/explain.example"), policy=engine)
        accounts = explain_flow(Inquest(context, SecuritySettings(), asked, direction, expected), known)
    blocked = next((each for each in accounts if each.verdict.is_blocked), None)
    outcome = "blocked" if blocked is not None else "not blocked"
    result: dict[str, Json] = {
        "direction": direction,
        "outcome": outcome,
        "filter_id": None if blocked is None or blocked.verdict.filter is None else blocked.verdict.filter.id,
        "layers": [each.to_dict() for each in accounts],
    }
    reason = "no layer blocks it" if blocked is None else f"{blocked.layer.name}: {blocked.verdict.reason}"
    lines = [line for each in accounts for line in [*each.text.splitlines(), ""]]
    emit(result, [*lines, f"{outcome}: {reason}"], as_json)


def read_flow(text: str) -> tuple[Flow, Direction]:
    """A flow as people write it; LocalMisuse when it is none."""
    matched = _FLOW.fullmatch(text.strip()) or _TARGET.fullmatch(text.strip())
    if matched is None:
        raise LocalMisuse(f"{text!r} is no flow: {_HELP}")
    parts = matched.groupdict()
    named = parts["protocol"] or "tcp"
    protocol = _PROTOCOLS[named] if named in _PROTOCOLS else int(named)
    if not 0 <= protocol <= 255:
        raise LocalMisuse(f"{named} is no protocol")
    peer = _endpoint(parts["peers"])
    given = parts.get("ours")
    ours = Endpoint(_our_host(peer), 0) if given is None else _endpoint(given)
    if ipaddress.ip_address(ours.host).version != ipaddress.ip_address(peer.host).version:
        raise LocalMisuse(f"{ours.host} and {peer.host} are of two families")
    direction: Direction = "inbound" if parts.get("arrow") in ("<-", "from") else "outbound"
    return Flow(protocol, ours.host, ours.port, peer.host, peer.port), direction


def _endpoint(text: str) -> Endpoint:
    """HOST, HOST:PORT or [HOST]:PORT."""
    host, port = text, "0"
    if text.startswith("["):
        host, _, rest = text.removeprefix("[").partition("]")
        port = rest.removeprefix(":") or "0"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        number = int(port)
        address = ipaddress.ip_address(host)
    except ValueError:
        raise LocalMisuse(f"{text!r} is no numeric HOST, HOST:PORT or [HOST]:PORT") from None
    if not 0 <= number <= 0xFFFF:
        raise LocalMisuse(f"{port} is no port")
    return Endpoint(str(address), number)


def _our_host(peer: Endpoint) -> str:
    """The address that this machine would use: connecting a UDP socket sends nothing."""
    is_v4 = ipaddress.ip_address(peer.host).version == 4
    with socket.socket(socket.AF_INET if is_v4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((peer.host, peer.port or 1))
        except OSError:
            return "0.0.0.0" if is_v4 else "::"
        return str(probe.getsockname()[0])
