"""The outbox, and what messages and hooks are told of a run, on both databases."""

import msgspec
import pytest

from nixmill.core.change import Progress
from nixmill.core.history import AttributeRow, DifferenceRow, RunEndRow
from nixmill.core.hook import HookRun, HookState
from nixmill.core.message import ChannelKind, Delivered, Parcel, Rule, When
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change, Verdict
from nixmill.edge.database.changes import SqlChanges
from nixmill.edge.database.database import Database
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.outbox import SqlOutbox
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.database.story import BROKEN_MAX, ERRED, HookDocument, SqlStory
from tests.support.databases import database, place, postgres
from tests.support.history_rows import an_attempt, an_attribute, an_error, an_evaluation, an_outcome, drv
from tests.support.server_things import NOW, a_jobset, accepted, now, saved_project

__all__ = ["database", "place", "postgres"]


def a_parcel(run: int | None, key: str, created_at: float = NOW) -> Parcel:
    return Parcel(
        key=key,
        project=None,
        run=run,
        channel=ChannelKind.WEBHOOK,
        target="https://example.org",
        credential="notify-x",
        title="t",
        text="x",
        body="{}",
        created_at=created_at,
    )


async def posted(database: Database, *keys: str) -> list[Parcel]:
    """Put messages into the outbox, a second apart; return them."""
    run = await accepted(database, await saved_project(database))
    parcels = [a_parcel(run, key, NOW - 100 + n) for n, key in enumerate(keys)]
    await SqlChanges(database, now).ended(run, parcels[::-1], [])
    return list(await SqlOutbox(database, now).due(NOW, 99))


async def test_messages_are_due_in_the_order_of_their_time(database: Database) -> None:
    outbox = SqlOutbox(database, now)
    parcels = await posted(database, "a", "b", "c")
    assert [parcel.key for parcel in parcels] == ["a", "b", "c"]
    assert parcels[0] == msgspec.structs.replace(a_parcel(parcels[0].run, "a", NOW - 100), id=parcels[0].id)
    assert await outbox.due(NOW, 2) == parcels[:2]
    assert await outbox.due(NOW - 99, 9) == parcels[:2]


async def test_a_message_is_tried_again_sent_or_dead(database: Database) -> None:
    outbox = SqlOutbox(database, now)
    again, sent, dead = await posted(database, "again", "sent", "dead")
    await outbox.delivered(Delivered(id=again.id, at=NOW, fault="busy", again_at=NOW + 60))
    await outbox.delivered(Delivered(id=sent.id, at=NOW))
    await outbox.delivered(Delivered(id=sent.id, at=NOW, fault="late news", again_at=NOW))
    await outbox.delivered(Delivered(id=dead.id, at=NOW, fault="gone\0"))
    assert await outbox.due(NOW, 9) == []
    assert await outbox.due(NOW + 60, 9) == [msgspec.structs.replace(again, tries=1)]
    assert [await outbox.replay(parcel.id) for parcel in (again, sent, dead, dead)] == [False, False, True, False]
    assert await outbox.due(NOW, 9) == [dead]


async def test_rules_are_kept_like_jobsets(database: Database) -> None:
    outbox, project = SqlOutbox(database, now), await saved_project(database)
    rule = Rule(name="b", channel=ChannelKind.EMAIL, target="a@b", when=When.FAILURE, branches=("main",))
    saved = await outbox.save_rules(project, [rule, msgspec.structs.replace(rule, name="a", attributes=("x.*",))])
    assert [(one.name, one.project) for one in saved] == [("a", project), ("b", project)]
    assert msgspec.structs.replace(saved[1], id=0, project=0) == rule
    assert await outbox.save_rules(project, saved[:1]) == await outbox.rules(project) == saved[:1]


async def test_a_hook_s_run_is_recorded_as_it_goes(database: Database) -> None:
    outbox, project = SqlOutbox(database, now), await saved_project(database)
    run = await accepted(database, project)
    hooks = [
        HookRun(id=f"{n}", hook="h", command=("run", "it"), run=run, project=project, attribute=f"a{n}", created_at=n)
        for n in (2.0, 1.0)
    ]
    await SqlChanges(database, now).ended(run, [], hooks)
    assert await outbox.hook_runs() == hooks[::-1]
    started = msgspec.structs.replace(hooks[0], state=HookState.RUNNING, started_at=NOW)
    assert await outbox.hook_runs(save=started) == [hooks[1]]
    assert await outbox.hook_runs(waiting=False) == [started]
    ended = msgspec.structs.replace(started, state=HookState.SIGNALLED, ended_at=NOW, signal=11, core_dumped=True)
    assert await outbox.hook_runs(save=ended, waiting=False) == []


async def a_run(database: Database, project: int, verdict: Verdict | None = None, ref: str = "refs/heads/main") -> int:
    number = await accepted(database, project, ref=ref, requested_at=NOW)
    if verdict is not None:
        await finish(database, number, verdict)
    return number


async def finish(database: Database, number: int, verdict: Verdict) -> None:
    row = RunEndRow(number=number, ended_at=NOW + 5, verdict=verdict, sentence="so it is")
    await SqlHistory(database, now).record([row])


def outcome(run: int, name: str, what: Outcome, change: Change) -> AttributeRow:
    return msgspec.structs.replace(an_outcome(run, name, outcome=what), change=change, how=f"{name} is so")


async def test_a_run_that_goes_on_is_not_told(database: Database) -> None:
    story, project = SqlStory(database), await saved_project(database)
    assert await story.told(await a_run(database, project)) is None
    assert await story.told(99) is None
    assert await story.attributes_for_hooks(99) == []


async def test_a_finished_run_is_told_with_what_changed(database: Database) -> None:
    history, project = SqlHistory(database, now), await saved_project(database)
    base = await a_run(database, project, Verdict.BUILD_FAILED)
    old = an_attribute("broken")
    await history.record([msgspec.structs.replace(an_evaluation(base, key="base"), attributes=(
        msgspec.structs.replace(old, maintainers=("late@example.org",)),
    ))])  # fmt: skip
    await a_run(database, project, Verdict.CANCELLED)
    await a_run(database, project, Verdict.GOOD, ref="refs/heads/other")
    run = await a_run(database, project)
    people = ("Ada", "ada@example.org", "ada@example.org")
    attributes = tuple(msgspec.structs.replace(an_attribute(name), maintainers=people) for name in "abcdef")
    errors = (an_error("broken"), msgspec.structs.replace(an_error("still", "broken"), message="old trouble"))
    row = msgspec.structs.replace(an_evaluation(run), attributes=attributes, errors=errors)
    await history.record(
        [
            row,
            outcome(run, "a", Outcome.BUILD_FAILED, Change.NEWLY_FAILING),
            outcome(run, "b", Outcome.DEPENDENCY_FAILED, Change.SAME),
            outcome(run, "c", Outcome.SUCCEEDED, Change.FIXED),
            outcome(run, "d", Outcome.SUCCEEDED, Change.CHANGED),
            outcome(run, "e", Outcome.CANCELLED, Change.NEWLY_FAILING),
            DifferenceRow(run=run, path=("broken",), change=Change.NEWLY_FAILING),
            DifferenceRow(run=run, path=("still", "broken"), change=Change.SAME),
            DifferenceRow(run=run, path=("gone",), change=Change.REMOVED, renamed_to=("new",)),
        ]
    )
    await SqlChanges(database, now).progress(
        Progress(number=run, evaluation="key", base_evaluation="base", counts={"all": 6}, subject="Fix", author="Ada")
    )
    await finish(database, run, Verdict.EVALUATION_FAILED)
    told = await SqlStory(database).told(run)
    assert told is not None
    assert (told.verdict, told.before, told.project, told.jobset) == (
        Verdict.EVALUATION_FAILED,
        Verdict.BUILD_FAILED,
        "mill",
        "",
    )
    assert (told.counts, told.subject, told.author, told.seconds, told.url) == ({"all": 6}, "Fix", "Ada", 5.0, "")
    assert [(one.name, one.status, one.cause, one.maintainers) for one in told.newly_failing] == [
        ("a", "build failed", "a is so", ("ada@example.org",)),
        ("broken", ERRED, "no", ("late@example.org",)),
    ]
    assert [(one.name, one.status, one.cause) for one in told.failing] == [
        ("b", "dependency failed", "b is so"),
        ("still.broken", ERRED, "old trouble"),
    ]
    assert [(one.name, one.status) for one in told.fixed] == [("c", "passed")]


async def test_at_most_so_many_are_named(database: Database) -> None:
    run = await a_run(database, await saved_project(database))
    rows = [outcome(run, f"a{n:04}", Outcome.BUILD_FAILED, Change.NEW) for n in range(BROKEN_MAX * 3)]
    await SqlHistory(database, now).record(rows)
    await finish(database, run, Verdict.BUILD_FAILED)
    told = await SqlStory(database).told(run)
    assert told is not None
    assert [one.name for one in told.failing] == [f"a{n:04}" for n in range(BROKEN_MAX)]


@pytest.mark.parametrize("of_a_jobset", [False, True])
async def test_the_run_before_is_one_of_the_same_stream(database: Database, *, of_a_jobset: bool) -> None:
    project = await saved_project(database)
    jobset = (await SqlProjects(database, now).save_jobsets(project, [a_jobset("nightly")]))[0].id
    for each, verdict in ((None, Verdict.BUILD_FAILED), (jobset, Verdict.INFRASTRUCTURE)):
        await finish(database, await accepted(database, project, jobset=each), verdict)
    run = await accepted(database, project, jobset=jobset if of_a_jobset else None)
    await finish(database, run, Verdict.GOOD)
    told = await SqlStory(database).told(run)
    assert told is not None
    expected = ("nightly", Verdict.INFRASTRUCTURE) if of_a_jobset else ("", Verdict.BUILD_FAILED)
    assert (told.jobset, told.before) == expected


async def test_an_attribute_with_an_absurd_name_is_cut_and_told(database: Database) -> None:
    history, changes = SqlHistory(database, now), SqlChanges(database, now)
    run = await a_run(database, await saved_project(database))
    long = "".join(chr(0x4E00 + n) for n in range(5000))
    attribute = msgspec.structs.replace(an_attribute("x"), path=("x", long))
    row = msgspec.structs.replace(an_evaluation(run), attributes=(attribute,))
    difference = DifferenceRow(run=run, path=(long,), change=Change.REMOVED, renamed_to=("x", long))
    result = msgspec.structs.replace(an_outcome(run, "x"), path=("x", long))
    await history.record([row, difference, result])
    await finish(database, run, Verdict.GOOD)
    ((name, good, _),) = await SqlStory(database).attributes_for_hooks(run)
    assert good
    assert len(name) < 1000
    hook = HookRun(id="u", hook="h", command=("true",), run=run, project=1, attribute=name)
    await changes.ended(run, [], [hook])
    assert await SqlOutbox(database, now).hook_runs() == [hook]


async def test_hooks_read_a_document_about_each_attribute_with_a_final_result(database: Database) -> None:
    history, run = SqlHistory(database, now), await a_run(database, await saved_project(database))
    await history.record(
        [
            an_evaluation(run, ("a",), ("b", "x.y"), ("c",), ("d",)),
            outcome(run, "a", Outcome.SUCCEEDED, Change.NEW),
            an_outcome(run, "b", "x.y", outcome=Outcome.DEPENDENCY_FAILED),
            outcome(run, "c", Outcome.CANCELLED, Change.NEW),
            an_attempt(1, run, "a-1.0", outcome=Outcome.INFRASTRUCTURE),
            an_attempt(2, run, "a-1.0"),
            an_attempt(3, run, "culprit", outcome=Outcome.BUILD_FAILED),
        ]
    )
    await finish(database, run, Verdict.BUILD_FAILED)
    found = await SqlStory(database).attributes_for_hooks(run)
    assert [(name, good) for name, good, _ in found] == [("a", True), ('b."x.y"', False)]
    first, second = (msgspec.json.decode(document, type=HookDocument) for _, _, document in found)
    assert (first.run, first.drv_path, first.log, first.culprit) == (run, drv("a-1.0"), "/logs/2", None)
    assert (second.log, second.culprit, second.outcome) == ("/logs/3", drv("culprit"), "dependency failed")
    raw = msgspec.json.decode(found[0][2])
    assert (raw["drvPath"], raw["nixName"], raw["outputs"]["unknown"]) == (drv("a-1.0"), "a-1.0", None)
