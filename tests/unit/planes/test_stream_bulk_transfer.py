import os

from securesock.planes.userspace.stream import StreamConnection
from tests.support.pre_keyed import Lifetimes, PreKeyedSession, Role


def carry(a, b, now):
    n = 0
    while (out := a.outbound()) is not None:
        room = b.inbound_buffer()
        k = min(len(out), len(room))
        room[:k] = out[:k]
        a.outbound_sent(k)
        b.inbound_received(k, now)
        b.inbound_release()
        n += k
    return n


def test_it():
    L = Lifetimes(1e6, 1 << 21, 1 << 20)
    a = StreamConnection(PreKeyedSession(Role.INITIATOR, lifetimes=L), Role.INITIATOR)
    b = StreamConnection(PreKeyedSession(Role.RESPONDER, lifetimes=L), Role.RESPONDER)
    a.start(0)
    b.start(0)
    while carry(a, b, 0) + carry(b, a, 0):
        pass
    assert a.state == b.state == "established", (a.state, b.state, a.error, b.error)
    data = os.urandom(10_000_000)
    got = bytearray()
    view = memoryview(data)
    while view:
        view = view[a.seal(view, 0) :]
        carry(a, b, 0)
        carry(b, a, 0)
        got += b.read(1 << 20)
        assert not b.error
    assert got == data
    assert a.child_rekeys > 5
    assert a.finish(0)
    carry(a, b, 0)
    assert b.at_end and b.read(10) == b""
