"""Who may connect to a listener: create_server(allow=[...]), as the filtering platform's filters say it.

A pattern is a peer target name as an application would write it, a DNS name with "*" in its labels, or "group:NAME" of
the context's groups; a label never stands for two, so that "*.example" admits "a.example" and not "a.b.example".  Names
are compared in their canonical form, never by their spelling.  The list becomes a security descriptor, and whoever
matches it is decided where filters on ALE_REMOTE_MACHINE_ID and ALE_REMOTE_USER_ID are: there is no second judge.

This module must not know how a principal was proven.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from ..errors import LocalMisuse
from ..identity.names import parse_peer_target_name
from ..types import Principal

if TYPE_CHECKING:
    from ..policy.access import SecurityDescriptor, Token

__all__ = ["NO_GROUPS", "AllowList", "PrincipalGroups", "token_of"]

_GLOB: Final = r"[a-z0-9_*-]{1,63}(?:\.[a-z0-9_*-]{1,63})*\Z"
_HOST: Final = "host/"
_LIKE: Final = "host-like/"
_GROUP: Final = "group:"
_PIN: Final = "sha256:"


class AllowList:
    """The principals that names, globs and groups of the list stand for.  LocalMisuse for what is none of them."""

    def __init__(self, patterns: Iterable[str]) -> None:
        if isinstance(patterns, str):
            raise LocalMisuse("allow is a list of names; a single one is a list too: allow=['host/a.example']")
        from ..policy.access import allow  # of the filtering platform: for those who have a list

        trustees = tuple(dict.fromkeys(map(_trustee, patterns)))
        self.descriptor: Final[SecurityDescriptor] = allow(*trustees)
        self._trustees = trustees
        self._pins = frozenset(name for name in trustees if name.startswith(_PIN))

    def __iter__(self) -> Iterator[str]:
        """The list, in the words of descriptors."""
        return iter(self._trustees)

    @property
    def pins(self) -> Collection[str]:
        """The keys on the list: a pin replaces the chain, so that keying has to know them before it judges one."""
        return self._pins

    def refusal(self, principal: Principal) -> str | None:
        """Why this principal is not admitted, None if it is (keying.contract.Admission)."""
        if self.descriptor.admits(token_of(principal)):
            return None
        if principal.method == "anonymous":
            return "an anonymous peer is never on the list"
        return f"{principal.name} is not on the list of those who may connect"


class PrincipalGroups(Mapping[str, AllowList]):
    """By name, whom filters mean with "group:NAME": SecurityContext(groups={"ops": ["host/*.ops.example"]}).

    LocalMisuse for what is no list of names, and for groups within groups.
    """

    def __init__(self, groups: Mapping[str, Iterable[str]] | None = None) -> None:
        self._lists: dict[str, AllowList] = {}
        for name, members in (groups or {}).items():
            if not isinstance(name, str) or not name:
                raise LocalMisuse("a group has a name")
            if isinstance(members, AllowList):
                self._lists[name] = members
                continue
            patterns = members if isinstance(members, str) else list(members)
            if any(isinstance(each, str) and each.startswith(_GROUP) for each in patterns):
                raise LocalMisuse(f"the group {name!r} holds another group: list its members")
            self._lists[name] = AllowList(patterns)

    def __getitem__(self, name: str) -> AllowList:
        return self._lists[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lists)

    def __len__(self) -> int:
        return len(self._lists)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrincipalGroups) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> frozenset[tuple[str, tuple[str, ...]]]:
        return frozenset((name, tuple(members)) for name, members in self._lists.items())

    def of(self, principal: Principal) -> tuple[str, ...]:
        """The groups that a principal is in."""
        token = token_of(principal)
        return tuple(name for name, members in self._lists.items() if members.descriptor.admits(token))


NO_GROUPS: Final = PrincipalGroups()


def token_of(principal: Principal, groups: PrincipalGroups | None = None) -> Token:
    """Who somebody is, as descriptors see it; whoever stayed anonymous is nobody."""
    from ..policy.access import Token

    if principal.method == "anonymous":
        return Token(())
    return Token((principal.name,), () if groups is None else groups.of(principal))


def _trustee(pattern: str) -> str:
    """A pattern as a descriptor has it."""
    if not isinstance(pattern, str):
        return parse_peer_target_name(pattern).principal
    if pattern.startswith(_GROUP) and len(pattern) > len(_GROUP):
        return pattern
    if "*" not in pattern or "://" in pattern:
        return parse_peer_target_name(pattern).principal
    text = pattern.removeprefix(_HOST).lower()
    if not re.match(_GLOB, text):
        raise LocalMisuse(f"{pattern!r} is no DNS name with '*' in its labels, such as 'host/*.example'")
    partial = any("*" in label and label != "*" for label in text.split("."))
    return (_LIKE if partial else _HOST) + text
