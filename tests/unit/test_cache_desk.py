"""Caches as people see them: which, how they are used, what is on its way, and having it tried again."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import pytest

from nixmill.config.caches import CacheKind, CacheSettings
from nixmill.config.server import ServerSettings
from nixmill.core.access import EVERYTHING, Sight, Visibility
from nixmill.core.account import AuditEntry
from nixmill.core.project import Project
from nixmill.core.upload import UploadState
from nixmill.core.view.roots import UploadLine
from nixmill.engine.cache_desk import UPLOADS_MAX, CacheDoors, CacheSize, SettingsCacheDesk
from nixmill.engine.office import Asker
from nixmill.nix.store_path import StorePath
from tests.fakes.store import make_path

ASKER: Final = Asker(user=3, name="anna")
CACHES: Final = (
    CacheSettings(name="main"),
    CacheSettings(name="vault", private=True, projects=("quiet*",), keys=("vault-key",)),
    CacheSettings(name="empty", private=True, projects=("none*",)),
    CacheSettings(name="away", kind=CacheKind.COPY, url="https://user:secret@example.org"),
)


class World:
    """The doors of the desk."""

    def __init__(self) -> None:
        self.lines: list[UploadLine] = []
        self.sights: list[Sight] = []
        self.asked_again: list[tuple[str, object]] = []
        self.woken = 0
        self.audited: list[AuditEntry] = []
        anything: Any = self
        self.desk = SettingsCacheDesk(
            CacheDoors(
                settings=ServerSettings(url="https://ci.example.org/", caches=CACHES),
                pages=anything,
                uploads=anything,
                projects=anything,
                members=anything,
                clock=anything,
                public_keys=lambda name: [f"{name}-1:KEY"],
                size=self._size,
                wake=self._wake,
            )
        )

    def now(self) -> float:
        return 5.0

    def _wake(self) -> None:
        self.woken += 1

    async def _size(self, name: str) -> CacheSize | None:
        return CacheSize(7, 700) if name == "main" else None

    async def projects(self) -> Sequence[Project]:
        made = {"mill": Visibility.PUBLIC, "quiet-one": Visibility.PRIVATE, "quiet-two": Visibility.INTERNAL}
        return [
            Project(id=number, name=name, url="", visibility=visibility)
            for number, (name, visibility) in enumerate(made.items(), 1)
        ]

    async def uploads(self, sight: Sight, cache: str, limit: int) -> tuple[Mapping[str, int], Sequence[UploadLine]]:
        self.sights.append(sight)
        return {"failed": len(self.lines)}, self.lines[:limit]

    async def again(self, cache: str, paths: Collection[StorePath] | None) -> int:
        self.asked_again.append((cache, paths))
        return 4

    async def audit(self, entry: AuditEntry) -> None:
        self.audited.append(entry)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("sight", "names"),
    [
        (EVERYTHING, ["main", "vault", "empty", "away"]),
        (Sight(), ["main", "away"]),
        (Sight(internal=True), ["main", "away"]),
        (Sight(internal=True, private=frozenset({2})), ["main", "vault", "away"]),
        (Sight(private=frozenset({2})), ["main", "away"]),
        (Sight(everything=True, only=2), ["main", "away"]),
    ],
)
async def test_a_private_cache_is_there_for_those_who_see_all_that_it_may_hold(
    world: World, sight: Sight, names: list[str]
) -> None:
    assert [line.name for line in await world.desk.caches(sight)] == names
    for cache in CACHES:
        assert (await world.desk.cache(sight, cache.name) is not None) == (cache.name in names)
    assert set(world.sights) == {sight}


async def test_a_cache_says_how_it_is_used(world: World) -> None:
    page = await world.desk.cache(Sight(), "main")
    assert page is not None
    assert (page.cache.address, page.cache.paths, page.cache.size) == ("https://ci.example.org/cache/main", 7, 700)
    assert page.nix_conf.endswith("extra-trusted-public-keys = main-1:KEY\n")
    assert page.netrc == ""
    private = await world.desk.cache(EVERYTHING, "vault")
    assert private is not None
    assert private.netrc == "machine ci.example.org login nixmill password TOKEN\n"
    assert (private.projects, private.cache.paths) == (("quiet*",), None)
    member = await world.desk.cache(Sight(internal=True, private=frozenset({2})), "vault")
    assert member is not None
    assert member.projects == ()


async def test_the_destination_of_a_copy_is_not_told(world: World) -> None:
    page = await world.desk.cache(EVERYTHING, "away")
    assert page is not None
    assert page.cache.address == ""
    assert "secret" not in repr(page)
    assert "extra-substituters" not in page.nix_conf


async def test_of_very_many_uploads_some_are_listed(world: World) -> None:
    line = UploadLine(
        path=make_path("a"), project=None, run=1, state=UploadState.FAILED, tries=1, due_at=0.0, fault="", at=0.0
    )
    world.lines = [line] * (UPLOADS_MAX + 1)
    page = await world.desk.cache(EVERYTHING, "main")
    assert page is not None
    assert (len(page.uploads), page.uploads_more, page.cache.counts) == (UPLOADS_MAX, True, {"failed": UPLOADS_MAX + 1})


async def test_what_failed_is_tried_again_at_once_and_noted(world: World) -> None:
    assert await world.desk.retry(ASKER, "main") == 4
    assert (world.asked_again, world.woken) == ([("main", None)], 1)
    (entry,) = world.audited
    assert (entry.who, entry.subject, entry.detail) == ("anna", "cache main", "4 uploads are tried again")
    assert await world.desk.retry(ASKER, "nowhere") is None
    assert world.woken == 1
