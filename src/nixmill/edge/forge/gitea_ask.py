"""Requests to Gitea and Forgejo, with the scopes that they need."""

from collections.abc import Mapping
from typing import Final

from nixmill.edge.forge.token_ask import TokenAsk, no_repository

READ_CODE: Final = "read:repository"
WRITE_CODE: Final = "write:repository"
READ_ISSUES: Final = "read:issue"
WRITE_ISSUES: Final = "write:issue"
READ_USER: Final = "read:user"
ADMIN_HOOKS: Final = "write:repository, and being an administrator of the repository"
PAGE: Final = 50
"""Items of a page: more are not given unless the forge's administrator says so."""
PATH_MAX: Final = 300
"""Characters of a repository's path."""


class GiteaAsk(TokenAsk):
    """Makes requests to a Gitea or Forgejo, where repositories go by their path alone."""

    def _headers(self) -> Mapping[str, str]:
        return {"authorization": f"token {self.secret()}"}

    def _place(self, repository: str | int) -> tuple[str | int, ...]:
        return ("repos", *owner_and_name(str(repository)))


def owner_and_name(path: str) -> tuple[str, str]:
    """Return the two parts of a repository's path; raise `DoorError` where there are not two."""
    owner, slash, name = path.partition("/")
    if not slash or "/" in name or len(path) > PATH_MAX:
        raise no_repository(path, "is no path of a repository on Gitea or Forgejo: it has the form OWNER/NAME.")
    return owner, name
