"""Nothing that a test or script made stays behind, even when its run was killed.

Folders, network namespaces and processes that outlive a function are made through this module.  Each carries a
random suffix, so that two runs never meet, and each is recorded in a small file *before* it exists, with the pid and
start time of the process that answers for it.  The file goes when the thing is gone.  At the start of the next run
``remove_of_dead_runs`` looks at every record: where that process still lives (same pid and same start time, so that
a reused pid does not count) it touches nothing; otherwise it removes what was recorded and then the record.

The records of root lie under /run, which like a namespace does not survive a boot; those of other users in the
clone.  Both are writable by their owner alone, because what stands in them is deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import AnyStr, NamedTuple

PREFIX = "securesock-"
_SUFFIX_BYTES = 4


class Record(NamedTuple):
    """What exists, and the process that answers for it."""

    kind: str  # "folder", "namespace" or "process"
    name: str  # absolute path, namespace name, or pid
    started: str  # kind "process": its own start time; otherwise ""
    owner_pid: int
    owner_started: str


def registry() -> Path:
    """The folder of the records; made, and refused when others could write to it."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0 and Path("/run").is_dir()
    folder = Path("/run/securesock-tests") if root else Path(__file__).resolve().parent.parent / "build" / "leftovers"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
        raise PermissionError(f"{folder} can be written by others; remove it and run this again")
    return folder


def random_name(what: str) -> str:
    """``securesock-<what>-<random>``: a name for a namespace, folder or account that no other run has."""
    return f"{PREFIX}{what}-{secrets.token_hex(_SUFFIX_BYTES)}"


def start_time(pid: int) -> str | None:
    """When a process started, in the kernel's own count since boot; "" where /proc does not say, None if it is gone."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        # proc_pid_stat(5): field 22; the command name before it may hold spaces and parentheses.
        fields = stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
        with contextlib.suppress(PermissionError):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return None
        return ""
    return None if fields[0] == "Z" else fields[19]


@contextlib.contextmanager
def _recorded(kind: str, name: str, remove: Callable[[], object], started: str = "") -> Iterator[None]:
    """Keep a record while the block runs, then ``remove`` what it names; where that fails the record stays."""
    record = Record(kind, name, started, os.getpid(), start_time(os.getpid()) or "")
    path = registry() / f"{kind}-{secrets.token_hex(8)}.json"
    path.write_text(json.dumps(record._asdict()))
    try:
        yield
    finally:
        remove()
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def folder(what: str, parent: Path | None = None) -> Iterator[Path]:
    """A new empty folder, mode 0700, removed at the end together with anything mounted in it."""
    path = (parent or Path(tempfile.gettempdir())).resolve() / random_name(what)
    with _recorded("folder", str(path), lambda: _remove_folder(path)):
        path.mkdir(mode=0o700)
        yield path


@contextlib.contextmanager
def namespace(what: str) -> Iterator[str]:
    """A new network namespace with its loopback up; root only.  Its processes are killed at the end."""
    name = random_name(what)
    with _recorded("namespace", name, lambda: _remove_namespace(name)):
        subprocess.run(["ip", "netns", "add", name], check=True)
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name


@contextlib.contextmanager
def process(child: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """Answer for a child just started: killed at the end if it still runs, and by the next run if this one is."""
    # Popen.kill() does nothing to a child that has ended
    with child, _recorded("process", str(child.pid), child.kill, start_time(child.pid) or ""):
        yield child


def remove_of_dead_runs() -> list[Record]:
    """Remove what runs that no longer live left behind; says each on stderr, also what could not be removed."""
    removed: list[Record] = []
    for path in sorted(registry().glob("*.json")):
        try:
            record = Record(**json.loads(path.read_text()))
        except FileNotFoundError:
            continue  # its owner was faster
        except (ValueError, TypeError):
            print(f"leftovers: {path} cannot be read; look at it and remove it", file=sys.stderr)
            continue
        owner = start_time(record.owner_pid)
        if owner is not None and owner == record.owner_started:
            continue
        try:
            _remove(record)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            # It stays recorded, and keeps nobody from running what they came for.
            print(f"leftovers: {record.kind} {record.name} is left where it is: {error}", file=sys.stderr)
            continue
        path.unlink(missing_ok=True)
        print(f"removed what a killed run left: {record.kind} {record.name}", file=sys.stderr)
        removed.append(record)
    return removed


def _remove(record: Record) -> None:
    match record.kind:
        case "folder":
            _remove_folder(Path(record.name))
        case "namespace":
            _remove_namespace(record.name)
        case "process":
            if record.started and start_time(int(record.name)) == record.started:
                os.kill(int(record.name), signal.SIGKILL)
        case other:
            raise ValueError(f"a record of the unknown kind {other!r}")


def _remove_folder(path: Path) -> None:
    """Unmount what is mounted below, innermost first, then delete; deletes nothing while a mount remains."""
    if not path.name.startswith(PREFIX):
        raise ValueError(f"{path} is not a folder of ours")
    for mount in reversed(_mounts_below(path)):
        subprocess.run(["umount", "--lazy", mount], check=True)
    if remaining := _mounts_below(path):
        raise OSError(f"still mounted, nothing deleted: {', '.join(remaining)}")
    if path.exists():
        shutil.rmtree(path)


def _mounts_below(path: Path) -> list[str]:
    """Mount points under a folder, outermost first (proc_pid_mountinfo(5): the fifth field, octal escapes)."""
    table = Path("/proc/self/mountinfo")
    if not table.exists():
        return []
    points = [line.split()[4].encode().decode("unicode_escape") for line in table.read_text().splitlines()]
    return [point for point in points if Path(point).is_relative_to(path)]


def _remove_namespace(name: str) -> None:
    """Kill what runs in a namespace, then delete it; nothing to do when it is gone."""
    if not name.startswith(PREFIX):
        raise ValueError(f"{name} is not a namespace of ours")
    if not Path("/run/netns", name).exists():
        return
    listed = subprocess.run(["ip", "netns", "pids", name], check=True, capture_output=True, text=True)
    for pid in listed.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", name], check=True)
