"""From a push to what people see of it, and from a crash to where it was."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Final

from bench.server_world import Eye, Figure, Options, a_server, hint, looking, spread, started
from tests.support.program import flake, job
from tests.support.server import ServerProgram

VISIBLE_S: Final = 2.0
KNOWN_S: Final = 3.0
ATTRIBUTES: Final = 60
WAYS: Final = {"polled every second": 1, "by webhook": 0}
"""How the server learns of a push: seconds between its looks."""


async def visible(options: Options) -> AsyncIterator[Figure]:
    """Measure how long after a push its run has a page."""
    pushes = 3 if options.quick else 10
    for way, poll_s in WAYS.items():
        with a_server(poll_s, flake__nix=flake(hello=job("hello"))) as server:
            async with started(server) as eye:
                seconds = [await _seen(server, eye, number, poll_s) for number in range(2, pushes + 2)]
        for figure in spread(f"a push is visible, {way}", seconds, "s", VISIBLE_S):
            yield figure


async def _seen(server: ServerProgram, eye: Eye, number: int, poll_s: int) -> float:
    await _out_of_step(number)
    server.project.commit(flake__nix=flake(hello=job("hello", f"echo {number} > $out")))
    pushed = time.perf_counter()
    if not poll_s:
        await hint(server)
    await eye.there(number)
    seconds = time.perf_counter() - pushed
    await eye.ended(number)
    return seconds


async def known(options: Options) -> AsyncIterator[Figure]:
    """Measure how long after a push of a tree that was checked before its run has a verdict."""
    pushes = 2 if options.quick else 6
    checks = {f"job{number}": job(f"job{number}") for number in range(ATTRIBUTES)}
    before, after = flake(**checks), flake(**checks, more=job("more"))
    for way, poll_s in WAYS.items():
        with a_server(poll_s, flake__nix=before) as server:
            async with started(server) as eye:
                numbers = itertools.count(2)
                await _verdict(server, eye, next(numbers), poll_s, after)  # now both trees are known
                same = [await _verdict(server, eye, next(numbers), poll_s, after) for _ in range(pushes)]
                turns = [before, after] * pushes
                back = [await _verdict(server, eye, next(numbers), poll_s, text) for text in turns[:pushes]]
        for figure in spread(f"the same tree again, {way}", same, "s", KNOWN_S):
            yield figure
        for figure in spread(f"an earlier tree again, {way}", back, "s", KNOWN_S):
            yield figure


async def _verdict(server: ServerProgram, eye: Eye, number: int, poll_s: int, text: str) -> float:
    await _out_of_step(number)
    server.project.commit(flake__nix=text)
    pushed = time.perf_counter()
    if not poll_s:
        await hint(server)
    page = await eye.ended(number)
    assert page["run"]["verdict"] == "passed", page["run"]
    return time.perf_counter() - pushed


async def _out_of_step(number: int) -> None:
    """Wait a part of a second, another one each time, so that pushes meet the polls at all their times."""
    await asyncio.sleep(number * 0.37 % 1)


async def killed(options: Options) -> AsyncIterator[Figure]:
    """Measure how long after kill -9 and a new start the server answers, and its run goes on."""
    jobs = {f"job{number}": job(f"job{number}", "sleep 1; echo > $out") for number in range(30)}
    answers, goes_on = [], []
    with a_server(flake__nix=flake(hello=job("hello"))) as server:
        async with started(server):
            server.project.commit(flake__nix=flake(**jobs))
            await hint(server)
            for _ in range(1 if options.quick else 4):
                async with looking(server) as eye:
                    await eye.until("/r/2", lambda page: bool(page["attempts_running"]))
                    await asyncio.sleep(0.5)
                    ready, going = await _restart(server, eye)
                    answers.append(ready)
                    goes_on.append(going)
            async with looking(server) as eye:
                page = await eye.ended(2)
            assert page["run"]["verdict"] == "passed", page["run"]
    for figure in (
        *spread("answers after kill -9 and a start", answers, "s"),
        *spread("its run builds again", goes_on, "s"),
    ):
        yield figure


async def _restart(server: ServerProgram, eye: Eye) -> tuple[float, float]:
    server.kill()
    killed_at = time.time()
    began = time.perf_counter()
    server.start()
    await server.ready()
    ready = time.perf_counter() - began
    await eye.until("/r/2", lambda page: any((one["started_at"] or 0) > killed_at for one in page["attempts_running"]))
    return ready, time.perf_counter() - began
