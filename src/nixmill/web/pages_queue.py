"""What runs and waits, and the machines that do the work."""

from fastapi import APIRouter, Response

from nixmill.core.status import Status
from nixmill.core.view.pages import QueueLine, QueuePage
from nixmill.web.asking import Asked
from nixmill.web.showing import show

router = APIRouter()


@router.get("/queue")
async def queue(ask: Asked) -> Response:
    """Show what runs, then what waits and for what, by run."""
    page = await ask.site.office.queue(ask.sight)
    running = [line for line in page.lines if line.status == Status.RUNNING.value]
    return show(
        ask,
        "queue.html",
        page,
        title="Queue",
        status=Status.RUNNING if running else None,
        live=True,
        running=running,
        waiting=_by_run(page),
    )


@router.get("/machines")
async def machines(ask: Asked) -> Response:
    """Show the machines and what they do."""
    page = await ask.site.office.machines(ask.sight)
    return show(ask, "machines.html", page, title="Machines", live=True)


def _by_run(page: QueuePage) -> dict[int, list[QueueLine]]:
    """Return what waits by run, in the order in which runs go on; runs without a place in it come last."""
    waiting: dict[int, list[QueueLine]] = {run.number: [] for run in page.runs}
    for line in page.lines:
        if line.status != Status.RUNNING.value:
            waiting.setdefault(line.run, []).append(line)
    return waiting
