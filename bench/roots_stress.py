"""Collects garbage without a pause while runs go through: `python -m bench.roots_stress [RUNS]`; 1 where one is harmed.

Pushes to two projects that change some attributes (one of seven has one that fails), and pull requests beside a forge,
most of which are merged. In the end every pinned path has to be valid, and nothing else may be left in the store.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.support.kept_stress import Stress, stressed
from tests.support.scratch_store import scratch_store

RUNS: Final = 220
"""Asked for: a little more than come about, as not every pull request is merged."""


async def _stressed(runs: int) -> Stress:
    with tempfile.TemporaryDirectory() as directory, scratch_store() as store:
        return await stressed(Path(directory), store, runs)


def main() -> int:
    """Print the figures; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=int, nargs="?", default=RUNS)
    made = asyncio.run(_stressed(parser.parse_args().runs))
    print(f"{made.runs} runs in {made.seconds:.0f} s, {made.collections} collections, {made.deleted} paths deleted")
    print(f"{made.crashed} collections crashed by themselves")
    for fault in made.faults:
        print(fault)
    return 1 if made.faults else 0


if __name__ == "__main__":
    sys.exit(main())
