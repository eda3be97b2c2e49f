"""The way of a change over a world in memory, with a process that can be killed anywhere and started again.

Databases are real ones of SQLite; store, builder, source and evaluator are fakes. Everything that has an effect goes
through a door, and the doors of a life that has ended do nothing more: that is what `kill -9` does.
"""

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from nixmill.config.server import ServerSettings
from nixmill.core.change import Change, ChangeState, Origin
from nixmill.core.errors import GoneError
from nixmill.core.history import RunRow
from nixmill.core.merged import Comparison, Merged, conflict
from nixmill.core.message import ChannelKind, Rule, When
from nixmill.core.project import Jobset, Project, Ref
from nixmill.core.roots import RootRules
from nixmill.core.run_event import Verdict
from nixmill.core.source import Tree, TreeRequest
from nixmill.doors import BuildLimits, BuildObserver, Clock, DoorError
from nixmill.edge.database.changes import SqlChanges
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.failures import SqlFailures
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.inbox import SqlInbox
from nixmill.edge.database.members import SqlMembers
from nixmill.edge.database.outbox import SqlOutbox
from nixmill.edge.database.pages_evaluation import SqlRunPages
from nixmill.edge.database.past import SqlPast
from nixmill.edge.database.pins import SqlPins
from nixmill.edge.database.place import place_of
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.database.published import SqlPublished
from nixmill.edge.database.pull_requests import SqlPullRequests
from nixmill.edge.database.refs import SqlRefs
from nixmill.edge.database.statuses import SqlStatuses
from nixmill.edge.database.story import SqlStory
from nixmill.edge.database.uploads import SqlUploads
from nixmill.engine.gate import Gate
from nixmill.engine.journey import Journey
from nixmill.engine.keeper import Keeper
from nixmill.engine.live import Live
from nixmill.engine.request import RunDoors
from nixmill.engine.room import Room
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.watch import Watch
from nixmill.engine.works import Works
from nixmill.nix.build_result import BuildResult, BuildStatus
from nixmill.nix.store_path import StorePath
from tests.fakes.forge import FakeForge
from tests.fakes.gc_roots import FakeRoots
from tests.fakes.store import FakeBuilder, FakeStore, Script
from tests.support.mortal import KilledError, Life, MemoryDurable, Mortal
from tests.support.world import LoopClock, World

T = TypeVar("T")
CHANGE = "change"
MEMORY = next((place for place in ("/dev/shm",) if Path(place).is_dir()), None)  # noqa: S108 - we make a directory there
"""Where files cost nothing."""


class MemoryRemote:
    """The doors `Remote` and `Merging` over a source in memory; what is asked next raises the first of `troubles`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.refs: dict[str, str] = {}
        self.troubles: list[Exception] = []
        self.conflicts: set[str] = set()
        """Heads that cannot be merged."""
        self.messages: dict[str, str] = {}
        self.kept_heads: tuple[str, ...] = ()
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

    async def fetch_head(self, project: Project, ref: str, commit: str) -> str:
        self._trouble()
        return commit or self.refs[ref]

    async def merge(self, project: Project, head: str, base_ref: str, base: str = "") -> Merged:
        """Merge without a trace: the head is what the merge comes to."""
        self._trouble()
        if not base and base_ref not in self.refs:
            raise GoneError(f"There is no {base_ref} any more.")
        tip = base or self.refs[base_ref]
        if head in self.conflicts:
            raise conflict(base_ref.removeprefix("refs/heads/"), tip, head, ["flake.lock"])
        return Merged(commit=head, tree_hash=f"tree {head}", base=tip, head=head)

    async def compare(self, project: Project, old: str, new: str, patch_of: Collection[str] = ()) -> Comparison:
        self._trouble()
        return Comparison(files=(), commits=1)

    async def said(self, project: Project, commit: str) -> tuple[str, str]:
        self._trouble()
        return self.messages.get(commit, "a subject"), "somebody"

    async def keep_heads(self, project: int, refs: Collection[str]) -> None:
        self.kept_heads = tuple(refs)

    async def contains(self, project: Project, ancestor: str, descendant: str) -> bool:
        return True

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
                if change.state is not ChangeState.HELD:
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
    settings: ServerSettings = field(default_factory=lambda: ServerSettings(state=Path("/nowhere")))
    forges: dict[str, FakeForge] = field(default_factory=dict)
    roots: FakeRoots = field(default_factory=FakeRoots)
    guarded: list[bool] = field(default_factory=list)
    """For each run that was opened, whether its evaluation belonged into the sandbox."""

    def __post_init__(self) -> None:
        self.builder = self.world.builder = WatchfulBuilder(self.world.store)
        self.remote = MemoryRemote(self.world)
        self.projects = SqlProjects(self.database, self.clock.now)
        self.changes = SqlChanges(self.database, self.clock.now, self._begin)
        self.refs = SqlRefs(self.database, self.clock.now, self._begin)
        self.outbox = SqlOutbox(self.database, self.clock.now)
        self.pulls = SqlPullRequests(self.database, self.clock.now, self._begin)
        self.inbox = SqlInbox(self.database, self.clock.now)
        self.statuses = SqlStatuses(self.database, self.clock.now)

    def _begin(self, _connection: object, numbers: Sequence[int]) -> None:
        """Begin the work of changes, as the durable engine does in the same transaction."""
        for number in numbers:
            self.durable.begin(CHANGE, str(number))

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

    def process(self, dies_at: int | None = None, clock: Clock | None = None) -> Process:
        """Start the next process, by this clock or the usual one."""
        life = Life(dies_at)
        durable = self.durable = self.durable.restarted(life)
        doors = replace(self._doors(life, durable), clock=clock or self.clock)
        keeper = Keeper(cast("Any", Mortal(self.roots, life)), doors.pins, doors.clock, RootRules())
        room = Room(Gate(doors.clock), doors.clock, (), lambda _: (0, 0), free_mib=0)
        journey = Journey(doors, Works(), cores=2, keeper=keeper, room=room)
        durable.define(CHANGE, journey.travel)
        return Process(life, doors, durable, journey)

    def watch(self, process: Process) -> Watch:
        """Return a watch of that process."""
        return Watch(process.doors, process.journey.supersede, process.journey.cancel, process.journey.reporter.hurry)

    async def looks_and_dies(self, tick: int) -> None:
        """Look at the remote in a process that is killed there."""
        with contextlib.suppress(KilledError):
            await self.watch(self.process(dies_at=tick)).look(self.project)

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
            "merging": self.remote,
            "pulls": self.pulls,
            "inbox": self.inbox,
            "statuses": self.statuses,
            "run_pages": SqlRunPages(self.database, self.clock.now),
            "pins": SqlPins(self.database, RootRules()),
            "uploads": SqlUploads(self.database, self.clock.now),
            "source": self.world.source,
        }
        given: dict[str, Any] = {name: Mortal(door, life) for name, door in kept.items()}
        unused = dict.fromkeys(set(ServerDoors.__slots__) - given.keys())
        others = {
            "settings": self.settings,
            "forges": {name: Mortal(forge, life) for name, forge in self.forges.items()},
            "clock": self.clock,
            "durable": durable,
            "live": Live(),
            "open_run": lambda _, guarded=False, readable=(): self._open_run(life, given, guarded=guarded),
            "logs": self.world.doors().logs,
            "machines": self.world.doors().machines,
        }
        return ServerDoors(**{**unused, **given, **others})

    @contextlib.asynccontextmanager
    async def _open_run(self, life: Life, given: dict[str, Any], *, guarded: bool) -> AsyncIterator[RunDoors]:
        self.guarded.append(guarded)
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
            published=SqlPublished(self.database),
            may_fetch=bool(self.world.store.substitutable),
        )


def away(sentence: str = "The remote does not answer.") -> DoorError:
    """Return a trouble that passes."""
    return DoorError(sentence, door="remote", action="fetch", retryable=True)


def populate(made: JourneyWorld) -> str:
    """Commit two good attributes, one of which needs the other, and one that fails; return the commit."""
    world = made.world
    low, bad = world.store.derivation("low"), world.store.derivation("bad")
    high = world.store.derivation("high", [low])
    world.builder.script(bad, Script(status=BuildStatus.PERMANENT_FAILURE, message="no"))
    return world.commit([world.attribute("low", low), world.attribute("bad", bad)], [world.attribute("high", high)])


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database to copy."""
    file = tmp_path_factory.mktemp("template") / "nixmill.sqlite"
    place_of(file).prepare()
    return file


@contextlib.asynccontextmanager
async def a_world(template: Path, clock: LoopClock | None = None) -> AsyncIterator[JourneyWorld]:
    """Give a world whose database is a copy of an empty one, in memory where that can be."""
    with tempfile.TemporaryDirectory(prefix="nm-journey-", dir=MEMORY) as directory:
        file = Path(directory) / "nixmill.sqlite"
        shutil.copy(template, file)
        async with open_database(file) as database:
            made = JourneyWorld(database, clock=clock or LoopClock())
            await made.prepare()
            yield made


async def run_row(made: JourneyWorld, number: int) -> RunRow:
    """Return what is recorded of a run."""
    found = await SqlHistory(made.database, made.clock.now).run(number)
    assert found is not None
    return found[0]


async def ticks_of_a_whole_way(template: Path) -> int:
    """Return about how many places there are at which a process may end on the way of a change."""
    async with a_world(template) as made:
        await made.accept(populate(made))
        process = made.process()
        await process.goes_on()
        return process.life.ticks


async def killed_at(template: Path, *ticks: int) -> None:
    """Kill the process there, and the next ones too; then let the last one end what there is, and look at that."""
    async with a_world(template) as made:
        number = await made.accept(populate(made))
        last = ""
        for tick in ticks:
            process = made.process(dies_at=tick)
            await process.goes_on()
            last = f"killed at {tick}, {process.life.last}"
        await made.process().goes_on()
        row = await run_row(made, number)
        assert row.verdict is Verdict.BUILD_FAILED, (last, row.sentence)
        change = await made.changes.change(number)
        assert change is not None
        assert change.state is ChangeState.DONE, last
        assert len(await made.parcels()) == 1, (last, "a message is put once")
        assert made.builder.repeated == [], (last, "what was built is not built again")
        assert len(made.world.evaluator.asked) <= 1 + len(ticks), (last, "only the one under way is done again")
