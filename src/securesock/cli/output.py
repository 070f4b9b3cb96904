"""What commands print: one JSON object, or text for people.

With --json every command writes exactly one object to standard output, with "schema": 1 and, when it did not
succeed, "error": {kind, message}.  Without it, results go to standard output and errors to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Final, TypeAlias

import typer

from ..errors import LocalMisuse, SecureSocketError
from ..types import Json

__all__ = ["DONE", "FAILED", "MISUSE", "AsJson", "emit", "emit_error", "reaching"]

DONE: Final = 0
FAILED: Final = 1
MISUSE: Final = 2
SCHEMA: Final = 1

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
"""The option that every command takes."""


def emit(result: Mapping[str, Json], text: Iterable[str], as_json: bool) -> None:
    """Print a command's result: the object, or the lines."""
    if as_json:
        print(json.dumps({"schema": SCHEMA, **result}, ensure_ascii=False))
    else:
        for line in text:
            print(line)


def emit_error(error: Exception, status: int, as_json: bool) -> int:
    """Print why a command did not do what it was asked to; returns the status."""
    described = getattr(error, "format_message", None)
    message = described() if callable(described) else str(error)
    if as_json:
        emit({"error": {"kind": type(error).__name__, "message": message}}, (), as_json=True)
    elif message:  # none where help was printed instead
        print(f"securesock: {message}", file=sys.stderr)
    return status


@contextmanager
def reaching(where: str) -> Iterator[None]:
    """Have the system's own errors say whom they are about: it says "Connection refused" of anybody."""
    try:
        yield
    except SecureSocketError:
        raise  # which names it already
    except UnicodeError:
        raise LocalMisuse(f"{where}: no host is called so") from None
    except OSError as error:
        text = f"{where}: {error.strerror or error}"
        raise (type(error)(text) if error.errno is None else type(error)(error.errno, text)) from error
