"""Whatever an attacker on the path of datagrams makes of the messages: it raises nothing and ends nothing.

IKE_SA_INIT is the exception that RFC 7296 makes: who answers it first with values of his own is found out by AUTH, and
the negotiation fails.  So forged ones come after the real one here.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securesock.errors import AuthenticationFailed, PeerIncompatible, PeerMisbehaved
from securesock.identity.identity import Identity
from securesock.keying.contract import Role
from securesock.testing import FakeNetwork, Pair
from securesock.wire.isakmp import read_header_untrusted
from securesock.wire.numbers import ExchangeType


@cache
def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


def relabelled(datagram: bytes, at: int, value: int) -> bytes:
    """One octet of the header replaced, the length made right: what a parser is happiest with."""
    changed = bytearray(datagram)
    changed[at % 24] = value
    return bytes(changed)


def in_clear(datagram: bytes, at: int, value: int) -> bytes:
    """The same header without protection: nothing inside, or an error notify."""
    notify = bytes((0, 0, 0, 8, 0, 0, 0, value)) if at % 2 else b""
    header = bytearray(datagram[:28])
    header[16] = 41 if notify else 0
    header[24:28] = (28 + len(notify)).to_bytes(4, "big")
    return bytes(header) + notify


MUTATIONS = {
    "a flipped bit": lambda datagram, at, value: (
        datagram[: at % len(datagram)]
        + bytes((datagram[at % len(datagram)] ^ (1 << value % 8),))
        + datagram[at % len(datagram) + 1 :]
    ),
    "cut": lambda datagram, at, value: datagram[: at % len(datagram)],
    "cut with its length made right": lambda datagram, at, value: (
        (cut := datagram[: 28 + at % (len(datagram) - 27)])[:24] + len(cut).to_bytes(4, "big") + cut[28:]
    ),
    "one more byte": lambda datagram, at, value: datagram + bytes((value,)),
    "another header": relabelled,
    "in clear": in_clear,
    "another body": lambda datagram, at, value: datagram[:32] + bytes((value,)) * (len(datagram) - 32),
}

OTHER = {Role.INITIATOR: Role.RESPONDER, Role.RESPONDER: Role.INITIATOR}

forgeries = st.lists(
    st.tuples(
        st.sampled_from(sorted(MUTATIONS)),
        st.integers(0, 5000),
        st.integers(0, 255),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_forged_datagrams_neither_raise_nor_end_anything(data: st.DataObject) -> None:
    def forge(to: Role, datagram: bytes) -> Iterable[bytes]:
        made = []
        for kind, at, value, astray in data.draw(forgeries):
            forged = MUTATIONS[kind](datagram, at, value)
            if astray:  # to the other end, as a reflection
                network.tamper = None
                network.send(OTHER[to], forged, pair.clock.now())
                network.tamper = forge
            elif forged != datagram:
                made.append(forged)
        is_init = read_header_untrusted(datagram).exchange_type == ExchangeType.IKE_SA_INIT
        return (datagram, *made) if is_init else (*made, datagram)

    network: FakeNetwork[Role] = FakeNetwork(tamper=forge)
    pair = Pair(*identities(), network=network)
    pair.establish(timeout_s=2)
    assert [each.error for each in pair.endpoints] == [None, None]
    assert pair.congruent()
    for wish in ("rekey_child", "rekey_ike"):
        getattr(pair.initiator.session, wish)(pair.clock.now())
        pair.settle(timeout_s=2)
    assert [each.error for each in pair.endpoints] == [None, None]
    assert pair.congruent()
    assert [(each.rekeys["child"], each.rekeys["ike"]) for each in pair.endpoints] == [(1, 1), (1, 1)]


@settings(deadline=None, max_examples=150)
@given(st.data(), st.integers(0, 5))
def test_a_forged_message_on_a_stream_ends_it_by_blaming_the_peer(data: st.DataObject, number: int) -> None:
    """A changed negotiation is never established on both ends, and never a crash."""
    count = 0

    def forge(to: Role, datagram: bytes) -> Iterable[bytes]:
        nonlocal count
        count += 1
        if count != number + 1:
            return (datagram,)
        kind, at, value, _ = data.draw(forgeries)[0]
        return (MUTATIONS[kind](datagram, at, value),)

    pair = Pair(*identities(), network=FakeNetwork(ordered=True, tamper=forge)).establish(timeout_s=2)
    for endpoint in pair.endpoints:
        assert isinstance(endpoint.error, PeerMisbehaved | PeerIncompatible | AuthenticationFailed | None)
    if pair.initiator.session.established and pair.responder.session.established:
        assert pair.congruent()


@pytest.mark.parametrize("role", list(Role))
@settings(deadline=None, max_examples=300)
@given(datagram=st.binary(max_size=200))
def test_any_bytes_at_all_raise_nothing(role: Role, datagram: bytes) -> None:
    pair = Pair(*identities(), network=FakeNetwork())
    endpoint = pair.initiator if role is Role.INITIATOR else pair.responder
    if role is Role.INITIATOR:
        endpoint.session.handle_acquire(0.0)
    endpoint.session.handle_datagram(datagram, 0.0)
    pair.collect()
    assert not endpoint.session.established
