"""`nixmill why` and `nixmill diff`: what changed between two trees, and why."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from nixmill.cli.options import Everything
from nixmill.cli.render.why_view import diff_lines, why_lines
from nixmill.cli.run import make_request, store_choice
from nixmill.cli.standard_streams import columns, paint, say
from nixmill.cli.wiring import Wiring
from nixmill.core.errors import InputError
from nixmill.core.history import EvaluationRow
from nixmill.core.source import NoBase, TreeRequest
from nixmill.core.why_changed import together
from nixmill.engine.comparison import compare, evaluated
from nixmill.engine.request import RunDoors
from nixmill.nix.attr_path import AttrPath, show


async def why(wiring: Wiring, word: str, targets: tuple[str, ...], options: Everything) -> int:
    """Print why the attribute that `word` means changed against the base."""
    request = make_request(wiring, targets, options, Path.cwd())
    async with _doors(wiring, options) as doors:
        tree = await doors.source.tree(TreeRequest(directory=request.directory, revision=request.revision))
        base = await doors.source.base(tree, request.base)
        if isinstance(base, NoBase):
            raise InputError(f"There is nothing to compare with: {base.reason}.", "Name a commit: --base REV")
        path = _find(word, await evaluated(doors, request, tree, fresh=False))
        compared = await compare(doors, request, base, tree, only=path)
    explanation = compared.explanations.get(path)
    if explanation is None:
        _print([f"{show(path)} is new: {base.commit[:12]} ({base.reason}) does not have it."])
        return 0
    _print(why_lines(path, f"{base.commit[:12]} ({base.reason})", explanation, paint(), columns()))
    return 0


async def diff(wiring: Wiring, before: str, after: str | None, targets: tuple[str, ...], options: Everything) -> int:
    """Print how the evaluation of `after` (None: the checkout as it stands) differs from that of `before`."""
    request = make_request(wiring, targets, options, Path.cwd())
    async with _doors(wiring, options) as doors:
        old = await doors.source.tree(TreeRequest(directory=request.directory, revision=before))
        new = await doors.source.tree(TreeRequest(directory=request.directory, revision=after))
        compared = await compare(doors, request, old, new)
    names = before, after or "this checkout"
    _print(diff_lines(*names, compared.changes, together(compared.explanations), paint(), columns()))
    return 0


@contextlib.asynccontextmanager
async def _doors(wiring: Wiring, options: Everything) -> AsyncIterator[RunDoors]:
    async with wiring.open_run(store_choice(options), say) as doors:
        yield doors


def _find(word: str, row: EvaluationRow) -> AttrPath:
    """Return the path of the attribute that `word` means in an evaluation."""
    paths = [attribute.path for attribute in row.attributes]
    name = word.rpartition("#")[2]
    exact = [path for path in paths if name in {show(path), path[-1] if path else ""}]
    found = exact or [path for path in paths if name in show(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{word!r} means {len(found)} attributes.", "Name one:\n  " + "\n  ".join(map(show, found[:20]))
        )
    erred = [error.message for error in row.errors if name in show(error.path)]
    if erred:
        raise InputError(f"{word!r} does not evaluate: {erred[0]}", "Mend that first.")
    raise InputError(f"There is no attribute {word!r} here.", "See what there is: nixmill run --dry-run")


def _print(lines: list[str]) -> None:
    print(*lines, sep="\n")  # noqa: T201 - the result is what is asked for
