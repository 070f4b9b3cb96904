"""Fuzz targets, each in a process of its own, which libFuzzer ends: started by fuzz/run.py.

    python -m fuzz.child MODULE

atheris instruments modules while they are imported, so nothing of ours may be imported before that, and it takes a
second: it is done once, and each target's process is forked from the one that did it.  Each line of standard input is
a JSON object: the target, the file that it may write to, its seconds, seconds after which it is killed, and libFuzzer's
flags and folders.  Each is answered by a line with the exit status.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
from typing import Any

import atheris

with atheris.instrument_imports(include=["securesock"]):
    from fuzz import registry

    targets = registry.load_targets(sys.argv[1])


def _asked_for() -> dict[str, Any] | None:
    """What to fuzz, in a forked process; None in the first one, when nobody asks for more."""
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if not pid:
            return request
        ended = os.pidfd_open(pid)
        if not select.select([ended], [], [], request["limit"])[0]:
            os.kill(pid, signal.SIGKILL)
        os.close(ended)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return None


asked = _asked_for()
if asked is not None:
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(log, number)
    atheris.Setup([asked["target"], *asked["flags"]], targets[asked["target"]].run)
    # -max_total_time never ends before two seconds; this signal asks libFuzzer to end after the input at hand.  Ignored
    # until libFuzzer listens to it, so that a slow start is no crash: -max_total_time ends that run.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    stop = threading.Timer(asked["seconds"], os.kill, (os.getpid(), signal.SIGUSR1))
    stop.daemon = True
    stop.start()
    atheris.Fuzz()
