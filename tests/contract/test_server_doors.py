"""What the database implements are the doors of the server: `mypy` checks the lines of this test."""

from pathlib import Path

from nixmill.doors import Archive, History
from nixmill.doors.forge import Inbox, PullPages, PullRequests, Statuses
from nixmill.doors.server import Accounts, Changes, Failures, Keys, Members, Outbox, Projects, Refs, Story
from nixmill.edge.database.accounts import SqlAccounts
from nixmill.edge.database.changes import SqlChanges
from nixmill.edge.database.database import Database
from nixmill.edge.database.failures import SqlFailures
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.inbox import SqlInbox
from nixmill.edge.database.keys import SqlKeys
from nixmill.edge.database.members import SqlMembers
from nixmill.edge.database.outbox import SqlOutbox
from nixmill.edge.database.pages_pulls import SqlPullPages
from nixmill.edge.database.place import SqliteFile
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.database.pull_requests import SqlPullRequests
from nixmill.edge.database.refs import SqlRefs
from nixmill.edge.database.statuses import SqlStatuses
from nixmill.edge.database.story import SqlStory
from tests.support.server_things import now

Doors = tuple[History, Archive, Projects, Refs, Changes, Failures, Accounts, Keys, Members, Outbox, Story]


def doors(database: Database) -> Doors:
    history = SqlHistory(database, now)
    return (
        history,
        history,
        SqlProjects(database, now),
        SqlRefs(database, now),
        SqlChanges(database, now),
        SqlFailures(database),
        SqlAccounts(database, now),
        SqlKeys(database),
        SqlMembers(database),
        SqlOutbox(database, now),
        SqlStory(database),
    )


def doors_to_forges(database: Database) -> tuple[PullRequests, Inbox, Statuses, PullPages]:
    return (
        SqlPullRequests(database, now),
        SqlInbox(database),
        SqlStatuses(database),
        SqlPullPages(database, now),
    )


def test_each_door_of_the_database_can_be_made(tmp_path: Path) -> None:
    database = Database(SqliteFile(tmp_path / "x"))
    assert (len(doors(database)), len(doors_to_forges(database))) == (11, 4)
