"""The web application over real HTTP on loopback, with users, projects, and browsers to drive it."""

import asyncio
import contextlib
import re
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import httpx2
import msgspec
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from nixmill.config.server import ServerSettings
from nixmill.core.access import Role, Scope, Visibility
from nixmill.core.account import ApiToken, User
from nixmill.core.project import Project
from nixmill.edge.database.accounts import SqlAccounts
from nixmill.edge.database.changes import SqlChanges
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.failures import SqlFailures
from nixmill.edge.database.keys import SqlKeys
from nixmill.edge.database.members import SqlMembers
from nixmill.edge.database.outbox import SqlOutbox
from nixmill.edge.database.pages_admin import SqlAdminPages
from nixmill.edge.database.pages_builds import SqlBuildPages
from nixmill.edge.database.pages_evaluation import SqlRunPages
from nixmill.edge.database.pages_home import SqlProjectPages
from nixmill.edge.database.pages_pulls import SqlPullPages
from nixmill.edge.database.pages_roots import SqlRootPages
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.database.pull_requests import SqlPullRequests
from nixmill.edge.system_clock import SystemClock
from nixmill.engine.live import Live
from nixmill.engine.passwords import hash_password
from nixmill.web.app import make_app
from nixmill.web.identify import hashed, new_token
from nixmill.web.site import Site
from tests.fakes.logs import FakeLogs
from tests.fakes.office import FakeOffice
from tests.fakes.roots import FakeCacheDesk, FakeRootDesk

PASSWORD: Final = "correct horse battery"  # noqa: S105 - opens nothing but test accounts
_CSRF: Final = re.compile(r'name="csrf" value="([^"]+)"')


class MovedClock(SystemClock):
    """Real time, moved on by `ahead` seconds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:  # type: ignore[override]
        return SystemClock.now() + self.ahead

    def monotonic(self) -> float:  # type: ignore[override]
        return SystemClock.monotonic() + self.ahead


@dataclass
class Browser:
    """A client with cookies of its own that does not follow redirects."""

    http: httpx2.AsyncClient

    async def get(self, path: str, **more: Any) -> httpx2.Response:  # noqa: ANN401 - as the client takes it
        return await self.http.get(path, **more)

    async def csrf(self, page: str = "/account") -> str:
        """Return the token of the forms on a page."""
        found = _CSRF.search((await self.http.get(page)).text)
        assert found is not None, f"{page} has no form"
        return found.group(1)

    async def post(self, path: str, fields: dict[str, Any] | None = None, page: str = "/account") -> httpx2.Response:
        """Send a form as it stands on `page`."""
        return await self.http.post(path, data={"csrf": await self.csrf(page), **(fields or {})})

    async def sign_in(self, name: str, password: str = PASSWORD, then: str = "/") -> httpx2.Response:
        """Fill in the form."""
        return await self.post("/sign-in", {"name": name, "password": password, "next": then}, "/sign-in")


@dataclass
class WebWorld:
    """The application, what it stands on, and where it listens."""

    site: Site
    app: FastAPI
    url: str
    clock: MovedClock
    office: FakeOffice
    database: Database
    clients: contextlib.AsyncExitStack
    users: dict[str, User] = field(default_factory=dict)

    async def browser(self, **more: Any) -> Browser:  # noqa: ANN401 - as the client takes it
        """Return a new browser, nobody signed in."""
        headers = {"Accept": "text/html,*/*;q=0.8", **more.pop("headers", {})}
        client = httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=30, **more)
        return Browser(await self.clients.enter_async_context(client))

    async def signed_in(self, name: str) -> Browser:
        """Return a browser of a user, made where there is none yet."""
        if name not in self.users:
            await self.user(name)
        browser = await self.browser()
        answer = await browser.sign_in(name)
        assert answer.status_code == 303, answer.text
        return browser

    async def user(self, name: str, **more: Any) -> User:  # noqa: ANN401 - fields of a user
        """Make a user with `PASSWORD`."""
        made = User(name=name, password_hash=_hash(), created_at=self.clock.now(), **more)
        self.users[name] = await self.site.accounts.save_user(made)
        return self.users[name]

    async def project(self, name: str, visibility: Visibility = Visibility.PUBLIC, **roles: Role) -> Project:
        """Make a project with roles for users that exist."""
        url = f"https://example.org/{name}.git"
        made = await self.site.projects.save_project(Project(name=name, url=url, visibility=visibility))
        for user, role in roles.items():
            await self.site.members.set_member(made.id, self.users[user].id, role)
        return made

    async def rename(self, project: Project, name: str) -> Project:
        """Give a project another name."""
        return await self.site.projects.save_project(msgspec.structs.replace(project, name=name))

    async def token(self, name: str, *scopes: Scope, project: int | None = None, seconds: float = 3600.0) -> str:
        """Make an API token of a user; return the secret."""
        secret, now = new_token(), self.clock.now()
        await self.site.keys.save_token(
            ApiToken(
                user=self.users[name].id,
                name="test",
                token_hash=hashed(secret),
                scopes=scopes,
                project=project,
                created_at=now,
                expires_at=now + seconds,
            )
        )
        return secret

    async def api(self, secret: str) -> Browser:
        """Return a program with an API token."""
        return await self.browser(headers={"Authorization": f"Bearer {secret}", "Accept": "application/json"})


_HASHES: list[str] = []


def _hash() -> str:
    if not _HASHES:
        _HASHES.append(hash_password(PASSWORD))
    return _HASHES[0]


def make_site(settings: ServerSettings, clock: SystemClock, database: Database, **doors: Any) -> Site:  # noqa: ANN401 - any door
    """Return a site on a real database; the office records, hooks do not run; `doors` replace what they name."""
    given: dict[str, Any] = {
        "settings": settings,
        "clock": clock,
        "office": FakeOffice(),
        "live": Live(),
        "projects": SqlProjects(database, clock.now),
        "changes": SqlChanges(database, clock.now),
        "failures": SqlFailures(database),
        "accounts": SqlAccounts(database, clock.now),
        "keys": SqlKeys(database),
        "members": SqlMembers(database),
        "outbox": SqlOutbox(database, clock.now),
        "project_pages": SqlProjectPages(database, clock.now),
        "run_pages": SqlRunPages(database, clock.now),
        "build_pages": SqlBuildPages(database, clock.now),
        "admin_pages": SqlAdminPages(database, clock.now),
        "pulls": SqlPullRequests(database, clock.now),
        "pull_pages": SqlPullPages(database, clock.now),
        "forges": {},
        "logs": FakeLogs(),
        "hook_runner": SimpleNamespace(log_location="/nowhere/{}.log".format),
        **doors,
    }
    given.setdefault("root_desk", FakeRootDesk(SqlRootPages(database, clock.now, settings.roots), given["office"]))
    given.setdefault("cache_desk", FakeCacheDesk(given["office"]))
    return Site(**given)


def listening() -> socket.socket:
    """Return a socket on a free port of loopback, made as TCP by name: asyncio turns Nagle's waiting off only then."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


@contextlib.asynccontextmanager
async def web_world(
    settings: ServerSettings | None = None,
    where: str = "",
    **doors: Any,  # noqa: ANN401 - any door
) -> AsyncIterator[WebWorld]:
    """Run the application on a free port of loopback, over a database of SQLite or the one at `where`.

    Its address becomes `settings.url` where that is plain http.
    """
    clock, listener = MovedClock(), listening()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    wanted = settings or ServerSettings()
    told = msgspec.structs.replace(wanted, url=url) if wanted.url.startswith("http://") else wanted
    async with contextlib.AsyncExitStack() as held:
        held.enter_context(listener)
        directory = held.enter_context(tempfile.TemporaryDirectory(prefix="nixmill-web-"))
        file = Path(directory) / "nixmill.sqlite"
        database = await held.enter_async_context(open_database(where or file, patience_s=1))
        site = make_site(told, clock, database, **doors)
        app = make_app(site)
        await held.enter_async_context(serving(app, listener))
        office: Any = site.office
        yield WebWorld(site, app, url, clock, office, database, held)


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Serve an application on a socket that listens, while the context lasts."""
    config = uvicorn.Config(
        app, log_config=None, lifespan="off", ws="none", proxy_headers=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    with listener:
        running = asyncio.create_task(server._serve([listener]))  # without handlers for signals
        try:
            yield
        finally:
            server.should_exit = True
            await running
