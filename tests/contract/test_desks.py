"""From the end of a run to its messages and hooks: real database, real mail server, real receivers, real commands."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from uuid import uuid4

import msgspec
import structlog
from sqlalchemy import Connection, text

from nixmill.config.server import SmtpSettings
from nixmill.core.change import Change, Origin
from nixmill.core.hook import Hook, HookRun, HookState, started_by
from nixmill.core.message import Broken, ChannelKind, Ended, Rule, When
from nixmill.core.message_text import parcels
from nixmill.core.project import Project
from nixmill.core.run_event import Verdict
from nixmill.edge.database.changes import SqlChanges
from nixmill.edge.database.database import Database
from nixmill.edge.database.outbox import SqlOutbox
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.hook_process import MARK
from nixmill.edge.hook_runner import CommandHookRunner
from nixmill.edge.notify.credentials import Credentials
from nixmill.edge.notify.email import EmailCourier
from nixmill.edge.notify.outgoing import Outgoing
from nixmill.edge.notify.webhook import WebhookCourier
from nixmill.edge.system_clock import SystemClock
from nixmill.engine.courier import CourierDesk
from nixmill.engine.hook_desk import HookDesk
from tests.support.databases import database, place, postgres
from tests.support.receiver import OK, answer, receiving
from tests.support.smtp_server import smtp_server

__all__ = ["database", "place", "postgres"]

FASTER = 50.0


class FastClock(SystemClock):
    """Seconds that pass fifty times as fast."""

    def __init__(self) -> None:
        self._start = time.time()

    def now(self) -> float:  # type: ignore[override]
        return self._start + (time.time() - self._start) * FASTER

    async def sleep(self, seconds: float) -> None:  # type: ignore[override]
        await asyncio.sleep(seconds / FASTER)


class FakeStory:
    async def told(self, number: int) -> Ended | None:
        return None

    async def attributes_for_hooks(self, number: int) -> list[tuple[str, bool, bytes]]:
        return [(name, True, f'{{"attribute":"{name}"}}'.encode()) for name in ("hello", "world")]


class World:
    """A project with a run that has ended."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = FastClock()
        self.changes = SqlChanges(database, self.clock.now)
        self.outbox = SqlOutbox(database, self.clock.now)
        self.project = 0
        self.run = 0

    async def begin(self) -> None:
        projects = SqlProjects(self.database, self.clock.now)
        project = await projects.save_project(Project(name="mill", url="https://example.org/mill.git"))
        self.project = project.id
        change = Change(project=project.id, jobset=None, ref="refs/heads/main", origin=Origin.HAND)
        (self.run,) = await self.changes.accept([change])

    def ended(self) -> Ended:
        broken = Broken(name="hello", status="build failed", cause="exit status 1", maintainers=("alice@example.org",))
        return Ended(
            run=self.run,
            project="mill",
            jobset="main",
            ref="refs/heads/main",
            commit="c0ffee",
            subject="Oil",
            author="Alice",
            verdict=Verdict.BUILD_FAILED,
            before=Verdict.GOOD,
            sentence="Failed.",
            url="",
            counts={},
            newly_failing=(broken,),
            failing=(),
            fixed=(),
            seconds=1.0,
            ended_at=1.0,
        )

    async def tell(self, *rules: Rule) -> None:
        saved = await self.outbox.save_rules(self.project, rules)
        made = parcels(self.ended(), saved, "https://ci.example.org/r/1", project=self.project, now=self.clock.now())
        await self.changes.ended(self.run, made, [])
        await self.changes.ended(self.run, made, [])

    async def states(self) -> dict[str, str]:
        def look(connection: Connection) -> dict[str, str]:
            rows = connection.execute(text("SELECT target, state, fault FROM nm_parcel"))
            return {row.target: f"{row.state}: {row.fault}".removesuffix(": ") for row in rows}

        return await self.database.read(look, action="look")

    async def hook_rows(self) -> dict[str, HookState]:
        def look(connection: Connection) -> dict[str, HookState]:
            rows = connection.execute(text("SELECT attribute, state FROM nm_hook_run"))
            return {row.attribute: HookState(row.state) for row in rows}

        return await self.database.read(look, action="look")


def _rule(name: str, channel: ChannelKind, target: str) -> Rule:
    return Rule(name=name, channel=channel, target=target, when=When.CHANGE)


async def test_messages_go_out_once_however_often_the_end_is_recorded(database: Database, tmp_path: Path) -> None:
    world = World(database)
    await world.begin()
    credentials = Credentials({})
    busy = answer("503 Busy", "Retry-After: 1")
    with smtp_server(tmp_path) as smtp:
        async with receiving(busy, OK) as good, receiving(answer("410 Gone", body=b"no more"), OK) as gone:
            await world.tell(
                _rule("a", ChannelKind.EMAIL, "maintainers"),
                _rule("b", ChannelKind.EMAIL, "later@example.org"),
                _rule("c", ChannelKind.WEBHOOK, f"{good.address}/ci"),
                _rule("d", ChannelKind.WEBHOOK, f"{gone.address}/ci"),
            )
            settings = SmtpSettings(host="127.0.0.1", port=smtp.port, security="none", sender="ci@example.org")
            desk = CourierDesk(
                world.outbox,
                {
                    ChannelKind.EMAIL: EmailCourier(settings, credentials),
                    ChannelKind.WEBHOOK: WebhookCourier(Outgoing(private_targets=True), credentials),
                },
                world.clock,
                structlog.get_logger(),
                chance=lambda: 0.0,
            )
            async with _running(desk.run()):
                await _until(lambda: (desk.delivered, desk.dead) == (3, 1))
                await _until_states(world, {f"{gone.address}/ci": "dead: "})
                states = await world.states()
                assert states.pop(f"{gone.address}/ci").startswith("dead: http://127.0.0.1")
                assert set(states.values()) <= {"sent", "sent: "}
                await _send_dead_letters_again(world)
                desk.wake()
                await _until(lambda: desk.delivered == 4)
        assert sorted(message["to"][0] for message in smtp.messages()) == ["alice@example.org", "later@example.org"]
    assert len(good.requests) == 2
    assert len({request.headers["x-nixmill-delivery"] for request in good.requests}) == 1
    assert len(gone.requests) == 2


async def _until_states(world: World, wanted: dict[str, str]) -> None:
    deadline = time.monotonic() + 10
    while True:
        states = await world.states()
        if all(states[target].startswith(state) for target, state in wanted.items()):
            return
        assert time.monotonic() < deadline, states


async def _send_dead_letters_again(world: World) -> None:
    def look(connection: Connection) -> list[int]:
        return list(connection.execute(text("SELECT id FROM nm_parcel WHERE state = 'dead'")).scalars())

    for number in await world.database.read(look, action="look"):
        assert await world.outbox.replay(number)


async def test_hooks_run_once_and_what_a_killed_server_left_is_lost(database: Database, tmp_path: Path) -> None:
    world = World(database)
    await world.begin()
    hook = Hook(name="tell", command=("sh", "-c", 'cat "$NIXMILL_JSON"'))
    hooks = started_by(
        [hook],
        [("hello", True), ("world", True), ("gone", True)],
        run=world.run,
        project=world.project,
        names=("mill", "main"),
        new_id=lambda: str(uuid4()),
        now=world.clock.now(),
    )
    await world.changes.ended(world.run, [], hooks)
    await world.changes.ended(world.run, [], [msgspec.structs.replace(each, id=str(uuid4())) for each in hooks])
    interrupted = hooks[1]
    await world.outbox.hook_runs(save=msgspec.structs.replace(interrupted, state=HookState.RUNNING, started_at=1.0))
    runner = CommandHookRunner(tmp_path / "hooks", world.clock, structlog.get_logger())
    (tmp_path / "hooks" / "scratch" / interrupted.id).mkdir(parents=True)
    environment = {"PATH": os.environ["PATH"], MARK: interrupted.id}
    left = await asyncio.create_subprocess_exec("sleep", "1000", env=environment, start_new_session=True)
    told: list[HookRun] = []
    desk = HookDesk(
        world.outbox, runner, FakeStory(), [hook], world.clock, structlog.get_logger(), at_once=2, told=told.append
    )
    async with _running(desk.run()):
        await _until(lambda: desk.ended == 3)
    assert await world.hook_rows() == {
        "hello": HookState.EXITED,
        "world": HookState.LOST,
        "gone": HookState.COULD_NOT_START,
    }
    try:
        assert await asyncio.wait_for(left.wait(), 10) == -signal.SIGKILL
    finally:
        with contextlib.suppress(ProcessLookupError):
            left.kill()
    assert await runner.read_log(hooks[0].id) == b'{"attribute":"hello"}'
    assert await runner.read_log(interrupted.id) == b""


@contextlib.asynccontextmanager
async def _running(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)
