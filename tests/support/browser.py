"""A browser and a server with canned pages for the tests of the web."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from nixmill.config.server import ServerSettings
from nixmill.core.access import Role, Sight, Viewer
from nixmill.core.account import Session
from nixmill.core.project import Project
from nixmill.core.view.pages import ChecklistItem, Need
from nixmill.engine.live import Live
from nixmill.nix.attr_path import AttrPath
from nixmill.web.app import make_app
from nixmill.web.identify import hashed
from nixmill.web.site import Site
from tests.fakes.logs import FakeLogs
from tests.fakes.pages import NOW, FakeProjectPages, FakeRunPages

CHROMIUM: Final = Path("/usr/bin/chromium")
SECRET: Final = "a-session-of-a-test"  # noqa: S105 - opens nothing but canned pages
START_S: Final = 20.0


class StillClock:
    """Time that stands still, so that pages are the same each time."""

    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return NOW

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class CannedKeys:
    """One session."""

    async def session(self, token_hash: str, now: float) -> Session | None:
        if token_hash != hashed(SECRET):
            return None
        return Session(
            token_hash=token_hash, user=1, csrf="ab" * 16, created_at=NOW, seen_at=NOW, expires_at=NOW + 1000
        )


class CannedProjects:
    """One project."""

    async def project(self, name: str) -> Project | None:
        return Project(id=1, name="mill", url="https://git.example.org/mill.git") if name == "mill" else None


class CannedAccounts:
    """One user, who is a member of the project 1."""

    def __init__(self) -> None:
        self.who = Viewer(user=1, name="ada", roles={1: Role.MEMBER})

    async def viewer(self, user: int) -> Viewer | None:
        return self.who


class CannedOffice:
    """What the running server would add to pages."""

    def __init__(self) -> None:
        self.steps: tuple[ChecklistItem, ...] = ()

    async def wait_reason(self, number: int) -> str:
        return "Waits for builder-2 (kvm): busy with chromium-131, about 1 h 30 min."

    async def why(self, number: int, path: AttrPath) -> Sequence[str]:
        return ("libfoo-2.3 failed with exit code 2.",)

    async def needs(self, sight: Sight) -> Sequence[Need]:
        return (
            Need(
                what="builder-3 has not answered since this morning.", link="/machines", since=NOW - 7200, urgent=True
            ),
            Need(what="The disk of the log store will be full in 6 days.", link="/admin"),
        )

    async def checklist(self) -> Sequence[ChecklistItem]:
        return self.steps


class CannedHouse:
    """A site made of canned doors, each of which a test may change."""

    def __init__(self) -> None:
        self.accounts = CannedAccounts()
        self.office = CannedOffice()
        self.runs = FakeRunPages()
        self.projects = FakeProjectPages()
        self.logs = FakeLogs()
        self.loop: asyncio.AbstractEventLoop | None = None
        sink = self.logs.open(9001)
        for at in range(30):
            sink.write(f"checking test {at} ... ok")
        sink.write("foo.c:12:5: error: expected ';' before '}' token <script>alert(2)</script>")
        sink.write("make: *** [Makefile:40: foo.o] Error 1")
        self.site = Site(
            **cast(
                "Any",
                dict.fromkeys(
                    (
                        "changes",
                        "failures",
                        "members",
                        "outbox",
                        "build_pages",
                        "admin_pages",
                        "hook_runner",
                        "root_desk",
                        "cache_desk",
                        "pulls",
                        "pull_pages",
                        "root_desk",
                        "cache_desk",
                    )
                )
                | {
                    "settings": ServerSettings(),
                    "forges": {},
                    "clock": StillClock(),
                    "office": self.office,
                    "live": Live(),
                    "accounts": self.accounts,
                    "keys": CannedKeys(),
                    "projects": CannedProjects(),
                    "project_pages": self.projects,
                    "run_pages": self.runs,
                    "logs": self.logs,
                },
            )
        )

    def tell(self, topic: str, *, ended: bool = False) -> None:
        """Tell open pages that something changed."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(lambda: self.site.live.tell(topic, ended=ended))


class _Server(uvicorn.Server):
    """A server in a thread of its own leaves signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def serving(house: CannedHouse) -> Iterator[str]:
    """Serve a house on a free port while the context lasts; yield its address."""
    config = uvicorn.Config(
        make_app(house.site), port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=1
    )
    server = _Server(config)
    started = threading.Event()
    startup = server.startup

    async def noticed(sockets: Any = None) -> None:  # noqa: ANN401 - as uvicorn has it
        await startup(sockets)
        house.loop = asyncio.get_running_loop()
        started.set()

    server.startup = noticed  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(START_S), "the server did not start"
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_S)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run the distribution's Chromium while the context lasts; skip where there is none."""
    if not CHROMIUM.exists():
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextlib.contextmanager
def visit(browser: Browser, address: str, *, signed_in: bool = False, **how: Any) -> Iterator[BrowserContext]:  # noqa: ANN401 - as playwright has it
    """Yield a browser's context of its own, signed in where wanted."""
    context = browser.new_context(base_url=address, **how)
    context.set_default_timeout(10_000)
    if signed_in:
        context.add_cookies([{"name": "nixmill", "value": SECRET, "url": address}])
    yield context
    context.close()
