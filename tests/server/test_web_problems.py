"""What people and programs are told when something is wrong, over real HTTP."""

import gzip
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx2
import pytest
from structlog.testing import capture_logs

from nixmill.config.server import ServerSettings
from nixmill.core.access import Visibility
from tests.support.postgres import postgres, running_postgres
from tests.support.web import WebWorld, web_world

__all__ = ["postgres"]
JSON = {"Accept": "application/json"}


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with web_world(ServerSettings(body_bytes=10_000)) as made:
        yield made


@pytest.mark.parametrize(
    "path", ["/nothing", "/p/nothing", "/r/999", "/r/x", "/static/nothing.js", "/static/..%2Fapp.py"]
)
async def test_what_is_not_there_is_404_as_a_page_and_as_json(world: WebWorld, path: str) -> None:
    browser = await world.browser()
    page = await browser.get(path)
    assert page.status_code == 404
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<main" in page.text
    assert "no such page" in page.text or "There is no" in page.text
    for answer in (await browser.get(path, headers=JSON), await browser.get(f"{path}.json")):
        assert answer.status_code == 404
        if answer.headers["content-type"] == "application/json":
            assert set(answer.json()) == {"error", "remedy"}


async def test_a_hidden_project_is_answered_as_one_that_is_missing(world: WebWorld) -> None:
    await world.project("secret", Visibility.PRIVATE)
    browser = await world.browser(headers=JSON)
    for path in ("/p/{}", "/p/{}/members"):
        hidden, missing = await browser.get(path.format("secret")), await browser.get(path.format("absent"))
        assert hidden.status_code == missing.status_code == 404
        assert hidden.text.replace("secret", "absent") == missing.text
        assert hidden.headers["content-length"] == missing.headers["content-length"]


async def test_a_wrong_method_is_405_and_says_which_are_right(world: WebWorld) -> None:
    answer = await (await world.browser()).http.delete("/current-user", headers=JSON)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"
    assert "error" in answer.json()


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"name": 1}', "application/json", 422),
        (b'{"name": "a", "password": "b", "paswrd": 1}', "application/json", 422),
        (b"name=a", "text/plain", 415),
        (b"name=a", "multipart/form-data; boundary=x", 415),
        (b"x" * 10_001, "application/json", 413),
    ],
)
async def test_a_bad_body_is_refused_in_words(world: WebWorld, content: bytes, kind: str, code: int) -> None:
    client = (await world.browser()).http
    answer = await client.post("/sign-in", content=content, headers={**JSON, "Content-Type": kind})
    assert answer.status_code == code, answer.text
    assert answer.json()["error"] and answer.json()["remedy"]


async def test_an_endless_body_is_cut_off(world: WebWorld) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100_000_000:
            sent += 5_000
            yield b"x" * 5_000

    client = (await world.browser()).http
    try:
        answer = await client.post("/sign-in", content=endless(), headers={**JSON, "Content-Type": "application/json"})
        assert answer.status_code == 413
    except (httpx2.WriteError, httpx2.ReadError):  # the server closed while more was being sent
        pass
    assert sent < 50_000_000


async def test_a_mistake_of_ours_is_500_with_a_number_that_the_log_has_too() -> None:
    async def broken(_name: str) -> None:
        raise ValueError("secret detail")

    async with web_world(projects=SimpleNamespace(project=broken)) as world:
        with capture_logs() as log:
            page = await (await world.browser()).get("/p/mill/members")
            answer = await (await world.browser(headers=JSON)).get("/p/mill/members")
    assert page.status_code == answer.status_code == 500
    assert "it is our fault" in page.text
    assert "secret detail" not in page.text + answer.text and "Traceback" not in page.text + answer.text
    assert [entry["id"] for entry in log] == [entry["id"] for entry in log if entry["id"] in page.text + answer.text]
    assert answer.json()["id"] == log[1]["id"]
    assert "content-security-policy" in page.headers


async def test_while_the_database_is_gone_a_page_says_so_and_nothing_is_lost() -> None:
    with running_postgres() as cluster:
        async with web_world(where=cluster.url(cluster.new())) as world:
            browser = await world.signed_in("anna")
            cluster.stop()
            page = await browser.get("/account")
            assert page.status_code == 503
            assert "Nothing is lost" in page.text and 'href="/account"' in page.text and "<main" in page.text
            assert page.headers["retry-after"] == "5"
            assert "postgres" not in page.text and str(cluster.directory) not in page.text
            answer = await browser.get("/current-user", headers=JSON)
            assert answer.status_code == 503 and set(answer.json()) == {"error", "remedy"}
            assert (await browser.get("/nothing")).status_code == 404
            cluster.start()
            for _ in range(50):
                if (await browser.get("/account")).status_code == 200:
                    break
            assert (await browser.get("/account")).status_code == 200


async def test_every_answer_has_the_headers_that_keep_browsers_safe(world: WebWorld) -> None:
    browser = await world.browser()
    for path in ("/sign-in", "/nothing", "/static/nixmill.js", "/current-user.json"):
        headers = (await browser.get(path)).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self' 'sha256-")
        assert "frame-ancestors 'none'" in policy and "form-action 'self'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


async def test_head_is_get_without_the_body(world: WebWorld) -> None:
    answer = await (await world.browser()).http.head("/sign-in")
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-type"].startswith("text/html")


async def test_pages_are_compressed_for_who_wants_it(world: WebWorld) -> None:
    browser = await world.browser()
    async with browser.http.stream("GET", "/sign-in", headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert b"<form" in gzip.decompress(raw)
    plain = await browser.get("/sign-in", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers


async def test_static_files_are_kept_for_ever_by_their_digest_and_checked_without(world: WebWorld) -> None:
    browser = await world.browser()
    digest = (await browser.get("/static/nixmill.js")).headers["etag"].strip('"')
    kept = await browser.get(f"/static/nixmill.js?v={digest}")
    assert kept.headers["content-type"] == "text/javascript; charset=utf-8"
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert f"/static/nixmill.js?v={digest}" in (await browser.get("/sign-in")).text
    assert (await browser.get("/static/nixmill.js?v=other")).headers["cache-control"] == "no-cache"
    assert (await browser.get("/static/nixmill.js", headers={"If-None-Match": f'"{digest}"'})).status_code == 304


async def test_addresses_of_clients_are_believed_from_trusted_proxies_alone() -> None:
    believed = {"X-Forwarded-For": "203.0.113.9, 192.0.2.7, 127.0.0.1"}
    for trusted, address in ((("127.0.0.1",), "192.0.2.7"), (("192.0.2.0/24",), "127.0.0.1")):
        async with web_world(ServerSettings(trusted_proxies=trusted)) as world:
            await world.user("anna")
            browser = await world.browser(headers=believed)
            await browser.sign_in("anna")
            assert world.office.audited[-1].address == address


async def test_a_forwarded_address_that_is_none_is_not_believed(world: WebWorld) -> None:
    await world.user("anna")
    await (await world.browser(headers={"X-Forwarded-For": "<script>, nonsense"})).sign_in("anna")
    assert world.office.audited[-1].address == "127.0.0.1"


async def test_no_link_follows_from_the_host_that_a_request_claims(world: WebWorld) -> None:
    browser = await world.browser(headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    for path in ("/sign-in", "/account", "/nothing"):
        answer = await browser.get(path)
        assert "evil.example" not in answer.text + str(answer.headers)


async def test_a_stranger_is_shown_the_way_to_sign_in_and_back(world: WebWorld) -> None:
    browser = await world.browser()
    answer = await browser.get("/account?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Faccount%3Fx%3D1")
    assert (await browser.get("/account", headers=JSON)).status_code == 403


async def test_a_mistake_in_the_query_is_named(world: WebWorld) -> None:
    answer = await (await world.browser()).get("/sign-in/house?link=perhaps", headers=JSON)
    assert answer.status_code in {400, 404}
