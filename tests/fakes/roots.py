"""What is kept, as a recorder: pages come from a real database, what is done is noted with the office's calls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nixmill.core.access import Sight
from nixmill.core.closure import ClosureSize
from nixmill.core.project import Project
from nixmill.core.view.roots import (
    CacheLine,
    CachePage,
    CollectionPage,
    ProjectRootsPage,
    ServerRootsPage,
    Standing,
)
from nixmill.doors.pages_roots import RootPages, RootsWanted
from nixmill.engine.office import Asker
from nixmill.nix.store_path import StorePath
from tests.fakes.office import FakeOffice

SIZE = ClosureSize(paths=41, closure=123_456_789, shared=120_000_000)


@dataclass
class FakeRootDesk:
    """Every path is as large as `size`; `fault` of the office is raised by whatever is done."""

    pages: RootPages
    office: FakeOffice
    size: ClosureSize | None = SIZE
    standing: Standing = field(default_factory=lambda: Standing(standing=3, wanted=3, checked_at=1.0))
    dry: CollectionPage = field(default_factory=CollectionPage)
    begun: CollectionPage = field(default_factory=CollectionPage)
    """What a dry run that is asked for becomes."""

    async def project(self, sight: Sight, name: str, wanted: RootsWanted) -> ProjectRootsPage | None:
        page = await self.pages.project(sight, name, wanted)
        if page is None:
            return None
        return msgspec.structs.replace(page, pins=self._sized(page.pins), hand=self._sized(page.hand))

    async def server(self, sight: Sight, wanted: RootsWanted) -> ServerRootsPage:
        page = await self.pages.server(sight, wanted)
        biggest = self._sized(await self.pages.newest(sight, 10))
        standing = self.standing if sight.everything and sight.only is None else None
        return msgspec.structs.replace(page, biggest=biggest, measured=len(biggest), standing=standing)

    async def pin(
        self, asker: Asker, project: Project | None, what: str, reason: str, until: float | None, ref: str = ""
    ) -> Sequence[StorePath]:
        self.office._did("pin", asker, project, what, reason, until, ref)
        return [StorePath(what)] if what.startswith("/") else [StorePath(f"/nix/store/{'0' * 32}-{what}")]

    async def unpin(self, asker: Asker, project: Project | None, what: str, ref: str = "") -> Sequence[StorePath]:
        self.office._did("unpin", asker, project, what, ref)
        return [StorePath(what)]

    def collection(self) -> CollectionPage:
        return self.dry

    async def collect_dry(self, asker: Asker) -> CollectionPage:
        self.office._did("collect_dry", asker)
        self.dry = self.begun
        return self.dry

    def _sized(self, lines: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(
            line if getattr(line, "held", "") else msgspec.structs.replace(line, size=self.size) for line in lines
        )


@dataclass
class FakeCacheDesk:
    """Caches that were put in by a test, by name; private ones are for those who see everything."""

    office: FakeOffice
    known: Mapping[str, CachePage] = field(default_factory=dict)

    async def caches(self, sight: Sight) -> Sequence[CacheLine]:
        return [page.cache for page in self.known.values() if sight.everything or not page.cache.private]

    async def cache(self, sight: Sight, name: str) -> CachePage | None:
        page = self.known.get(name)
        return page if page is not None and (sight.everything or not page.cache.private) else None

    async def retry(self, asker: Asker, name: str) -> int | None:
        self.office._did("retry_uploads", asker, name)
        return 3 if name in self.known else None
