"""Every route against everybody: a table says what each needs, and a route that is not in it fails the test."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from nixmill.core.access import Action, Role, Scope, Viewer, Visibility, allowed
from nixmill.core.hook import HookRun
from nixmill.core.project import Project
from nixmill.edge.database.pull_requests import SqlPullRequests
from nixmill.nix.store_path import base_name
from nixmill.web import app
from nixmill.web.app import routers
from tests.support.forge_things import a_pull, a_pull_change
from tests.support.pages_world import World, drv
from tests.support.web import Browser, WebWorld, web_world

NAME: Final = "hiddenmill"
"""A project, private, internal or public. Nobody who may not see it reads its name anywhere."""
OPEN: Final = "everybody"
SIGNED: Final = "whoever proved who they are"
SESSION: Final = "people, not API tokens"
Need = Action | str

NEEDS: Final[dict[tuple[str, str], Need]] = {
    ("GET", "/"): OPEN,
    ("GET", "/account"): SESSION,
    ("POST", "/account/identities"): SESSION,
    ("POST", "/account/password"): SESSION,
    ("POST", "/account/sessions"): "apart: test_web_account",
    ("POST", "/account/tokens"): SESSION,
    ("POST", "/account/tokens/revoke"): SESSION,
    ("GET", "/admin"): Action.SEE_ADMIN,
    ("GET", "/admin/audit"): Action.SEE_ADMIN,
    ("GET", "/admin/deliveries"): Action.SEE_ADMIN,
    ("POST", "/admin/deliveries/{parcel}/replay"): Action.CHANGE_SERVER,
    ("GET", "/admin/retention"): Action.SEE_ADMIN,
    ("POST", "/admin/retention"): Action.CHANGE_SERVER,
    ("GET", "/admin/users"): Action.SEE_ADMIN,
    ("POST", "/admin/users"): Action.CHANGE_USERS,
    ("POST", "/admin/users/{number}"): Action.CHANGE_USERS,
    ("POST", "/admin/users/{number}/delete"): Action.CHANGE_USERS,
    ("GET", "/api"): OPEN,
    ("GET", "/api/openapi.json"): OPEN,
    ("POST", "/api/push"): "apart: test_hydra_push",
    ("POST", "/api/push-gitea"): "apart: signed by its sender",
    ("POST", "/api/push-github"): "apart: signed by its sender",
    ("GET", "/caches"): OPEN,
    ("GET", "/caches/{name}"): "apart: test_web_roots",
    ("POST", "/caches/{name}/retry"): "apart: test_web_roots",
    ("GET", "/compare"): "apart: leads on to the pair that is named",
    ("GET", "/compare/{before}/{after}"): Action.SEE,
    ("GET", "/current-user"): SIGNED,
    ("GET", "/d/{name}"): Action.SEE,
    ("GET", "/healthz"): OPEN,
    ("GET", "/approvals"): OPEN,
    ("POST", "/hook/forge/{name}"): "apart: signed by its sender",
    ("POST", "/hook/{name}"): "apart: signed by its sender",
    ("GET", "/hooks/{id_}/log"): Action.SEE_HOOK_LOG,
    ("GET", "/log/{attempt}"): Action.SEE,
    ("GET", "/log/{attempt}/raw"): Action.SEE,
    ("GET", "/machines"): OPEN,
    ("GET", "/metrics"): OPEN,
    ("POST", "/p"): Action.ADD_PROJECT,
    ("POST", "/p/new"): Action.ADD_PROJECT,
    ("GET", "/p/new"): Action.ADD_PROJECT,
    ("GET", "/p/{name}"): Action.SEE,
    ("PUT", "/p/{name}"): Action.CHANGE_PROJECT,
    ("PATCH", "/p/{name}"): Action.CHANGE_PROJECT,
    ("DELETE", "/p/{name}"): Action.DELETE_PROJECT,
    ("GET", "/p/{name}/a/{attribute:path}"): Action.SEE,
    ("GET", "/p/{name}/b/{ref:path}"): Action.SEE,
    ("GET", "/p/{name}/badge.svg"): Action.SEE,
    ("POST", "/p/{name}/delete"): Action.DELETE_PROJECT,
    ("POST", "/p/{name}/failures/forget"): Action.CLEAR_FAILURE,
    ("GET", "/p/{name}/feed.atom"): Action.SEE,
    ("POST", "/p/{name}/look"): Action.START,
    ("GET", "/p/{name}/members"): Action.CHANGE_MEMBERS,
    ("POST", "/p/{name}/members"): Action.CHANGE_MEMBERS,
    ("GET", "/p/{name}/pull/{number}"): Action.SEE,
    ("POST", "/p/{name}/pull/{number}/approve"): Action.APPROVE,
    ("GET", "/p/{name}/pulls"): Action.SEE,
    ("GET", "/p/{name}/roots"): Action.SEE,
    ("POST", "/p/{name}/roots/pin"): Action.PIN,
    ("POST", "/p/{name}/roots/unpin"): Action.PIN,
    ("GET", "/p/{name}/rules"): Action.CHANGE_PROJECT,
    ("POST", "/p/{name}/rules"): Action.CHANGE_PROJECT,
    ("GET", "/p/{name}/settings"): Action.CHANGE_PROJECT,
    ("POST", "/p/{name}/settings"): Action.CHANGE_PROJECT,
    ("POST", "/p/{name}/start"): Action.START,
    ("GET", "/queue"): OPEN,
    ("GET", "/runs"): OPEN,
    ("GET", "/r/{number}"): Action.SEE,
    ("POST", "/r/{number}/cancel"): Action.CANCEL,
    ("POST", "/r/{number}/retry"): Action.RETRY,
    ("GET", "/r/{number}/timeline"): Action.SEE,
    ("GET", "/r/{number}/why/{name:path}"): Action.SEE,
    ("GET", "/roots"): OPEN,
    ("GET", "/roots/collection"): Action.SEE_ADMIN,
    ("POST", "/roots/collection"): Action.CHANGE_SERVER,
    ("POST", "/roots/pin"): Action.CHANGE_SERVER,
    ("POST", "/roots/unpin"): Action.CHANGE_SERVER,
    ("GET", "/search"): OPEN,
    ("GET", "/sign-in"): OPEN,
    ("POST", "/sign-in"): "apart: test_web_sign_in",
    ("GET", "/sign-in/{provider}"): "apart: test_web_oidc",
    ("GET", "/sign-in/{provider}/callback"): "apart: test_web_oidc",
    ("POST", "/sign-out"): "apart: test_web_sign_in",
    ("GET", "/static/{name}"): OPEN,
}
STREAMS: Final = (
    "/p/{name}/pulls",
    "/p/{name}/pull/{number}",
    "/r/{number}",
    "/p/{name}",
    "/p/{name}/b/{ref:path}",
    "/log/{attempt}",
)
"""Pages that are followed live: the same rights, asked for as events."""
QUERY: Final = {"/p/{name}/a/{attribute:path}": "?ref=main", "/search": "?q=hidden"}
READING: Final = frozenset(
    {
        "queue",
        "machines",
        "needs",
        "checklist",
        "forecasts",
        "why",
        "wait_reason",
        "numbers",
        "to_approve",
        "forge_role",
        "streams",
    }
)
"""What the office is asked without doing anything."""
PEOPLE: Final = ("stranger", "outsider", "viewer", "member", "owner", "admin")
TOKENS: Final = {
    "read token": ("owner", (Scope.READ,)),
    "run token": ("owner", (Scope.READ, Scope.RUN)),
    "admin's read token": ("admin", (Scope.READ,)),
    "token of another project": ("admin", tuple(Scope)),
}


def routes() -> set[tuple[str, str]]:
    """Return method and path of every route."""
    return {
        (method, route.path)  # type: ignore[attr-defined]
        for router in routers()
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }


@dataclass
class Persona:
    """Somebody who asks."""

    name: str
    viewer: Viewer
    browser: Browser
    token: bool

    def expected(self, need: Need, project: Project) -> set[int]:
        """Return the codes that refuse this persona; empty where it may."""
        match need:
            case Action():
                return self._by_action(need, project)
            case "people, not API tokens":
                return {403} if self.token or not self.viewer.signed_in else set()
            case "whoever proved who they are":
                return set() if self.viewer.signed_in else {403}
            case _:
                return set()

    def _by_action(self, need: Action, project: Project) -> set[int]:
        if need in {Action.ADD_PROJECT, Action.SEE_ADMIN, Action.CHANGE_SERVER, Action.CHANGE_USERS}:
            return set() if allowed(self.viewer, need) else {403}
        if allowed(self.viewer, need, project.id, project.visibility):
            return set()
        return {403 if allowed(self.viewer, Action.SEE, project.id, project.visibility) else 404}


@dataclass
class Scene:
    """A world with one project, all kinds of people, and where its things are."""

    world: WebWorld
    project: Project
    personas: list[Persona]
    values: dict[str, str]

    def address(self, path: str) -> str:
        """Return a route's path with things of the project in it."""
        filled = path
        for name, value in self.values.items():
            filled = filled.replace(f"{{{name}}}", value)
        return filled + QUERY.get(path, "")


@pytest.fixture(params=Visibility)
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with web_world() as world:
        pages = World(world.database)
        project = await pages.project(NAME, request.param)
        other = await pages.project("other", Visibility.PUBLIC)
        values = await things(pages, project)
        for name in PEOPLE[1:]:
            await world.user(name, admin=name == "admin")
        values["parcel"], values["number@"] = "1", str((await world.user("spare")).id)
        for role in (Role.VIEWER, Role.MEMBER, Role.OWNER):
            await world.site.members.set_member(project.id, world.users[role].id, role)
        yield Scene(world, project, await personas(world, other.id), values)


async def things(pages: World, project: Project) -> dict[str, str]:
    """Make a run with an attempt and a hook; return what stands for what in the paths of routes."""
    run = await pages.whole(project)
    attempt = await pages.attempt(run, "a-1")
    hook = HookRun(id="hook-1", hook="tell", command=("true",), run=run, project=project.id, attribute="a")
    await pages.changes.ended(run, [], [hook])
    await SqlPullRequests(pages.database, pages.now).saw(project.id, a_pull(), [a_pull_change(project.id)])
    return {
        "number": str(run),
        "pull": "7",
        "before": str(run),
        "after": str(run),
        "attempt": str(attempt),
        "id_": "hook-1",
        "name:path": "checks.x86_64-linux.a",
        "attribute:path": "checks.x86_64-linux.a",
        "ref:path": "main",
        "derivation": base_name(drv("a-1")),
    }


async def personas(world: WebWorld, other: int) -> list[Persona]:
    """Return everybody who asks."""
    made = []
    for name in PEOPLE:
        browser = await world.browser(headers={"Accept": "application/json"})
        viewer = Viewer()
        if name != "stranger":
            browser = await world.signed_in(name)
            browser.http.headers.update({"Accept": "application/json"})
            token = await browser.http.get("/account", headers={"Accept": "text/html"})
            browser.http.headers["X-CSRF-Token"] = token.text.split('name="csrf" value="')[1].split('"')[0]
            viewer = await world.site.accounts.viewer(world.users[name].id) or viewer
        made.append(Persona(name, viewer, browser, token=False))
    for name, (owner, scopes) in TOKENS.items():
        only = other if name == "token of another project" else None
        browser = await world.api(await world.token(owner, *scopes, project=only))
        found = await world.site.accounts.viewer(world.users[owner].id)
        assert found is not None
        limited = Viewer(
            user=found.user,
            name=found.name,
            admin=found.admin,
            roles=found.roles,
            scopes=frozenset(scopes),
            only_project=only,
        )
        made.append(Persona(name, limited, browser, token=True))
    return made


def asked(scene: Scene) -> Iterator[tuple[str, str, Need]]:
    """Yield method, address and need of each route that is asked."""
    for (method, path), need in NEEDS.items():
        if (method, path) not in routes() or (isinstance(need, str) and need.startswith("apart")):
            continue
        of = {"/d/": "derivation", "/static/": "script"}.get(path.partition("{")[0])
        scene.values["name"] = {"derivation": scene.values["derivation"], "script": "nixmill.js"}.get(of or "", NAME)
        number = scene.values["number"]
        if path.startswith("/admin/users/"):
            number = scene.values["number@"]
        if "/pull/" in path:
            number = scene.values["pull"]
        yield method, scene.address(path.replace("{number}", number)), need


def done(scene: Scene) -> int:
    """Return how much the office was told to do, and how much was audited."""
    calls = [call for call, _ in scene.world.office.calls if call not in READING]
    return len(calls) + len(scene.world.office.audited)


async def wrong(scene: Scene, persona: Persona, method: str, address: str, need: Need) -> str:
    """Ask once; return what is wrong with the answer."""
    body: dict[str, Any] = {} if method == "GET" else {"json": {}}
    before = done(scene)
    answer = await persona.browser.http.request(method, address, **body)
    refused = persona.expected(need, scene.project)
    case = f"{persona.name}: {method} {address} -> {answer.status_code}"
    if refused:
        if done(scene) != before:
            return f"{case}, and yet something was done"
        return "" if answer.status_code in refused else f"{case}, expected {refused}"
    if answer.status_code in {401, 403, 404, 405} or answer.status_code >= 500:
        return f"{case}, expected to be allowed: {answer.text[:200]}"
    hidden = not allowed(persona.viewer, Action.SEE, scene.project.id, scene.project.visibility)
    return f"{case} tells of {NAME}" if hidden and NAME in answer.text else ""


def test_every_route_stands_in_the_table() -> None:
    assert sorted(routes() - set(NEEDS)) == []


def test_every_module_with_routes_is_part_of_the_application() -> None:
    with_routes = {path.stem for path in Path(app.__file__).parent.glob("*.py") if "APIRouter(" in path.read_text()}
    assert sorted(with_routes - set(app.MODULES)) == []


async def test_every_route_answers_everybody_as_their_rights_say(scene: Scene) -> None:
    found = [
        sentence
        for method, address, need in asked(scene)
        for persona in scene.personas
        if (sentence := await wrong(scene, persona, method, address, need))
    ]
    assert not found, "\n" + "\n".join(found)


async def test_what_is_followed_live_is_followed_by_those_who_may_see_it(scene: Scene) -> None:
    found = []
    for path in STREAMS:
        scene.values["name"] = NAME
        for persona in scene.personas:
            headers = {"Accept": "text/event-stream"}
            number = scene.values["pull"] if "/pull/" in path else scene.values["number"]
            address = scene.address(path.replace("{number}", number))
            async with persona.browser.http.stream("GET", address, headers=headers) as answer:
                refused = persona.expected(Action.SEE, scene.project)
                if (answer.status_code in refused) if refused else answer.status_code == 200:
                    continue
                found.append(f"{persona.name}: {path} -> {answer.status_code}, expected {refused or 200}")
    assert not found, "\n" + "\n".join(found)
