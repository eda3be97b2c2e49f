"""Secrets of one forge: read from their files when they are used, so that a changed one counts at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from nixmill.doors import DoorError

SECRET_MAX: Final = 64 * 1024


class ForgeCredentials:
    """The credentials that a forge's settings name."""

    def __init__(self, forge: str, files: Mapping[str, Path]) -> None:
        """Look secrets of the forge called `forge` up in these files."""
        self._forge = forge
        self._files = files

    def secret(self, name: str) -> str:
        """Return a secret without the line end; raise `DoorError` where there is none."""
        path = self._files.get(name)
        if path is None:
            raise self._error(name, "there is no such credential in the server's settings")
        try:
            with path.open("rb") as file:
                secret = file.read(SECRET_MAX).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
            raise self._error(name, f"its file cannot be read ({why})") from None
        if not secret:
            raise self._error(name, "its file is empty")
        return secret

    def secrets(self, names: Sequence[str]) -> list[str]:
        """Return several secrets, in the same order."""
        return [self.secret(name) for name in names]

    def first(self, names: Sequence[str]) -> str:
        """Return the secret that new webhooks are given; raise `DoorError` where the settings name none."""
        if not names:
            raise self._error("webhook-secrets", "without one, anybody could send deliveries")
        return self.secret(names[0])

    def _error(self, name: str, why: str) -> DoorError:
        return DoorError(
            f"The forge {self._forge} needs the credential {name!r}: {why}. Mend the server's settings.",
            door="forge",
            action="read a credential",
            subject=name,
            retryable=False,
        )
