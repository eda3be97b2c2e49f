"""What strangers, and members who are no administrators, try with pull requests; none of it may work."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from nixmill.core.access import Role
from nixmill.core.account import Identity
from nixmill.core.change import ChangeState
from nixmill.core.command import commands
from nixmill.core.errors import InputError
from nixmill.core.fixed_outputs import changed_hashes
from nixmill.core.forge import HintKind
from nixmill.core.merged import Merged, Patch
from nixmill.core.posting import CheckState
from nixmill.core.project import Jobset, Project
from nixmill.core.run_event import Verdict, WorkStarted
from nixmill.core.source import Tree
from nixmill.core.target import FlakeWord, locate
from nixmill.core.trust import Permission, Tier
from nixmill.doors import BuildLimits
from nixmill.edge.sandbox.net_proxy import is_allowed
from nixmill.engine.office import Again, Asker
from nixmill.engine.office_pulls import PullOffice
from nixmill.engine.works import Works
from nixmill.nix.build_result import BuildStatus
from tests.contract.forge_world import Where
from tests.fakes.forge import FakeForge
from tests.fakes.store import Script
from tests.support.journey_world import template  # noqa: F401 - a fixture
from tests.support.pull_world import PATH, PullWorld, a_pull_world
from tests.support.world import World, until

MIA = Asker(user=None, name="mia")


@pytest.fixture
async def world(template: Path) -> AsyncIterator[PullWorld]:  # noqa: F811 - the fixture
    async with a_pull_world(template) as made:
        made.forge.now = made.clock.now()
        yield made


async def held(world: PullWorld, **spec: Any) -> tuple[int, str]:  # noqa: ANN401 - of a pull request
    """Open a stranger's pull request and tell of it; return its number and head."""
    head = world.good()
    number = world.open("sam", head, **{"where": Where.OWN_FORK, **spec})
    await world.pull_event(number)
    await world.settled()
    assert world.state(head) is CheckState.HELD
    return number, head


async def pushed(world: PullWorld, number: int) -> str:
    """Let the stranger push; return the new head."""
    head = world.good()
    world.forge.push(number, head)
    return head


def written(world: PullWorld, number: int, text: str, login: str = "mia") -> str:
    """Let somebody write a comment now, by clocks that agree; return its id. Nobody is told yet."""
    world.later(2.0)
    world.forge.now = world.clock.now()
    comment = world.forge.write_comment(number, world.forge.users[login], text)
    world.later(2.0)
    world.forge.now = world.clock.now()
    return comment


async def tell(world: PullWorld, number: int, comment: str, **parts: Any) -> None:  # noqa: ANN401 - of a hint
    hint = world.forge.hint(HintKind.COMMENT, pull_request=number, comment=comment)
    await world.told(msgspec.structs.replace(hint, **parts))
    await world.settled()


async def replies(world: PullWorld) -> list[str]:
    """Return what is waiting to be said on the forge."""
    due = await world.made.outbox.due(world.clock.now() + 1e6, 100)
    return [msgspec.json.decode(parcel.body)["text"] for parcel in due if parcel.channel.value == "forge"]


# Approval: between looking and approving.


async def test_what_is_pushed_after_the_comment_is_not_what_it_approves(world: PullWorld) -> None:
    number, first = await held(world)
    comment = written(world, number, "/nixmill approve")
    second = await pushed(world, number)
    await tell(world, number, comment)
    assert (world.state(first), world.state(second)) == (CheckState.CANCELLED, CheckState.HELD)
    assert world.made.world.evaluator.asked == []
    assert f"/nixmill approve {second[:12]}" in (await replies(world))[-1]


async def test_a_commit_that_begins_with_the_same_digits_is_another_one(world: PullWorld) -> None:
    """Seven digits are found in a second: the named one was looked at, its twin comes afterwards."""
    number, first = await held(world)
    comment = written(world, number, f"/nixmill approve {first[:12]}")
    twin = first[:12] + "0" * 28
    world.forge.push(number, twin)
    await tell(world, number, comment)
    assert world.state(twin) is CheckState.HELD
    await tell(world, number, written(world, number, f"/nixmill approve {first}"))
    assert world.state(twin) is CheckState.HELD


async def test_what_is_held_stays_so_when_the_server_starts_again(world: PullWorld) -> None:
    number, head = await held(world)
    again = world.made.process()
    await again.durable.launch()
    await again.durable.idle()
    await world.pulls.reconcile(world.project)
    await world.settled()
    assert world.state(head) is CheckState.HELD
    assert world.made.world.evaluator.asked == []
    assert [change.pull_request for change in await world.changes()] == [number]


async def test_a_project_that_takes_the_place_of_a_deleted_one_has_none_of_its_approvals(world: PullWorld) -> None:
    number, head = await held(world)
    await tell(world, number, written(world, number, "/nixmill approve"))
    await world.office.delete_project(MIA, world.project)
    made = await world.made.projects.save_project(msgspec.structs.replace(world.project, id=0))
    await world.made.projects.save_jobsets(made.id, [Jobset(name="main")])
    asked = len(world.made.world.evaluator.asked)
    await world.pull_event(number)
    await world.settled()
    changes = [change for change in await world.changes() if change.project == made.id]
    assert [change.state for change in changes] == [ChangeState.HELD]
    assert len(world.made.world.evaluator.asked) == asked
    assert not await world.made.pulls.approvals(made.id, number), head


async def test_one_odd_pull_request_keeps_no_other_from_being_found(world: PullWorld) -> None:
    await world.pulls.reconcile(world.project)
    odd = "\0\ud800\u202e\x1b[2J" * 50
    for parts in ({"title": odd}, {"head_ref": odd}, {"labels": (odd, "x" * 10_000) * 20}):
        number = world.open("sam", world.good(), where=Where.OWN_FORK)
        world.forge.change(number, **parts)
    last = world.open("sam", world.good(), where=Where.OWN_FORK)

    await world.pulls.reconcile(world.project)
    found = {change.pull_request for change in await world.changes()}
    assert found == set(range(1, last + 1))


async def test_it_helps_nobody_that_the_push_is_told_before_the_comment(world: PullWorld) -> None:
    number, _ = await held(world)
    comment = written(world, number, "/nixmill approve")
    second = await pushed(world, number)
    await world.pull_event(number)
    await tell(world, number, comment)
    assert world.state(second) is CheckState.HELD


async def test_an_old_approval_that_is_delivered_again_approves_nothing_new(world: PullWorld) -> None:
    number, first = await held(world)
    comment = written(world, number, "/nixmill approve")
    await tell(world, number, comment)
    assert world.state(first) is CheckState.GOOD
    second = await pushed(world, number)
    await world.pull_event(number)
    for _ in range(3):
        await tell(world, number, comment)
    assert world.state(second) is CheckState.HELD


async def test_what_was_approved_stays_so_when_it_comes_back_and_nothing_else_does(world: PullWorld) -> None:
    number, first = await held(world)
    await tell(world, number, written(world, number, f"/nixmill approve {first[:7]}"))
    second = await pushed(world, number)
    await world.pull_event(number)
    world.forge.push(number, first)
    await world.pull_event(number)
    await world.settled()
    states = {change.commit: change.state for change in await world.changes() if change.pull_request == number}
    assert states[second] is ChangeState.DONE
    assert world.state(second) is CheckState.CANCELLED
    assert world.state(first) is CheckState.GOOD


async def test_an_approval_counts_for_no_other_pull_request_of_the_same_commit(world: PullWorld) -> None:
    number, head = await held(world)
    other = world.open("eve", head, where=Where.OWN_FORK)
    await world.pull_event(other)
    await tell(world, number, written(world, number, "/nixmill approve"))
    of_other = [change for change in await world.changes() if change.pull_request == other]
    assert [change.state for change in of_other] == [ChangeState.HELD]


@pytest.mark.parametrize("what", list(Again))
async def test_no_way_of_trying_again_leads_past_an_approval(world: PullWorld, what: Again) -> None:
    number, _ = await held(world)
    (change,) = await world.changes()
    for _ in range(2):
        with pytest.raises(InputError, match="approval"):
            await world.office.retry(MIA, change.number, what)
        await tell(world, number, written(world, number, "/nixmill cancel", "sam"))
    await tell(world, number, written(world, number, "/nixmill retry", "sam"))
    await tell(world, number, written(world, number, "/nixmill build x", "sam"))
    await world.told(world.forge.hint(HintKind.RERUN, commit=change.commit, run=1, actor=world.forge.users["sam"]))
    await world.told(world.forge.hint(HintKind.RERUN, commit=change.commit, run=1, actor=world.forge.users["mia"]))
    await world.settled()
    assert world.made.world.evaluator.asked == []


async def test_a_draft_without_a_run_gets_none_by_its_authors_retry(world: PullWorld) -> None:
    head = world.good()
    number = world.open("sam", head, where=Where.OWN_FORK, draft=True)
    await world.pull_event(number)
    await tell(world, number, written(world, number, "/nixmill retry", "sam"))
    assert world.made.world.evaluator.asked == []


async def test_the_button_of_another_projects_run_approves_nothing(world: PullWorld) -> None:
    number, head = await held(world)
    (change,) = await world.changes()
    facts = world.forge.add_repository("octo/other")
    kept = {"id": 0, "name": "other", "repository": facts.path, "repository_id": facts.id}
    await world.made.projects.save_project(msgspec.structs.replace(world.project, **kept))
    eve = world.forge.users["eve"]
    world.forge.repos["octo/other"].permissions[eve.id] = Permission.ADMIN
    for pull_request in (0, number):
        hint = world.forge.hint(HintKind.APPROVE, path="octo/other", actor=eve, commit=head, run=change.number)
        await world.told(msgspec.structs.replace(hint, pull_request=pull_request))
    hint = world.forge.hint(HintKind.APPROVE, path="octo/other", actor=eve, commit=head, run=change.number)
    await world.told(msgspec.structs.replace(hint, repository=PATH), msgspec.structs.replace(hint, repository_id="9"))
    await world.settled()
    assert world.state(head) is CheckState.HELD
    assert (await world.made.pulls.approvals(world.project.id, number)) == []


async def test_a_comment_of_one_repository_is_none_of_another(world: PullWorld) -> None:
    number, head = await held(world)
    other = world.forge.add_repository("eve/mine")
    eve = world.forge.users["eve"]
    world.forge.repos["eve/mine"].permissions[eve.id] = Permission.ADMIN
    world.later(2.0)
    world.forge.now = world.clock.now()
    comment = world.forge.write_comment(number, eve, "/nixmill approve", path="eve/mine")
    await tell(world, number, comment)
    await tell(world, number, comment, repository="eve/mine")
    await tell(world, number, comment, repository_id=other.id, repository=PATH)
    assert world.state(head) is CheckState.HELD


# Approval: what a maintainer quotes or shows.


@pytest.mark.parametrize(
    "text",
    [
        *(f"> thanks{end}/nixmill approve" for end in "\v\f\x1c\x1d\x1e\x85\u2028\u2029"),
        "> quoted\n> /nixmill approve",
        "```\n~~~\n/nixmill approve\n```",
        "~~~\n```\n/nixmill approve\n~~~",
        "````\n```\n/nixmill approve\n````",
        "```\n``` text\n/nixmill approve\n```",
        "```\n    ```\n/nixmill approve\n```",
        "- ```\n  /nixmill approve\n  ```",
    ],
)
def test_what_is_quoted_or_shown_is_not_obeyed(text: str) -> None:
    assert commands(text) == []


@pytest.mark.parametrize(
    "text", ["```\nx\n```\n/nixmill retry", "```x``` y\n/nixmill retry", "~~~~\n~~~\n~~~~~ \n/nixmill retry"]
)
def test_what_comes_after_a_fence_is(text: str) -> None:
    assert len(commands(text)) == 1


# Tiers.


@pytest.mark.parametrize(
    "name", ["main", "refs/heads/main", "gh-readonly-queue/main/pr-1", "gitea-mq/main", "\x1b[31m", "-x", "a\u202eb"]
)
@pytest.mark.parametrize("where", [Where.OWN_FORK, Where.OTHER_FORK, Where.DELETED])
async def test_the_name_of_a_forks_branch_gives_it_nothing(world: PullWorld, name: str, where: Where) -> None:
    await held(world, head_ref=name, where=where)
    (change,) = await world.changes()
    assert change.tier is Tier.FORK


async def test_a_member_who_opens_one_of_a_strangers_fork_lends_it_nothing(world: PullWorld) -> None:
    head = world.good()
    number = world.open("mia", head, where=Where.OTHER_FORK)
    await world.pull_event(number)
    await world.settled()
    assert world.state(head) is CheckState.HELD


async def test_a_named_commit_of_a_fork_that_a_person_starts_is_sandboxed(world: PullWorld) -> None:
    for ref, commit in (("main", world.good()), (world.good(), ""), ("refs/pull/7/head", world.good())):
        await world.office.start(MIA, world.project, ref, commit=commit)
    assert {change.tier for change in await world.changes()} == {Tier.MEMBER}


def test_a_directory_says_nothing_but_where_it_is() -> None:
    """`nixmill.toml` of a fork names directories; one called `x&rev=…` must not choose another commit."""
    reference = "git+file:///m.git?rev=aa"
    tree = Tree(
        project="m", path="/t", tree_hash="", commit="aa", dirty=False, flake_reference=reference, checkout="/m.git"
    )
    target: Any = locate(FlakeWord("x&ref=b?c#d&submodules=1", ("checks",)), tree)
    assert target.reference == "git+file:///m.git?rev=aa&dir=x%26ref%3Db%3Fc%23d%26submodules%3D1"


# Limits of one run are none of another's.


async def test_an_impatient_run_does_not_fail_what_a_patient_one_wants() -> None:
    """A pull request chooses its time limits; a push that joins its builds meanwhile keeps its own."""
    world, works, gate = World(), Works(), asyncio.Event()
    drv = world.store.derivation("lib")
    late = Script(status=BuildStatus.TIMED_OUT, gate=gate)
    world.builder.script(drv, late, Script())
    world.commit([world.attribute("lib", drv)])
    impatient = world.flow(world.request(build_limits=BuildLimits(timeout_s=1)), works=works)
    patient = world.flow(world.request(build_limits=BuildLimits(timeout_s=900)), works=works)
    first = asyncio.create_task(impatient.check())
    await until(lambda: bool(world.builder.running))
    second = asyncio.create_task(patient.check())
    await until(lambda: len([event for event in world.events if isinstance(event, WorkStarted)]) == 1)
    gate.set()
    assert [await first, await second] == [Verdict.BUILD_FAILED, Verdict.GOOD]
    assert world.builder.attempts == [drv, drv]


async def test_a_run_of_something_good_turns_no_required_check_green(world: PullWorld) -> None:
    """A member who may start runs chooses targets; the required check means those of the project."""
    head = world.failing(1)
    number = world.open("mia", head, where=Where.SAME)
    await world.pull_event(number)
    await world.settled()
    assert world.state(head) is CheckState.FAILED
    told = world.required(head)
    started = await world.office.start(MIA, world.project, "main", (".#nothing",), head)
    await world.settled()
    again = await world.office.retry(MIA, started, Again.ANYWAY)
    await world.settled()
    assert (await world.changes())[-1].number == again
    assert world.required(head) == told
    whole = await world.office.start(MIA, world.project, "main", (), head)
    await world.settled()
    assert world.required(head).run == whole, "a run of everything does say how the commit stands"


@pytest.mark.parametrize("failing_first", [True, False])
async def test_the_same_head_upon_an_easier_base_hides_no_failure(
    world: PullWorld,
    monkeypatch: pytest.MonkeyPatch,
    failing_first: bool,  # noqa: FBT001 - of a table
) -> None:
    """A commit has one required check; what is tested is the head merged into a base, of which there may be several."""
    head = world.failing(1)
    easy = world.good()
    world.made.remote.refs["refs/heads/easy"] = easy
    remote, merge = world.made.remote, world.made.remote.merge

    async def merged(project: Project, onto: str, base_ref: str, base: str = "") -> Merged:
        found = await merge(project, onto, base_ref, base)
        return msgspec.structs.replace(found, commit=easy, tree_hash="easy") if base_ref.endswith("/easy") else found

    monkeypatch.setattr(remote, "merge", merged)
    first = world.open("mia", head, where=Where.SAME)
    second = world.open("mia", head, where=Where.SAME)
    world.forge.change(second if failing_first else first, base_ref="refs/heads/easy")
    for number in (first, second):
        await world.pull_event(number)
        await world.settled()
    assert world.state(head) is CheckState.FAILED
    if failing_first:
        world.forge.close(first)
        await world.pull_event(first)
        await world.told(world.forge.hint(HintKind.RERUN, commit=head, actor=world.forge.users["mia"]))
        await world.settled()
        assert world.state(head) is CheckState.GOOD, "what is closed hides nothing, and holds nothing up"


# What is said, and to whom.


async def test_what_an_author_writes_is_not_said_back_as_markdown(world: PullWorld) -> None:
    number, _ = await held(world)
    await tell(world, number, written(world, number, "/nixmill approve"))
    asked = '/nixmill build "@octo/team [all](http://evil.example) <b>"'
    await tell(world, number, written(world, number, asked, "sam"))
    said = (await replies(world))[-1]
    for raw in ("@octo", "](http", "<b>", "http://"):
        assert raw not in said.replace("\\]", ""), said


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("++ [ (fetchurl { sha256 = lib.fakeHash; }) ]", True),
        ('"outputHash" = x;', True),
        ('"sha256": "0v6q5v9s7hjx",', True),
        ("# \x0c \u2028 sha256 = x;", True),
        ("nothing", False),
    ],
)
def test_a_hash_cannot_hide_from_who_approves(line: str, told: bool) -> None:  # noqa: FBT001 - of a table
    text = f"diff --git a/x.nix b/x.nix\n--- a/x.nix\n+++ b/x.nix\n@@ -1 +1,2 @@\n a\n+{line}\n"
    assert bool(changed_hashes([Patch(path="x.nix", text=text, cut=False)])) is told


@pytest.mark.parametrize(("private", "role"), [(True, Role.VIEWER), (False, Role.STRANGER)])
async def test_that_anybody_may_read_a_public_repository_opens_no_hidden_project(
    private: bool,  # noqa: FBT001 - of a table
    role: Role,
) -> None:
    forge = FakeForge(PATH)
    sam = forge.user("sam", Permission.READ)
    forge.repos[PATH].facts = msgspec.structs.replace(forge.repos[PATH].facts, private=private)

    async def identity(_user: int, _provider: str) -> Identity:
        return Identity(provider="forge", subject=sam.id, login="sam")

    clock = SimpleNamespace(monotonic=lambda: 0.0)
    office: Any = SimpleNamespace(
        pulls=SimpleNamespace(forge_of=lambda _: forge),
        _doors=SimpleNamespace(members=SimpleNamespace(identity=identity), clock=clock),
        _roles={},
    )
    project: Any = SimpleNamespace(forge="forge", repository=PATH)
    user: Any = SimpleNamespace(id=1)
    assert await PullOffice.forge_role(office, user, project) is role


# Floods.


async def test_strangers_comments_cost_little_and_start_nothing(world: PullWorld) -> None:
    number, _ = await held(world)
    before = len(world.forge.asked)
    for _ in range(20):
        await tell(world, number, written(world, number, "/nixmill retry\n" * 50, "eve"))
    assert len(await world.changes()) == 1
    assert len(world.forge.asked) - before <= 20 * 3 + 5
    assert set(await replies(world)) == {""}, "a sign, no conversation"


async def test_an_author_has_one_run_at_a_time(world: PullWorld) -> None:
    number, _ = await held(world)
    await world.told(
        world.forge.hint(HintKind.COMMENT, pull_request=number, comment=written(world, number, "/nixmill approve"))
    )
    for _ in range(20):
        comment = written(world, number, "/nixmill retry\n" * 5, "sam")
        await world.told(world.forge.hint(HintKind.COMMENT, pull_request=number, comment=comment))
    assert len(await world.changes()) == 1


# Addresses that the network proxy of the sandbox must not reach.


@pytest.mark.parametrize(
    "address",
    [
        *("fec0::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:a9fe:a9fe::", "2001:0:7f00:1::"),
        *("::127.0.0.1", "fe80::1%eth0", "fd00::1", "ff02::1", "100.64.0.1", "0.0.0.0", "::", "255.255.255.255"),  # noqa: S104 - refused
        *("127.1", "0x7f.1", "2130706433", "017700000001"),
    ],
)
def test_no_spelling_of_a_private_address_is_public(address: str) -> None:
    assert not is_allowed(address, 443)
