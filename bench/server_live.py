"""A log as it grows, and a server that has nothing to do."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Final

import httpx2

from bench.server_world import Eye, Figure, Options, a_server, hint, percentile, process_of, spread, started
from tests.support.program import flake, job
from tests.support.server import ServerProgram

LINE_S: Final = 0.5
IDLE_MIB: Final = 150.0
RUNS: Final = 20
_STAMP: Final = re.compile(r"at=(\d+\.\d+)")


async def log(options: Options) -> AsyncIterator[Figure]:
    """Measure how old a line of a log is when it arrives, with one browser and with twenty."""
    lines = 30 if options.quick else 150
    script = "for _ in $(seq {}); do echo at=$(date +%s.%N); sleep 0.1; done; echo {} > $out"
    with a_server(flake__nix=flake(hello=job("hello"))) as server:
        async with started(server) as eye:
            for number, (form, followers) in enumerate((("text", 1), ("html", 1), ("html", 20)), 2):
                server.project.commit(flake__nix=flake(slow=job("slow", script.format(lines, number))))
                await hint(server)
                late = await _late(server, eye, number, form, followers)
                assert len(late) >= lines * followers * 0.9, f"only {len(late)} lines arrived"
                name = f"a line reaches {followers} browser{'s' if followers > 1 else ''} as {form}"
                yield Figure(f"{name}, median of {len(late)}", percentile(late, 0.5), "s", LINE_S)
                yield Figure(f"{name}, p95", percentile(late, 0.95), "s", LINE_S)
                yield Figure(f"{name}, largest", max(late), "s")


async def _late(server: ServerProgram, eye: Eye, number: int, form: str, followers: int) -> list[float]:
    page = await eye.until(f"/r/{number}", lambda page: bool(page["attempts_running"]))
    attempt = page["attempts_running"][0]["number"]
    headers = {"Accept": "text/event-stream"}
    async with httpx2.AsyncClient(base_url=server.url, timeout=60, headers=headers) as client:
        found = await asyncio.gather(*(_follow(client, attempt, form) for _ in range(followers)))
    await eye.ended(number)
    return [seconds for one in found for seconds in one]


async def _follow(client: httpx2.AsyncClient, attempt: int, form: str) -> list[float]:
    """Return how many seconds old each line was when it arrived; those that were there before are left out."""
    late: list[float] = []
    began = time.time()
    async with client.stream("GET", f"/log/{attempt}", params={"as": form}) as answer:
        async for line in answer.aiter_lines():
            now = time.time()
            late += [now - float(stamp) for stamp in _STAMP.findall(line) if float(stamp) > began]
    return late


async def idle(options: Options) -> AsyncIterator[Figure]:
    """Measure memory and processor time of a server that has nothing to do."""
    seconds = 5.0 if options.quick else 20.0
    with a_server(poll_s=60, flake__nix=flake(hello=job("hello"))) as server:
        server.start()
        await server.ready()
        process = process_of(server)
        yield Figure("memory after the start", process.resident, "MiB", IDLE_MIB)
        server.kill()
        async with started(server) as eye:
            process = process_of(server)
            for number in range(2, RUNS + 2):
                server.project.commit(flake__nix=flake(hello=job("hello", f"echo {number} > $out")))
                await hint(server)
                await eye.ended(number)
            before, cpu = time.perf_counter(), process.cpu_s
            await asyncio.sleep(seconds)
            share = (process.cpu_s - cpu) / (time.perf_counter() - before)
            yield Figure(f"memory after {RUNS} runs", process.resident, "MiB", IDLE_MIB)
            yield Figure("most memory in all of this", process.peak, "MiB", IDLE_MIB)
            yield Figure(f"processor, share of a core over {seconds:.0f} s", share * 100, "%")
            pages = [await _took(eye, "/") for _ in range(20)]
            for figure in spread("home page as JSON", pages, "ms"):
                yield figure


async def _took(eye: Eye, path: str) -> float:
    before = time.perf_counter()
    await eye.page(path)
    return (time.perf_counter() - before) * 1e3
