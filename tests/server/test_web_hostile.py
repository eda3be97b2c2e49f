"""Addresses, queries and bodies from strangers, over PostgreSQL, the stricter database: never an answer 500."""

from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

import pytest

from nixmill.web.app import routers
from tests.support.postgres import Postgres, postgres
from tests.support.web import Browser, WebWorld, web_world

__all__ = ["postgres"]
NASTY: Final = (
    "%00",
    "%ED%A0%80",  # half of a surrogate pair
    "%FF",
    "..%2F..%2Fetc%2Fpasswd",
    "%E2%80%AE",  # turns text round
    quote("<script>alert(1)</script>", safe=""),
    quote("' OR 1=1 --", safe=""),
    "-1",
    str(10**40),
    "x" * 3000,
    "0123456789abcdfghijklmnpqrsvwxyz-a%00.drv",
)


@pytest.fixture
async def world(postgres: Postgres) -> AsyncIterator[WebWorld]:
    name = postgres.new()
    async with web_world(where=postgres.url(name)) as made:
        await made.user("root", admin=True)
        await made.project("mill")
        yield made
    postgres.drop(name)


@pytest.fixture
async def root(world: WebWorld) -> Browser:
    return await world.signed_in("root")


def addresses(nasty: str) -> list[str]:
    """Return the address of every page with something nasty in each of its places, one at a time."""
    found = []
    for path in sorted({route.path for router in routers() for route in router.routes if "GET" in route.methods}):  # type: ignore[attr-defined]
        parts = path.split("/")
        places = [index for index, part in enumerate(parts) if part.startswith("{")]
        found += [
            "/".join(nasty if index == place else _good(part) for index, part in enumerate(parts)) for place in places
        ]
    return found


def _good(part: str) -> str:
    return {"{name}": "mill", "{ref:path}": "main", "{attribute:path}": "a"}.get(part, "1") if "{" in part else part


async def test_nothing_in_an_address_makes_a_mistake_of_ours(root: Browser) -> None:
    await harmless(root, [address for nasty in NASTY for address in addresses(nasty)])


async def harmless(root: Browser, asked: list[str]) -> None:
    """Ask for addresses; none may fail, or become markup."""
    answers = {address: await root.get(address) for address in asked}
    assert [address for address, answer in answers.items() if answer.status_code >= 500] == []
    assert [address for address, answer in answers.items() if "<script>alert" in answer.text] == []


QUERIES: Final = (
    "/p/mill/a/a?ref={}",
    "/p/mill/a/a?ref=main&before={}",
    "/p/mill/b/main?before={}",
    "/p/mill/badge.svg?ref={}",
    "/p/mill/badge.svg?ref=main&attribute={}",
    "/p/mill/feed.atom?ref={}",
    "/p/mill/pulls?before={}",
    "/p/mill/pulls?closed={}",
    "/p/mill/roots?ref={}",
    "/p/mill/roots?find={}",
    "/p/mill/roots?after={}",
    "/p/mill/roots?hand={}",
    "/roots?find={}",
    "/roots?after={}",
    "/roots?hand={}",
    "/r/1?show={}",
    "/r/1?find={}",
    "/r/1?page={}",
    "/r/1?size={}",
    "/compare/1/1?page={}",
    "/log/1?offset={}",
    "/log/1/raw?offset={}",
    "/runs?project={}",
    "/runs?before={}",
    "/search?q={}",
    "/admin/audit?find={}",
    "/admin/audit?before={}",
    "/admin/deliveries?state={}",
    "/hooks/1/log?run={}",
    "/sign-in?next={}",
    "/sign-in/house/callback?state={}&code={}",
    "/static/nixmill.js?v={}",
)


async def test_nothing_in_a_query_makes_a_mistake_of_ours(root: Browser) -> None:
    await harmless(root, [query.replace("{}", nasty) for nasty in NASTY for query in QUERIES])


FORMS: Final = (
    ("/admin/users", {"name": "a\0b"}),
    ("/admin/users", {"name": "bob", "email": "a\0b"}),
    ("/p/mill/members", {"user": "a\0b", "role": "viewer"}),
    ("/p/mill/members", {"user": "root", "role": "a\0b"}),
    ("/account/tokens", {"name": "a\0b", "scopes": "read"}),
    ("/account/tokens", {"name": "a", "scopes": "read", "project": "a\0b"}),
    ("/account/tokens/revoke", {"id": str(10**40)}),
    ("/account/sessions", {"session": "a\0b"}),
    ("/account/identities", {"pending": "a\0b"}),
    (f"/admin/users/{10**40}", {"what": "disable"}),
    (f"/admin/users/{2**63}", {"what": "disable"}),
)


async def test_nothing_in_a_form_makes_a_mistake_of_ours(root: Browser) -> None:
    answers = [(path, (await root.post(path, fields)).status_code) for path, fields in FORMS]
    assert [answer for answer in answers if answer[1] not in {403, 404, 422}] == []


async def test_nobody_signs_in_with_an_impossible_name(world: WebWorld) -> None:
    client = (await world.browser(headers={"Accept": "application/json"})).http
    for name in (b"a\0b", b"a\\u0000b", "\ud800".encode("utf-8", "surrogatepass"), b"x" * 10_000, b"' OR 1=1 --"):
        body = b'{"name": "%s", "password": "x"}' % name
        answer = await client.post("/sign-in", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in {400, 403, 422}
