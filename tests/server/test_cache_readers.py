"""Private caches: which tokens open them, what wrong ones cost, and that none of them is ever told."""

import base64
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog

from nixmill.core.access import Role, Scope, Visibility
from nixmill.doors.serving import CacheInfo
from nixmill.web.cache_front import CacheFront
from nixmill.web.cache_readers import BELIEVED_S, Readers
from nixmill.web.rate_limit import RateLimit
from tests.support.cache_serving import HASH, FakeServed, RawClient, beyond, cache_server, connected, text
from tests.support.web import WebWorld, web_world

PATH = f"/cache/secret/{HASH}.narinfo"
TOKEN = "a token of the tests"  # noqa: S105 - opens a cache that lives for a test
TRIES = 3


def basic(token: str, user: str = "anybody") -> str:
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with web_world() as made:
        await made.user("anna")
        await made.user("root", admin=True)
        yield made


@contextlib.asynccontextmanager
async def asking(
    world: WebWorld, files: Sequence[Path] = (), projects: Sequence[str] = (), tries: int = TRIES
) -> AsyncIterator[RawClient]:
    """Serve a private cache; yield a client."""
    served = FakeServed({f"{HASH}.narinfo": text(b"narinfo")}, CacheInfo(private=True))
    readers = Readers(files, projects, doors=world.site, tries=RateLimit(tries, world.clock.monotonic))
    front = CacheFront(beyond, {"secret": served}, readers={"secret": readers}, trusted_proxies=["127.0.0.1"])
    async with cache_server(front) as url, connected(url) as client:
        yield client


async def code(client: RawClient, authorization: str, **headers: str) -> int:
    return (await client.ask(PATH, Authorization=authorization, **headers)).code


async def test_a_token_in_a_file_opens_as_password_of_anybody_and_as_bearer(world: WebWorld, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    async with asking(world, [tmp_path / "nothing", tmp_path / "token"]) as client:
        for header in (basic(TOKEN), basic(TOKEN, ""), f"Bearer {TOKEN}", f"bearer {TOKEN}"):
            reply = await client.ask(PATH, Authorization=header)
            assert (reply.code, reply.body) == (200, b"narinfo")
            assert reply.headers["cache-control"] == "private, max-age=3600"


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic ???", "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Digest x", "Bearer " + "x" * 5000],
)
async def test_what_is_no_token_is_asked_for_one_and_counts_nothing(world: WebWorld, header: str) -> None:
    async with asking(world) as client:
        for _ in range(TRIES + 1):
            reply = await client.ask(PATH, Authorization=header)
            assert reply.code == 401
            assert reply.headers["www-authenticate"] == 'Basic realm="secret", charset="UTF-8"'
            assert reply.headers["cache-control"] == "no-store"


async def test_whether_something_is_there_is_not_told(world: WebWorld) -> None:
    async with asking(world) as client:
        for path in (PATH, "/cache/secret/nonsense", "/cache/secret/nix-cache-info"):
            assert (await client.ask(path)).code == 401


async def test_a_private_cache_without_readers_opens_for_nobody() -> None:
    served = FakeServed({f"{HASH}.narinfo": text(b"narinfo")}, CacheInfo(private=True))
    async with cache_server(CacheFront(beyond, {"secret": served})) as url, connected(url) as client:
        assert await code(client, basic(TOKEN)) == 401


async def test_a_token_file_that_changes_counts_anew(world: WebWorld, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    async with asking(world, [file]) as client:
        assert await code(client, basic(TOKEN)) == 200
        file.write_text("another token")
        assert await code(client, basic("another token")) == 200
        assert await code(client, basic(TOKEN)) == 200  # it was good just now
        world.clock.ahead += BELIEVED_S + 1
        assert await code(client, basic(TOKEN)) == 401
        file.write_text("")
        assert await code(client, "Basic Og==") == 401


async def test_wrong_tokens_are_few(world: WebWorld, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    async with asking(world, [tmp_path / "token"]) as client:
        for number in range(TRIES):
            assert await code(client, basic(f"guess {number}"), X_Forwarded_For="203.0.113.9") == 401
        reply = await client.ask(PATH, Authorization=basic(TOKEN), X_Forwarded_For="203.0.113.9")
        assert (reply.code, int(reply.headers["retry-after"]) > 0) == (429, True)
        assert await code(client, basic(TOKEN), X_Forwarded_For="203.0.113.10") == 200


async def test_one_wrong_token_over_and_over_locks_nobody_out(world: WebWorld, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    async with asking(world, [tmp_path / "token"]) as client:
        for _ in range(3 * TRIES):
            assert await code(client, basic("expired")) == 401
            world.clock.ahead += BELIEVED_S / 2
        assert await code(client, basic(TOKEN)) == 200


async def test_api_tokens_open_what_their_owners_may_see_all_of(world: WebWorld) -> None:
    one = await world.project("mill-one", Visibility.PRIVATE, anna=Role.VIEWER)
    anna, limited, running = [
        await world.token("anna", Scope.READ),
        await world.token("anna", Scope.READ, project=one.id),
        await world.token("anna", Scope.RUN),
    ]
    root = await world.token("root", Scope.READ)
    async with asking(world, projects=["mill-*"], tries=100) as client:
        assert [await code(client, basic(token)) for token in (anna, limited, running, root)] == [200, 200, 401, 200]
        await world.project("mill-two", Visibility.PRIVATE)
        await world.project("other", Visibility.PRIVATE)
        world.clock.ahead += BELIEVED_S + 1
        assert [await code(client, f"Bearer {token}") for token in (anna, limited, root)] == [401, 401, 200]
    async with asking(world, projects=["deleted-*"], tries=100) as client:
        assert [await code(client, basic(token)) for token in (anna, root)] == [401, 200]
    async with asking(world, tries=100) as client:
        assert [await code(client, basic(token)) for token in (anna, limited, "nm_nonsense")] == [200, 401, 401]


async def test_the_database_is_asked_once_for_many_requests(world: WebWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    token, asked = await world.token("anna", Scope.READ), []
    keys = world.site.keys

    async def counted(token_hash: str, now: float) -> object:
        asked.append(token_hash)
        return await keys.token(token_hash, now)

    site = SimpleNamespace(
        keys=SimpleNamespace(token=counted),
        accounts=world.site.accounts,
        projects=world.site.projects,
        clock=world.clock,
    )
    monkeypatch.setattr(world, "site", site)
    async with asking(world) as client:
        for _ in range(5):
            await client.send(PATH, Authorization=basic(token))
        for _ in range(5):
            status, headers = await client.head()
            assert status == 200
            await client.reader.readexactly(int(headers["content-length"]))
    assert len(asked) == 1


async def test_tokens_are_never_logged(world: WebWorld, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with structlog.testing.capture_logs() as logs:
        async with asking(world, [tmp_path / "token", tmp_path / "nothing"]) as client:
            for number in range(TRIES + 1):
                await code(client, basic(f"guess {number}"))
            await code(client, basic(TOKEN))
    assert logs
    assert "guess" not in str(logs)
    assert TOKEN not in str(logs)
