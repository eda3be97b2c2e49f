"""Who may do what on Gerrit: membership in groups that the settings name counts as the right to write.

Gerrit can say what the asking user may do, not what somebody else may; so the administrator says which groups are
trusted. Owners of a repository are in such a group, or are not trusted.
"""

from typing import Final

from nixmill.core.trust import Permission
from nixmill.doors import Clock
from nixmill.edge.forge.gerrit_rest import GerritRest, GroupInfo
from nixmill.edge.forge.web import path_of

REMEMBERED_S: Final = 300.0
"""Seconds for which an answer is believed: who was taken out of a group loses the right after that."""
REMEMBERED_MAX: Final = 10_000


class People:
    """Asks for the groups of people and remembers for a while."""

    def __init__(self, rest: GerritRest, groups: tuple[str, ...], clock: Clock) -> None:
        """Trust members of `groups`, by name or UUID."""
        self._rest = rest
        self._groups = frozenset(groups)
        self._clock = clock
        self._known: dict[str, tuple[float, Permission]] = {}

    async def permission(self, account: str) -> Permission:
        """Return what the account with that number may do; `NONE` where there is none."""
        now = self._clock.monotonic()
        at, known = self._known.get(account, (0.0, None))
        if known is not None and now - at < REMEMBERED_S:
            return known
        permission = await self._ask(account)
        if len(self._known) >= REMEMBERED_MAX:
            self._known.clear()
        self._known[account] = (now, permission)
        return permission

    async def _ask(self, account: str) -> Permission:
        if not account.isascii() or not account.isdigit() or account == "0":
            return Permission.NONE
        path = path_of("accounts", account, "groups") + "/"
        groups = await self._rest.read(list[GroupInfo], path, f"read the groups of account {account}")
        if groups is None:
            return Permission.NONE
        trusted = any(group.name in self._groups or group.id in self._groups for group in groups)
        return Permission.WRITE if trusted else Permission.READ
