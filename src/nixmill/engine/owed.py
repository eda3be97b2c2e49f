"""What a change owes for its good results, decided before it begins: a pin on its branch, uploads to caches.

Only a trusted push, timer, tag or person pins; what kind of event it was is looked at before any name (semantics §5).
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from nixmill.config import RootsConfig
from nixmill.config.caches import CacheSettings
from nixmill.config.roots import RootSettings
from nixmill.core.change import Change, Origin
from nixmill.core.pin import PinRule
from nixmill.core.project import Project
from nixmill.core.publish import CacheRule, ResultFacts, takers
from nixmill.core.roots import order_of, pins_here
from nixmill.engine.request import CacheDuty
from nixmill.nix.signature import PublicKey


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """What is owed for the good results of a run."""

    pin: PinRule | None = None
    caches: tuple[CacheDuty, ...] = ()


NOTHING: Final = Owed()


def pin_rule(
    change: Change, root: Change | None, default_branch: str, tip: str, said: RootsConfig, server: RootSettings
) -> PinRule | None:
    """Return as what a run's results are pinned; None where they are not.

    `root` is the run that a chain of retries began with, `tip` the commit that its ref has now. A person who asks for
    an older commit of a branch does not move its pins.
    """
    if not pins_here(change, default_branch, said.branches, root):
        return None
    if _is_named(change, root, tip):
        return None
    return PinRule(
        project=change.project,
        ref=change.ref,
        order=order_of(change, root),
        policy=said.policy or server.policy,
        keep=max(1, min(said.keep or server.keep, server.keep_max)),
    )


def rule_of(cache: CacheSettings, trusted: Sequence[PublicKey] = ()) -> CacheRule:
    """Return what of a cache's settings decides about what enters it.

    `trusted` are the keys that Nix believes. Upstream keys that are not among them excuse nothing from being published:
    a name alone is no signature, and what only others would believe has to be here.
    """
    upstream = tuple(key for key in trusted if key.name in cache.upstream_keys)
    return CacheRule(
        name=cache.name,
        results=cache.results,
        projects=cache.projects,
        private=cache.private,
        upstream=tuple(key.name for key in upstream),
        upstream_keys=upstream,
    )


def cache_duties(
    change: Change, root: Change | None, tip: str, project: Project, caches: Sequence[CacheSettings]
) -> tuple[CacheDuty, ...]:
    """Return the caches that take a run's results; `root` and `tip` are those of `pin_rule`.

    A person who asks for a commit that a tag does not stand on makes no release of it.
    """
    facts = ResultFacts(
        tier=change.tier,
        tag=change.ref.startswith("refs/tags/") and not _is_named(change, root, tip),
        project=project.name,
        visibility=project.visibility,
    )
    names = takers([rule_of(cache) for cache in caches], facts)
    return tuple(CacheDuty(name=cache.name, intermediate=cache.intermediate) for cache in caches if cache.name in names)


def _is_named(change: Change, root: Change | None, tip: str) -> bool:
    """Say whether a person asked for a commit that is not the one its ref has now."""
    return (root or change).origin is Origin.HAND and change.commit not in {"", tip}
