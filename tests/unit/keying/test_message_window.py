"""Message IDs, stored replies and retransmission of one IKE_SA: RFC 7296 2.1 to 2.4."""

from __future__ import annotations

from itertools import pairwise

import pytest

from securesock.keying.message_window import RETRANSMIT_TRIES, MessageWindow

REQUEST = (b"request",)
REPLY = (b"reply",)


def window(*, retransmit: bool = True) -> MessageWindow:
    return MessageWindow(retransmit=retransmit)


def answered(opened: bytes = b"peer's request", reply: tuple[bytes, ...] = REPLY) -> MessageWindow:
    """A window in which the peer's request 0 was answered."""
    it = window()
    it.request_opened(opened)
    it.request_answered(reply)
    return it


# our requests


def test_one_request_at_a_time_under_ids_that_count_up() -> None:
    it = window()
    for message_id in range(3):
        assert not it.awaiting_reply
        assert it.next_request_id == message_id
        it.request_sent(REQUEST, 0.0)
        assert it.awaiting_reply
        assert it.next_request_id == message_id
        it.reply_received()


def test_only_the_reply_to_what_is_outstanding_is_awaited() -> None:
    it = window()
    assert not it.is_awaited_reply(0)
    it.request_sent(REQUEST, 0.0)
    assert [it.is_awaited_reply(each) for each in (0, 1, 0xFFFFFFFF)] == [True, False, False]
    it.reply_received()
    assert not it.is_awaited_reply(0)
    assert not it.is_awaited_reply(1)


def test_ids_of_the_two_directions_are_independent() -> None:
    it = window()
    it.request_opened(b"peer's")
    it.request_answered(REPLY)
    assert (it.next_request_id, it.expected_request_id) == (0, 1)
    it.request_sent(REQUEST, 0.0)
    it.reply_received()
    assert (it.next_request_id, it.expected_request_id) == (1, 1)


def test_a_request_that_is_given_up_keeps_its_id_for_the_next() -> None:
    """IKE_SA_INIT is asked again under ID 0 after COOKIE and INVALID_KE_PAYLOAD (RFC 7296 2.2)."""
    it = window()
    it.request_sent(REQUEST, 0.0)
    it.give_up()
    assert not it.awaiting_reply
    assert it.deadline is None
    assert it.next_request_id == 0


# retransmission


def test_a_request_is_sent_again_unchanged_at_growing_intervals() -> None:
    it = window()
    it.request_sent((b"piece one", b"piece two"), 100.0)
    moments = []
    while it.deadline is not None:
        moments.append(it.deadline)
        again = it.retransmission(it.deadline)
        assert again in ((b"piece one", b"piece two"), None)
    intervals = [later - earlier for earlier, later in pairwise((100.0, *moments))]
    assert intervals == sorted(set(intervals))
    # RFC 7296 2.4: at least a dozen times over several minutes
    assert len(moments) == RETRANSMIT_TRIES >= 12
    assert moments[-1] - 100.0 > 120


def test_nothing_is_sent_again_before_it_is_due() -> None:
    it = window()
    it.request_sent(REQUEST, 0.0)
    assert it.deadline is not None
    assert it.retransmission(it.deadline - 0.001) == ()
    assert it.retransmission(it.deadline) == REQUEST


def test_a_peer_that_never_answers_is_given_up_once() -> None:
    it = window()
    it.request_sent(REQUEST, 0.0)
    outcomes = [it.retransmission(1000.0 * n) for n in range(1, 20)]
    assert outcomes[: RETRANSMIT_TRIES - 1] == [REQUEST] * (RETRANSMIT_TRIES - 1)
    assert outcomes[RETRANSMIT_TRIES - 1] is None
    assert set(outcomes[RETRANSMIT_TRIES:]) == {()}


def test_an_answer_ends_retransmission_and_the_next_request_begins_anew() -> None:
    it = window()
    it.request_sent(REQUEST, 0.0)
    for _ in range(5):
        assert it.deadline is not None
        it.retransmission(it.deadline)
    it.reply_received()
    assert it.deadline is None
    assert it.retransmission(1e9) == ()
    it.request_sent(REQUEST, 1000.0)
    first = window()
    first.request_sent(REQUEST, 1000.0)
    assert it.deadline == first.deadline


def test_on_a_reliable_carrier_nothing_is_sent_again() -> None:
    """RFC 9329: the carrier retransmits."""
    it = window(retransmit=False)
    it.request_sent(REQUEST, 0.0)
    assert it.deadline is None
    assert it.retransmission(1e9) == ()
    assert it.awaiting_reply


# the peer's requests


def test_the_last_request_again_gets_the_stored_reply() -> None:
    it = answered(reply=(b"piece one", b"piece two"))
    assert it.repeated(0, b"peer's request") == (b"piece one", b"piece two")
    assert it.repeated(0, b"peer's request") == (b"piece one", b"piece two")


@pytest.mark.parametrize("other", [b"", b"peer's requesT", b"peer's request and more"])
def test_other_bytes_under_the_same_id_get_nothing(other: bytes) -> None:
    """They may be forged, and they cannot be opened any more when the keys have changed since (RFC 9242 3.3.1)."""
    assert answered().repeated(0, other) == ()


@pytest.mark.parametrize("message_id", [1, 2, 0xFFFFFFFF])
def test_the_same_bytes_under_another_id_get_nothing(message_id: int) -> None:
    assert answered().repeated(message_id, b"peer's request") == ()


def test_a_request_before_the_last_gets_nothing() -> None:
    it = answered(b"first")
    it.request_opened(b"second")
    it.request_answered((b"second reply",))
    assert it.repeated(0, b"first") == ()
    assert it.repeated(1, b"second") == (b"second reply",)


def test_before_any_request_there_is_nothing_to_repeat() -> None:
    it = window()
    assert it.repeated(0, b"") == ()
    assert it.repeated(0xFFFFFFFF, b"") == ()


def test_of_a_fragmented_request_only_the_first_piece_gets_the_reply() -> None:
    """RFC 7383 2.6.1: the others MUST be ignored."""
    it = answered(b"piece one")
    assert it.repeated(0, b"piece one") == REPLY
    assert it.repeated(0, b"piece two") == ()


def test_a_window_can_begin_in_the_middle() -> None:
    it = MessageWindow(retransmit=True, first_request_id=5, expected_request_id=7)
    it.request_sent(REQUEST, 0.0)
    assert it.is_awaited_reply(5)
    it.request_opened(b"peer's request")
    it.request_answered(REPLY)
    assert it.repeated(7, b"peer's request") == REPLY
