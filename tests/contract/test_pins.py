"""The door PinBook on both databases: pins move as the rules say, whatever order runs end in."""

from typing import Any, Final

import msgspec
import pytest
from sqlalchemy import Connection, func, select, update

from nixmill.core.change import ChangeState, Origin
from nixmill.core.history import EvaluationRow, RunEndRow
from nixmill.core.outcome import Outcome
from nixmill.core.pin import HandPin, Pin, PinRule, RootPolicy
from nixmill.core.project import pull_request_ref
from nixmill.core.realised import Realised
from nixmill.core.roots import DAY_S, RootRules, wanted
from nixmill.core.run_event import Verdict
from nixmill.core.trust import Tier
from nixmill.core.upload import Upload, UploadState
from nixmill.edge.database import tables, tables_forge, tables_roots, upkeep
from nixmill.edge.database.database import Database
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.pins import SqlPins
from nixmill.edge.database.projects import SqlProjects
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.realisation import Realisation
from nixmill.nix.store_path import StorePath
from tests.fakes.store import make_path
from tests.support.databases import database, place, postgres
from tests.support.history_rows import an_attribute, an_evaluation, an_outcome, drv
from tests.support.server_things import NOW, a_jobset, accepted, now, saved_project

__all__ = ["database", "place", "postgres"]

MAIN: Final = "refs/heads/main"
RULES: Final = RootRules()


def out(name: str, generation: int = 1) -> StorePath:
    return StorePath(f"/nix/store/{str(generation)[-1] * 32}-{name}")


def a_pin(project: int, name: str, order: int, *, generation: int | None = None, **fields: Any) -> Pin:  # noqa: ANN401 - of a pin
    made = order if generation is None else generation
    values = {"ref": MAIN, "path": (name,), "run": order, "drv_path": drv(f"{name}{made}"), "at": NOW, **fields}
    outputs = {"out": out(name, made), "doc": out(f"{name}-doc", made)}
    return Pin(project=project, order=order, outputs=outputs, **values)


def generations(pins: list[Pin]) -> list[tuple[str, int]]:
    return [(pin.path[-1], pin.order) for pin in pins]


class Book:
    """A database with a project, and its pins."""

    def __init__(self, database: Database, project: int) -> None:
        self.database = database
        self.project = project
        self.history = SqlHistory(database, now)
        self.pins = SqlPins(database, RULES, served=("straight",))

    async def good(self, name: str, order: int, **fields: Any) -> None:  # noqa: ANN401 - of a pin
        await self.history.record([a_pin(self.project, name, order, **fields)])

    async def listed(self, ref: str = MAIN) -> list[Pin]:
        return list(await self.pins.pins(self.project, ref))

    async def evaluated(self, order: int, *names: str, at: float = NOW) -> int:
        rule = PinRule(project=self.project, ref=MAIN, order=order)
        return await self.pins.evaluated(rule, [(name,) for name in names], at)

    async def wanted(self, at: float = NOW) -> frozenset[StorePath]:
        return wanted(await self.pins.facts(at), RULES, at)

    async def gone(self) -> set[str]:
        return {pin.path[-1] for pin in await self.listed() if pin.gone_at is not None}


@pytest.fixture
async def book(database: Database) -> Book:
    return Book(database, await saved_project(database))


async def test_a_pin_comes_back_as_it_was_recorded(book: Book) -> None:
    hostile: AttrPath = ("a/b", 'c"\n', "../..")
    fields: dict[str, Any] = {"policy": RootPolicy.REQUIRE_LOCAL, "keep": 3, "held": "ours", "path": hostile}
    pin = a_pin(book.project, "x", 4, **fields)
    await book.history.record([pin])
    (found,) = await book.listed()
    assert msgspec.structs.replace(found, id=0) == pin
    assert await book.listed("refs/heads/other") == []


async def test_the_newest_order_wins_whatever_ends_last(book: Book) -> None:
    await book.good("a", 5)
    await book.good("a", 3)
    assert generations(await book.listed()) == [("a", 5)]
    await book.good("a", 7)
    assert generations(await book.listed()) == [("a", 7)]
    assert await book.wanted() == {out("a", 7), out("a-doc", 7)}


async def test_generations_are_kept_and_what_comes_again_moves_up(book: Book) -> None:
    for order in (1, 2, 4):
        await book.good("a", order, keep=2)
    assert generations(await book.listed()) == [("a", 4), ("a", 2)]
    await book.good("a", 3, keep=2)
    assert generations(await book.listed()) == [("a", 4), ("a", 3)]
    await book.good("a", 9, keep=2, generation=3)
    assert [(pin.order, pin.outputs["out"]) for pin in await book.listed()] == [(9, out("a", 3)), (4, out("a", 4))]
    await book.good("a", 10, keep=1)
    assert generations(await book.listed()) == [("a", 10)]


async def test_unchanged_outputs_only_move_the_order(book: Book) -> None:
    await book.good("a", 1)
    first = (await book.listed())[0]
    await book.good("a", 2, generation=1, at=NOW + 5)
    assert await book.listed() == [msgspec.structs.replace(first, order=2)]


async def test_several_pins_of_an_attribute_in_one_call(book: Book) -> None:
    await book.history.record([a_pin(book.project, "a", order) for order in (3, 1, 2)])
    await book.history.record([a_pin(book.project, "a", 5), a_pin(book.project, "a", 4, ref="refs/heads/other")])
    assert generations(await book.listed()) == [("a", 5)]
    assert generations(await book.listed("refs/heads/other")) == [("a", 4)]


async def test_what_a_cache_holds_has_no_root_until_it_is_here(book: Book) -> None:
    await book.good("a", 1, held="ours")
    assert await book.wanted() == frozenset()
    await book.good("a", 1)
    assert await book.wanted() == {out("a"), out("a-doc")}


async def test_a_removed_attribute_expires_and_one_that_is_back_does_not(book: Book) -> None:
    await book.history.record([a_pin(book.project, name, 1) for name in ("a", "b")])
    assert await book.evaluated(2, "a") == 1
    assert await book.evaluated(2, "a", at=NOW + 5) == 0
    assert await book.gone() == {"b"}
    assert out("b") in await book.wanted(NOW + 13 * DAY_S)
    assert out("b") not in await book.wanted(NOW + 14 * DAY_S)
    assert await book.evaluated(1) == 0
    assert await book.evaluated(3, "a", "b") == 0
    assert await book.gone() == set()
    await book.evaluated(4, "a")
    assert await book.pins.tidy({}, 14 * DAY_S, NOW + 13 * DAY_S) == 0
    assert await book.pins.tidy({}, 14 * DAY_S, NOW + 15 * DAY_S) == 1
    assert generations(await book.listed()) == [("a", 1)]


async def test_an_evaluation_error_hides_what_is_below_it(book: Book) -> None:
    await book.good("x", 1, path=("checks", "x"))
    rule = PinRule(project=book.project, ref=MAIN, order=2)
    assert await book.pins.evaluated(rule, [("checks",)], NOW) == 0
    assert await book.pins.evaluated(rule, [()], NOW) == 0
    assert await book.pins.evaluated(rule, [("checks", "y")], NOW) == 1


async def test_a_newer_run_pins_what_an_older_evaluation_does_not_know(book: Book) -> None:
    await book.good("new", 5)
    assert await book.evaluated(4, "old") == 0
    assert await book.gone() == set()


async def test_a_run_that_ends_late_revives_nothing_that_a_newer_evaluation_lacks(book: Book) -> None:
    late = await accepted(book.database, book.project)
    newer = await accepted(book.database, book.project)
    await book.good("was", late - 1)
    await book.history.record([an_evaluation(newer, ("stays",), key="newer")])
    await book.evaluated(newer, "stays")
    for name in ("was", "never", "stays"):
        await book.good(name, late)
    assert await book.gone() == {"was", "never"}
    await book.good("was", newer)
    assert await book.gone() == {"never"}


async def test_jobsets_of_one_branch_leave_each_others_pins_alone(book: Book) -> None:
    wanted_ones = [a_jobset("one"), a_jobset("two")]
    one, two = await SqlProjects(book.database, now).save_jobsets(book.project, wanted_ones)
    runs = [await accepted(book.database, book.project, jobset=each.id) for each in (one, two, one)]
    await book.good("of-one", runs[0])
    await book.good("of-two", runs[1])
    await book.good("old-one", runs[0])
    assert await book.evaluated(runs[1], "of-two") == 0
    assert await book.evaluated(runs[0], "of-one", "old-one") == 0
    assert await book.evaluated(runs[2], "of-one") == 1
    assert await book.gone() == {"old-one"}


async def test_a_deleted_branch_keeps_its_pins_for_a_while(book: Book) -> None:
    other = await saved_project(book.database, "other")
    await book.good("a", 1)
    await book.evaluated(1, "a")
    await book.history.record([a_pin(other, "a", 1)])
    assert await book.pins.tidy({book.project: [MAIN], other: [MAIN]}, DAY_S, NOW) == 0
    assert await book.pins.tidy({book.project: ["refs/heads/x"]}, DAY_S, NOW) == 0
    assert await book.gone() == {"a"}
    assert await book.pins.tidy({book.project: []}, DAY_S, NOW + 2 * DAY_S) == 1
    assert len(await book.pins.pins(other, MAIN)) == 1
    await book.pins.tidy({book.project: []}, DAY_S, NOW)
    assert await _count(book.database, tables_roots.pin_head) == 0


async def _count(database: Database, table: Any) -> int:  # noqa: ANN401 - a table
    query = select(func.count()).select_from(table)
    return await database.read(lambda connection: int(connection.execute(query).scalar_one()), action="count")


async def test_pins_of_a_project_that_is_gone_are_left_out(book: Book) -> None:
    await book.history.record([a_pin(book.project + 77, "a", 1), a_pin(book.project, "b", 1)])
    assert await _count(book.database, tables_roots.pin) == 1
    assert await book.pins.evaluated(PinRule(project=book.project + 77, ref=MAIN, order=1), [], NOW) == 0


async def test_pinning_by_hand_twice_changes_reason_and_time(book: Book) -> None:
    path = out("kept")
    mine = HandPin(store_path=path, project=book.project, reason="a test\0", attribute=("a", "b"), at=NOW)
    first = await book.pins.pin(mine)
    again = await book.pins.pin(msgspec.structs.replace(mine, reason="longer", until=NOW + 9))
    assert first.id == again.id > 0
    everybodys = await book.pins.pin(msgspec.structs.replace(mine, project=None))
    assert everybodys.id != first.id
    assert (await book.pins.pin(msgspec.structs.replace(mine, project=None, until=NOW + 5))).id == everybodys.id
    assert await book.wanted(NOW + 8) == {path}
    assert await book.wanted(NOW + 9) == frozenset()
    assert await book.pins.unpin(None, [path, out("other")]) == 1
    assert await book.pins.unpin(None, [path]) == 0
    assert await upkeep.tidy(book.database, upkeep.Ages(audit=0), NOW + 8) == {}
    assert await upkeep.tidy(book.database, upkeep.Ages(audit=0), NOW + 10) == {"nm_hand_pin": 1}


async def test_what_waits_to_be_published_and_what_is_served_is_kept(book: Book) -> None:
    states = [("waits", "ours", UploadState.WAITING), ("again", "ours", UploadState.REBUILDING)]
    states += [
        ("done", "ours", UploadState.DONE),
        ("bad", "ours", UploadState.FAILED),
        ("is", "straight", UploadState.DONE),
    ]
    rows = [Upload(cache=c, path=out(n), project=book.project, run=1, state=s, at=NOW) for n, c, s in states]
    await book.history.record(rows)
    facts = await book.pins.facts(NOW)
    assert {cache: set(paths) for cache, paths in facts.uploads.items()} == {"ours": {out("waits"), out("again")}}
    assert await book.wanted() == {out("waits"), out("again"), out("is")}


def _evaluation(run: int, *names: str) -> EvaluationRow:
    return an_evaluation(run, *((name,) for name in names), key=f"of {run}")


async def _end(book: Book, run: int, at: float = NOW) -> None:
    await book.history.record([RunEndRow(number=run, ended_at=at, verdict=Verdict.GOOD, sentence="")])


async def test_a_run_that_goes_on_keeps_derivations_and_outputs(book: Book) -> None:
    run = await accepted(book.database, book.project)
    await book.history.record([_evaluation(run, "a")])
    attribute = an_attribute("a")
    assert await book.wanted() == {attribute.drv_path, attribute.outputs["out"]}
    assert await book.wanted() == {attribute.drv_path, attribute.outputs["out"]}
    again = await accepted(book.database, book.project)
    await _end(book, run)
    assert await book.wanted() == frozenset()
    of = tables.run
    key = update(of).where(of.c.number == again).values(evaluation=f"of {run}", state=ChangeState.BUILDING.value)
    await book.database.write(lambda connection: connection.execute(key).rowcount, action="use an evaluation again")
    assert await book.wanted() == {attribute.drv_path, attribute.outputs["out"]}


async def _pull(book: Book, number: int, state: str, updated_at: float) -> None:
    def write(connection: Connection) -> None:
        of = tables_forge.pull_request
        values: dict[str, object] = {column.name: "" for column in of.c}
        values |= {"project": book.project, "number": number, "state": state, "updated_at": updated_at}
        values |= {"seen_at": NOW, "first_seen_at": NOW, "labels": "[]", "draft": False}
        connection.execute(of.delete().where(of.c.project == book.project, of.c.number == number))
        connection.execute(of.insert().values(values))

    await book.database.write(write, action="record a pull request")


async def _pull_run(book: Book, number: int, *names: str, ended_at: float = NOW) -> int:
    fields = {"origin": Origin.PULL_REQUEST, "pull_request": number, "tier": Tier.MEMBER}
    run = await accepted(book.database, book.project, ref=pull_request_ref(number), **fields)
    outcomes = [an_outcome(run, names[0], key=f"of {run}")]
    outcomes += [an_outcome(run, n, key=f"of {run}", outcome=Outcome.BUILD_FAILED) for n in names[1:]]
    await book.history.record([_evaluation(run, *names), *outcomes])
    await _end(book, run, ended_at)
    return run


async def test_good_results_of_a_pull_request_stay_until_it_is_closed_and_a_while(book: Book) -> None:
    await _pull(book, 7, "open", NOW)
    await _pull_run(book, 7, "good", "bad")
    good, bad = an_attribute("good"), an_attribute("bad")
    kept = {good.drv_path, good.outputs["out"], bad.drv_path}
    assert await book.wanted() == kept
    assert await book.wanted(NOW + 59 * DAY_S) == kept
    assert await book.wanted(NOW + 60 * DAY_S) == frozenset()
    await _pull(book, 7, "merged", NOW + DAY_S)
    assert await book.wanted(NOW + 3.9 * DAY_S) == kept
    assert await book.wanted(NOW + 4 * DAY_S) == frozenset()


async def test_what_only_a_build_gave_a_path_is_kept_with_the_rest(book: Book) -> None:
    await _pull(book, 7, "open", NOW)
    path = make_path("floating")
    realised = Realised(
        drv_path=an_attribute("good").drv_path,
        output="dev",
        realisation=Realisation(id="sha256:00!dev", out_path=path),
        tier=Tier.MEMBER,
        run=1,
        attempt=1,
    )
    await book.history.record([realised, msgspec.structs.replace(realised, drv_path=an_attribute("bad").drv_path)])
    await _pull_run(book, 7, "good", "bad")
    assert path in await book.wanted()
    assert path not in await book.wanted(NOW + 60 * DAY_S)


async def test_only_the_newest_runs_of_a_pull_request_are_kept(book: Book) -> None:
    await _pull(book, 7, "open", NOW)
    await _pull(book, 8, "open", NOW)
    await _pull_run(book, 8, "other")
    for name in ("one", "two", "three"):
        await _pull_run(book, 7, name)
    kept = await book.wanted()
    names = {name for name in ("one", "two", "three", "other") if an_attribute(name).outputs["out"] in kept}
    assert names == {"two", "three", "other"}


async def test_ten_thousand_pins_are_recorded_in_one_call(book: Book) -> None:
    for order in (1, 2):
        await book.history.record([a_pin(book.project, f"n{n}", order) for n in range(10_000)])
    pins = await book.listed()
    assert len(pins) == 10_000
    assert {pin.order for pin in pins} == {2}
    assert await book.evaluated(3) == 10_000
    assert await book.pins.tidy({}, 0.0, NOW + 1) == 10_000
