"""A server to measure: the real program in a process of its own, and what the system knows of that process."""

import asyncio
import contextlib
import hashlib
import hmac
import math
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2

from tests.support.postgres import Postgres
from tests.support.program import Project
from tests.support.scratch_store import scratch_store
from tests.support.server import JSON, PASSWORD, ServerProgram

MIB: Final = 1024 * 1024
DATABASES: Final = ("sqlite", "postgres")
LOOK_S: Final = 0.02
"""Seconds between two looks at a page for which something is waited."""


class Figure(NamedTuple):
    """One line of a table."""

    name: str
    value: float
    unit: str
    budget: float = math.inf
    """At most this; infinite where nothing is promised."""
    remark: str = ""

    @property
    def good(self) -> bool:
        """Say whether the budget holds."""
        return self.value <= self.budget


class Options(NamedTuple):
    """How much is measured."""

    quick: bool = False
    large: bool = False
    databases: Sequence[str] = DATABASES


def spread(name: str, values: Sequence[float], unit: str, budget: float = math.inf) -> list[Figure]:
    """Return the median and the largest of few values; the budget is for both."""
    return [
        Figure(f"{name}, median of {len(values)}", statistics.median(values), unit, budget),
        Figure(f"{name}, largest", max(values), unit, budget),
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of all values does not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def show(figure: Figure) -> None:
    """Print a line as soon as it is known."""
    limit = "" if math.isinf(figure.budget) else f"{'ok' if figure.good else 'MISSED':6} (at most {figure.budget:g})"
    print(f"  {figure.name:58} {figure.value:10.3f} {figure.unit:5} {limit} {figure.remark}".rstrip(), flush=True)


@contextlib.contextmanager
def database_settings(kind: str) -> Iterator[str]:
    """Yield the lines of the settings that choose a database; PostgreSQL runs while the context lasts."""
    if kind == "sqlite":
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="nm-pg-") as top:
        Path(top).chmod(0o755)
        directory = Path(top) / "c"
        directory.mkdir()
        cluster = Postgres(directory)
        try:
            yield f'database = "{cluster.url(cluster.new())}"\n'
        finally:
            cluster.stop()


@contextlib.contextmanager
def a_server(poll_s: int = 0, settings: str = "", **files: str) -> Iterator[ServerProgram]:
    """Make a server that is not started, with the administrator `mia` and the project `mill` that has these files.

    `poll_s` 0: it hears of pushes by webhook only.
    """
    with scratch_store() as store, tempfile.TemporaryDirectory(prefix="nixmill-bench-") as place:
        top = Path(place) / "mill"
        top.mkdir()
        declared = Path(place) / "projects.toml"
        declared.write_text(
            f'[[project]]\nname = "mill"\nurl = "file://{top}"\npoll-s = {poll_s}\n[[project.jobset]]\nname = "main"\n'
        )
        lines = f'projects-file = "{declared}"\n{settings}'
        server = ServerProgram(Project(top, store), Path(place) / "state", lines)
        server.project.commit(**files)
        server.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
        try:
            yield server
        finally:
            server.kill()


class Eye:
    """Looks at pages over one connection, so that looking costs little."""

    def __init__(self, server: ServerProgram, client: httpx2.AsyncClient) -> None:
        """Look at a server."""
        self._server = server
        self._client = client

    async def page(self, path: str) -> Any:  # noqa: ANN401 - the JSON twin of a page
        """Return the JSON twin of a page; None where there is none."""
        answer = await self._client.get(path)
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    async def until(
        self, path: str, holds: Callable[[Any], bool], seconds: float = 60.0, look_s: float = LOOK_S
    ) -> Any:  # noqa: ANN401
        """Return the JSON twin of a page as soon as something holds of it."""
        end = time.monotonic() + seconds
        while True:
            page = await self.page(path)
            if page is not None and holds(page):
                return page
            assert time.monotonic() < end, f"{path} never came so far: {page}\n{self._server.log}"
            await asyncio.sleep(look_s)

    async def there(self, number: int) -> None:
        """Wait until a run has a page."""
        await self.until(f"/r/{number}", lambda _: True)

    async def ended(self, number: int, seconds: float = 120.0, look_s: float = LOOK_S) -> Any:  # noqa: ANN401
        """Return the page of a run that has its verdict."""
        return await self.until(f"/r/{number}", lambda page: page["run"]["state"] == "done", seconds, look_s)


@contextlib.asynccontextmanager
async def started(server: ServerProgram) -> AsyncIterator[Eye]:
    """Start a server, let the first run end, and look at it."""
    server.start()
    await server.ready()
    async with looking(server) as eye:
        await hint(server)
        await eye.ended(1)
        yield eye


@contextlib.asynccontextmanager
async def looking(server: ServerProgram) -> AsyncIterator[Eye]:
    """Look at a server that runs."""
    async with httpx2.AsyncClient(base_url=server.url, timeout=60, headers=JSON) as client:
        yield Eye(server, client)


async def hint(server: ServerProgram) -> None:
    """Tell the server by a signed webhook that something was pushed."""
    body = b'{"ref": "refs/heads/main"}'
    key = (server.state / "webhook.key").read_bytes()
    secret = hmac.new(key, b"webhook 1", hashlib.sha256).hexdigest()  # of project 1, as its settings page shows it
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        answer = await client.post("/hook/mill", content=body, headers={"X-Nixmill-Signature": f"sha256={signature}"})
        assert answer.status_code == 202, answer.text


class Process(NamedTuple):
    """What the system says of a process."""

    pid: int

    @property
    def resident(self) -> float:
        """Memory it has now, in MiB."""
        return self._status("VmRSS") / 1024

    @property
    def peak(self) -> float:
        """Most memory it had since it began or `forget_peak` was called, in MiB."""
        return self._status("VmHWM") / 1024

    @property
    def cpu_s(self) -> float:
        """Processor seconds it used, in user mode and in the kernel."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def forget_peak(self) -> None:
        """Begin again to watch for the most memory (proc(5), `clear_refs`)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def process_of(server: ServerProgram) -> Process:
    """Return the process of a server that runs."""
    assert server.process is not None
    return Process(server.process.pid)
