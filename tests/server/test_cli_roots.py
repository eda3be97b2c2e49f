"""`nixmill roots`, `pin` and `unpin` as real processes against the real application."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nixmill.core.access import Scope
from nixmill.core.view.roots import CollectionPage, CollectionState, DeadPath, RootFault, Standing
from tests.fakes.roots import FakeRootDesk
from tests.support.client_server import ClientServer
from tests.support.program import Done
from tests.support.root_pages import filled_world, hash_of
from tests.support.web import WebWorld

Nixmill = Callable[..., Awaitable[Done]]
DONE = CollectionPage(
    state=CollectionState.DONE, paths=2, measured=2, size=1_000_000, largest=(DeadPath(hash_of("a-1"), 700_000),)
)


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with filled_world() as made:
        yield made


@pytest.fixture
async def nixmill(world: WebWorld, tmp_path: Path) -> Nixmill:
    """Return what runs nixmill as somebody, else as the member."""
    server = ClientServer(world.url, tmp_path)

    async def run(*arguments: str, who: str = "member", **more: Any) -> Done:  # noqa: ANN401 - handed on
        token = await world.token(who, *Scope)
        return await server.nixmill(*arguments, NIXMILL_TOKEN=token, **more)

    return run


def desk(world: WebWorld) -> FakeRootDesk:
    made = world.site.root_desk
    assert isinstance(made, FakeRootDesk)
    return made


def done(world: WebWorld, what: str) -> list[tuple[Any, ...]]:
    return [given for call, given in world.office.calls if call == what]


async def test_what_is_kept_of_a_project_is_a_table(nixmill: Nixmill) -> None:
    shown = await nixmill("roots", "mill")
    assert shown.code == 0, shown.err
    for said in ("1 of 2", "only in upstream", "gone", "117.7 MiB", "3.3 MiB", "#7", "Needed for the release"):
        assert said in shown.out, said
    assert "\x1b" not in shown.out and "\u202e" not in shown.out
    narrowed = json.loads((await nixmill("roots", "mill", "--ref", "stable", "--json")).out)
    assert [pin["path"][-1] for pin in narrowed["pins"]] == ["b"]
    found = json.loads((await nixmill("roots", "mill", "--find", "gone", "--json")).out)
    assert [pin["path"][-1] for pin in found["pins"]] == ["gone"]


async def test_the_whole_server_is_summed_up(world: WebWorld, nixmill: Nixmill) -> None:
    standing = Standing(standing=3, wanted=4, checked_at=1.0, faults=(RootFault(hash_of("a-1"), "no room"),))
    desk(world).standing = standing
    member, root = await nixmill("roots"), await nixmill("roots", who="root")
    assert "mill" in member.out and "quiet-mill" not in member.out and "should" not in member.out
    assert "3 roots stand, 4 should" in root.out and "no room" in root.out and "quiet-mill" in root.out
    assert "largest closures" in member.out
    assert str(hash_of("secret-1")) in root.out, "a path to be unpinned is never cut"
    desk(world).standing = msgspec.structs.replace(standing, standing=5)
    assert "5 roots stand, 4 should" in (later := await nixmill("roots", who="root")).out
    assert "within a quarter of an hour" in later.out
    lost = await nixmill("roots", "--ref", "main")
    assert (lost.code, "belongs to a project" in lost.err) == (2, True)
    assert (await nixmill("roots", "quiet-mill")).code == 2


async def test_a_dry_run_is_waited_for(world: WebWorld, nixmill: Nixmill) -> None:
    asked = 0

    def collection() -> CollectionPage:
        nonlocal asked
        asked += 1
        return DONE

    desk(world).begun = CollectionPage(state=CollectionState.LISTING)
    desk(world).collection = collection  # type: ignore[method-assign]
    shown = await nixmill("roots", "--dry-run", who="root")
    assert shown.code == 0, shown.err
    assert asked == 1
    assert "would free 976.6 KiB: 2 paths" in shown.out and "70% of it" in shown.out and hash_of("a-1") in shown.out
    assert (await nixmill("roots", "--dry-run")).code == 4


async def test_a_dry_run_that_fails_says_why(world: WebWorld, nixmill: Nixmill) -> None:
    desk(world).begun = msgspec.structs.replace(DONE, state=CollectionState.FAILED, fault="The daemon is gone.")
    failed = await nixmill("roots", "--dry-run", who="root")
    assert (failed.code, "The daemon is gone." in failed.err) == (5, True)


async def test_results_are_pinned_and_unpinned(world: WebWorld, nixmill: Nixmill) -> None:
    path = str(hash_of("a-1"))
    words = ("pin", "checks.a", "--project", "mill", "--reason", "for the release", "--until", "30d", "--ref", "stable")
    pinned = await nixmill(*words)
    assert pinned.code == 0, pinned.err
    assert "Pinned 1 store path." in pinned.err
    ((_, project, what, reason, until, ref),) = done(world, "pin")
    assert (project.name, what, reason, ref) == ("mill", "checks.a", "for the release", "stable")
    assert until is not None
    unpinned = await nixmill("unpin", path, "--project", "mill", "--json")
    assert json.loads(unpinned.out) == {"paths": [path]}
    assert done(world, "unpin")[0][1].name == "mill"


async def test_a_path_alone_is_pinned_for_the_server_by_administrators(world: WebWorld, nixmill: Nixmill) -> None:
    path = str(hash_of("a-1"))
    assert (await nixmill("pin", path, "--reason", "x")).code == 4
    assert (await nixmill("pin", path, "--reason", "x", who="root")).code == 0
    assert [given[1] for given in done(world, "pin")] == [None]


async def test_what_has_no_sense_is_told(nixmill: Nixmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words, said in (
        (("pin", "a", "--project", "mill"), "reason"),
        (("pin", "a", "--project", "mill", "--reason", "x", "--until", "soon"), "no time"),
        (("pin", "a", "--reason", "x"), "No project is named"),
    ):
        answer = await nixmill(*words)
        assert (answer.code, said in answer.err) == (2, True), answer.err
