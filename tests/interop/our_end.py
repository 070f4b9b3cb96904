"""Our end of an IKEv2 conversation with a stranger, on UDP 4500 in the namespace that this process was started in.

Reads one JSON object (what to play) from standard input, writes events ("ready", "established", "rekeyed ike",
"rekeyed child") and then one object with the outcome.  The machine is the product's; this only carries its datagrams,
behind the non-ESP marker (RFC 3948 2.2).

``rekeys`` of the script are done in turn once all is up, each "ours ike", "ours child", "theirs ike" or "theirs child".
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
from securesock.keying.contract import Action, FlowFailed, FlowReady, KeyingConfig, Rekeyed, Role, SendDatagram, Trace
from securesock.keying.ikev2.session import IkeSession
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE, IkeOffer, main_mode_offers
from securesock.wire.numbers import PayloadType
from securesock.wire.udp_encapsulation import NON_ESP_MARKER

SECONDS = 20.0
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
    outcome: dict[str, Any] = {
        "traces": [],
        "error": None,
        "text": "",
        "established": False,
        "rekeyed": [],
        "fragments_sent": 0,
        "fragments_received": 0,
        "main_mode": "",
        "quick_mode": "",
    }
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as carrier:
        carrier.bind(config.our_address)
        carrier.settimeout(0.2)
        say("ready")
        if role is Role.INITIATOR:
            session.handle_acquire(time.monotonic())
        Conversation(session, carrier, config, list(script.get("rekeys", ())), outcome).hold()
    print(json.dumps(outcome), flush=True)


class Conversation:
    """From the first message to the last that the script asks for."""

    def __init__(
        self,
        session: IkeSession,
        carrier: socket.socket,
        config: KeyingConfig,
        rekeys: list[str],
        outcome: dict[str, Any],
    ) -> None:
        self._session = session
        self._carrier = carrier
        self._config = config
        self._rekeys = rekeys
        self._outcome = outcome
        self._over = self._leaving = False

    def hold(self) -> None:
        """Until it failed, all was done, or the time is up."""
        limit = time.monotonic() + SECONDS
        while time.monotonic() < limit and not self._over:
            while (action := self._session.poll_action()) is not None:
                self._carry_out(action)
            if self._leaving and self._session.next_deadline() is None:
                return  # the peer answered our DELETE
            try:
                datagram, _ = self._carrier.recvfrom(65535)
            except TimeoutError:
                self._session.handle_timeout(time.monotonic())
                continue
            if datagram.startswith(NON_ESP_MARKER):
                message = datagram[len(NON_ESP_MARKER) :]
                self._outcome["fragments_received"] += _is_fragment(message)
                self._session.handle_datagram(message, time.monotonic())

    def _carry_out(self, action: Action) -> None:
        match action:
            case SendDatagram(data):
                self._outcome["fragments_sent"] += _is_fragment(data)
                self._carrier.sendto(NON_ESP_MARKER + data, self._config.peer_address)
            case FlowFailed(error):
                self._outcome["error"], self._outcome["text"] = type(error).__name__, str(error)
                self._over = True
            case FlowReady(establishment):
                self._outcome["established"] = True
                self._outcome["main_mode"] = establishment.main_mode_suite.name
                self._outcome["quick_mode"] = establishment.quick_mode_suite.name
                say("established")
                self._begin_next()
            case Rekeyed(what, _):
                self._outcome["rekeyed"].append(what)
                self._rekeys.pop(0)
                say(f"rekeyed {what}")
                self._begin_next()
            case Trace(reason, _):
                self._outcome["traces"].append(reason)

    def _begin_next(self) -> None:
        match self._rekeys:
            case []:
                self._leaving = True
                self._session.delete(time.monotonic())
            case ["ours ike", *_]:
                self._session.rekey_ike(time.monotonic())
            case ["ours child", *_]:
                self._session.rekey_child(time.monotonic())


def say(event: str) -> None:
    """A line for whoever started us."""
    print(json.dumps({"event": event}), flush=True)


def _is_fragment(message: bytes) -> bool:
    return message[16] == PayloadType.SKF  # RFC 7296 3.1: the type of the first payload


if __name__ == "__main__":
    main()
