"""Opens the caches of a server's settings for the command line, beside a server that may be running."""

import contextlib
import functools
import logging
import sys
from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING, Final

import structlog

from nixmill.app.caches import trusted_keys
from nixmill.cli.wiring import StoreChoice
from nixmill.config.caches import CacheKind
from nixmill.config.server import ServerSettings
from nixmill.core.errors import InputError
from nixmill.core.machine import LOCAL
from nixmill.edge.binary_cache.open import open_cache
from nixmill.edge.cache_lock_files import CacheLockFiles
from nixmill.edge.database.database import open_database
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.pins import SqlPins
from nixmill.edge.database.uploads import SqlUploads
from nixmill.edge.notify.credentials import Credentials
from nixmill.edge.private_files import make_directory
from nixmill.edge.system_clock import SystemClock
from nixmill.engine.cache_keeper import CacheKeeper, Closure, OwnCache, limits_of
from nixmill.engine.cache_locks import CacheLocks
from nixmill.engine.cache_restore import Restorer, Upstream, closure
from nixmill.engine.cache_tools import CacheTools
from nixmill.engine.cache_verifier import CacheVerifier, Elsewhere, Restore
from nixmill.engine.keeper import root_rules
from nixmill.engine.owed import rule_of
from nixmill.nix.store_path import StorePath

if TYPE_CHECKING:
    from nixmill.app import App

LOCKS: Final = "locks"
"""Directory in the server's state: where the locks of server and command line meet."""
_OWN: Final = frozenset({CacheKind.DISK, CacheKind.S3})


def cache_locks(settings: ServerSettings) -> CacheLocks:
    """Return the locks that every process working on these caches takes."""
    return CacheLocks(CacheLockFiles(settings.state / LOCKS))


@contextlib.asynccontextmanager
async def open_tools(app: "App", settings: ServerSettings, *, building: bool) -> AsyncIterator[CacheTools]:
    """Open the caches whose contents are ours; with `building` a store too, which what is damaged comes from."""
    make_directory(settings.state)
    clock, locks = SystemClock(), cache_locks(settings)
    quiet = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING)
    )
    async with contextlib.AsyncExitStack() as stack:
        where = settings.database or settings.state / "nixmill.sqlite"
        database = await stack.enter_async_context(open_database(where, password=_password(settings)))
        pins = SqlPins(database, root_rules(settings.roots))
        uploads, history = SqlUploads(database, clock.now), SqlHistory(database, clock.now)
        known, restore, elsewhere = await _store(app, settings, stack) if building else (_alone, _no_store, _nobody)
        keeper = CacheKeeper(_own(app, settings), pins, known, locks, clock, quiet)
        verifier = CacheVerifier(keeper, uploads, history.record, restore, elsewhere, locks, clock)
        yield CacheTools(keeper=keeper, verifier=verifier, uploads=uploads)


def _own(app: "App", settings: ServerSettings) -> list[OwnCache]:
    opened = {
        cache: open_cache(cache, settings.credentials, settings.state, app.place())
        for cache in settings.caches
        if cache.kind in _OWN
    }
    return [
        OwnCache(name=cache.name, stock=stock, limits=limits_of(cache), keys=stock.signer.public)
        for cache, stock in opened.items()
    ]


async def _store(
    app: "App", settings: ServerSettings, stack: contextlib.AsyncExitStack
) -> tuple[Closure, Restore, Elsewhere]:
    """Open the server's store; what is restored there is leased until the stack closes."""
    choice = StoreChoice(store=settings.store, builders=settings.builders, evaluator=settings.evaluator)
    doors = await stack.enter_async_context(app.open_run(choice, _say))
    trusted = trusted_keys(await app.installation(), settings.caches)
    rules = {cache.name: rule_of(cache, trusted) for cache in settings.caches}
    restore = Restorer(doors.store, doors.builders[LOCAL])
    return functools.partial(closure, doors.store), restore, Upstream(doors.store, rules)


async def _alone(paths: Collection[StorePath]) -> Collection[StorePath]:
    """Know no closures. What waits is published with its closure anyway, from the store, where all of it is rooted."""
    return paths


async def _nobody(_cache: str, _paths: Collection[StorePath]) -> Collection[StorePath]:
    return ()


async def _no_store(_path: StorePath, _deriver: StorePath | None) -> str:
    raise InputError("No store is open, so nothing can be repaired.", "This is a mistake in nixmill.")


def _password(settings: ServerSettings) -> str:
    name = settings.database_password
    return Credentials(settings.credentials).of_settings(name) if name else ""


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201 - people read this
