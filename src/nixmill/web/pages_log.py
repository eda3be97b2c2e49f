"""The log of an attempt: as a page, as text, and live."""

import re
import shlex
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from markupsafe import Markup

from nixmill.core.access import Action
from nixmill.core.project import Project
from nixmill.core.status import Status
from nixmill.core.view.pages import LogPage
from nixmill.core.view.parts import AttemptLine
from nixmill.nix.store_path import derivation_name
from nixmill.web.asking import Ask, Asked
from nixmill.web.log_follow import Follower
from nixmill.web.log_rows import ALL_LINES, TAIL_LINES, LogReader, Window, phase_block, rows
from nixmill.web.showing import as_json, not_there, show

router = APIRouter()

RAW_HEADERS: Final = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""A log is text of strangers: nothing in it is ever run, whatever a browser makes of it."""
STREAM_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""nginx would gather events otherwise."""
CONTEXT: Final = 20
"""Lines shown above those that somebody pointed at."""
_RANGE: Final = re.compile(r"L?(\d{1,12})(?:-L?(\d{1,12}))?")
_LINE_MAX: Final = 10**12

Attempt = Annotated[int, Path(ge=0, le=2**53)]
Offset = Annotated[int, Query(ge=0, le=2**62)]


@router.get("/log/{attempt}")
async def log_page(
    ask: Asked,
    attempt: Attempt,
    first: Annotated[int | None, Query(alias="from", ge=1, le=_LINE_MAX)] = None,
    line: str = "",
    all_: Annotated[str | None, Query(alias="all")] = None,
    as_: Annotated[str, Query(alias="as")] = "text",
    offset: Offset = 0,
) -> Response:
    """Show a log, its end first; or follow it, for those who accept events."""
    page = await _page(ask, attempt)
    if ask.wants_events:
        return await _followed(ask, attempt, resumed(ask.request, offset), as_html=as_ == "html")
    if ask.wants_json:
        return as_json(page)
    marked = _lines(line)
    if marked:
        first = max(marked.start - CONTEXT, 1)
    count = TAIL_LINES if all_ is None else ALL_LINES
    window = await reader_of(ask).window(attempt, first or (1 if all_ is not None else None), count)
    project = await _project(ask, page)
    return show(
        ask,
        "log.html",
        page,
        title=f"{page.attempt.name}, log of attempt {attempt}",
        status=page.attempt.status,
        window=window,
        lines=_drawn(window, marked),
        step=TAIL_LINES,
        running=page.attempt.status is Status.RUNNING,
        repeat=repeat_lines(page, project),
        project=project,
    )


@router.get("/log/{attempt}/raw")
async def log_raw(
    ask: Asked,
    attempt: Attempt,
    offset: Offset = 0,
    limit: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    download: str | None = None,
) -> Response:
    """Give the text of a log as it was written, from a byte on."""
    page = await _page(ask, attempt)
    way = "inline" if download is None else "attachment"
    headers = {**RAW_HEADERS, "Content-Disposition": f'{way}; filename="{_file_name(page.attempt)}"'}
    text = ask.site.logs.read(attempt, offset, limit)
    return StreamingResponse(text, media_type="text/plain; charset=utf-8", headers=headers)


def reader_of(ask: Ask) -> LogReader:
    """Return the one reader of the site's logs, with what it keeps."""
    state = ask.request.app.state
    if not hasattr(state, "log_reader"):
        state.log_reader = LogReader(ask.site.logs)
    reader: LogReader = state.log_reader
    return reader


def resumed(request: Request, offset: int) -> int:
    """Return where a stream goes on: what a browser that comes back heard last counts more than its address."""
    last = request.headers.get("last-event-id", "")
    return int(last) if re.fullmatch(r"\d{1,18}", last, re.ASCII) else offset


def repeat_lines(page: LogPage, project: Project | None) -> list[str]:
    """Return the commands that repeat an attempt, on any machine that has Nix."""
    drv_path = page.attempt.drv_path
    lines = []
    if project is not None and page.run is not None and page.run.commit:
        lines += [
            f"git clone {shlex.quote(project.url)} {shlex.quote(project.name)}",
            f"cd {shlex.quote(project.name)}",
            f"nixmill run -r {shlex.quote(page.run.commit)}",
        ]
    lines += ["# exactly this derivation, while it is in the store:", f"nix-store --realise {shlex.quote(drv_path)}"]
    return lines


async def _page(ask: Ask, attempt: int) -> LogPage:
    page = await ask.site.build_pages.log(ask.sight, attempt)
    if page is None:
        raise not_there(f"attempt {attempt}")
    return page


async def _project(ask: Ask, page: LogPage) -> Project | None:
    """Return the project of an attempt, for its repository; None where it may not be seen."""
    link = page.attempt.project
    if link is None or not ask.may(Action.SEE, link.id, link.visibility):
        return None
    return await ask.site.projects.project(link.name)


async def _followed(ask: Ask, attempt: int, offset: int, *, as_html: bool) -> Response:
    async def running() -> str | None:
        """Return how the attempt stands once it has ended, or may no longer be seen."""
        page = await ask.site.build_pages.log(ask.sight, attempt)
        status = Status.CANCELLED if page is None else page.attempt.status
        return None if status is Status.RUNNING else status.value

    follower = Follower(reader_of(ask), attempt, as_html=as_html)
    await follower.seek(offset)
    events = follower.events(ask.site.live, ask.site.clock, running)
    return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)


def _lines(text: str) -> range:
    """Return the lines that `12`, `10-20` or `L10-L20` points at; none for anything else."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return range(0)
    first, last = int(found[1]), int(found[2] or found[1])
    return range(min(first, last), max(first, last) + 1)


def _drawn(window: Window, marked: range) -> Markup:
    """Return the rows of a window by phase, as safe HTML (`nixmill.core.ansi_html`)."""
    blocks = []
    for group in window.groups:
        shown = rows(group.lines, marked=marked, error=window.error)
        blocks.append(phase_block(group.phase, shown) if group.phase else f"<div data-log-rows>\n{shown}</div>\n")
    return Markup("".join(blocks) or "<div data-log-rows></div>\n")  # noqa: S704 - made of escaped text


def _file_name(attempt: AttemptLine) -> str:
    """Return a name for the file; those of derivations have none but harmless characters."""
    return f"{derivation_name(attempt.drv_path)}-{attempt.number}.log"
