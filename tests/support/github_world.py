"""The world of the forge suite over the small GitHub, and a way to have it for other tests."""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nixmill.config.forges import ForgeSettings
from nixmill.core.forge import ForgeKind, ForgeUser
from nixmill.core.trust import Permission
from nixmill.edge.forge.github import GitHubForge
from nixmill.edge.system_clock import SystemClock
from tests.contract.forge_world import (
    MERGE_COMMIT,
    MERGE_REF,
    Colour,
    Feature,
    Happening,
    Shown,
    Spec,
    Trouble,
    Where,
)
from tests.support import github_routes
from tests.support.github_server import APP, DATA, Asked, GitHub, Reply, Repository, app_key, example, stamp

ORGANISATION: Final = 7
_PASSING: Final = {"success", "neutral", "skipped"}
_REPLIES: Final = {
    Trouble.LIMITED: lambda: Reply(
        403,
        {"message": "API rate limit exceeded for installation ID 4711."},
        (("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", str(int(time.time()) + 30))),
    ),
    Trouble.OUTAGE: lambda: Reply(502, b"<html>Bad gateway</html>"),
    Trouble.REVOKED: lambda: Reply(401, {"message": "Bad credentials"}),
    Trouble.NONSENSE: lambda: Reply(200, b"<html>Unicorn!</html>"),
    Trouble.NOT_ALLOWED: lambda: Reply(403, {"message": "Resource not accessible by integration"}),
}


def settings_of(hub: GitHub, place: Path, **changes: Any) -> tuple[ForgeSettings, dict[str, Path]]:  # noqa: ANN401
    """Return settings of an App on a small GitHub, and its credentials in files below `place`."""
    secrets = {"key": app_key().as_pem(private=True).decode(), "new": "new", "old": "old"}
    for name, secret in secrets.items():
        (place / name).write_text(secret + "\n")
    standard: dict[str, Any] = {
        "name": "forge",
        "kind": ForgeKind.GITHUB,
        "url": "https://github.example",
        "api_url": hub.address,
        "app_id": APP,
        "private_key": "key",
        "webhook_secrets": ("new", "old"),
    }
    return ForgeSettings(**(standard | changes)), {name: place / name for name in secrets}


def add_repository(hub: GitHub, path: str, *, clone_url: str = "") -> Repository:
    """Make a repository of an organisation."""
    facts = example("repos/get 200")
    owner, name = path.split("/")
    facts |= {"id": hub.next(), "full_name": path, "name": name, "private": True, "default_branch": "main"}
    facts |= {"html_url": f"https://github.example/{path}", "topics": ["nix"]}
    facts["clone_url"] = clone_url or f"https://github.example/{path}.git"
    facts["owner"] |= {"id": ORGANISATION, "login": owner, "type": "Organization"}
    hub.repositories[path] = Repository(facts)
    return hub.repositories[path]


class GitHubWorld:
    """See `ForgeWorld`."""

    features = frozenset(Feature)

    def __init__(self, hub: GitHub, place: Path, path: str = "octo/hello") -> None:
        self.hub = hub
        self.path = path
        self.repository = add_repository(hub, path)
        self.forge = GitHubForge(*settings_of(hub, place), SystemClock())
        self._users: dict[str, ForgeUser] = {}
        self._examples: list[dict[str, Any]] = json.loads((DATA / "events.json").read_text())

    def user(self, login: str, permission: Permission = Permission.NONE) -> ForgeUser:
        user = self._users.setdefault(login, ForgeUser(id=str(self.hub.next()), login=login))
        self.repository.permissions[login] = (int(user.id), permission.value)
        return user

    def open(self, spec: Spec, *, head: str = "") -> int:
        number = max(self.repository.pulls, default=0) + 1
        pull = {name: value for name, value in example("pulls/list 200")[0].items() if name != "_links"}
        self.repository.pulls[number] = pull
        pull |= {"number": number, "title": spec.title, "state": "open", "draft": spec.draft, "merged_at": None}
        pull |= {"html_url": f"https://github.example/{self.path}/pull/{number}"}
        pull["labels"] = [{"id": 1, "name": label, "color": "fff"} for label in spec.labels]
        pull["user"] |= {"id": int(spec.author.id), "login": spec.author.login, "type": "User"}
        pull["base"] |= {"ref": "main", "repo": self.repository.facts}
        pull["head"] |= {"ref": spec.head_ref, "repo": self._head(spec)}
        self.push(number, head)
        return number

    def _head(self, spec: Spec) -> dict[str, Any] | None:
        match spec.where:
            case Where.SAME:
                return self.repository.facts
            case Where.DELETED:
                return None
            case Where.OWN_FORK:
                owner = {"id": int(spec.author.id), "login": spec.author.login, "type": "User"}
            case Where.OTHER_FORK:
                owner = {"id": 99, "login": "others", "type": "Organization"}
        facts = example("repos/get 200")
        return {**facts, "id": self.hub.next(), "owner": {**facts["owner"], **owner}}

    def push(self, number: int, head: str = "") -> str:
        commit = head or hashlib.sha1(str(self.hub.next()).encode()).hexdigest()  # noqa: S324 - as git does
        self.repository.commits.add(commit)
        pull = self.repository.pulls[number]
        pull["head"]["sha"] = commit
        pull["updated_at"] = stamp(time.time())
        return commit

    def adopt(self, number: int, commit: str) -> str:
        """Make a commit the head of a pull request; return the ref at which git has to have it."""
        self.push(number, commit)
        return f"refs/pull/{number}/head"

    def head(self, number: int) -> str:
        commit: str = self.repository.pulls[number]["head"]["sha"]
        return commit

    def close(self, number: int, *, merged: bool = False) -> None:
        now = stamp(time.time())
        self.repository.pulls[number] |= {"state": "closed", "merged_at": now if merged else None, "updated_at": now}

    def write_comment(self, number: int, author: ForgeUser, text: str) -> str:
        comment = github_routes.add_comment(self.hub, self.repository, number, text, (int(author.id), author.login))
        return str(comment["id"])

    def edit_comment(self, number: int, comment: str, text: str) -> None:
        self.repository.comments[int(comment)] |= {"body": text, "updated_at": stamp(time.time() + 60)}

    def shown(self, commit: str) -> list[Shown]:
        found = {run["name"]: _check(run) for run in self.repository.checks if run["head_sha"] == commit}
        found |= {one["context"]: _status(one) for one in self.repository.statuses if one["sha"] == commit}
        return list(found.values())

    def said(self, number: int) -> list[str]:
        ours = [one for one in self.repository.comments.values() if one["performed_via_github_app"]]
        return [one["body"] for one in ours if one["issue_url"].endswith(f"/issues/{number}")]

    def reactions(self, number: int, comment: str) -> int:
        return len([one for one in self.repository.reactions if one[0] == int(comment)])

    def forget_status(self, commit: str, context: str) -> None:
        self.repository.checks = [
            run for run in self.repository.checks if (run["head_sha"], run["name"]) != (commit, context)
        ]

    def trouble(self, trouble: Trouble) -> None:
        def instead(asked: Asked) -> Reply | None:
            if trouble is Trouble.NONE or (trouble is Trouble.NOT_ALLOWED and not _writes(asked)):
                return None
            return _REPLIES[trouble]()

        self.hub.always = instead

    def deliver(self, happening: Happening, *, number: int = 0, comment: str = "") -> tuple[dict[str, str], bytes]:
        match happening:
            case Happening.PUSH:
                event = self._event("push", ref="refs/heads/main", after=MERGE_COMMIT, deleted=False)
            case Happening.DELETED_BRANCH:
                event = self._event("push", ref="refs/heads/old", after="0" * 40, deleted=True)
            case Happening.PULL_REQUEST:
                event = self._event("pull_request", number=number)
            case Happening.COMMENT:
                event = self._event("issue_comment")
                event[1]["issue"] |= {"number": number, "pull_request": {"url": "https://github.example/x"}}
                event[1]["comment"] |= {"id": int(comment)}
            case Happening.RERUN:
                event = self._event("check_run", action="rerequested")
                event[1]["check_run"] |= {
                    name: self._newest(number)[name] for name in ("head_sha", "external_id", "app")
                }
            case Happening.MERGE_QUEUE:
                event = self._event("merge_group")
                event[1]["merge_group"] |= {
                    "head_sha": MERGE_COMMIT,
                    "head_ref": MERGE_REF,
                    "base_ref": "refs/heads/main",
                }
            case Happening.PING:
                event = self._event("ping")
        return self.delivery(*event)

    def about(self, kind: str, **changes: object) -> tuple[dict[str, str], bytes]:
        """Return a delivery of GitHub's own example of an event, made one of this repository."""
        return self.delivery(*self._event(kind, **changes))

    def press(
        self, commit: str, who: ForgeUser, button: str = "", context: str = "nixmill"
    ) -> tuple[dict[str, str], bytes]:
        """Return a delivery that tells of a button of our check that somebody pressed; without one: Re-run."""
        pressed = {"requested_action": {"identifier": button}} if button else {}
        kind, payload = self._event("check_run", action="requested_action" if button else "rerequested", **pressed)
        check = self.check(commit, context)
        payload["check_run"] |= {name: check[name] for name in ("head_sha", "external_id", "app")}
        payload["check_run"]["pull_requests"] = []  # of forks none is listed
        payload["sender"] |= {"id": int(who.id), "login": who.login}
        return self.delivery(kind, payload)

    def check(self, commit: str, context: str = "nixmill") -> dict[str, Any]:
        """Return the newest check run of a name."""
        found = [run for run in self.repository.checks if (run["head_sha"], run["name"]) == (commit, context)]
        return found[-1]

    def delivery(self, kind: str, payload: dict[str, Any]) -> tuple[dict[str, str], bytes]:
        """Return headers and body of any delivery."""
        body = json.dumps(payload).encode()
        return {**self.sign(body), "x-github-event": kind}, body

    def sign(self, body: bytes, secret: str = "new") -> Mapping[str, str]:  # noqa: S107 - opens nothing
        return {
            "content-type": "application/json",
            "user-agent": "GitHub-Hookshot/3e2f1a0",
            "x-github-delivery": f"72d3162e-cc78-11e3-81ab-4c9367d{self.hub.next()}",
            "x-github-event": "push",
            "x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        }

    def _event(self, kind: str, **changes: object) -> tuple[str, dict[str, Any]]:
        """Return GitHub's own example of an event, made one of this repository."""
        found = next(one["payload"] for one in self._examples if one["event"] == kind)
        payload = json.loads(json.dumps({**found, **changes}))
        if "repository" in payload:
            payload["repository"] |= {"id": self.repository.facts["id"], "full_name": self.path}
        return kind, payload

    def _newest(self, number: int) -> dict[str, Any]:
        return next(run for run in reversed(self.repository.checks) if run["head_sha"] == self.head(number))


def _writes(asked: Asked) -> bool:
    return asked.method != "GET" and not asked.path.endswith("/access_tokens")


def _check(run: dict[str, Any]) -> Shown:
    if run["status"] != "completed" or run["conclusion"] == "action_required":
        colour = Colour.PENDING
    else:
        colour = Colour.GREEN if run["conclusion"] in _PASSING else Colour.RED
    return Shown(run["name"], colour, run["output"]["title"], run["details_url"], str(run["id"]))


def _status(status: dict[str, Any]) -> Shown:
    colour = {"success": Colour.GREEN, "pending": Colour.PENDING}.get(status["state"], Colour.RED)
    return Shown(status["context"], colour, status["description"], status["target_url"], f"status:{status['id']}")
