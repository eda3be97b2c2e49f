"""What the server promises, measured at the real program: `python -m bench.server NAME`, or `all`.

    python -m bench.server [visible|known|log|idle|large|pages|killed|all] [--quick] [--large] [--database KIND]

Each promise is a table; the exit code is 1 when a budget is missed. Git, Nix and HTTP are real, the store is a scratch
one, repositories are on the same disk. Absolute times belong to the machine and to what else runs on it.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final

from bench.server_large import large
from bench.server_live import idle, log
from bench.server_pages import pages
from bench.server_push import killed, known, visible
from bench.server_world import DATABASES, Figure, Options, show

PROMISES: Final[dict[str, Callable[[Options], AsyncIterator[Figure]]]] = {
    "visible": visible,
    "known": known,
    "log": log,
    "idle": idle,
    "killed": killed,
    "large": large,
    "pages": pages,
}


async def measured(name: str, options: Options) -> bool:
    """Print the table of one promise; say whether its budgets hold."""
    print(f"{name}: {(PROMISES[name].__doc__ or '').strip()} Load {os.getloadavg()[0]:.1f}.", flush=True)
    good = True
    async for figure in PROMISES[name](options):
        show(figure)
        good = good and figure.good
    return good


async def main() -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("name", nargs="?", default="all", choices=[*PROMISES, "all"])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that all of it works")
    parser.add_argument("--large", action="store_true", help="100,000 attributes, too")
    parser.add_argument("--database", choices=DATABASES, help="for pages; default: both")
    given = parser.parse_args()
    databases = [given.database] if given.database else DATABASES
    options = Options(quick=given.quick, large=given.large, databases=databases)
    names = list(PROMISES) if given.name == "all" else [given.name]
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # so that no server stays behind
    results = [await measured(name, options) for name in names]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
