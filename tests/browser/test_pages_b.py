"""Logs, queue, timeline and search in a real browser: live, by keyboard, without a script, in light and dark."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from nixmill.edge.log_files import LogFiles
from nixmill.engine.live import log_topic
from tests.fakes.pages import drv
from tests.fakes.pages_b import (
    HOOK_ID,
    BusyOffice,
    FakeBuildPages,
    FakeHookRunner,
    FindingPages,
    FullAdminPages,
    TimedRunPages,
    tried,
)
from tests.support.browser import CHROMIUM
from tests.support.web import PASSWORD, WebWorld, web_world

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium here")

COLOURED: Final = [
    *(f"\x1b[{code}mcolour {code}\x1b[0m" for code in (*range(30, 38), *range(90, 98), 7)),
    *(
        f"\x1b[{text};{ground}mboth\x1b[0m"
        for text in (30, 31, 37, 97)
        for ground in (*range(40, 48), *range(100, 108))
    ),
]
PAGES: Final = [
    "/log/1",
    f"/d/{drv('libfoo-2.3').rpartition('/')[2]}",
    "/r/412/why/packages.x86_64-linux.libfoo",
    "/r/412/timeline",
    "/queue",
    "/machines",
    "/search?q=lib",
    "/admin",
    "/admin/audit",
    "/admin/deliveries",
    "/admin/retention",
    f"/hooks/{HOOK_ID}/log",
]


@dataclass
class House:
    web: WebWorld
    logs: LogFiles
    builds: FakeBuildPages
    browser: Browser

    async def page(self, scheme: Literal["light", "dark"] = "light") -> Page:
        """Return a new window of an administrator."""
        context = await self.browser.new_context(viewport={"width": 1280, "height": 700}, color_scheme=scheme)
        page = await context.new_page()
        await page.goto(f"{self.web.url}/sign-in")
        await page.fill("input[name=name]", "anna")
        await page.fill("input[name=password]", PASSWORD)
        await page.click("main button")
        return page

    def tell(self, attempt: int, *, ended: bool = False) -> None:
        self.web.site.live.tell(log_topic(attempt), ended=ended)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    builds = FakeBuildPages(tried(1), tried(2), tried(3, outcome=None))
    logs = LogFiles(tmp_path / "logs")
    doors: dict[str, Any] = {
        "office": BusyOffice(),
        "run_pages": TimedRunPages(),
        "project_pages": FindingPages(),
        "admin_pages": FullAdminPages(),
        "hook_runner": FakeHookRunner(tmp_path),
    }
    async with web_world(build_pages=builds, logs=logs, **doors) as web, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        await web.user("anna", admin=True)
        await web.project("mill")
        yield House(web, logs, builds, browser)
        await browser.close()
    await logs.close()


async def write(house: House, attempt: int, *lines: str) -> None:
    sink = house.logs.open(attempt)
    for line in lines:
        sink.write(line)
    await sink.close()


async def at_end(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollHeight - innerHeight - scrollY < 40"))


async def test_a_log_grows_in_front_of_the_reader(house: House) -> None:
    sink = house.logs.open(3)
    for at in range(100):
        sink.write(f"line {at}")
    page = await house.page()
    await page.goto(f"{house.web.url}/log/3")
    await expect(page.locator("#L100")).to_be_in_viewport()
    follow = page.locator("[data-follow]")
    await expect(follow).to_have_text("Following ▾")

    sink.write("Running phase: checkPhase")
    sink.write("\x1b[31mnew <b>line</b>\x1b[0m")
    house.tell(3)
    await expect(page.locator("#L102")).to_be_in_viewport()
    await expect(page.locator("#L102 .a31")).to_have_text("new <b>line</b>")
    await expect(page.locator("details summary", has_text="checkPhase")).to_be_visible()

    await page.mouse.move(600, 300)
    await page.mouse.wheel(0, -800)
    await expect(follow).to_have_attribute("aria-pressed", "false")
    sink.write("while away")
    house.tell(3)
    await expect(page.locator("#L103")).to_have_count(1)
    assert not await at_end(page)

    await follow.click()
    await expect(page.locator("#L103")).to_be_in_viewport()
    await sink.close()
    house.builds.end(3)
    house.tell(3, ended=True)
    await expect(page.locator("[data-part=verdict]")).to_contain_text("succeeded")
    await expect(follow).to_be_hidden()


async def test_the_browser_finds_every_line(house: House) -> None:
    await write(house, 1, *(f"line {at} end" for at in range(1, 1500)))
    page = await house.page()
    await page.goto(f"{house.web.url}/log/1")
    assert await page.evaluate("window.find('line 1234 end')")


async def test_a_range_that_is_elsewhere_in_the_log_is_found_and_lit(house: House) -> None:
    await write(house, 1, *(f"line {at}" for at in range(1, 6001)))
    page = await house.page()
    await page.goto(f"{house.web.url}/log/1#L100-L102")
    await expect(page.locator(".l.lit")).to_have_count(3)
    await expect(page.locator("#L100")).to_be_in_viewport()
    await page.locator("#L105 > a").click(modifiers=["Shift"])
    assert page.url.endswith("#L100-L105")
    await expect(page.locator(".l.lit")).to_have_count(6)


async def test_f_goes_to_the_error(house: House) -> None:
    await write(house, 1, "building", *["fine"] * 200, "x.c:1:1: error: no", *["fine"] * 200)
    page = await house.page()
    await page.goto(f"{house.web.url}/log/1")
    await page.keyboard.press("f")
    await expect(page.locator("#L202")).to_be_in_viewport()


async def test_everything_is_there_without_a_script(house: House) -> None:
    await write(house, 1, "building", "x.c:1:1: error: no")
    context = await house.browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(f"{house.web.url}/log/1")
    await expect(page.locator("#L2")).to_be_visible()
    await page.get_by_role("link", name="Go to the error, line 2").click()
    assert page.url.endswith("/log/1#L2")
    await page.goto(f"{house.web.url}/search")
    await page.locator("main input[type=search]").fill("lib")
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_contain_text("3 things found")
    await page.goto(f"{house.web.url}/queue")
    await expect(page.locator("main")).to_contain_text("needs kvm")


async def test_the_timeline_can_be_walked_by_keyboard(house: House) -> None:
    page = await house.page()
    await page.goto(f"{house.web.url}/r/412/timeline")
    bar = page.locator(".gantt a").first
    await bar.focus()
    href = await bar.get_attribute("href")
    await expect(page.locator(".gantt a.critical")).not_to_have_count(0)
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**{href}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_colours_of_a_log_can_be_read(house: House, scheme: Literal["light", "dark"]) -> None:
    await write(house, 1, *COLOURED)
    page = await house.page(scheme)
    await page.goto(f"{house.web.url}/log/1")
    poor = await page.evaluate(CONTRASTS)
    assert poor == []


@pytest.mark.parametrize("width", [1280, 390])
async def test_no_page_makes_a_fault_in_the_console_or_scrolls_sideways(house: House, width: int) -> None:
    await write(house, 1, "building", "x" * 3000)
    page = await house.page()
    await page.set_viewport_size({"width": width, "height": 800})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security" in said.text else None)
    for path in PAGES:
        await page.goto(f"{house.web.url}{path}")
        wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, path
        assert await page.locator("h1").count() == 1, path
    assert faults == []


CONTRASTS: Final = """() => {
  const parts = (text) => {
    const found = text.match(/[0-9.]+/g).map(Number);
    const rgb = text.startsWith("color(") ? found.slice(0, 3).map((x) => x * 255) : found.slice(0, 3);
    return [rgb, found.length > 3 ? found[3] : 1];
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((x) => x / 255).map((x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [rgb, alpha] = parts(getComputedStyle(at).backgroundColor);
      if (alpha === 1) return rgb;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll(".log .l > a, .log .l span span, .log summary, .log summary span")) {
    const [a, b] = [light(parts(getComputedStyle(element).color)[0]), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${element.className} ${element.textContent} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
