"""Opens the server's own store, the roots in it, and the caches it is published to."""

import contextlib
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog

from nixmill.app.caches import CacheParts, OpenCaches, open_caches, trusted_keys
from nixmill.cli.wiring import StoreChoice
from nixmill.config.server import ServerSettings
from nixmill.doors import Logs
from nixmill.doors.roots import Roots
from nixmill.edge.binary_cache.contents import StoreContents
from nixmill.edge.cache_lock_files import CacheLockFiles
from nixmill.edge.daemon import DaemonBuilder, DaemonStore
from nixmill.edge.database.database import Database
from nixmill.edge.gc_roots import open_roots
from nixmill.edge.no_roots import NoRoots
from nixmill.edge.private_files import make_directory
from nixmill.engine.cache_locks import CacheLocks
from nixmill.engine.store_side import StoreSide

if TYPE_CHECKING:
    from nixmill.app import App

log = structlog.get_logger("nixmill")


class OpenedStoreSide(NamedTuple):
    """What the engine gets, and what is read and served besides."""

    side: StoreSide
    caches: OpenCaches


async def open_store_side(
    app: "App", settings: ServerSettings, choice: StoreChoice, database: Database, logs: Logs, stack: AsyncExitStack
) -> OpenedStoreSide:
    """Open everything that works on the server's store."""
    store = await stack.enter_async_context(app.open_server_store(choice))
    make_directory(settings.state / "publishing")
    parts = CacheParts(
        settings=settings,
        store=store,
        database=database,
        logs=logs,
        store_dir=app.place(),
        stack=stack,
    )
    caches = await open_caches(parts)
    builder = DaemonBuilder(store)
    side = StoreSide(
        store=store,
        builder=builder,
        rebuilder=builder,
        collector=store,
        contents=StoreContents(store),
        roots=await _open_roots(app, settings, store),
        destinations=caches.destinations,
        own=caches.own,
        public_keys=caches.public_keys,
        trusted_keys=trusted_keys(await app.installation(), settings.caches),
        locks=CacheLocks(CacheLockFiles(settings.state / "locks")),
    )
    return OpenedStoreSide(side, caches)


async def _open_roots(app: "App", settings: ServerSettings, store: DaemonStore) -> Roots:
    if not store.local:
        log.warning("results are not rooted: the store is not that of this machine", store=store.name)
        return NoRoots()
    nix = await app.installation()
    server = _server_id(settings.state / "server.id")
    opened = await open_roots(store, settings.roots.directory, settings.state, Path(nix.state_dir), server=server)
    log.info(opened.sentence)
    return opened.roots


def _server_id(file: Path) -> str:
    """Return what tells this server from others on the machine, made at the first start."""
    with contextlib.suppress(FileExistsError), file.open("x", encoding="ascii") as stream:
        stream.write(secrets.token_hex(4))
    return file.read_text(encoding="ascii")
