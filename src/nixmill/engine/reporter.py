"""Says on forges how runs stand: reads what is known of a run and records which statuses should follow from it.

What a status says is decided by `nixmill.core.forge_report`; here its facts are gathered. The end of a run is reported
within its last durable step, so that the required check reaches a final state whatever happens; on the way there a
report may be late, several changes are one, and one that is lost does no harm.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from nixmill.config.forges import ForgeSettings
from nixmill.core.access import EVERYTHING
from nixmill.core.change import Change, ChangeState, Origin
from nixmill.core.forge_report import desired
from nixmill.core.posting import STEPS, TITLE_MAX, CheckState, Posting, generation_of
from nixmill.core.project import Project, short
from nixmill.core.report_facts import ReportCost, ReportLinks, ReportPlace, RunForReport
from nixmill.core.run_event import Planned, Verdict, Work
from nixmill.core.trust import is_untrusted
from nixmill.core.view.pages import EvaluationPage
from nixmill.core.view.parts import AttributeLine, Filter, RunLine
from nixmill.doors import DoorError
from nixmill.engine.courier import first_of
from nixmill.engine.known_projects import project_by_id
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.tails import filled

LINES_MAX: Final = 2000
FAILING_MAX: Final = 100
"""Attributes that a report of a run under way looks at: only failing ones, and it names few of them."""
RETRIES_MAX: Final = 50
"""Runs that are looked back through to the one that was retried."""
GATHER_S: Final = 2.0
"""A run rests so long between two reports on its way: what changes meanwhile is one report."""
SHARE: Final = 0.1
"""Of the time at most goes into reports of one run: those of a large run take long, so they are rarer."""
LONG_S: Final = 3600.0

log = structlog.get_logger("nixmill.report")


class Reporter:
    """All runs of projects that belong to a forge."""

    def __init__(self, doors: ServerDoors) -> None:
        """Begin with nothing to report."""
        self._doors = doors
        self._plans: dict[int, Planned] = {}
        self._forges: dict[str, ForgeSettings] = {forge.name: forge for forge in doors.settings.forges if forge.reports}
        self._hurried: set[int] = set()
        self._rests: dict[int, float] = {}
        """Until when (monotonic) a run is not reported again by `run`."""
        self._woken = asyncio.Event()
        self.told: Callable[[], None] = lambda: None
        """Called when statuses may have to be posted."""

    def hurry(self, number: int, plan: Planned | None = None) -> None:
        """Report a run soon: something of it changed, perhaps its plan."""
        if plan is not None:
            self._plans[number] = plan
        if self._forges and number not in self._hurried:
            self._hurried.add(number)
            self._woken.set()

    async def run(self) -> None:
        """Report, for ever."""
        while True:
            self._woken.clear()
            for number in self._due():
                began = self._doors.clock.monotonic()
                try:
                    await self.report(number, on_its_way=True)
                except DoorError as error:
                    log.warning("a report has to wait", run=number, fault=str(error))
                now = self._doors.clock.monotonic()
                self._rests[number] = now + max(GATHER_S, (now - began) / SHARE)
            await first_of(self._woken.wait(), self._doors.clock.sleep(self._pause_s()))

    def _due(self) -> list[int]:
        """Return what is to be reported now."""
        now = self._doors.clock.monotonic()
        self._rests = {number: until for number, until in self._rests.items() if until > now}
        return sorted(self._hurried - self._rests.keys())

    def _pause_s(self) -> float:
        """Return how long nothing will be due unless something new happens."""
        now = self._doors.clock.monotonic()
        return max(0.0, min((self._rests.get(number, now) - now for number in self._hurried), default=LONG_S))

    async def report(self, number: int, *, on_its_way: bool = False) -> None:
        """Record how the statuses of a run should stand now; with `on_its_way` its end is left to its last step.

        What is said at the end is said once: before that step sizes and counts may not be known.
        """
        self._hurried.discard(number)
        change = await self._doors.changes.change(number)
        if on_its_way and change is not None and change.state is ChangeState.DONE:
            return
        project = await project_by_id(self._doors.projects, change.project) if change is not None else None
        if change is None or project is None or project.forge not in self._forges or not change.commit:
            return
        existing = await self._doors.statuses.of_commit(project.id, change.commit)
        facts = await self._facts(change, project)
        if facts is not None and facts.run.state is ChangeState.DONE and _is_old(change, existing):
            await self._report_newest(change, existing)
            return
        if facts is None or _is_old(change, existing) or _is_idle_beside(change, facts, existing):
            return
        if await self._is_of_less(change):
            return
        withdrawn = change.withdrawn and facts.run.state is ChangeState.DONE
        wanted = desired(facts, self._place(change, project), existing)
        good = wanted[0].state is CheckState.GOOD
        others = await self._beside(change) if withdrawn or good else []
        if withdrawn and others:
            await self._inherit(change, others[-1][0], project, existing)
            return
        bad = [one for one in others if one[1].verdict not in {Verdict.GOOD, Verdict.CANCELLED}]
        if good and bad:
            wanted[0] = beside(wanted[0], bad[0][0], bad[0][1].verdict, f"{self._doors.settings.url}/r/")
        await self._want(wanted)

    async def _want(self, wanted: Sequence[Posting]) -> None:
        await self._doors.statuses.want(wanted)
        self.told()

    async def _inherit(self, gone: Change, heir: Change, project: Project, existing: Sequence[Posting]) -> None:
        """Let the run of another open pull request speak for a commit whose own was closed."""
        facts = await self._facts(heir, project)
        if facts is not None:
            last = generation_of(gone.number, STEPS - 1)
            wanted = desired(facts, self._place(heir, project), existing)
            await self._want([msgspec.structs.replace(one, generation=last) for one in wanted])

    async def bare(self, change: Change, state: CheckState, title: str) -> None:
        """Say the last word of a run of which nothing more can be told."""
        project = await project_by_id(self._doors.projects, change.project)
        if project is None or project.forge not in self._forges or not change.commit:
            return
        place = self._place(change, project)
        posting = Posting(
            forge=place.forge,
            project=place.project,
            repository=place.repository,
            commit=place.commit,
            context=place.context,
            state=state,
            title=title[:TITLE_MAX],
            url=f"{self._doors.settings.url}/r/{change.number}",
            run=change.number,
            generation=generation_of(change.number, STEPS - 1),
            pull_request=change.pull_request,
        )
        await self._want([posting])

    async def _beside(self, change: Change) -> list[tuple[Change, RunLine]]:
        """Return the runs that count of other open pull requests with the same head, the oldest pull request last.

        A commit has one required check, and the same head merged into two bases is two things that are tested.
        """
        found = []
        for pull in await self._doors.pulls.open_pull_requests(change.project):
            if pull.head_commit != change.commit or pull.number == change.pull_request:
                continue
            known = await self._doors.pulls.pull_request(change.project, pull.number)
            runs = [one for one in known.changes if one.commit == change.commit] if known is not None else []
            counted = next((one for one in runs if not one.withdrawn and one.superseded_by is None), None)
            run = await self._doors.run_pages.run(EVERYTHING, counted.number) if counted is not None else None
            if counted is not None and run is not None and run.state is not ChangeState.HELD:
                found.append((counted, run))
        return found

    async def _report_newest(self, change: Change, existing: Sequence[Posting]) -> None:
        """Report the run that speaks for a commit once more, where it may have waited for this one of another."""
        newest = max(posting.run for posting in existing if posting.required)
        other = await self._doors.changes.change(newest)
        if other is not None and other.pull_request != change.pull_request and other.state is ChangeState.DONE:
            await self.report(newest)

    async def _is_of_less(self, change: Change) -> bool:
        """Say whether a person chose what was checked: the required check means what the project chose.

        Else whoever may start a run could have a green check for a commit by asking for something that is good.
        """
        for _ in range(RETRIES_MAX):
            before = await self._doors.changes.change(change.retry_of) if change.retry_of is not None else None
            if before is None:
                break
            change = before
        if change.origin is not Origin.HAND or not change.targets:
            return False
        jobsets = await self._doors.projects.jobsets(change.project)
        return all(jobset.id != change.jobset or jobset.targets != change.targets for jobset in jobsets)

    def _place(self, change: Change, project: Project) -> ReportPlace:
        return ReportPlace(
            forge=project.forge,
            project=project.id,
            repository=project.repository,
            commit=change.commit,
            context=self._forges[project.forge].status_name,
            pull_request=change.pull_request,
        )

    async def _facts(self, change: Change, project: Project) -> RunForReport | None:
        pages = self._doors.run_pages
        size = LINES_MAX if change.state is ChangeState.DONE else FAILING_MAX
        page = await pages.evaluation(EVERYTHING, change.number, Filter.FAILED, "", 1, size)
        if page is None:
            return None
        final = page.run.state is ChangeState.DONE
        more = (Filter.DIFFERENT, Filter.TROUBLE) if final else ()
        others = [await pages.evaluation(EVERYTHING, change.number, one, "", 1, LINES_MAX) for one in more]
        plan = self._plans.pop(change.number, None) if final else self._plans.get(change.number)
        return RunForReport(
            run=page.run,
            links=self._links(page, project, change),
            base=page.base,
            base_name=short(change.base_ref or (page.base.ref if page.base else "")),
            base_commit=page.base_commit,
            evaluated=bool(page.tree_hash),
            causes=await filled(self._doors.logs, page.causes) if final else page.causes,
            causes_total=page.causes_total,
            lines=_joined(page.rows, *(other.rows for other in others if other)),
            unchanged=_unchanged(page),
            changed=plan.changed if plan else None,
            to_build=plan.to_build if plan else None,
            left_s=plan.about_s if plan else None,
            sizes=page.sizes,
            cost=await self._cost(change.number) if final else None,
            notices=page.notices,
            tier_note=_tier_note(change),
            skipped=_why_skipped(page),
        )

    def _links(self, page: EvaluationPage, project: Project, change: Change) -> ReportLinks:
        url, number = self._doors.settings.url, change.number
        base = f"{url}/r/{page.base.number}" if page.base else ""
        return ReportLinks(
            run=f"{url}/r/{number}",
            log=f"{url}/log/",
            base=base,
            compare=f"{url}/compare/{page.base.number}/{number}" if page.base else "",
            approve=f"{url}/p/{project.name}/pull/{change.pull_request}" if change.pull_request else "",
        )

    async def _cost(self, number: int) -> ReportCost | None:
        page = await self._doors.run_pages.timeline(EVERYTHING, number)
        if page is None:
            return None
        built = [one for one in page.attempts if one.work is Work.BUILD]
        return ReportCost(
            built=len(built),
            fetched=sum(one.work is Work.FETCH for one in page.attempts),
            wall_s=sum(one.seconds for one in page.attempts),
        )


def beside(posting: Posting, other: Change, verdict: Verdict | None, runs: str) -> Posting:
    """Return a good status as it is while another pull request's run of the same commit is not good."""
    state = CheckState.RUNNING if verdict is None else CheckState.FAILED
    stands = "is under way" if verdict is None else "is not good"
    return msgspec.structs.replace(
        posting,
        state=state,
        title=f"Good, but run {other.number} of {short(other.ref)}, the same commit, {stands}"[:TITLE_MAX],
        url=f"{runs}{other.number}",
        generation=generation_of(posting.run, STEPS - (3 if verdict is None else 2)),  # before its own end
        ended_at=None if verdict is None else posting.ended_at,
    )


def _is_old(change: Change, existing: Sequence[Posting]) -> bool:
    """Say whether a newer run already speaks for this commit."""
    return any(posting.required and posting.run > change.number for posting in existing)


def _is_idle_beside(change: Change, facts: RunForReport, existing: Sequence[Posting]) -> bool:
    """Say whether a run that did nothing leaves the word to another's of the same commit.

    Else anybody could open a pull request with the head of somebody else's and take its good status away.
    """
    stopped = facts.run.verdict is Verdict.CANCELLED and change.pull_request is not None and not change.tested
    if facts.run.state is not ChangeState.HELD and not stopped:
        return False
    idle = {CheckState.HELD, CheckState.CANCELLED}
    return any(one.required and one.pull_request != change.pull_request and one.state not in idle for one in existing)


def _joined(*tables: tuple[AttributeLine, ...]) -> tuple[AttributeLine, ...]:
    found = {line.path: line for table in tables for line in table}
    return tuple(found.values())


def _unchanged(page: EvaluationPage) -> int:
    """Return how many attributes are the same as on the base and good."""
    counts = page.counts
    # What was removed differs, but is none of all.
    differ = counts.get(Filter.DIFFERENT, 0) - counts.get(Filter.REMOVED, 0)
    return max(0, counts.get(Filter.ALL, 0) - differ) if page.base else 0


def _tier_note(change: Change) -> str:
    if not is_untrusted(change.tier):
        return ""
    return "Evaluated in a sandbox, as everything of a pull request; nothing of it is published or pinned."


def _why_skipped(page: EvaluationPage) -> str:
    """Return why nothing was checked, as part of a sentence; empty where something was."""
    skipped = page.run.verdict is Verdict.CANCELLED and page.run.sentence.startswith("Skipped: ")
    return page.run.sentence.removeprefix("Skipped: ").removesuffix(".") if skipped else ""
