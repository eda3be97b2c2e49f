"""Sends webhooks, each at its time, and tells how long each answer took. A process of its own, as a forge is.

    python -m bench.forges_sender URL   < [[seconds, headers, body], …]   > [[sent at, seconds, status], …]

The status is 0 where there was no answer. A delivery never waits for the answer to another.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping

import httpx2

START_S = 0.5
"""Until everything is ready."""


async def _send(
    client: httpx2.AsyncClient, url: str, start: float, at_s: float, headers: Mapping[str, str], body: bytes
) -> tuple[float, float, int]:
    await asyncio.sleep(start + at_s - time.perf_counter())
    sent_at, began = time.time(), time.perf_counter()
    try:
        status = (await client.post(url, content=body, headers=headers)).status_code
    except httpx2.TransportError:
        status = 0
    return sent_at, time.perf_counter() - began, status


async def main() -> None:
    """Send what standard input says."""
    deliveries = [(at_s, headers, body.encode()) for at_s, headers, body in json.load(sys.stdin)]
    async with httpx2.AsyncClient(timeout=30, limits=httpx2.Limits(max_connections=200)) as client:
        start = time.perf_counter() + START_S
        sent = await asyncio.gather(*(_send(client, sys.argv[1], start, *one) for one in deliveries))
    json.dump(sent, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
