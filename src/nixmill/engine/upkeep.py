"""Forgets old runs and their logs, so that neither database nor disk fills up."""

from typing import Final

from nixmill.core.history import Keep, Pruned
from nixmill.doors import Archive, Logs

KEPT: Final = Keep(runs=200, days=30.0)
"""What stays without anybody choosing: the newest 200 runs, and all of the last 30 days."""

EVERY_RUNS: Final = 50
"""A run whose number is a multiple of this tidies up when it has ended."""


async def prune(archive: Archive, logs: Logs, keep: Keep = KEPT, *, dry_run: bool = False) -> Pruned:
    """Forget what `keep` does not keep; with `dry_run` only say what that is.

    Logs go first: a log without its row would stay for ever, a row without its log only says so.
    """
    doomed = await archive.prune(keep, dry_run=True)
    if dry_run:
        return doomed
    await logs.delete(doomed.attempts)
    return await archive.prune(keep)
