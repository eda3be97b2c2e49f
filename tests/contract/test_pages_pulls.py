"""Pages about pull requests on both databases, and that pull requests are not taken for branches elsewhere."""

from typing import Any, Final

import pytest

from nixmill.core.access import Sight, Visibility
from nixmill.core.change import ChangeState, Progress
from nixmill.core.project import Project
from nixmill.core.pull_request import PullState
from nixmill.core.run_event import Verdict
from nixmill.core.status import Status
from nixmill.core.trust import Tier
from nixmill.edge.database.database import Database
from nixmill.edge.database.pages_builds import SqlBuildPages
from nixmill.edge.database.pages_home import SqlProjectPages
from nixmill.edge.database.pages_pulls import PULLS_MAX, WAITING_MAX, SqlPullPages
from nixmill.edge.database.pull_requests import SqlPullRequests
from tests.support.databases import database, place, postgres  # noqa: F401 - fixtures
from tests.support.forge_things import a_pull, a_pull_change, an_approval
from tests.support.pages_world import NOW, World

ALL: Final = Sight(everything=True)
STRANGER: Final = Sight()


@pytest.fixture
def world(database: Database) -> World:  # noqa: F811 - the fixture
    return World(database)


def pages(world: World) -> SqlPullPages:
    return SqlPullPages(world.database, world.now)


def known(world: World) -> SqlPullRequests:
    return SqlPullRequests(world.database, world.now)


async def seen(world: World, project: Project, number: int, *, held: bool = True, **fields: Any) -> int:  # noqa: ANN401 - of a pull request
    """See a pull request with one run; return the run's number."""
    state, tier = (ChangeState.HELD, Tier.FORK) if held else (ChangeState.WAITING, Tier.MEMBER)
    change = a_pull_change(project.id, number, commit=f"c{number}", state=state, tier=tier, requested_at=NOW - number)
    pull = a_pull(number, head_commit=f"c{number}", updated_at=float(number), **fields)
    (run,) = await known(world).saw(project.id, pull, [change])
    return run


async def test_a_list_of_pull_requests_says_how_they_stand(world: World) -> None:
    mill = await world.project("mill")
    held, going = await seen(world, mill, 7, labels=("a",)), await seen(world, mill, 8, held=False, draft=True)
    await seen(world, mill, 9, held=False, state=PullState.MERGED)
    page = await pages(world).pulls(ALL, "mill", closed=False, before=None)
    assert page is not None
    assert (page.project.name, page.closed, page.older) == ("mill", False, None)
    new, old = page.pulls
    assert (new.number, new.held, new.tier, new.draft, new.state) == (8, False, Tier.MEMBER, True, PullState.OPEN)
    assert (old.number, old.held, old.tier, old.labels, old.author) == (7, True, Tier.FORK, ("a",), "alice")
    assert [line.latest and line.latest.number for line in page.pulls] == [going, held]
    assert [line.latest and line.latest.status for line in page.pulls] == [Status.WAITING] * 2
    closed = await pages(world).pulls(ALL, "mill", closed=True, before=None)
    assert closed is not None
    assert [(line.number, line.state) for line in closed.pulls] == [(9, PullState.MERGED)]
    assert await pages(world).pulls(ALL, "other", closed=False, before=None) is None


@pytest.mark.parametrize("closed", [True, False])
async def test_a_long_list_has_pages(world: World, *, closed: bool) -> None:
    mill = await world.project("mill")
    state = PullState.CLOSED if closed else PullState.OPEN
    for number in range(1, 2 * PULLS_MAX + 1):
        await known(world).saw(mill.id, a_pull(number, state=state), [])
    found: list[int] = []
    before: int | None = None
    for wanted in (PULLS_MAX + 1, None):
        page = await pages(world).pulls(ALL, "mill", closed=closed, before=before)
        assert page is not None
        assert page.older == wanted
        found += [line.number for line in page.pulls]
        before = page.older
    assert found == list(range(2 * PULLS_MAX, 0, -1))


async def test_a_pull_request_has_its_runs_and_approvals(world: World) -> None:
    mill = await world.project("mill")
    first = await seen(world, mill, 7)
    await known(world).approve(an_approval(mill.id, commit="c7"))
    (second,) = await known(world).saw(mill.id, a_pull(head_commit="d"), [a_pull_change(mill.id, commit="d")])
    await seen(world, mill, 8)
    page = await pages(world).pull(ALL, "mill", 7)
    assert page is not None
    assert (page.pull.number, page.pull.held, page.to_approve) == (7, True, None)
    assert [(run.number, run.state, run.pull_request) for run in page.runs] == [
        (second, ChangeState.HELD, 7),
        (first, ChangeState.WAITING, 7),
    ]
    assert [approval.commit for approval in page.approvals] == ["c7"]
    assert await pages(world).pull(ALL, "mill", 9) is None
    assert await pages(world).pull(ALL, "other", 7) is None


async def test_what_waits_for_approval_is_listed_the_longest_waiting_first(world: World) -> None:
    mill, other = await world.project("mill"), await world.project("other")
    for project, number in ((mill, 7), (other, 9), (mill, 8), (other, 3)):
        await seen(world, project, number)
    await seen(world, mill, 10, held=False)
    await seen(world, mill, 11, state=PullState.CLOSED)
    page = await pages(world).waiting(ALL)
    assert [(line.project.name, line.number) for line in page.pulls] == [
        ("other", 9),
        ("mill", 8),
        ("mill", 7),
        ("other", 3),
    ]
    assert all(line.held for line in page.pulls)
    await known(world).approve(an_approval(mill.id, 8, commit="c8"))
    assert [line.number for line in (await pages(world).waiting(ALL)).pulls] == [9, 7, 3]


async def test_only_the_head_of_an_open_pull_request_waits_for_approval(world: World) -> None:
    mill = await world.project("mill")
    run = await seen(world, mill, 7)
    await known(world).saw(mill.id, a_pull(head_commit="moved"), [])
    assert (await pages(world).waiting(ALL)).pulls == ()
    page = await pages(world).pull(ALL, "mill", 7)
    assert page is not None
    assert not page.pull.held
    await seen(world, mill, 8)
    await world.changes.stop(run + 1)
    assert (await pages(world).waiting(ALL)).pulls == ()


async def test_of_a_storm_of_strangers_some_are_listed(world: World) -> None:
    mill = await world.project("mill")
    for number in range(1, WAITING_MAX + 6):
        await seen(world, mill, number)
    assert len((await pages(world).waiting(ALL)).pulls) == WAITING_MAX


async def test_what_may_not_be_seen_is_not_there(world: World) -> None:
    secret = await world.project("secret", Visibility.PRIVATE)
    await seen(world, secret, 7, title="Hidden")
    assert await pages(world).pulls(STRANGER, "secret", closed=False, before=None) is None
    assert await pages(world).pull(STRANGER, "secret", 7) is None
    assert (await pages(world).waiting(STRANGER)).pulls == ()
    member = Sight(private=frozenset({secret.id}))
    assert len((await pages(world).waiting(member)).pulls) == 1
    find = SqlProjectPages(world.database, world.now).search
    assert [found.kind for found in (await find(member, "Hidden", 9)).found] == ["pull request"]
    for query in ("Hidden", "#7"):
        assert (await find(STRANGER, query, 9)).found == ()


async def test_a_pull_request_is_found_by_its_number_and_title(world: World) -> None:
    mill = await world.project("my mill")
    await seen(world, mill, 70, title="Grind 50% finer")
    await seen(world, mill, 71, title="Grind coarser")
    find = SqlProjectPages(world.database, world.now).search
    for query in ("#70", "70", "50% F"):
        (found,) = (await find(ALL, query, 9)).found
        assert (found.kind, found.title, found.detail) == ("pull request", "#70 Grind 50% finer", "my mill")
        assert found.link == "/p/my%20mill/pull/70"
    assert [found.title for found in (await find(ALL, "grind", 9)).found] == [
        "#71 Grind coarser",
        "#70 Grind 50% finer",
    ]
    assert (await find(ALL, "grind", 1)).more


async def test_pull_requests_are_no_branches(world: World) -> None:
    """A head branch called `main` gains nothing: neither a place among branches nor a say in how the default stands."""
    mill = await world.project("mill")
    good = await world.whole(mill)
    bad = await seen(world, mill, 7, held=False, head_ref="main")
    await world.changes.progress(Progress(number=bad, verdict=Verdict.BUILD_FAILED, sentence=""))
    held = await seen(world, mill, 8)
    project_pages = SqlProjectPages(world.database, world.now)
    page = await project_pages.project(ALL, "mill")
    assert page is not None
    assert [line.ref for line in page.refs] == ["refs/heads/main"]
    assert [line.latest and line.latest.number for line in page.refs] == [good]
    assert [run.number for run in page.runs] == [held, bad, good]
    home = await project_pages.home(ALL)
    assert home.broken == ()
    (line,) = home.projects
    assert [run.number for run in line.recent] == [good]
    assert line.default is not None
    assert [run and run.number for run in (line.default.latest, line.default.failing_since)] == [good, None]
    branch = await project_pages.branch(ALL, "mill", "main", None, 9)
    assert branch is not None
    assert [run.number for run in branch.runs] == [good]
    assert [found.kind for found in (await project_pages.search(ALL, "refs/pull", 9)).found] == []


async def test_what_waits_for_approval_does_not_run(world: World) -> None:
    mill = await world.project("mill")
    held, going = await seen(world, mill, 7), await seen(world, mill, 8, held=False)
    home = await SqlProjectPages(world.database, world.now).home(ALL)
    assert ([run.number for run in home.running], home.projects[0].running) == ([going], 1)
    builds = SqlBuildPages(world.database, world.now)
    assert [run.number for run in await builds.queued(ALL)] == [going, held]
    numbers = await builds.numbers(ALL, None)
    assert (numbers["runs.waiting for approval"], numbers["runs.waiting"]) == (1.0, 1.0)
