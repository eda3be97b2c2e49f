"""What a build rests on lowers what it counts for: whoever built, on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from nixmill.core.trust import Tier
from nixmill.core.upload import Made
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.uploads import SqlUploads, record_made
from nixmill.nix.store_path import StorePath
from tests.fakes.store import make_path
from tests.support.databases import BOTH, a_place, postgres
from tests.support.server_things import now

__all__ = ["postgres"]


@pytest.fixture(params=BOTH)
async def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Database]:
    with a_place(request.param, request, tmp_path_factory.mktemp("taint")) as where:
        async with open_database(where) as opened:
            yield opened


def build(name: str, tier: Tier, at: float, *inputs: str) -> Made:
    return Made(
        path=make_path(name), tier=tier, run=1, attempt=1, at=at, inputs=tuple(make_path(one) for one in inputs)
    )


async def tiers(database: Database, *rows: Made) -> dict[StorePath, Tier]:
    await database.write(lambda connection: record_made(connection, rows), action="record")
    names = ("tool", "library", "program", "other")
    found = await SqlUploads(database, now).made([make_path(name) for name in names])
    return {path: one.tier for path, one in found.items()}


async def test_what_a_branch_builds_from_what_a_pull_request_built_counts_as_the_pull_requests(
    database: Database,
) -> None:
    tool, library, program = make_path("tool"), make_path("library"), make_path("program")
    found = await tiers(database, build("tool", Tier.MEMBER, 1.0))
    assert found == {tool: Tier.MEMBER}
    # Both builds of the branch in one transaction, in whatever order: the program knows the tool only by the library.
    rows = [build("program", Tier.PROTECTED, 3.0, "library"), build("library", Tier.BRANCH, 2.0, "tool", "source")]
    assert await tiers(database, *rows, build("other", Tier.BRANCH, 2.0, "source")) == {
        tool: Tier.MEMBER,
        library: Tier.MEMBER,
        program: Tier.MEMBER,
    }


async def test_what_was_built_again_lowers_nothing_any_more(database: Database) -> None:
    tool, program = make_path("tool"), make_path("program")
    await tiers(database, build("tool", Tier.FORK, 1.0))
    await SqlUploads(database, now).vouch([build("tool", Tier.BRANCH, 0.0)])
    assert (await tiers(database, build("program", Tier.BRANCH, 9.0, "tool"))).get(program) is None
    assert (await SqlUploads(database, now).made([tool]))[tool].tier is Tier.BRANCH
