"""A keying session without any keying: both ends know the keys, so that a plane can be tested and measured alone.

Its messages are words.  It behaves as IKEv2 does where the plane can see it: the order of
installing, answering, switching and deleting (RFC 7296 2.8), one rekey at a time, and a
refusal where both ends start one (the initiator's goes through).
"""

from __future__ import annotations

import hashlib
from collections import deque

from securesock.crypto.kdf import DirectionKeys
from securesock.crypto.suites import (
    AES_256_GCM_16,
    HMAC_SHA2_256_128,
    PRF_HMAC_SHA2_256,
    X25519,
    EspSuite,
    IkeSuite,
)
from securesock.errors import AuthenticationFailed
from securesock.keying.contract import (
    Action,
    AddressPair,
    Establishment,
    FlowFailed,
    FlowReady,
    InstallSa,
    PeerClosed,
    Rekeyed,
    RemoveSa,
    Role,
    SendDatagram,
    StandardHost,
    Trace,
)
from securesock.sad.spec import InnerFlow, SaSpec
from securesock.types import Address, Lifetimes, Principal

AES_256_GCM = EspSuite(AES_256_GCM_16, None)
LONG = Lifetimes(seconds=1e6, max_bytes=1 << 50, max_packets=1 << 40)
FLOW = InnerFlow(6, "192.0.2.1", 40000, "192.0.2.2", 7000)
IKE_SUITE = IkeSuite(AES_256_GCM_16, None, PRF_HMAC_SHA2_256, X25519)
INTEGRITY_OF_CBC = HMAC_SHA2_256_128


class PreKeyedSession:
    """Satisfies KeyingSession.  ``refuse_rekeys``: answer every rekey of the peer with a refusal."""

    def __init__(
        self,
        role: Role,
        suite: EspSuite = AES_256_GCM,
        lifetimes: Lifetimes = LONG,
        main_mode_lifetimes: Lifetimes = LONG,
        *,
        seed: bytes = b"seed",
        refuse_rekeys: bool = False,
        refuse_peer: bool = False,
    ) -> None:
        self.role = role
        self.suite = suite
        self.lifetimes = lifetimes
        self.main_mode_lifetimes = main_mode_lifetimes
        self.seed = seed
        self.refuse_rekeys = refuse_rekeys
        self.refuse_peer = refuse_peer
        self.generation = 0
        self.established = False
        self.child_rekey_pending = False
        self.ike_rekey_pending = False
        self.peer_speaks_ike = False
        self.ike_spis: tuple[bytes, ...] = ()
        self.last_heard = 0.0
        self.unproven_refusal = None
        self.deadline: float | None = None
        self.timeouts = 0
        self._actions: deque[Action] = deque()

    # what a keying session does

    def handle_acquire(self, now: float) -> None:
        self._say("HELLO")

    def handle_timeout(self, now: float) -> None:
        self.timeouts += 1
        self.deadline = None

    def poll_action(self) -> Action | None:
        return self._actions.popleft() if self._actions else None

    def next_deadline(self) -> float | None:
        return self.deadline

    def rekey_child(self, now: float) -> None:
        if self.established and not self.child_rekey_pending:
            self.child_rekey_pending = True
            self._say(f"REKEY {self.generation + 1}")

    def reach(self, standard: StandardHost, now: float) -> None:
        raise AssertionError("a stream is one flow")

    def rekey_ike(self, now: float) -> None:
        if self.established and not self.ike_rekey_pending:
            self.ike_rekey_pending = True
            self._say("REKEY-IKE")

    def check_liveness(self, now: float) -> None:
        raise AssertionError("a stream has its carrier for that")

    def delete(self, now: float) -> None:
        self._say("GOODBYE")

    def move(self, our: Address, now: float) -> bool:
        raise AssertionError("a stream stays with its carrier")

    def handle_datagram(self, data: bytes, now: float, path: AddressPair | None = None) -> None:
        word, _, rest = data.decode().partition(" ")
        method = getattr(self, "_hear_" + word.lower().replace("-", "_"), None)
        if method is None:
            self._act(Trace("not-understood", word))
        else:
            method(rest)

    # words

    def _hear_hello(self, rest: str) -> None:
        self.peer_speaks_ike = True
        if self.refuse_peer:
            self._say("REFUSED")
            self._act(FlowFailed(AuthenticationFailed("the test refuses this peer")))
            return
        self._act(InstallSa(self.spec("inbound"), "inbound"))
        self._say("WELCOME")
        self._act(InstallSa(self.spec("outbound"), "outbound"))
        self._ready()

    def _hear_refused(self, rest: str) -> None:
        self._act(FlowFailed(AuthenticationFailed("the peer refused us")))

    def _hear_welcome(self, rest: str) -> None:
        self.peer_speaks_ike = True
        self._act(InstallSa(self.spec("inbound"), "inbound"))
        self._act(InstallSa(self.spec("outbound"), "outbound"))
        self._ready()

    def _hear_rekey(self, rest: str) -> None:
        if self.refuse_rekeys or (self.child_rekey_pending and self.role is Role.INITIATOR):
            self._say("REKEY-REFUSED")
            return
        self.child_rekey_pending = True
        self.generation = int(rest)
        self._act(InstallSa(self.spec("inbound"), "inbound"))
        self._say(f"REKEYED {self.generation}")
        self._act(InstallSa(self.spec("outbound"), "outbound"))

    def _hear_rekey_refused(self, rest: str) -> None:
        # the responder of a collision has begun to answer the initiator's rekey by now, or soon will
        if self.generation == 0 or self.refuse_rekeys or self.role is Role.INITIATOR:
            self.child_rekey_pending = False

    def _hear_rekeyed(self, rest: str) -> None:
        self.generation = int(rest)
        self._act(InstallSa(self.spec("inbound"), "inbound"))
        self._say(f"DELETE {self.generation - 1}")
        self._act(InstallSa(self.spec("outbound"), "outbound"))
        self._act(RemoveSa(self.spi("outbound", self.generation - 1), "outbound"))

    def _hear_delete(self, rest: str) -> None:
        self._act(RemoveSa(self.spi("inbound", int(rest)), "inbound"))
        self._say(f"DELETED {rest}")
        self._act(RemoveSa(self.spi("outbound", int(rest)), "outbound"))
        self._rekeyed()

    def _hear_deleted(self, rest: str) -> None:
        self._act(RemoveSa(self.spi("inbound", int(rest)), "inbound"))
        self._rekeyed()

    def _hear_rekey_ike(self, rest: str) -> None:
        self._say("REKEYED-IKE")
        self._act(Rekeyed("ike", 2))

    def _hear_rekeyed_ike(self, rest: str) -> None:
        self.ike_rekey_pending = False
        self._act(Rekeyed("ike", 2))

    def _hear_goodbye(self, rest: str) -> None:
        self._act(PeerClosed("deleted by the peer"))

    # what it says and does

    def say(self, word: str) -> None:
        """Have a message sent that the plane knows nothing about."""
        self._say(word)

    def act(self, action: Action) -> None:
        """Have the plane do this."""
        self._act(action)

    def spi(self, direction: str, generation: int) -> int:
        towards_responder = (direction == "outbound") == (self.role is Role.INITIATOR)
        return 0x1000 + 2 * generation + towards_responder

    def spec(self, direction: str, generation: int | None = None) -> SaSpec:
        generation = self.generation if generation is None else generation
        spi = self.spi(direction, generation)

        def stretch(label: str, length: int) -> bytes:
            return hashlib.shake_256(self.seed + label.encode() + spi.to_bytes(4, "big")).digest(length)

        encryption, integrity = self.suite.encryption, self.suite.integrity
        keys = DirectionKeys(
            stretch("encryption", encryption.key_length + encryption.salt_length),
            stretch("integrity", integrity.key_length if integrity is not None else 0),
        )
        return SaSpec(
            spi, self.suite, keys, self.lifetimes, 100 + generation, FLOW, we_initiated=self.role is Role.INITIATOR
        )

    def _rekeyed(self) -> None:
        self.child_rekey_pending = False
        self._act(Rekeyed("child", 100 + self.generation))

    def _ready(self) -> None:
        self.established = True
        self._act(
            FlowReady(
                Establishment(
                    our=Principal("host/us.example"),
                    peer=Principal("host/them.example"),
                    anchor="",
                    main_mode_suite=IKE_SUITE,
                    quick_mode_suite=self.suite,
                    main_mode_sa_id=1,
                    quick_mode_sa_id=100,
                    flow=FLOW,
                    translated=False,
                    main_mode_lifetimes=self.main_mode_lifetimes,
                )
            )
        )

    def _say(self, word: str) -> None:
        self._act(SendDatagram(word.encode()))

    def _act(self, action: Action) -> None:
        self._actions.append(action)
