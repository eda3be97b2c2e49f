"""The door through which pages about roots and caches read. What `sight` does not cover is not there."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from nixmill.core.access import Sight
from nixmill.core.pin import HandPin
from nixmill.core.view.roots import PinLine, ProjectRootsPage, ServerRootsPage, UploadLine
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class RootsWanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a page about roots is narrowed to, and from where on it is wanted."""

    ref: str = ""
    """In full."""
    find: str = ""
    """In the name of an attribute or project, or in a store path."""
    after: str = ""
    """The `after` of the page before."""
    hand: int | None = None
    """The `hand_after` of the page before."""


class GoodResult(msgspec.Struct, frozen=True, kw_only=True):
    """The newest good result of an attribute on a branch."""

    run: int
    outputs: Mapping[str, StorePath | None]
    """None: nobody knew the path before it was built."""


class RootPages(Protocol):
    """What is kept, and what is on its way into caches. One page each; never everything."""

    async def project(self, sight: Sight, name: str, wanted: RootsWanted) -> ProjectRootsPage | None:
        """Return what is kept for a project; sizes are filled by the engine. `InputError`: `after` is none of ours."""

    async def server(self, sight: Sight, wanted: RootsWanted) -> ServerRootsPage:
        """Return what is kept by project; `biggest`, `measured` and `standing` are filled by the engine."""

    async def newest(self, sight: Sight, limit: int) -> Sequence[PinLine]:
        """Return the newest pins that have roots here."""

    async def good(self, project: int, ref: str, path: AttrPath) -> GoodResult | None:
        """Return the newest good result of an attribute on a branch."""

    async def pinned(self, project: int | None, what: StorePath | AttrPath, ref: str = "") -> Sequence[HandPin]:
        """Return what was pinned by hand for a project (None: for the server): a path, or an attribute's outputs."""

    async def uploads(self, sight: Sight, cache: str, limit: int) -> tuple[Mapping[str, int], Sequence[UploadLine]]:
        """Count the uploads of a cache by state, and return those that are not done: failed, refused, then others."""
