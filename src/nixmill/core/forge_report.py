"""Which statuses a run wants on its forge: the required one always, and few others for attributes that fail.

What also fails on the base has no status of its own: it is not this change's doing, and the summary names it. A status
that was put up for an attribute by an earlier run of the same commit turns good once a run that is done has found it
good; at most `EXTRA_MAX` are bad at any time. Each says from which run it is, by its generation, so that an older run
never overwrites a newer one (`nixmill.core.posting`).
"""

from collections.abc import Collection, Container, Sequence
from typing import Final, assert_never

import msgspec

from nixmill.core.change import ChangeState
from nixmill.core.forge_markdown import code, fence, link
from nixmill.core.forge_summary import progress, summary
from nixmill.core.posting import (
    EXTRA_MAX,
    TITLE_MAX,
    Button,
    CheckState,
    Posting,
    generation_of,
    step_of,
)
from nixmill.core.report_facts import ReportPlace, RunForReport
from nixmill.core.run_event import Change, Verdict
from nixmill.core.status import Status
from nixmill.core.terminal_text import brief, sanitise
from nixmill.core.view.parts import AttributeLine, Filter
from nixmill.nix.store_path import derivation_name

CONTEXT_MAX: Final = 250
"""Characters of a context; GitLab and Gitea take 255."""
_BAD: Final = frozenset({Status.FAILED, Status.DEPENDENCY_FAILED})
_STATE: Final[dict[Verdict, CheckState]] = {
    Verdict.GOOD: CheckState.GOOD,
    Verdict.BUILD_FAILED: CheckState.FAILED,
    Verdict.EVALUATION_FAILED: CheckState.FAILED,
    Verdict.NOT_ALLOWED: CheckState.TROUBLE,
    Verdict.INFRASTRUCTURE: CheckState.TROUBLE,
    Verdict.CANCELLED: CheckState.CANCELLED,
}


def check_state(page: RunForReport) -> CheckState:
    """Return what the required check of a run says."""
    if page.skipped:
        return CheckState.SKIPPED
    match page.run.state:
        case ChangeState.HELD:
            return CheckState.HELD
        case ChangeState.WAITING:
            return CheckState.WAITING
        case ChangeState.FETCHING | ChangeState.EVALUATING | ChangeState.BUILDING:
            return CheckState.RUNNING
        case ChangeState.DONE if page.run.verdict is not None:
            # Removing every check must not be a way to a green one.
            return CheckState.FAILED if _checks_nothing_any_more(page) else _STATE[page.run.verdict]
        case ChangeState.DONE:
            return CheckState.TROUBLE
        case _:
            assert_never(page.run.state)


def _checks_nothing_any_more(page: RunForReport) -> bool:
    counts = page.run.counts
    nothing = page.run.verdict is Verdict.GOOD and not counts.get(Filter.ALL, 0)
    return nothing and counts.get(Filter.REMOVED, 0) > 0


def desired(page: RunForReport, place: ReportPlace, existing: Sequence[Posting] = ()) -> list[Posting]:
    """Return the statuses that a run wants, the required one first.

    `existing`: all statuses of the commit as they should stand until now (`Statuses.of_commit`).
    """
    prefix = f"{place.context}: "
    ours = [one for one in existing if not one.required and one.project == place.project]
    earlier = {one.context: one for one in ours if one.context.startswith(prefix)}
    failing = {_context(place, line): line for line in _culprits_first(page)}
    not_good = _not_known_good(page)
    flips = {
        context: _passes(page, place, one)
        for context, one in earlier.items()
        if context not in failing and _turns_good(page, one, context.removeprefix(prefix), not_good)
    }
    standing = {context for context, one in earlier.items() if one.state is not CheckState.GOOD} - flips.keys()
    told = _told(list(failing), earlier, standing)
    extras = [_extra(page, place, context, failing[context]) for context in told]
    return [_required(page, place), *extras, *flips.values()]


def _told(failing: Sequence[str], earlier: Container[str], standing: Collection[str]) -> list[str]:
    """Return the contexts to be told: those that have a status already first, and no more than there is room for."""
    kept = [context for context in failing if context in earlier]
    added = [context for context in failing if context not in earlier]
    new = [context for context in (*kept, *added) if context not in standing]
    room = max(EXTRA_MAX - len(standing), 0)
    return [context for context in kept if context in standing] + new[:room]


def title(page: RunForReport) -> str:
    """Return the line that stands beside the required check, at most `TITLE_MAX` characters."""
    state = check_state(page)
    match state:
        case CheckState.SKIPPED:
            line = f"Not checked: {page.skipped}"
        case CheckState.HELD:
            line = "Waits until somebody who may write to the repository approves this commit"
        case CheckState.WAITING | CheckState.RUNNING:
            line = _capital(progress(page))
        case CheckState.GOOD:
            line = _good(page)
        case CheckState.FAILED:
            line = _failed(page)
        case CheckState.TROUBLE | CheckState.CANCELLED:
            line = page.run.sentence
        case _:
            assert_never(state)
    return _line(line)


def _good(page: RunForReport) -> str:
    total = page.run.counts.get(Filter.ALL, 0)
    fixed = page.run.counts.get(Filter.FIXED, 0)
    same = f", {page.unchanged:,} unchanged" if page.unchanged else ""
    mended = f", {fixed:,} fixed" if fixed else ""
    removed = page.run.counts.get(Filter.REMOVED, 0)
    gone = f", {removed:,} removed" if removed else ""
    if not total:
        return f"Nothing to check: the targets hold no derivation{gone}"
    return f"{'The attribute is' if total == 1 else f'All {total:,} are'} good{same}{mended}{gone}"


def _failed(page: RunForReport) -> str:
    counts = page.run.counts
    failed, total = counts.get(Filter.FAILED, 0), counts.get(Filter.ALL, 0)
    if _checks_nothing_any_more(page):
        return f"Nothing is checked any more: {counts.get(Filter.REMOVED, 0):,} attributes were removed"
    if not failed:
        return page.run.sentence
    new = sum(_is_bad(line) and line.change in {Change.NEWLY_FAILING, Change.NEW} for line in page.lines)
    if not page.compared:
        return f"{failed:,} of {total:,} failed"
    return f"{failed:,} of {total:,} failed; {f'{new:,} new' if new else 'none of them new'}"


def _required(page: RunForReport, place: ReportPlace) -> Posting:
    state = check_state(page)
    return Posting(
        forge=place.forge,
        project=place.project,
        repository=place.repository,
        commit=place.commit,
        context=place.context,
        state=state,
        title=title(page),
        summary=summary(page),
        url=page.links.approve if state is CheckState.HELD and page.links.approve else page.links.run,
        run=page.run.number,
        generation=_generation(page, state),
        pull_request=place.pull_request,
        buttons=_buttons(state),
        started_at=page.run.started_at,
        ended_at=page.run.ended_at,
    )


def _generation(page: RunForReport, state: CheckState) -> int:
    return generation_of(page.run.number, step_of(state, failing=page.run.counts.get(Filter.FAILED, 0)))


def _buttons(state: CheckState) -> tuple[Button, ...]:
    match state:
        case CheckState.HELD:
            return (Button.APPROVE,)
        case CheckState.WAITING | CheckState.RUNNING:
            return (Button.CANCEL,)
        case CheckState.FAILED | CheckState.TROUBLE | CheckState.CANCELLED | CheckState.SKIPPED:
            return (Button.RETRY,)
        case CheckState.GOOD:
            return ()
        case _:
            assert_never(state)


def _culprits_first(page: RunForReport) -> list[AttributeLine]:
    """Return failing attributes that get a status: newly failing ones and culprits first, one for each culprit."""
    if page.skipped or page.run.state in {ChangeState.HELD, ChangeState.WAITING, ChangeState.FETCHING}:
        return []
    bad = [line for line in page.lines if _is_bad(line) and line.change not in {Change.SAME, Change.REMOVED}]
    bad.sort(
        key=lambda line: (line.change is not Change.NEWLY_FAILING, line.status is Status.DEPENDENCY_FAILED, line.path)
    )
    seen: set[str] = set()
    chosen = []
    for line in bad:
        culprit = str(line.culprit or line.drv_path or line.name)
        if culprit not in seen:
            seen.add(culprit)
            chosen.append(line)
    return chosen


def _is_bad(line: AttributeLine) -> bool:
    return line.status in _BAD or bool(line.error)


def _context(place: ReportPlace, line: AttributeLine) -> str:
    return _line(f"{place.context}: {line.name}", CONTEXT_MAX)


def _extra(page: RunForReport, place: ReportPlace, context: str, line: AttributeLine) -> Posting:
    said = "did not evaluate" if line.error else brief(line.how) or _at_fault(line)
    new = "newly failing: " if line.change is Change.NEWLY_FAILING else ""
    log = page.links.log + str(line.attempt) if line.attempt is not None else page.links.run
    first = [one for one in (line.error or "").splitlines() if one.strip()][:6]
    tail = next((cause.tail for cause in page.causes if line.name in cause.attributes), ())
    detail = f"\n\n{fence(first or tail[-10:])}" if first or tail else ""
    return msgspec.structs.replace(
        _required(page, place),
        context=context,
        state=CheckState.FAILED,
        title=_line(_capital(f"{new}{said}")),
        summary=f"{code(line.name)} {link('what is known of it', log)}{detail}",
        url=log,
        required=False,
        buttons=(Button.RETRY,) if page.run.state is ChangeState.DONE else (),
        ended_at=page.run.ended_at,
    )


def _at_fault(line: AttributeLine) -> str:
    return "failed" if line.culprit is None else f"{derivation_name(line.culprit)} failed"


def _not_known_good(page: RunForReport) -> frozenset[str]:
    """Return names of attributes that are not good, whatever the reason."""
    return frozenset(line.name for line in page.lines if line.change is not Change.REMOVED and not _is_good(line))


def _is_good(line: AttributeLine) -> bool:
    return line.status in {Status.PASSED, Status.CACHED} and not line.error


def _turns_good(page: RunForReport, posting: Posting, name: str, not_good: frozenset[str]) -> bool:
    """Say whether a status that was bad is to be taken back: only what a whole run has found good.

    Below an attribute that did not evaluate nothing is known, nor after a run that was stopped.
    """
    if posting.state is CheckState.GOOD or page.run.state is not ChangeState.DONE:
        return False
    if check_state(page) not in {CheckState.GOOD, CheckState.FAILED} or not _is_complete(page):
        return False
    return not any(name == bad or name.startswith(f"{bad}.") for bad in not_good)


def _is_complete(page: RunForReport) -> bool:
    """Say whether all that is not good is among the lines, so that what is missing there is good."""
    there = [line for line in page.lines if line.change is not Change.REMOVED]
    bad = sum(_is_bad(line) for line in there)
    undone = sum(not _is_bad(line) and not _is_good(line) for line in there)
    counts = page.run.counts
    return bool(counts) and counts.get(Filter.FAILED, 0) <= bad and counts.get(Filter.TROUBLE, 0) <= undone


def _passes(page: RunForReport, place: ReportPlace, posting: Posting) -> Posting:
    return msgspec.structs.replace(
        _required(page, place),
        context=posting.context,
        state=CheckState.GOOD,
        title=f"{'No longer there' if _is_gone(page, place, posting) else 'Passes now'}, run {page.run.number}",
        summary=f"{link(f'Run {page.run.number}', page.links.run)} found it so; it failed in run {posting.run}.",
        url=page.links.run,
        required=False,
        buttons=(),
    )


def _is_gone(page: RunForReport, place: ReportPlace, posting: Posting) -> bool:
    return any(line.change is Change.REMOVED and _context(place, line) == posting.context for line in page.lines)


def _line(words: str, limit: int = TITLE_MAX) -> str:
    line = sanitise(words[: 4 * limit], colour=False, limit=8 * limit)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
