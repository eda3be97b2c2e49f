"""Projects and users by names that strangers sent: what cannot be a name is never looked for."""

from typing import Final

from nixmill.core.account import USER_NAME, User
from nixmill.core.project import NAME, Project
from nixmill.doors.server import Accounts, Projects

PRINTABLE: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""What a line of text typed by somebody may hold."""


async def find_project(projects: Projects, name: str) -> Project | None:
    """Return the project that is, or once was, called so."""
    return await projects.project(name) if NAME.fullmatch(name) else None


async def find_user(accounts: Accounts, name: str) -> User | None:
    """Return the user of that name."""
    return await accounts.user(name) if USER_NAME.fullmatch(name) else None
