"""What a look at a remote means: which changes follow from which refs. Decides; looking is `nixmill.engine.watch`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from nixmill.core.change import BuildClass, Change, Origin
from nixmill.core.project import Jobset, Project, Ref, belongs, matches, short
from nixmill.core.trust import tier_of_ref

MERGE_QUEUES: Final = ("gh-readonly-queue/*", "gitea-mq/*")
"""Branches that a forge's merge queue makes: GitHub's, and that of gitea-mq. Each is checked, whatever jobsets say."""


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
        if known is not None and is_merge_queue(project, ref.name) and project.enabled:
            found += [_queued(project, streams, ref)] if known.get(ref.name) != ref.commit else []
            continue
        first = known is None and ref.name != f"refs/heads/{default_branch}"
        if not project.enabled or first or (known or {}).get(ref.name) == ref.commit:
            continue
        chosen = [jobset for jobset in streams if belongs(jobset, ref.name, default_branch)]
        found += [_pushed(project, jobset, ref, default_branch) for jobset in chosen]
    return found


def is_merge_queue(project: Project, ref: str) -> bool:
    """Say whether a branch was made by the merge queue of the project's forge."""
    return bool(project.forge) and ref.startswith("refs/heads/") and matches(MERGE_QUEUES, short(ref))


def vanished(known: Mapping[str, str] | None, refs: Iterable[Ref]) -> set[str]:
    """Return the branches and tags that were there at the last look and are no more."""
    return set(known or {}) - {ref.name for ref in refs}


def changes_due(project: Project, jobset: Jobset, refs: Sequence[Ref], default_branch: str) -> list[Change]:
    """Return the changes that a timer starts: the newest commit of each branch and tag of its jobset."""
    chosen = [ref for ref in refs if belongs(jobset, ref.name, default_branch)]
    pushed = [_pushed(project, jobset, ref, default_branch) for ref in chosen]
    return [msgspec.structs.replace(change, origin=Origin.TIMER) for change in pushed]


def _queued(project: Project, jobsets: Sequence[Jobset], ref: Ref) -> Change:
    """Return the change of a merge queue, in the jobset that comes first: its targets and systems count."""
    jobset = jobsets[0] if jobsets else Jobset(name="")
    change = _pushed(project, jobset, ref, "")
    queue = {"origin": Origin.MERGE_QUEUE, "build_class": BuildClass.MERGE_QUEUE, "jobset": jobset.id or None}
    return msgspec.structs.replace(change, **queue)


def _pushed(project: Project, jobset: Jobset, ref: Ref, default_branch: str) -> Change:
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
        tier=tier_of_ref(default=bool(default_branch) and ref.name == f"refs/heads/{default_branch}", protected=False),
    )
