"""How the demo's answer is judged when it runs from the installed wheel."""

from __future__ import annotations

from typing import Any

import pytest

from tools.check_wheel import judge_demo


def good_answer() -> dict[str, Any]:
    return {
        "schema": 1,
        "secured": True,
        "encrypted": True,
        "clear_text_bytes_on_wire": 0,
        "client": {"peer_machine": {"name": "host/server.demo"}},
        "server": {"peer_machine": {"name": "host/client.demo"}},
        "refusals": [{"case": "wrong peer name", "refused": True, "error": "AuthenticationFailed"}],
    }


def test_a_good_answer_has_no_problems() -> None:
    assert judge_demo(good_answer()) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"secured": False}, "secured=False"),
        ({"encrypted": None}, "encrypted=None"),
        ({"clear_text_bytes_on_wire": 8}, "clear text on the wire: 8"),
        ({"clear_text_bytes_on_wire": None}, "clear text on the wire: None"),
        ({"client": {"peer_machine": None}}, "the client names no peer"),
        ({"server": None}, "the server names no peer"),
        ({"refusals": []}, "shows no refusals"),
        ({"refusals": [{"case": "clear client", "refused": False, "error": ""}]}, "not refused: clear client"),
    ],
)
def test_whatever_is_not_as_promised_is_a_problem(change: dict[str, Any], problem: str) -> None:
    (found,) = judge_demo(good_answer() | change)

    assert problem in found
