"""Pages about roots and caches over real HTTP: what they show, to whom, and what can be done on them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from nixmill.core.access import Scope
from nixmill.core.view.roots import CollectionPage, CollectionState, DeadPath
from tests.fakes.roots import FakeRootDesk
from tests.support.root_pages import QUIET, filled_world, hash_of
from tests.support.web import WebWorld

PAGE = "/p/mill/roots"


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with filled_world() as made:
        yield made


def desk(world: WebWorld) -> FakeRootDesk:
    made: Any = world.site.root_desk
    return made  # type: ignore[no-any-return]


def done(world: WebWorld, what: str) -> list[tuple[Any, ...]]:
    return [given for call, given in world.office.calls if call == what]


async def test_a_project_page_says_what_is_kept_why_and_until_when(world: WebWorld) -> None:
    text = (await (await world.browser()).get(PAGE)).text
    for said in (
        "What is kept of",
        "newest of 2",
        "generation 2 of 2",
        "only in upstream",
        "↓",
        "gone",
        "117.7 MiB",
        "Needed for the release",
        "#7",
        "1 run goes on",
    ):
        assert said in text, said
    assert "<script>window.broken" not in text and "\u202e" not in text


async def test_it_can_be_narrowed_to_a_branch_and_to_a_text(world: WebWorld) -> None:
    browser = await world.browser(headers={"Accept": "application/json"})
    by_branch = (await browser.get(f"{PAGE}?ref=stable")).json()
    assert [pin["path"][-1] for pin in by_branch["pins"]] == ["b"]
    found = (await browser.get(f"{PAGE}?find=x86_64-linux.b")).json()
    assert {pin["ref"] for pin in found["pins"]} == {"refs/heads/main", "refs/heads/stable"}
    assert "Show everything" in (await (await world.browser()).get(f"{PAGE}?find=nothing-like-it")).text
    wrong = await browser.get(f"{PAGE}?after=nonsense")
    assert (wrong.status_code, "first one" in wrong.json()["remedy"]) == (400, True)


async def test_members_pin_and_unpin_with_the_buttons(world: WebWorld) -> None:
    browser = await world.signed_in("member")
    fields = {"what": "checks.x", "reason": "For ever", "ref": "stable", "until": "30d"}
    answer = await browser.post(f"{PAGE}/pin", fields, PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PAGE}#hand")
    ((_, project, what, reason, until, ref),) = done(world, "pin")
    assert (project.name, what, reason, ref) == ("mill", "checks.x", "For ever", "stable")
    assert until == pytest.approx(world.clock.now() + 30 * 86_400, abs=60)
    again = await browser.post(f"{PAGE}/unpin", {"what": f"/nix/store/{'0' * 32}-x"}, PAGE)
    assert again.status_code == 303
    assert len(done(world, "unpin")) == 1
    assert "Unpin" not in (await (await world.signed_in("viewer")).get(PAGE)).text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"what": "a"}, "reason"),
        ({"what": "a", "reason": ""}, "reason"),
        ({"what": "a", "reason": "b", "until": "soon"}, "no time"),
        ({"what": "a", "reason": "b", "until": "2001-01-01"}, "past"),
        ({"what": "a", "reason": "b", "for": "ever"}, "for"),
    ],
)
async def test_a_pin_without_sense_is_refused(world: WebWorld, body: dict[str, str], said: str) -> None:
    program = await world.api(await world.token("member", Scope.READ, Scope.RUN))
    answer = await program.http.post(f"{PAGE}/pin", json=body)
    assert (answer.status_code, said in answer.json()["error"]) == (422, True), answer.text
    assert done(world, "pin") == []


async def test_programs_pin_too(world: WebWorld) -> None:
    program = await world.api(await world.token("member", Scope.READ, Scope.RUN))
    path = f"/nix/store/{'0' * 32}-x"
    answer = await program.http.post(f"{PAGE}/pin", json={"what": path, "reason": "b"})
    assert answer.json() == {"paths": [path]}
    assert done(world, "pin")[0][4] is None


async def test_only_administrators_pin_for_the_server_and_see_how_roots_stand(world: WebWorld) -> None:
    member, root = await world.signed_in("member"), await world.signed_in("root")
    assert "3 roots stand, 3 should" in (await root.get("/roots")).text
    text = (await member.get("/roots")).text
    assert "should" not in text and "whole server" not in text
    assert (await member.post("/roots/pin", {"what": "x", "reason": "y"})).status_code == 403
    path = f"/nix/store/{'0' * 32}-x"
    assert (await root.post("/roots/pin", {"what": path, "reason": "y"}, "/roots")).headers["location"] == "/roots#hand"
    assert done(world, "pin")[0][1] is None


async def test_nothing_of_a_private_project_is_told_to_others(world: WebWorld) -> None:
    for name in ("stranger", "member", "viewer"):
        browser = await world.browser() if name == "stranger" else await world.signed_in(name)
        assert (await browser.get(f"/p/{QUIET}/roots")).status_code == 404
        for path in ("/roots", f"/roots?find={QUIET}", "/caches/main"):
            text = (await browser.get(path)).text
            assert hash_of("secret-1") not in text and "hush-hush" not in text, (name, path)
        assert QUIET not in (await browser.get("/roots")).text
    seen = await (await world.signed_in("insider")).get("/roots")
    assert QUIET in seen.text


async def test_a_dry_run_goes_on_in_the_background(world: WebWorld) -> None:
    member, root = await world.signed_in("member"), await world.signed_in("root")
    assert (await member.get("/roots/collection")).status_code == 403
    desk(world).begun = CollectionPage(state=CollectionState.LISTING, by="root", started_at=world.clock.now())
    answer = await root.post("/roots/collection", {}, "/roots/collection")
    assert (answer.status_code, answer.headers["location"]) == (303, "/roots/collection")
    going = (await root.get("/roots/collection")).text
    assert "looks for what nothing needs" in going and "refresh" in going and "Look again" not in going
    dead = (DeadPath(hash_of("x"), 700),)
    now = world.clock.now()
    desk(world).dry = CollectionPage(
        state=CollectionState.DONE, started_at=now - 9, ended_at=now, paths=2, measured=2, size=1000, largest=dead
    )
    text = (await root.get("/roots/collection")).text
    assert "2 paths would go: 1000 B" in text and "are 70% of it" in text and "Look again" in text


async def test_caches_say_how_they_are_used(world: WebWorld) -> None:
    browser = await world.browser()
    listed = (await browser.get("/caches")).text
    assert "main" in listed and "private-one" not in listed
    text = (await browser.get("/caches/main")).text
    assert "extra-trusted-public-keys = main-1:KEY" in text and "netrc" not in text
    assert (await browser.get("/caches/private-one")).status_code == 404
    root = await world.signed_in("root")
    assert "machine ci.example.org login nixmill password TOKEN" in (await root.get("/caches/private-one")).text


async def test_administrators_have_failed_uploads_tried_again(world: WebWorld) -> None:
    root, member = await world.signed_in("root"), await world.signed_in("member")
    assert "Try 2 uploads again" in (await root.get("/caches/main")).text
    assert "again" not in (await member.get("/caches/main")).text
    assert (await member.post("/caches/main/retry")).status_code == 403
    assert (await root.post("/caches/main/retry", {}, "/caches/main")).headers["location"] == "/caches/main"
    program = await world.api(await world.token("root", Scope.READ, Scope.MANAGE))
    assert (await program.http.post("/caches/main/retry", json={})).json() == {"retried": 3}
    assert (await program.http.post("/caches/other/retry", json={})).status_code == 404
