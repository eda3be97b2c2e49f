"""The whole server: the program in a process of its own, real Nix in a scratch store, real git, real HTTP."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.support.program import NIXMILL, Project
from tests.support.web import Browser

PASSWORD = "a password of the tests"  # noqa: S105 - of an account that lives for a test
READY_S = 60.0
JSON = {"Accept": "application/json"}


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class ServerProgram:
    """A server, started and stopped as often as a test likes; its state stays."""

    project: Project
    """A checkout that the server can watch by its `file://` URL, and the store it builds in."""
    state: Path
    settings: str = ""
    """More lines of its settings file."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    program: tuple[str, ...] = NIXMILL

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        """Its settings file."""
        return self.state.parent / f"{self.state.name}.toml"

    @property
    def log(self) -> str:
        """What it wrote about itself."""
        return (self.state.parent / f"{self.state.name}.log").read_text()

    def command(self, *arguments: str, stdin: str = "") -> str:
        """Run a command of nixmill with the server's settings; return what it prints."""
        self._write_settings()
        done = subprocess.run(
            (*NIXMILL, *arguments, "--config", str(self.config)),
            env=self.project.store.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        """Start it; `ready` waits until it answers."""
        self._write_settings()
        with (self.state.parent / f"{self.state.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                (*self.program, "serve", "--config", str(self.config)),
                env=self.project.store.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def ready(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + READY_S
        async with httpx2.AsyncClient(base_url=self.url) as client:
            while True:
                assert self.process is not None
                assert self.process.poll() is None, self.log
                with contextlib.suppress(httpx2.TransportError):
                    if (await client.get("/healthz")).status_code == 200:
                        return
                assert time.monotonic() < end, self.log
                await asyncio.sleep(0.05)

    def kill(self) -> None:
        """Kill it without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=20)
        self.process = None
        return code

    @contextlib.asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        """Give a browser, nobody signed in."""
        async with httpx2.AsyncClient(base_url=self.url, timeout=30, headers={"Accept": "text/html"}) as client:
            yield Browser(client)

    @contextlib.asynccontextmanager
    async def administrator(self) -> AsyncIterator[Browser]:
        """Give a browser in which the administrator `mia` is signed in."""
        async with self.browser() as browser:
            answer = await browser.sign_in("mia", PASSWORD)
            assert answer.status_code == 303, answer.text
            yield browser

    async def get(self, path: str) -> Any:  # noqa: ANN401 - the JSON twin of a page
        """Return the JSON twin of a page; None where there is none."""
        async with httpx2.AsyncClient(base_url=self.url, timeout=30) as client:
            answer = await client.get(path, headers=JSON)
            return None if answer.status_code == 404 else answer.raise_for_status().json()

    async def until(self, path: str, holds: Callable[[Any], bool], seconds: float = 60.0) -> Any:  # noqa: ANN401 - likewise
        """Return the JSON twin of a page as soon as something holds of it."""
        end = time.monotonic() + seconds
        while True:
            page = await self.get(path)
            if page is not None and holds(page):
                return page
            assert time.monotonic() < end, f"{path} never came so far: {page}\n{self.log}"
            await asyncio.sleep(0.05)

    async def ended(self, number: int, seconds: float = 60.0) -> Any:  # noqa: ANN401 - likewise
        """Return the page of a run that has its verdict."""
        return await self.until(f"/r/{number}", lambda page: page["run"]["state"] == "done", seconds)

    def _write_settings(self) -> None:
        text = f'listen = "127.0.0.1:{self.port}"\nurl = "{self.url}"\nstate = "{self.state}"\n{self.settings}'
        self.config.write_text(text)
        self.config.chmod(0o600)
