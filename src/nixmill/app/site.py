"""Joins what the web reads: over connections of its own, which are sooner out of patience than runs."""

from contextlib import AsyncExitStack

from nixmill.app import rows
from nixmill.edge.database.database import Database
from nixmill.edge.database.keys import SqlKeys
from nixmill.edge.database.pages_roots import SqlRootPages
from nixmill.edge.database.pull_requests import SqlPullRequests
from nixmill.engine.cache_desk import CacheDoors, CacheSize, SettingsCacheDesk
from nixmill.engine.dead_paths import DeadPaths
from nixmill.engine.root_desk import RootDoors, StoreRootDesk
from nixmill.engine.root_sizes import RootSizes
from nixmill.engine.server import Server
from nixmill.engine.server_doors import ServerDoors
from nixmill.web.site import Site


def open_site(doors: ServerDoors, server: Server, database: Database, stack: AsyncExitStack) -> Site:
    """Open what the web works with; `database` is its own."""
    now = doors.clock.now
    pages = SqlRootPages(database, now, doors.settings.roots)
    return Site(
        **rows.pages(database, now),
        settings=doors.settings,
        store_dir=str(doors.store_dir),
        clock=doors.clock,
        office=server,
        live=doors.live,
        changes=doors.changes,
        keys=SqlKeys(database),
        pulls=SqlPullRequests(database, now),
        forges=doors.forges,
        logs=doors.logs,
        hook_runner=doors.hook_runner,
        root_desk=_root_desk(doors, server, pages, stack),
        cache_desk=_cache_desk(doors, server, pages),
    )


def _root_desk(doors: ServerDoors, server: Server, pages: SqlRootPages, stack: AsyncExitStack) -> StoreRootDesk:
    store, clock = doors.store_side.store, doors.clock
    dead = DeadPaths(doors.store_side.collector, store, clock)
    stack.push_async_callback(dead.close)
    return StoreRootDesk(
        RootDoors(
            pages=pages,
            book=doors.pins,
            keeper=server.keeper,
            store=store,
            sizes=RootSizes(store, clock),
            dead=dead,
            refs=doors.refs,
            members=doors.members,
            clock=clock,
            settings=doors.settings.roots,
            store_dir=str(doors.store_dir),
        )
    )


def _cache_desk(doors: ServerDoors, server: Server, pages: SqlRootPages) -> SettingsCacheDesk:
    async def size(name: str) -> CacheSize | None:
        numbers = server.caches.numbers.get(name)
        return CacheSize(paths=numbers.paths, size=numbers.size) if numbers and numbers.looked_at else None

    return SettingsCacheDesk(
        CacheDoors(
            settings=doors.settings,
            pages=pages,
            uploads=doors.uploads,
            projects=doors.projects,
            members=doors.members,
            clock=doors.clock,
            public_keys=lambda name: doors.store_side.public_keys.get(name, ()),
            size=size,
            wake=server.publisher.wake,
        )
    )
