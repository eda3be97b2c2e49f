"""What a look at a remote means: which changes follow from which refs. Decides; looking is `nixmill.engine.watch`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from nixmill.core.change import Change, Origin
from nixmill.core.project import Jobset, Project, Ref, belongs


class Watched(NamedTuple):
    """What `nixmill.toml` of the default branch adds to jobsets that name no branches or tags themselves."""

    branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def effective(jobset: Jobset, watched: Watched) -> Jobset:
    """Return a jobset with the patterns that count: its own, else those of the repository."""
    if jobset.branches or jobset.tags:
        return jobset
    return msgspec.structs.replace(jobset, branches=watched.branches, tags=watched.tags)


def changes_from(
    project: Project,
    jobsets: Iterable[Jobset],
    known: Mapping[str, str] | None,
    refs: Iterable[Ref],
    default_branch: str,
) -> list[Change]:
    """Return the changes that follow from a look; `known` is what refs had at the last one, None at the very first.

    At the first look only default branches start: a repository with a thousand branches is not built whole.
    """
    found: list[Change] = []
    streams = [jobset for jobset in jobsets if jobset.enabled and jobset.on_push]
    for ref in refs:
        first = known is None and ref.name != f"refs/heads/{default_branch}"
        if not project.enabled or first or (known or {}).get(ref.name) == ref.commit:
            continue
        found += [_pushed(project, jobset, ref) for jobset in streams if belongs(jobset, ref.name, default_branch)]
    return found


def changes_due(project: Project, jobset: Jobset, refs: Sequence[Ref], default_branch: str) -> list[Change]:
    """Return the changes that a timer starts: the newest commit of each branch and tag of its jobset."""
    chosen = [ref for ref in refs if belongs(jobset, ref.name, default_branch)]
    return [msgspec.structs.replace(_pushed(project, jobset, ref), origin=Origin.TIMER) for ref in chosen]


def _pushed(project: Project, jobset: Jobset, ref: Ref) -> Change:
    tag = ref.name.startswith("refs/tags/")
    return Change(
        project=project.id,
        jobset=jobset.id,
        ref=ref.name,
        commit=ref.commit,
        origin=Origin.TAG if tag else Origin.PUSH,
        build_class=jobset.build_class,
        targets=jobset.targets,
        systems=jobset.systems,
    )
