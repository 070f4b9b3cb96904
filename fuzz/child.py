"""One fuzz target in a process of its own, which libFuzzer ends: started by fuzz/run.py.

    python -m fuzz.child TARGET MODULE SECONDS [libFuzzer's flags and folders]

atheris instruments modules while they are imported, so nothing of ours may be imported before that.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import atheris

with atheris.instrument_imports(include=["securesock"]):
    from fuzz import registry

    name, module, seconds = sys.argv[1:4]
    target = registry.load_targets(module)[name]

atheris.Setup([name, *sys.argv[4:]], target.run)
# -max_total_time never ends before two seconds; this signal asks libFuzzer to end after the input at hand.  Ignored
# until libFuzzer listens to it, so that a slow start is no crash: -max_total_time ends that run.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
stop = threading.Timer(float(seconds), os.kill, (os.getpid(), signal.SIGUSR1))
stop.daemon = True
stop.start()
atheris.Fuzz()
