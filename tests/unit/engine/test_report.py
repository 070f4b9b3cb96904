"""What is said of a live connection: the very same while nothing has happened, and what has, when it has."""

from __future__ import annotations

from securesock.engine.report import live_info
from securesock.types import SecurityInfo

ESTABLISHED = SecurityInfo(secured=True, main_mode_sa_id=7, quick_mode_sa_id=9)


def test_while_nothing_has_happened_it_is_the_very_same() -> None:
    assert live_info(ESTABLISHED, main_mode_sa_id=7, quick_mode_sa_id=9, rekeys=0, error=None) is ESTABLISHED


def test_what_has_happened_is_said() -> None:
    for main, quick, rekeys in ((8, 9, 1), (7, 10, 1), (7, 9, 1)):
        info = live_info(ESTABLISHED, main_mode_sa_id=main, quick_mode_sa_id=quick, rekeys=rekeys, error=None)
        assert (info.main_mode_sa_id, info.quick_mode_sa_id, info.rekeys) == (main, quick, rekeys)
        assert (info.latch, info.negotiation_error, info.secured) == ("established", "", True)
    broken = live_info(ESTABLISHED, main_mode_sa_id=7, quick_mode_sa_id=9, rekeys=0, error=OSError("tampered"))
    assert (broken.latch, broken.negotiation_error) == ("broken", "tampered")
