"""Evaluations: one of them, and any two compared."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Path, Query, Response

from nixmill.core.access import Action
from nixmill.core.change import FINAL
from nixmill.core.view.pages import ComparePage, EvaluationPage
from nixmill.core.view.parts import PAGE_SIZE, Filter, RunLine
from nixmill.engine import tails
from nixmill.web import retry_cost, urls
from nixmill.web.asking import Ask, Asked
from nixmill.web.showing import not_there, see_other, show
from nixmill.web.writing import ALL_MAX, ref

router: Final = APIRouter()
FIND_MAX: Final = 200
"""Characters of the text that is looked for in names."""
_LONG: Final = 500
"""Rows from which on drawing a page takes so long that others would wait for it."""
_NUMBER_MAX: Final = 2**53
Number = Annotated[int, Path(ge=0, le=_NUMBER_MAX)]
"""A run; 0 and what is too large are simply not there."""
Page = Annotated[int, Query(ge=1, le=_NUMBER_MAX)]
Size = Annotated[int, Query(ge=0, le=1000)]


@router.get("/r/{number}")
async def evaluation(
    ask: Asked,
    number: Number,
    shown: Annotated[Filter | None, Query(alias="show")] = None,
    find: Annotated[str, Query(max_length=FIND_MAX)] = "",
    page: Page = 1,
    size: Size = PAGE_SIZE,
) -> Response:
    """Show an evaluation: verdict, counts, root causes, table."""
    found = await ask.site.run_pages.evaluation(ask.sight, number, shown, find.strip(), page, size or ALL_MAX)
    if found is None:
        raise not_there(f"run {number}")
    found = await _filled(ask, found)
    retries = await retry_cost.cost(ask.site.run_pages, ask.sight, found.run) if _may_retry(ask, found.run) else None
    query = {"show": found.filter.value, "find": found.find, "size": size if size != PAGE_SIZE else None}
    pull = "" if ask.wants_json else await _pull_title(ask, found.run)
    made = partial(show, live=found.run.state not in FINAL, retry=retries, query=query, pull=pull)
    title = f"{found.run.project.name} {ref(found.run.ref)} · run {number}"
    return await _drawn(made, ask, "evaluation.html", found, title=title, status=found.run.status)


async def _drawn(
    made: Callable[..., Response], ask: Ask, template: str, page: EvaluationPage | ComparePage, **more: object
) -> Response:
    """Draw a page; a long one beside the event loop, which goes on meanwhile."""
    if len(page.rows) <= _LONG:
        return made(ask, template, page, **more)
    return await asyncio.to_thread(made, ask, template, page, **more)


async def _filled(ask: Ask, page: EvaluationPage) -> EvaluationPage:
    """Return the page with what the database does not know: why it waits, and the last lines of logs."""
    run = page.run
    if run.state not in FINAL and not run.wait:
        run = msgspec.structs.replace(run, wait=await ask.site.office.wait_reason(run.number))
    return msgspec.structs.replace(page, run=run, causes=await tails.filled(ask.site.logs, page.causes))


async def _pull_title(ask: Ask, run: RunLine) -> str:
    """Return the title of the run's pull request; empty where it has none."""
    known = None if run.pull_request is None else await ask.site.pulls.pull_request(run.project.id, run.pull_request)
    return known.pull.title if known is not None else ""


def _may_retry(ask: Ask, run: RunLine) -> bool:
    return run.state in FINAL and ask.may(Action.RETRY, run.project.id, run.project.visibility)


@router.get("/compare")
async def choose(a: Annotated[int, Query(ge=0)], b: Annotated[int, Query(ge=0)]) -> Response:
    """Lead from the form that chooses two evaluations to their comparison."""
    return see_other(urls.compare(a, b))


@router.get("/compare/{before}/{after}")
async def compare(ask: Asked, before: Number, after: Number, page: Page = 1, size: Size = PAGE_SIZE) -> Response:
    """Show what differs between two evaluations."""
    found = await ask.site.run_pages.compare(ask.sight, before, after, page, size or ALL_MAX)
    if found is None:
        raise not_there(f"pair of runs {before} and {after}")
    query = {"size": size if size != PAGE_SIZE else None}
    made = partial(show, said=difference(found), query=query)
    return await _drawn(made, ask, "compare.html", found, title=f"Runs {before} and {after} compared")


def difference(page: ComparePage) -> str:
    """Return in one sentence what differs."""
    told = [
        f"{page.counts[word]:,} {word}"
        for word in ("newly failing", "fixed", "changed", "new", "removed")
        if page.counts.get(word)
    ]
    same = page.counts.get("same", 0)
    rest = f"; {same:,} the same" if same else ""
    return f"{', '.join(told).capitalize()}{rest}." if told else f"Nothing differs{rest}."
