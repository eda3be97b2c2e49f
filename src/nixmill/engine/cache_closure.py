"""What a cache lacks of the closures of some paths, and what of that may not enter it yet."""

from collections.abc import Collection, Mapping

import msgspec

from nixmill.core.publish import CacheRule, may_enter, signed_upstream
from nixmill.core.upload import Made, ResultClass
from nixmill.doors import Store
from nixmill.doors.cache import Destination, Uploads
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath


class Lacking(msgspec.Struct, frozen=True):
    """What is to be published so that a cache holds some paths with their closures."""

    infos: Mapping[StorePath, PathInfo]
    gone: frozenset[StorePath]
    """Those that neither the cache nor the store has any more."""


async def lacking(store: Store, destination: Destination, rule: CacheRule, paths: Collection[StorePath]) -> Lacking:
    """Go down closures level by level, as far as the cache lacks them and nobody upstream has signed them.

    A cache that holds a path holds its closure: nothing below it is asked about.
    """
    infos: dict[StorePath, PathInfo] = {}
    gone: set[StorePath] = set()
    seen, level = set(paths), set(paths)
    while level:
        there = await store.path_infos(level)
        ours = {path for path in level if path not in there or not signed_upstream(there[path], rule)}
        lacks = await destination.lacks(ours) if ours else set()
        gone |= lacks - there.keys()
        found = {path: there[path] for path in lacks if path in there}
        infos |= found
        level = {reference for info in found.values() for reference in info.references} - seen
        seen |= level
    return Lacking(infos, frozenset(gone))


async def blocked(uploads: Uploads, rule: CacheRule, infos: Mapping[StorePath, PathInfo]) -> dict[StorePath, Made]:
    """Return those of the lacking paths that have to be built again before they may enter, with who built them."""
    if rule.results is ResultClass.PULL_REQUEST or not infos:
        return {}
    made = await uploads.made(infos.keys())
    return {
        path: one
        for path, one in made.items()
        if not may_enter(rule.results, one, content_addressed=bool(infos[path].content_address), signed_upstream=False)
    }
