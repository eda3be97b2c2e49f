"""The door `Durable`: one contract for the engine that is used, on both databases, and for the one in memory."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection

from nixmill.doors.server import Durable
from nixmill.edge.database.database import open_database
from nixmill.edge.database.place import place_of
from nixmill.edge.durable import DbosDurable, durable_engine
from tests.support.databases import place, postgres
from tests.support.mortal import MemoryDurable

__all__ = ["place", "postgres"]

TRIAL = Path(__file__).parents[1] / "support" / "durable_trial.py"
Make = Callable[[], contextlib.AbstractAsyncContextManager[Durable]]


@contextlib.asynccontextmanager
async def real(where: Path | str) -> AsyncIterator[DbosDurable]:
    """Give an engine that is not launched; it is closed in the end."""
    if isinstance(where, Path):
        where.parent.mkdir(exist_ok=True)
    engine = durable_engine(place_of(where))
    durable = DbosDurable(engine, {"trip": 2})
    try:
        yield durable
    finally:
        await durable.close()
        engine.dispose()


@contextlib.asynccontextmanager
async def memory() -> AsyncIterator[MemoryDurable]:
    durable = MemoryDurable()
    yield durable
    await durable.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Durable]:
    if request.param == "memory":
        async with memory() as made:
            yield made
        return
    from tests.support.databases import a_place  # noqa: PLC0415 - beside its neighbours

    with a_place(request.param, request, tmp_path) as where:
        async with real(where) as engine:
            yield engine


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what another thread or process does
            await asyncio.sleep(0.01)


async def test_starting_twice_is_starting_once_and_a_step_is_done_once(durable: Durable) -> None:
    done: list[str] = []

    async def trip(key: str) -> None:
        async def step() -> int:
            done.append(key)
            return 7

        assert await durable.step("one", step) == 7
        done.append("end")

    durable.define("trip", trip)
    await durable.launch()
    await durable.start("trip", "1")
    await durable.start("trip", "1")
    await until(lambda: "end" in done)
    await durable.start("trip", "1")
    await durable.start("trip", "2")
    await until(lambda: done.count("end") == 2)
    assert done == ["1", "end", "2", "end"]


async def test_what_has_ended_begins_anew_where_that_is_asked_for(durable: Durable) -> None:
    done: list[str] = []

    async def trip(key: str) -> None:
        async def step() -> None:
            done.append("step")
            if done == ["step"]:
                raise ValueError(key)

        await durable.step("one", step)
        done.append("end")

    durable.define("trip", trip)
    await durable.launch()
    await durable.start("trip", "1", again=True)
    await until(lambda: done == ["step"])
    async with asyncio.timeout(20):
        while "end" not in done:  # it may take a moment until the fault is recorded
            await durable.start("trip", "1", again=True)
            await asyncio.sleep(0.1)
    assert done == ["step", "step", "end"]


async def test_a_step_that_raises_ends_the_workflow_but_no_other(durable: Durable) -> None:
    done: list[str] = []

    async def trip(key: str) -> None:
        async def step() -> None:
            if key == "bad":
                raise ValueError(key)

        try:
            await durable.step("one", step)
        except ValueError:
            done.append("raised")
            raise
        done.append(key)

    durable.define("trip", trip)
    await durable.launch()
    await durable.start("trip", "bad")
    await durable.start("trip", "good")
    await until(lambda: set(done) == {"raised", "good"})


async def test_work_of_a_transaction_that_is_rolled_back_never_starts(place: Path | str) -> None:
    done: list[str] = []

    async def trip(key: str) -> None:
        done.append(key)

    async with open_database(place) as database, real(place) as durable:
        durable.define("trip", trip)
        await durable.launch()

        def accept(connection: Connection, key: str, *, fail: bool) -> None:
            durable.enqueue(connection, "trip", key)
            if fail:
                raise ValueError(key)

        with pytest.raises(ValueError, match="lost"):
            await database.write(lambda connection: accept(connection, "lost", fail=True), action="accept")
        await database.write(lambda connection: accept(connection, "kept", fail=False), action="accept")
        await until(lambda: bool(done))
        await durable.start("trip", "last")
        await until(lambda: "last" in done)
    assert done == ["kept", "last"]


async def test_a_killed_process_goes_on_at_the_step_that_was_not_recorded(place: Path | str, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    gate = tmp_path / "gate"
    diary.touch()
    first = _trial(place, diary, gate)
    await until(lambda: "two" in diary.read_text(), 30)
    first.send_signal(signal.SIGKILL)
    first.wait()
    gate.touch()
    second = _trial(place, diary, gate)
    assert await asyncio.to_thread(second.wait, 30) == 0
    assert diary.read_text().split() == ["one", "two", "two", "end"]


def _trial(where: Path | str, diary: Path, gate: Path) -> subprocess.Popen[bytes]:
    said = json.dumps({"where": str(where), "file": isinstance(where, Path), "diary": str(diary), "gate": str(gate)})
    return subprocess.Popen([sys.executable, str(TRIAL), said], env={**os.environ, "PYTHONPATH": "src:."})


# The engine in memory alone: what the tests of the journey rely on.


async def test_in_memory_a_crash_inside_a_step_repeats_it_and_no_other() -> None:
    done: list[str] = []
    durable = MemoryDurable()
    define(durable, done)
    durable.crash_at("two")
    await durable.launch()
    await durable.start("trip", "1")
    await durable.crashed.wait()
    again = durable.restarted()
    define(again, done)
    await again.launch()
    await again.idle()
    assert done == ["one", "two", "two", "end"]


def define(durable: Durable, done: list[str]) -> None:
    async def trip(key: str) -> None:
        def noting(word: str) -> Callable[[], Awaitable[None]]:
            async def step() -> None:
                done.append(word)
                await asyncio.sleep(0)

            return step

        for word in ("one", "two"):
            await durable.step(word, noting(word))
        done.append("end")

    durable.define("trip", trip)
