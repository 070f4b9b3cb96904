"""Fuzz targets by name, and their seeds.  fuzz/run.py says how to add one.

This module imports neither atheris nor the parsers, so that what it lists can be used where atheris does not run:
the property tests put every seed of every target through all truncations and bit flips.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from securesock.errors import WireError

SEEDS = Path(__file__).resolve().parent / "seeds"

TargetFunction = Callable[[bytes], object]


class Target(NamedTuple):
    """A parser under test: ``function`` parses its argument or raises one of ``allowed``."""

    name: str
    function: TargetFunction
    allowed: tuple[type[Exception], ...]
    seeds_of: str
    module: str

    def run(self, data: bytes) -> bool:
        """Whether ``data`` parsed.  Any exception that is not allowed goes through: it is the defect looked for."""
        try:
            self.function(data)
        except self.allowed:
            return False
        return True

    def seeds(self) -> list[bytes]:
        """The inputs of fuzz/seeds/<name>.txt, which may be missing."""
        path = SEEDS / f"{self.seeds_of}.txt"
        return read_seeds(path.read_text()) if path.exists() else []


_targets: dict[str, Target] = {}


def fuzz_target(
    *, name: str = "", allowed: tuple[type[Exception], ...] = (WireError,), seeds_of: str = ""
) -> Callable[[TargetFunction], TargetFunction]:
    """Registers a function under its own name, or under ``name`` where one function serves several.

    ``seeds_of`` names another target whose seeds are its own too.
    """

    def register(function: TargetFunction) -> TargetFunction:
        own = name or function.__name__
        if own in _targets:
            raise ValueError(f"two fuzz targets are called {own}")
        _targets[own] = Target(own, function, allowed, seeds_of or own, function.__module__)
        return function

    return register


def load_targets(module: str = "") -> dict[str, Target]:
    """All targets of fuzz/targets/, or those of one module, by name."""
    if module:
        importlib.import_module(module)
        return {name: target for name, target in _targets.items() if target.module == module}
    package = importlib.import_module("fuzz.targets")
    for found in pkgutil.iter_modules(package.__path__, "fuzz.targets."):
        importlib.import_module(found.name)
    return dict(_targets)


def read_seeds(text: str) -> list[bytes]:
    """Seeds as hex, separated by empty lines; white space inside of one and lines that begin with # do not count."""
    seeds = []
    for paragraph in text.split("\n\n"):
        digits = "".join(line for line in paragraph.splitlines() if not line.startswith("#"))
        if digits.strip():
            seeds.append(bytes.fromhex(digits))
    return seeds
