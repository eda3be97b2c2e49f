"""Lets nothing new begin while a disk is nearly full: what waits has lost nothing, what fails for want of space has.

Builds that go on go on: stopping them would free nothing that matters. What waits says so, and begins by itself once
there is room, as after a collection of garbage.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from nixmill.doors import Clock
from nixmill.engine.gate import Gate

LOOK_S: Final = 5.0
MIB: Final = 1024 * 1024

log = structlog.get_logger("nixmill.room")


class Room:
    """Watches some places on disks."""

    def __init__(
        self,
        gate: Gate,
        clock: Clock,
        places: Sequence[Path],
        disk: Callable[[Path], tuple[int, int]],
        *,
        free_mib: int,
    ) -> None:
        """Close `gate` while one of `places` has less than `free_mib` free (`disk` returns bytes used and free)."""
        self._gate = gate
        self._clock = clock
        self._places = places
        self._disk = disk
        self._free_bytes = free_mib * MIB
        self.lacking = ""
        """Why nothing new begins; empty while there is room."""

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self.look()
            await self._clock.sleep(LOOK_S)

    def look(self) -> None:
        """Look once, and open or close."""
        before, self.lacking = self.lacking, self._lack()
        if self.lacking == before:
            return
        self._gate.close(self.lacking)
        if self.lacking:
            log.warning("nothing new begins", why=self.lacking)
        else:
            log.info("there is room on the disk again")

    def _lack(self) -> str:
        for place in self._places:
            free = self._disk(place)[1]
            if free < self._free_bytes:
                return (
                    f"only {free // MIB} MiB are free where {place} is, and {self._free_bytes // MIB} MiB have to be "
                    "(`min-free-mib`): collect garbage, or let less be kept"
                )
        return ""
