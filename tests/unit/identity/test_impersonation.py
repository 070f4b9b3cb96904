"""A thread that acts as somebody: all of it or nothing, put back whatever happens, and no other thread with it."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest

import securesock as ss
from securesock.identity import impersonation, thread_credentials
from securesock.identity.impersonation import EXIT_NOT_RESTORED, Impersonation, LocalAccount, revert_to_self
from securesock.identity.thread_credentials import (
    CAP_FS_MASK,
    CAP_SETGID,
    CAP_SETUID,
    ThreadCredentials,
    read_credentials,
    write_credentials,
)
from securesock.types import Principal
from tools import leftovers

PEER = Principal("host/app.example")
ACCOUNT = "daemon"  # base-passwd's, uid 1 and gid 1, on every Debian
OTHER = "nobody"
GAMES = 60  # a group that ACCOUNT is given for a test

Result = TypeVar("Result")


def in_thread(call: Callable[[], Result]) -> Result:
    """Run it in a thread of its own, so that what goes wrong does not change who runs the other tests."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(call).result()


def status(tid: int | str = "thread-self") -> dict[str, str]:
    """What the kernel says of a thread (proc_pid_status(5))."""
    path = Path("/proc/thread-self/status") if tid == "thread-self" else Path(f"/proc/self/task/{tid}/status")
    lines = path.read_text().splitlines()
    wanted = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    return {name: rest.strip() for name, _, rest in (line.partition(":") for line in lines) if name in wanted}


@pytest.fixture
def files() -> Iterator[Path]:
    """A folder that everybody may pass through, with a file of root's, of the account's, and of a group of its."""
    with leftovers.folder("impersonation") as folder:
        folder.chmod(0o711)
        for name, uid, gid, mode in (("root", 0, 0, 0o600), ("own", 1, 0, 0o600), ("group", 0, GAMES, 0o040)):
            path = folder / name
            path.write_text(name)
            os.chown(path, uid, gid)
            path.chmod(mode)
        (folder / "drop").mkdir()
        (folder / "drop").chmod(0o777)
        yield folder


@pytest.fixture
def in_games(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, GAMES, gid])


@pytest.mark.needs_root
@pytest.mark.usefixtures("in_games")
def test_the_kernel_judges_files_as_the_account(files: Path) -> None:
    def act() -> None:
        before = status()
        assert (files / "root").read_text() == "root"
        with Impersonation(PEER, ACCOUNT) as account:
            assert account == LocalAccount("daemon", 1, 1, (1, GAMES))
            assert (files / "own").read_text() == "own"
            assert (files / "group").read_text() == "group"
            for path in (files / "root", Path("/etc/shadow")):
                with pytest.raises(PermissionError):
                    path.read_bytes()
            with pytest.raises(PermissionError):
                (files / "root").chmod(0o666)
            with pytest.raises(PermissionError):
                os.chown(files / "own", 1, 2)
            (files / "drop" / "new").write_text("made inside")
            assert os.access(files / "root", os.R_OK)  # which asks for the process's user, and cannot be relied on
            assert (os.getuid(), os.geteuid()) == (0, 0)
            seen = status()
            assert seen["Uid"].split() == ["0", "0", "0", "1"]
            assert seen["Gid"].split() == ["0", "0", "0", "1"]
            assert seen["Groups"].split() == ["1", "60"]
            assert int(seen["CapEff"], 16) == int(before["CapEff"], 16) & ~CAP_FS_MASK
            assert seen["CapPrm"] == before["CapPrm"]
        assert status() == before
        made = (files / "drop" / "new").stat()
        assert (made.st_uid, made.st_gid) == (1, 1)
        assert (files / "root").read_text() == "root"

    in_thread(act)


@pytest.mark.needs_root
def test_other_threads_are_untouched_at_every_moment(files: Path) -> None:
    entered, looked = threading.Event(), threading.Event()
    main_before = status(threading.get_native_id())

    def act() -> None:
        with Impersonation(PEER, ACCOUNT):
            entered.set()
            assert looked.wait(20)

    acting = threading.Thread(target=act)
    acting.start()
    try:
        assert entered.wait(20)
        assert (files / "root").read_text() == "root"
        assert status(threading.get_native_id()) == main_before
        assert in_thread(status) == main_before  # one that was started meanwhile, by somebody else
        assert acting.native_id is not None
        assert status(acting.native_id)["Uid"].split()[3] == "1"
    finally:
        looked.set()
        acting.join()


@pytest.mark.needs_root
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_whatever_leaves_the_block_the_thread_is_put_back(error: type[BaseException]) -> None:
    def act() -> None:
        before = read_credentials()
        with pytest.raises(error), Impersonation(PEER, ACCOUNT):
            raise error
        assert read_credentials() == before

    in_thread(act)


@pytest.mark.needs_root
def test_several_nest_and_each_ends_at_its_own_place() -> None:
    def act() -> None:
        own = read_credentials()
        with Impersonation(PEER, ACCOUNT):
            first = read_credentials()
            with Impersonation(PEER, OTHER):
                assert read_credentials().fsuid == 65534
            assert read_credentials() == first
        assert read_credentials() == own

    in_thread(act)


@pytest.mark.needs_root
def test_what_was_begun_inside_and_not_ended_ends_with_the_block() -> None:
    def act() -> None:
        own = read_credentials()
        with Impersonation(PEER, ACCOUNT):
            inner = Impersonation(PEER, OTHER)
            inner.__enter__()
        assert read_credentials() == own
        inner.__exit__(None, None, None)  # to no effect: it has ended
        assert read_credentials() == own
        assert not revert_to_self()

    in_thread(act)


@pytest.mark.needs_root
def test_reverting_ends_the_last_one_and_the_block_then_changes_nothing() -> None:
    def act() -> None:
        own = read_credentials()
        with Impersonation(PEER, ACCOUNT):
            assert revert_to_self()
            assert read_credentials() == own
        assert read_credentials() == own
        assert not revert_to_self()

    in_thread(act)


@pytest.mark.needs_root
def test_one_is_entered_once() -> None:
    def act() -> None:
        once = Impersonation(PEER, ACCOUNT)
        with once:
            pass
        with pytest.raises(ss.LocalMisuse, match="once"):
            once.__enter__()

    in_thread(act)


@pytest.mark.needs_root
@pytest.mark.parametrize("wanted", ["root", 1])
def test_root_is_an_account_when_it_is_named_and_even_then_asks_for_its_files(wanted: str | int, files: Path) -> None:
    def act() -> None:
        with Impersonation(PEER, wanted) as account:
            assert account.uid == (0 if wanted == "root" else 1)
            assert not read_credentials().effective & CAP_FS_MASK
            assert (files / "own").exists()
            if wanted == "root":
                assert (files / "root").read_text() == "root"
                with pytest.raises(PermissionError):
                    (files / "own").read_text()

    in_thread(act)


@pytest.mark.needs_root
@pytest.mark.parametrize("wanted", ["no-such-account", "x\0y", 4_000_000_000])
def test_an_account_that_is_not_there_is_refused(wanted: str | int) -> None:
    def act() -> None:
        before = read_credentials()
        with pytest.raises(ss.PolicyRefused, match="no such account"):
            Impersonation(PEER, wanted).__enter__()
        assert read_credentials() == before

    in_thread(act)


@pytest.mark.needs_root
@pytest.mark.parametrize("taken", [CAP_SETUID, CAP_SETGID, CAP_SETUID | CAP_SETGID])
def test_without_the_privilege_it_says_so_and_changes_nothing(taken: int) -> None:
    def act() -> None:
        own = read_credentials()
        write_credentials(own._replace(effective=own.effective & ~taken))
        before = read_credentials()
        with pytest.raises(ss.LocalMisuse, match=r"CAP_SET[UG]ID") as caught:
            Impersonation(PEER, ACCOUNT).__enter__()
        assert caught.value.errno == errno.EPERM
        assert read_credentials() == before
        assert not revert_to_self()

    in_thread(act)


@pytest.mark.needs_root
def test_a_service_needs_no_privilege_to_be_itself() -> None:
    def act() -> None:
        root = read_credentials()
        write_credentials(ThreadCredentials((1,), 1, 1, root.effective & ~CAP_FS_MASK, root.permitted, 0))
        plain = read_credentials()
        write_credentials(plain._replace(effective=0))
        with Impersonation(PEER, ACCOUNT) as account:
            assert account.uid == 1

    in_thread(act)


def test_in_a_running_event_loop_it_is_misuse() -> None:
    async def act() -> None:
        with pytest.raises(ss.LocalMisuse, match="event loop") as caught:
            Impersonation(PEER, ACCOUNT).__enter__()
        assert caught.value.errno == errno.EINVAL

    asyncio.run(act())


@pytest.mark.needs_root
def test_beside_an_event_loop_a_thread_may() -> None:
    async def act() -> int:
        def enter() -> int:
            with Impersonation(PEER, ACCOUNT) as account:
                return account.uid

        return await asyncio.to_thread(enter)

    assert asyncio.run(act()) == 1


@pytest.mark.parametrize(
    ("machine", "system", "pointer"),
    [("riscv64", "linux", 8), ("armv7l", "linux", 4), ("x86_64", "linux", 4), ("x86_64", "win32", 8)],
)
def test_where_the_numbers_are_not_known_it_refuses_aloud(
    machine: str, system: str, pointer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(thread_credentials.struct, "calcsize", lambda format: pointer)
    with pytest.raises(ss.LocalMisuse, match=f"{system} on {machine} with {8 * pointer}") as caught:
        Impersonation(PEER, ACCOUNT).__enter__()
    assert caught.value.errno == errno.ENOTSUP


@pytest.mark.needs_root
@pytest.mark.parametrize("kept", ["groups", "fsgid", "fsuid", "effective"])
def test_what_reads_back_otherwise_is_taken_back(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ignoring(wanted: ThreadCredentials) -> None:
        write_credentials(wanted._replace(**{kept: getattr(own, kept)}) if wanted != own else wanted)

    own = read_credentials()
    monkeypatch.setattr(impersonation, "write_credentials", ignoring)

    def act() -> None:
        with pytest.raises(ss.PlaneError, match="did not make") as caught:
            Impersonation(PEER, ACCOUNT).__enter__()
        assert caught.value.errno == errno.EPERM
        assert read_credentials() == own
        assert not revert_to_self()

    in_thread(act)


class _Interrupted:
    """KeyboardInterrupt in the place of the n-th system call, as a signal between two of them would be."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.real = thread_credentials._Kernel.call

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        interrupted = self

        def call(kernel: thread_credentials._Kernel, name: str, *arguments: object) -> int:
            interrupted.left -= 1
            if interrupted.left == -1:
                raise KeyboardInterrupt
            return interrupted.real(kernel, name, *arguments)

        monkeypatch.setattr(thread_credentials._Kernel, "call", call)


@pytest.mark.needs_root
@pytest.mark.parametrize("at", range(20))
def test_an_interrupt_at_any_system_call_on_the_way_in_leaves_the_thread_as_it_was(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        before = read_credentials()
        interrupted = _Interrupted(at)
        interrupted.install(monkeypatch)
        try:
            with Impersonation(PEER, ACCOUNT):
                assert interrupted.left >= 0
        except KeyboardInterrupt:
            assert interrupted.left < 0
        monkeypatch.undo()
        assert read_credentials() == before
        assert not revert_to_self()

    in_thread(act)


@pytest.mark.needs_root
@pytest.mark.parametrize("at", range(12))
def test_an_interrupt_at_any_system_call_on_the_way_out_is_raised_after_everything_is_put_back(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        before = read_credentials()
        interrupted = _Interrupted(at)
        with pytest.raises(KeyboardInterrupt), Impersonation(PEER, ACCOUNT):
            interrupted.install(monkeypatch)
        monkeypatch.undo()
        assert read_credentials() == before

    in_thread(act)


def run_python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


PROLOGUE = """
import os, sys, threading
from securesock.identity.impersonation import Impersonation
from securesock.identity.thread_credentials import CAP_SETUID, read_credentials, write_credentials
from securesock.types import Principal
peer = Principal("host/app.example")
"""


@pytest.mark.needs_root
def test_a_thread_that_cannot_be_put_back_ends_the_process() -> None:
    done = run_python(
        PROLOGUE
        + """
try:
    with Impersonation(peer, "daemon"):
        own = read_credentials()
        write_credentials(own._replace(effective=own.effective & ~CAP_SETUID, permitted=own.permitted & ~CAP_SETUID))
finally:
    print("went on", flush=True)
"""
    )
    assert done.returncode == EXIT_NOT_RESTORED, done.stderr
    assert "went on" not in done.stdout
    assert "cannot stop acting as host/app.example" in done.stderr


@pytest.mark.needs_root
def test_left_by_another_thread_it_ends_the_process() -> None:
    done = run_python(
        PROLOGUE
        + """
acting = Impersonation(peer, "daemon")
acting.__enter__()
leaving = threading.Thread(target=acting.__exit__, args=(None, None, None))
leaving.start()
leaving.join()
print("went on", flush=True)
"""
    )
    assert done.returncode == EXIT_NOT_RESTORED, done.stderr
    assert "went on" not in done.stdout


@pytest.mark.needs_root
@pytest.mark.usefixtures("in_games")
def test_what_is_executed_inside_runs_as_the_service_with_the_accounts_groups(files: Path) -> None:
    command = ["/bin/cat", str(files / "root"), "/proc/self/status"]

    def act() -> str:
        with Impersonation(PEER, ACCOUNT):
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    output = in_thread(act)
    assert output.startswith("root")  # the file that the thread itself could not read
    shown = {name: rest.split() for name, _, rest in (line.partition(":") for line in output.splitlines())}
    assert shown["Uid"] == ["0", "0", "0", "0"]
    assert shown["Groups"] == ["1", "60"]
    assert int(shown["CapEff"][0], 16) & CAP_FS_MASK


@pytest.mark.needs_root
def test_a_thread_that_is_started_inside_is_the_peer_for_good() -> None:
    def act() -> None:
        looks, ended = threading.Event(), threading.Event()
        seen: list[int] = []

        def run() -> None:
            looks.wait(20)
            seen.append(read_credentials().fsuid)

        with Impersonation(PEER, ACCOUNT):
            started = threading.Thread(target=run)
            started.start()
        ended.set()
        looks.set()
        started.join()
        assert seen == [1]
        assert read_credentials().fsuid == 0

    in_thread(act)


@pytest.mark.needs_root
def test_the_librarys_own_threads_are_never_a_peer() -> None:
    done = run_python(
        PROLOGUE
        + """
from securesock.drivers.reactor import reactor
from securesock.policy import FilterEngine, Provider

with FilterEngine.open(":memory:") as engine, Impersonation(peer, "daemon"), Impersonation(peer, "nobody"):
    acting = read_credentials()
    seen = []
    told = threading.Event()

    def look(*change):
        seen.append(read_credentials().fsuid)
        told.set()

    reactor().run_and_wait(look, 20)
    told.clear()
    engine.providers.subscribe(look)
    engine.open_session().providers.add(Provider("p"))
    assert told.wait(20)
    assert read_credentials() == acting
sys.exit(0 if seen == [0, 0] and read_credentials().fsuid == 0 else f"{seen}")
"""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.needs_root
def test_a_signal_handler_runs_as_the_account_while_its_thread_is_one() -> None:
    done = run_python(
        PROLOGUE
        + """
import signal
seen = []
signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(read_credentials().fsuid))
signal.raise_signal(signal.SIGUSR1)
with Impersonation(peer, "daemon"):
    signal.raise_signal(signal.SIGUSR1)
signal.raise_signal(signal.SIGUSR1)
sys.exit(0 if seen == [0, 1, 0] else f"{seen}")
"""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.needs_root
def test_a_forked_child_is_the_peer_until_it_leaves_the_block() -> None:
    done = run_python(
        PROLOGUE
        + """
with Impersonation(peer, "daemon"):
    child = os.fork()
    inside = read_credentials().fsuid
after = read_credentials().fsuid
if child == 0:
    os._exit(0 if (inside, after) == (1, 0) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or (inside, after) != (1, 0))
"""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.needs_root
def test_left_without_its_exit_the_thread_is_put_back_when_the_object_goes() -> None:
    def act() -> None:
        own = read_credentials()
        acting = Impersonation(PEER, ACCOUNT)
        acting.__enter__()
        assert read_credentials() != own
        del acting
        assert read_credentials() == own

    in_thread(act)


@pytest.mark.needs_root
def test_what_a_thread_never_left_ends_with_the_thread() -> None:
    acting = Impersonation(PEER, ACCOUNT)
    in_thread(acting.__enter__)
    del acting
    assert read_credentials().fsuid == 0


@pytest.mark.needs_root
def test_a_signals_exception_at_any_moment_leaves_the_main_thread_itself() -> None:
    done = run_python(
        PROLOGUE
        + """
import signal
own = read_credentials()
armed, caught = False, 0

def interrupt(number, frame):
    global armed
    if armed:
        armed = False  # one for each round: a second one on the way out may end the process, as it should
        raise TimeoutError

signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
for _ in range(1500):
    try:
        armed = True
        with Impersonation(peer, "daemon"):
            pass
        armed = False
    except TimeoutError:
        caught += 1
    if read_credentials() != own:
        sys.exit("still somebody else")
signal.signal(signal.SIGALRM, signal.SIG_IGN)
sys.exit(0 if caught > 20 else f"only {caught} interrupted")
"""
    )
    assert done.returncode == 0, done.stderr
