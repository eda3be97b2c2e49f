"""A disk that is nearly full: nothing new begins, and what waits begins by itself once there is room."""

import asyncio
from pathlib import Path

from nixmill.core.fairness import Party, Ticket
from nixmill.core.machine import Machine
from nixmill.engine.gate import Gate
from nixmill.engine.room import MIB, Room
from nixmill.nix.store_path import StorePath
from tests.support.world import LoopClock


async def test_builds_wait_for_room_and_say_so() -> None:
    clock, free = LoopClock(), {Path("/store"): 10, Path("/state"): 1000}
    gate = Gate(clock)
    gate.set_places([Machine(address="local", systems=("x86_64-linux",), max_jobs=4)])
    room = Room(gate, clock, list(free), lambda place: (0, free[place] * MIB), free_mib=512)
    room.look()
    assert "only 10 MiB are free where /store is" in room.lacking
    ticket = Ticket(
        party=Party(), drv_path=StorePath("/nix/store/x.drv"), name="x", machine="local", since=0.0, about_s=None
    )
    entered = asyncio.Event()

    async def build() -> None:
        async with gate.place(ticket):
            entered.set()

    building = asyncio.create_task(build())
    await asyncio.sleep(0)
    assert not entered.is_set()
    assert gate.reason(ticket) == room.lacking
    room.look()
    assert not entered.is_set()

    free[Path("/store")] = 600
    room.look()

    await building
    assert entered.is_set()
    assert room.lacking == ""
