"""What may enter which cache, in which order, and when it is tried again (semantics §4 and §7).

What decides is who asked and who built, never a name that a repository chose. What this file does not know: how a
cache is reached (`nixmill.doors.cache`) and what its settings look like (`nixmill.config.caches`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from nixmill.core.access import Visibility
from nixmill.core.trust import Tier, is_untrusted
from nixmill.core.upload import Made, ResultClass
from nixmill.nix.path_info import PathInfo
from nixmill.nix.signature import PublicKey
from nixmill.nix.store_path import StorePath

TRIES_MAX: Final = 12
"""Tries after which an upload is given up: about 16 hours after the first."""
FIRST_PAUSE_S: Final = 60.0
LONGEST_PAUSE_S: Final = 4 * 3600.0


class CacheRule(msgspec.Struct, frozen=True, kw_only=True):
    """What of a cache's settings decides about what enters it."""

    name: str
    results: ResultClass = ResultClass.BRANCH
    projects: tuple[str, ...] = ()
    """Globs of names of projects; empty: all that everybody may see."""
    private: bool = False
    """Whether reading needs a token."""
    upstream: tuple[str, ...] = ()
    """Names of keys: what they signed can be had elsewhere and is not published."""
    upstream_keys: tuple[PublicKey, ...] = ()
    """Those of them that are known whole: only true signatures of theirs count."""


class ResultFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What of a change decides which caches take its results."""

    tier: Tier
    tag: bool
    """Whether its ref is a tag."""
    project: str
    """Name."""
    visibility: Visibility


def takers(caches: Sequence[CacheRule], facts: ResultFacts) -> tuple[str, ...]:
    """Return the names of the caches that take the results of a change, in the order of `caches`."""
    open_to = [cache for cache in caches if takes_project(cache, facts.project, facts.visibility)]
    wanted = _wanted(facts, {cache.results for cache in open_to})
    return tuple(cache.name for cache in open_to if cache.results is wanted)


def _wanted(facts: ResultFacts, there: Collection[ResultClass]) -> ResultClass:
    if is_untrusted(facts.tier):
        return ResultClass.PULL_REQUEST
    return ResultClass.RELEASE if facts.tag and ResultClass.RELEASE in there else ResultClass.BRANCH


def takes_project(cache: CacheRule, project: str, visibility: Visibility) -> bool:
    """Say whether a cache is for a project: what not everybody may see has to be named, exactly where all may read."""
    if visibility is Visibility.PUBLIC:
        return not cache.projects or any(fnmatchcase(project, glob) for glob in cache.projects)
    if cache.private:
        return any(fnmatchcase(project, glob) for glob in cache.projects)
    return project in cache.projects


def may_enter(results: ResultClass, made: Made | None, *, content_addressed: bool, signed_upstream: bool) -> bool:
    """Say whether a path may enter a cache for such results, as far as is known who built it.

    What only a pull request built enters caches of pull requests alone, until it was built again under a trusted tier.
    The name of a content-addressed path proves its contents; what was fetched (`made` None) others vouch for.
    """
    if results is ResultClass.PULL_REQUEST or content_addressed or signed_upstream or made is None:
        return True
    return not is_untrusted(made.tier)


def signed_upstream(info: PathInfo, rule: CacheRule) -> bool:
    """Say whether a path bears a signature of one of the keys whose paths are not published."""
    names = {signature.partition(":")[0] for signature in info.signatures}.intersection(rule.upstream)
    if not names:
        return False
    known = {key.name for key in rule.upstream_keys}
    return bool(names - known) or any(key.verifies(info) for key in rule.upstream_keys if key.name in names)


def closure_order(infos: Mapping[StorePath, PathInfo]) -> list[PathInfo]:
    """Return paths such that each comes after those of them that it refers to.

    Raises `ValueError` where paths refer to each other in a circle, which no store allows.
    """
    waits_for = {path: set(info.references).intersection(infos) - {path} for path, info in infos.items()}
    users = defaultdict(list)
    for path, references in waits_for.items():
        for reference in references:
            users[reference].append(path)
    ready = sorted((path for path, references in waits_for.items() if not references), reverse=True)
    order = []
    while ready:
        path = ready.pop()
        order.append(infos[path])
        for user in users[path]:
            waits_for[user].discard(path)
            if not waits_for[user]:
                ready.append(user)
    if len(order) < len(infos):
        raise ValueError(f"{len(infos) - len(order)} paths refer to each other in a circle")
    return order


def spread(order: Iterable[PathInfo], faults: Mapping[StorePath, str]) -> dict[StorePath, str]:
    """Return the fault of every path that has one or refers, however indirectly, to one that has.

    `order` is a closure order. Where a path and one that it refers to have faults, that of the latter is the cause.
    """
    found = dict(faults)
    for info in order:
        others = (reference for reference in info.references if reference != info.path)
        cause = next((found[reference] for reference in others if reference in found), None)
        if cause is not None:
            found[info.path] = cause
    return found


def pause_s(tries: int) -> float:
    """Return the seconds after so many failed tries (from 1): a minute, doubled each time, up to four hours."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(max(tries - 1, 0), 16))


def gives_up(tries: int) -> bool:
    """Say whether an upload that failed so often is given up."""
    return tries >= TRIES_MAX
