"""Pages about roots and caches in a real browser: read everywhere, and used without a script."""

from collections.abc import AsyncIterator
from typing import Any, Final, Literal

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from nixmill.core.view.roots import CollectionPage, CollectionState, DeadPath
from tests.browser.test_pages_a import CONTRASTS
from tests.fakes.roots import FakeRootDesk
from tests.support.browser import CHROMIUM
from tests.support.root_pages import filled_world, hash_of
from tests.support.web import PASSWORD, WebWorld

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium here")
PAGES: Final = ("/p/mill/roots", "/roots", "/roots/collection", "/caches", "/caches/main", "/caches/private-one")


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with filled_world() as made:
        desk: Any = made.site.root_desk
        assert isinstance(desk, FakeRootDesk)
        now = made.clock.now()
        desk.dry = CollectionPage(
            state=CollectionState.DONE,
            by="root",
            started_at=now - 65,
            ended_at=now - 60,
            paths=1234,
            measured=1234,
            size=56_000_000_000,
            largest=(DeadPath(hash_of("a-1"), 20_000_000_000), DeadPath(hash_of("b-1"), 9_000_000_000)),
        )
        yield made


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def signed_in(world: WebWorld, browser: Browser, who: str, **more: Any) -> Page:  # noqa: ANN401 - as the browser takes it
    """Return a page of somebody who signed in through the form."""
    page = await (await browser.new_context(base_url=world.url, **more)).new_page()
    await page.goto("/sign-in")
    await page.get_by_label("Name").fill(who)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/")
    return page


@pytest.mark.parametrize("script", [True, False])
async def test_a_member_finds_the_page_pins_and_unpins(world: WebWorld, browser: Browser, *, script: bool) -> None:
    page = await signed_in(world, browser, "member", java_script_enabled=script)
    await page.goto("/p/mill")
    await page.locator("main").get_by_role("link", name="What is kept").click()
    await page.get_by_text("Pin an attribute or a store path").click()
    await page.get_by_label("Attribute or store path").last.fill("checks.a")
    await page.get_by_label("Why").fill("For the release")
    await page.get_by_label("Until").fill("30d")
    await page.get_by_role("button", name="Pin", exact=True).click()
    await page.wait_for_url("**/p/mill/roots#hand")
    ((_, _, what, reason, _, _),) = [given for call, given in world.office.calls if call == "pin"]
    assert (what, reason) == ("checks.a", "For the release")
    await page.get_by_role("button", name="Unpin").first.click()
    await page.wait_for_url("**/p/mill/roots#hand")
    assert [call for call, _ in world.office.calls if call == "unpin"] == ["unpin"]


async def test_a_branch_and_a_text_narrow_the_list(world: WebWorld, browser: Browser) -> None:
    page = await signed_in(world, browser, "viewer")
    await page.goto("/p/mill/roots")
    await page.get_by_role("link", name="stable").first.click()
    await expect(page.locator("section[aria-labelledby=pins] tbody tr")).to_have_count(1)
    await page.get_by_role("link", name="all branches").click()
    await page.get_by_label("Attribute or store path").fill("gone")
    await page.get_by_role("button", name="Find").click()
    await expect(page.locator("section[aria-labelledby=pins] tbody tr")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_it_can_be_read_everywhere(
    world: WebWorld, browser: Browser, scheme: Literal["light", "dark"], width: int
) -> None:
    page = await signed_in(world, browser, "root", color_scheme=scheme, viewport={"width": width, "height": 800})
    for path in PAGES:
        await page.goto(path)
        found = await page.evaluate(CONTRASTS)
        assert found["seen"] > 10
        assert found["poor"] == [], path
        overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, path
        assert await page.evaluate("window.broken") is None
