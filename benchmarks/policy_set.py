"""The set of filters and flows that the policy engine is measured with: drawn from a seed, the same in every run.

Three sublayers at one layer.  Of the filters 60 % are one exact 5-tuple each, 25 % a network of any length from 1 to 32
bits, 10 % a range of ports, 5 % somebody's identity or a "not equal".  Of the flows half are hits: each was made from a
filter, of which it meets every condition.  The others miss: no condition of any filter holds for all of one.  Exact
filters, networks and most of the rest lie in the lower half of the addresses and the misses in the upper half; hits
there are matched by hundreds of short networks as well, which is what makes them the harder half.

``DIGEST`` is that of the set which the published figures are about; the benchmarks refuse to run with another one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import Final, NamedTuple
from uuid import UUID

from securesock.policy import ActionType, Field, Filter, Layer, MatchType, Sublayer, allow, match
from securesock.policy.access import Token
from securesock.policy.conditions import Condition
from securesock.policy.layers import FlowValue

__all__ = ["DIGEST", "LAYER", "SUBLAYERS", "Flow", "digest_of", "filters", "flows"]

LAYER: Final = Layer.ALE_AUTH_RECV_ACCEPT_V4
SEED: Final = 20260000
DIGEST: Final = "fd30cf8f7d88fd75718f8deb40482fa11f61f092ab6f9deaec5c61457aa43643"
SUBLAYERS: Final = tuple(
    Sublayer(f"lane {number}", weight=0x1000 * number, key=UUID(int=0xBE << 64 | number)) for number in (1, 2, 3)
)
# Shares in percent, up to which a draw of 0 to 99 falls.
_EXACT: Final = 60
_NETWORKS: Final = _EXACT + 25
_PORTS: Final = _NETWORKS + 10
_TCP: Final = 6
_UDP: Final = 17
_LOWER_HALF: Final = 1 << 31

Flow = dict[Field, FlowValue]


class Drawn(NamedTuple):
    """A filter and a flow that it is for."""

    filter: Filter
    hit: Flow


def drawn(count: int) -> list[Drawn]:
    """The first ``count`` of the set."""
    chance = random.Random(SEED)
    return [_draw(chance, number) for number in range(count)]


def filters(count: int) -> list[Filter]:
    """The filters alone."""
    return [each.filter for each in drawn(count)]


def flows(of: Sequence[Drawn], count: int) -> tuple[list[Flow], list[Flow]]:
    """Half as many hits of these filters as ``count``, and as many misses."""
    chance = random.Random(SEED + 1)
    hits = [of[chance.randrange(len(of))].hit for _ in range(count // 2)]
    misses = [_tuple(chance, protocol=_TCP, upper=True) for _ in range(count // 2)]
    return hits, misses


def digest_of(count: int) -> str:
    """SHA-256 over everything that decides: conditions, actions, weights, flows."""
    found = drawn(count)
    total = hashlib.sha256()
    for each in found:
        total.update(repr((each.filter.conditions, int(each.filter.action), each.filter.sublayer, each.hit)).encode())
    for flow in flows(found, count)[1]:
        total.update(repr(flow).encode())
    return total.hexdigest()


def _draw(chance: random.Random, number: int) -> Drawn:
    kind = chance.randrange(100)
    flow = _tuple(chance, protocol=chance.choice((_TCP, _UDP)), upper=False)
    if kind < _EXACT:
        conditions = [match(field, value) for field, value in flow.items() if field in _FIVE]
    elif kind < _NETWORKS:
        length = chance.randint(1, 32)
        host = flow[Field.IP_REMOTE_ADDRESS] = chance.randrange(_LOWER_HALF)
        conditions = [match(Field.IP_REMOTE_ADDRESS, str(IPv4Network((host, length), strict=False)))]
    elif kind < _PORTS:
        conditions = _port_range(chance, flow)
    else:
        conditions = _identity(chance, flow) if chance.random() < 0.5 else _not_equal(chance, flow)
    filter_ = Filter(
        f"filter {number}",
        layer=LAYER,
        sublayer=SUBLAYERS[chance.randrange(3)].key,
        action=chance.choice((ActionType.PERMIT, ActionType.BLOCK)),
        conditions=tuple(conditions),
    )
    return Drawn(filter_, flow)


_FIVE: Final = (
    Field.IP_PROTOCOL,
    Field.IP_LOCAL_ADDRESS,
    Field.IP_LOCAL_PORT,
    Field.IP_REMOTE_ADDRESS,
    Field.IP_REMOTE_PORT,
)


def _tuple(chance: random.Random, *, protocol: int, upper: bool) -> Flow:
    remote = chance.randrange(_LOWER_HALF) + (_LOWER_HALF if upper else 0)
    return {
        Field.IP_PROTOCOL: protocol,
        Field.IP_LOCAL_ADDRESS: chance.randrange(1 << 32),
        Field.IP_LOCAL_PORT: chance.randrange(1 << 16),
        Field.IP_REMOTE_ADDRESS: remote,
        Field.IP_REMOTE_PORT: chance.randrange(1 << 16),
    }


def _port_range(chance: random.Random, flow: Flow) -> list[Condition]:
    """Remote ports of UDP, from one to all of them."""
    flow[Field.IP_PROTOCOL] = _UDP
    low = chance.randrange(1 << 16)
    high = min(low + (1 << chance.randrange(17)), 0xFFFF)
    flow[Field.IP_REMOTE_PORT] = chance.randint(low, high)
    return [match(Field.IP_PROTOCOL, _UDP), match(Field.IP_REMOTE_PORT, (low, high), MatchType.RANGE)]


def _identity(chance: random.Random, flow: Flow) -> list[Condition]:
    name = f"host/n{chance.randrange(1 << 20)}.example"
    flow[Field.ALE_REMOTE_MACHINE_ID] = Token((name,))
    return [match(Field.ALE_REMOTE_MACHINE_ID, allow(name))]


def _not_equal(chance: random.Random, flow: Flow) -> list[Condition]:
    """One host, and every port of its but one."""
    port = chance.randrange(1 << 16)
    flow[Field.IP_REMOTE_PORT] = (port + 1) & 0xFFFF
    host = match(Field.IP_REMOTE_ADDRESS, flow[Field.IP_REMOTE_ADDRESS])
    return [host, match(Field.IP_REMOTE_PORT, port, MatchType.NOT_EQUAL)]
