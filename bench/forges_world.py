"""A server beside a forge with several repositories: real git, Nix, sandbox and webhooks, all on loopback."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.forge_http import Call, Said, page_of
from tests.support.gitea_server import TOKEN, US, GiteaServer
from tests.support.program import Project
from tests.support.scratch_store import scratch_store
from tests.support.server import ServerProgram

SECRET: Final = "a secret of the benchmark"  # noqa: S105 - opens nothing
MEMBER: Final = "mia"
STRANGER: Final = "sam"
FINAL: Final = frozenset({"success", "failure", "error", "warning"})
LOOK_S: Final = 0.01


class Posted(NamedTuple):
    """A status that the forge was told."""

    at: float
    commit: str
    context: str
    state: str


class Delivery(NamedTuple):
    """A webhook to be sent."""

    at_s: float
    """Seconds after the first one."""
    about: str
    """What has to be looked up because of it: a path of the forge's interface; empty where nothing has to be."""
    headers: Mapping[str, str]
    body: str


class Sent(NamedTuple):
    """What became of a webhook."""

    sent_at: float
    """Seconds since 1970."""
    took_s: float
    status: int


class Hub(GiteaServer):
    """A Gitea of several repositories, each with pull requests of its own. It remembers when it was asked for what."""

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self.asked_at: dict[str, list[float]] = {}
        self.posted: list[Posted] = []
        self.people[US]["login"] = "nixmill-bot"

    def answer(self, call: Call) -> Said:
        """Answer, and remember when."""
        self.asked_at.setdefault(f"{call.method} {call.path}", []).append(time.time())
        return super().answer(call)

    def _kind_of(self, call: Call) -> str:  # noqa: ARG002 - whether answers have the published types is for the tests
        return ""

    def _list_pulls(self, call: Call) -> Said:
        path = "/".join(call.parts[:2])
        mine = [one for one in self.pulls.values() if one["base"]["repo"]["full_name"] == path]
        found = page_of([one for one in mine if one["state"] == call.query["state"]], call, size="limit", most=50)
        return Said(200, found, {"x-total-count": str(len(found))})

    def _set_status(self, call: Call) -> Said:
        said = super()._set_status(call)
        if said.status == 201:
            self.posted.append(Posted(time.time(), call.parts[2], call.body["context"], call.body["state"]))
        return said

    def first(self, commit: str, states: frozenset[str]) -> float | None:
        """Return when a commit's required status was first one of these; None where it was not."""
        mine = (one for one in list(self.posted) if one.commit == commit and one.context == "nixmill")
        return next((one.at for one in mine if one.state in states), None)


@dataclass
class ForgeWorld:
    """A server that is not started yet, its forge, and the repositories that both have."""

    server: ServerProgram
    hub: Hub
    tops: dict[str, Project]
    """Checkouts by path on the forge, `octo/repo0` and so on."""
    deliveries: int = 0
    heads: dict[int, str] = field(default_factory=dict)

    def open(self, path: str, login: str, head: str) -> int:
        """Open a pull request of this commit; return its number, of which no two repositories have the same."""
        number = len(self.hub.pulls) + 1
        repo = self.hub.repositories[path]
        author, now = self.hub.person(login), self.hub.now()
        self.hub.permissions[author["id"]] = "write" if login == MEMBER else "read"
        url = f"{self.hub.address}/{path}/pulls/{number}"
        base = {"label": "main", "ref": "main", "sha": self.tops[path].git("rev-parse", "main")}
        branch = f"change-{number}"
        self.hub.pulls[number] = {
            "id": 1000 + number,
            "url": url,
            "number": number,
            "user": author,
            "title": f"Change {number}",
            "body": "",
            "labels": None,
            "state": "open",
            "draft": False,
            "html_url": url,
            "mergeable": True,
            "merged": False,
            "base": {**base, "repo_id": repo["id"], "repo": repo},
            "head": {"label": branch, "ref": branch, "sha": head, **self._head(path, login)},
            "created_at": now,
            "updated_at": now,
            "closed_at": None,
        }
        self.move(number, head)
        return number

    def _head(self, path: str, login: str) -> dict[str, Any]:
        repo = self.hub.repositories[path]
        if login != MEMBER:
            fork = {**repo, "id": repo["id"] + 100_000, "full_name": f"{login}/{repo['name']}", "fork": True}
            repo = fork | {"owner": self.hub.person(login)}
        return {"repo_id": repo["id"], "repo": repo}

    def move(self, number: int, head: str) -> None:
        """Give a pull request a head; nobody is told."""
        pull = self.hub.pulls[number]
        self.tops[pull["base"]["repo"]["full_name"]].git("update-ref", f"refs/pull/{number}/head", head)
        self.hub.commits.add(head)
        pull["head"]["sha"] = head
        pull["updated_at"] = self.hub.now()

    def commit(self, path: str, message: str, **files: str) -> str:
        """Return a new commit upon main that is on no branch; without files it has the tree of main."""
        project = self.tops[path]
        project.git("checkout", "-q", "--detach", "main")
        project.write(**files)
        project.git("add", "-A")
        project.git("commit", "-q", "--allow-empty", "-m", message)
        head = project.git("rev-parse", "HEAD")
        project.git("checkout", "-q", "main")
        return head

    def same_tree(self, path: str, commit: str, message: str) -> str:
        """Return another commit upon main with the tree of this one."""
        return self.tops[path].git("commit-tree", f"{commit}^{{tree}}", "-p", "main", "-m", message)

    def pull_event(self, number: int, *, at_s: float = 0.0, size: int = 0) -> Delivery:
        """Return the webhook that says that something happened to a pull request."""
        pull = self.hub.pulls[number]
        path = pull["base"]["repo"]["full_name"]
        padded = {**pull, "body": _prose(size)}
        payload = {"action": "synchronized", "number": number, "pull_request": padded}
        return self._delivery("pull_request", path, payload, f"/repos/{path}/pulls/{number}", at_s)

    def comment_event(self, number: int, text: str, *, at_s: float = 0.0, size: int = 0) -> Delivery:
        """Write a comment; return the webhook that says so."""
        pull = self.hub.pulls[number]
        path = pull["base"]["repo"]["full_name"]
        written = self.hub.add_comment(path, number, self.hub.person(MEMBER)["id"], text)
        issue = {"number": number, "body": _prose(size), "pull_request": {"merged": False}}
        payload = {"action": "created", "issue": issue, "comment": written, "is_pull": True}
        about = f"/repos/{path}/issues/comments/{written['id']}"
        return self._delivery("issue_comment", path, payload, about, at_s)

    def push_event(self, path: str, *, at_s: float = 0.0, size: int = 0) -> Delivery:
        """Return the webhook that says that somebody pushed to main."""
        after = self.tops[path].git("rev-parse", "main")
        commits = [{"id": after, "message": _prose(size)}]
        return self._delivery("push", path, {"ref": "refs/heads/main", "after": after, "commits": commits}, "", at_s)

    def _delivery(self, kind: str, path: str, payload: Mapping[str, Any], about: str, at_s: float) -> Delivery:
        self.deliveries += 1
        whole = {**payload, "repository": self.hub.repositories[path], "sender": self.hub.person(MEMBER)}
        body = json.dumps(whole, indent=2)
        headers = {
            "content-type": "application/json",
            "x-gitea-event": kind,
            "x-gitea-event-type": kind,
            "x-gitea-delivery": f"f6266f16-1bf3-46a5-9ea4-{self.deliveries:012}",
            "x-gitea-signature": hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).hexdigest(),
        }
        return Delivery(at_s, about, headers, body)

    async def send(self, deliveries: Sequence[Delivery]) -> list[Sent]:
        """Send webhooks from a process of its own, each at its time; return what became of each."""
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.forges_sender",
            f"{self.server.url}/hook/forge/hub",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        text = json.dumps([(one.at_s, one.headers, one.body) for one in deliveries])
        told, _ = await program.communicate(text.encode())
        assert program.returncode == 0, "the process that sends webhooks failed"
        return [Sent(*one) for one in json.loads(told)]

    def ask(self, query: str) -> list[Any]:
        """Ask the server's database, from outside."""
        with contextlib.closing(sqlite3.connect(f"file:{self.server.state}/nixmill.sqlite?mode=ro", uri=True)) as found:
            return found.execute(query).fetchall()

    async def until(
        self, what: str, holds: Callable[[], object], seconds: float = 120.0, look_s: float = LOOK_S
    ) -> float:
        """Wait until something holds; return for how many seconds that was."""
        began = time.perf_counter()
        while not holds():
            assert time.perf_counter() - began < seconds, f"never came so far: {what}\n{self.server.log[-4000:]}"
            await asyncio.sleep(look_s)
        return time.perf_counter() - began


def _prose(size: int) -> str:
    """Return so much text, as a description of a pull request has."""
    line = "A line of a description, with “quotes”, <tags> and a link https://example.com/#fragment.\r\n"
    return (line * (size // len(line.encode()) + 1))[:size]


@contextlib.asynccontextmanager
async def forge_world(repositories: Sequence[Mapping[str, str]], settings: str = "") -> AsyncIterator[ForgeWorld]:
    """Start a server and wait until each repository, given by its files, is a project with a run under way or ended."""
    with scratch_store() as store, tempfile.TemporaryDirectory(prefix="nixmill-bench-") as place:
        hub = Hub()
        tops = {}
        with hub.running():
            for number, files in enumerate(repositories):
                path, top = f"octo/repo{number}", Path(place) / f"repo{number}"
                top.mkdir()
                hub.add_repository(path, clone_url=f"file://{top}", private=False)
                tops[path] = Project(top, store)
                hub.commits.add(tops[path].commit(**files))
            server = ServerProgram(tops["octo/repo0"], Path(place) / "state", _settings(hub, Path(place)) + settings)
            world = ForgeWorld(server, hub, tops)
            try:
                server.start()
                await server.ready()
                count = len(repositories)
                await world.until("a run of each repository", lambda: len(_runs(world)) >= count)
                yield world
            finally:
                _end(server)


def _runs(world: ForgeWorld) -> list[Any]:
    return world.ask("select number from nm_run where state != 'waiting'")


def _end(server: ServerProgram) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired, AssertionError):
        server.stop()
    server.kill()


def _settings(hub: Hub, place: Path) -> str:
    for name, secret in {"token": TOKEN, "hook": SECRET}.items():
        file = place / name
        file.touch(mode=0o600)
        file.write_text(secret)
    return f"""unsandboxed-builds = true
[credentials]
hub-token = "{place}/token"
hub-hook = "{place}/hook"
[[forge]]
name = "hub"
kind = "gitea"
url = "{hub.address}"
token = "hub-token"
webhook-secrets = ["hub-hook"]
repositories = ["octo/*"]
"""
