"""Two evaluations side by side, for `nixmill diff` and `nixmill why`: taken from history where they are known."""

import contextlib
from collections.abc import Mapping

import msgspec

from nixmill.core.diff import Base
from nixmill.core.evaluation import Attribute, EvalError, EvalRecord, EvaluationRequest
from nixmill.core.history import EvaluationRow, evaluation_key
from nixmill.core.run_event import Change
from nixmill.core.source import Tree
from nixmill.core.why_changed import Explanation, Kind
from nixmill.engine.explain import explain_all
from nixmill.engine.question import place, question, words_for
from nixmill.engine.request import RunDoors, RunRequest
from nixmill.nix.attr_path import AttrPath

EXPLAINED_MAX = 500
"""Changed attributes that are explained; more share their causes with these."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """How one evaluation differs from another."""

    before: EvaluationRow
    after: EvaluationRow
    changes: Mapping[Change, tuple[AttrPath, ...]]
    explanations: Mapping[AttrPath, Explanation]
    """Of changed attributes."""


async def evaluate_all(doors: RunDoors, asked: EvaluationRequest) -> list[EvalRecord]:
    """Return all records of an evaluation; each derivation is leased as its record arrives."""
    records: list[EvalRecord] = []
    async with contextlib.aclosing(doors.evaluator.evaluate(asked)) as groups:
        async for group in groups:
            await doors.store.hold([record.drv_path for record in group if isinstance(record, Attribute)])
            records += group
    return records


async def evaluated(doors: RunDoors, request: RunRequest, tree: Tree, *, fresh: bool) -> EvaluationRow:
    """Return the evaluation of a tree; `fresh` makes sure that its derivations are in the store."""
    words = await words_for(request, tree, doors.source)
    asked = question(request, words, tree, doors.machines)
    key = evaluation_key(tree.tree_hash, asked, await doors.evaluator.identity(), place(request, tree))
    known = None if fresh else await doors.history.evaluation(key)
    if known is not None:
        await doors.store.hold([attribute.drv_path for attribute in known.attributes])
        return known
    records = await evaluate_all(doors, asked)
    return EvaluationRow(
        key=key,
        run=0,
        tree_hash=tree.tree_hash,
        commit=tree.commit,
        seconds=0.0,
        attributes=tuple(record for record in records if isinstance(record, Attribute)),
        errors=tuple(record for record in records if isinstance(record, EvalError)),
    )


async def compare(doors: RunDoors, request: RunRequest, old: Tree, new: Tree, only: AttrPath | None = None) -> Compared:
    """Compare two trees and explain what changed (of `only`, where it is given).

    Where derivations of a known evaluation are gone from the store, both are evaluated again.
    """
    compared = await _compare(doors, request, old, new, only, fresh=False)
    gone = any(root.difference.kind is Kind.UNREADABLE for e in compared.explanations.values() for root in e.roots)
    return await _compare(doors, request, old, new, only, fresh=True) if gone else compared


async def _compare(
    doors: RunDoors, request: RunRequest, old: Tree, new: Tree, only: AttrPath | None, *, fresh: bool
) -> Compared:
    before = await evaluated(doors, request, old, fresh=fresh)
    after = await evaluated(doors, request, new, fresh=fresh)
    base = Base(before)
    changes = changes_between(base, after)
    wanted = changes.get(Change.CHANGED, ()) if only is None else (only,)
    drvs = {attribute.path: attribute.drv_path for attribute in after.attributes}
    pairs = {}
    for path in wanted[:EXPLAINED_MAX]:
        was = base.before(path)
        if isinstance(was, Attribute) and path in drvs:
            pairs[path] = was.drv_path, drvs[path]
    return Compared(before=before, after=after, changes=changes, explanations=await explain_all(doors.store, pairs))


def changes_between(base: Base, after: EvaluationRow) -> dict[Change, tuple[AttrPath, ...]]:
    """Return the attributes and errors of `after` by how they stand towards the base; only evaluation counts here."""
    found: dict[Change, list[AttrPath]] = {}
    for attribute in after.attributes:
        fixed = isinstance(base.before(attribute.path), EvalError)
        found.setdefault(Change.FIXED if fixed else base.change(attribute), []).append(attribute.path)
    for error in after.errors:
        found.setdefault(base.erred(error), []).append(error.path)
    removed = [one.path for one in base.removed(after.attributes, after.errors) if one.hidden_by is None]
    found.setdefault(Change.REMOVED, []).extend(removed)
    return {change: tuple(sorted(paths)) for change, paths in found.items() if paths}
