"""The doors `PullRequests`, `Inbox` and `Statuses` in memory. The contract tests of the database hold for them, too."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from nixmill.core.change import Change, ChangeState
from nixmill.core.forge import Event, Hint, HintKind
from nixmill.core.message import Parcel
from nixmill.core.posting import Posting, PostOutcome
from nixmill.core.pull_request import Approval, Known, PullRequest, PullState, is_stale
from nixmill.core.trust import Tier

replace = msgspec.structs.replace


class FakePullRequests:
    """Keeps changes of pull requests by number; `begun` are those whose work began."""

    def __init__(self) -> None:
        self.changes: dict[int, Change] = {}
        self.begun: list[int] = []
        self.sentences: dict[int, str] = {}
        self._known: dict[tuple[int, int], tuple[PullRequest, Tier]] = {}
        self._approvals: list[Approval] = []

    async def pull_request(self, project: int, number: int) -> Known | None:
        if (project, number) not in self._known:
            return None
        pull, tier = self._known[project, number]
        mine = [each for each in self.changes.values() if (each.project, each.pull_request) == (project, number)]
        approved = frozenset(each.commit for each in await self.approvals(project, number))
        return Known(pull, tier, sorted(mine, key=lambda each: -each.number)[:50], approved)

    async def open_pull_requests(self, project: int) -> Sequence[PullRequest]:
        found = [pull for (of, _), (pull, _) in sorted(self._known.items()) if of == project]
        return [pull for pull in found if pull.state is PullState.OPEN]

    async def saw(self, project: int, seen: PullRequest, changes: Sequence[Change]) -> list[int]:
        known = await self.pull_request(project, seen.number)
        if is_stale(known, seen):
            return []
        tier = changes[-1].tier if changes else known.tier if known else Tier.FORK
        self._known[project, seen.number] = (seen, tier)
        return [self._accept(change) for change in changes if not self._is_there(change)]

    def _is_there(self, change: Change) -> bool:
        def same(of: Change) -> tuple[object, ...]:
            return of.project, of.pull_request, of.commit, of.base_ref

        counted = (of for of in self.changes.values() if not of.withdrawn and of.superseded_by is None)
        return any(same(of) == same(change) for of in counted)

    def _accept(self, change: Change) -> int:
        number = len(self.changes) + 1
        approved = any(_waits_for(change, approval) for approval in self._approvals)
        state = ChangeState.WAITING if approved else change.state
        self.changes[number] = replace(change, number=number, state=state)
        if state is not ChangeState.HELD:
            self.begun.append(number)
        return number

    async def approve(self, approval: Approval) -> list[int]:
        if not any(
            (each.project, each.pull_request, each.commit) == (approval.project, approval.pull_request, approval.commit)
            for each in self._approvals
        ):
            self._approvals.append(replace(approval, id=len(self._approvals) + 1))
        waiting = [of.number for of in self.changes.values() if _waits_for(of, approval) and not of.cancel_asked]
        for number in waiting:
            self.changes[number] = replace(self.changes[number], state=ChangeState.WAITING)
        self.begun += waiting
        return waiting

    async def withdraw(self, numbers: Collection[int], why: str) -> list[int]:
        found = [each for each in sorted(numbers) if self._is_open(each)]
        for number in found:
            change = self.changes[number]
            held = change.state is ChangeState.HELD
            state = ChangeState.DONE if held else change.state
            self.changes[number] = replace(change, state=state, withdrawn=True, cancel_asked=True)
            if held:
                self.sentences[number] = f"Cancelled{why}."
                self.begun.append(number)
        return found

    def _is_open(self, number: int) -> bool:
        return number in self.changes and self.changes[number].state is not ChangeState.DONE

    async def approvals(self, project: int, number: int) -> Sequence[Approval]:
        mine = [each for each in self._approvals if (each.project, each.pull_request) == (project, number)]
        return sorted(mine, key=lambda each: (-each.at, -each.id))


def _waits_for(change: Change, approval: Approval) -> bool:
    wanted = (approval.project, approval.pull_request, approval.commit)
    return change.state is ChangeState.HELD and (change.project, change.pull_request, change.commit) == wanted


class _Waiting(NamedTuple):
    due_at: float
    id: int
    forge: str
    hint: Hint
    tries: int


class FakeInbox:
    """Keeps hints that wait; `faults` are those of hints that were given up, by id; `replies` are by key."""

    def __init__(self) -> None:
        self.waiting: dict[int, _Waiting] = {}
        self.faults: dict[int, str] = {}
        self.replies: dict[str, Parcel] = {}
        self._seen: set[tuple[str, str]] = set()
        self._last = 0

    async def put(self, forge: str, event: Event, at: float) -> bool:
        if (forge, event.delivery) in self._seen:
            return False
        self._seen.add((forge, event.delivery))
        for hint in event.hints:
            if hint.kind is not HintKind.NOTHING:
                self._last += 1
                self.waiting[self._last] = _Waiting(at, self._last, forge, hint, 0)
        return True

    async def due(self, now: float, limit: int) -> Sequence[tuple[int, str, Hint, int]]:
        ripe = sorted((each for each in self.waiting.values() if each.due_at <= now), key=lambda each: each[:2])
        return [(each.id, each.forge, each.hint, each.tries) for each in ripe[:limit]]

    async def handled(
        self, ids: Collection[int], *, fault: str = "", again_at: float | None = None, replies: Sequence[Parcel] = ()
    ) -> None:
        for reply in replies:
            self.replies.setdefault(reply.key, reply)
        for each in self.waiting.keys() & set(ids):
            one = self.waiting.pop(each)
            if again_at is not None:
                self.waiting[each] = one._replace(due_at=again_at, tries=one.tries + 1)
            elif fault:
                self.faults[each] = fault


class _Status(NamedTuple):
    posting: Posting
    due_at: float | None


class FakeStatuses:
    """Keeps statuses by project, commit and context; those that are wanted wait since `now`."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.rows: dict[tuple[int, str, str], _Status] = {}
        self.faults: list[str] = []
        self.given_up: dict[tuple[int, str, str], str] = {}

    async def want(self, postings: Sequence[Posting]) -> None:
        for posting in postings:
            key = (posting.project, posting.commit, posting.context)
            known = self.rows.get(key)
            if known is None:
                self.rows[key] = _Status(replace(posting, external_id="", tries=0), self.now)
            elif posting.generation > known.posting.generation:
                due_at = self.now if known.due_at is None else known.due_at
                self.rows[key] = _Status(replace(posting, external_id=known.posting.external_id, tries=0), due_at)

    async def of_commit(self, project: int, commit: str) -> Sequence[Posting]:
        return [
            row.posting
            for key, row in sorted(self.rows.items(), key=lambda item: item[0])
            if key[:2] == (project, commit)
        ]

    async def due(self, now: float, limit: int) -> Sequence[Posting]:
        ripe = [(row.due_at, key) for key, row in self.rows.items() if row.due_at is not None and row.due_at <= now]
        return [self.rows[key].posting for _, key in sorted(ripe)[:limit]]

    async def posted(self, outcome: PostOutcome) -> None:
        key = (outcome.project, outcome.commit, outcome.context)
        row = self.rows[key]
        newest = row.posting.generation <= outcome.generation
        if not outcome.fault:
            posting = replace(row.posting, external_id=outcome.external_id or row.posting.external_id, tries=0)
            self.rows[key] = _Status(posting, None if newest else (row.due_at or outcome.at))
            return
        self.faults.append(outcome.fault)
        if newest and row.due_at is not None and outcome.again_at is None:
            self.given_up[key] = outcome.fault
        if newest and row.due_at is not None:
            self.rows[key] = _Status(replace(row.posting, tries=row.posting.tries + 1), outcome.again_at)

    async def again(self, since: float) -> None:
        for key in self.given_up:
            self.rows[key] = _Status(replace(self.rows[key].posting, tries=0), self.now)
        self.given_up.clear()

    async def stuck(self) -> Sequence[tuple[str, str, int]]:
        found = Counter((self.rows[key].posting.forge, fault) for key, fault in self.given_up.items())
        return [(forge, fault, count) for (forge, fault), count in found.most_common()]
