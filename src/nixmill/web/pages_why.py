"""Why an attribute is as it is in a run, in sentences, next to what it was in the base."""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Path, Response
from markupsafe import Markup

from nixmill.core.access import Action
from nixmill.core.change import FINAL
from nixmill.core.view.parts import AttributeLine, Filter, RunLine
from nixmill.nix.attr_path import AttrPath, AttrPathError, parse
from nixmill.web.asking import Ask, Asked
from nixmill.web.log_rows import rows
from nixmill.web.pages_log import reader_of
from nixmill.web.showing import not_there, show

router = APIRouter()

TAIL_LINES: Final = 20
"""Lines of the log that explains it."""


class WhyPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/r/NUMBER/why/ATTR`."""

    run: RunLine
    line: AttributeLine
    sentences: tuple[str, ...]
    base: RunLine | None
    """The run that recorded the base's evaluation."""
    before: AttributeLine | None
    """The attribute in that run; None where it is new or there is no base."""


@router.get("/r/{number}/why/{name:path}")
async def why(ask: Asked, number: Annotated[int, Path(ge=0, le=2**53)], name: str) -> Response:
    """Explain an attribute."""
    path = _path(name)
    found = await ask.site.run_pages.attribute_of(ask.sight, number, path)
    if found is None:
        raise not_there(f"such attribute in run {number}")
    run, line = found
    base, before = await _base(ask, number, path, line.name)
    sentences = tuple(await ask.site.office.why(number, path))
    page = WhyPage(run=run, line=line, sentences=sentences, base=base, before=before)
    return show(
        ask,
        "why.html",
        page,
        title=f"Why {line.name} {line.status.value}",
        status=line.status,
        tail=await _tail(ask, line),
        may_retry=run.state in FINAL and ask.may(Action.RETRY, run.project.id, run.project.visibility),
    )


def _path(name: str) -> AttrPath:
    try:
        return parse(name)
    except AttrPathError:
        raise not_there("attribute of that name") from None


async def _base(ask: Ask, number: int, path: AttrPath, name: str) -> tuple[RunLine | None, AttributeLine | None]:
    """Return the base's run and the attribute there, as far as they may be seen."""
    page = await ask.site.run_pages.evaluation(ask.sight, number, Filter.ALL, name, 1, 1)
    if page is None or page.base is None:
        return None, None
    found = await ask.site.run_pages.attribute_of(ask.sight, page.base.number, path)
    return page.base, found[1] if found is not None else None


async def _tail(ask: Ask, line: AttributeLine) -> Markup:
    """Return the end of the log that explains a failure, as rows."""
    if line.attempt is None or await ask.site.build_pages.log(ask.sight, line.attempt) is None:
        return Markup("")
    window = await reader_of(ask).window(line.attempt, count=TAIL_LINES)
    return Markup("").join(Markup(rows(group.lines, error=window.error)) for group in window.groups)  # noqa: S704 - made of escaped text
