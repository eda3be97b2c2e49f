"""Hydra's addresses for triggers over real HTTP (W18-W21): who may, what matches, and what never does."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nixmill.config.forges import ForgeSettings
from nixmill.config.server import ServerSettings
from nixmill.core.access import Role, Scope, Visibility
from nixmill.core.forge import ForgeKind
from nixmill.core.project import Jobset, Project
from nixmill.web.hydra_push import place_of
from tests.support.gitea_server import GiteaServer
from tests.support.gitea_world import GiteaWorld
from tests.support.github_server import GitHub, serving
from tests.support.github_world import GitHubWorld
from tests.support.web import Browser, WebWorld, web_world

PATH = "octo/hello"
FORGES = (
    ForgeSettings(name="hub", kind=ForgeKind.GITHUB, url="https://github.com"),
    ForgeSettings(name="tea", kind=ForgeKind.GITEA, url="https://tea.example"),
)
FROM = {
    "/api/push-github": ("X-Hub-Signature-256", "sha256=", "https://github.com/octo/hello.git"),
    "/api/push-gitea": ("X-Gitea-Signature", "", "ssh://git@tea.example:2222/octo/hello"),
}


@dataclass
class Scene:
    """The application beside two forges; one project of each, one on neither, and look-alikes."""

    world: WebWorld
    projects: dict[str, Project]

    def done(self, method: str) -> list[tuple[Any, ...]]:
        """Return what the office was told to do."""
        return [arguments for name, arguments in self.world.office.calls if name == method]


async def _project(world: WebWorld, name: str, **fields: Any) -> Project:  # noqa: ANN401 - of a project
    kept = await world.site.projects.save_project(Project(name=name, **fields))
    await world.site.projects.save_jobsets(kept.id, [Jobset(name="main"), Jobset(name="off", enabled=False)])
    world.office.of_push[kept.id] = (Jobset(name="main"),)
    return kept


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    (tmp_path / "hub").mkdir()
    (tmp_path / "tea").mkdir(mode=0o700)
    tea = GiteaServer()
    async with web_world(ServerSettings(forges=FORGES)) as world:
        with serving(GitHub()) as hub, tea.running():
            edges: dict[str, Any] = {
                "hub": GitHubWorld(hub, tmp_path / "hub").forge,
                "tea": GiteaWorld(tea, tmp_path / "tea").forge,
            }
            world.site.forges.update(edges)  # type: ignore[attr-defined]
            projects = {
                "hub": await _project(world, "ofhub", url="https://x.example/a", forge="hub", repository="Octo/Hello"),
                "tea": await _project(world, "oftea", url="https://x.example/b", forge="tea", repository=PATH),
            }
            for at, (_, _, url) in enumerate(FROM.values()):
                projects[url] = await _project(world, f"plain{at}", url=url)
            for at, url in enumerate(("https://github.com/octo/hello-world", "https://evil.example/octo/hello")):
                await _project(world, f"alike{at}", url=url)
            await _project(world, "longer", url="https://x.example/c", forge="hub", repository="octo/hello2")
            await _project(world, "asleep", url="https://github.com/octo/hello", enabled=False)
            yield Scene(world, projects)
            for edge in edges.values():
                await edge.aclose()


def body_of(path: str = PATH) -> bytes:
    repository = {"id": 5, "full_name": path, "name": path.split("/")[1], "owner": {"login": "octo", "id": 1}}
    urls = {"html_url": f"https://github.com/{path}", "clone_url": f"https://github.com/{path}.git"}
    commit = "a" * 40
    pushed = {"ref": "refs/heads/main", "before": "0" * 40, "after": commit, "commits": []}
    who = {"login": "sam", "id": 9, "type": "User"}
    more = {"default_branch": "main", "private": False, "visibility": "public", "archived": False}
    return json.dumps({**pushed, "repository": repository | urls | more, "sender": who, "pusher": who}).encode()


async def sent(browser: Browser, address: str, secret: str | None, body: bytes = b"") -> tuple[int, str]:
    header, prefix, _ = FROM[address]
    body = body or body_of()
    headers = {"X-GitHub-Event": "push", "X-Gitea-Event": "push", "Content-Type": "application/json"}
    if secret is not None:
        headers[header] = prefix + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    answer = await browser.http.post(address, content=body, headers=headers)
    return answer.status_code, answer.text


@pytest.mark.parametrize("address", FROM)
async def test_a_webhook_needs_a_signature_by_one_of_the_secrets(scene: Scene, address: str) -> None:
    """W20, W21: none, a wrong one, the first secret, the second one."""
    browser = await scene.world.browser(headers={"Accept": "application/json"})
    code, said = await sent(browser, address, None)
    assert (code, "Missing" in said) == (401, True)
    code, said = await sent(browser, address, "wrong")
    assert (code, "Invalid" in said) == (401, True)
    assert scene.world.office.calls == []
    for secret in ("new", "old"):
        code, said = await sent(browser, address, secret)
        assert code == 200, said
        assert json.loads(said)["jobsetsTriggered"], secret


@pytest.mark.parametrize("address", FROM)
async def test_only_projects_of_just_that_repository_are_triggered(scene: Scene, address: str) -> None:
    """W19: by what the project says of its forge, and by its address."""
    browser = await scene.world.browser(headers={"Accept": "application/json"})
    _, said = await sent(browser, address, "new")
    name, plain = ("ofhub", "plain0") if address.endswith("hub") else ("oftea", "plain1")
    assert json.loads(said) == {"jobsetsTriggered": [f"{name}:main", f"{plain}:main"]}
    assert [arguments[0].name for arguments in scene.done("pushed")] == [plain]
    assert len(scene.done("took")) == 1


async def test_without_a_forge_of_that_kind_nothing_is_believed(tmp_path: Path) -> None:
    async with web_world(ServerSettings()) as world:
        browser = await world.browser(headers={"Accept": "application/json"})
        for address in FROM:
            assert (await sent(browser, address, "new"))[0] == 401
            assert (await sent(browser, address, None))[0] == 401


@pytest.mark.parametrize("address", FROM)
async def test_nonsense_that_is_signed_is_400(scene: Scene, address: str) -> None:
    browser = await scene.world.browser(headers={"Accept": "application/json"})
    for body in (b"{", b"[]", b"\xff", b'{"repository": 3}'):
        assert (await sent(browser, address, "new", body))[0] == 400, body


async def test_jobsets_are_triggered_by_name_and_by_address(scene: Scene) -> None:
    """W18."""
    owner = await scene.world.user("olga")
    for project in scene.projects.values():
        await scene.world.site.members.set_member(project.id, owner.id, Role.OWNER)
    browser = await scene.world.api(await scene.world.token("olga", Scope.READ, Scope.RUN))
    answer = await browser.http.post("/api/push?jobsets=ofhub:main,oftea:main&force=1")
    assert answer.json() == {"jobsetsTriggered": ["ofhub:main", "oftea:main"]}
    assert [arguments[3] for arguments in scene.done("trigger")] == [True, True]
    answer = await browser.http.post("/api/push", params={"repos": "git@github.com:octo/hello.git"})
    assert answer.json() == {"jobsetsTriggered": ["plain0:main"]}
    assert scene.done("trigger")[-1][3] is False
    assert (await browser.http.post("/api/push?jobsets=ofhub:none")).status_code == 404
    assert (await browser.http.post("/api/push?jobsets=nobody:main")).status_code == 404
    assert (await browser.http.post("/api/push?repos=octo/hello,https://[,///")).json() == {"jobsetsTriggered": []}


async def test_nobody_triggers_what_they_may_not(scene: Scene) -> None:
    """One jobset without rights, and nothing at all is done."""
    hidden = await _project(scene.world, "hidden", url="https://h.example/h/h", visibility=Visibility.PRIVATE)
    await scene.world.user("vera")
    await scene.world.site.members.set_member(scene.projects["hub"].id, scene.world.users["vera"].id, Role.MEMBER)
    stranger = await scene.world.browser(headers={"Accept": "application/json"})
    for query in ("", "?jobsets=ofhub:main", f"?repos={hidden.url}"):
        assert (await stranger.http.post(f"/api/push{query}")).status_code == 403
    wrong = await scene.world.api("nm_wrong")
    assert (await wrong.http.post("/api/push?jobsets=ofhub:main")).status_code == 401
    browser = await scene.world.api(await scene.world.token("vera", Scope.READ, Scope.RUN))
    assert (await browser.http.post("/api/push?jobsets=ofhub:main,oftea:main")).status_code == 403
    assert (await browser.http.post("/api/push?jobsets=ofhub:main,hidden:main")).status_code == 404
    assert (await browser.http.post(f"/api/push?repos={hidden.url}")).json() == {"jobsetsTriggered": []}
    reader = await scene.world.api(await scene.world.token("vera", Scope.READ))
    assert (await reader.http.post("/api/push?jobsets=ofhub:main")).status_code == 403
    assert scene.done("trigger") == []


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://GitHub.com/Octo/Hello.git", ("github.com", "octo/hello")),
        ("git@github.com:octo/hello.git", ("github.com", "octo/hello")),
        ("ssh://git@tea.example:2222/octo/hello/", ("tea.example", "octo/hello")),
        ("github:octo/hello", ("github", "octo/hello")),
        ("file:///srv/octo/hello", ("", "srv/octo/hello")),
        ("https://[", ("", "")),
        ("octo/hello", ("", "")),
    ],
)
def test_where_a_repository_is(url: str, place: tuple[str, str]) -> None:
    assert place_of(url) == place
