"""What a cache that is served from the store holds, and whose logs its readers see: on SQLite and on PostgreSQL."""

from nixmill.core.access import Visibility
from nixmill.core.outcome import Outcome
from nixmill.core.publish import CacheRule, takes_project
from nixmill.core.run_event import Work
from nixmill.core.upload import Upload, UploadState
from nixmill.edge.database.database import Database
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.database.published_logs import SqlPublishedLogs
from nixmill.edge.database.shelf import SqlShelf
from nixmill.edge.database.uploads import RECHECK_S, SqlUploads, record_uploads
from nixmill.nix.store_path import StorePath, base_name, hash_part
from tests.fakes.store import make_path
from tests.support.databases import database, place, postgres
from tests.support.history_rows import an_attempt, drv
from tests.support.server_things import NOW, a_project, accepted, now

__all__ = ["database", "place", "postgres"]
A, B, C, D, E = (make_path(name) for name in "abcde")
STATES = {A: UploadState.DONE, B: UploadState.WAITING, C: UploadState.REFUSED, D: UploadState.REBUILDING}


async def recorded(database: Database, *rows: Upload) -> None:
    await database.write(lambda connection: record_uploads(connection, rows), action="test")


def upload(path: StorePath, state: UploadState = UploadState.WAITING, at: float = NOW, **fields: float) -> Upload:
    return Upload(cache="c", path=path, project=0, run=1, state=state, at=at, due_at=at, **fields)  # type: ignore[arg-type]


async def test_members_are_what_was_published_with_all_it_needs(database: Database) -> None:
    shelf, other = (SqlShelf(database, name, "/nix/store", now) for name in "cd")
    await recorded(database, *(upload(path, state) for path, state in STATES.items() if path != A))
    assert await shelf.members([A, B, C, D, E]) == set()
    await shelf.add([A, B, E])
    assert await shelf.members([A, B, C, D, E]) == {A, B, E}
    assert await shelf.member(hash_part(A)) == A
    assert await shelf.member(hash_part(C)) is None
    assert await other.members([A]) == set()
    assert await other.member(hash_part(A)) is None
    assert await SqlUploads(database, now).due("c", NOW, 9) == []
    await shelf.add([])
    for seconds, held in ((10.0, {A, B, E}), (0.0, set())):
        believed = SqlShelf(database, "c", "/nix/store", now, believed_s=seconds)
        assert await believed.members([A, B, C, D, E]) == held


async def test_what_is_asked_for_again_after_long_is_a_member_all_the_while(database: Database) -> None:
    uploads, shelf = SqlUploads(database, now), SqlShelf(database, "c", "/nix/store", now)
    long_ago = NOW - RECHECK_S - 1
    await recorded(database, upload(A, UploadState.DONE, done_at=long_ago), upload(B, UploadState.REFUSED, done_at=1.0))
    await recorded(database, upload(A), upload(B))
    waiting = await uploads.due("c", NOW, 9)
    assert {one.path for one in waiting} == {A, B}
    assert await shelf.members([A, B]) == {A}, "what was refused never was one"
    assert await SqlShelf(database, "c", "/nix/store", now, believed_s=2 * RECHECK_S).members([A, B]) == set()
    await uploads.save([upload(B, UploadState.REFUSED, done_at=NOW)])
    await uploads.again("c", [B])
    assert await shelf.members([A, B]) == {A}


async def test_readers_see_logs_of_projects_that_the_cache_takes(database: Database) -> None:
    history, projects = SqlHistory(database, now), SqlProjects(database, now)
    numbers = {}
    for name, visibility in (("open", Visibility.PUBLIC), ("closed", Visibility.PRIVATE)):
        project = (await projects.save_project(a_project(name, visibility=visibility))).id
        numbers[name] = await accepted(database, project, commit=name[0] * 40)
    await history.record(
        [
            an_attempt(1, numbers["open"], "x"),
            an_attempt(2, numbers["open"], "x", outcome=Outcome.BUILD_FAILED),
            an_attempt(3, numbers["open"], "x", outcome=None),
            an_attempt(4, numbers["open"], "x", work=Work.FETCH),
            an_attempt(5, numbers["closed"], "x"),
            an_attempt(6, numbers["closed"], "y"),
        ]
    )
    asked = [drv("x"), drv("y"), drv("z")]
    for rule, expected in (
        (CacheRule(name="c"), {drv("x"): 2}),
        (CacheRule(name="c", projects=("other",)), {}),
        (CacheRule(name="c", projects=("*",), private=True), {drv("x"): 5, drv("y"): 6}),
    ):
        logs = SqlPublishedLogs(database, "/nix/store", lambda name, seen, rule=rule: takes_project(rule, name, seen))  # type: ignore[misc]
        assert await logs.newest_of(asked) == expected
        assert await logs.newest(base_name(drv("x"))) == expected.get(drv("x"))
    assert await logs.newest_of([]) == {}
