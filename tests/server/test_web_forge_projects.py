"""A project is joined with a repository of a forge: the form, the API, and the address of the forge's webhook."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from nixmill.core.access import Scope
from nixmill.core.project import Project
from tests.support.pull_pages import joined, pulls_world
from tests.support.web import Browser, WebWorld, web_world

FORM = {"name": "mill", "url": "https://forge.example/octo/mill.git", "visibility": "public", "enabled": "true"}


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with pulls_world() as made:
        await made.user("root", admin=True)
        await joined(made)
        yield made


@pytest.fixture
async def root(world: WebWorld) -> Browser:
    return await world.signed_in("root")


def changed(world: WebWorld) -> Project:
    """Return the project as it was changed last."""
    project: Any = [given for call, given in world.office.calls if call == "change_project"][-1][1]
    assert isinstance(project, Project)
    return project


async def test_the_form_has_the_forge_and_the_address_of_its_webhook(world: WebWorld, root: Browser) -> None:
    text = (await root.get("/p/mill/settings")).text
    assert "<option selected>forge" in text
    assert 'name="repository" value="octo/mill"' in text
    assert f'value="{world.url}/hook/forge/forge"' in text
    assert 'name="drafts" value="true" checked' in text


async def test_an_administrator_joins_and_leaves_a_forge(world: WebWorld, root: Browser) -> None:
    path = "/p/mill/settings"
    wanted = {**FORM, "forge": "forge", "repository": "/octo/other/", "drafts": "true"}
    assert (await root.post(path, wanted)).status_code == 303
    after = changed(world)
    assert (after.forge, after.repository, after.repository_id, after.drafts) == ("forge", "octo/other", "", True)
    assert (await root.post(path, {**FORM, "forge": "", "repository": ""})).status_code == 303
    assert (changed(world).forge, changed(world).drafts) == ("", False)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"forge": "another", "repository": "octo/mill"}, "have no forge called"),
        ({"forge": "forge", "repository": ""}, "such as owner/name"),
        ({"forge": "forge", "repository": "../../etc"}, "such as owner/name"),
        ({"forge": "forge", "repository": "octo/mill?x"}, "such as owner/name"),
        ({"forge": "", "repository": "octo/mill"}, "Choose the forge"),
    ],
)
async def test_what_cannot_be_is_told_at_its_field(
    world: WebWorld, root: Browser, fields: dict[str, str], said: str
) -> None:
    answer = await root.post("/p/mill/settings", {**FORM, **fields})
    assert answer.status_code == 422
    assert said in answer.text
    assert not [call for call, _ in world.office.calls if call == "change_project"]


async def test_programs_set_the_same_fields(world: WebWorld) -> None:
    await world.signed_in("root")
    program = await world.api(await world.token("root", Scope.READ, Scope.MANAGE))
    body = {"project": {"repository": "octo/other", "drafts": False}}
    assert (await program.http.patch("/p/mill", json=body)).status_code == 200
    after = changed(world)
    assert (after.forge, after.repository, after.drafts) == ("forge", "octo/other", False)


async def test_without_any_forge_the_form_says_nothing_of_it_and_loses_nothing() -> None:
    async with web_world() as world:
        await world.user("root", admin=True)
        await world.project("mill")
        text = (await (await world.signed_in("root")).get("/p/mill/settings")).text
        assert "Pull requests" not in text
        assert 'type="hidden" name="drafts" value="true"' in text
