"""How much the soak tests do: all of it under ``make soak``, a tenth inside ``make test``."""

from __future__ import annotations

import os

FULL = os.environ.get("SECURESOCK_SOAK") == "full"
CONNECTIONS = 10_000 if FULL else 1_000
CHILD_REKEY_BYTES = (64 << 20) if FULL else (64 << 20) // 10
IKE_REKEY_BYTES = 4 * CHILD_REKEY_BYTES
TRANSFER_BYTES = 16 * CHILD_REKEY_BYTES  # 1 GiB
