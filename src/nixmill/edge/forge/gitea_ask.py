"""Requests to Gitea and Forgejo, with the scopes that they need."""

from collections.abc import Mapping
from typing import Any, Final

from nixmill.doors import DoorError
from nixmill.edge.forge.credentials import ForgeCredentials
from nixmill.edge.forge.web import Ask, path_of

READ_CODE: Final = "read:repository"
WRITE_CODE: Final = "write:repository"
READ_ISSUES: Final = "read:issue"
WRITE_ISSUES: Final = "write:issue"
READ_USER: Final = "read:user"
ADMIN_HOOKS: Final = "write:repository, and being an administrator of the repository"
PAGE: Final = 50
"""Items of a page: more are not given unless the forge's administrator says so."""


class GiteaAsk:
    """Makes requests in the name of our token."""

    def __init__(self, credentials: ForgeCredentials, token: str) -> None:
        """Authorise with the credential called `token`."""
        self._credentials = credentials
        self._token = token

    def secret(self) -> str:
        """Return the token."""
        return self._credentials.secret(self._token)

    def plain(self, parts: tuple[str | int, ...], action: str, needs: str, **query: str | int) -> Ask:
        """Return a request to read something that belongs to no repository."""
        return Ask("GET", path_of(*parts), action, needs, headers=self._headers(), query=query)

    def of(
        self,
        path: str,
        parts: tuple[str | int, ...],
        action: str,
        needs: str,
        *,
        method: str = "GET",
        body: Any = None,  # noqa: ANN401 - whatever msgspec can encode
        query: Mapping[str, str | int] | None = None,
    ) -> Ask:
        """Return a request about a repository; raise `DoorError` where `path` cannot be one."""
        owner, name = owner_and_name(path)
        where = path_of("repos", owner, name, *parts)
        return Ask(method, where, action, needs, headers=self._headers(), query=query or {}, body=body)

    def _headers(self) -> Mapping[str, str]:
        return {"authorization": f"token {self.secret()}"}


def owner_and_name(path: str) -> tuple[str, str]:
    """Return the two parts of a repository's path; raise `DoorError` where there are not two."""
    owner, slash, name = path.partition("/")
    if not slash or "/" in name or len(path) > 300:
        raise DoorError(
            f"{path[:100]!r} is no path of a repository on Gitea or Forgejo: it has the form OWNER/NAME.",
            door="forge",
            action="ask",
            subject=ascii(path[:100]),
            retryable=False,
        )
    return owner, name
