"""What people may ask about runs: the part of the office that starts, retries and cancels."""

import difflib
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from nixmill.core.access import EVERYTHING
from nixmill.core.change import BuildClass, Change, ChangeState, Origin
from nixmill.core.errors import InputError
from nixmill.core.posting import CheckState
from nixmill.core.project import Jobset, Project, Ref, belongs, default_branch, short
from nixmill.core.run_event import Verdict
from nixmill.core.trust import Tier, needs_approval
from nixmill.core.view.parts import AttributeLine
from nixmill.engine.journey import Journey
from nixmill.engine.known_projects import project_by_id
from nixmill.engine.office import Again, Asker
from nixmill.engine.office_projects import ProjectOffice
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.watch import Watch
from nixmill.nix.attr_path import AttrPath, show
from nixmill.nix.store_path import StorePath

_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class RunOffice(ProjectOffice):
    """See `nixmill.engine.office.Office`."""

    def __init__(self, doors: ServerDoors, watch: Watch, journey: Journey) -> None:
        """Stop runs through `journey`."""
        super().__init__(doors, watch)
        self.journey = journey

    async def start(
        self, asker: Asker, project: Project, ref: str, targets: Sequence[str] = (), commit: str = ""
    ) -> int:
        """See `Office`."""
        if commit and not _COMMIT.fullmatch(commit):
            raise InputError(f"{commit!r} is no commit.", "Give the whole id, 40 hexadecimal digits.")
        polled = await self._doors.refs.polled(project.id)
        default = default_branch(project, polled)
        named = commit or (ref if _COMMIT.fullmatch(ref) else "")
        name, commit = await self._named(project, ref or default, commit)
        jobsets = await self._doors.projects.jobsets(project.id)
        jobset = next((one for one in jobsets if one.enabled and belongs(one, name, default)), None)
        tier = await self._tier(project, name, default, named)
        change = self._change(asker, project, jobset, name, commit, tier)
        number = await self._accept(project, msgspec.structs.replace(change, targets=tuple(targets) or change.targets))
        await self.note(asker, "start a run", f"run {number}", project.id, f"{short(name)} {commit[:12]}".strip())
        return number

    async def trigger(self, asker: Asker, project: Project, jobset: Jobset, *, force: bool) -> list[int]:
        """See `Office`."""
        if not force:
            await self.look(asker, project)
            return []
        default = default_branch(project, await self._doors.refs.polled(project.id))
        refs = [one for one in await self._doors.refs.refs(project.id) if belongs(jobset, one.name, default)]
        numbers = []
        for ref in refs:
            tier = await self._tier(project, ref.name, default, "")
            change = self._change(asker, project, jobset, ref.name, ref.commit, tier)
            numbers.append(await self._accept(project, msgspec.structs.replace(change, evaluate_again=True)))
        await self.note(asker, "start a run", f"jobset {jobset.name}", project.id, f"runs {numbers}")
        return numbers

    async def streams(self, project: Project, ref: str) -> list[Jobset]:
        """See `Office`."""
        default = default_branch(project, await self._doors.refs.polled(project.id))
        jobsets = await self._doors.projects.jobsets(project.id)
        return [one for one in jobsets if one.enabled and one.on_push and belongs(one, ref, default)]

    async def retry(self, asker: Asker, number: int, what: Again, path: AttrPath | None = None) -> int:
        """See `Office`."""
        change = await self._doors.changes.change(number)
        if change is None or not change.commit:
            raise InputError(f"Run {number} has no tree that could be tried again.", "Start a new run of its branch.")
        if change.state is ChangeState.HELD or await self._was_never_approved(change):
            raise InputError(f"Run {number} waits for approval, so there is nothing to try again.", "Approve it first.")
        again = msgspec.structs.replace(
            change,
            number=0,
            origin=Origin.RETRY,
            requested_by=asker.user,
            requested_at=self._doors.clock.now(),
            retry_of=number,
            rebuild=what is Again.ANYWAY,
            evaluate_again=what is Again.EVALUATE,
            forgive=await self._forgiven(number, what, path),
            anyway=await self._anyway(number, what, path),
            state=ChangeState.WAITING,
            cancel_asked=False,
            superseded_by=None,
            withdrawn=False,
            skipped="",
        )
        project = await self._project(change.project)
        made = await self._accept(project, again)
        await self.note(asker, "retry", f"run {number}", change.project, f"{what}: run {made}")
        return made

    async def cancel(self, asker: Asker, number: int) -> bool:
        """See `Office`."""
        change = await self._doors.changes.change(number)
        stopped = change is not None and await self._doors.changes.stop(number)
        if stopped and change is not None:
            await self.journey.cancel(change)
            await self.note(asker, "cancel", f"run {number}", change.project)
        return stopped

    async def delete_project(self, asker: Asker, project: Project) -> None:
        """See `Office`."""
        mine = [one for one in await self._doors.changes.open_changes() if one.project == project.id]
        for change in mine:
            await self.journey.reporter.bare(change, CheckState.CANCELLED, "The project was deleted from nixmill")
        await self._doors.projects.delete_project(project.id)
        for change in mine:
            await self._doors.changes.stop(change.number)
            await self.journey.cancel(change)
        await self.note(asker, "delete a project", project.name, None, f"id {project.id}, {project.url}")

    async def _accept(self, project: Project, change: Change) -> int:
        numbers = await self._doors.changes.accept([change])
        await self._watch.accepted(project, numbers)
        return numbers[0]

    async def _was_never_approved(self, change: Change) -> bool:
        """Say whether a stranger's commit was cancelled before anybody had approved it: no retry goes round that."""
        if not needs_approval(change.tier) or change.pull_request is None:
            return False
        approvals = await self._doors.pulls.approvals(change.project, change.pull_request)
        return change.commit not in {approval.commit for approval in approvals}

    async def _anyway(self, number: int, what: Again, path: AttrPath | None) -> tuple[AttrPath, ...]:
        """Return the attribute that is built even where it equals a good base."""
        if what is not Again.BUILD or path is None:
            return ()
        if await self._doors.run_pages.attribute_of(EVERYTHING, number, path) is None:
            raise InputError(f"Run {number} has no attribute {show(path)}.", "Look at its page for those it has.")
        return (path,)

    async def _forgiven(self, number: int, what: Again, path: AttrPath | None) -> tuple[StorePath, ...]:
        """Return the derivations whose failure no longer counts, and clear it in failure memory."""
        if what not in {Again.FAILED, Again.ATTRIBUTE}:
            return ()
        failing = await self._doors.run_pages.failing(EVERYTHING, number)
        if what is Again.ATTRIBUTE:
            failing = [line for line in failing if line.path == path]
        if not failing and what is Again.FAILED and not await self._was_good(number):
            return ()  # stopped, skipped or not even fetched: all of it is done again
        if not failing:
            which = show(path) if path else f"run {number}"
            raise InputError(f"Nothing of {which} failed, so there is nothing to try again.", "Try: run anyway.")
        return tuple(dict.fromkeys(drv for line in failing for drv in _at_fault(line)))

    async def _tier(self, project: Project, ref: str, default: str, named: str) -> Tier:
        """Return how far a ref is trusted: its newest commit if it is a branch or tag of the repository itself.

        Another commit that somebody named may be anybody's: forges give those of forks by their ids, too.
        """
        tips: Sequence[Ref] = ()
        if named:
            tips = [one for one in (await self._doors.remote.look(project))[0] if one.commit == named]
            ref = next((one.name for one in tips if one.name == ref), tips[0].name if tips else "")
        if not ref.startswith(("refs/heads/", "refs/tags/")):
            return Tier.MEMBER
        return await self._watch.tier(project, ref, default)

    async def _was_good(self, number: int) -> bool:
        run = await self._doors.run_pages.run(EVERYTHING, number)
        return run is not None and run.verdict is Verdict.GOOD

    def _change(
        self, asker: Asker, project: Project, jobset: Jobset | None, ref: str, commit: str, tier: Tier
    ) -> Change:
        return Change(
            project=project.id,
            jobset=jobset.id if jobset else None,
            ref=ref,
            commit=commit,
            origin=Origin.HAND,
            build_class=jobset.build_class if jobset else BuildClass.BRANCH,
            requested_by=asker.user,
            requested_at=self._doors.clock.now(),
            targets=jobset.targets if jobset else (),
            systems=jobset.systems if jobset else (),
            tier=tier,
        )

    async def _named(self, project: Project, ref: str, commit: str) -> tuple[str, str]:
        """Return the full name of a branch, tag, other ref or commit that a person named.

        One that was not there at the last look is looked for once more, now.
        """
        if _COMMIT.fullmatch(ref):
            return ref, ref
        if ref.startswith("refs/"):
            return ref, commit
        refs: Sequence[Ref] = await self._doors.refs.refs(project.id)
        if (name := _full(ref, refs)) is None:
            refs, _ = await self._doors.remote.look(project)
            name = _full(ref, refs)
        if name is not None:
            return name, commit
        if commit:
            return f"refs/heads/{ref}", commit
        known = [one.name for one in refs]
        close = difflib.get_close_matches(ref, [short(name) for name in known], n=1)
        remedy = f"Did you mean {close[0]}?" if close else "Look at the project's page for its branches and tags."
        raise InputError(f"The project has no branch or tag {ref!r}.", remedy)

    async def _project(self, number: int) -> Project:
        found = await project_by_id(self._doors.projects, number)
        if found is None:
            raise InputError("The project was deleted.")
        return found


def _full(ref: str, refs: Sequence[Ref]) -> str | None:
    known = {one.name for one in refs}
    return next((name for name in (f"refs/heads/{ref}", f"refs/tags/{ref}") if name in known), None)


def _at_fault(line: AttributeLine) -> list[StorePath]:
    return [drv for drv in (line.drv_path, line.culprit) if drv is not None]
