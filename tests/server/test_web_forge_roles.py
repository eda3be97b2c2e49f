"""What a forge lets somebody do counts here: for the project that is asked for, for five minutes, never for lists."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import pytest

from nixmill.config.forges import ForgeSettings
from nixmill.config.server import ServerSettings
from nixmill.core.access import Role, Scope, Visibility
from nixmill.core.account import Identity, User
from nixmill.core.change import ChangeState
from nixmill.core.forge import ForgeKind
from nixmill.core.project import Project
from nixmill.core.trust import Permission
from nixmill.doors import DoorError
from nixmill.engine.office_pulls import PullOffice
from tests.fakes.forge import FakeForge
from tests.fakes.office import FakeOffice
from tests.support.forge_things import a_pull, a_pull_change
from tests.support.web import Browser, WebWorld, web_world

HEAD: Final = "c7" * 20


class RoleOffice(FakeOffice):
    """Records, but for what the real office says of people on forges."""

    def join(self, world: WebWorld, forge: FakeForge) -> None:
        """Ask a forge over the doors of a world."""
        self._real: Any = SimpleNamespace(
            pulls=SimpleNamespace(forge_of=lambda project: forge if project.forge == "forge" else None),
            _doors=SimpleNamespace(members=world.site.members, clock=world.clock),
            _roles={},
        )

    async def forge_role(self, user: User, project: Project) -> Role:
        """Ask as the real one does."""
        if self.forge_fault is not None:
            raise self.forge_fault
        return await PullOffice.forge_role(self._real, user, project)


@pytest.fixture
def forge() -> FakeForge:
    return FakeForge("octo/mill")


@pytest.fixture
async def world(forge: FakeForge) -> AsyncIterator[WebWorld]:
    office = RoleOffice()
    settings = ServerSettings(forges=(ForgeSettings(name="forge", kind=ForgeKind.GITEA, url="https://forge.example"),))
    async with web_world(settings, office=office, forges={"forge": forge}) as made:
        office.join(made, forge)
        yield made


async def mill(world: WebWorld, visibility: Visibility = Visibility.PUBLIC, **fields: Any) -> Project:  # noqa: ANN401 - of a project
    made = await world.project(fields.pop("name", "mill"), visibility)
    joined = msgspec.structs.replace(made, **{"forge": "forge", "repository": "octo/mill", **fields})
    saved = await world.site.projects.save_project(joined)
    pull = a_pull(7, head_commit=HEAD)
    await world.site.pulls.saw(saved.id, pull, [a_pull_change(saved.id, 7, commit=HEAD, state=ChangeState.HELD)])
    return saved


async def known(world: WebWorld, forge: FakeForge, permission: Permission, name: str = "ann") -> Browser:
    """Return the browser of somebody who signed in with the forge."""
    there = forge.user(name, permission)
    user = await world.user(name)
    await world.site.accounts.save_user(user, Identity(provider="forge", subject=there.id, login=name))
    return await world.signed_in(name)


async def approve(browser: Browser, name: str = "mill") -> int:
    return (await browser.post(f"/p/{name}/pull/7/approve", {"commit": HEAD})).status_code


@pytest.mark.parametrize(
    ("permission", "code"),
    [(Permission.NONE, 403), (Permission.READ, 403), (Permission.WRITE, 303), (Permission.ADMIN, 303)],
)
async def test_who_may_push_there_may_approve_here(
    world: WebWorld, forge: FakeForge, permission: Permission, code: int
) -> None:
    await mill(world)
    browser = await known(world, forge, permission)
    assert await approve(browser) == code
    settings = await browser.get("/p/mill/settings")
    assert settings.status_code == (200 if permission is Permission.ADMIN else 403)


async def test_a_permission_that_was_taken_away_is_gone_after_five_minutes(world: WebWorld, forge: FakeForge) -> None:
    await mill(world)
    browser = await known(world, forge, Permission.WRITE)
    assert await approve(browser) == 303
    forge.user("ann", Permission.READ)
    assert await approve(browser) == 303, "believed for five minutes"
    world.clock.ahead += 301
    assert await approve(browser) == 403


async def test_a_private_project_opens_by_address_to_its_readers_and_stays_out_of_lists(
    world: WebWorld, forge: FakeForge
) -> None:
    project = await mill(world, Visibility.PRIVATE)
    found = await world.site.pulls.pull_request(project.id, 7)
    assert found is not None
    browser = await known(world, forge, Permission.READ)
    paths = ("/p/mill", "/p/mill/pulls", "/p/mill/pull/7", "/runs?project=mill", f"/r/{found.changes[0].number}")
    for path in (*paths[:3], paths[4]):
        assert (await browser.get(path)).status_code == 200, path
    for path in ("/", "/runs", "/queue", "/search?q=mill"):
        assert "/p/mill" not in (await browser.get(path)).text, path
    forge.user("ann", Permission.NONE)
    world.clock.ahead += 301
    for path in (*paths[:3], paths[4]):
        assert (await browser.get(path)).status_code == 404, path


async def test_a_role_in_one_project_is_none_in_another(world: WebWorld, forge: FakeForge) -> None:
    await mill(world)
    forge.add_repository("octo/other")
    browser = await known(world, forge, Permission.WRITE)
    forge.repos["octo/other"].permissions.clear()
    await mill(world, name="other", repository="octo/other")
    await mill(world, name="plain", forge="", repository="")
    assert await approve(browser) == 303
    assert await approve(browser, "other") == 403
    assert await approve(browser, "plain") == 403


async def test_strangers_and_people_the_forge_does_not_know_get_nothing(world: WebWorld, forge: FakeForge) -> None:
    await mill(world, Visibility.PRIVATE)
    forge.user("ann", Permission.ADMIN)
    namesake = await world.signed_in("ann")  # called so here, never proved to be that person there
    assert (await namesake.get("/p/mill")).status_code == 404
    assert (await (await world.browser()).get("/p/mill")).status_code in {303, 404}
    assert forge.asked == []


async def test_a_token_never_does_more_than_its_scopes(world: WebWorld, forge: FakeForge) -> None:
    project = await mill(world)
    other = await world.project("other")
    await known(world, forge, Permission.WRITE)
    body = {"commit": HEAD}
    for scopes, only, code in (
        ((Scope.READ,), None, 403),
        ((Scope.READ, Scope.RUN), other.id, 404),
        ((Scope.READ, Scope.RUN), project.id, 200),
    ):
        program = await world.api(await world.token("ann", *scopes, project=only))
        assert (await program.http.post("/p/mill/pull/7/approve", json=body)).status_code == code


async def test_a_forge_that_is_away_gives_no_role_and_pages_answer(world: WebWorld, forge: FakeForge) -> None:
    await mill(world)
    browser = await known(world, forge, Permission.WRITE)
    world.office.forge_fault = DoorError("The forge is away.", door="forge", action="ask", retryable=True)
    assert (await browser.get("/p/mill/pull/7")).status_code == 200
    assert await approve(browser) == 403
    world.office.forge_fault = None
    assert await approve(browser) == 403, "it is left alone for a while"
    world.clock.ahead += 31
    assert await approve(browser) == 303


async def test_a_role_given_here_stays_where_the_forge_says_less(world: WebWorld, forge: FakeForge) -> None:
    project = await mill(world)
    browser = await known(world, forge, Permission.NONE)
    await world.site.members.set_member(project.id, world.users["ann"].id, Role.MEMBER)
    assert await approve(browser) == 303


async def test_owners_join_a_project_only_with_a_repository_that_is_theirs(world: WebWorld, forge: FakeForge) -> None:
    made = await world.project("plain")
    browser = await known(world, forge, Permission.WRITE)
    await world.site.members.set_member(made.id, world.users["ann"].id, Role.OWNER)
    secret = await world.token("ann", Scope.READ, Scope.RUN, Scope.MANAGE)
    program = await world.api(secret)
    url = "https://forge.example/octo/mill.git"
    wanted = {"project": {"forge": "forge", "repository": "octo/mill", "url": url}}
    refused = await program.http.patch("/p/plain", json=wanted)
    assert refused.status_code == 403
    assert "those who administer octo/mill on forge" in refused.json()["error"]
    forge.user("ann", Permission.ADMIN)
    world.clock.ahead += 301
    elsewhere = {"project": {**wanted["project"], "url": "https://evil.example/octo/mill.git"}}
    assert "has to be the address" in (await program.http.patch("/p/plain", json=elsewhere)).json()["error"]
    assert (await program.http.patch("/p/plain", json=wanted)).status_code == 200
    saved = world.office.calls[-1][1][1]
    assert (saved.forge, saved.repository, saved.url) == ("forge", "octo/mill", url)
    form = await browser.get("/p/plain/settings")
    assert 'name="repository"' in form.text and 'name="drafts"' in form.text


async def test_the_address_of_a_project_of_a_forge_is_not_bent_by_its_owner(world: WebWorld, forge: FakeForge) -> None:
    """It is fetched with the server's own access: a token of the forge goes nowhere else."""
    project = await mill(world)
    await known(world, forge, Permission.ADMIN)
    await world.site.members.set_member(project.id, world.users["ann"].id, Role.OWNER)
    program = await world.api(await world.token("ann", Scope.READ, Scope.MANAGE))
    answer = await program.http.patch("/p/mill", json={"project": {"url": "https://evil.example/octo/mill.git"}})
    assert answer.status_code == 403
    answer = await program.http.patch("/p/mill", json={"project": {"forge": "another"}})
    assert answer.status_code == 403
    answer = await program.http.patch("/p/mill", json={"project": {"repository": "../etc"}})
    assert answer.status_code == 403
