"""Projects as the door gives them, found by what the engine knows of them."""

from nixmill.core.project import Project
from nixmill.doors.server import Projects


async def project_by_id(projects: Projects, number: int) -> Project | None:
    """Return a project; None where it was deleted."""
    return next((one for one in await projects.projects() if one.id == number), None)
