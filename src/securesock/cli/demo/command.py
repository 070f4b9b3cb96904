"""securesock demo: plays the demonstration and says what came of it.

Thin: what is played is in story.  Exit status 0 when everything was as promised, 1 when anything was not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import typer

from ..output import DONE, FAILED, AsJson, emit
from .story import CLIENT, SERVER, Refusal, Report, play

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(as_json: AsJson = False) -> int:
    """Two processes and a recorder between them: who proved what to whom, and everything that is refused."""
    report = play()
    emit({**asdict(report), "good": report.good}, _lines(report), as_json)
    return DONE if report.good else FAILED


def _lines(report: Report) -> Iterable[str]:
    yield "Two processes, one TCP connection, and somebody on the path who records every byte."
    yield ""
    yield from _end("client", CLIENT, report.client)
    yield from _end("server", SERVER, report.server)
    yield ""
    windows, found = report.control["windows"], report.control["found"]
    yield f"Recorded: {report.bytes_on_wire} bytes."
    yield f"Windows of 8 bytes of the application's data found in them, in clear: {report.clear_text_bytes_on_wire}."
    yield f"(On a connection in clear the same recorder found {found} of {windows}.)"
    yield ""
    yield "Refused:"
    for refusal in report.refusals:
        yield from _refusal(refusal)
    yield ""
    yield "Everything was as promised." if report.good else "NOT everything was as promised: see above."


def _end(role: str, name: str, info: dict[str, Any]) -> Iterable[str]:
    peer = info["peer_machine"]
    yield f"The {role}, {name}:"
    yield f"    its peer proved to be  {peer['name']}  (by {peer['method']}, certificate {peer['evidence'][:16]}...)"
    yield f"    key exchange           {info['main_mode_suite']}"
    yield f"    protection             {info['quick_mode_suite']}, encrypted: {'yes' if info['encrypted'] else 'NO'}"
    for difference in info["differences"]:
        yield f"    note                   {difference}"


def _refusal(refusal: Refusal) -> Iterable[str]:
    mark = "refused" if refusal.refused else "NOT REFUSED"
    yield f"    {refusal.case}: {mark}"
    yield f"        tried: {refusal.what}"
    yield f"        {refusal.error}: {refusal.text}"
