"""One thread in the inbound methods and another in the outbound ones of the same connection, at both ends."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from securesock.planes.userspace.stream import StreamConnection
from securesock.types import Lifetimes
from tests.support.pre_keyed import PreKeyedSession
from tests.support.stream_pair import INITIATOR, RESPONDER, StreamPair, feed_all

TOTAL = 6 << 20
LIMITS = Lifetimes(1e6, 1 << 20, 1 << 20)


class Driver:
    """What a blocking socket does with a StreamConnection, with queues for a carrier."""

    def __init__(self, end: StreamConnection, out: queue.Queue[bytes], into: queue.Queue[bytes]) -> None:
        self.end = end
        self.out = out
        self.into = into
        self.write_lock = threading.Lock()
        self.progress = threading.Condition()

    def flush(self, *, wait: bool = True) -> bool:
        """Whether all is on its way.  A reader does not wait: two of them could wait for each other."""
        while (out := self.end.outbound()) is not None:
            try:
                self.out.put(bytes(out), block=wait, timeout=10)
            except queue.Full:
                assert not wait
                return False
            self.end.outbound_sent(len(out))
        return True

    def send_all(self, seed: int) -> str:
        digest, source = hashlib.sha256(), random.Random(seed)
        sent, give_up_at = 0, monotonic() + 15
        while sent < TOTAL:
            data = source.randbytes(source.randrange(1, 300_000))
            digest.update(data)
            sent += len(data)
            view = memoryview(data)
            while view:
                assert self.end.error is None
                assert monotonic() < give_up_at
                with self.write_lock:
                    count = self.end.seal(view, 0.0)
                    self.flush()
                view = view[count:]
                if not count:
                    with self.progress:
                        self.progress.wait(0.05)
        with self.write_lock:
            while not self.end.finish(0.0):
                self.flush()
            self.flush()
        return digest.hexdigest()

    def receive_all(self) -> str:
        digest = hashlib.sha256()
        # beyond the peer's end of stream, because our sending thread may still need answers
        give_up_at = monotonic() + 15
        while self.end.state != "closed" or not self.end.at_end:
            assert monotonic() < give_up_at
            with contextlib.suppress(queue.Empty):
                feed_all(self.end, self.into.get(timeout=0.05))
            assert self.end.error is None
            with self.progress:
                self.progress.notify_all()
            while self.end.readable():
                digest.update(self.end.read(100_000))
            while self.end.outbound_waiting and self.write_lock.acquire(blocking=False):
                try:
                    if not self.flush(wait=False):
                        break
                finally:
                    self.write_lock.release()
        assert self.end.read(1) == b""
        return digest.hexdigest()


def test_bulk_both_ways_in_four_threads_through_rekeys_of_both_ends() -> None:
    pair = StreamPair(
        PreKeyedSession(INITIATOR, lifetimes=LIMITS), PreKeyedSession(RESPONDER, lifetimes=LIMITS)
    ).establish()
    forth: queue.Queue[bytes] = queue.Queue(maxsize=4)
    back: queue.Queue[bytes] = queue.Queue(maxsize=4)
    drivers = {
        INITIATOR: Driver(pair.initiator, forth, back),
        RESPONDER: Driver(pair.responder, back, forth),
    }
    with ThreadPoolExecutor(4) as threads:
        sent = {role: threads.submit(driver.send_all, number) for number, (role, driver) in enumerate(drivers.items())}
        received = {role: threads.submit(driver.receive_all) for role, driver in drivers.items()}
    assert sent[INITIATOR].result() == received[RESPONDER].result()
    assert sent[RESPONDER].result() == received[INITIATOR].result()
    rekeys = sorted(each.child_rekeys for each in (pair.initiator, pair.responder))
    # whoever is asked counts a rekey before whoever asked, and the last one may be half way when all was said
    assert rekeys[0] >= 5
    assert rekeys[1] - rekeys[0] <= 1
