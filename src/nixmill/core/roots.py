"""Which roots should stand, and how pins move: pure functions of what the database knows (semantics §5).

What is decided here: whose results are pinned at all, which generation of an attribute counts, how long anything is
kept. What this file does not know: where roots are, and whether a path is valid in any store.
"""

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from nixmill.core.change import BuildClass, Change, Origin
from nixmill.core.pin import Pin
from nixmill.core.project import short
from nixmill.core.trust import is_untrusted
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import HASH_LENGTH, StorePath

DAY_S: Final = 86_400.0
_BRANCH: Final = "refs/heads/"
_TAG: Final = "refs/tags/"
_PINNING: Final = frozenset({Origin.PUSH, Origin.TAG, Origin.TIMER, Origin.HAND, Origin.RETRY})
_NEVER: Final = frozenset({BuildClass.PULL_REQUEST, BuildClass.MERGE_QUEUE})


class RootRules(msgspec.Struct, frozen=True, kw_only=True):
    """How long what is kept; see the settings of the same names (`[roots]`)."""

    gone_days: float = 14.0
    pull_request_days: float = 3.0
    pull_request_open_days: float = 60.0
    pull_request_runs: int = 2


class KeptPin(msgspec.Struct, frozen=True, array_like=True):
    """What of a pin decides whether its roots stand."""

    paths: Sequence[StorePath]
    gone_at: float | None = None
    held: str = ""


class KeptRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run whose results may have to be kept: one that goes on, or a pull request's."""

    number: int
    paths: Sequence[StorePath]
    """Derivations and outputs of its attributes."""
    done: bool
    ended_at: float | None = None
    pull_request: tuple[int, int] | None = None
    """(project, number)"""
    closed_at: float | None = None
    """When its pull request was merged or closed; None: it is open, or there is none."""


class RootFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything from which the roots that should stand follow."""

    pins: Sequence[KeptPin] = ()
    hand: Sequence[tuple[StorePath, float | None]] = ()
    """What was pinned by hand, and until when."""
    runs: Sequence[KeptRun] = ()
    uploads: Mapping[str, Sequence[StorePath]] = {}
    """What waits to be published, by cache."""
    served: Sequence[StorePath] = ()
    """What caches serve straight from the store."""


class Moves(NamedTuple):
    """What becomes of the generations of an attribute."""

    write: Pin | None = None
    """Added where its id is 0, else in place of the generation with that id."""
    delete: tuple[int, ...] = ()
    """Ids of generations that are too old by now."""


def wanted(facts: RootFacts, rules: RootRules, now: float) -> frozenset[StorePath]:
    """Return the paths of which roots should stand."""
    gone_before = now - rules.gone_days * DAY_S
    found: set[StorePath] = set()
    for pin in facts.pins:
        if not pin.held and (pin.gone_at is None or pin.gone_at > gone_before):
            found.update(pin.paths)
    found.update(path for path, until in facts.hand if until is None or until > now)
    for run in kept_runs(facts.runs, rules, now):
        found.update(run.paths)
    for paths in facts.uploads.values():
        found.update(paths)
    return frozenset(found.union(facts.served))


def kept_runs(runs: Iterable[KeptRun], rules: RootRules, now: float) -> list[KeptRun]:
    """Return the runs whose paths are kept: those that go on, and the newest of each pull request for their time.

    The results of other runs are kept by pins, if at all.
    """
    kept = []
    seen: dict[tuple[int, int], int] = {}
    for run in sorted(runs, key=lambda run: run.number, reverse=True):
        if not run.done:
            kept.append(run)
        elif run.pull_request is not None:
            seen[run.pull_request] = seen.get(run.pull_request, 0) + 1
            if seen[run.pull_request] <= rules.pull_request_runs and _has_time(run, rules, now):
                kept.append(run)
    return kept


def _has_time(run: KeptRun, rules: RootRules, now: float) -> bool:
    """Say whether the results of an ended run of a pull request are still kept, by age alone."""
    ended_at = now if run.ended_at is None else run.ended_at
    if now - ended_at >= rules.pull_request_open_days * DAY_S:
        return False
    return run.closed_at is None or now - run.closed_at < rules.pull_request_days * DAY_S


def changes(standing: set[str], wanted: Collection[StorePath]) -> tuple[list[StorePath], set[str]]:
    """Return the paths to root and the hash parts of the roots to let go, where roots of `standing` stand."""
    hash_parts = {path.rsplit("/", 1)[1][:HASH_LENGTH]: path for path in wanted}
    return [path for part, path in hash_parts.items() if part not in standing], standing - hash_parts.keys()


def pins_here(change: Change, default_branch: str, globs: Sequence[str], root: Change | None = None) -> bool:
    """Say whether the good results of a run are pinned.

    The kind of event decides before any name: nothing of a pull request or a merge queue ever pins, whatever its
    branch is called. Of the rest the default branch (`main`) does, and what the globs choose: those that begin with
    `refs/` are compared with the whole ref, others with a branch's name, so tags need one that begins with `refs/`.
    The last glob that matches decides, `!` in front excludes. `root` is the run that a chain of retries began with.
    """
    origins = {change.origin, change.origin if root is None else root.origin}
    pulls = (change.pull_request, None if root is None else root.pull_request)
    if not origins <= _PINNING or any(number is not None for number in pulls):
        return False
    unknown = change.origin is Origin.RETRY and root is None
    if is_untrusted(change.tier) or (unknown and change.build_class in _NEVER):
        return False
    return _chosen(change.ref, default_branch, globs)


def _chosen(ref: str, default_branch: str, globs: Sequence[str]) -> bool:
    if not ref.startswith((_BRANCH, _TAG)):
        return False
    chosen = bool(default_branch) and ref == _BRANCH + default_branch
    for pattern in globs:
        glob = pattern.removeprefix("!")
        if glob.startswith("refs/"):
            hit = fnmatch.fnmatchcase(ref, glob)
        else:
            hit = ref.startswith(_BRANCH) and fnmatch.fnmatchcase(short(ref), glob)
        if hit:
            chosen = glob == pattern
    return chosen


def order_of(change: Change, root: Change | None = None) -> int:
    """Return where a run stands among those of its ref: by its number, retries where the run they retry stands.

    `root` is the run that a chain of retries began with. Without it a retry stands where the run it names does.
    """
    if root is not None:
        return root.number
    return change.number if change.retry_of is None else change.retry_of


def move(before: Sequence[Pin], new: Pin) -> Moves:
    """Return what a good result does to the generations of its attribute, in whatever order runs end.

    Of each set of outputs the newest order counts; those with the newest orders stay, as many as the newest of them
    says. So an older run that ends late never moves a pin back, and outputs that come again move up.
    """
    newest = max(before, key=_age, default=None)
    same = next((pin for pin in before if pin.outputs == new.outputs), None)
    if same is not None and same.order > new.order:
        return Moves()
    after = new if same is None else _again(same, new, is_newest=same is newest)
    others = sorted((pin for pin in before if pin is not same), key=_age, reverse=True)
    place = sum(pin.order > after.order for pin in others)
    generations = [*others[:place], after, *others[place:]]
    doomed = generations[max(1, generations[0].keep) :]
    delete = tuple(pin.id for pin in doomed if pin.id)
    return Moves(None if after in doomed or after == same else after, delete)


def _age(pin: Pin) -> tuple[int, int]:
    return pin.order, pin.id


def _again(same: Pin, new: Pin, *, is_newest: bool) -> Pin:
    """Return the generation that was found good again."""
    made = same if is_newest else new
    return msgspec.structs.replace(new, id=same.id, run=made.run, at=made.at)


class Seen(NamedTuple):
    """What of a pin decides whether a branch still has it."""

    id: int
    path: AttrPath
    order: int
    gone: bool


def gone(pins: Iterable[Seen], has: Collection[AttrPath], order: int) -> tuple[list[int], list[int]]:
    """Return the ids of pins that an evaluation of this order shows to be gone, and of those that are back.

    An evaluation error hides everything below its path. What a newer run pinned is none of its business.
    """
    pins = list(pins)
    known = has if isinstance(has, (set, frozenset)) else frozenset(has)
    newer = {pin.path for pin in pins if pin.order > order}
    lost: list[int] = []
    back: list[int] = []
    for pin in pins:
        if pin.path in newer:
            continue
        if has_path(pin.path, known):
            back += [pin.id] if pin.gone else []
        else:
            lost += [] if pin.gone else [pin.id]
    return lost, back


def has_path(path: AttrPath, has: Collection[AttrPath]) -> bool:
    """Say whether a path, or one above it, is among some."""
    return path in has or any(path[:length] in has for length in range(len(path)))
