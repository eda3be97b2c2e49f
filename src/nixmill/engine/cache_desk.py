"""Implements `engine.office_roots.CacheDesk`: the caches of the settings, how to use them, what is on its way."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from nixmill.config.caches import CacheKind, CacheSettings
from nixmill.config.server import ServerSettings
from nixmill.core import cache_use
from nixmill.core.access import Sight, Visibility
from nixmill.core.account import AuditEntry
from nixmill.core.project import Project, matches
from nixmill.core.view.roots import CacheLine, CachePage, UploadLine
from nixmill.doors import Clock
from nixmill.doors.cache import Uploads
from nixmill.doors.pages_roots import RootPages
from nixmill.doors.server import Members, Projects
from nixmill.engine.office import Asker

SERVED: Final = frozenset({CacheKind.DISK, CacheKind.STORE, CacheKind.S3})
"""Kinds that Nix reads below `/cache/NAME` of this server."""
UPLOADS_MAX: Final = 100
"""Uploads on a page."""


class CacheSize(NamedTuple):
    """What is published."""

    paths: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheDoors:
    """What the desk works with."""

    settings: ServerSettings
    pages: RootPages
    uploads: Uploads
    projects: Projects
    members: Members
    clock: Clock
    public_keys: Callable[[str], Sequence[str]]
    """By the cache's name, as `nix.conf` has them."""
    size: Callable[[str], Awaitable[CacheSize | None]]
    """By the cache's name; None where that is not known."""
    wake: Callable[[], None]
    """Told that something is to be tried again now."""


class SettingsCacheDesk:
    """See `CacheDesk`."""

    def __init__(self, doors: CacheDoors) -> None:
        """Work with `doors`."""
        self._doors = doors

    async def caches(self, sight: Sight) -> Sequence[CacheLine]:
        """See `CacheDesk`."""
        seen = [one for one in self._doors.settings.caches if await self._may_see(one, sight)]
        return [(await self._line(one, sight, 0))[0] for one in seen]

    async def cache(self, sight: Sight, name: str) -> CachePage | None:
        """See `CacheDesk`."""
        cache = self._named(name)
        if cache is None or not await self._may_see(cache, sight):
            return None
        line, uploads = await self._line(cache, sight, UPLOADS_MAX + 1)
        keys = tuple(self._doors.public_keys(cache.name))
        return CachePage(
            cache=line,
            projects=cache.projects if _sees_all(sight) else (),
            public_keys=keys,
            nix_conf=cache_use.nix_conf(line.address, keys),
            nixos=cache_use.nixos(line.address, keys),
            flake=cache_use.flake(line.address, keys),
            netrc=cache_use.netrc(line.address) if cache.private else "",
            retention=retention(cache),
            uploads=tuple(uploads[:UPLOADS_MAX]),
            uploads_more=len(uploads) > UPLOADS_MAX,
        )

    async def retry(self, asker: Asker, name: str) -> int | None:
        """See `CacheDesk`."""
        if self._named(name) is None:
            return None
        count = await self._doors.uploads.again(name, None)
        self._doors.wake()
        entry = AuditEntry(
            at=self._doors.clock.now(),
            user=asker.user,
            who=asker.name,
            action="change the server",
            subject=f"cache {name}",
            project=None,
            detail=f"{count} uploads are tried again",
            address=asker.address,
        )
        await self._doors.members.audit(entry)
        return count

    def _named(self, name: str) -> CacheSettings | None:
        return next((one for one in self._doors.settings.caches if one.name == name), None)

    async def _may_see(self, cache: CacheSettings, sight: Sight) -> bool:
        """Say whether there is such a cache for somebody; a private one for those who see all that it may hold."""
        if not cache.private or _sees_all(sight):
            return True
        held = [one for one in await self._doors.projects.projects() if matches(cache.projects, one.name)]
        return bool(held) and all(_covers(sight, project) for project in held)

    async def _line(self, cache: CacheSettings, sight: Sight, limit: int) -> tuple[CacheLine, Sequence[UploadLine]]:
        counts, uploads = await self._doors.pages.uploads(sight, cache.name, limit)
        size = await self._doors.size(cache.name)
        line = CacheLine(
            name=cache.name,
            kind=cache.kind.value,
            results=cache.results,
            private=cache.private,
            address=f"{self._doors.settings.url.rstrip('/')}/cache/{cache.name}" if cache.kind in SERVED else "",
            priority=cache.priority,
            counts=counts,
        )
        known = msgspec.structs.replace(line, paths=size.paths, size=size.size) if size is not None else line
        return known, uploads


def retention(cache: CacheSettings) -> str:
    """Say how long a cache keeps what is in it; empty where somebody else decides that."""
    match cache.kind:
        case CacheKind.DISK | CacheKind.S3:
            return cache_use.retention(cache.max_days, cache.max_paths, cache.max_gib)
        case CacheKind.STORE:
            return "What was published has a root in the store as long as the cache is in the settings."
        case CacheKind.COPY | CacheKind.COMMAND:
            return ""


def _sees_all(sight: Sight) -> bool:
    return sight.everything and sight.only is None


def _covers(sight: Sight, project: Project) -> bool:
    if sight.only is not None and sight.only != project.id:
        return False
    match project.visibility:
        case Visibility.PUBLIC:
            return True
        case Visibility.INTERNAL:
            return sight.everything or sight.internal or project.id in sight.private
        case Visibility.PRIVATE:
            return sight.everything or project.id in sight.private
