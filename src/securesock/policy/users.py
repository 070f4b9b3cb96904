"""Who the operating system says that we are, as a token that access control understands.

The only place of the policy engine that asks the system; a service that opens sessions for its clients makes tokens of
what the system tells it about them instead (``local_user``).
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable

from .access import Token

__all__ = ["current_user", "local_user"]


def local_user(uid: int, gids: Iterable[int] = ()) -> Token:
    """The token of a user of this machine: "uid:1000", and a group "gid:100" for each of the numbers."""
    return Token((f"uid:{uid}",), tuple(f"gid:{gid}" for gid in dict.fromkeys(gids)))


def current_user() -> Token:
    """The token of the user as whom this process acts; where users have no numbers, "user:" and the name."""
    if hasattr(os, "geteuid"):
        return local_user(os.geteuid(), (os.getegid(), *os.getgroups()))
    return Token((f"user:{getpass.getuser()}",))
