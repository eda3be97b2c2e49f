"""Home, projects, branches, attributes, evaluations and comparisons in a real browser."""

import gzip
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from nixmill.core.access import Viewer
from nixmill.core.view.pages import ChecklistItem
from nixmill.core.view.parts import Filter
from nixmill.engine.live import run_topic
from nixmill.web import urls
from tests.fakes.pages import HOSTILE, LONG, RTL, line, pkg
from tests.support.browser import CannedHouse, chromium, serving, visit

PAGES: Final = {
    "home": "/",
    "project": "/p/mill",
    "branch": "/p/mill/b/main",
    "attribute": "/p/mill/a/packages.x86_64-linux.libfoo",
    "evaluation": "/r/412",
    "all": "/r/412?show=all&page=2",
    "building": "/r/413",
    "compare": "/compare/410/412",
}
# What a page looks like to somebody: the contrast of every piece of text with what is behind it.
CONTRASTS: Final = """() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return { r, g, b, a }; };
  const light = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.a === 1) return colour;
    }
    return parse("rgb(255, 255, 255)");
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const front = light(parse(element.namespaceURI.includes("svg") ? style.fill : style.color));
    const back = light(behind(element));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    seen += 1;
    const said = walker.currentNode.textContent.trim().slice(0, 30);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${element.tagName}.${element.className} ${said}`);
  }
  return { seen, poor };
}"""
# An event source that a test speaks through.
SPEAKING: Final = """
  window.sources = [];
  window.EventSource = class {
    constructor(address) { this.address = String(address); this.heard = {}; window.sources.push(this); }
    addEventListener(kind, act) { this.heard[kind] = act; }
    close() { this.closed = true; }
    say(kind, data, id) { this.heard[kind]({ data: JSON.stringify(data || {}), lastEventId: id || "" }); }
  };
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def house() -> CannedHouse:
    return CannedHouse()


@pytest.fixture
def address(house: CannedHouse) -> Iterator[str]:
    with serving(house) as made:
        yield made


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """Somebody who may retry, with scripts; mistakes of scripts fail the test."""
    mistakes: list[str] = []
    with visit(browser, address, signed_in=True, viewport={"width": 1280, "height": 900}) as context:
        context.add_init_script(SPEAKING)
        made = context.new_page()
        made.on("pageerror", lambda error: mistakes.append(str(error)))
        made.on("console", lambda message: mistakes.append(message.text) if message.type == "error" else None)
        yield made
    assert mistakes == []


def fetch(address: str, **headers: str) -> tuple[bytes, Any]:
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 - our own server
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return answer.read(), answer.headers


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_both_schemes(
    browser: Browser, address: str, name: str, scheme: Literal["light", "dark"], tmp_path: Path
) -> None:
    with visit(browser, address, signed_in=True, color_scheme=scheme, reduced_motion="reduce") as context:
        made = context.new_page()
        made.goto(PAGES[name])
        found = made.evaluate(CONTRASTS)
        made.screenshot(path=tmp_path / f"{name}-{scheme}.png", full_page=True)
        dark = made.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(17, 21, 26)"
    assert found["seen"] > 20
    assert found["poor"] == []
    assert dark is (scheme == "dark")


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_needs_no_scrolling_sideways(browser: Browser, address: str, name: str) -> None:
    with visit(browser, address, viewport={"width": 360, "height": 740}) as context:
        made = context.new_page()
        made.goto(PAGES[name])
        assert made.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_complete_and_valid_without_scripts(browser: Browser, address: str, name: str) -> None:
    with visit(browser, address, signed_in=True, java_script_enabled=False) as context:
        made = context.new_page()
        answer = made.goto(PAGES[name])
        assert answer is not None and answer.status == 200
        assert made.locator("h1").count() == 1
        assert made.locator("main").count() == 1 and made.locator("header nav").count() == 1
        assert made.locator("[style]").count() == 0
        made.keyboard.press("Tab")
        expect(made.locator(".skip")).to_be_focused()
        ids = re.findall(r' id="([^"]*)"', made.content())
        assert len(ids) == len(set(ids))


def test_the_verdict_is_first_then_counts_causes_table(browser: Browser, address: str) -> None:
    with visit(browser, address, java_script_enabled=False) as context:
        made = context.new_page()
        made.goto("/r/412")
        assert made.title().startswith("✖ ")
        expect(made.locator("h1")).to_contain_text("Failed after 4 min 12 s: libfoo-2.3 and zstd-check failed")
        text = made.locator("main").inner_text()
        order = [text.index(part) for part in ("Failed after", "newly failing", "Root causes", "Attributes: different")]
        assert order == sorted(order)
        cause = made.locator(".cause").first
        expect(cause).to_contain_text("37 more attributes fail because of it")
        expect(cause.locator("pre")).to_contain_text("foo.c:12:5: error: expected ';'")
        expect(cause.get_by_role("link", name="log")).to_have_attribute("href", "/log/9001")
        expect(cause.get_by_role("link", name="why")).to_have_attribute(
            "href", "/r/412/why/packages.x86_64-linux.libfoo"
        )


def test_filters_are_links_with_counts(browser: Browser, address: str) -> None:
    with visit(browser, address, java_script_enabled=False) as context:
        made = context.new_page()
        made.goto("/r/412")
        filters = made.get_by_role("navigation", name="Which attributes")
        expect(filters.locator("[aria-current]")).to_have_text(re.compile("47 different"))
        filters.get_by_role("link", name="2 removed").click()
        assert made.url.endswith("/r/412?show=removed")
        expect(made.locator("[data-part=table] tbody tr")).to_have_count(2)
        expect(made.locator("[data-part=table]")).to_contain_text("now packages.x86_64-linux.newname")
        filters.get_by_role("link", name="228 all").click()
        expect(made.locator("[data-part=table] tbody tr")).to_have_count(200)
        made.get_by_role("link", name="next ›").click()
        expect(made.locator("[data-part=table] tbody tr")).to_have_count(28)
        made.get_by_role("link", name="all 228").click()
        expect(made.locator("[data-part=table] tbody tr")).to_have_count(228)
        expect(made.locator(".pages")).to_contain_text("all 228 shown")
        made.get_by_label("Find attributes by name").fill("victim-1")
        made.get_by_role("button", name="Find").click()
        expect(made.locator("[data-part=table] tbody tr")).to_have_count(10)
        made.get_by_label("Find attributes by name").fill("<nothing>")
        made.get_by_role("button", name="Find").click()
        expect(made.locator(".empty")).to_contain_text("No attribute here has <nothing> in its name")


def test_hostile_names_are_data(page: Page, house: CannedHouse) -> None:
    page.goto("/r/412")
    assert page.evaluate("document.querySelectorAll('main script, main img').length") == 0
    for path in (HOSTILE, RTL, LONG):
        row = page.locator("[data-part=table] tr", has=page.locator(f'a[href="{urls.why(412, path)}"]'))
        expect(row).to_have_count(1)
    text = page.locator("main").inner_text()
    assert '<script>alert(\\"1\\")</script>' in text and "\u202e" not in text and "\x1b" not in text
    rtl = page.locator("bdi", has_text="evil").first
    assert rtl.evaluate("e => getComputedStyle(e).unicodeBidi") == "isolate"


def test_a_hostile_name_leads_to_its_own_page(page: Page) -> None:
    for path in (HOSTILE, RTL, LONG, ("packages", "a/b", "json"), ("..",)):
        page.goto(urls.attribute("mill", path, "main"))
        expect(page.locator("h1")).to_be_visible()
        assert page.locator("h1 .n").inner_text().replace("\n", "") != ""


def test_buttons_are_forms_that_say_what_they_cost_for_those_who_may(
    browser: Browser, address: str, house: CannedHouse, page: Page
) -> None:
    page.goto("/r/412")
    form = page.locator("form", has=page.get_by_role("button", name="Retry failed"))
    expect(form).to_have_attribute("method", "post")
    expect(form).to_have_attribute("action", "/r/412/retry")
    assert form.locator("input[name=csrf]").input_value()
    expect(form.locator("input[name=what]")).to_have_value("failed")
    expect(page.locator("[data-part=acts]")).to_contain_text("tries 4 failed builds again, about 1 h 10 min")
    page.get_by_text("More ways to try again").click()
    expect(page.get_by_role("button", name="Run anyway")).to_be_visible()
    page.goto("/r/413")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(page.get_by_role("button", name="Retry failed")).to_have_count(0)
    house.accounts.who = Viewer(user=2, name="eve")
    for path in ("/r/412", "/r/413", "/p/mill", "/p/mill/b/main"):
        page.goto(path)
        expect(page.locator("main form[method=post]")).to_have_count(0)
    with visit(browser, address) as context:
        made = context.new_page()
        made.goto("/r/412")
        expect(made.locator("form[method=post]")).to_have_count(0)
        expect(made.get_by_role("link", name="Sign in")).to_be_visible()


def test_keys(page: Page) -> None:
    page.goto("/r/412")
    page.keyboard.press("/")
    expect(page.get_by_label("Find attributes by name")).to_be_focused()
    page.keyboard.type("f?")
    expect(page.get_by_label("Find attributes by name")).to_have_value("f?")
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    expect(page.locator(".cause").first).to_be_focused()
    for _ in range(3):
        page.keyboard.press("f")
    expect(page.locator("tr.at")).to_contain_text("libfoo")
    page.keyboard.press("j")
    expect(page.locator("tr.at")).to_contain_text("zstd")
    page.keyboard.press("k")
    expect(page.locator("tr.at")).to_contain_text("libfoo")
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    page.route("**/why/**", lambda route: route.fulfill(body="why", content_type="text/html"))
    with page.expect_navigation(url=re.compile("/r/412/why/")):
        page.keyboard.press("Enter")


def test_a_running_evaluation_swaps_what_changed_and_nothing_else(page: Page, house: CannedHouse) -> None:
    house.runs.done = 10
    page.goto("/r/413?show=all")
    expect(page.locator("h1")).to_have_text(re.compile("Building: 10 of 120 attributes done"))
    expect(page.locator("main")).to_contain_text("Waits for builder-2 (kvm)")
    for _ in range(20):
        page.keyboard.press("j")
    focused = page.evaluate("document.activeElement.href")
    page.evaluate("document.querySelector('[data-part=causes]').dataset.kept = 'yes'; scrollTo(0, 300)")
    house.runs.done = 90
    page.evaluate("sources[0].say('changed', {state: 'building'})")
    expect(page.locator("h1")).to_have_text(re.compile("Building: 90 of 120 attributes done"))
    expect(page.locator("svg.progress")).to_have_attribute("aria-label", "90 of 120 done")
    assert page.evaluate("document.activeElement.href") == focused
    assert page.evaluate("scrollY") == 300
    assert page.evaluate("document.querySelector('[data-part=causes]').dataset.kept") == "yes"
    assert page.title().startswith("▶ ")
    icon = page.locator("link[rel=icon]").get_attribute("href")
    house.runs.ended = True
    page.evaluate("sources[0].say('ended')")
    expect(page.locator("h1")).to_contain_text("Passed after")
    expect(page).to_have_title(re.compile("^✔ "))
    assert page.locator("link[rel=icon]").get_attribute("href") != icon
    assert page.evaluate("sources[0].closed")


def test_a_page_listens_to_its_own_address(browser: Browser, address: str, house: CannedHouse) -> None:
    house.runs.done = 10
    with visit(browser, address) as context:
        made = context.new_page()
        asked: list[str] = []
        made.on("request", lambda request: asked.append(request.resource_type))
        with made.expect_request(lambda request: request.resource_type == "eventsource"):
            made.goto("/r/413")
        made.wait_for_function("performance.getEntriesByType('resource').length >= 1")
        for done in (50, 80):
            house.runs.done = done
            house.tell(run_topic(413))
            expect(made.locator("h1")).to_contain_text(f"{done} of 120 attributes done")
        house.runs.ended = True
        house.tell(run_topic(413), ended=True)
        expect(made.locator("h1")).to_contain_text("Passed after")
        assert asked.count("eventsource") == 1
        assert asked.count("fetch") <= 3, "the first event, which says what the page says, asks for nothing"


def test_a_refresh_without_changes_touches_nothing(page: Page) -> None:
    page.goto("/")
    page.evaluate("""window.changes = 0; new MutationObserver(() => changes++)
        .observe(document.querySelector('main'), {childList: true, subtree: true})""")
    with page.expect_response(lambda answer: answer.url.endswith("/")):
        page.evaluate("sources[0].say('changed'); sources[0].say('changed')")
    page.wait_for_function(
        "performance.getEntriesByType('resource').some(e => e.initiatorType === 'fetch' && e.responseEnd)"
    )
    assert page.evaluate("new Promise(done => requestAnimationFrame(() => done(changes)))") == 0


def test_a_log_grows_and_is_followed_until_somebody_scrolls_up(page: Page, address: str) -> None:
    rows = "".join(
        f'<div class="l" id="L{at}"><a href="#L{at}">{at}</a><span>line {at}</span></div>' for at in range(1, 101)
    )
    script = next(iter(re.findall(r'src="(/static/nixmill\.js[^"]*)"', fetch(f"{address}/")[0].decode())))
    body = (
        '<!doctype html><body><button data-follow hidden>Follow</button><div class="log" data-log="/log/7?as=html"'
        f' data-offset="999" data-running><div data-log-rows>{rows}</div></div><script src="{script}"></script>'
    )
    page.route("**/canned-log", lambda route: route.fulfill(body=body, content_type="text/html"))
    page.goto("/canned-log")
    assert page.evaluate("sources[0].address").endswith("/log/7?as=html&offset=999")
    at_end = "document.documentElement.scrollHeight - innerHeight - scrollY < 5"
    page.wait_for_function(at_end)
    more = [f'<div class="l" id="L{at}"><a href="#L{at}">{at}</a><span>more</span></div>' for at in range(101, 141)]
    page.evaluate("html => sources[0].say('lines', {html})", "".join(more))
    page.wait_for_function(f"document.querySelectorAll('.l').length === 140 && {at_end}")
    page.mouse.wheel(0, -600)
    expect(page.locator("[data-follow]")).to_have_attribute("aria-pressed", "false")
    before = page.evaluate("scrollY")
    page.evaluate("html => sources[0].say('lines', {html})", more[0] * 20)
    assert page.evaluate("scrollY") == before
    page.locator("[data-follow]").click()
    page.wait_for_function(at_end)
    page.evaluate("sources[0].say('lines', {html: ''}, '2345')")
    page.evaluate(AWAY, arg=True)
    page.evaluate(AWAY, arg=False)
    assert page.evaluate("sources.map(s => [s.address.split('?')[1], !!s.closed])") == [
        ["as=html&offset=999", True],
        ["as=html&offset=2345", False],
    ]
    page.evaluate("location.hash = '#L10-L12'")
    expect(page.locator(".lit")).to_have_count(3)
    page.locator("#L15 > a").click(modifiers=["Shift"])
    expect(page.locator(".lit")).to_have_count(6)
    assert page.evaluate("location.hash") == "#L10-L15"


AWAY: Final = """away => {
  Object.defineProperty(document, 'hidden', { value: away, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
}"""


def test_a_tab_that_nobody_sees_holds_no_connection(page: Page, house: CannedHouse) -> None:
    page.goto("/r/413")
    page.evaluate(AWAY, arg=True)
    assert page.evaluate("sources.map(s => !!s.closed)") == [True]
    house.runs.done = 60
    page.evaluate(AWAY, arg=False)
    expect(page.locator("h1")).to_contain_text("60 of 120 attributes done")
    assert page.evaluate("sources.map(s => !!s.closed)") == [True, False]


def test_home_shows_what_needs_somebody_what_is_broken_what_runs(page: Page, house: CannedHouse) -> None:
    page.goto("/")
    expect(page.locator("h1")).to_contain_text("1 of 2 default branches is broken; 2 runs on the way.")
    expect(page.locator("[data-part=needs]")).to_contain_text("builder-3 has not answered")
    broken = page.locator("[data-part=broken]")
    expect(broken).to_contain_text("failing since run 411, 4 h ago")
    expect(broken).to_contain_text("last good run 410, 5 h ago")
    expect(broken.get_by_role("link", name="what changed since")).to_have_attribute("href", "/compare/410/412")
    expect(page.locator("[data-part=running]")).to_contain_text("70 of 120, 2 failed")
    squares = page.locator("[data-part=projects] tr", has_text="mill").locator(".strip a")
    expect(squares).to_have_count(20)
    expect(squares.last).to_have_attribute("href", "/r/412")
    expect(squares.last).to_have_text(re.compile("✖"))
    expect(page.locator("main")).not_to_contain_text("Setting up")


def test_a_new_installation_begins_with_a_checklist(page: Page, house: CannedHouse) -> None:
    house.accounts.who = Viewer(user=1, name="ada", admin=True)
    house.office.steps = (
        ChecklistItem(done=True, title="Nix answers", hint="Nix 2.34 as a daemon."),
        ChecklistItem(done=False, title="Add a project", hint="A repository that is watched.", link="/p/new"),
    )
    page.goto("/")
    expect(page.locator("ol.check li")).to_have_count(2)
    expect(page.get_by_role("heading", name="Projects")).to_be_visible()
    expect(page.get_by_role("link", name="Add a project").first).to_have_attribute("href", "/p/new")
    expect(page.get_by_role("link", name="Admin")).to_be_visible()


def test_a_branch_has_charts_with_their_data(page: Page) -> None:
    page.goto("/p/mill/b/main")
    charts = page.locator(".chart")
    expect(charts).to_have_count(2)
    expect(charts.first.locator("table")).to_be_hidden()
    charts.first.locator("summary").click()
    expect(charts.first.locator("tbody tr")).to_have_count(40)
    page.get_by_role("link", name="Older ›").click()
    assert page.url.endswith("/p/mill/b/main?before=392")
    page.goto("/p/mill/b/feature/x")
    expect(page.locator("h1")).to_contain_text("feature/x")


def test_any_two_runs_can_be_compared(browser: Browser, address: str) -> None:
    with visit(browser, address, java_script_enabled=False) as context:
        made = context.new_page()
        made.goto("/p/mill/b/main")
        made.get_by_label("Compare run").fill("405")
        made.get_by_role("button", name="Compare").click()
        assert made.url.endswith("/compare/405/412")
        expect(made.locator("h1")).to_have_text("40 newly failing, 1 fixed, 2 changed, 1 new, 2 removed; 184 the same.")
        made.get_by_role("link", name="the other way round").click()
        assert made.url.endswith("/compare/412/405")


@pytest.mark.parametrize(
    "path", ["/r/999", "/r/99999999999999999999", "/p/nobody", "/p/mill/b/none", "/p/mill/a/a..b", "/compare/1/999"]
)
def test_what_is_not_there_is_404(page: Page, path: str) -> None:
    assert page.request.get(path).status == 404


@pytest.mark.parametrize("query", ["show=nonsense", "page=0", "size=-1", "page=99999999999999999999", "size=5000"])
def test_a_query_that_makes_no_sense_is_refused_in_a_sentence(page: Page, query: str) -> None:
    answer = page.request.get(f"/r/412?{query}")
    assert answer.status == 400
    assert "Traceback" not in answer.text()


@pytest.mark.parametrize("name", PAGES)
def test_the_twin_is_the_struct(address: str, name: str) -> None:
    path, _, query = PAGES[name].partition("?")
    body, headers = fetch(f"{address}{path}?{query}", Accept="application/json")
    assert headers["content-type"] == "application/json"
    assert isinstance(msgspec.json.decode(body), dict)
    if path != "/":
        assert fetch(f"{address}{path}.json?{query}")[0] == body


def test_a_page_of_200_attributes_keeps_its_budget(address: str, house: CannedHouse) -> None:
    house.runs.attributes = [line(pkg(f"some-package-{at * 7919 % 1000:03}-1.{at}")) for at in range(200)]
    body, headers = fetch(f"{address}/r/412?show=all", **{"Accept-Encoding": "gzip"})
    assert headers["content-encoding"] == "gzip"
    text = gzip.decompress(body).decode()
    assert text.count("<tr data-row") == 200
    assert len(body) <= 40 * 1024
    assert Filter.ALL in text


def test_two_requests_cold_one_warm(browser: Browser, address: str) -> None:
    loaded = "performance.getEntriesByType('resource').map(e => [e.name.split('/').pop(), e.transferSize])"
    with visit(browser, address) as context:
        made = context.new_page()
        asked: list[str] = []
        made.on("request", lambda request: asked.append(request.url) if request.url.startswith("http") else None)
        made.goto("/r/412", wait_until="networkidle")
        assert len(asked) == 2, asked
        made.goto("/r/412?show=all", wait_until="networkidle")
        assert [size for name, size in made.evaluate(loaded)] == [0], "the script comes out of the cache"


def test_motion_is_only_for_those_who_like_it(browser: Browser, address: str) -> None:
    name = "getComputedStyle(document.querySelector('.g.s-running')).animationName"
    for motion, expected in (("reduce", "none"), ("no-preference", "pulse")):
        with visit(browser, address, reduced_motion=motion) as context:
            made = context.new_page()
            made.goto("/r/413")
            assert made.evaluate(name) == expected


def test_the_head_of_a_table_stays_in_view(page: Page) -> None:
    page.goto("/r/412?show=all")
    page.mouse.wheel(0, 2500)
    head = page.locator("[data-part=table] thead th").first
    page.wait_for_function("scrollY > 2000")
    assert head.evaluate("e => Math.round(e.getBoundingClientRect().top)") == 0
