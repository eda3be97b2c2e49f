"""One's own account: password, sessions, API tokens."""

from collections.abc import AsyncIterator

import pytest

from nixmill.config.server import ServerSettings
from nixmill.core.access import Role, Scope, Visibility
from tests.support.web import PASSWORD, Browser, WebWorld, web_world

NEW = "another long password"


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with web_world(ServerSettings(sign_in_tries=3)) as made:
        await made.user("anna")
        yield made


@pytest.fixture
async def browser(world: WebWorld) -> Browser:
    return await world.signed_in("anna")


async def test_the_password_is_changed_by_who_knows_the_old_one_and_other_sessions_end(
    world: WebWorld, browser: Browser
) -> None:
    other = await world.signed_in("anna")
    answer = await browser.post("/account/password", {"old": PASSWORD, "new": NEW, "again": NEW})
    assert answer.status_code == 303
    assert (await browser.get("/account")).status_code == 200
    assert (await other.get("/account")).status_code == 303
    assert (await (await world.browser()).sign_in("anna", PASSWORD)).status_code == 403
    assert (await (await world.browser()).sign_in("anna", NEW)).status_code == 303
    assert NEW not in str(world.office.audited)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"old": "nonsense", "new": NEW, "again": NEW}, "old password is wrong"),
        ({"old": PASSWORD, "new": NEW, "again": NEW + "x"}, "not the same"),
        ({"old": PASSWORD, "new": "short", "again": "short"}, "8 to 1024 characters"),
    ],
)
async def test_the_password_stays_where_something_is_wrong(
    world: WebWorld, browser: Browser, fields: dict[str, str], said: str
) -> None:
    answer = await browser.post("/account/password", fields)
    assert answer.status_code == 422
    assert said in answer.text
    assert (await (await world.browser()).sign_in("anna", PASSWORD)).status_code == 303


async def test_the_old_password_cannot_be_guessed_in_an_open_session(browser: Browser) -> None:
    wrong = {"old": "nonsense", "new": NEW, "again": NEW}
    codes = [(await browser.post("/account/password", wrong)).status_code for _ in range(4)]
    assert codes == [422, 422, 422, 429]


async def test_sessions_are_listed_and_one_or_all_others_end(world: WebWorld, browser: Browser) -> None:
    others = [await world.signed_in("anna") for _ in range(3)]
    page = (await browser.get("/account.json")).json()
    assert [line["current"] for line in page["sessions"]].count(True) == 1
    victim = next(line for line in (await others[0].get("/account.json")).json()["sessions"] if line["current"])
    assert (await browser.post("/account/sessions", {"session": victim["id"]})).status_code == 303
    assert [(await one.get("/current-user")).status_code for one in others] == [403, 200, 200]
    assert (await browser.post("/account/sessions")).status_code == 303
    assert [(await one.get("/current-user")).status_code for one in others] == [403, 403, 403]
    assert (await browser.get("/current-user")).status_code == 200


async def test_nobody_ends_sessions_of_others(world: WebWorld, browser: Browser) -> None:
    bob = await world.signed_in("bob")
    line = (await bob.get("/account.json")).json()["sessions"][0]
    assert (await browser.post("/account/sessions", {"session": line["id"]})).status_code == 404
    assert (await bob.get("/current-user")).status_code == 200


async def test_a_token_is_shown_once_and_opens_what_it_says(world: WebWorld, browser: Browser) -> None:
    answer = await browser.post("/account/tokens", {"name": "ci", "scopes": ["read", "run"], "days": "7"})
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    secret = answer.text.split("<code>nm_")[1].split("<")[0]
    assert secret not in (await browser.get("/account")).text
    line = (await browser.get("/account.json")).json()["tokens"][0]
    assert (line["name"], line["scopes"], line["used_at"]) == ("ci", ["read", "run"], None)
    assert line["expires_at"] - line["created_at"] == 7 * 86_400
    program = await world.api(f"nm_{secret}")
    assert (await program.get("/current-user")).json()["name"] == "anna"
    assert (await browser.get("/account.json")).json()["tokens"][0]["used_at"] is not None
    assert secret not in str(world.office.audited)
    stored = await world.site.keys.tokens(world.users["anna"].id)
    assert secret not in str(stored)


async def test_a_token_ends_when_it_is_revoked_or_has_expired(world: WebWorld, browser: Browser) -> None:
    await browser.post("/account/tokens", {"name": "one", "scopes": "read", "days": "1"})
    program = await world.api(await world.token("anna", Scope.READ, seconds=3600))
    assert (await program.get("/current-user")).status_code == 200
    world.clock.ahead += 3601
    assert (await program.get("/current-user")).status_code == 401
    other = await world.api(await world.token("anna", Scope.READ, seconds=3600))
    for line in (await browser.get("/account.json")).json()["tokens"]:
        assert (await browser.post("/account/tokens/revoke", {"id": line["id"]})).status_code == 303
    assert (await other.get("/current-user")).status_code == 401


@pytest.mark.parametrize(
    "header", ["Bearer nm_wrong", "Bearer", "bearer other", "Basic YTpi", "", "nm_x", "Bearer nm_\tx"]
)
async def test_a_wrong_token_is_401_and_never_silently_a_stranger(world: WebWorld, header: str) -> None:
    await world.project("mill")
    browser = await world.browser(headers={"Authorization": header, "Accept": "application/json"})
    for path in ("/current-user", "/sign-in", "/p/mill"):
        answer = await browser.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "/account" in answer.json()["remedy"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": "x", "scopes": "read", "days": "367"}, 422),
        ({"name": "x", "scopes": "read", "days": "0"}, 422),
        ({"name": "", "scopes": "read"}, 422),
        ({"name": "x", "scopes": "everything"}, 422),
        ({"name": "x", "scopes": "read", "project": "secret"}, 422),
        ({"name": "x", "scopes": "read", "project": "nosuch"}, 422),
    ],
)
async def test_a_token_that_makes_no_sense_is_refused(
    world: WebWorld, browser: Browser, fields: dict[str, str], code: int
) -> None:
    await world.project("secret", Visibility.PRIVATE)
    assert (await browser.post("/account/tokens", fields)).status_code == code
    assert (await browser.get("/account.json")).json()["tokens"] == []


async def test_nobody_revokes_tokens_of_others(world: WebWorld, browser: Browser) -> None:
    await world.user("bob")
    program = await world.api(await world.token("bob", Scope.READ))
    number = (await world.site.keys.tokens(world.users["bob"].id))[0].id
    assert (await browser.post("/account/tokens/revoke", {"id": number})).status_code == 404
    assert (await program.get("/current-user")).status_code == 200


async def test_a_token_changes_no_account_and_makes_no_tokens(world: WebWorld) -> None:
    program = await world.api(await world.token("anna", *Scope))
    for path in ("/account/password", "/account/sessions", "/account/tokens", "/account/tokens/revoke"):
        answer = await program.http.post(path, json={})
        assert answer.status_code == 403
        assert "cannot change an account" in answer.json()["error"]
    assert (await program.get("/account")).status_code == 403


async def test_a_token_of_one_project_is_made_in_a_form(world: WebWorld, browser: Browser) -> None:
    project = await world.project("mill", Visibility.PRIVATE, anna=Role.MEMBER)
    await browser.post("/account/tokens", {"name": "ci", "scopes": "read", "project": "mill"})
    assert (await world.site.keys.tokens(world.users["anna"].id))[0].project == project.id
    assert (await browser.get("/account.json")).json()["tokens"][0]["project"] == "mill"
