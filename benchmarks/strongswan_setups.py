"""Our side of the comparison of negotiations with strongSwan, in the namespace that it was started in.

    python -m benchmarks.strongswan_setups

Each line of input is a count; the answer is the median of so many IKE_SA with their CHILD_SA, in milliseconds: from the
first datagram's sendto, which negotiates, to its return.  Each is deleted before the next begins.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from typing import Final

import securesock as ss
from securesock.crypto import suites
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, IkeOffer, MainModePolicy

SECRET: Final = b"a secret of more than sixteen bytes"
ECHO: Final = ("10.92.0.1", 7)
SETTLE_S: Final = 0.01
"""So long after a DELETE both ends are left alone: none of it is measured."""


def context() -> ss.SecurityContext:
    """The same suites and the same secret as charon with itself."""
    offer = IkeOffer((suites.AES_256_GCM_16,), (), (suites.PRF_HMAC_SHA2_256,), (suites.X25519,))
    entry = ss.PeerEntry(("10.92.0.1/32",), gateway="10.90.0.2", inner="10.91.0.1", peer="b.test")
    return ss.SecurityContext(
        ss.Identity.from_psk(name="a.test", peers={"b.test": SECRET}),
        main_mode=MainModePolicy((offer,), DEFAULT_MAIN_MODE.lifetimes),
        peers=(entry,),
    )


def main() -> None:
    """Until standard input ends."""
    with ss.SecureSocket(socket.AF_INET, socket.SOCK_DGRAM, context=context()) as sock:
        sock.bind(("10.90.0.1", 0))
        for line in sys.stdin:
            taken = []
            for _ in range(int(line)):
                started = time.perf_counter()
                sock.sendto(b"begin", ECHO)
                taken.append(time.perf_counter() - started)
                sock.delete_peer_target_name(ECHO)
                time.sleep(SETTLE_S)
            print(statistics.median(taken) * 1e3, flush=True)


if __name__ == "__main__":
    main()
