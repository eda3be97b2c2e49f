"""What a complete evaluation has and its base has not, and the other way round: for people, and as rows."""

from collections.abc import Collection, Iterable, Sequence

from nixmill.core.diff import ALWAYS_CHANGING_MIN, Base, always_changing
from nixmill.core.evaluation import Attribute
from nixmill.core.history import DifferenceRow, EvaluationRow
from nixmill.core.run_event import AttributesRemoved, Change, ErrorsCompared
from nixmill.core.source import Tree
from nixmill.doors import Archive
from nixmill.engine.intake import Intake
from nixmill.nix.attr_path import AttrPath, show


def differences(base: Base, intake: Intake) -> tuple[ErrorsCompared, AttributesRemoved]:
    """Return which errors are new, and what is gone; both evaluations must be complete."""
    erred = tuple((error.path, base.erred(error)) for error in intake.errors)
    gone = base.removed(intake.attributes.values(), intake.errors)
    removed = tuple((one.path, one.renamed_to, one.hidden_by) for one in gone)
    return ErrorsCompared(changes=erred), AttributesRemoved(removed=removed)


def changed_pairs(base: Base | None, attributes: Iterable[Attribute]) -> list[tuple[Attribute | None, Attribute]]:
    """Return attributes that are new or whose derivation differs, with what the base has in their place."""
    if base is None:
        return []
    pairs = ((base.before(attribute.path), attribute) for attribute in attributes if not base.same(attribute))
    return [(old if isinstance(old, Attribute) else None, new) for old, new in pairs]


def difference_rows(run: int, erred: ErrorsCompared, removed: AttributesRemoved) -> list[DifferenceRow]:
    """Return the rows that say the same."""
    rows = [DifferenceRow(run=run, path=path, change=change) for path, change in erred.changes]
    rows += [
        DifferenceRow(run=run, path=path, change=Change.REMOVED, renamed_to=new, hidden_by=by)
        for path, new, by in removed.removed
    ]
    return rows


async def always_changing_notice(
    archive: Archive | None, tree: Tree, changed: Sequence[tuple[Attribute | None, Attribute]]
) -> str:
    """Say which changed attributes differ in every evaluation: comparing says nothing about them (D18)."""
    if archive is None or not changed:
        return ""
    rows = await archive.recent_evaluations(tree.checkout, ALWAYS_CHANGING_MIN)
    return always_changing_sentence({new.path for _, new in changed}, rows)


def always_changing_sentence(changed: Collection[AttrPath], rows: Sequence[EvaluationRow]) -> str:
    """Say which changed attributes differed in each of the last evaluations; empty where none did."""
    names = [show(path) for path in sorted(set(changed) & always_changing(rows))]
    if not names:
        return ""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    often = f"changed in each of the last {len(rows)} evaluations here"
    return f"{shown}: {often}. If its own sources did not, it depends on the commit itself."
