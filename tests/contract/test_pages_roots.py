"""Pages about roots and uploads on both databases: what is listed, in which order, and to whom."""

from typing import Any, Final

import pytest

from nixmill.config.roots import RootSettings
from nixmill.core.access import Sight, Visibility
from nixmill.core.change import ChangeState
from nixmill.core.errors import InputError
from nixmill.core.project import Project
from nixmill.core.pull_request import PullState
from nixmill.core.run_event import Verdict
from nixmill.core.view.roots import ProjectRootsPage
from nixmill.doors.pages_roots import RootsWanted
from nixmill.edge.database.database import Database
from nixmill.edge.database.pages_leases import LEASES_MAX
from nixmill.edge.database.pages_pins import PINS_MAX
from nixmill.edge.database.pages_roots import HAND_MAX, PROJECTS_MAX, SqlRootPages
from nixmill.edge.database.pull_requests import SqlPullRequests
from nixmill.edge.database.rows import path_text
from nixmill.edge.database.tables_roots import hand_pin, pin, upload
from tests.support.databases import database, place, postgres
from tests.support.forge_things import a_pull, a_pull_change
from tests.support.pages_world import NOW, World, attribute
from tests.support.root_pages import MAIN, hand_values, hash_of, pin_values, upload_values, write

__all__ = ["database", "place", "postgres"]
ALL: Final = Sight(everything=True)
STRANGER: Final = Sight()
DAY: Final = 86_400.0
SETTINGS: Final = RootSettings(pull_request_days=3, pull_request_open_days=60, pull_request_runs=2)


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def pages(world: World) -> SqlRootPages:
    return SqlRootPages(world.database, world.now, SETTINGS)


async def page_of(world: World, name: str = "mill", **wanted: Any) -> ProjectRootsPage:  # noqa: ANN401 - of what is wanted
    page = await pages(world).project(ALL, name, RootsWanted(**wanted))
    assert page is not None
    return page


async def seen(world: World, project: Project, number: int, runs: int = 1, **fields: Any) -> list[int]:  # noqa: ANN401 - of a pull request
    """See a pull request with runs; return their numbers."""
    changes = [
        a_pull_change(project.id, number, commit=f"{number}{at}", state=ChangeState.WAITING) for at in range(runs)
    ]
    return list(await SqlPullRequests(world.database, world.now).saw(project.id, a_pull(number, **fields), changes))


async def test_pins_are_listed_by_branch_attribute_and_generation(world: World) -> None:
    mill, other = await world.project("mill"), await world.project("other")
    run = await world.whole(mill)
    await write(
        world.database,
        pin,
        pin_values(mill.id, "b", run=run, order=5, at=7.0, keep=2),
        pin_values(mill.id, "b", run=run + 99, order=4, at=6.0, keep=2, version="0"),
        pin_values(mill.id, "a", run=run, order=5, gone_at=NOW - 5),
        pin_values(mill.id, "a", ref="refs/heads/alpha", held="upstream", policy="pin-in-cache"),
        pin_values(other.id, "a"),
    )
    page = await page_of(world)
    assert [(line.ref, line.path[-1], line.generation, line.generations) for line in page.pins] == [
        ("refs/heads/alpha", "a", 1, 1),
        (MAIN, "a", 1, 1),
        (MAIN, "b", 1, 2),
        (MAIN, "b", 2, 2),
    ]
    held, gone, new, old = page.pins
    assert (held.held, held.policy.value, held.run_known) == ("upstream", "pin-in-cache", True)
    assert (gone.gone_since, gone.held) == (NOW - 5, "")
    assert (new.run, new.run_known, new.since, new.keep) == (run, True, 7.0, 2)
    assert (old.run_known, old.outputs) == (False, {"out": hash_of("b-0")})
    assert [(one.ref, one.pins, one.held, one.gone) for one in page.branches] == [
        ("refs/heads/alpha", 1, 1, 0),
        (MAIN, 3, 0, 1),
    ]
    assert (page.after, page.hand, page.running, page.pull_requests) == ("", (), 0, ())
    assert await pages(world).project(ALL, "nowhere", RootsWanted()) is None


async def test_long_lists_have_pages_that_join_without_gap_or_overlap(world: World) -> None:
    mill = await world.project("mill")
    count = 2 * PINS_MAX + 7
    rows = [pin_values(mill.id, f"n{at % 30:02}", ref=f"refs/heads/b{at // 60}", order=at) for at in range(count)]
    await write(world.database, pin, *rows)
    found: list[int] = []
    page = await page_of(world)
    while page.after:
        found += [line.id for line in page.pins]
        page = await page_of(world, after=page.after)
    found += [line.id for line in page.pins]
    assert len(found) == len(set(found)) == count
    whole = [(line.ref, line.path, line.generation) for line in page.pins]
    assert whole == sorted(whole)


@pytest.mark.parametrize("after", ["x", "W10", "WzEsMiwzXQ", "…", "bm90IGpzb24"])
async def test_a_place_that_nobody_gave_is_refused(world: World, after: str) -> None:
    await world.project("mill")
    with pytest.raises(InputError, match="no page"):
        await page_of(world, after=after)


@pytest.mark.parametrize(
    ("find", "names"),
    [
        ("x86_64-linux.fo", ["foo"]),
        ("OO", ["foo"]),
        ("%", []),
        ("_", ["foo"]),
        (hash_of("bar-1"), ["bar"]),
        ('"we.ird"', ["we.ird"]),
        ("", ["bar", "foo", "we.ird"]),
    ],
)
async def test_pins_are_found_by_name_and_store_path(world: World, find: str, names: list[str]) -> None:
    mill = await world.project("mill")
    weird = path_text(("checks", "x", "we.ird"))
    await write(
        world.database,
        pin,
        pin_values(
            mill.id, "foo", outputs='{"out":"/nix/store/none"}', path=path_text(("checks", "x86_64-linux", "foo"))
        ),
        pin_values(mill.id, "bar", path=path_text(("checks", "x", "bar"))),
        pin_values(mill.id, "weird", path=weird, outputs="{}"),
    )
    assert sorted(line.path[-1] for line in (await page_of(world, find=find)).pins) == names


async def test_pins_by_hand_are_listed_and_found(world: World) -> None:
    mill = await world.project("mill")
    rows = [hand_values(mill.id, hash_of(f"p{at}-1"), reason=f"reason {at}") for at in range(HAND_MAX + 2)]
    await write(world.database, hand_pin, *rows, hand_values(None, hash_of("p1-1")))
    first = await page_of(world)
    assert (len(first.hand), first.hand[0].reason) == (HAND_MAX, f"reason {HAND_MAX + 1}")
    second = await page_of(world, hand=first.hand_after)
    assert ([line.reason for line in second.hand], second.hand_after) == (["reason 1", "reason 0"], None)
    assert [line.reason for line in (await page_of(world, find="reason 17")).hand] == ["reason 17"]


async def test_pins_by_hand_are_known_by_path_and_by_attribute(world: World) -> None:
    mill = await world.project("mill")
    path = attribute("a").path
    named = {"attribute": path_text(path), "ref": MAIN}
    await write(
        world.database,
        hand_pin,
        hand_values(mill.id, hash_of("a-1"), **named),
        hand_values(mill.id, hash_of("a-2"), **named, until=5.0),
        hand_values(mill.id, hash_of("b-1")),
        hand_values(None, hash_of("a-1")),
    )
    door = pages(world)
    assert [one.store_path for one in await door.pinned(mill.id, path)] == [hash_of("a-1"), hash_of("a-2")]
    assert [one.until for one in await door.pinned(mill.id, path, MAIN)] == [None, 5.0]
    assert await door.pinned(mill.id, path, "refs/heads/x") == []
    assert await door.pinned(None, hash_of("b-1")) == []
    (of_server,) = await door.pinned(None, hash_of("a-1"))
    assert (of_server.project, of_server.attribute, of_server.who) == (None, None, "anna")


async def test_the_newest_good_result_of_a_branch_is_found(world: World) -> None:
    mill = await world.project("mill")
    good = await world.whole(mill, names=("a", "b"))
    await world.whole(mill, Verdict.BUILD_FAILED, names=("a",))
    await world.whole(mill, names=("a",), ref="refs/heads/x")
    found = await pages(world).good(mill.id, MAIN, attribute("a").path)
    assert found is not None
    assert (found.run, found.outputs) == (good, {"out": hash_of("a-1")})
    assert await pages(world).good(mill.id, MAIN, ("checks",)) is None
    assert await pages(world).good(mill.id, "refs/heads/none", attribute("a").path) is None


async def test_pull_requests_are_kept_for_their_time(world: World) -> None:
    mill = await world.project("mill")
    runs = await seen(world, mill, 1, 3, title="Open")
    await world.end(runs[0])
    await seen(world, mill, 2, 1, state=PullState.MERGED, updated_at=NOW - DAY)
    await seen(world, mill, 3, 1, state=PullState.CLOSED, updated_at=NOW - 4 * DAY)
    await seen(world, mill, 4, 0)
    page = await page_of(world)
    closed, still_open = page.pull_requests
    assert (closed.number, closed.open, closed.until) == (2, False, NOW + 2 * DAY)
    assert (still_open.number, still_open.open, still_open.title) == (1, True, "Open")
    assert still_open.runs == (runs[2], runs[1])
    assert still_open.until == NOW - 100 + 60 * DAY
    assert (page.pull_requests_more, page.running) == (0, 4)
    (line,) = (await pages(world).server(ALL, RootsWanted())).projects
    assert (line.pull_requests, line.running) == (2, 4)


async def test_of_very_many_pull_requests_the_rest_is_counted(world: World) -> None:
    mill = await world.project("mill")
    for number in range(1, LEASES_MAX + 4):
        await seen(world, mill, number)
    page = await page_of(world)
    assert (len(page.pull_requests), page.pull_requests_more) == (LEASES_MAX, 3)


async def test_what_waits_for_approval_keeps_nothing(world: World) -> None:
    mill = await world.project("mill")
    held = a_pull_change(mill.id, 7, state=ChangeState.HELD)
    await SqlPullRequests(world.database, world.now).saw(mill.id, a_pull(7), [held])
    assert (await page_of(world)).running == 0


async def test_the_server_is_summed_up_by_project_as_far_as_it_may_be_seen(world: World) -> None:
    mill, quiet = await world.project("mill"), await world.project("quiet", Visibility.PRIVATE)
    await write(
        world.database,
        pin,
        pin_values(mill.id, "a"),
        pin_values(mill.id, "b", held="upstream"),
        pin_values(quiet.id, "c", gone_at=5.0),
    )
    await write(
        world.database,
        hand_pin,
        hand_values(mill.id, hash_of("a-1")),
        hand_values(quiet.id, hash_of("c-1")),
        hand_values(None, hash_of("c-1")),
    )
    door = pages(world)
    everything = await door.server(ALL, RootsWanted())
    assert [(one.project.name, one.pins, one.held, one.gone, one.hand) for one in everything.projects] == [
        ("mill", 2, 1, 0, 1),
        ("quiet", 1, 0, 1, 1),
    ]
    assert [line.store_path for line in everything.hand] == [hash_of("c-1")]
    assert [pin.path[-1] for pin in await door.newest(ALL, 9)] == ["a", "c"]
    for sight in (STRANGER, Sight(internal=True), Sight(everything=True, only=mill.id)):
        page = await door.server(sight, RootsWanted())
        assert ([one.project.name for one in page.projects], page.hand) == (["mill"], ())
        assert [pin.path[-1] for pin in await door.newest(sight, 9)] == ["a"]
        assert await door.project(sight, "quiet", RootsWanted()) is None
    member = Sight(private=frozenset({quiet.id}))
    assert len((await door.server(member, RootsWanted())).projects) == 2
    assert [one.project.name for one in (await door.server(ALL, RootsWanted(find="QUI"))).projects] == ["quiet"]


async def test_very_many_projects_have_pages(world: World) -> None:
    for number in range(PROJECTS_MAX + 3):
        await world.project(f"p{number:03}")
    first = await pages(world).server(ALL, RootsWanted())
    second = await pages(world).server(ALL, RootsWanted(after=first.after))
    names = [one.project.name for one in (*first.projects, *second.projects)]
    assert names == [f"p{number:03}" for number in range(PROJECTS_MAX + 3)]
    assert second.after == ""


async def test_uploads_are_counted_and_listed_what_needs_somebody_first(world: World) -> None:
    mill, quiet = await world.project("mill"), await world.project("quiet", Visibility.PRIVATE)
    rows = [
        upload_values("main", hash_of(f"{state}-{at}"), project, state=state, at=float(at), fault=f"because {at}")
        for state, project, at in (
            ("waiting", mill.id, 1),
            ("waiting", mill.id, 0),
            ("failed", quiet.id, 2),
            ("refused", None, 3),
            ("rebuilding", mill.id, 4),
            ("done", mill.id, 5),
        )
    ]
    await write(world.database, upload, *rows, upload_values("other", hash_of("x-1"), mill.id))
    door = pages(world)
    counts, lines = await door.uploads(ALL, "main", 9)
    assert counts == {"waiting": 2, "failed": 1, "refused": 1, "rebuilding": 1, "done": 1}
    assert [(line.state.value, line.at) for line in lines] == [
        ("failed", 2.0),
        ("refused", 3.0),
        ("rebuilding", 4.0),
        ("waiting", 0.0),
        ("waiting", 1.0),
    ]
    assert [line.project and line.project.name for line in lines][:3] == ["quiet", None, "mill"]
    assert lines[0].fault == "because 2"
    for sight in (STRANGER, Sight(everything=True, only=mill.id)):
        counts, lines = await door.uploads(sight, "main", 9)
        assert counts == {"waiting": 2, "rebuilding": 1, "done": 1}
        assert {line.project and line.project.name for line in lines} == {"mill"}
    assert len((await door.uploads(ALL, "main", 2))[1]) == 2
    assert (await door.uploads(ALL, "main", 0))[1] == ()
