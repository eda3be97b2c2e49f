"""A whole world in memory for the engine: source, evaluator, store, builder, history, logs and a clock that is turned.

A test writes derivations and commits, runs a flow, and looks at the events and at what was built.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from nixmill.core.evaluation import (
    Attribute,
    EvalRecord,
    EvaluationEnded,
    EvaluationFailedError,
    EvaluationRequest,
    FlakeTarget,
)
from nixmill.core.machine import LOCAL, Machine
from nixmill.core.run_event import AttributeSettled, RunEvent, Verdict
from nixmill.engine.flow import Flow
from nixmill.engine.request import RunDoors, RunRequest
from nixmill.engine.works import Works
from nixmill.nix.store_path import StorePath, derivation_name
from tests.fakes.failures import FakeFailures
from tests.fakes.history import FakeHistory
from tests.fakes.logs import FakeLogs
from tests.fakes.source import FakeSource
from tests.fakes.store import FakeBuilder, FakeStore

SYSTEM = "x86_64-linux"


class LoopClock:
    """The event loop's own time; wall-clock time starts at 1000."""

    def now(self) -> float:
        return 1000.0 + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class CommitEvaluator:
    """Yields, for each commit, the groups of records that a test wrote for it."""

    def __init__(self) -> None:
        self.groups: dict[str, list[Sequence[EvalRecord] | Exception | asyncio.Event]] = {}
        self.asked: list[str] = []

    async def identity(self) -> str:
        return "test 1"

    async def evaluate(self, request: EvaluationRequest) -> AsyncGenerator[Sequence[EvalRecord], None]:
        target = request.targets[0]
        assert isinstance(target, FlakeTarget)
        commit = target.reference.partition("rev=")[2]
        self.asked.append(commit)
        for group in self.groups[commit]:
            match group:
                case Exception():
                    raise group
                case asyncio.Event():
                    await group.wait()
                case _:
                    yield group
        yield [EvaluationEnded(seconds=0.1, first_record_s=0.0, peak_bytes=1, workers=1, evaluator="test 1")]


@dataclass
class World:
    """Everything a flow touches."""

    source: FakeSource = field(default_factory=FakeSource)
    store: FakeStore = field(default_factory=FakeStore)
    history: FakeHistory = field(default_factory=FakeHistory)
    evaluator: CommitEvaluator = field(default_factory=CommitEvaluator)
    jobs: int = 2
    events: list[RunEvent] = field(default_factory=list)
    may_fetch: bool = False
    failures: FakeFailures = field(default_factory=FakeFailures)

    def __post_init__(self) -> None:
        self.builder = FakeBuilder(self.store)

    def commit(self, *groups: Sequence[EvalRecord] | Exception | asyncio.Event) -> str:
        """Add a commit whose evaluation yields these groups."""
        commit = self.source.commit({"flake.nix": str(len(self.source.commits))})
        self.evaluator.groups[commit] = list(groups)
        return commit

    def attribute(self, name: str, drv_path: StorePath, *, timeout_s: int | None = None) -> Attribute:
        """Return the attribute `checks.NAME` of a derivation that is in the store."""
        return Attribute(
            path=("checks", name),
            name=derivation_name(drv_path),
            system=SYSTEM,
            drv_path=drv_path,
            outputs=dict(self.store.outputs(drv_path)),
            timeout_s=timeout_s,
        )

    def doors(self) -> RunDoors:
        """Return the doors of this world."""
        return RunDoors(
            clock=LoopClock(),
            source=self.source,
            evaluator=self.evaluator,
            store=self.store,
            machines=(Machine(address=LOCAL, systems=(SYSTEM,), max_jobs=self.jobs),),
            builders={LOCAL: self.builder},
            logs=FakeLogs(),
            history=self.history,
            archive=self.history,
            failures=self.failures,
            may_fetch=self.may_fetch,
        )

    def flow(self, request: RunRequest | None = None, works: Works | None = None) -> Flow:
        """Return a flow over this world; its events are added to `events`."""
        self.events = []
        return Flow(request or self.request(), self.doors(), self.events.append, works)

    def request(self, **changes: object) -> RunRequest:
        """Return the plain request, with changes."""
        return RunRequest(directory=self.source.directory, words=(), **changes)  # type: ignore[arg-type]

    async def check(self, **changes: object) -> Verdict:
        """Run a flow to its end."""
        return await self.flow(self.request(**changes)).check()

    def settled(self) -> dict[str, AttributeSettled]:
        """Return how each attribute ended, by its last name."""
        return {event.attribute.path[-1]: event for event in self.events if isinstance(event, AttributeSettled)}

    def told(self, kind: type[RunEvent]) -> list[RunEvent]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def broken(sentence: str = "The flake cannot be read.") -> EvaluationFailedError:
    """Return an evaluation that fails as a whole."""
    return EvaluationFailedError(sentence)


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else run until `condition` holds; it must within five seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for is a fact of the fakes, not an event
            await asyncio.sleep(0)
