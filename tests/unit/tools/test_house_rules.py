"""Each rule of the house finds what it is for, and leaves the rest alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import house_rules
from tools.house_rules import RULES, read_module

SRC = "src/securesock/wire/x.py"
TEST = "tests/unit/test_x.py"


def broken_rules(text: str, path: str = SRC) -> set[str]:
    """The names of the rules that a file breaks."""
    module = read_module(Path(path), text)
    return {rule.__name__ for rule in RULES if list(rule(module))}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("no_asserts", "def f(x):\n    assert x\n"),
        ("no_broad_excepts", "try:\n    f()\nexcept Exception:\n    pass\n"),
        ("no_broad_excepts", "try:\n    f()\nexcept:\n    pass\n"),
        ("no_broad_excepts", "try:\n    f()\nexcept (ValueError, BaseException):\n    pass\n"),
        ("nothing_unfinished_or_excused", "x = 1  # TO" + "DO: more\n"),
        ("nothing_unfinished_or_excused", '"""Does it. FIX' + 'ME."""\n'),
        ("nothing_unfinished_or_excused", "x = f()  # type: " + "ignore[arg-type]\n"),
        ("nothing_unfinished_or_excused", "import x  # no" + "qa\n"),
        ("nothing_unfinished_or_excused", "def f():\n    raise NotImplementedError\n"),
        ("tags_in_constant_time", "ok = mac == expected\n"),
        ("tags_in_constant_time", "ok = packet.icv != computed\n"),
        ("tags_in_constant_time", "ok = data[4:] == our_tag\n"),
        ("plain_names", "def get_thing():\n    return 1\n"),
        ("no_any_in_public", "def f(x: list[Any]) -> int:\n    return 1\n"),
        ("no_any_in_public", "async def f() -> Any:\n    return 1\n"),
        ("machines_without_io", "import time\n"),
        ("machines_without_io", "from asyncio.streams import StreamReader\n"),
        ("parts_not_the_whole", "from securesock import SecurityInfo\n"),
        ("sizes", "def f():\n" + "    x = 1\n" * 80),
        ("sizes", "x = 1\n" * 801),
    ],
)
def test_a_breach_is_found(rule: str, text: str) -> None:
    assert broken_rules(text) == {rule}


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n    if not x:\n        raise ValueError('x')\n",
        "try:\n    f()\nexcept (ValueError, OSError):\n    pass\n",
        "x = 'type: ignore is not a comment here'\n",
        "ok = mac_length == 16\n",
        "def _f(x: Any) -> Any:\n    return x\n",
        "ok = tag == 0x30\n",
        "ok = data[start] != tag\n",
        "class T:\n    def get_extra_info(self):\n        return 1\n",
        "from securesock.errors import WireError\n",
        "from .time import x\n",
        "def f():\n" + "    x = 1\n" * 79,
    ],
)
def test_what_is_in_order_is_left_alone(text: str) -> None:
    assert broken_rules(text) == set()


def test_clocks_and_sockets_are_for_drivers() -> None:
    assert broken_rules("import time\nimport socket\n", "src/securesock/drivers/blocking.py") == set()
    assert broken_rules("import threading\n", "src/securesock/planes/userspace/stream.py") == set()
    assert broken_rules("import time\n", "src/securesock/planes/userspace/stream.py") == {"machines_without_io"}


def test_vague_module_names_are_found() -> None:
    assert broken_rules("x = 1\n", "src/securesock/utils.py") == {"plain_names"}
    assert broken_rules("x = 1\n", "src/securesock/common/x.py") == {"plain_names"}


def test_a_test_that_sleeps_or_expects_to_fail_is_found() -> None:
    sleeping = "import time\ndef test_x():\n    time.sleep(1)\n    assert f()\n"
    expecting = "import pytest\n@pytest.mark.xfail\ndef test_x():\n    assert f()\n"

    assert broken_rules(sleeping, TEST) == {"tests_do_not_wait_or_give_up"}
    assert broken_rules(expecting, TEST) == {"tests_do_not_wait_or_give_up"}


def test_a_test_that_cannot_fail_is_found() -> None:
    assert broken_rules("def test_x():\n    f()\n", TEST) == {"tests_can_fail"}


def test_a_test_may_leave_judging_to_what_it_calls() -> None:
    direct = "import pytest\ndef test_x():\n    with pytest.raises(ValueError):\n        f()\n"
    through = "def inner():\n    assert g()\ndef outer():\n    inner()\ndef test_x():\n    outer()\n"

    assert broken_rules(direct, TEST) == set()
    assert broken_rules(through, TEST) == set()


def test_places_on_a_machine_and_addresses_in_locks_are_found() -> None:
    home = "/ho" + "me/somebody/x"

    assert list(house_rules.no_places(Path("README.md"), f"see {home}\n"))
    assert list(house_rules.no_places(Path("x.lock"), "--find-links file://wheels\n"))
    assert not list(house_rules.no_places(Path("README.md"), "https://example.org/work/x and work/x\n"))


def test_the_repository_keeps_its_rules() -> None:
    assert [str(breach) for breach in house_rules.breaches()] == []
