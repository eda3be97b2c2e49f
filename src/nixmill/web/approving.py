"""Which pull requests wait for the approval of whoever asks."""

from typing import Final

from nixmill.core.access import PROJECT_ROLES, Action, Role, Sight, Viewer, allowed, sight
from nixmill.core.view.pulls import PullLine
from nixmill.web.site import Site

MOST: Final = 100
"""As many as the database lists at once."""
_MAY: Final = frozenset(PROJECT_ROLES) - {Role.VIEWER}


def may_approve_any(viewer: Viewer) -> bool:
    """Say whether there can be anything that somebody may approve."""
    return viewer.admin or any(role in _MAY for role in viewer.roles.values())


async def waiting(site: Site, viewer: Viewer) -> tuple[PullLine, ...]:
    """Return what somebody may approve, the longest waiting first, at most `MOST`.

    Where more wait than are listed at once, projects of theirs are looked at one by one: strangers who open many pull
    requests elsewhere hide nothing.
    """
    if not may_approve_any(viewer):
        return ()
    seen = sight(viewer)
    found = (await site.pull_pages.waiting(seen)).pulls
    if len(found) >= MOST and not viewer.admin:
        mine = [project for project, role in viewer.roles.items() if role in _MAY]
        pages = [await site.pull_pages.waiting(_only(seen, project)) for project in mine]
        found = tuple(line for page in pages for line in page.pulls)
    may = [line for line in found if allowed(viewer, Action.APPROVE, line.project.id, line.project.visibility)]
    return tuple(may[:MOST])


def _only(seen: Sight, project: int) -> Sight:
    only = project if seen.only in {None, project} else 0
    return Sight(everything=seen.everything, internal=seen.internal, private=seen.private, only=only)
