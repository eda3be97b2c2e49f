"""Signing in with an OpenID Connect provider, a real one in a process of its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from nixmill.config.server import OidcProvider, ServerSettings
from nixmill.core.account import Identity
from tests.support.oidc_provider import CLIENT, SECRET, RunningProvider, running_provider
from tests.support.web import Browser, WebWorld, web_world


@pytest.fixture(scope="module")
def running() -> Iterator[RunningProvider]:
    with running_provider() as made:
        yield made


@pytest.fixture
def provider(running: RunningProvider) -> RunningProvider:
    running.lie("")
    running.sign_in_as(sub="1001", preferred_username="anna", email="anna@example.org")
    return running


def settings(issuer: str, secret: Path, **more: object) -> ServerSettings:
    secret.write_text(SECRET + "\n")
    told = {"name": "house", "title": "The House", "issuer": issuer, "client_id": CLIENT, "client_secret": "oidc"}
    return ServerSettings(oidc=(OidcProvider(**{**told, **more}),), credentials={"oidc": secret})  # type: ignore[arg-type]


@pytest.fixture
async def world(provider: RunningProvider, tmp_path: Path) -> AsyncIterator[WebWorld]:
    async with web_world(settings(provider.issuer, tmp_path / "secret", admins=("2002",))) as made:
        yield made


async def go(browser: Browser, path: str = "/sign-in/house?next=/p/mill") -> httpx2.Response:
    """Sign in there: to the provider, and back."""
    away = await browser.get(path)
    assert away.status_code == 303, away.text
    there = await browser.get(away.headers["location"])
    assert there.status_code == 302, there.text
    return await browser.get(there.headers["location"])


async def name_of(browser: Browser) -> str:
    return str((await browser.get("/current-user")).json().get("name"))


async def test_somebody_new_gets_an_account_and_is_the_same_the_next_time(world: WebWorld) -> None:
    browser = await world.browser()
    answer = await go(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/p/mill")
    assert await name_of(browser) == "anna"
    again = await world.browser()
    await go(again)
    assert await name_of(again) == "anna"
    assert [user.name for user in await world.site.accounts.users()] == ["anna"]
    known = await world.site.accounts.known_as(Identity(provider="house", subject="1001"))
    assert known is not None and known.email == "anna@example.org" and not known.password_hash


async def test_the_browser_carries_no_secret_to_the_provider(world: WebWorld) -> None:
    query = parse_qs(urlsplit((await (await world.browser()).get("/sign-in/house")).headers["location"]).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == [f"{world.url}/sign-in/house/callback"]
    assert "code_verifier" not in query and "client_secret" not in query


async def test_a_name_that_is_taken_gives_nobody_that_account(world: WebWorld) -> None:
    """Whoever controls a name or an e-mail address elsewhere is nobody here."""
    owner = await world.user("anna", email="anna@example.org", admin=True)
    browser = await world.browser()
    await go(browser)
    assert await name_of(browser) == "anna-2"
    assert (await world.site.accounts.known_as(Identity(provider="house", subject="1001"))) != owner


async def test_subjects_of_the_settings_are_administrators(world: WebWorld, provider: RunningProvider) -> None:
    provider.sign_in_as(sub="2002", preferred_username="root/../<b>")
    browser = await world.browser()
    await go(browser)
    assert (await browser.get("/current-user")).json()["admin"] is True
    assert await name_of(browser) == "root..b"


async def test_without_sign_up_nobody_new_gets_in(provider: RunningProvider, tmp_path: Path) -> None:
    async with web_world(settings(provider.issuer, tmp_path / "secret", sign_up=False)) as world:
        answer = await go(await world.browser())
        assert answer.status_code == 403
        assert "new accounts are not made" in answer.text
        assert await world.site.accounts.users() == []


async def test_an_account_gets_an_identity_only_by_its_owners_word(world: WebWorld) -> None:
    browser = await world.signed_in("bob")
    asked = await go(browser, "/sign-in/house?link=true")
    assert asked.status_code == 200
    assert "anna@example.org" in asked.text
    assert await world.site.accounts.known_as(Identity(provider="house", subject="1001")) is None
    pending = asked.text.split('name="pending" value="')[1].split('"')[0]
    stranger = await world.signed_in("eve")
    assert (await stranger.post("/account/identities", {"pending": pending})).status_code == 403
    asked = await go(browser, "/sign-in/house?link=true")
    pending = asked.text.split('name="pending" value="')[1].split('"')[0]
    assert (await browser.post("/account/identities", {"pending": pending})).status_code == 303
    elsewhere = await world.browser()
    await go(elsewhere)
    assert await name_of(elsewhere) == "bob"
    taken = await go(stranger, "/sign-in/house?link=true")
    assert taken.status_code == 403
    assert "belongs to another account" in taken.text


async def test_adding_an_identity_needs_somebody_who_is_signed_in(world: WebWorld) -> None:
    answer = await (await world.browser()).get("/sign-in/house?link=true")
    assert answer.headers["location"].startswith("/sign-in?next=")


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ("nonce", "ID token is not right"),
        ("no nonce", "ID token is not right"),
        ("audience", "ID token is not right"),
        ("issuer", "ID token is not right"),
        ("expired", "ID token is not right"),
        ("nobody", "ID token is not right"),
        ("alg none", "ID token is not right"),
        ("shared secret", "ID token is not right"),
        ("foreign key", "ID token is not right"),
        ("changed", "ID token is not right"),
        ("no token", "sent no ID token"),
        ("denied", "you said no there"),
    ],
)
async def test_a_provider_that_lies_signs_nobody_in(
    world: WebWorld, provider: RunningProvider, lie: str, said: str
) -> None:
    provider.lie(lie)
    browser = await world.browser()
    answer = await go(browser)
    assert answer.status_code == 403, answer.text
    assert said in answer.text
    assert "Traceback" not in answer.text
    assert (await browser.get("/current-user")).status_code == 403
    assert await world.site.accounts.users() == []


@pytest.mark.parametrize(("lie", "code"), [("down", 503), ("other issuer", 403), ("huge", 403)])
async def test_a_provider_that_is_down_or_somebody_else_is_named(
    world: WebWorld, provider: RunningProvider, lie: str, code: int
) -> None:
    provider.lie(lie)
    answer = await (await world.browser()).get("/sign-in/house")
    assert answer.status_code == code
    assert "The House" in answer.text


async def test_a_provider_that_cannot_be_reached_is_our_trouble_and_passwords_still_work(tmp_path: Path) -> None:
    with running_provider() as gone:
        pass
    async with web_world(settings(gone.issuer, tmp_path / "secret")) as world:
        answer = await (await world.browser()).get("/sign-in/house")
        assert answer.status_code == 503
        assert "The sign-in provider The House does not answer" in answer.text
        await world.signed_in("anna")


async def test_new_keys_of_the_provider_are_fetched(world: WebWorld, provider: RunningProvider) -> None:
    await go(await world.browser())
    provider.lie("new key")
    provider.lie("")
    browser = await world.browser()
    assert (await go(browser)).status_code == 303
    assert await name_of(browser) == "anna"


async def test_what_was_begun_elsewhere_or_used_before_signs_nobody_in(world: WebWorld) -> None:
    victim, attacker = await world.browser(), await world.browser()
    away = await attacker.get("/sign-in/house")
    back = (await attacker.get(away.headers["location"])).headers["location"]
    await victim.get("/sign-in/house")
    assert (await victim.get(back)).status_code == 403
    assert (await attacker.get(back)).status_code == 303
    assert (await attacker.get(back)).status_code == 403


async def test_a_sign_in_that_took_too_long_is_over(world: WebWorld) -> None:
    browser = await world.browser()
    away = await browser.get("/sign-in/house")
    back = (await browser.get(away.headers["location"])).headers["location"]
    world.clock.ahead += 601
    assert (await browser.get(back)).status_code == 403


async def test_a_missing_secret_is_said_to_be_the_administrators_to_mend(
    provider: RunningProvider, tmp_path: Path
) -> None:
    async with web_world(settings(provider.issuer, tmp_path / "secret")) as world:
        (tmp_path / "secret").unlink()
        answer = await go(await world.browser())
        assert answer.status_code == 503
        assert "credential" in answer.text


async def test_there_is_no_other_provider(world: WebWorld) -> None:
    assert (await (await world.browser()).get("/sign-in/other")).status_code == 404
