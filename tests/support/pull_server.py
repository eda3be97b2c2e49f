"""The whole server beside forges of loopback: real git refs, real webhooks over HTTP, real Nix, a real sandbox."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import httpx2

from nixmill.core.trust import Permission
from tests.contract.forge_world import Colour, ForgeWorld, Happening, Shown, Spec, Where
from tests.support.gerrit_server import OWN_ID, TRUSTED, USER, GerritState, gerrit_server
from tests.support.gerrit_server import PASSWORD as GERRIT_PASSWORD
from tests.support.gerrit_world import GerritWorld
from tests.support.git_server import GitServer
from tests.support.gitea_server import GiteaServer
from tests.support.gitea_world import GiteaWorld
from tests.support.github_server import APP, GitHub, serving
from tests.support.github_world import GitHubWorld
from tests.support.gitlab_server import GitLabServer
from tests.support.gitlab_world import GitLabWorld
from tests.support.program import Project
from tests.support.scratch_store import ScratchStore
from tests.support.server import PASSWORD, ServerProgram
from tests.support.web import Browser

NAME = "hello"
"""The project that the repository becomes by itself."""


class Hub(ForgeWorld, Protocol):
    """A world whose pull requests can have real commits."""

    def adopt(self, number: int, commit: str) -> str:
        """Make a commit the head of a pull request; return the ref at which git has to have it."""


H = TypeVar("H", bound=Hub)


class Beside(NamedTuple, Generic[H]):
    """A forge that runs, and what the server's settings say of it."""

    hub: H
    keys: Mapping[str, object]
    """Of its `[[forge]]` table; `name` is among them."""
    secrets: Mapping[str, Path]
    """Its credentials."""


@dataclass
class Pulls(Generic[H]):
    """A server, a forge, and the repository that both have."""

    server: ServerProgram
    hub: H
    project: Project
    name: str = "hub"
    """Of the forge in the settings."""

    def open(self, login: str, where: Where = Where.OWN_FORK, *, draft: bool = False, **files: str) -> int:
        """Commit files on a branch of their own and open a pull request of it."""
        author = self.hub.user(login, self.permission(login))
        number = self.hub.open(Spec(author=author, where=where, draft=draft))
        self.push(number, **files)
        return number

    def permission(self, login: str) -> Permission:
        """Return what somebody may do: `mia` writes, nobody else."""
        return Permission.WRITE if login == "mia" else Permission.READ

    def push(self, number: int, message: str = "change", **files: str) -> str:
        """Commit files on top of main as the new head of a pull request; return it."""
        git = self.project.git
        git("checkout", "-q", "--detach", "main")
        self.project.write(**files)
        git("add", "-A")
        git("commit", "-q", "--allow-empty", "-m", message)
        head = git("rev-parse", "HEAD")
        git("update-ref", self.hub.adopt(number, head), head)
        git("checkout", "-q", "main")
        return head

    async def post(self, headers: Mapping[str, str], body: bytes) -> int:
        """Send any delivery; return the answer's status."""
        async with httpx2.AsyncClient(base_url=self.server.url, timeout=30) as client:
            answer = await client.post(f"/hook/forge/{self.name}", content=body, headers=dict(headers))
            return answer.status_code

    async def deliver(self, happening: Happening, *, number: int = 0, comment: str = "") -> int:
        """Send a webhook; return the answer's status."""
        return await self.post(*self.hub.deliver(happening, number=number, comment=comment))

    async def told(self, number: int) -> None:
        """Tell the server that something happened to a pull request."""
        assert await self.deliver(Happening.PULL_REQUEST, number=number) in {200, 202}

    async def commented(self, number: int, login: str, text: str) -> None:
        """Let somebody comment, and tell the server."""
        comment = self.hub.write_comment(number, self.hub.user(login, self.permission(login)), text)
        assert await self.deliver(Happening.COMMENT, number=number, comment=comment) == 202

    def shown(self, commit: str, context: str = "nixmill") -> Shown | None:
        """Return the newest status of a commit on the forge."""
        return next((one for one in self.hub.shown(commit) if one.context == context), None)

    async def until(
        self, commit: str, colour: Colour, words: str = "", context: str = "nixmill", seconds: float = 60.0
    ) -> Shown:
        """Wait for the forge to show a status of a colour, with these words in its title; return it."""

        def is_there(_: object) -> bool:
            found = self.shown(commit, context)
            return found is not None and found.colour is colour and words in found.title.lower()

        try:
            await self.server.until("/runs", is_there, seconds)
        except AssertionError:
            raise AssertionError(f"{commit} shows {self.hub.shown(commit)}\n{self.server.log}") from None
        found = self.shown(commit, context)
        assert found is not None
        return found

    async def until_audited(self, text: str) -> None:
        """Wait until the audit log has a text."""
        async with self.server.administrator() as browser:
            await _until(lambda: _has(browser, "/admin/audit", text), f"{text!r} in the audit log")

    async def until_absent(self, path: str) -> None:
        """Wait until a page is there for nobody who is not signed in."""

        async def is_absent() -> bool:
            return await self.server.get(path) is None

        await _until(is_absent, f"{path} not to be found")

    async def until_logged(self, text: str) -> None:
        """Wait until the server's own log has a text."""
        await self.server.until("/runs", lambda _: text in self.server.log)

    async def look(self) -> None:
        """Ask the server, as an administrator, to look at the repository."""
        async with self.server.administrator() as browser:
            await browser.post(f"/p/{NAME}/look", page=f"/p/{NAME}")

    async def running(self, *, verdict: str = "passed") -> None:
        """Start the server and wait for the end of its first run."""
        self.server.start()
        await self.server.ready()
        try:
            page = await self.server.ended(1)
        except AssertionError:
            raise AssertionError(f"{await self.server.get(f'/p/{NAME}')}\n{self.server.log}") from None
        assert page["run"]["verdict"] == verdict, self.server.log


async def _until(holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        await asyncio.sleep(0.05)


async def _has(browser: Browser, path: str, text: str) -> bool:
    return text in (await browser.get(path)).text


class PullServer(Pulls[GiteaWorld]):
    """Beside a Gitea."""

    def status(self, commit: str, context: str = "nixmill") -> dict[str, Any]:
        """Return the newest status of a commit on the forge; empty where there is none."""
        found = [one for one in self.hub.server.statuses.get(commit, []) if one["context"] == context]
        return found[-1] if found else {}

    async def until_status(self, commit: str, state: str, context: str = "nixmill", seconds: float = 60.0) -> str:
        """Wait for the forge to show a state; return its description."""
        await self.server.until("/runs", lambda _: self.status(commit, context).get("status") == state, seconds)
        return str(self.status(commit, context)["description"])


def settings_of(besides: Sequence[Beside[Any]], *, unsandboxed_builds: bool = True) -> str:
    """Return lines of the server's settings. Strings, numbers, bools and lists are the same in JSON and TOML.

    Scratch stores build without Nix's sandbox, so the server is told to put up with that.
    """
    lines = [f"unsandboxed-builds = {json.dumps(unsandboxed_builds)}", "[credentials]"]
    for beside in besides:
        lines += [f"{name} = {json.dumps(str(file))}" for name, file in beside.secrets.items()]
    for beside in besides:
        lines += ["[[forge]]", *(f"{key} = {json.dumps(value)}" for key, value in beside.keys.items())]
    return "\n".join(lines) + "\n"


def secrets_of(directory: Path, name: str) -> Path:
    """Make and return the directory for credentials of a forge."""
    place = directory / ("secrets" if name == "hub" else f"secrets-{name}")
    place.mkdir(mode=0o700, parents=True)
    return place


def checkout_of(directory: Path, store: ScratchStore) -> Project:
    """Make and return the checkout that is the forges' repository."""
    (directory / "mill").mkdir(exist_ok=True)
    return Project(directory / "mill", store)


@contextmanager
def made_server(directory: Path, project: Project, settings: str) -> Iterator[ServerProgram]:
    """Give a server that is not started yet, with the administrator `mia`."""
    for file in directory.glob("secrets*/*"):
        file.chmod(0o600)
    server = ServerProgram(project, directory / "state", settings)
    server.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
    try:
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def gitea_beside(directory: Path, name: str = "hub") -> AsyncIterator[Beside[GiteaWorld]]:
    """Run a Gitea whose repository is the checkout."""
    server, place = GiteaServer(), secrets_of(directory, name)
    server.start = datetime.now(UTC)  # approvals count for heads that were here before them
    with server.running():
        hub = GiteaWorld(server, place)
        server.repositories[hub.path] |= {"clone_url": f"file://{directory}/mill", "private": False}
        keys = {"name": name, "kind": "gitea", "url": server.address, "repositories": ["octo/*"]}
        keys |= {"token": f"{name}-token", "webhook-secrets": [f"{name}-hook"]}
        yield Beside(hub, keys, {f"{name}-token": place / "token", f"{name}-hook": place / "hook-new"})
        await hub.forge.aclose()


@asynccontextmanager
async def github_beside(directory: Path, name: str = "hub", **changes: object) -> AsyncIterator[Beside[GitHubWorld]]:
    """Run a GitHub whose repository is the checkout; what the server asks must be what GitHub takes."""
    place = secrets_of(directory, name)
    with serving(GitHub()) as github:
        github.ahead = 1.0  # its stamps are whole seconds, and approvals count for heads that were here before them
        hub = GitHubWorld(github, place)
        hub.repository.facts |= {"clone_url": f"file://{directory}/mill", "private": False}
        keys: dict[str, object] = {"name": name, "kind": "github", "url": "https://github.example"}
        keys |= {"api-url": github.address, "app-id": APP, "private-key": f"{name}-key"}
        keys |= {"webhook-secrets": [f"{name}-new", f"{name}-old"], "topic": "nix", "owners": ["octo"]}
        secrets = {f"{name}-{one}": place / one for one in ("key", "new", "old")}
        yield Beside(hub, {key: value for key, value in (keys | changes).items() if value is not None}, secrets)
        await hub.forge.aclose()
        assert github.faults == []


@asynccontextmanager
async def gitlab_beside(directory: Path, name: str = "hub") -> AsyncIterator[Beside[GitLabWorld]]:
    """Run a GitLab whose project is the checkout."""
    server, place = GitLabServer(), secrets_of(directory, name)
    server.start = datetime.now(UTC)
    with server.running():
        hub = GitLabWorld(server, place)
        hub.project |= {"http_url_to_repo": f"file://{directory}/mill", "visibility": "public"}
        keys = {"name": name, "kind": "gitlab", "url": server.address, "repositories": ["octo/*"]}
        keys |= {"token": f"{name}-token", "webhook-secrets": [f"{name}-hook"]}
        yield Beside(hub, keys, {f"{name}-token": place / "token", f"{name}-hook": place / "hook-new"})
        await hub.forge.aclose()


@asynccontextmanager
async def gerrit_beside(directory: Path, name: str = "hub", **changes: object) -> AsyncIterator[Beside[GerritWorld]]:
    """Run a Gerrit whose repository is the checkout, and that git is given by HTTP."""
    place, user = secrets_of(directory, name), str(changes.get("user", USER))
    state = GerritState(project="tools/hello", user=user, public=True, now=time.time())
    state.accounts[OWN_ID] = {"name": "nixmill", "username": user}
    state.groups[OWN_ID] = set()
    below = directory / "git/a/tools"
    below.mkdir(parents=True)
    (below / NAME).symlink_to(directory / "mill")
    state.git = GitServer(directory / "git", login=f"{user}:{GERRIT_PASSWORD}")
    with gerrit_server(state) as url:
        hub = GerritWorld(url, state, place)
        keys: dict[str, object] = {"name": name, "kind": "gerrit", "url": url, "user": user, "token": f"{name}-token"}
        keys |= {"webhook-secrets": [f"{name}-new"], "groups": [TRUSTED], "repositories": ["tools/*"]}
        secrets = {f"{name}-token": place / "token", f"{name}-new": place / "new"}
        secrets |= {f"{name}-ssh": place / "ssh"} if "private-key" in changes else {}
        yield Beside(hub, keys | changes, secrets)
        await hub.forge.aclose()


@asynccontextmanager
async def pulls(
    directory: Path, store: ScratchStore, beside: Beside[H], extra: str = "", *, unsandboxed_builds: bool = True
) -> AsyncIterator[Pulls[H]]:
    """Give a server beside one forge, not started yet."""
    project = checkout_of(directory, store)
    settings = extra + "\n" + settings_of([beside], unsandboxed_builds=unsandboxed_builds)
    with made_server(directory, project, settings) as server:
        yield Pulls(server, beside.hub, project, str(beside.keys["name"]))


@asynccontextmanager
async def pull_server(
    directory: Path, store: ScratchStore, extra: str = "", *, unsandboxed_builds: bool = True
) -> AsyncIterator[PullServer]:
    """Give a server beside a Gitea, not started yet; the forge's repository has the checkout's commits."""
    async with contextlib.AsyncExitStack() as stack:
        beside = await stack.enter_async_context(gitea_beside(directory))
        made = await stack.enter_async_context(
            pulls(directory, store, beside, extra, unsandboxed_builds=unsandboxed_builds)
        )
        yield PullServer(made.server, made.hub, made.project)
