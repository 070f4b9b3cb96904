"""The securesock command.

Only ``main`` is here, so that the console script starts without importing more than it runs.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (by default the process's own) and return its exit status.

    0 done, 1 refused or failed, 2 misuse.
    """
    from .app import run

    return run(arguments)
