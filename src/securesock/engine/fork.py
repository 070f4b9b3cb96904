"""What a fork does to everything that holds keys: it ends it, in the child.

SAs never survive a fork: two processes that count on from the same ESP counter would use one nonce twice.  Every
object that holds keys, and everything that belongs to a thread which does not exist in the child, remembers the
generation that it was made in; in a child the generation is another one.  Comparing two integers costs less than a
look-up of what lives, and needs no lock that a thread of the parent may have held at the moment of the fork.

This module must not know sockets, threads or machines: those who need more register ``in_child``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NoReturn

from ..errors import LocalMisuse

__all__ = ["Process", "in_child", "process", "refuse_inherited"]


class Process:
    """``generation`` counts the forks between the first process and this one."""

    __slots__ = ("generation",)

    def __init__(self) -> None:
        self.generation = 0


process: Final = Process()
_hooks: Final[list[Callable[[], None]]] = []


def in_child(hook: Callable[[], None]) -> None:
    """Run ``hook`` in every child after a fork, after the generation changed; in the order of registration."""
    _hooks.append(hook)


def refuse_inherited(what: str) -> NoReturn:
    """Say why an object of the parent cannot be used here."""
    raise LocalMisuse(
        f"this {what} belongs to the process that made it and its keys did not survive the fork: "
        "accept or connect in the process that uses it"
    )


def _after_fork() -> None:
    process.generation += 1
    for hook in _hooks:
        hook()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)
