"""Projects as the door gives them, found by what the engine knows of them."""

from collections.abc import Iterable

from nixmill.core.project import Project
from nixmill.doors.server import Projects


async def project_by_id(projects: Projects, number: int) -> Project | None:
    """Return a project; None where it was deleted."""
    return next((one for one in await projects.projects() if one.id == number), None)


def project_of_repository(projects: Iterable[Project], forge: str, repository: str, path: str) -> Project | None:
    """Return the project of a repository: by the id that never changes; one that has none yet, by its path."""
    mine = [project for project in projects if project.forge == forge]
    by_id = next((one for one in mine if one.repository_id and one.repository_id == repository), None)
    return by_id or next(
        (one for one in mine if path and not one.repository_id and one.repository.lower() == path.lower()), None
    )
