"""What outputs came out as is recorded, and trusted no more than who built it: on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator
from typing import Final

import msgspec
import pytest
from sqlalchemy import select

from nixmill.core.realised import Realised
from nixmill.core.trust import Tier
from nixmill.core.upload import Upload, UploadState
from nixmill.edge.database import tables_roots
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.realisations import SqlRealisations
from nixmill.edge.database.upkeep import Ages, tidy
from nixmill.edge.database.uploads import SqlUploads
from nixmill.edge.database.writing import record
from nixmill.nix.realisation import Realisation
from nixmill.nix.store_path import StorePath
from tests.fakes.store import make_path
from tests.support.databases import BOTH, a_place, postgres
from tests.support.server_things import NOW, now

__all__ = ["postgres"]

STORE: Final = "/nix/store"
BRANCH: Final = Tier.BRANCH
PULL: Final = Tier.MEMBER


@pytest.fixture(params=BOTH)
async def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Database]:
    with a_place(request.param, request, tmp_path_factory.mktemp("realised")) as where:
        async with open_database(where) as opened:
            yield opened


def drv(name: str) -> StorePath:
    return StorePath(f"{make_path(name)}.drv")


def found(name: str, path: str, tier: Tier, at: float, *inputs: str, built: bool = True, rests: str = "") -> Realised:
    """Return that a derivation came out as a path; `rests` names another that its realisation depends on."""
    told = Realisation(
        id=f"sha256:{name}!out",
        out_path=make_path(path),
        dependent={f"sha256:{rests}!out": make_path(rests)} if rests else {},
    )
    return Realised(
        drv_path=drv(name),
        output="out",
        realisation=told,
        built=built,
        tier=tier,
        run=1,
        attempt=int(at),
        at=at,
        input_drvs=tuple(map(drv, inputs)),
    )


def begun(name: str, at: float) -> Realised:
    return Realised(drv_path=drv(name), output="out", tier=PULL, run=1, attempt=int(at), at=at)


async def put(database: Database, *rows: Realised | Upload) -> None:
    await database.write(lambda connection: record(connection, rows), action="record")


async def ids(database: Database, *paths: str, trusted: bool = True) -> set[str]:
    realisations = SqlRealisations(database, STORE, trusted=trusted)
    return {one.id.split(":")[1].split("!")[0] for one in await realisations.of([make_path(path) for path in paths])}


async def test_a_path_brings_its_realisations_and_those_they_rest_on(database: Database) -> None:
    top = found("top", "top", BRANCH, 3.0, rests="below")
    await put(database, found("below", "below", BRANCH, 1.0), found("also", "top", BRANCH, 2.0), top)
    await put(database, found("other", "other", BRANCH, 4.0))
    assert await ids(database, "top") == {"top", "also", "below"}
    assert await ids(database) == set()
    realisations = SqlRealisations(database, STORE, trusted=True)
    assert await realisations.by_id("sha256:top!out") == top.realisation
    assert await realisations.by_id("sha256:none!out") is None


async def test_what_a_pull_request_found_out_is_for_its_own_caches(database: Database) -> None:
    await put(database, begun("a", 1.0))
    await put(database, found("a", "a", PULL, 1.0))
    assert await ids(database, "a") == set()
    assert await ids(database, "a", trusted=False) == {"a"}
    await put(database, found("a", "a", BRANCH, 2.0, built=False))  # it was there already
    assert await ids(database, "a") == set()
    assert (await SqlUploads(database, now).made([make_path("a")]))[make_path("a")].tier is PULL
    await put(database, found("a", "a", BRANCH, 3.0))
    assert await ids(database, "a") == {"a"}


async def test_a_pull_request_takes_nothing_from_what_a_branch_found_out(database: Database) -> None:
    await put(database, found("a", "a", BRANCH, 1.0))
    await put(database, begun("a", 2.0))
    await put(database, found("a", "a", PULL, 2.0, built=False))
    await put(database, found("a", "a", BRANCH, 3.0, built=False))
    assert await ids(database, "a") == {"a"}


@pytest.mark.parametrize("before", [False, True])
async def test_of_a_build_whose_end_was_never_heard_of_nothing_is_trusted(database: Database, before: bool) -> None:  # noqa: FBT001 - a case
    if before:
        await put(database, found("a", "old", BRANCH, 1.0))
    await put(database, begun("a", 2.0))
    await put(database, begun("a", 3.0))
    await put(database, found("a", "a", PULL, 3.0, built=False))
    await put(database, found("a", "a", BRANCH, 4.0, built=False))
    assert await ids(database, "a") == set()


async def test_what_rests_on_a_pull_requests_realisation_is_no_better(database: Database) -> None:
    await put(database, found("below", "below", PULL, 1.0))
    await put(database, found("top", "top", BRANCH, 2.0, "below"), found("other", "other", BRANCH, 2.0, "unknown"))
    assert await ids(database, "top", "other") == {"other"}


async def test_a_built_path_replaces_the_one_before(database: Database) -> None:
    await put(database, found("a", "one", BRANCH, 1.0), found("a", "two", BRANCH, 2.0))
    assert await ids(database, "one") == set()
    assert await ids(database, "two") == {"a"}


async def test_what_is_published_is_taken_up_again_for_another_derivation(database: Database) -> None:
    path, uploads = make_path("a"), SqlUploads(database, now)
    upload = Upload(cache="main", path=path, project=0, run=1, due_at=NOW, at=NOW)
    await put(database, found("a", "a", BRANCH, NOW), upload)
    await uploads.save([msgspec.structs.replace(upload, state=UploadState.DONE, done_at=NOW)])
    await put(database, found("a", "a", BRANCH, NOW, built=False))
    assert not await uploads.due("main", NOW + 9, 9)
    await put(database, found("b", "a", BRANCH, NOW + 1))
    assert [one.path for one in await uploads.due("main", NOW + 9, 9)] == [path]


async def test_what_serves_nobody_any_more_is_forgotten(database: Database) -> None:
    await put(database, found("a", "a", BRANCH, NOW), found("b", "b", BRANCH, NOW), found("c", "c", PULL, NOW))
    await put(database, Upload(cache="main", path=make_path("b"), project=0, run=1, due_at=NOW, at=NOW))
    assert (await tidy(database, Ages(audit=0.0), NOW))["nm_realisation"] == 1
    left = select(tables_roots.realisation.c.id)
    rows = await database.read(lambda connection: set(connection.execute(left).scalars()), action="look")
    assert rows == {"sha256:b!out", "sha256:c!out"}
