"""Where randomness comes from, so that a test can replay it.

Nonces, SPIs, cookies' secrets and private keys are drawn here.  Signatures and
ML-KEM encapsulation draw inside the crypto library and cannot be replayed; every
other byte that a machine emits is a function of its inputs, ``now`` and this.
This module imports nothing of ours.
"""

from __future__ import annotations

import secrets
from typing import Protocol

__all__ = ["Entropy", "SystemEntropy"]


class Entropy(Protocol):
    """A source of uniformly random bytes."""

    def token(self, length: int) -> bytes:
        """``length`` fresh random bytes."""
        ...


class SystemEntropy:
    """The operating system's generator; safe after fork because it keeps no state."""

    def token(self, length: int) -> bytes:
        """``length`` bytes of secrets.token_bytes."""
        return secrets.token_bytes(length)
