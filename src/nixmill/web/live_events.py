"""Pages that change while they are open: the same address, asked for as `text/event-stream`.

An event says that something changed and, for a run, how it stands; the page, or a program, then asks again. Source:
HTML Standard, "Server-sent events".
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import Match
from starlette.types import Scope

from nixmill.core.access import Action
from nixmill.core.change import FINAL
from nixmill.core.view.parts import RunLine
from nixmill.engine.live import ALL, project_topic, run_topic
from nixmill.web.asking import Ask, Asked
from nixmill.web.showing import not_there

LEAST_OF_ALL_S: Final = 3.0
"""Seconds between two events of a page about everything: it costs more, and something changes all the time."""
LEAST_S: Final = 1.0
"""Seconds between two events of a page: more often nobody reads it."""
HEARTBEAT_S: Final = 15.0
STREAM_S: Final = 600.0
"""After about this long a stream ends. Whoever listens comes back, and is asked anew what they may see."""
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

Number = Annotated[int, Path(ge=0, le=2**53)]
Facts = Callable[[], Awaitable[tuple[dict[str, Any], bool]]]
"""Returns what an event says, and whether nothing more will come."""


class EventsRoute(APIRoute):
    """A route that only takes requests for events: the page at the same address is another one's."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether the request is for this route."""
        if scope["type"] == "http" and "text/event-stream" in Request(scope).headers.get("accept", ""):
            return super().matches(scope)
        return Match.NONE, {}


router: Final = APIRouter(route_class=EventsRoute)


@router.get("/r/{number}")
async def run_events(ask: Asked, number: Number) -> Response:
    """Tell how a run goes on, until it has ended."""

    async def facts() -> tuple[dict[str, Any], bool]:
        run = await ask.site.run_pages.run(ask.sight, number)
        return ({}, True) if run is None else (_of_run(run), run.state in FINAL)

    if await ask.site.run_pages.run(ask.sight, number) is None:
        raise not_there(f"run {number}")
    return _stream(ask, [run_topic(number)], facts)


@router.get("/p/{name}")
async def project_events(ask: Asked, name: str) -> Response:
    """Tell that something changed in a project."""
    project = await ask.project(name, Action.SEE)
    return _stream(ask, [project_topic(project.id)], _nothing_more_to_say)


@router.get("/p/{name}/b/{ref:path}")
async def branch_events(ask: Asked, name: str, ref: str) -> Response:  # noqa: ARG001 - a branch's page changes with its project
    """Tell that something changed on a branch, or elsewhere in its project."""
    return await project_events(ask, name)


@router.get("/p/{name}/pulls")
async def pulls_events(ask: Asked, name: str) -> Response:
    """Tell that something changed in the project of pull requests."""
    return await project_events(ask, name)


@router.get("/p/{name}/pull/{number}")
async def pull_events(ask: Asked, name: str, number: Number) -> Response:  # noqa: ARG001 - a pull request's page changes with its project
    """Tell that something changed in the project of a pull request."""
    return await project_events(ask, name)


@router.get("/")
@router.get("/approvals")
@router.get("/queue")
@router.get("/runs")
@router.get("/machines")
async def general_events(ask: Asked) -> Response:
    """Tell that something changed in a project that may be seen; what, is asked for with one's own rights."""
    if ask.may(Action.SEE_ADMIN):
        return _stream(ask, [ALL], _nothing_more_to_say)
    seen = [one for one in await ask.site.projects.projects() if ask.may(Action.SEE, one.id, one.visibility)]
    return _stream(ask, [project_topic(one.id) for one in seen], _nothing_more_to_say)


async def _nothing_more_to_say() -> tuple[dict[str, Any], bool]:
    return {}, False


def _of_run(run: RunLine) -> dict[str, Any]:
    return {"state": run.state, "verdict": run.verdict, "status": run.status, "counts": run.counts}


def _stream(ask: Ask, topics: Sequence[str], facts: Facts) -> Response:
    return StreamingResponse(_events(ask, topics, facts), media_type="text/event-stream", headers=HEADERS)


async def _events(ask: Ask, topics: Sequence[str], facts: Facts) -> AsyncGenerator[str]:
    """Yield an event at first and after each change, and a comment where nothing changes for long."""
    clock = ask.site.clock
    until = clock.monotonic() + STREAM_S
    with ask.site.live.listen(*topics) as listener:
        yield "retry: 2000\n\n"
        told = None
        while clock.monotonic() < until:
            said, ended = await facts()
            if ended:
                yield _event("ended", said)
                return
            at = clock.monotonic()
            if said != told or not said:
                told = said
                yield _event("changed", said)
            while not await listener.changed(HEARTBEAT_S) and clock.monotonic() < until:
                yield ": still here\n\n"
            least = LEAST_OF_ALL_S if ALL in topics else LEAST_S
            await clock.sleep(max(0.0, at + least - clock.monotonic()))


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(msgspec.to_builtins(data))}\n\n"
