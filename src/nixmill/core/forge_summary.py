"""The summary of a run on a forge: one page of Markdown that answers what a reviewer asks, most important first.

Verdict, root causes, counts against the base, evaluation errors, versions and sizes, what was not built and why, cost,
and how to do it again. Where there is too much, whole sections at the end are left out and the page is named.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from nixmill.core import forge_markdown as md
from nixmill.core.change import ChangeState
from nixmill.core.outcome import Outcome
from nixmill.core.posting import SUMMARY_MAX
from nixmill.core.report_facts import RunForReport
from nixmill.core.run_event import Change, Verdict
from nixmill.core.size_change import SizeChange
from nixmill.core.status import Status
from nixmill.core.terminal_text import about, counted, duration, size
from nixmill.core.verdict_sentence import CAUSE
from nixmill.core.view.parts import AttributeLine, Cause, Filter
from nixmill.nix.attr_path import show

CAUSES_MAX: Final = 10
LOG_LINES: Final = 10
NAMES_MAX: Final = 20
"""Attributes named in one line of the counts."""
ERRORS_MAX: Final = 10
ERROR_LINES: Final = 6
SIZES_MAX: Final = 30
_BAD: Final = frozenset({Status.FAILED, Status.DEPENDENCY_FAILED})


def summary(page: RunForReport) -> str:
    """Return the summary of a run as it is, at most `SUMMARY_MAX` bytes."""
    rest = f"There is more than fits here: {md.link('all of it', page.links.run)}."
    return md.capped(_blocks(page), SUMMARY_MAX, rest)


def _blocks(page: RunForReport) -> Iterator[str]:
    yield _first(page)
    if page.run.state is ChangeState.HELD or page.skipped:
        return
    yield from _causes(page)
    yield _counts(page)
    yield from _errors(page)
    yield from _sizes(page)
    yield _not_built(page)
    yield _notices(page)
    yield _last(page)


def _first(page: RunForReport) -> str:
    """Return what comes before everything else: the verdict, or how far it is."""
    links = page.links
    if page.skipped:
        return f"Nothing was checked: {md.text(page.skipped)}. To check it all the same, start it by hand."
    if page.run.state is ChangeState.HELD:
        where = links.approve or links.run
        return (
            f"**Waits for approval.** Commit {md.code(page.run.commit[:12])} comes from somebody who may not write to "
            f"this repository, so nothing of it is evaluated or built before somebody who may has looked at it.\n\n"
            f"{md.link('Look at it and approve', where)}, or comment `/nixmill approve`. "
            "The approval counts for this commit alone."
        )
    if page.run.state is not ChangeState.DONE:
        return progress(page)
    return f"**{md.text(page.run.sentence, limit=600)}** {md.link(f'Run {page.run.number}', links.run)}"


def progress(page: RunForReport) -> str:
    """Return how far a run is, in one line that names no stranger's text; empty once it is done."""
    match page.run.state:
        case ChangeState.HELD:
            return "waits for approval"
        case ChangeState.WAITING:
            return "waiting"
        case ChangeState.FETCHING:
            return "fetching"
        case ChangeState.EVALUATING:
            return f"evaluating{_so_far(page)}"
        case ChangeState.BUILDING:
            return f"{_planned(page)}{_so_far(page)}"
        case ChangeState.DONE:
            return ""


def _planned(page: RunForReport) -> str:
    total = page.run.counts.get(Filter.ALL, 0)
    compared = page.base is not None and page.changed is not None
    what = f"{page.changed:,} of {total:,} changed" if compared else counted(total, "attribute")
    build = f", {page.to_build:,} to build" if page.to_build else ", nothing to build" if page.to_build == 0 else ""
    return what + build + (f", {about(page.left_s)}" if page.to_build and page.left_s else "")


def _so_far(page: RunForReport) -> str:
    failed = page.run.counts.get(Filter.FAILED, 0)
    return f"; {failed:,} failed so far" if failed else ""


def _causes(page: RunForReport) -> Iterator[str]:
    causes = page.causes[:CAUSES_MAX]
    for number, cause in enumerate(causes):
        yield ("### What went wrong\n\n" if number == 0 else "") + _cause(page, cause)
    more = max(page.causes_total, len(page.causes)) - len(causes)
    if more > 0:
        yield f"And {counted(more, 'other cause')}: {md.link('all of them', page.links.run)}."


def _cause(page: RunForReport, cause: Cause) -> str:
    log = f" ({md.link('log', page.links.log + str(cause.attempt))})" if cause.attempt is not None else ""
    head = f"**{md.code(cause.name)} {CAUSE[cause.outcome]}**{log}{_depend(cause)}"
    since = f" It failed first in run {cause.first_failed}." if cause.first_failed is not None else ""
    trouble = cause.outcome in {Outcome.INFRASTRUCTURE, Outcome.NO_MACHINE}
    ours = " This is our trouble, not the project's." if trouble else ""
    if cause.tail:
        return f"{head}{since}{ours}\n\n{md.fence(cause.tail[-LOG_LINES:])}"
    message = cause.message if cause.message.strip() else _how(page, cause)
    said = f"\n\n{md.fence(message.splitlines()[:LOG_LINES])}" if message else ""
    return f"{head}{since}{ours}{said}"


def _how(page: RunForReport, cause: Cause) -> str:
    """Return what is said of a derivation that was never tried, such as what no machine offers."""
    return next((line.how for line in page.lines if line.drv_path == cause.drv_path and line.how.strip()), "")


def _depend(cause: Cause) -> str:
    """Say how many attributes are not good because of it, and name the first ones."""
    if not cause.victims:
        return "."
    names = ", ".join(md.code(name) for name in cause.attributes[:3])
    more = cause.victims - min(len(cause.attributes), 3)
    rest = f" and {more:,} more" if names and more > 0 else ""
    told = f" ({names}{rest})" if names else ""
    return f": {counted(cause.victims, 'attribute is', 'attributes are')} not good{told}."


def _counts(page: RunForReport) -> str:
    """Return one line for each way in which attributes stand to the base, with their names."""
    bad = [line for line in page.lines if line.status in _BAD or line.drv_path is None]
    bad = [line for line in bad if line.change is not Change.REMOVED]
    groups = {
        "Newly failing": [line for line in bad if line.change is Change.NEWLY_FAILING],
        f"Still failing, as on {_base_name(page)}": [line for line in bad if line.change is Change.SAME],
        "Failing": [line for line in bad if line.change not in {Change.NEWLY_FAILING, Change.SAME}],
        "Fixed": _of(page, Change.FIXED),
        "Changed": _good(page, Change.CHANGED),
        "New": _good(page, Change.NEW),
        "Removed": _of(page, Change.REMOVED),
    }
    lines = [f"- {title}: {_names(page, lines)}" for title, lines in groups.items() if lines]
    if not lines:
        whole = page.run.verdict in {Verdict.GOOD, Verdict.BUILD_FAILED}  # else nobody knows what differs
        return f"Nothing differs from {_base(page)}." if page.base and whole else ""
    compare = f" ({md.link('compare', page.links.compare)})" if page.links.compare and page.base else ""
    return "\n".join([f"### Against {_base(page)}{compare}" if page.compared else "### Attributes", "", *lines])


def _of(page: RunForReport, change: Change) -> list[AttributeLine]:
    return [line for line in page.lines if line.change is change]


def _good(page: RunForReport, change: Change) -> list[AttributeLine]:
    return [line for line in _of(page, change) if line.status not in _BAD and line.drv_path is not None]


def _base(page: RunForReport) -> str:
    name = _base_name(page)
    if page.base is None:
        return f"{name} at {md.code(page.base_commit[:12])}, of which no run is recorded" if page.base_commit else name
    return f"{name}, {md.link(f'run {page.base.number}', page.links.base)}" if page.links.base else name


def _base_name(page: RunForReport) -> str:
    return md.code(page.base_name) if page.base_name else "the base"


def _names(page: RunForReport, lines: Sequence[AttributeLine]) -> str:
    shown = ", ".join(_name(page, line) for line in lines[:NAMES_MAX])
    more = f" and {len(lines) - NAMES_MAX:,} more" if len(lines) > NAMES_MAX else ""
    return f"**{len(lines):,}** {shown}{more}"


def _name(page: RunForReport, line: AttributeLine) -> str:
    since = page.failing_since.get(line.name)
    if line.change is Change.SAME and since is not None:
        return f"{md.code(line.name)} (also fails on {_base_name(page)} since run {since})"
    if line.renamed_to is not None:
        return f"{md.code(line.name)} (now {md.code(show(line.renamed_to))})"
    return md.code(line.name)


def _errors(page: RunForReport) -> Iterator[str]:
    erred = [line for line in page.lines if line.error and line.change is not Change.REMOVED]
    erred.sort(key=lambda line: line.change is Change.SAME)
    for number, line in enumerate(erred[:ERRORS_MAX]):
        title = "### Evaluation errors\n\n" if number == 0 else ""
        lines = [one for one in line.error.splitlines() if one.strip()][:ERROR_LINES]
        yield f"{title}{md.code(line.name)}\n\n{md.fence(lines)}"
    if len(erred) > ERRORS_MAX:
        yield f"And {counted(len(erred) - ERRORS_MAX, 'other evaluation error')}."


def _sizes(page: RunForReport) -> Iterator[str]:
    sizes = _known_sizes(page)
    if not sizes:
        return
    rows = [md.row(*_size_row(change)) for change in sizes[:SIZES_MAX]]
    head = [md.row("attribute", "version", "closure", "difference"), "| --- | --- | ---: | ---: |"]
    more = len(sizes) - SIZES_MAX
    rest = [f"\nAnd {counted(more, 'smaller change')}."] if more > 0 else []
    yield "\n".join(["### Versions and sizes", "", *head, *rows, *rest])


def _known_sizes(page: RunForReport) -> list[SizeChange]:
    """Return what changed of attributes that are good: of one that fails there is nothing whose size can be told."""
    bad = {line.path for line in page.lines if line.status in _BAD}
    return [change for change in page.sizes if change.path not in bad]


def _size_row(change: SizeChange) -> tuple[str, str, str, str]:
    return (
        md.code(show(change.path)),
        _arrow(_version(change.version_before), _version(change.version_after)),
        _arrow(_bytes(change.closure_before), _bytes(change.closure_after)),
        _signed(change.difference),
    )


def _version(version: str | None) -> str:
    if version is None:
        return "–"
    return md.code(version, limit=60) if version else "unversioned"


def _bytes(count: int | None) -> str:
    return "–" if count is None else size(count)


def _arrow(before: str, after: str) -> str:
    return after if before == after else f"{before} → {after}"


def _signed(difference: int | None) -> str:
    if difference is None:
        return ""
    return f"+{size(difference)}" if difference > 0 else f"−{size(-difference)}" if difference else "0 B"


def _not_built(page: RunForReport) -> str:
    """Return what was not built and why: nothing is left out silently."""
    lines = []
    if page.unchanged:
        known = (
            f" there ({md.link(f'run {page.base.number}', page.links.base)})" if page.base and page.links.base else ""
        )
        are = counted(page.unchanged, "attribute is", "attributes are")
        lines.append(f"- {are} the same as on {_base_name(page)} and known to be good{known}.")
    for system, count in sorted(page.elsewhere.items()):
        lines.append(f"- {counted(count, 'attribute')} for {md.code(system)}: no machine for that system is there.")
    undone = page.run.counts.get(Filter.TROUBLE, 0) if page.run.state is ChangeState.DONE else 0
    if undone:
        lines.append(
            f"- {counted(undone, 'attribute was', 'attributes were')} not tried to the end (our trouble, or cancelled)."
        )
    return "\n".join(["### Not built", "", *lines]) if lines else ""


def _notices(page: RunForReport) -> str:
    tier_note = page.tier_note if page.evaluated else ""
    told = [f"- {md.text(one, limit=400)}" for one in (tier_note, *page.notices[:10]) if one]
    return "\n".join(["### Notes", "", *told]) if told else ""


def _is_none_known(page: RunForReport) -> bool:
    """Say whether evaluation failed as a whole, as by a syntax error: the sentence says all, and nothing was built."""
    known = any(line.change is not Change.REMOVED for line in page.lines) or page.run.counts.get(Filter.ALL, 0)
    return page.run.verdict is Verdict.EVALUATION_FAILED and not known


def _last(page: RunForReport) -> str:
    """Return what it took and how to do it again; nothing where it did not come as far as an attribute."""
    if page.run.state is not ChangeState.DONE or not page.evaluated or _is_none_known(page):
        return ""
    took = []
    if page.run.started_at is not None and page.run.ended_at is not None:
        took.append(f"{duration(page.run.ended_at - page.run.started_at)} from beginning to end")
    if page.cost is not None:
        did = f"{page.cost.built:,} built, {page.cost.fetched:,} fetched"
        cpu = f", {duration(page.cost.cpu_s)} of processors" if page.cost.cpu_s is not None else ""
        took.append(f"{did}, {duration(page.cost.wall_s)} of building{cpu}")
    cost = f"Took {'; '.join(took)}.\n\n" if took else ""
    return f"{cost}On your own machine: {md.code(f'nixmill repro {page.links.run}', limit=400)}"
