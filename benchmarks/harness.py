"""How a comparison is measured, and what comes out of it.

A case is a function in a module of benchmarks/cases that makes ready what both sides need and yields a Contest:
ours, and one or more peers, each a function without arguments that measures once and returns a number.

    @case("bulk, 1 MiB sends", unit="MiB/s", better="higher", bound=Bound("ratio", at_least=2.0), aim=2.5)
    def bulk_1_mib() -> Iterator[Contest]:
        with servers() as (secured, tls):
            yield Contest(secured.transfer, {"ssl (TLS 1.3)": tls.transfer})

The machine that measures has other things to do, gets warm and changes its clock.  So the sides take turns: each
round measures every side once, the order reversed in every other round, and nine rounds are the least.  One round
before them is not counted.  A row gives the median of each side, and of the ratios of the single rounds the median and,
as spread, the interquartile range, so that a ratio that is chance shows as one.  A machine of which somebody else has a
half runs at one of two speeds for seconds: in one round both sides meet mostly the same, and the medians of two sides
may be of different ones, so that their ratio says nothing.
"""

from __future__ import annotations

import gc
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Literal, NamedTuple

LEAST_ROUNDS = 9
LEAST_LONG_ROUNDS = 5
SHORT_ROUNDS = 25
"""Of measurements that take a quarter of a second, while the machine may keep a speed for longer."""
LONG_S = 5.0
"""A measurement of so many seconds has in itself what short ones take more rounds for."""

Measure = Callable[[], float]
Better = Literal["higher", "lower"]


class Row(NamedTuple):
    """One line of results.json: medians of both sides, of ours divided by the peer's in one round, and its spread."""

    name: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    better: Better
    ratio: float
    spread: float


class Bound(NamedTuple):
    """What a row must keep: of its "ratio", or of the "difference" ours less the peer's, in the row's unit.

    ``peer_name`` says which peer it is held against where there are several; "" is the first.
    """

    of: Literal["ratio", "difference"]
    at_least: float | None = None
    at_most: float | None = None
    peer_name: str = ""

    def value_of(self, row: Row) -> float:
        """The number that is bounded."""
        return row.ratio if self.of == "ratio" else row.ours - row.peer

    def is_kept(self, row: Row) -> bool:
        """Whether the row keeps it, its ends included."""
        value = self.value_of(row)
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        parts = [f"at least {self.at_least:g}"] if self.at_least is not None else []
        parts += [f"at most {self.at_most:g}"] if self.at_most is not None else []
        return f"{self.of} {' and '.join(parts)}"


@dataclass(frozen=True)
class Contest:
    """Both sides, ready to be measured again and again.  A bound means the first peer unless it names another."""

    ours: Measure
    peers: Mapping[str, Measure] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A comparison by name; ``ready`` makes the sides ready and takes them down again.

    ``needs`` are programs, all of which also need root: without them the case is left out, and says so.
    """

    name: str
    unit: str
    better: Better
    rounds: int
    bound: Bound | None
    aim: float | None
    ready: Callable[[], AbstractContextManager[Contest]]
    needs: tuple[str, ...] = ()


_cases: dict[str, Case] = {}


def case(
    name: str,
    *,
    unit: str,
    better: Better,
    bound: Bound | None = None,
    aim: float | None = None,
    rounds: int = LEAST_ROUNDS,
    each_s: float = 0.0,
    needs: tuple[str, ...] = (),
) -> Callable[[Callable[[], Iterator[Contest]]], Callable[[], Iterator[Contest]]]:
    """Register a generator function that yields one Contest; ``each_s`` is how long one measurement takes at least.

    Under nine rounds, or five of five seconds each, or a second name, is a ValueError.
    """
    least = LEAST_LONG_ROUNDS if each_s >= LONG_S else LEAST_ROUNDS
    if rounds < least:
        raise ValueError(f"{name}: {rounds} rounds; {least} are the least from which a median is taken")
    if name in _cases:
        raise ValueError(f"two cases are called {name}")

    def register(ready: Callable[[], Iterator[Contest]]) -> Callable[[], Iterator[Contest]]:
        _cases[name] = Case(name, unit, better, rounds, bound, aim, contextmanager(ready), needs)
        return ready

    return register


def load_cases() -> list[Case]:
    """Every case of benchmarks/cases, in the order of its modules' names and of their lines."""
    package = importlib.import_module("benchmarks.cases")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return list(_cases.values())


def measure(contest: Contest, rounds: int) -> dict[str, list[float]]:
    """Every side once a round, in turn; "" is ours.  The first, uncounted round fills caches and allocators."""
    sides = {"": contest.ours, **contest.peers}
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-1, rounds):
        order = list(sides) if number % 2 else list(reversed(sides))
        for name in order:
            gc.collect()  # what one side left is not swept at the other's cost
            value = sides[name]()
            if number >= 0:
                samples[name].append(value)
    return samples


def rows_of(case: Case, samples: Mapping[str, list[float]]) -> list[Row]:
    """One row for each peer."""
    rows = []
    for peer_name, theirs in samples.items():
        if peer_name:
            ours = samples[""]
            ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
            lower, ratio, upper = quantiles(ratios, n=4, method="inclusive")
            rows.append(
                Row(
                    case.name,
                    median(ours),
                    median(theirs),
                    peer_name,
                    case.unit,
                    case.better,
                    ratio,
                    upper - lower,
                )
            )
    return rows


def run_case(case: Case) -> list[Row]:
    """Make ready, measure, take down."""
    with case.ready() as contest:
        return rows_of(case, measure(contest, case.rounds))


def is_bounded(case: Case, row: Row, rows: list[Row]) -> bool:
    """Whether the case's bound is held against this row."""
    if case.bound is None:
        return False
    return row.peer_name == (case.bound.peer_name or rows[0].peer_name)
