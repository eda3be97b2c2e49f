"""Signing in with a forge: GitHub by OAuth, Gitea and GitLab as OpenID providers, over real HTTP."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest

from nixmill.config.forges import ForgeSettings
from nixmill.config.server import ServerSettings
from nixmill.core.account import Identity
from nixmill.core.forge import ForgeKind
from tests.support.github_oauth import CLIENT, OTHER, SECRET, Github, running_github
from tests.support.oidc_provider import CLIENT as OIDC_CLIENT
from tests.support.oidc_provider import SECRET as OIDC_SECRET
from tests.support.oidc_provider import RunningProvider, running_provider
from tests.support.web import Browser, WebWorld, web_world


@pytest.fixture
def github() -> Iterator[Github]:
    with running_github() as made:
        yield made


@pytest.fixture(scope="module")
def provider() -> Iterator[RunningProvider]:
    with running_provider() as made:
        yield made


def settings(url: str, secret: Path, kind: ForgeKind = ForgeKind.GITHUB, **more: object) -> ServerSettings:
    github = kind is ForgeKind.GITHUB
    secret.write_text((SECRET if github else OIDC_SECRET) + "\n")
    told: dict[str, object] = {"name": "hub", "kind": kind, "url": url, "client_id": CLIENT if github else OIDC_CLIENT}
    told |= {"client_secret": "oauth", "admins": ("2002",), **more}
    return ServerSettings(forges=(ForgeSettings(**told),), credentials={"oauth": secret})  # type: ignore[arg-type]


@pytest.fixture
async def world(github: Github, tmp_path: Path) -> AsyncIterator[WebWorld]:
    async with web_world(settings(github.url, tmp_path / "secret")) as made:
        yield made


async def go(browser: Browser, path: str = "/sign-in/hub?next=/p/mill") -> httpx2.Response:
    """Sign in there: to the forge, and back."""
    there = await browser.get((await browser.get(path)).headers["location"])
    assert there.status_code == 302, there.text
    return await browser.get(there.headers["location"])


async def name_of(browser: Browser) -> str:
    return str((await browser.get("/current-user")).json().get("name"))


async def identity_of(world: WebWorld, name: str) -> Identity:
    user = await world.site.accounts.user(name)
    assert user is not None
    found = await world.site.members.identity(user.id, "hub")
    assert found is not None
    return found


async def test_somebody_signs_in_with_their_account_there(world: WebWorld, github: Github) -> None:
    browser = await world.browser()
    assert f"Sign in with {urlsplit(github.url).netloc}" in (await browser.get("/sign-in")).text
    answer = await go(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/p/mill")
    assert await name_of(browser) == "anna"
    assert await identity_of(world, "anna") == Identity(provider="hub", subject="1001", login="anna")


async def test_the_browser_carries_no_secret_there(world: WebWorld) -> None:
    away = (await (await world.browser()).get("/sign-in/hub")).headers["location"]
    query = parse_qs(urlsplit(away).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == [f"{world.url}/sign-in/hub/callback"]
    assert len(query["state"][0]) >= 40
    assert not {"client_secret", "code_verifier", "scope"} & query.keys()


async def test_a_login_that_changed_is_kept_and_one_that_changed_hands_gives_nothing(
    world: WebWorld, github: Github
) -> None:
    await go(await world.browser())
    github.person = {"id": 1001, "login": "anna-new", "type": "User"}
    again = await world.browser()
    await go(again)
    assert await name_of(again) == "anna"
    assert (await identity_of(world, "anna")).login == "anna-new"
    github.person = {"id": 3003, "login": "anna", "type": "User"}
    other = await world.browser()
    await go(other)
    assert await name_of(other) == "anna-2"


async def test_ids_of_the_settings_are_administrators_and_logins_never(world: WebWorld, github: Github) -> None:
    github.person = {"id": 5, "login": "2002", "type": "User"}
    namesake = await world.browser()
    await go(namesake)
    assert (await namesake.get("/current-user")).json()["admin"] is False
    github.person = {"id": 2002, "login": "root", "type": "User"}
    root = await world.browser()
    await go(root)
    assert (await root.get("/current-user")).json()["admin"] is True


async def test_without_sign_up_nobody_new_gets_in(github: Github, tmp_path: Path) -> None:
    async with web_world(settings(github.url, tmp_path / "secret", sign_up=False)) as world:
        answer = await go(await world.browser())
        assert answer.status_code == 403
        assert await world.site.accounts.users() == []


@pytest.mark.parametrize(
    ("lie", "code"),
    [("denied", 403), ("no token", 403), ("odd token", 403), ("revoked", 403), ("huge", 403), ("no json", 403),
     ("down", 503)],
)  # fmt: skip
async def test_a_forge_that_lies_signs_nobody_in(world: WebWorld, github: Github, lie: str, code: int) -> None:
    github.lie = lie
    browser = await world.browser()
    answer = await go(browser)
    assert answer.status_code == code, answer.text
    assert (await browser.get("/current-user")).status_code == 403
    assert await world.site.accounts.users() == []


@pytest.mark.parametrize(
    "person",
    [
        {"login": "anna"},
        {"id": None, "login": "anna"},
        {"id": "1001", "login": "anna"},
        {"id": 0, "login": "anna"},
        {"id": True, "login": "anna"},
        {"id": 7, "login": ""},
        {"id": 7, "login": "acme", "type": "Organization"},
    ],
)
async def test_a_user_without_an_id_is_nobody(world: WebWorld, github: Github, person: dict[str, object]) -> None:
    github.person = person
    assert (await go(await world.browser())).status_code == 403
    assert await world.site.accounts.users() == []


async def test_a_code_is_good_once_and_only_where_it_was_asked_for(world: WebWorld, github: Github) -> None:
    attacker, victim = await world.browser(), await world.browser()
    away = (await attacker.get("/sign-in/hub")).headers["location"]
    back = (await attacker.get(away)).headers["location"]
    await victim.get("/sign-in/hub")
    assert (await victim.get(back)).status_code == 403, "begun in another browser"
    assert (await attacker.get(back)).status_code == 303
    assert (await attacker.get(back)).status_code == 403, "used before"
    code = parse_qs(urlsplit(back).query)["code"][0]
    state = parse_qs(urlsplit((await attacker.get("/sign-in/hub")).headers["location"]).query)["state"][0]
    again = f"/sign-in/hub/callback?{urlencode({'state': state, 'code': code})}"
    assert (await attacker.get(again)).status_code == 403, "redeemed before"


async def test_a_wrong_state_or_the_code_of_another_client_or_verifier_signs_nobody_in(
    world: WebWorld, github: Github
) -> None:
    """The code that somebody gave to another program is worth nothing here (RFC 9700, 4.5: injection)."""
    callback = f"{world.url}/sign-in/hub/callback"
    for client in (OTHER, CLIENT):
        browser = await world.browser()
        state = parse_qs(urlsplit((await browser.get("/sign-in/hub")).headers["location"]).query)["state"][0]
        code = github.code({"client_id": client, "redirect_uri": callback, "code_challenge": "x" * 43})
        for given in ("wrong", state):
            answer = await browser.get(f"{callback}?{urlencode({'state': given, 'code': code})}")
            assert answer.status_code == 403
    assert await world.site.accounts.users() == []


async def test_a_forge_that_cannot_be_reached_is_our_trouble(tmp_path: Path) -> None:
    with running_github() as gone:
        url = gone.url
    async with web_world(settings(url, tmp_path / "secret")) as world:
        browser = await world.browser()
        state = parse_qs(urlsplit((await browser.get("/sign-in/hub")).headers["location"]).query)["state"][0]
        answer = await browser.get(f"/sign-in/hub/callback?{urlencode({'state': state, 'code': 'x'})}")
        assert answer.status_code == 503


@pytest.mark.parametrize("kind", [ForgeKind.GITEA, ForgeKind.GITLAB])
async def test_other_forges_are_openid_providers(provider: RunningProvider, tmp_path: Path, kind: ForgeKind) -> None:
    provider.lie("")
    provider.sign_in_as(sub="17", preferred_username="gina")
    async with web_world(settings(provider.issuer, tmp_path / "secret", kind)) as world:
        browser = await world.browser()
        assert (await go(browser)).status_code == 303
        assert await identity_of(world, "gina") == Identity(provider="hub", subject="17", login="gina")


@pytest.mark.parametrize(("lie", "code"), [("told beside", 303), ("told of another", 403)])
async def test_what_somebody_is_called_may_stand_beside_the_token_and_only_of_themselves(
    provider: RunningProvider, tmp_path: Path, lie: str, code: int
) -> None:
    """GitLab says it at its userinfo endpoint."""
    provider.sign_in_as(sub="18", preferred_username="lab")
    provider.lie(lie)
    async with web_world(settings(provider.issuer, tmp_path / "secret", ForgeKind.GITLAB)) as world:
        assert (await go(await world.browser())).status_code == code
        if code == 303:
            assert (await identity_of(world, "lab")).login == "lab"
    provider.lie("")


async def test_gerrit_and_a_forge_without_a_client_have_no_button(tmp_path: Path) -> None:
    for more in ({"kind": ForgeKind.GERRIT}, {"client_id": ""}):
        told = settings("https://forge.example", tmp_path / "secret", **more)
        async with web_world(told) as world:
            browser = await world.browser()
            assert "Sign in with" not in (await browser.get("/sign-in")).text
            assert (await browser.get("/sign-in/hub")).status_code == 404
