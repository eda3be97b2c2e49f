"""The way of a change, from top to bottom: tree → evaluation → diff → plan → build → report.

`check` is the story; the methods below it are its steps, in the order in which a change takes them. Decisions are
made in `nixmill.core`, everything outside is behind `nixmill.doors`.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

from nixmill.core.change import BuildClass
from nixmill.core.diff import Base
from nixmill.core.evaluation import (
    Attribute,
    EvalError,
    EvalRecord,
    EvaluationEnded,
    EvaluationFailedError,
    EvaluationRequest,
    NoSuchTargetError,
)
from nixmill.core.history import AttributeRow, EvaluationRow, RunEndRow, RunRow, evaluation_key, reusable
from nixmill.core.plan_view import PlanView
from nixmill.core.report import ReportBuilder, RunReport, Stop
from nixmill.core.run_event import (
    BaseCompared,
    EvaluationTold,
    Noticed,
    RunEnded,
    RunEvent,
    RunStarted,
    Verdict,
)
from nixmill.core.source import NoBase, Tree
from nixmill.core.target import Word, other_words, show_word
from nixmill.doors import DoorError, NotAllowedError
from nixmill.engine.build_site import BuildSite
from nixmill.engine.comparison import EXPLAINED_MAX, evaluate_all
from nixmill.engine.differences import always_changing_notice, changed_pairs, difference_rows, differences
from nixmill.engine.dry_run import plan_view
from nixmill.engine.duties import Duties
from nixmill.engine.explain import explain_all
from nixmill.engine.intake import Intake
from nixmill.engine.parts import Parts
from nixmill.engine.question import place, question
from nixmill.engine.recorder import Recorder
from nixmill.engine.request import RunDoors, RunRequest, Tell
from nixmill.engine.settlement import Settlement
from nixmill.engine.subject import Subject, find_subject
from nixmill.engine.task_group import innermost
from nixmill.engine.works import Works
from nixmill.nix.attr_path import AttrPath

KNOWN_GROUP: Final = 1000
"""Records of a known evaluation are taken in groups of this size, so that the first build starts soon."""


class Flow:
    """One run. Make it, then await `check`; `cancel` may be called at any time."""

    def __init__(self, request: RunRequest, doors: RunDoors, tell: Tell, works: Works | None = None) -> None:
        """Prepare; nothing happens before `check`. `works` is shared by the runs of a server."""
        self._request = request
        self._doors = doors
        self._told = tell
        self._report = ReportBuilder(typed=request.typed)
        self._began = doors.clock.monotonic()
        self._recorder = Recorder(doors.history, self._notice, insist=request.insist)
        self._works = works or Works()
        self._duties = Duties(request, doors, self._notice)
        self._settlement = Settlement(self._recorder, self._duties, self._tell)
        self.site = BuildSite(request, doors, self._recorder, self._tell, self._settlement, self._works, self._duties)
        self._intake = Intake(self.site, self._duties, self._settlement, self._tell, request)
        self._evaluating: asyncio.Task[None] | None = None
        self.number = request.number or 0
        self.evaluation_key = ""
        self.keys_known: Callable[[], None] = lambda: None
        """Called when one of the two keys became known."""
        self.base_key = ""
        self._base: Base | None = None
        self._cancelled = False
        self._failure: EvaluationFailedError | None = None
        self._trouble: DoorError | None = None

    async def check(self) -> Verdict:
        """Carry the change through and return the verdict; raise `InputError` where the request makes no sense."""
        subject = await find_subject(self._doors.source, self._request)
        await self._begin(subject)
        async with asyncio.TaskGroup() as writing:
            writing.create_task(self._recorder.run())
            duties = writing.create_task(self._duties.run())
            duties.add_done_callback(lambda _: self._recorder.close())
            try:
                await self._carry_through(subject)
            finally:
                self._duties.close()
        return await self._end()

    def cancel(self) -> None:
        """Stop: evaluators and builders end within a second; what was done is kept."""
        self._cancelled = True
        if self._evaluating is not None:
            self._evaluating.cancel()
        self.site.cancel()

    def hold(self) -> bool:
        """Start nothing more, for a run that is about to be cancelled; say whether something is being built."""
        return self.site.hold()

    async def _begin(self, subject: Subject) -> None:
        """Record the run before anything of it is announced."""
        tree, base, words = subject
        row = RunRow(
            project=tree.project,
            checkout=tree.checkout,
            commit=tree.commit,
            tree_hash=tree.tree_hash,
            targets=tuple(show_word(word) for word in words),
            base_commit=base.commit if isinstance(base, Tree) else "",
            process=os.getpid(),
            started_at=self._doors.clock.now(),
        )
        if not self._request.plan_only and self._request.number is None:
            self.number = await self._doors.history.start_run(row)
        started = RunStarted(
            run=self.number,
            project=tree.project,
            commit=tree.commit,
            dirty=tree.dirty,
            targets=row.targets,
            base=row.base_commit,
            base_reason=base.reason,
        )
        self._tell(started)
        for text in tree.notices:
            self._notice(text)

    async def _carry_through(self, subject: Subject) -> None:
        """Evaluate and build at the same time; the first build starts long before the last attribute is known."""
        try:
            async with asyncio.TaskGroup() as group:
                if not self._request.plan_only:
                    group.create_task(self.site.run(self.number))
                self._evaluating = group.create_task(self._evaluate_both(subject))
                self._evaluating.add_done_callback(self._nothing_more_comes)
                if self._cancelled:
                    self.cancel()
        except* DoorError as errors:
            trouble = innermost(errors)
            self._trouble = trouble if isinstance(trouble, DoorError) else None

    async def _evaluate_both(self, subject: Subject) -> None:
        """Evaluate the tree, then the base where it is not known: a base nobody has built lets nothing be skipped."""
        base = subject.base
        try:
            subject, known = await self._evaluate_first_that_is_there(subject)
            if known is None and isinstance(base, Tree):
                await self._evaluate_base(base, subject.words)
            self._tell_differences()
            await self._tell_plan(complete=True)
            self._notice(await always_changing_notice(self._doors.archive, subject.tree, self.changed()))
        except EvaluationFailedError as error:
            self._failure = error
            if self._request.fail_fast:
                self.site.cancel()

    def _nothing_more_comes(self, _evaluated: object) -> None:
        """Let the builds end; also after an evaluation that was cancelled before its first step."""
        self._settlement.let_go()
        self.site.seal()

    async def _evaluate_first_that_is_there(self, subject: Subject) -> tuple[Subject, Base | None]:
        """Evaluate; where nobody named targets and a flake has no checks, what it has in their place."""
        while True:
            known = await self._recall_base(subject)
            try:
                await self._evaluate(subject)
            except NoSuchTargetError:
                words = other_words(subject.words) if not self._request.words else None
                if words is None:
                    raise
                self._notice(f"There is no {show_word(subject.words[0])}: {show_word(words[0])} is checked instead.")
                subject = subject._replace(words=words)
            else:
                return subject, known

    async def _recall_base(self, subject: Subject) -> Base | None:
        """Return what earlier runs know of the base. Without any base, nothing is held back for it."""
        if isinstance(subject.base, NoBase):
            self._settlement.let_go()
            return None
        _, key = await self._asked(subject.words, subject.base)
        row = await self._doors.history.evaluation(key)
        return None if row is None else self._compare(row, reused=True)

    async def _evaluate(self, subject: Subject) -> None:
        """Evaluate the tree that is tested; each group of records is leased, compared and planned as it arrives."""
        asked, key = await self._asked(subject.words, subject.tree)
        self.evaluation_key = key
        self.keys_known()
        self._settlement.begin(self.number, key, await self._recorded_before())
        intake = self._intake
        async with self._works.evaluating(key):
            if not await self._take_known(key, subject.tree):
                await self._evaluate_anew(asked, key, subject.tree)
                await self._recorder.flush()
        if (ended := intake.ended) is not None:
            self._tell(EvaluationTold(ended=ended, attributes=len(intake.attributes), errors=len(intake.errors)))

    async def _evaluate_anew(self, asked: EvaluationRequest, key: str, tree: Tree) -> None:
        intake = self._intake
        parts = Parts(self._recorder, self._doors.clock, key, self.number)
        intake.parts = parts if self._request.insist else None
        async with contextlib.aclosing(self._doors.evaluator.evaluate(asked)) as groups:
            async for records in groups:
                await intake.take(records)
                parts.record()
                await self._tell_plan(complete=False)
        parts.record(last=True)
        if intake.ended is not None:
            attributes = tuple(intake.attributes.values())
            self._record_evaluation(key, tree, attributes, tuple(intake.errors), intake.ended)

    async def _recorded_before(self) -> Sequence[AttributeRow]:
        """Return the outcomes that this run recorded before it was broken off."""
        archive, number = self._doors.archive, self._request.number
        return () if archive is None or number is None else await archive.attributes(number)

    async def _take_known(self, key: str, tree: Tree) -> bool:
        """Take in the records of an earlier evaluation of this very tree; say whether there were any to rely on."""
        row = None if self._request.evaluate_again else await self._doors.history.evaluation(key)
        commit = row.commit if row is not None and self._request.same_tree_is_enough else tree.commit
        if row is None or not reusable(row, commit, self._request.party.tier):
            return False
        wanted = {attribute.drv_path for attribute in row.attributes}
        if wanted and await self._doors.store.hold(wanted) != wanted:
            return False
        if row.run != self.number:
            again = " (not: --evaluate-again)" if self._request.typed else ""
            self._notice(f"This tree was evaluated in run {row.run}; its records are used again{again}.")
        await self._inherit(row)
        records: tuple[EvalRecord, ...] = (*row.attributes, *row.errors)
        for start in range(0, len(records), KNOWN_GROUP):
            await self._intake.take(records[start : start + KNOWN_GROUP])
        self._intake.ended = EvaluationEnded(
            seconds=0.0, first_record_s=0.0, peak_bytes=0, workers=0, evaluator=f"run {row.run}"
        )
        return True

    async def _inherit(self, row: EvaluationRow) -> None:
        """Let failures of the same tree stand: trying again is for people (semantics §6, "by hand")."""
        request, archive = self._request, self._doors.archive
        runs = {run for _, run in row.outcomes.values()}
        if archive is not None and runs and request.inherits_from(row.tier):
            self._settlement.inherit(await archive.attributes(max(runs)))

    async def _evaluate_base(self, base: Tree, words: tuple[Word, ...]) -> None:
        """Evaluate the base for comparison only; a base that does not evaluate is a notice, not a failure."""
        asked, key = await self._asked(words, base)
        try:
            async with self._works.evaluating(key):
                await self._evaluate_base_once(asked, key, base)
        except EvaluationFailedError as error:
            self._notice(f"The base {base.commit[:12]} does not evaluate, so nothing is compared: {error}")

    async def _evaluate_base_once(self, asked: EvaluationRequest, key: str, base: Tree) -> None:
        known = await self._doors.history.evaluation(key)
        if known is not None:  # another run evaluated it meanwhile
            self._compare(known, reused=True)
            return
        records = await evaluate_all(self._doors, asked)
        if records and isinstance(records[-1], EvaluationEnded):
            attributes = tuple(record for record in records if isinstance(record, Attribute))
            errors = tuple(record for record in records if isinstance(record, EvalError))
            row = self._record_evaluation(key, base, attributes, errors, records[-1])
            self._compare(row, reused=False)
            await self._recorder.flush()

    async def _end(self) -> Verdict:
        """Fold everything into a verdict; record it, then tell it."""
        report = self._report.report(seconds=self._seconds(), stop=self._stop())
        verdict, sentence = report.verdict, report.sentence
        row = RunEndRow(number=self.number, ended_at=self._doors.clock.now(), verdict=verdict, sentence=sentence)
        if not self._request.plan_only:
            await self._recorder.write_now(row)
        self._tell(RunEnded(run=self.number, verdict=verdict, seconds=report.seconds, sentence=sentence))
        return verdict

    def _stop(self) -> Stop | None:
        """Return why the run as a whole ended otherwise than its attributes say."""
        if self._cancelled:
            return Stop(verdict=Verdict.CANCELLED)
        if self._failure is not None:
            return Stop(verdict=Verdict.EVALUATION_FAILED, because=str(self._failure))
        if self._trouble is not None:
            verdict = Verdict.NOT_ALLOWED if isinstance(self._trouble, NotAllowedError) else Verdict.INFRASTRUCTURE
            return Stop(verdict=verdict, because=str(self._trouble))
        return None

    @property
    def evaluated(self) -> bool:
        """Say whether the whole tree was evaluated, whatever became of single attributes."""
        return self._intake.ended is not None

    def has(self) -> set[AttrPath]:
        """Return the paths of all attributes, and of evaluation errors, which may hide some."""
        return {*self._intake.attributes, *(error.path for error in self._intake.errors)}

    def report(self) -> RunReport:
        """Return all that is known of the run."""
        return self._report.report()

    async def plan_view(self) -> PlanView:
        """Return what a run with `plan_only` would have done, and why what changed did."""
        both = [(old, new) for old, new in self.changed() if old is not None][:EXPLAINED_MAX]
        pairs = {new.path: (old.drv_path, new.drv_path) for old, new in both}
        errors = tuple(self._intake.errors)
        reasons = await explain_all(self._doors.store, pairs)
        return plan_view(self.site.plan, self._base, self._settlement.results, self.report(), reasons, errors)

    def changed(self) -> list[tuple[Attribute | None, Attribute]]:
        """Return attributes that are new (before: None) or whose derivation differs; none where there is no base."""
        return changed_pairs(self._base, self._intake.attributes.values())

    def _tell(self, event: RunEvent) -> None:
        self._report.handle(event)
        self._told(event)

    def _compare(self, row: EvaluationRow, *, reused: bool) -> Base:
        queued = self._request.party.build_class is BuildClass.MERGE_QUEUE  # nothing is believed to fail there
        inherit = not (queued or self._request.rebuild or self._request.forgive)
        base = self._base = Base(row, inherit=inherit)
        self.base_key = row.key
        self.keys_known()
        self._intake.compare_with(base)
        self._settlement.compare_with(base)
        self._tell(BaseCompared(attributes=len(row.attributes), errors=len(row.errors), reused=reused))
        return base

    def _tell_differences(self) -> None:
        """Tell which errors are new, and what the base has and the tree has not: never silently lost (scenario D7)."""
        if self._base is not None:
            erred, removed = differences(self._base, self._intake)
            if not self._request.plan_only:
                self._recorder.put(*difference_rows(self.number, erred, removed))
            self._tell(erred)
            self._tell(removed)

    def _record_evaluation(
        self,
        key: str,
        tree: Tree,
        attributes: tuple[Attribute, ...],
        errors: tuple[EvalError, ...],
        ended: EvaluationEnded,
    ) -> EvaluationRow:
        row = EvaluationRow(
            key=key,
            run=self.number,
            tree_hash=tree.tree_hash,
            commit=tree.commit,
            seconds=ended.seconds,
            tier=self._request.party.tier,
            in_parts=key == self.evaluation_key and self._intake.parts is not None,
            attributes=attributes,
            errors=errors,
        )
        if not self._request.plan_only:
            self._recorder.put(row)
        return row

    async def _tell_plan(self, *, complete: bool) -> None:
        await self.site.tell_plan(complete=complete, skipped=self._intake.skipped, changed=self._intake.changed)

    async def _asked(self, words: tuple[Word, ...], tree: Tree) -> tuple[EvaluationRequest, str]:
        """Return the evaluation of a tree, and its identity."""
        asked = question(self._request, words, tree, self._doors.machines)
        identity = await self._doors.evaluator.identity()
        return asked, evaluation_key(tree.tree_hash, asked, identity, place(self._request, tree))

    def _seconds(self) -> float:
        return self._doors.clock.monotonic() - self._began

    def _notice(self, text: str) -> None:
        if text:
            self._tell(Noticed(text=text))
