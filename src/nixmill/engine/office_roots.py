"""What people and pages may ask about roots and caches. Whether somebody may is decided before, by the web."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from nixmill.core.access import Sight
from nixmill.core.project import Project
from nixmill.core.view.roots import (
    CacheLine,
    CachePage,
    CollectionPage,
    ProjectRootsPage,
    ServerRootsPage,
)
from nixmill.doors.pages_roots import RootsWanted
from nixmill.engine.keeper import Standing
from nixmill.engine.office import Asker
from nixmill.nix.store_path import StorePath


class HoldNow(Protocol):
    """Whoever makes roots stand, as far as pins and pages need it."""

    async def hold_now(self, paths: Collection[StorePath]) -> Mapping[StorePath, str]:
        """Make roots stand for paths that the database wants; return those that could not be made, with the reason."""

    async def standing(self) -> Standing:
        """Return which roots stand, against those that should."""


class RootDesk(Protocol):
    """What may be asked about roots. Implemented by `nixmill.engine.root_desk`."""

    async def project(self, sight: Sight, name: str, wanted: RootsWanted) -> ProjectRootsPage | None:
        """Return what is kept for a project, measured."""

    async def server(self, sight: Sight, wanted: RootsWanted) -> ServerRootsPage:
        """Return what is kept for the whole server, with the largest closures; faults for administrators."""

    async def pin(
        self, asker: Asker, project: Project | None, what: str, reason: str, until: float | None, ref: str = ""
    ) -> Sequence[StorePath]:
        """Keep a store path, or all outputs of the newest good result of a project's attribute.

        Their roots stand when this returns. `ref` is a branch, else the default branch. Raises `InputError` where there
        is no such result, or it is not in the store.
        """

    async def unpin(self, asker: Asker, project: Project | None, what: str, ref: str = "") -> Sequence[StorePath]:
        """Take back what was pinned by hand. Raises `InputError` where nothing was."""

    def collection(self) -> CollectionPage:
        """Return how the last dry run of a collection went, or how far it is."""

    async def collect_dry(self, asker: Asker) -> CollectionPage:
        """Begin a dry run of a collection, unless one goes on; nothing is deleted."""


class CacheDesk(Protocol):
    """What may be asked about caches. Implemented by `nixmill.engine.cache_desk`."""

    async def caches(self, sight: Sight) -> Sequence[CacheLine]:
        """Return the caches that may be seen."""

    async def cache(self, sight: Sight, name: str) -> CachePage | None:
        """Return a cache, how to use it, and what is on its way into it; None where there is none to be seen."""

    async def retry(self, asker: Asker, name: str) -> int | None:
        """Try again what was given up or refused; return how many, None where there is no such cache."""
