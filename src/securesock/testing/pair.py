"""Two keying machines, a network between them, and virtual time: everything a key exchange does, without a socket.

Each Endpoint carries out its machine's actions as a plane would (which SAs are open, which one seals) and keeps them
for the test to look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ..entropy import Entropy
from ..errors import SecureSocketError
from ..identity.identity import Identity
from ..identity.names import PeerTargetName, parse_peer_target_name
from ..keying.contract import (
    Action,
    Establishment,
    FlowFailed,
    FlowReady,
    InstallSa,
    KeyingConfig,
    PeerClosed,
    Rekeyed,
    RemoveSa,
    Role,
    SendDatagram,
    Trace,
)
from ..keying.ikev2.session import IkeSession
from ..policy.negotiation import DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE
from ..sad.spec import SaSpec
from ..types import AnyTrustedPeer
from .clock import FakeClock
from .entropy import SeededEntropy
from .network import FakeNetwork

__all__ = ["Configure", "Endpoint", "Pair"]

Configure: TypeAlias = Callable[[KeyingConfig], KeyingConfig]


@dataclass
class Endpoint:
    """One machine and what its actions led to."""

    role: Role
    session: IkeSession
    actions: list[Action] = field(default_factory=list)
    inbound: dict[int, SaSpec] = field(default_factory=dict)
    outbound: SaSpec | None = None
    establishment: Establishment | None = None
    error: SecureSocketError | None = None
    closed: str | None = None
    rekeys: Counter[str] = field(default_factory=Counter)
    traces: Counter[str] = field(default_factory=Counter)
    outbound_switches: int = 0

    def carry_out(self, action: Action) -> bytes | None:
        """Do what a plane would do; the datagram when one is to be sent."""
        self.actions.append(action)
        match action:
            case SendDatagram(data):
                return data
            case InstallSa(spec, "inbound"):
                self.inbound[spec.spi] = spec
            case InstallSa(spec, _):
                self.outbound = spec
                self.outbound_switches += 1
            case RemoveSa(spi, "inbound"):
                del self.inbound[spi]
            case RemoveSa(spi, _):
                if self.outbound is not None and self.outbound.spi == spi:
                    self.outbound = None
            case FlowReady(establishment):
                self.establishment = establishment
            case FlowFailed(error):
                self.error = error
            case PeerClosed(reason):
                self.closed = reason
            case Rekeyed(what, _):
                self.rekeys[what] += 1
            case Trace(reason, _):
                self.traces[reason] += 1
        return None


class Pair:
    """``initiator`` and ``responder`` with a network between them.

    ``initiator`` and ``responder`` change that end's KeyingConfig, so that a test says only what it is about.
    """

    def __init__(
        self,
        our: Identity,
        peer: Identity,
        *,
        expected: str | AnyTrustedPeer | None = "host/responder.example",
        network: FakeNetwork[Role] | None = None,
        clock: FakeClock | None = None,
        seed: int = 0,
        initiator: Configure | None = None,
        responder: Configure | None = None,
        entropy: tuple[Entropy, Entropy] | None = None,
    ) -> None:
        self.clock = clock if clock is not None else FakeClock()
        self.network: FakeNetwork[Role] = network if network is not None else FakeNetwork(ordered=True)
        target: PeerTargetName | AnyTrustedPeer | None = (
            parse_peer_target_name(expected) if isinstance(expected, str) else expected
        )
        base = KeyingConfig(
            role=Role.INITIATOR,
            carrier="stream" if self.network.ordered else "datagram",
            identity=our,
            main_mode=DEFAULT_MAIN_MODE,
            quick_mode=DEFAULT_QUICK_MODE,
            our_address=("192.0.2.1", 40000),
            peer_address=("192.0.2.2", 7000),
            wall_offset_s=self.clock.wall_offset_s(),
            expected_peer=target,
        )
        mirrored = replace(
            base,
            role=Role.RESPONDER,
            identity=peer,
            our_address=base.peer_address,
            peer_address=base.our_address,
            expected_peer=None,
        )
        sources = entropy if entropy is not None else (SeededEntropy(f"i{seed}"), SeededEntropy(f"r{seed}"))
        self.initiator = self._endpoint(initiator(base) if initiator else base, sources[0])
        self.responder = self._endpoint(responder(mirrored) if responder else mirrored, sources[1])

    @staticmethod
    def _endpoint(config: KeyingConfig, entropy: Entropy) -> Endpoint:
        return Endpoint(config.role, IkeSession(config, entropy))

    @property
    def endpoints(self) -> tuple[Endpoint, Endpoint]:
        """Initiator, responder."""
        return self.initiator, self.responder

    def other(self, endpoint: Endpoint) -> Endpoint:
        """The other end."""
        return self.responder if endpoint is self.initiator else self.initiator

    def collect(self) -> None:
        """Carry out all actions that wait; datagrams go on their way."""
        for endpoint in self.endpoints:
            while (action := endpoint.session.poll_action()) is not None:
                datagram = endpoint.carry_out(action)
                if datagram is not None:
                    self.network.send(self.other(endpoint).role, datagram, self.clock.now())

    def settle(self, *, timeout_s: float = 60.0, timers: bool = True) -> None:
        """Let time pass until nothing is in flight and no timer is due within ``timeout_s``; or until that time is
        over.

        Timers further away than ``timeout_s`` (lifetimes) are left alone; with ``timers=False`` all are.
        """
        limit = self.clock.now() + timeout_s
        self.collect()
        while True:
            moments = [self.network.next_arrival()]
            if timers:
                moments += [each.session.next_deadline() for each in self.endpoints]
            due = min((each for each in moments if each is not None), default=None)
            if due is None or due > limit:
                return
            self.clock.advance_to(due)
            self._step(timers)

    def _step(self, timers: bool) -> None:
        now = self.clock.now()
        for role, datagram in self.network.arrived(now):
            endpoint = self.initiator if role is Role.INITIATOR else self.responder
            endpoint.session.handle_datagram(datagram, now)
            self.collect()
        for endpoint in self.endpoints if timers else ():
            deadline = endpoint.session.next_deadline()
            if deadline is not None and deadline <= now:
                endpoint.session.handle_timeout(now)
        self.collect()

    def establish(self, *, timeout_s: float = 60.0) -> Pair:
        """Begin and settle; the pair itself, for chaining.  Look at ``error`` when a failure is expected."""
        self.initiator.session.handle_acquire(self.clock.now())
        self.settle(timeout_s=timeout_s)
        return self

    def congruent(self) -> bool:
        """Whether what each end seals with is open at the other, with the same keys (RFC 7296 2.17)."""
        for endpoint in self.endpoints:
            sealing = endpoint.outbound
            if sealing is None:
                return False
            opening = self.other(endpoint).inbound.get(sealing.spi)
            if opening is None or opening.keys != sealing.keys or opening.suite != sealing.suite:
                return False
        return True
