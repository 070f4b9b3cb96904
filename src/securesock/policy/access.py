"""Who may do what, and who a peer is: security descriptors and tokens, without Windows' binary forms.

One idea serves two purposes, as on Windows.  A descriptor on an object says which local users may read, link or delete
it; a descriptor in a condition (ALE_REMOTE_MACHINE_ID and its kin) says which principals a filter is for.  Entries are
read in order: each decides the rights that no earlier one has decided (the DACL rule), and what none decides is denied.

A trustee is a text: a principal's name to the letter ("host/db.example", "alice@EXAMPLE.ORG", "uid:1000"),
"host/" with one or more "*" labels, each standing for exactly one DNS label, "host-like/" with "*" inside labels, each
standing for any part of that one label, "group:NAME", or EVERYONE.  A "*" in any other name is that character:
mailboxes may hold one.  Knows no sockets and no operating system.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final

from .errors import PolicyCode, error_for

__all__ = [
    "EVERYONE",
    "AccessEntry",
    "Right",
    "SecurityDescriptor",
    "Token",
    "allow",
]

EVERYONE: Final = "*"
_GROUP: Final = "group:"
_HOST: Final = "host/"
_LIKE: Final = "host-like/"


class Right(IntFlag):
    """FWPM_ACTRL_*, the standard rights of winnt.h that the engine checks, and FWP_ACTRL_MATCH_FILTER."""

    ADD = 0x1
    ADD_LINK = 0x2
    BEGIN_READ_TXN = 0x4
    BEGIN_WRITE_TXN = 0x8
    CLASSIFY = 0x10
    ENUM = 0x20
    OPEN = 0x40
    READ = 0x80
    READ_STATS = 0x100
    SUBSCRIBE = 0x200
    WRITE = 0x400
    DELETE = 0x10000
    READ_CONTROL = 0x20000
    WRITE_DAC = 0x40000
    WRITE_OWNER = 0x80000
    MATCH_FILTER = 0x1
    GENERIC_READ = BEGIN_READ_TXN | CLASSIFY | OPEN | READ | READ_STATS | READ_CONTROL
    GENERIC_EXECUTE = ENUM | SUBSCRIBE | READ_CONTROL
    GENERIC_WRITE = DELETE | ADD | ADD_LINK | BEGIN_WRITE_TXN | WRITE | READ_CONTROL
    GENERIC_ALL = GENERIC_READ | GENERIC_EXECUTE | GENERIC_WRITE | WRITE_DAC | WRITE_OWNER


@dataclass(frozen=True, slots=True)
class Token:
    """Who is asking, or who the peer proved to be: names and groups.  A token without names matches nobody's filter.

    ``names``: as Principal.name shows them, or "uid:1000" for a local user.  ``groups``: names without "group:".
    """

    names: tuple[str, ...]
    groups: tuple[str, ...] = ()
    keys: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        keys: list[str] = []
        if self.names:
            keys.append(EVERYONE)
        for name in self.names:
            keys.append(name)
            if name.startswith(_HOST):
                labels = name.removeprefix(_HOST).split(".")
                keys += [_glob_key(labels[start:]) for start in range(1, len(labels) + 1)]
        keys += [_GROUP + group for group in self.groups]
        object.__setattr__(self, "keys", tuple(dict.fromkeys(keys)))


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """One entry of a DACL: these rights are granted, or refused, to that trustee."""

    allow: bool
    trustee: str
    rights: Right = Right.MATCH_FILTER


@dataclass(frozen=True, slots=True)
class SecurityDescriptor:
    """An owner (always granted READ_CONTROL and WRITE_DAC) and the entries of a DACL, in order.

    Raises InvalidPolicy (ERROR_INVALID_SECURITY_DESCR) for an entry without trustee or rights, or a "*" inside a label.
    """

    entries: tuple[AccessEntry, ...] = ()
    owner: str = ""

    def __post_init__(self) -> None:
        for entry in self.entries:
            wrong = _complaint(entry)
            if wrong:
                raise error_for(PolicyCode.ERROR_INVALID_SECURITY_DESCR, f"security descriptor: {wrong}")

    def granted(self, token: Token) -> Right:
        """The rights that ``token`` has."""
        granted = denied = 0
        for entry in self.entries:
            if _is_member(token, entry.trustee):
                if entry.allow:
                    granted |= entry.rights & ~denied
                else:
                    denied |= entry.rights & ~granted
        if self.owner and self.owner in token.names:
            granted |= Right.READ_CONTROL | Right.WRITE_DAC
        return Right(granted)

    def admits(self, token: Token) -> bool:
        """Whether a filter with this descriptor as its condition is for ``token``."""
        return bool(self.granted(token) & Right.MATCH_FILTER)

    def keys(self) -> tuple[str, ...]:
        """One of these is among Token.keys whenever ``admits`` is true; what an index may be built on."""
        return tuple(
            dict.fromkeys(
                _trustee_key(entry.trustee)
                for entry in self.entries
                if entry.allow and entry.rights & Right.MATCH_FILTER
            )
        )


def allow(*trustees: str) -> SecurityDescriptor:
    """The descriptor of a condition that is true for these principals and nobody else."""
    return SecurityDescriptor(tuple(AccessEntry(True, trustee) for trustee in trustees))


def _complaint(entry: AccessEntry) -> str:
    if not entry.trustee or entry.trustee in (_GROUP, _HOST, _LIKE):
        return "an entry names nobody"
    if not entry.rights:
        return f"the entry for {entry.trustee} has no rights"
    prefix, slash, name = entry.trustee.partition("/")
    labels = name.split(".")
    if prefix + slash in (_HOST, _LIKE) and not all(labels):
        return f"{entry.trustee} has an empty label"
    if prefix + slash == _LIKE and "*" not in name:
        return f"{entry.trustee} has no '*': write it as 'host/'"
    if prefix + slash == _HOST and any("*" in label and label != "*" for label in labels):
        return f"{entry.trustee} has a '*' inside a label; a '*' stands for one whole DNS label"
    return ""


def _is_member(token: Token, trustee: str) -> bool:
    if trustee == EVERYONE:
        return bool(token.names)
    if trustee.startswith(_GROUP):
        return trustee.removeprefix(_GROUP) in token.groups
    if trustee in token.names:
        return True
    if not trustee.startswith((_HOST, _LIKE)) or "*" not in trustee:
        return False
    wanted = trustee.partition("/")[2].split(".")
    return any(
        _labels_match(wanted, name.removeprefix(_HOST).split(".")) for name in token.names if name.startswith(_HOST)
    )


def _labels_match(wanted: list[str], labels: list[str]) -> bool:
    return len(wanted) == len(labels) and all(
        each in ("*", label) or ("*" in each and _label_is_like(each, label))
        for each, label in zip(wanted, labels, strict=True)
    )


def _label_is_like(pattern: str, label: str) -> bool:
    first, *rest = pattern.split("*")
    last = rest.pop()
    if not label.startswith(first) or not label.endswith(last) or len(label) < len(first) + len(last):
        return False
    at, end = len(first), len(label) - len(last)
    for part in rest:
        at = label.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def _trustee_key(trustee: str) -> str:
    if not trustee.startswith((_HOST, _LIKE)) or "*" not in trustee:
        return trustee
    labels = trustee.partition("/")[2].split(".")
    last = max(place for place, label in enumerate(labels) if "*" in label)
    return _glob_key(labels[last + 1 :])


def _glob_key(suffix: list[str]) -> str:
    # "*/" begins no principal's name, so a glob's key is never taken for a name.
    return "*/" + ".".join(suffix)
