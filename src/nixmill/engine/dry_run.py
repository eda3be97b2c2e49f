"""What a run would do, as `--dry-run` shows it: read off the plan of a flow that did nothing."""

from collections.abc import Mapping

import msgspec

from nixmill.core.diff import Base
from nixmill.core.evaluation import EvalError
from nixmill.core.node import Node, State
from nixmill.core.outcome import Outcome
from nixmill.core.plan import Plan
from nixmill.core.plan_view import PlannedBuild, PlannedFetch, PlanRow, PlanView
from nixmill.core.report import RunReport
from nixmill.core.run_event import Change, Work
from nixmill.core.why_changed import Explanation
from nixmill.engine.result import Result
from nixmill.nix.attr_path import AttrPath

COUNTED_MAX = 20_000
"""Derivations up to which the rows say how many each attribute needs; beyond it that costs more than it tells."""


def plan_view(
    plan: Plan,
    base: Base | None,
    results: list[Result],
    report: RunReport,
    explained: Mapping[AttrPath, Explanation],
    errors: tuple[EvalError, ...],
) -> PlanView:
    """Return the view of a complete plan; `results` are attributes that need nothing."""
    work = [node for node in plan.nodes if node.demand and node.state is not State.DONE]
    needs = _needs(work) if len(work) <= COUNTED_MAX else {}
    rows = [_row(path, node, base, needs, work) for node in work for path in node.attributes]
    rows += [_settled_row(result, base) for result in results]
    rows = [msgspec.structs.replace(row, reason=row.reason or _reason(explained.get(row.path))) for row in rows]
    planned = report.plan
    return PlanView(
        base=report.base,
        rows=tuple(sorted(rows, key=lambda row: row.path)),
        removed=tuple(removed.path for removed in report.removed),
        errors=errors,
        builds=tuple(_build(node) for node in work if node.work is Work.BUILD),
        fetches=tuple(_fetches(work)),
        fetch_bytes=planned.fetch_bytes if planned else 0,
        unpacked_bytes=planned.unpacked_bytes if planned else 0,
        about_s=planned.about_s if planned else None,
    )


def _reason(explanation: Explanation | None) -> str:
    """Return the first root cause in words."""
    return explanation.roots[0].difference.sentence if explanation is not None and explanation.roots else ""


def _row(path: AttrPath, node: Node, base: Base | None, needs: dict[int, int], work: list[Node]) -> PlanRow:
    below = [other for bit, other in enumerate(work) if needs.get(node.id, 0) >> bit & 1] if needs else []
    return PlanRow(
        path=path,
        change=_change(path, node.drv_path, base),
        work=node.work,
        to_build=sum(1 for other in below if other.work is Work.BUILD),
        to_fetch=sum(1 for other in below if other.work is Work.FETCH),
    )


def _settled_row(result: Result, base: Base | None) -> PlanRow:
    attribute = result.attribute
    reason = result.how if result.outcome is Outcome.SUCCEEDED else f"{result.outcome}: {result.how}"
    return PlanRow(
        path=attribute.path, change=_change(attribute.path, attribute.drv_path, base), work=Work.NONE, reason=reason
    )


def _change(path: AttrPath, drv_path: str, base: Base | None) -> Change:
    if base is None:
        return Change.UNKNOWN
    before = base.before(path)
    if before is None:
        return Change.NEW
    return Change.SAME if getattr(before, "drv_path", None) == drv_path else Change.CHANGED


def _build(node: Node) -> PlannedBuild:
    return PlannedBuild(drv_path=node.drv_path, name=node.name, about_s=node.about_s, attributes=len(node.attributes))


def _fetches(work: list[Node]) -> list[PlannedFetch]:
    found = []
    for node in work:
        if node.work is Work.FETCH:
            paths = (path for name, path in (node.outputs or {}).items() if name in node.missing and path is not None)
            found += [PlannedFetch(path=path) for path in paths]
    return found


def _needs(work: list[Node]) -> dict[int, int]:
    """Return, for each node, which of `work` it needs, itself included, as a set of bits. Walked without recursion."""
    bits = {node.id: 1 << bit for bit, node in enumerate(work)}
    needs: dict[int, int] = {}
    stack = list(work)
    while stack:
        node = stack[-1]
        open_inputs = [dep for dep in node.inputs or () if dep.id in bits and dep.id not in needs]
        if open_inputs and node.id not in needs:
            stack += open_inputs
            continue
        stack.pop()
        if node.id not in needs:
            total = bits[node.id]
            for dep in node.inputs or ():
                total |= needs.get(dep.id, 0)
            needs[node.id] = total
    return needs
