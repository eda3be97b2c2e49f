"""Lets the pins go of branches that are no more, and of projects that are not watched any more."""

from collections.abc import Collection

from nixmill.core.roots import DAY_S
from nixmill.engine.server_doors import ServerDoors


async def tidy_pins(doors: ServerDoors) -> None:
    """Tell the book of pins which refs exist, of projects whose remote could be looked at the last time."""
    refs: dict[int, Collection[str]] = {}
    for project in await doors.projects.projects():
        polled = await doors.refs.polled(project.id)
        if not project.enabled:
            refs[project.id] = set()
        elif polled is not None and not polled.fault:
            refs[project.id] = {ref.name for ref in await doors.refs.refs(project.id)}
    await doors.pins.tidy(refs, doors.settings.roots.gone_days * DAY_S, doors.clock.now())
