"""Secrets for messages: read from their files when they are used, so that a changed one counts at once.

A rule can be written by anybody who looks after a project, and its secret is used towards a target they choose;
therefore only credentials that are meant for it can be named (`CREDENTIAL_PREFIX`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nixmill.core.message_text import CREDENTIAL_PREFIX
from nixmill.doors import DoorError

SECRET_MAX: Final = 64 * 1024


class Credentials:
    """The server's credentials, by name."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        """Look secrets up in these files."""
        self._files = files

    def of_rule(self, name: str) -> str:
        """Return the secret that a rule names; raise `DoorError` where it may not, or there is none."""
        if not name.startswith(CREDENTIAL_PREFIX):
            raise _error(f"Rules can only use credentials whose name begins with {CREDENTIAL_PREFIX!r}", name)
        return self.of_settings(name)

    def of_settings(self, name: str) -> str:
        """Return the secret that the settings name, without the line end; raise `DoorError` where there is none."""
        path = self._files.get(name)
        if path is None:
            raise _error("There is no such credential in the server's settings", name)
        try:
            with path.open("rb") as file:
                secret = file.read(SECRET_MAX).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
            raise _error(f"Its file cannot be read ({why})", name) from None
        if not secret:
            raise _error("Its file is empty", name)
        return secret


def _error(what: str, name: str) -> DoorError:
    return DoorError(
        f"{what}: {name!r}. Mend the rule or the server's settings, then send the message again.",
        door="notify",
        action="read a credential",
        subject=name,
        retryable=False,
    )
