"""Our end of an IKEv2 conversation with a stranger, on UDP 4500 in the namespace that this process was started in.

Reads one JSON object (what to play) from standard input, writes one with the outcome.  The machine is the product's;
this only
carries its datagrams, behind the non-ESP marker (RFC 3948 2.2).
"""

from __future__ import annotations

import json
import socket
import sys
import time
from dataclasses import replace
from typing import Any

from securesock.crypto import suites
from securesock.entropy import SystemEntropy
from securesock.identity.identity import Identity
from securesock.identity.names import parse_peer_target_name
from securesock.keying.contract import FlowFailed, FlowReady, KeyingConfig, Role, SendDatagram, Trace
from securesock.keying.ikev2.session import IkeSession
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE, IkeOffer, main_mode_offers
from securesock.wire.udp_encapsulation import NON_ESP_MARKER

SECONDS = 10.0
PRFS = (suites.PRF_HMAC_SHA2_256, suites.PRF_HMAC_SHA2_384, suites.PRF_HMAC_SHA2_512)
OFFERS = {
    "default": main_mode_offers("hybrid"),
    "chacha20": (IkeOffer((suites.CHACHA20_POLY1305,), (), PRFS, (suites.P_384,)),),
    "cbc": (IkeOffer((suites.AES_256_CBC,), (suites.HMAC_SHA2_256_128,), PRFS, (suites.P_256,)),),
    "modp after another group": (
        IkeOffer((suites.AES_128_CBC,), (suites.HMAC_SHA2_512_256,), PRFS, (suites.X25519, suites.MODP_2048)),
    ),
}


def identity(script: dict[str, Any]) -> Identity:
    """A pre-shared key, or a certificate from PEM texts."""
    if "secret" in script:
        return Identity.from_psk(name="a.test", peers={"b.test": script["secret"].encode()})
    return Identity.from_pem(
        certificate=script["certificate"].encode(), private_key=script["key"].encode(), trust=[script["trust"].encode()]
    )


def main() -> None:
    """Play it to its end."""
    script = json.loads(sys.stdin.readline())
    role = Role(script["role"])
    config = KeyingConfig(
        role=role,
        carrier="datagram",
        identity=identity(script),
        main_mode=replace(DEFAULT_MAIN_MODE, offers=OFFERS[script.get("offers", "default")]),
        quick_mode=DEFAULT_QUICK_MODE,
        our_address=("10.90.0.1", 4500),
        peer_address=("10.90.0.2", 4500),
        wall_offset_s=time.time() - time.monotonic(),
        expected_peer=parse_peer_target_name(script.get("peer", "b.test")) if role is Role.INITIATOR else None,
    )
    session = IkeSession(config, SystemEntropy())
    outcome: dict[str, Any] = {"traces": [], "error": None, "text": "", "established": False}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as carrier:
        carrier.bind(config.our_address)
        carrier.settimeout(0.2)
        print(json.dumps({"ready": True}), flush=True)
        if role is Role.INITIATOR:
            session.handle_acquire(time.monotonic())
        _converse(session, carrier, config, outcome)
    print(json.dumps(outcome), flush=True)


def _converse(session: IkeSession, carrier: socket.socket, config: KeyingConfig, outcome: dict[str, Any]) -> None:
    limit = time.monotonic() + SECONDS
    over = False
    while time.monotonic() < limit and not over:
        while (action := session.poll_action()) is not None:
            match action:
                case SendDatagram(data):
                    carrier.sendto(NON_ESP_MARKER + data, config.peer_address)
                case FlowFailed(error):
                    outcome["error"], outcome["text"] = type(error).__name__, str(error)
                    over = True
                case FlowReady():
                    outcome["established"] = over = True
                case Trace(reason, _):
                    outcome["traces"].append(reason)
        try:
            datagram, _ = carrier.recvfrom(65535)
        except TimeoutError:
            session.handle_timeout(time.monotonic())
            continue
        if datagram.startswith(NON_ESP_MARKER):
            session.handle_datagram(datagram[len(NON_ESP_MARKER) :], time.monotonic())


if __name__ == "__main__":
    main()
