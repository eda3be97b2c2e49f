"""The whole server beside a Gitea of loopback: real git refs, real webhooks over HTTP, real Nix, a real sandbox."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from nixmill.core.trust import Permission
from tests.contract.forge_world import Happening, Spec, Where
from tests.support.gitea_server import GiteaServer
from tests.support.gitea_world import GiteaWorld
from tests.support.program import Project
from tests.support.scratch_store import ScratchStore
from tests.support.server import PASSWORD, ServerProgram

NAME = "hello"
"""The project that the repository becomes by itself."""


@dataclass
class PullServer:
    """A server, its forge, and the repository that both have."""

    server: ServerProgram
    hub: GiteaWorld
    project: Project

    def open(self, login: str, where: Where = Where.OWN_FORK, **files: str) -> int:
        """Commit files on a branch of their own and open a pull request of it."""
        number = self.hub.open(Spec(author=self.hub.user(login, self.permission(login)), where=where))
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
        git("update-ref", f"refs/pull/{number}/head", head)
        git("checkout", "-q", "main")
        self.hub.server.commits.add(head)
        self.hub.server.pulls[number]["head"]["sha"] = head
        self.hub.server.pulls[number]["updated_at"] = self.hub.server.now()
        return head

    async def deliver(self, happening: Happening, *, number: int = 0, comment: str = "") -> int:
        """Send a webhook; return the answer's status."""
        headers, body = self.hub.deliver(happening, number=number, comment=comment)
        async with httpx2.AsyncClient(base_url=self.server.url, timeout=30) as client:
            answer = await client.post("/hook/forge/hub", content=body, headers=headers)
            return answer.status_code

    async def told(self, number: int) -> None:
        """Tell the server that something happened to a pull request."""
        assert await self.deliver(Happening.PULL_REQUEST, number=number) in {200, 202}

    async def commented(self, number: int, login: str, text: str) -> None:
        """Let somebody comment, and tell the server."""
        comment = self.hub.write_comment(number, self.hub.user(login, self.permission(login)), text)
        assert await self.deliver(Happening.COMMENT, number=number, comment=comment) == 202

    def status(self, commit: str, context: str = "nixmill") -> dict[str, Any]:
        """Return the newest status of a commit on the forge; empty where there is none."""
        found = [one for one in self.hub.server.statuses.get(commit, []) if one["context"] == context]
        return found[-1] if found else {}

    async def until_status(self, commit: str, state: str, context: str = "nixmill", seconds: float = 60.0) -> str:
        """Wait for the forge to show a state; return its description."""
        await self.server.until("/runs", lambda _: self.status(commit, context).get("status") == state, seconds)
        return str(self.status(commit, context)["description"])


@contextlib.asynccontextmanager
async def pull_server(
    directory: Path, store: ScratchStore, extra: str = "", *, unsandboxed_builds: bool = True
) -> AsyncIterator[PullServer]:
    """Give a server that is not started yet; the forge's repository has the checkout's commits.

    Scratch stores build without Nix's sandbox, so the server is told to put up with that.
    """
    top, secrets = directory / "mill", directory / "secrets"
    top.mkdir()
    secrets.mkdir(mode=0o700)
    hub_server = GiteaServer()
    with hub_server.running():
        hub = GiteaWorld(hub_server, secrets)
        hub_server.repositories[hub.path] |= {"clone_url": f"file://{top}", "private": False}
        for file in secrets.iterdir():
            file.chmod(0o600)
        settings = f"""{extra}
unsandboxed-builds = {str(unsandboxed_builds).lower()}
[credentials]
hub-token = "{secrets}/token"
hub-hook = "{secrets}/hook-new"
[[forge]]
name = "hub"
kind = "gitea"
url = "{hub_server.address}"
token = "hub-token"
webhook-secrets = ["hub-hook"]
repositories = ["octo/*"]
"""
        made = PullServer(ServerProgram(Project(top, store), directory / "state", settings), hub, Project(top, store))
        made.server.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
        try:
            yield made
        finally:
            made.server.kill()
            await hub.forge.aclose()
