"""The process that is killed: replaces the stored policy by that of the next generation, for ever.

Arguments: the store's path, and a seed.  Each generation is a provider, a sublayer and as many filters as the number of
the generation says, all bearing it; one transaction takes the last one away and adds the next.  After each commit the
generation is printed; first, once the store is open, the process's number.
"""

from __future__ import annotations

import os
import random
import sys

from securesock.policy import Field, Filter, FilterEngine, Layer, Provider, Sublayer, match

PERSISTENT = 1
NAME = "generation"


def filters_of(generation: int) -> int:
    """How many filters a generation has: few and many in turn, so that commits are short and long."""
    return 1 + generation * 7919 % 60


def replace_generation(engine: FilterEngine, generation: int, order: random.Random) -> None:
    """Commit the next generation."""
    tag = str(generation).encode()
    with engine.transaction():
        old = engine.filters.enumerate()
        order.shuffle(old)
        for each in old:
            engine.filters.delete(each)
        for lane in engine.sublayers.enumerate():
            if lane.name == NAME:
                engine.sublayers.delete(lane)
        for owner in engine.providers.enumerate():
            if owner.name == NAME:
                engine.providers.delete(owner)
        owner = engine.providers.add(Provider(NAME, flags=PERSISTENT, provider_data=tag))
        lane = engine.sublayers.add(Sublayer(NAME, flags=PERSISTENT, provider=owner.key, provider_data=tag))
        for number in range(filters_of(generation)):
            engine.filters.add(
                Filter(
                    NAME,
                    layer=Layer.ALE_AUTH_CONNECT_V4,
                    flags=PERSISTENT,
                    provider=owner.key,
                    sublayer=lane.key,
                    provider_data=tag,
                    conditions=(match(Field.IP_REMOTE_PORT, number + 1),),
                )
            )


def main() -> None:
    """Go on from what the store holds until somebody ends this process."""
    path, seed = sys.argv[1:]
    order = random.Random(int(seed))
    engine = FilterEngine.open(path)
    generations = [int(each.provider_data) for each in engine.providers.enumerate() if each.name == NAME]
    generation = max(generations, default=0)
    print("open", os.getpid(), flush=True)
    while True:
        generation += 1
        replace_generation(engine, generation, order)
        print(generation, flush=True)
