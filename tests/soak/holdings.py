"""What a process holds, and a context whose SAs are replaced after so many bytes: for both ends of the soak tests."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import securesock as ss
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE


class Holdings(NamedTuple):
    """Resident memory in KiB, objects that the collector tracks, threads, open descriptors."""

    memory_kib: int
    objects: int
    threads: int
    descriptors: int

    @classmethod
    def now(cls) -> Holdings:
        """Of this process (Linux: proc_pid_status(5))."""
        status = Path("/proc/self/status").read_text()
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
        descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
        return cls(memory, len(gc.get_objects()), threading.active_count(), descriptors)


def limited_context(identity: ss.Identity, child_bytes: int, ike_bytes: int) -> ss.SecurityContext:
    """Child SAs are replaced every ``child_bytes``, the IKE SA every ``ike_bytes``: at half of the limits set here."""
    main_mode = replace(DEFAULT_MAIN_MODE, lifetimes=DEFAULT_MAIN_MODE.lifetimes._replace(max_bytes=2 * ike_bytes))
    quick_mode = replace(DEFAULT_QUICK_MODE, lifetimes=DEFAULT_QUICK_MODE.lifetimes._replace(max_bytes=2 * child_bytes))
    return ss.SecurityContext(identity, main_mode=main_mode, quick_mode=quick_mode)
