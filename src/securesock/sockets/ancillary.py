"""The ancillary data that recvmsg() of a datagram socket brings beside the kernel's own: numbers, and nothing else."""

from __future__ import annotations

from typing import Final

__all__ = ["SCM_PRINCIPAL", "SCM_SA_ID", "SOL_SECURESOCK"]

SOL_SECURESOCK: Final = 0x53534B
"""The level of recvmsg()'s ancillary data that is ours; no kernel's level is that large."""
SCM_PRINCIPAL: Final = 1
"""Who sent the datagram: the principal's name, UTF-8.  Not there for one that came in clear."""
SCM_SA_ID: Final = 2
"""Under which SA it came: the quick mode SA id, 8 bytes in network order.  Not there for one that came in clear."""
