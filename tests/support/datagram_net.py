"""Datagram machines with real key exchanges on a fake network in virtual time, and what each of them delivered."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from securesock.engine.context import SecurityContext
from securesock.engine.half_open import HalfOpenTable
from securesock.engine.ports import Arrival
from securesock.identity.identity import Identity
from securesock.identity.names import parse_peer_target_name
from securesock.planes.userspace.datagram import UserSpaceDatagrams
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, MainModePolicy, main_mode_offers
from securesock.sockets.datagram_keying import SocketKeying
from securesock.sockets.path import UNKNOWN_PATH, Path
from securesock.testing import FakeClock, FakeNetwork, SeededEntropy
from securesock.types import Address, SecuritySettings

A: Address = ("192.0.2.1", 7001)
B: Address = ("192.0.2.2", 7002)
C: Address = ("192.0.2.3", 7003)
NAMES = {A: "host/a.example", B: "host/b.example", C: "host/c.example"}

_CLASSICAL = MainModePolicy(main_mode_offers("classical"), DEFAULT_MAIN_MODE.lifetimes)

Route = tuple[Address, Address]
"""Where a datagram goes, and where it says that it comes from."""


Adapt = Callable[[SecurityContext], SecurityContext]


class Identities:
    """One authority, made once for a module: keys cost more than anything that a test does with them."""

    def __init__(self) -> None:
        first = Identity.ephemeral(NAMES[A])
        self.by_address = {
            A: first,
            B: Identity.ephemeral(NAMES[B], authority=first.authority),
            C: Identity.ephemeral(NAMES[C], authority=first.authority),
        }


class Host:
    """One socket's machine at one address."""

    def __init__(
        self,
        net: Net,
        address: Address,
        identity: Identity,
        *,
        seed: str = "",
        settings: SecuritySettings | None = None,
        table: HalfOpenTable | None = None,
        adapt: Adapt = lambda context: context,
        path: Path = UNKNOWN_PATH,
    ) -> None:
        self.net = net
        self.address = address
        settings = settings or SecuritySettings()
        self.table = HalfOpenTable() if table is None else table
        keying = SocketKeying(
            adapt(SecurityContext(identity, main_mode=_CLASSICAL)),
            settings,
            lambda peer: self.address,
            net.clock.wall_offset_s,
            SeededEntropy(f"{address}{seed}"),
            self.table,
            path,
        )
        self.machine = UserSpaceDatagrams(keying, allow_insecure=settings.allow_insecure)
        self.arrivals: list[Arrival] = []

    @property
    def received(self) -> list[bytes]:
        return [each.data for each in self.arrivals]

    def send(self, data: bytes, to: Address) -> None:
        """As a non-blocking sendto() does: sealed at once, or kept until the negotiation is over."""
        now = self.net.clock.now()
        packet = self.machine.seal(memoryview(data), to, now)
        if packet is not None:
            where = self.machine.sealed_for
            self.flush()  # the fragments that go before
            self.net.network.send((where, self.address), bytes(packet), now)
        else:
            # who is behind a gateway is nobody's name: the gateway's own is in the peer entry
            self.machine.begin(to, parse_peer_target_name(NAMES.get(to, "nobody.example")), now)
            assert self.machine.enqueue(data, to)
        self.flush()

    def move(self, to: Address) -> None:
        """The host is at another address from now on; nobody tells its machine."""
        del self.net.hosts[self.address]
        self.address = to
        self.net.hosts[to] = self

    def receive(self, datagram: bytes, source: Address) -> None:
        arrival = self.machine.handle_untrusted(datagram, source, self.net.clock.now())
        if arrival is not None:
            self.arrivals.append(arrival)
        self.flush()

    def flush(self) -> None:
        while (out := self.machine.poll_transmit()) is not None:
            data, to = out
            self.net.network.send((to, self.address), bytes(data), self.net.clock.now())


class Net:
    """Hosts by address; ``network`` as FakeNetwork has it.  What goes to an address without a host is gone."""

    def __init__(self, identities: Identities, network: FakeNetwork[Route] | None = None) -> None:
        self.identities = identities
        self.network: FakeNetwork[Route] = network if network is not None else FakeNetwork()
        self.clock = FakeClock()
        self.hosts: dict[Address, Host] = {}
        self.translate: Callable[[Route], Route] = lambda route: route

    def host(
        self,
        address: Address,
        *,
        identity: Identity | None = None,
        seed: str = "",
        settings: SecuritySettings | None = None,
        table: HalfOpenTable | None = None,
        adapt: Adapt = lambda context: context,
        path: Path = UNKNOWN_PATH,
    ) -> Host:
        """Put a host in place, or another one in the place of the one before: it was started again."""
        identity = identity or self.identities.by_address[address]
        made = Host(self, address, identity, seed=seed, settings=settings, table=table, adapt=adapt, path=path)
        self.hosts[address] = made
        return made

    def run(self, seconds: float) -> None:
        """Let time pass: datagrams arrive, timers fire."""
        limit = self.clock.now() + seconds
        while True:
            moments: Iterable[float | None] = (
                self.network.next_arrival(),
                *(each.machine.next_deadline() for each in self.hosts.values()),
            )
            due = min((each for each in moments if each is not None), default=None)
            if due is None or due > limit:
                self.clock.advance_to(limit)
                return
            self.clock.advance_to(due)
            now = self.clock.now()
            for route, datagram in self.network.arrived(now):
                to, source = self.translate(route)
                if to in self.hosts:
                    self.hosts[to].receive(datagram, source)
            for host in tuple(self.hosts.values()):
                deadline = host.machine.next_deadline()
                if deadline is not None and deadline <= now:
                    host.machine.handle_timeout(now)
                    host.flush()
