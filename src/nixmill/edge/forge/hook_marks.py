"""Webhooks of one repository: which were set since the start, and what cannot be mended.

The secret of a webhook cannot be read back, so it is set once for each start of the server and each value.
"""

import hashlib
from collections.abc import Sequence

from nixmill.core.forge import Repository
from nixmill.doors import DoorError


class HookMarks:
    """Remembers which webhooks have the address and secret that they should have."""

    def __init__(self) -> None:
        """Know of none."""
        self._set: set[tuple[str, int, str]] = set()
        """Repositories' ids, hooks and digests of address and secret."""

    def put(self, repository: Repository, hook: int, url: str, secret: str) -> None:
        """Remember that a hook was given this address and secret."""
        self._set.add(_mark(repository, hook, url, secret))

    def has(self, repository: Repository, hook: int, url: str, secret: str) -> bool:
        """Say whether a hook was given this address and secret since the start."""
        return _mark(repository, hook, url, secret) in self._set


def check_mended(repository: Repository, faults: Sequence[str]) -> None:
    """Raise `DoorError` where a webhook has faults although it was just mended."""
    if faults:
        raise DoorError(
            f"The webhook of {repository.path} cannot be mended, the forge leaves it as it was:"
            f" {', '.join(faults)}. Delete it there, and a new one is made.",
            door="forge",
            action="mend a webhook",
            subject=repository.path,
            retryable=False,
        )


def made(repository: Repository) -> str:
    """Return in words that a webhook was made."""
    return f"A webhook was made for {repository.path}."


def mended(repository: Repository, faults: Sequence[str]) -> str:
    """Return in words what was mended; empty where nothing was wrong."""
    return f"The webhook of {repository.path} was mended: {', '.join(faults)}." if faults else ""


def _mark(repository: Repository, hook: int, url: str, secret: str) -> tuple[str, int, str]:
    digest = hashlib.sha256(f"{url}\0{secret}".encode()).hexdigest()
    return (repository.id, hook, digest)
