"""The page of an evaluation, on both databases."""

import msgspec
import pytest

from nixmill.core.access import Sight, Visibility
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change, Verdict
from nixmill.core.status import Status
from nixmill.core.view.pages import EvaluationPage
from nixmill.core.view.parts import Filter
from nixmill.edge.database.database import Database
from nixmill.edge.database.pages_evaluation import SqlRunPages
from tests.support.databases import database, place, postgres  # noqa: F401 - fixtures
from tests.support.pages_world import Fate, World, attribute, broken, drv

ALL = Sight(everything=True)


@pytest.fixture
def world(database: Database) -> World:  # noqa: F811 - the fixture
    return World(database)


def pages(world: World) -> SqlRunPages:
    return SqlRunPages(world.database, world.now)


async def page(
    world: World, run: int, filter_: Filter | None = None, find: str = "", number: int = 1, size: int = 200
) -> EvaluationPage:
    found = await pages(world).evaluation(ALL, run, filter_, find, number, size)
    assert found is not None
    return found


def names(found: EvaluationPage) -> list[str]:
    return [row.path[-1] for row in found.rows]


ORDER = ["new-fail", "victim", "bad", "other", "old-fail", "worse", "trouble", "fixed", "gone", "new", "changed"]
"""Of the rich run: what is different."""


async def test_what_differs_is_shown_first_what_broke_above_all(world: World) -> None:
    run = await world.rich(await world.project("mill"))
    found = await page(world, run)
    assert found.filter is Filter.DIFFERENT
    assert names(found) == ORDER
    assert found.run.status is Status.RUNNING
    assert found.base is not None
    assert found.base.number == run - 1
    assert found.evaluation_s == 1.5


EXPECTED: dict[Filter, list[str]] = {
    Filter.DIFFERENT: ORDER,
    Filter.NEWLY_FAILING: ["new-fail", "victim", "bad"],
    Filter.FAILED: ["new-fail", "victim", "bad", "other", "old-fail", "worse"],
    Filter.ERRORS: ["bad", "worse"],
    Filter.FIXED: ["fixed"],
    Filter.CHANGED: ["other", "trouble", "changed"],
    Filter.NEW: ["new"],
    Filter.REMOVED: ["gone"],
    Filter.RUNNING: ["late"],
    Filter.PASSED: ["fixed", "new", "changed", "same"],
    Filter.TROUBLE: ["trouble"],
    Filter.ALL: [*(name for name in ORDER if name != "gone"), "late", "same"],
}


async def test_each_filter_shows_as_many_as_it_counts(world: World) -> None:
    run = await world.rich(await world.project("mill"))
    for filter_, expected in EXPECTED.items():
        found = await page(world, run, filter_)
        assert names(found) == expected or (filter_ is Filter.ALL and sorted(names(found)) == sorted(expected))
        assert found.counts[filter_.value] == len(expected) == found.paging.total


async def test_pages_are_pieces_of_the_whole(world: World) -> None:
    run = await world.rich(await world.project("mill"))
    whole = names(await page(world, run, Filter.ALL, size=0))
    for size in (1, 2, 5, 11):
        last = (await page(world, run, Filter.ALL, size=size)).paging.pages
        pieces = [names(await page(world, run, Filter.ALL, number=number, size=size)) for number in range(1, last + 1)]
        assert [name for piece in pieces for name in piece] == whole
    beyond = await page(world, run, Filter.ALL, number=99, size=5)
    assert (beyond.paging.page, beyond.paging.pages, beyond.paging.total) == (3, 3, 12)


@pytest.mark.parametrize(
    ("find", "expected"),
    [
        ("linux.new", ["new-fail", "new"]),
        ("FAIL", ["new-fail", "old-fail"]),
        ('"worse"', ["worse"]),
        ("%", []),
        (
            "_",
            ["new-fail", "victim", "bad", "other", "old-fail", "worse", "trouble", "fixed", "gone", "new", "changed"],
        ),
        ("\\", []),
        ("'; DROP TABLE nm_run; --", []),
    ],
)
async def test_names_are_found_by_any_part_of_them(world: World, find: str, expected: list[str]) -> None:
    run = await world.rich(await world.project("mill"))
    found = await page(world, run, Filter.DIFFERENT, find)
    assert names(found) == expected
    assert found.paging.total == len(expected)
    assert found.counts["different"] == 11


async def test_lines_say_what_happened(world: World) -> None:
    run = await world.rich(await world.project("mill"))
    rows = {row.path[-1]: row for row in (await page(world, run, Filter.ALL)).rows}
    failed = rows["new-fail"]
    assert (failed.status, failed.outcome, failed.change) == (
        Status.DEPENDENCY_FAILED,
        Outcome.DEPENDENCY_FAILED,
        Change.NEWLY_FAILING,
    )
    assert failed.culprit == drv("lib-2")
    assert failed.attempt is not None
    assert failed.name == "checks.x86_64-linux.new-fail"
    assert failed.system == "x86_64-linux"
    assert rows["late"].status is Status.WAITING
    assert rows["late"].about_s == 3.0
    assert rows["bad"].error == "oh no\nreally\nat flake.nix:1:2"
    assert rows["bad"].how == "oh no"
    assert rows["trouble"].status is Status.TROUBLE
    gone = (await page(world, run, Filter.REMOVED)).rows[0]
    assert gone.renamed_to == ("a", "new one")
    assert 'a."new one"' in gone.how


async def test_what_runs_is_shown_as_running(world: World) -> None:
    run = await world.rich(await world.project("mill"))
    attempt = await world.attempt(run, "late-1", None)
    found = await page(world, run, Filter.RUNNING)
    assert [(row.status, row.attempt) for row in found.rows] == [(Status.RUNNING, attempt)]
    line = found.attempts_running[0]
    assert (line.number, line.status, line.seconds) == (attempt, Status.RUNNING, 500.0 - attempt)
    assert line.about_s == 3.0


async def test_causes_stand_above_their_victims(world: World) -> None:
    run = await world.rich(await world.project("mill"))
    found = await page(world, run)
    assert found.causes_total == 4
    assert [(cause.name, cause.victims, cause.new) for cause in found.causes] == [
        ("lib-2", 2, True),
        *sorted([("old-fail-1", 1, False), ("other-2", 1, False), ("trouble-1", 1, False)], key=lambda c: drv(c[0])),
    ]
    first = found.causes[0]
    assert first.outcome is Outcome.BUILD_FAILED
    assert first.message == "builder for lib-2 failed"
    assert first.attributes == ("checks.x86_64-linux.new-fail", "checks.x86_64-linux.victim")
    assert first.first_failed is None


async def test_a_cause_says_in_which_run_it_failed_first(world: World) -> None:
    project = await world.project("mill")
    first = await world.whole(project, Verdict.BUILD_FAILED)
    again = await world.whole(project, Verdict.BUILD_FAILED)
    cause = (await page(world, again)).causes[0]
    assert (cause.first_failed, cause.attempt) == (first, 2)
    earlier = (await page(world, first)).causes[0]
    assert (earlier.first_failed, earlier.attempt) == (None, 1)


async def test_there_are_at_most_twenty_causes(world: World) -> None:
    run = await world.whole(
        await world.project("mill"), Verdict.BUILD_FAILED, names=[f"n{number}" for number in range(25)]
    )
    found = await page(world, run)
    assert (len(found.causes), found.causes_total) == (20, 25)


async def test_without_a_base_everything_is_shown(world: World) -> None:
    run = await world.whole(await world.project("mill"), names=["b", "a"])
    for filter_ in (None, Filter.DIFFERENT):
        found = await page(world, run, filter_)
        assert found.filter is Filter.ALL
        assert names(found) == ["a", "b"]


async def test_where_nothing_differs_everything_is_shown_unless_asked_otherwise(world: World) -> None:
    project = await world.project("mill")
    before = await world.whole(project, names=["a"])
    run = await world.start(project)
    await world.evaluate(run, [attribute("a")], key=f"key-{before}", base=f"key-{before}")
    assert (await page(world, run)).filter is Filter.ALL
    asked = await page(world, run, Filter.DIFFERENT)
    assert (asked.filter, asked.rows) == (Filter.DIFFERENT, ())


async def test_counts_that_were_recorded_at_the_end_are_used(world: World) -> None:
    run = await world.rich(await world.project("mill"))
    await world.end(run, Verdict.BUILD_FAILED, counts={"failed": 7})
    found = await page(world, run, Filter.FAILED)
    assert found.counts == {"failed": 7} == found.run.counts
    assert len(found.rows) == 6
    assert (await pages(world).run(ALL, run)) == found.run


async def test_what_has_no_outcome_when_a_run_ends_is_cancelled(world: World) -> None:
    run = await world.rich(await world.project("mill"))
    await world.end(run, Verdict.CANCELLED)
    found = await page(world, run, Filter.TROUBLE)
    assert names(found) == ["trouble", "late"]
    assert found.rows[1].status is Status.CANCELLED
    assert found.counts["running"] == 0


async def test_outcomes_that_come_before_the_evaluation_is_known_are_shown(world: World) -> None:
    run = await world.start(await world.project("mill"))
    await world.settle(run, "early", {"a": Fate(change=Change.NEW)})
    found = await page(world, run)
    assert names(found) == ["a"]
    assert found.counts["all"] == 1


async def test_newer_runs_and_retries_are_named(world: World) -> None:
    project = await world.project("mill")
    run = await world.whole(project)
    await world.whole(project, ref="refs/heads/other")
    retry = await world.whole(project, retry_of=run)
    found = await page(world, run)
    assert (found.newer, found.retries) == (retry, (retry,))
    assert (await page(world, retry)).newer is None
    assert (await page(world, retry)).run.retry_of == run


async def test_hostile_names_and_messages_come_back_as_they_are(world: World) -> None:
    run = await world.start(await world.project("mill"))
    names_ = ("a.b", 'q"uote', "sp ace", "é", "${x}", "..", "%_")
    attributes = [msgspec.structs.replace(attribute("x"), path=(name,)) for name in names_]
    await world.evaluate(run, attributes, [broken("<b>", "<script>\x1b[31m")])
    found = await page(world, run, Filter.ALL)
    assert {row.path[-1] for row in found.rows} == {*names_, "<b>"}
    for find in ("é", "a.b", "%_", "${x}", 'q"uote', ".."):
        assert find in {row.path[-1] for row in (await page(world, run, Filter.ALL, find)).rows}


async def test_a_text_is_found_in_a_run_whose_attributes_all_have_outcomes(world: World) -> None:
    run = await world.whole(await world.project("mill"), names=("apple", "pear", "pearl"))
    found = await page(world, run, Filter.ALL, "pear")
    assert (names(found), found.paging.total) == (["pear", "pearl"], 2)


async def test_one_attribute_and_what_may_be_tried_again(world: World) -> None:
    run = await world.rich(await world.project("mill"))
    found = await pages(world).attribute_of(ALL, run, attribute("victim").path)
    assert found is not None
    assert (found[0].number, found[1].status) == (run, Status.DEPENDENCY_FAILED)
    assert await pages(world).attribute_of(ALL, run, ("nothing",)) is None
    failing = await pages(world).failing(ALL, run)
    assert [line.path[-1] for line in failing] == ["new-fail", "victim", "other", "old-fail", "trouble"]


async def test_a_comparison_leaves_out_what_is_the_same(world: World) -> None:
    project = await world.project("mill")
    run = await world.rich(project)
    found = await pages(world).compare(ALL, run - 1, run, 1, 200)
    assert found is not None
    assert [(row.path[-1], row.change) for row in found.rows] == [
        ("new-fail", "newly failing"),
        ("old-fail", "newly failing"),
        ("other", "newly failing"),
        ("victim", "newly failing"),
        ("bad", "new"),
        ("changed", "new"),
        ("new", "new"),
        ("trouble", "new"),
        ("worse", "new"),
        ("gone", "removed"),
        ("hidden", "removed"),
    ]
    assert found.counts == {"newly failing": 4, "fixed": 0, "changed": 0, "new": 5, "removed": 2, "same": 3}
    back = await pages(world).compare(ALL, run, run - 1, 2, 4)
    assert back is not None
    assert back.counts["fixed"] == 4
    assert (back.paging.page, len(back.rows)) == (2, 4)
    gone = next(row for row in found.rows if row.path[-1] == "gone")
    assert gone.before is not None
    assert gone.after is None
    alone = await pages(world).compare(ALL, run, run, 1, 200)
    assert alone is not None
    assert (alone.rows, alone.counts["same"]) == ((), 12)


GOOD, BAD = Fate(), Fate(Outcome.BUILD_FAILED)
OURS = Fate(Outcome.INFRASTRUCTURE)
SIDES: dict[str, tuple[Fate | str, Fate | str, str]] = {
    "breaks": (GOOD, BAD, "newly failing"),
    "breaks-changed": (GOOD, BAD._replace(version="2"), "newly failing"),
    "stops-evaluating": (GOOD, "error", "newly failing"),
    "mends": (BAD, GOOD, "fixed"),
    "mends-changed": (BAD, GOOD._replace(version="2"), "fixed"),
    "evaluates-again": ("error", GOOD, "fixed"),
    "fails-otherwise": ("error", BAD, "changed"),
    "our-trouble-changed": (GOOD, OURS._replace(version="2"), "changed"),
    "waits-changed": (GOOD, "2", "changed"),
    "our-trouble": (GOOD, OURS, "same"),
    "after-trouble": (OURS, BAD, "same"),
    "waits": (BAD, "1", "same"),
    "never-evaluates": ("error", "error", "same"),
    "always-good": (GOOD, GOOD, "same"),
}
"""How attributes are in two runs (an outcome, a version without one, or an error), and what is said of that."""


async def side(world: World, run: int, at: int) -> None:
    """Record one side of `SIDES`."""
    states = {name: sides[at] for name, sides in SIDES.items()}
    versions = {name: state if isinstance(state, str) else state.version for name, state in states.items()}
    attributes = [attribute(name, version) for name, version in versions.items() if version != "error"]
    errors = [broken(name, "no") for name, version in versions.items() if version == "error"]
    key = await world.evaluate(run, attributes, errors)
    await world.settle(run, key, {name: state for name, state in states.items() if isinstance(state, Fate)})


async def test_a_comparison_tells_a_fault_from_what_is_not_known(world: World) -> None:
    project = await world.project("mill")
    old, new = await world.start(project), await world.start(project)
    await side(world, old, 0)
    await side(world, new, 1)
    found = await pages(world).compare(ALL, old, new, 1, 0)
    assert found is not None
    expected = {name: kind for name, (_, _, kind) in SIDES.items()}
    assert {row.path[-1]: row.change for row in found.rows} == {
        n: kind for n, kind in expected.items() if kind != "same"
    }
    kinds = list(expected.values())
    assert found.counts == {kind: kinds.count(kind) for kind in (*dict.fromkeys(kinds), "new", "removed")}
    pieces = [await pages(world).compare(ALL, old, new, number, 4) for number in (1, 2, 3)]
    assert [row for piece in pieces if piece is not None for row in piece.rows] == list(found.rows)


async def test_a_timeline_has_the_longest_attempts_in_the_order_of_their_start(world: World) -> None:
    run = await world.rich(await world.project("mill"))
    found = await pages(world).timeline(ALL, run)
    assert found is not None
    assert [line.started_at for line in found.attempts] == sorted(line.started_at for line in found.attempts)
    assert (len(found.attempts), found.left_out) == (5, 0)


async def test_what_is_not_there_is_none(world: World) -> None:
    await world.project("mill", Visibility.PRIVATE)
    assert await pages(world).evaluation(ALL, 99, None, "", 1, 200) is None
    assert await pages(world).run(ALL, 99) is None
    assert await pages(world).timeline(ALL, 99) is None
    assert await pages(world).compare(ALL, 1, 2, 1, 200) is None
    assert await pages(world).failing(ALL, 99) == ()
