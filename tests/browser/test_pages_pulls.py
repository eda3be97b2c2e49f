"""Pull requests in a real browser: what an approver reads, and the button that approves just that."""

from collections.abc import AsyncIterator
from typing import Any, Final, Literal

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from nixmill.engine.live import project_topic
from tests.browser.test_pages_a import CONTRASTS
from tests.support.browser import CHROMIUM
from tests.support.pull_pages import HEAD, LOOK, hostile_pull, joined, pulls_world
from tests.support.web import PASSWORD, WebWorld

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium here")
PAGES: Final = ("/p/mill/pull/7", "/p/mill/pulls", "/approvals", "/")


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with pulls_world() as made:
        await hostile_pull(made, await joined(made))
        made.office.look_at = LOOK
        yield made


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def signed_in(world: WebWorld, browser: Browser, **more: Any) -> Page:  # noqa: ANN401 - as the browser takes it
    """Return a page of the member, signed in through the form."""
    page = await (await browser.new_context(base_url=world.url, **more)).new_page()
    await page.goto("/sign-in")
    await page.get_by_label("Name").fill("member")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/")
    return page


async def test_a_member_finds_reads_and_approves_a_commit(world: WebWorld, browser: Browser) -> None:
    page = await signed_in(world, browser)
    await page.get_by_role("link", name="Approvals 1").click()
    await page.get_by_role("link", name="#7").click()
    await expect(page.get_by_role("heading", name="To approve")).to_be_visible()
    await expect(page.locator(".patch .added").first).to_be_visible()
    await page.get_by_role("button", name=f"Approve {HEAD[:10]}").first.click()
    await page.wait_for_url("**/r/7")
    assert [given[3] for call, given in world.office.calls if call == "approve"] == [HEAD]


async def test_it_works_without_a_script(world: WebWorld, browser: Browser) -> None:
    page = await signed_in(world, browser, java_script_enabled=False)
    await page.goto("/p/mill/pull/7#approve")
    await page.get_by_role("button", name="Approve").last.click()
    assert [given[3] for call, given in world.office.calls if call == "approve"] == [HEAD]


async def test_what_is_being_read_does_not_change_under_the_eyes(world: WebWorld, browser: Browser) -> None:
    page = await signed_in(world, browser)
    await page.goto("/p/mill/pull/7")
    await page.evaluate("document.body.dataset.mark = 'same page'")
    world.site.live.tell(project_topic(1))
    assert await page.locator("body").get_attribute("data-live") is None
    assert await page.locator("input[name=commit]").first.get_attribute("value") == HEAD


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_it_can_be_read_everywhere(
    world: WebWorld, browser: Browser, scheme: Literal["light", "dark"], width: int
) -> None:
    page = await signed_in(world, browser, color_scheme=scheme, viewport={"width": width, "height": 800})
    for path in PAGES:
        await page.goto(path)
        found = await page.evaluate(CONTRASTS)
        assert found["seen"] > 10
        assert found["poor"] == [], path
        overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, path
        assert await page.evaluate("window.broken") is None


async def test_a_short_name_of_a_base_is_not_broken(world: WebWorld, browser: Browser) -> None:
    page = await signed_in(world, browser, viewport={"width": 760, "height": 800})
    await page.goto("/approvals")
    base = page.locator("td.c2 bdi.n", has_text="main")
    assert await base.evaluate("element => element.getClientRects().length") == 1
