"""Puts the command line together, and turns what commands raise into exit statuses.

Each command group is a module of its own, named in COMMANDS and imported only when its command is run (or when help
lists them all).  To add one: write a module with ``register(app)``, add its line here.

Commands print through output.emit and raise the package's own errors; none of them calls sys.exit with a number of
its own choosing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final, Protocol

import typer

from ..errors import LocalMisuse, SecureSocketError
from .output import DONE, FAILED, MISUSE, emit_error

__all__ = ["COMMANDS", "Group", "run"]

COMMANDS: Final[Mapping[str, str]] = {
    "connect": "securesock.cli.netcat",
    "demo": "securesock.cli.demo.command",
    "explain": "securesock.cli.explain",
    "identity": "securesock.cli.identity",
    "ike-probe": "securesock.cli.ike_probe",
    "listen": "securesock.cli.netcat",
    "policy": "securesock.cli.policy",
    "version": "securesock.cli.version",
}
"""Which module registers which command."""


class Group(Protocol):
    """What a module in COMMANDS has."""

    def register(self, app: typer.Typer) -> None:
        """Add the commands to the application."""
        ...


# Where the argument parser's own errors (unknown option, missing argument) begin: the base of the one class of them
# that typer has always exported, whichever parser it is built on.
_USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[1]


def build_app(wanted: str | None) -> typer.Typer:
    """The application with one command group, or with all of them when the group is not known."""
    app = typer.Typer(
        help="IPsec for one socket: identities, secured connections, and what was really applied.",
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )
    app.callback()(_nothing)
    for module in [COMMANDS[wanted]] if wanted is not None and wanted in COMMANDS else COMMANDS.values():
        group: Group = import_module(module)
        group.register(app)
    return app


def _nothing() -> None:
    """Exists so that an application with one command still is a group."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)
    app = build_app(arguments[0] if arguments else None)
    try:
        status = app(args=arguments, prog_name="securesock", standalone_mode=False)
    except LocalMisuse as error:
        return emit_error(error, MISUSE, as_json)
    except (SecureSocketError, OSError) as error:
        return emit_error(error, FAILED, as_json)
    except _USAGE_ERROR as error:
        return emit_error(error, MISUSE, as_json)
    except (typer.Abort, KeyboardInterrupt):
        return FAILED
    return status if isinstance(status, int) else DONE
