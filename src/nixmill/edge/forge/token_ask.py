"""Requests that one token authorises, as Gitea, Forgejo and GitLab want them."""

from collections.abc import Mapping
from typing import Any

from nixmill.doors import DoorError
from nixmill.edge.forge.credentials import ForgeCredentials
from nixmill.edge.forge.web import Ask, path_of


class TokenAsk:
    """Makes requests in the name of our token; kinds of forges say how it is sent and where repositories are."""

    def __init__(self, credentials: ForgeCredentials, token: str) -> None:
        """Authorise with the credential called `token`."""
        self._credentials = credentials
        self._token = token

    def secret(self) -> str:
        """Return the token; raise `DoorError` where it cannot be read."""
        return self._credentials.secret(self._token)

    def plain(self, parts: tuple[str | int, ...], action: str, needs: str, **query: str | int) -> Ask:
        """Return a request to read something that belongs to no repository."""
        return Ask("GET", path_of(*parts), action, needs, headers=self._headers(), query=query)

    def of(
        self,
        repository: str | int,
        parts: tuple[str | int, ...],
        action: str,
        needs: str,
        *,
        method: str = "GET",
        body: Any = None,  # noqa: ANN401 - whatever msgspec can encode
        query: Mapping[str, str | int] | None = None,
    ) -> Ask:
        """Return a request about a repository, by path or number; raise `DoorError` where it cannot be one."""
        where = path_of(*self._place(repository), *parts)
        return Ask(method, where, action, needs, headers=self._headers(), query=query or {}, body=body)

    def _headers(self) -> Mapping[str, str]:
        """Return the headers that authorise a request."""
        raise NotImplementedError

    def _place(self, repository: str | int) -> tuple[str | int, ...]:
        """Return the parts of the path at which a repository is; raise `DoorError` where it cannot be one."""
        raise NotImplementedError


def no_repository(path: str, sentence: str) -> DoorError:
    """Return the error for a path that cannot be a repository's; `sentence` goes on after it, with the right form."""
    shown = path[:100]
    return DoorError(f"{shown!r} {sentence}", door="forge", action="ask", subject=ascii(shown), retryable=False)
