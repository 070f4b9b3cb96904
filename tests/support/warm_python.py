"""Python processes that need no start: each is forked from one that has imported the package and its commands.

    subprocess.run([*warm_python(), PROGRAM, *arguments], ...)

is for its caller what ``[sys.executable, "-c", PROGRAM, *arguments]`` is: standard streams, environment, folder,
status, and an end when it is killed; but the interpreter's start and the imports, most of what a short command costs,
are paid once for all.  The program runs from its first line to the end of an interpreter, so a test of what happens
there may use it.  A test of a start itself, of what is imported or of the interpreter's options starts an interpreter.

What is started is a small program that hands all of that to the warm process over a socket and waits for the status.
The warm process ends with the one that asked for it, whichever way that ends, and takes with it what still runs.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import io
import marshal
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

import securesock
from securesock.cli import main
from tools import leftovers

ROOT: Final = Path(__file__).resolve().parents[2]
_LENGTH: Final = 4
_STREAMS: Final = 3

# With nothing imported but what is built in it starts in a hundredth of a second.
_ASKING: Final = """
import _socket, marshal, posix, sys
asking = _socket.socket(_socket.AF_UNIX)
asking.connect(sys.argv[1])
request = marshal.dumps((sys.argv[2:], dict(posix.environ), posix.getcwd()))
streams = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
asking.sendmsg([len(request).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
for number in range(3):
    posix.close(number)
while request:
    request = request[asking.send(request):]
posix._exit((asking.recv(1) or b"\\xff")[0])
"""


@functools.cache
def warm_python() -> list[str]:
    """The beginning of a command line, whose next argument is the program.

    The first call starts the warm process, which keeps descriptors: call it in a fixture that outlives the test.  Where
    a process cannot be forked and waited for by a descriptor (Linux has both) every program gets an interpreter.
    """
    if not hasattr(os, "pidfd_open"):
        return [sys.executable, "-c"]
    running = contextlib.ExitStack()
    atexit.register(running.close)
    where = str(running.enter_context(leftovers.folder("warm")) / "socket")
    started = subprocess.Popen(
        [sys.executable, "-c", "from tests.support.warm_python import serve; serve()", where],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process = running.enter_context(leftovers.process(started))
    assert process.stdout is not None
    assert process.stdout.readline() == b"warm\n", "the warm process did not start"
    return [sys.executable, "-ISc", _ASKING, where]


def serve() -> None:
    """The warm process: until its standard input ends.  A process forked from it returns as its program ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(64)
        for each in pkgutil.walk_packages(securesock.__path__, "securesock."):
            import_module(each.name)
        with contextlib.redirect_stdout(io.StringIO()):
            main(["version"])  # the parser of arguments imports most of itself when there are some
        gc.collect()
        gc.freeze()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a keeper
        print("warm")
        program = _program_of_a_fork(listener)
    if program is not None:
        exec(program, {"__name__": "__main__"})


def _program_of_a_fork(listener: socket.socket) -> str | None:
    """What to run, in a process of its own whose arguments, streams and so on are what was asked for.

    None in the warm process, when it is to end.
    """
    while 0 not in select.select([listener, 0], [], [])[0]:
        asking, _ = listener.accept()
        if os.fork():
            asking.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        length, streams, _, _ = socket.recv_fds(asking, _LENGTH, _STREAMS)
        with asking.makefile("rb") as reading:
            (program, *arguments), environment, folder = marshal.loads(reading.read(int.from_bytes(length, "big")))
        if pid := os.fork():
            for number in (1, 2, *streams):
                os.close(number)
            _keep(pid, asking)
        asking.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environb.clear()
        os.environb.update(environment)
        sys.argv = ["-c", *arguments]
        return str(program)
    return None


def _keep(pid: int, asking: socket.socket) -> NoReturn:
    """Answer for a program: it ends with whoever asked for it, or says its status."""
    ended = os.pidfd_open(pid)
    if ended not in select.select([ended, asking, 0], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        asking.send(bytes((status & 0xFF,)))
    os._exit(0)
