"""The book of tickets: sealed by the responder, used once, and kept by the initiator in bounded number (RFC 5723)."""

from __future__ import annotations

import pytest

from securesock.keying import tickets
from securesock.keying.tickets import KeptTicket, TicketBook, TicketRefused
from securesock.secret import Secret
from securesock.testing import SeededEntropy


def book(seed: str = "book") -> TicketBook:
    return TicketBook(SeededEntropy(seed))


def refusal(of: TicketBook, ticket: bytes, now: float) -> str:
    with pytest.raises(TicketRefused) as caught:
        of.open_untrusted(ticket, now)
    return caught.value.reason


def test_a_ticket_opens_at_its_maker_with_what_was_sealed() -> None:
    maker = book()
    ticket, ticket_id = maker.seal(b"state", 10.0)
    opened = maker.open_untrusted(ticket, 20.0)
    assert opened.state.reveal() == b"state"
    assert opened.ticket_id == ticket_id
    assert b"state" not in ticket
    assert "state" not in repr(opened).replace("OpenedTicket", "")


def test_a_ticket_of_another_maker_does_not_open() -> None:
    ticket, _ = book("other").seal(b"state", 0.0)
    maker = book()
    assert refusal(maker, ticket, 1.0) == "ticket-of-unknown-key"
    maker.seal(b"", 0.0)
    assert refusal(maker, ticket, 1.0) == "ticket-not-authentic"


def test_no_byte_of_a_ticket_can_be_changed() -> None:
    maker = book()
    ticket, _ = maker.seal(b"state", 0.0)
    for position in range(len(ticket)):
        changed = bytearray(ticket)
        changed[position] ^= 1
        assert refusal(maker, bytes(changed), 1.0).startswith("ticket-")
    for length in range(len(ticket)):
        assert refusal(maker, ticket[:length], 1.0).startswith("ticket-")
    assert refusal(maker, ticket + bytes(5000), 1.0) == "ticket-malformed"


def test_a_ticket_runs_out() -> None:
    maker = book()
    ticket, _ = maker.seal(b"state", 0.0, 100.0)
    assert maker.open_untrusted(ticket, 99.0)
    assert refusal(maker, ticket, 100.0) == "ticket-expired"


def test_a_ticket_is_used_once() -> None:
    maker = book()
    ticket, ticket_id = maker.seal(b"state", 0.0)
    assert maker.spend(ticket_id, 100.0)
    assert not maker.spend(ticket_id, 100.0)
    assert refusal(maker, ticket, 2.0) == "ticket-used"


def test_the_key_changes_and_the_one_before_still_opens() -> None:
    maker = book()
    day = tickets.KEY_LIFETIME_S
    first, _ = maker.seal(b"first", 0.0, 10 * day)
    second, _ = maker.seal(b"second", day, 10 * day)
    assert first[1:5] != second[1:5]
    assert maker.open_untrusted(first, day + 1).state.reveal() == b"first"
    maker.seal(b"third", 2 * day)
    assert refusal(maker, first, 2 * day + 1) == "ticket-of-unknown-key"
    assert maker.open_untrusted(second, 2 * day + 1).state.reveal() == b"second"


def test_so_many_used_tickets_are_remembered_and_then_all_older_ones_are_called_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tickets, "MAX_SPENT", 3)
    maker = book()
    made = [maker.seal(b"%d" % number, 1.0) for number in range(5)]
    for _, ticket_id in made[:4]:
        assert maker.spend(ticket_id, 100.0)
    # at the last moment that it knew of, which is when the last of them was made
    assert refusal(maker, made[0][0], 3.0) == "ticket-used"
    assert refusal(maker, made[4][0], 3.0) == "ticket-used"
    fresh, _ = maker.seal(b"fresh", 3.0)
    assert maker.open_untrusted(fresh, 4.0)


def test_what_was_used_is_forgotten_when_it_has_run_out_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "MAX_SPENT", 3)
    maker = book()
    for number in range(10):
        _, ticket_id = maker.seal(b"", number * 10.0, 5.0)
        assert maker.spend(ticket_id, number * 10.0 + 5.0)
    still_good, _ = maker.seal(b"", 100.0)
    assert maker.open_untrusted(still_good, 101.0)


# the initiator's


def kept(number: int = 0, expires_at: float = 100.0) -> KeptTicket:
    return KeptTicket(b"%d" % number, Secret(b"state"), expires_at)


def test_a_kept_ticket_is_taken_once_newest_first() -> None:
    ours = book()
    for number in range(3):
        ours.keep("peer", kept(number))
    assert [each.ticket for _ in range(3) if (each := ours.take("peer", 0.0)) is not None] == [b"2", b"1", b"0"]
    assert ours.take("peer", 0.0) is None
    assert ours.take("another", 0.0) is None
    assert len(ours) == 0


def test_a_ticket_that_has_run_out_is_never_shown() -> None:
    ours = book()
    ours.keep("peer", kept(1, 200.0))
    ours.keep("peer", kept(2, 100.0))
    taken = ours.take("peer", 150.0)
    assert taken is not None
    assert taken.ticket == b"1"
    assert len(ours) == 0


def test_only_so_many_are_kept() -> None:
    ours = book()
    for number in range(3000):
        ours.keep(number // 2, kept(number))
    assert len(ours) == tickets.MAX_KEPT
    assert ours.take(0, 0.0) is None
    assert ours.take(1499, 0.0) is not None
    for number in range(10):
        ours.keep("one", kept(number))
    assert [each.ticket for _ in range(9) if (each := ours.take("one", 0.0)) is not None] == [b"9", b"8", b"7", b"6"]


def test_a_dropped_ticket_is_gone_and_its_copy_wiped() -> None:
    ours = book()
    one, other = kept(1), kept(2)
    ours.keep("peer", one)
    ours.keep("peer", other)
    ours.drop("peer", other.ticket)
    ours.drop("peer", other.ticket)
    assert not other.state
    assert ours.take("peer", 0.0) == one
    ours.drop("peer", one.ticket)
    assert len(ours) == 0


def test_after_a_fork_nothing_is_known() -> None:
    ours = book()
    ticket, _ = ours.seal(b"state", 0.0)
    ours.keep("peer", kept())
    ours.renew()
    assert refusal(ours, ticket, 1.0) == "ticket-of-unknown-key"
    assert ours.take("peer", 0.0) is None
