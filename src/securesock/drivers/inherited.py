"""What a forked child does with the transports that it inherited in an event loop: it lets go of its descriptors.

The loop's selector is shared with the parent.  Whoever took a descriptor out of it in the child would keep the parent
from hearing of it ever again; so the loop is left alone, and the child's number leads nowhere from then on.

This module must not know what the transports carry.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

__all__ = ["close_copy"]


def close_copy(carrier: asyncio.BaseTransport) -> None:
    """Close this process's copy of a transport's descriptor: nothing is written, and no loop is told."""
    kernel = carrier.get_extra_info("socket")
    if kernel is not None and kernel.fileno() >= 0:
        with Path(os.devnull).open("r+b") as nothing:
            os.dup2(nothing.fileno(), kernel.fileno(), inheritable=False)
