"""Accounts as administrators see them, and roles in projects as owners do."""

from collections.abc import AsyncIterator

import pytest

from nixmill.core.access import Role, Visibility
from tests.support.web import Browser, WebWorld, web_world

JSON = {"Accept": "application/json"}


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with web_world() as made:
        await made.user("root", admin=True)
        await made.user("anna")
        yield made


@pytest.fixture
async def root(world: WebWorld) -> Browser:
    return await world.signed_in("root")


async def change(world: WebWorld, root: Browser, name: str, what: str) -> int:
    user = await world.site.accounts.user(name)
    assert user is not None
    return (await root.post(f"/admin/users/{user.id}", {"what": what})).status_code


async def test_a_user_is_added_with_a_password_that_is_shown_once_and_works(world: WebWorld, root: Browser) -> None:
    answer = await root.post("/admin/users", {"name": "bob", "email": "bob@example.org"}, "/admin/users")
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    password = answer.text.split("<code>")[1].split("</code>")[0]
    assert password not in (await root.get("/admin/users")).text
    assert (await (await world.browser()).sign_in("bob", password)).status_code == 303
    assert password not in str(world.office.audited)
    assert "add a user" in [entry.action for entry in world.office.audited]


@pytest.mark.parametrize(("name", "said"), [("ANNA", "already"), ("a b", "cannot be the name"), ("", "cannot be")])
async def test_a_name_that_is_taken_or_none_is_refused(root: Browser, name: str, said: str) -> None:
    answer = await root.post("/admin/users", {"name": name})
    assert answer.status_code == 422
    assert said in answer.text


async def test_a_user_becomes_administrator_and_no_longer(world: WebWorld, root: Browser) -> None:
    anna = await world.signed_in("anna")
    assert (await anna.get("/admin/users")).status_code == 403
    assert await change(world, root, "anna", "make admin") == 303
    assert (await anna.get("/admin/users")).status_code == 200
    assert await change(world, root, "anna", "take admin") == 303
    assert (await anna.get("/admin/users")).status_code == 403


async def test_a_new_password_replaces_the_old_one_and_ends_sessions(world: WebWorld, root: Browser) -> None:
    anna = await world.signed_in("anna")
    answer = await root.post(f"/admin/users/{world.users['anna'].id}", {"what": "new password"})
    password = answer.text.split("<code>")[1].split("</code>")[0]
    assert (await anna.get("/current-user")).status_code == 403
    assert (await (await world.browser()).sign_in("anna")).status_code == 403
    assert (await (await world.browser()).sign_in("anna", password)).status_code == 303


async def test_signing_out_everywhere_leaves_the_password(world: WebWorld, root: Browser) -> None:
    anna = await world.signed_in("anna")
    assert await change(world, root, "anna", "sign out") == 303
    assert (await anna.get("/current-user")).status_code == 403
    await world.signed_in("anna")


async def test_administrators_do_not_lock_themselves_out(world: WebWorld, root: Browser) -> None:
    assert await change(world, root, "root", "disable") == 422
    assert await change(world, root, "root", "take admin") == 422
    path = f"/admin/users/{world.users['root'].id}/delete"
    assert (await root.post(path, {"name": "root"})).status_code == 422


async def test_an_account_is_deleted_by_its_typed_name_with_all_its_keys(world: WebWorld, root: Browser) -> None:
    anna, number = await world.signed_in("anna"), world.users["anna"].id
    await world.project("mill", anna=Role.OWNER)
    assert (await root.post(f"/admin/users/{number}/delete", {"name": "other"})).status_code == 422
    assert (await root.post(f"/admin/users/{number}/delete", {"name": "Anna"})).status_code == 303
    assert (await anna.get("/current-user")).status_code == 403
    assert (await root.post(f"/admin/users/{number}/delete", {"name": "anna"})).status_code == 404
    assert (await (await world.browser()).sign_in("anna")).status_code == 403


async def test_an_owner_gives_and_takes_roles(world: WebWorld) -> None:
    project = await world.project("mill", Visibility.PRIVATE, anna=Role.OWNER)
    await world.user("bob")
    anna, bob = await world.signed_in("anna"), await world.signed_in("bob")
    assert (await bob.get("/p/mill/members")).status_code == 404
    answer = await anna.post("/p/mill/members", {"user": "BOB", "role": "viewer"}, "/p/mill/members")
    assert answer.headers["location"] == "/p/mill/members"
    assert "bob" in (await anna.get("/p/mill/members")).text
    assert (await bob.get("/p/mill/members")).status_code == 403
    await anna.post("/p/mill/members", {"user": "bob", "role": "owner"})
    assert (await bob.get("/p/mill/members")).status_code == 200
    await anna.post("/p/mill/members", {"user": "bob", "role": "none"})
    assert (await bob.get("/p/mill/members")).status_code == 404
    entry = world.office.audited[-1]
    assert (entry.action, entry.subject, entry.project, entry.detail) == (
        "change members",
        "mill",
        project.id,
        "bob: none",
    )


async def test_roles_as_json(world: WebWorld) -> None:
    await world.project("mill", anna=Role.OWNER)
    anna = await world.signed_in("anna")
    headers = {**JSON, "X-CSRF-Token": await anna.csrf()}
    answer = await anna.http.post("/p/mill/members", json={"user": "root", "role": "member"}, headers=headers)
    roles = {line["name"]: line["role"] for line in answer.json()["members"]}
    assert roles == {"anna": "owner", "root": "member"}
    answer = await anna.http.post("/p/mill/members", json={"user": "root", "role": None}, headers=headers)
    assert [line["name"] for line in answer.json()["members"]] == ["anna"]
    for wrong in ({"user": "nobody", "role": "member"}, {"user": "root", "role": "admin"}, {"role": "member"}):
        answer = await anna.http.post("/p/mill/members", json=wrong, headers=headers)
        assert answer.status_code == 422


async def test_whoever_gives_up_their_own_role_is_sent_home(world: WebWorld) -> None:
    await world.project("mill", Visibility.PRIVATE, anna=Role.OWNER)
    anna = await world.signed_in("anna")
    answer = await anna.post("/p/mill/members", {"user": "anna", "role": "none"}, "/p/mill/members")
    assert answer.headers["location"] == "/"
    assert (await anna.get("/p/mill/members")).status_code == 404


async def test_a_former_name_of_a_project_leads_to_todays(world: WebWorld) -> None:
    project = await world.project("mill", anna=Role.OWNER)
    await world.rename(project, "watermill")
    anna = await world.signed_in("anna")
    answer = await anna.get("/p/mill/members?x=1")
    assert (answer.status_code, answer.headers["location"]) == (308, "/p/watermill/members?x=1")
    assert (await anna.get("/p/mill/members.json")).headers["location"] == "/p/watermill/members.json"


async def test_a_former_name_that_is_written_oddly_leads_to_the_project(world: WebWorld) -> None:
    await world.rename(await world.project("mill", anna=Role.OWNER), "watermill")
    answer = await (await world.signed_in("anna")).get("/p/%6Dill/members")
    assert answer.headers["location"] == "/p/watermill"


async def test_a_former_name_of_a_hidden_project_leads_nowhere(world: WebWorld) -> None:
    project = await world.project("mill", Visibility.PRIVATE)
    await world.rename(project, "secret")
    answer = await (await world.signed_in("anna")).get("/p/mill/members")
    assert answer.status_code == 404
    assert "secret" not in answer.text
