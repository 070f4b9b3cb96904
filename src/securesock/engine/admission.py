"""Who may connect to a listener: create_server(allow=[...]), judged on the proven principal.

A pattern is a peer target name as an application would write it, or a DNS name with "*" in its labels; a label never
stands for two, so that "*.example" admits "a.example" and not "a.b.example".  Names are compared in their canonical
form, never by their spelling.  This module must not know how a principal was proven.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import Final

from ..errors import LocalMisuse
from ..identity.names import parse_peer_target_name
from ..types import Principal

__all__ = ["AllowList"]

_GLOB: Final = re.compile(r"[a-z0-9_*-]{1,63}(?:\.[a-z0-9_*-]{1,63})*\Z")
_HOST: Final = "host/"
_PIN: Final = "sha256:"


class AllowList:
    """Admits the principals that a name or a glob of the list stands for.  LocalMisuse for what is neither."""

    def __init__(self, patterns: Iterable[str]) -> None:
        if isinstance(patterns, str):
            raise LocalMisuse("allow is a list of names; a single one is a list too: allow=['host/a.example']")
        self._names: set[str] = set()
        self._globs: list[tuple[str, ...]] = []
        for pattern in patterns:
            if isinstance(pattern, str) and "*" in pattern and "://" not in pattern:
                self._globs.append(_labels(pattern))
            else:
                self._names.add(parse_peer_target_name(pattern).principal)
        self._pins = frozenset(name for name in self._names if name.startswith(_PIN))

    @property
    def pins(self) -> Collection[str]:
        """The keys on the list: a pin replaces the chain, so that keying has to know them before it judges one."""
        return self._pins

    def refusal(self, principal: Principal) -> str | None:
        """Why this principal is not admitted, None if it is (keying.contract.Admission)."""
        if principal.method == "anonymous":
            return "an anonymous peer is never on the list"
        if principal.name in self._names:
            return None
        if principal.name.startswith(_HOST):
            labels = principal.name.removeprefix(_HOST).split(".")
            if any(_matches(glob, labels) for glob in self._globs):
                return None
        return f"{principal.name} is not on the list of those who may connect"


def _labels(pattern: str) -> tuple[str, ...]:
    text = pattern.removeprefix(_HOST).lower()
    if not _GLOB.match(text):
        raise LocalMisuse(f"{pattern!r} is no DNS name with '*' in its labels, such as 'host/*.example'")
    return tuple(text.split("."))


def _matches(glob: tuple[str, ...], labels: list[str]) -> bool:
    # fnmatch's "?" and "[" cannot occur: _GLOB allows "*" alone.
    return len(glob) == len(labels) and all(
        fnmatchcase(label, wanted) for wanted, label in zip(glob, labels, strict=True)
    )
