"""Locks of caches between processes: here between several holders of the same files, and a process that dies."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from nixmill.doors import DoorError
from nixmill.edge.cache_lock_files import CacheLockFiles

LIMIT_S = 30.0
HOLDER = """
import asyncio, sys
from pathlib import Path
from nixmill.edge.cache_lock_files import CacheLockFiles

async def hold():
    async with CacheLockFiles(Path(sys.argv[1]))("main", alone=True):
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""


class Holder:
    """Takes a lock, says so, and keeps it until it is let go."""

    def __init__(self, directory: Path, cache: str, *, alone: bool) -> None:
        self.holds = asyncio.Event()
        self.let_go = asyncio.Event()
        self.task = asyncio.create_task(self._hold(CacheLockFiles(directory), cache, alone=alone))

    async def _hold(self, files: CacheLockFiles, cache: str, *, alone: bool) -> None:
        async with files(cache, alone=alone):
            self.holds.set()
            await self.let_go.wait()

    async def taken(self) -> None:
        await asyncio.wait_for(self.holds.wait(), LIMIT_S)

    async def end(self) -> None:
        self.let_go.set()
        await asyncio.wait_for(self.task, LIMIT_S)


async def test_many_share_and_one_is_alone(tmp_path: Path) -> None:
    one, other = Holder(tmp_path, "main", alone=False), Holder(tmp_path, "main", alone=False)
    await one.taken()
    await other.taken()
    alone = Holder(tmp_path, "main", alone=True)
    elsewhere = Holder(tmp_path, "pulls", alone=True)
    await elsewhere.taken()
    assert not alone.holds.is_set()
    await one.end()
    await other.end()
    await alone.taken()
    late = Holder(tmp_path, "main", alone=False)
    await elsewhere.end()
    assert not late.holds.is_set()
    await alone.end()
    await late.taken()
    await late.end()


async def test_whoever_comes_later_waits_behind_one_who_wants_to_be_alone(tmp_path: Path) -> None:
    first = Holder(tmp_path, "main", alone=False)
    await first.taken()
    alone = Holder(tmp_path, "main", alone=True)
    await _waits_at_the_turn(tmp_path)
    late = Holder(tmp_path, "main", alone=False)
    await first.end()
    await alone.taken()
    assert not late.holds.is_set()
    await alone.end()
    await late.taken()
    await late.end()


async def _waits_at_the_turn(directory: Path) -> None:
    """Return once somebody holds the turn: a share is no longer to be had."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            probe = Holder(directory, "main", alone=False)
            done, _ = await asyncio.wait([asyncio.create_task(probe.holds.wait())], timeout=0.1)
            if not done:
                probe.task.cancel()
                return
            await probe.end()


async def test_a_process_that_is_killed_lets_go(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), LIMIT_S) == b"held\n"
    waiting = Holder(tmp_path, "main", alone=False)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await waiting.taken()
    await waiting.end()


async def test_whoever_gives_up_waiting_leaves_nothing_behind(tmp_path: Path) -> None:
    first = Holder(tmp_path, "main", alone=False)
    await first.taken()
    alone = Holder(tmp_path, "main", alone=True)
    await _waits_at_the_turn(tmp_path)
    alone.task.cancel()
    await asyncio.gather(alone.task, return_exceptions=True)
    late = Holder(tmp_path, "main", alone=False)
    await late.taken()
    await late.end()
    await first.end()


async def test_a_lock_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "main.lock").symlink_to("elsewhere")
    with pytest.raises(DoorError, match=r"main\.lock cannot be opened"):
        async with CacheLockFiles(tmp_path)("main", alone=True):
            pass
