"""What monitoring and people are told of roots, uploads and caches: numbers, and what only a person can put right."""

from collections.abc import Mapping

from nixmill.core.terminal_text import counted
from nixmill.core.upload import UploadState
from nixmill.core.view.pages import Need
from nixmill.engine.cache_keeper import CacheNumbers
from nixmill.engine.keeper import Standing
from nixmill.engine.publisher import CacheProgress


def numbers(
    kept: Standing, published: Mapping[str, CacheProgress], caches: Mapping[str, CacheNumbers]
) -> dict[str, float]:
    """Return numbers by the names that `nixmill.web.metrics` knows."""
    found = {
        "roots.standing": float(kept.standing),
        "roots.wanted": float(kept.wanted),
        "roots.faults": float(len(kept.faults) or bool(kept.fault)),
    }
    for name, progress in published.items():
        found |= {f"uploads.{name}.{state}": float(progress.counts.get(state, 0)) for state in UploadState}
        found[f"published.bytes.{name}"] = float(progress.sent_bytes)
    for name, one in caches.items():
        found |= {f"cache.paths.{name}": float(one.paths), f"cache.bytes.{name}": float(one.size)}
    return found


def needs(kept: Standing, published: Mapping[str, CacheProgress]) -> list[Need]:
    """Return what only a person can put right."""
    found = []
    if kept.fault:
        found.append(Need(what=f"Roots cannot be looked after: {kept.fault}", link="/roots", urgent=True))
    elif kept.faults:
        path, why = kept.faults[0]
        what = f"{counted(len(kept.faults), 'path')} cannot be rooted, such as {path}: {why}"
        found.append(Need(what=what, link="/roots", urgent=True))
    for name, progress in published.items():
        if progress.fault:
            found.append(Need(what=f"The cache {name} takes nothing: {progress.fault}", link=f"/caches/{name}"))
        if given_up := progress.counts.get(UploadState.FAILED, 0) + progress.counts.get(UploadState.REFUSED, 0):
            what = f"{counted(given_up, 'path')} could not be published to the cache {name}."
            found.append(Need(what=what, link=f"/caches/{name}"))
    return found
