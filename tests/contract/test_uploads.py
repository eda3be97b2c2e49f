"""The queue of uploads: in memory, on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import pytest

from nixmill.core.trust import Tier
from nixmill.core.upload import Made, Upload, UploadState
from nixmill.doors.cache import Uploads
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.database.uploads import RECHECK_S, SqlUploads, record_made, record_uploads
from tests.fakes.store import make_path
from tests.fakes.uploads import FakeUploads
from tests.support.databases import BOTH, a_place, database, place, postgres
from tests.support.history_rows import an_attempt
from tests.support.server_things import NOW, accepted, now, saved_project

__all__ = ["database", "place", "postgres"]


class Queue:
    """A queue, and how a run records what it holds."""

    def __init__(self, uploads: Uploads, record: Callable[[Sequence[Upload | Made]], object]) -> None:
        self.uploads = uploads
        self.record = record

    async def add(self, *rows: Upload | Made) -> None:
        done = self.record(rows)
        if done is not None:
            await done  # type: ignore[misc]


@pytest.fixture(params=["memory", *BOTH])
async def queue(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Queue]:
    if request.param == "memory":
        fake = FakeUploads(now)

        def add(rows: Sequence[Upload | Made]) -> None:
            for row in rows:
                fake.add(row)

        yield Queue(fake, add)
        return
    with a_place(request.param, request, tmp_path_factory.mktemp("queue")) as where:
        async with open_database(where) as opened:
            yield Queue(SqlUploads(opened, now), lambda rows: recorded(opened, rows))


async def recorded(database: Database, rows: Sequence[Upload | Made]) -> None:
    uploads = [row for row in rows if isinstance(row, Upload)]
    made = [row for row in rows if isinstance(row, Made)]

    def work(connection) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - of SQLAlchemy
        record_uploads(connection, uploads)
        record_made(connection, made)

    await database.write(work, action="record")


def upload(name: str, **fields: object) -> Upload:
    return Upload(**{"cache": "c", "path": make_path(name), "project": 0, "run": 1, "at": NOW, **fields})  # type: ignore[arg-type]


def made(name: str, tier: Tier, attempt: int = 1) -> Made:
    return Made(path=make_path(name), tier=tier, run=attempt, attempt=attempt, at=float(attempt))


async def test_what_waits_is_due_the_oldest_first(queue: Queue) -> None:
    first, second, later, other = (
        upload("a", due_at=5.0),
        upload("b", due_at=7.0),
        upload("d", due_at=9.0),
        upload("a", cache="d"),
    )
    await queue.add(later, second, first, other)
    assert await queue.uploads.due("c", 8.0, 9) == [first, second]
    assert await queue.uploads.due("c", 8.0, 1) == [first]
    assert await queue.uploads.due("c", 4.0, 9) == []
    assert await queue.uploads.due("d", 4.0, 9) == [other]


async def test_how_uploads_stand_is_kept(queue: Queue) -> None:
    await queue.add(upload("a"), upload("b"), upload("c"))
    done = upload("a", state=UploadState.DONE, done_at=NOW)
    rebuilding = upload("b", state=UploadState.REBUILDING, due_at=3.0, fault="once more")
    unknown = upload("x", state=UploadState.DONE)
    await queue.uploads.save([done, rebuilding, unknown])
    assert await queue.uploads.due("c", NOW, 9) == [upload("c")]
    assert await queue.uploads.due("c", NOW, 9, UploadState.REBUILDING) == [rebuilding]
    assert await queue.uploads.due("c", NOW, 9, UploadState.DONE) == [done]
    assert await queue.uploads.counts() == {"c": {"done": 1, "rebuilding": 1, "waiting": 1}}


@pytest.mark.parametrize("state", list(UploadState))
async def test_asked_for_again_only_what_was_given_up_starts_anew(queue: Queue, state: UploadState) -> None:
    await queue.add(upload("a"))
    stands = upload("a", state=state, tries=3, fault="it was so", due_at=1.0)
    await queue.uploads.save([stands])
    await queue.add(upload("a", run=2))
    given_up = state in {UploadState.REFUSED, UploadState.FAILED}
    expected = upload("a", run=2) if given_up else stands
    assert await queue.uploads.due("c", NOW, 9, expected.state) == [expected]


async def test_a_person_tries_again_what_was_given_up(queue: Queue) -> None:
    states = [UploadState.REFUSED, UploadState.FAILED, UploadState.DONE, UploadState.REBUILDING]
    rows = [upload(state.value, state=state, tries=2, fault="no", due_at=NOW + 9) for state in states]
    await queue.add(*rows)
    assert await queue.uploads.again("c", [rows[1].path, rows[2].path]) == 1
    assert await queue.uploads.due("c", NOW, 9) == [upload("failed", due_at=NOW)]
    assert await queue.uploads.again("c", None) == 1
    assert await queue.uploads.again("c", None) == await queue.uploads.again("other", None) == 0
    assert await queue.uploads.counts() == {"c": {"waiting": 2, "done": 1, "rebuilding": 1}}


async def test_of_several_makers_the_last_one_stands(queue: Queue) -> None:
    await queue.add(made("a", Tier.MEMBER, 1), made("b", Tier.BRANCH, 2), made("c", Tier.FORK, 3))
    await queue.add(made("a", Tier.BRANCH, 4), made("a", Tier.FORK, 3), made("b", Tier.MEMBER, 6))
    await queue.uploads.vouch([made("c", Tier.BRANCH, 3), made("d", Tier.PROTECTED, 7)])
    found = await queue.uploads.made([make_path(name) for name in "abcde"])
    tiers = {make_path("a"): Tier.BRANCH, make_path("b"): Tier.MEMBER}  # what was built last is what is there
    tiers |= {make_path("c"): Tier.BRANCH}
    known = {path: one.tier for path, one in found.items()}
    assert {path: known[path] for path in tiers} == tiers
    assert known.get(make_path("d"), Tier.PROTECTED) is Tier.PROTECTED  # nobody has to vouch for it
    assert await queue.uploads.made([]) == {}


async def test_nothing_to_record_is_nothing(queue: Queue) -> None:
    await queue.add()
    await queue.uploads.save([])
    await queue.uploads.vouch([])
    assert await queue.uploads.counts() == {}


async def test_who_made_a_path_says_of_which_derivation(database: Database) -> None:
    run = await accepted(database, await saved_project(database))
    attempt = an_attempt(5, run, "thing")
    await SqlHistory(database, now).record([attempt])
    await recorded(database, [made("thing", Tier.MEMBER, 5), made("old", Tier.MEMBER, 4)])
    found = await SqlUploads(database, now).made([make_path("thing"), make_path("old")])
    assert [found[make_path(name)].drv_path for name in ("thing", "old")] == [attempt.drv_path, None]


async def test_an_upload_outlives_its_project(database: Database) -> None:
    project = await saved_project(database)
    await recorded(database, [upload("a", project=project), upload("b", project=project + 99)])
    uploads = SqlUploads(database, now)
    assert sorted(row.project for row in await uploads.due("c", NOW, 9)) == [0, project]
    await uploads.save([upload("a", project=project, tries=1)])
    assert sorted(row.project for row in await uploads.due("c", NOW, 9)) == [0, project]
    await SqlProjects(database, now).delete_project(project)
    assert len(await uploads.due("c", NOW, 9)) == 2


async def test_what_was_done_long_ago_is_looked_at_again(database: Database) -> None:
    """A cache collects too: what a branch still has is published anew, whatever was recorded a day ago."""
    uploads = SqlUploads(database, now)
    old = upload("old", state=UploadState.DONE, done_at=NOW - RECHECK_S - 1)
    new = upload("new", state=UploadState.DONE, done_at=NOW - RECHECK_S + 1)
    await recorded(database, [old, new])
    await recorded(database, [upload("old", run=7), upload("new", run=7)])
    assert await uploads.due("c", NOW, 9) == [upload("old", run=7, done_at=NOW - RECHECK_S - 1)]


async def test_text_that_no_database_takes_is_kept_without_it(database: Database) -> None:
    await recorded(database, [upload("a")])
    uploads = SqlUploads(database, now)
    await uploads.save([upload("a", fault="\0\ud800" + "x" * 9_000)])
    (row,) = await uploads.due("c", NOW, 9)
    assert "x" * 3_000 in row.fault
    assert len(row.fault) <= 4_000


async def test_thousands_are_recorded_in_one_go(database: Database) -> None:
    rows = [upload(str(number)) for number in range(6_000)]
    await recorded(database, [*rows, *rows[:10], *(made(str(number), Tier.FORK) for number in range(6_000))])
    uploads = SqlUploads(database, now)
    await uploads.save([msgspec.structs.replace(row, state=UploadState.DONE) for row in rows])
    assert await uploads.counts() == {"c": {"done": 6_000}}
    assert len(await uploads.made([row.path for row in rows])) == 6_000
