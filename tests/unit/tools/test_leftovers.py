"""What a killed run left is removed by the next; what a living one owns is not touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import leftovers


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of this test alone."""
    path = tmp_path / "registry"
    path.mkdir()
    monkeypatch.setattr(leftovers, "registry", lambda: path)
    return path


def leave(registry: Path, kind: str, name: str, started: str = "", owner: tuple[int, str] = (0, "")) -> Path:
    """A record as a run would have written it."""
    path = registry / f"{kind}-test.json"
    path.write_text(json.dumps(leftovers.Record(kind, name, started, *owner)._asdict()))
    return path


def ended_process() -> int:
    """The pid of a process that is gone."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_folder_is_recorded_before_it_exists_and_gone_with_its_record(registry: Path, tmp_path: Path) -> None:
    with leftovers.folder("x", parent=tmp_path) as path:
        (record,) = [json.loads(each.read_text()) for each in registry.iterdir()]
        assert record["name"] == str(path)
        assert record["owner_pid"] == os.getpid()
        assert path.stat().st_mode & 0o077 == 0
        (path / "file").write_text("x")

    assert not path.exists()
    assert list(registry.iterdir()) == []


def test_two_folders_of_one_name_never_meet(tmp_path: Path) -> None:
    with leftovers.folder("x", parent=tmp_path) as one, leftovers.folder("x", parent=tmp_path) as other:
        assert one != other


def test_a_folder_is_gone_after_an_exception_too(tmp_path: Path, registry: Path) -> None:
    with pytest.raises(KeyError), leftovers.folder("x", parent=tmp_path) as path:
        raise KeyError("x")

    assert not path.exists()
    assert list(registry.iterdir()) == []


def test_the_folder_of_a_dead_run_is_removed(registry: Path, tmp_path: Path) -> None:
    left = tmp_path / "securesock-x-00000000"
    left.mkdir()
    record = leave(registry, "folder", str(left), owner=(ended_process(), "1"))

    removed = leftovers.remove_of_dead_runs()

    assert [each.name for each in removed] == [str(left)]
    assert not left.exists()
    assert not record.exists()


def test_the_folder_of_a_living_run_is_left_alone(registry: Path, tmp_path: Path) -> None:
    left = tmp_path / "securesock-x-00000000"
    left.mkdir()
    record = leave(registry, "folder", str(left), owner=(os.getpid(), leftovers.start_time(os.getpid()) or ""))

    assert leftovers.remove_of_dead_runs() == []
    assert left.exists()
    assert record.exists()


def test_a_reused_pid_does_not_count_as_the_run_that_died(registry: Path, tmp_path: Path) -> None:
    left = tmp_path / "securesock-x-00000000"
    left.mkdir()
    leave(registry, "folder", str(left), owner=(os.getpid(), "1"))

    leftovers.remove_of_dead_runs()

    assert not left.exists()


def test_a_folder_that_is_not_ours_is_never_deleted(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "somebody-elses"
    other.mkdir()
    record = leave(registry, "folder", str(other), owner=(ended_process(), "1"))

    assert leftovers.remove_of_dead_runs() == []

    assert f"{other} is not a folder of ours" in capsys.readouterr().err
    assert other.exists()
    assert record.exists()


def test_a_record_that_cannot_be_read_is_reported_and_kept(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = registry / "folder-x.json"
    record.write_text("{")

    assert leftovers.remove_of_dead_runs() == []
    assert str(record) in capsys.readouterr().err
    assert record.exists()


def sleeping() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)


def test_a_child_is_ended_with_the_block() -> None:
    with leftovers.process(sleeping()) as child:
        assert child.poll() is None

    assert child.returncode == -9


def test_the_process_of_a_dead_run_is_killed(registry: Path) -> None:
    with sleeping() as child:
        leave(registry, "process", str(child.pid), leftovers.start_time(child.pid) or "", owner=(ended_process(), "1"))

        leftovers.remove_of_dead_runs()

        assert child.wait() == -9


def test_another_process_with_the_same_pid_is_not_killed(registry: Path) -> None:
    with sleeping() as child:
        leave(registry, "process", str(child.pid), "1", owner=(ended_process(), "1"))

        leftovers.remove_of_dead_runs()

        assert child.poll() is None
        child.communicate(timeout=10)


def test_a_killed_run_is_cleaned_up_by_the_next(registry: Path, tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\nfrom tools import leftovers\n"
        f"leftovers.registry = lambda: pathlib.Path({str(registry)!r})\n"
        f"with leftovers.folder('x', parent=pathlib.Path({str(tmp_path)!r})) as path:\n"
        "    print(path, flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    root = Path(leftovers.__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    left = Path(done.stdout.strip())
    assert left.is_dir()

    leftovers.remove_of_dead_runs()

    assert not left.exists()


@pytest.mark.needs_root
@pytest.mark.needs_program("ip")
def test_a_namespace_has_loopback_and_ends_with_its_processes() -> None:
    with leftovers.namespace("x") as name:
        command = ["ip", "netns", "exec", name, sys.executable, "-c", "input()"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE)
        shown = subprocess.run(["ip", "-n", name, "link", "show", "lo"], capture_output=True, text=True, check=True)
        assert "UP" in shown.stdout
        # `ip netns exec` replaces itself by the program once it is inside; wait for that, not for a time
        while not subprocess.run(["ip", "netns", "pids", name], capture_output=True, check=True).stdout:
            assert child.poll() is None

    with child:
        assert child.wait() == -9
    assert not Path("/run/netns", name).exists()
