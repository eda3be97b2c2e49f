"""Pull requests of a forge in memory, carried through by a real engine over the world of `journey_world`."""

import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import msgspec

from nixmill.config.forges import ForgeSettings
from nixmill.config.server import ServerSettings
from nixmill.core.change import Change, ChangeState
from nixmill.core.forge import ForgeKind, Hint, HintKind
from nixmill.core.posting import CheckState, Posting
from nixmill.core.project import Project
from nixmill.core.trust import Permission
from nixmill.engine.commands import Commands
from nixmill.engine.forge_desk import ForgeDesk
from nixmill.engine.office_runs import RunOffice
from nixmill.engine.pulls import Pulls
from nixmill.engine.status_desk import StatusDesk
from nixmill.engine.watch import Watch
from nixmill.nix.build_result import BuildStatus
from tests.contract.forge_world import Spec
from tests.fakes.forge import FakeForge
from tests.fakes.store import Script
from tests.support.journey_world import CHANGE, JourneyWorld, Process, a_world, populate
from tests.support.mortal import KilledError
from tests.support.world import LoopClock

PATH = "octo/hello"


class MovableClock(LoopClock):
    """A clock that a test can put forward."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


@dataclass
class PullWorld:
    """A project on a forge, and one process of the server."""

    made: JourneyWorld
    forge: FakeForge
    project: Project
    process: Process
    watch: Watch
    pulls: Pulls
    desk: ForgeDesk
    office: RunOffice
    statuses: StatusDesk
    clock: "MovableClock"
    names: "itertools.count[int]" = field(default_factory=itertools.count)

    def restarted(self, dies_at: int | None = None) -> "PullWorld":
        """Start the next process; it may be killed at one of its doors."""
        return replace(_process(self.made, self.forge, dies_at), names=self.names)

    async def starts(self) -> None:
        """Do what the server does at its start, and what its loops do once; return when all has ended."""
        with contextlib.suppress(KilledError):
            await self.process.doors.past.interrupted(self.clock.now())
            await self.process.durable.launch()
            for change in await self.process.doors.changes.open_changes():
                await self.watch.supersede_earlier(change)
                if change.state is not ChangeState.HELD:
                    await self.process.durable.start(CHANGE, str(change.number), again=True)
            await self.goes_on()

    async def goes_on(self) -> None:
        """See to events, let the work end, report and post, each once."""
        await self.desk._look()
        await self.process.durable.launch()
        await self.process.durable.idle()
        for change in await self.process.doors.changes.open_changes():
            await self.process.journey.reporter.report(change.number)
        while await self.statuses._look():
            pass

    async def told(self, *hints: Hint) -> None:
        """Deliver a webhook and let the desk see to it."""
        event = self.forge.event(*self.forge.delivery(*hints))
        await self.desk.took("hub", event)
        await self.desk._look()

    async def pull_event(self, number: int) -> None:
        """Deliver that something happened to a pull request."""
        await self.told(self.forge.hint(HintKind.PULL_REQUEST, pull_request=number))

    async def commented(self, number: int, login: str, text: str) -> str:
        """Let somebody write a comment, and deliver it; return the forge's id of it."""
        comment = self.forge.write_comment(number, self.forge.users[login], text)
        await self.told(self.forge.hint(HintKind.COMMENT, pull_request=number, comment=comment))
        return comment

    async def settled(self) -> None:
        """Let everything that was begun come to its end, and post what should stand on the forge."""
        await self.process.durable.launch()
        for change in await self.made.changes.open_changes():
            if change.state is not ChangeState.HELD:
                await self.process.durable.start(CHANGE, str(change.number))
        await self.process.durable.idle()
        for change in await self.changes():
            await self.process.journey.reporter.report(change.number)
        while await self.statuses._look():
            pass

    async def changes(self) -> list[Change]:
        """Return all changes, the oldest first."""
        found: list[Change] = []
        while (change := await self.made.changes.change(len(found) + 1)) is not None:
            found.append(change)
        return found

    def later(self, seconds: float) -> None:
        """Let time go by."""
        self.clock.ahead += seconds

    def required(self, commit: str) -> Posting:
        """Return the required status of a commit as it stands on the forge now."""
        return [one for one in self.forge.postings if one.commit == commit and one.required][-1]

    def state(self, commit: str) -> CheckState:
        """Return what the required status of a commit says."""
        return self.required(commit).state

    def good(self) -> str:
        """Commit something that evaluates and builds; return the commit."""
        store = self.made.world.store
        drv = store.derivation(f"good-{next(self.names)}")
        return self.made.world.commit([self.made.world.attribute("good", drv)])

    def failing(self, count: int) -> str:
        """Commit that many attributes that fail; return the commit."""
        world = self.made.world
        named = f"failing-{next(self.names)}"
        drvs = [world.store.derivation(f"{named}-{at}") for at in range(count)]
        for drv in drvs:
            world.builder.script(drv, Script(status=BuildStatus.PERMANENT_FAILURE, message="no"))
        return world.commit([world.attribute(f"failing{at}", drv) for at, drv in enumerate(drvs)])

    def bad(self) -> str:
        """Commit two good attributes and one that fails; return the commit."""
        return populate(self.made)

    def open(self, login: str, head: str, **spec: Any) -> int:  # noqa: ANN401 - of a pull request
        """Open a pull request; return its number."""
        return self.forge.open(Spec(author=self.forge.users[login], **spec), head=head)


@contextlib.asynccontextmanager
async def a_pull_world(template: Path) -> AsyncIterator[PullWorld]:
    """Give a world with a forge `hub`, a maintainer `mia` and strangers `sam` and `eve`; main holds something good."""
    async with a_world(template, MovableClock()) as made:
        forge = FakeForge(PATH, name="hub")
        made.forges = {"hub": forge}
        settings = ForgeSettings(name="hub", kind=ForgeKind.GITEA, url="https://forge.example", token="t")  # noqa: S106
        made.settings = ServerSettings(state=Path("/nowhere"), url="https://ci.example", forges=(settings,))
        facts = forge.repos[PATH].facts
        kept = {"forge": "hub", "repository": PATH, "repository_id": facts.id}
        made.project = await made.projects.save_project(msgspec.structs.replace(made.project, **kept))
        yield _world(made, forge)


def _process(made: JourneyWorld, forge: FakeForge, dies_at: int | None = None) -> PullWorld:
    process = made.process(dies_at)
    doors, journey = process.doors, process.journey
    watch = made.watch(process)
    pulls = Pulls(doors, watch.accepted, journey.cancel)
    office = RunOffice(doors, watch, journey)
    desk = ForgeDesk(doors, watch, pulls, Commands(doors, pulls, office))
    statuses = StatusDesk(doors, lambda: 0.0)
    clock = cast("MovableClock", made.clock)
    return PullWorld(made, forge, made.project, process, watch, pulls, desk, office, statuses, clock)


def _world(made: JourneyWorld, forge: FakeForge) -> PullWorld:
    made_world = _process(made, forge)
    for login, permission in (("mia", Permission.WRITE), ("sam", Permission.READ), ("eve", Permission.NONE)):
        forge.users.pop(login, None)
        person = forge.user(login)
        forge.repos[PATH].permissions[person.id] = permission
    made.remote.refs["refs/heads/main"] = made_world.good()
    return made_world
