"""What somebody may not see is in no page at all: every method of the read doors, on both databases."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import pytest

from nixmill.core.access import Role, Scope, Sight, Viewer, Visibility, sight
from nixmill.core.account import User
from nixmill.core.hook import HookRun
from nixmill.core.run_event import Verdict
from nixmill.core.view.pages import RememberedFailure
from nixmill.core.view.parts import ProjectLink
from nixmill.edge.database.accounts import SqlAccounts
from nixmill.edge.database.database import Database
from nixmill.edge.database.failures import SqlFailures
from nixmill.edge.database.pages_admin import SqlAdminPages
from nixmill.edge.database.pages_builds import SqlBuildPages
from nixmill.edge.database.pages_evaluation import SqlRunPages
from nixmill.edge.database.pages_home import SqlProjectPages
from tests.support.databases import database, place, postgres  # noqa: F401 - fixtures
from tests.support.pages_world import NOW, World, attribute, drv

NAMES: Final = {
    Visibility.PUBLIC: "openmill",
    Visibility.INTERNAL: "staffmill",
    Visibility.PRIVATE: "hiddenmill",
}


class Made(msgspec.Struct):
    """What each project has."""

    id: int
    done: int
    going: int
    attempt: int
    drv: Any


class Scene:
    """Three projects, one of each visibility, with everything that pages show."""

    def __init__(self, database: Database) -> None:  # noqa: F811 - the fixture
        self.world = World(database)
        self.made: dict[Visibility, Made] = {}
        self.projects = SqlProjectPages(database, self.world.now)
        self.runs = SqlRunPages(database, self.world.now)
        self.builds = SqlBuildPages(database, self.world.now)
        self.admin = SqlAdminPages(database, self.world.now)

    async def fill(self) -> None:
        for visibility, name in NAMES.items():
            self.made[visibility] = await self._project(visibility, name)

    async def _project(self, visibility: Visibility, name: str) -> Made:
        world = self.world
        project = await world.project(name, visibility, f"refs/heads/{name}-branch")
        done = await world.whole(project, Verdict.BUILD_FAILED, names=[name, "shared"])
        attempt = await world.attempt(done, f"only-{name}-1")
        going = await world.start(project)
        await world.evaluate(going, [attribute(name), attribute("shared")])
        await world.attempt(going, "shared-1", None, machine="ssh://m")
        link = ProjectLink(id=project.id, name=name, title="", visibility=visibility)
        failure = RememberedFailure(
            project=link,
            drv_path=drv("shared-1"),
            run=done,
            attempt=attempt,
            machine="local",
            at=NOW,
            expires_at=NOW + 10,
            message="",
        )
        await SqlFailures(world.database).remember(project.id, [failure], [])
        hook = HookRun(
            id=f"hook-{name}",
            hook="h",
            command=("a", "b c"),
            run=done,
            project=project.id,
            attribute="x",
            created_at=NOW,
        )
        await world.changes.ended(done, [], [hook])
        return Made(project.id, done, going, attempt, drv(f"{name}-1"))

    def questions(self, seen: Sight, of: Visibility) -> Mapping[str, Callable[[], Awaitable[Any]]]:
        """Return what can be asked about one of the projects; where it may not be seen, its name is in no answer."""
        it, name, path = self.made[of], NAMES[of], attribute(NAMES[of]).path
        other = self.made[Visibility.PUBLIC]
        return {
            "home": lambda: self.projects.home(seen),
            "project": lambda: self.projects.project(seen, name),
            "branch": lambda: self.projects.branch(seen, name, "main", None, 20),
            "attribute": lambda: self.projects.attribute(seen, name, "main", path, None),
            "runs": lambda: self.projects.runs(seen, None, None, 50),
            "runs of it": lambda: self.projects.runs(seen, it.id, None, 50),
            "search its name": lambda: self.projects.search(seen, name, 50),
            "search its attribute": lambda: self.projects.search(seen, "shared", 50),
            "search its commit": lambda: self.projects.search(seen, "000000", 50),
            "search its run": lambda: self.projects.search(seen, f"#{it.done}", 50),
            "search its derivation": lambda: self.projects.search(seen, it.drv, 50),
            "evaluation": lambda: self.runs.evaluation(seen, it.done, None, "", 1, 200),
            "run": lambda: self.runs.run(seen, it.done),
            "attribute of": lambda: self.runs.attribute_of(seen, it.done, path),
            "compare": lambda: self.runs.compare(seen, other.done, it.done, 1, 200),
            "timeline": lambda: self.runs.timeline(seen, it.done),
            "failing": lambda: self.runs.failing(seen, it.done),
            "derivation": lambda: self.builds.derivation(seen, it.drv),
            "shared derivation": lambda: self.builds.derivation(seen, drv("shared-1")),
            "log": lambda: self.builds.log(seen, it.attempt),
            "running": lambda: self.builds.running(seen),
            "queued": lambda: self.builds.queued(seen),
            "hook runs": lambda: self.admin.hook_runs(seen, None, 50),
            "hook runs of it": lambda: self.admin.hook_runs(seen, it.done, 50),
        }


ONLY_ABSENT: Final = {"search its commit"}
"""Questions that need not find the project."""


def viewers(scene: Scene) -> dict[str, tuple[Sight, set[Visibility]]]:
    """Return who asks, and which projects they may see."""
    private = scene.made[Visibility.PRIVATE].id
    public = scene.made[Visibility.PUBLIC].id
    member = {private: Role.VIEWER}
    token = frozenset({Scope.READ})
    everything = set(Visibility)
    return {
        "stranger": (sight(Viewer()), {Visibility.PUBLIC}),
        "user": (sight(Viewer(user=1)), {Visibility.PUBLIC, Visibility.INTERNAL}),
        "member": (sight(Viewer(user=1, roles=member)), everything),
        "administrator": (sight(Viewer(user=1, admin=True)), everything),
        "token of a project": (
            sight(Viewer(user=1, admin=True, only_project=public, scopes=token)),
            {Visibility.PUBLIC},
        ),
        "token of a project that its owner may not see": (
            sight(Viewer(user=1, only_project=private, scopes=token)),
            set(),
        ),
        "token of a member for the project": (
            sight(Viewer(user=1, roles=member, only_project=private, scopes=token)),
            {Visibility.PRIVATE},
        ),
        "token that may not read": (sight(Viewer(user=1, admin=True, scopes=frozenset({Scope.RUN}))), set()),
    }


@pytest.fixture
async def scene(database: Database) -> Scene:  # noqa: F811 - the fixture
    made = Scene(database)
    await made.fill()
    return made


async def test_nobody_sees_what_they_may_not(scene: Scene) -> None:
    for who, (seen, allowed) in viewers(scene).items():
        for of in Visibility:
            for what, ask in scene.questions(seen, of).items():
                told = _told(await ask())
                for each, name in NAMES.items():
                    if each not in allowed:
                        assert name not in told, f"{what} of {of} tells a {who} of {each}"
                if (
                    of in allowed
                    and what not in ONLY_ABSENT
                    and not (what == "compare" and Visibility.PUBLIC not in allowed)
                ):
                    assert NAMES[of] in told, f"{what} of {of} keeps {of} from a {who}"


def _told(answer: object) -> str:
    text = msgspec.json.encode(answer).decode()
    query = getattr(answer, "query", "")
    return text.replace(msgspec.json.encode(query).decode(), "") if query else text


async def test_numbers_are_of_what_may_be_seen(scene: Scene) -> None:
    for seen, allowed in viewers(scene).values():
        found = await scene.builds.numbers(seen, None)
        assert found["projects"] == len(allowed)
        assert found["runs.building"] == len(allowed)
        assert found["runs.day.failed"] == len(allowed)
        assert found["attempts.running"] == len(allowed)
        assert found["failures.remembered"] == len(allowed)
        assert found["attempts.day.build.build failed"] == 2 * len(allowed)
        one = await scene.builds.numbers(seen, NAMES[Visibility.PRIVATE])
        assert one["projects"] == (Visibility.PRIVATE in allowed)


async def test_an_attempt_of_a_hidden_project_explains_nothing(scene: Scene) -> None:
    """The same derivation was built by all three; whoever sees one project gets that one's log only."""
    stranger = sight(Viewer())
    run = scene.made[Visibility.PUBLIC].done
    for page in (
        await scene.runs.evaluation(stranger, scene.made[Visibility.PUBLIC].going, None, "", 1, 200),
        await scene.runs.evaluation(stranger, run, None, "", 1, 200),
    ):
        assert page is not None
        for number in [row.attempt for row in page.rows] + [cause.attempt for cause in page.causes]:
            assert number is None or await scene.builds.log(stranger, number) is not None


async def test_a_project_that_is_being_deleted_is_gone_for_everybody(scene: Scene) -> None:
    for made in scene.made.values():
        await scene.world.projects.delete_project(made.id)
    everything = Sight(everything=True)
    for of in Visibility:
        for what, ask in scene.questions(everything, of).items():
            assert NAMES[of] not in _told(await ask()), what


async def test_the_rest_of_administration(scene: Scene) -> None:
    accounts = SqlAccounts(scene.world.database, scene.world.now)
    await accounts.save_user(User(name="zoe", password_hash="x", email="z@example.org"))  # noqa: S106 - opens nothing
    await accounts.save_user(User(name="Ann", admin=True))
    users = await scene.admin.users()
    assert [(user.person.name, user.sign_in, user.admin) for user in users] == [
        ("Ann", "", True),
        ("zoe", "password", False),
    ]
    assert (await scene.admin.describe()).startswith(("SQLite 3", "PostgreSQL 1"))
    rows = await scene.admin.rows()
    assert rows["attempts"] == 12
    assert rows["attributes"] == 12
    assert await scene.admin.deliveries(None, 10) == []
    assert (await scene.admin.audit(None, 10, "100%")).lines == ()
    hooks = await scene.admin.hook_runs(Sight(everything=True), None, 10)
    assert {(line.command, line.state) for line in hooks} == {("a 'b c'", "waiting")}


async def test_machines_say_what_they_did_today(scene: Scene) -> None:
    found = await scene.builds.machines(["local", "ssh://m", "ssh://idle"], NOW)
    assert (found["local"].done_today, found["local"].failed_today) == (9, 6)
    assert found["ssh://m"].done_today == 0
    assert found["ssh://idle"].busy_share == 0.0
