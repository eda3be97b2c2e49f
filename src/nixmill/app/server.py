"""Joins the server's doors to edges, and runs it. See `nixmill.engine.server` for what goes on in it."""

import asyncio
import contextlib
import ctypes
import fcntl
import functools
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Connection
from starlette.types import ASGIApp

from nixmill import __version__
from nixmill.app import process, rows
from nixmill.app.connection import ImpatientProtocol
from nixmill.app.logging import set_up_logging
from nixmill.app.site import open_site
from nixmill.app.store_side import open_store_side
from nixmill.cli.wiring import StoreChoice
from nixmill.config import projects_file
from nixmill.config.server import Retention, ServerSettings
from nixmill.core.errors import InputError
from nixmill.core.message import ChannelKind
from nixmill.core.project import SCHEMES, SECURE_SCHEMES, Project
from nixmill.doors.forge import AnyForge
from nixmill.doors.server import Courier, HookRunner
from nixmill.doors.serving import Served
from nixmill.edge.database.accounts import SqlAccounts
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.deletion import sweep
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.members import SqlMembers
from nixmill.edge.database.outbox import SqlOutbox
from nixmill.edge.database.place import place_of
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.database.published import SqlPublished
from nixmill.edge.database.upkeep import DAY_S, Ages, forget_logs, known_hook_runs, tidy
from nixmill.edge.durable import DbosDurable, durable_engine
from nixmill.edge.evaluator import confine
from nixmill.edge.forge.choose import make_forges
from nixmill.edge.forge.courier import ForgeCourier
from nixmill.edge.git_remote import GitRemote
from nixmill.edge.hook_runner import CommandHookRunner
from nixmill.edge.log_files import LogFiles
from nixmill.edge.notify.credentials import Credentials
from nixmill.edge.notify.email import EmailCourier
from nixmill.edge.notify.matrix import MatrixCourier
from nixmill.edge.notify.outgoing import Outgoing
from nixmill.edge.notify.slack import SlackCourier
from nixmill.edge.notify.webhook import WebhookCourier
from nixmill.edge.private_files import make_directory
from nixmill.edge.system_clock import SystemClock
from nixmill.engine.books import Books
from nixmill.engine.declaring import apply
from nixmill.engine.journey import CHANGE
from nixmill.engine.live import Live
from nixmill.engine.project_checks import check_jobsets, check_project
from nixmill.engine.server import Server
from nixmill.engine.server_doors import ServerDoors
from nixmill.web.app import make_app
from nixmill.web.cache_front import CacheFront
from nixmill.web.cache_readers import Readers

if TYPE_CHECKING:
    from nixmill.app import App

PAGES_WAIT_S: Final = 3.0
"""How long a page waits for a database that is gone."""
RUNS_WAIT_S: Final = 3600.0
"""How long a run does; what it records waits for as long as it takes."""
GOODBYE_S: Final = 2
"""Seconds that open pages get when the server stops."""

log = structlog.get_logger("nixmill")


def serve(app: "App", settings: ServerSettings, ready: Callable[[], None]) -> int:
    """Be the server until a signal ends it; call `ready` once it answers."""
    set_up_logging()
    process.prepare()
    process.prepare_loop()
    make_directory(settings.state)
    with _only_server(settings.state):
        asyncio.run(_serve(app, settings, ready))
    return 0


@contextlib.asynccontextmanager
async def open_books(settings: ServerSettings) -> AsyncIterator[Books]:
    """Open what the server keeps of projects and people, beside a server that may be running."""
    make_directory(settings.state)
    async with open_database(_where(settings), password=_password(settings)) as database:
        clock = SystemClock()
        yield Books(
            projects=SqlProjects(database, clock.now),
            accounts=SqlAccounts(database, clock.now),
            members=SqlMembers(database),
            outbox=SqlOutbox(database, clock.now),
        )


async def _serve(app: "App", settings: ServerSettings, ready: Callable[[], None]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        doors, served = await _open_doors(app, settings, stack)
        server = Server(doors, app.cores())
        await _declare(doors)
        pages = await stack.enter_async_context(_database(settings, PAGES_WAIT_S))
        site = open_site(doors, server, pages, stack)
        web = _behind_caches(make_app(site), settings, served)
        serving = _Web(_web_config(settings, web), functools.partial(_say_where, settings, ready))
        await stack.enter_async_context(server.running())
        await serving.serve()


async def _open_doors(
    app: "App", settings: ServerSettings, stack: contextlib.AsyncExitStack
) -> tuple[ServerDoors, Mapping[str, Served]]:
    """Open every edge that the server has; return the doors, and the caches that are served."""
    clock = SystemClock()
    database = await stack.enter_async_context(_database(settings, RUNS_WAIT_S))
    durable = _durable(settings)
    accept = functools.partial(_start_work, durable)
    history, logs = SqlHistory(database, clock.now), LogFiles(settings.state / "logs")
    stack.push_async_callback(logs.close)
    choice = StoreChoice(store=settings.store, builders=settings.builders, evaluator=settings.evaluator)
    forges = _open_forges(settings, clock, stack)
    tokens = functools.partial(_git_credential, settings, forges)
    remote = GitRemote(settings.state, settings.credentials, schemes=_schemes(settings), tokens=tokens)
    shared = rows.pages(database, clock.now)
    hooks = CommandHookRunner(settings.state / "hooks", clock, log)
    published = SqlPublished(database)
    opened = await open_store_side(app, settings, choice, database, logs, stack)
    open_run = functools.partial(
        app.open_server_run,
        choice,
        history,
        logs,
        remote.source,
        shared["failures"],
        hidden=_hidden(settings),
        caches=opened.caches.read,
        published=published,
        settings=settings,
    )
    doors = ServerDoors(
        **shared,
        **rows.work(database, clock.now, accept, settings),
        store_side=opened.side,
        settings=settings,
        clock=clock,
        random=Random(),  # noqa: S311 - spreads retries, guards nothing
        history=history,
        archive=history,
        logs=logs,
        remote=remote,
        merging=remote,
        forges=forges,
        source=remote.source,
        hook_runner=hooks,
        couriers=_couriers(settings, forges),
        durable=durable,
        live=Live(),
        open_run=open_run,
        machines=await app.machines(choice),
        disk=_disk,
        trim=_trim,
        store_dir=Path(app.place()),
        webhook_key=_key(settings.state / "webhook.key"),
        sweep=functools.partial(sweep, database, delete_logs=logs.delete, delete_hook_logs=hooks.delete_logs),
        tidy=functools.partial(_tidy, database, settings.retention, logs, hooks),
    )
    return doors, opened.caches.served


def _durable(settings: ServerSettings) -> DbosDurable:
    engine = durable_engine(place_of(_where(settings), _password(settings)))
    return DbosDurable(engine, {CHANGE: settings.runs_at_once})


def _open_forges(
    settings: ServerSettings, clock: SystemClock, stack: contextlib.AsyncExitStack
) -> Mapping[str, AnyForge]:
    hosts = settings.state / "git" / "known_hosts"
    forges = make_forges(settings.forges, settings.credentials, clock, known_hosts=hosts)
    for forge in forges.values():
        stack.push_async_callback(forge.aclose)
    return forges


def _behind_caches(web: FastAPI, settings: ServerSettings, served: Mapping[str, Served]) -> ASGIApp:
    """Put the binary caches in front of the pages: what Nix asks goes through none of what pages need."""
    if not served:
        return web
    tries = web.state.guard.tries
    readers = {
        cache.name: Readers(
            [settings.credentials[name] for name in cache.readers], cache.projects, doors=web.state.site, tries=tries
        )
        for cache in settings.caches
        if cache.private and cache.name in served
    }
    return CacheFront(web, served, readers=readers, trusted_proxies=settings.trusted_proxies)


def _hidden(settings: ServerSettings) -> tuple[Path, ...]:
    """Return what no evaluation may read: everybody's repositories, logs and caches, the database, keys, secrets."""
    if not confine.is_possible():
        log.warning("evaluations can read the server's files: this kernel has no Landlock; see docs/security.md")
    provided = os.environ.get("CREDENTIALS_DIRECTORY")
    caches = [cache.directory for cache in settings.caches if cache.directory is not None]
    return (settings.state, *caches, *settings.credentials.values(), *([Path(provided)] if provided else []))


def _start_work(durable: DbosDurable, connection: Connection, numbers: Sequence[int]) -> None:
    for number in numbers:
        durable.enqueue(connection, CHANGE, str(number))


async def _tidy(database: Database, retention: Retention, logs: LogFiles, hooks: HookRunner) -> None:
    now = time.time()
    await tidy(database, Ages(audit=retention.audit_days), now)
    if retention.log_days:
        await forget_logs(database, now - retention.log_days * DAY_S, logs.delete)
    await hooks.keep_only(functools.partial(known_hook_runs, database))


async def _declare(doors: ServerDoors) -> None:
    """Make projects as the file declares them."""
    file = doors.settings.projects_file
    if file is None:
        return
    declared = projects_file.parse(file.read_text(encoding="utf-8"), str(file))
    for one in declared.projects:
        check_project(doors.settings, one.project)
        check_jobsets(one.jobsets)
    books = Books(projects=doors.projects, accounts=doors.accounts, members=doors.members, outbox=doors.outbox)
    for sentence in await apply(books, declared, now=doors.clock.now(), read_only=True):
        log.info(sentence, file=str(file))


async def _git_credential(settings: ServerSettings, forges: Mapping[str, AnyForge], project: Project) -> str | None:
    """Return what git shows to fetch a project of a forge; one that names a credential itself uses that.

    It goes to the forge's own host alone: whoever may set a project's URL would have it otherwise.
    """
    if project.credential or not project.repository or project.forge not in forges:
        return None
    home = next(urlsplit(one.url).hostname for one in settings.forges if one.name == project.forge)
    url = urlsplit(project.url)
    if url.scheme not in {"https", "http"} or url.hostname != home:
        return None
    return await forges[project.forge].git_credential(project.repository) or None


def _couriers(settings: ServerSettings, forges: Mapping[str, AnyForge]) -> dict[ChannelKind, Courier]:
    credentials = Credentials(settings.credentials)
    outgoing = Outgoing(private_targets=settings.private_targets)
    couriers: dict[ChannelKind, Courier] = {
        ChannelKind.WEBHOOK: WebhookCourier(outgoing, credentials),
        ChannelKind.SLACK: SlackCourier(outgoing, credentials),
        ChannelKind.FORGE: ForgeCourier(forges),
    }
    if settings.smtp is not None:
        couriers[ChannelKind.EMAIL] = EmailCourier(settings.smtp, credentials)
    if settings.matrix is not None:
        couriers[ChannelKind.MATRIX] = MatrixCourier(settings.matrix, outgoing, credentials)
    return couriers


def _web_config(settings: ServerSettings, web: ASGIApp) -> uvicorn.Config:
    """Return how the web is served. Proxies are judged by the application itself (`trusted_proxies`)."""
    host, _, port = settings.listen.rpartition(":")
    unix = settings.listen.removeprefix("unix:") if settings.listen.startswith("unix:") else None
    return uvicorn.Config(
        web,
        host=host.strip("[]"),
        port=0 if unix else int(port),
        uds=unix,
        http=ImpatientProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GOODBYE_S,
    )


class _Web(uvicorn.Server):
    """Serves the web; signals are ours, since uvicorn would die of them before the rest has stopped."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        """Call `ready` once requests are taken."""
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at the first SIGTERM or SIGINT, leave at once at the second."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _say_where(settings: ServerSettings, ready: Callable[[], None]) -> None:
    ready()
    where = settings.database or settings.state
    log.info("nixmill is ready", url=settings.url, listen=settings.listen, version=__version__, data=str(where))


def _database(settings: ServerSettings, patience_s: float) -> contextlib.AbstractAsyncContextManager[Database]:
    return open_database(_where(settings), password=_password(settings), patience_s=patience_s)


def _where(settings: ServerSettings) -> Path | str:
    return settings.database or settings.state / "nixmill.sqlite"


def _password(settings: ServerSettings) -> str:
    name = settings.database_password
    return Credentials(settings.credentials).of_settings(name) if name else ""


def _schemes(settings: ServerSettings) -> list[str]:
    schemes = SCHEMES if settings.insecure_git else SECURE_SCHEMES
    return [scheme for scheme in schemes if scheme != "file" or settings.local_git]


def _trim() -> None:
    """Give memory that is free back to the system: a run needs much for a moment (glibc keeps it otherwise)."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _disk(path: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists()))
    return usage.used, usage.free


def _key(file: Path) -> bytes:
    """Return a random key that only this server can read, made at the first start."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(32))
    return file.read_bytes()


@contextlib.contextmanager
def _only_server(state: Path) -> Iterator[None]:
    """Keep a second server from the same state; the lock goes with the process, however it ends."""
    with (state / "server.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"Another server works in {state}.", "Stop it first, or choose --state.") from error
        yield
