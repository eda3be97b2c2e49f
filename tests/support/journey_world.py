"""The way of a change over a world in memory, with a process that can be killed anywhere and started again.

Databases are real ones of SQLite; store, builder, source and evaluator are fakes. Everything that has an effect goes
through a door, and the doors of a life that has ended do nothing more: that is what `kill -9` does.
"""

import asyncio
import contextlib
import contextvars
import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from nixmill.config.server import ServerSettings
from nixmill.core.change import Change, Origin
from nixmill.core.message import ChannelKind, Rule, When
from nixmill.core.project import Jobset, Project, Ref
from nixmill.core.source import Tree, TreeRequest
from nixmill.doors import BuildLimits, BuildObserver, DoorError
from nixmill.edge.database.changes import SqlChanges
from nixmill.edge.database.database import Database
from nixmill.edge.database.failures import SqlFailures
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.members import SqlMembers
from nixmill.edge.database.outbox import SqlOutbox
from nixmill.edge.database.past import SqlPast
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.database.refs import SqlRefs
from nixmill.edge.database.story import SqlStory
from nixmill.engine.journey import Journey
from nixmill.engine.live import Live
from nixmill.engine.request import RunDoors
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.watch import Watch
from nixmill.engine.works import Works
from nixmill.nix.build_result import BuildResult
from nixmill.nix.store_path import StorePath
from tests.fakes.store import FakeBuilder, FakeStore
from tests.support.world import LoopClock, World

T = TypeVar("T")
CHANGE = "change"


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

    async def start(self, name: str, key: str) -> None:
        """See `Durable`."""
        id_ = f"{name}:{key}"
        if id_ not in self._ended:
            self._open.setdefault(id_, (name, key))
            self._go_on()

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
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _go_on(self) -> None:
        for id_, (name, key) in self._open.items():
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


class MemoryRemote:
    """The door `Remote` over a source in memory; `troubles` are raised one by one by whatever is asked next."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.refs: dict[str, str] = {}
        self.troubles: list[Exception] = []
        self.looks = 0

    async def look(self, project: Project) -> tuple[Sequence[Ref], str]:
        self.looks += 1
        self._trouble()
        return [Ref(name=name, commit=commit) for name, commit in self.refs.items()], "main"

    async def fetch(self, project: Project, ref: str, commit: str) -> str:
        self._trouble()
        return commit or self.refs[ref]

    async def tree(self, project: Project, commit: str) -> tuple[Tree, str, str]:
        tree = await self._world.source.tree(TreeRequest(directory=self.mirror(project.id), revision=commit))
        return tree, "a subject", "somebody"

    async def forget(self, project: int) -> None:
        pass

    def mirror(self, project: int) -> str:
        return self._world.source.directory

    def _trouble(self) -> None:
        if self.troubles:
            raise self.troubles.pop(0)


class WatchfulBuilder(FakeBuilder):
    """A builder that notes what it is asked to build although it is there already."""

    def __init__(self, home: FakeStore) -> None:
        super().__init__(home)
        self.repeated: list[StorePath] = []

    async def build(self, drv_path: StorePath, limits: BuildLimits, observer: BuildObserver) -> BuildResult:
        if set(self.home.outputs(drv_path).values()) <= self.home.contents.keys():
            self.repeated.append(drv_path)
        return await super().build(drv_path, limits, observer)


@dataclass
class Process:
    """One life of the server, as far as changes go."""

    life: Life
    doors: ServerDoors
    durable: MemoryDurable
    journey: Journey

    async def goes_on(self) -> None:
        """Do what a server does when it starts; return when all is done, or it was killed."""
        with contextlib.suppress(KilledError):
            await self.doors.past.interrupted(self.doors.clock.now())
            await self.durable.launch()
            for change in await self.doors.changes.open_changes():
                await self.durable.start(CHANGE, str(change.number))
            await self.durable.idle()


@dataclass
class JourneyWorld:
    """What outlives processes: the database, the store, the remote, what the durable engine recorded."""

    database: Database
    world: World = field(default_factory=World)
    durable: MemoryDurable = field(default_factory=MemoryDurable)
    project: Project = field(default_factory=lambda: Project(name="mill", url="https://example.org/mill.git"))
    clock: LoopClock = field(default_factory=LoopClock)

    def __post_init__(self) -> None:
        self.builder = self.world.builder = WatchfulBuilder(self.world.store)
        self.remote = MemoryRemote(self.world)
        self.projects = SqlProjects(self.database, self.clock.now)
        self.changes = SqlChanges(self.database, self.clock.now)
        self.refs = SqlRefs(self.database, self.clock.now)
        self.outbox = SqlOutbox(self.database, self.clock.now)

    async def prepare(self, *jobsets: Jobset) -> None:
        """Make the project, with a rule that tells somebody of every run."""
        self.project = await self.projects.save_project(self.project)
        await self.projects.save_jobsets(self.project.id, jobsets or [Jobset(name="main")])
        rule = Rule(name="all", channel=ChannelKind.EMAIL, target="a@example.org", when=When.ALWAYS)
        await self.outbox.save_rules(self.project.id, [rule])

    async def accept(self, commit: str, **fields: Any) -> int:  # noqa: ANN401 - of a change
        """Record a change of the project; return its number."""
        self.remote.refs["refs/heads/main"] = commit
        jobset = (await self.projects.jobsets(self.project.id))[0].id
        change = {"jobset": jobset, "ref": "refs/heads/main", "origin": Origin.PUSH, **fields}
        return (await self.changes.accept([Change(project=self.project.id, commit=commit, **change)]))[0]

    def process(self, dies_at: int | None = None) -> Process:
        """Start the next process."""
        life = Life(dies_at)
        durable = self.durable = self.durable.restarted(life)
        doors = self._doors(life, durable)
        journey = Journey(doors, Works(), cores=2)
        durable.define(CHANGE, journey.travel)
        return Process(life, doors, durable, journey)

    def watch(self, process: Process) -> Watch:
        """Return a watch of that process."""
        return Watch(process.doors, process.journey.supersede)

    async def parcels(self) -> list[str]:
        """Return the keys of all messages that were put into the outbox."""
        return [parcel.key for parcel in await self.outbox.due(self.clock.now() + 1e6, 1000)]

    def _doors(self, life: Life, durable: MemoryDurable) -> ServerDoors:
        history = SqlHistory(self.database, self.clock.now)
        kept: dict[str, object] = {
            "projects": self.projects,
            "refs": self.refs,
            "changes": self.changes,
            "failures": SqlFailures(self.database),
            "members": SqlMembers(self.database),
            "outbox": self.outbox,
            "story": SqlStory(self.database),
            "past": SqlPast(self.database),
            "history": history,
            "archive": history,
            "remote": self.remote,
            "source": self.world.source,
        }
        given: dict[str, Any] = {name: Mortal(door, life) for name, door in kept.items()}
        unused = dict.fromkeys(set(ServerDoors.__slots__) - given.keys())
        others = {
            "settings": ServerSettings(state=Path("/nowhere")),
            "clock": self.clock,
            "durable": durable,
            "live": Live(),
            "open_run": lambda _: self._open_run(life, given),
            "machines": self.world.doors().machines,
        }
        return ServerDoors(**{**unused, **given, **others})

    @contextlib.asynccontextmanager
    async def _open_run(self, life: Life, given: dict[str, Any]) -> AsyncIterator[RunDoors]:
        doors = self.world.doors()
        yield RunDoors(
            clock=self.clock,
            source=given["source"],
            evaluator=cast("Any", Mortal(doors.evaluator, life)),
            store=cast("Any", Mortal(doors.store, life)),
            machines=doors.machines,
            builders={name: cast("Any", Mortal(builder, life)) for name, builder in doors.builders.items()},
            logs=doors.logs,
            history=given["history"],
            archive=given["archive"],
            failures=given["failures"],
            may_fetch=False,
        )


def away(sentence: str = "The remote does not answer.") -> DoorError:
    """Return a trouble that passes."""
    return DoorError(sentence, door="remote", action="fetch", retryable=True)


