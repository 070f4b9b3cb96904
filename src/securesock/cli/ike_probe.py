"""securesock ike-probe: what an IKEv2 responder agrees to, before anybody has proven anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from ..drivers.probing import probe_responder
from ..entropy import SystemEntropy
from ..keying.ikev2.probe import Finding
from ..wire.udp_encapsulation import IKE_PORT, NAT_TRAVERSAL_PORT
from .output import DONE, FAILED, AsJson, emit, reaching

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ike-probe")(ike_probe)


def ike_probe(
    host: Annotated[str, typer.Argument(metavar="HOST", show_default=False)],
    port: Annotated[
        int | None,
        typer.Option("--port", help="UDP port; by default 4500, then 500.", min=1, max=65535, show_default=False),
    ] = None,
    wait: Annotated[float, typer.Option("--wait", help="Seconds for each answer.", min=0.1)] = 3.0,
    as_json: AsJson = False,
) -> int:
    """Show what the IKEv2 responder at HOST offers: key exchanges, ciphers, extensions. Nobody proves anything."""
    findings: list[Finding] = []
    asked = IKE_PORT
    for asked in (NAT_TRAVERSAL_PORT, IKE_PORT) if port is None else (port,):
        with reaching(f"{host} port {asked}"):
            findings = probe_responder(host, asked, wait, SystemEntropy())
        if answers(findings):
            break
    emit(
        {
            "host": host,
            "port": asked,
            "answers": answers(findings),
            "findings": [
                {**asdict(each), "notifies": [*each.notifies], "vendor_ids": [*each.vendor_ids]} for each in findings
            ],
        },
        _lines(host, asked, findings),
        as_json,
    )
    return DONE if answers(findings) else FAILED


def answers(findings: list[Finding]) -> bool:
    """Whether anything there speaks IKEv2."""
    return any(each.verdict != "silent" for each in findings)


def _lines(host: str, port: int, findings: list[Finding]) -> Iterator[str]:
    if not answers(findings):
        yield f"{host}: nothing answers IKEv2 (UDP port {port} was asked last): check the host, and firewalls between"
        return
    yield f"{host} port {port} speaks IKEv2"
    for each in findings:
        if each.kind == "everything" and each.verdict == "accepted":
            yield f"  of all that we know it chooses {each.suite}"
            yield f"  it says                        {', '.join(each.notifies) or 'nothing more'}"
            yield from (f"  vendor id                      {vendor}" for vendor in each.vendor_ids)
            if each.authorities:
                yield f"  trust anchors that it names    {each.authorities}"
        elif each.kind != "everything" or each.detail:
            yield f"  {each.kind:<14} {each.name:<24} {each.verdict}{': ' + each.detail if each.detail else ''}"
