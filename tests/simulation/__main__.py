"""Run seeds from the command line.

python -m tests.simulation --seed N [--trace]     one seed, told as it goes
python -m tests.simulation --seeds 10000          many, with a line now and then
"""

import argparse
import sys
import time
from collections import Counter

from tests.simulation.run import simulate

TELL_EVERY = 30.0


def main() -> int:
    """0 when nothing was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--trace", action="store_true", help="print what happens")
    parser.add_argument("--seeds", type=int, default=200, help="how many to run, from --first on")
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    if options.seed is not None:
        outcome = simulate(options.seed, options.trace)
        print(outcome)
        print(f"trace {outcome.digest}")
        return bool(outcome.broken)
    return _many(range(options.first, options.first + options.seeds))


def _many(seeds: range) -> int:
    started = told = time.monotonic()
    broken: list[int] = []
    counted: Counter[str] = Counter()
    for done, seed in enumerate(seeds, 1):
        outcome = simulate(seed)
        counted.update(outcome.counted)
        if outcome.broken:
            broken.append(seed)
            print(outcome, flush=True)
        if time.monotonic() > told + TELL_EVERY or done == len(seeds):
            told = time.monotonic()
            rate = (told - started) / done
            print(f"{done} of {len(seeds)} seeds, {len(broken)} broken, {rate:.2f} s each", flush=True)
    print(", ".join(f"{what} {count}" for what, count in sorted(counted.items())))
    return bool(broken)


sys.exit(main())
