"""All doors that are one database, opened together; those of pages are shared by the engine and the web."""

from collections.abc import Callable
from typing import TypedDict

from nixmill.config.caches import CacheKind
from nixmill.config.server import ServerSettings
from nixmill.doors.cache import Uploads
from nixmill.doors.forge import Inbox, PullPages, PullRequests, Statuses
from nixmill.doors.pages import AdminPages, BuildPages, ProjectPages, RunPages
from nixmill.doors.roots import PinBook
from nixmill.doors.server import Accounts, Changes, Failures, Members, Outbox, Past, Projects, Refs, Story
from nixmill.edge.database.accounts import SqlAccounts
from nixmill.edge.database.changes import OnAccept, SqlChanges
from nixmill.edge.database.database import Database
from nixmill.edge.database.failures import SqlFailures
from nixmill.edge.database.inbox import SqlInbox
from nixmill.edge.database.members import SqlMembers
from nixmill.edge.database.outbox import SqlOutbox
from nixmill.edge.database.pages_admin import SqlAdminPages
from nixmill.edge.database.pages_builds import SqlBuildPages
from nixmill.edge.database.pages_evaluation import SqlRunPages
from nixmill.edge.database.pages_home import SqlProjectPages
from nixmill.edge.database.pages_pulls import SqlPullPages
from nixmill.edge.database.past import SqlPast
from nixmill.edge.database.pins import SqlPins
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.database.pull_requests import SqlPullRequests
from nixmill.edge.database.refs import SqlRefs
from nixmill.edge.database.statuses import SqlStatuses
from nixmill.edge.database.story import SqlStory
from nixmill.edge.database.uploads import SqlUploads
from nixmill.engine.keeper import root_rules


class Pages(TypedDict):
    """What pages read."""

    projects: Projects
    failures: Failures
    accounts: Accounts
    members: Members
    outbox: Outbox
    project_pages: ProjectPages
    run_pages: RunPages
    build_pages: BuildPages
    admin_pages: AdminPages
    pull_pages: PullPages


class Work(TypedDict):
    """What only the engine does."""

    refs: Refs
    changes: Changes
    pulls: PullRequests
    inbox: Inbox
    statuses: Statuses
    story: Story
    past: Past
    pins: PinBook
    uploads: Uploads


def pages(database: Database, now: Callable[[], float]) -> Pages:
    """Return the doors that pages and engine share."""
    return Pages(
        projects=SqlProjects(database, now),
        failures=SqlFailures(database),
        accounts=SqlAccounts(database, now),
        members=SqlMembers(database),
        outbox=SqlOutbox(database, now),
        project_pages=SqlProjectPages(database, now),
        run_pages=SqlRunPages(database, now),
        build_pages=SqlBuildPages(database, now),
        admin_pages=SqlAdminPages(database, now),
        pull_pages=SqlPullPages(database, now),
    )


def work(database: Database, now: Callable[[], float], accept: OnAccept, settings: ServerSettings) -> Work:
    """Return the doors of the engine; `accept` begins work in the transaction that records it."""
    served = [cache.name for cache in settings.caches if cache.kind is CacheKind.STORE]
    return Work(
        refs=SqlRefs(database, now, accept),
        changes=SqlChanges(database, now, accept),
        pulls=SqlPullRequests(database, now, accept),
        inbox=SqlInbox(database, now),
        statuses=SqlStatuses(database, now),
        story=SqlStory(database),
        past=SqlPast(database),
        pins=SqlPins(database, root_rules(settings.roots), served),
        uploads=SqlUploads(database, now),
    )
