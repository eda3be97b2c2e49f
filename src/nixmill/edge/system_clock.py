"""The door `Clock` over the machine's own clocks."""

import asyncio
import time


class SystemClock:
    """Real time."""

    @staticmethod
    def now() -> float:
        """See `Clock`."""
        return time.time()

    @staticmethod
    def monotonic() -> float:
        """See `Clock`."""
        return time.monotonic()

    @staticmethod
    async def sleep(seconds: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(seconds)
