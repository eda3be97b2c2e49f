"""`nixmill watch`: a run on a server, as it goes on; the exit code is that of its verdict."""

import asyncio
import contextlib
import os
import time
from typing import Final

from nixmill.cli.client import Client
from nixmill.cli.interrupt import CTRL_C_EXIT_CODE, interruptible
from nixmill.cli.render import ci
from nixmill.cli.render.choose import paint_for, terminal_size
from nixmill.cli.render.redraw import Redraw
from nixmill.cli.render.server_view import cause_lines, head_lines, run_lines, watched_lines
from nixmill.cli.render.sink import FileSink
from nixmill.cli.standard_streams import say
from nixmill.core.change import ChangeState
from nixmill.core.errors import InputError
from nixmill.core.project import NAME
from nixmill.core.run_event import EXIT_CODE, Verdict
from nixmill.core.view.pages import EvaluationPage, HomePage, ProjectPage

TICK_S: Final = 1.0
_ERR: Final = 2


async def watch(client: Client, what: str | None) -> int:
    """Watch the run that `what` means until its verdict; return the exit code."""
    number = await run_meant(client, what)
    return await watch_run(client, number)


async def run_meant(client: Client, what: str | None) -> int:
    """Return a run's number: itself, the newest run of a project, or what runs now."""
    if what is not None and what.isdecimal():
        return int(what)
    if what is not None:
        runs = (await client.page(project_path(what), ProjectPage)).runs
        missing = InputError(f"{what} had no run yet.", f"Start one: nixmill run --remote --project {what}")
    else:
        runs = (await client.page("/", HomePage)).running
        missing = InputError("Nothing runs.", "Name a run or a project; nixmill status shows them.")
    if not runs:
        raise missing
    going = [run for run in runs if run.state is not ChangeState.DONE]
    return (going or list(runs))[0].number


def project_path(name: str) -> str:
    """Return the path of a project's page; raise `InputError` where the name cannot be one."""
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name of a project.", "See what there is: nixmill status")
    return f"/p/{name}"


async def watch_run(client: Client, number: int) -> int:
    """Watch a run until its verdict; return the exit code. Ctrl-C stops watching, not the run."""
    watched = _Watched(client, number)
    watched.task = task = asyncio.ensure_future(watched.follow())
    with interruptible(watched.stop, watched.close):
        try:
            page = await task
        except asyncio.CancelledError:
            watched.close()
            say(f"Run {number} goes on. To stop it: nixmill cancel {number}")
            return CTRL_C_EXIT_CODE
        finally:
            watched.close()
    return EXIT_CODE[page.run.verdict or Verdict.INFRASTRUCTURE]


class _Watched:
    """A run on its way, and what was said of it already."""

    def __init__(self, client: Client, number: int) -> None:
        self._client, self._path, self._number = client, f"/r/{number}", number
        self._paint = paint_for("auto", os.environ, _ERR)
        live = os.isatty(_ERR) and os.environ.get("TERM", "") not in {"", "dumb"}
        live = live and ci.detect(os.environ) is ci.Ci.NONE
        self._redraw = Redraw(FileSink(_ERR, optional=True), lambda: terminal_size(_ERR), live=live)
        self._page: EvaluationPage | None = None
        self._said: set[str] = set()
        self._state: ChangeState | None = None
        self.task: asyncio.Task[EvaluationPage] | None = None

    def stop(self) -> None:
        """Stop watching."""
        if self.task is not None:
            self.task.cancel()

    def close(self) -> None:
        """Give the terminal back."""
        self._redraw.close()

    async def follow(self) -> EvaluationPage:
        """Show the run until it has a verdict; return its last page."""
        page = await self._look()
        ticking = asyncio.create_task(self._keep_ticking())
        try:
            while page.run.state is not ChangeState.DONE:
                page = await self._listen(page)
        finally:
            ticking.cancel()
        self._end(await self._client.page(self._path, EvaluationPage))
        return page

    async def _listen(self, page: EvaluationPage) -> EvaluationPage:
        """Look again at each event until the stream ends, perhaps before the run does; return the last page."""
        async with contextlib.aclosing(self._client.events(self._path)) as events:
            async for _ in events:  # the first comes as soon as the stream is open: nothing in between is missed
                page = await self._look()
                if page.run.state is ChangeState.DONE:
                    return page
        await asyncio.sleep(TICK_S)
        return await self._look()

    async def _look(self) -> EvaluationPage:
        page = await self._client.page(self._path, EvaluationPage, size=1)
        self._page = page
        self._show()
        return page

    async def _keep_ticking(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._show()

    def _show(self) -> None:
        if self._page is None or self._page.run.state is ChangeState.DONE:
            return
        now = time.time()
        stays = self._news(self._page, now)
        frame = watched_lines(self._page, self._paint, now, self._redraw.columns, self._redraw.rows)
        self._redraw.show(stays, frame, now)

    def _news(self, page: EvaluationPage, now: float) -> list[str]:
        """Return what was not said yet: what the run is, that it went on, and root causes as they come up."""
        lines: list[str] = []
        if self._state is None:
            lines += [
                *head_lines(page, self._paint, now, self._redraw.columns)[1:],
                f"  {self._client.address(self._path)}",
            ]
        elif page.run.state is not self._state:
            lines.append(self._paint.dim(f"{self._paint.glyph(page.run.status)} {page.run.state.value}"))
        self._state = page.run.state
        for cause in page.causes:
            if cause.drv_path not in self._said:
                self._said.add(cause.drv_path)
                lines += cause_lines(cause, self._paint, self._redraw.columns)
        return lines

    def _end(self, page: EvaluationPage) -> None:
        lines = run_lines(page, self._paint, time.time(), self._redraw.columns, self._client.address(self._path))
        self._redraw.show(["", *lines] if self._state is not None else lines, (), time.time())
