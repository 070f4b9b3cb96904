"""How much the soak tests do: all of it under ``make soak``, a tenth inside ``make test``."""

from __future__ import annotations

import os

FULL = os.environ.get("SECURESOCK_SOAK") == "full"
CONNECTIONS = 10_000 if FULL else 1_000
TRANSFER_BYTES = 1 << 30 if FULL else (1 << 30) // 10
CHILD_REKEY_BYTES = (64 << 20) if FULL else (64 << 20) // 10
IKE_REKEY_BYTES = (256 << 20) if FULL else (256 << 20) // 10
