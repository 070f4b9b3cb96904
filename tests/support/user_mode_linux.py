"""A kernel that has ESP where the machine's own has none: User-Mode Linux, booted as an ordinary process.

What runs in it sees the machine's files as they are and none of its devices, networks or processes.  Nothing that it
writes reaches the machine: the root is hostfs mounted read-only, and over it lies an overlay whose upper layer is a
tmpfs of the guest.  Its words come over the serial line, its exit status in the last of them.  It has one CPU.

Needs root, linux.uml and its modules (Debian's user-mode-linux) and insmod (kmod).
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tools import leftovers

ROOT: Final = Path(__file__).resolve().parent.parent.parent
MODULES: Final = Path("/usr/lib/uml/modules")
INSIDE_VARIABLE: Final = "SECURESOCK_IN_USER_MODE_LINUX"
MEMORY: Final = "768M"  # two daemons, a test run and what they write; seen: less than half of it
# What strangers' daemons ask of the kernel; modules.dep says what each needs in its turn.
WANTED: Final = (
    *("overlay", "xfrm_user", "af_key", "esp4", "esp6", "veth", "tun"),
    *("gcm", "ghash-generic", "ctr", "cbc", "hmac", "authenc", "authencesn", "seqiv", "echainiv", "chacha20poly1305"),
    *("chacha_generic", "poly1305_generic"),  # what that one asks for by name, and modules.dep cannot know
    *("cmac", "sha512_generic", "drbg", "nf_tables", "nft_chain_nat", "nft_masq", "nft_ct"),
)

# The guest's first program.  ``@...@`` are filled in; it says its last line whatever happens before.
# Nothing is loaded on demand: there is no folder that modprobe could take it from, and for PF_KEY's SADB_REGISTER the
# kernel looks for every algorithm that it lacks, a process for each: twelve seconds whenever iked begins.
_INIT: Final = """#!/bin/sh
export PATH=@path@ HOME=/root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 @inside@=1
exec </dev/null 2>&1
mount -t proc proc /proc
echo > /proc/sys/kernel/modprobe
for module in @modules@; do insmod "$module" || echo "not loaded: $module"; done
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
cd /mnt/root
mount -t proc proc proc; mount -t sysfs sys sys; mount -t devtmpfs dev dev
mkdir -p run dev/shm; mount -t tmpfs -o mode=755 tmpfs run; mount -t tmpfs -o mode=1777 tmpfs dev/shm
mkdir -p dev/net
[ -e dev/net/tun ] || mknod dev/net/tun c 10 200
ip link set lo up
@environment@
chroot /mnt/root /bin/sh -c @command@
echo "@token@ $?"
halt -f >/dev/null 2>&1
"""


class Ended(NamedTuple):
    """What ran inside: its exit status (None: the time was up, or the kernel fell) and all that it wrote."""

    status: int | None
    output: str


def modules_in_order(folder: Path, wanted: Sequence[str]) -> list[Path]:
    """The files to insmod, each after those that it needs (modules.dep(5)); what is built in has none."""
    needs: dict[str, list[str]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        name, _, rest = line.partition(":")
        needs[name] = rest.split()
    by_name = {Path(file).stem.replace("-", "_"): file for file in needs}
    order: list[str] = []
    for name in wanted:
        if file := by_name.get(name.replace("-", "_")):
            # modules.dep names the whole chain, nearest first
            order += [each for each in (*reversed(needs[file]), file) if each not in order]
    return [folder / each for each in order]


def run_inside(
    command: Sequence[str],
    seconds: float,
    environment: dict[str, str] | None = None,
    hear: Callable[[str], object] = lambda line: None,
) -> Ended:
    """Boot, run ``command`` as root in the clone's folder, and halt; ``hear`` is called with each line as it comes."""
    token = f"ended-{secrets.token_hex(8)}"
    (version,) = MODULES.iterdir()
    told = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in (environment or {}).items())
    filled = {
        "path": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "inside": INSIDE_VARIABLE,
        "modules": " ".join(map(str, modules_in_order(version, WANTED))),
        "environment": told,
        "command": shlex.quote(f"cd {shlex.quote(str(ROOT))} && exec {shlex.join(command)}"),
        "token": token,
    }
    init = _INIT
    for name, value in filled.items():
        init = init.replace(f"@{name}@", value)
    with leftovers.folder("uml") as folder:
        script = folder / "init"
        script.write_text(init)
        script.chmod(0o755)
        return _boot(script, seconds, token, hear)


def _boot(script: Path, seconds: float, token: str, hear: Callable[[str], object]) -> Ended:
    kernel = [
        "linux.uml",
        f"mem={MEMORY}",
        *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"),
        f"init={script}",
        *("con=null", "con0=fd:0,fd:1", "quiet", "panic=1"),
    ]
    child = subprocess.Popen(
        kernel,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # its helpers end with it
        env={"PATH": os.environ.get("PATH", ""), "TMPDIR": str(script.parent), "HOME": str(script.parent)},
    )
    status, lines = None, list[str]()
    with leftovers.process(child):
        limit = threading.Timer(seconds, _end, [child])
        limit.start()
        try:
            assert child.stdout is not None
            for raw in child.stdout:
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                word, _, number = line.partition(" ")
                if word == token:
                    status = int(number)
                    break
                lines.append(line)
                hear(line)
        finally:
            limit.cancel()
            _end(child)
    return Ended(status, "\n".join(lines))


def _end(child: subprocess.Popen[bytes]) -> None:
    """The kernel, and the processes that are its guests' address spaces: one group, made for them at the start."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
