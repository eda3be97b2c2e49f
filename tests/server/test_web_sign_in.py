"""Signing in and out with name and password, over real HTTP."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from argon2 import PasswordHasher

from nixmill.config.server import ServerSettings
from nixmill.core.access import Role
from nixmill.core.account import SESSION_S, User
from nixmill.engine import passwords
from tests.support.web import PASSWORD, WebWorld, web_world


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with web_world(ServerSettings(sign_in_tries=3)) as made:
        await made.user("anna", email="anna@example.org")
        yield made


async def test_a_wrong_password_is_403_and_the_right_one_answers_with_the_user_and_roles(world: WebWorld) -> None:
    await world.project("mill", anna=Role.OWNER)
    browser = await world.browser(headers={"Accept": "application/json"})
    wrong = await browser.http.post("/sign-in", json={"name": "anna", "password": "nonsense"})
    assert wrong.status_code == 403
    assert wrong.json()["error"] == "Name or password is wrong."
    right = await browser.http.post("/sign-in", json={"name": "anna", "password": PASSWORD})
    assert right.status_code == 200
    assert right.json() == {
        "id": world.users["anna"].id,
        "name": "anna",
        "email": "anna@example.org",
        "admin": False,
        "roles": {"mill": "owner"},
    }
    assert (await browser.get("/current-user")).json() == right.json()


async def test_a_program_may_sign_in_again_with_json(world: WebWorld) -> None:
    browser = await world.browser(headers={"Accept": "application/json"})
    for _ in range(2):
        assert (await browser.http.post("/sign-in", json={"name": "anna", "password": PASSWORD})).status_code == 200


async def test_nobody_is_current_without_signing_in(world: WebWorld) -> None:
    browser = await world.browser(headers={"Accept": "application/json"})
    assert (await browser.get("/current-user")).status_code == 403


async def test_the_form_leads_to_where_one_wanted_to_go_but_never_off_the_site(world: WebWorld) -> None:
    browser = await world.browser()
    assert (await browser.sign_in("ANNA", then="/p/mill?x=1")).headers["location"] == "/p/mill?x=1"
    for then in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil"):
        browser = await world.browser()
        assert (await browser.sign_in("anna", then=then)).headers["location"] == "/"


async def test_the_form_shows_what_is_wrong_and_keeps_the_name(world: WebWorld) -> None:
    answer = await (await world.browser()).sign_in("anna", "nonsense")
    assert answer.status_code == 403
    assert "Name or password is wrong." in answer.text
    assert 'value="anna"' in answer.text
    assert "nonsense" not in answer.text


async def test_the_cookie_cannot_be_read_by_scripts_nor_sent_by_other_sites(world: WebWorld) -> None:
    answer = await (await world.browser()).sign_in("anna")
    cookie = next(line for line in answer.headers.get_list("set-cookie") if line.startswith("nixmill="))
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie and "Domain" not in cookie


async def test_with_https_cookies_belong_to_this_host_and_travel_encrypted() -> None:
    async with web_world(ServerSettings(url="https://ci.example.org")) as world:
        await world.user("anna")
        browser = await world.browser(headers={"Accept": "application/json"})
        answer = await browser.http.post("/sign-in", json={"name": "anna", "password": PASSWORD})
    assert re.match(r"__Host-nixmill=\S+; .*Secure", answer.headers["set-cookie"])
    assert "max-age=" in answer.headers["strict-transport-security"]


async def test_the_session_is_another_after_signing_in_and_the_old_one_is_over(world: WebWorld) -> None:
    browser = await world.signed_in("anna")
    before = browser.http.cookies["nixmill"]
    await browser.sign_in("anna")
    assert browser.http.cookies["nixmill"] != before
    old = await world.browser(cookies={"nixmill": before})
    assert (await old.get("/current-user")).status_code == 403


async def test_signing_out_ends_the_session_itself(world: WebWorld) -> None:
    browser = await world.signed_in("anna")
    cookie = browser.http.cookies["nixmill"]
    assert (await browser.post("/sign-out")).status_code == 303
    assert (await (await world.browser(cookies={"nixmill": cookie})).get("/current-user")).status_code == 403


async def test_a_session_ends_when_it_was_not_used_for_long(world: WebWorld) -> None:
    browser = await world.signed_in("anna")
    world.clock.ahead += SESSION_S - 60
    assert (await browser.get("/current-user")).status_code == 200
    world.clock.ahead += SESSION_S - 60
    assert (await browser.get("/current-user")).status_code == 200
    world.clock.ahead += SESSION_S + 1
    assert (await browser.get("/current-user")).status_code == 403


async def test_a_disabled_user_does_not_get_in_and_is_out_at_once(world: WebWorld) -> None:
    admin = await world.user("root", admin=True)
    assert admin.admin
    anna, root = await world.signed_in("anna"), await world.signed_in("root")
    answer = await root.post(f"/admin/users/{world.users['anna'].id}", {"what": "disable"})
    assert answer.status_code == 303
    assert (await anna.get("/current-user")).status_code == 403
    again = await (await world.browser()).sign_in("anna")
    assert again.status_code == 403
    assert "disabled" in again.text


async def test_after_too_many_tries_an_account_has_to_wait_and_is_told_how_long(world: WebWorld) -> None:
    browser = await world.browser()
    assert [(await browser.sign_in("anna", "nonsense")).status_code for _ in range(3)] == [403] * 3
    refused = await browser.sign_in("anna")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 900
    assert "min" in refused.text
    world.clock.ahead += 901
    assert (await browser.sign_in("anna")).status_code == 303


async def test_an_address_has_to_wait_whatever_names_it_tries(world: WebWorld) -> None:
    browser = await world.browser()
    for name in ("root", "admin", "bob"):
        await browser.sign_in(name, "nonsense")
    assert (await browser.sign_in("anna")).status_code == 429
    elsewhere = await world.browser(headers={"X-Forwarded-For": "192.0.2.7"})
    assert (await elsewhere.sign_in("anna")).status_code == 303


async def test_many_tries_at_once_are_no_way_round(world: WebWorld) -> None:
    browser = await world.browser(headers={"Accept": "application/json"})
    tries = [browser.http.post("/sign-in", json={"name": "anna", "password": f"wrong {n}"}) for n in range(8)]
    codes = sorted([answer.status_code for answer in await asyncio.gather(*tries)])
    assert codes == [403] * 3 + [429] * 5


async def test_good_sign_ins_are_not_counted(world: WebWorld) -> None:
    for _ in range(5):
        assert (await (await world.browser()).sign_in("anna")).status_code == 303


async def test_signing_in_is_audited_without_the_password(world: WebWorld) -> None:
    await world.signed_in("anna")
    entry = world.office.audited[-1]
    assert (entry.who, entry.action, entry.user) == ("anna", "sign in", world.users["anna"].id)
    assert entry.address == "127.0.0.1"
    assert PASSWORD not in str(world.office.audited)


async def test_a_form_of_another_browser_signs_nobody_in(world: WebWorld) -> None:
    """Otherwise another site could sign somebody in as itself, and read what they then do."""
    token = await (await world.browser()).csrf("/sign-in")
    browser = await world.browser()
    await browser.get("/sign-in")
    answer = await browser.http.post("/sign-in", data={"name": "anna", "password": PASSWORD, "csrf": token})
    assert answer.status_code == 403


async def test_a_hash_with_other_parameters_is_made_anew_at_the_next_sign_in(world: WebWorld) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    bob = await world.site.accounts.save_user(User(name="bob", password_hash=old))
    for _ in range(2):
        assert (await (await world.browser()).sign_in("bob")).status_code == 303
        now = await world.site.accounts.user(bob.id)
        assert now is not None and now.password_hash != old and "m=65536" in now.password_hash


async def test_who_has_no_password_does_not_sign_in_with_none(world: WebWorld) -> None:
    await world.site.accounts.save_user(User(name="bob"))
    browser = await world.browser(headers={"Accept": "application/json"})
    for password in ("", "nobody has this password"):
        assert (await browser.http.post("/sign-in", json={"name": "bob", "password": password})).status_code == 403


@pytest.mark.parametrize("name", ["anna", "nobody", "not a name"])
async def test_a_name_that_does_not_exist_costs_as_much_as_one_that_does(
    world: WebWorld, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    checked: list[str] = []

    def verify(_hashed: str, text: str) -> bool:
        checked.append(text)
        return False

    monkeypatch.setattr(passwords, "verify", verify)
    assert (await (await world.browser()).sign_in(name, "nonsense")).status_code == 403
    assert checked == ["nonsense"]
