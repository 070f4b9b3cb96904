"""What warm_python promises: nobody can tell its processes from those of an interpreter of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests.support.loopback import PATIENCE_S, until
from tests.support.warm_python import warm_python
from tools import leftovers

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="processes have no descriptors here")

_SAYS_ALL = """
import atexit, os, sys, threading
atexit.register(print, "the end", file=sys.stderr)
print(__name__, sys.argv, os.environ.get("WARM"), "HOME" in os.environ, os.getcwd(), sys.stdin.read())
print(len(os.listdir("/proc/self/fd")), threading.active_count())
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture(scope="module", autouse=True)
def _started_once() -> None:
    warm_python()


@pytest.mark.parametrize("status", [0, 7, 255])
def test_arguments_streams_environment_folder_and_status_are_those_of_an_interpreter(
    status: int, tmp_path: Path
) -> None:
    done, as_usual = (
        subprocess.run(
            [*command, _SAYS_ALL, str(status), "two words"],
            input="what came",
            env={"WARM": "yes"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        for command in (warm_python(), [sys.executable, "-c"])
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, as_usual.stdout, "the end\n")


def test_an_error_nobody_handles_is_said_and_is_status_1() -> None:
    done = subprocess.run([*warm_python(), "raise ValueError('no')"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: no\n")


def _waits_for_ever() -> tuple[subprocess.Popen[str], int, IO[str]]:
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(1000)"
    process = subprocess.Popen([*warm_python(), program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline()), process.stdout


def test_a_program_ends_with_the_process_that_was_started_for_it() -> None:
    process, pid, said = _waits_for_ever()
    with process:
        assert Path(f"/proc/{pid}").exists()
        process.kill()
        assert said.read() == ""
        until(lambda: not Path(f"/proc/{pid}").exists(), "the program has ended")


def test_all_programs_end_with_who_made_the_warm_process() -> None:
    program = (
        "import os, subprocess\n"
        "from tests.support.warm_python import warm_python\n"
        "code = 'import os, time; print(os.getpid(), flush=True); time.sleep(1000)'\n"
        "subprocess.Popen([*warm_python(), code])\n"
        "os.read(0, 1)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(root / "src"), str(root)))}
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        process.communicate("x", timeout=PATIENCE_S)  # its output ends with the last who has it
    until(lambda: not Path(f"/proc/{pid}").exists(), "the program has ended")
    leftovers.remove_of_dead_runs()  # its folder and its records, as the next run would
