"""Projects by page and by API: what is typed is never lost, and nobody gets more than they may have."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from nixmill.config.server import ServerSettings
from nixmill.core.access import Role, Scope, Visibility
from nixmill.core.message import ChannelKind, Rule
from nixmill.core.project import Jobset, Project
from tests.support.web import Browser, WebWorld, web_world
from tests.support.web_office import HalfOffice

CREDENTIALS: Final = {name: Path(f"/nowhere/{name}") for name in ("git-forge", "git-other", "notify-team", "database")}
FORM: Final = {
    "name": "mill",
    "title": "The mill",
    "url": "https://example.org/mill.git",
    "credential": "",
    "visibility": "private",
    "default_branch": "main",
    "poll_s": "120",
    "weight": "1",
    "enabled": "true",
}
ROW: Final = {
    "jobset_id": "0",
    "jobset_name": "releases",
    "jobset_branches": "release-* !release-old",
    "jobset_tags": "v*",
    "jobset_schedule": "30 4 * * *",
    "jobset_time_zone": "Europe/Berlin",
    "jobset_targets": '.#checks\npackages.x86_64-linux."a b"\n',
    "jobset_systems": "x86_64-linux aarch64-linux",
    "jobset_build_class": "bulk",
    "jobset_on_push": "",
    "jobset_enabled": "true",
}


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    office = HalfOffice()
    settings = ServerSettings(credentials=CREDENTIALS, users_add_projects=True, projects_file=Path("/etc/mills.toml"))
    async with web_world(settings, office=office) as made:
        office.join(made)
        await made.user("root", admin=True)
        yield made


async def found(world: WebWorld, name: str = "mill") -> Project:
    project = await world.site.projects.project(name)
    assert project is not None
    return project


async def added(world: WebWorld, browser: Browser, **fields: str) -> Project:
    answer = await browser.post("/p/new", {**FORM, **fields}, page="/p/new")
    assert answer.status_code == 303, answer.text
    return await found(world, answer.headers["location"].removeprefix("/p/"))


async def test_a_project_is_added_by_a_form_and_belongs_to_who_added_it(world: WebWorld) -> None:
    browser = await world.signed_in("ada")
    project = await added(world, browser, **ROW)
    assert (project.title, project.visibility, project.poll_s, project.weight) == ("The mill", "private", 120, 1)
    assert (project.enabled, project.submodules, project.declared) == (True, False, False)
    (jobset,) = await world.site.projects.jobsets(project.id)
    assert msgspec.structs.replace(jobset, id=0, project=0) == Jobset(
        name="releases",
        branches=("release-*", "!release-old"),
        tags=("v*",),
        schedule="30 4 * * *",
        time_zone="Europe/Berlin",
        targets=(".#checks", 'packages.x86_64-linux."a b"'),
        systems=("x86_64-linux", "aarch64-linux"),
        build_class="bulk",  # type: ignore[arg-type]
        on_push=False,
    )
    members = await world.site.members.members(project.id)
    assert [(one.name, one.role) for one in members] == [("ada", Role.OWNER)]
    assert [(entry.who, entry.action) for entry in world.office.audited][-1] == ("ada", "add a project")


async def test_what_was_typed_wrongly_comes_back_with_a_sentence_at_each_field(world: WebWorld) -> None:
    browser = await world.signed_in("root")
    wrong = {
        **FORM,
        **ROW,
        "name": "-x",
        "url": "ftp://example.org/<b>",
        "poll_s": "often",
        "weight": "101",
        "visibility": "secret",
        "credential": "database",
        "title": "a\x07b",
        "jobset_schedule": "now and then",
        "jobset_build_class": "first",
        "jobset_name": "9",
    }
    answer = await browser.post("/p/new", wrong, page="/p/new")
    assert answer.status_code == 422
    assert answer.text.count('class="error"') == 10
    for text in ('value="-x"', 'value="ftp://example.org/&lt;b&gt;"', 'value="often"', 'value="now and then"'):
        assert text in answer.text
    assert 'id="jobset-0-schedule-wrong"' in answer.text
    assert await world.site.projects.projects() == []


async def test_a_project_is_changed_by_its_form_and_its_jobsets_row_by_row(world: WebWorld) -> None:
    browser = await world.signed_in("root")
    project = await added(world, browser, **ROW)
    (first,) = await world.site.projects.jobsets(project.id)
    rows = {key: [value, value] for key, value in ROW.items()}
    rows |= {"jobset_id": [str(first.id), "0"], "jobset_name": ["renamed", "nightly"]}
    page = await browser.get("/p/mill/settings")
    assert 'name="jobset_name" value=""' in page.text, "one empty row is there without any script"
    answer = await browser.post("/p/mill/settings", {**FORM, **rows, "name": "works"}, page="/p/mill/settings")
    assert answer.headers["location"] == "/p/works/settings"
    jobsets = {one.name: one.id for one in await world.site.projects.jobsets(project.id)}
    assert jobsets["renamed"] == first.id
    assert set(jobsets) == {"renamed", "nightly"}
    assert (await browser.get("/p/mill/settings")).headers["location"] == "/p/works/settings"
    gone = {**ROW, "jobset_id": str(first.id), "jobset_enabled": "remove"}
    await browser.post("/p/works/settings", {**FORM, **gone, "name": "works"}, page="/p/works/settings")
    assert await world.site.projects.jobsets(project.id) == []


async def test_two_projects_cannot_have_one_name(world: WebWorld) -> None:
    browser = await world.signed_in("root")
    await added(world, browser)
    answer = await browser.post("/p/new", FORM, page="/p/new")
    assert answer.status_code == 422
    assert 'id="name-wrong"' in answer.text


async def test_an_owner_cannot_take_a_credential_nor_send_one_elsewhere(world: WebWorld) -> None:
    """Whoever could would have the secret: a server of their own would be shown it."""
    root, ada = await world.signed_in("root"), await world.signed_in("ada")
    project = await added(world, root, credential="git-forge")
    await world.site.members.set_member(project.id, world.users["ada"].id, Role.OWNER)
    page = await ada.get("/p/mill/settings")
    assert "git-other" not in page.text
    assert "database" not in page.text
    for change, sentence in (
        ({"url": "https://evil.example/mill.git"}, "Only administrators change the URL"),
        ({"credential": "git-other"}, "Only administrators give a project a credential"),
        ({"credential": "", "url": "file:///etc"}, "Only administrators add repositories of the server"),
        ({"credential": "database"}, "begin with"),
    ):
        form = {**FORM, "credential": "git-forge", **change}
        answer = await ada.post("/p/mill/settings", form, page="/p/mill/settings")
        assert (answer.status_code, sentence in answer.text) == (422, True), change
    program = await world.api(await world.token("ada", *Scope))
    for change in ({"url": "https://evil.example/x"}, {"credential": "git-other"}, {"url": "FILE:///etc"}):
        assert (await program.http.patch("/p/mill", json={"project": change})).status_code in {403, 422}
    body = {"project": {"name": "own", "url": "https://evil.example/x", "credential": "git-forge"}}
    assert (await program.http.post("/p", json=body)).status_code == 403
    assert (await found(world)).url == FORM["url"]
    kept = {**FORM, "credential": "git-forge", "title": "Ada's"}
    assert (await ada.post("/p/mill/settings", kept, page="/p/mill/settings")).status_code == 303


async def test_an_administrator_s_credential_must_still_be_one_for_repositories(world: WebWorld) -> None:
    program = await world.api(await world.token("root", *Scope))
    for name, code in (("git-forge", 201), ("git-absent", 422), ("database", 422), ("notify-team", 422)):
        body = {"project": {"name": f"p-{name}", "url": "https://example.org/x", "credential": name}}
        assert (await program.http.post("/p", json=body)).status_code == code, name


async def test_who_may_add_projects_is_a_setting(world: WebWorld) -> None:
    assert (await (await world.browser()).get("/p/new")).status_code == 303, "strangers are led to sign in"
    assert (await (await world.signed_in("ada")).get("/p/new")).status_code == 200
    reading = await world.api(await world.token("ada", Scope.READ, Scope.RUN))
    assert (await reading.http.post("/p", json={"project": {"name": "a", "url": "https://x/y"}})).status_code == 403
    async with web_world() as closed:
        assert (await (await closed.signed_in("ada")).get("/p/new")).status_code == 403


async def test_a_declared_project_is_changed_in_its_file_alone(world: WebWorld) -> None:
    root = await world.signed_in("root")
    project = await added(world, root)
    await world.site.projects.save_project(msgspec.structs.replace(project, declared=True))
    page = await root.get("/p/mill/settings")
    assert "/etc/mills.toml" in page.text
    assert "disabled>Save" in page.text
    program = await world.api(await world.token("root", *Scope))
    whole = {"project": {"name": "mill", "url": "https://example.org/other.git"}}
    answers = [
        await program.http.put("/p/mill", json=whole),
        await program.http.patch("/p/mill", json={"project": {"weight": 2}}),
        await program.http.delete("/p/mill"),
        await program.http.post("/p/mill/rules", json={"rules": []}),
        await program.http.post("/p/mill/members", json={"user": "root", "role": "owner"}),
        await root.http.post(
            "/p/mill/settings", data={**FORM, "csrf": await root.csrf()}, headers={"Accept": "application/json"}
        ),
        await root.http.post(
            "/p/mill/delete", data={"name": "mill", "csrf": await root.csrf()}, headers={"Accept": "application/json"}
        ),
    ]
    assert [(one.status_code, "/etc/mills.toml" in one.json()["error"]) for one in answers] == [(409, True)] * 7


async def test_a_project_is_deleted_by_typing_its_name(world: WebWorld) -> None:
    root = await world.signed_in("root")
    await added(world, root)
    assert (await root.post("/p/mill/delete", {"name": "mil"}, page="/p/mill/settings")).status_code == 422
    answer = await root.post("/p/mill/delete", {"name": "mill"}, page="/p/mill/settings")
    assert answer.headers["location"] == "/"
    assert (await root.get("/p/mill")).status_code == 404


async def test_programs_put_patch_and_keep_jobsets_by_name(world: WebWorld) -> None:
    program = await world.api(await world.token("root", *Scope))
    body = {"project": {"name": "mill", "url": "https://example.org/m.git"}, "jobsets": [{"name": "a"}, {"name": "b"}]}
    made = (await program.http.post("/p", json=body)).json()
    before = {one.name: one.id for one in await world.site.projects.jobsets(made["id"])}
    body["jobsets"] = [{"name": "b", "branches": ["x"]}, {"name": "c"}]
    assert (await program.http.put("/p/mill", json=body)).status_code == 200
    after = {one.name: one.id for one in await world.site.projects.jobsets(made["id"])}
    assert after["b"] == before["b"]
    assert set(after) == {"b", "c"}
    answer = await program.http.patch("/p/mill", json={"project": {"title": "M", "weight": 9}})
    assert (answer.json()["title"], answer.json()["weight"]) == ("M", 9)
    assert set(after) == {one.name for one in await world.site.projects.jobsets(made["id"])}
    for bad in ({"project": {"wieght": 1}}, {"project": {"weight": 0}}, {"jobsets": [{"name": "a"}, {"name": "a"}]}):
        assert (await program.http.patch("/p/mill", json=bad)).status_code == 422, bad


async def test_rules_are_replaced_by_form_and_by_program(world: WebWorld) -> None:
    root = await world.signed_in("root")
    project = await added(world, root)
    row = dict.fromkeys(("rule_id", "rule_branches", "rule_attributes", "rule_credential"), "")
    row |= {"rule_name": "team", "rule_channel": "email", "rule_when": "failure", "rule_enabled": "true"}
    answer = await root.post("/p/mill/rules", {**row, "rule_id": "0", "rule_target": "no one"}, page="/p/mill/rules")
    assert answer.status_code == 422
    assert 'id="rule-0-target-wrong"' in answer.text
    assert 'value="no one"' in answer.text
    good = {**row, "rule_id": "0", "rule_target": "team@example.org", "rule_attributes": "checks.*\n"}
    assert (await root.post("/p/mill/rules", good, page="/p/mill/rules")).status_code == 303
    (rule,) = await world.site.outbox.rules(project.id)
    assert (rule.target, rule.when, rule.attributes) == ("team@example.org", "failure", ("checks.*",))
    program = await world.api(await world.token("root", *Scope))
    for credential, code in (("database", 422), ("notify-absent", 422), ("notify-team", 200)):
        wanted = {"name": "team", "channel": "webhook", "target": "https://example.org/", "credential": credential}
        assert (await program.http.post("/p/mill/rules", json={"rules": [wanted]})).status_code == code
    expected = Rule(
        id=rule.id,
        project=project.id,
        name="team",
        channel=ChannelKind.WEBHOOK,
        target="https://example.org/",
        credential="notify-team",
    )
    assert list(await world.site.outbox.rules(project.id)) == [expected]
    assert (await program.get("/p/mill/rules")).json()["rules"] == [msgspec.json.decode(msgspec.json.encode(expected))]


async def test_members_may_not_see_the_secret_of_the_webhook(world: WebWorld) -> None:
    project = await world.project("mill", Visibility.PUBLIC)
    member = await world.signed_in("ada")
    await world.site.members.set_member(project.id, world.users["ada"].id, Role.MEMBER)
    secret = world.site.office.webhook_secret(project.id)
    answer = await member.get("/p/mill/settings")
    assert answer.status_code == 403
    assert secret not in answer.text
    shown = await (await world.signed_in("root")).get("/p/mill/settings")
    assert f'id="webhook-secret" readonly value="{secret}"' in shown.text
    assert shown.headers["cache-control"] == "no-store"
