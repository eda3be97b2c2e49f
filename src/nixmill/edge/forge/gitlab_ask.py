"""Requests to GitLab, with what they need: the scope of the token and the role of its user."""

from collections.abc import Mapping
from typing import Any, Final

from nixmill.doors import DoorError
from nixmill.edge.forge.credentials import ForgeCredentials
from nixmill.edge.forge.web import Ask, path_of

READ: Final = "scope read_api, role Reporter"
WRITE: Final = "scope api, role Developer"
ADMIN: Final = "scope api, role Maintainer"
PAGE: Final = 100
"""Items of a page; more are never given."""
PATH_MAX: Final = 1000


class GitLabAsk:
    """Makes requests in the name of our token."""

    def __init__(self, credentials: ForgeCredentials, token: str) -> None:
        """Authorise with the credential called `token`."""
        self._credentials = credentials
        self._token = token

    def secret(self) -> str:
        """Return the token."""
        return self._credentials.secret(self._token)

    def plain(self, parts: tuple[str | int, ...], action: str, needs: str, **query: str | int) -> Ask:
        """Return a request to read something that belongs to no project."""
        return Ask("GET", path_of(*parts), action, needs, headers=self._headers(), query=query)

    def of(
        self,
        project: str | int,
        parts: tuple[str | int, ...],
        action: str,
        needs: str,
        *,
        method: str = "GET",
        body: Any = None,  # noqa: ANN401 - whatever msgspec can encode
        query: Mapping[str, str | int] | None = None,
    ) -> Ask:
        """Return a request about a project, by path or number; raise `DoorError` where it cannot be one."""
        if isinstance(project, str):
            check_path(project)
        where = path_of("projects", project, *parts)
        return Ask(method, where, action, needs, headers=self._headers(), query=query or {}, body=body)

    def _headers(self) -> Mapping[str, str]:
        return {"private-token": self.secret()}


def check_path(path: str) -> None:
    """Raise `DoorError` where a text can be no project's path; a number would be taken for a project's id."""
    parts = path.split("/")
    if len(parts) < 2 or len(path) > PATH_MAX or any(part in {"", ".", ".."} for part in parts):
        raise DoorError(
            f"{path[:100]!r} is no path of a project on GitLab: it has the form GROUP/NAME or GROUP/SUBGROUP/NAME.",
            door="forge",
            action="ask",
            subject=ascii(path[:100]),
            retryable=False,
        )
