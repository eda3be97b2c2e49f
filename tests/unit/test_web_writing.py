"""How pages write times, names and statuses; addresses; what retries cost."""

import gzip
from urllib.parse import unquote

import msgspec
import pytest
from jinja2 import UndefinedError

from nixmill.core.access import Sight
from nixmill.core.run_event import Verdict
from nixmill.core.status import LOOK, Status
from nixmill.core.view.parts import Cause, Filter
from nixmill.engine import tails
from nixmill.nix.attr_path import parse
from nixmill.web import assets, retry_cost, urls, writing
from nixmill.web.pages_project import attribute_standing, home_sentence, home_status
from nixmill.web.pages_run import difference
from tests.fakes.logs import FakeLogs
from tests.fakes.pages import (
    HOSTILE,
    HOSTILE_TEXT,
    LONG,
    NOW,
    RTL,
    FakeProjectPages,
    FakeRunPages,
    causes,
    drv,
    pkg,
    run,
)


class _Clock:
    def now(self) -> float:
        return NOW


class _Site:
    clock = _Clock()


def render(template: str, /, **context: object) -> str:
    return writing.environment().from_string(template).render(site=_Site(), **context)


@pytest.mark.parametrize(
    ("distance", "said"),
    [
        (0, "just now"),
        (9.9, "just now"),
        (10, "10 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (3600, "1 h ago"),
        (26 * 3600, "1 d ago"),
        (-120, "in 2 min"),
        (40 * 86_400, "11 Oct 2026"),
    ],
)
def test_how_long_ago_is_said_as_people_do(distance: float, said: str) -> None:
    assert writing.ago(NOW - distance, NOW) == said


def test_a_time_is_machine_readable_exact_in_its_tooltip_and_relative_to_people() -> None:
    assert render("{{ at|when }}", at=NOW - 240) == (
        '<time datetime="2026-11-20T13:02:40Z" title="2026-11-20 13:02:40 UTC">4 min ago</time>'
    )
    assert "never" in render("{{ at|when }}", at=None)
    assert ">4 min 0 s</time>" in render("{{ at|since }}", at=NOW - 240)


@pytest.mark.parametrize("status", Status)
def test_a_status_is_shape_word_and_colour(status: Status) -> None:
    shown = writing.shown_status(status)
    assert shown.index(LOOK[status].glyph) < shown.rindex(LOOK[status].word)
    assert f"s-{writing.css(status)}" in shown
    assert LOOK[status].word in writing.glyph(status), "what reads pages aloud says the word"
    assert writing.favicon(status).startswith("data:image/svg+xml,")


def test_favicons_differ_by_shape() -> None:
    assert len({writing.favicon(status) for status in (*Status, None)}) == len(Status) + 1


def test_names_from_outside_are_data() -> None:
    shown = render("{{ a|attr }}{{ b|attr }}{{ text|name }}", a=HOSTILE, b=RTL, text=HOSTILE_TEXT)
    assert "<script" not in shown and "<img" not in shown
    assert "\u202e" not in shown and "\x1b" not in shown
    assert shown.count("<bdi") == 3


def test_a_very_long_name_keeps_its_ends_and_is_whole_in_its_tooltip() -> None:
    shown = str(writing.attr(LONG))
    assert f'title="packages.x86_64-linux.{"x" * 300}"' in shown
    assert len(shown) < 700
    assert "x" * 300 in writing.attr(LONG, whole=True).split(">", 1)[1]


def test_the_part_of_a_name_that_repeats_is_dimmed() -> None:
    assert writing.attr(pkg("foo"), "/x") == (
        '<a href="/x"><bdi class="n"><span class="dim">packages.x86_64-linux.</span><wbr>foo</bdi></a>'
    )
    assert "(root)" in writing.attr(())


def test_names_in_brackets_stand_back_in_a_verdict() -> None:
    assert writing.verdict("Failed: 2 failed (a<b, c).") == ('Failed: 2 failed<span class="names"> (a&lt;b, c)</span>.')
    assert writing.verdict("Passed & good.") == "Passed &amp; good."


def test_what_nix_says_in_lines_stands_in_lines() -> None:
    shown = writing.brief_lines("hash mismatch:\n  specified: <a>\n  got: b")
    assert shown == 'hash mismatch:<pre class="text">  specified: &lt;a&gt;\n  got: b</pre>'
    assert writing.brief_lines("") == ""


def test_siblings_share_what_stands_before_their_names() -> None:
    assert writing.siblings(["checks.a.b", 'checks.a."c.d"']) == (
        "checks.a.",
        [("checks.a.b", "b"), ('checks.a."c.d"', '"c.d"')],
    )
    assert writing.siblings(["a.b", "c.d"]) == ("", [("a.b", "a.b"), ("c.d", "c.d")])
    assert writing.siblings(['"never closed']) == ("", [('"never closed', '"never closed')])
    assert writing.siblings([]) == ("", [])


def test_what_a_cancelled_run_left_undone_is_nobodys_trouble() -> None:
    assert writing.filter_word(Filter.TROUBLE, Status.FAILED) == "our trouble"
    assert writing.filter_word(Filter.TROUBLE, Status.CANCELLED) == "cancelled"
    assert writing.filter_status(Filter.TROUBLE, Status.CANCELLED) is Status.CANCELLED


@pytest.mark.parametrize(
    ("machine", "said"), [("local", "this machine"), ("ssh-ng://ci@builder-2?x=1", "builder-2"), ("", "this machine")]
)
def test_a_machine_is_called_by_its_host(machine: str, said: str) -> None:
    assert writing.host(machine) == said


def test_what_a_template_does_not_have_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("{{ nothing }}")


@pytest.mark.parametrize(
    ("page", "pages", "links"),
    [
        (1, 1, [1]),
        (1, 3, [1, 2, 3]),
        (5, 9, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (50, 500, [1, 2, 0, 48, 49, 50, 51, 52, 0, 499, 500]),
    ],
)
def test_pages_have_numbers(page: int, pages: int, links: list[int]) -> None:
    assert writing.page_numbers(page, pages) == links


def test_a_page_has_its_twin() -> None:
    assert writing.twin("/r/1?show=failed") == "/r/1.json?show=failed"


@pytest.mark.parametrize(
    "path", [HOSTILE, RTL, LONG, ("a", ".."), ("..",), ("a/b", "%2F"), ("x", "json"), ("é", "?#&")]
)
def test_an_attribute_survives_its_address(path: tuple[str, ...]) -> None:
    address = urls.why(7, path)
    assert address.isascii() and not address.endswith(".json")
    assert address.count("/") == 4 and "?" not in address and "#" not in address
    assert parse(unquote(address.removeprefix("/r/7/why/"))) == path


def test_addresses_are_short_and_stable() -> None:
    assert urls.branch("mill", "refs/heads/feature/x") == "/p/mill/b/feature/x"
    assert urls.branch("mill", "refs/tags/v1", before=3) == "/p/mill/b/refs/tags/v1?before=3"
    assert urls.run(4, show="failed", find="") == "/r/4?show=failed"
    assert urls.run(4, size=0) == "/r/4?size=0"
    assert urls.attribute("mill", pkg("x"), "refs/heads/main") == "/p/mill/a/packages.x86_64-linux.x?ref=main"
    assert urls.derivation(drv("a+b")).endswith("-a+b.drv")
    assert urls.log(7, "L1-L2") == "/log/7#L1-L2"


def test_static_files_keep_their_budget() -> None:
    assert len(gzip.compress(assets.style().encode())) <= 20 * 1024
    assert len(gzip.compress(assets.read("nixmill.js"))) <= 15 * 1024
    assert len(assets.read("nixmill.js")) <= 15 * 1024, "even as it stands"
    assert "/*" not in assets.style() and "<" not in assets.style()
    assert assets.style_source().startswith("'sha256-")


async def test_a_retry_says_what_it_costs() -> None:
    counts = {Filter.ALL.value: 228, Filter.FAILED.value: 42, Filter.TROUBLE.value: 0}
    cost = await retry_cost.cost(FakeRunPages(), Sight(), run(412, Verdict.BUILD_FAILED, counts=counts))
    assert cost.failed == "tries 4 failed builds again, about 1 h 10 min"
    assert cost.anyway == "looks at all 228 attributes again"
    assert cost.evaluate.startswith("evaluates again, then builds what is missing, about ")
    good = await retry_cost.cost(FakeRunPages(), Sight(), run(411, counts={"all": 3}))
    assert good.failed == ""
    skipped = await retry_cost.cost(FakeRunPages(), Sight(), run(411, counts={}))
    assert skipped.anyway == "looks at every attribute"
    many = run(411, counts={"all": 90_000, "failed": 50_000})
    assert (await retry_cost.cost(FakeRunPages(), Sight(), many)).failed == "tries 50,000 failed attributes again"


async def test_root_causes_get_the_last_lines_of_their_logs() -> None:
    logs = FakeLogs()
    sink = logs.open(9001)
    for at in range(500):
        sink.write(f"line {at} é")
    sink.write("")
    first, *others = await tails.filled(logs, causes())
    assert first.tail == tuple(f"line {at} é" for at in range(490, 500))
    assert [cause.tail for cause in others] == [(), ()]
    told: Cause = msgspec.structs.replace(causes()[0], tail=("known",))
    assert (await tails.filled(logs, [told]))[0].tail == ("known",)


async def test_home_says_how_things_stand_in_one_sentence() -> None:
    page = await FakeProjectPages().home(Sight())
    assert home_sentence(page) == "1 of 2 default branches is broken; 2 runs on the way."
    assert home_status(page) is Status.FAILED
    calm = msgspec.structs.replace(page, broken=(), running=())
    assert home_sentence(calm) == "No default branch is broken."
    assert home_status(calm) is Status.PASSED
    assert home_sentence(msgspec.structs.replace(calm, projects=())) == "No project yet."


async def test_an_attribute_says_since_when() -> None:
    page = await FakeProjectPages().attribute(Sight(), "mill", "main", pkg("libfoo"), None)
    assert page is not None
    said, began = attribute_standing(page)
    assert said == "Failing since" and began is not None and began.number == 411
    good = msgspec.structs.replace(page, runs=page.runs[2:])
    assert attribute_standing(good)[0] == "Good in all 18 runs shown"
    assert attribute_standing(msgspec.structs.replace(page, runs=()))[1] is None


async def test_a_comparison_says_what_differs() -> None:
    page = await FakeRunPages().compare(Sight(), 410, 412, 1, 200)
    assert page is not None
    assert difference(page) == "40 newly failing, 1 fixed, 2 changed, 1 new, 2 removed; 184 the same."
    assert difference(msgspec.structs.replace(page, counts={"same": 3})) == "Nothing differs; 3 the same."
