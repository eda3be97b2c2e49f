"""What goes wrong around pull requests: heads that are gone, heads that are shared, commands that come together."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from nixmill.core.change import ChangeState
from nixmill.core.errors import GoneError, InputError
from nixmill.core.forge import HintKind
from nixmill.core.message import ChannelKind
from nixmill.core.posting import CheckState, Reply
from nixmill.core.run_event import Verdict
from nixmill.core.trust import Tier
from nixmill.engine.office import Asker
from tests.contract.forge_world import Where
from tests.support.journey_world import run_row, template  # noqa: F401 - a fixture
from tests.support.pull_world import PullWorld, a_pull_world


@pytest.fixture
async def world(template: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PullWorld]:  # noqa: F811 - the fixture
    monkeypatch.setattr("nixmill.engine.journey.FETCH_AGAIN_S", 0.0)
    async with a_pull_world(template) as made:
        yield made


async def checked(world: PullWorld, *troubles: Exception) -> tuple[Verdict | None, str, CheckState]:
    """Open a member's pull request while its remote has troubles; return how it ended and what the forge shows."""
    head = world.good()
    number = world.open("mia", head, where=Where.SAME)
    world.made.remote.troubles = list(troubles)
    await world.pull_event(number)
    await world.settled()
    row = await run_row(world.made, len(await world.changes()))
    return row.verdict, row.sentence, world.state(head)


async def test_a_head_that_is_not_there_yet_is_waited_for(world: PullWorld) -> None:
    """A webhook may be faster than the forge's git."""
    gone = [GoneError("The head is not there.") for _ in range(2)]
    assert (await checked(world, *gone))[::2] == (Verdict.GOOD, CheckState.GOOD)


async def test_a_head_that_is_gone_is_cancelled_with_a_final_status(world: PullWorld) -> None:
    gone = [GoneError("The head is not there.") for _ in range(3)]
    assert await checked(world, *gone) == (Verdict.CANCELLED, "The head is not there.", CheckState.CANCELLED)


async def test_what_is_wrong_with_a_repository_is_not_taken_for_a_head_that_is_gone(world: PullWorld) -> None:
    verdict, said, state = await checked(world, InputError("The repository is odd.", "Mend it."))
    assert (verdict, said, state) == (Verdict.EVALUATION_FAILED, "The repository is odd. Mend it.", CheckState.FAILED)


async def test_a_stranger_with_the_same_head_takes_no_good_status_away(world: PullWorld) -> None:
    head = world.good()
    mine = world.open("mia", head, where=Where.SAME)
    await world.pull_event(mine)
    await world.settled()
    theirs = world.open("eve", head, where=Where.OWN_FORK)
    await world.pull_event(theirs)
    await world.settled()
    assert world.state(head) is CheckState.GOOD
    assert [one.state for one in await world.changes()] == [ChangeState.DONE, ChangeState.HELD]
    world.forge.close(theirs)
    await world.pull_event(theirs)
    await world.settled()
    assert world.state(head) is CheckState.GOOD, "nor by closing it"


async def test_a_stranger_with_the_same_head_does_not_keep_the_other_from_its_end(world: PullWorld) -> None:
    head = world.good()
    mine, theirs = (world.open(who, head, where=where) for who, where in (("mia", Where.SAME), ("eve", Where.OWN_FORK)))
    await world.pull_event(mine)
    await world.process.journey.reporter.report(1)
    await world.pull_event(theirs)
    await world.settled()
    assert world.state(head) is CheckState.GOOD


async def test_a_held_run_that_was_cancelled_begins_with_an_approval(world: PullWorld) -> None:
    head = world.good()
    number = world.open("sam", head, where=Where.OWN_FORK)
    await world.pull_event(number)
    await world.commented(number, "mia", "/nixmill cancel")
    await world.settled()
    assert world.state(head) is CheckState.CANCELLED
    await world.commented(number, "mia", f"/nixmill approve {head[:12]}")
    await world.settled()
    (reply,) = (await replies(world))[1:]
    assert world.state(head) is CheckState.GOOD or "retry" in reply.text, "an approval without effect says what to do"


async def test_commands_that_come_together_are_obeyed_in_order(world: PullWorld) -> None:
    head = world.good()
    number = world.open("sam", head, where=Where.OWN_FORK)
    await world.pull_event(number)
    hints = []
    for said in (f"approve {head[:12]}", "cancel", "retry"):
        comment = world.forge.write_comment(number, world.forge.users["mia"], f"/nixmill {said}")
        hints.append(world.forge.hint(HintKind.COMMENT, pull_request=number, comment=comment))
    await world.told(*hints)
    verbs = [entry for entry in world.forge.asked if entry[0] == "comment"]
    assert [entry[1][2] for entry in verbs] == [hint.comment for hint in hints]
    pulls = [at for at, (what, _) in enumerate(world.forge.asked) if what == "permission"]
    comments = [at for at, (what, _) in enumerate(world.forge.asked) if what == "comment"]
    assert pulls[0] < comments[1], "one has been seen to before the next one is"


async def test_the_backlog_is_left_alone_though_git_was_looked_at_first(world: PullWorld) -> None:
    await world.watch.look(world.project)
    old = world.open("mia", world.good(), where=Where.SAME)
    await world.pulls.reconcile(world.project)
    assert not [one for one in await world.changes() if one.pull_request]
    new = world.open("mia", world.good(), where=Where.SAME)
    await world.pulls.reconcile(world.project)
    world.forge.push(old, world.good())
    await world.pulls.reconcile(world.project)
    assert [one.pull_request for one in await world.changes() if one.pull_request] == [new, old]


async def test_a_jobset_that_is_triggered_with_force_is_evaluated_again(world: PullWorld) -> None:
    await world.watch.look(world.project)
    await world.settled()
    main = world.made.remote.refs["refs/heads/main"]
    (jobset,) = await world.made.projects.jobsets(world.project.id)
    assert await world.office.streams(world.project, "refs/heads/main") == [jobset]
    assert await world.office.streams(world.project, "refs/heads/other") == []
    numbers = await world.office.trigger(Asker(user=None, name="olga"), world.project, jobset, force=True)
    await world.settled()
    assert [(one.commit, one.tier) for one in await world.changes()][1:] == [(main, Tier.PROTECTED)]
    assert (await run_row(world.made, numbers[0])).verdict is Verdict.GOOD
    assert world.made.world.evaluator.asked == [main, main]


async def replies(world: PullWorld) -> list[Reply]:
    """Return the answers in the outbox."""
    parcels = await world.made.outbox.due(world.clock.now() + 1e6, 1000)
    return [msgspec.json.decode(one.body, type=Reply) for one in parcels if one.channel is ChannelKind.FORGE]
