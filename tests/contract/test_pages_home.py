"""Home, projects, branches, search and builds, on both databases; and that no page asks a question a row."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import pytest
from sqlalchemy import Engine, event

from nixmill.core.access import Sight
from nixmill.core.outcome import Outcome
from nixmill.core.project import Polled, Ref
from nixmill.core.run_event import Change, Verdict
from nixmill.core.status import Status
from nixmill.edge.database.database import Database
from nixmill.edge.database.pages_builds import SqlBuildPages
from nixmill.edge.database.pages_evaluation import SqlRunPages
from nixmill.edge.database.pages_home import SqlProjectPages
from tests.support.databases import database, place, postgres  # noqa: F401 - fixtures
from tests.support.pages_world import NOW, Fate, World, attribute, drv

ALL: Final = Sight(everything=True)


@pytest.fixture
def world(database: Database) -> World:  # noqa: F811 - the fixture
    return World(database)


def pages(world: World) -> SqlProjectPages:
    return SqlProjectPages(world.database, world.now)


async def test_home_says_what_is_broken_since_when_and_what_runs(world: World) -> None:
    good, bad = await world.project("good"), await world.project("bad")
    await world.whole(good)
    last_good = await world.whole(bad)
    first_bad = await world.whole(bad, Verdict.BUILD_FAILED)
    await world.whole(bad, Verdict.INFRASTRUCTURE)
    newest = await world.whole(bad, Verdict.EVALUATION_FAILED)
    going = await world.start(good)
    page = await pages(world).home(ALL)
    (broken,) = page.broken
    assert broken.ref == "refs/heads/main"
    assert [line and line.number for line in (broken.latest, broken.last_good, broken.failing_since)] == [
        newest,
        last_good,
        first_bad,
    ]
    assert [(line.number, line.status) for line in page.running] == [(going, Status.WAITING)]
    assert [line.project.name for line in page.projects] == ["bad", "good"]
    assert [len(line.recent) for line in page.projects] == [4, 2]
    assert [run.number for run in page.projects[0].recent] == sorted((run for run in range(2, 6)), reverse=True)
    assert [line.running for line in page.projects] == [0, 1]


async def test_a_cancelled_run_does_not_change_how_a_branch_stands(world: World) -> None:
    good, bad, new = await world.project("good"), await world.project("bad"), await world.project("new")
    passed = await world.whole(good)
    failed = await world.whole(bad, Verdict.BUILD_FAILED)
    for project in (good, bad):
        await world.whole(project, Verdict.CANCELLED)
    only = await world.whole(new, Verdict.CANCELLED)
    page = await pages(world).home(ALL)
    assert [line.latest and line.latest.number for line in page.broken] == [failed]
    lines = {line.project.name: line.default for line in page.projects}
    stands = {name: line and line.latest and line.latest.number for name, line in lines.items()}
    assert stands == {"good": passed, "bad": failed, "new": only}


async def test_a_project_without_runs_and_one_that_cannot_be_fetched_are_there(world: World) -> None:
    project = await world.project("mill")
    await world.refs.saw(project.id, Polled(at=NOW, fault="The host does not answer."), None, [])
    (line,) = (await pages(world).home(ALL)).projects
    assert line.fault == "The host does not answer."
    assert line.default is not None
    assert line.default.latest is None


async def test_runs_under_way_have_the_counts_of_now(world: World) -> None:
    run = await world.rich(await world.project("mill"))
    page = await pages(world).home(ALL)
    assert page.running[0].number == run
    assert page.running[0].counts["newly-failing"] == 3
    assert page.running[0].counts["running"] == 1


async def test_a_project_is_found_by_a_former_name(world: World) -> None:
    project = await world.project("old")
    await world.projects.save_project(msgspec.structs.replace(project, name="new"))
    found = await pages(world).project(ALL, "old")
    assert found is not None
    assert found.project.name == "new"
    assert found.polled is not None
    assert await pages(world).project(ALL, "other") is None


async def test_branches_come_with_the_newest_runs_first_and_gone_ones_say_so(world: World) -> None:
    project = await world.project("mill")
    refs = [Ref(name=f"refs/heads/{name}", commit="c") for name in ("main", "a", "z")]
    await world.refs.saw(project.id, Polled(at=NOW), refs, [])
    await world.whole(project)
    await world.whole(project, ref="refs/heads/z")
    await world.refs.saw(project.id, Polled(at=NOW), refs[:1], [])
    found = await pages(world).project(ALL, "mill")
    assert found is not None
    assert [line.ref for line in found.refs] == ["refs/heads/z", "refs/heads/main", "refs/heads/a"]
    assert [line.gone_at is None for line in found.refs] == [False, True, False]


async def test_a_branch_has_its_runs_in_pages(world: World) -> None:
    project = await world.project("mill")
    runs = [await world.whole(project) for _ in range(5)]
    await world.whole(project, ref="refs/tags/v1")
    first = await pages(world).branch(ALL, "mill", "main", None, 3)
    assert first is not None
    assert [line.number for line in first.runs] == runs[:1:-1]
    assert first.older == runs[2]
    assert [point.value for point in first.durations] == [500.0] * 3
    rest = await pages(world).branch(ALL, "mill", "main", first.older, 3)
    assert rest is not None
    assert ([line.number for line in rest.runs], rest.older) == (runs[1::-1], None)
    tag = await pages(world).branch(ALL, "mill", "refs/tags/v1", None, 3)
    assert tag is not None
    assert len(tag.runs) == 1
    assert await pages(world).branch(ALL, "mill", "nothing", None, 3) is None


async def test_a_run_of_a_commit_has_a_page_too(world: World) -> None:
    commit = "b" * 40
    await world.whole(await world.project("mill"), ref=commit)
    found = await pages(world).branch(ALL, "mill", commit, None, 3)
    assert found is not None
    assert found.line.ref == commit


async def test_an_attribute_across_the_runs_of_a_branch(world: World) -> None:
    project = await world.project("mill")
    first = await world.whole(project, names=["a", "b"])
    await world.whole(project, names=["b"])
    last = await world.whole(project, Verdict.BUILD_FAILED, names=["a"])
    found = await pages(world).attribute(ALL, "mill", "main", attribute("a").path, None)
    assert found is not None
    assert [(each.run.number, each.line.status) for each in found.runs] == [
        (last, Status.FAILED),
        (first, Status.PASSED),
    ]
    assert (found.description, found.maintainers) == ("About a", ("somebody@example.org",))
    assert [point.run for point in found.durations] == [first, last]
    assert [(point.run, point.value) for point in found.sizes] == [(first, 1000.0), (last, 1000.0)]
    assert await pages(world).attribute(ALL, "mill", "main", ("nothing",), None) is None


SEARCHES: Final = {
    "mill": ["project mill", "branch mill-branch"],
    "ILL-BR": ["branch mill-branch"],
    "hello": [
        "derivation hello-1.drv",
        "attribute checks.x86_64-linux.hello",
        "attribute checks.x86_64-linux.hello-two",
    ],
    "x86_64-linux.hello": ["attribute checks.x86_64-linux.hello", "attribute checks.x86_64-linux.hello-two"],
    "#1": ["run #1"],
    "run 1": ["run #1"],
    "0000001": ["commit 0000001" + "a" * 33],
    drv("hello-1"): ["derivation hello-1.drv"],
    drv("hello-1")[11:43]: ["derivation hello-1.drv"],
    "%": [],
    "_____________________": [],
    "": [],
    "!": [],
    "\0": [],
    "' OR 1=1 --": [],
}


async def test_search_finds_exact_ids_first_then_names(world: World) -> None:
    await world.whole(await world.project("mill"), names=["hello", "hello-two", "other"])
    await world.refs.saw(1, Polled(at=NOW), [Ref(name="refs/heads/mill-branch", commit="c")], [])
    for query, expected in SEARCHES.items():
        page = await pages(world).search(ALL, query, 20)
        assert [f"{found.kind} {found.title}" for found in page.found] == expected, query
        assert not page.more
    assert (await pages(world).search(ALL, "hello", 1)).more


async def test_links_of_what_was_found_lead_somewhere(world: World) -> None:
    await world.whole(await world.project("mill"), names=["q/uo?te"])
    (found,) = (await pages(world).search(ALL, "q/uo", 20)).found
    assert found.link == "/p/mill/a/checks.x86_64-linux.%22q%2Fuo%3Fte%22?ref=main"


async def test_a_derivation_has_its_attempts_and_who_needs_it(world: World) -> None:
    project = await world.project("mill")
    await world.whole(project, names=["a"])
    run = await world.whole(project, Verdict.BUILD_FAILED, names=["a"])
    builds = SqlBuildPages(world.database, world.now)
    found = await builds.derivation(ALL, drv("a-1"))
    assert found is not None
    assert [line.outcome for line in found.attempts] == [Outcome.BUILD_FAILED, Outcome.SUCCEEDED]
    assert [(link.name, newest, name) for link, newest, name in found.attributes] == [
        ("mill", run, "checks.x86_64-linux.a")
    ]
    assert await builds.derivation(ALL, drv("unknown")) is None
    log = await builds.log(ALL, found.attempts[0].number)
    assert log is not None
    assert log.run is not None
    assert log.run.number == run
    assert [line.number for line in log.others] == [found.attempts[1].number]


async def test_what_a_killed_run_left_does_not_run(world: World) -> None:
    run = await world.start(await world.project("mill"))
    attempt = await world.attempt(run, "a-1", None)
    builds = SqlBuildPages(world.database, world.now)
    assert [line.number for line in await builds.running(ALL)] == [attempt]
    assert [line.number for line in await builds.queued(ALL)] == [run]
    await world.end(run, Verdict.CANCELLED)
    assert await builds.running(ALL) == []
    assert await builds.queued(ALL) == []


@contextmanager
def counting() -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def _questions(ask: Callable[[], Awaitable[object]]) -> int:
    with counting() as statements:
        await ask()
    return len(statements)


async def test_more_rows_are_not_more_questions(world: World) -> None:
    """Each page, asked of a small world and of one with many times as many rows."""
    runs, builds = SqlRunPages(world.database, world.now), SqlBuildPages(world.database, world.now)

    async def asked(number: int) -> list[int]:
        path = attribute("n0").path
        return [
            await _questions(ask)
            for ask in (
                lambda: pages(world).home(ALL),
                lambda: pages(world).project(ALL, "mill-0"),
                lambda: pages(world).branch(ALL, "mill-0", "main", None, 50),
                lambda: pages(world).attribute(ALL, "mill-0", "main", path, None),
                lambda: pages(world).runs(ALL, None, None, 50),
                lambda: runs.evaluation(ALL, number, None, "", 1, 200),
                lambda: runs.compare(ALL, number, number, 1, 200),
                lambda: runs.timeline(ALL, number),
                lambda: runs.failing(ALL, number),
                lambda: builds.derivation(ALL, drv("n0-1")),
                lambda: builds.running(ALL),
                lambda: builds.queued(ALL),
            )
        ]

    async def more(count: int) -> int:
        for each in range(count):
            project = await world.project(f"mill-{each}")
            names = [f"n{at}" for at in range(count * 2)]
            last = await world.whole(project, Verdict.BUILD_FAILED, names)
            going = await world.start(project)
            key = await world.evaluate(going, [attribute(name) for name in names])
            await world.settle(going, key, {"n0": Fate(Outcome.SUCCEEDED, Change.SAME)})
            await world.attempt(going, "n1-1", None)
        return last

    few = await asked(await more(1))
    await world.projects.delete_project(1)
    many = await asked(await more(8))
    assert many == few
    assert max(many) <= 25
