"""The policy engine with many filters: what a question costs, what a transaction costs, what a socket's filters cost.

The set is benchmarks/policy_set.py's.  A dictionary look-up, the unit of some bounds, is one of a flow's five values as
a tuple among 100,000, in the order of chance: what an engine would cost that had nothing but exact filters.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from statistics import median
from time import perf_counter
from typing import Final

import securesock as ss
from benchmarks.harness import Bound, Contest, case
from benchmarks.policy_set import DIGEST, LAYER, SUBLAYERS, Drawn, Flow, digest_of, drawn, flows
from securesock.policy import Filter, FilterEngine

_MANY: Final = 100_000
_FEW: Final = 100
_ASKED: Final = 4_000
_SECOND: Final = 1e6  # in microseconds


@cache
def _set() -> list[Drawn]:
    found = digest_of(_MANY)
    if found != DIGEST:
        raise ValueError(f"the set of filters is another one ({found}): figures could not be compared")
    return drawn(_MANY)


def _empty_engine() -> FilterEngine:
    engine = FilterEngine.open(":memory:")
    for sublayer in SUBLAYERS:
        engine.sublayers.add(sublayer)
    return engine


@cache
def _engine(size: int) -> FilterEngine:
    """An engine in memory with the first ``size`` filters of the set; for all cases one, as it takes its time."""
    engine = _empty_engine()
    with engine.transaction():
        for each in _set()[:size]:
            engine.filters.add(each.filter)
    return engine


def _median_us(engine: FilterEngine, asked: list[Flow]) -> float:
    """The median of single classifications, the clock's own time included."""
    took = []
    for flow in asked:
        started = perf_counter()
        engine.classify(LAYER, flow)
        took.append(perf_counter() - started)
    return median(took) * _SECOND


def _lookup_us(table: dict[tuple[object, ...], int], keys: list[tuple[object, ...]]) -> float:
    started = perf_counter()
    for key in keys:
        table[key]
    return (perf_counter() - started) / len(keys) * _SECOND


@cache
def _table() -> tuple[dict[tuple[object, ...], int], list[tuple[object, ...]]]:
    """100,000 flows by their five values, and the same values again in the order of chance."""
    table: dict[tuple[object, ...], int] = {}
    for number, each in enumerate(_set()):
        table[tuple(each.hit.values())[:5]] = number
    keys = [(*key,) for key in table]
    random.Random(1).shuffle(keys)
    return table, keys


def _both_halves(size: int) -> list[Flow]:
    hits, misses = flows(_set()[:size], _ASKED)
    return [flow for pair in zip(hits, misses, strict=True) for flow in pair]


@case(
    "policy, classify among 100,000 filters",
    unit="us",
    better="lower",
    bound=Bound("ratio", at_most=3.0, peer_name="among 100"),
)
def classify_many() -> Iterator[Contest]:
    """Half hits, half misses."""
    many, few = _both_halves(_MANY), _both_halves(_FEW)
    large, small = _engine(_MANY), _engine(_FEW)
    yield Contest(lambda: _median_us(large, many), {"among 100": lambda: _median_us(small, few)})


@case(
    "policy, classify beside a dictionary",
    unit="us",
    better="lower",
    bound=Bound("ratio", at_most=40.0),
)
def classify_beside_a_dictionary() -> Iterator[Contest]:
    """How many look-ups a classification costs.  The aim is 10 us."""
    many = _both_halves(_MANY)
    table, keys = _table()
    large = _engine(_MANY)
    yield Contest(lambda: _median_us(large, many), {"a dictionary look-up": lambda: _lookup_us(table, keys)})


@case("policy, classify hits among 100,000", unit="us", better="lower")
def classify_hits() -> Iterator[Contest]:
    """The harder half alone: hundreds of short networks are for each of these flows as well."""
    many, few = flows(_set(), _ASKED)[0], flows(_set()[:_FEW], _ASKED)[0]
    large, small = _engine(_MANY), _engine(_FEW)
    yield Contest(lambda: _median_us(large, many), {"among 100": lambda: _median_us(small, few)})


@case(
    "policy, 10,000 filters in one transaction",
    unit="s",
    better="lower",
    bound=Bound("difference", at_most=2.0),
)
def one_transaction() -> Iterator[Contest]:
    """From begin to commit, in memory.  The peer is an empty transaction: the difference is what the filters cost."""
    added = [each.filter for each in _set()[:10_000]]

    def took(filters: list[Filter]) -> float:
        with _empty_engine() as engine:
            gc.collect()
            started = perf_counter()
            with engine.transaction():
                for each in filters:
                    engine.filters.add(each)
            return perf_counter() - started

    yield Contest(lambda: took(added), {"an empty one": lambda: took([])})


@case(
    "set_security among 100,000 filters",
    unit="us",
    better="lower",
    bound=Bound("ratio", at_most=2.0),
)
def set_security() -> Iterator[Contest]:
    """The call alone: the socket's filters go into the engine, in a transaction of their own."""
    identity = ss.Identity.ephemeral("host/bench.example")
    settings = ss.IPsecSettings(guarantee_encryption=True)

    def took(engine: FilterEngine) -> float:
        context = ss.SecurityContext(identity, policy=engine)
        each = []
        for _ in range(100):
            with ss.SecureSocket(context=context) as sock:
                started = perf_counter()
                sock.set_security(settings)
                each.append(perf_counter() - started)
        return median(each) * _SECOND

    large, small = _engine(_MANY), _engine(_FEW)
    yield Contest(lambda: took(large), {"among 100": lambda: took(small)})


@case(
    "query_security above its answer's making",
    unit="us",
    better="lower",
    bound=Bound("ratio", at_most=20.0),
)
def query_security() -> Iterator[Contest]:
    """On a connected stream: what the call costs beyond making a SecurityInfo with the same content."""
    table, keys = _table()
    with _secured_pair() as sock:
        shown = sock.query_security()
        values = {each.name: getattr(shown, each.name) for each in fields(shown)}

        def took() -> float:
            return _each_us(sock.query_security) - _each_us(lambda: ss.SecurityInfo(**values))

        yield Contest(took, {"a dictionary look-up": lambda: _lookup_us(table, keys)})


def _each_us(call: Callable[[], object]) -> float:
    """The median over runs of a hundred calls."""
    took = []
    for _ in range(100):
        started = perf_counter()
        for _ in range(100):
            call()
        took.append(perf_counter() - started)
    return median(took) / 100 * _SECOND


@contextmanager
def _secured_pair() -> Iterator[ss.SecureSocket]:
    """A connected secured socket; its peer is in this process."""
    server = ss.Identity.ephemeral("host/server.example")
    client = ss.Identity.ephemeral("host/client.example", authority=server.authority)
    with ss.create_server(("127.0.0.1", 0), context=ss.SecurityContext(server)) as listener:
        context = ss.SecurityContext(client)
        sock = ss.create_connection(listener.getsockname(), 20, peer="host/server.example", context=context)
        accepted, _ = listener.accept()
    with sock:
        yield sock
        accepted.setblocking(False)  # the first to close must not wait for the second
        accepted.close()
