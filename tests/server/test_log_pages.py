"""Log pages over real HTTP with real log files: windows, links, hostile text, raw text, and following."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nixmill.core.access import Visibility
from nixmill.core.outcome import Outcome
from nixmill.edge.log_files import LogFiles
from nixmill.engine.live import log_topic
from tests.fakes.pages import link
from tests.fakes.pages_b import FakeBuildPages, tried
from tests.support.web import Browser, WebWorld, web_world

DEADLINE_S = 20.0


@dataclass
class LogWorld:
    web: WebWorld
    logs: LogFiles
    builds: FakeBuildPages
    browser: Browser

    async def write(self, attempt: int, *lines: str) -> None:
        """Write a whole log."""
        sink = self.logs.open(attempt)
        for line in lines:
            sink.write(line)
        await sink.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LogWorld]:
    secret = link("secret", 2, Visibility.PRIVATE)
    builds = FakeBuildPages(
        tried(1), tried(2), tried(3, outcome=None), tried(4, outcome=Outcome.SUCCEEDED), tried(5, project=secret)
    )
    logs = LogFiles(tmp_path)
    async with web_world(build_pages=builds, logs=logs) as web:
        yield LogWorld(web, logs, builds, await web.browser())
    await logs.close()


def numbers(text: str) -> list[int]:
    """Return the numbers of the rows of a page."""
    return [int(number) for number in re.findall(r'<div class="l[^"]*" id="L(\d+)">', text)]


async def test_rows_stand_in_the_page_by_phase_and_the_error_is_linked(world: LogWorld) -> None:
    await world.write(1, "unpacking", "Running phase: buildPhase", "cc a.c", "a.c:1:2: error: no", "done")
    page = (await world.browser.get("/log/1")).text
    assert numbers(page) == [1, 2, 3, 4, 5]
    assert '<summary><span class="n">buildPhase</span> <span class="dim">line 2</span></summary>' in page
    assert 'href="#L4">Go to the error, line 4</a>' in page
    assert '<div class="l err" id="L4">' in page
    assert "data-running" not in page


async def test_hostile_lines_stay_text(world: LogWorld) -> None:
    await world.write(
        1, "<script>alert(1)</script>", "</div></details><img src=x onerror=alert(1)>", "\x1b]0;x\x07ok\x00"
    )
    page = (await world.browser.get("/log/1")).text
    assert "<script>alert" not in page and "<img" not in page
    assert "&lt;/div&gt;&lt;/details&gt;&lt;img src=x" in page
    assert "<span>ok⟨U+0000⟩</span>" in page


async def test_a_long_log_shows_its_tail_and_the_way_to_the_rest(world: LogWorld) -> None:
    await world.write(1, *(f"line {at}" for at in range(1, 5001)))
    tail = (await world.browser.get("/log/1")).text
    assert numbers(tail) == list(range(3001, 5001))
    assert "Lines 3,001 to 5,000 of 5,000" in tail
    assert "/log/1?from=1001#L3000" in tail
    first = (await world.browser.get("/log/1", params={"from": 1})).text
    assert numbers(first) == list(range(1, 2001))
    assert numbers((await world.browser.get("/log/1?all")).text) == list(range(1, 5001))
    assert numbers((await world.browser.get("/log/1", params={"from": 9999})).text) == [5000]


async def test_a_link_to_lines_works_without_a_script(world: LogWorld) -> None:
    await world.write(1, *(f"line {at}" for at in range(1, 5001)))
    page = (await world.browser.get("/log/1", params={"line": "L100-L102"})).text
    assert numbers(page)[0] == 80
    assert re.findall(r'class="l lit" id="L(\d+)"', page) == ["100", "101", "102"]
    assert (await world.browser.get("/log/1", params={"line": "x"})).status_code == 200


async def test_a_huge_log_makes_a_page_of_bounded_size(world: LogWorld) -> None:
    await world.write(1, *("x" * 100_000 for _ in range(60)), *("\x1b[31m'\x1b[32m'\0" * 3000 for _ in range(80)))
    for query in ("", "?all"):
        page = (await world.browser.get(f"/log/1{query}")).text
        assert len(page) < 5_000_000
        assert "[line cut]" in page or query == ""


async def test_a_line_of_progress_shows_its_last_state(world: LogWorld) -> None:
    await world.write(1, "\r".join(f"{at} of 50000" for at in range(50_001)))
    assert "<span>50000 of 50000</span>" in (await world.browser.get("/log/1")).text


async def test_an_attempt_without_lines_says_so(world: LogWorld) -> None:
    assert "Its log is no longer kept." in (await world.browser.get("/log/4")).text
    assert "It has written nothing yet." in (await world.browser.get("/log/3")).text


async def test_what_may_not_be_seen_is_not_there(world: LogWorld) -> None:
    await world.write(5, "secret")
    for path in ("/log/5", "/log/5/raw", "/log/77", "/log/x", f"/log/{10**30}"):
        assert (await world.browser.get(path)).status_code == 404
    events = await world.browser.get("/log/5", headers={"Accept": "text/event-stream"})
    assert events.status_code == 404 and "secret" not in events.text


async def test_raw_text_is_exactly_what_was_written_and_can_do_nothing(world: LogWorld) -> None:
    await world.write(1, "<script>\x1b[31mx", "é")
    answer = await world.browser.get("/log/1/raw")
    assert answer.content == "<script>\x1b[31mx\né\n".encode()
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == 'inline; filename="libfoo-2.3-1.log"'
    part = await world.browser.get("/log/1/raw", params={"offset": 8, "limit": 5, "download": ""})
    assert part.content == b"\x1b[31m"
    assert part.headers["content-disposition"].startswith("attachment")


async def test_the_json_twin_is_the_page(world: LogWorld) -> None:
    page = (await world.browser.get("/log/1.json")).json()
    assert page["attempt"]["number"] == 1


@dataclass
class Stream:
    """Server-sent events as they come."""

    lines: AsyncIterator[str]
    ids: list[str] = field(default_factory=list)

    async def next(self) -> tuple[str, dict[str, str]]:
        """Return (event, data) of the next event."""
        event, data = "", ""
        async for line in self.lines:
            key, _, value = line.partition(": ")
            match key:
                case "event":
                    event = value
                case "data":
                    data = value
                case "id":
                    self.ids.append(value)
                case "" if event:
                    return event, json.loads(data)
        raise AssertionError("the stream ended")

    async def text(self, until: str) -> str:
        """Return the text of events until it has what is looked for."""
        text = ""
        while until not in text:
            event, data = await asyncio.wait_for(self.next(), DEADLINE_S)
            assert event == "lines"
            text += data.get("text", "") or data.get("html", "")
        return text


@asynccontextmanager
async def stream(world: LogWorld, path: str, **headers: str) -> AsyncIterator[Stream]:
    async with world.browser.http.stream("GET", path, headers={"Accept": "text/event-stream", **headers}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        yield Stream(answer.aiter_lines())


async def test_lines_come_as_they_are_written_until_the_attempt_ends(world: LogWorld) -> None:
    sink = world.logs.open(3)
    sink.write("first")
    async with stream(world, "/log/3") as events:
        assert await events.text("first") == "first\n"
        sink.write("second")
        world.web.site.live.tell(log_topic(3))
        assert await events.text("second") == "second\n"
        assert events.ids == ["6", "13"]
        sink.write("last")
        await sink.close()
        world.builds.end(3)
        world.web.site.live.tell(log_topic(3), ended=True)
        assert await events.text("last") == "last\n"
        assert await asyncio.wait_for(events.next(), DEADLINE_S) == ("ended", {"status": "passed"})


async def test_a_line_is_in_the_browser_within_half_a_second(world: LogWorld) -> None:
    sink = world.logs.open(3)
    late = []
    async with stream(world, "/log/3?as=html") as events:
        for at in range(8):
            begun = time.monotonic()
            sink.write(f"line {at}!")
            world.web.site.live.tell(log_topic(3))
            await events.text(f"line {at}!")
            late.append(time.monotonic() - begun)
    await sink.close()
    assert sorted(late)[4] < 0.5, late


async def test_who_comes_back_goes_on_where_it_ended(world: LogWorld) -> None:
    sink = world.logs.open(3)
    sink.write("one")
    sink.write("two")
    async with stream(world, "/log/3?offset=4") as events:
        assert await events.text("two") == "two\n"
    async with stream(world, "/log/3?offset=0", **{"Last-Event-ID": "4"}) as events:
        assert await events.text("two") == "two\n"
    async with stream(world, "/log/3?as=html&offset=4") as events:
        assert 'id="L2"' in await events.text("two")
    await sink.close()


async def test_a_phase_begins_with_its_block(world: LogWorld) -> None:
    await world.write(1, "hello", "Running phase: buildPhase", "cc")
    async with stream(world, "/log/1?as=html") as events:
        assert (await events.next())[1].keys() == {"html"}
        _, data = await events.next()
        assert data["phase"].startswith("<details open>")
        assert numbers(data["html"]) == [2, 3]
        assert (await events.next())[0] == "ended"


async def test_a_log_that_may_no_longer_be_seen_ends(world: LogWorld) -> None:
    sink = world.logs.open(3)
    async with stream(world, "/log/3") as events:
        sink.write("public")
        world.web.site.live.tell(log_topic(3))
        await events.text("public")
        del world.builds.attempts[3]
        world.web.site.live.tell(log_topic(3), ended=True)
        assert (await asyncio.wait_for(events.next(), DEADLINE_S))[0] == "ended"
    await sink.close()
