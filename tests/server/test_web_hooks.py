"""Webhooks over real HTTP: only who knows the secret makes the server look, and each delivery counts once."""

import hashlib
import hmac
from collections.abc import AsyncIterator

import pytest

from nixmill.config.server import ServerSettings
from nixmill.core.access import Visibility
from tests.support.web import Browser, WebWorld, web_world
from tests.support.web_office import HalfOffice

BODY = b'{"ref": "refs/heads/main"}'
BODY_MAX = 10_000


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    office = HalfOffice()
    async with web_world(ServerSettings(body_bytes=1024, webhook_bytes=BODY_MAX), office=office) as made:
        office.join(made)
        await made.project("mill", Visibility.PRIVATE)
        yield made


def office(world: WebWorld) -> HalfOffice:
    assert isinstance(world.office, HalfOffice)
    return world.office


async def signature(world: WebWorld, name: str = "mill", body: bytes = BODY) -> str:
    project = await world.site.projects.project(name)
    assert project is not None
    return hmac.new(world.site.office.webhook_secret(project.id).encode(), body, hashlib.sha256).hexdigest()


async def send(
    browser: Browser, headers: dict[str, str], body: bytes = BODY, name: str = "mill"
) -> tuple[int, dict[str, object]]:
    raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
    answer = await browser.http.post(f"/hook/{name}", content=body, headers=raw)
    return answer.status_code, answer.json()


NAMES = [
    ("X-Nixmill-Signature", "sha256=", "X-Nixmill-Delivery"),
    ("X-Hub-Signature-256", "sha256=", "X-GitHub-Delivery"),
    ("X-Gitea-Signature", "", "X-Gitea-Delivery"),
    ("X-Forgejo-Signature", "", "X-Forgejo-Delivery"),
]
"""Headers of signature and delivery, as forges call them, and what stands before the digits."""
WRONG = ("sha256=" + "0" * 64, "0" * 64, "sha256=", "sha1=abc", "ü" * 64, "sha256=\xff\xfe", "sha256=" + "0" * 5000)


async def test_a_signed_webhook_makes_the_server_look_once(world: WebWorld) -> None:
    """W18, W20: valid, by each forge's name of the headers."""
    browser = await world.browser(headers={"Accept": "application/json"})
    for header, prefix, delivery in NAMES:
        headers = {header: prefix + await signature(world), delivery: f"{header} 1"}
        assert await send(browser, headers) == (202, {"accepted": True})
        assert await send(browser, headers) == (200, {"accepted": False})
        assert await send(browser, {**headers, delivery: f"{header} 2"}) == (202, {"accepted": True})
    assert len(office(world).hurried) == 2 * len(NAMES)


async def test_a_wrong_signature_is_401_and_does_nothing(world: WebWorld) -> None:
    """W20: invalid, also where it is no hexadecimal number at all."""
    browser = await world.browser(headers={"Accept": "application/json"})
    for given in WRONG:
        code, said = await send(browser, {"X-Nixmill-Signature": given})
        assert (code, "wrong" in str(said["error"])) == (401, True), given
    assert not office(world).hurried


async def test_without_a_signature_it_is_401_and_says_what_is_missing(world: WebWorld) -> None:
    """W20: missing."""
    code, said = await send(await world.browser(headers={"Accept": "application/json"}), {})
    assert code == 401
    assert "no signature" in str(said["error"])
    assert "X-Nixmill-Signature" in str(said["remedy"])


async def test_the_signature_is_of_this_body_and_this_project(world: WebWorld) -> None:
    await world.project("other")
    browser = await world.browser(headers={"Accept": "application/json"})
    good = {"X-Nixmill-Signature": await signature(world)}
    assert (await send(browser, good, BODY + b" "))[0] == 401
    assert (await send(browser, good, name="other"))[0] == 401
    assert (await send(browser, {"X-Nixmill-Signature": (await signature(world)).upper()}))[0] == 202


async def test_a_project_that_is_not_there_answers_as_one_whose_secret_is_unknown(world: WebWorld) -> None:
    browser = await world.browser(headers={"Accept": "application/json"})
    wrong = {"X-Nixmill-Signature": "sha256=" + "0" * 64}
    assert await send(browser, wrong, name="nobody") == await send(browser, wrong)


async def test_a_renamed_project_keeps_its_webhook(world: WebWorld) -> None:
    project = await world.site.projects.project("mill")
    assert project is not None
    good = {"X-Nixmill-Signature": await signature(world)}
    await world.rename(project, "works")
    browser = await world.browser(headers={"Accept": "application/json"})
    assert (await send(browser, good))[0] == 202
    assert (await send(browser, good, name="works"))[0] == 202


async def test_what_a_webhook_says_does_not_matter(world: WebWorld) -> None:
    """It is a hint: what changed is asked of the repository."""
    browser = await world.browser(headers={"Accept": "application/json"})
    for body in (b"", b"not json", b"\xff\xfe\x00", b"x" * (BODY_MAX - 1)):
        good = {"X-Nixmill-Signature": await signature(world, body=body)}
        assert (await send(browser, good, body))[0] == 202


async def test_an_oversized_webhook_is_413(world: WebWorld) -> None:
    body = b"x" * (BODY_MAX + 1)
    browser = await world.browser(headers={"Accept": "application/json"})
    code, _ = await send(browser, {"X-Nixmill-Signature": await signature(world, body=body)}, body)
    assert code == 413
    assert not office(world).hurried
