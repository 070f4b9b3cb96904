"""The replay window, against a set that remembers everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from securesock.sad.replay import WINDOW_SIZE, ReplayWindow

LOW = 2**32 - 1


def take(window: ReplayWindow, sequence: int) -> bool:
    """Whether a packet with this number is let through, judged by its low 32 bits as a receiver does."""
    inferred = window.infer(sequence & LOW)
    if inferred is None:
        return False
    assert inferred == sequence
    window.commit(inferred)
    return True


def test_zero_is_no_sequence_number() -> None:
    assert ReplayWindow(esn=True).infer(0) is None
    assert ReplayWindow(esn=False).infer(0) is None


def test_a_repeat_is_refused_and_a_late_packet_taken_once() -> None:
    window = ReplayWindow(esn=True)
    assert [take(window, each) for each in (1, 2, 5, 5, 3, 3, 4, 2)] == [
        True,
        True,
        True,
        False,
        True,
        False,
        True,
        False,
    ]


def test_a_packet_that_was_not_committed_leaves_no_mark() -> None:
    window = ReplayWindow(esn=True)
    window.commit(9)
    assert window.infer(7) == 7
    assert window.infer(7) == 7
    assert window.infer(2**31) == 2**31
    assert window.top == 9


def test_the_window_reaches_exactly_its_size_back_and_is_no_smaller_than_1024() -> None:
    assert WINDOW_SIZE >= 1024
    for esn in (True, False):
        window = ReplayWindow(esn=esn)
        window.commit(5000)
        assert window.infer(5000 - WINDOW_SIZE + 1) == 5000 - WINDOW_SIZE + 1
        oldest = window.infer(5000 - WINDOW_SIZE)
        # with ESN those low bits can only mean a number of the next round, which then fails to open
        assert oldest == (2**32 + 5000 - WINDOW_SIZE if esn else None)


def test_the_high_half_is_inferred_on_both_sides_of_a_wrap() -> None:
    window = ReplayWindow(esn=True)
    window.commit(2**32 - 3)
    assert window.infer(2) == 2**32 + 2
    window.commit(2**32 + 2)
    assert window.infer(LOW) == 2**32 - 1
    assert window.infer(LOW - 2) is None  # 2^32 - 3 was seen


def test_without_esn_the_last_number_is_the_last() -> None:
    window = ReplayWindow(esn=False)
    window.commit(LOW)
    assert window.infer(1) is None
    assert window.infer(LOW - 1) == LOW - 1


def test_the_last_number_of_64_bits_does_not_wrap() -> None:
    window = ReplayWindow(esn=True)
    window.commit(2**64 - 1)
    assert window.infer(1) is None


@given(st.lists(st.integers(-1500, 1500), max_size=60), st.sampled_from((0, 2**32 - 700, 2**40 + 5)))
def test_it_lets_through_each_number_in_the_window_exactly_once(steps: list[int], start: int) -> None:
    window = ReplayWindow(esn=True)
    seen: set[int] = set()
    at = start + 2000
    window.commit(at)
    seen.add(at)
    for step in steps:
        sequence = max(seen) + step
        expected = sequence not in seen and sequence > max(seen) - WINDOW_SIZE
        if not expected and sequence <= max(seen) - WINDOW_SIZE:
            assert window.infer(sequence & LOW) != sequence
            continue
        assert take(window, sequence) == expected
        seen.add(sequence)


@given(st.lists(st.integers(-1000, 20), max_size=80))
def test_moving_the_top_to_the_next_number_is_what_commit_would_do(steps: list[int]) -> None:
    quick, plain = ReplayWindow(esn=True), ReplayWindow(esn=True)
    for each in (quick, plain):
        each.commit(2000)
    for step in steps:
        sequence = plain.top + step
        allowed = take(plain, sequence)
        if step == 1:
            assert allowed
            quick.top += 1
        else:
            assert take(quick, sequence) == allowed
        assert quick.top == plain.top
        assert [quick.infer(plain.top - age & LOW) for age in (0, 1, 7, 1023)] == [
            plain.infer(plain.top - age & LOW) for age in (0, 1, 7, 1023)
        ]
