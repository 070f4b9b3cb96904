"""What tests of securesock, and of programs that use it, stand on: fake time, seeded randomness, a lossy network,
paired machines, and authorities that vouch for whomever a test needs.

Nothing in the package imports this; import it in tests only.  The names below are public and kept.
"""

from __future__ import annotations

from ..identity.authority import Authority
from .clock import FakeClock
from .entropy import SeededEntropy
from .network import FakeNetwork
from .pair import Endpoint, Pair

__all__ = ["Authority", "Endpoint", "FakeClock", "FakeNetwork", "Pair", "SeededEntropy"]
