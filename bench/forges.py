"""What is promised about forges, measured at the real program: `python -m bench.forges NAME`, or `all`.

    python -m bench.forges [webhooks|storm|first|sandbox|merge|all] [--quick]

Each promise is a table; the exit code is 1 when a budget is missed. Git, Nix, the evaluation sandbox and HTTP are real,
the store is a scratch one, and the forge is a Gitea of loopback. Webhooks come from a process of their own. Absolute
times belong to the machine and to what else runs on it.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final

from bench.forges_hooks import webhooks
from bench.forges_pulls import first, storm
from bench.forges_tree import merge, sandboxed
from bench.server_world import Figure, Options, show

PROMISES: Final[dict[str, Callable[[Options], AsyncIterator[Figure]]]] = {
    "webhooks": webhooks,
    "storm": storm,
    "first": first,
    "sandbox": sandboxed,
    "merge": merge,
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
    given = parser.parse_args()
    names = list(PROMISES) if given.name == "all" else [given.name]
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # so that no server stays behind
    results = [await measured(name, Options(quick=given.quick)) for name in names]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
