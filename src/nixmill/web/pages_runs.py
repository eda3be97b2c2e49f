"""The newest runs, of all projects or of one."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from nixmill.core.access import Action
from nixmill.core.view.pages import RunsPage
from nixmill.core.view.parts import ProjectLink
from nixmill.web.asking import Asked
from nixmill.web.showing import show

router: Final = APIRouter()
LIMIT: Final = 100
_NUMBER_MAX: Final = 2**53


@router.get("/runs")
async def runs(
    ask: Asked,
    project: Annotated[str, Query(max_length=64)] = "",
    before: Annotated[int | None, Query(ge=0, le=_NUMBER_MAX)] = None,
) -> Response:
    """Show runs, the newest first."""
    found = await ask.project(project, Action.SEE) if project else None
    lines = await ask.site.project_pages.runs(ask.sight, found.id if found else None, before, LIMIT)
    link = ProjectLink(id=found.id, name=found.name, title=found.title, visibility=found.visibility) if found else None
    older = lines[-1].number if len(lines) == LIMIT else None
    page = RunsPage(project=link, runs=tuple(lines), older=older)
    return show(ask, "runs.html", page, title=f"Runs of {found.name}" if found else "Runs", live=before is None)
