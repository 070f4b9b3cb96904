"""IKE_SA and CHILD_SA with strongSwan, one after another, beside strongSwan with itself, over the same cable.

Both begin at the same charon with the same suites and pre-shared key: X25519, AES-256-GCM, a tunnel.  charon is asked
to begin over its control socket, and answers when the CHILD_SA is there.  Root only.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from benchmarks.harness import Bound, Contest, Measure, case
from benchmarks.strongswan_setups import SETTLE_S
from benchmarks.tunnels import SECRETS, connection
from benchmarks.vici import Vici
from tests.interop import strongswan
from tests.interop.network import cable, ip
from tools import leftovers

SETUPS: Final = 50


@contextmanager
def rig(setups: int) -> Iterator[Contest]:
    """Both sides, each measuring the median of so many."""
    with ExitStack() as stack:
        both = stack.enter_context(cable())
        folder = stack.enter_context(leftovers.folder("bench"))
        controls = []
        for end, namespace in enumerate(both, 1):
            ip("-n", namespace, "addr", "add", f"10.9{end}.0.1/32", "dev", "lo")
            own = folder / f"charon{end}"
            own.mkdir()
            stack.enter_context(strongswan.charon(namespace, own, connection(end), SECRETS))
            controls.append(stack.enter_context(Vici(own / "charon.vici")))
        command = ["ip", "netns", "exec", both.ours, sys.executable, "-m", "benchmarks.strongswan_setups"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.enter_context(leftovers.process(child))
        yield Contest(_ours(child, setups), {"strongSwan": _theirs(controls[0], setups)})
        child.kill()


def _ours(child: subprocess.Popen[str], setups: int) -> Measure:
    def measure() -> float:
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("our side has no input or no output")
        child.stdin.write(f"{setups}\n")
        child.stdin.flush()
        return float(child.stdout.readline())

    return measure


def _theirs(control: Vici, setups: int) -> Measure:
    def measure() -> float:
        taken = []
        for _ in range(setups):
            started = time.perf_counter()
            control.command("initiate", child="net", ike="peer", timeout="10000")
            taken.append(time.perf_counter() - started)
            control.command("terminate", ike="peer", force="yes", timeout="1000")
            time.sleep(SETTLE_S)
        return statistics.median(taken) * 1e3

    return measure


@case(
    "IKE_SA and CHILD_SA with strongSwan",
    unit="ms",
    better="lower",
    bound=Bound("ratio", at_most=2.0),
    needs=("ip", "charon-systemd", "swanctl"),
)
def setups() -> Iterator[Contest]:
    """The median of fifty in a round."""
    with rig(SETUPS) as contest:
        yield contest
