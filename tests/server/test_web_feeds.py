"""Badges, feeds and metrics over real HTTP: well formed whatever is in them, and only for who may see it."""

import re
from collections.abc import AsyncIterator
from xml.etree import ElementTree as ET

import pytest

from nixmill.core.access import Role, Scope, Visibility
from nixmill.core.change import Progress
from nixmill.core.project import Project
from nixmill.core.run_event import Verdict
from tests.support.pages_world import World
from tests.support.web import WebWorld, web_world

ATOM = "{http://www.w3.org/2005/Atom}"
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert(1)</script>&amp;]]>\x1b[31m"\ufffe\uffff\u202e'


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with web_world() as made:
        yield made


def parsed(text: str | bytes) -> ET.Element:
    """Return what our own server wrote, as XML."""
    return ET.fromstring(text)  # noqa: S314 - it has no entities


async def ran(world: WebWorld, visibility: Visibility = Visibility.PUBLIC) -> tuple[World, Project]:
    """Make a project with a run that passed and one that failed, the newer."""
    pages = World(world.database)
    project = await pages.project("mill", visibility)
    await pages.whole(project)
    await pages.whole(project, Verdict.BUILD_FAILED, names=("a", "b"))
    return pages, project


async def test_a_badge_says_how_a_branch_stands_in_shape_word_and_colour(world: WebWorld) -> None:
    """W32: the shield."""
    pages, project = await ran(world)
    browser = await world.browser()
    answer = await browser.get("/p/mill/badge.svg")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    drawn = parsed(answer.text)
    assert drawn.findtext(f"{SVG}title") == "nixmill: ✖ failed"
    await pages.whole(project)
    assert "passed" in (await browser.get("/p/mill/badge.svg?ref=main")).text
    one = await browser.get("/p/mill/badge.svg?attribute=checks.x86_64-linux.a")
    assert "passed" in one.text


async def test_a_badge_of_what_is_not_there_says_that_nothing_is_known(world: WebWorld) -> None:
    await ran(world)
    browser = await world.browser()
    for query in ("ref=absent", "ref=%3Cscript%3E", "attribute=%22", "attribute=absent", "ref=../x"):
        answer = await browser.get(f"/p/mill/badge.svg?{query}")
        assert (answer.status_code, "unknown" in answer.text) == (200, True), query
        assert "<script" not in answer.text


async def test_a_feed_is_atom_with_everything_that_atom_requires(world: WebWorld) -> None:
    """RFC 4287 4.1: feed and entries have id, title and updated; each entry an author, since the feed has none."""
    await ran(world)
    answer = await (await world.browser()).get("/p/mill/feed.atom?ref=main")
    assert answer.headers["content-type"] == "application/atom+xml"
    feed = parsed(answer.content)
    assert feed.tag == f"{ATOM}feed"
    entries = feed.findall(f"{ATOM}entry")
    assert len(entries) == 2
    for element in (feed, *entries):
        assert [len(element.findall(ATOM + name)) for name in ("id", "title", "updated")] == [1, 1, 1]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", element.findtext(f"{ATOM}updated") or "")
        assert (element.findtext(f"{ATOM}id") or "").startswith(world.url)
    assert all(entry.findtext(f"{ATOM}author/{ATOM}name") for entry in entries)
    assert "failed" in (entries[0].findtext(f"{ATOM}title") or "")
    links = {link.get("rel", "alternate"): link.get("href", "") for link in feed.findall(f"{ATOM}link")}
    for href in links.values():
        assert (await (await world.browser()).get(href.removeprefix(world.url))).status_code == 200


async def test_hostile_subjects_authors_and_branches_stay_text(world: WebWorld) -> None:
    ref = 'refs/heads/<b>"&\u202e'
    pages = World(world.database)
    project = await pages.project("mill", Visibility.PUBLIC, ref)
    run = await pages.start(project, ref)
    await pages.changes.progress(Progress(number=run, subject=HOSTILE, author=HOSTILE))
    await pages.end(run, Verdict.BUILD_FAILED)
    browser = await world.browser()
    answer = await browser.get("/p/mill/feed.atom", params={"ref": ref.removeprefix("refs/heads/")})
    assert answer.status_code == 200
    feed = parsed(answer.content)
    title = feed.findtext(f"{ATOM}entry/{ATOM}title") or ""
    assert "<script>alert(1)</script>" in title
    assert "\x1b" not in title
    assert [element.tag for element in feed.iter() if "script" in element.tag] == []
    href = next(link.get("href") or "" for link in feed.findall(f"{ATOM}link"))
    assert (await browser.get(href.removeprefix(world.url))).status_code == 200


async def test_a_private_project_has_badge_and_feed_for_its_members_alone(world: WebWorld) -> None:
    _, project = await ran(world, Visibility.PRIVATE)
    await world.user("ada")
    await world.site.members.set_member(project.id, world.users["ada"].id, Role.VIEWER)
    stranger, outsider, member = await world.browser(), await world.signed_in("eve"), await world.signed_in("ada")
    for path in ("/p/mill/badge.svg", "/p/mill/feed.atom"):
        assert (await stranger.get(path)).status_code == 404
        assert (await outsider.get(path)).status_code == 404
        assert (await member.get(path)).status_code == 200
    program = await world.api(await world.token("ada", Scope.READ))
    assert (await program.get("/p/mill/feed.atom")).status_code == 200


async def test_metrics_are_what_prometheus_reads_and_count_what_may_be_seen(world: WebWorld) -> None:
    """W42, and W19 for numbers: a stranger's metrics do not tell of private projects."""
    await ran(world, Visibility.PRIVATE)
    await world.user("root", admin=True)
    stranger, root = await world.browser(), await world.signed_in("root")
    hidden, shown = await stranger.get("/metrics"), await root.get("/metrics")
    assert hidden.headers["content-type"].startswith("text/plain; version=")
    assert hidden.headers["cache-control"] == "no-store"
    numbers = [
        {line.split(" ")[0]: float(line.split(" ")[-1]) for line in answer.text.splitlines() if line[0] != "#"}
        for answer in (hidden, shown)
    ]
    assert [one["nixmill_projects"] for one in numbers] == [0, 1]
    assert "process_resident_memory_bytes" in numbers[0]
    assert "mill" not in hidden.text.replace("nixmill", "")


async def test_health_says_that_the_database_answers(world: WebWorld) -> None:
    answer = await (await world.browser()).get("/healthz")
    assert answer.json()["status"] == "ok"
