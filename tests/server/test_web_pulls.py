"""Pull requests over HTTP: what people see of them, and how a stranger's commit is approved."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from nixmill.core.access import Role, Scope, Visibility
from nixmill.core.change import ChangeState, Origin
from nixmill.core.forge import ForgeUser
from nixmill.core.merged import ChangedFile, FileChange, Patch
from nixmill.core.pull_request import PullState
from nixmill.core.trust import Tier
from nixmill.core.view.pulls import ApprovalsPage, PullPage, PullsPage
from tests.support.forge_things import a_pull, a_pull_change, an_approval
from tests.support.pull_pages import HEAD, LOOK, held_pull, hostile_pull, joined, pulls_world
from tests.support.web import Browser, WebWorld


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with pulls_world() as made:
        yield made


async def test_a_pull_request_that_waits_says_what_there_is_to_approve(world: WebWorld) -> None:
    await hostile_pull(world, await joined(world))
    world.office.look_at = LOOK
    member = await world.signed_in("member")
    text = (await member.get("/p/mill/pull/7")).text
    assert "Waits for approval" in text
    assert "from a stranger" in text
    assert f'name="commit" value="{HEAD}"' in text
    assert "in a sandbox, without secrets; a new push asks again" in text
    assert "2 commits" in text and "8 files" in text and "+24" in text
    assert "Fixed-output hashes" in text
    assert "<script>window" not in text and "\u202e" not in text and "\x1b" not in text
    assert "data-live" not in text, "what is read before it is approved does not move"


async def test_who_may_not_approve_sees_no_button_and_git_is_not_troubled(world: WebWorld) -> None:
    await held_pull(world, await joined(world))
    world.office.look_at = LOOK
    for browser in (await world.browser(), await world.signed_in("viewer")):
        text = (await browser.get("/p/mill/pull/7")).text
        assert "Waits for approval" in text
        assert 'name="commit"' not in text
    assert not [call for call, _ in world.office.calls if call == "to_approve"]


async def test_the_button_approves_the_commit_that_was_shown(world: WebWorld) -> None:
    project = await joined(world)
    await held_pull(world, project)
    world.office.look_at = LOOK
    member = await world.signed_in("member")
    answer = await member.post("/p/mill/pull/7/approve", {"commit": HEAD}, "/p/mill/pull/7")
    assert (answer.status_code, answer.headers["location"]) == (303, "/r/7")
    (arguments,) = [given for call, given in world.office.calls if call == "approve"]
    assert (arguments[0].name, *arguments[2:]) == ("member", 7, HEAD, "page")


async def test_a_commit_that_is_not_the_head_any_more_is_refused(world: WebWorld) -> None:
    await held_pull(world, await joined(world))
    world.office.look_at = LOOK
    member = await world.signed_in("member")
    answer = await member.post("/p/mill/pull/7/approve", {"commit": "d8" * 20}, "/p/mill/pull/7")
    assert answer.status_code == 422
    assert "moved on" in answer.text


async def test_approving_needs_the_right_a_token_of_the_form_and_a_commit(world: WebWorld) -> None:
    await held_pull(world, await joined(world))
    member, viewer = await world.signed_in("member"), await world.signed_in("viewer")
    path = "/p/mill/pull/7/approve"
    assert (await viewer.post(path, {"commit": HEAD})).status_code == 403
    nobody = await (await world.browser()).http.post(path, data={"commit": HEAD})
    assert nobody.headers["location"].startswith("/sign-in")
    assert (await member.http.post(path, data={"commit": HEAD})).status_code == 403
    assert (await member.post(path)).status_code == 422
    assert (await member.post(path, {"commit": "../../x"})).status_code == 422
    assert not [call for call, _ in world.office.calls if call == "approve"]


async def test_programs_approve_with_a_token_that_may_run(world: WebWorld) -> None:
    await held_pull(world, await joined(world))
    reader = await world.api(await world.token("member", Scope.READ))
    runner = await world.api(await world.token("member", Scope.READ, Scope.RUN))
    body = {"commit": HEAD}
    assert (await reader.http.post("/p/mill/pull/7/approve", json=body)).status_code == 403
    answer = await runner.http.post("/p/mill/pull/7/approve", json=body)
    assert (answer.status_code, answer.json()) == (200, {"commit": HEAD, "runs": [7]})
    assert world.office.calls[-1][1][-1] == "command line"


async def test_the_json_twins_are_what_the_api_says(world: WebWorld) -> None:
    project = await joined(world)
    await held_pull(world, project)
    await world.site.pulls.approve(an_approval(project.id, commit="b0" * 20))
    member = await world.signed_in("member")
    pull = msgspec.json.decode((await member.get("/p/mill/pull/7.json")).content, type=PullPage)
    assert (pull.pull.number, pull.pull.held, pull.approvals[0].who) == (7, True, "bob")
    pulls = msgspec.json.decode((await member.get("/p/mill/pulls.json")).content, type=PullsPage)
    assert [line.number for line in pulls.pulls] == [7]
    held = msgspec.json.decode((await member.get("/approvals.json")).content, type=ApprovalsPage)
    assert [line.number for line in held.pulls] == [7]


async def test_open_and_closed_ones_stand_in_lists_with_pages(world: WebWorld) -> None:
    project = await joined(world)
    for number in range(1, 54):
        await world.site.pulls.saw(project.id, a_pull(number), [])
    await world.site.pulls.saw(project.id, a_pull(60, state=PullState.MERGED, title="long gone"), [])
    browser = await world.browser()
    first = (await browser.get("/p/mill/pulls")).text
    assert 'href="/p/mill/pull/53"' in first and 'href="/p/mill/pull/3"' not in first
    older = first.split('rel="next" href="')[1].split('"')[0]
    assert 'href="/p/mill/pull/3"' in (await browser.get(older)).text
    closed = (await browser.get("/p/mill/pulls?closed=true")).text
    assert "long gone" in closed and "merged" in closed
    assert "No closed" not in closed


async def test_members_are_told_in_the_head_of_each_page_and_at_home(world: WebWorld) -> None:
    await held_pull(world, await joined(world))
    member = await world.signed_in("member")
    for path in ("/", "/queue", "/p/mill"):
        assert 'href="/approvals"' in (await member.get(path)).text, path
    assert "1 pull request waits for your approval" in (await member.get("/")).text
    assert "octo" not in (await member.get("/approvals")).text
    assert "#7" in (await member.get("/approvals")).text
    viewer = await world.signed_in("viewer")
    assert 'href="/approvals"' not in (await viewer.get("/")).text
    assert "Nothing waits for your approval" in (await viewer.get("/approvals")).text


async def test_many_pull_requests_elsewhere_hide_none_of_ours(world: WebWorld) -> None:
    other = await joined(world, name="other")
    await world.site.members.set_member(other.id, world.users["member"].id, Role.VIEWER)
    for number in range(1, 106):
        await held_pull(world, other, number)
    ours = await joined(world, name="ours")
    await held_pull(world, ours, 9)
    held = (await (await world.signed_in("member")).get("/approvals.json")).json()["pulls"]
    assert [(line["project"]["name"], line["number"]) for line in held] == [("ours", 9)]


async def test_runs_of_a_pull_request_lead_to_it(world: WebWorld) -> None:
    run = await held_pull(world, await joined(world))
    browser = await world.signed_in("member")
    page = (await browser.get(f"/r/{run}")).text
    assert 'href="/p/mill/pull/7"' in page and "Grind finer" in page
    assert 'href="/p/mill/pull/7#approve"' in page and "Look at it and approve it" in page
    assert "Waiting for approval" in page
    for path in (f"/r/{run}/timeline", "/p/mill/b/refs/pull/7/head"):
        answer = await browser.get(path)
        assert answer.status_code == 404 or 'href="/p/mill/pull/7"' in answer.text, path
    listed = (await browser.get("/runs")).text
    assert 'href="/p/mill/pull/7#approve"' in listed and "waiting for approval" in listed


async def test_a_look_of_git_that_fails_or_takes_long_leaves_a_page(world: WebWorld) -> None:
    await held_pull(world, await joined(world))
    world.office.look_at = msgspec.structs.replace(LOOK, fault="The repository does not answer.", files=())
    text = (await (await world.signed_in("member")).get("/p/mill/pull/7")).text
    assert "What changed cannot be shown: The repository does not answer." in text
    assert "Look at it on the forge before you approve it" in text


async def test_what_is_huge_is_cut_and_says_so(world: WebWorld) -> None:
    await held_pull(world, await joined(world))
    files = tuple(ChangedFile(path=f"pkgs/{at}.nix", kind=FileChange.ADDED, added=1) for at in range(3000))
    patches = tuple(Patch(path=f"{at}/flake.nix", text="+x\n" * 5000) for at in range(30))
    world.office.look_at = msgspec.structs.replace(LOOK, files=files, sensitive=patches, fixed_outputs=("x: y",) * 9000)
    answer = await (await world.signed_in("member")).get("/p/mill/pull/7")
    assert "2,704 more files" in answer.text and "4600 more lines" in answer.text
    assert "10 patches of inputs and Nix files are not shown" in answer.text
    assert len(answer.content) < 1_500_000


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "//evil.example", ""])
async def test_only_addresses_of_the_web_become_links(world: WebWorld, url: str) -> None:
    await held_pull(world, await joined(world), url=url)
    text = (await (await world.browser()).get("/p/mill/pull/7")).text
    assert "on the forge</a>" not in text
    assert "javascript:" not in text


async def test_one_attribute_is_built_anyway(world: WebWorld) -> None:
    project = await joined(world)
    number = (await world.site.changes.accept([a_pull_change(project.id, 8, state=ChangeState.WAITING)]))[0]
    member = await world.signed_in("member")
    fields = {"what": "build", "attribute": "checks.x86_64-linux.a"}
    answer = await member.post(f"/r/{number}/retry", fields)
    assert answer.status_code == 303
    assert world.office.calls[-1][0] == "retry"
    assert world.office.calls[-1][1][2:] == ("build", ("checks", "x86_64-linux", "a"))


async def test_a_member_of_the_repository_waits_for_nobody(world: WebWorld) -> None:
    project = await joined(world)
    pull = a_pull(8, head_commit="e1" * 20, author=ForgeUser(id="3", login="mia"))
    change = a_pull_change(
        project.id, 8, commit="e1" * 20, state=ChangeState.WAITING, tier=Tier.MEMBER, origin=Origin.PULL_REQUEST
    )
    await world.site.pulls.saw(project.id, pull, [change])
    text = (await (await world.signed_in("member")).get("/p/mill/pull/8")).text
    assert "from a member" in text and "runs at once, in the sandbox" in text
    assert 'id="approve"' not in text


async def test_there_is_no_pull_request_of_a_project_that_is_hidden(world: WebWorld) -> None:
    await held_pull(world, await joined(world, Visibility.PRIVATE))
    outside: Browser = await world.signed_in("owner")
    for path in ("/p/mill/pulls", "/p/mill/pull/7", "/p/mill/pull/8"):
        answer = await outside.get(path)
        assert answer.status_code == 404
        assert "Grind" not in answer.text
    assert (await (await world.signed_in("member")).get("/p/mill/pull/8")).status_code == 404
