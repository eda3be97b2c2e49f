"""Laws of pull requests: whatever becomes of a forge's events, what stands on it at the end is the same, and safe.

A history is a list of deeds on a forge. Each deed's delivery has a fate; at the end the reconciler asks once. The
world is that of `tests.support.pull_world`: the real engine over the real database, with a forge in memory.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Final, NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nixmill.core.change import ChangeState
from nixmill.core.forge import Event, Hint, HintKind
from nixmill.core.posting import EXTRA_MAX, FINAL_CHECKS, CheckState
from nixmill.core.pull_request import PullRequest, PullState, why_skipped
from nixmill.core.trust import Tier
from tests.contract.forge_world import Where
from tests.support.journey_world import template
from tests.support.pull_world import PullWorld, a_pull_world

__all__ = ["template"]

PULLS: Final = 3
COMMITS: Final = 3
"""Commits that each pull request moves among."""
EXAMPLES: Final = 8


class What(Enum):
    """What somebody does on a forge."""

    OPEN = auto()
    PUSH = auto()
    RETARGET = auto()
    LABEL = auto()
    DRAFT = auto()
    CLOSE = auto()
    REOPEN = auto()
    MERGE = auto()
    APPROVE = auto()
    BUTTON = auto()
    RETRY = auto()
    CANCEL = auto()
    DELETE = auto()
    """Delete a branch of the repository, or make it."""


class Fate(Enum):
    """What becomes of a delivery."""

    PROMPT = auto()
    LOST = auto()
    TWICE = auto()
    BATCHED = auto()
    """Recorded, and seen to with what comes next."""
    LATE = auto()
    """Comes at the end, in any order, perhaps twice."""


class Deed(NamedTuple):
    """One deed, and what becomes of its delivery."""

    what: What
    pull: int
    pick: int
    """Of commits, branches, labels."""
    who: str
    fate: Fate
    settle: bool
    """Whether everything ends before the next one."""


DEEDS: Final = st.builds(
    Deed,
    what=st.sampled_from(What),
    pull=st.integers(1, PULLS),
    pick=st.integers(0, COMMITS - 1),
    who=st.sampled_from(("mia", "mia", "sam", "eve")),
    fate=st.sampled_from(Fate),
    settle=st.booleans(),
)
HISTORIES: Final = st.lists(DEEDS, min_size=4, max_size=16)
LABELS: Final = ((), ("skip-ci",), ("nixmill",))
BASES: Final = ("refs/heads/main", "refs/heads/release")
OF_PEOPLE: Final = frozenset({What.APPROVE, What.BUTTON, What.RETRY, What.CANCEL})
"""Deeds that nobody can ask a forge for afterwards."""


@dataclass
class Story:
    """A history as it is played."""

    world: PullWorld
    commits: dict[int, list[str]]
    """By pull request."""
    dice: random.Random
    late: list[Event] = field(default_factory=list)
    allowed: set[str] = field(default_factory=set)
    """Commits that somebody who may has approved."""
    owned: set[str] = field(default_factory=set)
    """Commits that were on branches of the repository."""

    def do(self, deed: Deed) -> list[Hint]:
        """Do it on the forge; return what the forge hints at, nothing where it cannot be done."""
        forge, commits = self.world.forge, self.commits[deed.pull]
        pull = forge.repos[forge.path].pulls.get(deed.pull)
        hint = forge.hint(HintKind.PULL_REQUEST, pull_request=deed.pull)
        if deed.what is What.DELETE:
            return self._branch(deed)
        if pull is None:
            return self._opened(deed)
        open_ = pull.state is PullState.OPEN
        match deed.what:
            case What.PUSH if open_:
                forge.push(deed.pull, commits[deed.pick])
                self._own(deed.pull)
            case What.RETARGET if open_:
                forge.change(deed.pull, base_ref=BASES[deed.pick % 2])
            case What.LABEL if open_:
                forge.change(deed.pull, labels=LABELS[deed.pick])
            case What.DRAFT if open_:
                forge.change(deed.pull, draft=not pull.draft)
            case What.CLOSE if open_:
                forge.close(deed.pull)
            case What.MERGE if open_:
                self.owned.add(pull.head_commit)
                self.world.made.remote.refs["refs/heads/main"] = pull.head_commit
                forge.close(deed.pull, merged=True)
                return [hint, forge.hint(HintKind.PUSH, ref="refs/heads/main")]
            case What.REOPEN if pull.state is PullState.CLOSED:
                forge.change(deed.pull, state=PullState.OPEN)
            case What.APPROVE | What.BUTTON | What.RETRY | What.CANCEL:
                return self._commanded(deed)
            case _:
                return []
        return [hint]

    def _opened(self, deed: Deed) -> list[Hint]:
        """Open a pull request that is not there: the first one of a member, others of strangers."""
        forge = self.world.forge
        pulls = forge.repos[forge.path].pulls
        if deed.what is not What.OPEN and deed.what is not What.PUSH:
            return []
        number = len(pulls) + 1
        member = number == 1
        head = self.commits[number][deed.pick]
        forge_number = self.world.open(
            "mia" if member else "sam",
            head,
            where=Where.SAME if member else Where.OWN_FORK,
            head_ref=("topic", "main", "gh-readonly-queue/main/pr-1-0")[deed.pick],
            draft=deed.what is What.PUSH,
        )
        assert forge_number == number
        self._own(number)
        return [forge.hint(HintKind.PULL_REQUEST, pull_request=number)]

    def _own(self, number: int) -> None:
        pull = self.world.forge.repos[self.world.forge.path].pulls[number]
        if number == 1:
            self.owned.add(pull.head_commit)

    def _branch(self, deed: Deed) -> list[Hint]:
        refs = self.world.made.remote.refs
        if refs.pop("refs/heads/old", "") == "":
            refs["refs/heads/old"] = refs["refs/heads/main"]
        return [self.world.forge.hint(HintKind.PUSH, ref="refs/heads/old")]

    def _commanded(self, deed: Deed) -> list[Hint]:
        forge, commit = self.world.forge, self.commits[deed.pull][deed.pick]
        person = forge.users[deed.who]
        if deed.what in {What.APPROVE, What.BUTTON} and deed.who == "mia":
            self.allowed.add(commit)
        if deed.what is What.BUTTON:
            return [forge.hint(HintKind.APPROVE, pull_request=deed.pull, commit=commit, actor=person)]
        said = {What.APPROVE: f"approve {commit[:12]}", What.RETRY: "retry", What.CANCEL: "cancel"}[deed.what]
        comment = forge.write_comment(deed.pull, person, f"/nixmill {said}")
        return [forge.hint(HintKind.COMMENT, pull_request=deed.pull, comment=comment)]

    async def deliver(self, hints: list[Hint], fate: Fate) -> None:
        """Deliver what the forge hints at, as fate has it."""
        forge, desk = self.world.forge, self.world.desk
        event = forge.event(*forge.delivery(*hints))
        match fate:
            case Fate.LOST:
                return
            case Fate.LATE:
                self.late += [event] * self.dice.choice((1, 2))
                return
            case Fate.BATCHED:
                await desk.took("hub", event)
                return
            case Fate.TWICE:
                await desk.took("hub", event)
                await desk._look()
                await desk.took("hub", event)
            case Fate.PROMPT:
                await desk.took("hub", event)
        await desk._look()

    async def settle(self) -> None:
        """Let everything end, and look at what always holds."""
        world = self.world
        if world.watch._hurry:
            world.watch._hurry.clear()
            await world.watch.look(world.project)
        await world.settled()
        await self.hold()

    async def end(self) -> None:
        """Deliver what is late, ask once for what was lost, and let everything end."""
        self.dice.shuffle(self.late)
        for event in self.late:
            await self.world.desk.took("hub", event)
        await self.world.desk._look()
        await self.world.watch.look(self.world.project)
        await self.world.pulls.reconcile(self.world.project)
        await self.settle()

    async def hold(self) -> None:
        """Check what holds at every moment."""
        safe = self.allowed | self.owned | set(self.world.made.remote.refs.values())
        assert set(self.world.made.world.evaluator.asked) <= safe, "a stranger's commit was evaluated"
        for change in await self.world.changes():
            if change.tier is Tier.FORK and change.state is not ChangeState.HELD and change.commit not in self.allowed:
                assert change.state is ChangeState.DONE, change
                assert change.cancel_asked, change
        newest: dict[tuple[str, str], int] = {}
        extras: dict[str, set[str]] = {}
        for posting in self.world.forge.postings:
            key = posting.commit, posting.context
            assert newest.get(key, -1) <= posting.generation, "an older status took the place of a newer one"
            newest[key] = posting.generation
            if not posting.required:
                extras.setdefault(posting.commit, set()).add(posting.context)
        assert all(len(contexts) <= EXTRA_MAX for contexts in extras.values())

    async def judge(self) -> None:
        """Check what holds at the end: every commit that had a run has a final status, or waits for a person."""
        waiting = {pull.head_commit for pull in self.open_pulls() if pull.number > 1}
        for change in await self.world.changes():
            assert change.commit
            state = self.world.state(change.commit)
            if state is CheckState.HELD:
                assert change.commit in waiting, "held, and nobody has it open"
                assert change.state is ChangeState.HELD or not change.tested, "a stranger with the same head held it up"
            else:
                assert state in FINAL_CHECKS, state

    def open_pulls(self) -> list[PullRequest]:
        pulls = self.world.forge.repos[self.world.forge.path].pulls.values()
        return [pull for pull in pulls if pull.state is PullState.OPEN]

    async def approved(self) -> set[str]:
        """Return the commits of which an approval counts."""
        found = [await self.world.made.pulls.approvals(self.world.project.id, number) for number in self.commits]
        return {approval.commit for approvals in found for approval in approvals}

    async def shown(self) -> dict[str, CheckState]:
        """Return how the heads of open pull requests stand that are to be checked."""
        wanted = [pull for pull in self.open_pulls() if not why_skipped(pull, drafts=self.world.project.drafts)]
        return {pull.head_commit: self.world.state(pull.head_commit) for pull in wanted}


def _commits(world: PullWorld, *, shared: bool) -> dict[int, list[str]]:
    """Return the commits of each pull request; `shared`: the same ones for all."""
    first = [world.good(), world.failing(EXTRA_MAX + 3), world.bad()]
    return {
        number: first if shared or number == 1 else [world.good(), world.failing(2), world.good()]
        for number in range(1, PULLS + 1)
    }


async def _played(
    template: Path, history: Sequence[Deed], *, shared: bool, seed: int
) -> tuple[dict[str, CheckState], set[str]]:
    async with a_pull_world(template) as world:
        refs = world.made.remote.refs
        refs["refs/heads/release"] = refs["refs/heads/main"]
        await world.watch.look(world.project)
        await world.pulls.reconcile(world.project)
        story = Story(world, _commits(world, shared=shared), random.Random(seed))  # noqa: S311 - can be repeated
        for deed in history:
            if hints := story.do(deed):
                await story.deliver(hints, deed.fate)
            if deed.settle:
                await story.settle()
        await story.end()
        await story.judge()
        return await story.shown(), await story.approved()


def _perfect(deed: Deed) -> Deed:
    return deed._replace(fate=Fate.PROMPT, settle=True)


def _with_heard_people(deed: Deed) -> Deed:
    """What people command is heard when they say it: on that the end depends, on how much else is lost it does not."""
    if deed.what not in OF_PEOPLE or deed.fate is Fate.TWICE:
        return deed
    return deed._replace(fate=Fate.PROMPT)


BOUNDED: Final = settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.generate],  # a history costs a fifth of a second: to make one smaller takes minutes
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
UNCANCELLED: Final = HISTORIES.map(lambda deeds: [deed for deed in deeds if deed.what is not What.CANCEL])


@BOUNDED
@given(history=UNCANCELLED, seed=st.integers(0, 9))
def test_lost_late_and_doubled_events_end_as_perfect_ones_do(template: Path, history: list[Deed], seed: int) -> None:
    perfect = asyncio.run(_played(template, [_perfect(deed) for deed in history], shared=False, seed=seed))
    heard = [_with_heard_people(deed) for deed in history]
    other = asyncio.run(_played(template, heard, shared=False, seed=seed))
    assert other == perfect, f"{heard}, seed {seed}"


@BOUNDED
@given(history=HISTORIES, seed=st.integers(0, 9))
def test_whatever_is_lost_and_whoever_shares_commits_every_run_ends(
    template: Path, history: list[Deed], seed: int
) -> None:
    asyncio.run(_played(template, history, shared=True, seed=seed))
