"""The room in which this folder's tests run: what it lends of the machine, and what it leaves of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.support.user_mode_linux import Ended, modules_in_order, run_inside

OUTSIDE: Final = True  # these look at the kernel as a process


def in_shell(script: str, seconds: float = 60.0) -> Ended:
    return run_inside(["sh", "-c", script], seconds)


def test_the_exit_status_and_the_words_come_out() -> None:
    ended = in_shell("echo here I am; exit 7")
    assert ended.status == 7
    assert "here I am" in ended.output


def test_what_is_written_inside_stays_inside(tmp_path: Path) -> None:
    inside = tmp_path / "written"
    beside = Path(__file__).with_name("written-by-a-guest")
    ended = in_shell(f"mkdir -p {tmp_path} && echo x > {inside} && echo x > {beside} && cat {beside}")
    assert ended.status == 0, ended.output
    assert not inside.exists()
    assert not beside.exists()


def test_the_root_below_the_overlay_cannot_be_written_to() -> None:
    ended = in_shell("grep ' / hostfs ' /proc/1/mounts")
    assert " / hostfs ro," in ended.output


def test_it_has_esp_and_none_of_the_machines_network() -> None:
    ended = in_shell(
        "ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x100 mode transport "
        "aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128 && ip xfrm state && ip -o link"
    )
    assert ended.status == 0, ended.output
    assert "rfc4106(gcm(aes))" in ended.output
    assert [line.split(":")[1] for line in ended.output.splitlines() if "mtu" in line] == [" lo"]


def test_a_guest_that_never_ends_is_ended() -> None:
    ended = in_shell("while :; do :; done", seconds=3.0)
    assert ended.status is None


def test_each_module_comes_after_those_that_it_needs(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text("a/a.ko: b/b-c.ko c.ko\nb/b-c.ko: c.ko\nc.ko:\n")
    assert modules_in_order(tmp_path, ["a", "built_in", "b_c"]) == [
        tmp_path / each for each in ("c.ko", "b/b-c.ko", "a/a.ko")
    ]
