"""Seeded runs of the simulator: `make simulate N=10000`, `make simulate SEED=17` (the same run again, step by step).

python tests/simulation/simulate.py [-n N] [--first SEED] [--seed SEED] [-j PROCESSES]
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
import traceback

from operations import OPERATIONS, start
from world import World

from native.sim import SECOND

NAMES = list(OPERATIONS)
WEIGHTS = [weight for weight, _ in OPERATIONS.values()]


def run(seed: int, *, verbose: bool = False) -> int:
    """One seed: random operations, then all must be well again. The hash of what was sent; raises when a rule is broken."""
    rng = random.Random(f"operations {seed}")
    world = World(seed)
    try:
        start(world, rng)
        world.connect()
        for name in rng.choices(NAMES, WEIGHTS, k=rng.randrange(10, 50)):
            if verbose:
                print(f"{world.sim.now / SECOND:9.4f} s  {name}", flush=True)
            OPERATIONS[name][1](world, rng)
            world.check()
        world.settle()
        world.finish()
        if verbose:
            print(world.summary())
        return world.sim.trace
    finally:
        world.close()


def attempt(seed: int) -> tuple[int, str]:
    try:
        run(seed)
    except Exception:
        return seed, traceback.format_exc()
    return seed, ""


def many(first: int, count: int, processes: int) -> dict[int, str]:
    """Seeds that failed, with why."""
    failed = {}
    with multiprocessing.Pool(processes) as pool:
        for seed, why in pool.imap_unordered(attempt, range(first, first + count), chunksize=8):
            if why:
                failed[seed] = why
    return dict(sorted(failed.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=1000, help="how many seeds")
    parser.add_argument("--first", type=int, default=None, help="the first of them (default: by the clock)")
    parser.add_argument("--seed", type=int, default=None, help="run this seed alone and tell each operation")
    parser.add_argument("-j", type=int, default=2, help="processes")
    options = parser.parse_args()
    if options.seed is not None:
        trace = run(options.seed, verbose=True)
        print(f"seed {options.seed}: well, trace {trace:016x}")
        return 0
    first = int(time.time()) * 1000 if options.first is None else options.first
    failed = many(first, options.n, options.j)
    for seed, why in failed.items():
        print(f"seed {seed} failed: {why.strip().splitlines()[-1]}")
    if failed:
        seed, why = next(iter(failed.items()))
        print(f"\n{why}\n{len(failed)} of {options.n} seeds failed; the first again: make simulate SEED={seed}")
        return 1
    print(f"{options.n} seeds from {first}: all well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
