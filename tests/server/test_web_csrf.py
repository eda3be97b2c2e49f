"""Other sites cannot make a browser do things here."""

from collections.abc import AsyncIterator

import pytest

from nixmill.core.access import Scope
from tests.support.web import Browser, WebWorld, web_world


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with web_world() as made:
        yield made


@pytest.fixture
async def browser(world: WebWorld) -> Browser:
    return await world.signed_in("anna")


async def still_in(browser: Browser) -> bool:
    return (await browser.get("/current-user")).status_code == 200


@pytest.mark.parametrize("fields", [{}, {"csrf": ""}, {"csrf": "nonsense"}, {"csrf": "A" * 43 + "="}])
async def test_a_form_without_the_sessions_token_does_nothing(browser: Browser, fields: dict[str, str]) -> None:
    answer = await browser.http.post("/sign-out", data=fields)
    assert answer.status_code == 403
    assert "does not come from a page of your session" in answer.text
    assert await still_in(browser)


async def test_the_token_of_somebody_else_does_nothing(world: WebWorld, browser: Browser) -> None:
    other = await world.signed_in("bob")
    answer = await browser.http.post("/sign-out", data={"csrf": await other.csrf()})
    assert answer.status_code == 403
    assert await still_in(browser)


async def test_json_with_a_session_needs_the_token_as_a_header(browser: Browser) -> None:
    assert (await browser.http.post("/sign-out", json={})).status_code == 403
    token = await browser.csrf()
    assert (await browser.http.post("/sign-out", json={"csrf": token})).status_code == 403
    assert (await browser.http.post("/sign-out", json={}, headers={"X-CSRF-Token": token})).status_code == 303
    assert not await still_in(browser)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Origin": ""},
    ],
)
async def test_a_request_from_another_site_does_nothing_even_with_the_token(
    browser: Browser, headers: dict[str, str]
) -> None:
    answer = await browser.http.post("/sign-out", data={"csrf": await browser.csrf()}, headers=headers)
    assert answer.status_code == 403
    assert "Another site sent this request" in answer.text
    assert await still_in(browser)


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}])
async def test_a_form_of_this_site_works(browser: Browser, headers: dict[str, str]) -> None:
    answer = await browser.http.post("/sign-out", data={"csrf": await browser.csrf()}, headers=headers)
    assert answer.status_code == 303
    assert not await still_in(browser)


async def test_the_sites_own_origin_is_right(world: WebWorld, browser: Browser) -> None:
    data = {"csrf": await browser.csrf()}
    assert (await browser.http.post("/sign-out", data=data, headers={"Origin": world.url})).status_code == 303


async def test_an_api_token_needs_no_form_token(world: WebWorld) -> None:
    admin = await world.user("root", admin=True)
    program = await world.api(await world.token("root", Scope.MANAGE))
    answer = await program.http.post(f"/admin/users/{admin.id}", json={"what": "sign out"})
    assert answer.status_code == 200


async def test_changing_needs_no_get(browser: Browser) -> None:
    for path in ("/sign-out", "/account/password", "/account/tokens", "/account/sessions"):
        assert (await browser.get(path)).status_code == 405
