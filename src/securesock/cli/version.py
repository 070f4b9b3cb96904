"""securesock version: this package, and the libraries that its security rests on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from ..types import Json
from .output import AsJson, emit

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("version")(show_version)


def show_version(as_json: AsJson = False) -> None:
    """Show the version of securesock and of the libraries that its security rests on."""
    from cryptography.hazmat.backends.openssl import backend

    versions: dict[str, Json] = {
        "securesock": _version_of("securesock"),
        "cryptography": _version_of("cryptography"),
        "pyopenssl": _version_of("pyopenssl"),
        "openssl": backend.openssl_version_text(),
        "python": platform.python_version(),
    }
    emit(versions, [f"{name} {number}" for name, number in versions.items()], as_json)


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"  # run from a source tree
