"""`nixmill why` and `nixmill diff`: why something changed as a tree, two evaluations side by side as a table. Pure."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

import msgspec

from nixmill.cli.render.names import listed
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.table import table
from nixmill.core.run_event import Change
from nixmill.core.terminal_text import counted, number
from nixmill.core.why_changed import Difference, Explanation
from nixmill.nix.attr_path import AttrPath

NAMES_MAX: Final = 200
"""Attributes that are listed for one kind of change; `--json` has them all."""
_ORDER: Final = (Change.NEWLY_FAILING, Change.FIXED, Change.NEW, Change.CHANGED, Change.REMOVED, Change.SAME)
_STYLE: Final = {Change.NEWLY_FAILING: "bold red", Change.FIXED: "green", Change.SAME: "dim"}


class _Node(msgspec.Struct):
    """A derivation on the way to a root cause."""

    label: str
    differences: list[Difference] = msgspec.field(default_factory=list)
    below: dict[str, "_Node"] = msgspec.field(default_factory=dict)


def why_lines(path: AttrPath, before: str, explanation: Explanation, paint: Paint, columns: int) -> list[str]:
    """Return why an attribute changed since `before` (a commit, as it is to be shown), down to the sources."""
    name = paint.attribute(path, columns - 30)
    since = f" since {paint.text(before)}" if before else ""
    if not explanation.roots:
        return (
            [f"{name} did not change{since}."]
            if explanation.complete
            else [f"{name} changed{since}; too much differs."]
        )
    lines = [f"{name} changed{since}:", "", *_tree(explanation, paint, columns)]
    return lines if explanation.complete else [*lines, "", paint.dim("More differs than is shown here.")]


def _tree(explanation: Explanation, paint: Paint, columns: int) -> list[str]:
    """Return the ways to all root causes as one tree. Walked with a stack: ways may be long."""
    lines: list[str] = []
    stack = [(node, "", "", "") for node in reversed(_forest(explanation))]
    elbow, tee, down, blank = ("└─ ", "├─ ", "│  ", "   ") if paint.unicode else ("`- ", "|- ", "|  ", "   ")
    while stack:
        node, lead, branch, under = stack.pop()
        chain_, node = _straight(node)
        arrow = f" {paint.marks.arrow} "
        lines.append(paint.fit(f"{paint.dim(lead + branch)}{arrow.join(map(paint.text, chain_))}", columns))
        inner = lead + under
        below = list(node.below.values())
        for difference in node.differences:
            lines += _difference(difference, inner + (down if below else blank), paint, columns)
        last = len(below) - 1
        branches = [(elbow, blank) if at == last else (tee, down) for at in range(len(below))]
        stack += [(child, inner, *ends) for child, ends in reversed(list(zip(below, branches, strict=True)))]
    return lines


def _forest(explanation: Explanation) -> list[_Node]:
    top: dict[str, _Node] = {}
    for root in explanation.roots:
        level, node = top, None
        for name in root.way:
            node = level.setdefault(name, _Node(name))
            level = node.below
        if node is not None:
            node.differences.append(root.difference)
    return list(top.values())


def _straight(node: _Node) -> tuple[list[str], _Node]:
    """Return the names along which there is only one way on and nothing to say, and the node they end at."""
    names = [node.label]
    while not node.differences and len(node.below) == 1:
        node = next(iter(node.below.values()))
        names.append(node.label)
    return names, node


def _difference(difference: Difference, lead: str, paint: Paint, columns: int) -> list[str]:
    lines = [paint.fit(f"{paint.dim(lead)}{paint.style(paint.text(difference.sentence), 'bold')}", columns)]
    for line in paint.lines(difference.text) if difference.text else []:
        style = {"-": "red", "+": "green"}.get(line[:1], "dim")
        lines.append(paint.fit(f"{paint.dim(lead)}  {paint.style(line, style)}", columns))
    return lines


def diff_lines(
    before: str,
    after: str,
    changes: Mapping[Change, Sequence[AttrPath]],
    causes: Sequence[tuple[Difference, tuple[AttrPath, ...]]],
    paint: Paint,
    columns: int,
) -> list[str]:
    """Return how evaluation `after` differs from `before`: counts first, then causes, then the attributes."""
    title = f"{paint.text(before)} {paint.marks.arrow} {paint.text(after)}"
    present = [change for change in _ORDER if changes.get(change)]
    counts = [(number(len(changes[change])), paint.style(change.value, _style(change))) for change in present]
    parts = [[paint.bold(title), *table(counts, "rl", paint, columns)], _causes(causes, paint, columns)]
    parts += [_named(change, changes[change], paint, columns) for change in present if change is not Change.SAME]
    return list(chain.from_iterable(["", *part] for part in parts if part))[1:]


def _style(change: Change) -> str:
    return _STYLE.get(change, "cyan")


def _named(change: Change, paths: Sequence[AttrPath], paint: Paint, columns: int) -> list[str]:
    lines = [f"  {paint.attribute(path, columns - 2, style='')}" for path in sorted(paths)[:NAMES_MAX]]
    left = len(paths) - len(lines)
    rest = [paint.dim(f"  and {number(left)} more; all of them: --json")] if left else []
    return [f"{paint.style(change.value, _style(change))} {paint.dim(number(len(paths)))}", *lines, *rest]


def _causes(causes: Sequence[tuple[Difference, tuple[AttrPath, ...]]], paint: Paint, columns: int) -> list[str]:
    if not causes:
        return []
    lines = [paint.bold("because")]
    for difference, paths in causes[:NAMES_MAX]:
        lines.append(paint.fit(f"  {paint.text(difference.sentence)}", columns))
        of = "    " if len(paths) == 1 else f"    {counted(len(paths), 'attribute')}: "
        lines.append(paint.dim(of + listed(list(paths), paint, columns - len(of))))
    return lines
