"""Requests to GitLab, with what they need: the scope of the token and the role of its user."""

from collections.abc import Mapping
from typing import Final

from nixmill.edge.forge.token_ask import TokenAsk, no_repository

READ: Final = "scope read_api, role Reporter"
WRITE: Final = "scope api, role Developer"
ADMIN: Final = "scope api, role Maintainer"
PAGE: Final = 100
"""Items of a page; more are never given."""
PATH_MAX: Final = 1000
"""Characters of a project's path."""


class GitLabAsk(TokenAsk):
    """Makes requests to a GitLab."""

    def _headers(self) -> Mapping[str, str]:
        return {"private-token": self.secret()}

    def _place(self, repository: str | int) -> tuple[str | int, ...]:
        if isinstance(repository, str):
            check_path(repository)
        return ("projects", repository)


def check_path(path: str) -> None:
    """Raise `DoorError` where a text can be no project's path; a number would be taken for a project's id."""
    parts = path.split("/")
    if len(parts) < 2 or len(path) > PATH_MAX or any(part in {"", ".", ".."} for part in parts):
        raise no_repository(
            path, "is no path of a project on GitLab: it has the form GROUP/NAME or GROUP/SUBGROUP/NAME."
        )
