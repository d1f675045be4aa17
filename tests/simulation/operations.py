"""Random operations on a world: one table for the seeded runs (simulate.py) and the state machine (test_simulation_machine.py)."""

from __future__ import annotations

import random
from collections.abc import Callable

from world import DOWN, LINKS, UP, World

from native import lib
from native.sim import MS

Operation = Callable[[World, random.Random], None]


def _shape(world: World, rng: random.Random) -> None:
    world.shape(
        rng.randrange(LINKS),
        rate=rng.choice([0, 0, 2e6, 10e6, 50e6]),
        delay=rng.choice([1, 5, 20, 80]) * MS,
        jitter=rng.choice([0, 0, 2, 20]) * MS,
        loss=rng.choice([0, 0.01, 0.05, 0.2]),
        reorder=rng.choice([0, 0.05, 0.3]),
        reorder_by=rng.choice([1, 3, 30]) * MS,
        duplicate=rng.choice([0, 0, 0.1]),
        corrupt=rng.choice([0, 0, 0.05]),
        queue=rng.choice([10, 50, 200]) * MS,
    )


def _ecn(world: World, rng: random.Random) -> None:
    world.shape(
        rng.randrange(LINKS),
        ecn=rng.choice([(0, 1, 2, 3), (0, 0, 0, 0), (0, 1, 1, 3), (0, 3, 3, 3), (0, 2, 1, 3)]),
        mark=rng.choice([1 << 63, 0, 5 * MS]),
    )


def start(world: World, rng: random.Random) -> None:
    """What the network is like before anything happens: well in a third of all worlds."""
    for _ in range(LINKS):
        if rng.random() < 0.66:
            _shape(world, rng)
    if rng.random() < 0.3:
        _ecn(world, rng)


# weight, operation
OPERATIONS: dict[str, tuple[int, Operation]] = {
    "inner up": (5, lambda w, r: w.inner(UP, r.choice([1, 5, 40, 150]), r.choice([60, 400, 1280, 1280, 1300]), r.choice([1, 4]))),
    "inner down": (
        5,
        lambda w, r: w.inner(DOWN, r.choice([1, 5, 40, 150]), r.choice([60, 400, 1280, 1280, 1300]), r.choice([1, 4])),
    ),
    "traffic": (8, lambda w, r: w.traffic(r.choice([2, 5, 20]) * MS, r.choice([100, 300, 1000]) * MS, r.choice([60, 1200]))),
    "datagram": (4, lambda w, r: w.datagram(r.randrange(2), r.randrange(900))),
    "stream": (5, lambda w, r: w.stream(r.randrange(2), r.choice([1, 3, 30]))),
    "open path": (6, lambda w, r: w.open_path(r.randrange(LINKS))),
    "abandon": (3, lambda w, r: w.abandon(r.randrange(2), r.randrange(8), r.choice([0, 0x3E, 0x3E76]))),
    "status": (3, lambda w, r: w.status(r.randrange(2), r.randrange(8), r.random() < 0.5)),
    "key update": (3, lambda w, r: w.key_update(r.randrange(2))),
    "rebind": (3, lambda w, r: w.rebind(r.randrange(LINKS))),
    "cut": (2, lambda w, r: w.shape(r.randrange(LINKS), cut=True)),
    "restore": (4, lambda w, r: [w.shape(link, cut=False) for link in range(LINKS)] and None),
    "shape": (5, _shape),
    "mtu": (1, lambda w, r: w.shape(r.randrange(LINKS), mtu=r.choice([0, 0, 1500, 1400, 1359]))),
    "ecn": (1, _ecn),
    "control": (1, lambda w, r: w.control(r.randrange(2), r.randrange(lib.CC_COUNT))),
    "share": (1, lambda w, r: w.share(r.random() < 0.5)),
    "rotate": (3, lambda w, r: w.cid_rotate(r.randrange(2), r.randrange(8))),
    "restart": (1, lambda w, r: w.restart(r.choice([0, 1, 1]))),
    "close": (1, lambda w, r: w.close_connection(r.randrange(2), r.randrange(100))),
    "connect": (2, lambda w, r: w.connect()),
    "wait": (10, lambda w, r: w.wait(r.choice([1, 10, 50, 300, 1500]) * MS)),
}
