"""Projects, changes and so on, with sensible defaults."""

from typing import Any, Final

from nixmill.core.access import Visibility
from nixmill.core.change import Change, Origin
from nixmill.core.project import Jobset, Project
from nixmill.core.view.pages import RememberedFailure
from nixmill.core.view.parts import ProjectLink
from nixmill.edge.database.changes import SqlChanges
from nixmill.edge.database.database import Database
from nixmill.edge.database.projects import SqlProjects
from tests.support.history_rows import drv

NOW: Final = 1_000_000.0


def now() -> float:
    return NOW


def a_project(name: str = "mill", **fields: Any) -> Project:  # noqa: ANN401 - of a project
    return Project(**{"name": name, "url": f"https://example.org/{name}.git", **fields})


def a_jobset(name: str = "main", **fields: Any) -> Jobset:  # noqa: ANN401 - of a jobset
    return Jobset(**{"name": name, "branches": ("main", "release-*"), **fields})


def a_change(project: int, **fields: Any) -> Change:  # noqa: ANN401 - of a change
    values = {"jobset": None, "ref": "refs/heads/main", "commit": "c1", "origin": Origin.PUSH, **fields}
    return Change(project=project, **values)


def a_failure(project: int, name: str, run: int, expires_at: float = NOW + 100) -> RememberedFailure:
    link = ProjectLink(id=project, name="mill", title="", visibility=Visibility.PUBLIC)
    return RememberedFailure(
        project=link,
        drv_path=drv(name),
        run=run,
        attempt=7,
        machine="local",
        at=NOW,
        expires_at=expires_at,
        message="no",
    )


async def saved_project(database: Database, name: str = "mill") -> int:
    """Return the id of a new project."""
    return (await SqlProjects(database, now).save_project(a_project(name))).id


async def accepted(database: Database, project: int, **fields: Any) -> int:  # noqa: ANN401 - of a change
    """Return the number of a new change."""
    return (await SqlChanges(database, now).accept([a_change(project, **fields)]))[0]
