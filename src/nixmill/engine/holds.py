"""Who is left alone for a while: repositories with which something went wrong, and forges that do not answer at all.

What goes wrong with one repository must not keep others of the same forge waiting, nor one forge the others. A forge
that names a time is left alone until then; so is one with which it went wrong for several repositories in a row.
"""

from typing import Final

from nixmill.doors import DoorError
from nixmill.doors.server import RetryLaterError

HELD_MAX_S: Final = 60.0
"""Who does not answer is tried again after so long at most, unless they named a time."""
IN_A_ROW: Final = 3
"""Repositories that fail one after another before their forge is held to be away."""


class Holds:
    """Of one desk. Times are by the clock of whoever asks."""

    def __init__(self) -> None:
        """Begin with everybody free."""
        self._repositories: dict[tuple[str, str], float] = {}
        self._forges: dict[str, float] = {}
        self._failing: dict[str, set[str]] = {}

    def until(self, forge: str, repository: str, now: float) -> float:
        """Return until when a repository is left alone; 0 where it is not."""
        found = max(self._forges.get(forge, 0.0), self._repositories.get((forge, repository), 0.0))
        return found if found > now else 0.0

    def failed(self, forge: str, repository: str, error: DoorError, pause_s: float, now: float) -> None:
        """Take that something is to be tried again after `pause_s`."""
        held = min(pause_s, HELD_MAX_S)
        failing = self._failing.setdefault(forge, set())
        failing.add(repository)
        if isinstance(error, RetryLaterError):
            self._forges[forge] = now + error.after_s
        elif len(failing) >= IN_A_ROW:
            self._forges[forge] = now + held
        else:
            self._repositories[forge, repository] = now + held

    def went_well(self, forge: str, repository: str) -> None:
        """Take that a forge answered."""
        self._failing.pop(forge, None)
        self._repositories.pop((forge, repository), None)

    def pauses(self, now: float) -> list[float]:
        """Return when those who are left alone are free again; forget the others."""
        self._repositories = {key: until for key, until in self._repositories.items() if until > now}
        self._forges = {name: until for name, until in self._forges.items() if until > now}
        return [*self._repositories.values(), *self._forges.values()]
