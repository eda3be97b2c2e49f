"""The log of one run of a hook: for members of its project, since hooks may say more than a build does."""

import asyncio
import re
from pathlib import Path
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Response
from markupsafe import Markup

from nixmill.core.access import Action
from nixmill.core.status import Status
from nixmill.core.view.pages import HookRunLine
from nixmill.web.asking import Ask, Asked
from nixmill.web.log_rows import LINE_BYTES, Line, rows
from nixmill.web.showing import not_there, show

router = APIRouter()

TAIL_BYTES: Final = 512 * 1024
"""What is shown of a hook's log: its end."""
LOOKED_AT: Final = 10_000
_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")


class HookLogPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/hooks/ID/log`."""

    run: HookRunLine
    text: str
    """The end of what it wrote."""
    left_out: int
    """Bytes before that."""


@router.get("/hooks/{id_}/log")
async def hook_log(ask: Asked, id_: str, run: Annotated[int | None, Query(ge=0, le=2**53)] = None) -> Response:
    """Show how a run of a hook went and the end of what it wrote."""
    line = await _line(ask, id_, run)
    await ask.project(line.project, Action.SEE_HOOK_LOG)
    data, left_out = await asyncio.to_thread(_tail, Path(ask.site.hook_runner.log_location(line.id)))
    text = data.decode("utf-8", "replace")
    page = HookLogPage(run=line, text=text, left_out=left_out)
    good = Status.PASSED if line.good else Status.FAILED
    return show(
        ask,
        "hook_log.html",
        page,
        title=f"Hook {line.hook}, run {line.run}",
        status=Status.RUNNING if line.ended_at is None else good,
        rows=_rows(text),
    )


async def _line(ask: Ask, id_: str, run: int | None) -> HookRunLine:
    """Return a run of a hook; `run`, where the link gave it, makes looking cheap."""
    lines = await ask.site.admin_pages.hook_runs(ask.sight, run, LOOKED_AT) if _ID.fullmatch(id_) else ()
    for line in lines:
        if line.id == id_:
            return line
    raise not_there("run of a hook with that name")


def _tail(path: Path) -> tuple[bytes, int]:
    """Return the end of a file and how many bytes come before it; nothing where there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            skipped = max(size - TAIL_BYTES, 0)
            file.seek(skipped)
            return file.read(TAIL_BYTES), skipped
    except FileNotFoundError:
        return b"", 0


def _rows(text: str) -> Markup:
    lines = text.removesuffix("\n").split("\n") if text else []
    numbered = [Line(number, line[:LINE_BYTES], 0) for number, line in enumerate(lines, start=1)]
    return Markup(rows(numbered))  # noqa: S704 - made of escaped text
