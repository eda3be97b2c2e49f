"""Projects, refs, changes and failure memory, on both databases."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, text

from nixmill.core.change import BuildClass, ChangeState, Origin, Progress
from nixmill.core.errors import InputError
from nixmill.core.history import RunEndRow
from nixmill.core.hook import HookRun
from nixmill.core.message import ChannelKind, Parcel
from nixmill.core.project import Polled, Ref
from nixmill.core.run_event import Verdict
from nixmill.edge.database.changes import SqlChanges
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.failures import SqlFailures
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.outbox import SqlOutbox
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.database.refs import SqlRefs
from tests.support.databases import database, place, postgres
from tests.support.history_rows import drv
from tests.support.server_things import NOW, a_change, a_failure, a_jobset, a_project, accepted, now, saved_project

__all__ = ["database", "place", "postgres"]

MAIN = Ref(name="refs/heads/main", commit="c1")


async def test_a_project_comes_back_as_it_was_saved(database: Database) -> None:
    projects = SqlProjects(database, now)
    saved = await projects.save_project(a_project(title="The\0mill", weight=3, submodules=True))
    assert (saved.id > 0, saved.created_at, saved.title) == (True, NOW, "The�mill")
    assert await projects.project("mill") == saved
    assert await projects.project("Mill") is None
    changed = await projects.save_project(msgspec.structs.replace(saved, poll_s=5, created_at=1.0))
    assert (changed.poll_s, changed.created_at) == (5, NOW)


async def test_projects_are_listed_by_name(database: Database) -> None:
    projects = SqlProjects(database, now)
    for name in ("b", "A", "c", "B2"):
        await projects.save_project(a_project(name))
    assert [project.name for project in await projects.projects()] == ["A", "b", "B2", "c"]


async def test_a_taken_name_is_refused(database: Database) -> None:
    projects = SqlProjects(database, now)
    await projects.save_project(a_project("a"))
    other = await projects.save_project(a_project("b"))
    with pytest.raises(InputError, match="called 'a' already"):
        await projects.save_project(a_project("a"))
    with pytest.raises(InputError, match="called 'a' already"):
        await projects.save_project(msgspec.structs.replace(other, name="a"))
    assert [project.name for project in await projects.projects()] == ["a", "b"]


async def test_a_former_name_leads_to_the_project_until_another_takes_it(database: Database) -> None:
    projects = SqlProjects(database, now)
    mill = await projects.save_project(a_project("old"))
    for name in ("middle", "new"):
        mill = await projects.save_project(msgspec.structs.replace(mill, name=name))
    assert [await projects.project(name) for name in ("old", "middle", "new")] == [mill] * 3
    other = await projects.save_project(a_project("old"))
    assert await projects.project("old") == other
    mill = await projects.save_project(msgspec.structs.replace(mill, name="middle"))
    assert await projects.project("new") == mill


async def test_a_deleted_project_is_gone_at_once_and_its_name_free(database: Database) -> None:
    projects, changes = SqlProjects(database, now), SqlChanges(database, now)
    mill = await projects.save_project(a_project("mill"))
    number = await accepted(database, mill.id)
    await projects.delete_project(mill.id)
    assert await projects.project("mill") is None
    assert await projects.projects() == []
    change = await changes.change(number)
    assert change is not None
    assert change.cancel_asked
    assert (await projects.save_project(a_project("mill"))).id != mill.id
    for late in (changes.accept([a_change(mill.id)]), projects.save_project(mill), projects.save_jobsets(mill.id, [])):
        with pytest.raises(InputError, match="no such project any more"):
            await late


async def test_jobsets_are_changed_added_and_removed(database: Database) -> None:
    projects, project = SqlProjects(database, now), await saved_project(database)
    first = await projects.save_jobsets(project, [a_jobset("b"), a_jobset("a", tags=("v*",), schedule="0 4 * * *")])
    assert [jobset.name for jobset in first] == ["a", "b"]
    assert (first[0].tags, first[0].branches, first[0].project) == (("v*",), ("main", "release-*"), project)
    swapped = [msgspec.structs.replace(one, name=other.name) for one, other in zip(first, first[::-1], strict=True)]
    after = await projects.save_jobsets(project, [*swapped, a_jobset("c")])
    assert [(jobset.name, jobset.id) for jobset in after[:2]] == [("a", first[1].id), ("b", first[0].id)]
    assert await projects.jobsets(project) == after
    assert [jobset.name for jobset in await projects.save_jobsets(project, after[2:])] == ["c"]


async def test_jobsets_that_make_no_sense_are_refused_as_a_whole(database: Database) -> None:
    projects, project = SqlProjects(database, now), await saved_project(database)
    elsewhere = await projects.save_jobsets(await saved_project(database, "other"), [a_jobset("x")])
    kept = await projects.save_jobsets(project, [a_jobset("a")])
    with pytest.raises(InputError, match="Two of them are called 'b'"):
        await projects.save_jobsets(project, [a_jobset("b"), a_jobset("b")])
    with pytest.raises(InputError, match="not there any more"):
        await projects.save_jobsets(project, elsewhere)
    assert await projects.jobsets(project) == kept


async def test_a_change_comes_back_as_it_was_accepted(database: Database) -> None:
    projects, changes, project = SqlProjects(database, now), SqlChanges(database, now), await saved_project(database)
    jobset = (await projects.save_jobsets(project, [a_jobset()]))[0].id
    before = await accepted(database, project)
    asked = a_change(
        project,
        jobset=jobset,
        origin=Origin.RETRY,
        build_class=BuildClass.MERGE_QUEUE,
        requested_at=5.0,
        targets=(".#checks",),
        systems=("x86_64-linux",),
        retry_of=before,
        rebuild=True,
        evaluate_again=True,
        forgive=(drv("a"),),
    )
    (number,) = await changes.accept([asked])
    assert await changes.change(number) == msgspec.structs.replace(asked, number=number)
    assert [change.number for change in await changes.open_changes()] == [before, number]
    assert await changes.change(99) is None


async def test_what_is_accepted_starts_work_in_the_same_transaction(database: Database) -> None:
    heard: list[int] = []

    def start(connection: Connection, numbers: Sequence[int]) -> None:
        heard.extend(numbers)
        for number in numbers:
            connection.execute(text("INSERT INTO nm_setting VALUES (:n, '')"), {"n": str(number)})
        if len(numbers) == 3:
            raise InputError("no")

    changes, project = SqlChanges(database, now, start), await saved_project(database)
    numbers = await changes.accept([a_change(project), a_change(project)])
    assert heard[-2:] == numbers
    with pytest.raises(InputError):
        await changes.accept([a_change(project)] * 3)
    assert [change.number for change in await changes.open_changes()] == numbers
    names = text("SELECT name FROM nm_setting ORDER BY name")
    rows = await database.read(lambda connection: connection.execute(names).scalars().all(), action="look")
    assert rows == [str(number) for number in numbers]


async def test_progress_is_recorded_bit_by_bit(database: Database) -> None:
    changes, history = SqlChanges(database, now), SqlHistory(database, now)
    number = await accepted(database, await saved_project(database), commit="")
    await changes.progress(Progress(number=number, state=ChangeState.FETCHING))
    await changes.progress(Progress(number=number, commit="c2", tree_hash="t", targets=(".#a",), started_at=7.0))
    await changes.progress(Progress(number=number))
    await changes.progress(Progress(number=number, counts={"all": 3}, notices=("careful",), subject="Fix\0it"))
    change = await changes.change(number)
    assert change is not None
    assert (change.state, change.commit, change.targets) == (ChangeState.FETCHING, "c2", ())
    found = await history.run(number)
    assert found is not None
    assert (found[0].tree_hash, found[0].targets, found[0].started_at) == ("t", (".#a",), 7.0)


@pytest.mark.parametrize("by", ["progress", "history"])
async def test_what_has_a_verdict_is_done_whatever_comes_late(database: Database, by: str) -> None:
    changes, number = SqlChanges(database, now), await accepted(database, await saved_project(database))
    if by == "progress":
        await changes.progress(Progress(number=number, verdict=Verdict.GOOD, sentence="fine"))
    else:
        row = RunEndRow(number=number, ended_at=9.0, verdict=Verdict.GOOD, sentence="fine")
        await SqlHistory(database, now).record([row])
    await changes.progress(Progress(number=number, state=ChangeState.BUILDING))
    change = await changes.change(number)
    assert change is not None
    assert change.state is ChangeState.DONE
    assert await changes.open_changes() == []
    assert not await changes.stop(number)


async def test_a_stop_is_asked_for_once_there_is_something_to_stop(database: Database) -> None:
    changes, project = SqlChanges(database, now), await saved_project(database)
    number, newer = await accepted(database, project), await accepted(database, project)
    assert await changes.stop(number, superseded_by=newer)
    assert await changes.stop(number)
    assert not await changes.stop(99)
    change = await changes.change(number)
    assert change is not None
    assert (change.cancel_asked, change.superseded_by) == (True, newer)


async def test_the_end_of_a_run_has_its_consequences_once(database: Database) -> None:
    changes, outbox, project = SqlChanges(database, now), SqlOutbox(database, now), await saved_project(database)
    number = await accepted(database, project)
    parcel = Parcel(
        key="k", project=project, run=number, channel=ChannelKind.EMAIL, target="a@b", credential="", title="t",
        text="x", body="{}",
    )  # fmt: skip
    for attempt in range(3):
        hook = HookRun(id=f"uuid{attempt}", hook="h", command=("true",), run=number, project=project, attribute="a")
        await changes.ended(number, [parcel], [hook])
        await changes.ended(number, [parcel, parcel], [hook])
    assert [one.key for one in await outbox.due(NOW, 10)] == ["k"]
    assert [run.id for run in await outbox.hook_runs()] == ["uuid0"]
    await changes.ended(99, [msgspec.structs.replace(parcel, key="l", run=99)], [])
    assert len(await outbox.due(NOW, 10)) == 1


async def test_a_look_records_refs_and_changes_together(database: Database) -> None:
    refs, project = SqlRefs(database, now), await saved_project(database)
    assert await refs.polled(project) is None
    tag = Ref(name="refs/tags/v1", commit="c0")
    seen = Polled(at=5.0, default_branch="main")
    numbers = await refs.saw(project, seen, [MAIN, tag], [a_change(project)])
    assert len(numbers) == 1
    assert await refs.refs(project) == [MAIN, tag]
    assert await refs.polled(project) == seen
    moved = Ref(name=MAIN.name, commit="c2")
    await refs.saw(project, Polled(at=6.0, default_branch="main"), [moved], [])
    assert await refs.refs(project) == [moved]
    await refs.saw(project, Polled(at=7.0), [moved, tag], [])
    assert await refs.refs(project) == [moved, tag]


async def test_a_look_that_failed_changes_no_refs_and_says_since_when(database: Database) -> None:
    refs, project = SqlRefs(database, now), await saved_project(database)
    await refs.saw(project, Polled(at=1.0, default_branch="main"), [MAIN], [])
    since = text("SELECT poll_fault_since FROM nm_project")
    found = []
    for look in (Polled(at=2.0, fault="no"), Polled(at=3.0, fault="still no"), Polled(at=4.0)):
        await refs.saw(project, look, None, [])
        found.append(await database.read(lambda connection: connection.execute(since).scalar(), action="look"))
    assert found == [2.0, 2.0, None]
    assert await refs.refs(project) == [MAIN]
    assert await refs.polled(project) == Polled(at=4.0, default_branch="main")


async def test_a_push_that_another_look_brought_in_is_left_out(database: Database) -> None:
    refs, project = SqlRefs(database, now), await saved_project(database)
    push = a_change(project)
    assert len(await refs.saw(project, Polled(at=1.0), [MAIN], [push])) == 1
    assert await refs.saw(project, Polled(at=2.0), [MAIN], [push]) == []
    by_hand = msgspec.structs.replace(push, origin=Origin.HAND)
    assert len(await refs.saw(project, Polled(at=3.0), [MAIN], [by_hand])) == 1
    away = Ref(name=MAIN.name, commit="c2")
    assert len(await refs.saw(project, Polled(at=4.0), [away], [a_change(project, commit="c2")])) == 1
    assert len(await refs.saw(project, Polled(at=5.0), [MAIN], [push])) == 1, "it was pushed back"


async def test_looks_at_the_same_time_bring_a_push_in_once(place: Path | str) -> None:
    async with open_database(place) as one, open_database(place) as other:
        project = await saved_project(one)
        doors = [SqlRefs(one, now), SqlRefs(other, now)]
        push = a_change(project)
        calls = [doors[n % 2].saw(project, Polled(at=float(n)), [MAIN], [push]) for n in range(40)]
        assert sorted(map(len, await asyncio.gather(*calls))) == [0] * 39 + [1]


async def test_many_refs_are_seen(database: Database) -> None:
    refs, project = SqlRefs(database, now), await saved_project(database)
    many = [Ref(name=f"refs/heads/{n:05}", commit="c") for n in range(10_000)]
    await refs.saw(project, Polled(at=1.0), many, [])
    await refs.saw(project, Polled(at=2.0), many[:10], [])
    assert await refs.refs(project) == many[:10]


async def test_names_that_fit_no_index_are_not_watched(database: Database) -> None:
    refs, project = SqlRefs(database, now), await saved_project(database)
    long = "".join(chr(0x4E00 + n) for n in range(5000))
    change = a_change(project, ref=long)
    assert await refs.saw(project, Polled(at=1.0), [MAIN, Ref(name=long, commit="c")], [change]) == []
    assert await refs.refs(project) == [MAIN]
    assert await refs.first_delivery(project, long, NOW)


async def test_a_project_that_is_gone_sees_nothing(database: Database) -> None:
    projects, refs = SqlProjects(database, now), SqlRefs(database, now)
    project = await saved_project(database)
    await projects.delete_project(project)
    assert await refs.saw(project, Polled(at=1.0), [MAIN], [a_change(project)]) == []
    assert await refs.refs(project) == []


async def test_a_timer_fires_once_for_each_time(place: Path | str) -> None:
    async with open_database(place) as one, open_database(place) as other:
        project = await saved_project(one)
        jobset = (await SqlProjects(one, now).save_jobsets(project, [a_jobset()]))[0].id
        doors = [SqlRefs(one, now), SqlRefs(other, now)]
        assert await doors[0].last_fired(jobset) is None
        change = a_change(project, jobset=jobset, origin=Origin.TIMER)
        calls = [doors[n % 2].fired(jobset, 60.0, [change, change]) for n in range(10)]
        assert sorted(map(len, await asyncio.gather(*calls))) == [0] * 9 + [2]
        assert await doors[0].fired(jobset, 30.0, [change]) == []
        assert await doors[1].last_fired(jobset) == 60.0


async def test_a_delivery_is_new_once(database: Database) -> None:
    refs, project = SqlRefs(database, now), await saved_project(database)
    answers = await asyncio.gather(*(refs.first_delivery(project, "d\0", NOW) for _ in range(5)))
    assert sorted(answers) == [False] * 4 + [True]
    assert await refs.first_delivery(project, "e", NOW)


async def test_failures_are_believed_until_they_expire_or_are_forgotten(database: Database) -> None:
    failures, project = SqlFailures(database), await saved_project(database)
    other = await saved_project(database, "other")
    run = await accepted(database, project)
    known = [a_failure(project, name, run) for name in ("a", "b", "c")]
    await failures.remember(project, [*known, a_failure(project, "old", run, expires_at=NOW)], [])
    asked = [drv(name) for name in ("a", "b", "c", "old", "d")]
    found = await failures.believed(project, asked, NOW)
    assert sorted(found) == [drv("a"), drv("b"), drv("c")]
    assert found[drv("a")] == known[0]
    assert await failures.believed(other, asked, NOW) == {}
    await failures.remember(project, [msgspec.structs.replace(known[1], message="again")], [drv("a")])
    assert {path: one.message for path, one in (await failures.believed(project, asked, NOW)).items()} == {
        drv("b"): "again",
        drv("c"): "no",
    }
    assert await failures.forget(project, [drv("b"), drv("d")]) == 1
    assert await failures.forget(project, None) == 2
    assert await failures.believed(project, asked, NOW) == {}


async def test_a_hundred_thousand_paths_can_be_asked_for(database: Database) -> None:
    project = await saved_project(database)
    paths = [drv(str(n)) for n in range(100_000)]
    assert await SqlFailures(database).believed(project, paths, NOW) == {}
