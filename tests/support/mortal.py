"""A process that can be killed at each of its doors, and a durable engine in memory that outlives it."""

import asyncio
import contextlib
import contextvars
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

T = TypeVar("T")


class KilledError(BaseException):
    """The process is gone: nothing in it may catch this and go on."""


class Life:
    """One life of the process; `tick` is called at every place where it may end."""

    def __init__(self, dies_at: int | None = None) -> None:
        """End at the tick with this number; None: live on."""
        self.dies_at = dies_at
        self.ticks = 0
        self.died = asyncio.Event()
        self.last = ""

    def tick(self, place: str) -> None:
        """Count; raise where this life ends, or has ended."""
        if self.died.is_set():
            raise KilledError
        self.ticks += 1
        if self.ticks == self.dies_at:
            self.last = place
            self.died.set()
            raise KilledError


class Mortal:
    """A door that works as long as its process lives: it may end before each call, and after its effect."""

    def __init__(self, door: object, life: Life) -> None:
        self._door = door
        self._life = life

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any method of any door
        method = getattr(self._door, name)
        if inspect.isasyncgenfunction(method):
            return lambda *arguments: self._each(name, method(*arguments))
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*arguments: object, **named: object) -> object:
            self._life.tick(f"before {name}")
            result = await method(*arguments, **named)
            self._life.tick(f"after {name}")
            return result

        return call

    async def _each(self, name: str, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        async with contextlib.aclosing(items):
            async for item in items:
                self._life.tick(f"in {name}")
                yield item


@dataclass
class _Workflow:
    id: str
    next: int = 0


_current: contextvars.ContextVar[_Workflow] = contextvars.ContextVar("workflow")


class MemoryDurable:
    """The door `Durable` in memory; what is recorded outlives the process."""

    def __init__(self, before: "MemoryDurable | None" = None, life: Life | None = None) -> None:
        """Begin, or go on where another one was killed."""
        self._life = life or Life()
        self._results: dict[str, list[str]] = before._results if before else {}
        self._open: dict[str, tuple[str, str]] = before._open if before else {}
        self._ended: set[str] = before._ended if before else set()
        self._bodies: dict[str, Callable[[str], Awaitable[None]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._launched = False
        self._crash = ""
        self.crashed = self._life.died

    def crash_at(self, name: str) -> None:
        """Be killed after the work of a step, before it is recorded."""
        self._crash = name

    def restarted(self, life: Life | None = None) -> "MemoryDurable":
        """Return what the next process finds."""
        return MemoryDurable(self, life)

    def define(self, name: str, body: Callable[[str], Awaitable[None]]) -> None:
        """See `Durable`."""
        self._bodies[name] = body

    async def start(self, name: str, key: str, *, again: bool = False) -> None:
        """See `Durable`."""
        id_ = f"{name}:{key}"
        if again and id_ in self._ended:
            self._ended.discard(id_)
            self._results.pop(id_, None)
            self._tasks.pop(id_, None)
        if id_ not in self._ended:
            self._open.setdefault(id_, (name, key))
            self._go_on()

    def begin(self, name: str, key: str) -> None:
        """Record that a workflow begins, in the transaction that says why; it goes on at the next `launch`."""
        if f"{name}:{key}" not in self._ended:
            self._open.setdefault(f"{name}:{key}", (name, key))

    async def step(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """See `Durable`."""
        workflow = _current.get()
        results = self._results.setdefault(workflow.id, [])
        number, workflow.next = workflow.next, workflow.next + 1
        if number < len(results):
            return cast("T", json.loads(results[number]))
        self._life.tick(f"before step {name}")
        result = await work()
        if name == self._crash:
            self._life.dies_at = self._life.ticks + 1
        self._life.tick(f"in step {name}")
        results.append(json.dumps(result))
        self._life.tick(f"after step {name}")
        return result

    async def forget(self, before: float) -> None:
        """See `Durable`."""
        for id_ in self._ended:
            self._results.pop(id_, None)
        self._ended.clear()

    async def launch(self) -> None:
        """See `Durable`."""
        self._launched = True
        self._go_on()

    async def close(self) -> None:
        """See `Durable`."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def idle(self) -> None:
        """Return once every workflow has ended, or the process was killed."""
        while running := [task for task in self._tasks.values() if not task.done()]:
            await asyncio.gather(*running, return_exceptions=True)
            if not self._life.died.is_set():
                self._go_on()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _go_on(self) -> None:
        for id_, (name, key) in list(self._open.items()):
            if self._launched and id_ not in self._tasks:
                self._tasks[id_] = asyncio.create_task(self._run(id_, name, key))

    async def _run(self, id_: str, name: str, key: str) -> None:
        _current.set(_Workflow(id_))
        try:
            await self._bodies[name](key)
        except Exception:  # noqa: BLE001 - it has ended all the same, as with the real one
            self._life.tick("after a workflow that failed")
        self._life.tick("after a workflow")
        self._ended.add(id_)
        self._open.pop(id_, None)
